"""Layers that sum products, as the array takes them: weights, window, and what the rescale does with the sums.

A mean is a convolution with weights of one: of each channel by itself over space, of all over channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from intaglio.compiler.rescales import Rescaling, affine, constant_factor, rescaling_of
from intaglio.network import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FixedPointScale,
    FullyConnected,
    Mean,
    NetworkError,
    Tensor,
)
from intaglio.network.graph import Integers
from intaglio.spec.config import AcceleratorConfig

Accumulating = Conv2D | DepthwiseConv2D | FullyConnected | AveragePool2D | Mean

MOST_AVERAGED = 1 << 20
"""Elements of an average's window: so many that the reciprocal's error moves no result (see `reciprocal`)."""


@dataclass(frozen=True)
class Accumulation:
    """`weights` is (outputs, kernel height, kernel width, inputs), or (outputs, height, width) where output channel o
    reads input channel ``o // multiplier`` alone. A fully connected layer is one of 1 x 1 on one pixel: `flat`.

    With `averages` the rescale is that of windows without padding; `averaging` has the others'.
    """

    weights: Integers
    rescale: Rescaling
    pad: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    flat: bool = False
    averages: bool = False

    @property
    def outputs(self) -> int:
        return len(self.weights)

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weights.shape[1], self.weights.shape[2]

    @property
    def by_channel(self) -> bool:
        return self.weights.ndim == 3

    def output_extents(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the output, of an input of so many."""
        top, bottom, left, right = self.padding
        sizes = (rows + top + bottom, columns + left + right)
        down, across = (
            (size - (kernel - 1) * apart - 1) // stride + 1
            for size, kernel, stride, apart in zip(
                sizes, self.kernel, self.stride, self.dilation, strict=True
            )
        )
        return down, across


def accumulation(
    layer: Accumulating, source: Tensor, target: Tensor, config: AcceleratorConfig
) -> Accumulation:
    """What the array and the rescale do for a layer. Raises NetworkError where they cannot, on any machine."""
    match layer:
        case AveragePool2D():
            return _average(layer, target)
        case Mean():
            return _mean(layer, source, target)
        case FullyConnected():
            rescale = rescaling_of(layer.rescale, target, config)
            return Accumulation(layer.weights[:, None, None, :], rescale, source.zero_point, flat=True)
        case Conv2D() | DepthwiseConv2D():
            rescale = rescaling_of(layer.rescale, target, config)
            weights = layer.weights
            if weights.ndim == 3 and source.shape[2] == 1:
                weights = weights[..., None]  # a convolution of one channel, whatever it is called
            return Accumulation(
                weights, rescale, source.zero_point, layer.stride, layer.padding, layer.dilation
            )


def side_by_side(window: Accumulation, columns: int, count: int) -> Accumulation:
    """The same layer, not dilated, of so many columns of input, but that `count` neighbouring positions of a row are
    one, with so many times the channels: in memory they are the same elements. The columns of its output must be a
    multiple of `count`.

    A position's kernel stands as many strides further to the right in the common one; the rest of that is zero.
    """
    outputs, rows, width, inputs = window.weights.shape
    step = window.stride[1]
    _, across = window.output_extents(rows, columns)
    weights = np.zeros((count, outputs, rows, width + (count - 1) * step, inputs), window.weights.dtype)
    for position in range(count):
        weights[position, :, :, position * step : position * step + width] = window.weights
    top, bottom, left, _ = window.padding
    right = max((across - 1) * step + width - columns - left, 0)
    records = {name: np.tile(values, count) for name, values in window.rescale.records.items()}
    return replace(
        window,
        weights=weights.reshape(count * outputs, *weights.shape[2:]),
        rescale=window.rescale.with_records(**records),
        stride=(window.stride[0], count * step),
        padding=(top, bottom, left, right),
    )


def _average(layer: AveragePool2D, target: Tensor) -> Accumulation:
    count = math.prod(layer.kernel)
    if count > MOST_AVERAGED:
        raise NetworkError(f"it averages {count:,} elements, at most {MOST_AVERAGED:,} are possible")
    channels = target.shape[2]
    rescale = affine(
        target,
        np.zeros(channels, np.int64),
        constant_factor(reciprocal(count), channels),
        double=False,
        zero_point=0,
        limits=(layer.low, layer.high),
    )
    ones = np.ones((channels, *layer.kernel), np.int64)
    return Accumulation(ones, rescale, 0, layer.stride, layer.padding, averages=True)


def averaging(window: Accumulation, count: int) -> Rescaling:
    """The rescale of a sum to the mean of `count` elements, ties away from zero."""
    multiplier, exponent = constant_factor(reciprocal(count), window.outputs)
    return window.rescale.with_records(multiplier=multiplier, exponent=exponent)


def reciprocal(count: int) -> FixedPointScale:
    """1 / count for a rescale in single rounding.

    The multiplier is rounded up, so a sum s of `count` int8 becomes ``s / count + d`` with d away from zero and
    less than ``128 * count * 2**-(30 + f)``, ``f = floor(log2(count))``. So a tie rounds away from zero, and
    no other quotient, which is at least ``1 / (2 * count)`` from a tie, reaches one while `count` is below 2**20.
    """
    f = count.bit_length() - 1
    return FixedPointScale(-(-(1 << (30 + f)) // count), 1 - f, double_rounding=False)


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
    rescale = affine(
        target,
        np.full(outputs, -count * source.zero_point, np.int64),
        constant_factor(layer.scale, outputs),
        layer.scale.double_rounding,
        target.zero_point,
        (target.type.min, target.type.max),
    )
    weights = np.ones((1, *kernel, shape[2]) if 2 in axes else (outputs, *kernel), np.int64)
    return Accumulation(weights, rescale, 0)
