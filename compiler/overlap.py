"""Passes that overlap: a kernel whose rows fill few vectors, taken whole by fewer passes than a row at a time takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

FARTHEST_SLANT = 4
MOST_STEP = 3
"""How far passes of the next kernel row begin to the side, and how many lanes a pass has more than the one before: what
is tried."""


@dataclass(frozen=True)
class Overlap:
    """Passes over a kernel of `rows` rows of `length` elements, neighbours in memory, on an array of so many `lanes`.

    A pass takes elements of a row and, side by side with them, as many of each of the `lines` rows before it; of the
    last as many as the array has lanes left. There are passes for each row from `lines` on, `columns` of them. Of a row
    the next begins `apart` elements further, of the next row all do `slant` further. The first takes `first` lanes of a
    row, each one behind it `more` than the one before.
    """

    rows: int
    length: int
    lines: int
    columns: int
    lanes: int
    apart: int
    slant: int
    first: int
    more: int

    def passes(self) -> Iterator[list[tuple[int, int, int]]]:
        """Of each pass, the lanes whose elements no pass before it takes, with their row and element."""
        taken = set[tuple[int, int]]()
        places = product(range(self.rows - self.lines), range(self.columns))
        for number, (turn, column) in enumerate(places):
            start, own = column * self.apart + turn * self.slant, self.first + number * self.more
            found = []
            for lane in range(self.lanes):
                line = min(lane // own, self.lines)
                row, element = turn + self.lines - line, start + lane - line * own
                if 0 <= element < self.length and (row, element) not in taken:
                    taken.add((row, element))
                    found.append((lane, row, element))
            yield found

    @property
    def whole(self) -> bool:
        """Whether the passes take all elements, and none more lanes than there are."""
        passes = (self.rows - self.lines) * self.columns
        most = self.first + (passes - 1) * self.more
        return most <= self.lanes and sum(map(len, self.passes())) == self.rows * self.length


@cache
def overlap(rows: int, length: int, most_lines: int, lanes: int, most_passes: int) -> Overlap | None:
    """Passes that take such a kernel whole, at most so many; None where none are found."""
    for lines in range(1, min(most_lines, rows - 1) + 1):
        least = -(-rows * length // (lanes * (rows - lines)))
        for columns in range(least, most_passes // (rows - lines) + 1):
            near = -(-length // columns)
            steps = (
                range(near - 1, near + 2),
                range(-FARTHEST_SLANT, FARTHEST_SLANT + 1),
                range(1, MOST_STEP + 1),
            )
            for apart, slant, more, first in product(*steps, range(1, lanes + 1)):
                found = Overlap(rows, length, lines, columns, lanes, apart, slant, first, more)
                if found.whole:
                    return found
    return None
