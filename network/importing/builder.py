"""A graph while a file is read: its tensors, constants and layers so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.network.graph import AnyLayer, Integers, Network, Tensor
from intaglio.network.importing.naming import Names


@dataclass(frozen=True)
class Value:
    """A computed tensor: its name in the graph, its shape without the batch, whether its file's shape has one."""

    name: str
    shape: tuple[int, ...]
    batched: bool

    @property
    def rank(self) -> int:
        """Its axes as the file counts them."""
        return len(self.shape) + self.batched


class GraphBuilder:
    """Collects tensors and layers in the order in which they run. `names`: those that the file gives to tensors."""

    def __init__(self, names: Sequence[str]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names = Names(names)
        self._constants: dict[str, Integers] = {}
        self._layers: list[AnyLayer] = []

    def tensor(self, tensor: Tensor) -> None:
        """A tensor of the file, under the file's name."""
        self.tensors[tensor.name] = tensor

    def between(self, tensor: Tensor) -> str:
        """A tensor that the file does not have; the name that it gets, its own unless that is taken."""
        name = self._names.take(tensor.name)
        self.tensors[name] = Tensor(name, tensor.shape, tensor.type, tensor.scale, tensor.zero_point)
        return name

    def constant(self, tensor: Tensor, values: Integers) -> None:
        """A tensor of the file that is the same in every inference."""
        self.tensors[tensor.name], self._constants[tensor.name] = tensor, values

    def is_constant(self, name: str) -> bool:
        return name in self._constants

    def layer(self, layer: AnyLayer) -> None:
        self._layers.append(layer)

    def network(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], source_format: str
    ) -> Network:
        """The whole, checked; raises what `Network` raises."""
        return Network(
            name=name,
            tensors=self.tensors,
            layers=tuple(self._layers),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            source_format=source_format,
            constants=self._constants,
        )
