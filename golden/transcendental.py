"""exp, the reciprocal, tanh, the logistic function and softmax in 32-bit fixed point: gemmlowp's, step by step.

A number in Qm.n is an int32 whose unit is ``2**-n``; m + n = 31. Every product is an SQRDMULH, which multiplies Qa.b by
Qc.d to Q(a+c).(31-a-c). Nothing here depends on a table of the function's values [jacob2017: A.1].

Ref: gemmlowp, `fixedpoint/fixedpoint.h`: `exp_on_negative_values`, `one_over_one_plus_x_for_x_in_0_1`, `tanh`,
`logistic`
Ref: TensorFlow Lite's reference kernels, `softmax.h`, `integer_ops/logistic.h`, `integer_ops/tanh.h`
"""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from intaglio.golden.fixed_point import clamp, sqrdmulh
from intaglio.golden.integers import Integers, as_int64
from intaglio.golden.rescale import affine
from intaglio.golden.rounding import rounding_right_shift
from intaglio.network import FixedPointScale, Rounding

_INT32 = (-(1 << 31), (1 << 31) - 1)
_ONE = _INT32[1]
"""1 in Q0.31: the greatest number of the format stands for it."""

_EXP_EIGHTH = 1895147668  # exp(-1/8) in Q0.31
_THIRD = 715827883  # 1/3 in Q0.31
_EXP_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""k, and exp(-2**k) in Q0.31."""
_48_17, _MINUS_32_17 = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29

_DIFFERENCE_BITS = 5
"""Integer bits of softmax's scaled difference: Q5.26."""
_SUM_BITS = 12
"""Integer bits of softmax's sum of exponentials: Q12.19. It holds 4095 of them at their greatest."""
_INPUT_BITS = 4
"""Integer bits of the argument of tanh and the logistic function: Q4.27."""


def exp_on_negative_values(x: npt.ArrayLike, integer_bits: int) -> Integers:
    """exp(x) in Q0.31 for `x` of at most 0 in Q`integer_bits`.(31 - `integer_bits`), 0...5 integer bits.

    ``x = r + n/4`` with r in [-1/4, 0): a Taylor series around -1/8 has exp(r), and each set bit of n a factor
    ``exp(-2**k)``.
    """
    if not 0 <= integer_bits <= 5:
        raise ValueError(f"`integer_bits` must be 0...5, not {integer_bits}")
    x = as_int64("x", x)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    result = _exp_on_last_quarter(rest << integer_bits)
    quarters = rest - x
    for power, factor in _EXP_POWERS:
        if power < integer_bits:
            result = np.where(quarters & (1 << (fraction_bits + power)), sqrdmulh(result, factor), result)
    return np.where(x == 0, _ONE, result)


def _exp_on_last_quarter(x: Integers) -> Integers:
    """exp(x) for x in [-1/4, 0), both in Q0.31: ``exp(-1/8) * (1 + y + y²/2 + y³/6 + y⁴/24)``, y = x + 1/8."""
    y = x + (1 << 28)
    y2 = sqrdmulh(y, y)
    y3, y4 = sqrdmulh(y2, y), sqrdmulh(y2, y2)
    y4_over_4 = rounding_right_shift(y4, 2, Rounding.HALF_AWAY)
    tail = rounding_right_shift(sqrdmulh(y4_over_4 + y3, _THIRD) + y2, 1, Rounding.HALF_AWAY)
    return _EXP_EIGHTH + sqrdmulh(_EXP_EIGHTH, y + tail)


def _two_over_one_plus(x: Integers) -> Integers:
    """2 / (1 + x) in Q2.29 for x in [0, 1] in Q0.31: three steps of Newton's on ``1 / ((1 + x) / 2)``."""
    half_denominator = (x + _ONE + 1) >> 1  # the sum is positive: half away is half up
    estimate = _48_17 + sqrdmulh(half_denominator, _MINUS_32_17)
    for _ in range(3):
        error = (1 << 29) - sqrdmulh(half_denominator, estimate)
        estimate = estimate + _shifted_left(sqrdmulh(estimate, error), 2)
    return estimate


def _shifted_left(x: Integers, amount: int) -> Integers:
    return clamp(x << amount, *_INT32)


def one_over_one_plus(x: npt.ArrayLike) -> Integers:
    """1 / (1 + x) in Q0.31 for `x` in [0, 1] in Q0.31."""
    return _shifted_left(_two_over_one_plus(as_int64("x", x)), 1)


def tanh(x: npt.ArrayLike) -> Integers:
    """tanh(x) in Q0.31 for `x` in Q4.27: ``(1 - e) / (1 + e)`` with ``e = exp(-2|x|)``."""
    x = as_int64("x", x)
    # Twice a number in Q4.27 is the same integer in Q5.26.
    e = exp_on_negative_values(-np.abs(x), _INPUT_BITS + 1)
    magnitude = _shifted_left(_two_over_one_plus(e) - (1 << 29), 2)
    return np.sign(x) * magnitude


def logistic(x: npt.ArrayLike) -> Integers:
    """1 / (1 + exp(-x)) in Q0.31 for `x` in Q4.27."""
    x = as_int64("x", x)
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(x), _INPUT_BITS))
    return np.select([x == 0, x > 0], [1 << 30, positive], _ONE - positive)


def logistic_int8(centered: npt.ArrayLike, scale: FixedPointScale, radius: int) -> Integers:
    """The logistic function of an int8 less its zero point, in units of 1/256 from -128 on.

    `scale` takes `centered` to Q4.27; from `radius` on the result saturates.
    """
    return _saturating(logistic, centered, scale, radius, 8, -128)


def tanh_int8(centered: npt.ArrayLike, scale: FixedPointScale, radius: int) -> Integers:
    """tanh of an int8 less its zero point, in units of 1/128; see `logistic_int8`."""
    return _saturating(tanh, centered, scale, radius, 7, 0)


def _saturating(
    function: Callable[[Integers], Integers],
    centered: npt.ArrayLike,
    scale: FixedPointScale,
    radius: int,
    bits: int,
    offset: int,
) -> Integers:
    centered = as_int64("centered", centered)
    x = affine(
        np.clip(centered, 1 - radius, radius - 1) if radius > 0 else np.zeros_like(centered),
        scale.multiplier,
        scale.exponent,
        0,
        *_INT32,
        scale.double_rounding,
    )
    result = clamp(rounding_right_shift(function(x), 31 - bits, Rounding.HALF_AWAY) + offset, -128, 127)
    return np.select([centered <= -radius, centered >= radius], [-128, 127], result)


@functools.lru_cache(maxsize=256)
def logistic_float32(scale: float, zero_point: int) -> Integers:
    """The logistic function of each int8 in units of 1/256 from -128 on, every step rounded to float32.

    ``round(256 * (1 / (1 + exp(-(scale * (q - zero_point))))))`` for q = -128...127, at last half away from zero.
    """
    x = _float32_arguments(scale, zero_point)
    with np.errstate(over="ignore"):
        sums = np.float32(1) + np.array([_exp(-decimal.Decimal(float(value))) for value in x], np.float32)
        return _quantized((np.float32(1) / sums) * np.float32(256), -128)


@functools.lru_cache(maxsize=256)
def tanh_float32(scale: float, zero_point: int) -> Integers:
    """tanh of each int8 in units of 1/128, every step rounded to float32; see `logistic_float32`."""
    x = _float32_arguments(scale, zero_point)
    values = np.array([_tanh(decimal.Decimal(float(value))) for value in x], np.float32)
    return _quantized(values * np.float32(128), 0)


def _float32_arguments(scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # an infinite argument saturates like any that is large
        return np.float32(scale) * (np.arange(-128, 128) - zero_point).astype(np.float32)


_DIGITS = decimal.Context(prec=50, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
"""Enough that float64, and then float32, is the nearest one, but for ties that cannot be told apart."""


def _exp(x: decimal.Decimal) -> float:
    return float(_DIGITS.exp(x)) if abs(x) < 1000 else float("inf") if x > 0 else 0.0


def _tanh(x: decimal.Decimal) -> float:
    if abs(x) >= 1000:
        return 1.0 if x > 0 else -1.0
    e = _DIGITS.exp(_DIGITS.multiply(-2, abs(x)))
    magnitude = _DIGITS.divide(_DIGITS.subtract(1, e), _DIGITS.add(1, e))
    return float(magnitude.copy_sign(x))


def _quantized(real: npt.NDArray[np.float32], zero_point: int) -> Integers:
    """Half away from zero; a float32 of at most 256 and a half are exact in float64."""
    wide = real.astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(wide) + 0.5), wide).astype(np.int64)
    return clamp(rounded + zero_point, -128, 127)


def softmax(values: npt.ArrayLike, scale: FixedPointScale, least: int) -> Integers:
    """Softmax along the last axis of int8, in units of 1/256 from -128 on.

    Parameters
    ----------
    values : int8, at most 4095 in a row, so that the sum of their exponentials fits Q12.19
    scale : takes a difference of two of them to Q5.26
    least : differences from the greatest that are less count as minus infinity; at most 0

    Raises
    ------
    ValueError
        Where a row is longer.
    """
    values = as_int64("values", values)
    if values.shape[-1] >= 1 << _SUM_BITS:
        raise ValueError(
            f"softmax of {values.shape[-1]} elements; at most {(1 << _SUM_BITS) - 1} fit its sum"
        )
    exponentials = softmax_table(scale, least)
    addends = rounding_right_shift(exponentials, _SUM_BITS, Rounding.HALF_AWAY)

    index = values.max(axis=-1, keepdims=True) - values
    total = addends[index].sum(axis=-1, keepdims=True)
    # The greatest element of a row adds 1.0, so the sum is 2**19...2**31 - 1, and exact in float64.
    sum_bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    reciprocal = one_over_one_plus((total << (32 - sum_bits)) - (1 << 31))
    bits_over_unit = _SUM_BITS - (32 - sum_bits)
    product = sqrdmulh(reciprocal, exponentials[index])
    result = rounding_right_shift(product, bits_over_unit + 31 - 8, Rounding.HALF_AWAY) - 128
    return clamp(result, -128, 127)


def softmax_table(scale: FixedPointScale, least: int) -> Integers:
    """exp of ``scale * -d`` in Q0.31 for d = 0...255: all of `softmax` up to its sum. 0 where ``-d < least``."""
    differences = -np.arange(256)
    inside = differences >= least
    scaled = affine(
        np.where(inside, differences, 0), scale.multiplier, scale.exponent, 0, *_INT32, scale.double_rounding
    )
    return np.where(inside, exp_on_negative_values(scaled, _DIFFERENCE_BITS), 0)
