"""Networks of one operator each, over what a converter may write, and the inputs to try them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.tflite_builder import ACTIVATIONS, SAME, VALID, Builder

INFERENCES = 3
CASES = {
    "conv": 160,
    "depthwise": 120,
    "fully_connected": 120,
    "thresholds": 90,
    "pool": 80,
    "binary": 120,
    "pairs": 60,
    "mean": 80,
    "unary": 210,
    "softmax": 50,
    "moves": 100,
}
"""How many of each kind there are."""

Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Case:
    name: str
    builder: Builder
    content: bytes
    inputs: tuple[Array, ...]
    """Of each input tensor, in the file's order, a batch for each inference."""


class _Draw:
    """Random choices as a converter's range has them."""

    def __init__(self, seed: Sequence[int]) -> None:
        self.random = np.random.default_rng(list(seed))

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def scale(self, low: float = 1e-4, high: float = 0.5) -> float:
        """A fifth of all are far out, another fifth decimal fractions."""
        chosen = self.random.random()
        if chosen < 0.2:
            low, high = 1e-7, 1e3
        elif chosen < 0.4:
            return float(np.float32(self.integer(1, 40) / 100))
        return float(np.float32(np.exp(self.random.uniform(np.log(low), np.log(high)))))

    def about(self, scale: float, low: float, high: float) -> float:
        """`scale` times a factor: half of all are quarters, so that sums are ties, or next to them."""
        factor = self.random.uniform(low, high)
        if self.random.random() < 0.5:
            factor = max(round(4 * factor), 1) / 4
        return float(np.float32(scale * factor))

    def zero_point(self) -> int:
        return int(self.random.choice([-128, 127, 0, self.integer(-128, 127)]))

    def activation(self) -> int:
        return int(self.random.choice(list(ACTIVATIONS.values())))

    def values(self, shape: Sequence[int]) -> Array:
        """A third of all are at the ends of int8."""
        values = self.random.integers(-128, 128, tuple(shape))
        ends = self.random.choice([-128, 127], tuple(shape))
        return np.where(self.random.random(tuple(shape)) < 0.3, ends, values).astype(np.int8)

    def weight_scales(self, channels: int) -> npt.NDArray[np.float32]:
        count = channels if self.random.random() < 0.6 else 1
        return np.array([self.scale(1e-4, 0.05) for _ in range(count)], np.float32)

    def bias(self, channels: int, wraps: bool) -> npt.NDArray[np.int32]:
        reach = 2**31 - 1 if wraps else 10 ** self.integer(1, 5)
        return self.random.integers(-reach - 1, reach + 1, channels).astype(np.int32)

    def output_scale(self, sums: npt.NDArray, factor: float, wraps: bool) -> float:
        """So that most sums land within int8, or, where they wrap, come near it."""
        spread = 2.0**30 if wraps else max(float(np.abs(sums).max()), 1.0)
        return float(np.float32(max(factor * spread / self.random.uniform(20, 200), 1e-30)))


def cases(kind: str, seed: int = 0) -> Iterator[Case]:
    make = _MAKERS[kind]
    for number in range(CASES[kind]):
        draw = _Draw([seed, list(CASES).index(kind), number])
        builder = Builder()
        name = make(draw, builder, number)
        inputs = tuple(draw.values((INFERENCES, *builder.tensors[i].shape)) for i in builder.inputs)
        if kind in ("thresholds", "pairs", "unary"):
            every = np.arange(-128, 128).astype(np.int8)
            shapes = [(1, *builder.tensors[i].shape) for i in builder.inputs]
            # Twice: so many elements are looked up in a table of pairs.
            inputs = tuple(np.repeat(every.reshape(shape), 1 + (kind == "pairs"), axis=0) for shape in shapes)
        yield Case(f"{kind} {number}: {name}", builder, builder.bytes(), inputs)


def _quantized_bias(
    b: Builder, data: npt.NDArray[np.int32], scale: float, weights: npt.NDArray[np.float32]
) -> int:
    scales = (np.float64(scale) * weights).astype(np.float32)
    return b.constant(data, scales, [0] * len(scales))


def _window(draw: _Draw, padding: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Sizes, kernel, stride and dilation that fit."""
    sizes, kernel, stride, dilation = [], [], [], []
    for _ in range(2):
        extent = draw.integer(1, 5)
        apart = draw.integer(1, 3) if draw.random.random() < 0.3 else 1
        reach = (extent - 1) * apart + 1
        small = draw.random.random() < 0.85
        low = 1 if padding == SAME else reach
        sizes.append(draw.integer(low, max(low, 12 if small else 40)))
        kernel.append(extent)
        dilation.append(apart)
        stride.append(draw.integer(1, 4))
    return sizes, kernel, stride, dilation


def _extent(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


def _conv(draw: _Draw, b: Builder, number: int) -> str:
    return _convolution(draw, b, number, False)


def _depthwise(draw: _Draw, b: Builder, number: int) -> str:
    return _convolution(draw, b, number, True)


def _convolution(draw: _Draw, b: Builder, number: int, depthwise: bool) -> str:
    padding = SAME if draw.random.random() < 0.5 else VALID
    sizes, kernel, stride, dilation = _window(draw, padding)
    channels, wraps = draw.integer(1, 12 if number % 8 else 40), number % 6 == 0
    multiplier = draw.integer(1, 4)
    outputs = channels * multiplier if depthwise else draw.integer(1, 12 if number % 8 else 40)
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels)
    weights, scale = draw.values(shape), draw.scale()
    scales = draw.weight_scales(outputs)
    bias = draw.bias(outputs, wraps)
    sums = np.array(
        [128 * np.abs(weights.astype(int)).sum() / outputs / 3 + np.abs(bias.astype(float)).max() / 3]
    )
    out_scale = draw.output_scale(sums, scale * float(scales.max()), wraps)
    x = b.input((1, *sizes, channels), scale, draw.zero_point())
    w = b.constant(weights, scales, dimension=3 if depthwise else 0)
    inputs = [x, w]
    if number % 20 != 1:
        inputs.append(_quantized_bias(b, bias, scale, scales))
    extents = [_extent(*each, padding) for each in zip(sizes, kernel, stride, dilation, strict=True)]
    y = b.tensor((1, *extents, outputs), out_scale, draw.zero_point())
    activation = draw.activation()
    options = [padding, stride[1], stride[0], activation, dilation[1], dilation[0]]
    if depthwise:
        options.insert(3, multiplier)
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    b.operator(op, inputs, [y], options)
    b.outputs = [y]
    return f"{op} {sizes}x{channels} kernel {kernel} stride {stride} to {outputs}, wraps {wraps}"


def _fully_connected(draw: _Draw, b: Builder, number: int) -> str:
    features, units, wraps = draw.integer(1, 40), draw.integer(1, 40), number % 6 == 0
    weights, scale, scales = draw.values((units, features)), draw.scale(), draw.weight_scales(units)
    bias = draw.bias(units, wraps)
    sums = np.array([features * 128 * 40 + np.abs(bias.astype(float)).max() / 3])
    out_scale = draw.output_scale(sums, scale * float(scales.max()), wraps)
    kept = number % 5 == 1
    shape: tuple[int, ...] = (1, features)
    if kept:
        shape = (1, *(draw.integer(1, 5) for _ in range(draw.integer(0, 2))), features)
    elif number % 5 == 2:
        shape = (1, draw.integer(1, 4), draw.integer(1, 4), draw.integer(1, 8))
        features = int(np.prod(shape))
        weights = draw.values((units, features))
    x = b.input(shape, scale, draw.zero_point())
    inputs = [x, b.constant(weights, scales)]
    if draw.random.random() < 0.9:
        inputs.append(_quantized_bias(b, bias, scale, scales))
    y = b.tensor((*shape[:-1], units) if kept else (1, units), out_scale, draw.zero_point())
    b.operator("FULLY_CONNECTED", inputs, [y], [draw.activation(), 0, kept])
    b.outputs = [y]
    return f"{shape} to {units}, {len(scales)} scales, wraps {wraps}"


def _thresholds(draw: _Draw, b: Builder, number: int) -> str:
    """Every sum within 128 of each of the 255 at which the output steps: one channel a step."""
    channels, scale = 255, draw.scale()
    per_channel = number % 2 == 0
    scales = np.array([draw.scale(1e-4, 0.05) for _ in range(channels if per_channel else 1)], np.float32)
    # Up to the greatest sums at which thresholds that a multiplier of 31 bits moves are still seldom.
    out_scale = float(np.float32(scale * float(scales[0]) * np.exp2(draw.random.uniform(0, 20))))
    real = np.broadcast_to(scale * scales.astype(np.float64) / out_scale, channels)
    steps = np.arange(-128, 127) + 0.5
    bias = np.clip(np.rint(steps / real), -(2.0**31 - 600), 2.0**31 - 600).astype(np.int32)
    zero_in, zero_out = draw.zero_point(), draw.zero_point()
    op = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")[number % 3]
    signs = np.resize(np.array([1, -1], np.int8), channels)
    x = b.input((1, 256, 1) if op == "FULLY_CONNECTED" else (1, 16, 16, 1), scale, zero_in)
    kernel = {"CONV_2D": (255, 1, 1, 1), "DEPTHWISE_CONV_2D": (1, 1, 1, 255), "FULLY_CONNECTED": (255, 1)}[op]
    w = b.constant(signs.reshape(kernel), scales, dimension=3 if op == "DEPTHWISE_CONV_2D" else 0)
    c = _quantized_bias(b, bias, scale, scales)
    y = b.tensor((*b.tensors[x].shape[:-1], channels), out_scale, zero_out)
    options = {
        "CONV_2D": [VALID, 1, 1, 0, 1, 1],
        "DEPTHWISE_CONV_2D": [VALID, 1, 1, channels, 0, 1, 1],
        "FULLY_CONNECTED": [0, 0, True],
    }[op]
    b.operator(op, [x, w, c], [y], options)
    b.outputs = [y]
    return f"{op} per channel {per_channel}"


def _pool(draw: _Draw, b: Builder, number: int) -> str:
    padding = SAME if draw.random.random() < 0.5 else VALID
    sizes, kernel, stride, _ = _window(draw, padding)
    low = [1, 1] if padding == SAME else kernel
    sizes = [max(size, least) for size, least in zip(sizes, low, strict=True)]
    channels, parameters = draw.integer(1, 40), (draw.scale(), draw.zero_point())
    x = b.input((1, *sizes, channels), *parameters)
    extents = [_extent(*each, 1, padding) for each in zip(sizes, kernel, stride, strict=True)]
    y = b.tensor((1, *extents, channels), *parameters)
    op = ("AVERAGE_POOL_2D", "MAX_POOL_2D")[number % 2]
    b.operator(op, [x], [y], [padding, stride[1], stride[0], kernel[1], kernel[0], draw.activation()])
    b.outputs = [y]
    return f"{op} {sizes} kernel {kernel} stride {stride}"


def _binary(draw: _Draw, b: Builder, number: int) -> str:
    rank = draw.integer(1, 3)
    shape = [1, *(draw.integer(1, (40, 20, 10)[rank - 1]) for _ in range(rank))]
    other = list(shape)
    if number % 4 == 1:
        other[draw.integer(1, rank)] = 1
    constant = number % 5 == 2
    if constant and number % 2:
        other = other[1:]
    return _two_operands(draw, b, number, shape, other, constant)


def _pairs(draw: _Draw, b: Builder, number: int) -> str:
    """Every pair of int8."""
    return _two_operands(draw, b, number, [1, 256, 1], [1, 1, 256], False)


def _two_operands(
    draw: _Draw, b: Builder, number: int, shape: list[int], other: list[int], constant: bool
) -> str:
    op = ("ADD", "SUB", "MUL")[number % 3]
    a, c = draw.scale(1e-3), draw.scale(1e-3)
    out = draw.about(a * c, 40, 500) if op == "MUL" else draw.about(max(a, c), 0.6, 8)
    x = b.input(shape, a, draw.zero_point())
    parameters = (c, draw.zero_point())
    z = b.constant(draw.values(other), *parameters) if constant else b.input(other, *parameters)
    y = b.tensor(np.broadcast_shapes(tuple(shape), tuple(other)), out, draw.zero_point())
    operands = [z, x] if number % 7 == 3 else [x, z]
    b.operator(op, operands, [y], [draw.activation()])
    b.outputs = [y]
    return f"{op} {shape} {other}"


def _mean(draw: _Draw, b: Builder, number: int) -> str:
    largest = 40 if number % 4 == 0 else 12
    shape = [1, draw.integer(1, largest), draw.integer(1, largest), draw.integer(1, 40)]
    axes = ([1, 2], [2, 1], [1], [2], [-2, -3])[number % 5]
    kept = bool(number % 2)
    scale = draw.scale()
    x = b.input(shape, scale, draw.zero_point())
    reduced = {axis % 4 for axis in axes}
    out = [1 if i in reduced else n for i, n in enumerate(shape) if kept or i not in reduced]
    y = b.tensor(out, draw.about(scale, 0.02, 2.5), draw.zero_point())
    b.operator("MEAN", [x, b.constant(np.array(axes, np.int32))], [y], [kept])
    b.outputs = [y]
    return f"{shape} over {axes}, kept {kept}"


def _unary(draw: _Draw, b: Builder, number: int) -> str:
    op = ("LOGISTIC", "TANH", "LEAKY_RELU", "HARD_SWISH", "RELU", "RELU6", "QUANTIZE")[number % 7]
    scale, zero_point = draw.scale(1e-3), draw.zero_point()
    x = b.input((1, 256), scale, zero_point)
    out, zero_out = draw.about(scale, 0.2, 4), draw.zero_point()
    if op == "LOGISTIC":
        out, zero_out = 1 / 256, -128
    elif op == "TANH":
        out, zero_out = 1 / 128, 0
    elif op == "RELU6" and number % 2:
        out, zero_out = scale, zero_point
    y = b.tensor((1, 256), out, zero_out)
    options = {
        "LEAKY_RELU": [round(draw.random.uniform(-0.5, 1.5), 1 + number % 3)],
        "HARD_SWISH": [],
        "QUANTIZE": [],
    }
    b.operator(op, [x], [y], options.get(op))
    b.outputs = [y]
    return f"{op} {scale} {zero_point} to {out} {zero_out}"


def _softmax(draw: _Draw, b: Builder, number: int) -> str:
    shape = [1, *(draw.integer(1, 6) for _ in range(number % 3)), draw.integer(1, 40)]
    x = b.input(shape, draw.scale(1e-3, 1.0), draw.zero_point())
    y = b.tensor(shape, 1 / 256, -128)
    b.operator("SOFTMAX", [x], [y], [float(np.float32(draw.random.choice([1.0, 0.5, 0.7, 3.0])))])
    b.outputs = [y]
    return f"{shape}"


def _moves(draw: _Draw, b: Builder, number: int) -> str:
    parameters = (draw.scale(), draw.zero_point())
    shape = [1, *(draw.integer(1, 10) for _ in range(3))]
    x = b.input(shape, *parameters)
    op = ("PAD", "CONCATENATION", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "STRIDED_SLICE", "SPLIT", "TRANSPOSE")[
        number % 8
    ]

    def ints(*values: object) -> int:
        return b.constant(np.array(values, np.int32))

    if op == "PAD":
        pairs = [[0, 0], *([draw.integer(0, 4), draw.integer(0, 4)] for _ in range(3))]
        y = b.tensor([n + sum(pair) for n, pair in zip(shape, pairs, strict=True)], *parameters)
        b.operator(op, [x, ints(*pairs)], [y], [])
    elif op == "CONCATENATION":
        axis, other = draw.integer(1, 3), list(shape)
        other[axis] = draw.integer(1, 10)
        z = b.constant(draw.values(other), *parameters) if number % 5 == 1 else b.input(other, *parameters)
        whole = list(shape)
        whole[axis] = 2 * shape[axis] + other[axis]
        y = b.tensor(whole, *parameters)
        b.operator(op, [x, z, x], [y], [axis - 4 if number % 3 else axis, 0])
    elif op == "RESHAPE":
        target = [1, shape[3] * shape[1], shape[2]]
        y = b.tensor(target, *parameters)
        stated = [[ints(*target)], [ints(1, -1, shape[2])], []][number % 3]
        b.operator(op, [x, *stated], [y], [target])
    elif op == "SQUEEZE":
        b.tensors[x].shape = shape = [1, 1, shape[2], shape[3]]
        y = b.tensor([1, *shape[2:]], *parameters)
        b.operator(op, [x], [y], [[1]])
    elif op == "EXPAND_DIMS":
        y = b.tensor([1, shape[1], 1, *shape[2:]], *parameters)
        b.operator(op, [x, ints(2)], [y], [])
    elif op == "STRIDED_SLICE":
        begins, ends, steps, out = [0], [1], [1], [1]
        for size in shape[1:]:
            step = int(draw.random.choice([1, 2, 3, -1, -2]))
            begin, end = draw.integer(-size - 2, size + 2), draw.integer(-size - 2, size + 2)
            if not len(range(size)[begin:end:step]):
                begin, end, step = 0, size, 1
            begins.append(begin)
            ends.append(end)
            steps.append(step)
            out.append(len(range(size)[begin:end:step]))
        shrunk = 0
        if number % 3 == 0:
            axis = draw.integer(1, 3)
            begins[axis] = draw.integer(-shape[axis], shape[axis] - 1)
            ends[axis], steps[axis], shrunk = begins[axis] + 1, 1, 1 << axis
            del out[axis]
        y = b.tensor(out, *parameters)
        b.operator(op, [x, ints(*begins), ints(*ends), ints(*steps)], [y], [1, 1, 0, 0, shrunk])
    elif op == "SPLIT":
        axis, parts = draw.integer(1, 3), draw.integer(1, 3)
        shape[axis] *= parts
        part = list(shape)
        part[axis] //= parts
        outputs = [b.tensor(part, *parameters) for _ in range(parts)]
        b.operator(op, [ints(axis - 4 if number % 3 else axis), x], outputs, [parts])
        b.outputs = outputs
        return f"{op} {shape} into {parts}"
    else:
        order = [0, *(int(axis) for axis in 1 + draw.random.permutation(3))]
        y = b.tensor([shape[axis] for axis in order], *parameters)
        b.operator(op, [x, ints(*order)], [y], [])
    b.outputs = [y]
    return f"{op} {shape}"


_MAKERS: dict[str, Callable[[_Draw, Builder, int], str]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "fully_connected": _fully_connected,
    "thresholds": _thresholds,
    "pool": _pool,
    "binary": _binary,
    "pairs": _pairs,
    "mean": _mean,
    "unary": _unary,
    "softmax": _softmax,
    "moves": _moves,
}


def small_network(batch: int, signature: bool) -> Builder:
    """A convolution, a mean, a fully connected layer, over a batch that the file may leave open."""
    rng = np.random.default_rng(batch)

    def shaped(*shape: int) -> dict:
        return {"shape": (batch, *shape), "signature": (-1, *shape) if signature else None}

    b = Builder()
    x = b.input(scale=0.05, zero_point=-3, **shaped(6, 5, 3))
    w = b.constant(rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), [0.01, 0.02, 0.03, 0.005])
    c = b.constant(rng.integers(-999, 999, 4).astype(np.int32), [5e-4, 1e-3, 1.5e-3, 2.5e-4], [0] * 4)
    y = b.tensor(scale=0.3, zero_point=4, **shaped(3, 3, 4))
    b.operator("CONV_2D", [x, w, c], [y], [SAME, 2, 2, 1, 1, 1])
    z = b.tensor(scale=0.2, zero_point=-8, **shaped(4))
    b.operator("MEAN", [y, b.constant(np.array([1, 2], np.int32))], [z], [False])
    v = b.constant(rng.integers(-128, 128, (5, 4)).astype(np.int8), 0.02)
    e = b.constant(rng.integers(-99, 99, 5).astype(np.int32), 4e-3)
    out = b.tensor(scale=0.1, zero_point=0, **shaped(5))
    b.operator("FULLY_CONNECTED", [z, v, e], [out], [0, 0, False])
    b.outputs = [out]
    return b


def float_edges() -> Builder:
    """Floats at both ends."""
    b = Builder()
    real = b.input((1, 4, 4, 2), dtype=np.float32)
    x = b.tensor((1, 4, 4, 2), 0.1, -5)
    b.operator("QUANTIZE", [real], [x], [])
    y = b.tensor((1, 2, 2, 2), 0.1, -5)
    b.operator("AVERAGE_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, 0])
    out = b.tensor((1, 2, 2, 2), dtype=np.float32)
    b.operator("DEQUANTIZE", [y], [out], [])
    b.outputs = [out]
    return b


def residual_network() -> Builder:
    """Two ways that meet: a depthwise convolution, slices, a residual sum, a softmax."""
    rng = np.random.default_rng(8)
    b = Builder()
    x = b.input((1, 5, 4, 4), 0.02, 3)
    w = b.constant(
        rng.integers(-128, 128, (1, 3, 3, 4)).astype(np.int8), [0.01, 0.02, 0.03, 0.04], dimension=3
    )
    c = b.constant(rng.integers(-500, 500, 4).astype(np.int32), [2e-4, 4e-4, 6e-4, 8e-4], [0] * 4)
    y = b.tensor((1, 5, 4, 4), 0.06, -20)
    b.operator("DEPTHWISE_CONV_2D", [x, w, c], [y], [SAME, 1, 1, 1, 3, 1, 1])
    total = b.tensor((1, 5, 4, 4), 0.05, 0)
    b.operator("ADD", [x, y], [total], [0])
    halves = [b.tensor((1, 5, 4, 2), 0.05, 0) for _ in range(2)]
    b.operator("SPLIT", [b.constant(np.array([3], np.int32)), total], halves, [2])
    whole = b.tensor((1, 5, 4, 4), 0.05, 0)
    b.operator("CONCATENATION", [halves[1], halves[0]], [whole], [3, 0])
    flat = b.tensor((1, 80), 0.05, 0)
    b.operator("RESHAPE", [whole, b.constant(np.array([1, -1], np.int32))], [flat], [[1, 80]])
    out = b.tensor((1, 80), 1 / 256, -128)
    b.operator("SOFTMAX", [flat], [out], [1.0])
    b.outputs = [out]
    return b
