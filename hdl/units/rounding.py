"""Rounding of a division by a power of two, in the four modes that quantized networks use."""

# Ref: [jacob2017: app. B] B. Jacob et al., "Quantization and Training of Neural Networks for
#      Efficient Integer-Arithmetic-Only Inference", 2017: RoundingDivideByPOT, ties away from zero.
# Ref: [sbnq: eq. 8, 9, 16] shift-based quantization, which drops the remainder.

from amaranth.hdl import C, Cat, Value, unsigned
from amaranth.lib import enum

__all__ = ["Rounding", "coarse_right_shift", "fine_right_shift", "rounding_right_shift", "split_right_shift"]


class Rounding(enum.Enum, shape=unsigned(2)):
    """What becomes of the remainder of a signed ``x`` divided by ``2**n``; ``n = 0`` returns x."""

    FLOOR = 0
    """Dropped: ``x >> n``."""
    HALF_UP = 1
    """To nearest, ties up: ``(x + 2**(n-1)) >> n``."""
    HALF_AWAY = 2
    """To nearest, ties away from zero."""
    HALF_EVEN = 3
    """To nearest, ties to the even neighbour."""


def split_right_shift(value: Value, shift: Value, mode: Rounding | Value) -> tuple[Value, Value]:
    """The signed ``value`` over ``2**shift``, any unsigned ``shift``, in two parts to be added.

    ``mode`` is a :class:`Rounding`, or a two-bit value that holds one at run time.

    Returns
    -------
    (floor, increment)
        ``value >> shift``, as wide as ``value`` and signed; and the 0 or 1 that rounds it.
    """
    value = value.as_signed()
    if mode is Rounding.FLOOR:
        return value >> shift, C(0, 1)
    # A zero below the value makes the highest bit dropped the lowest bit of the result.
    doubled = Cat(C(0, 1), value).as_signed() >> shift
    return _parts(doubled, _below_half(value, shift).any(), mode)


def coarse_right_shift(value: Value, shift: Value, fine_bits: int) -> tuple[Value, Value]:
    """The first half of a `split_right_shift`, for a register in the middle: by all of ``shift`` but its low bits.

    Returns
    -------
    (halves, sticky)
        For `fine_right_shift`: the value in halves, signed and a bit wider than ``value``; whether a 1 was dropped.
    """
    halves = Cat(C(0, 1), value).as_signed()
    steps = shift[fine_bits:]
    step = 1 << fine_bits
    dropped = (
        halves[index * step : (index + 1) * step].any() & (steps > index)
        for index in range(min((1 << len(steps)) - 1, -(-len(halves) // step)))
    )
    return halves >> Cat(C(0, fine_bits), steps), Cat(*dropped).any()


def fine_right_shift(
    halves: Value, sticky: Value, shift: Value, mode: Rounding | Value
) -> tuple[Value, Value]:
    """The second half: by the low bits ``shift`` of the whole shift. Returns what `split_right_shift` does."""
    dropped = (halves[index] & (shift > index) for index in range((1 << len(shift)) - 1))
    return _parts(halves.as_signed() >> shift, sticky | Cat(*dropped).any(), mode)


def _parts(halves: Value, sticky: Value, mode: Rounding | Value) -> tuple[Value, Value]:
    """Floor and increment of a number of halves, above further bits that are not all 0 if ``sticky``."""
    floor, half = halves[1:].as_signed(), halves[0]
    if mode is Rounding.FLOOR:
        return floor, C(0, 1)
    if mode is Rounding.HALF_UP:
        return floor, half
    away = sticky | ~floor[-1]
    even = sticky | floor[0]
    if isinstance(mode, Rounding):
        return floor, half & (away if mode is Rounding.HALF_AWAY else even)
    mode = Value.cast(mode)
    increments = (
        (mode == Rounding.HALF_UP.value)
        | ((mode == Rounding.HALF_AWAY.value) & away)
        | ((mode == Rounding.HALF_EVEN.value) & even)
    )
    return floor, half & increments


def _below_half(value: Value, shift: Value) -> Value:
    """The bits of ``value`` below bit ``shift - 1``, the rest zero.

    Bits of the shift's reach that lie above the value are copies of its sign, as they should be.
    """
    reach = (1 << len(shift)) - 2
    kept = (value[min(k, len(value) - 1)] & (shift > k + 1) for k in range(reach))
    return Cat(*kept)


def rounding_right_shift(value: Value, shift: Value, mode: Rounding | Value) -> Value:
    """``value / 2**shift``, rounded by ``mode``; signed and as wide as ``value``.

    The sum cannot overflow: with a shift of 0 nothing is added, and with one of 1 or more the
    floor is at most half of the range.
    """
    floor, increment = split_right_shift(value, shift, mode)
    return (floor + increment)[: len(value)].as_signed()
