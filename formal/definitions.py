"""What each unit's result has to satisfy, said without the operations that the unit is made of.

Each definition takes a unit's input and its result and gives a condition that exactly one result
meets. A quotient ``y`` of ``x / 2**n`` is never computed by shifting ``x`` right: bounds on ``x`` in
multiples of ``2**n`` say which one it is.
"""

# Ref: [jacob2017: app. B], [sbnq: eq. 16, 19], [llsq: eq. 1, 6], [itbwn]

from collections.abc import Callable

from amaranth.hdl import C, Mux, Value, signed

from intaglio.hdl.units.affine_rescale import AffineRounding
from intaglio.hdl.units.rounding import Rounding

__all__ = [
    "Definition",
    "affine",
    "affine_operand",
    "affine_quotient",
    "clamped",
    "llsq",
    "power_of_two",
    "rounded",
    "saturated",
    "sbnq",
    "sqrdmulh",
    "summed",
]

Definition = Callable[..., Value]
"""From the unit's input, a view of its payload, and its result to a condition of one bit."""


def _all(*conditions: Value) -> Value:
    result: Value = C(1, 1)
    for condition in conditions:
        result = result & condition.bool()
    return result


def _implies(premise: Value, conclusion: Value) -> Value:
    return ~premise.bool() | conclusion.bool()


def _divided(x: Value, n: Value, y: Value, mode: Rounding) -> Value:
    """``y`` is ``x / 2**n`` rounded by ``mode``; in halves, so that no half is lost."""
    twice = x << 1
    if mode is Rounding.FLOOR:
        return _all((y << n) <= x, x < ((y + 1) << n))
    from_below = ((y << 1) - 1) << n
    from_above = ((y << 1) + 1) << n
    on_low_edge, on_high_edge = twice == from_below, twice == from_above
    nearest = _all(from_below <= twice, twice <= from_above)
    return (
        nearest
        & {
            Rounding.HALF_UP: ~on_high_edge,
            Rounding.HALF_AWAY: Mux(x < 0, ~on_low_edge, ~on_high_edge),
            Rounding.HALF_EVEN: _implies(on_low_edge | on_high_edge, ~y[0]),
        }[mode]
    )


def rounded(mode: Rounding | None) -> Definition:
    """The result is ``value / 2**shift``, rounded; None takes the mode from the input."""

    def definition(given, y: Value) -> Value:
        if mode is not None:
            return _divided(given.value, given.shift, y, mode)
        return _all(
            *(_implies(given.mode == one, _divided(given.value, given.shift, y, one)) for one in Rounding)
        )

    return definition


def _between(x: Value, low: Value, high: Value, y: Value) -> Value:
    """``y`` is the nearest to ``x`` of the numbers from ``low`` to ``high``, and ``high`` if none are."""
    inside = _all(
        low <= y,
        y <= high,
        (y == x) | ((y == low) & (x < low)) | ((y == high) & (x > high)),
    )
    return Mux(low > high, y == high, inside)


def clamped(given, y: Value) -> Value:
    return _between(given.value, given.low, given.high, y)


def saturated(bits: int, is_signed: bool) -> Definition:
    lowest = -(2 ** (bits - 1)) if is_signed else 0
    highest = lowest + 2**bits - 1
    shape = signed(bits + 1)
    return lambda given, y: _between(given, C(lowest, shape), C(highest, shape), y)


def sqrdmulh(given, y: Value) -> Value:
    """Half up of ``a*b / 2**(w-1)``, but for the one pair whose product's double has no room."""
    width = len(y)
    least = C(-(1 << (width - 1)), signed(width))
    both_least = (given.a == least) & (given.b == least)
    ordinary = _divided(given.a * given.b, C(width - 1, 8), y, Rounding.HALF_UP)
    return Mux(both_least, y == (1 << (width - 1)) - 1, ordinary)


def sbnq(given, y: Value) -> Value:
    """The limit where the quotient is at or beyond it, else the quotient; in units of 2**-32, so
    that a left shift is a division as well."""
    bits = len(y)
    greatest = (1 << (bits - 1)) - 1
    low = Mux(given.signed, -greatest, 0)
    high = Mux(given.signed, greatest, (1 << bits) - 1)
    difference = given.accumulator - given.bias
    x = Mux(given.relu & (difference < 0), 0, difference) << 32
    n = (given.shift + 32).as_unsigned()[:6]
    value = Mux(given.signed, y.as_signed(), y)
    # The quotient q has q >= v exactly if x >= v * 2**n.
    return _all(
        low <= value,
        value <= high,
        (value == low) | (x >= (value << n)),
        (value == high) | (x < ((value + 1) << n)),
    )


def summed(given) -> Value:
    """Accumulator and bias modulo ``2**bits``: of what has the accumulator's bits, what differs by a multiple."""
    bits = len(given.accumulator)
    exact, modulus = given.accumulator + given.bias, C(1 << bits, signed(bits + 2))
    above, below = exact >= 1 << (bits - 1), exact < -(1 << (bits - 1))
    return Mux(above, exact - modulus, Mux(below, exact + modulus, exact))[:bits].as_signed()


def _rescaled(given, y: Value, at_least: Callable[[Value], Value]) -> Value:
    """The limit where the quotient is at or beyond it, else the quotient: which is ``at_least`` itself and not more."""

    def is_result(value: Value) -> Value:
        return _all(
            given.low <= value,
            value <= given.high,
            (value == given.low) | at_least(value),
            (value == given.high) | ~at_least(value + 1),
        )

    # Of the numbers of one bit more, which the limits have, two end in the bits of the result.
    outcome = is_result(y) | is_result(y - C(1 << len(y), signed(len(y) + 2)))
    return _implies(given.low <= given.high, outcome)


def llsq(given, y: Value, total: Value) -> Value:
    """The sum ``total`` times the mantissa, over ``2**shift``, ties up."""
    twice = (total * given.mantissa) << 1
    # The quotient q has q >= v exactly if 2*product >= (2*v - 1) * 2**n; n = 0 leaves no tie.
    return _rescaled(given, y, lambda v: twice >= (((v << 1) - 1) << given.shift))


def power_of_two(mode: Rounding | None) -> Definition:
    """The sum over ``2**shift``, in units of 2**-32, so that a left shift is a division as well."""

    def definition(given, y: Value) -> Value:
        twice = summed(given) << 33
        n = (given.shift + 32).as_unsigned()[:6]

        def in_mode(one: Rounding) -> Value:
            def at_least(v: Value) -> Value:
                if one is Rounding.FLOOR:
                    return twice >= ((v << 1) << n)
                tie = ((v << 1) - 1) << n
                up = {Rounding.HALF_UP: C(1, 1), Rounding.HALF_AWAY: v > 0, Rounding.HALF_EVEN: ~v[0]}[one]
                return (twice > tie) | ((twice == tie) & up)

            return _rescaled(given, y, at_least)

        if mode is not None:
            return in_mode(mode)
        return _all(*(_implies(given.mode == one, in_mode(one)) for one in Rounding))

    return definition


def affine_operand(given, rounding: AffineRounding) -> Value:
    """What the affine rescale multiplies by the multiplier."""
    if rounding is AffineRounding.SINGLE:
        return given.accumulator
    left = Mux(given.exponent > 0, given.exponent, 0).as_unsigned()[:5]
    return (given.accumulator << left)[:32].as_signed()


def affine_quotient(given, q: Value, product: Value, rounding: AffineRounding) -> Value:
    """``q`` is the product over a power of two, ties away from zero [jacob2017: app. B].

    In double rounding the product is first divided by ``2**31``, ties up, which saturates [jacob2017: eq. 6]. The last
    quotient is at least v exactly if that first one is at least k; all in doubles, so that no half is lost.
    """
    e = given.exponent
    if rounding is AffineRounding.SINGLE:
        return _divided(product, (31 - e).as_unsigned()[:6], q, Rounding.HALF_AWAY)
    right = Mux(e < 0, -e, 0).as_unsigned()[:6]

    def at_least(v: Value) -> Value:
        # The tie is a whole number, and k with it, unless `right` is 0, where k is v.
        tie = ((v << 1) - 1) << right
        k_doubled = Mux(right == 0, v << 1, tie + Mux(v > 0, 0, 2))
        reached = (product << 1) >= ((k_doubled - 1) << 31)
        return reached & (k_doubled <= 2 * ((1 << 31) - 1))

    return at_least(q) & ~at_least(q + 1)


def affine(given, y: Value, q: Value) -> Value:
    """The quotient and the zero point, in the limits."""
    return _between(q + given.zero_point, given.low, given.high, y)
