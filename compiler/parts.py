"""Layers with tensors in memory: parts of operands are loaded, parts of the output computed and stored."""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.compiler.limits import MOST_TRANSFER_ROWS
from intaglio.compiler.operators import ArrayPlan, JoinPlan, PartPlan
from intaglio.compiler.operators.join import Strip
from intaglio.compiler.sender import Sender, complete_after
from intaglio.compiler.steps import Load, Step, Store, in_memory, on_chip
from intaglio.compiler.tiling import JOIN_ELEMENTS, Tiling
from intaglio.compiler.views import Interval, View


def run_in_parts(sender: Sender, plan: ArrayPlan | PartPlan, tiling: Tiling) -> Iterator[tuple[int, Step]]:
    """Send a layer's steps; how many of the output's first elements there are, and the step that makes the last."""
    if isinstance(plan, JoinPlan) and plan.by_bytes:
        yield plan.target.elements, _join_in_memory(sender, plan)
    elif isinstance(plan, ArrayPlan) and tiling.channels:
        yield plan.target.elements, _run_by_channels(sender, plan, tiling.channels)
    else:
        yield from _run_in_tiles(sender, plan, tiling)


def _run_in_tiles(sender: Sender, plan: ArrayPlan | PartPlan, tiling: Tiling) -> Iterator[tuple[int, Step]]:
    residence = sender.residence
    for tile in tiling.blocks:
        sources = [residence.load_part(plan, operand, need) for operand, need in enumerate(plan.needs(tile))]
        target = residence.target(plan, tile)
        if isinstance(plan, ArrayPlan):
            for block, groups in plan.turns(tile):
                step = sender.array_block(plan, block, groups, sources, target)
        else:
            step = sender.part(plan, tile, sources, target)
        if residence.in_memory(plan.output):
            step = residence.store_tile(plan, target)
        if tile.columns == plan.target.columns:
            yield (tile.row + tile.rows) * tile.columns * plan.target.pixel, step
    yield plan.target.elements, step


def _run_by_channels(sender: Sender, plan: ArrayPlan, channels: int) -> Step:
    """A layer by channel whose windows do not fit: so many channels of them are loaded at a time."""
    residence, source = sender.residence, plan.sources[0]
    memory, stage = residence.places(plan.inputs[0])[0], residence.stage(plan, 0)
    target = residence.target(plan, plan.target.whole)
    for block in plan.blocks(plan.target.whole):
        (need,) = plan.needs(block.block)
        sender.begin(block)
        for first in range(0, source.pixel, channels):
            view = View.dense(stage, need, min(channels, source.pixel - first))
            count = view.pixel_pitch
            for row in range(need.row, need.row + need.rows):
                start = memory + (row * source.columns + need.column) * source.pixel + first
                place = view.at(row, need.column)
                _strips(sender, Load, plan, (start, source.pixel), (place, count), need.columns, count)
            for channel in range(first, first + count, plan.config.columns):
                step = sender.group(plan, block, channel, view, target, channel - first)
    return residence.store_tile(plan, target) if residence.in_memory(plan.output) else step


def _join_in_memory(sender: Sender, plan: JoinPlan) -> Step:
    """A Concatenation of which a part is in memory: strips of each operand go to their places in the output."""
    steps: list[Step] = []
    for operand, strip in enumerate(plan.strips):
        steps += _strip_steps(sender, plan, operand, strip)
    last = complete_after(steps)
    if sender.residence.in_memory(plan.output):
        sender.residence.last_store = last
    return last


def _strip_steps(sender: Sender, plan: JoinPlan, operand: int, strip: Strip) -> Iterator[Step]:
    """One operand to all places of the output; the last step of each."""
    residence, source = sender.residence, plan.inputs[operand]
    outside = residence.in_memory(source)
    if not residence.in_memory(plan.output):
        whole = residence.target(plan).address
        if outside:
            there = (residence.places(source)[0], strip.count)
            here = (whole + strip.offset, strip.pitch)
            yield _strips(sender, Load, plan, there, here, strip.rows, strip.count)
        else:
            address = residence.view(source, plan.sources[operand]).address
            for step in plan.copies(operand, address, whole):
                yield residence.add(step)
        return
    for place in residence.places(plan.output):
        into = (place + strip.offset, strip.pitch)
        if outside:
            yield _through_chip(sender, plan, residence.places(source)[0], into, strip)
        else:
            here = (residence.view(source, plan.sources[operand]).address, strip.count)
            yield _strips(sender, Store, plan, into, here, strip.rows, strip.count)


def _through_chip(sender: Sender, plan: JoinPlan, place: int, into: tuple[int, int], strip: Strip) -> Step:
    """A strip from memory to memory, through a stage on chip; `into` is its place and its pitch there."""
    stage = sender.residence.stage(plan, 0)
    many, piece = max(1, JOIN_ELEMENTS // strip.count), min(strip.count, JOIN_ELEMENTS)
    for row in range(0, strip.rows, many):
        rows = min(many, strip.rows - row)
        for start in range(0, strip.count, piece):
            size = min(piece, strip.count - start)
            source = (place + row * strip.count + start, strip.count)
            _strips(sender, Load, plan, source, (stage, size), rows, size)
            target = (into[0] + row * into[1] + start, into[1])
            step = _strips(sender, Store, plan, target, (stage, size), rows, size)
    return step


def _strips(
    sender: Sender,
    transfer: type[Load | Store],
    plan: ArrayPlan | JoinPlan,
    memory: tuple[int, int],
    chip: tuple[int, int],
    rows: int,
    count: int,
) -> Step:
    """Runs of `count` int8 between places in memory and on chip, (first, pitch), in one step or more."""
    loads = transfer is Load
    for row in range(0, rows, MOST_TRANSFER_ROWS):
        here = min(MOST_TRANSFER_ROWS, rows - row)
        there, place = memory[0] + row * memory[1], chip[0] + row * chip[1]
        outside = in_memory(there, (here - 1) * memory[1] + count)
        inside = on_chip(Interval(place, place + (here - 1) * chip[1] + count))
        step = sender.residence.add(
            transfer(
                owner=plan.owner,
                memory=there,
                scratchpad=place,
                row_bytes=count,
                rows=here,
                memory_pitch=memory[1],
                scratchpad_pitch=chip[1],
                reads=outside if loads else inside,
                writes=inside if loads else outside,
            )
        )
    return step
