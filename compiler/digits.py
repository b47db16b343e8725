"""Weights wider than the array's, as digits that it takes, the highest first (`docs/architecture.md`)."""

from __future__ import annotations

import numpy as np

from intaglio.network.graph import Integers
from intaglio.spec.config import AcceleratorConfig


def weight_digits(weights: Integers, config: AcceleratorConfig) -> int:
    """How many digits such weights take; 1 where each is a value of the array's type."""
    operand = config.weight
    low, high = int(weights.min()), int(weights.max())
    if operand.is_binary:
        # Bits of the least two's complement type that holds them.
        return 1 if np.all(np.abs(weights) == 1) else max(high, -low - 1, 0).bit_length() + 1
    if operand.min <= low and high <= operand.max:
        return 1
    return -(-max(high, -low).bit_length() // config.weight_digit_bits)


def digits_of_weights(weights: Integers, count: int, config: AcceleratorConfig) -> list[Integers]:
    """`count` arrays of what the array holds for each digit, the highest first.

    Binary ones are -1 where the bit is set and 1 where it is not, which are an array's codes of 1 and 0.
    """
    if config.weight.is_binary:
        return [1 - 2 * (weights >> digit & 1) for digit in reversed(range(count))]
    bits = config.weight_digit_bits
    digit_of = [np.abs(weights) >> digit * bits & ((1 << bits) - 1) for digit in reversed(range(count))]
    return [np.sign(weights) * digit for digit in digit_of]
