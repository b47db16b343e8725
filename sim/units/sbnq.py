# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/sbnq.py`: exhaustive with small accumulators and at 12 bits; 4 bits out of 16, 24 and 32."""

from functools import partial

import numpy as np

from intaglio.golden import rescale
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid, thinned

__all__ = ["configurations"]

RANDOM_CASES = 100_000


def configurations() -> list[Configuration]:
    # accumulator, output and bias bits; lanes
    small = [(6, 4, 6, 16), (5, 8, 5, 4), (12, 4, 2, 32)]
    large = [(16, 4, 16, 1), (24, 4, 24, 1), (32, 4, 32, 1), (32, 8, 16, 1), (16, 16, 24, 1)]
    return [
        Configuration(
            f"sbnq_{accumulator}_{bits}_bias{bias}",
            partial(SBNQ, accumulator, bits, bias),
            partial(_cases, accumulator, bits, bias),
            lanes=lanes,
            mutants=(accumulator, bits) in ((16, 4), (5, 8)),
        )
        for accumulator, bits, bias, lanes in small + large
    ]


def _cases(
    accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator, quick: bool
) -> Cases:
    low, high = _range(accumulator_bits)
    bias_low, bias_high = _range(bias_bits)
    if accumulator_bits + bias_bits <= 14:
        axes = (
            np.arange(low, high + 1),
            np.arange(bias_low, bias_high + 1),
            np.arange(-32, 32),
            [0, 1],
            [0, 1],
        )
        accumulator, bias, shift, relu, signed = thinned(random, quick, grid(*axes))
    else:
        accumulator, bias, shift, relu, signed = _chosen(
            (low, high), (bias_low, bias_high), bits, 10_000 if quick else RANDOM_CASES, random
        )
    order = random.permutation(len(accumulator))
    accumulator, bias, shift = accumulator[order], bias[order], shift[order]
    relu, signed = relu[order], signed[order]

    expected = np.zeros_like(accumulator)
    for with_relu in (0, 1):
        for is_signed in (0, 1):
            mine = (relu == with_relu) & (signed == is_signed)
            expected[mine] = rescale.sbnq(
                accumulator[mine], bias[mine], shift[mine], bits, bool(is_signed), bool(with_relu)
            )
    bins = _bins(accumulator, bias, shift, relu, signed, expected, accumulator_bits, bits)
    inputs = {"accumulator": accumulator, "bias": bias, "shift": shift, "relu": relu, "signed": signed}
    return Cases(inputs, {"": expected & ((1 << bits) - 1)}, bins)


def _chosen(
    range_: tuple[int, int], bias_range: tuple[int, int], bits: int, size: int, random: np.random.Generator
) -> list[Integers]:
    """Differences near every threshold of the result at each shift, corners, and random cases."""
    wanted: list[tuple[int, int]] = []
    for shift in range(-32, 32):
        right, left = max(shift, 0), max(-shift, 0)
        for edge in (-(1 << bits), -(1 << (bits - 1)), -1, 0, 1, 1 << (bits - 1), 1 << bits):
            base = (edge << right) >> left
            wanted += [(base + offset, shift) for offset in (-2, -1, 0, 1, 2)]
            wanted += [(base + (1 << right) - 1, shift), (base + (1 << right) // 2, shift)]
    # Every single bit of the shifted difference that takes it across a threshold.
    for shift in (-1, 0, 1, 7):
        right = max(shift, 0)
        for edge in (-(1 << bits), 1 - (1 << (bits - 1)), 0, (1 << (bits - 1)) - 1, 1 << bits):
            for value in (edge - 1, edge, edge + 1):
                wanted += [
                    ((value ^ (1 << bit)) << right, shift) for bit in range(range_[1].bit_length() + 2)
                ]
    corners = [(a, b, s) for a in range_ for b in bias_range for s in range(-32, 32)]
    difference, near_shift = np.array([(d, s) for d, s in wanted], np.int64).T
    near_bias = random.integers(*bias_range, len(difference), endpoint=True) >> random.integers(
        0, 16, len(difference)
    )
    near = np.clip(difference + near_bias, *range_)
    near_bias = np.clip(near - difference, *bias_range)

    accumulator = random.integers(*range_, size, endpoint=True) >> random.integers(0, 32, size)
    bias = random.integers(*bias_range, size, endpoint=True) >> random.integers(0, 32, size)
    any_shift = random.integers(-32, 32, size)
    corner = np.array(corners, np.int64).T
    columns = [
        np.concatenate([corner[0], near, accumulator]),
        np.concatenate([corner[1], near_bias, bias]),
        np.concatenate([corner[2], near_shift, any_shift]),
    ]
    # The corners and the thresholds with all four settings, the random cases with one.
    settled = len(columns[0]) - size
    flags = np.repeat(np.arange(4), settled)
    columns = [np.concatenate([np.tile(c[:settled], 4), c[settled:]]) for c in columns]
    flags = np.concatenate([flags, random.integers(0, 4, size)])
    return [*columns, flags & 1, flags >> 1]


def _bins(
    accumulator, bias, shift, relu, signed, expected, accumulator_bits: int, bits: int
) -> dict[str, int]:
    low, high = _range(accumulator_bits)
    difference = accumulator - bias
    relu, signed = relu == 1, signed == 1
    greatest = (1 << (bits - 1)) - 1
    left, right = np.maximum(-shift, 0), np.maximum(shift, 0)
    # Beyond ±2**40 a left shift of up to 32 saturates anyway, and int64 holds it.
    value = np.where(relu, np.maximum(difference, 0), difference)
    value = np.where(shift >= 0, value >> right, np.clip(value, -(1 << 30), 1 << 30) << left)
    least = np.where(signed, -greatest, 0)
    most = np.where(signed, greatest, (1 << bits) - 1)
    found = {
        "shift 0": shift == 0,
        "shift 31": shift == 31,
        "shift -32": shift == -32,
        "shift -1, not saturated": (shift == -1) & (value == expected) & (expected != 0),
        "ReLU of a negative": relu & (difference < 0),
        "ReLU of a positive": relu & (difference > 0),
        "no ReLU, negative, unsigned": ~relu & ~signed & (difference < 0),
        "remainder dropped below zero": ~relu & signed & (shift > 0) & (difference < 0) & (value > least)
        & (difference & ((np.int64(1) << right) - 1) != 0),
        "quotient -1 of a small negative": ~relu & signed & (expected == -1) & (difference > -4) & (shift > 3),
        "signed, saturated below": signed & (value < least),
        "signed, at the lower end": signed & (value == least),
        "signed, at the upper end": signed & (value == most),
        "signed, saturated above": signed & (value > most),
        "signed, would be -2**(N-1)": signed & (value == least - 1),
        "unsigned, saturated below": ~signed & (value < least),
        "unsigned, at the upper end": ~signed & (value == most),
        "unsigned, saturated above": ~signed & (value > most),
        "left shift, saturated below": (shift < 0) & signed & (value < least),
        "left shift, saturated above": (shift < 0) & (value > most),
        "left shift of zero": (shift < 0) & (difference == 0),
        "difference above the accumulator's range": difference > high,
        "difference below the accumulator's range": difference < low,
    }  # fmt: skip
    if accumulator_bits < bits - 1:
        # The ends are odd, and only a left shift takes so narrow an accumulator that far.
        for name in ("signed, at the lower end", "signed, at the upper end", "unsigned, at the upper end"):
            del found[name]
    bins = count(found)
    bins["each shift with each setting"] = int(len(np.unique(shift * 4 + relu * 2 + signed)) == 256)
    return bins


def _range(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
