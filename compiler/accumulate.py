"""Layers that sum products, as the array takes them: weights, window, and what the rescale does with the sums.

A mean is a convolution with weights of one: of each channel by itself over space, of all over channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from intaglio.golden.bounds import channel_bounds
from intaglio.golden.rescale import affine_real
from intaglio.network import (
    AffineRescale,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LlsqRescale,
    Mean,
    Network,
    NetworkError,
    SbnqRescale,
    Tensor,
)
from intaglio.spec.commands import Scheme
from intaglio.spec.config import AcceleratorConfig

Integers = npt.NDArray[np.int64]
Accumulating = Conv2D | DepthwiseConv2D | FullyConnected | AveragePool2D | Mean

MOST_AVERAGED = 1 << 20
"""Elements of an average's window: so many that the reciprocal's error moves no result (see `reciprocal`)."""


@dataclass(frozen=True)
class Affine:
    """AffineRescale as the machine takes it: one integer an output channel, and the limits."""

    bias: Integers
    multiplier: Integers
    exponent: Integers
    double: bool
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Accumulation:
    """`weights` is (outputs, kernel height, kernel width, inputs), or (outputs, height, width) where output channel o
    reads input channel ``o // multiplier`` alone. A fully connected layer is one of 1 x 1 on one pixel: `flat`."""

    weights: Integers
    rescale: Affine | SbnqRescale | LlsqRescale
    pad: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    flat: bool = False

    @property
    def outputs(self) -> int:
        return len(self.weights)

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weights.shape[1], self.weights.shape[2]

    @property
    def by_channel(self) -> bool:
        return self.weights.ndim == 3


def accumulation(layer: Accumulating, network: Network) -> tuple[Accumulation, list[str]]:
    """What the array and the rescale do for a layer, and warnings. Raises NetworkError where they cannot.

    An AveragePool2D's rescale is that of windows without padding: see `averaging`.
    """
    source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
    match layer:
        case AveragePool2D():
            count = math.prod(layer.kernel)
            if count > MOST_AVERAGED:
                raise NetworkError(f"it averages {count:,} elements, at most {MOST_AVERAGED:,} are possible")
            ones = np.ones((target.shape[2], *layer.kernel), np.int64)
            rescale = averaging(layer, len(ones), count)
            return Accumulation(ones, rescale, 0, layer.stride, layer.padding), []
        case Mean():
            return _mean(layer, source, target), []
        case FullyConnected():
            weights = layer.weights[:, None, None, :]
            flat, warnings = _rescale(layer, network)
            return Accumulation(weights, flat, source.zero_point, flat=True), warnings
        case Conv2D() | DepthwiseConv2D():
            scaled, warnings = _rescale(layer, network)
            weights = layer.weights
            if weights.ndim == 3 and source.shape[2] == 1:
                weights = weights[..., None]  # a convolution of one channel, whatever it is called
            window = Accumulation(
                weights, scaled, source.zero_point, layer.stride, layer.padding, layer.dilation
            )
            return window, warnings


def averaging(layer: AveragePool2D, channels: int, count: int) -> Affine:
    """The rescale of a sum to the mean of `count` elements, ties away from zero."""
    multiplier, exponent = reciprocal(count)
    constant = np.ones(channels, np.int64)
    return Affine(0 * constant, multiplier * constant, exponent * constant, False, 0, layer.low, layer.high)


def reciprocal(count: int) -> tuple[int, int]:
    """1 / count for a rescale in single rounding: multiplier and exponent.

    The multiplier is rounded up, so a sum s of `count` int8 becomes ``s / count + d`` with d away from zero and
    less than ``128 * count * 2**-(30 + f)``, ``f = floor(log2(count))``. So a tie rounds away from zero, and
    no other quotient, which is at least ``1 / (2 * count)`` from a tie, reaches one while `count` is below 2**20.
    """
    f = count.bit_length() - 1
    return -(-(1 << (30 + f)) // count), 1 - f


def _mean(layer: Mean, source: Tensor, target: Tensor) -> Accumulation:
    """Axes of a vector, of (columns, channels) or of an image."""
    rank = len(source.shape)
    if rank > 3:
        raise NetworkError(f"it takes the mean of a tensor of {rank} axes, at most 3 are possible")
    shape = (1, 1, 1, *source.shape)[-3:]
    axes = {axis + 3 - rank for axis in layer.axes}
    kernel = tuple(shape[axis] if axis in axes else 1 for axis in (0, 1))
    outputs = 1 if 2 in axes else shape[2]
    count = math.prod(shape[axis] for axis in axes)
    constant = np.ones(outputs, np.int64)
    rescale = Affine(
        -count * source.zero_point * constant,
        layer.scale.multiplier * constant,
        layer.scale.exponent * constant,
        layer.scale.double_rounding,
        target.zero_point,
        target.type.min,
        target.type.max,
    )
    weights = np.ones((1, *kernel, shape[2]) if 2 in axes else (outputs, *kernel), np.int64)
    return Accumulation(weights, rescale, 0, flat=False)


def _rescale(
    layer: Conv2D | DepthwiseConv2D | FullyConnected, network: Network
) -> tuple[Affine | SbnqRescale | LlsqRescale, list[str]]:
    rescale, target = layer.rescale, network.tensors[layer.output]
    if isinstance(rescale, SbnqRescale | LlsqRescale):
        return rescale, []
    if not isinstance(rescale, AffineRescale):
        raise NetworkError(f"no command rescales by {type(rescale).__name__}")
    result = Affine(
        rescale.bias,
        rescale.multiplier,
        rescale.exponent,
        rescale.double_rounding,
        target.zero_point,
        rescale.low,
        rescale.high,
    )
    if rescale.real is None:
        return result, []
    return _of_real_factors(result, rescale.real, layer, network)


def _of_real_factors(
    affine: Affine,
    real: npt.NDArray[np.float64],
    layer: Conv2D | DepthwiseConv2D | FullyConnected,
    network: Network,
) -> tuple[Affine, list[str]]:
    """Multipliers whose rounding of every sum that a channel can reach is that of the product with `real` in float64,
    and a warning for the channels that have none."""
    lows, highs = channel_bounds(layer, network)
    multiplier, exponent = affine.multiplier.copy(), affine.exponent.copy()
    moved: list[int] = []
    for channel, factor in enumerate(real):
        reach = max(-lows[channel], highs[channel], 0)
        reach = min(reach, 1 << 31)
        found = _equal_multiplier(float(factor), reach, affine, int(exponent[channel]))
        if found is None:
            moved.append(channel)
        else:
            multiplier[channel] = found
    warnings = []
    if moved:
        warnings.append(
            f"the rounding of {len(moved)} of {len(real)} channels (the first is {moved[0]}) may differ by one from "
            "the runtime's float64 product at some sums"
        )
    return replace(affine, multiplier=multiplier, exponent=exponent), warnings


def _equal_multiplier(factor: float, reach: int, affine: Affine, exponent: int) -> int | None:
    """M with ``HALF_AWAY(x * M, 31 - exponent)`` equal, within the limits, to the float64 product rounded half away,
    for all ``|x| <= reach``; None if there is none.

    Both are odd and grow with x, so they are equal where they reach each k = 1, 2, ... at the same x: at
    ``t`` where ``2 * (t - 1) * M < (2k - 1) * 2**(31 - exponent) <= 2 * t * M``.
    """
    highest = max(abs(affine.low - affine.zero_point), abs(affine.high - affine.zero_point))
    ks = np.arange(1, highest + 1)
    exact = Fraction(factor)
    first = [math.ceil(Fraction(2 * int(k) - 1, 2) / exact) for k in ks]
    within = sum(t <= reach + 2 for t in first)
    thresholds = [(int(k), t) for k, t in zip(ks[: within + 1], first, strict=False)]
    least, greatest = 0, (1 << 31) - 1
    for k, t in thresholds:
        if t <= reach + 2:
            # The product in float64 may round up to the tie, or in an extreme case down from beyond it.
            near = np.arange(max(t - 2, 0), min(t + 3, 1 << 31))
            results = affine_real(near, np.full(near.shape, factor), 0, -(1 << 31), (1 << 31) - 1)
            reached = near[results >= k]
            t = int(reached[0]) if len(reached) else t + 3
        tie = (2 * k - 1) << (31 - exponent)  # twice as much
        if t <= reach:
            least = max(least, -(-tie // (2 * t)))
        if min(t - 1, reach) > 0:
            greatest = min(greatest, -(-tie // (2 * min(t - 1, reach))) - 1)
    middle = round(exact * 2 ** (31 - exponent))
    return min(max(middle, least), greatest) if least <= greatest else None


def parameter_fields(
    rescale: Affine | SbnqRescale | LlsqRescale, target: Tensor, config: AcceleratorConfig
) -> dict[str, int]:
    """The fields of RESCALE that depend on the scheme."""
    kind = target.type
    if isinstance(rescale, LlsqRescale):
        wide = int(kind.bits > config.element_bits)
        return {"scheme": Scheme.LLSQ, "wide": wide, "low": kind.min, "high": kind.max}
    if isinstance(rescale, SbnqRescale):
        # What SBNQ saturates to, which is symmetric for a signed type.
        low = -kind.max if kind.signed else 0
        return {
            "scheme": Scheme.SBNQ,
            "relu": int(rescale.relu),
            "signed": int(kind.signed),
            "low": low,
            "high": kind.max,
        }
    return {
        "scheme": Scheme.AFFINE,
        "double": int(rescale.double),
        "signed": int(kind.signed),
        "zero_point": rescale.zero_point,
        "low": rescale.low,
        "high": rescale.high,
    }
