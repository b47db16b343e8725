"""A whole network: named tensors, and layers in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from intaglio.network.errors import NetworkError
from intaglio.network.graph.checks import check_layer, check_range
from intaglio.network.graph.layers import AnyLayer
from intaglio.network.graph.tensors import Integers, Tensor


@dataclass(frozen=True)
class Network:
    """A checked graph: layers in the order in which they run, every tensor by name.

    Attributes
    ----------
    name : what reports call it
    tensors : every tensor that is an input, a constant or written by a layer
    layers : each reads inputs, constants and what layers before it wrote
    inputs, outputs : names of tensors
    source_format : the format of the file that it came from
    constants : tensors that are the same in every inference, each of its tensor's shape

    Raises
    ------
    NetworkError
        One line, naming the layer, where shapes, types, channel counts, numbers or names do not fit together.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[AnyLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source_format: str = field(default="")
    constants: Mapping[str, Integers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {*self.inputs, *self.constants}
        if not self.layers:
            raise NetworkError(f"network {self.name} has no layers")
        for name, values in self.constants.items():
            tensor = self.tensors[name]
            if values.shape != tensor.shape:
                raise NetworkError(
                    f"constant {name}: its values are {values.shape}, its tensor {tensor.shape}"
                )
            check_range(f"constant {name}", values, tensor.type.min, tensor.type.max)
        for layer in self.layers:
            for name in layer.inputs:
                if name not in known:
                    raise NetworkError(f"layer {layer.name}: its input {name} is not computed before it")
            if layer.output in known:
                raise NetworkError(f"layer {layer.name}: its output {layer.output} is already written")
            known.add(layer.output)
            check_layer(layer, [self.tensors[name] for name in layer.inputs], self.tensors[layer.output])
        for name in self.outputs:
            if name not in known:
                raise NetworkError(f"network {self.name}: its output {name} is not computed")

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding counted."""
        return sum(layer.macs(self.tensors[layer.output].shape) for layer in self.layers)
