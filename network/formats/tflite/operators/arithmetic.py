"""Sums, products, means, and changes of scale.

Ref: Jacob et al., 2017 [jacob2017: A.2]
"""

from __future__ import annotations

import math

from intaglio.network.formats.tflite.context import INT8, RELU, RELU6, Context, quantization
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.graph import Add, FixedPointScale, Integers, Mean, Mul, Requantize, Sub, TensorType
from intaglio.network.importing.axes import inner_axes
from intaglio.network.importing.builder import Value
from intaglio.network.importing.edges import require_same_meaning
from intaglio.network.importing.folding import broadcast
from intaglio.network.importing.refusals import Refusal
from intaglio.network.importing.scales import ONE, quantized_multiplier

_UINT8 = TensorType(8, signed=False)


def add(context: Context, operator: FileOperator, first: int, second: int) -> None:
    """ADD and SUB: both operands on twice the greater of their scales [jacob2017: A.2]."""
    names, shape = _operands(context, first, second)
    index = operator.outputs[0]
    a, b, out = (context.quantization(i)[0] for i in (first, second, index))
    twice = 2 * max(a, b)
    reals = [a / twice, b / twice, twice / ((1 << 20) * out)]
    one, other, total = (quantized_multiplier(real) for real in reals)
    if total.exponent > 0:
        raise Refusal("its output's scale is too fine beside its inputs': both runtimes abort there")
    low, high = context.clamp(operator.option("FusedActivationFunction"), index)
    layer = Add if operator.op == "ADD" else Sub
    context.add(index, shape, lambda name, output: layer(name, names, output, one, other, total, low, high))


def mul(context: Context, operator: FileOperator, first: int, second: int) -> None:
    names, shape = _operands(context, first, second)
    index = operator.outputs[0]
    a, b, out = (context.quantization(i)[0] for i in (first, second, index))
    scale = context.factor(a, b, out)
    low, high = context.clamp(operator.option("FusedActivationFunction"), index)
    context.add(index, shape, lambda name, output: Mul(name, names, output, scale, low, high))


def _operands(context: Context, *indices: int) -> tuple[tuple[str, str], tuple[int, ...]]:
    """Names of two operands, one of which may be a constant, and the shape to which they broadcast."""
    computed = [context.value(index) for index in indices if context.tensor(index).data is None]
    if not computed:
        raise Refusal("all its inputs are constants")
    if context.batch != 1 and len({len(value.shape) for value in computed}) > 1:
        raise Refusal("its inputs differ in their number of axes, which needs a batch of 1")
    if len({value.batched for value in computed}) > 1:
        raise Refusal("only one of its inputs has a batch")
    rank = max(len(value.shape) for value in computed)
    first, second = (context.operand(index, rank, computed[0].batched) for index in indices)
    tensors = context.builder.tensors
    return (first, second), broadcast(tensors[first].shape, tensors[second].shape)


def mean(context: Context, operator: FileOperator, value: Value, numbers: Integers) -> None:
    axes = inner_axes(numbers.tolist(), value.rank, value.batched)
    if not axes:
        raise Refusal("it names no axis to take the mean over")
    source, index = operator.inputs[0], operator.outputs[0]
    count = math.prod(value.shape[axis] for axis in axes)
    scale = quantized_multiplier(context.quantization(source)[0] / context.quantization(index)[0])
    # The division by `count` is in the multiplier, which keeps as many of its bits as fit 32.
    shift = min(count.bit_length() - 1, 32, 31 + scale.exponent)
    divided = FixedPointScale((scale.multiplier << shift) // count, scale.exponent - shift)
    kept = bool(operator.option("KeepDims"))
    shape = tuple(
        1 if axis in axes else extent for axis, extent in enumerate(value.shape) if kept or axis not in axes
    )
    context.add(index, shape, lambda name, output: Mean(name, (value.name,), output, axes, kept, divided))


def relu(context: Context, operator: FileOperator, value: Value) -> None:
    """RELU and RELU6."""
    source, index = operator.inputs[0], operator.outputs[0]
    low, high = context.clamp(RELU if operator.op == "RELU" else RELU6, index)
    factor = context.factor(context.quantization(source)[0], 1.0, context.quantization(index)[0])
    if operator.op == "RELU6" and not context.litert:
        factor = ONE
    _requantize(context, operator, value, factor, low, high)


def quantize(context: Context, operator: FileOperator, value: Value) -> None:
    """A change of scale between int8 tensors; to uint8 at the network's end it is the host's."""
    source, index = operator.inputs[0], operator.outputs[0]
    target = context.tensor(index)
    if target.type == "UINT8":
        names = (target.name, context.tensor(source).name)
        require_same_meaning(quantization(target, _UINT8), context.quantization(source), names)
        context.leave(operator)
        return
    factor = quantized_multiplier(context.quantization(source)[0] / context.quantization(index)[0])
    _requantize(context, operator, value, factor, INT8.min, INT8.max)


def dequantize(context: Context, operator: FileOperator, value: Value) -> None:
    """To floats at the network's end, which is the host's."""
    context.leave(operator)


def _requantize(
    context: Context, operator: FileOperator, value: Value, factor: FixedPointScale, low: int, high: int
) -> None:
    context.add(
        operator.outputs[0],
        value.shape,
        lambda name, output: Requantize(name, (value.name,), output, factor, low, high),
    )
