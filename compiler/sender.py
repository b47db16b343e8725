"""Steps of layers whose operands and output are on chip: blocks on the array, parts of all others."""

from __future__ import annotations

from typing import assert_never

from intaglio.compiler.operators import (
    ArrayPlan,
    CopyPlan,
    ElementwisePlan,
    JoinPlan,
    PartPlan,
    PoolPlan,
    TablePlan,
)
from intaglio.compiler.operators.array import ArrayBlock
from intaglio.compiler.residence import Residence
from intaglio.compiler.steps import Step, Weights
from intaglio.compiler.views import Block, View
from intaglio.spec.config import AcceleratorConfig


class Sender:
    """Sends the steps of parts of layers; knows the accumulator banks, and whose tables the engine holds."""

    def __init__(self, residence: Residence, config: AcceleratorConfig) -> None:
        self.residence = residence
        self._columns = config.columns
        self._bank = 0
        self._drained: dict[int, Step] = {}
        self._table_loaded = ""

    def array_block(
        self, plan: ArrayPlan, block: ArrayBlock, groups: range, sources: list[View], target: View
    ) -> Step:
        """One block of so many groups of output channels, one after the other; its last step."""
        self.residence.load_for(plan, block.block)
        self.begin(block)
        for channel in groups:
            step = self.group(plan, block, channel, sources[0], target)
        return step

    def begin(self, block: ArrayBlock) -> None:
        """What the MATMULs of a block take of the weight stream."""
        if block.stream:
            self.residence.add(Weights(owner="", stretches=(block.stream,)))

    def group(
        self,
        plan: ArrayPlan,
        block: ArrayBlock,
        channel: int,
        source: View,
        target: View,
        first_element: int | None = None,
    ) -> Step:
        """One group of output channels of a block, by the bank that was drained longer ago; parameters as those of
        `ArrayPlan.group`."""
        matmul, rescales = plan.group(block, channel, source, target, self._bank, first_element)
        if self._bank in self._drained:
            matmul.after.append(self._drained[self._bank])
        self._drained[self._bank] = rescales[-1]
        self._bank ^= 1
        self.residence.add(matmul)
        for rescale in rescales:
            last = self.residence.add(rescale)
        return last

    def part(self, plan: PartPlan, part: Block, sources: list[View], target: View) -> Step:
        """A part of a layer that the array does not run; its last step."""
        match plan:
            case JoinPlan():
                return self._join(plan, sources, target)
            case TablePlan():
                if self._table_loaded != plan.name:
                    self._table_loaded = plan.name
                    self.residence.add(plan.load(self.residence.table(plan)))
            case PoolPlan() | CopyPlan() | ElementwisePlan():
                pass
            case _:
                assert_never(plan)
        for step in plan.steps(part, sources, target):
            last = self.residence.add(step)
        return last

    def _join(self, plan: JoinPlan, sources: list[View], target: View) -> Step:
        """Complete when all operands are in their places, whoever brings them there."""
        steps: list[Step] = [
            self.residence.add(step)
            for operand, (tensor, source) in enumerate(zip(plan.inputs, sources, strict=True))
            if not self.residence.joined(tensor)  # what is computed in its place is there
            for step in plan.copies(operand, source.address, target.address)
        ]
        writers = self.residence.last_writer
        steps += [writers[tensor.name] for tensor in plan.inputs if tensor.name in writers]
        return complete_after(steps)


def complete_after(steps: list[Step]) -> Step:
    """The last of some steps, which now waits for all of them."""
    last = max(steps, key=lambda step: step.number)
    last.after += [step for step in steps if step is not last]
    return last
