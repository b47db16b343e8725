# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/power_of_two.py`: exhaustive with small accumulators, every threshold in every mode."""

from functools import partial

import numpy as np

from intaglio.golden import rescale
from intaglio.hdl.units.power_of_two import PowerOfTwo
from intaglio.hdl.units.rounding import Rounding
from intaglio.network import Rounding as GoldenRounding
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid, thinned
from intaglio.sim.units.sums import (
    Dropped,
    Flags,
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
SHIFTS = np.arange(-32, 32)


def configurations() -> list[Configuration]:
    # accumulator, output and bias bits, mode; lanes
    small = [(5, 2, 3, None, 16), (6, 4, 2, None, 16)]
    fixed = [(16, 4, 16, mode, 1) for mode in Rounding] + [(24, 8, 24, Rounding.HALF_EVEN, 1)]
    large = [(24, 8, 24, None, 2), (12, 16, 12, None, 2), (48, 16, 33, None, 2), (48, 2, 48, None, 2)]
    extreme = [(2, 16, 2, None, 4)]
    return [
        Configuration(
            f"power_of_two_{accumulator}_{bits}_bias{bias}_{mode.name.lower() if mode else 'any'}",
            partial(PowerOfTwo, accumulator, bits, bias, mode),
            partial(_cases, accumulator, bits, bias, mode),
            lanes=lanes,
            mutants=(accumulator, bits, mode) in ((16, 4, Rounding.HALF_EVEN), (24, 8, None)),
        )
        for accumulator, bits, bias, mode, lanes in [*small, *fixed, *large, *extreme]
    ]


def _cases(
    accumulator_bits: int,
    bits: int,
    bias_bits: int,
    mode: Rounding | None,
    random: np.random.Generator,
    quick: bool,
) -> Cases:
    # With the mode at run time each case comes in every mode.
    size = (20_000 if quick else RANDOM_CASES) // (4 if mode is None else 1)
    parts = [
        of_sums(_thresholds(bits), accumulator_bits, bits, bias_bits, random),
        of_sums(_single_bits(accumulator_bits, bits), accumulator_bits, bits, bias_bits, random),
        corners(accumulator_bits, bits, bias_bits, SHIFTS),
        _random(accumulator_bits, bits, bias_bits, size, random),
    ]
    if accumulator_bits <= 6:
        parts.append(thinned(random, quick, everything(accumulator_bits, bits, bias_bits, SHIFTS), 20_000))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    total = len(columns[0])
    if mode is None:
        columns = [np.tile(column, 4) for column in columns]
        modes = np.repeat([each.value for each in Rounding], total)
    else:
        modes = np.full(total, mode.value)
    order = random.permutation(len(modes))
    modes = modes[order]
    names = ("accumulator", "bias", "shift", "low", "high")
    inputs = {name: column[order] for name, column in zip(names, columns, strict=True)}

    sums = rescale.wrap(inputs["accumulator"] + inputs["bias"], accumulator_bits)
    # Limits have 17 bits at most: a clamp to 32 before them changes nothing.
    wide = np.zeros_like(sums)
    for each in Rounding if mode is None else [mode]:
        mine = modes == each.value
        wide[mine] = rescale.power_of_two(
            sums[mine], inputs["shift"][mine], GoldenRounding[each.name], 32, True
        )
    expected = np.clip(wide, inputs["low"], inputs["high"])
    bins = _bins(inputs, modes, sums, wide, accumulator_bits, bits)
    if mode is None:
        inputs["mode"] = modes
    return Cases(inputs, {"": expected & ((1 << bits) - 1)}, bins)


def _thresholds(bits: int) -> list[Integers]:
    """Sums and right shifts: each tie with what lies beside it, and with one more bit of what is dropped; and sums and
    left shifts whose results are about each end of the types."""
    quotient, shift, offset = grid(quotients(bits), np.arange(1, 32), (-1, 0, 1))
    ties = ((2 * quotient - 1) << (shift - 1)) + offset
    few, far, bit = grid((-2, -1, 0, 1, 2), np.arange(3, 32), np.arange(30))
    dropped = bit < far - 1
    beside = ((2 * few - 1) << (far - 1)) + (np.int64(1) << bit)
    end, left, near = grid(
        (-(1 << bits), -(1 << (bits - 1)), 0, 1 << (bits - 1), 1 << bits), np.arange(33), (-1, 0, 1)
    )
    return [
        np.concatenate([ties, beside[dropped], (end >> left) + near]),
        np.concatenate([shift, far[dropped], -left]),
    ]


def _single_bits(accumulator_bits: int, bits: int) -> list[Integers]:
    """Sums that one bit takes out of the limits, or back, and shifts."""
    low, high = -(1 << (bits - 1)), 1 << bits
    edges = [edge + d for edge in (low, -1, 0, high >> 1, high) for d in (-1, 0, 1)]
    edge, bit, shift = grid(edges, np.arange(accumulator_bits), (-32, -bits, -3, -1, 0, 1, 2, 7))
    flipped = edge ^ (np.int64(1) << bit)
    return [np.where(shift > 0, flipped << np.maximum(shift, 0), flipped >> np.maximum(-shift, 0)), shift]


def _random(
    accumulator_bits: int, bits: int, bias_bits: int, size: int, random: np.random.Generator
) -> list[Integers]:
    """Accumulators of all magnitudes; half of the shifts bring the result near the ends of its type."""
    accumulator = spread(accumulator_bits, size, random)
    bias = spread(bias_bits, size, random)
    of_type, ends = limits(bits, size, random)
    sums = np.abs(rescale.wrap(accumulator + bias, accumulator_bits))
    fitting = np.log2(np.maximum(sums, 1)).astype(np.int64) - of_type + random.integers(-1, 4, size)
    shift = np.where(random.random(size) < 0.5, random.integers(-32, 32, size), np.clip(fitting, -32, 31))
    return [accumulator, bias, shift, *ends]


def _bins(
    inputs: dict[str, Integers],
    modes: Integers,
    sums: Integers,
    value: Integers,
    accumulator_bits: int,
    bits: int,
) -> dict[str, int]:
    shift, low, high = inputs["shift"], inputs["low"], inputs["high"]
    dropped, left = Dropped(sums, np.maximum(shift, 0)), np.maximum(-shift, 0)
    inside = (value >= low) & (value <= high)
    found = bins_of_sums(inputs, sums, value, dropped, accumulator_bits, bits)
    found |= {
        "shift -1, inside": (shift == -1) & inside & (value != 0),
        "shift -32": (shift == -32) & (sums != 0),
        "left shift of zero": (shift < 0) & (sums == 0),
        "left shift, saturated below": (shift < 0) & (value < low),
        "left shift, saturated above": (shift < 0) & (value > high),
        "left shift by N": (left == bits) & (sums != 0),
        "left shift by N - 1, inside": (left == bits - 1) & inside & (sums != 0),
    }
    for mode in Rounding:
        mine = modes == mode.value
        if mine.any():
            found |= _mode_bins(inputs, mode, mine, sums, value, dropped)
    found |= bins_of_types(inputs, value, bits, (-(1 << 32), 1 << 32))  # left shifts reach them all
    if accumulator_bits == 2:
        # Of two bits, 1 and -1 alone lie between.
        found = {name: which for name, which in found.items() if "positive, odd" not in name}
        found = {name: which for name, which in found.items() if "negative, even" not in name}
    bins = count(found)
    bins["each shift"] = int(len(np.unique(shift)) == 64)
    return bins | _tie_bins(inputs, modes, dropped, accumulator_bits, bits)


def _mode_bins(
    inputs: dict[str, Integers],
    mode: Rounding,
    mine: Flags,
    sums: Integers,
    value: Integers,
    dropped: Dropped,
) -> dict[str, Flags]:
    """Ties, in one mode."""
    low, high, quotient = inputs["low"], inputs["high"], dropped.quotient
    inside = (value >= low) & (value <= high)
    tie, odd, name = mine & dropped.tie, quotient & 1 == 1, mode.name
    found = {
        f"{name}: tie, positive, even": tie & inside & (sums > 0) & ~odd,
        f"{name}: tie, positive, odd": tie & inside & (sums > 0) & odd,
        f"{name}: tie, negative, even": tie & inside & (sums < 0) & ~odd,
        f"{name}: tie, negative, odd": tie & inside & (sums < 0) & odd,
        f"{name}: tie at -1/2": tie & (quotient == -1),
        f"{name}: tie at 1/2": tie & (quotient == 0),
    }
    if mode is not Rounding.FLOOR:
        found[f"{name}: rounded up beyond the upper end"] = mine & (quotient == high) & (value > high)
        found[f"{name}: rounded up to the lower end"] = mine & (quotient == low - 1) & (value == low)
    return found


def _tie_bins(
    inputs: dict[str, Integers], modes: Integers, dropped: Dropped, accumulator_bits: int, bits: int
) -> dict[str, int]:
    """Whether each tie of the widest types is there at each shift, in each mode."""
    least, greatest = signed_range(accumulator_bits)
    bins = {}
    for mode in Rounding:
        for _, signed, lowest, highest in types(bits)[:2]:
            mine = (inputs["low"] == lowest) & (inputs["high"] == highest) & (modes == mode.value)
            if not mine.any():
                continue
            floor, by = grid(quotients(bits) - 1, np.arange(1, 32))
            sum_ = (2 * floor + 1) << (by - 1)
            wanted = (sum_ > least) & (sum_ <= greatest) & (floor >= lowest - 1) & (floor <= highest)
            ties = set(zip(floor[wanted].tolist(), by[wanted].tolist(), strict=True))
            which = mine & dropped.tie
            seen = set(zip(dropped.quotient[which].tolist(), inputs["shift"][which].tolist(), strict=True))
            kind = "a signed" if signed else "an unsigned"
            bins[f"{mode.name}: each tie of {kind} result at each shift"] = int(bool(ties) and ties <= seen)
    return bins
