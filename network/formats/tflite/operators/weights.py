"""Convolutions and fully connected layers.

Ref: Jacob et al., 2017 [jacob2017]
"""

from __future__ import annotations

import math

import numpy as np

from intaglio.network.formats.tflite.context import ACCUMULATOR_BITS, INT8, Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.formats.tflite.operands import Weights
from intaglio.network.formats.tflite.operators.windows import window_of
from intaglio.network.graph import (
    AffineRescale,
    AnyLayer,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Integers,
    Reshape,
)
from intaglio.network.importing.builder import Value
from intaglio.network.importing.folding import fold_zero_point
from intaglio.network.importing.refusals import Refusal
from intaglio.network.importing.scales import affine_rescale


def conv_2d(
    context: Context, operator: FileOperator, image: Value, weights: Weights, bias: Integers | None
) -> None:
    kernels = weights.values
    window, padding = window_of(operator, image, kernels.shape[1:3])
    rescale = _rescale(context, operator, kernels, weights, bias)

    def make(name: str, output: str) -> AnyLayer:
        return Conv2D(
            name,
            (image.name,),
            output,
            kernels,
            INT8,
            rescale,
            ACCUMULATOR_BITS,
            window.stride,
            padding,
            window.dilation,
        )

    context.add(operator.outputs[0], make("", "").output_shape(image.shape), make)


def depthwise_conv_2d(
    context: Context, operator: FileOperator, image: Value, weights: Weights, bias: Integers | None
) -> None:
    values = weights.values
    taps = np.ascontiguousarray(values[0].transpose(2, 0, 1))
    window, padding = window_of(operator, image, values.shape[1:3])
    rescale = _rescale(context, operator, taps, weights, bias)

    def make(name: str, output: str) -> AnyLayer:
        return DepthwiseConv2D(
            name,
            (image.name,),
            output,
            taps,
            INT8,
            rescale,
            ACCUMULATOR_BITS,
            window.stride,
            padding,
            window.dilation,
        )

    context.add(operator.outputs[0], make("", "").output_shape(image.shape), make)


def fully_connected(
    context: Context, operator: FileOperator, source: Value, weights: Weights, bias: Integers | None
) -> None:
    matrix = weights.values
    units, features = matrix.shape
    positions = math.prod(source.shape) // features
    rescale = _rescale(context, operator, matrix, weights, bias, real=context.litert)
    if rescale.real is not None and float(rescale.real.max()) >= 2.0**31:
        raise Refusal("its scales ask for a factor of 2**31 or more")
    kept = operator.option("KeepNumDims")
    if kept and source.shape[-1:] != (features,):
        raise Refusal(f"it keeps the axes of {source.shape}, whose last is not {features}")
    shape = (*source.shape[:-1], units) if kept else (units,) if positions == 1 else (positions, units)
    if shape == (units,):
        context.add(
            operator.outputs[0],
            shape,
            lambda name, output: FullyConnected(
                name, (source.name,), output, matrix, INT8, rescale, ACCUMULATOR_BITS
            ),
        )
    else:
        _at_positions(context, operator, source, matrix, rescale, shape)


def _at_positions(
    context: Context,
    operator: FileOperator,
    source: Value,
    matrix: Integers,
    rescale: AffineRescale,
    shape: tuple[int, ...],
) -> None:
    """A fully connected layer at each of several positions: a convolution of 1x1 along them."""
    units, features = matrix.shape
    positions, index = math.prod(source.shape) // features, operator.outputs[0]
    target = context.declare(index, shape)
    row = context.between(f"{target.name}/row", (positions, 1, features), operator.inputs[0])
    sums = context.between(f"{target.name}/sums", (positions, 1, units), index)
    kernels = matrix.reshape(units, 1, 1, features)
    context.layer(Reshape(context.layer_name("/row"), (source.name,), row, (positions, 1, features)))
    context.layer(Conv2D(context.layer_name(), (row,), sums, kernels, INT8, rescale, ACCUMULATOR_BITS))
    context.layer(Reshape(context.layer_name("/shape"), (sums,), target.name, shape))
    context.values[index] = target


def _rescale(
    context: Context,
    operator: FileOperator,
    values: Integers,
    weights: Weights,
    bias: Integers | None,
    *,
    real: bool = False,
) -> AffineRescale:
    """Of `values`, the weights with their output channels first. `real`: see AffineRescale."""
    channels = len(values)
    if bias is None:
        bias = np.zeros(channels, np.int64)
    if bias.size != channels:
        name = context.tensor(operator.inputs[2]).name
        raise Refusal(f"its bias {name} has {bias.size} elements for {channels} channels")
    scale, zero_point = context.quantization(operator.inputs[0])
    factors = scale * weights.scales / context.quantization(operator.outputs[0])[0]
    low, high = context.clamp(operator.option("FusedActivationFunction"), operator.outputs[0])
    return affine_rescale(
        fold_zero_point(bias, values, zero_point), [float(f) for f in factors], low, high, real=real
    )
