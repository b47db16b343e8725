"""A definition as a chain of layers with weights, and such a chain as a network of integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from intaglio import network
from intaglio.network.graph import Integers, Rescale
from intaglio.train.definition import Conv, Dense, Layers, Pool


@dataclass(frozen=True)
class Place:
    """One layer with weights: where it stands in the definition.

    Attributes
    ----------
    shape : of its weights, torch's order: (output, input channels, kernel, kernel) or (output, input features)
    last : whether it is the last, which has no ReLU
    pools : how many poolings follow it. Where what stands between never falls as its operand rises (ReLU, a
        quantizer), pooling before that gives the same, of a quarter of the elements.
    """

    shape: tuple[int, ...]
    last: bool
    pools: int


def places(layers: Layers, input_shape: tuple[int, int, int]) -> list[Place]:
    """The layers with weights of `layers` over images of `input_shape` (height, width, channels)."""
    height, width, channels = input_shape
    shapes: list[tuple[int, ...]] = []
    pools: list[int] = []
    for layer in layers:
        if isinstance(layer, Pool):
            if not shapes:
                raise ValueError("a definition begins with a layer with weights, not with Pool()")
            pools[-1] += 1
            height, width = height // 2, width // 2
            continue
        if isinstance(layer, Conv):
            shapes.append((layer.channels, channels, layer.kernel, layer.kernel))
            channels = layer.channels
        elif isinstance(layer, Dense):
            shapes.append((layer.features, height * width * channels))
            height, width, channels = 1, 1, layer.features
        pools.append(0)
    return [
        Place(shape, index == len(shapes) - 1, count)
        for index, (shape, count) in enumerate(zip(shapes, pools, strict=True))
    ]


def accumulate(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution that keeps height and width, or the matrix of the flattened input; by the weights' shape."""
    if weight.ndim == 4:
        return functional.conv2d(x, weight, bias, padding=(weight.shape[2] - 1) // 2)
    return functional.linear(x.flatten(1), weight, bias)


def pooled(x: Tensor, pools: int) -> Tensor:
    """Max pooling 2×2, stride 2, `pools` times."""
    for _ in range(pools):
        x = functional.max_pool2d(x, 2)
    return x


@dataclass(frozen=True)
class IntegerLayer:
    """A layer as it is exported: `weights` of `place`'s shape; `type`, `scale`, `zero_point` are its output's."""

    place: Place
    weights: Integers
    weight_type: network.WeightType
    rescale: Rescale
    accumulator_bits: int
    type: network.TensorType
    scale: float | None = None
    zero_point: int = 0


def to_network(name: str, source: network.Tensor, chain: Iterable[IntegerLayer]) -> network.Network:
    """The network of `chain` behind the input `source`; tensors and layers are conv1, pool1, fc1, ..."""
    tensors: dict[str, network.Tensor] = {source.name: source}
    layers: list[network.Conv2D | network.FullyConnected | network.MaxPool2D] = []
    counts = {"conv": 0, "fc": 0, "pool": 0}
    first = source.name

    def titled(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}{counts[kind]}"

    for item in chain:
        weights = item.weights
        if weights.ndim == 4:
            title = titled("conv")
            layer: network.Conv2D | network.FullyConnected = network.Conv2D(
                title,
                (source.name,),
                title,
                np.ascontiguousarray(weights.transpose(0, 2, 3, 1)),
                item.weight_type,
                item.rescale,
                item.accumulator_bits,
                padding=((weights.shape[2] - 1) // 2,) * 4,
            )
        else:
            title = titled("fc")
            # torch flattens (C, H, W), the graph (H, W, C).
            height, width, channels = source.shape if len(source.shape) == 3 else (1, 1, source.size)
            hwc = weights.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(weights.shape)
            layer = network.FullyConnected(
                title, (source.name,), title, hwc, item.weight_type, item.rescale, item.accumulator_bits
            )
        shape = layer.output_shape(source.shape)
        source = tensors[title] = network.Tensor(title, shape, item.type, item.scale, item.zero_point)
        layers.append(layer)
        for _ in range(item.place.pools):
            title = titled("pool")
            pool = network.MaxPool2D(title, (source.name,), title, kernel=(2, 2), stride=(2, 2))
            shape = pool.output_shape(source.shape)
            source = tensors[title] = network.Tensor(title, shape, item.type, item.scale, item.zero_point)
            layers.append(pool)
    return network.Network(name, tensors, tuple(layers), (first,), (source.name,))


def integers(values: Tensor) -> Integers:
    """What a tensor of whole numbers holds."""
    return values.detach().numpy().astype(np.int64)
