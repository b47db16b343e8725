"""The graph of a quantized network: tensors, layers, rescales.

Every layer with weights is ``accumulate -> rescale``: ``acc = sum(a * w) (+ bias)`` modulo ``2**accumulator_bits``,
then a rescale per output channel that ends in a clamp to the output tensor's type. The others pool, combine two
tensors, map each element by a function of its own, or move elements. Shapes leave out the batch: an image is
``(height, width, channels)``, a vector ``(features,)``. A fully connected layer reads its input flattened in that
order; importers permute weights that were trained for another.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Rounding(enum.Enum):
    """How a signed ``x`` is divided by ``2**n``; in every mode ``n = 0`` returns ``x``."""

    FLOOR = "floor"
    """``x >> n``, towards minus infinity."""
    HALF_UP = "half_up"
    """``(x + 2**(n-1)) >> n``: to nearest, ties up (ARM's RSHL)."""
    HALF_AWAY = "half_away"
    """To nearest, ties away from zero (gemmlowp's ``RoundingDivideByPOT``)."""
    HALF_EVEN = "half_even"
    """To nearest, ties to even (``torch.round``, ONNX ``QuantizeLinear``)."""


@dataclass(frozen=True)
class TensorType:
    """A two's complement or unsigned integer of `bits` bits."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise NetworkError(f"a tensor's type must have 1 to 32 bits, not {self.bits}")

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype:
        """The narrowest numpy integer that holds the type."""
        width = next(w for w in (8, 16, 32) if self.bits <= w)
        return np.dtype(f"{'' if self.signed else 'u'}int{width}")

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"


@dataclass(frozen=True)
class Tensor:
    """One value that flows through the graph: `shape` without the batch, real value ``scale * (q - zero_point)``.

    `scale` is None where the format states none (integers mean themselves).
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    scale: float | None = None
    zero_point: int = 0

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class SbnqRescale:
    """``clamp((acc - bias) >> shift)``, with ReLU before the shift if `relu` [sbnq: eq. 16, 19].

    `bias`, `shift`: one integer an output channel; a negative shift is a left shift. The clamp is to
    ``[-2**(N-1)+1, 2**(N-1)-1]`` for a signed output of N bits, to ``[0, 2**N-1]`` for an unsigned one.
    """

    bias: Integers
    shift: Integers
    relu: bool


@dataclass(frozen=True)
class AffineRescale:
    """``clamp(zero_point + rescale(acc + bias, multiplier, exponent), low, high)`` [jacob2017: eq. 4-7, app. B].

    `multiplier` (int32 M0) and `exponent` (e, positive = left) an output channel, ``M = M0 * 2**(e - 31)``.
    `double_rounding`: SQRDMULH, then HALF_AWAY shift (TFLM, gemmlowp); else one HALF_AWAY of the exact product.
    The output zero point is the output tensor's; `low`, `high` is the fused activation's range.
    `real`: float64 an output channel, where the runtime multiplies by that instead of `multiplier` and `exponent`: the
    product is rounded to float64, then half away from zero (LiteRT's fully connected layers). It is then single
    rounding, and `multiplier`, `exponent` are what hardware takes for it.
    """

    bias: Integers
    multiplier: Integers
    exponent: Integers
    double_rounding: bool
    low: int
    high: int
    real: Floats | None = None


@dataclass(frozen=True)
class LlsqRescale:
    """``clamp(HALF_UP((acc + bias) * mantissa, shift))``, mantissa 1 or 128...255, shift 0...31 [llsq: eq. 6]."""

    bias: Integers
    mantissa: Integers
    shift: Integers


@dataclass(frozen=True)
class PowerOfTwoRescale:
    """``clamp(round((acc + bias) / 2**shift))`` in a named rounding; a negative shift is a left shift [itbwn]."""

    bias: Integers
    shift: Integers
    rounding: Rounding


Rescale = SbnqRescale | AffineRescale | LlsqRescale | PowerOfTwoRescale


@dataclass(frozen=True)
class FixedPointScale:
    """A real factor ``multiplier * 2**(exponent - 31)`` of a whole layer, rounded as in AffineRescale."""

    multiplier: int
    exponent: int
    double_rounding: bool = True


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
        """The output's shape for inputs of these; a layer of one operand that keeps its shape need not say so."""
        return shapes[0]

    def macs(self, output_shape: tuple[int, ...]) -> int:
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
        raise NetworkError(f"layer {name}: padding {padding} leaves windows without any element")
    return (*_window_extents(shape, kernel, stride, padding, (1, 1)), shape[2])


@dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution. `weights` is (output channels, kernel height, kernel width, input channels).

    `stride`, `dilation` are (vertical, horizontal); `padding` is (top, bottom, left, right), filled with the input's
    zero point.
    """

    weights: Integers
    weight_type: TensorType
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
    weight_type: TensorType
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
    """The greatest element of each window. Padding takes part in no maximum."""

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
    weight_type: TensorType
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
    """The mean of each window, ties away from zero, clamped to `low`...`high`. Padding takes part in no mean."""

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

_SAME_PARAMETERS = (MaxPool2D, AveragePool2D, Pad, Concatenation, Reshape, StridedSlice, Transpose)
"""What moves or compares stored integers: their meaning must stay."""


def _check_range(what: str, values: Integers, low: int, high: int) -> None:
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        worst = int(values.min()) if int(values.min()) < low else int(values.max())
        raise NetworkError(f"{what}: {worst} is outside {low}...{high}")


def _meaning(tensor: Tensor) -> tuple[TensorType, float | None, int]:
    return tensor.type, tensor.scale, tensor.zero_point


def _check_scale(what: str, scale: FixedPointScale, lowest: int = 0) -> None:
    _check_range(f"{what}: multiplier", np.array([scale.multiplier]), lowest, 2**31 - 1)
    _check_range(f"{what}: exponent", np.array([scale.exponent]), -31, 31)


def _check_parameters(layer: AnyLayer, target: TensorType) -> None:
    """The numbers of a layer without weights."""
    where = f"layer {layer.name}"
    for key, value in vars(layer).items():
        if isinstance(value, FixedPointScale):
            _check_scale(f"{where}: {key}", value, 1 - 2**31 if key == "negative" else 0)
    if isinstance(layer, AveragePool2D | Add | Mul | Requantize):
        if not target.min <= layer.low <= layer.high <= target.max:
            raise NetworkError(f"{where}: a clamp to {layer.low}...{layer.high} does not fit {target}")
    elif isinstance(layer, Pad):
        _check_range(f"{where}: padding", np.array([layer.value]), target.min, target.max)
    elif isinstance(layer, HardSwish):
        multipliers = np.array([layer.output_multiplier, layer.relu_multiplier])
        _check_range(f"{where}: multiplier", multipliers, -(2**15), 2**15 - 1)
        _check_range(f"{where}: exponent", np.array([layer.output_exponent]), -31, 0)
        _check_range(f"{where}: exponent", np.array([layer.relu_exponent]), -31, 31)
    if isinstance(layer, Add) and not 0 <= layer.left_shift <= 22:
        raise NetworkError(
            f"{where}: a left shift of {layer.left_shift}; of operands of 9 bits at most 22 fits"
        )


@dataclass(frozen=True)
class Network:
    """A checked graph: layers in the order in which they run, every tensor by name.

    Raises NetworkError, naming the layer, where shapes, types, channel counts or names do not fit together.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[AnyLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source_format: str = field(default="")
    constants: Mapping[str, Integers] = field(default_factory=dict)
    """Tensors that layers read and that are the same in every inference, by name; of their tensor's shape."""

    def __post_init__(self) -> None:
        known = {*self.inputs, *self.constants}
        if not self.layers:
            raise NetworkError(f"network {self.name} has no layers")
        for name, values in self.constants.items():
            tensor = self.tensors[name]
            if values.shape != tensor.shape:
                raise NetworkError(
                    f"constant {name}: its values are {values.shape}, its tensor {tensor.shape}"
                )
            _check_range(f"constant {name}", values, tensor.type.min, tensor.type.max)
        for layer in self.layers:
            for name in layer.inputs:
                if name not in known:
                    raise NetworkError(f"layer {layer.name}: its input {name} is not computed before it")
            if layer.output in known:
                raise NetworkError(f"layer {layer.name}: its output {layer.output} is already written")
            known.add(layer.output)
            self._check_layer(layer)
        for name in self.outputs:
            if name not in known:
                raise NetworkError(f"network {self.name}: its output {name} is not computed")

    def _check_layer(self, layer: AnyLayer) -> None:
        sources, target = [self.tensors[name] for name in layer.inputs], self.tensors[layer.output]
        operands = {Concatenation: len(sources), Add: 2, Sub: 2, Mul: 2}.get(type(layer), 1)
        if len(sources) != operands or not operands:
            raise NetworkError(f"layer {layer.name}: {layer.op} of {len(sources)} inputs")
        if isinstance(layer, Conv2D | DepthwiseConv2D | MaxPool2D | AveragePool2D):
            for what in ("stride", "dilation", "kernel"):
                if min(getattr(layer, what, (1,))) < 1:
                    raise NetworkError(f"layer {layer.name}: its {what} is {getattr(layer, what)}, below 1")
            if min(layer.padding) < 0:
                raise NetworkError(f"layer {layer.name}: its padding is {layer.padding}, below 0")
        shape = layer.output_shape(*(source.shape for source in sources))
        if min(shape, default=1) < 1 or shape != target.shape:
            raise NetworkError(
                f"layer {layer.name}: its output is {shape}, its tensor {target.name} {target.shape}"
            )
        if isinstance(layer, _SAME_PARAMETERS):
            what = "pooling" if isinstance(layer, MaxPool2D | AveragePool2D) else layer.op
            for source in sources:
                if _meaning(source) != _meaning(target):
                    raise NetworkError(
                        f"layer {layer.name}: {what} cannot change the type or scale of a tensor"
                    )
        if isinstance(layer, Conv2D | DepthwiseConv2D | FullyConnected):
            self._check_weights(layer)
        else:
            _check_parameters(layer, target.type)

    def _check_weights(self, layer: WeightLayer) -> None:
        if not 8 <= layer.accumulator_bits <= 48:
            raise NetworkError(
                f"layer {layer.name}: accumulators have 8...48 bits, not {layer.accumulator_bits}"
            )
        _check_range(
            f"layer {layer.name}: weight", layer.weights, layer.weight_type.min, layer.weight_type.max
        )
        channels = layer.weights.shape[0]
        for key, values in vars(layer.rescale).items():
            if isinstance(values, np.ndarray) and values.shape != (channels,):
                raise NetworkError(
                    f"layer {layer.name}: {values.size} of {key} for {channels} output channels"
                )
        if isinstance(layer.rescale, LlsqRescale):
            mantissa = layer.rescale.mantissa
            if not bool(np.all((mantissa == 1) | ((mantissa >= 128) & (mantissa <= 255)))):
                raise NetworkError(f"layer {layer.name}: a mantissa must be 1 or 128...255")
            _check_range(f"layer {layer.name}: shift", layer.rescale.shift, 0, 31)
        elif isinstance(layer.rescale, SbnqRescale | PowerOfTwoRescale):
            _check_range(f"layer {layer.name}: shift", layer.rescale.shift, -31, 31)
        elif isinstance(layer.rescale, AffineRescale):
            _check_range(f"layer {layer.name}: multiplier", layer.rescale.multiplier, 0, 2**31 - 1)
            _check_range(f"layer {layer.name}: exponent", layer.rescale.exponent, -31, 31)

            real = layer.rescale.real
            if real is not None and (
                layer.rescale.double_rounding or not bool(np.all((real > 0) & (real < 2**31)))
            ):
                raise NetworkError(f"layer {layer.name}: a real factor is positive, and rounds once")

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding counted."""
        return sum(layer.macs(self.tensors[layer.output].shape) for layer in self.layers)
