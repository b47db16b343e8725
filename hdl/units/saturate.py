"""Clamping into limits given at run time, and saturation to a number of bits."""

from amaranth.hdl import C, Cat, Module, Mux, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline

__all__ = ["Clamp", "Saturate", "between", "clamp", "narrow", "saturate"]


def clamp(value: Value, low: Value, high: Value) -> Value:
    """``min(max(value, low), high)``, signed and as wide as ``low`` and ``high``, which have one width."""
    width = len(low)
    inside = value[:width].as_signed()
    # `high` first: it wins where `low > high`, as the outer `min` has it.
    above = (value > high) | (low > high)
    return Mux(above, high, Mux(value < low, low, inside))[:width].as_signed()


def between(value: Value, low: Value, high: Value) -> Value:
    """The nearest to ``value`` of ``low`` to ``high``, where ``low <= high``; all signed, of any widths."""
    return Mux(value > high, high, Mux(value < low, low, value))


def saturate(value: Value, bits: int, is_signed: bool) -> Value:
    """The nearest of the ``bits``-bit numbers to the signed ``value``, as ``bits`` raw bits.

    ``value`` has at least ``bits`` bits.
    """
    extended = Cat(value.as_unsigned(), value[-1])
    negative = value[-1]
    # It fits when all bits above the kept ones are copies of the sign that the kept ones have.
    above = extended[bits - 1 :] if is_signed else extended[bits:]
    fits = (~above.any() | above.all()) if is_signed else ~above.any()
    lowest = C(1 << (bits - 1) if is_signed else 0, bits)
    highest = C((1 << (bits - (1 if is_signed else 0))) - 1, bits)
    return Mux(fits, extended[:bits], Mux(negative, lowest, highest))


def narrow(value: Value, bits: int) -> Value:
    """The signed ``value`` where it is from ``-2**bits`` to ``2**bits - 1``, else any number on the same side of these.

    Signed, of ``bits + 2`` bits at most. It comes before a clamp to limits of ``bits + 1`` bits, to which all numbers
    beyond that range are alike, also after 1 is added.
    """
    if len(value) <= bits:
        return value
    sign, above = value[-1], value[bits:]
    return Cat(value[:bits], Mux(sign, above.all(), above.any()), sign).as_signed()


class Clamp(wiring.Component):
    """Clamps a signed value into limits that come with it: ``min(max(value, low), high)``.

    Where ``low > high`` the result is ``high``, as that equation has it.

    Latency: 1 cycle. Throughput: one result a cycle.

    Parameters
    ----------
    width : int
        Bits of the value, 2…128.
    output_bits : int
        Bits of the limits and of the result, 2…``width``.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``value`` signed(width), ``low`` signed(output_bits), ``high``
        signed(output_bits).
    o : Out(stream)
        Payload: signed(output_bits).

    Raises
    ------
    TypeError
        If a parameter is not an integer.
    ValueError
        If a parameter is out of range.
    """

    def __init__(self, width: int = 32, output_bits: int = 8) -> None:
        self.width = check_integer("width", width, 2, 128)
        self.output_bits = check_integer("output_bits", output_bits, 2, width)
        payload = data.StructLayout(
            {"value": signed(width), "low": signed(output_bits), "high": signed(output_bits)}
        )
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "o": Out(stream.Signature(signed(output_bits))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a value taken to its result offered."""
        return 1

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        given = self.i.payload
        result = pipeline.stage(clamped=clamp(given.value, given.low, given.high))
        pipeline.finish(self.o, result.clamped)
        return m


class Saturate(wiring.Component):
    """Takes a signed value to the nearest number of ``output_bits`` bits.

    Signed ``[-2**(N-1), 2**(N-1) - 1]`` or unsigned ``[0, 2**N - 1]``.

    Latency: 1 cycle. Throughput: one result a cycle.

    Parameters
    ----------
    width : int
        Bits of the value, 2…128.
    output_bits : int
        Bits of the result, 1…``width``.
    is_signed : bool
        Whether the result is two's complement.

    Members
    -------
    i : In(stream)
        Payload: signed(width).
    o : Out(stream)
        Payload: signed(output_bits) or unsigned(output_bits).

    Raises
    ------
    TypeError
        If a parameter is of the wrong type.
    ValueError
        If a parameter is out of range.
    """

    def __init__(self, width: int = 32, output_bits: int = 8, is_signed: bool = True) -> None:
        self.width = check_integer("width", width, 2, 128)
        self.output_bits = check_integer("output_bits", output_bits, 1, width)
        if not isinstance(is_signed, bool):
            raise TypeError(f"`is_signed` must be a bool, not {is_signed!r}")
        self.is_signed = is_signed
        shape = signed(output_bits) if is_signed else unsigned(output_bits)
        super().__init__({"i": In(stream.Signature(signed(width))), "o": Out(stream.Signature(shape))})

    @property
    def latency(self) -> int:
        """Cycles from a value taken to its result offered."""
        return 1

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        kept = saturate(self.i.payload, self.output_bits, self.is_signed)
        result = pipeline.stage(kept=kept)
        pipeline.finish(self.o, result.kept)
        return m
