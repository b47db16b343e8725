# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/sqrdmulh.py`: every pair at 8 and 12 bits, corners and random cases at 32 and 64."""

from functools import partial

import numpy as np

from intaglio.golden import fixed_point
from intaglio.hdl.units.sqrdmulh import SQRDMULH
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid, repeated

__all__ = ["configurations"]

RANDOM_CASES = 100_000


def configurations() -> list[Configuration]:
    small = [(2, 1), (8, 1), (8, 2), (8, 3), (8, 8), (12, 2)]
    large = [(32, 1), (32, 2), (32, 3), (32, 5), (32, 8), (64, 4)]
    return [
        Configuration(
            f"sqrdmulh_{width}_depth{depth}",
            partial(SQRDMULH, width, depth),
            partial(_cases, width),
            lanes=128 if width == 12 else 1,
            mutants=(width, depth) in ((8, 3), (32, 2)),
        )
        for width, depth in small + large
    ]


def _cases(width: int, random: np.random.Generator, quick: bool) -> Cases:
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if width <= 12:
        a, b = grid(np.arange(low, high + 1), np.arange(low, high + 1))
        if width == 12 and quick:
            # The whole square takes a minute; a quick run takes a few rows of it.
            rows = np.isin(a, [low, -1, 0, 1, high]) | (a % 64 == random.integers(64))
            a, b = a[rows], b[rows]
    else:
        corners = [
            low,
            low + 1,
            -(1 << (width // 2)),
            -3,
            -2,
            -1,
            0,
            1,
            2,
            3,
            1 << (width // 2),
            high // 2,
            high - 1,
            high,
        ]
        corners += [1 << (width - 2), -(1 << (width - 2))]
        corner_a, corner_b = grid(corners, corners)
        size = 3_000 if quick or width > 32 else RANDOM_CASES
        spread = [
            random.integers(low, high, size, endpoint=True) >> random.integers(0, width, size) for _ in "ab"
        ]
        # Ties: a product of an odd multiple of 2**(width-2).
        odd = random.integers(low // 2, high // 2, size // 4) * 2 + 1
        power = np.full(size // 4, 1 << (width - 2)) * random.choice([-1, 1], size // 4)
        a = np.concatenate([corner_a, spread[0], odd, power])
        b = np.concatenate([corner_b, spread[1], power, odd])
    a, b = repeated(a, b)
    order = random.permutation(len(a))
    a, b = a[order], b[order]
    if width <= 32:
        expected = fixed_point.sqrdmulh(a, b, width)
    else:
        # Golden's products are int64; here are the words of its definition, in Python's integers.
        half, shift = 1 << (width - 2), width - 1
        expected = np.array(
            [min((x * y + half) >> shift, high) for x, y in zip(a.tolist(), b.tolist(), strict=True)],
            np.int64,
        )
    return Cases({"a": a, "b": b}, {"": expected}, _bins(a, b, expected, width))


def _bins(a: Integers, b: Integers, expected: Integers, width: int) -> dict[str, int]:
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    dropped = (a * b) & ((1 << (width - 1)) - 1)  # right modulo 2**64 too
    tie = dropped == 1 << (width - 2)
    negative = (a < 0) != (b < 0)
    return count(
        {
            "both at the minimum: saturates": (a == low) & (b == low),
            "greatest result otherwise": (expected >= high - 1) & ((a != low) | (b != low)),
            "least result": expected <= low + 2,
            "minimum by maximum": (a == low) & (b == high),
            "maximum by minimum": (a == high) & (b == low),
            "both at the maximum": (a == high) & (b == high),
            "zero": (a == 0) | (b == 0),
            "tie, positive": tie & ~negative,
            "tie, negative": tie & negative,
            "under a tie": dropped == (1 << (width - 2)) - 1,
            "a tie that becomes 0": tie & (expected == 0) & (a != 0),
        }
    )
