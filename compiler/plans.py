"""What is known of each layer before the first command is sent: what it reads, how its blocks are cut, its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from intaglio.compiler.accumulate import Accumulation, Affine, averaging
from intaglio.compiler.check import ACCUMULATING
from intaglio.compiler.copies import MOVING, moved_window
from intaglio.compiler.elementwise import UNARY, table_of
from intaglio.compiler.views import Block, Extents, digits_of, extents_of
from intaglio.compiler.weights import block_stream
from intaglio.compiler.windows import Geometry, Sweep, geometry_of, matmul_blocks, matmul_sweep, pool_sweep
from intaglio.network import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LlsqRescale,
    MaxPool2D,
    Mean,
    Network,
    Reshape,
    SbnqRescale,
    Softmax,
)
from intaglio.network.graph import AnyLayer
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class ArrayBlock:
    """One block of a layer that the array runs: its place in the output, what rescales it, and what it streams."""

    block: Block
    rescale: Affine | SbnqRescale | LlsqRescale
    stream: bytes
    one_tile: bool


@dataclass(frozen=True)
class Plan:
    """A layer as this machine runs it. `sources` and `target` are its tensors as its own window sees them (a vector may
    be an image of one pixel).

    `geometry` says what of its operands a block of the output needs; without one, a layer runs as a whole. `pad` and
    `first_element` of each pixel are of windows that the array does not run.
    """

    layer: AnyLayer
    config: AcceleratorConfig
    sources: tuple[Extents, ...]
    target: Extents
    geometry: Geometry | None = None
    window: Accumulation | None = None
    sweep: Sweep | None = None
    first_element: int = 0
    pad: int = 0
    tables: bytes = b""
    _streams: dict[int, tuple[bytes, bool]] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        return self.layer.name

    def needs(self, block: Block) -> list[Block]:
        """What of each operand a block of the output needs."""
        if self.geometry is None:
            return [source.whole for source in self.sources]
        return [self.geometry.needs(block, source) for source in self.sources]

    def rows_ready(self, available: list[int], start: int) -> int:
        """Output rows, from `start` on, that need no more than so many first elements of the operands."""
        rows = [
            elements // max(source.columns * source.pixel, 1)
            for elements, source in zip(available, self.sources, strict=True)
        ]
        if all(have == source.rows for have, source in zip(rows, self.sources, strict=True)):
            return self.target.rows
        ready = start
        while ready < self.target.rows and self.geometry is not None:
            wanted = self.needs(Block(ready, 1, 0, self.target.columns))
            if any(need.row + need.rows > have for need, have in zip(wanted, rows, strict=True)):
                break
            ready += 1
        return ready

    def array_blocks(self, part: Block) -> list[ArrayBlock]:
        """A part of the output in the blocks in which the array runs it."""
        if self.window is None or self.sweep is None:
            return []
        blocks = []
        for region, count in self._regions(part):
            rescale = self.window.rescale
            if isinstance(self.layer, AveragePool2D):
                rescale = averaging(self.layer, self.window.outputs, count)
            if count not in self._streams:
                self._streams[count] = self._stream(rescale)
            blocks += [
                ArrayBlock(block, rescale, *self._streams[count])
                for block in matmul_blocks(self.sweep, region, self.config)
            ]
        return blocks

    def _stream(self, rescale: Affine | SbnqRescale | LlsqRescale) -> tuple[bytes, bool]:
        assert self.window is not None
        assert self.sweep is not None
        return block_stream(self.window, rescale, self.sweep, self.config)

    def _regions(self, part: Block) -> list[tuple[Block, int]]:
        """An average's windows hold fewer elements at the edges: rectangles, and how many their windows hold."""
        if not isinstance(self.layer, AveragePool2D) or self.geometry is None:
            return [(part, 0)]
        source = self.sources[0]
        rows = self._inside(0, source.rows, part.row, part.rows)
        columns = self._inside(1, source.columns, part.column, part.columns)
        return [
            (Block(row, high, column, wide), down * across)
            for row, high, down in rows
            for column, wide, across in columns
        ]

    def _inside(self, axis: int, size: int, first: int, count: int) -> list[tuple[int, int, int]]:
        """Stretches of output places along an axis, and how many elements of theirs windows lie inside."""
        assert self.geometry is not None
        stretches: list[tuple[int, int, int]] = []
        for place in range(first, first + count):
            start = place * self.geometry.stride[axis] - self.geometry.before[axis]
            inside = min(start + self.geometry.kernel[axis], size) - max(start, 0)
            if stretches and stretches[-1][2] == inside:
                stretches[-1] = (stretches[-1][0], stretches[-1][1] + 1, inside)
            else:
                stretches.append((place, 1, inside))
        return stretches

    @cached_property
    def runs_on_array(self) -> bool:
        return self.window is not None

    @property
    def moves_nothing(self) -> bool:
        return isinstance(self.layer, Reshape)


def plan_layer(
    layer: AnyLayer, windows: dict[str, Accumulation], network: Network, config: AcceleratorConfig
) -> Plan:
    """Raises NetworkError where there is no command for it."""
    sources = tuple(extents_of(network.tensors[name], config) for name in layer.inputs)
    target = extents_of(network.tensors[layer.output], config)
    if isinstance(layer, ACCUMULATING):
        return _plan_array(layer, windows[layer.name], network, config)
    if isinstance(layer, MaxPool2D):
        geometry = Geometry(layer.kernel, layer.stride, (1, 1), (layer.padding[0], layer.padding[2]))
        sweep = pool_sweep(geometry, sources[0], sources[0].pixel, config)
        kind = network.tensors[layer.inputs[0]].type
        return Plan(layer, config, sources, target, geometry, sweep=sweep, pad=kind.min)
    if isinstance(layer, (*UNARY, Softmax)):
        return Plan(layer, config, sources, target, Geometry(), tables=table_of(layer, network).tobytes())
    if isinstance(layer, MOVING):
        source, output = network.tensors[layer.inputs[0]], network.tensors[layer.output]
        if moved := moved_window(layer, source.shape, output.shape):
            geometry, first_element, pad = moved
            sweep = pool_sweep(geometry, sources[0], target.pixel, config)
            return Plan(
                layer, config, sources, target, geometry, sweep=sweep, first_element=first_element, pad=pad
            )
    if isinstance(layer, (*MOVING, Reshape)):
        return Plan(layer, config, sources, target)
    shapes = [network.tensors[name].shape for name in layer.inputs]
    return Plan(layer, config, sources, target, _alignment(shapes, network.tensors[layer.output].shape))


def _alignment(shapes: list[tuple[int, ...]], target: tuple[int, ...]) -> Geometry | None:
    """How operands of an elementwise layer follow its output; None where that takes more than rows, columns, pixels."""
    if all(shape == target for shape in shapes):
        return Geometry()
    for shape in shapes:
        leading = (1,) * (len(target) - len(shape)) + shape
        if leading[:-2] != target[:-2] and math.prod(leading[:-2]) != 1:
            return None
    return Geometry(broadcasts=True)


def _plan_array(
    layer: Conv2D | DepthwiseConv2D | FullyConnected | AveragePool2D | Mean,
    window: Accumulation,
    network: Network,
    config: AcceleratorConfig,
) -> Plan:
    tensor = network.tensors[layer.inputs[0]]
    digits = digits_of(tensor, config)
    source = Extents(1, 1, tensor.size * digits) if window.flat else extents_of(tensor, config)
    target = network.tensors[layer.output]
    geometry = geometry_of(window)
    if isinstance(layer, Mean):
        rows, columns = (
            size - extent + 1
            for size, extent in zip((source.rows, source.columns), window.kernel, strict=True)
        )
    else:
        rows, columns = (1, 1) if window.flat else target.shape[:2]
    pixel = window.outputs * digits_of(target, config)
    sweep = matmul_sweep(window, source, digits, config)
    return Plan(layer, config, (source,), Extents(rows, columns, pixel), geometry, window, sweep)
