"""ITBWN: binary or ternary weights, int8 activations, the last layer's weights int8.

Ref: Fuengfusin, Tamukoh, "INT8 Activation Ternary or Binary Weights Networks" [itbwn]. Its authors quantized with
Brevitas, and so does this; what of Brevitas' own quantizers means something else is configured or replaced here.

A layer is convolution (or matrix), batch normalisation, ReLU and Brevitas' unsigned 8-bit quantizer. In training the
statistics are the batch's; in evaluation, and from `FROZEN_FROM` on, batch normalisation is what inference has: a
bias in whole steps of the accumulator and a factor a channel, which the affine rescale multiplies by.
"""

from __future__ import annotations

from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.core.quant import BinaryQuant, TernaryQuant
from brevitas.core.scaling import ParameterFromRuntimeStatsScaling
from brevitas.function.ops_ste import ternary_sign_ste
from brevitas.inject.enum import BitWidthImplType, RestrictValueType, ScalingImplType
from brevitas.quant.scaled_int import (
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.solver import WeightQuantSolver
from torch import Tensor, nn
from torch.nn import functional

import network
from network.graph import Floats, Integers
from train.definition import Conv, Dense, Layers, Pool
from train.sbnq import through

LEARNING_RATE = 0.005
FROZEN_FROM = 0.8
"""The share of the epochs after which the statistics stay, and the weights train against the integers of inference."""
MOMENTUM = 0.1
"""Weight of the newest batch in the moving averages of mean and variance."""
EPSILON = 1e-5
"""Added to the variance: a channel whose sums never vary has none."""
DELTA = 0.7
"""Of the mean magnitude: below it a ternary weight is 0 [itbwn: eq. 6]."""
PIXEL_SCALE = 1 / 255
ZERO_POINT = -128
"""An unsigned 8-bit value q is stored as the int8 ``q - 128``."""
INT8 = network.TensorType(8, signed=True)
NARROW = network.TensorType(2, signed=True)
ACCUMULATOR_BITS = 32
LEAST_FACTOR = 2.0**-21
"""Of the rescale, in steps of the output: smaller ones become this, by which sums still add up to nothing."""
FARTHEST_BIAS = 1 << 30
"""Times `LEAST_FACTOR` it saturates any sum; beside a sum it fits 32 bits."""


VANISHING = 2.0**-80
"""A channel with less than this for a factor is a constant."""


class TwnQuant(TernaryQuant):
    """``w > Δ: 1, |w| <= Δ: 0, w < -Δ: -1`` with ``Δ = 0.7 E|w|`` over the layer [itbwn: eq. 5, 6].

    Brevitas' own multiplies by the very scale that its threshold is measured in, where ITBWN "did not use any scaling
    factors S"; and it passes no gradient to weights that are 0, where eq. 4 makes it the identity for all.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        delta = self.threshold * x.detach().abs().mean()
        beyond = x - torch.clamp(x.detach(), -delta, delta)
        return ternary_sign_ste(beyond), self.scaling_impl(x), self.zero_point(), self.bit_width()


class _UnitScale(WeightQuantSolver):
    """Weights that are integers themselves."""

    bit_width_impl_type = BitWidthImplType.CONST
    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP
    scaling_const = 1.0
    signed = True
    narrow_range = True


class BinaryWeight(_UnitScale):
    """``sign(w)``, 0 counting as +1, the gradient the identity [itbwn: eq. 3, 4].

    Brevitas' `SignedBinaryWeightPerTensorConst` has a scale of 0.1 and clips weights to it: "we do not use clip functions".
    """

    tensor_quant = BinaryQuant
    bit_width = 1


class TernaryWeight(_UnitScale):
    """See `TwnQuant`; Brevitas' `SignedTernaryWeightPerTensorConst` rounds ``w / 0.1`` instead."""

    tensor_quant = TwnQuant
    threshold = DELTA
    bit_width = 2


class BatchNorm(nn.Module):
    """Batch normalisation of (batch, channels, ...) sums.

    With the averages, in evaluation and when `frozen`, it is ``factor * (x + bias)``, as inference has it: the bias a
    whole number of the sums' steps.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frozen = False
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    @property
    def by_batch(self) -> bool:
        return self.training and not self.frozen

    def folded(self) -> tuple[Tensor, Tensor]:
        """``factor`` and ``offset`` a channel: with the averages, x becomes ``factor * x + offset``."""
        factor = self.gamma / torch.sqrt(self.variance + EPSILON)
        return factor, self.beta - factor * self.mean

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """`step` is what 1 in the integer sums is worth."""
        if self.by_batch:
            return functional.batch_norm(
                x, self.mean, self.variance, self.gamma, self.beta, True, MOMENTUM, EPSILON
            )
        factor, offset = self.folded()
        unit = factor.detach() * step.detach()
        unit = torch.where(unit.abs() < VANISHING, VANISHING, unit)
        rounded = through(torch.round(offset / unit) * unit, offset)
        return torch.addcmul(_by_channel(rounded, x), x, _by_channel(factor, x))


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """`values`, one a channel, to broadcast with `x` (batch, channels, ...)."""
    return values.view(1, -1, *(1,) * (x.ndim - 2))


class Block(nn.Module):
    """A layer with narrow weights: sums, batch normalisation, `pools` times max pooling, ReLU and its quantizer.

    Pooling before the quantizer is pooling after it, since the quantizer keeps the order, and leaves it less to do.
    """

    def __init__(self, weights: nn.Module, channels: int) -> None:
        super().__init__()
        self.weights, self.norm, self.pools = weights, BatchNorm(channels), 0
        self.activation = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)

    def forward(self, x: Tensor, step: Tensor) -> Any:
        """Brevitas' tensor of values and their scale; `step` is the scale of `x`."""
        if isinstance(self.weights, qnn.QuantLinear):
            x = x.flatten(1)
        x = self.norm(self.weights(x), step)
        for _ in range(self.pools):
            x = functional.max_pool2d(x, 2)
        return self.activation(x if self.norm.by_batch else through(self._rounded(x.detach(), step), x))

    def _rounded(self, x: Tensor, step: Tensor) -> Tensor:
        """The first of the rescale's two roundings, SQRDMULH's; the quantizer does the second.

        SQRDMULH leaves the shift n more bits than the output has. The last of those that it can, a quarter of it is
        added, so that the quantizer, which rounds half to even, rounds half up: what is negative is clamped.
        """
        scale = self.activation.act_quant.scale().detach()
        factor = (self.norm.folded()[0].detach().abs() * step.detach() / scale).clamp(min=LEAST_FACTOR)
        unit = _by_channel(scale * torch.exp2(torch.frexp(factor).exponent.clamp(max=0)), x)
        return (torch.round(x / unit) + 0.25) * unit


class ItbwnNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels), its weights quantized by `weight_quant`.

    Raises
    ------
    ValueError
        Where `layers` do not begin with a Conv or Dense, or do not end with a Dense.
    """

    def __init__(self, layers: Layers, input_shape: tuple[int, int, int], weight_quant: type) -> None:
        super().__init__()
        if not layers or isinstance(layers[0], Pool) or not isinstance(layers[-1], Dense):
            raise ValueError("`layers` must begin with a layer with weights and end with a Dense")
        self.input_shape = input_shape
        height, width, channels = input_shape
        blocks: list[Block] = []
        for layer in layers[:-1]:
            if isinstance(layer, Pool):
                blocks[-1].pools += 1
                height, width = height // 2, width // 2
                continue
            weights: nn.Module
            if isinstance(layer, Conv):
                weights = qnn.QuantConv2d(
                    channels,
                    layer.channels,
                    layer.kernel,
                    padding=(layer.kernel - 1) // 2,
                    bias=False,
                    weight_quant=weight_quant,
                )
                channels = layer.channels
            else:
                weights = qnn.QuantLinear(
                    height * width * channels, layer.features, bias=False, weight_quant=weight_quant
                )
                height, width, channels = 1, 1, layer.features
            blocks.append(Block(weights, channels))
        self.blocks = nn.ModuleList(blocks)
        # "we use neither BC, TWN, nor TQT method in the last layer": Brevitas' default int8 weights.
        self.last = qnn.QuantLinear(
            height * width * channels,
            layers[-1].features,
            bias=True,
            weight_quant=Int8WeightPerTensorFloat,
            bias_quant=Int32Bias,
        )
        self.logits = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
        self.final = False
        self._collected: list[int] = []
        self.register_load_state_dict_post_hook(_go_on_collecting)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes)."""
        step = torch.tensor(PIXEL_SCALE)
        x = images.permute(0, 3, 1, 2) * PIXEL_SCALE
        for block in self.blocks:
            activation = block(x, step)
            x, step = activation.value, activation.scale
        return self.logits(self.last(activation.flatten(1))).value

    def begin_epoch(self, done: float) -> None:
        """From `FROZEN_FROM` on, train against the integers that inference has."""
        self.final = done >= FROZEN_FROM
        for block in self.blocks:
            block.norm.frozen = self.final

    def scalings(self) -> list[ParameterFromRuntimeStatsScaling]:
        """The activations' scales, which Brevitas first collects over some batches and then trains."""
        return [each for each in self.modules() if isinstance(each, ParameterFromRuntimeStatsScaling)]

    def get_extra_state(self) -> Tensor:
        """How many batches each scale has been collected over, which Brevitas' own state leaves out."""
        return torch.tensor([scaling.counter for scaling in self.scalings()])

    def set_extra_state(self, state: Tensor) -> None:
        self._collected = state.tolist()


def _go_on_collecting(model: ItbwnNetwork, _: Any) -> None:
    """Undo that loading a state ends the collection: what was collected is in the state as the parameter."""
    for scaling, counter in zip(model.scalings(), model._collected, strict=True):
        if counter <= scaling.collect_stats_steps:
            scaling.buffer.copy_(scaling.value.detach())
            nn.init.ones_(scaling.value)
            scaling.counter = counter


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int) -> ItbwnNetwork:
    """A network to train, its weights drawn from torch's global generator: ternary with 2 `bits`, binary with 1."""
    return ItbwnNetwork(layers, input_shape, {1: BinaryWeight, 2: TernaryWeight}[bits])


def _floats(values: Tensor) -> Floats:
    return values.detach().numpy().astype(np.float64)


def _rescale(real: Floats, bias: Floats, weights: Integers, low: int) -> network.AffineRescale:
    """``clamp(real * (sum + bias))``, `real` positive and one an output channel, of sums over an input at `ZERO_POINT`.

    The zero point is folded into the bias [jacob2017: eq. 7], the factor becomes ``M0 * 2**(e - 31)`` [jacob2017: eq. 6].
    """
    fraction, exponent = np.frexp(real)
    multiplier = np.floor(fraction * 2**31 + 0.5).astype(np.int64)
    whole = multiplier == 1 << 31
    return network.AffineRescale(
        np.rint(bias).astype(np.int64) - ZERO_POINT * weights.reshape(len(weights), -1).sum(1),
        np.where(whole, multiplier // 2, multiplier),
        np.where(whole, exponent + 1, exponent).astype(np.int64),
        double_rounding=True,
        low=low,
        high=INT8.max,
    )


def _narrow(block: Block, step: float) -> tuple[Integers, network.AffineRescale, float]:
    """A block's weights and rescale for an input with the scale `step`, and its output's scale.

    A negative factor turns the signs of its channel's weights, so that all factors are positive.
    """
    factor, offset = (_floats(each) for each in block.norm.folded())
    weights = _floats(block.weights.quant_weight().value).astype(np.int64)
    weights *= np.where(factor < 0, -1, 1).reshape(-1, *(1,) * (weights.ndim - 1))
    scale = block.activation.act_quant.scale().item()
    real = np.maximum(np.abs(factor) * step / scale, LEAST_FACTOR)
    bias = np.clip(offset / scale / real, -FARTHEST_BIAS, FARTHEST_BIAS)
    # ReLU is the clamp to the integer of 0.0.
    return weights, _rescale(real, bias, weights, low=ZERO_POINT), scale


def _last(model: ItbwnNetwork, step: float) -> tuple[Integers, network.AffineRescale, float]:
    """As `_narrow`, of the last layer."""
    quantized = model.last.quant_weight()
    weights = _floats(quantized.value / quantized.scale).round().astype(np.int64)
    scale, unit = model.logits.act_quant.scale().item(), step * quantized.scale.item()
    real = np.full(len(weights), unit / scale)
    return weights, _rescale(real, _floats(model.last.bias) / unit, weights, low=INT8.min), scale


class _Graph:
    """A chain of layers, to which each call appends one that reads the last one's output."""

    def __init__(self, source: network.Tensor, scale: float) -> None:
        self.source, self.scale = source, scale
        self.tensors = {source.name: source}
        self.layers: list[network.graph.AnyLayer] = []

    def _title(self, kind: str) -> str:
        return f"{kind}{1 + sum(layer.name.startswith(kind) for layer in self.layers)}"

    def _append(self, layer: network.graph.AnyLayer, scale: float, zero_point: int) -> None:
        shape = layer.output_shape(self.source.shape)
        self.source, self.scale = network.Tensor(layer.output, shape, INT8, scale, zero_point), scale
        self.tensors[layer.output] = self.source
        self.layers.append(layer)

    def pool(self) -> None:
        title = self._title("pool")
        layer = network.MaxPool2D(title, (self.source.name,), title, kernel=(2, 2), stride=(2, 2))
        self._append(layer, self.scale, self.source.zero_point)

    def weights(
        self,
        weights: Integers,
        type_: network.TensorType,
        rescale: network.AffineRescale,
        scale: float,
        zero_point: int,
    ) -> None:
        """A convolution of (outputs, inputs, height, width) weights, or a matrix of (outputs, inputs)."""
        inputs = (self.source.name,)
        layer: network.Conv2D | network.FullyConnected
        if weights.ndim == 4:
            title, reach = self._title("conv"), (weights.shape[2] - 1) // 2
            nhwc = np.ascontiguousarray(weights.transpose(0, 2, 3, 1))
            padding = (reach, reach, reach, reach)
            layer = network.Conv2D(
                title, inputs, title, nhwc, type_, rescale, ACCUMULATOR_BITS, padding=padding
            )
        else:
            title, shape = self._title("fc"), self.source.shape
            # torch flattens (C, H, W), the graph (H, W, C).
            height, width, channels = shape if len(shape) == 3 else (1, 1, shape[0])
            hwc = weights.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(weights.shape)
            layer = network.FullyConnected(title, inputs, title, hwc, type_, rescale, ACCUMULATOR_BITS)
        self._append(layer, scale, zero_point)


def to_network(model: ItbwnNetwork, name: str) -> network.Network:
    """The integer network that `model` simulates in evaluation: int8 throughout, an unsigned q stored as ``q - 128``.

    Brevitas rounds half to even, the rescale twice and half away: where they part, an element is a step off.
    """
    model.eval()
    graph = _Graph(network.Tensor("input", model.input_shape, INT8, PIXEL_SCALE, ZERO_POINT), PIXEL_SCALE)
    for block in model.blocks:
        weights, rescale, scale = _narrow(block, graph.scale)
        graph.weights(weights, NARROW, rescale, scale, ZERO_POINT)
        for _ in range(block.pools):
            graph.pool()
    weights, rescale, scale = _last(model, graph.scale)
    graph.weights(weights, INT8, rescale, scale, 0)
    return network.Network(name, graph.tensors, tuple(graph.layers), ("input",), (graph.source.name,))
