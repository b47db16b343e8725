"""Geometry: how a layer's window maps to the window reader's walk, and what a block of its output reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from intaglio.compiler.accumulate import Accumulation
from intaglio.compiler.digits import weight_digits
from intaglio.compiler.limits import MOST_STRIDE
from intaglio.compiler.overlap import Overlap, overlap
from intaglio.compiler.steps import DepthwiseMode, Walk
from intaglio.compiler.views import Block, Extents, Interval, View
from intaglio.network.graph import Integers
from intaglio.spec.config import AcceleratorConfig

BLOCK_TILES = 4
"""A block of this many times a tile's beats in cycles a pass keeps the weight bus at most a quarter busy."""
MOST_BLOCKS = 64
"""Smaller blocks than a layer's 64th hide nothing more."""
BLOCK_CYCLES = 8
"""Cycles, about, that a block costs besides: two lie between MATMULs, and its commands come over the bus."""
BANK_LATENCY = 32
"""Cycles, about, in which a bank is neither filled nor drained, between the two and before it is filled again."""


@dataclass(frozen=True)
class Geometry:
    """A window that slides over a tensor: kernel and steps, in rows and columns, and the padding before the first."""

    divides: ClassVar[bool] = True
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)

    def needs(self, block: Block, source: Extents) -> Block:
        """What of the tensor the windows of an output block touch."""
        rows = (block.rows - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1
        columns = (block.columns - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
        row = block.row * self.stride[0] - self.before[0]
        column = block.column * self.stride[1] - self.before[1]
        return Block(row, rows, column, columns).clipped(source.rows, source.columns)


@dataclass(frozen=True)
class Broadcast:
    """Rows and columns of an operand are those of the output, but that one row, or one column, stands for any."""

    divides: ClassVar[bool] = True

    def needs(self, block: Block, source: Extents) -> Block:
        row, rows = (0, 1) if source.rows == 1 else (block.row, block.rows)
        column, columns = (0, 1) if source.columns == 1 else (block.column, block.columns)
        return Block(row, rows, column, columns)


@dataclass(frozen=True)
class Everything:
    """Any part of the output may need any part of an operand: the layer runs as a whole."""

    divides: ClassVar[bool] = False

    def needs(self, block: Block, source: Extents) -> Block:
        return source.whole


Reach = Geometry | Broadcast | Everything
"""How a layer's output follows its operands; `divides`: whether parts of it can be computed by themselves."""


@dataclass(frozen=True)
class Sweep:
    """The passes of the array, or the steps of a maximum, over a tensor: kernel rows `kernel_row_step` rows apart, and
    kernel columns so many pixels or elements, or rows.

    In a `depthwise` sweep a pass multiplies `taps` neighbours at once. `digits` are the activations', a pass each or
    `together`, `weight_digits` the weights'; `last_lanes` of a run's last chunk have weights (0: all).

    With `lines` a pass takes so many kernel rows besides its own, a stride apart, from the line buffer, not depthwise
    `line_lanes` elements of each. With an `overlap` these are the first pass's, and what passes take is its.

    Of a whole output of `output_columns`, depthwise rows of vectors can follow each other without what lies beside
    them: the pad takes its place, and a row's last outputs end with the first vectors of the next.
    """

    geometry: Geometry
    source: Extents
    kernel_rows: int
    kernel_row_step: int
    kernel_columns: int
    kernel_column_pixels: int
    chunks: int
    digits: int = 1
    depthwise: bool = False
    taps: int = 1
    weight_digits: int = 1
    last_lanes: int = 0
    lines: int = 0
    line_lanes: int = 0
    kernel_column_elements: int = 0
    kernel_column_row_step: int = 0
    output_columns: int = 0
    together: bool = False
    overlap: Overlap | None = None

    @property
    def digit_turns(self) -> int:
        """Passes that an activation takes for its digits."""
        return 1 if self.together else self.digits

    @property
    def digit_passes(self) -> int:
        """Passes of a digit of the weights."""
        return self.digit_turns * self.kernel_rows * self.kernel_columns * self.chunks

    @property
    def passes(self) -> int:
        return self.weight_digits * self.digit_passes

    @property
    def line_rows(self) -> Integers:
        """The kernel row that a vector's own row is, and those of its lines before it, (kernel rows, kernel columns,
        lines + 1): -1 for what is above the kernel, or a pass before takes. Without lines they are numbered as they
        are, whatever the dilation."""
        step = self.kernel_row_step if self.lines else 1
        rows = np.arange(self.kernel_rows)[:, None] * step
        rows = rows + np.arange(self.kernel_columns) * self.kernel_column_row_step
        lines = rows[..., None] + np.arange(self.lines, -1, -1) * self.geometry.stride[0] + self._above
        if self.lines and not self.overlap:
            # The kernel's own columns take the same rows each.
            apart = lines if self.kernel_column_row_step else lines[:, :1]
            _, first = np.unique(apart, return_index=True)
            again = np.ones(apart.size, bool)
            again[first] = False
            lines = np.where(again.reshape(apart.shape), -1, lines)
        return np.maximum(lines, -1)

    def lines_before(self, row: int) -> int:
        """Rows of vectors before that of output row `row` that its passes need, where nothing goes on with lines: the
        others of their lines are outside the tensor, or have no weights."""
        kernel_rows = self.line_rows
        inside = row * self.geometry.stride[0] - self.geometry.before[0] + kernel_rows >= 0
        needed = np.flatnonzero((inside & (kernel_rows >= 0)).any(axis=(0, 1)))
        return int(needed[-1]) if len(needed) else 0

    @property
    def _above(self) -> int:
        """The kernel row that the oldest line of the first pass is: 0, or above the kernel if the last row of the last
        pass would be below it. What a vector's own row reads may be a line of the next block, so it has to be what the
        layer needs."""
        newest = (self.kernel_rows - 1) * self.kernel_row_step + self.lines * self.geometry.stride[0]
        newest += (self.kernel_columns - 1) * self.kernel_column_row_step
        return self.geometry.kernel[0] - 1 - newest if self.lines else 0

    def goes_on(self, columns: int, config: AcceleratorConfig) -> bool:
        """Whether a block of so many columns finds the lines of each pass where the block above it left them."""
        return self.lines > 0 and self.passes * self.vectors(columns) <= config.line_buffer_columns

    def vectors(self, columns: int) -> int:
        """Vectors of a row that a pass reads for so many neighbouring outputs."""
        if self.taps == 1:
            return columns
        stride = self.geometry.stride[1]
        return columns * stride if self.row_overlap(columns) else (columns - 1) * stride + self.taps

    def row_overlap(self, columns: int) -> int:
        """Of whole rows of outputs, if so many are: vectors before a row's first output, with which the last of the row
        before end; 0 where rows cannot follow each other so."""
        stride, first = self.geometry.stride[1], self.taps - 1 - self.geometry.before[1]
        alone = self.kernel_columns == 1 or not self.kernel_column_pixels
        whole = columns == self.output_columns and columns * stride >= self.source.columns
        return first if alone and whole and 0 < first < self.taps and first + 1 >= stride else 0

    def pass_vectors(self, rows: int, columns: int) -> int:
        """Vectors that a pass reads for a block of so many rows of vectors."""
        overlap = self.row_overlap(columns)
        return rows * self.vectors(columns) + (overlap + 1 - self.geometry.stride[1] if overlap else 0)

    def walk(
        self, view: View, block: Block, first_element: int, pad: int, signed: bool, lines: int = 0
    ) -> Walk:
        """The window reader's way over a block and the `lines` rows of vectors before it; of each pixel it reads from
        `first_element` on."""
        geometry, pixel = self.geometry, view.pixel_pitch
        row = block.row + self.lines - lines
        overlap = self.row_overlap(block.columns)
        column = (
            block.column * geometry.stride[1] - (0 if overlap else geometry.before[1]) - view.block.column
        )
        ends = overlap + 1 - geometry.stride[1] if overlap else 0
        return Walk(
            source=view.address,
            width=view.block.columns * pixel,
            height=view.block.rows,
            first_row=row * geometry.stride[0] + self._above - geometry.before[0] - view.block.row,
            first_element=column * pixel + first_element,
            row_pitch=view.row_pitch,
            row_stride=geometry.stride[0],
            column_stride=(1 if self.taps > 1 else geometry.stride[1]) * pixel,
            output_rows=block.rows + lines + (ends > 0),
            output_columns=self.vectors(block.columns),
            last_row_columns=ends,
            kernel_rows=self.kernel_rows,
            kernel_row_step=self.kernel_row_step,
            kernel_columns=self.kernel_columns,
            kernel_column_step=self.kernel_column_pixels * pixel + self.kernel_column_elements,
            kernel_column_row_step=self.kernel_column_row_step,
            kernel_row_column_step=self.overlap.slant if self.overlap else 0,
            chunks=self.chunks,
            pad=pad,
            signed=signed,
        )

    def mode(self, columns: int, lines: int) -> DepthwiseMode | None:
        """Of a depthwise sweep, which of the vectors it reads end an output's taps, with so many rows read before."""
        if not self.depthwise:
            return None
        if overlap := self.row_overlap(columns):
            first = lines * self.vectors(columns) + overlap
            return DepthwiseMode(first, self.geometry.stride[1], overlap)
        return DepthwiseMode(self.taps - 1, self.geometry.stride[1] if self.taps > 1 else 1)

    def reads(self, view: View, block: Block) -> Interval:
        """Elements that a block depends on. Lanes outside a row are masked; lanes past a run or past the channels
        have zero weights or are not written, so what they read does not matter."""
        touched = self.geometry.needs(block, self.source)
        whole_rows = Block(touched.row, touched.rows, view.block.column, view.block.columns)
        return view.interval(whole_rows if touched.positions else touched, view.pixel_pitch)


def geometry_of(window: Accumulation) -> Geometry:
    top, _, left, _ = window.padding
    return Geometry(window.kernel, window.stride, window.dilation, (top, left))


def matmul_sweep(
    window: Accumulation, source: Extents, digits: int, together: bool, config: AcceleratorConfig
) -> Sweep:
    """The array's passes over a layer's input.

    Where a kernel row's pixels are neighbours (no dilation along it), they are one run of elements in memory and pack
    the reduction lanes without a gap; else each kernel column is a run of its own. Layers that read each channel by
    itself take the depthwise mapping where the machine has it and there is one output a channel; else their few input
    channels of each group of outputs, a run each kernel column.
    """
    weights = weight_digits(window.weights, config)
    if window.by_channel:
        if config.weight.is_binary:
            # An array without a zero, of whose lanes most are not used.
            weights = max(weights, 2)
        return _by_channel_sweep(window, source, digits, together, weights, config)
    kernel_rows, kernel_width = window.kernel
    pixel, dilation = source.pixel, window.dilation[1]
    columns, step, chunks = kernel_width, dilation, -(-pixel // config.rows)
    run_chunks = -(-kernel_width * pixel // config.rows)
    if (dilation == 1 or kernel_width == 1) and run_chunks <= columns * chunks:
        columns, step, chunks = 1, 0, run_chunks
    last_lanes = (kernel_width // columns * pixel) % config.rows
    plain = Sweep(
        geometry_of(window),
        source,
        kernel_rows,
        window.dilation[0],
        columns,
        step,
        chunks,
        digits,
        weight_digits=weights,
        last_lanes=last_lanes if config.weight.is_binary else 0,
        together=together,
    )
    sweeps = [plain]
    if columns == 1:
        sweeps += [
            lined
            for sweep in _with_lines(plain, config)
            if (lined := _side_by_side(sweep, kernel_width * pixel, config))
            # An array without a zero has no weight for a kernel row that is not there.
            and (not config.weight.is_binary or lined.line_rows.min() >= 0)
        ]
        sweeps += _overlapping(plain, kernel_width * pixel, config)
    return _quickest(sweeps, window, config)


def _overlapping(plain: Sweep, length: int, config: AcceleratorConfig) -> list[Sweep]:
    """The same layer in passes that overlap, where those are fewer."""
    geometry = plain.geometry
    if geometry.stride[0] > 1 or geometry.dilation[0] > 1 or plain.digits > 1 or config.weight.is_binary:
        return []
    rows = geometry.kernel[0]
    found = overlap(rows, length, config.line_buffer_rows, config.rows, plain.digit_passes - 1)
    if found is None:
        return []
    return [
        replace(
            plain,
            kernel_rows=rows - found.lines,
            kernel_columns=found.columns,
            kernel_column_elements=found.apart,
            chunks=1,
            lines=found.lines,
            line_lanes=found.first,
            overlap=found,
        )
    ]


def _side_by_side(sweep: Sweep, length: int, config: AcceleratorConfig) -> Sweep | None:
    """A sweep whose lines share the array's lanes: of runs of so many elements as many as fit, in several columns if
    need be. None where it cannot be."""
    most = config.rows // (sweep.lines + 1) // sweep.digits * sweep.digits
    if not most:
        return None
    columns = -(-length // most)
    width = -(-length // columns // sweep.digits) * sweep.digits
    if columns == 1:
        return replace(sweep, chunks=1, last_lanes=0, line_lanes=width)
    if sweep.kernel_columns > 1 or config.weight.is_binary:
        return None
    return replace(
        sweep, chunks=1, last_lanes=0, line_lanes=width, kernel_columns=columns, kernel_column_elements=width
    )


def _by_channel_sweep(
    window: Accumulation,
    source: Extents,
    digits: int,
    together: bool,
    weights: int,
    config: AcceleratorConfig,
) -> Sweep:
    kernel_rows, kernel_width = window.kernel
    dilation, geometry = window.dilation[1], geometry_of(window)
    step = dilation
    multiplier = window.outputs * digits // source.pixel
    apart = window.dilation[0]
    single = Sweep(geometry, source, kernel_rows, apart, kernel_width, step, 1, weight_digits=weights)
    if multiplier > 1 or not config.depthwise_taps:
        chunks = -(-local_channels(window.outputs, multiplier, config) * digits // config.rows)
        return replace(single, chunks=chunks, digits=digits, together=together)
    extent = (kernel_width - 1) * dilation + 1
    taps = min(extent, config.depthwise_taps)
    groups = -(-extent // taps)
    # Each tap read by itself, or neighbours together, with or without lines: whichever is done first.
    _, output_columns = window.output_extents(source.rows, source.columns)
    single = replace(single, depthwise=True, output_columns=output_columns)
    several = replace(single, kernel_columns=groups, kernel_column_pixels=taps, taps=taps)
    sweeps = [single, several]
    return _quickest(
        [lined for sweep in sweeps for lined in (sweep, *_with_lines(sweep, config))],
        window,
        config,
    )


def _with_lines(plain: Sweep, config: AcceleratorConfig) -> Iterator[Sweep]:
    """The same passes, but that each takes other kernel rows from the line buffer, a stride apart: of a kernel of more
    rows than that passes start on each of the rows between."""
    kernel_rows, stride = plain.geometry.kernel[0], plain.geometry.stride[0]
    if plain.geometry.dilation[0] > 1 and kernel_rows > 1:
        return
    between = min(stride, kernel_rows)
    for lines in range(1, config.line_buffer_rows + 1):
        step = stride * (lines + 1)
        groups = -(-kernel_rows // step)
        if step > MOST_STRIDE:
            return
        if groups > 1:
            # As close as covers the kernel: the fewer lines are above what a pass takes of it.
            least = -(-(kernel_rows - lines * stride - between) // ((groups - 1) * stride))
            step = max(least, 1) * stride
        if groups == 1:
            yield replace(plain, lines=lines, kernel_rows=between, kernel_row_step=1)
        elif between == 1:
            yield replace(plain, lines=lines, kernel_rows=groups, kernel_row_step=step)
        elif plain.kernel_columns == 1:
            yield replace(
                plain,
                lines=lines,
                kernel_rows=groups,
                kernel_row_step=step,
                kernel_columns=between,
                kernel_column_pixels=0,
                kernel_column_row_step=1,
            )


def _quickest(sweeps: list[Sweep], window: Accumulation, config: AcceleratorConfig) -> Sweep:
    """The sweep, the first of equals, whose passes are done first."""
    first = sweeps[0]
    _, columns = window.output_extents(first.source.rows, first.source.columns)
    fitting = (s for s in sweeps if not s.lines or s.vectors(columns) <= config.line_buffer_columns)
    return min(fitting, key=lambda sweep: pass_cycles(sweep, window, config))


def pass_cycles(sweep: Sweep, window: Accumulation, config: AcceleratorConfig) -> int:
    """Cycles of the array for one group of output channels, in blocks as large as a bank holds."""
    rows, columns = window.output_extents(sweep.source.rows, sweep.source.columns)
    blocks = -(-rows * columns // config.accumulator_depth)
    one_tile = bool(np.all(window.weights == window.weights[:, :1, :1]))
    tile_cycles = 1 if one_tile else config.tile_words(min(window.outputs, config.columns))
    again = 0 if sweep.goes_on(columns, config) else blocks - 1
    lines = sweep.lines_before(0) + again * sweep.lines
    return sweep.passes * max(sweep.pass_vectors(rows + lines, columns), blocks * tile_cycles)


def local_channels(outputs: int, multiplier: int, config: AcceleratorConfig) -> int:
    """The most input channels that one group of output channels reads."""
    starts = range(0, outputs, config.columns)
    return max((min(s + config.columns, outputs) - 1) // multiplier - s // multiplier + 1 for s in starts)


def pool_sweep(geometry: Geometry, source: Extents, channels: int, config: AcceleratorConfig) -> Sweep:
    """The reader's walk over a pooling layer's windows, `vector_lanes` channels at a time."""
    chunks = -(-channels // config.vector_lanes)
    kernel_rows, kernel_columns = geometry.kernel
    return Sweep(
        geometry, source, kernel_rows, geometry.dilation[0], kernel_columns, geometry.dilation[1], chunks
    )


def matmul_blocks(sweep: Sweep, part: Block, groups: int, config: AcceleratorConfig) -> list[Block]:
    """A part of the output, of so many groups of channels, in blocks that fit an accumulator bank, rows as whole as
    they can be.

    There are as many as are done first. While a block is multiplied, the one before is rescaled; where the two take
    about as long, neither bank is ready in time, and each block waits. Of the first block nothing is rescaled
    meanwhile, behind the last nothing multiplied: what small blocks make short. A block that reads its lines anew pays
    for them. Else each has its weights sent again, so they are as many at most as keep the bus mostly idle; a part too
    small for that is still cut in two where each half hides the loading of its tiles.
    """
    rows, columns, depth = part.rows, part.columns, config.accumulator_depth
    if columns > depth:
        pieces = split(columns, -(-columns // depth))
        return [
            Block(part.row + row, 1, part.column + start, size)
            for row in range(rows)
            for start, size in pieces
        ]
    least = most = -(-rows // (depth // columns))
    again = 0 if sweep.goes_on(columns, config) else sweep.lines
    if again:
        most = rows
    else:
        cycles = rows * sweep.vectors(columns)
        wished = max(cycles // (BLOCK_TILES * config.tile_beats), min(2, cycles // config.tile_beats))
        most = max(least, min(wished, rows, MOST_BLOCKS))
    row_drained = columns * (config.columns // config.rescale_lanes)

    def cycles_of(count: int) -> int:
        """Twice as many."""
        multiplied = sweep.passes * sweep.pass_vectors(rows + count * again, columns)
        drained = rows * row_drained
        busiest = max(2 * multiplied, 2 * drained, multiplied + drained + count * BANK_LATENCY)
        return groups * (busiest + 2 * count * BLOCK_CYCLES) + 4 * drained // count

    count = min(range(least, most + 1), key=cycles_of)
    return [Block(part.row + start, size, part.column, columns) for start, size in split(rows, count)]


def split(total: int, parts: int) -> list[tuple[int, int]]:
    """Start and size of `parts` pieces of `total` that differ by at most one."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [(start, stop - start) for start, stop in pairwise(edges)]
