"""Concatenation: operands that are computed into the output need nothing, the others are copied there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from intaglio.compiler.copies import strided
from intaglio.compiler.operators.copy import moving_problems
from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, refuse
from intaglio.compiler.steps import Pool
from intaglio.compiler.windows import Everything
from intaglio.network import Concatenation
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Strip:
    """An operand's part of the output: `rows` runs of `count` elements, `pitch` apart there from `offset` on, one
    behind the other in the operand."""

    rows: int
    count: int
    pitch: int
    offset: int


@dataclass(frozen=True)
class JoinPlan(LayerPlan):
    """`strips`: an operand each. `along_pixels`: whether they are joined channel by channel."""

    config: AcceleratorConfig
    strips: tuple[Strip, ...]
    along_pixels: bool

    @property
    def by_bytes(self) -> bool:
        """Whether strips of tensors in memory are whole bytes, and can be moved there one by one."""
        return self.config.element_bits == 8

    def copies(self, operand: int, source: int, target: int) -> list[Pool]:
        """One operand to its place in the output, dense tensors at these addresses."""
        strip = self.strips[operand]
        copies = strided(
            (strip.rows, strip.count), (strip.count, 1), (strip.pitch, 1), 0, strip.offset, self.config
        )
        return [copy.step(self.owner, source, target, self.config) for copy in copies]


def plan(layer: Concatenation, facts: LayerFacts, config: AcceleratorConfig) -> JoinPlan:
    """Raises NetworkError with what the machine cannot run."""
    refuse(moving_problems(facts, config))
    into, axis = facts.output.shape, layer.axis
    inner = math.prod(into[axis + 1 :])
    strips, offset = [], 0
    for source in facts.inputs:
        count = source.shape[axis] * inner
        strips.append(Strip(math.prod(source.shape[:axis]), count, into[axis] * inner, offset))
        offset += count
    sources, target = facts.extents
    return JoinPlan(facts, sources, target, Everything(), config, tuple(strips), axis == len(into) - 1)
