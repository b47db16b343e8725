"""Geometry: how a layer's window maps to the window reader's fields, and which elements a block of it reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from compiler.hazards import Interval
from hdl.config import AcceleratorConfig
from network import Conv2D, FullyConnected, MaxPool2D, Tensor

BLOCK_TILES = 4
"""A block of this many times `tile_beats` positions keeps the weight bus at most a quarter busy."""
MOST_BLOCKS = 64
"""Smaller blocks than a layer's 64th hide nothing more."""


@dataclass(frozen=True)
class Block:
    """Output rows `row`...`row + rows - 1`, of each the columns `column`...`column + columns - 1`.

    It is whole rows, or a part of one row: its positions are consecutive in the dense output either way.
    """

    row: int
    rows: int
    column: int
    columns: int

    @property
    def positions(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class Sweep:
    """A window over a tensor of `height` rows of `width` pixels of `pixel` elements each; the passes of the array
    (or the steps of a maximum) over it. A fully connected layer is one pixel with all its features."""

    height: int
    width: int
    pixel: int
    output_rows: int
    output_columns: int
    row_stride: int
    column_stride: int
    top: int
    left: int
    kernel_rows: int
    kernel_row_step: int
    kernel_columns: int
    kernel_column_step: int
    chunks: int
    digits: int

    @property
    def passes(self) -> int:
        return self.digits * self.kernel_rows * self.kernel_columns * self.chunks

    def fields(self, address: int, block: Block) -> dict[str, int]:
        """The window reader's fields for a block, but for `pad` and `signed`."""
        return {
            "source": address,
            "width_elements": self.width * self.pixel,
            "height": self.height,
            "first_row": block.row * self.row_stride - self.top,
            "first_element": (block.column * self.column_stride - self.left) * self.pixel,
            "row_pitch": self.width * self.pixel,
            "row_stride": self.row_stride,
            "column_stride": self.column_stride * self.pixel,
            "output_rows": block.rows,
            "output_columns": block.columns,
            "kernel_rows": self.kernel_rows,
            "kernel_row_step": self.kernel_row_step,
            "kernel_columns": self.kernel_columns,
            "kernel_column_step": self.kernel_column_step,
            "chunks": self.chunks,
        }

    def rows_read(self, block: Block) -> tuple[int, int]:
        """The rows of the tensor that a block's window touches, from and to (exclusive)."""
        first = block.row * self.row_stride - self.top
        last = first + (block.rows - 1) * self.row_stride + (self.kernel_rows - 1) * self.kernel_row_step
        start, stop = max(first, 0), min(last + 1, self.height)
        return start, max(start, stop)

    def reads(self, address: int, block: Block) -> Interval:
        """Elements that a block depends on. Lanes outside a row are masked; lanes past a run or past the channels
        have zero weights or are not written, so what they read does not matter."""
        start, stop = self.rows_read(block)
        pitch = self.width * self.pixel
        return Interval(address + start * pitch, address + stop * pitch)

    def rows_ready(self, input_rows: int) -> int:
        """Output rows whose whole window lies in the first `input_rows` rows of the tensor."""
        if input_rows >= self.height:
            return self.output_rows
        reach = input_rows + self.top - (self.kernel_rows - 1) * self.kernel_row_step - 1
        return min(self.output_rows, max(0, reach // self.row_stride + 1))


def matmul_sweep(
    layer: Conv2D | FullyConnected, source: Tensor, target: Tensor, digits: int, config: AcceleratorConfig
) -> Sweep:
    """The array's passes over a layer's input.

    Where a kernel row's pixels are neighbours (no dilation along it), they are one run of elements in memory and pack
    the reduction lanes without a gap; else each kernel column is a run of its own.
    """
    if isinstance(layer, FullyConnected):
        features = source.size * digits
        chunks = -(-features // config.rows)
        return Sweep(1, 1, features, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, chunks, digits)
    _, kernel_rows, kernel_width, channels = layer.weights.shape
    pixel = channels * digits
    columns, step, chunks = kernel_width, layer.dilation[1] * pixel, -(-pixel // config.rows)
    run_chunks = -(-kernel_width * pixel // config.rows)
    if (layer.dilation[1] == 1 or kernel_width == 1) and run_chunks <= columns * chunks:
        columns, step, chunks = 1, 0, run_chunks
    height, width, _ = source.shape
    rows_out, columns_out, _ = target.shape
    top, _, left, _ = layer.padding
    return Sweep(
        height, width, pixel, rows_out, columns_out, *layer.stride, top, left,
        kernel_rows, layer.dilation[0], columns, step, chunks, digits,
    )  # fmt: skip


def pool_sweep(layer: MaxPool2D, source: Tensor, target: Tensor, config: AcceleratorConfig) -> Sweep:
    """The reader's walk over a pooling layer's windows, `vector_lanes` channels at a time."""
    height, width, channels = source.shape
    rows_out, columns_out, _ = target.shape
    top, _, left, _ = layer.padding
    return Sweep(
        height, width, channels, rows_out, columns_out, *layer.stride, top, left,
        layer.kernel[0], 1, layer.kernel[1], channels, -(-channels // config.vector_lanes), 1,
    )  # fmt: skip


def matmul_blocks(sweep: Sweep, config: AcceleratorConfig) -> list[Block]:
    """The output in blocks that fit an accumulator bank, rows as whole as they can be.

    Each block has its weights sent again, which is free while a tile works on more positions than it has beats. Small
    blocks let the rescale, a pooling layer and the next layer begin early, so blocks are as small as keeps the bus
    mostly idle; a layer too small for that is still cut in two where each half hides the loading of its tiles.
    """
    rows, columns, depth = sweep.output_rows, sweep.output_columns, config.accumulator_depth
    if columns > depth:
        parts = _split(columns, -(-columns // depth))
        return [Block(row, 1, start, size) for row in range(rows) for start, size in parts]
    positions = rows * columns
    wished = max(positions // (BLOCK_TILES * config.tile_beats), min(2, positions // config.tile_beats))
    count = max(-(-rows // (depth // columns)), min(wished, rows, MOST_BLOCKS), 1)
    return [Block(start, size, 0, columns) for start, size in _split(rows, count)]


def _split(total: int, parts: int) -> list[tuple[int, int]]:
    """Start and size of `parts` pieces of `total` that differ by at most one."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [(start, stop - start) for start, stop in pairwise(edges)]
