"""How an operand is read, and what it must be: each reader's docstring says so in a sentence, each refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intaglio.network.formats.tflite.context import Context
from intaglio.network.graph import Integers
from intaglio.network.importing.builder import Value
from intaglio.network.importing.refusals import Refusal


@dataclass(frozen=True)
class Weights:
    """int8 weights in the file's order, and their float64 scale for each output channel, or one for all."""

    values: Integers
    scales: npt.NDArray[np.float64]


def value(context: Context, index: int) -> Value:
    """An int8 tensor that the network computes."""
    return context.value(index)


def image(context: Context, index: int) -> Value:
    """A batch of int8 images that the network computes: (batch, height, width, channels)."""
    found = context.value(index)
    if not found.batched or len(found.shape) != 3:
        raise Refusal(f"its input is {context.file.tensors[index].shape}, not a batch of images")
    return found


def value_or_constant(context: Context, index: int) -> int:
    """An int8 tensor that the network computes, or a constant."""
    if context.tensor(index).data is None:
        context.value(index)
    return index


def numbers(context: Context, index: int) -> npt.NDArray[np.int64]:
    """A constant of int32 or int64, or a shape that the file computes from static shapes."""
    return context.numbers(index)


def weights(context: Context, index: int) -> Weights:
    """Constant int8 weights with a zero point of 0 and one scale, or one an output channel along the first axis."""
    return _weights(context, index, 0)


def depthwise_weights(context: Context, index: int) -> Weights:
    """Constant int8 weights with a zero point of 0 and one scale, or one an output channel along the last axis of 4."""
    return _weights(context, index, 3)


def bias(context: Context, index: int) -> Integers:
    """A constant int32 bias, one an output channel; it may be absent."""
    tensor = context.tensor(index)
    if tensor.data is None or tensor.type != "INT32":
        raise Refusal(f"its bias {tensor.name} is not an int32 constant")
    return tensor.data.astype(np.int64).reshape(-1)


def _weights(context: Context, index: int, axis: int) -> Weights:
    tensor = context.tensor(index)
    what = f"its weights {tensor.name}"
    if tensor.data is None:
        raise Refusal(f"{what} are not a constant")
    if tensor.type != "INT8":
        raise Refusal(f"{what} are {tensor.type.lower()}; int8 is supported")
    if len(tensor.shape) <= axis:
        raise Refusal(f"{what} are {tensor.shape}")
    channels, scales = tensor.shape[axis], tensor.scales
    if len(scales) not in (1, channels):
        raise Refusal(f"{what} have {len(scales)} scales for {channels} output channels")
    if len(scales) > 1 and tensor.dimension != axis:
        raise Refusal(f"{what} have their scales along axis {tensor.dimension}, not {axis}")
    if not bool(np.all(np.isfinite(scales) & (scales > 0))):
        raise Refusal(f"a scale of {what} is not a positive number")
    if bool(np.any(tensor.zero_points)):
        raise Refusal(f"{what} have a zero point other than 0")
    return Weights(tensor.data.astype(np.int64), scales.astype(np.float64))
