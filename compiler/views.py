"""Places: tensors as rows, columns and pixels, and where a part of one lies in the scratchpad."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Places `start` <= place < `stop`: elements of the scratchpad, or bytes of the memory."""

    start: int
    stop: int

    def meets(self, other: Interval) -> bool:
        return self.start < other.stop and other.start < self.stop

    def shifted(self, distance: int) -> Interval:
        return Interval(self.start + distance, self.stop + distance)


@dataclass(frozen=True)
class Block:
    """Rows `row`...`row + rows - 1` of a tensor, of each the columns `column`...`column + columns - 1`."""

    row: int
    rows: int
    column: int
    columns: int

    @property
    def positions(self) -> int:
        return self.rows * self.columns

    def clipped(self, rows: int, columns: int) -> Block:
        """What of it lies in a tensor of that many rows and columns (nothing: 0 rows or columns)."""
        top, bottom = min(max(self.row, 0), rows), min(max(self.row + self.rows, 0), rows)
        left, right = min(max(self.column, 0), columns), min(max(self.column + self.columns, 0), columns)
        return Block(top, bottom - top, left, right - left)


@dataclass(frozen=True)
class Extents:
    """A tensor as `rows` x `columns` pixels of `pixel` scratchpad elements each, dense in that order."""

    rows: int
    columns: int
    pixel: int

    @property
    def elements(self) -> int:
        return self.rows * self.columns * self.pixel

    @property
    def whole(self) -> Block:
        return Block(0, self.rows, 0, self.columns)


@dataclass(frozen=True)
class View:
    """Where a block of a tensor lies in the scratchpad: its first element, and the pitches, in elements."""

    address: int
    block: Block
    row_pitch: int
    pixel_pitch: int

    @staticmethod
    def dense(address: int, block: Block, pixel: int) -> View:
        return View(address, block, block.columns * pixel, pixel)

    def at(self, row: int, column: int) -> int:
        """The address of a pixel of the tensor."""
        rows, columns = row - self.block.row, column - self.block.column
        return self.address + rows * self.row_pitch + columns * self.pixel_pitch

    def interval(self, block: Block, elements: int) -> Interval:
        """From the first to the last of the first `elements` elements of each pixel of `block`."""
        if not block.positions:
            return Interval(0, 0)
        start = self.at(block.row, block.column)
        stop = self.at(block.row + block.rows - 1, block.column + block.columns - 1) + elements
        return Interval(start, stop)
