"""Sums and products of two tensors, means, and functions of one element, as TFLite's reference kernels compute them.

A function of one 8-bit operand is computed for each of its at most 256 values, and looked up.

Ref: Jacob et al., 2017, appendix A.1, A.2
Ref: TensorFlow Lite's reference kernels: `integer_ops/add.h`, `integer_ops/mul.h`, `reduce.h`, `requantize.h`,
`leaky_relu.h`, `hard_swish.h`
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from intaglio.golden.fixed_point import clamp, saturate, sqrdmulh, wrap
from intaglio.golden.integers import Integers, as_int64
from intaglio.golden.rescale import affine
from intaglio.golden.rounding import rounding_right_shift
from intaglio.golden.transcendental import logistic_float32, logistic_int8, tanh_float32, tanh_int8
from intaglio.network import (
    Add,
    FixedPointScale,
    HardSwish,
    LeakyRelu,
    Logistic,
    Mean,
    Mul,
    Requantize,
    Rounding,
    Sub,
    Tanh,
    Tensor,
)

_INT32 = (-(1 << 31), (1 << 31) - 1)
_BLOCK_ELEMENTS = 1 << 15
"""Elements of int64 computed at a time: a rescale's half a dozen temporaries of that size stay in the cache."""

_PAIRS = 1 << 16
"""How many pairs of values two operands of 8 bits have."""

Unary = Requantize | LeakyRelu | HardSwish | Logistic | Tanh


def rescale(
    x: npt.ArrayLike, scale: FixedPointScale, zero_point: int = 0, low: int = _INT32[0], high: int = _INT32[1]
) -> Integers:
    """`affine` by the scale of a whole layer."""
    return affine(x, scale.multiplier, scale.exponent, zero_point, low, high, scale.double_rounding)


def add(
    layer: Add, first: npt.NDArray, second: npt.NDArray, tensors: tuple[Tensor, Tensor], output: Tensor
) -> npt.NDArray:
    """What Add or Sub writes: both operands rescaled, then their sum or difference [jacob2017: A.2].

    Each rescaled operand fits 32 bits; their sum wraps there.
    """
    combine = operator.sub if isinstance(layer, Sub) else operator.add

    def compute(a: npt.NDArray, b: npt.NDArray) -> Integers:
        left = _by_table(a, tensors[0], functools.partial(_operand, layer.first, layer.left_shift))
        right = _by_table(b, tensors[1], functools.partial(_operand, layer.second, layer.left_shift))
        total = wrap(combine(left, right), 32)
        return rescale(total, layer.total, output.zero_point, layer.low, layer.high)

    return _of_two(compute, first, second, tensors, output)


def _operand(scale: FixedPointScale, left_shift: int, centered: Integers) -> Integers:
    return rescale(centered << left_shift, scale)


def mul(
    layer: Mul, first: npt.NDArray, second: npt.NDArray, tensors: tuple[Tensor, Tensor], output: Tensor
) -> npt.NDArray:
    """What Mul writes. The product of two operands of 9 bits fits 32 bits."""

    def compute(a: npt.NDArray, b: npt.NDArray) -> Integers:
        product = (a.astype(np.int64) - tensors[0].zero_point) * (b.astype(np.int64) - tensors[1].zero_point)
        return rescale(product, layer.scale, output.zero_point, layer.low, layer.high)

    return _of_two(compute, first, second, tensors, output)


def _of_two(
    compute: Callable[[npt.NDArray, npt.NDArray], Integers],
    first: npt.NDArray,
    second: npt.NDArray,
    tensors: tuple[Tensor, Tensor],
    output: Tensor,
) -> npt.NDArray:
    """`compute` of each pair of elements of two tensors that broadcast.

    Two operands of 8 bits make 2**16 pairs: where there are more elements than that, each pair is computed once, and
    looked up.
    """
    result = np.empty(np.broadcast_shapes(first.shape, second.shape), output.type.dtype)
    left, right = np.broadcast_to(first, result.shape), np.broadcast_to(second, result.shape)
    kinds = [tensor.type for tensor in tensors]
    if result.size <= _PAIRS or any(kind.bits != 8 for kind in kinds):
        for part in _parts(result):
            result[part] = compute(left[part], right[part])
        return result
    every = [np.arange(kind.min, kind.max + 1).astype(kind.dtype) for kind in kinds]
    table = compute(*np.meshgrid(*every, indexing="ij")).astype(output.type.dtype).reshape(-1)
    for part in _parts(result):
        # Values from their type's least on: 0...255, in 16 bits.
        rows = left[part].astype(np.uint16) - np.uint16(kinds[0].min % (1 << 16))
        columns = right[part].astype(np.uint16) - np.uint16(kinds[1].min % (1 << 16))
        result[part] = table[(rows << 8) | columns]
    return result


def mean(layer: Mean, values: npt.NDArray, source: Tensor, output: Tensor) -> npt.NDArray:
    """What Mean writes; the sums, less their zero points, wrap at 32 bits."""
    axes = tuple(axis + 1 for axis in layer.axes)
    count = math.prod(values.shape[axis] for axis in axes)
    sums = values.sum(axis=axes, dtype=np.int64) - source.zero_point * count
    result = rescale(wrap(sums, 32), layer.scale, output.zero_point, output.type.min, output.type.max)
    return result.reshape(len(values), *output.shape).astype(output.type.dtype)


def unary(layer: Unary, values: npt.NDArray, source: Tensor, output: Tensor) -> npt.NDArray:
    """What a function of one element writes."""
    table = functools.partial(unary_table, layer, source=source, output=output)
    return _by_table(values, source, lambda _: table()).astype(output.type.dtype)


def unary_table(layer: Unary, source: Tensor, output: Tensor) -> Integers:
    """What a function of one element writes for each value of `source`, from its type's least on.

    Raises ValueError where the source has more than 16 bits, or is not int8 and the function takes int8 alone.
    """
    centered = _values(source) - source.zero_point
    zero_point, low, high = output.zero_point, output.type.min, output.type.max
    if isinstance(layer, Requantize):
        return rescale(centered, layer.scale, zero_point, layer.low, layer.high)
    if isinstance(layer, LeakyRelu):
        negative = layer.negative
        magnitude = FixedPointScale(abs(negative.multiplier), negative.exponent, negative.double_rounding)
        below = rescale(centered, magnitude) * (-1 if negative.multiplier < 0 else 1)
        return clamp(
            np.where(centered >= 0, rescale(centered, layer.positive), below) + zero_point, low, high
        )
    if isinstance(layer, HardSwish):
        return clamp(_hard_swish(layer, centered) + zero_point, low, high)
    if (source.type.bits, source.type.signed) != (8, True):
        raise ValueError(f"{layer.op} takes int8, not {source.type}")
    if isinstance(layer, Logistic):
        if layer.real is not None:
            return logistic_float32(layer.real, source.zero_point)
        return logistic_int8(centered, layer.scale, layer.radius)
    if layer.real is not None:
        return tanh_float32(layer.real, source.zero_point)
    return tanh_int8(centered, layer.scale, layer.radius)


def _hard_swish(layer: HardSwish, centered: Integers) -> Integers:
    """The result before the output's zero point is added. All values are int16; a left shift saturates."""
    raised = wrap(centered << 7, 16)
    scaled = sqrdmulh(raised, layer.output_multiplier, 16)
    relu, exponent = raised, layer.relu_exponent
    if exponent > 0:
        relu = saturate(relu << (exponent - 1), 16)
    relu = sqrdmulh(relu, layer.relu_multiplier, 16)
    if exponent > 0:
        relu = saturate(relu << 1, 16)
    elif exponent < 0:
        relu = rounding_right_shift(relu, -exponent, Rounding.HALF_AWAY)
    relu = (relu + (1 << 15)) >> 1  # from [-1, 1] to [0, 1]
    # The product rounds towards zero, which takes back the bias of the roundings above.
    product = relu * scaled
    product = np.sign(product) * (np.abs(product) >> 15)
    return rounding_right_shift(product, -layer.output_exponent, Rounding.HALF_AWAY)


def _values(tensor: Tensor) -> Integers:
    if tensor.type.bits > 16:
        raise ValueError(f"a table of {tensor.type} would be too large: at most 16 bits")
    return np.arange(tensor.type.min, tensor.type.max + 1, dtype=np.int64)


def _by_table(values: npt.NDArray, tensor: Tensor, function: Callable[[Integers], Integers]) -> Integers:
    table = as_int64("table", function(_values(tensor) - tensor.zero_point))
    return table[values.astype(np.int64) - tensor.type.min]


def _parts(array: npt.NDArray) -> list[slice]:
    step = max(1, _BLOCK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    return [slice(first, first + step) for first in range(0, len(array), step)]
