"""Integer multipliers that round alike: for a runtime's product with a float64, one with an int32 that gives the same
result at every sum that a channel can reach.

Ref: LiteRT's fully connected kernels: the accumulator times a float64, rounded half away from zero
Ref: Jacob et al., 2017, eq. 5, 6: the multiplier and the exponent that hardware takes for it
"""

from __future__ import annotations

import numpy as np

from intaglio.network.graph import Floats, Integers

MOST_MULTIPLIER = (1 << 31) - 1
MOST_REACH = 1 << 31
"""The greatest magnitude of a sum of 32 bits."""
_UNREACHED = 1 << 32
"""Beyond any sum and any multiplier."""
_CHUNK = 1 << 18
"""Thresholds at a time: what their temporaries take stays in the cache."""


def equal_multipliers(
    real: Floats, exponent: Integers, reach: Integers, highest: int
) -> tuple[Integers, list[int]]:
    """Multipliers M with ``HALF_AWAY(x * M, 31 - exponent)`` equal to ``HALF_AWAY(float64(x * real))`` wherever that is
    at most `highest`, for all ``|x| <= reach``; and the channels for which there is none (their M is 0).

    Both sides are odd and grow with x, so they are equal where they reach each k = 1, 2, ..., `highest` at the same x:
    at ``t`` where ``2 * (t - 1) * M < (2k - 1) * 2**(31 - exponent) <= 2 * t * M``. Of the multipliers that do, the
    nearest to ``real * 2**(31 - exponent)`` is taken.

    Parameters
    ----------
    real : normal float64 above 0 and below 2**31, a channel each
    exponent : -31...31
    reach : 0...2**31
    highest : the greatest magnitude of a result before its zero point is added, below 2**30
    """
    least, greatest = np.empty_like(exponent), np.empty_like(exponent)
    step = max(1, _CHUNK // max(highest, 1))
    for first in range(0, len(real), step):
        part = slice(first, first + step)
        least[part], greatest[part] = _bounds(real[part], exponent[part], reach[part], highest)
    # Exact: a float64 times a power of two; half to even, as it happens.
    wished = np.minimum(np.rint(np.ldexp(real, 31 - exponent)), float(_UNREACHED)).astype(np.int64)
    none = np.flatnonzero(least > greatest)
    multiplier = np.minimum(np.maximum(wished, least), greatest)
    multiplier[none] = 0
    return multiplier, [int(channel) for channel in none]


def _bounds(real: Floats, exponent: Integers, reach: Integers, highest: int) -> tuple[Integers, Integers]:
    """Of each channel, the least and the greatest multiplier that reaches every k where the product does."""
    k = np.arange(1, highest + 1)
    first = _first_sums(real[:, None], k)
    reach, shift = reach[:, None], 31 - exponent[:, None]
    odd = np.broadcast_to(2 * k - 1, first.shape)
    reached = first <= reach
    least = np.where(reached, _ceil_quotient(odd, shift, 2 * np.where(reached, first, 1)), 0)
    # The last sum that must stay below k: where k is not reached, the greatest there is.
    below = np.minimum(first - 1, reach)
    bound = _ceil_quotient(odd, shift, 2 * np.maximum(below, 1)) - 1
    greatest = np.where(below > 0, bound, MOST_MULTIPLIER)
    return least.max(axis=1, initial=0), greatest.min(axis=1, initial=MOST_MULTIPLIER)


def _first_sums(real: Floats, k: Integers) -> Integers:
    """The least x of 1 or more with ``float64(x * real) >= k - 1/2``; `_UNREACHED` where it is beyond all sums.

    Let v be the exact quotient ``(k - 1/2) / real`` and q its float64, rounded once. Rounding is monotone and integers
    below 2**53 are float64s, so ceil(v) is ceil(q), or ceil(q) + 1 where q is an integer and v just above it. The
    product rounds once, too: a sum of ceil(v) or more reaches the tie, which is a float64; one of ceil(v) - 1 may,
    where its product rounds up to it; none below does, whose product is less than the tie by `real` and more, which is
    at least ``(k - 1/2) * 2**-33``. So the first sum is ceil(q) - 1, ceil(q) or ceil(q) + 1.
    """
    tie = k - 0.5
    with np.errstate(over="ignore"):  # of a factor near 0: beyond all sums
        candidate = np.ceil(np.minimum(tie / real, float(_UNREACHED)))
    missed = [((candidate + offset) * real < tie) | (candidate + offset < 1) for offset in (-1, 0)]
    first = (candidate - 1 + missed[0] + (missed[0] & missed[1])).astype(np.int64)
    return np.where(candidate > MOST_REACH + 1, _UNREACHED, first)


def _ceil_quotient(number: Integers, shift: Integers, divisor: Integers) -> Integers:
    """``ceil(number * 2**shift / divisor)``, or something above every multiplier where that is.

    Long division in two digits: ``number < 2**31`` and the first shift of at most 32 make less than 2**63; a remainder
    below ``divisor <= 2**32`` and the second shift of at most 30 less than 2**62.
    """
    high = np.minimum(shift, 32)
    low = shift - high
    quotient, rest = np.divmod(number << high, divisor)
    more, rest = np.divmod(rest << low, divisor)
    return (np.minimum(quotient, _UNREACHED) << low) + more + (rest > 0)
