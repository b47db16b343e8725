"""LLSQ rescale: add a bias, multiply by an 8-bit mantissa, shift with rounding, clamp."""

# Ref: [llsq: eq. 1, 6] X. Zhao et al., "Linear Symmetric Quantization of Neural Networks for
#      Low-precision Integer Hardware", 2020: the clamp of a quantized number, and the rescale of an
#      accumulator, bias included, by a scale of 8 bits and a shift, or by a shift alone.

from amaranth.hdl import Module, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.rounding import Rounding, split_right_shift
from intaglio.hdl.units.saturate import between, narrow

__all__ = ["LLSQ"]


class LLSQ(wiring.Component):
    """Rescales an accumulator by ``mantissa / 2**shift`` [llsq: eq. 6].

    ``clamp(HALF_UP((acc + bias) * mantissa, shift), low, high)`` [llsq: eq. 1]. The sum is taken
    modulo ``2**accumulator_bits``; nothing after it wraps. ``HALF_UP(x, n)`` is
    ``(x + 2**(n-1)) >> n``, and x for n = 0. Every accumulator, bias, mantissa (1 is the rescale by
    a shift alone) and shift is in the domain, and all limits with ``low <= high``.

    Latency: 4 cycles. Throughput: one result a cycle. Its multiplier is of ``accumulator_bits`` by
    8 bits, signed by unsigned, between two registers.

    Parameters
    ----------
    accumulator_bits : int
        Bits of the accumulator and of its sum with the bias, 2…48.
    output_bits : int
        Bits *N* of the result, 2…16.
    bias_bits : int or None
        Bits of the bias, 2…``accumulator_bits``; as many as the accumulator has if None.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``accumulator`` signed(accumulator_bits), ``bias``
        signed(bias_bits), ``mantissa`` unsigned(8), ``shift`` unsigned(5), ``low`` and ``high``
        signed(output_bits + 1): the ends of the result's type, 0 and ``2**k - 1`` or ``-2**(k-1)``
        and ``2**(k-1) - 1`` with k at most N.
    o : Out(stream)
        Payload: unsigned(output_bits), the result's raw bits: two's complement where ``low`` is
        negative. Of a result outside both N-bit types, the low N bits.

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
        self.accumulator_bits = check_integer("accumulator_bits", accumulator_bits, 2, 48)
        self.output_bits = check_integer("output_bits", output_bits, 2, 16)
        if bias_bits is None:
            bias_bits = accumulator_bits
        self.bias_bits = check_integer("bias_bits", bias_bits, 2, accumulator_bits)
        payload = data.StructLayout(
            {
                "accumulator": signed(accumulator_bits),
                "bias": signed(bias_bits),
                "mantissa": unsigned(8),
                "shift": unsigned(5),
                "low": signed(output_bits + 1),
                "high": signed(output_bits + 1),
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
        return 4

    @staticmethod
    def product(x: Value, mantissa: Value) -> Value:
        """The one multiplication, 8 bits wider than x; apart, so that a proof may see what goes into it."""
        return x * mantissa

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload

        summed = pipeline.stage(
            value=(given.accumulator + given.bias)[: self.accumulator_bits].as_signed(),
            mantissa=given.mantissa,
            shift=given.shift,
            low=given.low,
            high=given.high,
        )

        scaled = pipeline.stage(
            value=self.product(summed.value, summed.mantissa),
            shift=summed.shift,
            low=summed.low,
            high=summed.high,
        )

        floor, increment = split_right_shift(scaled.value, scaled.shift, Rounding.HALF_UP)
        narrowed = pipeline.stage(
            floor=narrow(floor, self.output_bits), increment=increment, low=scaled.low, high=scaled.high
        )

        rounded = narrowed.floor + narrowed.increment
        inside = between(rounded, narrowed.low, narrowed.high)
        result = pipeline.stage(inside=inside[: self.output_bits])

        pipeline.finish(self.o, result.inside)
        return m
