"""The layers of a graph, what each computes and the shape that it makes.

Every layer with weights is ``accumulate -> rescale``: ``acc = sum(a * w) (+ bias)`` modulo ``2**accumulator_bits``,
then a rescale per output channel that ends in a clamp to the output tensor's type. The others pool, combine two
tensors, map each element by a function of its own, or move elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intaglio.network.errors import NetworkError
from intaglio.network.graph.rescales import FixedPointScale, Rescale
from intaglio.network.graph.tensors import Integers, WeightType


@dataclass(frozen=True)
class Layer:
    """What all layers have: a unique name, the names of the tensors read and of the one written."""

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def op(self) -> str:
        return type(self).__name__

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """The output's shape for inputs of `shapes`: that of the first, unless a kind of layer says otherwise.

        Raises NetworkError, naming the layer, where the inputs do not fit it.
        """
        return shapes[0]

    def macs(self, output_shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of one inference, padding counted; 0 of a layer without weights."""
        return 0


def _window_extents(
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Output rows and columns of a sliding window (0 or less: it does not fit)."""
    top, bottom, left, right = padding
    sizes = (shape[0] + top + bottom, shape[1] + left + right)
    height, width = (
        (size - (extent - 1) * apart - 1) // step + 1
        for size, extent, step, apart in zip(sizes, kernel, stride, dilation, strict=True)
    )
    return height, width


def _pooled_shape(
    name: str,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> tuple[int, ...]:
    if len(shape) != 3:
        raise NetworkError(f"layer {name}: pooling takes (height, width, channels), its input is {shape}")
    top, bottom, left, right = padding
    if max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        raise NetworkError(f"layer {name}: padding {padding} leaves a window nothing but padding")
    return (*_window_extents(shape, kernel, stride, padding, (1, 1)), shape[2])


@dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution. `weights` is (output channels, kernel height, kernel width, input channels).

    `stride`, `dilation` are (vertical, horizontal); `padding` is (top, bottom, left, right), filled with the input's
    zero point.
    """

    weights: Integers
    weight_type: WeightType
    rescale: Rescale
    accumulator_bits: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        outputs, kernel_height, kernel_width, channels = self.weights.shape
        if len(shape) != 3 or shape[2] != channels:
            raise NetworkError(
                f"layer {self.name}: its weights take {channels} channels, its input is {shape}"
            )
        kernel = (kernel_height, kernel_width)
        return (*_window_extents(shape, kernel, self.stride, self.padding, self.dilation), outputs)

    def macs(self, output_shape: tuple[int, ...]) -> int:
        return int(np.prod(output_shape)) * int(np.prod(self.weights.shape[1:]))


@dataclass(frozen=True)
class FullyConnected(Layer):
    """Matrix times the flattened input. `weights` is (output features, input features)."""

    weights: Integers
    weight_type: WeightType
    rescale: Rescale
    accumulator_bits: int

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        outputs, features = self.weights.shape
        if int(np.prod(shape)) != features:
            raise NetworkError(
                f"layer {self.name}: its weights take {features} features, its input is {shape}"
            )
        return (outputs,)

    def macs(self, output_shape: tuple[int, ...]) -> int:
        return int(self.weights.size)


@dataclass(frozen=True)
class MaxPool2D(Layer):
    """The greatest element of each window; padding never counts as the maximum."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        return _pooled_shape(self.name, shape, self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class DepthwiseConv2D(Layer):
    """Convolution of each input channel by itself. `weights` is (output channels, kernel height, kernel width).

    There are m output channels for each input channel, m the channel multiplier: output channel o reads input channel
    ``o // m``. The rest as in Conv2D.
    """

    weights: Integers
    weight_type: WeightType
    rescale: Rescale
    accumulator_bits: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        outputs, *kernel = self.weights.shape
        if len(shape) != 3 or outputs % shape[2]:
            raise NetworkError(
                f"layer {self.name}: its weights have {outputs} output channels, its input is {shape}"
            )
        return (
            *_window_extents(shape, (kernel[0], kernel[1]), self.stride, self.padding, self.dilation),
            outputs,
        )

    def macs(self, output_shape: tuple[int, ...]) -> int:
        return int(np.prod(output_shape)) * int(np.prod(self.weights.shape[1:]))


@dataclass(frozen=True)
class AveragePool2D(Layer):
    """The mean of each window, ties away from zero, clamped to `low`...`high`; padding is left out of the mean."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    low: int
    high: int

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        return _pooled_shape(self.name, shape, self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class Mean(Layer):
    """The mean over `axes` (of the shape without the batch), which `keep_dims` leaves as axes of one element.

    ``clamp(zero_point + scale * (sum - n * input zero point))``: `scale` holds the division by n, the number of
    elements summed. Sums are taken modulo ``2**32``.
    """

    axes: tuple[int, ...]
    keep_dims: bool
    scale: FixedPointScale

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        if len(set(self.axes)) != len(self.axes) or not all(0 <= axis < len(shape) for axis in self.axes):
            raise NetworkError(f"layer {self.name}: takes the mean over the axes {self.axes} of {shape}")
        if self.keep_dims:
            return tuple(1 if axis in self.axes else extent for axis, extent in enumerate(shape))
        return tuple(extent for axis, extent in enumerate(shape) if axis not in self.axes) or (1,)


@dataclass(frozen=True)
class _Binary(Layer):
    """Two operands, whose shapes broadcast as numpy's do (the batch stays apart)."""

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        first, second = shapes
        try:
            return np.broadcast_shapes(first, second)
        except ValueError:
            raise NetworkError(f"layer {self.name}: its inputs are {first} and {second}") from None


@dataclass(frozen=True)
class Add(_Binary):
    """``clamp(zero_point + total * (first * (a << left_shift) + second * (b << left_shift)), low, high)``.

    a and b are the operands less their zero points, each product is rounded by itself [jacob2017: A.2].
    """

    first: FixedPointScale
    second: FixedPointScale
    total: FixedPointScale
    low: int
    high: int
    left_shift: int = 20


@dataclass(frozen=True)
class Sub(Add):
    """As Add, the second product subtracted."""


@dataclass(frozen=True)
class Mul(_Binary):
    """``clamp(zero_point + scale * a * b, low, high)``, a and b the operands less their zero points."""

    scale: FixedPointScale
    low: int
    high: int


@dataclass(frozen=True)
class Requantize(Layer):
    """``clamp(zero_point + scale * (a - input zero point), low, high)``: a change of scale, ReLU, or a clamp alone."""

    scale: FixedPointScale
    low: int
    high: int


@dataclass(frozen=True)
class LeakyRelu(Layer):
    """As Requantize by `positive` where ``a >= input zero point``, else by `negative`.

    A negative multiplier is a negated product: ``-round(|multiplier| * a)``.
    """

    positive: FixedPointScale
    negative: FixedPointScale


@dataclass(frozen=True)
class HardSwish(Layer):
    """``x * clamp(x + 3, 0, 6) / 6`` in 16-bit fixed point, as TFLite's kernels compute it (golden has the steps).

    `output_multiplier` (int16) and `output_exponent` (0 or less) take the input, times 2**7, to the output's scale;
    `relu_multiplier` and `relu_exponent` to one in which 3.0 is 2**15.
    """

    output_multiplier: int
    output_exponent: int
    relu_multiplier: int
    relu_exponent: int


@dataclass(frozen=True)
class Logistic(Layer):
    """``1 / (1 + exp(-x))``, to a scale of 1/256 and a zero point of -128.

    `scale` takes the input less its zero point to Q4.27, of which `golden` has the fixed-point function [jacob2017:
    A.1]; where the input is `radius` or more from its zero point, the result saturates. With `real`, the input's
    scale, the function is instead computed in float32, every step rounded (LiteRT's tables).
    """

    scale: FixedPointScale
    radius: int
    real: float | None = None


@dataclass(frozen=True)
class Tanh(Layer):
    """``tanh(x)``, to a scale of 1/128 and a zero point of 0; the rest as in Logistic."""

    scale: FixedPointScale
    radius: int
    real: float | None = None


@dataclass(frozen=True)
class Softmax(Layer):
    """``exp(beta * x) / sum(exp(beta * x))`` along the last axis, to a scale of 1/256 and a zero point of -128.

    `scale` takes an element less the greatest of its row to Q5.26; below `least` it counts as minus infinity.
    """

    scale: FixedPointScale
    least: int


@dataclass(frozen=True)
class Pad(Layer):
    """`value` around the input: (before, after) of each axis."""

    padding: tuple[tuple[int, int], ...]
    value: int

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        if len(self.padding) != len(shape) or any(min(pair) < 0 for pair in self.padding):
            raise NetworkError(f"layer {self.name}: pads {shape} by {self.padding}")
        return tuple(
            extent + before + after for extent, (before, after) in zip(shape, self.padding, strict=True)
        )


@dataclass(frozen=True)
class Concatenation(Layer):
    """The inputs one after the other along `axis`; all have the output's parameters [jacob2017: A.3]."""

    axis: int

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        first, axis = shapes[0], self.axis
        rest = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in shapes}
        if not 0 <= axis < len(first) or len(rest) != 1:
            raise NetworkError(f"layer {self.name}: joins {', '.join(map(str, shapes))} along axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


@dataclass(frozen=True)
class Reshape(Layer):
    """The same elements in the same order, as `shape`."""

    shape: tuple[int, ...]

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        if math.prod(shape) != math.prod(self.shape):
            raise NetworkError(f"layer {self.name}: {shape} cannot become {self.shape}")
        return self.shape


@dataclass(frozen=True)
class StridedSlice(Layer):
    """Of each axis `extent` elements, from `begin` on, `stride` apart (a negative one goes backwards)."""

    begin: tuple[int, ...]
    extent: tuple[int, ...]
    stride: tuple[int, ...]

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        if not len(self.begin) == len(self.extent) == len(self.stride) == len(shape):
            raise NetworkError(f"layer {self.name}: slices {len(self.begin)} axes of {shape}")
        for size, begin, extent, stride in zip(shape, self.begin, self.extent, self.stride, strict=True):
            last = begin + (extent - 1) * stride
            if extent < 1 or not stride or not (0 <= begin < size and 0 <= last < size):
                raise NetworkError(f"layer {self.name}: takes elements {begin}...{last} of {size}")
        return self.extent


@dataclass(frozen=True)
class Transpose(Layer):
    """Axis i of the output is axis ``permutation[i]`` of the input."""

    permutation: tuple[int, ...]

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        (shape,) = shapes
        if sorted(self.permutation) != list(range(len(shape))):
            raise NetworkError(f"layer {self.name}: permutes {shape} by {self.permutation}")
        return tuple(shape[axis] for axis in self.permutation)


AnyLayer = (
    Conv2D
    | DepthwiseConv2D
    | FullyConnected
    | MaxPool2D
    | AveragePool2D
    | Mean
    | Add
    | Sub
    | Mul
    | Requantize
    | LeakyRelu
    | HardSwish
    | Logistic
    | Tanh
    | Softmax
    | Pad
    | Concatenation
    | Reshape
    | StridedSlice
    | Transpose
)
WeightLayer = Conv2D | DepthwiseConv2D | FullyConnected
