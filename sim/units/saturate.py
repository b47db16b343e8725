# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/saturate.py`: exhaustive up to 12 bits, corners and random cases at 32."""

from functools import partial

import numpy as np

from intaglio.golden import fixed_point
from intaglio.hdl.units.saturate import Clamp, Saturate
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, count, grid, thinned

__all__ = ["configurations"]

RANDOM_CASES = 100_000


def configurations() -> list[Configuration]:
    clamps = [
        Configuration(
            f"clamp_{width}_{bits}",
            partial(Clamp, width, bits),
            partial(_clamp_cases, width, bits),
            lanes=lanes,
            mutants=width == 32 or width == 6,
        )
        for width, bits, lanes in ((6, 6, 4), (12, 4, 16), (32, 8, 1))
    ]
    saturates = [
        Configuration(
            f"saturate_{width}_{'' if is_signed else 'u'}{bits}",
            partial(Saturate, width, bits, is_signed),
            partial(_saturate_cases, width, bits, is_signed),
            mutants=width == 12 and bits == 8,
        )
        for width, bits in ((12, 1), (12, 8), (12, 12), (32, 8), (32, 32))
        for is_signed in (True, False)
    ]
    return clamps + saturates


def _clamp_cases(width: int, bits: int, random: np.random.Generator, quick: bool) -> Cases:
    low, high = _range(width)
    least, greatest = _range(bits)
    limits = np.arange(least, greatest + 1)
    if width <= 12:
        value, lo, hi = thinned(random, quick, grid(np.arange(low, high + 1), limits, limits))
    else:
        size = 5_000 if quick else RANDOM_CASES
        # Pairs of limits that return, so that golden clamps many values at once.
        pairs = random.integers(least, greatest, (200, 2), endpoint=True)
        pairs[:5] = [
            [least, greatest],
            [least, least],
            [greatest, greatest],
            [0, greatest],
            [greatest, least],
        ]
        pairs[5:15] = np.sort(pairs[5:15])[:, ::-1]
        lo, hi = pairs[random.integers(0, len(pairs), size)].T
        value = random.integers(low, high, size, endpoint=True) >> random.integers(0, width, size)
        near = random.random(size) < 0.5
        value[near] = (np.where(random.random(size) < 0.5, lo, hi) + random.integers(-2, 3, size))[near]
        # A limit with one bit wrong.
        flipped = np.array([(limit[side], bit) for limit in pairs for side in (0, 1) for bit in range(width)])
        lo, hi = (np.concatenate([c, np.repeat(pairs[:, k], 2 * width)]) for k, c in enumerate((lo, hi)))
        value = np.concatenate([value, fixed_point.wrap(flipped[:, 0] ^ (1 << flipped[:, 1]), width)])
        value[:4] = [low, high, low, high]
    order = random.permutation(len(value))
    value, lo, hi = value[order], lo[order], hi[order]

    expected = hi.copy()  # where lo > hi, min(max(value, lo), hi) is hi
    key = lo * (1 << bits) + hi
    by_key = np.argsort(key, kind="stable")
    for group in np.split(by_key, np.flatnonzero(np.diff(key[by_key])) + 1):
        if lo[group[0]] <= hi[group[0]]:
            expected[group] = fixed_point.clamp(value[group], int(lo[group[0]]), int(hi[group[0]]))
    ordered = lo < hi
    bins = count(
        {
            "below": ordered & (value < lo),
            "at the lower limit": ordered & (value == lo),
            "inside": ordered & (value > lo) & (value < hi),
            "at the upper limit": ordered & (value == hi),
            "above": ordered & (value > hi),
            "limits equal": lo == hi,
            "limits crossed": lo > hi,
            "limits crossed, value between": (lo > hi) & (value > hi) & (value < lo),
            "least value": value == low,
            "greatest value": value == high,
            "widest limits": (lo == least) & (hi == greatest),
        }
    )
    return Cases({"value": value, "low": lo, "high": hi}, {"": expected}, bins)


def _saturate_cases(
    width: int, bits: int, is_signed: bool, random: np.random.Generator, quick: bool
) -> Cases:
    low, high = _range(width)
    least, greatest = _range(bits) if is_signed else (0, (1 << bits) - 1)
    if width <= 12:
        value = np.arange(low, high + 1)
    else:
        size = 5_000 if quick else RANDOM_CASES
        corners = {low, low + 1, high - 1, high, -1, 0, 1}
        corners |= {edge + offset for edge in (least, greatest) for offset in (-1, 0, 1)}
        corners |= {
            sign * (1 << index) + offset
            for index in range(width)
            for sign in (1, -1)
            for offset in (-1, 0, 1)
        }
        spread = random.integers(low, high, size, endpoint=True) >> random.integers(0, width, size)
        value = np.concatenate([np.array([c for c in sorted(corners) if low <= c <= high]), spread])
    value = random.permutation(value)
    found = {
        "below": value < least,
        "at the lower end": value == least,
        "inside": (value >= least) & (value <= greatest),
        "at the upper end": value == greatest,
        "above": value > greatest,
        "least value": value == low,
        "greatest value": value == high,
    }
    if least <= low:
        del found["below"]
    if greatest >= high:
        del found["above"], found["at the upper end"]
    return Cases({"": value}, {"": fixed_point.saturate(value, bits, is_signed)}, count(found))


def _range(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
