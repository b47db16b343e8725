"""A whole network in integers: every tensor of every layer, and the sums that did not fit their accumulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intaglio.golden.elementwise import add, mean, mul, unary
from intaglio.golden.fixed_point import clamp, wrap
from intaglio.golden.layers import (
    average_pool2d,
    conv2d_blocks,
    depthwise_conv2d_blocks,
    fully_connected_blocks,
    max_pool2d,
    sum_bound,
)
from intaglio.golden.rescale import accumulator_bias, apply
from intaglio.golden.transcendental import softmax
from intaglio.network import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    NetworkError,
    Pad,
    Requantize,
    Reshape,
    Softmax,
    StridedSlice,
    Tanh,
    Tensor,
    TensorType,
    Transpose,
)
from intaglio.network.graph import AnyLayer, WeightLayer
from intaglio.network.inputs import check_batch

BATCH = 64
"""Inferences that go through the layers together: their tensors stay in the cache from one layer to the next."""

Inputs = Mapping[str, npt.NDArray] | npt.NDArray


@dataclass(frozen=True)
class Result:
    """What a network computed.

    Attributes
    ----------
    tensors : by name, each of its tensor's dtype, batch first; all of the network's, inputs too, or its outputs alone
    overflows : by layer, how many exact sums did not fit `accumulator_bits` and were taken modulo
    """

    tensors: Mapping[str, npt.NDArray]
    overflows: Mapping[str, int]


def run(
    network: Network,
    inputs: Inputs,
    *,
    outputs_only: bool = False,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda done: None,
) -> Result:
    """Run `network` on `inputs`.

    Parameters
    ----------
    network : Network
    inputs : integers of any dtype, (inferences, *shape of the tensor), by name; an array alone where there is one input
    outputs_only : keep the network's outputs alone
    batch : inferences computed at a time
    progress : called with the number of inferences that are done

    Returns
    -------
    Result

    Raises
    ------
    NetworkError
        Where inputs are missing, of another shape, not integers or outside their type (naming the value and where),
        or the network holds what golden does not compute.
    ValueError
        Where `batch` is not positive.
    """
    feeds, count = _checked(network, inputs, batch)
    names = _kept(network, outputs_only)
    tensors = {
        name: np.empty((count, *network.tensors[name].shape), network.tensors[name].type.dtype)
        for name in names
    }
    overflows = dict.fromkeys((layer.name for layer in network.layers), 0)
    first = 0
    for part in _batches(network, feeds, count, outputs_only, batch):
        for name, values in part.tensors.items():
            tensors[name][first : first + len(values)] = values
        for name, overflowed in part.overflows.items():
            overflows[name] += overflowed
        first += batch
        progress(min(first, count))
    return Result(tensors, overflows)


def run_batches(
    network: Network, inputs: Inputs, *, outputs_only: bool = False, batch: int = BATCH
) -> Iterator[Result]:
    """As `run`, a Result for each `batch` inferences, in order: memory for one batch alone.

    Inputs are checked, all of them, before the first result.
    """
    feeds, count = _checked(network, inputs, batch)
    return _batches(network, feeds, count, outputs_only, batch)


def _kept(network: Network, outputs_only: bool) -> tuple[str, ...]:
    return network.outputs if outputs_only else (*network.inputs, *(layer.output for layer in network.layers))


def _batches(
    network: Network, feeds: Mapping[str, npt.NDArray], count: int, outputs_only: bool, batch: int
) -> Iterator[Result]:
    names = _kept(network, outputs_only)
    for first in range(0, count, batch):
        tensors = {
            name: values[first : first + batch].astype(network.tensors[name].type.dtype, copy=False)
            for name, values in feeds.items()
        }
        overflows = {}
        for layer in network.layers:
            operands = [
                tensors[name] if name in tensors else network.constants[name][np.newaxis]
                for name in layer.inputs
            ]
            try:
                tensors[layer.output], overflows[layer.name] = _run_layer(layer, network, operands)
            except (TypeError, ValueError) as error:
                raise NetworkError(f"layer {layer.name}: {error}") from error
        yield Result({name: tensors[name] for name in names}, overflows)


def _run_layer(layer: AnyLayer, network: Network, operands: list[npt.NDArray]) -> tuple[npt.NDArray, int]:
    """A layer's output, and how many of its sums overflowed. A constant operand has a batch of 1."""
    if isinstance(layer, Conv2D | DepthwiseConv2D | FullyConnected):
        return _run_weights(layer, network, operands[0])
    sources, target = tuple(network.tensors[name] for name in layer.inputs), network.tensors[layer.output]
    values = operands[0]
    match layer:
        case MaxPool2D():
            return max_pool2d(values, layer.kernel, layer.stride, layer.padding), 0
        case AveragePool2D():
            pooled = average_pool2d(values, layer.kernel, layer.stride, layer.padding)
            return clamp(pooled, layer.low, layer.high).astype(target.type.dtype), 0
        case Mean():
            return mean(layer, values, sources[0], target), 0
        case Add():  # and Sub, which is one
            first, second = (_aligned(operand, len(target.shape)) for operand in operands)
            return add(layer, first, second, (sources[0], sources[1]), target), 0
        case Mul():
            first, second = (_aligned(operand, len(target.shape)) for operand in operands)
            return mul(layer, first, second, (sources[0], sources[1]), target), 0
        case Requantize() | LeakyRelu() | HardSwish() | Logistic() | Tanh():
            return unary(layer, values, sources[0], target), 0
        case Softmax():
            return softmax(values, layer.scale, layer.least).astype(target.type.dtype), 0
        case Pad():
            return np.pad(values, ((0, 0), *layer.padding), constant_values=layer.value), 0
        case Concatenation():
            batch = max(len(operand) for operand in operands)
            whole = [np.broadcast_to(operand, (batch, *operand.shape[1:])) for operand in operands]
            return np.concatenate(whole, axis=layer.axis + 1).astype(target.type.dtype), 0
        case Reshape():
            return values.reshape(len(values), *layer.shape), 0
        case StridedSlice():
            axes = zip(layer.begin, layer.extent, layer.stride, strict=True)
            steps = (begin + stride * np.arange(extent) for begin, extent, stride in axes)
            return values[np.ix_(np.arange(len(values)), *steps)], 0
        case Transpose():
            return np.ascontiguousarray(values.transpose(0, *(axis + 1 for axis in layer.permutation))), 0
    raise NetworkError(f"golden does not compute {layer.op}")


def _aligned(values: npt.NDArray, rank: int) -> npt.NDArray:
    """`values` with axes of one element after the batch, so that the others broadcast from the last one on."""
    return values.reshape(len(values), *(1,) * (rank - values.ndim + 1), *values.shape[1:])


def _run_weights(layer: WeightLayer, network: Network, values: npt.NDArray) -> tuple[npt.NDArray, int]:
    """As `_run_layer`, of a layer with weights."""
    source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
    if isinstance(layer, FullyConnected):
        blocks, bound = fully_connected_blocks(values, layer.weights), sum_bound(values, layer.weights)
    else:
        if any(layer.padding):
            _require_in_type(source)
        take = conv2d_blocks if isinstance(layer, Conv2D) else depthwise_conv2d_blocks
        blocks = take(values, layer.weights, layer.stride, layer.padding, layer.dilation, source.zero_point)
        # The padding takes part in the sums as the input's elements do.
        bound = max(sum_bound(values, layer.weights), sum_bound(np.array([source.zero_point]), layer.weights))

    bias = accumulator_bias(layer.rescale)
    if bias is not None:
        bound += max(abs(int(bias.min())), abs(int(bias.max())))
    if bound >= 1 << 63:
        raise NetworkError(f"its sums may reach {bound}, beyond the 64 bits in which golden is exact")
    fits = bound < 1 << (layer.accumulator_bits - 1)

    output = np.empty((len(values), *target.shape), target.type.dtype)
    overflows = 0
    for where, sums in blocks:
        if bias is not None:
            sums += bias
        if not fits:
            wrapped = wrap(sums, layer.accumulator_bits)
            overflows += int(np.count_nonzero(wrapped != sums))
            sums = wrapped
        output[where] = apply(layer.rescale, sums, target)
    return output, overflows


def _require_in_type(tensor: Tensor) -> None:
    if not tensor.type.min <= tensor.zero_point <= tensor.type.max:
        raise NetworkError(
            f"its padding is the zero point of {tensor.name}, {tensor.zero_point}, which is no {tensor.type}"
        )


def _checked(network: Network, inputs: Inputs, batch: int) -> tuple[dict[str, npt.NDArray], int]:
    """The inputs by name, each in range and of the right shape, and how many inferences they hold."""
    if batch < 1:
        raise ValueError(f"`batch` must be at least 1, not {batch}")
    if not isinstance(inputs, Mapping):
        if len(network.inputs) != 1:
            raise NetworkError(
                f"network {network.name} has {len(network.inputs)} inputs; name each: {', '.join(network.inputs)}"
            )
        inputs = {network.inputs[0]: inputs}
    feeds = {name: np.asarray(values) for name, values in inputs.items()}
    count = check_batch(network, feeds)
    for name, values in feeds.items():
        _check_values(name, values, network.tensors[name].type)
    return feeds, count


def _check_values(name: str, values: npt.NDArray, kind: TensorType) -> None:
    """Refuse what `kind` does not hold, before any narrowing."""
    if values.dtype.kind not in "iu":
        raise NetworkError(f"input {name}: golden takes integers, not {values.dtype}")
    held = np.iinfo(values.dtype)
    if not values.size or (held.min >= kind.min and held.max <= kind.max):
        return
    if int(values.min()) >= kind.min and int(values.max()) <= kind.max:
        return
    # An integer dtype compares with Python's integers by value, whatever their width.
    at = np.argwhere((values < kind.min) | (values > kind.max))[0]
    value, place = int(values[tuple(at)]), [int(index) for index in at]
    raise NetworkError(f"input {name}: {value} at {place} is outside {kind.min}...{kind.max} ({kind})")
