"""What is known before any inference, computed at import: zero points in biases, arithmetic on static shapes.

Ref: Jacob et al., 2017 [jacob2017: eq. 7]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.network.graph import Integers
from intaglio.network.importing.refusals import Refusal


def fold_zero_point(bias: Integers, weights: Integers, zero_point: int) -> Integers:
    """``bias - zero_point * sum(w)`` of each output channel, so that sums are of plain products [jacob2017: eq. 7].

    `weights`: output channels first; `zero_point`: the input's; those of the weights are 0.
    """
    return bias - zero_point * weights.reshape(len(weights), -1).sum(axis=1)


def fold_slice(
    values: npt.NDArray, begin: int | None, end: int | None, step: int, shrinks: bool
) -> npt.NDArray:
    """Elements of a static shape, one axis: ``values[begin:end:step]``, or the one at `begin` where it `shrinks`."""
    if shrinks:
        start = begin or 0
        return values[start : start + 1 or None]
    return values[begin:end:step]


def constant_shape(shape: tuple[int, ...], rank: int, batched: bool, what: str) -> tuple[int, ...]:
    """The shape of a constant operand beside one of `rank` axes without its batch: without a batch of 1 of its own."""
    if batched and len(shape) == rank + 1:
        if shape[0] != 1:
            raise Refusal(f"its constant {what} has a batch of {shape[0]}")
        shape = shape[1:]
    if len(shape) > rank:
        raise Refusal(f"its constant {what} has more axes than its input")
    return shape


def broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of two operands that broadcast as numpy's do."""
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        raise Refusal(f"its inputs are {first} and {second}") from None
