"""What moves a tensor's elements: padding, slices, transpositions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from intaglio.compiler.copies import Copy, padded, strided
from intaglio.compiler.limits import MOST_STRIDE
from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, refuse
from intaglio.compiler.operators.pool import PoolPlan, plan_window
from intaglio.compiler.steps import Pool
from intaglio.compiler.views import Block, View
from intaglio.compiler.windows import Everything, Geometry
from intaglio.network import Pad, StridedSlice, Transpose
from intaglio.spec.config import AcceleratorConfig

Copying = Pad | StridedSlice | Transpose


@dataclass(frozen=True)
class CopyPlan(LayerPlan):
    """What no single window moves: as a whole, between dense tensors."""

    config: AcceleratorConfig
    copies: tuple[Copy, ...]

    def steps(self, part: Block, sources: list[View], target: View) -> list[Pool]:
        return [
            copy.step(self.owner, sources[0].address, target.address, self.config) for copy in self.copies
        ]


def plan(layer: Copying, facts: LayerFacts, config: AcceleratorConfig) -> CopyPlan | PoolPlan:
    """One window where that does. Raises NetworkError with what the machine cannot run."""
    refuse(moving_problems(facts, config))
    if window := _window(layer, len(facts.inputs[0].shape)):
        return plan_window(facts, *window, config)
    sources, target = facts.extents
    return CopyPlan(facts, sources, target, Everything(), config, tuple(_copies(layer, facts, config)))


def moving_problems(facts: LayerFacts, config: AcceleratorConfig) -> Iterator[str]:
    """Why a machine cannot move a layer's elements."""
    source = facts.inputs[0]
    if source.digits > 1:
        yield f"{facts.op} of {source.type} on {config.name}, whose activations have {config.element_bits} bits"


def _window(layer: Copying, rank: int) -> tuple[Geometry, int, int] | None:
    """A Pad or a StridedSlice as a window of one element over rows and columns: its geometry, what it is padded with,
    and the first element of each pixel. None where it is not one."""
    if rank > 3 or isinstance(layer, Transpose):
        return None
    if isinstance(layer, Pad):
        (top, _), (left, _), channels = ((0, 0), (0, 0), (0, 0), *layer.padding)[-3:]
        return None if any(channels) else (Geometry(before=(top, left)), layer.value, 0)
    begin = (0, 0, 0, *layer.begin)[-3:]
    stride = (1, 1, 1, *layer.stride)[-3:]
    extent = (1, 1, 1, *layer.extent)[-3:]
    # A single element has no next one.
    rows, columns, step = (s if n > 1 else 1 for s, n in zip(stride, extent, strict=True))
    if min(rows, columns) < 1 or step != 1 or rows > MOST_STRIDE:
        return None
    return Geometry(stride=(rows, columns), before=(-begin[0], -begin[1])), 0, begin[2]


def _copies(layer: Copying, facts: LayerFacts, config: AcceleratorConfig) -> Iterator[Copy]:
    shape, into = facts.inputs[0].shape, facts.output.shape
    dense = _steps(shape)
    match layer:
        case Pad():
            return padded(shape, into, layer.padding, layer.value, config)
        case Transpose():
            steps, start = [dense[axis] for axis in layer.permutation], 0
        case StridedSlice():
            steps = [stride * step for stride, step in zip(layer.stride, dense, strict=True)]
            start = sum(begin * step for begin, step in zip(layer.begin, dense, strict=True))
    return strided(into, steps, _steps(into), start, 0, config)


def _steps(shape: tuple[int, ...]) -> list[int]:
    """Elements from one place of each axis to the next, in a dense tensor."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
