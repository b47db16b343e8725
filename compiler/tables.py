"""The tables of LOOKUP and SOFTMAX: what a function of one element writes for each pattern of its operand.

The machine looks up what golden computes, so the tables are derived here a second time, from the sources and not from
golden: gemmlowp's fixed-point numbers are a type whose operators are their definitions; a division by a power of two
is a quotient of magnitudes; constants come from the real numbers that they stand for; and where a runtime computes in
float32, exp is a series of rationals. `tests/test_tables.py` sets the two derivations against each other.

Ref: gemmlowp, `fixedpoint/fixedpoint.h` [jacob2017: A.1]
Ref: TensorFlow Lite's reference kernels: `softmax.h`, `integer_ops/logistic.h`, `integer_ops/tanh.h`, `hard_swish.h`,
`leaky_relu.h`, `requantize.h`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from intaglio.network import (
    FixedPointScale,
    HardSwish,
    LeakyRelu,
    Logistic,
    NetworkError,
    Requantize,
    Softmax,
    Tanh,
    Tensor,
    TensorType,
)
from intaglio.network.graph import Integers
from intaglio.spec.commands import SOFTMAX_PLANES, TABLE_ENTRIES

__all__ = ["TABLED", "Tabled", "tables_of"]

Tabled = Requantize | LeakyRelu | HardSwish | Logistic | Tanh | Softmax
TABLED = (Requantize, LeakyRelu, HardSwish, Logistic, Tanh, Softmax)
"""Layers that ELEMENTWISE runs by a table."""

_LEAST, _GREATEST = -(1 << 31), (1 << 31) - 1
_SERIES_BITS = 200
"""Of the fractions in which exp is summed up: far more than tell on which side of a float32's edge it lies."""
_LIBRARY_ERROR = 2.0**-48
"""More than the C library's exp and tanh are off, of themselves."""
_FAR = 104
"""exp(-x) of a greater x is below half of the least float32; of a smaller -x, above the greatest."""


def tables_of(layer: Tabled, source: Tensor, target: Tensor) -> npt.NDArray[np.uint8]:
    """The bytes of a layer's tables, (planes, 256).

    Of a function of one element there is one plane, whose entry number p is its result, an element, for the operand
    whose two's complement pattern is p; of softmax there are four, byte k of ``exp(-p * scale)`` in Q0.31 in plane k.

    Raises NetworkError where the operand is not of 8 bits.
    """
    if source.type != TensorType(8, signed=True):
        raise NetworkError(f"there is no table of {source.type}; it takes int8")
    if isinstance(layer, Softmax):
        entries = _exponentials(layer.scale, layer.least).astype("<u4")
        return np.ascontiguousarray(entries.view(np.uint8).reshape(TABLE_ENTRIES, SOFTMAX_PLANES).T)
    patterns = np.arange(TABLE_ENTRIES, dtype=np.int64)
    values = np.where(patterns < 128, patterns, patterns - TABLE_ENTRIES)
    results = np.clip(
        _function(layer, values - source.zero_point, source, target), target.type.min, target.type.max
    )
    return (results % TABLE_ENTRIES).astype(np.uint8)[np.newaxis]


def _function(layer: Tabled, x: Integers, source: Tensor, target: Tensor) -> Integers:
    """Results for operands less their zero point, before they saturate to the output's type."""
    match layer:
        case Requantize():
            return np.clip(_scaled(x, layer.scale) + target.zero_point, layer.low, layer.high)
        case LeakyRelu():
            factor = layer.negative.multiplier
            slope = FixedPointScale(abs(factor), layer.negative.exponent, layer.negative.double_rounding)
            below = _scaled(x, slope) * (-1 if factor < 0 else 1)
            return np.where(x < 0, below, _scaled(x, layer.positive)) + target.zero_point
        case HardSwish():
            return _hard_swish(x, layer) + target.zero_point
        case Logistic():
            if layer.real is not None:
                return _float32_steps(layer.real, source.zero_point, 256, _logistic_of) - 128
            result = _divided(_logistic(_argument(x, layer)).raw, 23) - 128
        case Tanh():
            if layer.real is not None:
                return _float32_steps(layer.real, source.zero_point, 128, _tanh_of)
            result = _divided(_tanh(_argument(x, layer)).raw, 24)
        case _:
            raise TypeError(f"`layer` must be a function of one element, not {layer!r}")
    return np.where(x <= -layer.radius, -128, np.where(x >= layer.radius, 127, result))


def _argument(x: Integers, layer: Logistic | Tanh) -> _Fixed:
    """The operand in Q4.27; what saturates anyway is held where it does not wrap."""
    limit = max(layer.radius - 1, 0)
    return _Fixed(_scaled(np.clip(x, -limit, limit), layer.scale), 4)


def _exponentials(scale: FixedPointScale, least: int) -> Integers:
    """``exp(-d * scale)`` in Q0.31 for d = 0...255; 0 where ``-d`` is below `least`."""
    differences = -np.arange(TABLE_ENTRIES, dtype=np.int64)
    counted = differences >= least
    scaled = _Fixed(_scaled(np.where(counted, differences, 0), scale), 5)
    return np.where(counted, _exp(scaled).raw, 0)


# Fixed point.


@dataclass(frozen=True)
class _Fixed:
    """Numbers ``raw * 2**(integer_bits - 31)`` of 32 bits: gemmlowp's FixedPoint."""

    raw: Integers
    integer_bits: int

    def __add__(self, other: _Fixed) -> _Fixed:
        return _Fixed(self.raw + other.raw, self.integer_bits)

    def __sub__(self, other: _Fixed) -> _Fixed:
        return _Fixed(self.raw - other.raw, self.integer_bits)

    def __mul__(self, other: _Fixed) -> _Fixed:
        """Twice the product over 2**32, to nearest, ties up, saturated: the integer bits add up [jacob2017: app. B]."""
        product = (self.raw * other.raw + (1 << 30)) // (1 << 31)
        return _Fixed(np.minimum(product, _GREATEST), self.integer_bits + other.integer_bits)

    def times_power(self, exponent: int) -> _Fixed:
        """Times ``2**exponent``, by moving the point."""
        return _Fixed(self.raw, self.integer_bits + exponent)

    def scaled_by_power(self, exponent: int) -> _Fixed:
        """Times ``2**exponent`` with the point where it is: rounded to nearest, ties away from zero, or saturated."""
        if exponent < 0:
            return _Fixed(_divided(self.raw, -exponent), self.integer_bits)
        return _Fixed(np.clip(self.raw * (1 << exponent), _LEAST, _GREATEST), self.integer_bits)

    def with_integer_bits(self, bits: int) -> _Fixed:
        """The same number in another format, rounded or saturated."""
        return _Fixed(self.scaled_by_power(self.integer_bits - bits).raw, bits)


def _constant(real: Fraction, integer_bits: int) -> _Fixed:
    """The nearest number of a format, the greatest where it lies beyond."""
    steps = math.floor(abs(real) * (1 << (31 - integer_bits)) + Fraction(1, 2))
    return _Fixed(np.array(min(steps, _GREATEST) * (1 if real >= 0 else -1)), integer_bits)


def _exp_fraction(x: Fraction) -> Fraction:
    """exp(x), less than ``2**-150`` of itself away: the series at ``|x| / 2**k``, squared k times."""
    if x < 0:
        return 1 / _exp_fraction(-x)
    one, halvings = 1 << _SERIES_BITS, math.ceil(x).bit_length() + 8
    step = math.floor(x * one) >> halvings
    total, term, n = one, one, 0
    while term:
        n += 1
        term = term * step // (one * n)
        total += term
    for _ in range(halvings):
        total = total * total // one
    return Fraction(total, one)


_ONE = _constant(Fraction(1), 0)
_EIGHTH = _constant(Fraction(1, 8), 0)
_THIRD = _constant(Fraction(1, 3), 0)
_EXP_MINUS_EIGHTH = _constant(_exp_fraction(Fraction(-1, 8)), 0)
_EXP_OF_POWERS = {k: _constant(_exp_fraction(-(Fraction(2) ** k)), 0) for k in range(-2, 5)}
_UNIT_OF_TWO = _constant(Fraction(1), 2)
_48_17, _MINUS_32_17 = _constant(Fraction(48, 17), 2), _constant(Fraction(-32, 17), 2)


def _exp(a: _Fixed) -> _Fixed:
    """exp of numbers of at most 0, Q0.31: gemmlowp's `exp_on_negative_values`."""
    unit = 1 << (31 - a.integer_bits)
    # a = rest - quarters / 4, with the rest in [-1/4, 0).
    rest = a.raw % (unit // 4) - unit // 4
    quarters = (rest - a.raw) // (unit // 4)
    result = _exp_of_last_quarter(_Fixed(rest, a.integer_bits).with_integer_bits(0))
    for k, factor in _EXP_OF_POWERS.items():
        if k < a.integer_bits:
            odd = quarters // (1 << (k + 2)) % 2 == 1
            result = _Fixed(np.where(odd, (result * factor).raw, result.raw), 0)
    return _Fixed(np.where(a.raw == 0, _ONE.raw, result.raw), 0)


def _exp_of_last_quarter(a: _Fixed) -> _Fixed:
    """exp on [-1/4, 0): Taylor's polynomial of degree 4 around -1/8."""
    x = a + _EIGHTH
    square = x * x
    cube, fourth = square * x, square * square
    tail = (fourth.scaled_by_power(-2) + cube) * _THIRD + square
    return _EXP_MINUS_EIGHTH + _EXP_MINUS_EIGHTH * (x + tail.scaled_by_power(-1))


def _reciprocal_of_half(a: _Fixed) -> _Fixed:
    """``2 / (1 + a)`` in Q2.29 for a in [0, 1]: Newton and Raphson's division of 1 by ``(1 + a) / 2``."""
    half = _Fixed(_divided(a.raw + _ONE.raw, 1), 0)
    x = _48_17 + half * _MINUS_32_17
    for _ in range(3):
        error = _UNIT_OF_TWO - half * x
        x = x + (x * error).with_integer_bits(2)
    return x


def _logistic(x: _Fixed) -> _Fixed:
    """``1 / (1 + exp(-x))`` in Q0.31; of a negative x, 1 less the one of -x."""
    e = _exp(_Fixed(-np.abs(x.raw), x.integer_bits))
    positive = _reciprocal_of_half(e).times_power(-1).with_integer_bits(0)
    mirrored = np.where(x.raw < 0, (_ONE - positive).raw, positive.raw)
    return _Fixed(np.where(x.raw == 0, (_GREATEST + 1) // 2, mirrored), 0)


def _tanh(x: _Fixed) -> _Fixed:
    """``(1 - e) / (1 + e)`` with ``e = exp(-2 |x|)``, in Q0.31, with the sign of x."""
    e = _exp(_Fixed(-np.abs(x.raw), x.integer_bits).times_power(1))
    magnitude = (_reciprocal_of_half(e) - _UNIT_OF_TWO).with_integer_bits(0)
    return _Fixed(np.sign(x.raw) * magnitude.raw, 0)


# Rescales.


def _divided(x: Integers, n: int) -> Integers:
    """``x / 2**n`` to nearest, ties away from zero."""
    return np.sign(x) * ((2 * np.abs(x) + (1 << n)) // (1 << (n + 1)))


def _scaled(x: Integers, scale: FixedPointScale) -> Integers:
    """``x * multiplier * 2**(exponent - 31)``, rounded twice or once, saturated [jacob2017: eq. 6, app. B]."""
    exact = x.astype(object)  # a product and the bits that it is rounded by may take more than 64
    if not scale.double_rounding:
        result = _divided(exact * scale.multiplier, 31 - scale.exponent)
    else:
        shifted = (exact * (1 << max(scale.exponent, 0)) - _LEAST) % (1 << 32) + _LEAST
        high = np.minimum((2 * shifted * scale.multiplier + (1 << 31)) // (1 << 32), _GREATEST)
        result = _divided(high, max(-scale.exponent, 0))
    return np.clip(result, _LEAST, _GREATEST).astype(np.int64)


def _hard_swish(x: Integers, layer: HardSwish) -> Integers:
    """``x * relu6(x + 3) / 6`` of 16-bit numbers: TFLite's `hard_swish.h`."""

    def multiplied(a: Integers, factor: int) -> Integers:
        return np.minimum((2 * a * factor + (1 << 15)) // (1 << 16), (1 << 15) - 1)

    def shifted_left(a: Integers, amount: int) -> Integers:
        return np.clip(a * (1 << amount), -(1 << 15), (1 << 15) - 1)

    fine = x * 128
    on_output_scale = multiplied(fine, layer.output_multiplier)
    exponent = layer.relu_exponent
    relu = multiplied(shifted_left(fine, max(exponent - 1, 0)), layer.relu_multiplier)
    if exponent > 0:
        relu = shifted_left(relu, 1)
    relu = (_divided(relu, max(-exponent, 0)) + (1 << 15)) // 2
    doubled = 2 * relu * on_output_scale
    towards_zero = np.sign(doubled) * (np.abs(doubled) // (1 << 16))
    return _divided(towards_zero, -layer.output_exponent)


# float32, every step rounded.


def _float32_steps(
    scale: float, zero_point: int, units: int, function: Callable[[np.float32], np.float32]
) -> Integers:
    """``round(units * function(scale * x))``, half away from zero, in the order of the patterns."""
    with np.errstate(over="ignore"):
        patterns = np.arange(TABLE_ENTRIES, dtype=np.int64)
        values = np.where(patterns < 128, patterns, patterns - TABLE_ENTRIES) - zero_point
        x = np.float32(scale) * values.astype(np.float32)
        scaled = np.array([function(value) for value in x], np.float32) * np.float32(units)
    wide = scaled.astype(np.float64)
    return np.trunc(wide + np.copysign(0.5, wide)).astype(np.int64)


def _logistic_of(x: np.float32) -> np.float32:
    if abs(x) > _FAR:
        return np.float32(x > 0)
    e = _nearest(math.exp(-x), lambda: _exp_fraction(-Fraction(float(x))))
    return np.float32(1) / (np.float32(1) + e)


def _tanh_of(x: np.float32) -> np.float32:
    def exact() -> Fraction:
        e = _exp_fraction(2 * Fraction(float(x)))
        return (e - 1) / (e + 1)

    return np.float32(np.sign(x)) if abs(x) > _FAR else _nearest(math.tanh(x), exact)


def _nearest(near: float, exact: Callable[[], Fraction]) -> np.float32:
    """The float32 nearest to a number that is within ``2**-48`` of itself from `near`; `exact` is asked if that
    does not tell."""
    edges = np.float32(near * (1 - _LIBRARY_ERROR)), np.float32(near * (1 + _LIBRARY_ERROR))
    if edges[0] == edges[1]:
        return edges[0]
    number = exact()
    return min(edges, key=lambda edge: abs(Fraction(float(edge)) - number))
