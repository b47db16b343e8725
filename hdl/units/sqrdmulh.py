"""Saturating rounding doubling high multiply."""

# Ref: [jacob2017: app. B] the instruction SQRDMULH that Integer-arithmetic-only inference is
#      defined by: a fixed-point product of two numbers in [-1, 1), rounded to nearest.

from amaranth.hdl import C, Module, Mux, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline

__all__ = ["SQRDMULH", "rounded_high_half"]


def rounded_high_half(product: Value) -> Value:
    """``min((product + 2**(w-2)) >> (w-1), 2**(w-1) - 1)`` of the ``2*w`` bits of a product.

    Rounding adds the highest bit dropped, so the adder spans the kept bits alone. The sum is
    ``2**(w-1)`` or more only for ``product = 2**(2*w-2)``, the square of the minimum: any other
    product is at most ``2**(2*w-2) - 2**(w-1)``.
    """
    width = len(product) // 2
    kept = product[width - 1 :].as_signed()
    total = (kept + product[width - 2])[: width + 1]
    overflows = ~total[width] & total[width - 1]
    maximum = C((1 << (width - 1)) - 1, width)
    return Mux(overflows, maximum, total[:width]).as_signed()


class SQRDMULH(wiring.Component):
    """Saturating rounding doubling multiply, high half [jacob2017: app. B].

    ``min((a*b + 2**(w-2)) >> (w-1), 2**(w-1) - 1)`` with ``>>`` arithmetic: the product of two
    fixed-point numbers in [-1, 1), rounded half up. It saturates only for
    ``a = b = -2**(w-1)``.

    Latency: ``depth`` cycles. Throughput: one result a cycle.

    Parameters
    ----------
    width : int
        Bits *w* of each operand and of the result, 2…64.
    depth : int
        Register stages, 1…8. One holds the result; with two, another holds the product; with
        three, another the operands; more are added behind the product, for a synthesiser to
        retime into the multiplier.

    Members
    -------
    i : In(stream)
        Payload, from the lowest bit: ``a`` signed(width), ``b`` signed(width).
    o : Out(stream)
        Payload: signed(width).

    Raises
    ------
    TypeError
        If a parameter is not an integer.
    ValueError
        If a parameter is out of range.
    """

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        self.width = check_integer("width", width, 2, 64)
        self.depth = check_integer("depth", depth, 1, 8)
        operands = data.StructLayout({"a": signed(width), "b": signed(width)})
        super().__init__(
            {
                "i": In(stream.Signature(operands)),
                "o": Out(stream.Signature(signed(width))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands taken to their result offered."""
        return self.depth

    def elaborate(self, platform) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.i)
        a, b = self.i.payload.a, self.i.payload.b

        if self.depth >= 3:
            operands = pipeline.stage(a=a, b=b)
            a, b = operands.a, operands.b
        product = a * b  # signed(2 * width)
        for _ in range({1: 0, 2: 1}.get(self.depth, self.depth - 2)):
            product = pipeline.stage(product=product).product

        result = pipeline.stage(rounded=rounded_high_half(product))
        pipeline.finish(self.o, result.rounded)
        return m
