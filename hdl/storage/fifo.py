"""A first-in first-out buffer between two streams, on the synchronous-read memory."""

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.storage.memory import SyncMemory

__all__ = ["FIFO_LATENCY", "Fifo"]

FIFO_LATENCY = 2
"""Cycles from a value taken to the value offered."""


class Fifo(wiring.Component):
    """A stream buffer of `depth` values.

    Latency: FIFO_LATENCY cycles from a value taken to the value offered. Throughput: one value a cycle.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload.
    depth : int
        Values that it holds, 2 or more; a power of two.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    stored : Out(range(depth + 1))
        Values that it holds, in the memory and in its output.
    space : Out(range(depth + 1))
        Values that can be taken before the buffer is full.

    Raises
    ------
    TypeError, ValueError
        If `depth` is not such an integer.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self.depth = check_integer("depth", depth, 2, 1 << 16)
        if depth & (depth - 1):
            raise ValueError(f"`depth` must be a power of two, not {depth}")
        self._width = Shape.cast(shape).width
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "stored": Out(range(depth + 1)),
                "space": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = SyncMemory(self._width, self.depth)
        head = Signal(range(self.depth))
        tail = Signal(range(self.depth))
        stored = self.stored
        offered = Signal()
        """Whether the memory's output is the oldest value."""
        push = Signal()
        pop = Signal()
        fetch = Signal()
        m.d.comb += [
            self.i.ready.eq(stored != self.depth),
            self.space.eq(self.depth - stored),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
            fetch.eq((stored > offered) & (~offered | self.o.ready)),
            memory.write_enable.eq(push),
            memory.write_address.eq(head),
            memory.write_data.eq(self.i.payload),
            memory.read_enable.eq(fetch),
            memory.read_address.eq(tail),
            self.o.valid.eq(offered),
            self.o.payload.eq(memory.read_data),
        ]
        with m.If(push):
            m.d.sync += head.eq(head + 1)
        with m.If(fetch):
            m.d.sync += [tail.eq(tail + 1), offered.eq(1)]
        with m.Elif(pop):
            m.d.sync += offered.eq(0)
        m.d.sync += stored.eq(stored + push - pop)
        return m
