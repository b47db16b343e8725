"""Rounding right shift by a run-time amount."""

from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.rounding import Rounding, split_right_shift

__all__ = ["RoundingShift"]


class RoundingShift(wiring.Component):
    """Divides a signed value by ``2**shift`` and rounds the quotient.

    FLOOR ``x >> n``; HALF_UP ``(x + 2**(n-1)) >> n``; HALF_AWAY to nearest, ties away from zero,
    which is gemmlowp's RoundingDivideByPOT [jacob2017: app. B]; HALF_EVEN to nearest, ties to
    even. Every value and every shift 0…31 is in the domain, shifts of ``width`` and more as well;
    shift 0 returns the value. No result overflows.

    Latency: 2 cycles. Throughput: one result a cycle.

    Parameters
    ----------
    width : int
        Bits of the value and of the result, 2…128.
    mode : Rounding or None
        The rounding, or None for one selected with each value.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``value`` signed(width), ``shift`` unsigned(5) and, only if
        the parameter ``mode`` is None, ``mode`` :class:`Rounding` (2 bits).
    o : Out(stream)
        Payload: signed(width).

    Raises
    ------
    TypeError
        If ``width`` is not an integer, or ``mode`` neither a Rounding nor None.
    ValueError
        If ``width`` is out of range.
    """

    def __init__(self, width: int = 32, mode: Rounding | None = None) -> None:
        self.width = check_integer("width", width, 2, 128)
        if mode is not None and not isinstance(mode, Rounding):
            raise TypeError(f"`mode` must be a Rounding or None, not {mode!r}")
        self.mode = mode
        fields: dict = {"value": signed(width), "shift": unsigned(5)}
        if mode is None:
            fields["mode"] = Rounding
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(fields))),
                "o": Out(stream.Signature(signed(width))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a value taken to its result offered."""
        return 2

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload
        mode = given.mode if self.mode is None else self.mode

        floor, increment = split_right_shift(given.value, given.shift, mode)
        split = pipeline.stage(floor=floor, increment=increment)

        rounded = (split.floor + split.increment)[: self.width].as_signed()
        result = pipeline.stage(rounded=rounded)

        pipeline.finish(self.o, result.rounded)
        return m
