"""Layers that move elements, as windows of one element: padding, slices, transpositions, and joining."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.compiler.views import Interval
from intaglio.compiler.windows import Geometry
from intaglio.network import Concatenation, Pad, StridedSlice, Transpose
from intaglio.spec.config import AcceleratorConfig

MOVING = (Pad, StridedSlice, Transpose, Concatenation)
Moving = Pad | StridedSlice | Transpose | Concatenation
_MOST_STRIDE = 255
_MOST_ROWS = (1 << 16) - 1


@dataclass(frozen=True)
class Copy:
    """One MAX_POOL command: its fields but for the places, which are offsets in elements from the tensors' starts, and
    how far it reads and writes."""

    fields: dict[str, int]
    operand: int
    reads: Interval
    writes: Interval


def moved_window(
    layer: Moving, source: tuple[int, ...], target: tuple[int, ...]
) -> tuple[Geometry, int, int] | None:
    """A Pad or a StridedSlice as a window of one element over rows and columns: its geometry, the first element of each
    pixel, and what it is padded with. None where it is not one."""
    if len(source) > 3 or not isinstance(layer, Pad | StridedSlice):
        return None
    if isinstance(layer, Pad):
        (top, _), (left, _), channels = ((0, 0), (0, 0), (0, 0), *layer.padding)[-3:]
        return None if any(channels) else (Geometry(before=(top, left)), 0, layer.value)
    begin = ((0, 0, 0, *layer.begin))[-3:]
    stride = ((1, 1, 1, *layer.stride))[-3:]
    extent = ((1, 1, 1, *layer.extent))[-3:]
    # A single element has no next one.
    rows, columns, step = (s if n > 1 else 1 for s, n in zip(stride, extent, strict=True))
    if min(rows, columns) < 1 or step != 1 or rows > _MOST_STRIDE:
        return None
    return Geometry(stride=(rows, columns), before=(-begin[0], -begin[1])), begin[2], 0


def copies_of(
    layer: Moving, sources: Sequence[tuple[int, ...]], target: tuple[int, ...], config: AcceleratorConfig
) -> Iterator[Copy]:
    """The commands that make a layer's output of its inputs, dense tensors of these shapes."""
    if isinstance(layer, Pad):
        yield from _padded(layer, sources[0], target, config)
        return
    if isinstance(layer, Concatenation):
        inner = math.prod(target[layer.axis + 1 :])
        run, offset = target[layer.axis] * inner, 0
        for operand, source in enumerate(sources):
            count = source[layer.axis] * inner
            lead = math.prod(source[: layer.axis])
            yield from _strided(operand, (lead, count), (count, 1), 0, (run, 1), offset, config)
            offset += count
        return
    dense = [math.prod(sources[0][axis + 1 :]) for axis in range(len(sources[0]))]
    if isinstance(layer, Transpose):
        steps, start = [dense[axis] for axis in layer.permutation], 0
    else:
        steps = [stride * step for stride, step in zip(layer.stride, dense, strict=True)]
        start = sum(begin * step for begin, step in zip(layer.begin, dense, strict=True))
    into = [math.prod(target[axis + 1 :]) for axis in range(len(target))]
    yield from _strided(0, target, steps, start, into, 0, config)


def _strided(
    operand: int,
    extents: Sequence[int],
    steps: Sequence[int],
    start: int,
    into: Sequence[int],
    offset: int,
    config: AcceleratorConfig,
) -> Iterator[Copy]:
    """Of each axis so many elements, `steps` apart in the source and `into` apart in the target.

    The innermost axis is a run where it is dense on both sides. The two loops of a command take the next axes (or as
    many pieces of them as its fields hold), steps backwards as a row's; the others are a command each.
    """
    axes: list[tuple[int, int, int]] = []  # the innermost first; axes that follow one another are joined
    for extent, step, apart in reversed(list(zip(extents, steps, into, strict=True))):
        if extent == 1:
            continue
        if axes and step == axes[-1][0] * axes[-1][1] and apart == axes[-1][0] * axes[-1][2]:
            axes[-1] = (axes[-1][0] * extent, *axes[-1][1:])
        else:
            axes.append((extent, step, apart))
    run = 1
    if axes and axes[0][1:] == (1, 1):
        run = axes.pop(0)[0]
    column = axes.pop(0) if axes and axes[0][1] > 0 else (1, 0, 0)
    row = axes.pop(0) if axes else (1, 0, 0)
    pieces = [
        _pieces(run, _MOST_ROWS),
        _pieces(column[0], _MOST_ROWS),
        _pieces(row[0], _MOST_ROWS),
        *([(i, 1) for i in range(extent)] for extent, _, _ in axes),
    ]
    for (r, run_part), (c, columns), (y, rows), *outer in itertools.product(*pieces):
        source = start + r + c * column[1] + y * row[1]
        target = offset + r + c * column[2] + y * row[2]
        for (index, _), (_, step, apart) in zip(outer, axes, strict=True):
            source += index * step
            target += index * apart
        width = (columns - 1) * column[1] + run_part
        ends = sorted((source, source + (rows - 1) * row[1]))
        yield Copy(
            {
                "source": source,
                "width_elements": width,
                "height": rows,
                "row_pitch": row[1] % (1 << 24),
                "row_stride": 1,
                "column_stride": column[1],
                "output_rows": rows,
                "output_columns": columns,
                "kernel_rows": 1,
                "kernel_columns": 1,
                "chunks": -(-run_part // config.vector_lanes),
                "channels": run_part,
                "destination": target,
                "destination_pitch": row[2],
                "pixel_pitch": column[2],
            },
            operand,
            Interval(ends[0], ends[1] + width),
            Interval(target, target + (rows - 1) * row[2] + (columns - 1) * column[2] + run_part),
        )


def _pieces(total: int, most: int) -> list[tuple[int, int]]:
    return [(start, min(most, total - start)) for start in range(0, total, most)]


def _padded(
    layer: Pad, source: tuple[int, ...], target: tuple[int, ...], config: AcceleratorConfig
) -> Iterator[Copy]:
    """Padding along the last three axes is the window reader's; of more axes, one command each."""
    lead = max(len(source) - 3, 0)
    shape, into = (1, 1, 1, *source)[-3:], (1, 1, 1, *target)[-3:]
    (top, _), (left, _), (front, _) = ((0, 0), (0, 0), (0, 0), *layer.padding)[-3:]
    outer = layer.padding[:lead]
    for place in itertools.product(*(range(extent) for extent in target[:lead])):
        inside = [index - before for index, (before, _) in zip(place, outer, strict=True)]
        empty = any(not 0 <= index < extent for index, extent in zip(inside, source[:lead], strict=True))
        at = _offset(inside, source[:lead], math.prod(shape)) if not empty else 0
        to = _offset(place, target[:lead], math.prod(into))
        yield from _padded_image(layer.value, shape, into, (top, left, front), at, to, empty, config)


def _padded_image(
    value: int,
    shape: Sequence[int],
    into: Sequence[int],
    before: tuple[int, int, int],
    at: int,
    to: int,
    empty: bool,
    config: AcceleratorConfig,
) -> Iterator[Copy]:
    """An image in a frame. Where channels are padded each pixel is a row of its own, as wide as its channels."""
    top, left, front = before
    height, width, channels = shape
    rows, columns, deep = into
    if deep == channels:
        windows = [
            (at, height, width * channels, -top, -left * channels, width * channels, rows, columns, to)
        ]
        column_stride = channels
    else:
        column_stride = 0
        windows = []
        for row in range(rows):
            y = row - top
            inner = at + y * width * channels
            outside = empty or not 0 <= y < height
            windows.append(
                (at if outside else inner, 0 if outside else width, channels, -left, -front, channels, columns, 1,
                 to + row * columns * deep)
            )  # fmt: skip
    for source, high, wide, first_row, first_element, pitch, out_rows, out_columns, destination in windows:
        yield Copy(
            {
                "source": source,
                "width_elements": wide,
                "height": 0 if empty else high,
                "first_row": first_row,
                "first_element": first_element,
                "row_pitch": pitch,
                "row_stride": 1,
                "column_stride": column_stride,
                "output_rows": out_rows,
                "output_columns": out_columns,
                "kernel_rows": 1,
                "kernel_columns": 1,
                "chunks": -(-deep // config.vector_lanes),
                "pad": value & ((1 << config.element_bits) - 1),
                "channels": deep,
                "destination": destination,
                "destination_pitch": out_columns * deep,
                "pixel_pitch": deep,
            },
            0,
            Interval(source, source + (0 if empty else high) * pitch),
            Interval(destination, destination + out_rows * out_columns * deep),
        )


def _offset(indices: Sequence[int], extents: Sequence[int], size: int) -> int:
    place = 0
    for index, extent in zip(indices, extents, strict=True):
        place = place * extent + index
    return place * size
