"""A queue of registers, for wide values that come and go seldom."""

from amaranth.hdl import Cat, Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer

__all__ = ["RegisterQueue"]


class RegisterQueue(wiring.Component):
    """A stream buffer of `depth` values, each register of which loads from the one before it alone.

    So a bit of it is a flip-flop with an enable and nothing else; a register loads when it is empty, the last one also
    while its value is taken.

    Latency: `depth` cycles from a value taken to the value offered. Throughput: a value in two cycles.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload.
    depth : int
        Values that it holds, 2…64.

    Members
    -------
    i : In(stream)
        ``ready`` is a register's.
    o : Out(stream)
        ``valid`` and ``payload`` are registers'.

    Raises
    ------
    TypeError, ValueError
        If `depth` is not such an integer.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._shape = shape
        self.depth = check_integer("depth", depth, 2, 64)
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform) -> Module:
        m = Module()
        full = Signal(self.depth)
        values = [Signal(self._shape, name=f"value_{place}", reset_less=True) for place in range(self.depth)]
        takes = Signal(self.depth)
        """Registers that load: what stands before them is there, and they are empty, or about to be."""
        before = Cat(self.i.valid, full[:-1])
        leaves = self.o.valid & self.o.ready
        m.d.comb += [
            takes.eq(before & (~full | leaves << (self.depth - 1))),
            self.i.ready.eq(~full[0]),
            self.o.valid.eq(full[-1]),
            self.o.payload.eq(values[-1]),
        ]
        m.d.sync += full.eq(takes | (full & ~Cat(takes[1:], leaves)))
        for place, value in enumerate(values):
            with m.If(takes[place]):
                m.d.sync += value.eq(values[place - 1] if place else self.i.payload)
        return m
