"""What must hold of a layer among its tensors: shapes, types, and every number in its range.

Each function returns nothing, or raises NetworkError: one line that begins with the layer's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.network.errors import NetworkError
from intaglio.network.graph.layers import (
    Add,
    AnyLayer,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    HardSwish,
    MaxPool2D,
    Mul,
    Pad,
    Requantize,
    Reshape,
    StridedSlice,
    Sub,
    Transpose,
    WeightLayer,
)
from intaglio.network.graph.rescales import (
    AffineRescale,
    FixedPointScale,
    LlsqRescale,
    PowerOfTwoRescale,
    Rescale,
    SbnqRescale,
)
from intaglio.network.graph.tensors import BinaryType, Integers, Tensor, TensorType

_SAME_PARAMETERS = (MaxPool2D, AveragePool2D, Pad, Concatenation, Reshape, StridedSlice, Transpose)
"""Layers that move or compare stored integers, whose meaning must therefore stay the same."""
_OPERANDS = {Add: 2, Sub: 2, Mul: 2}
"""Of the layers that read more than one tensor; a concatenation reads any number."""


def check_layer(layer: AnyLayer, sources: Sequence[Tensor], target: Tensor) -> None:
    """Whether `layer` can compute the tensor `target` from `sources`, its inputs in order."""
    operands = len(sources) if isinstance(layer, Concatenation) else _OPERANDS.get(type(layer), 1)
    if len(sources) != operands or not operands:
        raise NetworkError(f"layer {layer.name}: {layer.op} of {len(sources)} inputs")
    if isinstance(layer, Conv2D | DepthwiseConv2D | MaxPool2D | AveragePool2D):
        _check_window(layer)
    shape = layer.output_shape(*(source.shape for source in sources))
    if min(shape, default=1) < 1 or shape != target.shape:
        raise NetworkError(
            f"layer {layer.name}: its output is {shape}, its tensor {target.name} {target.shape}"
        )
    if isinstance(layer, _SAME_PARAMETERS):
        what = "pooling" if isinstance(layer, MaxPool2D | AveragePool2D) else layer.op
        if any(_meaning(source) != _meaning(target) for source in sources):
            raise NetworkError(f"layer {layer.name}: {what} cannot change the type or scale of a tensor")
    if isinstance(layer, WeightLayer):
        _check_weights(layer)
        _check_rescale(f"layer {layer.name}", layer.rescale, layer.weights.shape[0])
    else:
        _check_parameters(layer, target.type)


def check_range(what: str, values: Integers, low: int, high: int) -> None:
    """Whether all `values` are in `low`...`high`; `what` names them."""
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        worst = int(values.min()) if int(values.min()) < low else int(values.max())
        raise NetworkError(f"{what}: {worst} is outside {low}...{high}")


def _meaning(tensor: Tensor) -> tuple[TensorType, float | None, int]:
    return tensor.type, tensor.scale, tensor.zero_point


def _check_window(layer: Conv2D | DepthwiseConv2D | MaxPool2D | AveragePool2D) -> None:
    for what in ("stride", "dilation", "kernel"):
        if min(getattr(layer, what, (1,))) < 1:
            raise NetworkError(f"layer {layer.name}: its {what} is {getattr(layer, what)}, below 1")
    if min(layer.padding) < 0:
        raise NetworkError(f"layer {layer.name}: its padding is {layer.padding}, below 0")


def _check_weights(layer: WeightLayer) -> None:
    where, kind = f"layer {layer.name}", layer.weight_type
    if not 8 <= layer.accumulator_bits <= 48:
        raise NetworkError(f"{where}: accumulators have 8...48 bits, not {layer.accumulator_bits}")
    check_range(f"{where}: weight", layer.weights, kind.min, kind.max)
    if isinstance(kind, BinaryType) and not bool(np.all(layer.weights)):
        raise NetworkError(f"{where}: a weight is 0, where binary weights are -1 or 1")


def _check_rescale(where: str, rescale: Rescale, channels: int) -> None:
    for key, values in vars(rescale).items():
        if isinstance(values, np.ndarray) and values.shape != (channels,):
            raise NetworkError(f"{where}: {values.size} of {key} for {channels} output channels")
    match rescale:
        case LlsqRescale():
            mantissa = rescale.mantissa
            if not bool(np.all((mantissa == 1) | ((mantissa >= 128) & (mantissa <= 255)))):
                raise NetworkError(f"{where}: a mantissa must be 1 or 128...255")
            check_range(f"{where}: shift", rescale.shift, 0, 31)
        case SbnqRescale() | PowerOfTwoRescale():
            check_range(f"{where}: shift", rescale.shift, -31, 31)
        case AffineRescale():
            check_range(f"{where}: multiplier", rescale.multiplier, 0, 2**31 - 1)
            check_range(f"{where}: exponent", rescale.exponent, -31, 31)
            real = rescale.real
            if real is not None and (
                rescale.double_rounding or not bool(np.all((real > 0) & (real < 2**31)))
            ):
                raise NetworkError(f"{where}: a real factor must be positive, below 2**31, and round once")


def _check_parameters(layer: AnyLayer, target: TensorType) -> None:
    """The numbers of a layer without weights."""
    where = f"layer {layer.name}"
    for key, value in vars(layer).items():
        if isinstance(value, FixedPointScale):
            lowest = 1 - 2**31 if key == "negative" else 0
            check_range(f"{where}: {key}: multiplier", np.array([value.multiplier]), lowest, 2**31 - 1)
            check_range(f"{where}: {key}: exponent", np.array([value.exponent]), -31, 31)
    if isinstance(layer, AveragePool2D | Add | Mul | Requantize):
        if not target.min <= layer.low <= layer.high <= target.max:
            raise NetworkError(f"{where}: a clamp to {layer.low}...{layer.high} does not fit {target}")
    elif isinstance(layer, Pad):
        check_range(f"{where}: padding", np.array([layer.value]), target.min, target.max)
    elif isinstance(layer, HardSwish):
        multipliers = np.array([layer.output_multiplier, layer.relu_multiplier])
        check_range(f"{where}: multiplier", multipliers, -(2**15), 2**15 - 1)
        check_range(f"{where}: exponent", np.array([layer.output_exponent]), -31, 0)
        check_range(f"{where}: exponent", np.array([layer.relu_exponent]), -31, 31)
    if isinstance(layer, Add) and not 0 <= layer.left_shift <= 22:
        raise NetworkError(f"{where}: its left shift must be 0...22, not {layer.left_shift}")
