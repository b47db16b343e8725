"""Network -> plans: the family of each layer is decided here, once, and all that a machine cannot run is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from intaglio.compiler.operators import Plan, alias, array, copy, elementwise, join, pool, table
from intaglio.compiler.operators.layer import LayerFacts, Stored, Unsupported
from intaglio.golden.bounds import channel_bounds
from intaglio.network import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    NetworkError,
    Pad,
    Requantize,
    Reshape,
    Softmax,
    StridedSlice,
    Sub,
    Tanh,
    Transpose,
)
from intaglio.network.graph import AnyLayer, Integers
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Plans:
    """A network as one machine runs it: all that the stages behind this one know of it.

    Attributes
    ----------
    name : the network's
    layers : a plan each, in their order
    tensors : by name
    inputs, outputs : names of tensors; an output may be named twice
    constants : values of tensors that are the same in every inference
    warnings : what the network's user should know
    """

    name: str
    layers: tuple[Plan, ...]
    tensors: Mapping[str, Stored]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Integers]
    warnings: tuple[str, ...]


def plan_network(network: Network, config: AcceleratorConfig) -> Plans:
    """Raises NetworkError, in one line, with everything that keeps the machine from running any of the layers."""
    plans: list[Plan] = []
    problems: list[str] = []
    warnings: list[str] = []
    for layer in network.layers:
        where = f"layer {layer.name}: "
        try:
            plans.append(plan_layer(layer, network, config))
        except Unsupported as error:
            problems += [where + problem for problem in error.problems]
        except NetworkError as error:
            problems.append(f"{where}{error}")
        else:
            warnings += [where + text for text in plans[-1].warnings]
    if problems:
        raise NetworkError("; ".join(problems))
    return Plans(
        network.name,
        tuple(plans),
        {name: Stored.of(tensor, config) for name, tensor in network.tensors.items()},
        network.inputs,
        network.outputs,
        network.constants,
        tuple(warnings),
    )


def plan_layer(layer: AnyLayer, network: Network, config: AcceleratorConfig) -> Plan:
    """Raises NetworkError with what the machine cannot run of the layer."""
    output = network.tensors[layer.output]
    facts = LayerFacts(
        layer.name,
        layer.op,
        layer.macs(output.shape),
        tuple(Stored.of(network.tensors[name], config) for name in layer.inputs),
        Stored.of(output, config),
    )
    match layer:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            joined = any(
                isinstance(other, Concatenation | Reshape) and layer.output in other.inputs
                for other in network.layers
            )
            return array.plan_weighted(layer, facts, channel_bounds(layer, network), joined, config)
        case AveragePool2D() | Mean():
            return array.plan_average(layer, facts, config)
        case MaxPool2D():
            return pool.plan(layer, facts, config)
        case Add() | Sub() | Mul():
            return elementwise.plan(layer, facts, config)
        case Requantize() | LeakyRelu() | HardSwish() | Logistic() | Tanh() | Softmax():
            return table.plan(layer, facts, config)
        case Pad() | StridedSlice() | Transpose():
            return copy.plan(layer, facts, config)
        case Concatenation():
            return join.plan(layer, facts, config)
        case Reshape():
            return alias.plan(facts)
        case _:
            assert_never(layer)
