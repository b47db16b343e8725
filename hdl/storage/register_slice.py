"""A register in both directions of a stream, so that no combinational path runs through."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterSlice"]


class RegisterSlice(wiring.Component):
    """Passes a stream on; ``i.ready`` and ``o.valid`` both come from registers.

    Latency: 1 cycle. Throughput: one value a cycle. Holds two values.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform) -> Module:
        m = Module()
        first = Signal(self._shape, reset_less=True)
        second = Signal(self._shape, reset_less=True)
        first_valid = Signal()
        second_valid = Signal()
        m.d.comb += [
            self.i.ready.eq(~second_valid),
            self.o.valid.eq(first_valid),
            self.o.payload.eq(first),
        ]
        with m.If(self.o.ready | ~first_valid):
            m.d.sync += second_valid.eq(0)
            with m.If(second_valid):
                m.d.sync += [first.eq(second), first_valid.eq(1)]
            with m.Else():
                m.d.sync += [first.eq(self.i.payload), first_valid.eq(self.i.valid)]
        with m.Elif(self.i.valid):
            m.d.sync += second_valid.eq(1)
        # Whether it comes to matter or not: `o.ready` comes late.
        with m.If(~second_valid):
            m.d.sync += second.eq(self.i.payload)
        return m
