"""The product of an activation and a weight, without a multiplier where the weight allows it."""

# Ref: [itbwn: eq. 3, 5, 6] weights of {-1, +1} or {-1, 0, +1}: a product is the activation, its
#      negative or nothing.

from amaranth.hdl import C, Cat, Mux, Shape, Value, signed, unsigned

from intaglio.spec.operand import OperandType

__all__ = ["operand_shape", "product", "product_bits"]


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
    value = activation * (weight.as_signed() if weight_type.signed else weight.as_unsigned())
    if not value.shape().signed:
        return Cat(value, C(0, 1)).as_signed()
    return value
