"""Cases of a bench: inputs, expected outputs, and the bins of coverage that they fall in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = [
    "Cases",
    "Integers",
    "count",
    "fields_of",
    "grid",
    "pack",
    "pack_bits",
    "repeated",
    "thinned",
    "unpack_word",
]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cases:
    """What goes into a unit, in order, and what must come out.

    Members
    -------
    inputs : a value of each field of the payload for each case; an array field has a second axis, an array of arrays
        a third. The payload of a stream that is no structure is the field "".
    expected : likewise of the output, in order.
    bins : how many cases fall in each bin of coverage. A bin of none fails the bench.
    brings : for each input, whether it brings a result; None: all do.
    side : the words of a unit's second input stream, a row of bits each, bit 0 first.
    back_to_back : how many of the first cases the unit must take in successive cycles if nothing stalls.
    """

    inputs: Mapping[str, Integers]
    expected: Mapping[str, Integers]
    bins: Mapping[str, int]
    brings: npt.NDArray[np.bool_] | None = None
    side: Integers | None = None
    back_to_back: int = 60

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def fields_of(shape: Any) -> list[tuple[str, int, int, bool]]:
    """Name, number of elements, bits of one and signedness of the fields of a payload, from bit 0 up."""
    if not isinstance(shape, data.StructLayout):
        scalar = Shape.cast(shape)
        return [("", 1, scalar.width, scalar.signed)]
    fields = []
    for name, member in shape:
        element, count = member.shape, 1
        while isinstance(element, data.ArrayLayout):
            element, count = element.elem_shape, count * element.length
        scalar = Shape.cast(element)
        fields.append((str(name), count, scalar.width, scalar.signed))
    return fields


def pack(shape: Any, values: Mapping[str, Integers]) -> npt.NDArray[np.uint8]:
    """The payloads of all cases as rows of bytes, the highest first, zeros above the highest bit."""
    fields = fields_of(shape)
    total = sum(count * bits for _, count, bits, _ in fields)
    if set(values) != {name for name, _, bits, _ in fields if bits}:
        raise ValueError(f"`values` must have the fields of {shape!r}, not {sorted(values)}")
    cases = len(next(iter(values.values())))
    limbs = np.zeros((cases, -(-total // 64)), np.uint64)
    offset = 0
    for name, count, bits, signed in fields:
        if not bits:
            continue
        columns = np.asarray(values[name], np.int64).reshape(cases, count)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if columns.size and (columns.min() < low or columns.max() > high):
            raise ValueError(f"`{name}` must be from {low} to {high}")
        raw = columns.view(np.uint64) & np.uint64((1 << bits) - 1)
        for column in range(count):
            limb, shift = divmod(offset, 64)
            limbs[:, limb] |= raw[:, column] << np.uint64(shift)
            if shift + bits > 64:
                limbs[:, limb + 1] |= raw[:, column] >> np.uint64(64 - shift)
            offset += bits
    return limbs.view(np.uint8)[:, : -(-total // 8)][:, ::-1]


def pack_bits(rows: Integers) -> npt.NDArray[np.uint8]:
    """Words given as rows of bits, bit 0 first, as `pack` returns them."""
    return np.packbits(rows.astype(np.uint8), axis=1, bitorder="little")[:, ::-1]


def unpack_word(shape: Any, word: int) -> dict[str, int | list[int]]:
    """The fields of one payload, for people to read."""
    values: dict[str, int | list[int]] = {}
    for name, count, bits, signed in fields_of(shape):
        elements = []
        for _ in range(count):
            raw = word & ((1 << bits) - 1)
            elements.append(raw - (1 << bits) if signed and bits and raw >> (bits - 1) else raw)
            word >>= bits
        values[name] = elements[0] if count == 1 else elements
    return values


def count(found: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, int]:
    """How many cases each of the conditions holds for."""
    return {name: int(np.count_nonzero(which)) for name, which in found.items()}


def grid(*axes: npt.ArrayLike) -> list[Integers]:
    """Every combination of the axes' values, each as a flat array."""
    return [np.ascontiguousarray(axis).ravel() for axis in np.meshgrid(*map(_axis, axes), indexing="ij")]


def _axis(values: npt.ArrayLike) -> Integers:
    return np.asarray(values, np.int64)


def thinned(
    random: np.random.Generator, quick: bool, columns: list[Integers], most: int = 100_000
) -> list[Integers]:
    """The columns; in a quick run `most` of their cases, drawn at random."""
    if not quick or len(columns[0]) <= most:
        return columns
    kept = random.choice(len(columns[0]), most, replace=False)
    return [column[kept] for column in columns]


def repeated(*columns: Integers, least: int = 1000) -> list[Integers]:
    """The columns, repeated where they are short: the flow wants more cases than two bits have."""
    times = -(-least // len(columns[0]))
    return [np.tile(column, times) for column in columns]
