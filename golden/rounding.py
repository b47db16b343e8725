"""Division of a signed integer by a power of two, in each named rounding.

Ref: Jacob et al., 2017, section 2.2 and appendix B (round half away; why ties upward bias a network)
Ref: gemmlowp, `RoundingDivideByPOT`
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.golden.integers import Integers, as_int64, require_range
from intaglio.network import Rounding

MAX_SHIFT = 62
"""``2**n - 1`` and ``2**(n-1)`` fit int64 up to here."""


def rounding_right_shift(x: npt.ArrayLike, n: npt.ArrayLike, mode: Rounding) -> Integers:
    """``x / 2**n``, rounded as `mode` says; ``n = 0`` returns `x` in every mode.

    Exact for every int64 `x`: no mode forms ``x + 2**(n-1)``, which could overflow; all start from ``x >> n`` and
    add 0 or 1, and ``|x >> n| <= 2**62`` as soon as anything is added (n >= 1). An `n` beyond the width of `x` needs
    no case of its own, as `x` is extended to 64 bits first.

    Parameters
    ----------
    x : integers, any shape
    n : integers 0...62, any shape that broadcasts with `x`
    mode : Rounding

    Returns
    -------
    int64, of the broadcast shape (a numpy scalar where both are scalars)

    Raises
    ------
    TypeError
        Where `x` or `n` are not integers, or `mode` is not a Rounding.
    ValueError
        Where an `n` is outside 0...62, or an `x` outside 64 bits.
    """
    x, n = as_int64("x", x), as_int64("n", n)
    require_range("n", n, 0, MAX_SHIFT)
    quotient = x >> n
    if mode is Rounding.FLOOR:
        return quotient
    if mode is Rounding.HALF_UP:
        # floor(x / 2**n + 1/2): the highest bit that the shift drops, if it drops any.
        return quotient + ((x >> np.maximum(n - 1, 0)) & (n > 0))
    mask = (np.int64(1) << n) - 1
    remainder = x & mask
    if mode is Rounding.HALF_AWAY:
        # [jacob2017: app. B] A tie goes up unless x is negative, whose floor lies further from zero already.
        return quotient + (remainder > (mask >> 1) + (x < 0))
    if mode is Rounding.HALF_EVEN:
        half = (mask >> 1) + 1
        up = (remainder > half) | ((remainder == half) & ((quotient & 1) == 1))
        return quotient + up  # never at n = 0: half is 1 there, the remainder 0
    raise TypeError(f"`mode` must be a Rounding, not {mode!r}")
