"""What moves elements and computes none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intaglio.network.errors import NetworkError
from intaglio.network.formats.tflite.context import Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.graph import AnyLayer, Concatenation, Integers, Pad, Reshape, StridedSlice, Transpose
from intaglio.network.importing.axes import (
    Slice,
    expanded,
    inner_axes,
    inner_permutation,
    picked,
    reshaped,
    sliced,
    squeezed,
)
from intaglio.network.importing.builder import Value
from intaglio.network.importing.refusals import Refusal


def pad(context: Context, operator: FileOperator, value: Value, numbers: Integers) -> None:
    if len(numbers) != 2 * value.rank or bool(np.any(numbers < 0)):
        raise Refusal(f"its padding is {numbers.tolist()[:16]} for {value.rank} axes")
    if value.batched and bool(np.any(numbers[:2])):
        raise Refusal("it pads the batch")
    inner = numbers[2 * value.batched :].reshape(-1, 2).tolist()
    padding = tuple((int(before), int(after)) for before, after in inner)
    shape = tuple(n + a + b for n, (a, b) in zip(value.shape, padding, strict=True))
    fill = context.quantization(operator.outputs[0])[1]
    context.add(
        operator.outputs[0], shape, lambda name, output: Pad(name, (value.name,), output, padding, fill)
    )


def concatenation(context: Context, operator: FileOperator, *indices: int) -> None:
    computed = [context.value(i) for i in indices if context.tensor(i).data is None]
    if not computed:
        raise Refusal("all its inputs are constants")
    if len({(value.batched, len(value.shape)) for value in computed}) > 1:
        raise Refusal("its inputs differ in their number of axes")
    first = computed[0]
    (axis,) = inner_axes([operator.option("Axis")], first.rank, first.batched)
    names = tuple(context.operand(i, len(first.shape), first.batched) for i in indices)
    shapes = [context.builder.tensors[name].shape for name in names]

    def make(name: str, output: str) -> AnyLayer:
        return Concatenation(name, names, output, axis)

    try:
        shape = make("", "").output_shape(*shapes)
    except NetworkError:
        raise Refusal(f"it joins {', '.join(map(str, shapes))} along axis {axis}") from None
    context.add(operator.outputs[0], shape, make)


def reshape(context: Context, operator: FileOperator, value: Value, wanted: Integers | None = None) -> None:
    """To the shape of its second operand, or of its options where that is absent."""
    stated = context.tensor(operator.outputs[0]).shape
    numbers = operator.option("NewShape") if wanted is None else wanted.tolist()
    shape = reshaped(numbers, context.batch * math.prod(value.shape))
    if shape != stated:
        raise Refusal(f"its shape is {shape}, its output {stated}")
    _reshape(context, operator, value)


def squeeze(context: Context, operator: FileOperator, value: Value) -> None:
    given = context.tensor(operator.inputs[0]).shape
    _require_shape(context, operator, squeezed(given, operator.option("SqueezeDims")))
    _reshape(context, operator, value)


def expand_dims(context: Context, operator: FileOperator, value: Value, numbers: Integers) -> None:
    given = context.tensor(operator.inputs[0]).shape
    _require_shape(context, operator, expanded(given, numbers.tolist()))
    _reshape(context, operator, value)


def _require_shape(context: Context, operator: FileOperator, shape: tuple[int, ...]) -> None:
    given, stated = (context.tensor(i).shape for i in (operator.inputs[0], operator.outputs[0]))
    if shape != stated:
        raise Refusal(f"it makes {shape} of {given}, its output is {stated}")


def _reshape(context: Context, operator: FileOperator, value: Value) -> None:
    """To the shape that the file states of the output."""
    stated = context.tensor(operator.outputs[0]).shape
    shape = stated[1:] if stated[:1] == (context.batch,) else stated
    if math.prod(shape) != math.prod(value.shape):
        raise Refusal(f"it makes {stated} of {context.tensor(operator.inputs[0]).shape}")
    context.add(operator.outputs[0], shape, lambda name, output: Reshape(name, (value.name,), output, shape))


def strided_slice(
    context: Context, operator: FileOperator, value: Value, begin: Integers, end: Integers, step: Integers
) -> None:
    begins, ends, steps = begin.tolist(), end.tolist(), step.tolist()
    full = ((context.batch,) if value.batched else ()) + value.shape
    if not len(begins) == len(ends) == len(steps) <= len(full) or 0 in steps:
        raise Refusal(f"it slices {len(begins)} axes of {full}, {steps} apart")
    no_begin, no_end, shrinks = (operator.option(mask) for mask in ("BeginMask", "EndMask", "ShrinkAxisMask"))
    parts = []
    for axis, size in enumerate(full):
        if axis >= len(begins):
            parts.append(Slice(0, size, 1))
        elif shrinks >> axis & 1:
            parts.append(picked(size, 0 if no_begin >> axis & 1 else begins[axis], steps[axis]))
        else:
            first = None if no_begin >> axis & 1 else begins[axis]
            last = None if no_end >> axis & 1 else ends[axis]
            parts.append(sliced(axis, size, first, last, steps[axis]))
    if value.batched:
        if parts[0] != Slice(0, context.batch, 1):
            raise Refusal("it slices the batch")
        parts = parts[1:]
    _slice(context, operator.outputs[0], value, parts)


def split(context: Context, operator: FileOperator, numbers: Integers, value: Value) -> None:
    count = len(operator.outputs)
    (axis,) = inner_axes(numbers.tolist()[:1], value.rank, value.batched) or (0,)
    whole = axis < len(value.shape) and value.shape[axis] % count == 0
    if operator.option("NumSplits") != count or not whole:
        raise Refusal(f"it makes {count} parts of {value.shape} along axis {axis}")
    extent = value.shape[axis] // count
    for part, index in enumerate(operator.outputs):
        parts = [Slice(0, size, 1) for size in value.shape]
        parts[axis] = Slice(part * extent, extent, 1)
        _slice(context, index, value, parts, f"/{part}")


def _slice(context: Context, index: int, value: Value, parts: Sequence[Slice], suffix: str = "") -> None:
    """A StridedSlice, and a Reshape behind it where axes go."""
    extents = tuple(part.extent for part in parts)
    shape = tuple(part.extent for part in parts if part.kept)
    target, whole = context.declare(index, shape), shape == extents
    cut = target.name if whole else context.between(f"{target.name}/cut", extents, index)
    name = context.layer_name(suffix if whole else f"{suffix}/cut")
    begins, strides = tuple(part.begin for part in parts), tuple(part.stride for part in parts)
    context.layer(StridedSlice(name, (value.name,), cut, begins, extents, strides))
    if not whole:
        context.layer(Reshape(context.layer_name(suffix), (cut,), target.name, shape))
    context.values[index] = target


def transpose(context: Context, operator: FileOperator, value: Value, numbers: Integers) -> None:
    order = inner_permutation(numbers.tolist(), value.rank, value.batched)
    shape = tuple(value.shape[axis] for axis in order)
    context.add(
        operator.outputs[0], shape, lambda name, output: Transpose(name, (value.name,), output, order)
    )
