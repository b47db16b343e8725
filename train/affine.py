"""Affine int8: training with simulated quantization, batch normalisation folded.

Ref: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
[jacob2017: sections 3, 3.1, 3.2]. Weights are symmetric, a scale each output channel; activations are int8 with a
scale and zero point each tensor. The fake quantization itself, with its straight-through gradient, is torch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from intaglio import network
from intaglio.network.graph import Floats, Integers
from intaglio.train.chain import IntegerLayer, Place, accumulate, places, pooled
from intaglio.train.chain import to_network as to_chain
from intaglio.train.definition import Layers
from intaglio.train.floating import Pixels, initial_weight

LEARNING_RATE = 0.003
SETTLED_FROM = 0.5
"""The share of the epochs before which activations are not quantized, since their ranges still move [jacob2017: 3.1],
and batch normalisation is folded with the batch's own moments, which pass a gradient; from then on with averages."""
MOMENT_MOMENTUM = 0.1
"""Weight of the newest batch in the averages that batch normalisation is folded with."""
RANGE_MOMENTUM = 0.01
"""Weight of the newest batch in the averages of an activation's ends: smoothed over hundreds of steps."""
EPSILON = 1e-5
"""Added to the variance [jacob2017: eq. 14]."""
ACTIVATION = network.TensorType(8, signed=True)
WEIGHT_LIMIT = 127
"""Weights never take the value -128 [jacob2017: 3.1, app. B]."""
SMALLEST_SCALE = 2.0**-20
"""Of a weight: a channel of zeros has no range to take a scale from."""
ACCUMULATOR_BITS = 32


class Average(nn.Module):
    """An exponential moving average that begins with the first value that it sees."""

    value: Tensor
    seen: Tensor

    def __init__(self, value: Tensor, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", value)
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def update(self, newest: Tensor) -> None:
        """``value += momentum * (newest - value)``; the first time, ``value = newest``."""
        weight = torch.where(self.seen, self.momentum, 1.0)
        self.value.lerp_(newest.detach(), weight)
        self.seen.fill_(True)


def nudged(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range [jacob2017: eq. 12, 13], shifted so that 0.0 is an integer [jacob2017: 3.1].

    ``S = (b - a) / 255``, ``Z = round(-128 - a / S)``, after the range has been widened to hold 0.
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    steps = ACTIVATION.max - ACTIVATION.min
    scale = ((high - low) / steps).clamp(min=SMALLEST_SCALE)
    zero_point = (ACTIVATION.min - low / scale).round().clamp(ACTIVATION.min, ACTIVATION.max)
    return scale, zero_point.to(torch.int32)


def weight_scale(weight: Tensor) -> Tensor:
    """A scale each output channel (the first axis): its greatest magnitude is 127 steps."""
    return (weight.detach().abs().flatten(1).amax(1) / WEIGHT_LIMIT).clamp(min=SMALLEST_SCALE)


def fake_quantized_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """`weight` rounded to `scale`'s steps, -127...127 of them; a zero point of 0 [jacob2017: eq. 12]."""
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)


class Activations(nn.Module):
    """Fake quantization of activations by the averages of the ends of their range [jacob2017: eq. 12, 13].

    In training it observes each batch, and passes it unchanged until `final`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.final = False
        self.ends = Average(torch.tensor([0.0, 1.0]), RANGE_MOMENTUM)

    def parameters_of_range(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point."""
        return nudged(self.ends.value[0], self.ends.value[1])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.ends.update(torch.stack(torch.aminmax(x.detach())))
            if not self.final:
                return x
        scale, zero_point = self.parameters_of_range()
        return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, ACTIVATION.min, ACTIVATION.max)


class AffineLayer(nn.Module):
    """Weights with batch normalisation folded, max pooling, ReLU, activations; the last layer has a bias alone.

    Max pooling is computed before ReLU and quantization, which never fall as their operand rises.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, self.final = place, False
        channels = place.shape[0]
        self.weight = initial_weight(place.shape)
        self.beta = nn.Parameter(torch.zeros(channels))
        if not place.last:
            self.gamma = nn.Parameter(torch.ones(channels))
            self.mean = Average(torch.zeros(channels), MOMENT_MOMENTUM)
            self.variance = Average(torch.ones(channels), MOMENT_MOMENTUM)
        self.activations = Activations()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of this batch's convolution, which the averages move by [jacob2017: fig. C.7, C.8]."""
        with torch.set_grad_enabled(not self.final):
            acc = accumulate(x, self.weight)
            axes = [axis for axis in range(acc.ndim) if axis != 1]
            mean = acc.mean(axes)
            variance = (acc - mean.view(1, -1, *(1,) * (acc.ndim - 2))).square().mean(axes)
        self.mean.update(mean)
        self.variance.update(variance)
        return mean, variance

    def folded(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """``w * γ / sqrt(σ² + ε)`` [jacob2017: eq. 14] and its bias ``β - γ * μ / sqrt(σ² + ε)``."""
        factor = self.gamma / (variance + EPSILON).sqrt()
        return self.weight * factor.view(-1, *(1,) * (self.weight.ndim - 1)), self.beta - factor * mean

    def inference_parameters(self) -> tuple[Tensor, Tensor]:
        """Weights and biases folded with the averages; the last layer's are as they are."""
        if self.place.last:
            return self.weight, self.beta
        return self.folded(self.mean.value, self.variance.value)

    def forward(self, x: Tensor) -> Tensor:
        newest = self.moments(x) if self.training and not self.place.last else None
        weight, bias = self.inference_parameters() if newest is None or self.final else self.folded(*newest)
        x = accumulate(x, fake_quantized_weight(weight, weight_scale(weight)), bias)
        x = pooled(x, self.place.pools)
        return self.activations(x if self.place.last else x.relu())


class AffineNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels)."""

    def __init__(self, layers: Layers, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.pixels = Pixels()
        self.layers = nn.ModuleList(AffineLayer(place) for place in places(layers, input_shape))
        self.final = False

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes)."""
        x = self.pixels(images)
        for layer in self.layers:
            x = layer(x)
        return x

    def begin_epoch(self, done: float) -> None:
        """From `SETTLED_FROM` on, the averages are folded and activations quantized, as they are in inference."""
        self.final = done >= SETTLED_FROM
        for layer in self.layers:
            layer.final = layer.activations.final = self.final


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int) -> AffineNetwork:
    """A network to train, its weights drawn from torch's global generator; `bits` must be 8."""
    if bits != ACTIVATION.bits:
        raise ValueError(f"`bits` of the affine scheme must be {ACTIVATION.bits}, not {bits}")
    return AffineNetwork(layers, input_shape)


def fixed_point(factor: Floats) -> tuple[Integers, Integers]:
    """Multiplier and exponent of each real factor: ``factor = M0 * 2**(exponent - 31)`` [jacob2017: eq. 5, 6]."""
    multipliers, exponents = [], []
    for value in factor.tolist():
        fraction, exponent = math.frexp(value)
        multiplier = math.floor(fraction * 2**31 + 0.5)
        if multiplier == 2**31:
            multiplier, exponent = multiplier // 2, exponent + 1
        multipliers.append(multiplier)
        exponents.append(exponent)
    return np.array(multipliers, np.int64), np.array(exponents, np.int64)


def to_network(model: AffineNetwork, name: str) -> network.Network:
    """The int8 network that `model` simulates in evaluation, but for the roundings of its float32.

    Its input is ``pixel - 128``, of scale ``1 / white``.
    """
    source = network.Tensor(
        "input", model.input_shape, ACTIVATION, 1 / float(model.pixels.white), ACTIVATION.min
    )

    def chain() -> Iterator[IntegerLayer]:
        scale_in, zero_in = float(source.scale or 1), source.zero_point
        for layer in model.layers:
            weight, bias = layer.inference_parameters()
            scales = weight_scale(weight)
            steps = fake_quantized_weight(weight, scales).detach().double().numpy()
            by_channel = scales.double().numpy()
            weights = np.rint(steps / by_channel.reshape(-1, *(1,) * (steps.ndim - 1))).astype(np.int64)
            scale_out, zero_out = (end.item() for end in layer.activations.parameters_of_range())
            whole = np.rint(bias.detach().double().numpy() / (scale_in * by_channel)).astype(np.int64)
            multiplier, exponent = fixed_point(scale_in * by_channel / scale_out)
            rescale = network.AffineRescale(
                # The zero point's part of every sum [jacob2017: eq. 7] is in the bias.
                bias=whole - zero_in * weights.reshape(len(weights), -1).sum(1),
                multiplier=multiplier,
                exponent=exponent,
                double_rounding=True,
                low=ACTIVATION.min if layer.place.last else zero_out,
                high=ACTIVATION.max,
            )
            yield IntegerLayer(
                layer.place,
                weights,
                network.TensorType(8, signed=True),
                rescale,
                ACCUMULATOR_BITS,
                ACTIVATION,
                scale_out,
                zero_out,
            )
            scale_in, zero_in = scale_out, zero_out

    return to_chain(name, source, chain())
