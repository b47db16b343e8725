"""Functions of one element, and softmax. `golden` has how each is computed in integers.

Ref: Jacob et al., 2017 [jacob2017: A.1]
"""

from __future__ import annotations

import math

from intaglio.network.formats.tflite.context import Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.graph import FixedPointScale, HardSwish, LeakyRelu, Logistic, Softmax, Tanh
from intaglio.network.importing.builder import Value
from intaglio.network.importing.refusals import Refusal
from intaglio.network.importing.scales import ONE, quantized_multiplier


def leaky_relu(context: Context, operator: FileOperator, value: Value) -> None:
    source, index = operator.inputs[0], operator.outputs[0]
    scale, target = context.quantization(source)[0], context.quantization(index)[0]
    positive = context.factor(scale, 1.0, target)
    negative = context.factor(scale, float(operator.option("Alpha")), target)
    context.add(
        index,
        value.shape,
        lambda name, output: LeakyRelu(name, (value.name,), output, positive, negative),
    )


def hard_swish(context: Context, operator: FileOperator, value: Value) -> None:
    source, index = operator.inputs[0], operator.outputs[0]
    raised = context.quantization(source)[0] / 128
    result = context.factor(raised, 1.0, context.quantization(index)[0])
    relu = context.factor(raised, 1.0, 3 / 32768)
    if not -15 <= result.exponent <= 0 or relu.exponent < -15:
        raise Refusal("the scales of its input and output are too far apart")
    context.add(
        index,
        value.shape,
        lambda name, output: HardSwish(
            name,
            (value.name,),
            output,
            _int16_multiplier(result.multiplier),
            result.exponent,
            _int16_multiplier(relu.multiplier),
            relu.exponent,
        ),
    )


def sigmoidal(context: Context, operator: FileOperator, value: Value) -> None:
    """LOGISTIC and TANH."""
    real = context.quantization(operator.inputs[0])[0]
    # From a scale of 8 on the radius is 0: every input saturates, whatever the multiplier.
    scale = quantized_multiplier(real * 2.0**27) if real < 8 else ONE
    radius = math.floor(15 * 2.0**27 / 2.0**scale.exponent) if real < 8 else 0
    layer = Logistic if operator.op == "LOGISTIC" else Tanh
    in_floats = real if context.litert else None
    context.add(
        operator.outputs[0],
        value.shape,
        lambda name, output: layer(name, (value.name,), output, scale, radius, in_floats),
    )


def softmax(context: Context, operator: FileOperator, value: Value) -> None:
    beta = float(operator.option("Beta"))
    real = min(beta * context.quantization(operator.inputs[0])[0] * 2.0**26, 2.0**31 - 1)
    if not real > 1:
        raise Refusal(f"its beta of {beta} and its input's scale are too small")
    # At its greatest, 2**31 - 1, the multiplier takes all 31 bits and the exponent is 31.
    fraction, exponent = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    scale, least = FixedPointScale(multiplier, exponent), -math.floor(31 * 2.0**26 / 2.0**exponent)
    context.add(
        operator.outputs[0],
        value.shape,
        lambda name, output: Softmax(name, (value.name,), output, scale, least),
    )


def _int16_multiplier(multiplier: int) -> int:
    """31 bits rounded to 15; the greatest saturate."""
    if multiplier >= 2**31 - 1 - (1 << 15):
        return 2**15 - 1
    return (multiplier + (1 << 15)) >> 16
