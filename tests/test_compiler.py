"""The compiler against an interpreter of `docs/architecture.md` (`interpreter.py`), in the SBNQ scheme."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

from intaglio.compiler import Binding, compile_network
from intaglio.compiler.allocation import Request, place
from intaglio.compiler.steps import Conversion, Destination, Load, Pool, Rescale, Store, Walk, on_chip
from intaglio.compiler.views import Extents, Interval
from intaglio.compiler.waits import COUNT_LIMIT, Waits
from intaglio.compiler.windows import Geometry, Sweep, matmul_blocks
from intaglio.golden import model
from intaglio.network import (
    AffineRescale,
    Concatenation,
    NetworkError,
    Tensor,
    TensorType,
)
from intaglio.spec.commands import Engine, Opcode, Scheme
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS
from intaglio.spec.regions import Region
from tests.compiled import check, commands
from tests.interpreter import Machine
from tests.networks import Builder, draw, machine_of, random_network

SBNQ16 = AcceleratorConfig.load("sbnq16x16")
CONFIGS = [
    machine_of(),
    machine_of(rows=32, columns=7, accumulator_bits=32),
    machine_of(rows=5, columns=3, accumulator_depth=16),
    machine_of(rows=8, columns=8, rescale_lanes=2, activation_types=("uint8",), weight_type="int8"),
    machine_of(rows=7, columns=10, rescale_lanes=2, activation_types=("int8",), weight_type="ternary"),
    machine_of(
        rows=40, columns=12, activation_types=("int2", "uint2"), weight_type="int2", accumulator_depth=16
    ),
    machine_of(rows=16, columns=6, activation_types=("int8",), weight_type="binary"),
    machine_of(rows=32, columns=7, activation_types=("uint4",), accumulator_bits=16, rescales=("llsq",)),
    machine_of(
        rows=9,
        columns=4,
        activation_types=("uint2",),
        weight_type="int2",
        accumulator_bits=16,
        rescales=("llsq",),
    ),
    machine_of(rows=8, columns=7, activation_types=("int8",), weight_type="int8", rescales=("llsq", "sbnq")),
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.rows}x{c.columns}_{c.weight_type}_{c.element_bits}b"
)
def test_random_networks_equal_golden(config, seed):
    scratchpad = dataclasses.replace(config, scratchpad_bytes=1 << 18)
    check(random_network(seed, scratchpad), scratchpad, seed)


@pytest.mark.parametrize("kernel", range(1, 8))
def test_kernels_with_same_padding(kernel):
    before, after = (kernel - 1) // 2, kernel // 2
    builder = Builder(kernel, SBNQ16, (9, 11, 3), TensorType(8, False))
    builder.conv(18, (kernel, kernel), padding=(before, after, before, after)).conv(5, (3, 2), (2, 1))
    check(builder.build(), SBNQ16)


def test_rows_longer_than_the_accumulators():
    config = machine_of(accumulator_depth=16)
    builder = (
        Builder(1, config, (5, 70, 2)).conv(20, (3, 3), padding=(1, 1, 1, 1)).pool().conv(3, (1, 5), (1, 2))
    )
    program = check(builder.build(), config)
    positions = [values["positions"] for opcode, values in commands(program) if opcode is Opcode.RESCALE]
    assert max(positions) <= 16


def test_single_pixels_and_fully_connected_alone():
    builder = Builder(2, SBNQ16, (1, 1, 40)).conv(33, (1, 1)).fc(70).fc(10, signed=True)
    check(builder.build(), SBNQ16)
    check(Builder(3, SBNQ16, (300,), TensorType(8, False)).fc(17).build(), SBNQ16)


def test_an_array_of_one():
    config = machine_of(rows=1, columns=1, accumulator_depth=16)
    check(
        Builder(19, config, (4, 5, 2), TensorType(8, True))
        .conv(3, (2, 3))
        .pool((2, 1), (1, 1))
        .fc(2)
        .build(),
        config,
    )


def test_pooling_of_pooling_and_of_the_input():
    builder = (
        Builder(4, SBNQ16, (16, 17, 20)).pool((3, 3), (1, 2), (1, 1, 1, 0)).pool().conv(6, (3, 3)).pool()
    )
    program = check(builder.pool((2, 1), (1, 1)).fc(4).build(), SBNQ16)
    assert any(values["wait_pool"] for opcode, values in commands(program) if opcode is Opcode.MAX_POOL)


def test_branches_several_inputs_and_outputs():
    builder = Builder(5, SBNQ16, (10, 10, 4))
    builder.tensors["second"] = Tensor("second", (300,), TensorType(4, False))
    builder.conv(16, (3, 3)).conv(8, (3, 3)).pool(source="layer0_out").conv(7, (1, 1), source="layer1_out")
    builder.fc(12, source="second").pool(source="layer0_out").fc(3, source="layer2_out")
    network = builder.build(("layer0_out", "layer5_out", "layer6_out", "second"), ("input", "second"))
    program = check(network, SBNQ16, runs=6)
    assert [binding.tensor for binding in program.inputs] == ["input", "second"]
    assert [binding.tensor for binding in program.outputs] == list(network.outputs)


def test_a_last_layer_that_is_no_output():
    builder = Builder(6, SBNQ16, (6, 6, 4)).conv(8, (3, 3)).fc(9).fc(4)
    check(builder.build(("layer0_out",)), SBNQ16, runs=4)


def test_a_tensor_that_nobody_reads_is_whole_when_it_is_complete():
    builder = Builder(20, SBNQ16, (16, 16, 16)).conv(16, (3, 3)).pool(source="input").fc(5)
    program = check(builder.build(), SBNQ16, runs=5)
    dead, pooled = program.probes[:2]
    assert dead.address < pooled.address + pooled.elements
    assert pooled.address < dead.address + dead.elements


def test_scratchpad_is_used_again():
    config = machine_of(rows=8, columns=8, scratchpad_bytes=1024)
    builder = Builder(7, config, (8, 8, 8))
    for _ in range(8):
        builder.conv(8, (3, 3), padding=(1, 1, 1, 1)).pool((2, 2), (1, 1), (0, 1, 0, 1))
    program = check(builder.build(), config, runs=5)
    assert max(probe.address + probe.elements for probe in program.probes) <= 2048


def test_more_layers_than_time_stamps():
    config = machine_of(rows=2, columns=2, scratchpad_bytes=1024)
    builder = Builder(8, config, (4,))
    for _ in range(MARKS + 9):
        builder.fc(4)
    program = check(builder.build(), config, runs=1)
    assert [layer.mark for layer in program.layers] == [*range(MARKS - 1), *[MARKS - 1] * 10]


def test_binary_weights_whether_they_fill_the_lanes_or_not():
    config = machine_of(rows=4, weight_type="binary", activation_types=("uint8",))
    for seed, channels in enumerate((4, 1, 3)):
        builder = Builder(seed, config, (5, 9, channels)).conv(20, (3, 3), dilation=(1, 1 + seed))
        builder.layers[0].weights[...] = np.where(builder.layers[0].weights > 0, 1, -1)
        program = check(builder.build(), config)
        assert {values["digits"] for opcode, values in commands(program) if opcode is Opcode.MATMUL} == {1}


@pytest.mark.parametrize(("weight_type", "passes"), [("ternary", 7), ("binary", 8), ("int2", 7), ("int4", 3)])
def test_wider_weights_run_in_digits(weight_type, passes):
    config = machine_of(weight_type=weight_type, activation_types=("int8",), accumulator_bits=32)
    builder = Builder(9, config, (6, 5, 3)).conv(20, (3, 3), padding=(1, 1, 1, 1)).fc(10)
    for layer in builder.layers:
        layer.weights[...] = builder.rng.integers(-127, 128, layer.weights.shape)
    program = check(builder.build(), config)
    digits = {values["digits"] for opcode, values in commands(program) if opcode is Opcode.MATMUL}
    assert digits == {passes}
    builder.layers[0].weights.flat[0] = -128
    check(builder.build(), config)


def test_signed_results_wider_than_an_element():
    config = machine_of(
        rows=8, columns=7, activation_types=("uint2",), weight_type="int2", rescales=("llsq",)
    )
    builder = Builder(11, config, (40,), TensorType(8, False)).fc(10)
    tensor = builder.tensors["layer0_out"]
    builder.tensors["layer0_out"] = dataclasses.replace(tensor, type=TensorType(8, True))
    check(builder.build(), config)


def test_digits_of_activations_and_weights_are_not_mixed():
    config = machine_of(activation_types=("uint4",))
    builder = Builder(12, config, (4, 4, 2), TensorType(8, False)).conv(3, (1, 1))
    builder.layers[0].weights[...] = 100
    with pytest.raises(NetworkError, match="layer layer0: its input takes 2 digits on test, which then"):
        compile_network(builder.build(), config)


def test_without_waits_the_result_is_wrong():
    """What shows that the interpreter would notice."""
    builder = (
        Builder(10, SBNQ16, (16, 16, 4))
        .conv(16, (3, 3))
        .pool()
        .conv(20, (3, 3))
        .conv(24, (3, 3))
        .conv(8, (3, 3))
        .fc(10)
    )
    network = builder.build()
    program = compile_network(network, SBNQ16)
    image = draw(builder.rng, network.tensors["input"].type, (16, 16, 4))
    expected = model.run(network, image[None]).tensors[network.outputs[0]][0]
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(20):
        machine = Machine(program, SBNQ16, {"input": image}, rng, ignore_waits=True).run()
        wrong += not np.array_equal(machine.probes[network.outputs[0]], expected)
    assert wrong == 20


@pytest.fixture(scope="module")
def small():
    return Builder(11, SBNQ16, (12, 12, 3), TensorType(8, False)).conv(16, (3, 3)).pool().fc(10).build()


def test_program(small):
    program = compile_network(small, SBNQ16)
    assert (program.config, program.fingerprint) == ("sbnq16x16", SBNQ16.fingerprint)
    listed = program.image[program.command_offset :][: len(program.commands)]
    assert listed.tobytes() == program.commands
    assert len(program.listing()) == program.command_count
    assert [(layer.name, layer.op, layer.mark) for layer in program.layers] == [
        ("layer0", "Conv2D", 0), ("layer1", "MaxPool2D", 1), ("layer2", "FullyConnected", 2),
    ]  # fmt: skip
    assert sum(layer.macs for layer in program.layers) == small.macs
    assert {region for region, size in program.region_bytes.items() if size} == {
        Region.PROGRAM, Region.INPUT, Region.OUTPUT,
    }  # fmt: skip
    assert all(size % 64 == 0 for size in program.region_bytes.values())
    for binding in (*program.inputs, *program.outputs):
        assert binding.offset + binding.bytes <= program.region_bytes[binding.region]
    assert not program.warnings


def test_the_weights_of_all_blocks_are_stored_once():
    builder = Builder(12, SBNQ16, (40, 40, 16)).conv(16, (3, 3), padding=(1, 1, 1, 1))
    program = compile_network(builder.build(), SBNQ16)
    sent = [values for opcode, values in commands(program) if opcode is Opcode.WEIGHTS]
    assert sum(values["times"] * values["stretches"] for values in sent) > 4
    assert [values["stretches"] for values in sent] == [1]


def test_pooling_overlaps_the_convolution_before_it(small):
    names = [opcode for opcode, _ in commands(compile_network(small, SBNQ16))]
    assert names.index(Opcode.MAX_POOL) < len(names) - 1 - names[::-1].index(Opcode.MATMUL, 1)


def test_a_million_weights_pack_in_a_blink():
    builder = Builder(13, SBNQ16, (1024,)).fc(1024)
    start = time.perf_counter()
    program = compile_network(builder.build(), SBNQ16)
    assert time.perf_counter() - start < 5
    assert len(program.image) > 1024 * 1024 // 2


@pytest.mark.parametrize(
    ("kind", "element_bits", "digits"),
    [
        ((8, False), 4, 2),
        ((8, True), 2, 4),
        ((4, True), 4, 1),
        ((3, True), 4, 1),
        ((8, True), 8, 1),
        ((6, True), 4, 2),
    ],
)
def test_bindings_pack_and_unpack(kind, element_bits, digits):
    kind = TensorType(*kind)
    shape = (3, 5)
    binding = Binding(
        "x", shape, kind, Region.INPUT, 0, -(-15 * digits * element_bits // 8), digits, element_bits
    )
    batch = draw(np.random.default_rng(0), kind, (4, *shape))
    data = binding.pack(batch)
    assert data.shape == (4, binding.bytes)
    np.testing.assert_array_equal(binding.unpack(data), batch)
    if kind == TensorType(8, False):
        np.testing.assert_array_equal(data, batch.reshape(4, -1))


def test_four_bit_elements_begin_in_the_low_half():
    binding = Binding("x", (3,), TensorType(4, True), Region.INPUT, 0, 2, 1, 4)
    assert binding.pack([[1, -1, 5]]).tolist() == [[0xF1, 0x05]]
    with pytest.raises(NetworkError, match=r"input x: -9...0 is outside int4"):
        binding.pack([[0, 0, -9]])
    with pytest.raises(NetworkError, match="input x: integers are wanted, not float64"):
        binding.pack([[0.0, 0, 0]])
    with pytest.raises(
        NetworkError, match=r"input x: shape \(3,\) given, a batch of shape \(N, 3\) is wanted"
    ):
        binding.pack([1, 2, 3])


ONES = np.ones(16, np.int64)


def change(network, index=0, **fields):
    layers = list(network.layers)
    layers[index] = dataclasses.replace(layers[index], **fields)
    return dataclasses.replace(network, layers=tuple(layers))


def rescaled(network, **fields):
    return change(network, rescale=dataclasses.replace(network.layers[0].rescale, **fields))


@pytest.mark.parametrize(
    ("edit", "config", "message"),
    [
        (None, {"weight_type": "int2"}, "layer layer0: its input takes 2 digits on test, which then"),
        (lambda n: change(n, weights=n.layers[0].weights * 100, weight_type=TensorType(16, True)),
         {"weight_type": "int8"}, r"layer layer0: a weight is -800, test has int8 weights \(-128...127\)"),
        (None, {"activation_types": ("uint2",)}, "layer layer0: its output is uint4, test's rescale writes at most 2"),
        (None, {"activation_types": ("int4",)}, "layer layer0: its input input is uint8 and its low digits are unsig"),
        (None, {"activation_types": ("int4",)}, "layer layer2: its input layer1_out is uint4, test has int4"),
        (lambda n: rescaled(n, bias=np.arange(16) + (1 << 23) - 2), {}, "layer layer0: the bias of channel 2 is 8,388,"
         r"608, test takes -8,388,608...8,388,607 \(and 13 more\)"),
        (lambda n: change(n, rescale=AffineRescale(ONES, ONES, ONES, True, 0, 15)), {},
         "layer layer0: its rescale is affine, test has sbnq"),
        (None, {"accumulator_bits": 12}, "layer layer0: its sums may reach .* beyond 12 bits; the network wraps them "
         "at 24 bits, test at 12"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(small, edit, config, message):
    with pytest.raises(NetworkError, match=message) as caught:
        compile_network(edit(small) if edit else small, machine_of(**config))
    assert "\n" not in str(caught.value)


def test_a_layer_of_which_no_part_fits_is_named():
    config = machine_of(rows=4, columns=4, scratchpad_bytes=1024)
    builder = Builder(14, config, (20, 20, 4)).conv(8, (3, 3)).conv(8, (3, 3)).fc(10)
    with pytest.raises(
        NetworkError,
        match=r"^layer layer2: the smallest part of it needs 2,058 elements of scratchpad beside 0 of tables and what "
        r"must stay, test has 2,048$",
    ):
        compile_network(builder.build(), config)


def test_tensors_that_do_not_fit_lie_in_memory(small):
    program = check(small, machine_of(scratchpad_bytes=1024))
    assert program.spills
    assert not compile_network(small, machine_of(scratchpad_bytes=1 << 20)).spills


@pytest.mark.parametrize(("axis", "kernel"), [(0, (9, 1)), (1, (1, 12))])
def test_a_join_of_elements_narrower_than_a_byte_in_memory(axis, kernel):
    """Its strips may be no whole bytes: it goes through the chip as other layers do."""
    config = machine_of(rows=4, columns=4, scratchpad_bytes=4096)
    builder = Builder(21, config, (12, 16, 4)).conv(16, (1, 1)).conv(16, kernel, source="input")
    first, second = (
        dataclasses.replace(builder.tensors[f"layer{i}_out"], type=TensorType(4, False)) for i in range(2)
    )
    builder.tensors |= {first.name: first, second.name: second}
    joined = Concatenation("join", (first.name, second.name), "joined", axis)
    shape = joined.output_shape(first.shape, second.shape)
    builder.tensors["joined"] = dataclasses.replace(first, name="joined", shape=shape)
    builder.layers.append(joined)
    builder.conv(3, (1, 1), source="joined").conv(3, (1, 1), source="input")
    program = check(builder.build(("layer3_out", "layer4_out")), config)
    assert "joined" in {binding.tensor for binding in program.spills}


def test_a_field_out_of_range_names_the_layer():
    config = machine_of(scratchpad_bytes=1 << 20)
    builder = Builder(15, config, (300, 2, 1)).conv(1, (1, 1), stride=(256, 1))
    with pytest.raises(
        NetworkError, match="^layer layer0: too large for a command: `row_stride` of MATMUL must be"
    ):
        compile_network(builder.build(), config)


def test_padding_that_digits_cannot_hold():
    builder = Builder(16, SBNQ16, (5, 5, 1), TensorType(8, False)).conv(4, (3, 3), padding=(1, 1, 1, 1))
    tensors = dict(builder.tensors)
    tensors["input"] = dataclasses.replace(tensors["input"], zero_point=0x12)
    builder.tensors = tensors
    with pytest.raises(
        NetworkError, match="layer layer0: it pads with 18, whose 2 digits on sbnq16x16 differ"
    ):
        compile_network(builder.build(), SBNQ16)
    tensors["input"] = dataclasses.replace(tensors["input"], zero_point=0x33)
    check(builder.build(), SBNQ16)


def test_a_sum_that_may_not_fit_is_a_warning():
    config = machine_of(accumulator_bits=12)
    network = Builder(17, config, (6, 6, 16)).conv(8, (3, 3), signed=True).build()
    program = check(network, config)
    assert len(program.warnings) == 1
    assert program.warnings[0].startswith("layer layer0: its sums may reach ")
    assert "beyond 12 bits" in program.warnings[0]


def test_pooling_of_wide_values_is_refused():
    builder = Builder(18, SBNQ16, (6, 6, 3), TensorType(8, False)).pool().fc(3)
    with pytest.raises(
        NetworkError, match="layer layer0: max pooling of uint8 on sbnq16x16, whose activations have 4"
    ):
        compile_network(builder.build(), SBNQ16)


def test_blocks_cover_every_position():
    for rows, columns in itertools.product((1, 2, 7, 28, 100), (1, 3, 28, 256, 257, 1000)):
        whole = Extents(rows, columns, 1)
        blocks = matmul_blocks(Sweep(Geometry(), whole, 1, 1, 1, 0, 1), whole.whole, 1, SBNQ16)
        position = 0
        for block in blocks:
            assert block.row * columns + block.column == position
            assert 0 < block.positions <= SBNQ16.accumulator_depth
            assert block.columns == columns or block.rows == 1
            position += block.positions
        assert position == rows * columns


def test_placement_keeps_what_lives_together_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        requests = []
        for index in range(12):
            first = int(rng.integers(0, 10))
            requests.append(
                Request(str(index), int(rng.integers(1, 60)), first, first + int(rng.integers(0, 4)))
            )
        addresses, top = place(requests, 2)
        for a, b in itertools.combinations(requests, 2):
            if a.alive_with(b):
                assert addresses[a.what] + a.elements <= addresses[b.what] or (
                    addresses[b.what] + b.elements <= addresses[a.what]
                )
        assert top == max(addresses[r.what] + r.elements for r in requests)
        assert all(address % 2 == 0 for address in addresses.values())


def rescale_step(place):
    return Rescale(
        owner="a", conversion=Conversion(Scheme.SBNQ, 0, 0), bank=0, positions=1, columns=1, channels=1,
        destination=Destination(0, 0, 0), writes=on_chip(place),
    )  # fmt: skip


def pool_step(place):
    walk = Walk(*[1] * 15)
    return Pool(owner="a", walk=walk, channels=1, destination=Destination(0, 0, 0), writes=on_chip(place))


def store_step(*places):
    return Store(owner="a", memory=0, scratchpad=0, row_bytes=1, reads=on_chip(*places))


def test_waits_of_steps():
    first = rescale_step(Interval(0, 10))
    steps = [
        first,
        store_step(Interval(9, 12)),
        rescale_step(Interval(11, 20)),
        Load(owner="a", memory=0, scratchpad=0, row_bytes=1, writes=on_chip(Interval(25, 26))),
        pool_step(Interval(19, 20)),
    ]
    waits = Waits("n", steps, [(first, Interval(0, 30))])
    assert [dict(waits.of(step)) for step in steps] == [
        {}, {Engine.RESCALE: 1}, {Engine.STORE: 1}, {Engine.RESCALE: 1}, {Engine.RESCALE: 2},
    ]  # fmt: skip


def test_waits_that_the_schedule_names():
    first, last = store_step(), store_step()
    other = rescale_step(Interval(0, 1))
    other.after += [first, last]
    again = store_step()
    again.after += [first]  # one engine's own order
    waits = Waits("n", [first, last, other, again])
    assert dict(waits.of(other)) == {Engine.STORE: 2}
    assert not waits.of(again)


def test_a_list_too_long_for_the_counters():
    with pytest.raises(
        NetworkError, match=r"^network n: it needs 32,768 STORE commands, .* 32,767 \(1 too many\)$"
    ):
        Waits("n", [store_step() for _ in range(COUNT_LIMIT + 1)])
