"""Random networks on simulated hardware of odd sizes: every element of every tensor equal to golden's.

What shows that networks run which nobody has seen: `tests/networks.py` draws them as adversely as the graph allows.
"""

import dataclasses
import multiprocessing
import os
import signal

import numpy as np
import pytest

from intaglio import golden
from intaglio.compiler import compile_network
from intaglio.network import NetworkError, TensorType
from intaglio.sim.simulator import run as running
from intaglio.sim.simulator.build import build
from intaglio.sim.simulator.machine import MachineStopped, Simulator
from intaglio.spec.commands import Opcode, encode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from tests.networks import Builder, draw, machine_of, wild_network
from tests.placements import placements

LATENCIES_CYCLES = (32, 1, 97, 7)
INFERENCES = 3

TINY = machine_of("tiny", rows=4, columns=4, accumulator_bits=20, accumulator_depth=16, scratchpad_bytes=1024)
MACHINES = {
    "single": machine_of(
        rows=1, columns=1, activation_types=("int2", "uint2"), weight_type="int2", accumulator_bits=12,
        accumulator_depth=16, scratchpad_bytes=1024,
    ),
    "odd": machine_of(
        rows=5, columns=3, activation_types=("uint8", "int8"), weight_type="int8", accumulator_bits=20,
        accumulator_depth=16, scratchpad_bytes=4096, line_buffer_rows=3, line_buffer_columns=16,
    ),
    "paper": machine_of(
        rows=32, columns=7, accumulator_bits=16, scratchpad_bytes=8192, line_buffer_rows=2, line_buffer_columns=32
    ),
    "ternary": machine_of(
        rows=7, columns=10, rescale_lanes=2, activation_types=("int8",), weight_type="ternary",
        accumulator_bits=32, accumulator_depth=16, scratchpad_bytes=4096,
    ),
    "wide": machine_of(
        rows=8, columns=8, rescale_lanes=2, activation_types=("uint8",), weight_type="int8",
        accumulator_bits=48, accumulator_depth=32, scratchpad_bytes=8192, bus_bits=128,
    ),
    "binary": machine_of(
        rows=12, columns=6, activation_types=("int8",), weight_type="binary", accumulator_bits=24,
        accumulator_depth=16, scratchpad_bytes=4096, line_buffer_rows=2, line_buffer_columns=32,
    ),
    "llsq": machine_of(
        rows=9, columns=4, activation_types=("uint2",), weight_type="int2", accumulator_bits=16,
        accumulator_depth=16, rescales=("llsq",), scratchpad_bytes=4096, bus_bits=128,
    ),
    "llsq and sbnq": machine_of(
        rows=8, columns=6, rescale_lanes=2, activation_types=("uint4", "int4"), accumulator_bits=20,
        accumulator_depth=16, rescales=("sbnq", "llsq"), scratchpad_bytes=4096,
    ),
}  # fmt: skip
NETWORKS = {"single": 16}
"""Of each machine, 60 of the others; a single multiplier takes long."""


def inputs_of(network, rng, count=INFERENCES):
    """Random ones, then all least, all greatest."""
    inputs = {}
    for name in network.inputs:
        tensor = network.tensors[name]
        inputs[name] = draw(rng, tensor.type, (count, *tensor.shape))
        for index, value in ((1, tensor.type.min), (2, tensor.type.max)):
            inputs[name][index:][:1] = value
    return inputs


def check(library, config, network, seed):
    """Runs the network with a memory of one of the latencies; how many elements were compared."""
    program = compile_network(network, config)
    places = list(placements(program, config))
    inputs = inputs_of(network, np.random.default_rng(seed))
    expected = golden.run(network, inputs)
    compared = overflows = 0
    with Simulator(
        library,
        config,
        program,
        latency=LATENCIES_CYCLES[seed % len(LATENCIES_CYCLES)],
        memory_map=places[seed % len(places)],
    ) as simulator:
        for index in range(INFERENCES):
            found = simulator.infer({name: values[index] for name, values in inputs.items()})
            overflows += found.counters["overflows"]
            for where, tensors in (("on chip", found.tensors), ("stored", found.outputs)):
                for name, values in tensors.items():
                    np.testing.assert_array_equal(
                        values,
                        expected.tensors[name][index],
                        f"seed {seed}, inference {index}: {name} {where}",
                    )
                    compared += values.size
            assert set(found.tensors) == {layer.output for layer in network.layers}
            assert set(found.outputs) == set(network.outputs)
    assert overflows or not any(expected.overflows.values())
    return compared


@pytest.mark.parametrize("name", MACHINES)
def test_wild_networks_equal_golden(name):
    config = MACHINES[name]
    library = build(config)
    ran = compared = wrapped = 0
    for seed in range(NETWORKS.get(name, 60)):
        network = wild_network(seed, config)
        try:
            wrapped += bool(compile_network(network, config).warnings)
        except NetworkError as error:
            if "elements of scratchpad" not in str(error):
                raise
            continue
        compared += check(library, config, network, seed)
        ran += 1
    assert ran > NETWORKS.get(name, 60) * 0.8
    assert compared > 1000 * ran / 4
    assert wrapped or config.accumulator_bits > 20


@pytest.mark.parametrize("name", ["sbnq8x8", "llsq32x7_w2"])
def test_what_does_not_fit_on_the_smallest_scratchpad_that_ships(name):
    """224 x 224 x 3 pixels of 8 bits, and a 1 x 1 convolution to 1280 channels."""
    config = AcceleratorConfig.load(name)
    shipped = [AcceleratorConfig.load(each).scratchpad_bytes for each in AcceleratorConfig.names()]
    assert config.scratchpad_bytes == min(shipped)
    builder = Builder(1, config, (224, 224, 3), TensorType(8, False))
    for channels, stride in ((8, 2), (16, 4), (24, 4)):
        builder.conv(channels, (3, 3), (stride, stride), (0, 1, 0, 1))
    network = builder.conv(1280, (1, 1)).build()
    assert compile_network(network, config).spills
    assert check(build(config), config, network, 0) > 100_000


@pytest.fixture(scope="module")
def library():
    return build(TINY)


@pytest.fixture(scope="module")
def network():
    return Builder(1, TINY, (5, 6, 3)).conv(6, (3, 3)).pool((2, 2), (1, 1)).conv(4, (1, 2)).fc(5).build()


@pytest.fixture(scope="module")
def program(network):
    return compile_network(network, TINY)


def test_every_cycle_more_of_latency_is_right(library):
    """Engines meet in other orders each time."""
    network = wild_network(3, TINY)
    program = compile_network(network, TINY)
    inputs = inputs_of(network, np.random.default_rng(0), 1)
    expected = golden.run(network, inputs).tensors
    cycles = []
    for latency in range(1, 60):
        with Simulator(library, TINY, program, latency=latency) as simulator:
            found = simulator.infer({name: values[0] for name, values in inputs.items()})
        cycles.append(found.cycles)
        for name, values in found.tensors.items():
            np.testing.assert_array_equal(values, expected[name][0], f"latency {latency}: {name}")
    assert cycles[0] < cycles[-1]


def test_an_inference_knows_nothing_of_the_one_before(library, network, program):
    inputs = inputs_of(network, np.random.default_rng(1), 6)
    with Simulator(library, TINY, program) as simulator:
        first = [simulator.infer({"input": image}) for image in inputs["input"]]
        again = [simulator.infer({"input": image}) for image in inputs["input"][::-1]][::-1]
    for one, other in zip(first, again, strict=True):
        assert (one.cycles, one.layer_cycles, one.counters) == (
            other.cycles,
            other.layer_cycles,
            other.counters,
        )
        for name, values in one.tensors.items():
            np.testing.assert_array_equal(values, other.tensors[name])


@pytest.mark.parametrize(("count", "jobs"), [(1, 1), (1, 3), (2, 5), (7, 3), (60, 2)])
def test_jobs_change_no_result(library, network, program, count, jobs):
    inputs = inputs_of(network, np.random.default_rng(2), count)
    done: list[int] = []
    result = running.run(network, program, TINY, inputs, jobs=jobs, progress=done.append)
    assert (result.inferences, result.mismatches, result.difference) == (count, 0, None)
    assert result.tensors == len(network.layers)
    assert sum(result.layer_cycles) == pytest.approx(result.cycles)
    expected = golden.run(network, inputs).tensors
    for name in network.outputs:
        np.testing.assert_array_equal(result.outputs[name], expected[name])
    assert done == sorted(done)
    assert done[-1] == count


def broken(program, index, **fields):
    """The program with other values in its command number `index`."""
    opcode, values = program.command(index)
    commands = bytearray(program.commands)
    commands[64 * index : 64 * index + 64] = encode(opcode, values | fields)
    image = program.image.copy()
    start = program.command_offset
    image[start : start + len(commands)] = np.frombuffer(bytes(commands), np.uint8)
    return dataclasses.replace(program, commands=bytes(commands), image=image)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_machine_that_stops_itself(library, network, program, jobs):
    index = next(i for i in range(program.command_count) if program.command(i)[0] is Opcode.STORE)
    outside = broken(program, index, memory_offset=program.region_bytes[Region.OUTPUT])
    inputs = inputs_of(network, np.random.default_rng(3), 4)
    with pytest.raises(
        MachineStopped, match=rf"^inference \d: the machine stopped itself at command {index}: "
    ):
        running.run(network, outside, TINY, inputs, jobs=jobs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_input_is_named(library, network, program, jobs):
    inputs = {"input": np.arange(17)[:, None, None, None] * np.ones((1, 5, 6, 3), int)}
    with pytest.raises(NetworkError, match=r"input input: .*16.* is outside uint4"):
        running.run(network, program, TINY, inputs, jobs=jobs)


def leave(first, inputs):
    os._exit(9)


def die(first, inputs):
    os.kill(os.getpid(), signal.SIGKILL)


def crash(first, inputs):
    os.kill(os.getpid(), signal.SIGBUS)


@pytest.mark.parametrize(
    ("part", "how"),
    [
        (leave, "ended before its work did, with exit code 9"),
        (die, "was killed, perhaps for want of memory"),
        (crash, "was ended by SIGBUS"),
    ],
)
def test_a_worker_that_dies_is_one_line(library, network, program, monkeypatch, part, how):
    monkeypatch.setattr(running, "_run_part", part)
    inputs = inputs_of(network, np.random.default_rng(6), 4)
    with pytest.raises(running.WorkerLost, match=f"^a worker process {how}: use fewer `jobs`$"):
        running.run(network, program, TINY, inputs, jobs=2)
    assert not multiprocessing.active_children()
