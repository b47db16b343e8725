"""The sums of a layer, and pooling: batch first, NHWC, exact.

A sum of products is taken by floating-point GEMM where its bound shows that to be exact. Every partial sum, in
whatever order, is an integer of magnitude at most ``max|a| * max over channels of sum|w|``: float32 holds all
integers to 2**24, float64 to 2**53, with or without fused multiply-adds. Above that int64 is used, which holds
them below 2**63; a layer beyond that is refused. ``max|a|`` and ``sum|w|`` are taken from the numbers at hand.

Work goes in blocks that stay in the cache: a whole batch's sums would be eight times the size of its tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from intaglio.golden.integers import Integers

Block = tuple[slice, ...]
"""Which part of a layer's output a block is: indices of the batch, and of the output's rows."""

_BLOCK_ELEMENTS = 1 << 17
"""Of unfolded input: 0.5 MiB of float32."""

_SUM_ELEMENTS = 1 << 16
"""Of sums, which are rescaled together: 0.5 MiB of int64. With fewer, numpy's calls would cost more than its work."""

_GEMM_MACS = 1 << 18
"""OpenBLAS wakes its threads for a larger product: at the size of a block they cost more than they bring, and many
times more where the other cores are busy."""

_GEMM_MIN_ROWS = 8
"""Rows of a product at least: with fewer, each weight is read for too little work."""


def sum_bound(inputs: npt.NDArray, weights: npt.NDArray) -> int:
    """A bound on sums of products of `inputs` and a row (first axis) of `weights`, partial ones in any order too."""
    if not inputs.size or not weights.size:
        return 0
    magnitude = max(-int(inputs.min()), int(inputs.max()))
    # Each |w| is at most 2**31 here and a row has fewer than 2**31 of them: the sums stay below 2**62.
    return magnitude * int(np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1).max())


def exact_dtype(bound: int) -> np.dtype:
    """The fastest type in which sums of integers, partial ones at most `bound` from zero, are exact.

    Raises ValueError where int64 does not hold them either.
    """
    if bound <= 1 << 24:
        return np.dtype(np.float32)
    if bound <= 1 << 53:
        return np.dtype(np.float64)
    if bound < 1 << 63:
        return np.dtype(np.int64)
    raise ValueError(f"sums may reach {bound}, beyond the 64 bits in which they are exact")


def conv2d(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    padding_value: int = 0,
) -> Integers:
    """The exact sums of a convolution, without bias.

    ``sums[b, y, x, o] = sum over i, j, c of inputs[b, y*stride + i*dilation - top, ...] * weights[o, i, j, c]``

    Parameters
    ----------
    inputs : integers, (batch, height, width, channels)
    weights : integers of at most 32 bits, (output channels, kernel height, kernel width, channels)
    stride, dilation : (vertical, horizontal), in elements
    padding : (top, bottom, left, right), in elements
    padding_value : what the padding holds: the input's zero point

    Returns
    -------
    int64, (batch, output height, output width, output channels)

    Raises
    ------
    ValueError
        Where shapes do not fit, or a sum may not fit int64.
    """
    shape = (len(inputs), *_conv2d_extents(inputs, weights, stride, padding, dilation), len(weights))
    sums = np.empty(shape, np.int64)
    for where, block in conv2d_blocks(inputs, weights, stride, padding, dilation, padding_value):
        sums[where] = block
    return sums


def conv2d_blocks(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    padding_value: int,
) -> Iterator[tuple[Block, Integers]]:
    """The same sums block by block: which part of the output, and its sums, int64 that the caller may change."""
    height, width = _conv2d_extents(inputs, weights, stride, padding, dilation)
    outputs, kernel_height, kernel_width, channels = weights.shape
    reduction = kernel_height * kernel_width * channels
    bound = max(sum_bound(inputs, weights), sum_bound(np.array([padding_value]), weights))
    dtype = exact_dtype(bound)
    matrix = np.ascontiguousarray(weights.reshape(outputs, reduction).T.astype(dtype))

    for where in _blocks(len(inputs), height, width * outputs, _SUM_ELEMENTS):
        top = where[1].start
        source = _padded(inputs[where[0]], padding, padding_value, dtype)
        sums = np.empty((len(source), where[1].stop - top, width, outputs), np.int64)
        for part in _blocks(len(source), where[1].stop - top, width * reduction, _BLOCK_ELEMENTS):
            images, rows = part
            count, extent = images.stop - images.start, rows.stop - rows.start
            unfolded = np.empty((count, extent, width, kernel_height, kernel_width, channels), dtype)
            for i in range(kernel_height):
                for j in range(kernel_width):
                    y, x = (top + rows.start) * stride[0] + i * dilation[0], j * dilation[1]
                    unfolded[:, :, :, i, j] = source[
                        images,
                        y : y + (extent - 1) * stride[0] + 1 : stride[0],
                        x : x + (width - 1) * stride[1] + 1 : stride[1],
                    ]
            product = _product(unfolded.reshape(-1, reduction), matrix)
            sums[part] = product.reshape(count, extent, width, outputs)
        yield where, sums


def depthwise_conv2d(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    padding_value: int = 0,
) -> Integers:
    """The exact sums of a depthwise convolution, without bias.

    ``sums[b, y, x, o] = sum over i, j of inputs[b, y*stride + i*dilation - top, ..., o // m] * weights[o, i, j]``,
    m the channel multiplier: output channels divided by input channels. The rest as in `conv2d`.

    Parameters
    ----------
    weights : integers of at most 32 bits, (output channels, kernel height, kernel width)
    """
    height, width = _depthwise_extents(inputs, weights, stride, padding, dilation)
    sums = np.empty((len(inputs), height, width, len(weights)), np.int64)
    for where, block in depthwise_conv2d_blocks(inputs, weights, stride, padding, dilation, padding_value):
        sums[where] = block
    return sums


def depthwise_conv2d_blocks(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    padding_value: int,
) -> Iterator[tuple[Block, Integers]]:
    """The same sums block by block, as `conv2d_blocks`."""
    height, width = _depthwise_extents(inputs, weights, stride, padding, dilation)
    outputs, kernel_height, kernel_width = weights.shape
    bound = max(sum_bound(inputs, weights), sum_bound(np.array([padding_value]), weights))
    dtype = exact_dtype(bound)
    taps = weights.transpose(1, 2, 0).astype(dtype)

    for where in _blocks(len(inputs), height, width * outputs, _SUM_ELEMENTS):
        images, rows = where
        extent = rows.stop - rows.start
        source = _padded(inputs[images], padding, padding_value, dtype)
        if outputs != inputs.shape[3]:
            source = np.repeat(source, outputs // inputs.shape[3], axis=3)
        sums = np.zeros((len(source), extent, width, outputs), dtype)
        product = np.empty_like(sums)
        for i in range(kernel_height):
            for j in range(kernel_width):
                y, x = rows.start * stride[0] + i * dilation[0], j * dilation[1]
                tap = source[
                    :,
                    y : y + (extent - 1) * stride[0] + 1 : stride[0],
                    x : x + (width - 1) * stride[1] + 1 : stride[1],
                ]
                sums += np.multiply(tap, taps[i, j], out=product)
        yield where, sums.astype(np.int64, copy=False)


def fully_connected(inputs: npt.NDArray, weights: npt.NDArray) -> Integers:
    """The exact sums of a fully connected layer, without bias: ``sums[b, o] = sum over f of a[b, f] * weights[o, f]``.

    Parameters
    ----------
    inputs : integers, (batch, ...), flattened here to (batch, features)
    weights : integers of at most 32 bits, (output features, features)

    Returns
    -------
    int64, (batch, output features)

    Raises
    ------
    ValueError
        Where shapes do not fit, or a sum may not fit int64.
    """
    sums = np.empty((len(inputs), len(weights)), np.int64)
    for where, block in fully_connected_blocks(inputs, weights):
        sums[where] = block
    return sums


def fully_connected_blocks(inputs: npt.NDArray, weights: npt.NDArray) -> Iterator[tuple[Block, Integers]]:
    """The same sums block by block, as `conv2d_blocks`."""
    outputs, features = weights.shape
    if int(np.prod(inputs.shape[1:])) != features:
        raise ValueError(f"weights take {features} features, the input is {inputs.shape[1:]}")
    dtype = exact_dtype(sum_bound(inputs, weights))
    flat, matrix = inputs.reshape(len(inputs), features), np.ascontiguousarray(weights.T.astype(dtype))
    images = max(1, _BLOCK_ELEMENTS // max(features, outputs))
    for first in range(0, len(inputs), images):
        block = flat[first : first + images].astype(dtype)
        yield (slice(first, first + len(block)),), _product(block, matrix).astype(np.int64, copy=False)


def max_pool2d(
    inputs: npt.NDArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> npt.NDArray:
    """The greatest element of each window; padding never counts as the maximum.

    Parameters
    ----------
    inputs : integers, (batch, height, width, channels)
    kernel, stride : (vertical, horizontal), in elements
    padding : (top, bottom, left, right), in elements, each less than the kernel

    Returns
    -------
    array of the inputs' dtype, (batch, output height, output width, channels)

    Raises
    ------
    ValueError
        Where the window does not fit, or one may hold nothing but padding.
    """
    top, bottom, left, right = padding
    if max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        raise ValueError(f"padding {padding} leaves windows of {kernel} without any element")
    height = _extent(inputs.shape[1], kernel[0], stride[0], top + bottom, 1)
    width = _extent(inputs.shape[2], kernel[1], stride[1], left + right, 1)
    # The least value of the dtype cannot win over an element of the window.
    source = _padded(inputs, padding, int(np.iinfo(inputs.dtype).min), inputs.dtype)
    tall = [source[:, i : i + (height - 1) * stride[0] + 1 : stride[0]] for i in range(kernel[0])]
    rows = _greatest(tall)
    wide = [rows[:, :, j : j + (width - 1) * stride[1] + 1 : stride[1]] for j in range(kernel[1])]
    return _greatest(wide)


def average_pool2d(
    inputs: npt.NDArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Integers:
    """The mean of each window, ties away from zero; padding is left out of it.

    Parameters
    ----------
    inputs : integers of at most 32 bits, (batch, height, width, channels)
    kernel, stride : (vertical, horizontal), in elements
    padding : (top, bottom, left, right), in elements, each less than the kernel

    Returns
    -------
    int64, (batch, output height, output width, channels)

    Raises
    ------
    ValueError
        Where the window does not fit, or one may hold nothing but padding.
    """
    top, bottom, left, right = padding
    if max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        raise ValueError(f"padding {padding} leaves windows of {kernel} without any element")
    height = _extent(inputs.shape[1], kernel[0], stride[0], top + bottom, 1)
    width = _extent(inputs.shape[2], kernel[1], stride[1], left + right, 1)
    # A window of fewer than 2**31 elements of 32 bits: its sum fits int64.
    source = _padded(inputs, padding, 0, np.dtype(np.int64))
    rows = np.zeros((len(inputs), height, source.shape[2], inputs.shape[3]), np.int64)
    for i in range(kernel[0]):
        rows += source[:, i : i + (height - 1) * stride[0] + 1 : stride[0]]
    sums = np.zeros((len(inputs), height, width, inputs.shape[3]), np.int64)
    for j in range(kernel[1]):
        sums += rows[:, :, j : j + (width - 1) * stride[1] + 1 : stride[1]]
    vertical = _elements_inside(inputs.shape[1], kernel[0], stride[0], top, height)
    horizontal = _elements_inside(inputs.shape[2], kernel[1], stride[1], left, width)
    count = (vertical[:, None] * horizontal[None, :])[None, :, :, None]
    return np.sign(sums) * ((np.abs(sums) + count // 2) // count)


def _elements_inside(size: int, kernel: int, stride: int, before: int, outputs: int) -> Integers:
    """Along one axis, how many of each window's elements are not padding."""
    start = np.arange(outputs, dtype=np.int64) * stride - before
    return np.minimum(start + kernel, size) - np.maximum(start, 0)


def _blocks(images: int, rows: int, row_elements: int, elements: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows, so many at a time that they have about `elements`: whole images, or rows of one."""
    tall = min(rows, max(1, elements // row_elements))
    many = max(1, elements // (row_elements * rows)) if tall == rows else 1
    for first in range(0, images, many):
        for top in range(0, rows, tall):
            yield slice(first, min(first + many, images)), slice(top, min(top + tall, rows))


def _product(left: npt.NDArray, right: npt.NDArray) -> npt.NDArray:
    """``left @ right`` in their own type; 2-dimensional.

    numpy multiplies a stack of matrices by one GEMM each: here as many rows at a time as stay within _GEMM_MACS.
    """
    rows = max(_GEMM_MIN_ROWS, _GEMM_MACS // max(1, right.size))
    whole = len(left) // rows * rows
    result = np.empty((len(left), right.shape[1]), left.dtype)
    stack = result[:whole].reshape(-1, rows, right.shape[1])
    np.matmul(left[:whole].reshape(-1, rows, left.shape[1]), right, out=stack)
    np.matmul(left[whole:], right, out=result[whole:])
    return result


def _greatest(parts: list[npt.NDArray]) -> npt.NDArray:
    result = parts[0].copy()
    for part in parts[1:]:
        np.maximum(result, part, out=result)
    return result


def _padded(
    inputs: npt.NDArray, padding: tuple[int, int, int, int], value: int, dtype: np.dtype
) -> npt.NDArray:
    """`inputs` in `dtype`, with rows and columns of `value` around."""
    top, bottom, left, right = padding
    if not any(padding):
        return inputs.astype(dtype, copy=False)
    batch, height, width, channels = inputs.shape
    result = np.full((batch, top + height + bottom, left + width + right, channels), value, dtype)
    result[:, top : top + height, left : left + width] = inputs
    return result


def _extent(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Output positions of a sliding window along one axis."""
    extent = (size + padding - (kernel - 1) * dilation - 1) // stride + 1
    if extent < 1:
        raise ValueError(
            f"a window of {kernel} elements {dilation} apart does not fit {size} and {padding} of padding"
        )
    return extent


def _conv2d_extents(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    if inputs.ndim != 4 or weights.ndim != 4 or inputs.shape[3] != weights.shape[3]:
        raise ValueError(f"weights {weights.shape} do not fit the input {inputs.shape}")
    top, bottom, left, right = padding
    height = _extent(inputs.shape[1], weights.shape[1], stride[0], top + bottom, dilation[0])
    width = _extent(inputs.shape[2], weights.shape[2], stride[1], left + right, dilation[1])
    return height, width


def _depthwise_extents(
    inputs: npt.NDArray,
    weights: npt.NDArray,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    if inputs.ndim != 4 or weights.ndim != 3 or len(weights) % inputs.shape[3]:
        raise ValueError(f"depthwise weights {weights.shape} do not fit the input {inputs.shape}")
    top, bottom, left, right = padding
    height = _extent(inputs.shape[1], weights.shape[1], stride[0], top + bottom, dilation[0])
    width = _extent(inputs.shape[2], weights.shape[2], stride[1], left + right, dilation[1])
    return height, width
