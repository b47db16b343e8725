"""The product of an activation and a weight, without a multiplier where the operands allow it."""

# Ref: [itbwn: eq. 3, 5, 6] weights of {-1, +1} or {-1, 0, +1}: a product is the activation, its
#      negative or nothing.

from amaranth.hdl import C, Cat, Mux, Shape, Value, signed, unsigned

from intaglio.spec.operand import OperandType

__all__ = ["operand_shape", "product", "product_bits"]

_NARROW_BITS = 5
"""Up to which both operands are narrow: 4, and one where activations may have a sign or not."""


def operand_shape(operand: OperandType) -> Shape:
    """The shape of a port that carries such an operand; ternary and binary are plain bits."""
    is_signed = operand.is_integer and operand.signed
    return signed(operand.bits) if is_signed else unsigned(operand.bits)


def product_bits(activation: OperandType, weight: OperandType) -> int:
    """Bits of :func:`product`: the fewest in which the widest product is two's complement, plus at
    most one."""
    if not weight.is_integer:
        return activation.bits + 1
    both_unsigned = not activation.signed and not weight.signed
    return activation.bits + weight.bits + (1 if both_unsigned else 0)


def product(activation: Value, weight: Value, weight_type: OperandType) -> Value:
    """``activation * weight``, signed and exact.

    ``activation`` is taken by its own shape, signed or unsigned; ``weight`` is the bits of a
    ``weight_type``. The result has ``len(activation) + 1`` bits for ternary and binary weights,
    else ``len(activation) + len(weight)``, and one more where both are unsigned: that is
    :func:`product_bits`.
    """
    if not weight_type.is_integer:
        width = len(activation) + 1
        negated = (-activation)[:width]
        chosen = Mux(weight[-1], negated, Cat(activation, activation[-1])[:width])
        if not activation.shape().signed:
            chosen = Mux(weight[-1], negated, Cat(activation, C(0, 1)))
        if weight_type.is_ternary:
            chosen = Mux(weight[0], chosen, C(0, width))
        return chosen.as_signed()
    width = len(activation) + len(weight)
    if max(len(activation), len(weight)) <= _NARROW_BITS:
        value = _sum_of_multiples(activation, weight, weight_type.signed, width)
        return value if activation.shape().signed or weight_type.signed else Cat(value, C(0, 1)).as_signed()
    value = activation * (weight.as_signed() if weight_type.signed else weight.as_unsigned())
    if not value.shape().signed:
        return Cat(value, C(0, 1)).as_signed()
    return value


def _sum_of_multiples(activation: Value, weight: Value, is_signed: bool, width: int) -> Value:
    """The product's ``width`` bits, two's complement, by a choice among the activation's multiples for every two bits
    of the weight.

    On an FPGA it takes no DSP. The multiples are the same for all weights that meet the activation, and made once for
    them: with a multiplier each, arrays are larger, of gates too. The choice is a shift, which a simulator runs
    nearly as fast as it multiplies.
    """
    place_bits = (width - 1).bit_length()
    total: Value = C(0, width)
    for low in range(0, len(weight), 2):
        digit = weight[low : low + 2]
        values = list(range(1 << len(digit)))
        if is_signed and low + len(digit) == len(weight):  # its highest bit counts negative
            values = [value - len(values) if 2 * value >= len(values) else value for value in values]
        multiples = [_extended(_multiple(activation, value) << low, 1 << place_bits) for value in values]
        total = (total + (Cat(*multiples) >> Cat(C(0, place_bits), digit))[:width])[:width]
    return total.as_signed()


def _multiple(value: Value, factor: int) -> Value:
    """``value * factor``, of -2 to 3, by shifts and a sum."""
    terms = [value << place for place in range(2) if abs(factor) >> place & 1]
    total = sum(terms[1:], terms[0]) if terms else C(0, 1)
    return -total if factor < 0 else total


def _extended(value: Value, width: int) -> Value:
    sign = value[-1] if value.shape().signed else C(0, 1)
    return Cat(value, sign.replicate(width))[:width]
