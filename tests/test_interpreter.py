"""The interpreter on commands written by hand, against loops and against golden's functions."""

import dataclasses
import itertools

import numpy as np
import pytest

from intaglio.compiler import Probe, Program
from intaglio.golden import elementwise, max_pool2d, transcendental
from intaglio.golden.rescale import affine, sbnq
from intaglio.network import Add, FixedPointScale, Mul, Sub, Tensor, TensorType
from intaglio.sim.simulator.functional.interpreter import Stopped
from intaglio.spec.commands import FORMATS, Engine, Opcode, Operation, Scheme, encode
from intaglio.spec.regions import Region
from tests.interpreter import Machine, check_order, clocks
from tests.networks import machine_of

INT8 = TensorType(8, True)
IMAGE = {"region": Region.PROGRAM, "memory_offset": 0}
"""The first byte of the image."""
SCRATCH = {"region": Region.SCRATCH, "memory_offset": 0}
"""The first byte of what may be written as well, as large as the image."""


def int8_machine(**changes):
    fields = {"rows": 5, "columns": 6, "activation_types": ("int8",), "weight_type": "int8", "rescales": ("affine",),
              "accumulator_bits": 32, "scratchpad_bytes": 4096, "depthwise_taps": 3}  # fmt: skip
    return machine_of(**(fields | changes))


def program_of(config, commands, image=b"", probes=()):
    """A program of such (opcode, fields)."""
    code = b"".join(encode(opcode, values) for opcode, values in commands)
    size = -(-len(image) // 64) * 64
    return Program(
        network="by hand", config=config.name, fingerprint=config.fingerprint, commands=code, command_offset=0,
        region_bytes=dict.fromkeys(Region, 0) | {Region.PROGRAM: size, Region.SCRATCH: size},
        image=np.frombuffer(image.ljust(size, b"\0"), np.uint8), inputs=(), outputs=(), probes=probes, spills=(),
        layers=(), warnings=(),
    )  # fmt: skip


def machine_for(config, commands, scratchpad=None, image=b"", seed=0):
    """It has not run yet; `scratchpad`: values from element 0 on."""
    machine = Machine(program_of(config, commands, image), config, {}, np.random.default_rng(seed))
    if scratchpad is not None:
        values = np.asarray(scratchpad).ravel().astype(np.int64)
        machine.scratchpad[: len(values)] = values & ((1 << config.element_bits) - 1)
    return machine


def int8s(machine, start, *shape):
    count = int(np.prod(shape))
    return machine.scratchpad[start : start + count].astype(np.uint8).astype(np.int8).reshape(shape)


def beats(values, bits):
    """Integers of `bits` bits, packed from bit 0 on, in whole beats."""
    word = 0
    for index, value in enumerate(values):
        word |= (int(value) & ((1 << bits) - 1)) << (bits * index)
    return word.to_bytes(-(-len(values) * bits // 64) * 8, "little")


def affine_records(config, bias, multiplier, exponent):
    """Channels past the last have zeros."""
    fields = itertools.zip_longest(range(config.columns), bias, multiplier, exponent, fillvalue=0)
    return beats([int(b) & 2**32 - 1 | int(m) << 32 | (int(e) & 63) << 64 for _, b, m, e in fields], 96)


def tile(config, weights):
    """Rows past the last, and columns, have zeros."""
    whole = np.zeros((config.rows, config.columns), np.int64)
    whole[: len(weights), : weights.shape[1]] = weights
    return beats(whole.ravel(), config.weight.bits)


def streamed(config, tiles, records):
    """A weight stream and its WEIGHTS command."""
    stream = tiles[0] + records + b"".join(tiles[1:])
    return stream, (
        Opcode.WEIGHTS,
        {**IMAGE, "beats": len(stream) // 8, "times": 1, "stretches": 1},
    )


UNCHANGED = {"multiplier": 2**30, "exponent": 1}
CLAMPED = {"scheme": Scheme.AFFINE, "double": 1, "low": -128, "high": 127}


def test_depthwise_3x3_of_stride_2_is_a_loop():
    config = int8_machine()
    rng = np.random.default_rng(0)
    height, width, channels, pad = 7, 8, 5, -3
    image = rng.integers(-128, 128, (height, width, channels))
    weights = rng.integers(-128, 128, (3, 3, channels))
    bias = rng.integers(-999, 1000, channels)
    # Padding of 1 on the left and above: rows and columns 0, 2, 4, 6 less 1.
    rows, columns = 4, 4
    padded = np.full((height + 2, width + 2, channels), pad)
    padded[1:-1, 1:-1] = image
    expected = np.zeros((rows, columns, channels), np.int64)
    for oy, ox, ky, kx in itertools.product(range(rows), range(columns), range(3), range(3)):
        expected[oy, ox] += padded[2 * oy + ky, 2 * ox + kx] * weights[ky, kx]
    expected = affine(expected + bias, np.full(channels, 2**30), np.full(channels, -8), 4, -100, 100, True)

    records = affine_records(config, bias, [2**30] * channels, [-8] * channels)
    stream, weights_command = streamed(config, [tile(config, weights[ky, ::-1]) for ky in range(3)], records)
    matmul = {
        "source": 0, "width_elements": width * channels, "height": height, "first_row": -1,
        "first_element": -channels, "row_pitch": width * channels, "row_stride": 2, "column_stride": channels,
        "output_rows": rows, "output_columns": 2 * (columns - 1) + 3, "kernel_rows": 3, "kernel_row_step": 1,
        "kernel_columns": 1, "chunks": 1, "digits": 1, "signed": 1, "pad": pad & 255, "bank": 1,
        "depthwise": 1, "first_output": 2, "output_step": 2,
    }  # fmt: skip
    rescale = CLAMPED | {
        "bank": 1, "positions": rows * columns, "columns": columns, "channels": channels, "destination": 1000,
        "destination_pitch": 60, "pixel_pitch": channels + 2, "zero_point": 4, "low": -100, "high": 100,
        "wait_matmul": 1,
    }  # fmt: skip
    machine = machine_for(
        config, [weights_command, (Opcode.MATMUL, matmul), (Opcode.RESCALE, rescale)], image, stream
    ).run()
    for oy, ox in itertools.product(range(rows), range(columns)):
        found = int8s(machine, 1000 + 60 * oy + (channels + 2) * ox, channels)
        np.testing.assert_array_equal(found, expected[oy, ox])
    check_order(machine.program, machine)


def test_a_dilated_depthwise_row_takes_passes():
    """Of one probe each, and with one tile for all: a sum of columns 0, 2 and 4."""
    config = int8_machine()
    image = np.random.default_rng(1).integers(-40, 40, (1, 9, 6))
    stream, weights_command = streamed(
        config, [tile(config, np.ones((1, 6), int))], affine_records(config, [0] * 6, [2**30] * 6, [1] * 6)
    )
    matmul = {
        "width_elements": 54, "height": 1, "row_pitch": 54, "column_stride": 6, "output_rows": 1,
        "output_columns": 5, "kernel_rows": 1, "kernel_columns": 3, "kernel_column_step": 12, "chunks": 1,
        "digits": 1, "signed": 1, "depthwise": 1, "output_step": 1, "one_tile": 1,
    }  # fmt: skip
    rescale = CLAMPED | {"positions": 5, "columns": 5, "channels": 6, "destination": 99, "pixel_pitch": 6,
                         "wait_matmul": 1}  # fmt: skip
    machine = machine_for(
        config, [weights_command, (Opcode.MATMUL, matmul), (Opcode.RESCALE, rescale)], image, stream
    ).run()
    np.testing.assert_array_equal(int8s(machine, 99, 5, 6), image[0, 0:5] + image[0, 2:7] + image[0, 4:9])


def test_a_depthwise_pass_reads_lanes_with_weights_inside_the_tensor():
    config = int8_machine()
    weights = np.array([[1, 0, 2, 0], [0, 0, 1, 0]])
    stream, weights_command = streamed(config, [tile(config, weights)], affine_records(config, (), (), ()))
    matmul = {
        "width_elements": 12, "height": 1, "first_element": -4, "row_pitch": 12, "column_stride": 4,
        "output_rows": 1, "output_columns": 5, "kernel_rows": 1, "kernel_columns": 1, "chunks": 1, "digits": 1,
        "signed": 1, "depthwise": 1, "first_output": 1, "output_step": 3,
    }  # fmt: skip
    machine = machine_for(config, [weights_command, (Opcode.MATMUL, matmul)], image=stream).run()
    (touched,) = machine.reads[1].values()
    # Vectors 1 and 4 are kept, which are pixel 0 and one beyond the end; row 1 sees pixels -1 and 2.
    assert touched.tolist() == [0, 2, 10]


def rescaled(sums, records, config, **fields):
    """What RESCALE writes of `sums`, (positions, channels)."""
    positions, channels = sums.shape
    values = {"positions": positions, "columns": positions, "channels": channels, "pixel_pitch": channels}
    machine = machine_for(config, [(Opcode.RESCALE, values | fields)])
    machine.banks[0][:positions, :channels] = sums
    machine.parameters[0] = records
    return int8s(machine.run(), 0, positions, channels)


TIES = np.array([-(2**31), -1_000_001, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6, 250, 999_999, 2**31 - 1])


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("exponent", [-31, -9, -1, 0, 1, 2, 30, 31])
@pytest.mark.parametrize("multiplier", [0, 1, 2**30, 2**30 + 1, 3 << 29, 2**31 - 1])
def test_affine_rescale_is_goldens(double, exponent, multiplier):
    config = int8_machine()
    near = np.arange(-64, 65)
    for sums in np.array_split(np.concatenate([TIES, near, (near << 24) + 1]), 6):
        records = affine_records(config, [5], [multiplier], [exponent])
        fields = CLAMPED | {"double": int(double), "zero_point": -7, "low": -120, "high": 99}
        wrapped = (sums + 5 + 2**31) % 2**32 - 2**31
        expected = affine(wrapped, multiplier, exponent, -7, -120, 99, double)
        np.testing.assert_array_equal(rescaled(sums[:, None], records, config, **fields)[:, 0], expected)


def test_ties_of_both_roundings():
    """Halves go away from zero, but in double rounding the first half goes up."""
    config = int8_machine(columns=1)
    sums = np.array([[-6], [-3], [-2], [-1], [1], [2], [3], [6]])
    halved = affine_records(config, [0], [2**30], [0])
    assert rescaled(sums, halved, config, **CLAMPED)[:, 0].tolist() == [-3, -1, -1, 0, 1, 1, 2, 3]
    single = CLAMPED | {"double": 0}
    assert rescaled(sums, halved, config, **single)[:, 0].tolist() == [-3, -2, -1, -1, 1, 1, 2, 3]
    quartered = affine_records(config, [0], [2**30], [-1])
    assert rescaled(sums, quartered, config, **CLAMPED)[:, 0].tolist() == [-2, -1, -1, 0, 1, 1, 1, 2]
    assert rescaled(sums, quartered, config, **single)[:, 0].tolist() == [-2, -1, -1, 0, 0, 1, 1, 2]


def test_rows_of_a_rescale():
    config = int8_machine()
    sums = np.arange(14).reshape(7, 2)
    machine = machine_for(
        config,
        [(Opcode.RESCALE, CLAMPED | {"positions": 7, "columns": 3, "channels": 2, "destination": 4090,
                                     "destination_pitch": 20, "pixel_pitch": 5})],
    )  # fmt: skip
    machine.banks[0][:7, :2] = sums
    machine.parameters[0] = affine_records(config, [0, 0], [2**30] * 2, [1, 1])
    machine.run()
    for position in range(7):
        start = 4090 + position // 3 * 20 + position % 3 * 5
        found = machine.scratchpad[np.arange(start, start + 2) % 4096]
        np.testing.assert_array_equal(found, sums[position])


@pytest.mark.parametrize("signed", [False, True])
def test_sbnq_rescale_is_goldens(signed):
    config = machine_of(columns=8, scratchpad_bytes=1024)
    shift = np.array([-31, -3, -1, 0, 1, 5, 9, 31])
    bias = np.array([0, 3, -1, 8_388_607, -8_388_608, 77, 100, 1])
    records = beats([int(b) & 2**24 - 1 | (int(s) & 63) << 24 for b, s in zip(bias, shift, strict=True)], 32)
    sums = np.random.default_rng(2).integers(-(2**23), 2**23, (60, 8))
    sums[:20] >>= 15
    expected = np.clip(sbnq(sums, bias, shift, 4, signed, not signed), -6, 12)
    found = rescaled(sums, records, config, signed=int(signed), relu=int(not signed), low=-6, high=12)
    np.testing.assert_array_equal(found & 15, expected & 15)


def test_a_scheme_this_machine_does_not_implement():
    config = int8_machine()
    with pytest.raises(Stopped, match="command 0: ILLEGAL_FIELD"):
        rescaled(np.zeros((1, 1), int), bytes(80), config, scheme=Scheme.SBNQ)


POOL = {"height": 4, "width_elements": 15, "row_pitch": 15, "output_rows": 1, "output_columns": 1, "kernel_rows": 1,
        "kernel_columns": 1, "kernel_row_step": 1, "kernel_column_step": 3, "row_stride": 1, "column_stride": 3,
        "chunks": 1, "channels": 3, "signed": 1, "pixel_pitch": 3}  # fmt: skip


def test_a_pool_of_one_element_is_a_copy_with_padding():
    config = int8_machine()
    image = np.random.default_rng(3).integers(-128, 128, (4, 5, 3))
    fields = POOL | {
        "first_row": -1, "first_element": -6, "output_rows": 6, "output_columns": 8, "pad": 200,
        "destination": 500, "destination_pitch": 40, "pixel_pitch": 4,
    }  # fmt: skip
    machine = machine_for(config, [(Opcode.MAX_POOL, fields)], image).run()
    expected = np.pad(image, ((1, 1), (2, 1), (0, 0)), constant_values=200 - 256)
    for oy, ox in itertools.product(range(6), range(8)):
        np.testing.assert_array_equal(int8s(machine, 500 + 40 * oy + 4 * ox, 3), expected[oy, ox])


def test_a_pool_of_many_channels_is_goldens():
    config = int8_machine(rows=3, columns=3)
    image = np.random.default_rng(4).integers(-128, 128, (5, 6, 21)).astype(np.int8)
    fields = POOL | {
        "height": 5, "width_elements": 126, "row_pitch": 126, "first_row": -1, "output_rows": 3,
        "output_columns": 2, "kernel_rows": 3, "kernel_columns": 2, "kernel_column_step": 21, "row_stride": 2,
        "column_stride": 63, "chunks": 3, "channels": 21, "pad": 128, "destination": 1000, "pixel_pitch": 21,
        "destination_pitch": 42,
    }  # fmt: skip
    assert config.vector_lanes == 8
    machine = machine_for(config, [(Opcode.MAX_POOL, fields)], image).run()
    expected = max_pool2d(image[None], (3, 2), (2, 3), (1, 1, 0, 0))[0]
    np.testing.assert_array_equal(int8s(machine, 1000, 3, 2, 21), expected)


def scales(rng):
    return FixedPointScale(int(rng.integers(2**30, 2**31)), int(rng.integers(-3, 1)))


@pytest.mark.parametrize("layer_type", [Add, Sub, Mul])
@pytest.mark.parametrize("splat", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_sums_and_products_are_goldens(layer_type, splat, seed):
    config = int8_machine()
    rng = np.random.default_rng(seed)
    points = [int(v) for v in rng.choice([-128, -5, 0, 3, 127], 3)]
    points[2] = int(rng.integers(-40, 40))
    tensors = [Tensor("", (), INT8, None, point) for point in points]
    a = rng.integers(-128, 128, (9, 7))
    b = rng.integers(-128, 128, (9, 1 if splat else 7))
    last = FixedPointScale(
        int(rng.integers(2**30, 2**31)), -20 if layer_type is not Mul else -6, bool(seed % 2)
    )
    low, high = -90, 100
    operands = [scales(rng), scales(rng)]
    if layer_type is Mul:
        layer = Mul("", ("a", "b"), "c", last, low, high)
        expected = elementwise.mul(layer, a, b, (tensors[0], tensors[1]), tensors[2])
    else:
        layer = layer_type("", ("a", "b"), "c", *operands, last, low, high)
        expected = elementwise.add(layer, a, b, (tensors[0], tensors[1]), tensors[2])
    operation = {Add: Operation.ADD, Sub: Operation.SUBTRACT, Mul: Operation.MULTIPLY}[layer_type]
    fields = {
        "operation": operation, "pixels": 9, "channels": 7, "a_source": 0, "a_pitch": 7, "b_source": 63,
        "b_pitch": b.shape[1], "b_splat": int(splat), "destination": 200, "pitch": 8, "multiplier": last.multiplier,
        "exponent": last.exponent, "double": int(last.double_rounding), "low": low, "high": high,
        "a_zero_point": points[0], "b_zero_point": points[1], "zero_point": points[2],
    }  # fmt: skip
    for name, scale in zip("ab", operands, strict=True):
        fields |= {f"{name}_multiplier": scale.multiplier, f"{name}_shift": -scale.exponent}
    memory = np.concatenate([a.ravel(), b.ravel()])
    machine = machine_for(config, [(Opcode.ELEMENTWISE, fields)], memory).run()
    assert len(np.unique(expected)) > 8
    found = np.array([int8s(machine, 200 + 8 * pixel, 7) for pixel in range(9)])
    np.testing.assert_array_equal(found, expected)


def test_lookup():
    config = int8_machine()
    rng = np.random.default_rng(5)
    table, values = rng.integers(-128, 128, 256), rng.integers(-128, 128, 40)
    load = {"operation": Operation.LOAD_TABLE, "pixels": 1, "channels": 256, "a_source": 100}
    lookup = {
        "operation": Operation.LOOKUP,
        "pixels": 5,
        "channels": 8,
        "a_pitch": 8,
        "destination": 400,
        "pitch": 9,
    }
    memory = np.concatenate([values, np.zeros(60, int), table])
    machine = machine_for(config, [(Opcode.ELEMENTWISE, load), (Opcode.ELEMENTWISE, lookup)], memory).run()
    for run in range(5):
        found = int8s(machine, 400 + 9 * run, 8)
        np.testing.assert_array_equal(found, table[values[8 * run : 8 * run + 8] % 256])


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 2500])
@pytest.mark.parametrize(("multiplier", "exponent", "least"), [(2**30, 24, -255), (1_900_000_000, 20, -200),
                                                               (2**30, 29, -3)])  # fmt: skip
def test_softmax_is_goldens(count, multiplier, exponent, least):
    config = int8_machine(scratchpad_bytes=16384)
    rng = np.random.default_rng(count)
    scale = FixedPointScale(multiplier, exponent)
    values = np.stack(
        [rng.integers(-128, 128, count), np.full(count, rng.integers(-128, 128)), rng.integers(90, 99, count)]
    )
    table = transcendental.softmax_table(scale, least)
    planes = table >> (8 * np.arange(4)[:, None])
    load = {"operation": Operation.LOAD_TABLE, "pixels": 4, "channels": 256, "a_pitch": 300}
    memory = np.zeros(1300 + values.size, np.int64)
    for plane in range(4):
        memory[300 * plane :][:256] = planes[plane]
    memory[1300:] = values.ravel()
    run = {"operation": Operation.SOFTMAX, "pixels": 3, "channels": count, "a_source": 1300, "a_pitch": count,
           "destination": 8800, "pitch": count}  # fmt: skip
    machine = machine_for(config, [(Opcode.ELEMENTWISE, load), (Opcode.ELEMENTWISE, run)], memory & 255).run()
    np.testing.assert_array_equal(
        int8s(machine, 8800, 3, count), transcendental.softmax(values, scale, least)
    )


def test_rows_to_memory_and_back():
    config = int8_machine()
    pixels = np.arange(24).reshape(4, 6)
    move = SCRATCH | {"memory_offset": 3, "rows": 4, "row_bytes": 5, "memory_pitch": 11}
    there = (Opcode.STORE, move | {"scratchpad_address": 1, "scratchpad_pitch": 6})
    back = (Opcode.LOAD, move | {"scratchpad_address": 4094, "scratchpad_pitch": 9, "wait_store": 1})
    machine = machine_for(config, [there, back], pixels, bytes(64)).run()
    for row in range(4):
        found = machine.scratchpad[np.arange(4094 + 9 * row, 4099 + 9 * row) % 4096]
        np.testing.assert_array_equal(found, pixels[row, 1:])
    check_order(machine.program, machine)


STORE = {**SCRATCH, "rows": 1, "row_bytes": 8}


def ordered(config, commands, probes=()):
    machine = machine_for(config, commands, image=bytes(128))
    machine.program = dataclasses.replace(machine.program, probes=probes)
    check_order(machine.program, machine.run())


def test_a_load_of_what_a_store_writes_must_wait():
    config = int8_machine()
    load = STORE | {"memory_offset": 7, "scratchpad_address": 100}
    with pytest.raises(
        AssertionError, match=r"command 1 \(LOAD#1\) reads memory 135, written by STORE#1, unorder"
    ):
        ordered(config, [(Opcode.STORE, STORE), (Opcode.LOAD, load)])
    ordered(config, [(Opcode.STORE, STORE), (Opcode.LOAD, load | {"wait_store": 1})])
    ordered(config, [(Opcode.STORE, STORE), (Opcode.LOAD, load | {"memory_offset": 8})])


def test_a_store_over_what_a_load_reads_must_wait():
    config = int8_machine()
    load = STORE | {"scratchpad_address": 100}
    with pytest.raises(
        AssertionError, match=r"command 1 \(STORE#1\) writes memory 128, read by LOAD#1, unordered"
    ):
        ordered(config, [(Opcode.LOAD, load), (Opcode.STORE, STORE)])
    ordered(config, [(Opcode.LOAD, load), (Opcode.STORE, STORE | {"wait_load": 1})])


def test_waits_are_inherited():
    """POOL waits for LOAD, STORE for POOL: the last LOAD may overwrite what the first read."""
    config = int8_machine()
    pool = POOL | {"destination": 200, "wait_load": 1}
    commands = [
        (Opcode.LOAD, STORE), (Opcode.MAX_POOL, pool),
        (Opcode.STORE, STORE | {"scratchpad_address": 200, "row_bytes": 3, "memory_offset": 64,
                                "wait_pool": 1}),
        (Opcode.LOAD, STORE | {"wait_store": 1}),
    ]  # fmt: skip
    ordered(config, commands)
    assert clocks(program_of(config, commands))[3][Engine.POOL] == 1
    commands[2][1]["wait_pool"] = 0
    with pytest.raises(AssertionError, match=r"STORE#1\) reads scratchpad 200, written by POOL#1, unordered"):
        ordered(config, commands)


def test_an_engine_that_reads_its_own_result_must_wait():
    config = int8_machine()
    first, second = POOL | {"destination": 200}, POOL | {"source": 200, "destination": 300}
    with pytest.raises(AssertionError, match=r"POOL#2\) reads scratchpad 200, written by POOL#1, unordered"):
        ordered(config, [(Opcode.MAX_POOL, first), (Opcode.MAX_POOL, second)])
    ordered(config, [(Opcode.MAX_POOL, first), (Opcode.MAX_POOL, second | {"wait_pool": 1})])


def test_a_bank_must_be_drained_before_it_is_filled():
    config = int8_machine()
    stream, weights = streamed(
        config, [tile(config, np.ones((1, 1), int))], affine_records(config, (), (), ())
    )
    matmul = {name: 1 for name in FORMATS[Opcode.MATMUL].nonzero} | {
        "signed": 1,
        "height": 1,
        "width_elements": 1,
    }
    rescale = CLAMPED | {"positions": 1, "columns": 1, "channels": 1, "destination": 50, "wait_matmul": 1}
    commands = [
        weights,
        (Opcode.MATMUL, matmul),
        (Opcode.RESCALE, rescale),
        weights,
        (Opcode.MATMUL, dict(matmul)),
    ]
    image = stream.ljust(128, b"\0")
    machine = machine_for(config, commands, image=image).run()
    with pytest.raises(
        AssertionError, match=r"command 4 \(MATMUL#2\) writes accumulators 0, read by RESCALE#1"
    ):
        check_order(machine.program, machine)
    commands[4][1]["wait_rescale"] = 1
    machine = machine_for(config, commands, image=image).run()
    check_order(machine.program, machine)


def test_a_tap_is_whole_and_stays_so():
    config = int8_machine()
    probe = Probe(Engine.POOL, 1, "x", 200, 3, (3,), INT8, 1, 8)
    pool = (Opcode.MAX_POOL, POOL | {"destination": 200})
    over = STORE | {"scratchpad_address": 202}
    with pytest.raises(AssertionError, match=r"LOAD#1\) writes scratchpad 202, (read|written) by POOL#1"):
        ordered(config, [pool, (Opcode.LOAD, over)], (probe,))
    ordered(config, [pool, (Opcode.LOAD, over | {"wait_pool": 1})], (probe,))
    probe = dataclasses.replace(probe, address=201)
    with pytest.raises(AssertionError, match="x may not be whole at POOL#1: LOAD#1"):
        ordered(config, [(Opcode.LOAD, STORE | {"scratchpad_address": 203, "row_bytes": 1}), pool], (probe,))


def test_garbage_is_noticed():
    """What no command wrote differs from run to run."""
    config = int8_machine()
    command = (Opcode.MAX_POOL, POOL | {"destination": 500})
    found = {tuple(machine_for(config, [command], seed=seed).run().scratchpad[500:503]) for seed in range(3)}
    assert len(found) == 3


DEPTHWISE = {name: 1 for name in FORMATS[Opcode.MATMUL].nonzero} | {
    "signed": 1, "depthwise": 1, "output_step": 1, "width_elements": 6, "height": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("opcode", "values", "message"),
    [
        (Opcode.MAX_POOL, POOL | {"destination": 2}, "writes what it reads"),
        (Opcode.MAX_POOL, POOL | {"destination": 200, "output_columns": 2, "pixel_pitch": 2}, "an element twice"),
        (Opcode.STORE, STORE | {"rows": 2}, "a byte twice"),
        (Opcode.MATMUL, DEPTHWISE | {"output_columns": 4, "output_step": 2}, "whose last vector is not kept"),
        (Opcode.MATMUL, DEPTHWISE | {"row_overlap": 63, "first_output": 0}, "rows that share as many vectors"),
        (Opcode.MATMUL, DEPTHWISE | {"row_overlap": 1, "first_output": 0}, "sums of a row before the first"),
        (Opcode.MATMUL, DEPTHWISE | {"signed": 0}, "unsigned elements on a machine that has none"),
        (Opcode.MATMUL, DEPTHWISE | {"chunks": 2}, "a depthwise command of several chunks"),
        (Opcode.MATMUL, DEPTHWISE, "weights beyond the taps of the first output"),
        (Opcode.RESCALE, CLAMPED | {"positions": 1, "columns": 1, "channels": 1, "low": 9, "high": 8}, "wrong order"),
    ],
)  # fmt: skip
def test_what_no_program_may_do(opcode, values, message):
    with pytest.raises(AssertionError, match=message):
        machine_for(
            int8_machine(),
            [
                (Opcode.WEIGHTS, {**IMAGE, "beats": 16, "times": 1, "stretches": 1}),
                (opcode, values),
            ],
            image=bytes([1]) * 128,
        ).run()
