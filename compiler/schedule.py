"""Plans and placement -> steps: what each layer sends, and in which order.

Segments go one after the other. In a segment, blocks of the first layer are interleaved with what the others can do by
then; a layer with a tensor in memory is a segment of its own, and runs in parts (`parts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intaglio.compiler.memory import Layout
from intaglio.compiler.operators import AliasPlan, ArrayPlan, PartPlan, Plan
from intaglio.compiler.operators.layer import Stored
from intaglio.compiler.parts import run_in_parts
from intaglio.compiler.placement import Placement, Segment
from intaglio.compiler.plan import Plans
from intaglio.compiler.prefetch import send_ahead
from intaglio.compiler.residence import Residence
from intaglio.compiler.sender import Sender
from intaglio.compiler.steps import AnyStep, Step
from intaglio.compiler.views import Block, Interval
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS

Follower = PartPlan | AliasPlan
ALONE_PARTS = 4
"""Parts of a layer that runs by itself and not on the array, so that what follows need not wait for its end."""


@dataclass(frozen=True)
class Whole:
    """When a step is complete, the whole of a tensor lies in a stretch of the scratchpad. A pixel's last `gap` elements
    are not its own."""

    step: Step
    tensor: Stored
    interval: Interval
    gap: int


@dataclass(frozen=True)
class Schedule:
    """Steps in the order in which the machine fetches their commands.

    Attributes
    ----------
    whole : of each tensor that a layer writes on chip, when
    marks : by layer, the number of the time stamp that is taken when it is complete
    """

    steps: Sequence[AnyStep]
    whole: Sequence[Whole]
    marks: Mapping[str, int]


def schedule_steps(plans: Plans, placement: Placement, layout: Layout, config: AcceleratorConfig) -> Schedule:
    """All steps of a network."""
    residence = Residence(placement, layout, config)
    scheduler = _Scheduler(residence, placement, config)
    for name in plans.inputs:
        if name in plans.outputs:
            residence.load_given(name)
    following = [*(segment.plans for segment in placement.segments[1:]), []]
    for segment, after in zip(placement.segments, following, strict=True):
        scheduler.run(segment, after)
        for plan in segment.plans:
            scheduler.finish(plan, last=plan is plans.layers[-1])
    return Schedule(list(send_ahead(residence.steps)), scheduler.whole, scheduler.marks)


class _Scheduler:
    """Sends the steps of one segment after the other."""

    def __init__(self, residence: Residence, placement: Placement, config: AcceleratorConfig) -> None:
        self.whole: list[Whole] = []
        self.marks: dict[str, int] = {}
        self._residence = residence
        self._sender = Sender(residence, config)
        self._tilings = placement.tilings
        self._rows_done: dict[str, int] = {}
        self._marked: list[Step] = []

    def run(self, segment: Segment, following: Sequence[Plan]) -> None:
        """One segment; the tables of the one that follows are loaded ahead."""
        head, followers = segment.head, segment.followers
        for plan in segment.plans:
            # A first layer on the array loads what it needs, block by block.
            for source in plan.inputs if plan is not head or not isinstance(plan, ArrayPlan) else ():
                self._residence.load_given(source.name)
            self._residence.load_table(plan)
        for plan in following:
            self._residence.load_table(plan)
        if not isinstance(head, AliasPlan) and head.name in self._tilings:
            for elements, step in run_in_parts(self._sender, head, self._tilings[head.name]):
                self._note(head, elements, step)
        elif isinstance(head, ArrayPlan):
            self._run_on_array(head, followers)
        else:
            parts = ALONE_PARTS if head.reach.divides else 1
            for part in range(1, parts + 1):
                self._advance(head, head.target.rows * part // parts)
                self._follow(followers)

    def _run_on_array(self, head: ArrayPlan, followers: Sequence[Follower]) -> None:
        """As soon as a block of the first layer is on its way, what of the others needs no more than is on its way."""
        sources, target = self._residence.sources(head), self._residence.target(head)
        filled = [0] * head.target.rows
        for block, groups in head.turns(head.target.whole):
            step = self._sender.array_block(head, block, groups, sources, target)
            if head.groups[-1] not in groups:
                continue
            # Blocks side by side: the rows are there with the last of them.
            for row in range(block.block.row, block.block.row + block.block.rows):
                filled[row] += block.block.columns
            lacking = (row for row, columns in enumerate(filled) if columns < head.target.columns)
            rows = next(lacking, head.target.rows)
            self._note(head, rows * head.target.columns * head.target.pixel, step)
            self._follow(followers)

    def _follow(self, followers: Sequence[Follower]) -> None:
        progress = True
        while progress:
            progress = False
            for plan in followers:
                start = self._rows_done.get(plan.name, 0)
                available = [self._residence.written.get(source.name, 0) for source in plan.inputs]
                ready = plan.rows_ready(available, start)
                if ready > start:
                    self._advance(plan, ready)
                    progress = True

    def _advance(self, plan: Follower, stop: int) -> None:
        """Rows up to `stop` of a layer that the array does not run."""
        start = self._rows_done.get(plan.name, 0)
        if stop <= start:
            return
        self._rows_done[plan.name] = stop
        residence = self._residence
        if isinstance(plan, AliasPlan):
            step = residence.last_writer.get(plan.inputs[0].name)
        else:
            part = Block(start, stop - start, 0, plan.target.columns)
            step = self._sender.part(plan, part, residence.sources(plan), residence.target(plan))
        self._note(plan, stop * plan.target.columns * plan.target.pixel, step)

    def _note(self, plan: Plan, elements: int, step: Step | None) -> None:
        """`step` writes the last of a layer's first `elements` elements: send what can go on from there."""
        output, residence = plan.output, self._residence
        if elements <= residence.written.get(output.name, 0):
            return
        residence.written[output.name] = elements
        if step is None:
            # A given tensor under another name, in memory.
            return
        residence.last_writer[output.name] = step
        if residence.in_memory(output):
            return
        complete = elements == plan.target.elements
        if complete:
            view = residence.view(output, plan.target)
            interval = view.interval(plan.target.whole, plan.target.pixel)
            self.whole.append(Whole(step, output, interval, view.pixel_pitch - plan.target.pixel))
        residence.store_output(output.name, elements, complete)

    def finish(self, plan: Plan, last: bool) -> None:
        """Mark a layer's last step, if it comes behind all that are marked. The last layer ends with the store of what
        it computed. Time stamps are stored in the order in which the marked commands complete, so each waits for the
        one before."""
        step, store = self._residence.last_writer.get(plan.output.name), self._residence.last_store
        if last and store is not None and (step is None or store.number > step.number):
            step = store
        before = self._marked[-1] if self._marked else None
        if len(self._marked) >= MARKS - 1 and not last:
            self.marks[plan.name] = MARKS - 1
            return
        if step is not None and (before is None or step.number > before.number):
            step.mark = True
            step.after += [] if before is None else [before]
            self._marked.append(step)
        self.marks[plan.name] = len(self._marked) - 1
