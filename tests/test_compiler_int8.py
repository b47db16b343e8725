"""The compiler against an interpreter of `docs/architecture.md` (`interpreter.py`): whole int8 graphs."""

import contextlib
import dataclasses

import numpy as np
import pytest

from intaglio import golden
from intaglio.compiler import compile_network
from intaglio.network import AffineRescale, FullyConnected, NetworkError, TensorType
from intaglio.spec.commands import WAITED, Opcode, encode
from intaglio.spec.config import AcceleratorConfig
from tests.compiled import check, commands
from tests.interpreter import Machine, check_order
from tests.networks_int8 import Int8Builder, int8_machine, random_int8_network

MACHINES = {
    "8x8": int8_machine(),
    "affine8x8": AcceleratorConfig.load("affine8x8"),
    "3x5": int8_machine(rows=3, columns=5, depthwise_taps=2, accumulator_depth=16),
    "16x4": int8_machine(rows=16, columns=4, depthwise_taps=5),
    "two lines": int8_machine(rows=16, columns=4, depthwise_taps=3, line_buffer_rows=2),
    "short lines": int8_machine(
        rows=7, columns=5, depthwise_taps=1, line_buffer_rows=3, line_buffer_columns=16
    ),
    "1x1": int8_machine(rows=1, columns=1, depthwise_taps=1, accumulator_depth=16),
    "no depthwise": int8_machine(rows=5, columns=6, depthwise_taps=0),
    "one probe": int8_machine(rows=9, columns=3, depthwise_taps=1),
    "lanes of the array's": int8_machine(rows=4, columns=12, depthwise_taps=4, rescale_lanes=2),
    "both schemes": int8_machine(rescales=("sbnq", "affine"), rows=7),
    "4 KiB": int8_machine(rows=6, columns=4, scratchpad_bytes=4096),
    "128 bits": int8_machine(columns=4, bus_bits=128),
}
SMALL = {
    "2 KiB": int8_machine(scratchpad_bytes=2048),
    "2 KiB, 4x12": int8_machine(rows=4, columns=12, rescale_lanes=2, scratchpad_bytes=2048),
    "2 KiB, 3x5, no depthwise": int8_machine(rows=3, columns=5, depthwise_taps=0, scratchpad_bytes=2048),
    "4 KiB, 6x4": int8_machine(rows=6, columns=4, scratchpad_bytes=4096, accumulator_depth=16),
}
IN_PARTS = ("conv", "depthwise", "max_pool", "average_pool", "unary", "residual")
"""What can be computed in parts of any image."""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_equal_golden(machine, seed):
    elements = 120 if machine == "1x1" else 700
    check(random_int8_network(seed, elements=elements), MACHINES[machine], seed)


def large_network(seed):
    """Its tensors are larger than a small machine's scratchpad. Inputs that are outputs would have to stay there."""
    network = random_int8_network(seed, (3000, 5000, 8000)[seed % 3], IN_PARTS, large=True)
    written = tuple(name for name in network.outputs if name not in network.inputs)
    return dataclasses.replace(network, outputs=written)


@pytest.mark.parametrize("machine", SMALL)
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_in_parts_equal_golden(machine, seed):
    check(large_network(seed), SMALL[machine], seed, runs=1)


def test_large_networks_are_stored_and_loaded_again():
    config = SMALL["2 KiB"]
    programs = [compile_network(large_network(seed), config) for seed in range(8)]
    assert sum(len(program.spills) for program in programs) > 20
    for program in programs:
        ends = {
            which: {
                (values["region"], values["memory_offset"])
                for opcode, values in commands(program)
                if opcode is which
            }
            for which in (Opcode.LOAD, Opcode.STORE)
        }
        assert not program.spills or ends[Opcode.LOAD] & ends[Opcode.STORE]


def built(seed, *shapes):
    builder = Int8Builder(seed)
    return builder, *(builder.input(shape) for shape in shapes)


def test_what_follows_an_average_whose_windows_differ_side_by_side():
    """Its blocks are not in the order of rows: at the edges windows hold fewer elements."""
    builder, source = built(0, (7, 6, 5))
    pooled = builder.average_pool(source, (3, 3), (1, 1), (1, 1, 1, 1))
    builder.requantize(pooled)
    builder.max_pool(pooled, (2, 2), (1, 1))
    for machine in MACHINES.values():
        check(builder.build(), machine, runs=4)


FOLDS = {"rows": 8, "columns": 6, "rescale_lanes": 2, "accumulator_depth": 32}
"""Of 8 channels on 6 columns the last 2 leave room for three positions."""


def last_channels(network, config):
    """The channels before which RESCALE writes none, in a program that is right; what they hold differs by position."""
    program = check(network, config)
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(-128, 128, (1, *network.tensors[name].shape)) for name in network.inputs}
    for layer in network.layers:
        (values,) = golden.run(network, inputs).tensors[layer.output][..., 6:]
        assert all((values[:, :1] != values).any(axis=(0, 1)))
    return {values["first_channel"] for opcode, values in commands(program) if opcode is Opcode.RESCALE}


@pytest.mark.parametrize(("columns", "across"), [(6, 3), (7, 1), (4, 2), (9, 3)])
def test_the_last_channels_of_positions_side_by_side(columns, across):
    """Where a layer's last group has few channels, as many positions as divide a row share the array, or none."""
    builder, source = built(21, (5, columns, 3))
    hidden = builder.conv(source, 8, (3, 3), (1, 1), (1, 1, 1, 1))
    builder.conv(hidden, 8, (1, 1))
    firsts = last_channels(builder.build(), int8_machine(**FOLDS))
    assert firsts == {2 * position for position in range(across)}


@pytest.mark.parametrize(("scratchpad_bytes", "firsts"), [(1024, {0}), (8192, {0, 2, 4})])
def test_parts_of_columns_that_are_no_multiple_of_those_side_by_side(scratchpad_bytes, firsts):
    """A row that does not fit is cut where it has to be; its last channels are then computed as all others."""
    builder, source = built(21, (4, 90, 6))
    builder.conv(source, 8, (3, 3), (1, 1), (1, 1, 1, 1))
    config = int8_machine(**FOLDS, scratchpad_bytes=scratchpad_bytes)
    assert last_channels(builder.build(), config) == firsts


def test_an_input_that_is_an_output():
    """It is stored from where it lies on chip."""
    builder, source = built(1, (20, 20, 8))
    builder.conv(source, 4, (3, 3))
    network = builder.build([source, "layer0_out"])
    program = check(network, MACHINES["4 KiB"])
    assert [binding.tensor for binding in program.outputs] == [source, "layer0_out"]
    with pytest.raises(NetworkError, match="layer layer0: .* what must stay"):
        check(network, SMALL["2 KiB"])


def test_an_output_that_is_an_input_in_another_shape():
    builder, source = built(1, (20, 20, 8))
    shaped = builder.reshape(source, (40, 80))
    builder.conv(source, 4, (3, 3))
    network = builder.build([shaped, "layer1_out"])
    check(network, MACHINES["4 KiB"])
    with contextlib.suppress(NetworkError):  # it may have to stay on chip
        check(network, SMALL["2 KiB"])


@pytest.mark.parametrize(("exponent", "weight"), [(31, 1), (0, 0), (-31, 1), (31, 0), (31, -128)])
def test_real_factors_at_their_ends(exponent, weight):
    builder, source = built(2, (3,))
    rescale = AffineRescale(
        np.zeros(2, np.int64), np.full(2, 2**30), np.full(2, exponent), False, -128, 127,
        real=np.full(2, 2.0 ** (exponent - 1)),
    )  # fmt: skip
    weights = np.full((2, 3), weight)
    builder.add_layer(
        FullyConnected, (source,), 5, weights=weights, weight_type=TensorType(8, True), rescale=rescale,
        accumulator_bits=32,
    )  # fmt: skip
    check(builder.build(), MACHINES["8x8"])


@pytest.mark.parametrize("axis", range(3))
def test_what_is_joined_into_a_part_of_what_is_joined(axis):
    builder, source = built(3, (4, 3, 8))
    again = builder.requantize(source, builder.tensors[source].zero_point)
    joined = builder.concatenate([source, again], axis)
    constant = builder.constant((*builder.shape(joined)[:2], 5), builder.tensors[source].zero_point)
    builder.concatenate([joined, constant, joined] if axis == 1 else [joined, constant], 2)
    check(builder.build(), MACHINES["8x8"])


def test_a_slice_of_a_tensor_in_memory():
    """More than a window can: it goes backwards."""
    builder, source = built(5, (8, 32, 12))
    builder.slice(source, (3, 9, 7), (3, 5, 4), (-1, 2, -1))
    builder.requantize(source)
    check(builder.build(), MACHINES["4 KiB"])


@pytest.mark.parametrize(("outputs", "side_by_side"), [(1, 8), (2, 4), (3, 2), (4, 2), (5, 1)])
def test_positions_of_few_channels_side_by_side(outputs, side_by_side):
    """As many as there are columns of the array for, of those that the row divides into."""
    builder, source = built(6, (5, 16, 3))
    builder.conv(source, outputs, (3, 3), (1, 1), (1, 1, 1, 1))
    program = check(builder.build(), MACHINES["8x8"])
    columns = {values["columns"] for opcode, values in commands(program) if opcode is Opcode.RESCALE}
    assert columns == {16 // side_by_side}


def test_what_is_joined_or_dilated_stays_a_position_at_a_time():
    builder, source = built(7, (5, 8, 3))
    one = builder.conv(source, 2, (3, 3), (1, 1), (1, 1, 1, 1))
    two = builder.requantize(one)
    builder.concatenate([two, one], 2)
    check(builder.build(), MACHINES["8x8"])
    builder, source = built(8, (7, 8, 3))
    builder.conv(source, 2, (3, 2), (1, 1), (2, 2, 1, 1), (1, 2))
    program = check(builder.build(), MACHINES["8x8"])
    assert {values["columns"] for opcode, values in commands(program) if opcode is Opcode.RESCALE} == {8}


def test_a_large_image_and_many_channels():
    """224 x 224 x 3 to 1,280 channels, in tensors of which the first are larger than the scratchpad."""
    builder, source = built(4, (224, 224, 3))
    last = builder.conv(source, 8, (3, 3), (2, 2), (0, 1, 0, 1))
    last = builder.depthwise(last, 1, (3, 3), (2, 2), (0, 1, 0, 1))
    last = builder.conv(last, 16, (1, 1))
    last = builder.depthwise(last, 1, (5, 5), (4, 4), (1, 2, 1, 2))
    last = narrow = builder.conv(last, 24, (1, 1))
    last = builder.depthwise(builder.conv(last, 48, (1, 1)), 1, (3, 3), (1, 1), (1, 1, 1, 1))
    last = builder.add(narrow, builder.conv(last, 24, (1, 1)))
    last = builder.depthwise(last, 1, (3, 3), (2, 2), (1, 1, 1, 1))
    last = builder.conv(last, 1280, (1, 1))
    builder.fc(builder.mean(last, (0, 1)), 10)
    program = check(builder.build(), MACHINES["affine8x8"], runs=1)
    assert program.spills


@pytest.mark.parametrize("engine", WAITED)
def test_waits_for_an_engine_left_out_are_noticed(engine):
    """What shows that the proof of order sees all that is ordered, of tensors in memory as well."""
    config = SMALL["2 KiB"]
    builder, source = built(6, (16, 16, 9))
    first = builder.tanh(builder.conv(source, 12, (3, 3), (1, 1), (1, 1, 1, 1)))
    builder.add(first, builder.depthwise(builder.max_pool(first, (1, 1), (1, 1)), padding=(1, 1, 1, 1)))
    network = builder.build()
    program = check(network, config, runs=1)
    assert program.spills
    waiting = [
        encode(opcode, {name: v for name, v in values.items() if name != f"wait_{engine.name.lower()}"})
        for opcode, values in commands(program)
    ]
    careless = dataclasses.replace(program, commands=b"".join(waiting))
    machine = Machine(careless, config, {source: builder.samples[source][0]}, np.random.default_rng(0)).run()
    with pytest.raises(AssertionError, match=f"{engine.name}#.*(unordered|whole)|whole at {engine.name}"):
        check_order(careless, machine)
