"""How far a layer's sums can get, from its weights, its bias and the range of its input: exact interval arithmetic.

Where the inputs are free within their type the two ends are reached by inputs that exist, so a layer whose bounds
fit its accumulator never overflows, and one whose bounds do not may.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.golden.rescale import accumulator_bias
from intaglio.network import Conv2D, DepthwiseConv2D, FullyConnected, Network, NetworkError
from intaglio.network.graph import AnyLayer, WeightLayer


def accumulator_bounds(layer: AnyLayer, network: Network) -> tuple[int, int]:
    """The least and the greatest accumulator of `layer` over all its channels, positions and inputs.

    Raises NetworkError where `layer` has no accumulator (pooling).
    """
    low, high = channel_bounds(layer, network)
    return min(low), max(high)


def channel_bounds(layer: AnyLayer, network: Network) -> tuple[list[int], list[int]]:
    """The least and the greatest accumulator of each output channel of `layer`, as Python integers.

    The bias is included where the scheme adds it inside the accumulator: affine, LLSQ, power of two; SBNQ subtracts it
    outside. A tap in the padding of a convolution contributes the input's zero point times its weights, nothing else:
    each combination of taps that some output position finds in the padding is bounded for itself.

    Raises NetworkError where `layer` has no accumulator (pooling).
    """
    if not isinstance(layer, Conv2D | DepthwiseConv2D | FullyConnected):
        raise NetworkError(f"layer {layer.name}: {layer.op} has no accumulator")
    source = network.tensors[layer.inputs[0]]
    weights = _wide(layer.weights, source.type.min, source.type.max, source.zero_point)
    if isinstance(layer, FullyConnected):
        weights = weights[:, None, None, :]
    elif isinstance(layer, DepthwiseConv2D):
        weights = weights[:, :, :, None]
    # Of each tap (output channel, i, j): its least, its greatest and its padded contribution.
    ends = (weights * source.type.min, weights * source.type.max)
    least, greatest = np.minimum(*ends).sum(axis=3), np.maximum(*ends).sum(axis=3)
    padded = weights.sum(axis=3) * source.zero_point

    patterns = _tap_patterns(layer, source.shape)
    low = np.min([np.where(inside, least, padded).sum(axis=(1, 2)) for inside in patterns], axis=0)
    high = np.max([np.where(inside, greatest, padded).sum(axis=(1, 2)) for inside in patterns], axis=0)
    bias = accumulator_bias(layer.rescale)
    added = [0] * len(low) if bias is None else [int(b) for b in bias]
    return (
        [int(bound) + b for bound, b in zip(low, added, strict=True)],
        [int(bound) + b for bound, b in zip(high, added, strict=True)],
    )


def _wide(weights: npt.NDArray, *factors: int) -> npt.NDArray:
    """`weights` in int64 where any sum of them times the factors fits, else in Python's integers."""
    largest = max(1, max(-int(weights.min()), int(weights.max()))) * max(
        1, *(abs(factor) for factor in factors)
    )
    return weights.astype(np.int64 if largest * weights[0].size < 1 << 63 else object)


def _tap_patterns(layer: WeightLayer, shape: tuple[int, ...]) -> list[npt.NDArray]:
    """Which taps of the kernel are inside the input, for each pattern that an output position sees: (i, j) masks."""
    if isinstance(layer, FullyConnected):
        return [np.ones((1, 1), bool)]
    rows, columns = layer.output_shape(shape)[:2]
    kernel_height, kernel_width = layer.weights.shape[1:3]
    top, _, left, _ = layer.padding
    vertical = _axis_patterns(shape[0], kernel_height, layer.stride[0], top, layer.dilation[0], rows)
    horizontal = _axis_patterns(shape[1], kernel_width, layer.stride[1], left, layer.dilation[1], columns)
    return [row[:, None] & column[None, :] for row in vertical for column in horizontal]


def _axis_patterns(
    size: int, kernel: int, stride: int, before: int, dilation: int, outputs: int
) -> npt.NDArray:
    position = np.arange(outputs)[:, None] * stride + np.arange(kernel)[None, :] * dilation - before
    return np.unique((position >= 0) & (position < size), axis=0)
