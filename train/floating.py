"""The float network that the other schemes are measured against: convolution, batch normalisation, ReLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intaglio.train.chain import Place, accumulate, places, pooled
from intaglio.train.definition import Layers

LEARNING_RATE = 0.003


class Pixels(nn.Module):
    """Pixels divided by `white`, the greatest seen in training: 0...1, channels first."""

    white: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("white", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.white.copy_(torch.maximum(self.white, images.amax()))
        return images.permute(0, 3, 1, 2) / self.white


def initial_weight(shape: tuple[int, ...]) -> nn.Parameter:
    """Normal, its deviation such that ReLU keeps the signal's power."""
    weight = nn.Parameter(torch.empty(shape))
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    return weight


class FloatLayer(nn.Module):
    """Weights, batch normalisation, max pooling, ReLU; the last layer has a bias in place of all but the weights."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.weight = initial_weight(place.shape)
        channels = place.shape[0]
        norm = nn.BatchNorm2d if len(place.shape) == 4 else nn.BatchNorm1d
        self.norm = None if place.last else norm(channels)
        self.bias = nn.Parameter(torch.zeros(channels)) if place.last else None

    def forward(self, x: Tensor) -> Tensor:
        x = accumulate(x, self.weight, self.bias)
        return x if self.norm is None else pooled(self.norm(x), self.place.pools).relu()


class FloatNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels); it always trains as it infers, but for batch
    normalisation, whose averages stand in for the batch's in inference."""

    final = True

    def __init__(self, layers: Layers, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = [FloatLayer(place) for place in places(layers, input_shape)]
        self.stages = nn.Sequential(Pixels(), *stages)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes)."""
        return self.stages(images)

    def begin_epoch(self, done: float) -> None:
        """Nothing is delayed."""


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int) -> FloatNetwork:
    """A network to train, its weights drawn from torch's global generator; `bits` are those of a float."""
    return FloatNetwork(layers, input_shape)
