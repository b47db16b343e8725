"""What is no work: the same elements in the same order, under another name."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.compiler.operators.layer import LayerFacts, LayerPlan
from intaglio.compiler.windows import Everything


@dataclass(frozen=True)
class AliasPlan(LayerPlan):
    """A Reshape: its output is where its input is."""


def plan(facts: LayerFacts) -> AliasPlan:
    return AliasPlan(facts, *facts.extents, Everything())
