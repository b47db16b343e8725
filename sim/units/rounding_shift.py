# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/rounding_shift.py`: exhaustive at 8 and 12 bits; corners, every tie and random cases at 32."""

import numpy as np

from intaglio.golden.rounding import rounding_right_shift
from intaglio.hdl.units.rounding import Rounding
from intaglio.hdl.units.rounding_shift import RoundingShift
from intaglio.network import Rounding as GoldenRounding
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid, repeated

__all__ = ["configurations", "shift_values"]

RANDOM_CASES = 100_000


def configurations() -> list[Configuration]:
    fixed = [_configuration(width, mode) for width in (8, 12, 32) for mode in Rounding]
    selected = [_configuration(width, None) for width in (2, 8, 12, 31, 32, 33, 64)]
    return fixed + selected


def _configuration(width: int, mode: Rounding | None) -> Configuration:
    return Configuration(
        f"rounding_shift_{width}_{mode.name.lower() if mode else 'any'}",
        lambda: RoundingShift(width, mode),
        lambda random, quick: _cases(width, mode, random, quick),
        lanes=8 if width == 12 else 4 if (width, mode) == (32, None) else 1,
        mutants=(width, mode) in ((8, None), (32, None)),
    )


def _cases(width: int, mode: Rounding | None, random: np.random.Generator, quick: bool) -> Cases:
    if width <= (8 if quick else 12):
        value, shift = grid(np.arange(-(1 << (width - 1)), 1 << (width - 1)), np.arange(32))
    else:
        many = {12: 30_000, 32: 2_000 if quick else RANDOM_CASES}
        value, shift = shift_values(width, 31, many.get(width, 2_000), random)
    value, shift = repeated(value, shift)
    if mode is None:
        value, shift, modes = (np.tile(value, 4), np.tile(shift, 4), np.repeat(np.arange(4), len(value)))
    else:
        modes = np.full(len(value), mode.value)
    order = random.permutation(len(value))
    value, shift, modes = value[order], shift[order], modes[order]

    expected = np.zeros_like(value)
    bins: dict[str, int] = {}
    for each in Rounding if mode is None else [mode]:
        mine = modes == each.value
        expected[mine] = rounding_right_shift(value[mine], shift[mine], GoldenRounding[each.name])
        bins |= {f"{each.name} {k}": v for k, v in _bins(value[mine], shift[mine], width).items()}
    inputs = {"value": value, "shift": shift}
    if mode is None:
        inputs["mode"] = modes
    return Cases(inputs, {"": expected}, bins)


def shift_values(
    width: int, most: int, random_cases: int, random: np.random.Generator
) -> tuple[Integers, Integers]:
    """Values and shifts 0...`most`: each shift with ties, their neighbours and ties with one more bit at
    quotients 0, ±1, ±2 and the extremes, all corners, and `random_cases` others."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    shifts, values = [], []
    for shift in range(most + 1):
        tie = (1 << shift) // 2
        least, greatest = low >> shift, high >> shift
        quotients = {-3, -2, -1, 0, 1, 2, least, least + 1, greatest - 1, greatest}
        near = {(quotient << shift) + tie + offset for quotient in quotients for offset in (-1, 0, 1)}
        # What is dropped beside the half, one bit at a time.
        near |= {
            (quotient << shift) + tie + (1 << bit) for quotient in (-2, -1, 0, 1) for bit in range(shift - 1)
        }
        near |= {low, low + 1, -1, 0, 1, high - 1, high}
        inside = [value for value in sorted(near) if low <= value <= high]
        values += inside
        shifts += [shift] * len(inside)
    # Of all magnitudes, so that small quotients come up at large shifts.
    spread = random.integers(low, high, random_cases, endpoint=True) >> random.integers(
        0, width, random_cases
    )
    return (
        np.concatenate([np.array(values, np.int64), spread]),
        np.concatenate([np.array(shifts, np.int64), random.integers(0, most, random_cases, endpoint=True)]),
    )


def _bins(value: Integers, shift: Integers, width: int) -> dict[str, int]:
    half = (np.int64(1) << shift) >> 1
    remainder = value & ((np.int64(1) << shift) - 1)
    quotient = value >> shift
    tie = (shift > 0) & (remainder == half)
    odd = (quotient & 1) == 1
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    found = {
        "shift 0": shift == 0,
        "shift 31": shift == 31,
        "shift of the width or more": (shift >= width) | (width > 31),
        "tie, positive, even": tie & (value > 0) & ~odd,
        "tie, positive, odd": tie & (value > 0) & odd,
        "tie, negative, even": tie & (value < 0) & ~odd,
        "tie, negative, odd": tie & (value < 0) & odd,
        "under a tie": (shift > 1) & (remainder == half - 1),
        "over a tie": (shift > 1) & (remainder == half + 1),
        "least value": value == low,
        "greatest value": value == high,
        "greatest value, rounded up": (value == high) & (shift > 0),
        "quotient 0": quotient == 0,
        "quotient -1": quotient == -1,
        "quotient 1": quotient == 1,
    }
    if width == 2:
        # Two bits have no such numbers.
        del found["tie, positive, odd"], found["tie, negative, even"]
    bins = count(found)
    bins["each shift"] = int(len(np.unique(shift)) == 32)
    for q in (-1, 0, 1):
        bins[f"a tie at each shift 1...{min(width - 2, 30)}, quotient {q}"] = int(
            set(range(1, min(width - 2, 30) + 1)) <= set(shift[tie & (quotient == q)].tolist())
        )
    return bins
