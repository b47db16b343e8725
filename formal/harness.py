"""Harnesses: a unit, free inputs, and what must hold."""

from amaranth.hdl import (
    Assert,
    Assume,
    C,
    ClockDomain,
    Elaboratable,
    Module,
    Mux,
    Signal,
    Value,
    signed,
    unsigned,
)
from amaranth.lib import data, stream, wiring

from formal.definitions import Definition, affine, affine_operand, affine_quotient, llsq, summed
from intaglio.hdl.units.affine_rescale import AffineRescale, AffineRounding
from intaglio.hdl.units.llsq import LLSQ
from intaglio.hdl.units.pipeline import Pipeline

__all__ = ["Affine", "Fifo", "Function", "Llsq"]


def _without_reset() -> ClockDomain:
    """A proof begins in the state that reset leaves. The clock has to be among the ports: one that
    is not is a constant, and nothing that it drives ever moves."""
    return ClockDomain("sync", reset_less=True)


class Function(Elaboratable):
    """One input through the unit as it is built, whatever comes behind it and however its result is
    stalled: the result is offered ``latency`` cycles after it, stays until it is taken, and meets
    the definition.

    Parameters
    ----------
    unit : wiring.Component
        With streams ``i`` and ``o`` and a ``latency``.
    definition : Definition
        The condition on input and result.
    planted : bool
        Whether to make the result wrong for a single input, to see that the proof fails.
    """

    def __init__(self, unit: wiring.Component, definition: Definition, *, planted: bool = False):
        self.unit, self.definition, self.planted = unit, definition, planted
        self.domain = _without_reset()
        self.given = Signal(len(Value.cast(unit.i.payload)))
        self.cycle = Signal(range(unit.latency + 2))
        self.asked = Signal(len(self.given))
        self.valid = Signal()
        self.ready = Signal()

    @property
    def ports(self) -> list[Signal]:
        """The clock, and what is free in every cycle."""
        return [self.domain.clk, self.given, self.valid, self.ready]

    @property
    def depth(self) -> int:
        """Cycles to unroll: until the result is there, and one more that finds it stalled."""
        return self.unit.latency + 2

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains += self.domain
        m.submodules.unit = unit = self.unit
        m.d.comb += [
            Value.cast(unit.i.payload).eq(self.given),
            unit.i.valid.eq(self.valid),
            unit.o.ready.eq(self.ready),
        ]

        cycle, asked = self.cycle, self.asked
        taken = Signal()
        with m.If(cycle <= unit.latency):
            m.d.sync += cycle.eq(cycle + 1)
        with m.If(cycle == 0):
            m.d.comb += [Assume(self.valid), Assert(unit.i.ready)]
            m.d.sync += asked.eq(self.given)

        shape = unit.i.payload.shape()
        given = data.View(shape, asked) if isinstance(shape, data.Layout) else asked.as_signed()
        wrong = Mux(asked == (1 << len(asked)) // 3, 1, 0) if self.planted else C(0, 1)
        result = Signal(unit.o.payload.shape())
        m.d.comb += Value.cast(result).eq(Value.cast(unit.o.payload) ^ wrong)

        with m.If(cycle < unit.latency):
            m.d.comb += Assert(~unit.o.valid)
        with m.Elif(~taken):
            m.d.comb += [Assert(unit.o.valid), Assert(self.definition(given, result))]
            m.d.sync += taken.eq(self.ready)
        return m


class _FreeProduct(AffineRescale):
    """The affine rescale with free values in place of the products of its factors' halves, in `parts`, and of their
    sum, in `freed`; the halves in `factors`, the sum in `sum`, the quotient in `seen`."""

    def __init__(self, rounding: AffineRounding):
        super().__init__(32, 8, rounding.name.lower())
        # Of low and low, low and high, high and low, high and high: x's half first, as the unit asks for them.
        shapes = [unsigned(32), signed(32), signed(32), signed(32)]
        self.parts = [Signal(shape, name=f"part_{index}") for index, shape in enumerate(shapes)]
        self.factors = [
            tuple(Signal(signed(17), name=f"{name}_{index}") for name in ("x", "m")) for index in range(4)
        ]
        self.sum, self.freed, self.seen = Signal(signed(64)), Signal(signed(64)), Signal(signed(66))
        self.module = Module()
        self._asked = 0

    def product(self, x: Value, multiplier: Value) -> Value:  # type: ignore[override]
        index, self._asked = self._asked, self._asked + 1
        for seen, given in zip(self.factors[index], (x, multiplier), strict=True):
            self.module.d.comb += seen.eq(given)
        return self.parts[index]

    def joined(self, value: Value) -> Value:  # type: ignore[override]
        self.module.d.comb += self.sum.eq(value)
        return self.freed

    def quotient(self, value: Value) -> Value:  # type: ignore[override]
        self.module.d.comb += self.seen.eq(value)
        return value

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.submodules.operands = self.module
        return m


def _half(factor: Value, high: bool) -> Value:
    """``factor // 2**16`` or ``factor % 2**16`` of a number of 32 bits."""
    return factor // (1 << 16) if high else factor % (1 << 16)


class Affine(Function):
    """The affine rescale around its multiplications, which no solver here gets through: the right halves of the right
    operands go in; any products of halves are added at their places; of any sum of at most ``2**62`` in magnitude, as
    products of 32-bit operands are, the right quotient is made; and of that quotient the right result. Distributivity
    is the one step that no solver proves: ``(a + 2**16*b) * (c + 2**16*d) = a*c + 2**16*(a*d + b*c) + 2**32*b*d``."""

    def __init__(self, rounding: AffineRounding, *, planted: bool = False):
        unit = _FreeProduct(rounding)
        self.rounding = rounding
        self.multiplied, self.divided = Signal(signed(64)), Signal.like(unit.seen)
        super().__init__(unit, lambda given, y: affine(given, y, self.divided), planted=planted)

    @property
    def ports(self) -> list[Signal]:
        return [*super().ports, *self.unit.parts, self.unit.freed]

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        unit = self.unit
        given = data.View(unit.i.payload.shape(), self.asked)
        low, middle, other_middle, high = unit.parts
        total = Signal(signed(64))
        m.d.sync += total.eq(low + ((middle + other_middle) << 16) + (high << 32))
        m.d.comb += Assume((unit.freed >= -(1 << 62)) & (unit.freed <= 1 << 62))
        x, multiplier = affine_operand(given, self.rounding), given.multiplier
        # A stage a cycle: the operands, their halves' products, the product, its first quotient, that shifted in two
        # steps, the last quotient's parts.
        with m.If(self.cycle == 1):
            for index, (one, other) in enumerate(unit.factors):
                m.d.comb += Assert(one == _half(x, index >= 2))
                m.d.comb += Assert(other == _half(multiplier, index % 2 == 1))
        with m.If(self.cycle == 2):
            m.d.comb += Assert(unit.sum == total)
            m.d.sync += self.multiplied.eq(unit.freed)
        with m.If(self.cycle == 6):
            m.d.comb += Assert(affine_quotient(given, unit.seen, self.multiplied, self.rounding))
            m.d.sync += self.divided.eq(unit.seen)
        return m


class _SeenSum(LLSQ):
    """The LLSQ rescale, with what it multiplies by the mantissa in `sum`."""

    def __init__(self, accumulator_bits: int, output_bits: int, bias_bits: int):
        super().__init__(accumulator_bits, output_bits, bias_bits)
        self.sum = Signal(signed(accumulator_bits))
        self.module = Module()

    def product(self, x: Value, mantissa: Value) -> Value:  # type: ignore[override]
        self.module.d.comb += self.sum.eq(x)
        return super().product(x, mantissa)

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.submodules.seen = self.module
        return m


class Llsq(Function):
    """The LLSQ rescale in two steps, as no solver here gets through two unlike forms of one product: the
    right sum goes into the multiplication, and of that sum the right result comes out."""

    def __init__(self, accumulator_bits: int, output_bits: int, bias_bits: int, *, planted: bool = False):
        self.total = Signal(signed(accumulator_bits))
        unit = _SeenSum(accumulator_bits, output_bits, bias_bits)
        super().__init__(unit, lambda given, y: llsq(given, y, self.total), planted=planted)
        self.sum = unit.sum

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        with m.If(self.cycle == 1):
            given = data.View(self.unit.i.payload.shape(), self.asked)
            m.d.comb += Assert(self.sum == summed(given))
            m.d.sync += self.total.eq(self.sum)
        return m


class Fifo(Elaboratable):
    """A pipeline of ``stages`` is a queue: what goes in comes out, once and in order, whoever
    stalls; an offered value stays; it takes a value in every cycle in which its output moves.

    By induction: the values going in count up, so the one in each stage is known.

    Parameters
    ----------
    stages : int
        Calls of :meth:`intaglio.hdl.units.pipeline.Pipeline.stage`.
    planted : bool
        Whether to lose a value, to see that the proof fails.
    """

    @property
    def depth(self) -> int:
        """Cycles to unroll from the start, so that a counterexample may fill all stages and stall."""
        return self.stages + 3

    def __init__(self, stages: int, *, planted: bool = False):
        self.stages, self.planted = stages, planted
        self.domain = _without_reset()
        self.i = stream.Signature(4).create()
        self.o = stream.Signature(4).create()

    @property
    def ports(self) -> list[Signal]:
        """The clock, and what is free in every cycle."""
        return [self.domain.clk, self.i.valid, self.o.ready]

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains += self.domain
        pipeline = Pipeline(m, self.i)
        sent, received = Signal(4), Signal(4)
        m.d.comb += self.i.payload.eq(sent)

        held = []
        value: Value = self.i.payload
        for _ in range(self.stages):
            when = value != 0 if self.planted else C(1, 1)
            value = pipeline.stage(when=when, value=value).value
            held.append((pipeline.valid, value))
        pipeline.finish(self.o, value)

        with m.If(self.i.valid & self.i.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += received.eq(received + 1)
            m.d.comb += Assert(self.i.ready)

        # The oldest is the last; each younger one counts on from it.
        expected: Value = received
        for valid, value in reversed(held):
            m.d.comb += Assert(~valid | (value == expected))
            expected = (expected + valid)[:4]
        m.d.comb += Assert(sent == expected)

        offered, before = Signal(), Signal(4)
        m.d.sync += [offered.eq(self.o.valid & ~self.o.ready), before.eq(self.o.payload)]
        with m.If(offered):
            m.d.comb += [Assert(self.o.valid), Assert(self.o.payload == before)]
        return m
