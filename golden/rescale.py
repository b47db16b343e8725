"""From an accumulator to the next layer's operand: the rescales of the four schemes.

The elementary functions take and return int64 of any shape; parameters a channel broadcast along the last axis.
An accumulator here is what the rescale reads: where a scheme adds its bias, that has been added before
(`accumulator_bias`), inside the accumulator and its wrapping. SBNQ subtracts its bias itself, outside.

Ref: Jacob et al., 2017 (affine); Guo et al. (SBNQ); LLSQ; ITBWN
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.golden.fixed_point import clamp, sqrdmulh, wrap
from intaglio.golden.integers import ACCUMULATOR_BITS, Integers, as_int64, require_range
from intaglio.golden.rounding import MAX_SHIFT, rounding_right_shift
from intaglio.network import (
    AffineRescale,
    LlsqRescale,
    NetworkError,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    Tensor,
)
from intaglio.network.graph import Rescale

_INT32 = (-(1 << 31), (1 << 31) - 1)
_BLOCK_ELEMENTS = 1 << 15
"""Elements that are rescaled at a time: 256 KiB of int64, so that the temporaries stay in the cache."""
_LOW_BITS = 27
_LOW_WORD = (1 << _LOW_BITS) - 1
_ACCUMULATOR = (-(1 << (ACCUMULATOR_BITS - 1)), (1 << (ACCUMULATOR_BITS - 1)) - 1)


def _signed_shift(x: Integers, shift: Integers, rounding: Rounding, low: int, high: int) -> Integers:
    """``clamp(x / 2**shift, low, high)``, a negative shift to the left, for |x| < 2**62, |shift| <= 62, 32-bit ends.

    To the left by s, x is first clamped to ``low >> s``...``(high >> s) + 1``: what lies beyond saturates anyway, and
    shifted back these ends stay within 2**s + 2**32 of zero, so int64 holds them for every s up to 62.
    """
    require_range("shift", shift, -MAX_SHIFT, MAX_SHIFT)
    result = rounding_right_shift(x, np.maximum(shift, 0), rounding)
    if bool(np.any(shift < 0)):
        left = np.maximum(-shift, 0)
        inside = np.clip(x, np.int64(low) >> left, (np.int64(high) >> left) + 1)
        result = np.where(shift < 0, inside << left, result)
    return clamp(result, low, high)


def sbnq(
    accumulator: npt.ArrayLike,
    bias: npt.ArrayLike,
    shift: npt.ArrayLike,
    bits: int,
    signed: bool,
    relu: bool,
) -> Integers:
    """Shift-based batch normalization and quantization: ``clamp((accumulator - bias) >> shift)`` [sbnq: eq. 16, 19].

    With `relu`, ReLU before the shift. ``>>`` is FLOOR; a negative shift is a left shift, which saturates.
    The clamp: signed ``-2**(bits-1) + 1 ... 2**(bits-1) - 1``, unsigned ``0 ... 2**bits - 1``.

    Exact in int64: the difference of two 48-bit numbers has 49 bits; for the left shift see `_signed_shift`.

    Parameters
    ----------
    accumulator, bias : integers of 48 bits, two's complement
    shift : integers -62...62
    bits : width of the output, 1...32

    Raises
    ------
    TypeError
        Where an argument is not integers.
    ValueError
        Where one is outside its range.
    """
    _require_bits(bits)
    accumulator, bias, shift = _accumulator(accumulator), as_int64("bias", bias), as_int64("shift", shift)
    require_range("bias", bias, *_ACCUMULATOR)
    low, high = (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    difference = accumulator - bias
    if relu:
        difference = np.maximum(difference, 0)
    return _signed_shift(difference, shift, Rounding.FLOOR, low, high)


def affine(
    accumulator: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    exponent: npt.ArrayLike,
    zero_point: int,
    low: int,
    high: int,
    double_rounding: bool,
) -> Integers:
    """``clamp(zero_point + accumulator * multiplier * 2**(exponent - 31), low, high)`` [jacob2017: eq. 4-7, app. B].

    `double_rounding`: ``HALF_AWAY(SQRDMULH(accumulator << max(exponent, 0), multiplier), max(-exponent, 0))``, the
    left shift modulo 2**32. Else ``HALF_AWAY(accumulator * multiplier, 31 - exponent)``, once.

    Exact in int64: the left shift makes at most 31 + 31 bits before it wraps; ``|accumulator * multiplier| <= 2**62``;
    a zero point and a rounded quotient of at most 2**62 add up to less than 2**63.

    Parameters
    ----------
    accumulator, multiplier : int32
    exponent : integers -31...31, positive to the left
    zero_point, low, high : int, at most 33 bits

    Raises
    ------
    TypeError
        Where an argument is not integers.
    ValueError
        Where one is outside its range.
    """
    return _affine(
        accumulator, multiplier, exponent, zero_point, low, high, double_rounding, np.dtype(np.int64)
    )


def _affine(
    accumulator: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    exponent: npt.ArrayLike,
    zero_point: int,
    low: int,
    high: int,
    double_rounding: bool,
    dtype: np.dtype,
) -> npt.NDArray:
    """`affine` in a `dtype` that holds `low` and `high`."""
    x = as_int64("accumulator", accumulator)
    multiplier, exponent = as_int64("multiplier", multiplier), as_int64("exponent", exponent)
    require_range("accumulator", x, *_INT32)
    require_range("multiplier", multiplier, *_INT32)
    require_range("exponent", exponent, -31, 31)
    require_range("zero_point", as_int64("zero_point", zero_point), -(1 << 32), 1 << 32)
    if double_rounding and x.size and not bool(np.any(exponent > 0)) and not bool(np.any(multiplier < 0)):
        return _affine_right(x, multiplier, -exponent, zero_point, low, high, dtype)
    if double_rounding:
        shifted = wrap(x << np.maximum(exponent, 0), 32) if bool(np.any(exponent > 0)) else x
        product = sqrdmulh(shifted, multiplier)
        rounded = rounding_right_shift(product, np.maximum(-exponent, 0), Rounding.HALF_AWAY)
    else:
        rounded = rounding_right_shift(x * multiplier, 31 - exponent, Rounding.HALF_AWAY)
    return clamp(rounded + zero_point, low, high).astype(dtype, copy=False)


def _affine_right(
    x: Integers, multiplier: Integers, shift: Integers, zero_point: int, low: int, high: int, dtype: np.dtype
) -> npt.NDArray:
    """`affine` with double rounding, for `multiplier` and `shift` of 0 or more, in few passes over the memory.

    SQRDMULH cannot saturate then. ``HALF_AWAY(p, n) = (p + 2**(n-1) - (p < 0)) >> n`` for n >= 1, and p for n = 0.
    """
    if low > high:
        raise ValueError(f"`low` must be at most `high`, not {low} over {high}")
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    rounds = np.where(shift > 0, np.int64(-1), np.int64(0))
    # The clamp comes before the zero point. |p| <= |x|, so int32 mostly holds all that follows the product.
    least, most = low - zero_point, high - zero_point
    sums = max(-int(x.min()), int(x.max())) + int(half.max()) + 1
    reach = max(sums, *map(abs, (least, most, low, high, zero_point)))
    kind = np.dtype(np.int32 if reach < 1 << 31 else np.int64)
    half, rounds, shift = half.astype(kind), rounds.astype(kind), shift.astype(kind)
    shape = np.broadcast_shapes(x.shape, multiplier.shape, shift.shape)
    x = np.broadcast_to(x, shape).reshape(-1, *shape[-1:])
    result = np.empty(x.shape, dtype)
    per_row = [
        np.broadcast_to(each, shape).reshape(x.shape) if each.ndim > 1 else each
        for each in (multiplier, shift, half, rounds)
    ]
    step = max(1, _BLOCK_ELEMENTS // max(1, x.shape[-1] if x.ndim > 1 else 1))
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        factor, n, h, r = (each[part] if each.ndim > 1 else each for each in per_row)
        product = x[part] * factor
        product += 1 << 30
        product >>= 31
        high_half = product.astype(kind, copy=False)
        carry = high_half >> (8 * kind.itemsize - 1)
        carry &= r
        carry += h
        high_half += carry
        high_half >>= n
        np.clip(high_half, least, most, out=high_half)
        high_half += zero_point
        result[part] = high_half
    return result.reshape(shape)


def affine_real(
    accumulator: npt.ArrayLike, real: npt.ArrayLike, zero_point: int, low: int, high: int
) -> Integers:
    """``clamp(zero_point + HALF_AWAY(float64(accumulator * real)), low, high)``: the product first becomes a float64.

    In integers: ``real = m * 2**(e - 53)`` with ``2**52 <= m < 2**53``. The product of 32 and 53 bits is kept in two
    words, of 58 and 27 bits; what is beyond 53 bits is rounded half to even, what is below 1 half away from zero.

    Parameters
    ----------
    accumulator : int32
    real : float64 above 0 and below 2**31, normal

    Raises
    ------
    TypeError
        Where `accumulator` is not integers.
    ValueError
        Where an argument is outside its range.
    """
    x = as_int64("accumulator", accumulator)
    require_range("accumulator", x, *_INT32)
    real = np.asarray(real, np.float64)
    if not bool(np.all((real >= np.finfo(np.float64).tiny) & (real < 2.0**31))):
        raise ValueError("`real` must be a normal number above 0 and below 2**31")
    fraction, exponent = np.frexp(real)
    mantissa, exponent = np.ldexp(fraction, 53).astype(np.int64), exponent.astype(np.int64)

    magnitude = np.abs(x)
    low_product = magnitude * (mantissa & _LOW_WORD)  # below 2**58
    upper = magnitude * (mantissa >> _LOW_BITS) + (low_product >> _LOW_BITS)  # below 2**58
    lower = low_product & _LOW_WORD
    # A magnitude of 1 or more has an `upper` of at least 2**25; less 5 bits it is exact in float64, which counts bits.
    beyond = np.maximum(np.frexp((upper >> 5).astype(np.float64))[1].astype(np.int64) + 5 + _LOW_BITS - 53, 0)
    inner, outer = np.minimum(beyond, _LOW_BITS), np.maximum(beyond - _LOW_BITS, 0)
    kept = ((upper >> outer) << (_LOW_BITS - inner)) | (lower >> inner)
    dropped = ((upper & ((np.int64(1) << outer) - 1)) << _LOW_BITS | lower) & ((np.int64(1) << beyond) - 1)
    half = (np.int64(1) << beyond) >> 1
    kept += (dropped > half) | ((dropped == half) & (beyond > 0) & ((kept & 1) == 1))

    # kept * 2**(beyond + exponent - 53); 2**52 and more of it saturates any 32-bit clamp.
    shift = 53 - exponent - beyond
    quotient = rounding_right_shift(kept, np.clip(shift, 0, MAX_SHIFT), Rounding.HALF_AWAY)
    quotient = np.where((shift < 0) & (kept > 0), np.int64(1) << 53, quotient)
    return clamp(np.where(x < 0, -quotient, quotient) + zero_point, low, high)


def llsq(
    accumulator: npt.ArrayLike,
    mantissa: npt.ArrayLike,
    shift: npt.ArrayLike,
    bits: int,
    signed: bool,
) -> Integers:
    """``clamp(HALF_UP(accumulator * mantissa, shift))`` to an integer type of `bits` bits [llsq: eq. 1, 6].

    A `mantissa` of 1 is the rescale by shift alone, 128...255 the one with an 8-bit scale (the tables' alpha8).

    Exact in int64: 48 and 8 bits multiply to 56.

    Parameters
    ----------
    accumulator : integers of 48 bits, two's complement
    mantissa : 1, or 128...255
    shift : 0...31
    bits : width of the output, 1...32

    Raises
    ------
    TypeError
        Where an argument is not integers.
    ValueError
        Where one is outside its range.
    """
    _require_bits(bits)
    accumulator = _accumulator(accumulator)
    mantissa, shift = as_int64("mantissa", mantissa), as_int64("shift", shift)
    bad = (mantissa != 1) & ((mantissa < 128) | (mantissa > 255))
    if bool(np.any(bad)):
        raise ValueError(f"`mantissa` must be 1 or 128...255, not {int(mantissa[bad][0])}")
    require_range("shift", shift, 0, 31)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return clamp(rounding_right_shift(accumulator * mantissa, shift, Rounding.HALF_UP), low, high)


def power_of_two(
    accumulator: npt.ArrayLike,
    shift: npt.ArrayLike,
    rounding: Rounding,
    bits: int,
    signed: bool,
) -> Integers:
    """``clamp(round(accumulator / 2**shift))`` to an integer type of `bits` bits, in a named rounding [itbwn].

    A negative shift is a left shift, which saturates. Exact in int64: see `_signed_shift`.

    Parameters
    ----------
    accumulator : integers of 48 bits, two's complement
    shift : integers -62...62
    bits : width of the output, 1...32

    Raises
    ------
    TypeError
        Where an argument is not integers, or `rounding` not a Rounding.
    ValueError
        Where one is outside its range.
    """
    _require_bits(bits)
    accumulator, shift = _accumulator(accumulator), as_int64("shift", shift)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return _signed_shift(accumulator, shift, rounding, low, high)


def accumulator_bias(rescale: Rescale) -> Integers | None:
    """The bias that is part of the accumulator, one integer a channel; None where the scheme has it outside (SBNQ)."""
    return None if isinstance(rescale, SbnqRescale) else rescale.bias


def apply(rescale: Rescale, accumulator: npt.ArrayLike, output: Tensor) -> npt.NDArray:
    """What a layer writes: `rescale` of an accumulator whose last axis is the output channels.

    Parameters
    ----------
    rescale : any of the graph's
    accumulator : integers, wrapped already, `accumulator_bias` included
    output : Tensor, whose type and zero point are taken; its shape is not

    Returns
    -------
    array of ``output.type.dtype``, of the shape of `accumulator`

    Raises
    ------
    NetworkError
        Where the rescale cannot write `output`: a fused range beyond its type, a zero point that the scheme lacks.
    TypeError, ValueError
        As the elementary functions do.
    """
    kind = output.type
    if output.zero_point and not isinstance(rescale, AffineRescale):
        raise NetworkError(
            f"tensor {output.name}: only the affine rescale has a zero point, not {type(rescale).__name__}"
        )
    match rescale:
        case SbnqRescale(bias=bias, shift=shift, relu=relu):
            result = sbnq(accumulator, bias, shift, kind.bits, kind.signed, relu)
        case AffineRescale(multiplier=multiplier, exponent=exponent, low=low, high=high):
            if not kind.min <= low <= high <= kind.max:
                raise NetworkError(
                    f"tensor {output.name}: a clamp to {low}...{high} does not fit its type {kind}"
                )
            if rescale.real is not None:
                result = affine_real(accumulator, rescale.real, output.zero_point, low, high)
            else:
                twice = rescale.double_rounding
                return _affine(
                    accumulator, multiplier, exponent, output.zero_point, low, high, twice, kind.dtype
                )
        case LlsqRescale(mantissa=mantissa, shift=shift):
            result = llsq(accumulator, mantissa, shift, kind.bits, kind.signed)
        case PowerOfTwoRescale(shift=shift, rounding=rounding):
            result = power_of_two(accumulator, shift, rounding, kind.bits, kind.signed)
        case _:
            raise TypeError(f"`rescale` must be a rescale of the graph, not {type(rescale).__name__}")
    return result.astype(kind.dtype)  # clamped to the type above


def _accumulator(values: npt.ArrayLike) -> Integers:
    values = as_int64("accumulator", values)
    require_range("accumulator", values, *_ACCUMULATOR)
    return values


def _require_bits(bits: int) -> None:
    if not 1 <= bits <= 32:
        raise ValueError(f"`bits` must be 1...32, not {bits}")
