"""What must hold of an operator beyond its operands, one function a constraint: its docstring says it in a sentence.

What shows only as a layer is made (a window that does not fit, a shape that is not the output's) is refused there.
"""

from __future__ import annotations

import math

from intaglio.network.formats.tflite.context import Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.importing.refusals import Refusal

SOFTMAX_ELEMENTS = 4095
"""Above, the sum of exponentials leaves its 12 integer bits."""


def one_scale(context: Context, operator: FileOperator) -> None:
    """All int8 inputs and outputs have the same scale and zero point."""
    data = [i for i in operator.inputs if i >= 0 and context.tensor(i).type == "INT8"]
    if len({context.quantization(index) for index in (*data, *operator.outputs)}) > 1:
        raise Refusal("its inputs and outputs differ in scale or zero point")


def no_activation(context: Context, operator: FileOperator) -> None:
    """It has no fused activation."""
    if operator.option("FusedActivationFunction"):
        raise Refusal("it has a fused activation")


def conv_weights(context: Context, operator: FileOperator) -> None:
    """Its weights are (outputs, height, width, channels), with the channels of its input."""
    shape, channels = _weights_and_channels(context, operator)
    if len(shape) != 4 or shape[3] != channels:
        raise Refusal(f"its weights are {shape}, its input has {channels} channels")


def depthwise_weights(context: Context, operator: FileOperator) -> None:
    """Its weights are (1, height, width, outputs), the outputs a multiple of its input's channels."""
    shape, channels = _weights_and_channels(context, operator)
    if len(shape) != 4 or shape[0] != 1 or shape[3] % channels:
        raise Refusal(f"its weights are {shape}, its input has {channels} channels")


def matrix_weights(context: Context, operator: FileOperator) -> None:
    """Its weights are (outputs, features), and its input's elements a multiple of the features."""
    shape, size = context.tensor(operator.inputs[1]).shape, math.prod(context.value(operator.inputs[0]).shape)
    if len(shape) != 2 or size % shape[1]:
        raise Refusal(f"its weights are {shape}, its input has {size} elements")


def _weights_and_channels(context: Context, operator: FileOperator) -> tuple[tuple[int, ...], int]:
    return context.tensor(operator.inputs[1]).shape, context.value(operator.inputs[0]).shape[2]


def plain_weights(context: Context, operator: FileOperator) -> None:
    """Its weights are not shuffled."""
    if operator.option("WeightsFormat"):
        raise Refusal("its weights are shuffled")


def bias_on_scale(context: Context, operator: FileOperator) -> None:
    """With one scale for all weights, its bias has the scale of its products, within 0.02 of the output's."""
    scales = context.tensor(operator.inputs[1]).scales
    if len(scales) != 1 or len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return
    stated = context.tensor(operator.inputs[2]).scales
    product = context.quantization(operator.inputs[0])[0] * float(scales[0])
    bias = float(stated[0]) if len(stated) else 0.0
    if not abs(product - bias) / context.quantization(operator.outputs[0])[0] <= 0.02:
        raise Refusal(f"its bias has a scale of {bias:.6g}, its products {product:.6g}")


def stated_multiplier(context: Context, operator: FileOperator) -> None:
    """Its channel multiplier is that of its weights; for LiteRT it may be 0, too."""
    shape, channels = _weights_and_channels(context, operator)
    stated = operator.option("DepthMultiplier")
    # LiteRT finds out by itself; 0 is what it then may be.
    if stated != shape[3] // channels and (stated or not context.litert):
        raise Refusal(f"its channel multiplier is {stated}, its weights are {shape} for {channels} channels")


def finite_alpha(context: Context, operator: FileOperator) -> None:
    """Its alpha is a finite number."""
    if not math.isfinite(float(operator.option("Alpha"))):
        raise Refusal(f"its alpha is {float(operator.option('Alpha'))}")


def relu6_clamps_alone(context: Context, operator: FileOperator) -> None:
    """For TFLM, its input and output have the same scale and zero point: it clamps and does no more."""
    pair = (context.quantization(index) for index in (operator.inputs[0], operator.outputs[0]))
    if not context.litert and len(set(pair)) > 1:
        raise Refusal("tflm's RELU6 only clamps: its input and output must have one scale")


def logistic_scale(context: Context, operator: FileOperator) -> None:
    """Its output has the scale 1/256 and the zero point -128."""
    _require_output(context, operator, 1 / 256, -128)


def tanh_scale(context: Context, operator: FileOperator) -> None:
    """Its output has the scale 1/128 and the zero point 0."""
    _require_output(context, operator, 1 / 128, 0)


def sigmoidal_input(context: Context, operator: FileOperator) -> None:
    """The scale of its input is 2**-26 or more, and below 2**31."""
    real = context.quantization(operator.inputs[0])[0]
    if not 2.0**-26 <= real < 2.0**31:
        raise Refusal(f"its input has a scale of {real:.3g}; 2**-26 to 2**31 is supported")


def softmax_scale(context: Context, operator: FileOperator) -> None:
    """Its output has the scale 1/256, for LiteRT within a thousandth of it, and the zero point -128."""
    _require_output(context, operator, 1 / 256, -128, 0.001 / 256 if context.litert else 0)


def softmax_rows(context: Context, operator: FileOperator) -> None:
    """Its last axis has at most 4095 elements."""
    shape = context.value(operator.inputs[0]).shape
    if not shape or shape[-1] > SOFTMAX_ELEMENTS:
        raise Refusal(f"its last axis has {shape[-1:]} elements; its sum holds at most {SOFTMAX_ELEMENTS}")


def plain_slice(context: Context, operator: FileOperator) -> None:
    """It has no ellipsis, makes no new axes, and its ends are positions, not offsets."""
    for mask in ("EllipsisMask", "NewAxisMask", "Offset"):
        if operator.option(mask):
            raise Refusal(f"its {mask} is set, which is not supported")


def to_float(context: Context, operator: FileOperator) -> None:
    """It writes float32."""
    kind = context.tensor(operator.outputs[0]).type
    if kind != "FLOAT32":
        raise Refusal(f"it writes {kind.lower()}")


def _require_output(
    context: Context, operator: FileOperator, scale: float, zero_point: int, within: float = 0
) -> None:
    found = context.quantization(operator.outputs[0])
    if abs(found[0] - scale) > within or found[1] != zero_point:
        raise Refusal(
            f"its output must have the scale 1/{1 / scale:.0f} and zero point {zero_point}, not {found}"
        )
