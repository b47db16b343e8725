"""Sums and products of two tensors, functions of one element, softmax: as commands of the elementwise engine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from intaglio.compiler.views import Interval
from intaglio.golden.elementwise import Unary, unary_table
from intaglio.golden.transcendental import softmax_table
from intaglio.network import (
    Add,
    HardSwish,
    LeakyRelu,
    Logistic,
    Mul,
    Network,
    NetworkError,
    Requantize,
    Softmax,
    Sub,
    Tanh,
)
from intaglio.network.graph import FixedPointScale
from intaglio.spec.commands import OPERAND_SHIFT, SOFTMAX_PLANES, Operation

Binary = Add | Sub | Mul
UNARY = (Requantize, LeakyRelu, HardSwish, Logistic, Tanh)
MOST_IN_SOFTMAX = 4095

Bytes = npt.NDArray[np.uint8]


def binary_fields(layer: Binary, network: Network) -> dict[str, int]:
    """What ADD, SUBTRACT or MULTIPLY computes. Raises NetworkError where the machine has no such numbers."""
    first, second = (network.tensors[name] for name in layer.inputs)
    target = network.tensors[layer.output]
    fields = {
        "a_zero_point": first.zero_point,
        "b_zero_point": second.zero_point,
        "zero_point": target.zero_point,
        "low": layer.low,
        "high": layer.high,
    }
    if isinstance(layer, Mul):
        return fields | {"operation": Operation.MULTIPLY} | _result(layer.scale)
    if layer.left_shift != OPERAND_SHIFT:
        raise NetworkError(f"it shifts its operands by {layer.left_shift}, only {OPERAND_SHIFT} is possible")
    operation = Operation.SUBTRACT if isinstance(layer, Sub) else Operation.ADD
    for operand, scale in (("a", layer.first), ("b", layer.second)):
        if scale.exponent > 0 or not scale.double_rounding:
            raise NetworkError(
                f"it scales an operand by {scale.multiplier} * 2**{scale.exponent - 31} in "
                f"{'double' if scale.double_rounding else 'single'} rounding; below 1 and in double alone is possible"
            )
        fields |= {f"{operand}_multiplier": scale.multiplier, f"{operand}_shift": -scale.exponent}
    return fields | {"operation": operation} | _result(layer.total)


def _result(scale: FixedPointScale) -> dict[str, int]:
    return {
        "multiplier": scale.multiplier,
        "exponent": scale.exponent,
        "double": int(scale.double_rounding),
    }


def table_of(layer: Unary | Softmax, network: Network) -> Bytes:
    """The bytes of a layer's tables, (planes, 256), in the order of `docs/architecture.md`."""
    source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
    if isinstance(layer, Softmax):
        entries = softmax_table(layer.scale, layer.least).astype("<u4")
        return np.ascontiguousarray(entries.view(np.uint8).reshape(-1, SOFTMAX_PLANES).T)
    table = unary_table(layer, source, target)  # from the type's least value on
    by_pattern = np.roll(table, source.type.min)
    return by_pattern.astype(np.int64).astype(np.uint8)[np.newaxis]


def runs_of(
    target: tuple[int, ...], operands: tuple[tuple[int, ...], ...]
) -> Iterator[tuple[list[dict[str, int]], int, int, int, int]]:
    """The commands of a broadcast: for each the operands' fields (``source`` an offset, ``pitch``, ``splat``), the
    offset and pitch of the destination, and the counts of pixels and channels. Offsets are in elements, tensors dense.

    Axes along which both operands move alike are joined; the innermost is a command's run, the next its pixels.
    """
    rank = len(target)
    shapes = [(1,) * (rank - len(shape)) + tuple(shape) for shape in operands]
    strides = []
    for shape in shapes:
        dense = [math.prod(shape[axis + 1 :]) for axis in range(rank)]
        strides.append([0 if extent == 1 else step for extent, step in zip(shape, dense, strict=True)])
    axes: list[tuple[int, list[int]]] = []  # extent and the operands' strides, the innermost first
    for axis in reversed(range(rank)):
        extent = target[axis]
        if extent == 1:
            continue
        steps = [stride[axis] for stride in strides]
        if axes and all(
            step == axes[-1][0] * before for step, before in zip(steps, axes[-1][1], strict=True)
        ):
            axes[-1] = (axes[-1][0] * extent, axes[-1][1])
        else:
            axes.append((extent, steps))
    if not axes or any(step not in (0, 1) for step in axes[0][1]):
        axes.insert(0, (1, [0] * len(shapes)))
    axes += [(1, [0] * len(shapes))] * (2 - len(axes))
    (channels, inner), (pixels, outer) = axes[:2]
    counts = [extent for extent, _ in axes[2:]]
    for place in itertools.product(*(range(extent) for extent in reversed(counts))):
        indices = list(reversed(place))
        fields = [
            {
                "source": sum(i * steps[operand] for i, (_, steps) in zip(indices, axes[2:], strict=True)),
                "pitch": outer[operand],
                "splat": int(inner[operand] == 0),
            }
            for operand in range(len(shapes))
        ]
        sizes = [math.prod(counts[:level]) for level in range(len(counts))]
        offset = sum(i * size for i, size in zip(indices, sizes, strict=True)) * channels * pixels
        yield fields, offset, channels, pixels, channels


def operand_interval(fields: dict[str, int], pixels: int, channels: int, address: int) -> Interval:
    start = address + fields["source"]
    return Interval(start, start + (pixels - 1) * fields["pitch"] + (1 if fields["splat"] else channels))
