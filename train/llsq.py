"""LLSQ: linear symmetric quantizers whose scaling factors are learned by simulated gradients.

Ref: "Linear Symmetric Quantization of Neural Networks for Low-precision Integer Hardware" [llsq].

One run has three stages. First the float network with batch normalisation, whose parameters the quantizers start
from (section 3.2). Then weights and activations are quantized (section 3.3). Last, batch normalisation is fused, bias
and scale become integers, and the weights and the bias are tuned against the integers that inference has (sections
3.4, 3.5, 4.2): operands, sums and rescales are integers in floating point, which holds them exactly.

Two things keep fusion simple. Gamma takes part by its magnitude, so zeta of eq. 5 is never negative, and no weight of
``-2**(k-1)`` has to change its sign; nothing is lost, since a channel may negate its weights while they are real
numbers. And what a scale loses when it becomes an integer is put into the step of its channel's weights.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from intaglio import network
from intaglio.train.chain import IntegerLayer, Place, accumulate, integers, places, pooled
from intaglio.train.chain import to_network as to_chain
from intaglio.train.definition import Layers
from intaglio.train.floating import initial_weight

LEARNING_RATE = 0.004
ALPHA_LEARNING_RATE = 0.02
"""Of the scaling factors, by plain gradient descent. A step is this times alpha, relative to alpha."""
QUANTIZED_FROM = 0.3
INTEGER_FROM = 0.6
"""Shares of the epochs after which the second and the third stage begin."""
BIAS_BITS = 8
LOGIT_BITS = 8
"""Of the last layer's output, which is signed, at every `bits`."""
PIXEL = network.TensorType(8, signed=False)
PIXEL_ALPHA = 1 / 255
"""Of the image, the one operand whose integers are given."""
MOMENTUM = 0.1
"""Weight of the newest batch in the moving averages of mean and variance."""
EPSILON = 1e-5
"""Beside the variance, in eq. 4."""
SMALLEST_ALPHA = 1e-6
"""A channel of zeros has no best scaling factor."""
SEARCHED_IMAGES = 8
"""Of a batch, those whose activations show the direction of their alpha: plenty of values."""


class Stage(enum.IntEnum):
    """What a network trains as."""

    FLOAT = 0
    QUANTIZED = 1
    INTEGER = 2


def activation_type(bits: int) -> network.TensorType:
    """``0 ... 2**k - 1`` [llsq: eq. 1]; at 8 bits one bit less, since that array multiplies int8 alone."""
    return network.TensorType(min(bits, 7), signed=False)


class _Through(torch.autograd.Function):
    """The value of the first argument, the gradient of the second; ``s + (r - s)`` would round beyond a clamp."""

    @staticmethod
    def forward(context: Any, rounded: Tensor, smooth: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def through(rounded: Tensor, smooth: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `smooth`: the straight-through estimator."""
    return _Through.apply(rounded.detach(), smooth)


def quantize(x: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """``q = clamp(round(x / alpha), low, high)`` [llsq: eq. 1], integers in float; without a gradient."""
    return (x.detach() / alpha).round_().clamp_(low, high)


def quantize_weight(weight: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """``alpha * q`` of signed weights [llsq: eq. 1], whose gradient passes everywhere [llsq: eq. 7]."""
    limit = 2 ** (bits - 1)
    return through(alpha * quantize(weight, alpha, -limit, limit - 1), weight)


def integer_weight(weight: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """The ``q`` of `quantize_weight`; biases, too [llsq: eq. 6]."""
    limit = 2 ** (bits - 1)
    return through(quantize(weight, alpha, -limit, limit - 1), weight / alpha)


def quantize_activation(x: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """``alpha * q`` [llsq: eq. 1], whose gradient passes from ``low * alpha`` to ``high * alpha`` [llsq: eq. 8]."""
    return through(alpha * quantize(x, alpha, low, high), x.clamp(low * alpha, high * alpha))


def _error(rows: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """``sum |x_q - x_r|**2`` of each row [llsq: eq. 2, l = 2]."""
    return (alpha[:, None] * quantize(rows, alpha[:, None], low, high) - rows).square_().sum(1)


def best_alpha(rows: Tensor, low: int, high: int) -> Tensor:
    """Of each row of (rows, values), the alpha of the least error [llsq: eq. 2], by search in steps of 9 %.

    Where training begins; from there on `simulated_gradient` follows it.
    """
    rows = rows.detach()
    peak = rows.abs().amax(1).clamp(min=SMALLEST_ALPHA) / max(-low, high)
    candidates = peak * torch.exp2(torch.arange(-40, 9) / 8)[:, None]
    errors = torch.stack([_error(rows, alpha, low, high) for alpha in candidates])
    return candidates.gather(0, errors.argmin(0, keepdim=True))[0].clamp(min=SMALLEST_ALPHA)


def simulated_gradient(rows: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """``alpha**2 * d`` of each row: -1, 0 or 1 where 2 alpha, alpha or alpha / 2 has the least error [llsq: 3.3]."""
    rows = rows.detach()
    errors = torch.stack([_error(rows, alpha * factor, low, high) for factor in (1.0, 2.0, 0.5)])
    direction = torch.tensor([0.0, -1.0, 1.0])[errors.argmin(0)]
    return alpha.square() * direction


def descend(alpha: Tensor, gradient: Tensor) -> None:
    """One step of `alpha`, in place; no further than the two that the gradient compared."""
    alpha.copy_((alpha - ALPHA_LEARNING_RATE * gradient).clamp(alpha / 2, 2 * alpha))


def scale_integers(scale: Tensor, mantissa: bool) -> tuple[Tensor, Tensor]:
    """Integers with ``mantissa * 2**-shift`` close to `scale` [llsq: section 3.5], in float.

    With `mantissa` an 8-bit one, 128...255; else 1, the nearest power of two by its logarithm. A shift is 0...31; a
    scale beyond the ends becomes the nearest end.
    """
    if not mantissa:
        return torch.ones_like(scale), (-torch.log2(scale)).round().clamp(0, 31)
    exponent = torch.floor(torch.log2(scale)).clamp(-24, 7)
    integer = (scale * torch.exp2(7 - exponent)).round()
    # What rounds up to 256 is 128 of the next power of two, where there is one.
    carries = (integer >= 256) & (exponent < 7)
    exponent, integer = exponent + carries, torch.where(carries, 128.0, integer)
    return integer.clamp(128, 255), 7 - exponent


def rescale(acc: Tensor, mantissa: Tensor, shift: Tensor, low: int, high: int) -> Tensor:
    """``clamp(HALF_UP(acc * mantissa, shift), low, high)`` [llsq: eq. 6], the gradient as in eq. 8.

    `acc` is (batch, channels, ...), float that holds integers. Exact in a type of p bits if ``|acc| * 255 < 2**(p-1)``:
    with n the product and s the shift, ``n + 2**(s-1)`` then fits p bits, but for s so large that the quotient lies
    within 1/4 of zero and rounds to 0 anyway.
    """
    axes = (1, -1, *(1,) * (acc.ndim - 2))
    scaled = acc * (mantissa * torch.exp2(-shift)).view(axes)
    return through((scaled + 0.5).floor().clamp(low, high), scaled.clamp(low, high))


def wrap(acc: Tensor, bits: int) -> Tensor:
    """`acc` modulo ``2**bits``, two's complement, with the gradient of `acc`."""
    half = 2.0 ** (bits - 1)
    return through(torch.remainder(acc.detach() + half, 2 * half) - half, acc)


class LlsqLayer(nn.Module):
    """A convolution or a matrix, its batch normalisation, ReLU behind all but the last, and the quantizer.

    Weights have an alpha a channel in a convolution, one alpha else; outputs have one (appendix). Max pooling, where
    it follows, is computed before the quantizer.
    """

    mean: Tensor
    variance: Tensor
    weight_alpha: Tensor
    output_alpha: Tensor
    mantissa: Tensor
    shift: Tensor

    def __init__(self, place: Place, bits: int, mantissa: bool, greatest_input: int) -> None:
        super().__init__()
        self.place, self.bits, self.with_mantissa = place, bits, mantissa
        self.output = network.TensorType(LOGIT_BITS, signed=True) if place.last else activation_type(bits)
        self.accumulator_bits = 16 if bits <= 4 else 32
        reach = math.prod(place.shape[1:]) * greatest_input * 2 ** (bits - 1) + 2 ** (BIAS_BITS - 1)
        self.may_wrap = reach >= 2 ** (self.accumulator_bits - 1)
        # Sums of 16 bits times a mantissa are exact in float32.
        self.rescale_type = torch.float32 if self.accumulator_bits == 16 else torch.float64
        channels = place.shape[0]
        self.weight = initial_weight(place.shape)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))  # of the last stage alone: b of eq. 5
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("weight_alpha", torch.zeros(channels))
        self.register_buffer("output_alpha", torch.zeros(1))  # 0: not yet known
        self.register_buffer("mantissa", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def _weight_rows(self) -> Tensor:
        """The weights that share an alpha, a row each."""
        return self.weight.reshape(len(self.weight) if self.weight.ndim == 4 else 1, -1)

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.view(-1, *(1,) * (self.weight.ndim - 1))

    def integer_weight(self) -> Tensor:
        """``q_w`` [llsq: eq. 1]."""
        return integer_weight(self.weight, self._per_channel(self.weight_alpha), self.bits)

    def integer_bias(self) -> Tensor:
        """``q_b``, in the accumulator's unit alpha_a * alpha_w, clamped to 8 bits [llsq: eq. 6]."""
        return integer_weight(
            self.bias, self.output_alpha * self.mantissa * torch.exp2(-self.shift), BIAS_BITS
        )

    def begin_quantizing(self) -> None:
        """Give the weights the alpha of the least error."""
        limit = 2 ** (self.bits - 1)
        with torch.no_grad():
            self.weight_alpha.copy_(
                best_alpha(self._weight_rows(), -limit, limit - 1).expand_as(self.weight_alpha)
            )

    def fuse(self, input_alpha: Tensor) -> None:
        """Fuse the batch normalisation [llsq: eq. 5] and fix the scale's integers [llsq: eq. 6].

        A scale ``alpha_a * zeta * alpha_w / alpha_o`` that becomes r times itself makes the weights' alpha r times
        as large: what the layer computes stays, but for the rounding of weights. Where the scale is above the
        greatest that there is, alpha_o grows.
        """
        with torch.no_grad():
            zeta = self.gamma.abs() / (self.variance + EPSILON).sqrt()
            unit = (input_alpha * zeta * self.weight_alpha).clamp(min=1e-30)
            greatest = 255.0 if self.with_mantissa else 1.0
            self.output_alpha.copy_(torch.maximum(self.output_alpha, unit.max() / greatest))
            scale = unit / self.output_alpha
            mantissa, shift = scale_integers(scale, self.with_mantissa)
            self.mantissa.copy_(mantissa)
            self.shift.copy_(shift)
            self.weight_alpha.mul_(mantissa * torch.exp2(-shift) / scale)
            self.bias.copy_(self.beta - self.mean * zeta)

    def forward(self, x: Tensor, stage: Stage) -> Tensor:
        """The layer's output, pooled. Reads and writes real numbers, at the last stage integers."""
        low, high = self.output.min, self.output.max
        if stage is Stage.INTEGER:
            acc = accumulate(x, self.integer_weight(), self.integer_bias())
            acc = wrap(acc, self.accumulator_bits) if self.may_wrap else acc
            acc = pooled(acc, self.place.pools).to(self.rescale_type)
            return rescale(acc, self.mantissa, self.shift, low, high).to(x.dtype)
        weight = self.weight
        if stage is Stage.QUANTIZED:
            weight = quantize_weight(weight, self._per_channel(self.weight_alpha), self.bits)
        y = functional.batch_norm(  # [llsq: eq. 4]
            accumulate(x, weight),
            self.mean,
            self.variance,
            self.gamma.abs(),
            self.beta,
            self.training,
            MOMENTUM,
            EPSILON,
        )
        y = pooled(y, self.place.pools)
        if stage is Stage.FLOAT:
            return y if self.place.last else y.relu()
        if self.training and not self.output_alpha:
            self.output_alpha.copy_(best_alpha(self._operand(y), low, high))
        result = quantize_activation(y, self.output_alpha, low, high)
        if self.training:
            self._step_alphas(y)
        return result

    def _operand(self, y: Tensor) -> Tensor:
        """What the quantizer of the output approximates, as one row: what ReLU makes 0 is 0."""
        return (y if self.place.last else y.relu()).detach().reshape(1, -1)

    def _step_alphas(self, y: Tensor) -> None:
        limit = 2 ** (self.bits - 1)
        rows = self._weight_rows()
        descend(
            self.weight_alpha, simulated_gradient(rows, self.weight_alpha[: len(rows)], -limit, limit - 1)
        )
        operand = self._operand(y[:SEARCHED_IMAGES])
        gradient = simulated_gradient(operand, self.output_alpha, self.output.min, self.output.max)
        descend(self.output_alpha, gradient)


class LlsqNetwork(nn.Module):
    """`layers` over images of `input_shape` (height, width, channels)."""

    stage: Tensor

    def __init__(
        self, layers: Layers, input_shape: tuple[int, int, int], bits: int, mantissa: bool = True
    ) -> None:
        super().__init__()
        self.input_shape, self.bits = input_shape, bits
        self.register_buffer("stage", torch.tensor(int(Stage.FLOAT)))
        greatest = [PIXEL.max, *[activation_type(bits).max] * len(layers)]
        self.layers = nn.ModuleList(
            LlsqLayer(place, bits, mantissa, greatest_input)
            for place, greatest_input in zip(places(layers, input_shape), greatest, strict=False)
        )

    @property
    def final(self) -> bool:
        return int(self.stage) == Stage.INTEGER

    def begin_epoch(self, done: float) -> None:
        """Move on to the stage that follows a share of `done` of the epochs."""
        target = Stage((done >= QUANTIZED_FROM) + (done >= INTEGER_FROM))
        if int(self.stage) < Stage.QUANTIZED <= target:
            for layer in self.layers:
                layer.begin_quantizing()
        if int(self.stage) < Stage.INTEGER <= target:
            alpha = torch.tensor(PIXEL_ALPHA)
            for layer in self.layers:
                layer.fuse(alpha)
                alpha = layer.output_alpha
        self.stage.fill_(max(int(self.stage), int(target)))

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (batch, height, width, channels) pixels 0..255; returns (batch, classes), the logits' reals."""
        stage = Stage(int(self.stage))
        x = images.permute(0, 3, 1, 2)
        x = x if stage is Stage.INTEGER else x * PIXEL_ALPHA
        for layer in self.layers:
            x = layer(x, stage)
        return x * self.layers[-1].output_alpha if stage is Stage.INTEGER else x


def build(layers: Layers, input_shape: tuple[int, int, int], bits: int, mantissa: bool = True) -> LlsqNetwork:
    """A network to train, its weights drawn from torch's global generator.

    `bits`: 2...8, of weights and activations. `mantissa`: scales have an 8-bit mantissa and a shift, else a shift
    alone [llsq: section 3.5].
    """
    return LlsqNetwork(layers, input_shape, bits, mantissa)


def to_network(model: LlsqNetwork, name: str) -> network.Network:
    """The integer network that `model` simulates in evaluation.

    At more than 4 bits the array multiplies int8: the image then is int8 with a zero point of -128, and the bias holds
    ``128 * sum(w)`` beside the 8 bits that it has.

    Raises
    ------
    NetworkError
        Where `model` has not reached the stage of integers.
    """
    if not model.final:
        raise network.NetworkError("LLSQ has no integers before its last stage; train for 3 epochs or more")
    pixel = PIXEL if model.bits <= 4 else network.TensorType(8, signed=True)
    source = network.Tensor("input", model.input_shape, pixel, zero_point=pixel.min)

    def chain() -> Iterator[IntegerLayer]:
        zero_point = source.zero_point
        for layer in model.layers:
            weights = integers(layer.integer_weight())
            bias = integers(layer.integer_bias()) - zero_point * weights.reshape(len(weights), -1).sum(1)
            yield IntegerLayer(
                layer.place,
                weights,
                network.TensorType(model.bits, signed=True),
                network.LlsqRescale(bias, integers(layer.mantissa), integers(layer.shift)),
                layer.accumulator_bits,
                layer.output,
            )
            zero_point = 0

    return to_chain(name, source, chain())
