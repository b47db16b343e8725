"""SBNQ: batch normalisation and quantization as one subtraction and one shift.

Ref: Guo, Wang, Cui, "Integer-Only Neural Network Quantization Scheme Based on Shift-Batch-Normalization" [sbnq].

The forward pass simulates the integers in float32, which is exact: every operand, sum and power of two stays an
integer (or a quotient by a power of two) below 2**24 in magnitude. The backward pass is a straight-through
estimator: a rounding has the gradient of the identity, a clamp has none where it saturates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from intaglio import network
from intaglio.network.formats.integernet import ACCUMULATOR_BITS
from intaglio.train.chain import IntegerLayer, Place, accumulate, integers, places, pooled
from intaglio.train.chain import to_network as to_chain
from intaglio.train.definition import Layers

LEARNING_RATE = 0.1
"""Of weights that are drawn with a deviation of ``2**(N - 3)`` steps."""
OFFSET_LEARNING_RATE = 0.01
FROZEN_SHARE = 0.5
"""The last epochs' share that trains with frozen averages; inference has no batch to normalise by."""
MOMENTUM = 0.1
"""Weight of the newest batch in the moving averages of mean and deviation."""
SMALLEST_SIGMA = 2.0**-4
"""A channel whose sums never vary has no logarithm of its deviation."""


def through(rounded: Tensor, smooth: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `smooth`: the straight-through estimator."""
    return smooth + (rounded - smooth).detach()


def ap2(sigma: Tensor) -> Tensor:
    """``AP2(x) = round(log2 x)``, the exponent of the nearest power of two [sbnq: eq. 7]."""
    return exponent(sigma).round()


def exponent(sigma: Tensor) -> Tensor:
    """``log2 x``, which AP2 rounds."""
    return torch.log2(sigma.clamp(min=SMALLEST_SIGMA))


def shift_amount(sigma: Tensor, bits: int, relu: bool, rounded: bool = True) -> Tensor:
    """The right shift that normalises by `sigma` and scales to `bits` bits; negative where it is a left shift.

    [sbnq: eq. 15, 18] print ``N - 3 + AP2`` and ``N - 2 + AP2``; dividing by ``S = 2**(3 - N)`` (eq. 13) and
    ``2**(2 - N)`` (eq. 17) gives what is here, and what the authors' exported network holds. Not
    `rounded`, it divides by `sigma` itself.
    """
    return ((ap2(sigma) if rounded else exponent(sigma)) + (2 if relu else 3) - bits).clamp(-31, 31)


def quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """``round(w)`` in ``[-2**(N-1)+1, 2**(N-1)-1]`` [sbnq: eq. 21]."""
    limit = 2 ** (bits - 1) - 1
    clipped = weight.clamp(-limit, limit)
    return through(clipped.round(), clipped)


def quantize_activation(acc: Tensor, bias: Tensor, shift: Tensor, bits: int, relu: bool) -> Tensor:
    """``clamp((acc - bias) >> shift)`` [sbnq: eq. 16], or ``ReLU(acc - bias) >> shift``, clamped [sbnq: eq. 19].

    `acc` is (batch, channels, ...); `bias` and `shift` one integer a channel; all are float32 that hold integers.
    """
    axes = (1, -1, *(1,) * (acc.ndim - 2))
    scaled = (acc - bias.view(axes)) * torch.exp2(-shift).view(axes)
    low, high = (0, 2**bits - 1) if relu else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    # The last step is up to, not beyond, high + 1: values between round down into range and keep their gradient.
    clipped = scaled.clamp(low, high + 1 - 2.0**-16)
    return through(scaled.floor().clamp(low, high), clipped)


class SbnqLayer(nn.Module):
    """A convolution or a matrix, and the quantizer after it; ReLU, behind all but the last, makes its output unsigned.

    Max pooling, where it follows, is computed before the quantizer.

    In training it first normalises by its batch [sbnq: eq. 14], and moves the averages; in evaluation, and when it is
    frozen, by the two integers a channel that inference has [sbnq: eq. 15]. Beside the paper it has

    - in training before it is frozen the deviation itself for AP2's power of two: a batch's deviation crosses the
      border of two powers from one step to the next, and channels would double or halve. `freeze` makes up for it;
    - `offset`, the β of batch normalisation in deviations, which inference has in its bias.
    """

    mean: Tensor
    sigma: Tensor
    frozen: Tensor

    def __init__(self, place: Place, bits: int) -> None:
        super().__init__()
        self.place, self.bits, self.relu = place, bits, not place.last
        self.weight = nn.Parameter(torch.empty(place.shape))
        # [sbnq: eq. 20]: then [-2**(N-1)+1, 2**(N-1)-1] holds four deviations.
        nn.init.normal_(self.weight, std=2.0 ** (bits - 3))
        self.offset = nn.Parameter(torch.zeros(place.shape[0]))
        self.register_buffer("mean", torch.zeros(place.shape[0]))
        self.register_buffer("frozen", torch.tensor(False))  # kept by checkpoints: weights are scaled once
        self.register_buffer("sigma", torch.ones(place.shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        acc = accumulate(x, quantize_weight(self.weight, self.bits))
        if self.frozen or not self.training:
            bias, shift = self.inference_parameters()
        else:
            axes = [axis for axis in range(acc.ndim) if axis != 1]
            mean = acc.mean(axes)
            centred = acc - mean.view(1, -1, *(1,) * (acc.ndim - 2))
            sigma = centred.square().mean(axes).clamp(min=SMALLEST_SIGMA**2).sqrt()
            self.mean.lerp_(mean.detach(), MOMENTUM)
            self.sigma.lerp_(sigma.detach(), MOMENTUM)
            bias = self.bias(mean, sigma)
            shift = shift_amount(sigma, self.bits, self.relu, rounded=False)
        return quantize_activation(pooled(acc, self.place.pools), bias, shift, self.bits, self.relu)

    def bias(self, mean: Tensor, sigma: Tensor) -> Tensor:
        """``round(mean + offset * sigma)``, rounded straight through."""
        smooth = mean + self.offset * sigma
        return through(smooth.round(), smooth)

    def inference_parameters(self) -> tuple[Tensor, Tensor]:
        """The integers ``bias`` and ``shift`` of the moving averages [sbnq: eq. 15, 18]."""
        return self.bias(self.mean, self.sigma), shift_amount(self.sigma, self.bits, self.relu)

    def freeze(self) -> None:
        """From here on, train the weights against the integers that inference has.

        Each channel's weights are scaled so that its deviation is AP2's power of two: what it computes stays.
        """
        if not self.frozen:
            self.frozen.fill_(True)
            with torch.no_grad():
                factor = torch.exp2(ap2(self.sigma) - exponent(self.sigma))
                self.weight.mul_(factor.view(-1, *(1,) * (self.weight.ndim - 1)))
                self.mean.mul_(factor)
                self.sigma.mul_(factor)


class SbnqNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels); reads and writes integers in float32."""

    def __init__(self, layers: Layers, input_shape: tuple[int, int, int], bits: int) -> None:
        super().__init__()
        self.input_shape, self.bits = input_shape, bits
        self.stages = nn.Sequential(*(SbnqLayer(place, bits) for place in places(layers, input_shape)))
        self.final = False

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes)."""
        return self.stages(images.permute(0, 3, 1, 2))

    def begin_epoch(self, done: float) -> None:
        """For the last `FROZEN_SHARE` of the epochs, train the weights against the integers that inference has."""
        self.final = done > 0 and done >= 1 - FROZEN_SHARE
        if self.final:
            for stage in self.stages:
                stage.freeze()


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int) -> SbnqNetwork:
    """A network to train, its weights drawn from torch's global generator."""
    return SbnqNetwork(layers, input_shape, bits)


def parameter_groups(model: SbnqNetwork) -> list[dict[str, Any]]:
    """Offsets are in deviations, weights in steps: each has its learning rate."""
    return [
        {"params": [stage.weight for stage in model.stages]},
        {"params": [stage.offset for stage in model.stages], "lr": OFFSET_LEARNING_RATE},
    ]


def to_network(model: SbnqNetwork, name: str) -> network.Network:
    """The integer network that `model` simulates in evaluation."""
    weight_type = network.TensorType(model.bits, signed=True)

    def chain() -> Iterator[IntegerLayer]:
        for stage in model.stages:
            bias, shift = map(integers, stage.inference_parameters())
            yield IntegerLayer(
                stage.place,
                integers(quantize_weight(stage.weight, model.bits)),
                weight_type,
                network.SbnqRescale(bias, shift, stage.relu),
                ACCUMULATOR_BITS,
                network.TensorType(model.bits, signed=not stage.relu),
            )

    source = network.Tensor("input", model.input_shape, network.TensorType(8, signed=False))
    return to_chain(name, source, chain())
