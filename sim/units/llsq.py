# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/llsq.py`: exhaustive with small accumulators, every threshold of results of up to 8 bits."""

from functools import partial

import numpy as np

from intaglio.golden import rescale
from intaglio.golden.rounding import rounding_right_shift
from intaglio.hdl.units.llsq import LLSQ
from intaglio.network import Rounding
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid, thinned
from intaglio.sim.units.sums import (
    Dropped,
    bins_of_sums,
    bins_of_types,
    corners,
    everything,
    limits,
    of_sums,
    quotients,
    signed_range,
    spread,
    types,
)

__all__ = ["configurations"]

RANDOM_CASES = 100_000
SHIFTS = np.arange(32)


def configurations() -> list[Configuration]:
    # accumulator, output and bias bits; lanes
    small = [(3, 2, 2, 16), (4, 4, 2, 16)]
    large = [(16, 4, 16, 1), (16, 2, 16, 1), (16, 8, 16, 1), (32, 8, 32, 1), (16, 4, 8, 1)]
    extreme = [(2, 16, 2, 8), (12, 16, 12, 1), (48, 16, 48, 1), (48, 2, 48, 1)]
    return [
        Configuration(
            f"llsq_{accumulator}_{bits}_bias{bias}",
            partial(LLSQ, accumulator, bits, bias),
            partial(_cases, accumulator, bits, bias),
            lanes=lanes,
            mutants=(accumulator, bits, bias) in ((16, 4, 16), (32, 8, 32)),
        )
        for accumulator, bits, bias, lanes in small + large + extreme
    ]


def _cases(
    accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator, quick: bool
) -> Cases:
    parts = [
        _thresholds(accumulator_bits, bits, bias_bits, random, quick),
        _single_bits(accumulator_bits, bits, bias_bits, random),
        corners(accumulator_bits, bits, bias_bits, (0, 1, 127, 128, 255), SHIFTS),
        _random(accumulator_bits, bits, bias_bits, 20_000 if quick else RANDOM_CASES, random),
    ]
    if accumulator_bits <= 4:
        parts.append(
            thinned(random, quick, everything(accumulator_bits, bits, bias_bits, np.arange(256), SHIFTS))
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = random.permutation(len(columns[0]))
    names = ("accumulator", "bias", "mantissa", "shift", "low", "high")
    inputs = {name: column[order] for name, column in zip(names, columns, strict=True)}

    total = rescale.wrap(inputs["accumulator"] + inputs["bias"], accumulator_bits)
    mantissa, shift, low, high = (inputs[name] for name in names[2:])
    expected = np.clip(rounding_right_shift(total * mantissa, shift, Rounding.HALF_UP), low, high)
    # Golden takes the mantissas and the limits that networks have.
    usual = (mantissa == 1) | (mantissa >= 128)
    for of_type, signed, lowest, highest in types(bits):
        mine = usual & (low == lowest) & (high == highest)
        expected[mine] = rescale.llsq(total[mine], mantissa[mine], shift[mine], of_type, signed)
    bins = _bins(inputs, total, accumulator_bits, bits, bias_bits)
    return Cases(inputs, {"": expected & ((1 << bits) - 1)}, bins)


def _thresholds(
    accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator, quick: bool
) -> list[Integers]:
    """The least sum that rounds up to each result, and the sum below: all with a mantissa of 1, others with any."""
    quotient, shift = grid(quotients(bits), np.arange(32))
    # HALF_UP is q or more from (2*q - 1) * 2**(shift - 1) on.
    least = np.where(shift == 0, quotient, (2 * quotient - 1) << np.maximum(shift - 1, 0))
    some = len(least) // (8 if quick else 1)
    samples = [(np.arange(len(least)), np.ones(len(least), np.int64))]
    for lowest in (1, 128):
        samples.append((random.permutation(len(least))[:some], random.integers(lowest, 256, some)))
    parts = []
    for chosen, mantissa in samples:
        total = -(-least[chosen] // mantissa)
        parts += [(total, mantissa, shift[chosen]), (total - 1, mantissa, shift[chosen])]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return of_sums(columns, accumulator_bits, bits, bias_bits, random)


def _single_bits(
    accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator
) -> list[Integers]:
    """Products that one bit takes out of the limits, or back."""
    low, high = -(1 << (bits - 1)), 1 << bits
    edges = [edge + d for edge in (low, -1, 0, high >> 1, high) for d in (-1, 0, 1)]
    # The highest bits take mantissas above 128, of which some bring a product near enough.
    factors = [(shift, 1 << k) for shift in (0, 1, 2, 7, 31) for k in (0, 7)]
    factors += [(shift, int(m)) for shift in (0, 1) for m in random.permutation(np.arange(129, 256))[:12]]
    edge, bit, factor = grid(edges, np.arange(accumulator_bits + 8), np.arange(len(factors)))
    shift, mantissa = np.array(factors)[factor].T
    total = ((edge ^ (np.int64(1) << bit)) << shift) // mantissa
    fits = bit + shift < 62  # in int64
    columns = [total[fits], mantissa[fits], shift[fits]]
    return of_sums(columns, accumulator_bits, bits, bias_bits, random)


def _random(
    accumulator_bits: int, bits: int, bias_bits: int, size: int, random: np.random.Generator
) -> list[Integers]:
    """Accumulators of all magnitudes; half of the shifts bring the result near the ends of its type."""
    accumulator = spread(accumulator_bits, size, random)
    bias = spread(bias_bits, size, random)
    mantissa = random.integers(np.where(random.random(size) < 0.5, 0, 128), 256)
    of_type, ends = limits(bits, size, random)
    product = np.abs(rescale.wrap(accumulator + bias, accumulator_bits) * mantissa)
    fitting = np.log2(np.maximum(product, 1)).astype(np.int64) - of_type + random.integers(-1, 4, size)
    shift = np.where(random.random(size) < 0.5, random.integers(0, 32, size), np.clip(fitting, 0, 31))
    return [accumulator, bias, mantissa, shift, *ends]


def _bins(
    inputs: dict[str, Integers], total: Integers, accumulator_bits: int, bits: int, bias_bits: int
) -> dict[str, int]:
    mantissa, shift, low, high = (inputs[name] for name in ("mantissa", "shift", "low", "high"))
    product = total * mantissa
    dropped = Dropped(product, shift)
    quotient, tie = dropped.quotient, dropped.tie
    value = quotient + (tie | (dropped.remainder > dropped.half))
    inside = (value >= low) & (value <= high)
    least, greatest = signed_range(accumulator_bits)
    found = bins_of_sums(inputs, total, value, dropped, accumulator_bits, bits)
    found |= {
        "shift 31 of a negative product": (shift == 31) & (product < 0) & (low < 0),
        "tie, positive, even": tie & inside & (value > 0) & (quotient & 1 == 0),
        "tie, positive, odd": tie & inside & (value > 0) & (quotient & 1 == 1),
        "tie, negative, even": tie & inside & (value < 0) & (quotient & 1 == 0),
        "tie, negative, odd": tie & inside & (value < 0) & (quotient & 1 == 1),
        "tie from -1/2 to 0": tie & (quotient == -1),
        "rounded up beyond the upper end": (quotient == high) & (value > high),
        "rounded up to the lower end": (quotient == low - 1) & (value == low),
        "the least product": (total == least) & (mantissa == 255),
        "the greatest product": (total == greatest) & (mantissa == 255),
        "mantissa 0": mantissa == 0,
        "mantissa 1": (mantissa == 1) & inside & (value != 0),
        "mantissa 2...127": (mantissa > 1) & (mantissa < 128) & inside & (value != 0),
        "mantissa 128...255": (mantissa > 127) & inside & (value != 0),
        "the least bias": inputs["bias"] == signed_range(bias_bits)[0],
        "the greatest bias": inputs["bias"] == signed_range(bias_bits)[1],
    }
    # Narrow accumulators do not reach the ends of wide types.
    found |= bins_of_types(inputs, value, bits, (255 * least, 255 * greatest))
    for reach in (2, 8, accumulator_bits + 6 - bits):
        if 0 < reach < accumulator_bits + 7 - bits:
            found[f"below by 2**(N+{reach}) or more"] = value <= -(1 << (bits + reach))
            found[f"above by 2**(N+{reach}) or more"] = value >= 1 << (bits + reach)
    bins = count(found)
    bins["each shift"] = int(len(np.unique(shift)) == 32)
    bins["each mantissa"] = int(len(np.unique(mantissa)) == 256)
    return bins | _threshold_bins(inputs, value, dropped, accumulator_bits, bits)


def _threshold_bins(
    inputs: dict[str, Integers], value: Integers, dropped: Dropped, accumulator_bits: int, bits: int
) -> dict[str, int]:
    """A threshold is the tie that rounds up to a result, and what lies just under it rounds down."""
    least, greatest = signed_range(accumulator_bits)
    shift = dropped.shift
    under = (shift > 0) & (dropped.remainder == dropped.half - 1)
    bins = {}
    for _, signed, lowest, highest in types(bits)[:2]:
        mine = (inputs["low"] == lowest) & (inputs["high"] == highest) & (inputs["mantissa"] == 1)
        result, by = grid(quotients(bits), np.arange(1, 32))
        threshold = (2 * result - 1) << (by - 1)
        reached = (threshold > least) & (threshold <= greatest) & (result >= lowest) & (result <= highest + 1)
        wanted = set(zip(result[reached].tolist(), by[reached].tolist(), strict=True))
        for side, which, up in (("at", dropped.tie, 0), ("under", under, 1)):
            seen = set(zip((value + up)[mine & which].tolist(), shift[mine & which].tolist(), strict=True))
            name = f"{side} each threshold of {'a signed' if signed else 'an unsigned'} result at each shift"
            bins[name] = int(bool(wanted) and wanted <= seen)
    return bins
