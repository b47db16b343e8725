"""What POOL runs in one window: maxima, and as windows of one element images that are padded or sliced."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, refuse
from intaglio.compiler.steps import Destination, Pool, on_chip
from intaglio.compiler.views import Block, View
from intaglio.compiler.windows import Geometry, Sweep, pool_sweep
from intaglio.network import MaxPool2D
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class PoolPlan(LayerPlan):
    """`first_element`: of each pixel of the input, the first that is read; `pad`: the element outside of it."""

    sweep: Sweep
    pad: int
    first_element: int

    def steps(self, part: Block, sources: list[View], target: View) -> list[Pool]:
        """A part of the output, of operands on chip."""
        (source,) = sources
        channels = self.target.pixel
        return [
            Pool(
                owner=self.owner,
                walk=self.sweep.walk(source, part, self.first_element, self.pad, self.inputs[0].type.signed),
                channels=channels,
                destination=Destination(
                    target.at(part.row, part.column), target.row_pitch, target.pixel_pitch
                ),
                reads=on_chip(self.sweep.reads(source, part)),
                writes=on_chip(target.interval(part, channels)),
            )
        ]


def plan(layer: MaxPool2D, facts: LayerFacts, config: AcceleratorConfig) -> PoolPlan:
    """Raises NetworkError with what the machine cannot run."""
    source = facts.inputs[0]
    if source.digits > 1:
        bits = f"whose activations have {config.element_bits} bits"
        refuse([f"max pooling of {source.type} on {config.name}, {bits}"])
    geometry = Geometry(layer.kernel, layer.stride, (1, 1), (layer.padding[0], layer.padding[2]))
    return plan_window(facts, geometry, source.type.min, 0, config)


def plan_window(
    facts: LayerFacts, geometry: Geometry, pad: int, first_element: int, config: AcceleratorConfig
) -> PoolPlan:
    sources, target = facts.extents
    sweep = pool_sweep(geometry, sources[0], target.pixel, config)
    pattern = pad & ((1 << config.element_bits) - 1)
    return PoolPlan(facts, sources, target, geometry, sweep, pattern, first_element)
