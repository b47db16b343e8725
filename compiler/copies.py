"""Elements that move, as windows of one element: strided runs and images in a frame, a POOL command each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from intaglio.compiler.limits import MOST_CHANNELS, MOST_WINDOWS
from intaglio.compiler.steps import Destination, Pool, Walk, on_chip
from intaglio.compiler.views import Interval
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Copy:
    """One POOL command, its places as offsets in elements from the tensors' starts, and how far it reads and writes."""

    walk: Walk
    channels: int
    destination: Destination
    reads: Interval
    writes: Interval

    def step(self, owner: str, source: int, target: int, config: AcceleratorConfig) -> Pool:
        """The copy from a dense tensor at one address to one at another."""
        start = (self.walk.source + source) % config.scratchpad_elements
        return Pool(
            owner=owner,
            walk=replace(self.walk, source=start),
            channels=self.channels,
            destination=replace(self.destination, address=self.destination.address + target),
            reads=on_chip(self.reads.shifted(source)),
            writes=on_chip(self.writes.shifted(target)),
        )


@dataclass(frozen=True)
class _Axis:
    """So many elements, `step` apart in the source and `apart` apart in the target."""

    extent: int
    step: int
    apart: int


_ONCE = _Axis(1, 0, 0)


def strided(
    extents: Sequence[int],
    steps: Sequence[int],
    apart: Sequence[int],
    source: int,
    target: int,
    config: AcceleratorConfig,
) -> Iterator[Copy]:
    """Of each axis so many elements, `steps` apart in the source and `apart` apart in the target, from these on.

    The innermost axis is a run where it is dense on both sides. The two loops of a command take the next axes (or as
    many pieces of them as its fields hold), steps backwards as a row's; the others are a command each.
    """
    axes = _joined(extents, steps, apart)
    run = axes.pop(0).extent if axes and (axes[0].step, axes[0].apart) == (1, 1) else 1
    column = axes.pop(0) if axes and axes[0].step > 0 else _ONCE
    row = axes.pop(0) if axes else _ONCE
    pieces = [
        _pieces(run, MOST_CHANNELS),
        _pieces(column.extent, MOST_WINDOWS),
        _pieces(row.extent, MOST_WINDOWS),
        *([(i, 1) for i in range(axis.extent)] for axis in axes),
    ]
    for (r, length), (c, columns), (y, rows), *outer in itertools.product(*pieces):
        start = source + r + c * column.step + y * row.step
        into = target + r + c * column.apart + y * row.apart
        for (index, _), axis in zip(outer, axes, strict=True):
            start += index * axis.step
            into += index * axis.apart
        width = (columns - 1) * column.step + length
        first, last = sorted((start, start + (rows - 1) * row.step))
        yield Copy(
            Walk(
                source=start,
                width=width,
                height=rows,
                first_row=0,
                first_element=0,
                row_pitch=row.step,
                row_stride=1,
                column_stride=column.step,
                output_rows=rows,
                output_columns=columns,
                kernel_rows=1,
                kernel_row_step=0,
                kernel_columns=1,
                kernel_column_step=0,
                chunks=-(-length // config.vector_lanes),
            ),
            length,
            Destination(into, row.apart, column.apart),
            Interval(first, last + width),
            Interval(into, into + (rows - 1) * row.apart + (columns - 1) * column.apart + length),
        )


def _joined(extents: Sequence[int], steps: Sequence[int], apart: Sequence[int]) -> list[_Axis]:
    """The axes, the innermost first; those that follow one another on both sides are one."""
    axes: list[_Axis] = []
    for axis in map(_Axis, reversed(extents), reversed(steps), reversed(apart)):
        if axis.extent == 1:
            continue
        last = axes[-1] if axes else _ONCE
        if axes and axis.step == last.extent * last.step and axis.apart == last.extent * last.apart:
            axes[-1] = _Axis(last.extent * axis.extent, last.step, last.apart)
        else:
            axes.append(axis)
    return axes


def _pieces(total: int, most: int) -> list[tuple[int, int]]:
    return [(start, min(most, total - start)) for start in range(0, total, most)]


@dataclass(frozen=True)
class _Frame:
    """An image from element `source` on (`empty`: none of it) in a frame from element `target` on."""

    source: int
    target: int
    empty: bool
    shape: tuple[int, ...]
    into: tuple[int, ...]
    before: tuple[int, ...]
    value: int


def padded(
    shape: Sequence[int],
    into: Sequence[int],
    padding: Sequence[tuple[int, int]],
    value: int,
    config: AcceleratorConfig,
) -> Iterator[Copy]:
    """A tensor of one shape amid so many elements of `value`. Padding along the last three axes is the window reader's;
    of more axes, one command each."""
    lead = max(len(shape) - 3, 0)
    image, frame = (1, 1, 1, *shape)[-3:], (1, 1, 1, *into)[-3:]
    before = tuple(first for first, _ in ((0, 0), (0, 0), (0, 0), *padding))[-3:]
    outer = padding[:lead]
    for place in itertools.product(*(range(extent) for extent in into[:lead])):
        inside = [index - first for index, (first, _) in zip(place, outer, strict=True)]
        empty = any(not 0 <= index < extent for index, extent in zip(inside, shape[:lead], strict=True))
        at = _offset(inside, shape[:lead], math.prod(image)) if not empty else 0
        to = _offset(place, into[:lead], math.prod(frame))
        described = _Frame(at, to, empty, image, frame, before, value)
        yield from (_in_rows if frame[2] == image[2] else _in_pixels)(described, config)


def _in_rows(frame: _Frame, config: AcceleratorConfig) -> Iterator[Copy]:
    """No padding of channels: the reader's rows are the image's."""
    height, width, channels = frame.shape
    top, left, _ = frame.before
    walk = _frame_walk(
        frame, (0 if frame.empty else height, width * channels), channels, frame.into[:2], config
    )
    yield _framed(replace(walk, first_row=-top, first_element=-left * channels), frame, frame.target)


def _in_pixels(frame: _Frame, config: AcceleratorConfig) -> Iterator[Copy]:
    """Where channels are padded each pixel is a row of its own, as wide as its channels, and each row a command."""
    height, width, channels = frame.shape
    top, left, front = frame.before
    rows, columns, deep = frame.into
    for row in range(rows):
        y = row - top
        outside = frame.empty or not 0 <= y < height
        walk = _frame_walk(frame, (0 if outside else width, channels), 0, (columns, 1), config)
        source = frame.source if outside else frame.source + y * width * channels
        walk = replace(walk, source=source, first_row=-left, first_element=-front)
        yield _framed(walk, frame, frame.target + row * columns * deep)


def _frame_walk(
    frame: _Frame,
    extents: tuple[int, int],
    column_stride: int,
    outputs: tuple[int, ...],
    config: AcceleratorConfig,
) -> Walk:
    """Rows of so many elements, dense; pixels as deep as the frame's."""
    height, width = extents
    return Walk(
        source=frame.source,
        width=width,
        height=height,
        first_row=0,
        first_element=0,
        row_pitch=width,
        row_stride=1,
        column_stride=column_stride,
        output_rows=outputs[0],
        output_columns=outputs[1],
        kernel_rows=1,
        kernel_row_step=0,
        kernel_columns=1,
        kernel_column_step=0,
        chunks=-(-frame.into[2] // config.vector_lanes),
        pad=frame.value & ((1 << config.element_bits) - 1),
    )


def _framed(walk: Walk, frame: _Frame, target: int) -> Copy:
    deep = frame.into[2]
    return Copy(
        walk,
        deep,
        Destination(target, walk.output_columns * deep, deep),
        Interval(walk.source, walk.source + walk.height * walk.row_pitch),
        Interval(target, target + walk.output_rows * walk.output_columns * deep),
    )


def _offset(indices: Sequence[int], extents: Sequence[int], size: int) -> int:
    place = 0
    for index, extent in zip(indices, extents, strict=True):
        place = place * extent + index
    return place * size
