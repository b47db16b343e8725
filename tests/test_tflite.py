"""What is read from a .tflite file, what arithmetic it becomes for each runtime, and what is refused, all at once."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from bench.tflite_builder import SAME, VALID, Builder
from intaglio import golden
from intaglio.network import (
    AffineRescale,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    NetworkError,
    Requantize,
    Reshape,
)
from intaglio.network.formats import tflite
from intaglio.network.formats.tflite.supported import SUPPORTED
from intaglio.network.importing.scales import quantized_multiplier
from intaglio.network.load import load
from tests import tflite_cases


def ints(b: Builder, *values: object) -> int:
    return b.constant(np.array(values, np.int32))


def layers(b: Builder, runtime: str = "litert"):
    return tflite.loads(b.bytes(), runtime).layers


def test_a_convolution_as_read() -> None:
    b = tflite_cases.small_network(1, False)
    network = tflite.loads(b.bytes(), name="small")
    assert (network.name, network.source_format) == ("small", "TensorFlow Lite")
    assert (network.inputs, network.outputs) == (("t0",), ("t8",))
    source = network.tensors["t0"]
    assert (source.shape, str(source.type), source.zero_point) == ((6, 5, 3), "int8", -3)
    assert source.scale == float(np.float32(0.05))
    conv, mean, connected = network.layers
    assert isinstance(conv, Conv2D)
    assert isinstance(mean, Mean)
    assert isinstance(connected, FullyConnected)
    assert (conv.stride, conv.padding, conv.dilation) == ((2, 2), (0, 1, 1, 1), (1, 1))
    assert conv.accumulator_bits == 32
    weights, bias = b.tensors[1].data, b.tensors[2].data
    assert weights is not None
    assert bias is not None
    assert np.array_equal(conv.weights, weights)
    rescale = conv.rescale
    assert isinstance(rescale, AffineRescale)
    # Eq. 7: the input's zero point goes into the bias.
    assert rescale.bias.tolist() == [
        int(c) + 3 * int(w.astype(int).sum()) for c, w in zip(bias, weights, strict=True)
    ]
    assert (rescale.low, rescale.high) == (4, 127)  # the fused ReLU, at the output's zero point
    assert rescale.double_rounding
    for m, e, scale in zip(rescale.multiplier, rescale.exponent, [0.01, 0.02, 0.03, 0.005], strict=True):
        assert 2**30 <= m < 2**31
        assert abs(m * 2.0 ** (int(e) - 31) / (0.05 * scale / 0.3) - 1) < 1e-6


def last_rescale(network: Network) -> AffineRescale:
    layer = network.layers[-1]
    assert isinstance(layer, FullyConnected)
    assert isinstance(layer.rescale, AffineRescale)
    return layer.rescale


def test_the_runtime_decides_how_a_fully_connected_layer_rounds(tmp_path) -> None:
    path = tmp_path / "n.tflite"
    path.write_bytes(tflite_cases.small_network(1, False).bytes())
    once, twice = (last_rescale(load(path, runtime=runtime)) for runtime in ("litert", "tflm"))
    assert not once.double_rounding
    assert twice.double_rounding
    assert once.real is not None
    assert twice.real is None
    assert np.array_equal(once.multiplier, twice.multiplier)
    assert (
        once.real.tolist() == [float(np.float32(0.2)) * float(np.float32(0.02)) / float(np.float32(0.1))] * 5
    )
    with pytest.raises(NetworkError, match="unknown runtime 'cmsis'"):
        load(path, runtime="cmsis")
    with pytest.raises(NetworkError, match="unknown runtime 'cmsis'"):
        tflite.loads(path.read_bytes(), "cmsis")


@pytest.mark.parametrize(
    ("real", "multiplier", "exponent"),
    [
        (0.5, 1 << 30, 0),
        (1.0, 1 << 30, 1),
        (0.75, 3 << 29, 0),
        (1 - 2.0**-33, 1 << 30, 1),  # rounds to 2**31, which is halved
        (2.0**-32, 1 << 30, -31),
        (2.0**-33, 0, 0),  # below the least
        (-0.75, -(3 << 29), 0),
        (2.0**29, 1 << 30, 30),
    ],
)
def test_the_multiplier_of_a_real_factor(real: float, multiplier: int, exponent: int) -> None:
    scale = quantized_multiplier(real)
    assert (scale.multiplier, scale.exponent) == (multiplier, exponent)


def test_all_that_is_not_supported_is_said_at_once() -> None:
    b = Builder()
    x = b.input((1, 4, 4, 3), 0.1, 0)
    parameters = ((1, 4, 4, 3), 0.1, 0)
    lost = b.tensor(*parameters, name="lost")
    b.operator("ABS", [x], [lost])
    after = b.tensor(*parameters)
    b.operator("RELU", [lost], [after])  # reads what is refused: not refused again
    good = b.tensor(*parameters)
    b.operator("RELU", [x], [good])
    wide = b.tensor((1, 4, 4, 3), 0.1, 0, dtype=np.int16, name="wide")
    b.operator("QUANTIZE", [good], [wide], [])
    odd = b.tensor((1, 4, 4, 3), 0.2, 0, name="odd")
    b.operator("PAD", [good, ints(b, [0, 0], [0, 0], [0, 0], [0, 0])], [odd], [])
    b.operator("CUMSUM", [good], [b.tensor(*parameters, name="sums")])
    b.outputs = [after, odd]
    with pytest.raises(NetworkError) as refused:
        tflite.loads(b.bytes(), where="model.tflite")
    where, message = str(refused.value).split(": ", 1)
    assert where == "model.tflite"
    said = message.split("; operator ")
    assert [part.split(":")[0].removeprefix("operator ") for part in said] == [
        "0 ABS (lost)",
        "3 QUANTIZE (wide)",
        "4 PAD (odd)",
        "5 CUMSUM (sums)",
    ]
    assert said[0].endswith("it is not supported")
    assert said[1].endswith("wide is int16; int8 is supported")
    assert said[2].endswith("its inputs and outputs differ in scale or zero point")
    assert said[3].endswith("it is not supported")


@pytest.mark.parametrize("op", ["LSTM", "DIV", "CUSTOM", "TRANSPOSE_CONV", "RESIZE_BILINEAR"])
def test_other_operators_are_named(op: str) -> None:
    b = Builder()
    x = b.input((1, 4), 0.1, 0)
    y = b.tensor((1, 4), 0.1, 0, name="y")
    b.operator(op, [x], [y])
    b.outputs = [y]
    name = "custom operator ''" if op == "CUSTOM" else op
    with pytest.raises(NetworkError, match=re.escape(f"operator 0 {name} (y): it is not supported")):
        layers(b)


def test_the_operator_is_the_greater_of_both_fields() -> None:
    """Some writers leave the deprecated field, a byte, at 0, which is ADD."""
    b = Builder()
    x = b.input((1, 2, 2, 1), 0.1, 0)
    y = b.tensor((1, 1, 1, 1), 0.1, 0)
    b.operator("MAX_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, 0])
    b.outputs = [y]
    b.deprecated_codes = False
    (layer,) = layers(b)
    assert isinstance(layer, MaxPool2D)


def test_padding_is_the_files() -> None:
    for padding, size, expected in [
        (SAME, 5, (0, 0)),
        (SAME, 6, (0, 1)),
        (VALID, 6, (0, 0)),
        (SAME, 4, (0, 1)),
    ]:
        b = Builder()
        x = b.input((1, size, 1, 2), 0.1, 5)
        w = b.constant(np.ones((1, 3, 1, 2), np.int8), 0.1, dimension=3)
        rows = -(-size // 2) if padding == SAME else (size - 3) // 2 + 1
        y = b.tensor((1, rows, 1, 2), 0.1, 0)
        b.operator("DEPTHWISE_CONV_2D", [x, w], [y], [padding, 1, 2, 1, 0, 1, 1])
        b.outputs = [y]
        (layer,) = layers(b)
        assert isinstance(layer, DepthwiseConv2D)
        top, bottom = layer.padding[:2]
        if size == 5:
            assert (top, bottom) == (1, 1)
        else:
            assert (top, bottom) == expected


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "low", "high"),
    [
        (0, 0.1, 5, -128, 127),
        (1, 0.1, 5, 5, 127),
        (2, 0.1, 5, -5, 15),
        (3, 0.1, 5, 5, 65),
        (3, 0.01, 5, 5, 127),
        (1, 0.1, -128, -128, 127),
        (3, 6 / 255, -128, -128, 127),
        (2, 0.4, 0, -3, 3),  # 2.5 rounds away from zero
    ],
)
def test_fused_activations(activation: int, scale: float, zero_point: int, low: int, high: int) -> None:
    b = Builder()
    x = b.input((1, 2, 2, 1), scale, zero_point)
    y = b.tensor((1, 1, 1, 1), scale, zero_point)
    b.operator("AVERAGE_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, activation])
    b.outputs = [y]
    (layer,) = layers(b)
    assert isinstance(layer, AveragePool2D)
    assert (layer.low, layer.high) == (low, high)


def test_max_pool_with_an_activation_is_two_layers() -> None:
    b = Builder()
    x = b.input((1, 2, 2, 1), 0.1, -10)
    y = b.tensor((1, 1, 1, 1), 0.1, -10)
    b.operator("MAX_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, 1])
    b.outputs = [y]
    network = tflite.loads(b.bytes())
    assert [type(layer) for layer in network.layers] == [MaxPool2D, Requantize]
    values = np.array([[-20, -30, -40, -50], [5, -3, 4, 1]]).reshape(2, 2, 2, 1)
    assert golden.run(network, values).tensors["t1"].ravel().tolist() == [-10, 5]


def flatten_by_shape() -> Builder:
    """SHAPE, STRIDED_SLICE, PACK, RESHAPE: how a converter writes Flatten for a batch that it leaves open."""
    b = Builder()
    x = b.input((1, 2, 3, 4), 0.1, 0, signature=(-1, 2, 3, 4))
    shape = b.tensor((4,), dtype=np.int32)
    b.operator("SHAPE", [x], [shape])
    first = b.tensor((), dtype=np.int32)
    b.operator("STRIDED_SLICE", [shape, ints(b, 0), ints(b, 1), ints(b, 1)], [first], [0, 0, 0, 0, 1])
    pair = b.tensor((2,), dtype=np.int32)
    b.operator("PACK", [first, b.constant(np.array(24, np.int32))], [pair], [0, 2])
    y = b.tensor((1, 24), 0.1, 0, signature=(-1, 24))
    b.operator("RESHAPE", [x, pair], [y], [[]])
    b.outputs = [y]
    return b


def test_shapes_that_the_file_computes_are_constants() -> None:
    (layer,) = layers(flatten_by_shape())
    assert isinstance(layer, Reshape)
    assert layer.shape == (24,)


def test_an_axis_that_shrinks_heeds_its_begin_mask() -> None:
    for mask, expected in [(0, [6, 7]), (2, [0, 1])]:
        b = Builder()
        x = b.input((1, 5, 2), 0.1, 0)
        y = b.tensor((1, 2), 0.1, 0)
        b.operator(
            "STRIDED_SLICE", [x, ints(b, 0, 3), ints(b, 1, 4), ints(b, 1, 1)], [y], [1 | mask, 1, 0, 0, 2]
        )
        b.outputs = [y]
        network = tflite.loads(b.bytes())
        assert golden.run(network, np.arange(10).reshape(1, 5, 2)).tensors["t1"].tolist() == [expected]


@pytest.mark.parametrize(
    ("op", "operand", "options", "shape", "said"),
    [
        ("RESHAPE", [1, 3, 4], [[]], (1, 4, 3), "its shape is (1, 3, 4), its output (1, 4, 3)"),
        ("RESHAPE", None, [[1, 3, 4]], (1, 4, 3), "its shape is (1, 3, 4), its output (1, 4, 3)"),
        ("RESHAPE", None, [[]], (1, 4, 3), "its shape is (), its output (1, 4, 3)"),
        ("RESHAPE", None, None, (1, 4, 3), "its shape is (), its output (1, 4, 3)"),
        ("RESHAPE", None, [[1] * 9], (1, 4, 3), "NewShape has 9 elements"),
        (
            "SQUEEZE",
            None,
            [[2]],
            (1, 2, 6),
            "it makes (1, 2, 6, 1) of (1, 2, 1, 6, 1), its output is (1, 2, 6)",
        ),
        ("SQUEEZE", None, [[1]], (1, 2, 6), "it squeezes axes (1,) of (1, 2, 1, 6, 1)"),
        ("EXPAND_DIMS", [1], [], (1, 2, 1, 1, 6, 1), "it makes (1, 1, 2, 1, 6, 1) of"),
        ("EXPAND_DIMS", [7], [], (1, 2, 1, 1, 6, 1), "it adds axes at [7] of"),
    ],
)
def test_a_shape_that_is_not_the_outputs(
    op: str, operand, options, shape: tuple[int, ...], said: str
) -> None:
    b = Builder()
    x = b.input((1, 2, 1, 6, 1), 0.1, 0)
    y = b.tensor(shape, 0.1, 0)
    b.operator(op, [x] if operand is None else [x, ints(b, *operand)], [y], options)
    b.outputs = [y]
    with pytest.raises(NetworkError, match=re.escape(said)):
        layers(b)


def test_an_axis_that_is_open_beside_the_batch_is_refused() -> None:
    b = flatten_by_shape()
    b.tensors[0].signature = (-1, -1, 3, 4)
    with pytest.raises(NetworkError, match="the shape of t0 is unknown beyond its batch"):
        layers(b)


def test_what_would_mix_inferences_is_refused() -> None:
    for op, said in [
        ("MEAN", "it works along the batch"),
        ("TRANSPOSE", "it moves the batch"),
        ("CONCATENATION", "it works along the batch"),
        ("PAD", "it pads the batch"),
        ("STRIDED_SLICE", "it slices the batch"),
    ]:
        b = Builder()
        x = b.input((2, 3, 4), 0.1, 0)
        shapes = {
            "MEAN": (3, 4),
            "TRANSPOSE": (3, 2, 4),
            "CONCATENATION": (4, 3, 4),
            "PAD": (3, 3, 4),
            "STRIDED_SLICE": (1, 3, 4),
        }
        y = b.tensor(shapes[op], 0.1, 0)
        if op == "MEAN":
            b.operator(op, [x, ints(b, 0)], [y], [False])
        elif op == "TRANSPOSE":
            b.operator(op, [x, ints(b, 1, 0, 2)], [y], [])
        elif op == "CONCATENATION":
            b.operator(op, [x, x], [y], [0, 0])
        elif op == "PAD":
            b.operator(op, [x, ints(b, [0, 1], [0, 0], [0, 0])], [y], [])
        else:
            b.operator(op, [x, ints(b, 1, 0, 0), ints(b, 2, 3, 4), ints(b, 1, 1, 1)], [y], [0, 0, 0, 0, 0])
        b.outputs = [y]
        with pytest.raises(NetworkError, match=said):
            layers(b)


def test_float_and_uint8_edges_are_the_hosts() -> None:
    b = tflite_cases.float_edges()
    network = tflite.loads(b.bytes())
    assert [layer.op for layer in network.layers] == ["AveragePool2D"]
    assert (network.inputs, network.outputs) == (("t1",), ("t2",))
    b = Builder()
    raw = b.input((1, 2, 2, 1), 0.1, 128, dtype=np.uint8)
    x = b.tensor((1, 2, 2, 1), 0.1, 0)
    b.operator("QUANTIZE", [raw], [x], [])
    y = b.tensor((1, 1, 1, 1), 0.1, 0)
    b.operator("MAX_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, 0])
    out = b.tensor((1, 1, 1, 1), 0.1, 128, dtype=np.uint8)
    b.operator("QUANTIZE", [y], [out], [])
    b.outputs = [out]
    network = tflite.loads(b.bytes())
    assert (network.inputs, network.outputs) == (("t1",), ("t2",))
    b.tensors[raw].zero_points = [127]
    with pytest.raises(NetworkError, match="uint8 t0 and int8 t1 differ by more than 128"):
        layers(b)


def test_floats_within_are_refused() -> None:
    b = Builder()
    x = b.input((1, 2, 2, 1), 0.1, 0)
    y = b.tensor((1, 2, 2, 1), dtype=np.float32)
    b.operator("DEQUANTIZE", [x], [y], [])
    z = b.tensor((1, 2, 2, 1), 0.2, 0)
    b.operator("QUANTIZE", [y], [z], [])
    b.outputs = [z]
    with pytest.raises(NetworkError, match="operator 0 DEQUANTIZE .*it is not at the network's end"):
        layers(b)


def test_other_content_is_no_tflite_file(tmp_path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"PK\x03\x04....")
    with pytest.raises(NetworkError, match="no known format"):
        load(path)


# The table of operators.

Made = tuple[str, list[int], list[int], list[object] | None]


def weighted(b: Builder, op: str, weights: tuple[int, ...], options: list[object], **bias: object) -> Made:
    """An operator of weights on a 1x4x4x3 image, or on its 48 elements."""
    x = b.input((1, 4, 4, 3), 0.1, 0)
    w = b.constant(np.ones(weights, np.int8), 0.1, dimension=3 if op.startswith("DEPTH") else 0)
    inputs = [x, w] + ([b.constant(np.zeros(weights[0], np.int32), **bias)] if bias else [])
    return op, inputs, [b.tensor((1, weights[0]), 0.1, 0)], options


def plain(
    b: Builder, op: str, options: list[object] | None, scale: float, *out: float, size: int = 4
) -> Made:
    """An operator of one (1, `size`) operand with `scale`, to the output scale and zero point `out`."""
    x = b.input((1, size), scale, 0)
    return op, [x], [b.tensor((1, size), *out)], options


def sliced(b: Builder, *masks: int) -> Made:
    x = b.input((1, 4), 0.1, 0)
    return (
        "STRIDED_SLICE",
        [x, *(ints(b, 0, 0), ints(b, 1, 4), ints(b, 1, 1))],
        [b.tensor((1, 4), 0.1, 0)],
        [*masks],
    )


REFUSED: dict[str, tuple[Callable[[Builder], Made], str]] = {
    "one_scale": (lambda b: plain(b, "SQUEEZE", [[]], 0.1, 0.2, 0), "its inputs and outputs differ in scale"),
    "no_activation": (lambda b: plain(b, "CONCATENATION", [1, 1], 0.1, 0.1, 0), "it has a fused activation"),
    "conv_weights": (
        lambda b: weighted(b, "CONV_2D", (2, 1, 1, 4), [VALID, 1, 1, 0, 1, 1]),
        "its weights are (2, 1, 1, 4), its input has 3 channels",
    ),
    "depthwise_weights": (
        lambda b: weighted(b, "DEPTHWISE_CONV_2D", (1, 1, 1, 4), [VALID, 1, 1, 1, 0, 1, 1]),
        "its weights are (1, 1, 1, 4), its input has 3 channels",
    ),
    "matrix_weights": (
        lambda b: weighted(b, "FULLY_CONNECTED", (2, 5), [0, 0, False]),
        "its weights are (2, 5), its input has 48 elements",
    ),
    "plain_weights": (
        lambda b: weighted(b, "FULLY_CONNECTED", (2, 48), [0, 1, False]), "its weights are shuffled",
    ),
    "bias_on_scale": (
        lambda b: weighted(b, "FULLY_CONNECTED", (2, 48), [0, 0, False], scale=0.5),
        "its bias has a scale of 0.5, its products 0.01",
    ),
    "stated_multiplier": (
        lambda b: weighted(b, "DEPTHWISE_CONV_2D", (1, 1, 1, 6), [VALID, 1, 1, 3, 0, 1, 1]),
        "its channel multiplier is 3, its weights are (1, 1, 1, 6) for 3 channels",
    ),
    "finite_alpha": (lambda b: plain(b, "LEAKY_RELU", [np.inf], 0.1, 0.1, 0), "its alpha is inf"),
    "relu6_clamps_alone": (lambda b: plain(b, "RELU6", None, 0.1, 0.2, 0), "tflm's RELU6 only clamps"),
    "to_float": (lambda b: plain(b, "DEQUANTIZE", [], 0.1, 0.1, 0), "it writes int8"),
    "logistic_scale": (
        lambda b: plain(b, "LOGISTIC", None, 0.1, 1 / 256, 0), "the scale 1/256 and zero point -128, not",
    ),
    "tanh_scale": (lambda b: plain(b, "TANH", None, 0.1, 1 / 256, 0), "the scale 1/128 and zero point 0, not"),
    "sigmoidal_input": (lambda b: plain(b, "TANH", None, 2.0**-27, 1 / 128, 0), "its input has a scale of 7.45e-09"),
    "softmax_scale": (
        lambda b: plain(b, "SOFTMAX", [1.0], 0.1, 1 / 128, -128), "the scale 1/256 and zero point -128, not",
    ),
    "softmax_rows": (
        lambda b: plain(b, "SOFTMAX", [1.0], 0.1, 1 / 256, -128, size=4096), "its last axis has (4096,) elements",
    ),
    "plain_slice": (lambda b: sliced(b, 0, 0, 1, 0, 0), "its EllipsisMask is set"),
}  # fmt: skip
"""Of each constraint of the table, an operator that breaks it."""


@pytest.mark.parametrize("constraint", REFUSED)
def test_what_breaks_a_constraint_is_refused(constraint: str) -> None:
    make, said = REFUSED[constraint]
    b = Builder()
    op, inputs, outputs, options = make(b)
    assert constraint in {rule.__name__ for rule in SUPPORTED[op].constraints}
    b.operator(op, inputs, outputs, options)
    b.outputs = outputs
    with pytest.raises(NetworkError, match=re.escape(said)):
        layers(b, "tflm")


def test_every_constraint_and_operand_says_what_it_asks_for() -> None:
    rules = {rule for supported in SUPPORTED.values() for rule in supported.constraints}
    assert {rule.__name__ for rule in rules} == set(REFUSED)
    for function in rules | {read for supported in SUPPORTED.values() for read in supported.operands}:
        sentence = function.__doc__ or ""
        assert sentence[0].isupper(), function
        assert sentence.endswith("."), function
        assert "\n" not in sentence, function


def test_a_tensor_of_the_file_keeps_its_name_beside_those_that_are_made() -> None:
    """A fully connected layer at two positions makes tensors `y/row` and `y/sums`; so is one of the file's called."""
    b = Builder()
    x = b.input((1, 2, 3), 0.1, 0)
    y = b.tensor((1, 2, 4), 0.1, 0, name="y")
    b.operator("FULLY_CONNECTED", [x, b.constant(np.ones((4, 3), np.int8), 0.1)], [y], [0, 0, True])
    z = b.tensor((1, 2, 4), 0.1, 0, name="y/row")
    b.operator("RELU", [y], [z])
    b.outputs = [z]
    network = tflite.loads(b.bytes())
    assert network.outputs == ("y/row",)
    assert network.tensors["y/row"].shape == (2, 4)
    assert [layer.output for layer in network.layers] == ["y/row#2", "y/sums", "y", "y/row"]
