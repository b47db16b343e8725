"""The functional backend: golden's values on every machine, the simulated machine's faults and counters, and no rubber
stamp: a damaged command is seen."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest

from intaglio import golden
from intaglio.compiler import Binding, Program, compile_network
from intaglio.demo import MODELS, embedded
from intaglio.network import Network, NetworkError, TensorType
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator import run as running
from intaglio.sim.simulator.build import build
from intaglio.sim.simulator.functional import backend
from intaglio.sim.simulator.functional.backend import FunctionalMachine, batch_size
from intaglio.sim.simulator.functional.interpreter import Stopped
from intaglio.sim.simulator.machine import MachineStopped, Simulator
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.sim.simulator.run import run
from intaglio.spec.commands import COMMAND_BYTES, FORMATS, Opcode, Scheme, command_layout, decode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import Cause
from tests import test_simulation, test_simulation_int8
from tests.interpreter import Machine as Interpreted
from tests.networks import Builder, wild_network
from tests.networks_int8 import Int8Builder, random_int8_network
from tests.test_compiler_int8 import large_network
from tests.test_interpreter import (
    CLAMPED,
    IMAGE,
    SCRATCH,
    affine_records,
    beats,
    int8_machine,
    program_of,
)
from tests.test_run import TINY, changed, first_of, with_image

INT8_MACHINES = test_simulation_int8.MACHINES
SIMULATED = {
    "sbnq": AcceleratorConfig.load(TINY),
    "llsq": test_simulation.MACHINES["llsq"],
    "int8": INT8_MACHINES["tiny"],
}


def inputs_of(network, seed, count=3):
    return test_simulation.inputs_of(network, np.random.default_rng(seed), count)


def random_network(seed, config):
    if config.affine:
        return random_int8_network(seed, elements=config.scratchpad_elements // 4)
    return wild_network(seed, config)


def compiled(network, config):
    """A program, or None where a layer does not fit on so small a machine."""
    try:
        return compile_network(network, config)
    except NetworkError:
        return None


def differing(found, expected):
    """Tensors, on chip and as they were stored, that are not golden's."""
    pairs = [*found.tensors.items(), *found.outputs.items()]
    return [name for name, values in pairs if not np.array_equal(values, expected[name])]


# Golden's values.


def test_every_embedded_network_on_every_shipped_machine_that_takes_it():
    ran, machines = set(), set()
    for (model, images), name in itertools.product(embedded(), AcceleratorConfig.names()):
        network, config = load(model), AcceleratorConfig.load(name)
        program = compiled(network, config)
        if program is not None:
            result = run(network, program, config, load_inputs(images, network), backend="functional")
            assert (result.mismatches, result.tensors) == (0, len(network.layers)), (model.name, name)
            ran.add(model)
            machines.add(name)
    assert ran == {model for model, _ in embedded()}
    # No network that ships is of LLSQ's int8.
    assert machines == {*AcceleratorConfig.names()} - {"llsq32x7_w8"}


@pytest.mark.parametrize("name", AcceleratorConfig.names())
@pytest.mark.parametrize("seed", range(3))
def test_random_networks_on_every_shipped_machine(name, seed):
    config = AcceleratorConfig.load(name)
    network = random_int8_network(seed, elements=4000) if config.affine else wild_network(seed, config)
    inputs = inputs_of(network, seed)
    program = compile_network(network, config)
    expected = golden.run(network, inputs).tensors
    wrong = differing(FunctionalMachine(program, config).infer(inputs), expected)
    assert not wrong or (config.affine and program.warnings)


@pytest.mark.parametrize("name", [*test_simulation.MACHINES, *(f"int8 {name}" for name in INT8_MACHINES)])
def test_random_networks_equal_golden(name):
    config = (test_simulation.MACHINES | {f"int8 {key}": value for key, value in INT8_MACHINES.items()})[name]
    ran = 0
    for seed in range(25):
        network = random_network(seed, config)
        program = compiled(network, config)
        if program is None:
            continue
        inputs = inputs_of(network, seed)
        expected = golden.run(network, inputs)
        found = FunctionalMachine(program, config).infer(inputs)
        wrong = differing(found, expected.tensors)
        # LiteRT's fully connected layers round a float64 product: the compiler names those that it cannot follow.
        assert not wrong or (config.affine and program.warnings), f"seed {seed}: {wrong}"
        assert set(found.tensors) == {layer.output for layer in network.layers}
        assert set(found.outputs) == set(network.outputs)
        ran += 1
    assert ran > 12


def test_mlperf_tiny(shared):
    network = load(shared / "models" / "mlperf_tiny" / "pretrainedResnet_quant.tflite")
    images = load_inputs(shared / "data" / "cifar10" / "test_200.npz", network)
    config = AcceleratorConfig.load("affine16x16")
    result = run(network, compile_network(network, config), config, images, backend="functional", jobs=2)
    assert (result.inferences, result.mismatches, result.tensors) == (200, 0, len(network.layers))


# The simulated machine's faults and counters.


@pytest.fixture(scope="module", params=SIMULATED)
def machine(request):
    config = SIMULATED[request.param]
    return config, build(config)


def test_counters_are_those_of_the_simulated_machine(machine):
    config, library = machine
    ran = overflows = 0
    for seed in range(24):
        network = random_network(seed, config)
        program = compiled(network, config)
        if program is None:
            continue
        inputs = inputs_of(network, seed)
        found = FunctionalMachine(program, config).infer(inputs)
        with Simulator(library, config, program) as simulator:
            for index, counters in enumerate(found.counters):
                simulated = simulator.infer({name: values[index] for name, values in inputs.items()})
                assert counters == {name: simulated.counters[name] for name in counters}, f"seed {seed}"
                overflows += counters["overflows"]
        ran += 1
    assert ran > 10
    assert overflows or config.accumulator_bits > 16


def one(inputs):
    return {name: values[0] for name, values in inputs.items()}


def refused(program, config, memory_map=None):
    """Why, where and at which address the functional machine stops; what it says."""
    with pytest.raises(Stopped) as caught:
        FunctionalMachine(program, config, memory_map).infer(inputs_of_program(program))
    return caught.value


def inputs_of_program(program):
    return {binding.tensor: np.zeros((1, *binding.shape), np.int64) for binding in program.inputs}


def faulty(program, config):
    """Programs with one fault each, and what is to be said of it."""
    bases = MemoryMap.of(program, config).bases
    end = max(program.region_bytes.values()) + 0x1000
    for opcode in {decode(program.commands[i : i + 64])[0] for i in range(0, len(program.commands), 64)}:
        index = first_of(program, opcode)
        place = index * COMMAND_BYTES
        used = max(start + field.bits for start, field in command_layout(opcode).values())
        spoiled = [
            (0, 0xFF, Cause.ILLEGAL_OPCODE),
            (1, 2, Cause.ILLEGAL_FIELD),
            (15, 128, Cause.ILLEGAL_FIELD),
        ]
        if used <= 504:
            spoiled.append((63, 128, Cause.ILLEGAL_FIELD))
        for byte, bits, cause in spoiled:
            commands = bytearray(program.commands)
            commands[place + byte] |= bits
            yield with_image(program, bytes(commands)), cause, index, 0
        for name in FORMATS[opcode].nonzero:
            yield changed(program, index, **{name: 0}), Cause.ILLEGAL_FIELD, index, 0
        if opcode in (Opcode.LOAD, Opcode.STORE, Opcode.WEIGHTS):
            cause = Cause.WRITE_REGION if opcode is Opcode.STORE else Cause.READ_REGION
            values = program.command(index)[1]
            beyond = bases[Region(values["region"])] + end
            yield changed(program, index, memory_offset=end), cause, index, beyond
            wrong = Region.INPUT if opcode is Opcode.STORE else Region.OUTPUT
            yield changed(program, index, region=wrong), cause, index, 0
            yield changed(program, index, region=len(Region)), Cause.ILLEGAL_FIELD, index, 0
        if opcode in (Opcode.LOAD, Opcode.STORE):
            apart = changed(program, index, rows=2, memory_pitch=end - values["memory_offset"] + 3)
            yield apart, cause, index, beyond
    fields = {
        Opcode.WEIGHTS: [{"memory_offset": 4}],
        Opcode.MATMUL: [
            {"output_rows": config.accumulator_depth + 1},
            {"tile_words": config.tile_words(config.columns) + 1},
            {"lane_digits": config.lane_digits.bit_length()},
        ],
        Opcode.RESCALE: [
            {"scheme": next(scheme for scheme in Scheme if scheme.name.lower() not in config.rescales)},
            {"positions": config.accumulator_depth + 1},
            {"channels": config.columns + 1},
        ],
    }
    if not config.depthwise_taps:
        fields[Opcode.MATMUL] += [{"depthwise": 1}, {"row_overlap": 1}, {"last_row_columns": 1}]
    if not config.line_buffer_rows:
        names = ("lines", "line_lanes", "line_lanes_step", "first_output_row", "goes_on")
        steps = ("kernel_column_row_step", "kernel_row_column_step")
        fields[Opcode.MATMUL] += [{name: 1} for name in names + steps]
    else:
        fields[Opcode.MATMUL] += [
            {"lines": 1, "line_lanes": config.rows + 1},
            {"lines": 1, "output_columns": config.line_buffer_columns + 1, "output_rows": 1},
        ]
        if config.line_buffer_rows < 3:
            fields[Opcode.MATMUL].append({"lines": 3})
    if config.weight.bits == 8:
        fields[Opcode.MATMUL].append({"weight_digits": 1})
    if not config.unsigned_activations:
        fields[Opcode.MATMUL].append({"digits": 2})
    if config.rescales != ("llsq",):
        fields[Opcode.RESCALE].append({"wide": 1})
    if config.affine:
        fields[Opcode.ELEMENTWISE] = [
            {"operation": 6},
            {"operation": 4, "pixels": 2, "channels": 256},
            {"operation": 4, "pixels": 1, "channels": 255},
            {"operation": 5, "channels": 4096},
        ]
    for opcode, changes in fields.items():
        index = first_of(program, opcode)
        for change in changes:
            yield changed(program, index, **change), Cause.ILLEGAL_FIELD, index, 0
    yield changed(program, first_of(program, Opcode.MATMUL), wait_store=1000), Cause.WATCHDOG, 0, 0
    yield (
        dataclasses.replace(program, command_offset=end),
        Cause.READ_REGION,
        0,
        bases[Region.PROGRAM] + end,
    )


def network_of_every_engine(config):
    if config.affine:
        kinds = ("conv", "max_pool", "residual")
        networks = (random_int8_network(seed, elements=600, kinds=kinds) for seed in itertools.count())
    else:
        networks = (
            Builder(seed, config, (5, 6, 3)).conv(6, (3, 3)).pool((2, 2), (1, 1)).fc(5).build()
            for seed in itertools.count()
        )
    wanted = {opcode for opcode in FORMATS if opcode is not Opcode.ELEMENTWISE or config.affine}
    for network in networks:
        program = compiled(network, config)
        if program and {program.command(i)[0] for i in range(program.command_count)} == wanted:
            return network, program
    raise AssertionError


def test_faults_are_those_of_the_simulated_machine(machine):
    config, library = machine
    _, program = network_of_every_engine(config)
    tried = 0
    for wrong, cause, index, address in faulty(program, config):
        found = refused(wrong, config)
        assert (found.cause, found.command, found.address) == (cause, index, address)
        with Simulator(library, config, wrong) as simulator:
            with pytest.raises(MachineStopped) as caught:
                simulator.infer(one(inputs_of_program(program)))
        assert str(caught.value) == str(found)
        tried += 1
    assert tried > 40


def any_of(rng, fields):
    """Values of fields: mostly small, some anywhere in the field."""
    values = {}
    for field in fields:
        low, high = (field.min, field.max) if rng.random() < 0.15 else (max(field.min, -9), min(field.max, 9))
        values[field.name] = int(rng.integers(low, high, endpoint=True))
    return values


def any_window(rng, opcode, counts):
    values = any_of(rng, FORMATS[opcode].fields)
    values |= {name: int(rng.integers(1, most + 1)) for name, most in counts.items()}
    return values | {"height": int(rng.integers(1, 12)), "width_elements": int(rng.integers(1, 60))}


def any_commands(rng, config):
    """A MAX_POOL, or a MATMUL and its RESCALE, between a LOAD and a STORE of the whole scratchpad."""
    counts = {"output_rows": 4, "output_columns": 4, "kernel_rows": 3, "kernel_columns": 3, "chunks": 3}
    move = {"rows": 1, "row_bytes": config.scratchpad_bytes}
    load = (Opcode.LOAD, move | IMAGE)
    store = move | SCRATCH
    if rng.random() < 0.5:
        pool = any_window(rng, Opcode.MAX_POOL, counts | {"channels": 6, "output_rows": 9})
        apart = {"pixel_pitch": 7, "destination_pitch": int(rng.integers(28, 40))}
        pool |= apart | {"destination": pool["source"] + config.scratchpad_elements // 2 & 0xFFFFFF}
        return [load, (Opcode.MAX_POOL, pool | {"wait_load": 1}), (Opcode.STORE, store | {"wait_pool": 1})]
    matmul = any_window(rng, Opcode.MATMUL, counts) | {
        "digits": 1, "wait_load": 1, "depthwise": int(config.depthwise_taps and rng.integers(2)),
        "weight_digits": int(config.weight_digits and rng.integers(2)), "first_output": 0, "output_step": 1,
        "lines": 0, "line_lanes": 0, "line_lanes_step": 0, "first_output_row": 0, "goes_on": 0,
        "kernel_column_row_step": 0, "kernel_row_column_step": 0,
        "row_overlap": 0, "last_row_columns": int(config.depthwise_taps and rng.integers(5)),
        "lane_digits": int(rng.integers(config.lane_digits.bit_length())),
        "tile_words": int(rng.integers(1, config.tile_words(config.columns), endpoint=True)),
    }  # fmt: skip
    if config.line_buffer_rows and rng.integers(2):
        lines = int(rng.integers(1, config.line_buffer_rows + 1))
        matmul |= {
            "lines": lines, "line_lanes": int(rng.integers(1, config.rows + 1)), "first_output_row": lines,
            "output_rows": matmul["output_rows"] + lines, "kernel_column_row_step": int(rng.integers(3)),
            "goes_on": int(rng.integers(2)), "last_row_columns": 0, "line_lanes_step": int(rng.integers(2)),
            "kernel_row_column_step": int(rng.integers(-3, 4)),
        }  # fmt: skip
    if not (config.signed_activations and config.unsigned_activations):
        matmul["signed"] = int(config.signed_activations)
    before = matmul["first_output_row"] * matmul["output_columns"]
    if matmul["depthwise"]:
        matmul["chunks"] = 1
        if config.depthwise_taps > 1 and rng.integers(2):
            overlap = int(rng.integers(1, config.depthwise_taps))
            before += overlap
            ends = int(rng.integers(overlap + 1)) if matmul["lines"] else matmul["last_row_columns"]
            matmul |= {
                "row_overlap": overlap, "first_output": before, "first_output_row": 0, "last_row_columns": ends,
            }  # fmt: skip
    lacking = matmul["output_columns"] - matmul["last_row_columns"] if matmul["last_row_columns"] else 0
    vectors = matmul["output_rows"] * matmul["output_columns"] - lacking
    if matmul["weight_digits"] or (config.activation_digits and not matmul["depthwise"]):
        matmul["digits"] = int(rng.integers(1, 4))
    channels = int(rng.integers(1, config.columns + 1))
    rescale = any_of(rng, FORMATS[Opcode.RESCALE].fields) | {
        "first_channel": int(rng.choice((0, rng.integers(channels + 1)))),
        "scheme": Scheme[config.rescales[0].upper()], "bank": matmul["bank"], "wait_matmul": 1,
        "positions": max(vectors - before, 1), "columns": 3,
        "channels": channels, "pixel_pitch": 20, "destination_pitch": 64,
        "low": -int(rng.integers(9)), "high": int(rng.integers(9)),
        "wide": int(config.rescales == ("llsq",) and rng.integers(2)),
    }  # fmt: skip
    passes = np.prod([matmul[name] for name in ("digits", "kernel_rows", "kernel_columns", "chunks")])
    words = (1 if matmul["one_tile"] else int(passes)) * matmul["tile_words"]
    beats = words * config.weight_bits // config.bus_bits + config.parameter_beats
    weights = {**IMAGE, "beats": beats} | ONCE
    return [
        load, (Opcode.WEIGHTS, weights), (Opcode.MATMUL, matmul), (Opcode.RESCALE, rescale),
        (Opcode.STORE, store | {"wait_rescale": 1}),
    ]  # fmt: skip


def test_any_command_does_what_the_simulated_machine_does(machine):
    """Commands that no compiler would make, but for those whose result is not defined."""
    config, library = machine
    size, bits = config.scratchpad_bytes, config.element_bits
    ran = dict.fromkeys((Opcode.MAX_POOL, Opcode.MATMUL), 0)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        commands = any_commands(rng, config)
        image = rng.bytes(size) + program_of(config, commands).commands
        program = dataclasses.replace(
            program_of(config, commands, image),
            command_offset=size,
            outputs=(Binding("all", (size,), TensorType(8, True), Region.SCRATCH, 0, size, 8 // bits, bits),),
        )
        try:
            Interpreted(program, config, {}, rng).run()
        except AssertionError:
            continue
        found = FunctionalMachine(program, config).infer({"none": np.zeros(1)})
        with Simulator(library, config, program) as simulator:
            simulated = simulator.infer({})
        np.testing.assert_array_equal(found.outputs["all"][0], simulated.outputs["all"], f"seed {seed}")
        counters = found.counters[0]
        assert counters == {name: simulated.counters[name] for name in counters}, f"seed {seed}"
        ran[next(opcode for opcode, _ in commands if opcode in ran)] += 1
    assert min(ran.values()) > 20


def test_an_address_that_no_memory_answers():
    config = SIMULATED["sbnq"]
    _, program = network_of_every_engine(config)
    index, end = first_of(program, Opcode.LOAD), program.region_bytes[Region.INPUT]
    granted = MemoryMap.of(program, config)
    wide = dataclasses.replace(granted, limits={**granted.limits, Region.INPUT: 1 << 20})
    found = refused(changed(program, index, memory_offset=end - 5, row_bytes=8), config, wide)
    address = granted.bases[Region.INPUT] + end
    assert (found.cause, found.command, found.address) == (Cause.READ_ERROR, index, address)


def test_work_left_undone_is_no_success():
    config = SIMULATED["sbnq"]
    _, program = network_of_every_engine(config)
    shorter = dataclasses.replace(program, commands=program.commands[: -4 * COMMAND_BYTES])
    with pytest.raises(MachineStopped, match="tensors computed"):
        FunctionalMachine(shorter, config).infer(inputs_of_program(program))


def test_a_program_for_another_machine_is_refused():
    config = SIMULATED["sbnq"]
    _, program = network_of_every_engine(config)
    with pytest.raises(ValueError, match="compiled for another machine than tiny"):
        FunctionalMachine(dataclasses.replace(program, fingerprint=1), config)


# Damage is seen.


@dataclasses.dataclass
class Case:
    """A program and what golden makes of its inputs."""

    network: Network
    program: Program
    config: AcceleratorConfig

    def __post_init__(self):
        self.inputs = inputs_of(self.network, 0)
        self.expected = golden.run(self.network, self.inputs).tensors

    def shows(self, index, field, pattern):
        """Whether another pattern in a command's field changes an element, or stops the machine."""
        value = pattern - (1 << field.bits) if field.signed and pattern > field.max else pattern
        try:
            machine = FunctionalMachine(changed(self.program, index, **{field.name: value}), self.config)
            return bool(differing(machine.infer(self.inputs), self.expected))
        except MachineStopped:
            return True


@pytest.fixture(scope="module")
def cases():
    """Of every engine, and with tensors in memory, strides, padding, and binary weights."""
    machines = [*SIMULATED.values(), test_simulation.MACHINES["binary"]]
    drawn = [(random_network(seed, config), config) for seed in range(7) for config in machines]
    small = int8_machine(rows=8, columns=8, scratchpad_bytes=2048)
    drawn += [(large_network(seed), small) for seed in range(6)]
    builder = Int8Builder(0)
    builder.depthwise(builder.input((9, 9, 5)), 1, (3, 3), (2, 2))
    builder.conv(builder.input((4, 6, 2)), 10, (3, 3))
    drawn.append((builder.build(), small))
    programs = [(network, compiled(network, config), config) for network, config in drawn]
    return [Case(*entry) for entry in programs if entry[1] is not None]


ONCE = {"times": 1, "stretches": 1}
BY_HAND = {(Opcode.STORE, "memory_pitch"), (Opcode.STORE, "scratchpad_pitch"), (Opcode.ELEMENTWISE, "double")}
"""Stores of several rows, and sums on which the roundings differ, are rare here: `test_interpreter.py` has them."""


@pytest.mark.parametrize("opcode", FORMATS)
def test_every_field_matters(opcode, cases):
    """Of each field some bit of some command; of counts and addresses low ones, as large ones take long."""
    rng = np.random.default_rng(0)
    uses = [
        (case, index, values)
        for case in cases
        for index in range(case.program.command_count)
        for found, values in (case.program.command(index),)
        if found is opcode
    ]
    for field in (field for field in FORMATS[opcode].fields if (opcode, field.name) not in BY_HAND):
        bits = (0, 3) if field.bits in (16, 20, 24, 32) else (field.bits - 1, 0)
        # Where a field is in use first.
        order = sorted(rng.permutation(len(uses)), key=lambda place: not uses[place][2][field.name])
        trials = ((*uses[place], bit) for place in order[:300] for bit in bits)
        assert any(
            case.shows(index, field, (values[field.name] ^ 1 << bit) & ((1 << field.bits) - 1))
            for case, index, values, bit in trials
        ), field.name


def test_the_weights_matter():
    config = SIMULATED["sbnq"]
    network, program = network_of_every_engine(config)
    inputs = inputs_of(network, 0)
    expected = golden.run(network, inputs).tensors
    offset = program.command(first_of(program, Opcode.WEIGHTS))[1]["memory_offset"]
    image = program.image.copy()
    image[offset:][:8] ^= 0x11
    spoiled = dataclasses.replace(program, image=image)
    assert not differing(FunctionalMachine(program, config).infer(inputs), expected)
    assert differing(FunctionalMachine(spoiled, config).infer(inputs), expected)


# What weights are, is computed.


def test_weights_that_an_inference_stored_itself():
    """The stream is common to a batch, unless a program writes its own: then inferences run one by one."""
    config = int8_machine(rows=4, columns=4, depthwise_taps=0)
    records = affine_records(config, [0] * 4, [2**30] * 4, [1] * 4)
    image = beats([1, 2, 3, 4, 0, 0, 0, 0], 8) + records
    whole = {name: 1 for name in FORMATS[Opcode.MATMUL].nonzero} | {
        "signed": 1,
        "height": 1,
        "width_elements": 4,
        "tile_words": config.tile_words(4),
    }
    rows = {"rows": 1, "row_bytes": 16}
    once = {"times": 1, "stretches": 1}
    commands = [
        (Opcode.LOAD, {**IMAGE, "rows": 1, "row_bytes": 4}),
        (Opcode.LOAD, rows | {"region": Region.INPUT, "scratchpad_address": 100}),
        (Opcode.STORE, rows | SCRATCH | {"scratchpad_address": 100, "wait_load": 2}),
        (Opcode.WEIGHTS, once | SCRATCH | {"beats": 2, "wait_store": 1}),
        (Opcode.WEIGHTS, once | IMAGE | {"memory_offset": 8, "beats": len(records) // 8}),
        (Opcode.MATMUL, whole),
        (Opcode.RESCALE, CLAMPED | {"positions": 1, "columns": 1, "channels": 4, "destination": 200, "wait_matmul": 1}),
        (Opcode.STORE, {"region": Region.OUTPUT, "scratchpad_address": 200, "rows": 1, "row_bytes": 4,
                        "wait_rescale": 1}),
    ]  # fmt: skip
    code = program_of(config, commands).commands
    kind = TensorType(8, True)
    program = program_of(config, commands, image + code)
    program = dataclasses.replace(
        program,
        command_offset=len(image),
        region_bytes={**program.region_bytes, Region.INPUT: 64, Region.OUTPUT: 64},
        inputs=(Binding("weights", (4, 4), kind, Region.INPUT, 0, 16, 1, 8),),
        outputs=(Binding("sums", (4,), kind, Region.OUTPUT, 0, 4, 1, 8),),
    )
    inputs = {"weights": np.random.default_rng(0).integers(-6, 7, (5, 4, 4))}
    found = FunctionalMachine(program, config).infer(inputs)
    np.testing.assert_array_equal(found.outputs["sums"], inputs["weights"] @ [1, 2, 3, 4])
    assert len(found.counters) == 5


# A run.


@pytest.fixture(scope="module")
def digits():
    config = SIMULATED["sbnq"]
    network = load(MODELS / "digits_sbnq4.txt")
    return network, compile_network(network, config), config


@pytest.fixture(scope="module")
def images(digits):
    return dict(load_inputs(MODELS / "digits_test.npz", digits[0], 60))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_builds_nothing_and_counts_no_cycles(digits, images, jobs, monkeypatch):
    monkeypatch.setattr(running, "build", None)
    done: list[int] = []
    network, program, config = digits
    result = run(network, program, config, images, backend="functional", jobs=jobs, progress=done.append)
    assert (result.inferences, result.mismatches, result.tensors) == (60, 0, len(network.layers))
    assert (result.cycles, result.layer_cycles, result.simulated_cycles) == (None, (), 0)
    assert set(result.counters) == {"overflows", "read_beats", "write_beats"}
    assert (result.backend, done[-1]) == ("functional", 60)
    expected = golden.run(network, images, outputs_only=True).tensors
    for name, values in expected.items():
        np.testing.assert_array_equal(result.outputs[name], values)
    with pytest.raises(ValueError, match="^the backend functional counts no cycles: run on rtl$"):
        _ = result.counted_cycles


def test_batches_change_no_result(digits, images, monkeypatch):
    network, program, config = digits
    whole = run(network, program, config, images, backend="functional")
    monkeypatch.setattr(running, "batch_size", lambda program, config: 7)
    parts = run(network, program, config, images, backend="functional")
    assert parts.counters == whole.counters
    for name, values in whole.outputs.items():
        np.testing.assert_array_equal(parts.outputs[name], values)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_first_difference_is_found(digits, images, jobs):
    network, program, config = digits
    last = max(i for i in range(program.command_count) if program.command(i)[0] is Opcode.RESCALE)
    result = run(network, changed(program, last, high=-3), config, images, backend="functional", jobs=jobs)
    simulated = run(network, changed(program, last, high=-3), config, images)
    assert result.mismatches
    assert (result.mismatches, result.difference) == (simulated.mismatches, simulated.difference)


def test_a_machine_that_stops_itself_is_named(digits, images):
    network, program, config = digits
    index = first_of(program, Opcode.LOAD)
    with pytest.raises(
        MachineStopped, match=rf"^inference 0: .* at command {index}: READ_REGION, address 0x[0-9a-f]{{8}}: "
    ):
        run(network, changed(program, index, memory_offset=0xFFFF_0000), config, images, backend="functional")


def test_what_a_run_is_refused_for(digits, images, tmp_path):
    network, program, config = digits
    with pytest.raises(ValueError, match="^`trace` needs the backend rtl"):
        run(network, program, config, images, backend="functional", trace=tmp_path / "waves.fst")
    with pytest.raises(ValueError, match="^`backend` must be rtl or functional, not verilog$"):
        run(network, program, config, images, backend="verilog")


def test_memory_is_bounded(monkeypatch):
    """A batch takes no more than it is given, on the machine with the most memory."""
    config = AcceleratorConfig.load("affine16x16")
    network = random_int8_network(5, elements=20_000, large=True)
    program = compile_network(network, config)
    monkeypatch.setattr(backend, "_MEMORY_BYTES", 64 << 20)
    count = batch_size(program, config)
    inputs = inputs_of(network, 0, count)
    tracemalloc.start()
    FunctionalMachine(program, config).infer(inputs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 8
    assert peak < 96 << 20
