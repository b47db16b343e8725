"""Multiply-accumulate."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.product import operand_shape, product
from intaglio.spec.operand import OperandType

__all__ = ["MAC"]


class MAC(wiring.Component):
    """Sums products of activations and weights, modulo ``2**accumulator_bits``.

    A value with ``first`` high begins a sum: its product alone. A value with ``first`` low adds
    its product to the sum so far, which is 0 after reset. A value with ``last`` high emits the sum
    that includes its product; the sum stays, so that a next value without ``first`` goes on from
    it. Ternary and binary weights (:class:`intaglio.spec.operand.OperandType` states their bits) add or
    subtract, and leave no multiplier in the netlist [itbwn: eq. 3, 5].

    Latency: 2 cycles from the value with ``last`` to the sum. Throughput: one value a cycle.

    Parameters
    ----------
    activation : OperandType or str
        An integer type of 2…8 bits.
    weight : OperandType or str
        An integer type of 2…8 bits, ternary or binary.
    accumulator_bits : int
        Bits of the sum, 8…48.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``activation`` signed or unsigned as its type, ``weight``
        signed or unsigned as its type, unsigned(2) for ternary and unsigned(1) for binary,
        ``first`` unsigned(1), ``last`` unsigned(1).
    o : Out(stream)
        Payload: signed(accumulator_bits).

    Raises
    ------
    TypeError
        If ``activation`` or ``weight`` is neither an OperandType nor a name, or
        ``accumulator_bits`` not an integer.
    ValueError
        If a type or ``accumulator_bits`` is out of range.
    """

    def __init__(
        self,
        activation: OperandType | str = "int8",
        weight: OperandType | str = "int8",
        accumulator_bits: int = 32,
    ) -> None:
        self.activation = self._operand("activation", activation)
        self.weight = self._operand("weight", weight)
        if not self.activation.is_integer:
            raise ValueError(f"`activation` must be an integer type, not {self.activation}")
        self.accumulator_bits = check_integer("accumulator_bits", accumulator_bits, 8, 48)
        payload = data.StructLayout(
            {
                "activation": operand_shape(self.activation),
                "weight": operand_shape(self.weight),
                "first": 1,
                "last": 1,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "o": Out(stream.Signature(signed(accumulator_bits))),
            }
        )

    @staticmethod
    def _operand(name: str, value: object) -> OperandType:
        if isinstance(value, str):
            value = OperandType(value)
        if not isinstance(value, OperandType):
            raise TypeError(f"`{name}` must be an OperandType or its name, not {value!r}")
        if value.bits > 8:
            raise ValueError(f"`{name}` must be of at most 8 bits, not {value}")
        return value

    @property
    def latency(self) -> int:
        """Cycles from the last value of a sum taken to the sum offered."""
        return 2

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload

        multiplied = pipeline.stage(
            product=product(given.activation, given.weight, self.weight),
            first=given.first,
            last=given.last,
        )

        # The sum is the register that is offered: nothing is added while it waits to be taken.
        accumulator = Signal(signed(self.accumulator_bits))
        with m.If(pipeline.transfer):
            m.d.sync += accumulator.eq(Mux(multiplied.first, 0, accumulator) + multiplied.product)
        pipeline.stage(when=multiplied.last)

        pipeline.finish(self.o, accumulator)
        return m
