"""What the benches of LLSQ's and of the power-of-two rescale have alike: both units add a bias to an accumulator, shift
the sum with rounding, and clamp the result to the limits of a type."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intaglio.golden import rescale
from intaglio.sim.units.cases import Integers, grid

__all__ = [
    "Dropped",
    "Flags",
    "bins_of_sums",
    "bins_of_types",
    "corners",
    "everything",
    "limits",
    "of_sums",
    "quotients",
    "signed_range",
    "spread",
    "types",
]

Flags = npt.NDArray[np.bool_]


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


def signed_range(bits: int) -> tuple[int, int]:
    """The least and the greatest signed number of `bits` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def spread(bits: int, size: int, random: np.random.Generator) -> Integers:
    """Signed numbers of `bits` bits, of all magnitudes."""
    return random.integers(*signed_range(bits), size, endpoint=True) >> random.integers(0, bits, size)


def of_sums(
    columns: list[Integers], accumulator_bits: int, bits: int, bias_bits: int, random: np.random.Generator
) -> list[Integers]:
    """Cases of sums, the first of the columns, with what the others say, where the accumulator holds the sum.

    By any bias, and for both types of `bits` bits.
    """
    low, high = signed_range(accumulator_bits)
    fits = (columns[0] >= low) & (columns[0] <= high)
    columns = [np.tile(column[fits], 2) for column in columns]
    size = len(columns[0])
    bias = spread(bias_bits, size, random)
    ends = [np.repeat([of[end] for of in types(bits)[:2]], size // 2) for end in (2, 3)]
    return [rescale.wrap(columns[0] - bias, accumulator_bits), bias, *columns[1:], *ends]


def corners(accumulator_bits: int, bits: int, bias_bits: int, *axes: npt.ArrayLike) -> list[Integers]:
    """Accumulators, biases and types at their ends, with every value of the axes."""
    low, high = signed_range(accumulator_bits)
    bias_low, bias_high = signed_range(bias_bits)
    return _with_limits(
        bits,
        sorted({low, low + 1, -1, 0, 1, high - 1, high}),
        sorted({bias_low, -1, 0, 1, bias_high}),
        *axes,
        sorted({0, 1, 2 * bits - 2, 2 * bits - 1}),
    )


def everything(accumulator_bits: int, bits: int, bias_bits: int, *axes: npt.ArrayLike) -> list[Integers]:
    """All accumulators, biases and values of the axes, by the types of `bits` bits."""
    low, high = signed_range(accumulator_bits)
    bias_low, bias_high = signed_range(bias_bits)
    return _with_limits(bits, np.arange(low, high + 1), np.arange(bias_low, bias_high + 1), *axes, (0, 1))


def _with_limits(bits: int, *axes: npt.ArrayLike) -> list[Integers]:
    """Every combination of the axes, the last of which are places in `types`: the ends of those instead."""
    *columns, of_type = grid(*axes)
    return [*columns, *(np.array([of[end] for of in types(bits)])[of_type] for end in (2, 3))]


def limits(bits: int, size: int, random: np.random.Generator) -> tuple[Integers, list[Integers]]:
    """Bits of random types, and their ends; a tenth of the ends are those of no type."""
    of_type, _, low, high = np.array(types(bits)).T[:, random.integers(0, 2 * bits, size)]
    any_limits = np.sort(random.integers(-(1 << bits), 1 << bits, (2, size)), axis=0)
    any_limits[1] = np.where(random.random(size) < 0.2, *any_limits)
    return of_type, list(np.where(random.random(size) < 0.1, any_limits, [low, high]))


@dataclass(frozen=True)
class Dropped:
    """What a right shift drops of numbers, and what it leaves."""

    number: Integers
    shift: Integers

    @property
    def half(self) -> Integers:
        return (np.int64(1) << self.shift) >> 1

    @property
    def remainder(self) -> Integers:
        return self.number & ((np.int64(1) << self.shift) - 1)

    @property
    def quotient(self) -> Integers:
        return self.number >> self.shift

    @property
    def tie(self) -> Flags:
        return (self.shift > 0) & (self.remainder == self.half)


def bins_of_sums(
    inputs: dict[str, Integers],
    sums: Integers,
    value: Integers,
    dropped: Dropped,
    accumulator_bits: int,
    bits: int,
) -> dict[str, Flags]:
    """Where the sum, what is dropped of it, and the result lie at an edge; `value` is the result before the clamp."""
    low, high = inputs["low"], inputs["high"]
    exact = inputs["accumulator"] + inputs["bias"]
    inside = (value >= low) & (value <= high)
    least, greatest = signed_range(accumulator_bits)
    right, half, remainder = dropped.shift, dropped.half, dropped.remainder
    return {
        "shift 0": (inputs["shift"] == 0) & inside & (value != 0),
        "shift 31": inputs["shift"] == 31,
        "under a tie": (right > 1) & (remainder == half - 1) & inside,
        "over a tie": (right > 1) & (remainder == half + 1) & inside,
        "nothing dropped": (right > 0) & (remainder == 0) & inside & (value != 0),
        "at the lower end": value == low,
        "at the upper end": value == high,
        "below by one": value == low - 1,
        "above by one": value == high + 1,
        "the sum wraps above": exact > greatest,
        "the sum wraps below": exact < least,
        "the sum wraps and the result is inside": (exact != sums) & inside & (value != 0),
        "the least sum": sums == least,
        "the greatest sum": sums == greatest,
        "limits that are one number": low == high,
        "limits of no type, inside": inside & (low < -(1 << (bits - 1))),
    }


def bins_of_types(
    inputs: dict[str, Integers], value: Integers, bits: int, reach: tuple[int, int]
) -> dict[str, Flags]:
    """Inside and beyond the ends of each type, of those ends that are beyond no `reach` of the results."""
    low, high = inputs["low"], inputs["high"]
    found = {}
    for of_type, signed, lowest, highest in types(bits):
        mine = (low == lowest) & (high == highest)
        name = f"{'signed' if signed else 'unsigned'} {of_type}"
        found[f"{name}: inside"] = mine & (value >= low) & (value <= high) & (value != 0)
        if reach[0] < lowest:
            found[f"{name}: saturated below"] = mine & (value < low)
        if reach[1] > highest:
            found[f"{name}: saturated above"] = mine & (value > high)
    return found
