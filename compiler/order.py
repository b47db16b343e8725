"""The order in which layers are run, where the network leaves one."""

from __future__ import annotations

from dataclasses import replace

from intaglio.compiler.operators.array import ArrayPlan
from intaglio.compiler.operators.elementwise import ElementwisePlan
from intaglio.compiler.plan import Plan, Plans


def sums_follow_the_longer(plans: Plans) -> Plans:
    """Of the two layers before a sum of both the one with fewer multiplications first: the sum follows the blocks of
    the other, in which the rescale's lanes have more to spare. The same object where there is no such sum."""
    layers = list(plans.layers)
    for place in range(2, len(layers)):
        before, other, joins = layers[place - 2 : place + 1]
        if _sum_of(joins, before, other) and other.facts.macs < before.facts.macs:
            layers[place - 2 : place] = other, before
    return plans if layers == list(plans.layers) else replace(plans, layers=tuple(layers))


def _sum_of(plan: Plan, first: Plan, second: Plan) -> bool:
    """Whether a layer joins what two others compute, the second not from the first."""
    outputs = {first.output.name, second.output.name}
    on_array = isinstance(first, ArrayPlan) and isinstance(second, ArrayPlan)
    joins = isinstance(plan, ElementwisePlan) and {source.name for source in plan.inputs} == outputs
    return on_array and joins and first.output.name not in {source.name for source in second.inputs}
