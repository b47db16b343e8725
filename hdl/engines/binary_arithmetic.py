"""Sums, differences and products of two int8 operands, up to their rescale."""

# Ref: [jacob2017: A.2] both operands of a sum are shifted to the left and rescaled to one scale.

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.engines.command import body_layout
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.rounding import Rounding, coarse_right_shift, fine_right_shift
from intaglio.spec.commands import OPERAND_SHIFT, Opcode, Operation

__all__ = ["BinaryArithmetic"]

_DROPPED_BITS = 31 - OPERAND_SHIFT
"""What an operand's product with its multiplier is shifted right by: see `_high`."""
_FINE_BITS = 3
"""Low bits of the operands' shifts that are left to a stage of their own."""


class BinaryArithmetic(wiring.Component):
    """The int32 that ADD, SUBTRACT and MULTIPLY rescale, of `lanes` pairs of elements a cycle.

    With a and b the elements less their zero points:

    * ADD, SUBTRACT: ``A ± B``, ``A = HALF_AWAY(SQRDMULH(a << 20, a_multiplier), a_shift)``, B alike [jacob2017: A.2];
    * MULTIPLY: ``a * b``.

    Nothing overflows: a has 10 bits, so A is less than ``2**29`` in magnitude.

    Latency: 6 cycles. Throughput: one vector of `lanes` a cycle.

    Parameters
    ----------
    lanes : int
        1…64.

    Members
    -------
    body : In(body_layout)
        Of the command that all vectors under way belong to, from the cycle before the first on.
    i : In(stream)
        Payload: ``a`` and ``b``, `lanes` signed(8) each.
    o : Out(stream)
        Payload: `lanes` signed(32).

    Raises
    ------
    TypeError, ValueError
        If `lanes` is not such an integer.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = check_integer("lanes", lanes, 1, 64)
        elements = data.ArrayLayout(signed(8), lanes)
        super().__init__(
            {
                "body": In(body_layout(Opcode.ELEMENTWISE)),
                "i": In(stream.Signature(data.StructLayout({"a": elements, "b": elements}))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(32), lanes))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from elements taken to their result offered."""
        return 6

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        body = self.body
        multiply, subtract = Signal(), Signal()
        a_multiplier, b_multiplier = Signal(signed(32)), Signal(signed(32))
        a_shift, b_shift = Signal.like(body.a_shift), Signal.like(body.b_shift)
        is_product = body.operation == Operation.MULTIPLY
        # A product takes the multiplier of operand a, and leaves 0 of operand b.
        m.d.sync += [
            multiply.eq(is_product),
            subtract.eq(body.operation == Operation.SUBTRACT),
            a_multiplier.eq(body.a_multiplier),
            b_multiplier.eq(Mux(is_product, 0, body.b_multiplier)),
            a_shift.eq(Mux(is_product, 0, body.a_shift)),
            b_shift.eq(body.b_shift),
        ]
        lanes = range(self._lanes)

        def stage(a: list[Value], b: list[Value]) -> tuple[list[Value], list[Value]]:
            """Registers for a value of either operand a lane."""
            fields = {
                f"{name}_{lane}": values[lane] for name, values in (("a", a), ("b", b)) for lane in lanes
            }
            held = pipeline.stage(**fields)
            return [held[f"a_{lane}"] for lane in lanes], [held[f"b_{lane}"] for lane in lanes]

        given = self.i.payload
        a, b = stage(
            [given.a[lane] - body.a_zero_point for lane in lanes],
            [given.b[lane] - body.b_zero_point for lane in lanes],
        )
        a, b = stage(
            [a[lane] * Mux(multiply, b[lane], a_multiplier) for lane in lanes],
            [b[lane] * b_multiplier for lane in lanes],
        )
        a, b = stage(
            [Mux(multiply, a[lane][:32].as_signed(), _high(a[lane])) for lane in lanes],
            [_high(b[lane]) for lane in lanes],
        )
        a, b = stage(
            [_coarse(a[lane], a_shift) for lane in lanes], [_coarse(b[lane], b_shift) for lane in lanes]
        )
        a, b = stage([_fine(a[lane], a_shift) for lane in lanes], [_fine(b[lane], b_shift) for lane in lanes])
        totals = []
        for lane in lanes:
            first, second = _join(a[lane]), _join(b[lane])
            totals.append(Mux(subtract, first - second, first + second)[:32])
        result = pipeline.stage(totals=Cat(totals))
        pipeline.finish(self.o, result.totals)
        return m


def _high(product: Value) -> Value:
    """``SQRDMULH(a << 20, M)`` of the 42 bits of a*M, signed(32).

    ``(a*2**20*M + 2**30) >> 31 = (a*M + 2**10) >> 11``, so a 10 x 32-bit multiplication does for a 32 x 32-bit one;
    SQRDMULH saturates only at ``-2**31``, which a << 20 is not. Rounding adds the highest bit dropped.
    """
    return (product[_DROPPED_BITS:].as_signed() + product[_DROPPED_BITS - 1])[:32].as_signed()


def _coarse(value: Value, shift: Value) -> Value:
    """The value in halves, shifted by all of ``shift`` but its low bits, above whether a 1 was dropped."""
    halves, sticky = coarse_right_shift(value, shift, _FINE_BITS)
    return Cat(sticky, halves)


def _fine(parts: Value, shift: Value) -> Value:
    """``HALF_AWAY(value, shift)`` in two parts: the floor above the bit that rounds it."""
    floor, increment = fine_right_shift(parts[1:], parts[0], shift[:_FINE_BITS], Rounding.HALF_AWAY)
    return Cat(increment, floor)


def _join(parts: Value) -> Value:
    return (parts[1:].as_signed() + parts[0])[:32].as_signed()
