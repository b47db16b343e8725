"""Sums, differences and products of two tensors, element by element, either of which may be broadcast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, refuse
from intaglio.compiler.steps import Arithmetic, ArithmeticNumbers, OperandNumbers, Run, Runs, on_chip
from intaglio.compiler.views import Block, Interval, View
from intaglio.compiler.windows import Broadcast, Everything, Geometry, Reach
from intaglio.network import Add, Mul, Sub
from intaglio.spec.commands import OPERAND_SHIFT, Operation
from intaglio.spec.config import AcceleratorConfig

Binary = Add | Sub | Mul


@dataclass(frozen=True)
class ElementwisePlan(LayerPlan):
    numbers: ArithmeticNumbers

    def steps(self, part: Block, sources: list[View], target: View) -> list[Arithmetic]:
        """A part of the output, of operands on chip."""
        if isinstance(self.reach, Geometry):
            runs = part_runs(self, part, sources, target, by_pixels=False)
            reads = tuple(view.interval(part, self.target.pixel) for view in sources)
            return [self._step(runs, reads, target.interval(part, self.target.pixel))]
        whole = part == self.target.whole and all(
            view.block == extents.whole for view, extents in zip(sources, self.sources, strict=True)
        )
        if whole and target.pixel_pitch == self.target.pixel:
            return list(self._whole(sources, target))
        rows = range(part.row, part.row + part.rows)
        return [self._row(Block(row, 1, part.column, part.columns), sources, target) for row in rows]

    def _step(self, runs: Runs, reads: tuple[Interval, ...], writes: Interval) -> Arithmetic:
        return Arithmetic(
            owner=self.owner, runs=runs, numbers=self.numbers, reads=on_chip(*reads), writes=on_chip(writes)
        )

    def _whole(self, sources: list[View], target: View) -> Iterator[Arithmetic]:
        """All of it, whatever the shapes, of dense tensors."""
        shapes = [source.shape for source in self.inputs]
        for offsets in _broadcast_runs(self.output.shape, shapes):
            operands = [
                replace(run, source=view.address + run.source)
                for run, view in zip(offsets.operands, sources, strict=True)
            ]
            start = target.address + offsets.destination
            runs = replace(offsets, operands=tuple(operands), destination=start)
            yield self._step(runs, runs.reads(), Interval(start, start + runs.pixels * runs.channels))

    def _row(self, row: Block, sources: list[View], target: View) -> Arithmetic:
        """A row of an output whose operands may have one row, column or channel that stands for all."""
        pixel = self.target.pixel
        operands, reads = [], []
        for view, extents in zip(sources, self.sources, strict=True):
            need = self.reach.needs(row, extents)
            pitch = view.pixel_pitch if extents.columns > 1 else 0
            operands.append(Run(view.at(need.row, need.column), pitch, extents.pixel == 1 < pixel))
            reads.append(view.interval(need, extents.pixel))
        destination = target.at(row.row, row.column)
        runs = Runs(tuple(operands), row.columns, pixel, destination, target.pixel_pitch)
        return self._step(runs, tuple(reads), target.interval(row, pixel))


def plan(layer: Binary, facts: LayerFacts, config: AcceleratorConfig) -> ElementwisePlan:
    """Raises NetworkError with what the machine cannot run."""
    refuse([*elementwise_problems(facts, config), *_scale_problems(layer)])
    sources, target = facts.extents
    shapes = [source.shape for source in facts.inputs]
    return ElementwisePlan(
        facts, sources, target, _alignment(shapes, facts.output.shape), _numbers(layer, facts)
    )


def elementwise_problems(facts: LayerFacts, config: AcceleratorConfig) -> Iterator[str]:
    """Why a machine's elementwise engine cannot run a layer, whatever its numbers."""
    if not config.affine:
        yield f"{config.name} has no elementwise engine, which {facts.op} needs; it comes with affine in `rescales`"
        return
    for tensor in (*facts.inputs, facts.output):
        if (tensor.type.bits, tensor.type.signed) != (8, True):
            yield f"{tensor.name} is {tensor.type}; {facts.op} on {config.name} reads and writes int8"


def _scale_problems(layer: Binary) -> Iterator[str]:
    if isinstance(layer, Mul):
        return
    if layer.left_shift != OPERAND_SHIFT:
        yield f"it shifts its operands by {layer.left_shift}, only {OPERAND_SHIFT} is possible"
    for scale in (layer.first, layer.second):
        if scale.exponent > 0 or not scale.double_rounding:
            yield (
                f"it scales an operand by {scale.multiplier} * 2**{scale.exponent - 31} in "
                f"{'double' if scale.double_rounding else 'single'} rounding; "
                "only factors below 1 in double rounding are possible"
            )


def _numbers(layer: Binary, facts: LayerFacts) -> ArithmeticNumbers:
    first, second = (source.tensor.zero_point for source in facts.inputs)
    match layer:
        case Mul():
            operation, result = Operation.MULTIPLY, layer.scale
            operands = OperandNumbers(first), OperandNumbers(second)
        case Add():
            operation = Operation.SUBTRACT if isinstance(layer, Sub) else Operation.ADD
            result = layer.total
            operands = (
                OperandNumbers(first, layer.first.multiplier, -layer.first.exponent),
                OperandNumbers(second, layer.second.multiplier, -layer.second.exponent),
            )
    return ArithmeticNumbers(
        operation,
        operands,
        result.multiplier,
        result.exponent,
        result.double_rounding,
        facts.output.tensor.zero_point,
        layer.low,
        layer.high,
    )


def _alignment(shapes: list[tuple[int, ...]], target: tuple[int, ...]) -> Reach:
    """How operands follow the output: row by row where they broadcast at most rows, columns and channels."""
    if all(shape == target for shape in shapes):
        return Geometry()
    for shape in shapes:
        leading = (1,) * (len(target) - len(shape)) + shape
        if leading[:-2] != target[:-2] and math.prod(leading[:-2]) != 1:
            return Everything()
    return Broadcast()


def part_runs(plan: LayerPlan, part: Block, sources: list[View], target: View, by_pixels: bool) -> Runs:
    """A part of operands of the output's shape, all dense where it has several rows: as one run, or a run a pixel, as
    where the output has a pitch."""
    pixel = plan.target.pixel
    apart = target.pixel_pitch != pixel
    pixels, channels = (part.positions, pixel) if by_pixels or apart else (1, part.positions * pixel)
    return Runs(
        tuple(Run(view.at(part.row, part.column), channels) for view in sources),
        pixels,
        channels,
        target.at(part.row, part.column),
        target.pixel_pitch if apart else channels,
    )


def _broadcast_runs(target: tuple[int, ...], operands: list[tuple[int, ...]]) -> Iterator[Runs]:
    """The commands of a broadcast, their places offsets in elements from dense tensors' starts.

    Axes along which both operands move alike are joined; the innermost is a command's run, the next its pixels.
    """
    axes = _broadcast_axes(target, operands)
    (channels, inner), (pixels, outer) = axes[:2]
    counts = [extent for extent, _ in axes[2:]]
    sizes = [math.prod(counts[:level]) for level in range(len(counts))]
    for place in itertools.product(*(range(extent) for extent in reversed(counts))):
        indices = list(reversed(place))
        runs = tuple(
            Run(
                sum(i * steps[operand] for i, (_, steps) in zip(indices, axes[2:], strict=True)),
                outer[operand],
                inner[operand] == 0,
            )
            for operand in range(len(operands))
        )
        offset = sum(i * size for i, size in zip(indices, sizes, strict=True)) * channels * pixels
        yield Runs(runs, pixels, channels, offset, channels)


def _broadcast_axes(target: tuple[int, ...], operands: list[tuple[int, ...]]) -> list[tuple[int, list[int]]]:
    """Extent and the operands' strides (0: one element stands for all) of at least two axes, the innermost first, along
    which operands stand or move by single elements."""
    rank = len(target)
    strides = []
    for operand in operands:
        shape = (1,) * (rank - len(operand)) + operand
        dense = [math.prod(shape[axis + 1 :]) for axis in range(rank)]
        strides.append([0 if extent == 1 else step for extent, step in zip(shape, dense, strict=True)])
    axes: list[tuple[int, list[int]]] = []
    for axis in reversed(range(rank)):
        extent, steps = target[axis], [stride[axis] for stride in strides]
        if extent == 1:
            continue
        if axes and steps == [axes[-1][0] * before for before in axes[-1][1]]:
            axes[-1] = (axes[-1][0] * extent, axes[-1][1])
        else:
            axes.append((extent, steps))
    still = (1, [0] * len(operands))
    if not axes or any(step not in (0, 1) for step in axes[0][1]):
        axes.insert(0, still)
    return axes + [still] * (2 - len(axes))
