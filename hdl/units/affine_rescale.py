"""Affine rescale: multiply by a real scale in fixed point, add the zero point, clamp."""

# Ref: [jacob2017: eq. 5, 6; app. B] M = 2**e * M0 with M0 in [0.5, 1), applied by SQRDMULH and a
#      rounding right shift.

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline, Stages
from intaglio.hdl.units.rounding import Rounding, coarse_right_shift, fine_right_shift
from intaglio.hdl.units.saturate import clamp, narrow
from intaglio.hdl.units.sqrdmulh import rounded_high_half

__all__ = ["AffineLane", "AffineRescale", "AffineRounding"]

_HALF_BITS = 16
"""Of a factor's low half: products of halves fit the multipliers of an FPGA, and are added a cycle later."""
_FINE_BITS = 3
"""Low bits of the right shift that are left to its second stage."""


class AffineRounding(enum.Enum, shape=1):
    """How often the affine rescale rounds."""

    DOUBLE = 0
    """Twice: in SQRDMULH, and in the shift after it."""
    SINGLE = 1
    """Once, on the exact product."""


class AffineRescale(wiring.Component):
    """Rescales an accumulator by ``multiplier * 2**(exponent - 31)`` [jacob2017: eq. 5, 6].

    With *x* the accumulator, sign-extended to 32 bits, *M* the multiplier and *e* the exponent:

    * double: ``HALF_AWAY(SQRDMULH(x << max(e, 0), M), max(-e, 0))`` [jacob2017: app. B]; the left
      shift wraps at 32 bits;
    * single: ``HALF_AWAY(x * M, 31 - e)``, of the exact 64-bit product.

    Then the zero point is added and the sum clamped, ``min(max(…, low), high)``; nothing wraps before
    the clamp. Every input is in the domain: every multiplier, zero and negative ones too, and
    every exponent -32…31. HALF_AWAY is to nearest, ties away from zero.

    Latency: 8 cycles. Throughput: one result a cycle.

    Parameters
    ----------
    accumulator_bits : int
        Bits of the accumulator, 8…32.
    output_bits : int
        Bits of zero point, limits and result, 2…32. An unsigned 8-bit result takes 9.
    rounding : "double", "single" or None
        The rounding, or None for one selected with each value.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``accumulator`` signed(accumulator_bits), ``multiplier``
        signed(32), ``exponent`` signed(6), ``zero_point`` signed(output_bits), ``low``
        signed(output_bits), ``high`` signed(output_bits) and, only if the parameter ``rounding`` is
        None, ``rounding`` :class:`AffineRounding` (1 bit: 0 double, 1 single).
    o : Out(stream)
        Payload: signed(output_bits).

    Raises
    ------
    TypeError
        If a number of bits is not an integer.
    ValueError
        If a number of bits is out of range, or ``rounding`` none of the above.
    """

    latency = 8
    """Cycles from an accumulator taken to its result offered."""

    def __init__(
        self, accumulator_bits: int = 32, output_bits: int = 8, rounding: str | None = "double"
    ) -> None:
        self.accumulator_bits = check_integer("accumulator_bits", accumulator_bits, 8, 32)
        self.output_bits = check_integer("output_bits", output_bits, 2, 32)
        if rounding not in ("double", "single", None):
            raise ValueError(f'`rounding` must be "double", "single" or None, not {rounding!r}')
        self.rounding = rounding
        fields: dict = {
            "accumulator": signed(accumulator_bits),
            "multiplier": signed(32),
            "exponent": signed(6),
            "zero_point": signed(output_bits),
            "low": signed(output_bits),
            "high": signed(output_bits),
        }
        if rounding is None:
            fields["rounding"] = AffineRounding
        super().__init__(self._members(fields))

    def _members(self, fields: dict) -> dict[str, wiring.Member]:
        return {
            "i": In(stream.Signature(data.StructLayout(fields))),
            "o": Out(stream.Signature(signed(self.output_bits))),
        }

    def _select(self, single: Value, one: Value, two: Value) -> Value:
        """``one`` for single rounding and ``two`` for double, chosen here where it is fixed."""
        if self.rounding is None:
            return Mux(single, one, two)
        return one if self.rounding == "single" else two

    @staticmethod
    def product(x: Value, multiplier: Value) -> Value:
        """The product of two halves; apart, so that a proof may put free values here."""
        return x * multiplier

    @staticmethod
    def joined(value: Value) -> Value:
        """The sum of the halves' products, as it is; apart, so that a proof may see it and put a free value here."""
        return value

    @staticmethod
    def quotient(value: Value) -> Value:
        """The rounded quotient, as it is; apart, so that a proof may see it."""
        return value

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload
        single = given.rounding.as_value() if self.rounding is None else C(0, 1)
        pipeline.finish(self.o, self._rescaled(m, pipeline, given, single))
        return m

    def _rescaled(self, m: Module, pipeline: Pipeline | Stages, given: Any, single: Value) -> Value:
        """The result of what is `given`, from the last of the stages that it adds."""

        # Left shift, which wraps, and what is left to shift right.
        exponent = given.exponent
        accumulator = Signal(signed(32))
        m.d.comb += accumulator.eq(given.accumulator)
        # Shifted whatever the sign is, which is chosen by at the end: the shorter path.
        wrapped = Mux(exponent < 0, accumulator, (accumulator << exponent[:5])[:32].as_signed())
        right = Mux(exponent < 0, -exponent, 0)[:6]
        whole = (31 - exponent)[:6]
        beside = {"zero_point": given.zero_point, "low": given.low, "high": given.high}
        shifted = pipeline.stage(
            x=self._select(single, accumulator, wrapped),
            multiplier=given.multiplier,
            right=self._select(single, whole, right),
            single=single,
            **beside,
        )

        multiplied = self._multiply(pipeline, shifted)

        high = rounded_high_half(multiplied.product)
        scaled = pipeline.stage(
            value=self._select(multiplied.single, multiplied.product, high),
            **_all_but(multiplied, "product", "single"),
        )

        halves, sticky = coarse_right_shift(scaled.value, scaled.right, _FINE_BITS)
        coarse = pipeline.stage(
            halves=halves,
            sticky=sticky,
            fine=scaled.right[:_FINE_BITS],
            **_all_but(scaled, "value", "right"),
        )

        floor, increment = fine_right_shift(coarse.halves, coarse.sticky, coarse.fine, Rounding.HALF_AWAY)
        split = pipeline.stage(
            floor=floor, increment=increment, **_all_but(coarse, "halves", "sticky", "fine")
        )

        # Beyond what a zero point can bring back to the limits, quotients of a sign are alike.
        quotient = narrow(self.quotient(split.floor + split.increment), self.output_bits + 1)
        summed = pipeline.stage(
            total=quotient + split.zero_point,
            **_all_but(split, "floor", "increment", "zero_point"),
        )

        return pipeline.stage(clamped=clamp(summed.total, summed.low, summed.high)).clamped

    def _multiply(self, pipeline: Pipeline | Stages, factors: data.View) -> data.View:
        """``x*M`` in two stages, of halves: ``xl*Ml + 2**16 * (xl*Mh + xh*Ml) + 2**32 * xh*Mh``."""
        (x_low, x_high), (m_low, m_high) = _halves(factors.x), _halves(factors.multiplier)
        parts = pipeline.stage(
            low_low=self.product(x_low, m_low),
            low_high=self.product(x_low, m_high),
            high_low=self.product(x_high, m_low),
            high_high=self.product(x_high, m_high),
            **_all_but(factors, "x", "multiplier"),
        )
        upper = Cat(parts.low_low[_HALF_BITS:], parts.high_high).as_signed() + parts.low_high + parts.high_low
        return pipeline.stage(
            product=self.joined(Cat(parts.low_low[:_HALF_BITS], upper)[:64].as_signed()),
            **_all_but(parts, "low_low", "low_high", "high_low", "high_high"),
        )


class AffineLane(AffineRescale):
    """A rescale of many side by side, whose control they share: every stage loads where its ``advance`` is high.

    It has no reset: nothing that it holds is used before it was written.

    Parameters
    ----------
    accumulator_bits, output_bits : int
        As of an `AffineRescale`.

    Members
    -------
    advance : In(1) array of :attr:`latency`
    accumulator, multiplier, exponent, zero_point, low, high : In
        As in an `AffineRescale`'s payload.
    single : In(1)
        Whether the value is rounded once.
    result : Out(signed(output_bits))
    """

    def __init__(self, accumulator_bits: int, output_bits: int) -> None:
        super().__init__(accumulator_bits, output_bits, None)

    def _members(self, fields: dict) -> dict[str, wiring.Member]:
        given = {name: In(shape) for name, shape in fields.items() if name != "rounding"}
        advance = {"advance": In(1).array(self.latency)}
        return {**advance, **given, "single": In(1), "result": Out(signed(self.output_bits))}

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.result.eq(self._rescaled(m, Stages(m, self.advance), self, self.single))
        return m


def _halves(factor: Value) -> tuple[Value, Value]:
    """Its low half, unsigned, and its high half, signed."""
    return factor[:_HALF_BITS].as_unsigned(), factor[_HALF_BITS:].as_signed()


def _all_but(stage: data.View, *consumed: str) -> dict:
    """The fields of ``stage`` that travel on beside those that are consumed."""
    return {name: stage[name] for name, _ in stage.shape() if name not in consumed}
