# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/affine_rescale.py`: every tie of both roundings, corners and random cases."""

from functools import partial

import numpy as np

from intaglio.golden import rescale
from intaglio.hdl.units.affine_rescale import AffineRescale
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid
from intaglio.sim.units.rounding_shift import shift_values

__all__ = ["configurations"]

RANDOM_CASES = 100_000
HALF = 1 << 30  # the multiplier of one half
UNLIMITED = 1 << 62


def configurations() -> list[Configuration]:
    parameters = [
        (32, 8, "double"),
        (32, 8, "single"),
        (32, 8, None),
        (32, 32, None),
        (16, 9, None),
        (8, 2, None),
    ]
    return [
        Configuration(
            f"affine_rescale_{accumulator}_{output}_{rounding or 'any'}",
            partial(AffineRescale, accumulator, output, rounding),
            partial(_cases, accumulator, output, rounding),
            mutants=(accumulator, output, rounding) == (32, 8, None),
        )
        for accumulator, output, rounding in parameters
    ]


def _cases(
    bits: int, output_bits: int, rounding: str | None, random: np.random.Generator, quick: bool
) -> Cases:
    low, high = _range(bits)
    least, greatest = _range(output_bits)
    size = 8_000 if quick else RANDOM_CASES
    parts = [
        _ties(bits),
        _corners(bits),
        _random(bits, least, greatest, size, random),
        _random_any(bits, size // 4, random),
    ]
    accumulator, multiplier, exponent = (np.concatenate(column) for column in zip(*parts, strict=True))
    accumulator = np.clip(accumulator, low, high)
    total = len(accumulator)
    zero_point, lo, hi = _after(total, least, greatest, random)
    # Ties are looked at without an offset as well.
    zero_point[: len(parts[0][0]) : 2] = 0
    lo[: len(parts[0][0])], hi[: len(parts[0][0])] = least, greatest
    columns = [accumulator, multiplier, exponent, zero_point, lo, hi]
    if rounding is None:
        columns = [np.tile(column, 2) for column in columns]
        single = np.repeat([0, 1], total)
    else:
        single = np.full(total, int(rounding == "single"))
    order = random.permutation(len(single))
    accumulator, multiplier, exponent, zero_point, lo, hi = (column[order] for column in columns)
    single = single[order]

    rounded = np.zeros_like(accumulator)
    for is_single in (0, 1):
        mine = single == is_single
        if mine.any():
            rounded[mine] = _rounded(accumulator[mine], multiplier[mine], exponent[mine], bool(is_single))
    total_value = rounded + zero_point
    expected = np.minimum(np.maximum(total_value, lo), hi)
    inputs = {
        "accumulator": accumulator,
        "multiplier": multiplier,
        "exponent": exponent,
        "zero_point": zero_point,
        "low": lo,
        "high": hi,
    }
    bins = _bins(inputs, single, rounded, bits, output_bits)
    if rounding is None:
        inputs["rounding"] = single
    return Cases(inputs, {"": expected}, bins)


def _rounded(accumulator: Integers, multiplier: Integers, exponent: Integers, single: bool) -> Integers:
    """Golden's, before the zero point and the clamp; -32, which golden does not take, by the same definition."""
    result = np.zeros_like(accumulator)
    usual = exponent > -32
    result[usual] = rescale.affine(
        accumulator[usual], multiplier[usual], exponent[usual], 0, -UNLIMITED, UNLIMITED, not single
    )
    if single:
        # Of 2**63, no product of 32-bit numbers is more than the half that (-2**31)**2 is.
        result[~usual] = (accumulator[~usual] * multiplier[~usual] == UNLIMITED).astype(np.int64)
    else:
        # Of 2**32, no 32-bit number is more than the half that -2**31 is: a tie, away from zero.
        scaled = rescale.affine(accumulator[~usual], multiplier[~usual], 0, 0, -UNLIMITED, UNLIMITED, True)
        result[~usual] = -(scaled == -(1 << 31)).astype(np.int64)
    return result


def _ties(bits: int) -> list[Integers]:
    """With a multiplier of ±1/2: ties of SQRDMULH, of the shift behind it, and of the single rounding."""
    value, shift = shift_values(min(bits, 31), 31, 0, np.random.default_rng(0))
    low, high = _range(bits)
    doubled = 2 * value
    fits = (doubled >= low) & (doubled < high)
    accumulator = np.concatenate([value, doubled[fits], doubled[fits] + 1])
    exponent = -np.concatenate([shift, shift[fits], shift[fits]])
    if bits == 32:
        extra, extra_shift = shift_values(32, 31, 0, np.random.default_rng(0))
        accumulator = np.concatenate([accumulator, extra])
        exponent = np.concatenate([exponent, 1 - extra_shift])
    sign = np.repeat([1, -1], len(accumulator))
    return [np.tile(accumulator, 2), sign * HALF, np.tile(exponent, 2)]


def _corners(bits: int) -> list[Integers]:
    low, high = _range(bits)
    least, greatest = _range(32)
    multipliers = [least, least + 1, -HALF, -1, 0, 1, HALF, HALF + 1, greatest - 1, greatest]
    accumulators = sorted(
        {low, low + 1, -1, 0, 1, 3, high - 1, high} | {1 << k for k in range(0, bits - 1, 5)}
    )
    return grid(accumulators, multipliers, np.arange(-32, 32))


def _random(bits: int, least: int, greatest: int, size: int, random: np.random.Generator) -> list[Integers]:
    """Multipliers as real networks have them, accumulators that come out near the output's range."""
    multiplier = random.integers(HALF, 1 << 31, size)
    exponent = random.integers(-31, 32, size)
    target = random.integers(min(2 * least, -4), max(2 * greatest, 4), size)
    low, high = _range(bits)
    ideal = np.clip(target * 2.0 ** (31 - exponent) / multiplier, float(low), float(high))
    accumulator = ideal.astype(np.int64) + random.integers(-2, 3, size)
    return [accumulator, multiplier, exponent]


def _random_any(bits: int, size: int, random: np.random.Generator) -> list[Integers]:
    low, high = _range(bits)
    accumulator = random.integers(low, high, size, endpoint=True) >> random.integers(0, bits, size)
    multiplier = random.integers(*_range(32), size, endpoint=True) >> random.integers(0, 32, size)
    return [accumulator, multiplier, random.integers(-32, 32, size)]


def _after(size: int, least: int, greatest: int, random: np.random.Generator) -> list[Integers]:
    zero_point = random.integers(least, greatest, size, endpoint=True)
    zero_point[random.random(size) < 0.1] = least
    zero_point[random.random(size) < 0.1] = greatest
    lo, hi = np.full(size, least), np.full(size, greatest)
    narrow = random.random(size) < 0.3
    lo[narrow], hi[narrow] = random.integers(least, greatest, (2, np.count_nonzero(narrow)), endpoint=True)
    fused = random.random(size) < 0.2
    lo[fused] = np.minimum(zero_point, hi)[fused]  # a fused ReLU
    return [zero_point, lo, hi]


def _bins(inputs: dict[str, Integers], single, rounded, bits: int, output_bits: int) -> dict[str, int]:
    accumulator, multiplier, exponent = inputs["accumulator"], inputs["multiplier"], inputs["exponent"]
    zero_point, lo, hi = inputs["zero_point"], inputs["low"], inputs["high"]
    least, greatest = _range(output_bits)
    single = single == 1
    shifted = accumulator << np.maximum(exponent, 0)
    wrapped = rescale.wrap(shifted, 32)
    product = np.where(single, accumulator, wrapped) * multiplier
    tie_inside = ~single & (product & ((1 << 31) - 1) == 1 << 30)
    scaled = np.minimum((product + (1 << 30)) >> 31, (1 << 31) - 1)
    whole = np.where(single, np.minimum(31 - exponent, 62), np.maximum(-exponent, 0))
    value = np.where(single, product, scaled)
    tie = (whole > 0) & (value & ((np.int64(1) << whole) - 1) == (np.int64(1) << whole) >> 1)
    result = rounded + zero_point
    found: dict[str, np.ndarray] = {}
    for name, mode in (("double", ~single), ("single", single)):
        if not mode.any():
            continue
        found |= {
            f"{name}: tie, positive": mode & tie & (value > 0),
            f"{name}: tie, negative": mode & tie & (value < 0),
            f"{name}: a tie to 1": mode & tie & (rounded == 1),
            f"{name}: a tie to -1": mode & tie & (rounded == -1),
            f"{name}: multiplier 0": mode & (multiplier == 0),
            f"{name}: multiplier negative": mode & (multiplier < 0) & (rounded != 0),
            f"{name}: exponent -31": mode & (exponent == -31),
            f"{name}: exponent 31": mode & (exponent == 31),
            f"{name}: result beyond 32 bits or clamped": mode & (np.abs(result) > greatest),
            f"{name}: clamped below": mode & (result < lo) & (lo <= hi),
            f"{name}: clamped above": mode & (result > hi) & (lo <= hi),
            f"{name}: inside": mode & (result > lo) & (result < hi),
            f"{name}: zero point at its least": mode & (zero_point == least) & (result > lo) & (result < hi),
            f"{name}: zero point at its greatest": mode
            & (zero_point == greatest)
            & (result > lo)
            & (result < hi),
        }
    if not single.all():
        found |= {
            "double: SQRDMULH tie, positive": tie_inside & (product > 0),
            "double: SQRDMULH tie, negative": tie_inside & (product < 0),
            "double: left shift": ~single & (exponent > 0) & (wrapped == shifted) & (accumulator != 0),
            "double: left shift wraps": ~single & (wrapped != shifted),
            "double: SQRDMULH saturates": ~single & (wrapped == -(1 << 31)) & (multiplier == -(1 << 31)),
            "double: two roundings differ from one": ~single & tie & (accumulator & 1 == 1),
        }
    if single.any():
        found["single: the largest product"] = (
            single & (accumulator == -(1 << (bits - 1))) & (multiplier == -(1 << 31))
        )
    bins = count(found)
    for name, mode in (("double", ~single), ("single", single)):
        if mode.any():
            bins[f"{name}: each exponent"] = int(len(np.unique(exponent[mode])) == 64)
            last = 30 if bits == 32 else bits - 2
            shifts = set(whole[mode & tie].tolist())
            bins[f"{name}: a tie at each right shift"] = int(
                set(range(1, last)) <= shifts or (name == "single" and len(shifts) >= bits - 2)
            )
    return bins


def _range(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
