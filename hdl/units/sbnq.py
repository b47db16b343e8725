"""Shift-based rescale: subtract a bias, ReLU, shift, saturate."""

# Ref: [sbnq: eq. 16, 19] shift-based batch-normalised quantization, inference in integers.

from amaranth.hdl import C, Module, Mux, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.saturate import clamp

__all__ = ["SBNQ"]


class SBNQ(wiring.Component):
    """Rescales an accumulator to ``output_bits`` bits by a shift.

    ``clamp((acc - bias) >> shift)`` [sbnq: eq. 16], or with ``relu`` ``ReLU(acc - bias) >> shift``
    and then the same clamp [sbnq: eq. 19]. The subtraction does not wrap. ``>>`` is FLOOR, and a
    negative shift is a left shift that loses no bits. The clamp is to ``[-2**(N-1) + 1,
    2**(N-1) - 1]`` where ``signed`` is high and to ``[0, 2**N - 1]`` where it is low, with
    ``relu`` or without. Every input is in the domain.

    Latency: 3 cycles. Throughput: one result a cycle.

    Parameters
    ----------
    accumulator_bits : int
        Bits of the accumulator, 2…64.
    output_bits : int
        Bits *N* of the result, 2…16.
    bias_bits : int or None
        Bits of the bias, 2…64; as many as the accumulator has if None.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``accumulator`` signed(accumulator_bits), ``bias``
        signed(bias_bits), ``shift`` signed(6), -32…31, ``relu`` unsigned(1), ``signed``
        unsigned(1).
    o : Out(stream)
        Payload: unsigned(output_bits), the result's raw bits; two's complement where ``signed``
        was high.

    Raises
    ------
    TypeError
        If a parameter is not an integer.
    ValueError
        If a parameter is out of range.
    """

    def __init__(
        self, accumulator_bits: int = 16, output_bits: int = 4, bias_bits: int | None = None
    ) -> None:
        self.accumulator_bits = check_integer("accumulator_bits", accumulator_bits, 2, 64)
        self.output_bits = check_integer("output_bits", output_bits, 2, 16)
        if bias_bits is None:
            bias_bits = accumulator_bits
        self.bias_bits = check_integer("bias_bits", bias_bits, 2, 64)
        payload = data.StructLayout(
            {
                "accumulator": signed(accumulator_bits),
                "bias": signed(bias_bits),
                "shift": signed(6),
                "relu": 1,
                "signed": 1,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "o": Out(stream.Signature(output_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from an accumulator taken to its result offered."""
        return 3

    def _limits(self, is_signed: Value) -> tuple[Value, Value]:
        """The least and the greatest result, as signed(output_bits + 1)."""
        bits = self.output_bits
        greatest = (1 << (bits - 1)) - 1
        low = Mux(is_signed, C(-greatest, bits + 1), C(0, bits + 1)).as_signed()
        high = Mux(is_signed, C(greatest, bits + 1), C((1 << bits) - 1, bits + 1)).as_signed()
        return low, high

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload
        bits = self.output_bits

        difference = given.accumulator - given.bias
        centred = pipeline.stage(
            value=Mux(given.relu & (difference < 0), 0, difference),
            shift=given.shift,
            signed=given.signed,
        )

        # Beyond ±2**N any left shift saturates the same way, so a few bits are left to shift.
        right = Mux(centred.shift < 0, C(0, 5), centred.shift[:5])
        floor = centred.value >> right
        beyond = C(1 << bits, signed(bits + 2))
        narrowed = pipeline.stage(
            value=clamp(floor, C(-(1 << bits), signed(bits + 2)), beyond),
            shift=centred.shift,
            signed=centred.signed,
        )

        # So does a left shift by N or more of anything but zero.
        wanted = (-narrowed.shift)[:6]
        left = Mux(narrowed.shift < 0, Mux(wanted > bits, bits, wanted), 0)
        limit_lo, limit_hi = self._limits(narrowed.signed)
        shifted = (narrowed.value << left[: bits.bit_length()])[: 2 * bits + 2].as_signed()
        result = pipeline.stage(clamped=clamp(shifted, limit_lo, limit_hi)[:bits])

        pipeline.finish(self.o, result.clamped)
        return m
