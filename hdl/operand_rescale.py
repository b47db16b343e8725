"""The sums and products that the elementwise engine rescales."""

# Ref: [jacob2017: A.2] both operands of an addition are rescaled, then their sum.

from amaranth.hdl import Cat, Const, Mux, Value
from amaranth.lib import data

from hdl import isa
from hdl.pipeline import Pipeline
from hdl.rounding import Rounding, split_right_shift

__all__ = ["operand_totals"]

_DROPPED = 31 - isa.OPERAND_SHIFT
"""Bits that SQRDMULH of an operand drops: the 31 of every product, less those by which the operand was shifted up."""


def operand_totals(
    pipeline: Pipeline,
    first: list[Value],
    second: list[Value],
    body: data.View,
    multiply: Value,
    subtract: Value,
) -> list[Value]:
    """``A ± B``, or with `multiply` ``a * b``, lane by lane, signed(32); adds 5 stages to `pipeline`.

    a, b are the elements less their zero points. ``A = HALF_AWAY(SQRDMULH(a << 20, a_multiplier), a_shift)``, B alike:
    ``(a * 2**20 * M + 2**30) >> 31`` is ``(a * M + 2**10) >> 11``, so that a multiplier of 10 x 32 bits does.
    """
    lanes = range(len(first))
    centred = pipeline.stage(
        **{f"a{lane}": first[lane] - body.a_zero_point for lane in lanes},
        **{f"b{lane}": second[lane] - body.b_zero_point for lane in lanes},
    )
    a_factor = {lane: Mux(multiply, centred[f"b{lane}"], _signed(body.a_multiplier)) for lane in lanes}
    products = pipeline.stage(
        **{f"a{lane}": centred[f"a{lane}"] * a_factor[lane] for lane in lanes},
        **{f"b{lane}": centred[f"b{lane}"] * _signed(body.b_multiplier) for lane in lanes},
    )
    rounded = pipeline.stage(
        **{
            f"a{lane}": Mux(multiply, products[f"a{lane}"], _high(products[f"a{lane}"]))[:32].as_signed()
            for lane in lanes
        },
        **{f"b{lane}": _high(products[f"b{lane}"])[:32].as_signed() for lane in lanes},
    )
    parts: dict[str, Value] = {}
    for lane in lanes:
        for name, shift in (("a", Mux(multiply, 0, body.a_shift)), ("b", body.b_shift)):
            floor, increment = split_right_shift(rounded[f"{name}{lane}"], shift[:5], Rounding.HALF_AWAY)
            parts |= {f"{name}_floor{lane}": floor, f"{name}_increment{lane}": increment}
    split = pipeline.stage(**parts)
    sums = {}
    for lane in lanes:
        a = split[f"a_floor{lane}"] + split[f"a_increment{lane}"]
        b = split[f"b_floor{lane}"] + split[f"b_increment{lane}"]
        sums[f"total{lane}"] = Mux(multiply, a, Mux(subtract, a - b, a + b))[:32].as_signed()
    totals = pipeline.stage(**sums)
    return [totals[f"total{lane}"] for lane in lanes]


def _high(product: Value) -> Value:
    return (product + (1 << (_DROPPED - 1))) >> _DROPPED


def _signed(multiplier: Value) -> Value:
    """An unsigned number of 31 bits as a signed one."""
    return Cat(multiplier, Const(0, 1)).as_signed()
