"""Parts of a layer whose tensors do not all fit on chip: rows, else columns, else channels, as large as fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.compiler.operators import ArrayPlan, JoinPlan, Plan
from intaglio.compiler.views import Block, Extents
from intaglio.spec.config import AcceleratorConfig

JOIN_ELEMENTS = 4096
"""Of a Concatenation's operand, on their way from memory to memory."""


@dataclass(frozen=True)
class Tiling:
    """The parts of the output in which a layer is computed, one after the other; `channels`: how many of the input's
    are loaded at a time (0: all)."""

    blocks: tuple[Block, ...]
    channels: int = 0


def aligned(elements: int, config: AcceleratorConfig) -> int:
    """What so many elements take on chip: loads and stores move whole bytes."""
    per_byte = 8 // config.element_bits
    return -(-elements // per_byte) * per_byte


def staged(plan: Plan, tile: Block, config: AcceleratorConfig) -> list[int]:
    """Elements of all operands and the output of a tile, as if all were in memory."""
    extents = (*plan.sources, plan.target)
    blocks = (*plan.needs(tile), tile)
    return [aligned(b.positions * e.pixel, config) for b, e in zip(blocks, extents, strict=True)]


def stages(plan: Plan, tiling: Tiling, outside: Sequence[bool], config: AcceleratorConfig) -> dict[int, int]:
    """Elements on chip for what is loaded or stored part by part: by operand, and by -1 for the output.

    `outside` says of each operand and of the output whether it lies in memory.
    """
    if isinstance(plan, JoinPlan) and plan.by_bytes:
        return {0: JOIN_ELEMENTS}
    sizes = [staged(plan, tile, config) for tile in tiling.blocks]
    if tiling.channels:
        pixels = plan.needs(plan.target.whole)[0].positions
        sizes = [[pixels * tiling.channels, *rest] for _, *rest in sizes]
    most = [max(size) for size in zip(*sizes, strict=True)]
    operands = [*range(len(plan.sources)), -1]
    return {i: size for i, size, is_outside in zip(operands, most, outside, strict=True) if is_outside}


def smallest_part(plan: Plan, config: AcceleratorConfig) -> int:
    """Elements of the smallest part of a layer, as if all its tensors were in memory."""
    parts = [plan.target.whole, *(_pixels(plan.target) if plan.reach.divides else ())]
    return min(sum(staged(plan, part, config)) for part in parts)


def tiling_of(plan: Plan, outside: Sequence[bool], free: int, config: AcceleratorConfig) -> Tiling | None:
    """The largest parts that fit into so many free elements; None if there are none."""

    def fit(tiles: Sequence[Block]) -> bool:
        return all(
            sum(n for n, is_outside in zip(staged(plan, tile, config), outside, strict=True) if is_outside)
            <= free
            for tile in tiles
        )

    target = plan.target
    if isinstance(plan, JoinPlan) and plan.by_bytes:
        return Tiling((target.whole,)) if free >= JOIN_ELEMENTS else None
    if fit([target.whole]):
        return Tiling((target.whole,))
    extents = [e for e, is_outside in zip((*plan.sources, target), outside, strict=True) if is_outside]
    bits = config.element_bits
    if not plan.reach.divides or any(e.columns * e.pixel * bits % 8 for e in extents):
        return None  # as a whole alone, or rows that begin within a byte
    for rows in range(target.rows - 1, 0, -1):
        if fit(tiles := tuple(_cut(target, rows, target.columns))):
            return Tiling(tiles)
    by_columns = not any(e.pixel * bits % 8 for e in extents)
    for columns in range(target.columns - 1, 0, -1) if by_columns else ():
        if fit(tiles := tuple(_cut(target, 1, columns))):
            return Tiling(tiles)
    return _by_channels(plan, outside, free, config)


def _by_channels(plan: Plan, outside: Sequence[bool], free: int, config: AcceleratorConfig) -> Tiling | None:
    """The whole of a layer by channel, whose windows are loaded some channels at a time."""
    if not isinstance(plan, ArrayPlan) or not plan.by_channel or not outside[0] or config.element_bits != 8:
        return None
    whole = plan.target.whole
    left = free - (plan.target.elements if outside[-1] else 0)
    channels = left // plan.needs(whole)[0].positions // config.columns * config.columns
    return Tiling((whole,), min(channels, plan.sources[0].pixel)) if channels >= 1 else None


def _cut(target: Extents, rows: int, columns: int) -> Iterator[Block]:
    for row in range(0, target.rows, rows):
        for column in range(0, target.columns, columns):
            yield Block(row, min(rows, target.rows - row), column, min(columns, target.columns - column))


def _pixels(target: Extents) -> Iterator[Block]:
    """Single pixels at the corners and in the middle: the smallest parts."""
    for row in {0, target.rows // 2, target.rows - 1}:
        for column in {0, target.columns // 2, target.columns - 1}:
            yield Block(row, 1, column, 1)
