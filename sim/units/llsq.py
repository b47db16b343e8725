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

__all__ = ["configurations", "quotients", "signed_range", "spread", "types"]

RANDOM_CASES = 100_000


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
        _corners(accumulator_bits, bits, bias_bits),
        _random(accumulator_bits, bits, bias_bits, 20_000 if quick else RANDOM_CASES, random),
    ]
    if accumulator_bits <= 4:
        parts.append(thinned(random, quick, _everything(accumulator_bits, bits, bias_bits)))
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
    bins = _bins(inputs, total, expected, accumulator_bits, bits, bias_bits)
    return Cases(inputs, {"": expected & ((1 << bits) - 1)}, bins)


def types(bits: int) -> list[tuple[int, bool, int, int]]:
    """Bits, signedness and ends of the types that a result may have, the widest two first."""
    return [
        (k, signed, -(1 << (k - 1)) if signed else 0, (1 << (k - (1 if signed else 0))) - 1)
        for k in range(bits, 0, -1)
        for signed in (False, True)
    ]


def quotients(bits: int) -> Integers:
    """The results that round up at a threshold of either type: all, or of many those where carries end."""
    low, high = -(1 << (bits - 1)), 1 << bits
    if bits <= 8:
        return np.arange(low, high + 1)
    near = [sign * (1 << k) + d for k in range(bits + 1) for sign in (-1, 1) for d in (-1, 0, 1)]
    return np.array(sorted({q for q in near if low <= q <= high}))


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
    return _of_sums(columns, accumulator_bits, bits, bias_bits, random)


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
    return _of_sums(columns, accumulator_bits, bits, bias_bits, random)


def _of_sums(
    columns: list[Integers], accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator
) -> list[Integers]:
    """Cases of these sums, mantissas and shifts, where the accumulator holds the sum, by any bias and for both types of
    `bits` bits."""
    low, high = signed_range(accumulator_bits)
    fits = (columns[0] >= low) & (columns[0] <= high)
    columns = [np.tile(column[fits], 2) for column in columns]
    size = len(columns[0])
    bias = spread(bias_bits, size, random)
    limits = [np.repeat([of[end] for of in types(bits)[:2]], size // 2) for end in (2, 3)]
    return [rescale.wrap(columns[0] - bias, accumulator_bits), bias, *columns[1:], *limits]


def _corners(accumulator_bits: int, bits: int, bias_bits: int) -> list[Integers]:
    low, high = signed_range(accumulator_bits)
    bias_low, bias_high = signed_range(bias_bits)
    every = types(bits)
    *columns, of_type = grid(
        sorted({low, low + 1, -1, 0, 1, high - 1, high}),
        sorted({bias_low, -1, 0, 1, bias_high}),
        (0, 1, 127, 128, 255),
        np.arange(32),
        sorted({0, 1, len(every) - 2, len(every) - 1}),
    )
    return [*columns, *(np.array([of[end] for of in every])[of_type] for end in (2, 3))]


def _random(
    accumulator_bits: int, bits: int, bias_bits: int, size: int, random: np.random.Generator
) -> list[Integers]:
    """Accumulators of all magnitudes; half of the shifts bring the result near the ends of its type."""
    accumulator = spread(accumulator_bits, size, random)
    bias = spread(bias_bits, size, random)
    mantissa = random.integers(np.where(random.random(size) < 0.5, 0, 128), 256)
    chosen = random.integers(0, 2 * bits, size)
    of_type, _, low, high = np.array(types(bits)).T[:, chosen]
    product = np.abs(rescale.wrap(accumulator + bias, accumulator_bits) * mantissa)
    fitting = np.log2(np.maximum(product, 1)).astype(np.int64) - of_type + random.integers(-1, 4, size)
    shift = np.where(random.random(size) < 0.5, random.integers(0, 32, size), np.clip(fitting, 0, 31))
    any_limits = np.sort(random.integers(-(1 << bits), 1 << bits, (2, size)), axis=0)
    any_limits[1] = np.where(random.random(size) < 0.2, *any_limits)
    others = random.random(size) < 0.1
    return [accumulator, bias, mantissa, shift, *np.where(others, any_limits, [low, high])]


def _everything(accumulator_bits: int, bits: int, bias_bits: int) -> list[Integers]:
    """All accumulators, biases, mantissas and shifts, by the types of `bits` bits."""
    low, high = signed_range(accumulator_bits)
    bias_low, bias_high = signed_range(bias_bits)
    *columns, of_type = grid(
        np.arange(low, high + 1),
        np.arange(bias_low, bias_high + 1),
        np.arange(256),
        np.arange(32),
        (0, 1),
    )
    return [*columns, *(np.array([of[end] for of in types(bits)])[of_type] for end in (2, 3))]


def _bins(
    inputs: dict[str, Integers],
    total: Integers,
    expected: Integers,
    accumulator_bits: int,
    bits: int,
    bias_bits: int,
) -> dict[str, int]:
    mantissa, shift, low, high = (inputs[name] for name in ("mantissa", "shift", "low", "high"))
    exact = inputs["accumulator"] + inputs["bias"]
    product = total * mantissa
    half = (np.int64(1) << shift) >> 1
    remainder = product & ((np.int64(1) << shift) - 1)
    quotient = product >> shift
    tie = (shift > 0) & (remainder == half)
    value = quotient + (tie | (remainder > half))
    inside = (value >= low) & (value <= high)
    least, greatest = signed_range(accumulator_bits)
    found = {
        "shift 0": (shift == 0) & inside & (product != 0),
        "shift 31": shift == 31,
        "shift 31 of a negative product": (shift == 31) & (product < 0) & (low < 0),
        "tie, positive, even": tie & inside & (value > 0) & (quotient & 1 == 0),
        "tie, positive, odd": tie & inside & (value > 0) & (quotient & 1 == 1),
        "tie, negative, even": tie & inside & (value < 0) & (quotient & 1 == 0),
        "tie, negative, odd": tie & inside & (value < 0) & (quotient & 1 == 1),
        "tie from -1/2 to 0": tie & (quotient == -1),
        "under a tie": (shift > 1) & (remainder == half - 1) & inside,
        "over a tie": (shift > 1) & (remainder == half + 1) & inside,
        "nothing dropped": (shift > 0) & (remainder == 0) & inside & (value != 0),
        "rounded up beyond the upper end": (quotient == high) & (value > high),
        "rounded up to the lower end": (quotient == low - 1) & (value == low),
        "at the lower end": value == low,
        "at the upper end": value == high,
        "below by one": value == low - 1,
        "above by one": value == high + 1,
        "the sum wraps above": exact > greatest,
        "the sum wraps below": exact < least,
        "the sum wraps and the result is inside": (exact != total) & inside & (value != 0),
        "the least sum": total == least,
        "the greatest sum": total == greatest,
        "the least product": (total == least) & (mantissa == 255),
        "the greatest product": (total == greatest) & (mantissa == 255),
        "mantissa 0": mantissa == 0,
        "mantissa 1": (mantissa == 1) & inside & (value != 0),
        "mantissa 2...127": (mantissa > 1) & (mantissa < 128) & inside & (value != 0),
        "mantissa 128...255": (mantissa > 127) & inside & (value != 0),
        "the least bias": inputs["bias"] == signed_range(bias_bits)[0],
        "the greatest bias": inputs["bias"] == signed_range(bias_bits)[1],
        "limits that are one number": low == high,
        "limits of no type, inside": inside & (low < -(1 << (bits - 1))),
    }
    for of_type, signed, lowest, highest in types(bits):
        mine = (low == lowest) & (high == highest)
        name = f"{'signed' if signed else 'unsigned'} {of_type}"
        found[f"{name}: inside"] = mine & inside & (value != 0)
        # Narrow accumulators do not reach the ends of wide types.
        if 255 * least < lowest:
            found[f"{name}: saturated below"] = mine & (value < low)
        if 255 * greatest > highest:
            found[f"{name}: saturated above"] = mine & (value > high)
    for reach in (2, 8, accumulator_bits + 6 - bits):
        if 0 < reach < accumulator_bits + 7 - bits:
            found[f"below by 2**(N+{reach}) or more"] = value <= -(1 << (bits + reach))
            found[f"above by 2**(N+{reach}) or more"] = value >= 1 << (bits + reach)
    bins = count(found)
    bins["each shift"] = int(len(np.unique(shift)) == 32)
    bins["each mantissa"] = int(len(np.unique(mantissa)) == 256)

    # A threshold is the tie that rounds up to a result, and what lies just under it rounds down.
    for _, signed, lowest, highest in types(bits)[:2]:
        mine = (low == lowest) & (high == highest) & (mantissa == 1)
        result, by = grid(quotients(bits), np.arange(1, 32))
        threshold = (2 * result - 1) << (by - 1)
        reached = (threshold > least) & (threshold <= greatest) & (result >= lowest) & (result <= highest + 1)
        wanted = set(zip(result[reached].tolist(), by[reached].tolist(), strict=True))
        for side, which, up in (("at", tie, 0), ("under", (shift > 0) & (remainder == half - 1), 1)):
            seen = set(zip((value + up)[mine & which].tolist(), shift[mine & which].tolist(), strict=True))
            name = f"{side} each threshold of {'a signed' if signed else 'an unsigned'} result at each shift"
            bins[name] = int(bool(wanted) and wanted <= seen)
    return bins


def spread(bits: int, size: int, random: np.random.Generator) -> Integers:
    """Signed numbers of `bits` bits, of all magnitudes."""
    return random.integers(*signed_range(bits), size, endpoint=True) >> random.integers(0, bits, size)


def signed_range(bits: int) -> tuple[int, int]:
    """The least and the greatest signed number of `bits` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
