"""What the plans of all operator families have: the layer's name, its tensors as they are stored, its reach."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from intaglio.compiler.views import Block, Extents
from intaglio.compiler.windows import Reach
from intaglio.network import NetworkError, Tensor, TensorType
from intaglio.spec.config import AcceleratorConfig


class Unsupported(NetworkError):
    """What a machine cannot run of a layer, a sentence each; the layer's name goes in front where it is reported."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def refuse(problems: Iterable[str]) -> None:
    """Raises Unsupported if there are any problems."""
    if found := tuple(problems):
        raise Unsupported(found)


@dataclass(frozen=True)
class Stored:
    """A tensor as a machine stores it: `digits` elements of the scratchpad a value."""

    tensor: Tensor
    digits: int

    @staticmethod
    def of(tensor: Tensor, config: AcceleratorConfig) -> Stored:
        return Stored(tensor, -(-tensor.type.bits // config.element_bits))

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def type(self) -> TensorType:
        return self.tensor.type

    @property
    def elements(self) -> int:
        return self.tensor.size * self.digits

    @property
    def extents(self) -> Extents:
        """An image is itself, a vector one pixel; of more axes, all but the last two are rows."""
        shape = (1, 1, 1, *self.shape)
        return Extents(math.prod(shape[:-2]), shape[-2], shape[-1] * self.digits)


@dataclass(frozen=True)
class LayerFacts:
    """Of a layer, whatever its family: what reports say of it, and the tensors that it reads and writes."""

    name: str
    op: str
    macs: int
    inputs: tuple[Stored, ...]
    output: Stored

    @property
    def extents(self) -> tuple[tuple[Extents, ...], Extents]:
        """The operands and the output as rows, columns and pixels."""
        return tuple(source.extents for source in self.inputs), self.output.extents


@dataclass(frozen=True)
class LayerPlan:
    """A layer as a machine runs it.

    Attributes
    ----------
    facts : the layer's
    sources, target : its tensors as its own walk sees them (a vector may be an image of one pixel)
    reach : what a block of the output needs of each operand
    warnings : what the network's user should know, a sentence each
    """

    facts: LayerFacts
    sources: tuple[Extents, ...]
    target: Extents
    reach: Reach
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def owner(self) -> str:
        """What messages about its commands call it."""
        return f"layer {self.name}"

    @property
    def inputs(self) -> tuple[Stored, ...]:
        return self.facts.inputs

    @property
    def output(self) -> Stored:
        return self.facts.output

    @property
    def names(self) -> tuple[str, ...]:
        """Of its operands, then of its output."""
        return (*(source.name for source in self.inputs), self.output.name)

    def needs(self, block: Block) -> list[Block]:
        """What of each operand a block of the output needs."""
        return [self.reach.needs(block, source) for source in self.sources]

    def rows_ready(self, available: list[int], start: int) -> int:
        """Output rows, from `start` on, that need no more than so many first elements of the operands.

        The last row waits for the end of the operands even if it needs no more of them: layers end in order.
        """
        if all(have == source.elements for have, source in zip(available, self.sources, strict=True)):
            return self.target.rows
        if not self.reach.divides:
            return start
        rows = [have // (s.columns * s.pixel) for have, s in zip(available, self.sources, strict=True)]
        ready = start
        while ready < self.target.rows - 1:
            wanted = self.needs(Block(ready, 1, 0, self.target.columns))
            if any(need.row + need.rows > have for need, have in zip(wanted, rows, strict=True)):
                break
            ready += 1
        return ready
