"""The graph of a quantized network: tensors, layers, rescales.

Every layer is ``accumulate -> rescale``: ``acc = sum(a * w) (+ bias)`` modulo ``2**accumulator_bits``, then a
rescale per output channel that ends in a clamp to the output tensor's type. Shapes leave out the batch: an image is
``(height, width, channels)``, a vector ``(features,)``. A fully connected layer reads its input flattened in that
order; importers permute weights that were trained for another.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from network.errors import NetworkError

Integers = npt.NDArray[np.int64]


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
    """

    bias: Integers
    multiplier: Integers
    exponent: Integers
    double_rounding: bool
    low: int
    high: int


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
class Layer:
    """What all layers have: a unique name, the names of the tensors read and of the one written."""

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def op(self) -> str:
        return type(self).__name__


def _window_extent(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Output positions of a sliding window along one axis (0 or less: the window does not fit)."""
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


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

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        outputs, kernel_height, kernel_width, channels = self.weights.shape
        if len(shape) != 3 or shape[2] != channels:
            raise NetworkError(
                f"layer {self.name}: its weights take {channels} channels, its input is {shape}"
            )
        top, bottom, left, right = self.padding
        height = _window_extent(shape[0], kernel_height, self.stride[0], top, bottom, self.dilation[0])
        width = _window_extent(shape[1], kernel_width, self.stride[1], left, right, self.dilation[1])
        return (height, width, outputs)

    def macs(self, output_shape: tuple[int, ...]) -> int:
        return int(np.prod(output_shape)) * int(np.prod(self.weights.shape[1:]))


@dataclass(frozen=True)
class FullyConnected(Layer):
    """Matrix times the flattened input. `weights` is (output features, input features)."""

    weights: Integers
    weight_type: TensorType
    rescale: Rescale
    accumulator_bits: int

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
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

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise NetworkError(
                f"layer {self.name}: pooling takes (height, width, channels), its input is {shape}"
            )
        top, bottom, left, right = self.padding
        if max(top, bottom) >= self.kernel[0] or max(left, right) >= self.kernel[1]:
            raise NetworkError(
                f"layer {self.name}: padding {self.padding} leaves windows without any element"
            )
        height = _window_extent(shape[0], self.kernel[0], self.stride[0], top, bottom, 1)
        width = _window_extent(shape[1], self.kernel[1], self.stride[1], left, right, 1)
        return (height, width, shape[2])

    def macs(self, output_shape: tuple[int, ...]) -> int:
        return 0


AnyLayer = Conv2D | FullyConnected | MaxPool2D


def _check_range(what: str, values: Integers, low: int, high: int) -> None:
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        worst = int(values.min()) if int(values.min()) < low else int(values.max())
        raise NetworkError(f"{what}: {worst} is outside {low}...{high}")


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

    def __post_init__(self) -> None:
        known = set(self.inputs)
        if not self.layers:
            raise NetworkError(f"network {self.name} has no layers")
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
        source, target = self.tensors[layer.inputs[0]], self.tensors[layer.output]
        shape = layer.output_shape(source.shape)
        if min(shape) < 1 or shape != target.shape:
            raise NetworkError(
                f"layer {layer.name}: its output is {shape}, its tensor {target.name} {target.shape}"
            )
        if isinstance(layer, MaxPool2D):
            if (
                source.type != target.type
                or source.zero_point != target.zero_point
                or source.scale != target.scale
            ):
                raise NetworkError(f"layer {layer.name}: pooling cannot change the type or scale of a tensor")
            return
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

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding counted."""
        return sum(layer.macs(self.tensors[layer.output].shape) for layer in self.layers)
