"""Power-of-two rescale: add a bias, shift either way with rounding, clamp."""

# Ref: [itbwn] int8 activations of a scale that is a power of two, as TQT (S. R. Jain et al., "Trained
#      Quantization Thresholds", 2019) and Brevitas train it, rounded to nearest, ties to even.

from amaranth.hdl import C, Module, Mux, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.rounding import Rounding, split_right_shift
from intaglio.hdl.units.saturate import between, narrow

__all__ = ["PowerOfTwo"]


class PowerOfTwo(wiring.Component):
    """Rescales an accumulator by ``2**-shift``: ``clamp(round((acc + bias) / 2**shift), low, high)``.

    The sum is taken modulo ``2**accumulator_bits``; a negative shift is a left shift that loses no
    bits. Rounds as :class:`Rounding` says. Every accumulator, bias, shift and mode is in the
    domain, and all limits with ``low <= high``.

    It is proved (`formal/`), tested and emitted as a unit; no machine carries it yet.

    Latency: 4 cycles. Throughput: one result a cycle.

    Parameters
    ----------
    accumulator_bits : int
        Bits of the accumulator and of its sum with the bias, 2…48.
    output_bits : int
        Bits *N* of the result, 2…16.
    bias_bits : int or None
        Bits of the bias, 2…``accumulator_bits``; as many as the accumulator has if None.
    mode : Rounding or None
        The rounding, or None for one selected with each value.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``accumulator`` signed(accumulator_bits), ``bias``
        signed(bias_bits), ``shift`` signed(6), -32…31, ``low`` and ``high``
        signed(output_bits + 1): the ends of the result's type, 0 and ``2**k - 1`` or ``-2**(k-1)``
        and ``2**(k-1) - 1`` with k at most N; and, only if the parameter ``mode`` is None,
        ``mode`` :class:`Rounding` (2 bits).
    o : Out(stream)
        Payload: unsigned(output_bits), the result's raw bits: two's complement where ``low`` is
        negative. Of a result outside both N-bit types, the low N bits.

    Raises
    ------
    TypeError
        If a number of bits is not an integer, or ``mode`` neither a Rounding nor None.
    ValueError
        If a number of bits is out of range.
    """

    def __init__(
        self,
        accumulator_bits: int = 24,
        output_bits: int = 8,
        bias_bits: int | None = None,
        mode: Rounding | None = Rounding.HALF_EVEN,
    ) -> None:
        self.accumulator_bits = check_integer("accumulator_bits", accumulator_bits, 2, 48)
        self.output_bits = check_integer("output_bits", output_bits, 2, 16)
        if bias_bits is None:
            bias_bits = accumulator_bits
        self.bias_bits = check_integer("bias_bits", bias_bits, 2, accumulator_bits)
        if mode is not None and not isinstance(mode, Rounding):
            raise TypeError(f"`mode` must be a Rounding or None, not {mode!r}")
        self.mode = mode
        fields: dict = {
            "accumulator": signed(accumulator_bits),
            "bias": signed(bias_bits),
            "shift": signed(6),
            "low": signed(output_bits + 1),
            "high": signed(output_bits + 1),
        }
        if mode is None:
            fields["mode"] = Rounding
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(fields))),
                "o": Out(stream.Signature(output_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from an accumulator taken to its result offered."""
        return 4

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload
        bits = self.output_bits
        modes = {"mode": given.mode.as_value()} if self.mode is None else {}

        summed = pipeline.stage(
            value=(given.accumulator + given.bias)[: self.accumulator_bits].as_signed(),
            shift=given.shift,
            low=given.low,
            high=given.high,
            **modes,
        )

        # A left shift by N or more takes anything but zero beyond the limits.
        right = Mux(summed.shift < 0, C(0, 5), summed.shift[:5])
        wanted = (-summed.shift)[:6]
        left = Mux(summed.shift < 0, Mux(wanted > bits, bits, wanted), 0)
        mode = summed.mode if self.mode is None else self.mode
        floor, increment = split_right_shift(summed.value, right, mode)
        narrowed = pipeline.stage(
            floor=narrow(floor, bits),
            increment=increment,
            left=left[: bits.bit_length()],
            low=summed.low,
            high=summed.high,
        )

        # There is an increment only where nothing is shifted left.
        shifted = (narrowed.floor << narrowed.left)[: len(narrowed.floor) + bits].as_signed()
        scaled = pipeline.stage(
            floor=narrow(shifted, bits),
            increment=narrowed.increment,
            low=narrowed.low,
            high=narrowed.high,
        )

        rounded = scaled.floor + scaled.increment
        result = pipeline.stage(inside=between(rounded, scaled.low, scaled.high)[:bits])

        pipeline.finish(self.o, result.inside)
        return m
