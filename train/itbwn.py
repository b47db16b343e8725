"""ITBWN: binary or ternary weights, int8 activations, the last layer's weights int8.

Ref: Fuengfusin, Tamukoh, "INT8 Activation Ternary or Binary Weights Networks" [itbwn]. Its authors quantized with
Brevitas, and so does this; what of Brevitas' own quantizers means something else is configured or replaced here.

A layer is convolution (or matrix), batch normalisation, ReLU and Brevitas' unsigned 8-bit quantizer. In training the
statistics are the batch's; in evaluation, and from `FROZEN_FROM` on, batch normalisation is what inference has: a
bias in whole steps of the accumulator and a factor a channel, which the affine rescale multiplies by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas import config
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
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn
from torch.nn import functional

from intaglio import network
from intaglio.network.graph import Floats, Integers
from intaglio.train.affine import fixed_point
from intaglio.train.chain import IntegerLayer, Place, integers, places, pooled
from intaglio.train.chain import to_network as to_chain
from intaglio.train.definition import Layers
from intaglio.train.sbnq import through

LEARNING_RATE = 0.01
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
ACCUMULATOR_BITS = 32
LEAST_FACTOR = 2.0**-21
"""Of the rescale, in steps of the output: smaller ones become this, by which sums still add up to nothing."""
FARTHEST_BIAS = 1 << 30
"""Times `LEAST_FACTOR` it saturates any sum; beside a sum it fits 32 bits."""
VANISHING = 2.0**-80
"""A factor below this makes its channel a constant."""


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

    Brevitas' `SignedBinaryWeightPerTensorConst` has a scale of 0.1 and clips weights to it, which ITBWN does "not use".
    """

    tensor_quant = BinaryQuant
    bit_width = 1


class TernaryWeight(_UnitScale):
    """See `TwnQuant`; Brevitas' `SignedTernaryWeightPerTensorConst` rounds ``w / 0.1`` instead."""

    tensor_quant = TwnQuant
    threshold = DELTA
    bit_width = 2


WEIGHT_TYPES: dict[type, network.WeightType] = {
    BinaryWeight: network.BinaryType(),
    TernaryWeight: network.TensorType(2, signed=True),
}
"""Of each quantizer, the type of the weights that it exports."""


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


def _weights(shape: tuple[int, ...], **quantizers: Any) -> nn.Module:
    """Brevitas' convolution or matrix of weights of `shape`, `intaglio.train.chain.Place`'s."""
    if len(shape) == 4:
        return qnn.QuantConv2d(shape[1], shape[0], shape[2], padding=(shape[2] - 1) // 2, **quantizers)
    return qnn.QuantLinear(shape[1], shape[0], **quantizers)


def _accumulate(weights: nn.Module, x: Any) -> Tensor:
    """The sums of `x`, a tensor or Brevitas' tensor with a scale."""
    return weights(x if isinstance(weights, qnn.QuantConv2d) else x.flatten(1))


class Block(nn.Module):
    """A layer with narrow weights: sums, batch normalisation, max pooling, ReLU and its quantizer.

    Max pooling is computed before ReLU and the quantizer, which never fall as their operand rises.
    """

    def __init__(self, place: Place, weight_quant: type) -> None:
        super().__init__()
        self.place = place
        self.weight_type = WEIGHT_TYPES[weight_quant]
        self.weights = _weights(place.shape, bias=False, weight_quant=weight_quant)
        self.norm = BatchNorm(place.shape[0])
        self.activation = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)

    def forward(self, operand: IntQuantTensor) -> IntQuantTensor:
        sums = _accumulate(self.weights, operand.value)
        x = pooled(self.norm(sums, operand.scale), self.place.pools)
        if not self.norm.by_batch:
            x = through(self._rounded(x.detach(), operand.scale), x)
        return self.activation(x)

    def _rounded(self, x: Tensor, step: Tensor) -> Tensor:
        """The first of the rescale's two roundings, SQRDMULH's; the quantizer does the second.

        SQRDMULH's result has n bits more than the output, n the shift behind it. A quarter of its last bit makes the
        quantizer, which rounds half to even, round half up; what is negative, and would go down, is clamped.
        """
        scale = self.activation.act_quant.scale().detach()
        factor = (self.norm.folded()[0].detach().abs() * step / scale).clamp(min=LEAST_FACTOR)
        unit = _by_channel(scale * torch.exp2(torch.frexp(factor).exponent.clamp(max=0)), x)
        return (torch.round(x / unit) + 0.25) * unit


class ItbwnNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels), all but the last with `weight_quant`."""

    def __init__(self, layers: Layers, input_shape: tuple[int, int, int], weight_quant: type) -> None:
        super().__init__()
        self.input_shape = input_shape
        *first, self.place = places(layers, input_shape)
        self.blocks = nn.ModuleList(Block(place, weight_quant) for place in first)
        # "We use neither BC, TWN, nor TQT method in the last layer": Brevitas' default int8 weights.
        self.last = _weights(
            self.place.shape, bias=True, weight_quant=Int8WeightPerTensorFloat, bias_quant=Int32Bias
        )
        self.logits = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
        self.final = False
        self._collected: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes)."""
        x = IntQuantTensor(
            images.permute(0, 3, 1, 2) * PIXEL_SCALE,
            scale=PIXEL_SCALE,
            zero_point=0.0,
            bit_width=8.0,
            signed=False,
            training=self.training,
        )
        for block in self.blocks:
            x = block(x)
        return self.logits(pooled(_accumulate(self.last, x), self.place.pools)).value

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

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """As torch's, where Brevitas would make new parameters, which no optimizer knows, and end the collection.

        What was collected until then is in the state as the parameter.
        """
        renewing, config.REINIT_ON_STATE_DICT_LOAD = config.REINIT_ON_STATE_DICT_LOAD, False
        try:
            incompatible = super().load_state_dict(*arguments, **options)
        finally:
            config.REINIT_ON_STATE_DICT_LOAD = renewing
        for scaling, counter in zip(self.scalings(), self._collected, strict=True):
            scaling.counter = counter
            if counter <= scaling.collect_stats_steps:
                scaling.buffer.copy_(scaling.value.detach())
                nn.init.ones_(scaling.value)
        return incompatible


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int) -> ItbwnNetwork:
    """A network to train, its weights drawn from torch's global generator: ternary with 2 `bits`, binary with 1."""
    quantizers = {1: BinaryWeight, 2: TernaryWeight}
    if bits not in quantizers:
        raise ValueError(f"`bits` of ITBWN's weights must be 2 (ternary) or 1 (binary), not {bits}")
    return ItbwnNetwork(layers, input_shape, quantizers[bits])


def _floats(values: Tensor) -> Floats:
    return values.detach().numpy().astype(np.float64)


def _rescale(factor: Floats, bias: Floats, weights: Integers) -> network.AffineRescale:
    """``factor * (sum + bias)``, clamped to int8, with the operand's zero point folded in [jacob2017: eq. 7].

    To int8 is ReLU, too, where an unsigned q is stored as ``q - 128``.
    """
    folded = np.rint(bias).astype(np.int64) - ZERO_POINT * weights.reshape(len(weights), -1).sum(1)
    multiplier, exponent = fixed_point(factor)
    return network.AffineRescale(
        folded, multiplier, exponent, double_rounding=True, low=INT8.min, high=INT8.max
    )


def _narrow(block: Block, step: float) -> IntegerLayer:
    """`block` for an operand with the scale `step`.

    A negative factor turns the signs of its channel's weights, so that all factors are positive.
    """
    signed, offset = (_floats(each) for each in block.norm.folded())
    weights = integers(block.weights.quant_weight().value)
    weights *= np.where(signed < 0, -1, 1).reshape(-1, *(1,) * (weights.ndim - 1))
    scale = block.activation.act_quant.scale().item()
    factor = np.maximum(np.abs(signed) * step / scale, LEAST_FACTOR)
    bias = np.clip(offset / scale / factor, -FARTHEST_BIAS, FARTHEST_BIAS)
    rescale = _rescale(factor, bias, weights)
    return IntegerLayer(
        block.place, weights, block.weight_type, rescale, ACCUMULATOR_BITS, INT8, scale, ZERO_POINT
    )


def _last(model: ItbwnNetwork, step: float) -> IntegerLayer:
    """The last layer for an operand with the scale `step`."""
    quantized = model.last.quant_weight()
    weights, unit = integers(quantized.int(float_datatype=True)), step * quantized.scale.item()
    scale = model.logits.act_quant.scale().item()
    rescale = _rescale(np.full(len(weights), unit / scale), _floats(model.last.bias) / unit, weights)
    return IntegerLayer(model.place, weights, INT8, rescale, ACCUMULATOR_BITS, INT8, scale)


def to_network(model: ItbwnNetwork, name: str) -> network.Network:
    """The integer network that `model` simulates in evaluation: int8 throughout, an unsigned q stored as ``q - 128``.

    Its input is ``pixel - 128``. Where float32 or, in the logits, Brevitas' rounding half to even decides otherwise
    than the rescale, an element is a step off.
    """
    model.eval()

    def chain() -> Iterator[IntegerLayer]:
        step = PIXEL_SCALE
        for block in model.blocks:
            layer = _narrow(block, step)
            yield layer
            step = float(layer.scale or 1)
        yield _last(model, step)

    source = network.Tensor("input", model.input_shape, INT8, PIXEL_SCALE, ZERO_POINT)
    return to_chain(name, source, chain())
