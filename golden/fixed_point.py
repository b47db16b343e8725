"""Two's complement wrapping, saturation, and the fixed-point multiplication of the affine scheme.

Ref: Jacob et al., 2017, section 2.2 and appendix B
Ref: ARM's SQRDMULH instruction; gemmlowp, `SaturatingRoundingDoublingHighMul`
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.golden.integers import Integers, as_int64, require_range


def wrap(x: npt.ArrayLike, bits: int) -> Integers:
    """`x` modulo ``2**bits``, as a two's complement number of `bits` bits, 1...63.

    `x` is any int64. Raises TypeError where `x` are not integers, ValueError where `bits` is outside 1...63.
    """
    if not 1 <= bits <= 63:
        raise ValueError(f"`bits` must be 1...63, not {bits}")
    sign = np.int64(1) << np.int64(bits - 1)
    # The low bits are 0...2**bits - 1; flipping and subtracting the sign's weight moves the upper half below zero.
    return ((as_int64("x", x) & ((sign - 1) | sign)) ^ sign) - sign


def saturate(x: npt.ArrayLike, bits: int, signed: bool = True) -> Integers:
    """`x` clamped to a type of `bits` bits, 1...62: two's complement, or unsigned.

    `x` is any int64. Raises TypeError where `x` are not integers, ValueError where `bits` is outside 1...62.
    """
    if not 1 <= bits <= 62:
        raise ValueError(f"`bits` must be 1...62, not {bits}")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return clamp(x, low, high)


def clamp(x: npt.ArrayLike, low: int, high: int) -> Integers:
    """`x` where it is in `low`...`high`, else the nearer end. Raises ValueError where `low` exceeds `high`."""
    if low > high:
        raise ValueError(f"`low` must be at most `high`, not {low} over {high}")
    return np.clip(as_int64("x", x), low, high)


def sqrdmulh(a: npt.ArrayLike, b: npt.ArrayLike, bits: int = 32) -> Integers:
    """Saturating rounding doubling high multiplication: ``min((a*b + 2**(bits-2)) >> (bits-1), 2**(bits-1) - 1)``.

    The product of two numbers in Q0.(bits-1), rounded half up. It saturates only at ``a = b = -2**(bits-1)``
    [jacob2017: app. B].

    Exact in int64: ``|a*b| <= 2**62`` at 32 bits, and the rounding adds 2**30.

    Parameters
    ----------
    a, b : integers of `bits` bits, two's complement; shapes that broadcast
    bits : 2...32

    Returns
    -------
    int64 within `bits` bits, of the broadcast shape

    Raises
    ------
    TypeError
        Where `a` or `b` are not integers.
    ValueError
        Where one does not fit `bits` bits, or `bits` is outside 2...32.
    """
    if not 2 <= bits <= 32:
        raise ValueError(f"`bits` must be 2...32, not {bits}")
    high = (1 << (bits - 1)) - 1
    a, b = as_int64("a", a), as_int64("b", b)
    require_range("a", a, -high - 1, high)
    require_range("b", b, -high - 1, high)
    return np.minimum((a * b + (1 << (bits - 2))) >> (bits - 1), high)
