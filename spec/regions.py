"""The regions of memory that a host grants a machine: how commands name them, and what the machine may do with each.

A command names memory by a region and an offset in bytes from that region's base; the host sets each region's base and
limit in registers before a start. So a program's bytes are the same wherever its regions lie.
"""

from __future__ import annotations

import enum

__all__ = ["REGION_BITS", "Region"]

REGION_BITS = 3
"""Of a region's number in a command."""


class Region(enum.IntEnum):
    """A stretch of memory of one use; the number is what a command holds."""

    PROGRAM = 0
    INPUT = 1
    OUTPUT = 2
    SCRATCH = 3
    STATE = 4

    @property
    def readable(self) -> bool:
        """Whether the machine may read it."""
        return self is not Region.OUTPUT

    @property
    def writable(self) -> bool:
        """Whether the machine may write it."""
        return self in (Region.OUTPUT, Region.SCRATCH, Region.STATE)

    @property
    def rights(self) -> str:
        """What the machine may do with it, in words."""
        return " and ".join(word for word, may in (("read", self.readable), ("write", self.writable)) if may)

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Region.PROGRAM: "commands, weights, tables and constants: the program's image, written once",
    Region.INPUT: "input tensors, which the host writes before each start",
    Region.OUTPUT: "output tensors, which the host reads after a run",
    Region.SCRATCH: "what does not fit on chip during a run; of no use after it",
    Region.STATE: "what is kept from one inference to the next",
}
