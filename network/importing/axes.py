"""Axes as files count them, the batch among them, and the shapes of what moves elements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from intaglio.network.importing.refusals import Refusal


def inner_axes(numbers: Iterable[int], rank: int, batched: bool) -> tuple[int, ...]:
    """Axes of a shape without its batch, in order, each once; `numbers` count the batch where it is `batched`.

    `rank` is the number of axes that `numbers` count; a negative one counts from the end.
    """
    axes = set()
    for number in numbers:
        if not -rank <= number < rank:
            raise Refusal(f"there is no axis {number} of {rank}")
        if batched and number % rank == 0:
            raise Refusal("it works along the batch")
        axes.add(number % rank - batched)
    return tuple(sorted(axes))


def inner_permutation(numbers: Sequence[int], rank: int, batched: bool) -> tuple[int, ...]:
    """A permutation of the axes of a shape without its batch; parameters as those of `inner_axes`."""
    order = [axis + rank if axis < 0 else axis for axis in numbers]
    if sorted(order) != list(range(rank)):
        raise Refusal(f"its permutation is {order[:8]} of {rank} axes")
    if not batched:
        return tuple(order)
    if order[0] != 0:
        raise Refusal("it moves the batch")
    return tuple(axis - 1 for axis in order[1:])


def reshaped(wanted: Sequence[int], elements: int) -> tuple[int, ...]:
    """`wanted` with its one -1, where it has one, as what is left of `elements`."""
    shape, known = list(wanted), math.prod(extent for extent in wanted if extent != -1)
    if shape.count(-1) == 1 and known > 0:
        shape[shape.index(-1)] = elements // known
    return tuple(shape)


def squeezed(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` without `axes`, which have one element each; without all such where none is named."""
    rank = len(shape)
    gone = {axis + rank if axis < 0 else axis for axis in axes}
    if not all(0 <= axis < rank and shape[axis] == 1 for axis in gone):
        raise Refusal(f"it squeezes axes {tuple(axes)} of {shape}")
    if not axes:
        gone = {axis for axis in range(rank) if shape[axis] == 1}
    return tuple(extent for axis, extent in enumerate(shape) if axis not in gone)


def expanded(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` with one axis of one element more, at the only one of `axes`."""
    if len(axes) != 1 or not -len(shape) - 1 <= axes[0] <= len(shape):
        raise Refusal(f"it adds axes at {list(axes[:4])} of {shape}")
    axis = axes[0] + len(shape) + 1 if axes[0] < 0 else axes[0]
    return (*shape[:axis], 1, *shape[axis:])


@dataclass(frozen=True)
class Slice:
    """Of one axis `extent` elements from `begin` on, `stride` apart; the axis goes where it is not `kept`."""

    begin: int
    extent: int
    stride: int
    kept: bool = True


def sliced(axis: int, size: int, begin: int | None, end: int | None, step: int) -> Slice:
    """``[begin:end:step]`` of the axis number `axis`, as Python means it."""
    chosen = range(size)[slice(begin, end, step)]
    if not chosen:
        raise Refusal(f"it leaves nothing of axis {axis}")
    return Slice(chosen[0], len(chosen), step)


def picked(size: int, begin: int, step: int) -> Slice:
    """The one element at `begin` of an axis of `size`, which goes; a negative `begin` counts from the end."""
    start = begin + size if begin < 0 else begin
    if not 0 <= start < size or step < 0:
        raise Refusal(f"it takes element {begin} of {size}")
    return Slice(start, 1, 1, kept=False)
