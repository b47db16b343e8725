"""Whether a machine can run a network: types, weights, biases, accumulators; all that does not fit, by layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from intaglio.compiler.accumulate import Accumulating, Accumulation, Affine, accumulation
from intaglio.compiler.copies import MOVING
from intaglio.compiler.digits import weight_digits
from intaglio.compiler.elementwise import MOST_IN_SOFTMAX, UNARY, Binary, binary_fields
from intaglio.compiler.views import digits_of
from intaglio.golden.bounds import accumulator_bounds
from intaglio.network import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LlsqRescale,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    NetworkError,
    Reshape,
    SbnqRescale,
    Softmax,
    Sub,
    Tensor,
)
from intaglio.network.graph import AnyLayer
from intaglio.spec.commands import Opcode, command_layout
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.records import record_layout

MOST_DIGITS = command_layout(Opcode.MATMUL)["digits"][1].max
ACCUMULATING = (Conv2D, DepthwiseConv2D, FullyConnected, AveragePool2D, Mean)


def reads_signed(tensor: Tensor, config: AcceleratorConfig) -> bool:
    """How the array reads the first (highest) digit of a value. Unsigned ones that leave their top bit free can be read
    as signed, by a machine that knows no other."""
    return tensor.type.signed or not config.unsigned_activations


def check_network(network: Network, config: AcceleratorConfig) -> tuple[dict[str, Accumulation], list[str]]:
    """What the array does for each layer that it runs, and warnings, of a network that the machine can run.

    Raises NetworkError with everything that keeps it from it.
    """
    problems: list[str] = []
    warnings: list[str] = []
    windows: dict[str, Accumulation] = {}
    for layer in network.layers:
        prefix = f"layer {layer.name}: "
        found: list[str] = []
        try:
            if isinstance(layer, ACCUMULATING):
                windows[layer.name], warned = accumulation(layer, network)
                found, sums = _accumulating(layer, windows[layer.name], network, config)
                warnings += [prefix + text for text in (*warned, *sums)]
            else:
                found = list(_other_problems(layer, network, config))
        except NetworkError as error:
            found.append(str(error))
        problems += [prefix + text for text in found]
    if problems:
        raise NetworkError("; ".join(problems))
    return windows, warnings


def _other_problems(layer: AnyLayer, network: Network, config: AcceleratorConfig) -> Iterator[str]:
    tensors = [network.tensors[name] for name in (*layer.inputs, layer.output)]
    if isinstance(layer, MaxPool2D):
        if digits_of(tensors[0], config) > 1:
            yield (
                f"max pooling of {tensors[0].type} on {config.name}, "
                f"whose activations have {config.element_bits} bits"
            )
    elif isinstance(layer, (*UNARY, Add, Sub, Mul, Softmax)):
        yield from _elementwise_problems(layer, tensors, network, config)
    elif isinstance(layer, (*MOVING, Reshape)):
        if isinstance(layer, MOVING) and digits_of(tensors[0], config) > 1:
            yield f"{layer.op} of {tensors[0].type} on {config.name}, whose activations have {config.element_bits} bits"
    else:
        yield f"{config.name} has no command for {layer.op}"


def _elementwise_problems(
    layer: Binary | Softmax | AnyLayer, tensors: list[Tensor], network: Network, config: AcceleratorConfig
) -> Iterator[str]:
    if not config.affine:
        yield f"{config.name} has no elementwise engine, which {layer.op} wants; `rescales` must have affine"
        return
    for tensor in tensors:
        if (tensor.type.bits, tensor.type.signed) != (8, True):
            yield f"{tensor.name} is {tensor.type}; {layer.op} on {config.name} takes and gives int8"
    if isinstance(layer, Add | Sub | Mul):
        binary_fields(layer, network)
    if isinstance(layer, Softmax) and tensors[0].shape[-1] > MOST_IN_SOFTMAX:
        yield f"softmax of {tensors[0].shape[-1]:,} elements, at most {MOST_IN_SOFTMAX:,} are possible"


def _accumulating(
    layer: Accumulating, window: Accumulation, network: Network, config: AcceleratorConfig
) -> tuple[list[str], list[str]]:
    """Refusals and warnings of a layer that the array runs."""
    source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
    found = [
        *_operand_problems(layer, window, source, config),
        *_rescale_problems(window.rescale, target, config),
    ]
    if isinstance(layer, AveragePool2D | Mean):
        # Both average int8: the sum of what one window holds.
        if target.type.bits > 8 or not config.affine:
            found.append(f"{config.name} averages int8 alone, and by the affine rescale")
        return found, []
    refusal, warning = _accumulator(layer, network, config)
    return found + refusal, warning


def _operand_problems(
    layer: Accumulating, window: Accumulation, source: Tensor, config: AcceleratorConfig
) -> Iterator[str]:
    digits = digits_of(source, config)
    has = f"{config.name} has {', '.join(config.activation_types)}"
    spare_bit = not source.type.signed and source.type.bits < digits * config.element_bits
    if digits > MOST_DIGITS:
        yield f"an input of {source.type} takes {digits} digits, at most {MOST_DIGITS} are possible"
    elif source.type.signed and not config.signed_activations:
        yield f"its input {source.name} is {source.type}, {has}"
    elif digits > 1 and not config.unsigned_activations:
        yield f"its input {source.name} is {source.type} and its low digits are unsigned, {has}"
    elif digits > 1 and window.by_channel and config.depthwise_taps and window.outputs == source.shape[-1]:
        yield f"its input {source.name} is {source.type}; {layer.op} on {config.name} takes {config.element_bits} bits"
    elif not source.type.signed and not config.unsigned_activations and not spare_bit:
        yield f"its input {source.name} is {source.type}, {has}"
    if not source.type.min <= source.zero_point <= source.type.max:
        yield f"its input's zero point {source.zero_point} is outside {source.type}"
    elif any(window.padding) and digits > 1:
        mask = (1 << config.element_bits) - 1
        shifts = range(0, digits * config.element_bits, config.element_bits)
        if len({window.pad >> shift & mask for shift in shifts}) > 1:
            yield f"it pads with {window.pad}, whose {digits} digits on {config.name} differ"
    weights = weight_digits(window.weights, config)
    low, high = int(window.weights.min()), int(window.weights.max())
    worst = max(low, high, key=abs)
    if weights > 1 and not config.weight_digits:
        kind = config.weight
        yield f"a weight is {worst}, {config.name} has {kind} weights ({kind.min}...{kind.max})"
    elif weights > MOST_DIGITS:
        yield f"a weight is {worst}, which takes {weights} passes on {config.name}, at most {MOST_DIGITS} are possible"
    elif digits > 1 and (weights > 1 or config.weight.is_binary):
        yield (
            f"its input takes {digits} digits on {config.name}, and its weights are run in digits, too, or are binary: "
            "one of the two can be"
        )


def _rescale_problems(
    rescale: Affine | SbnqRescale | LlsqRescale, target: Tensor, config: AcceleratorConfig
) -> Iterator[str]:
    scheme = {SbnqRescale: "sbnq", LlsqRescale: "llsq", Affine: "affine"}[type(rescale)]
    if scheme not in config.rescales:
        yield f"its rescale is {scheme}, {config.name} has {', '.join(config.rescales)}"
        return
    most = 8 if scheme == "llsq" else config.element_bits
    if target.type.bits > most:
        yield f"its output is {target.type}, {config.name}'s rescale writes at most {most} bits"
    if scheme == "llsq":  # any bias is taken modulo the accumulator's width, as the sum is
        return
    # Golden takes biases of 48 bits; the affine ones are part of a sum of 32.
    bits = (
        32
        if isinstance(rescale, Affine)
        else min(record_layout("sbnq", config.accumulator_bits)["bias"].bits, 48)
    )
    limit = 1 << (bits - 1)
    outside = np.flatnonzero((rescale.bias < -limit) | (rescale.bias >= limit))
    if len(outside):
        channel = int(outside[0])
        yield (
            f"the bias of channel {channel} is {int(rescale.bias[channel]):,}, "
            f"{config.name} takes {-limit:,}...{limit - 1:,}"
            + (f" (and {len(outside) - 1} more)" * (len(outside) > 1))
        )


def _accumulator(
    layer: Conv2D | DepthwiseConv2D | FullyConnected, network: Network, config: AcceleratorConfig
) -> tuple[list[str], list[str]]:
    """Refusals and warnings. A sum is taken modulo `2**bits`: machine and graph agree if their bits do, or if the sum
    fits both."""
    bounds = accumulator_bounds(layer, network)
    low, high = int(np.min(bounds[0])), int(np.max(bounds[1]))
    machine, graph = config.accumulator_bits, layer.accumulator_bits
    bits = min(machine, graph)
    limit = 1 << (bits - 1)
    excess = max(-limit - low, high - limit + 1)
    if excess <= 0:
        return [], []
    reach = f"its sums may reach {low:,}...{high:,}, {excess:,} beyond {bits} bits"
    if machine == graph:
        return [], [f"{reach}: they wrap where they do"]
    return [f"{reach}; the network wraps them at {graph} bits, {config.name} at {machine}"], []
