"""Programs on the simulated machine: equal to golden, found out where they are not, stopped where they must be."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intaglio import golden
from intaglio.compiler import Program, compile_network
from intaglio.network import Network, NetworkError
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator import verilator
from intaglio.sim.simulator.build import build, build_verilog, cached
from intaglio.sim.simulator.functional.backend import FunctionalMachine
from intaglio.sim.simulator.machine import MachineStopped, Simulator, cycle_limit, layer_cycles
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.sim.simulator.run import run
from intaglio.spec.commands import COMMAND_BYTES, Engine, Opcode, encode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import Register
from tests.placements import START, placements

MODELS = Path(__file__).parent.parent / "intaglio" / "models"
TINY = Path(__file__).with_name("tiny.toml")
STUCK = Path(__file__).with_name("stuck.v")
END_CYCLES = 8
"""From the completion of the last command to the interrupt, at most."""


@pytest.fixture(scope="module")
def config() -> AcceleratorConfig:
    return AcceleratorConfig.load(TINY)


@pytest.fixture(scope="module")
def network() -> Network:
    return load(MODELS / "digits_sbnq4.txt")


@pytest.fixture(scope="module")
def program(network: Network, config: AcceleratorConfig) -> Program:
    return compile_network(network, config)


@pytest.fixture(scope="module")
def inputs(network: Network) -> dict[str, np.ndarray]:
    return dict(load_inputs(MODELS / "digits_test.npz", network, 60))


@pytest.fixture
def simulator(config: AcceleratorConfig, program: Program) -> Iterator[Simulator]:
    with Simulator(build(config), config, program) as simulator:
        yield simulator


def with_image(program: Program, commands: bytes) -> Program:
    """The program with another list of commands in memory, of the same length."""
    image = program.image.copy()
    start = program.command_offset
    image[start : start + len(commands)] = np.frombuffer(commands, np.uint8)
    return dataclasses.replace(program, image=image)


def changed(program: Program, index: int, **fields: int) -> Program:
    """The program with other fields in one command."""
    opcode, values = program.command(index)
    place = index * COMMAND_BYTES
    command = encode(opcode, {**values, **fields})
    commands = program.commands[:place] + command + program.commands[place + COMMAND_BYTES :]
    return dataclasses.replace(with_image(program, commands), commands=commands)


def first_of(program: Program, opcode: Opcode) -> int:
    return next(i for i in range(program.command_count) if program.command(i)[0] == opcode)


def infer(program: Program, config: AcceleratorConfig, inputs: dict[str, np.ndarray]):
    with Simulator(build(config), config, program) as simulator:
        return simulator.infer({name: values[0] for name, values in inputs.items()})


def test_every_tensor_equals_golden(network, program, config, inputs) -> None:
    result = run(network, program, config, inputs)
    assert (result.mismatches, result.difference, result.inferences) == (0, None, 60)
    assert result.tensors == len(network.layers)
    expected = golden.run(network, inputs, outputs_only=True).tensors
    for name, values in expected.items():
        assert result.outputs[name].dtype == values.dtype
        assert (result.outputs[name] == values).all()
    assert min(result.layer_cycles) > 0
    assert [layer.name for layer in result.layers] == [layer.name for layer in network.layers]
    assert result.simulated_cycles >= 60 * result.counted_cycles


def last_stamp(simulator: Simulator, program: Program) -> int:
    stamp = simulator._harness.read(Register.MARKS + 4 * program.layers[-1].mark)
    assert stamp is not None
    return stamp


def test_time_stamps_are_those_of_the_layers(config, program, simulator, inputs) -> None:
    """A layer is complete no earlier than the array can have multiplied all that it multiplies, and the last one when
    its output is stored, a few cycles before the interrupt."""
    inference = simulator.infer({name: values[0] for name, values in inputs.items()})
    multiplied = np.cumsum([layer.macs for layer in program.layers]) / (config.rows * config.columns)
    assert (np.cumsum(inference.layer_cycles) >= multiplied).all()
    opcode, last = program.command(program.command_count - 1)
    assert (opcode, last["mark"]) == (Opcode.STORE, 1)
    assert 0 < inference.cycles - last_stamp(simulator, program) <= END_CYCLES


def test_a_time_stamp_too_few_or_too_many_is_noticed(config, program, simulator, inputs) -> None:
    image = {name: values[0] for name, values in inputs.items()}
    marked = [i for i in range(program.command_count) if program.command(i)[1]["mark"]]
    assert len(marked) > 2
    for index in marked:
        with pytest.raises(MachineStopped, match="time stamp"):
            infer(changed(program, index, mark=0), config, inputs)
    # One more at the beginning: each layer has the stamp of the one before, and the last one's work is nobody's.
    with Simulator(build(config), config, changed(program, 0, mark=1)) as early:
        inference = early.infer(image)
        assert inference.cycles - last_stamp(early, program) > END_CYCLES


def test_layer_cycles_are_between_time_stamps(program) -> None:
    layers = [dataclasses.replace(program.layers[0], mark=mark) for mark in (-1, 0, 0, 1)]
    assert layer_cycles(layers, {0: 10, 1: 50}, 60) == (0, 10, 0, 50)
    for stamps in ({0: 10, 1: 10}, {0: 11, 1: 10}, {0: 0, 1: 50}, {0: 10, 1: 61}):
        with pytest.raises(
            MachineStopped, match=r"time stamp \d is \d+, after \d+ and in a run of 60 cycles"
        ):
            layer_cycles(layers, stamps, 60)


def test_workers_give_what_one_process_gives(network, program, config, inputs) -> None:
    seen: list[int] = []
    together = run(network, program, config, inputs, jobs=2, progress=seen.append)
    alone = run(network, program, config, inputs)
    assert seen == sorted(seen)
    assert seen[-1] == 60
    assert (together.cycles, together.mismatches, together.counters) == (alone.cycles, 0, alone.counters)
    for name, values in alone.outputs.items():
        assert (together.outputs[name] == values).all()


def test_unchecked_runs_say_so(network, program, config, inputs) -> None:
    result = run(network, program, config, inputs, check=False)
    assert (result.mismatches, result.tensors) == (None, 0)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_first_difference_and_all_mismatches_are_found(network, program, config, inputs, jobs) -> None:
    """A machine that computes another network: one whose last layer's clamp is lower."""
    last = max(i for i in range(program.command_count) if program.command(i)[0] == Opcode.RESCALE)
    wrong = changed(program, last, high=-3)
    channels, first = program.command(last)[1]["channels"], 10 - program.command(last)[1]["channels"]
    result = run(network, wrong, config, inputs, jobs=jobs)
    right = golden.run(network, inputs).tensors
    expected = right["fc1"].copy() if "fc1" in right else right[network.outputs[0]].copy()
    part = expected[:, first : first + channels]
    differing = part > -3
    assert result.mismatches == int(differing.sum()) > 0
    inference, channel = (int(place) for place in np.argwhere(differing)[0])
    assert result.difference is not None
    assert result.difference.inference == inference
    assert result.difference.layer == network.layers[-1].name
    assert result.difference.index == (first + channel,)
    assert (result.difference.hardware, result.difference.golden) == (-3, int(part[inference, channel]))


def test_an_output_that_is_stored_wrongly_differs(network, program, config, inputs) -> None:
    """What is on chip is right, what reaches memory is not."""
    store = first_of(program, Opcode.STORE)
    wrong = changed(program, store, scratchpad_address=program.command(store)[1]["scratchpad_address"] + 1)
    result = run(network, wrong, config, inputs)
    assert result.mismatches
    assert result.difference is not None
    assert result.difference.layer == network.layers[-1].name


def test_a_reset_at_any_cycle_leaves_nothing_behind(simulator, inputs) -> None:
    image = {name: values[0] for name, values in inputs.items()}
    other = {name: values[1] for name, values in inputs.items()}
    expected = simulator.infer(image)
    for cycles in (0, 1, 2, 31, 32, 33, 40, 57, 100, 333, 1000, 2500, expected.cycles - 1, expected.cycles):
        simulator.start(other, cycles)
        result = simulator.infer(image)
        assert result.cycles == expected.cycles
        for name, values in expected.tensors.items():
            assert (result.tensors[name] == values).all(), (cycles, name)


def test_a_later_memory_costs_cycles_and_changes_no_result(config, program, simulator, inputs) -> None:
    image = {name: values[0] for name, values in inputs.items()}
    expected = simulator.infer(image)
    with Simulator(build(config), config, program, latency=100) as late:
        result = late.infer(image)
    assert result.cycles > expected.cycles
    assert all((result.outputs[name] == values).all() for name, values in expected.outputs.items())


def test_an_illegal_opcode_stops_the_machine_and_is_named(config, program, inputs) -> None:
    index = first_of(program, Opcode.MAX_POOL)
    commands = bytearray(program.commands)
    commands[index * COMMAND_BYTES] = 0xFF
    with pytest.raises(MachineStopped, match=f"at command {index}: ILLEGAL_OPCODE: A command has an opcode"):
        infer(with_image(program, bytes(commands)), config, inputs)


@pytest.mark.parametrize(
    ("opcode", "cause"),
    [
        (Opcode.LOAD, "READ_REGION"),
        (Opcode.WEIGHTS, "READ_REGION"),
        (Opcode.STORE, "WRITE_REGION"),
    ],
)
def test_an_address_outside_the_windows_stops_the_machine_and_is_named(
    config, program, inputs, opcode, cause
) -> None:
    index = first_of(program, opcode)
    region = Region(program.command(index)[1]["region"])
    offset = program.region_bytes[region] + 0x1000
    address = MemoryMap.of(program, config).bases[region] + offset
    with pytest.raises(MachineStopped, match=f"at command {index}: {cause}, address {address:#010x}"):
        infer(changed(program, index, memory_offset=offset), config, inputs)


def test_a_bus_error_stops_the_machine(config, program, inputs) -> None:
    """More is granted than there is memory."""
    index, end = first_of(program, Opcode.LOAD), 0x10_0000
    granted = MemoryMap.of(program, config)
    wide = dataclasses.replace(granted, limits={**granted.limits, Region.INPUT: end})
    beyond = changed(program, index, memory_offset=end - 0x1000)
    with (
        Simulator(build(config), config, beyond, memory_map=wide) as simulator,
        pytest.raises(MachineStopped, match=f"at command {index}: READ_ERROR"),
    ):
        simulator.infer({name: values[0] for name, values in inputs.items()})


def test_the_same_bytes_run_anywhere(config, program, inputs) -> None:
    """At every placement, from two starts: regions that touch, each at the top of 40 bits of address."""
    assert config.address_bits == 40
    images = [{name: values[index] for name, values in inputs.items()} for index in range(2)]
    found = []
    places = list(placements(program, config))
    assert len(places) == 5
    for memory_map in places:
        with Simulator(build(config), config, program, memory_map=memory_map) as simulator:
            runs = [simulator.infer(image) for image in images]
        functional = FunctionalMachine(program, config, memory_map).infer(
            {name: values[:2] for name, values in inputs.items()}
        )
        for name, values in functional.outputs.items():
            np.testing.assert_array_equal(values, [run.outputs[name] for run in runs])
        found.append([{name: values.tolist() for name, values in run.outputs.items()} for run in runs])
    assert found[0][0] != found[0][1]
    assert all(outputs == found[0] for outputs in found)


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ({Region.PROGRAM: START + 4}, "the base of PROGRAM must be a multiple of 8, not 0x12fc4"),
        ({Region.PROGRAM: -8}, "the base of PROGRAM must be a multiple of 8, not -0x8"),
        ({Region.OUTPUT: (1 << 40) - 8}, "OUTPUT ends at 0x10000000038, beyond the machine's addresses of 40 bits"),
        ({Region.INPUT: 8, Region.OUTPUT: 0}, "OUTPUT ends at 0x40, behind INPUT's base 0x8"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(config, program, bases, message) -> None:
    usual = MemoryMap.of(program, config).bases
    far = {region: base + 0x10_0000 for region, base in usual.items()}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MemoryMap.of(program, config, far | bases)


def test_commands_that_wait_for_ever_are_stopped(config, program, inputs) -> None:
    index = first_of(program, Opcode.MATMUL)
    with pytest.raises(MachineStopped, match="WATCHDOG"):
        infer(changed(program, index, wait_store=1000), config, inputs)


def test_work_left_undone_is_no_success(config, program, inputs) -> None:
    shorter = program.commands[: -4 * COMMAND_BYTES]
    with pytest.raises(MachineStopped, match="tensors computed"):
        infer(dataclasses.replace(program, commands=shorter), config, inputs)


def test_a_machine_whose_done_sticks_is_one_line(config, program, inputs) -> None:
    """One that answers like a machine, is done at once, and reports a completion of every engine in every cycle."""
    widths = {
        "FINGERPRINT": program.fingerprint,
        "ENGINES": len(Engine),
        "ADDRESS_BITS": config.scratchpad_elements.bit_length() - 1,
        "LANES": config.vector_lanes,
        "DATA_BITS": config.vector_lanes * config.element_bits,
    }
    text = STUCK.read_text()
    for name, value in widths.items():
        text = text.replace(f"`{name}", str(value))
    with Simulator(build_verilog(text, "stuck"), config, program) as simulator:
        image = {name: values[0] for name, values in inputs.items()}
        with pytest.raises(
            MachineStopped, match="reported the completion of [0-9,]+ commands of LOAD, and has"
        ):
            simulator.infer(image)


@pytest.mark.parametrize("jobs", [1, 2])
def test_which_inference_stopped_the_machine_is_named(network, program, config, inputs, jobs) -> None:
    index = first_of(program, Opcode.LOAD)
    wrong = changed(program, index, memory_offset=0xFFFF_0000)
    with pytest.raises(MachineStopped, match=r"^inference \d+: the machine stopped itself at command"):
        run(network, wrong, config, inputs, jobs=jobs)


def test_a_program_for_another_machine_is_refused(config, program) -> None:
    with pytest.raises(ValueError, match="compiled for another machine than tiny"):
        Simulator(build(config), config, dataclasses.replace(program, fingerprint=1))


def test_a_program_without_a_tap_is_refused(network, program, config, inputs) -> None:
    with pytest.raises(ValueError, match="no probe for"):
        run(network, dataclasses.replace(program, probes=program.probes[1:]), config, inputs)


def test_nothing_to_run_is_refused(network, program, config) -> None:
    with pytest.raises(NetworkError, match="the inputs are input, not nothing"):
        run(network, program, config, {})


def test_a_limit_is_far_from_what_a_run_needs(config, program, simulator, inputs) -> None:
    cycles = simulator.infer({name: values[0] for name, values in inputs.items()}).cycles
    assert cycles * 4 < cycle_limit(program, config) < 10_000_000


def test_what_is_built_is_built_once(config) -> None:
    library = build(config)
    assert cached(config)
    assert build(config) == library
    assert not cached(dataclasses.replace(config, accumulator_bits=19))


def test_another_amaranth_may_write_another_machine(config, monkeypatch) -> None:
    build(config)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0" if name == "amaranth" else "1")
    assert not cached(config)


def test_a_trace_is_written(network, program, config, inputs, tmp_path) -> None:
    try:
        verilator.require_fst()
    except verilator.VerilatorNotFound as error:
        pytest.skip(str(error))
    path = tmp_path / "waves.fst"
    few = {name: values[:2] for name, values in inputs.items()}
    assert run(network, program, config, few, trace=path).mismatches == 0
    assert path.stat().st_size > 10_000
