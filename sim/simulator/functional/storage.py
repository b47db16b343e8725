"""What the machine holds, with a leading axis of inferences: memory, scratchpad, accumulators, tables."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.functional.arithmetic import Integers
from intaglio.sim.simulator.machine import UNSET
from intaglio.spec.commands import SOFTMAX_PLANES, TABLE_ENTRIES
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

Bytes = npt.NDArray[np.uint8]


class Space(enum.Enum):
    """What commands read and write, each numbered from 0."""

    SCRATCHPAD = "scratchpad"
    """By elements."""
    MEMORY = "memory"
    """By bytes."""
    BANKS = "accumulators"
    """By positions, bank 1 behind bank 0; then the parameters of each bank."""


class Watch(Protocol):
    """Is told what each command touches, by its place in the list, and where the result of one is not defined."""

    def read(self, command: int, space: Space, elements: Integers) -> None: ...

    def write(self, command: int, space: Space, elements: Integers) -> None: ...

    def undefined(self, command: int, why: str) -> None: ...


class InferencesDiffer(Exception):
    """What all inferences must have in common depends on their data: they cannot be run together."""


class Memory:
    """The regions' bytes, one region behind the other, of which a part is each inference's own and the rest common to
    all.

    Parameters
    ----------
    content : (bytes,) the same for all inferences at first
    starts : where each region begins in it
    own : places that differ, all that are written among them
    count : inferences
    """

    def __init__(self, content: Bytes, starts: Mapping[Region, int], own: range, count: int) -> None:
        self.size, self.starts = len(content), starts
        self._common = content
        self._first, self._end = own.start, own.stop
        self._own = np.repeat(content[None, own.start : own.stop], count, axis=0)

    def read(self, places: Integers) -> Bytes:
        """The bytes there, (inferences, *shape of `places`)."""
        inside = (places >= self._first) & (places < self._end)
        if inside.all():
            return self._own[:, places - self._first]
        common = np.repeat(self._common[places][None], len(self._own), axis=0)
        if inside.any():
            common[:, inside] = self._own[:, places[inside] - self._first]
        return common

    def write(self, places: Integers, values: Bytes) -> None:
        """`values` has an axis of inferences, or one that stands for all."""
        self._own[:, places - self._first] = values

    def common(self, first: int, end: int) -> Bytes:
        """What all inferences have from `first` up to `end`. Raises InferencesDiffer where they do not agree."""
        if end <= self._first or first >= self._end:
            return self._common[first:end]
        values = self.read(np.arange(first, end))
        if (values != values[0]).any():
            raise InferencesDiffer
        return values[0]


class State:
    """All that commands change.

    Attributes
    ----------
    memory
    scratchpad : (inferences, elements) unsigned patterns
    banks : of either bank (inferences, positions, columns), sums within `accumulator_bits`
    parameters : of either bank the bytes of its group's rescale records
    tables : (inferences, planes, entries) unsigned patterns
    lines : (inferences, rows, columns, lanes) operands that the line buffer keeps, the last row first
    line_rows : (columns,) how many rows of each column it has been given so far
    overflows : (inferences,) additions that left the accumulator's range so far
    read_beats, write_beats : moved on the bus so far, of each inference
    command : place in the list of the command at work
    watch : is told what commands do, if anybody wants to know
    """

    def __init__(
        self, config: AcceleratorConfig, memory: Memory, count: int, watch: Watch | None = None
    ) -> None:
        self.config, self.memory, self.count, self.watch = config, memory, count, watch
        size = config.scratchpad_elements
        self.outside, self.nothing = size, size + 1
        """Addresses of two cells beside the scratchpad: one for what is outside a tensor, one that holds 0."""
        mask = (1 << config.element_bits) - 1
        self._cells = np.full((count, size + 2), UNSET & mask, np.uint8)
        self._cells[:, self.nothing] = 0
        self.scratchpad = self._cells[:, :size]
        shape = (count, config.accumulator_depth, config.columns)
        self.banks = [np.full(shape, UNSET & 0x7F, np.int64) for _ in range(2)]
        self.parameters = [bytes([UNSET]) * (config.parameter_beats * config.bus_bytes) for _ in range(2)]
        self.tables = np.full((count, SOFTMAX_PLANES, TABLE_ENTRIES), UNSET & 0x7F, np.uint8)
        lines = (count, config.line_buffer_rows, config.line_buffer_columns, config.operand_lanes)
        self.lines = np.zeros(lines, np.int16)
        self.line_rows = np.zeros(config.line_buffer_columns, np.int64)
        self.overflows = np.zeros(count, np.int64)
        self.read_beats = self.write_beats = 0
        self.command = 0

    def set_outside(self, pad: int) -> None:
        """What the cell `outside` holds from here on: a command's `pad`."""
        self._cells[:, self.outside] = pad & ((1 << self.config.element_bits) - 1)

    def patterns(self, addresses: Integers) -> Bytes:
        """The elements there, or the cells, (inferences, *shape of `addresses`)."""
        return np.take(self._cells, addresses, axis=1)

    def put(self, addresses: Integers, elements: npt.NDArray) -> None:
        """Writes elements, of which the low bits count; where an address comes twice, the later one stays."""
        places = addresses.reshape(-1) % self.config.scratchpad_elements
        patterns = elements.reshape(len(elements), -1).astype(np.uint8)
        self.scratchpad[:, places] = patterns & np.uint8((1 << self.config.element_bits) - 1)
        self.touch(places, written=True)

    def touch(self, elements: Integers, space: Space = Space.SCRATCHPAD, *, written: bool = False) -> None:
        """Tells the watch, of the scratchpad but for the cells beside it."""
        if self.watch is None:
            return
        if space is Space.SCRATCHPAD:
            elements = elements[elements < self.config.scratchpad_elements]
        (self.watch.write if written else self.watch.read)(self.command, space, elements)

    def touch_bank(self, bank: int, positions: int, *, written: bool) -> None:
        """Tells the watch of a bank's first positions and its parameters."""
        if self.watch is not None:
            depth = self.config.accumulator_depth
            touched = np.append(np.arange(positions) + bank * depth, 2 * depth + bank)
            self.touch(touched, Space.BANKS, written=written)


def region_starts(sizes: Mapping[Region, int]) -> dict[Region, int]:
    """Where each region begins in what a `Memory` holds, of their sizes."""
    starts, end = {}, 0
    for region in Region:
        starts[region] = end
        end += sizes.get(region, 0)
    return starts


def numbers(patterns: Bytes, bits: int, signed: bool) -> npt.NDArray[np.uint8] | npt.NDArray[np.int8]:
    """What patterns of `bits` bits mean."""
    if not signed:
        return patterns
    unused = 8 - bits
    return (patterns << unused).view(np.int8) >> unused


def elements_of(octets: Bytes, bits: int) -> Bytes:
    """Patterns of `bits` bits out of bytes, along the last axis, from bit 0 of each up."""
    if bits == 8:
        return octets
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    patterns = (octets[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return patterns.reshape(*octets.shape[:-1], -1)


def bytes_of(patterns: Bytes, bits: int) -> Bytes:
    """The inverse of `elements_of`."""
    if bits == 8:
        return patterns
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = patterns.reshape(*patterns.shape[:-1], -1, len(shifts)) << shifts
    return np.bitwise_or.reduce(parts, axis=-1)
