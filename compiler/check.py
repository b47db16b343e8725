"""Whether a machine can run a network: types, weights, biases, accumulators; all that does not fit, by layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from golden.bounds import accumulator_bounds
from hdl import isa
from hdl.config import AcceleratorConfig
from network import Conv2D, FullyConnected, MaxPool2D, Network, NetworkError, SbnqRescale, Tensor

MOST_DIGITS = isa.layout(isa.Opcode.MATMUL)["digits"][1].max


def digits_of(tensor: Tensor, config: AcceleratorConfig) -> int:
    """Scratchpad elements that one value of a tensor takes."""
    return -(-tensor.type.bits // config.element_bits)


def reads_signed(tensor: Tensor, config: AcceleratorConfig) -> bool:
    """How the array reads the first (highest) digit of a value. Unsigned ones that leave their top bit free can be read
    as signed, by a machine that knows no other."""
    return tensor.type.signed or not config.unsigned_activations


def pad_of(tensor: Tensor, config: AcceleratorConfig) -> int:
    """The bits of an element that stands for the tensor's zero point."""
    return tensor.zero_point & ((1 << config.element_bits) - 1)


def check_network(network: Network, config: AcceleratorConfig) -> list[str]:
    """Warnings of a network that the machine can run. Raises NetworkError with everything that keeps it from it."""
    problems: list[str] = []
    warnings: list[str] = []
    for layer in network.layers:
        source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
        prefix = f"layer {layer.name}: "
        if isinstance(layer, MaxPool2D):
            found = list(_pool_problems(source, config))
        elif isinstance(layer, Conv2D | FullyConnected):
            found = [*_operand_problems(layer, source, config), *_rescale_problems(layer, target, config)]
            refusal, warning = _accumulator(layer, network, config)
            found += refusal
            warnings += [prefix + text for text in warning]
        else:
            found = [f"{config.name} has no command for {layer.op}"]
        problems += [prefix + text for text in found]
    if problems:
        raise NetworkError("; ".join(problems))
    return warnings


def _pool_problems(source: Tensor, config: AcceleratorConfig) -> Iterator[str]:
    if digits_of(source, config) > 1:
        yield f"max pooling of {source.type} on {config.name}, whose activations have {config.element_bits} bits"


def _operand_problems(
    layer: Conv2D | FullyConnected, source: Tensor, config: AcceleratorConfig
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
    elif not source.type.signed and not config.unsigned_activations and not spare_bit:
        yield f"its input {source.name} is {source.type}, {has}"
    if not source.type.min <= source.zero_point <= source.type.max:
        yield f"its input's zero point {source.zero_point} is outside {source.type}"
    elif isinstance(layer, Conv2D) and any(layer.padding) and digits > 1:
        mask = (1 << config.element_bits) - 1
        elements = {
            source.zero_point >> shift & mask
            for shift in range(0, digits * config.element_bits, config.element_bits)
        }
        if len(elements) > 1:
            yield f"it pads with {source.zero_point}, whose {digits} digits on {config.name} differ"
    operand = config.weight
    low, high = int(layer.weights.min()), int(layer.weights.max())
    if low < operand.min or high > operand.max:
        worst = low if low < operand.min else high
        yield f"a weight is {worst}, {config.name} has {operand} weights ({operand.min}...{operand.max})"
    elif operand.is_binary and not np.all(layer.weights):
        yield f"a weight is 0, {config.name} has binary weights (-1 and 1)"


def _rescale_problems(
    layer: Conv2D | FullyConnected, target: Tensor, config: AcceleratorConfig
) -> Iterator[str]:
    rescale = layer.rescale
    if not isinstance(rescale, SbnqRescale) or "sbnq" not in config.rescales:
        yield f"its {type(rescale).__name__} is none of {config.name}'s rescales ({', '.join(config.rescales)})"
        return
    if target.type.bits > config.element_bits:
        yield f"its output is {target.type}, {config.name}'s rescale writes at most {config.element_bits} bits"
    # Golden takes biases of 48 bits.
    limit = 1 << (min(config.bias_bits, 48) - 1)
    outside = np.flatnonzero((rescale.bias < -limit) | (rescale.bias >= limit))
    if len(outside):
        channel = int(outside[0])
        yield (
            f"the bias of channel {channel} is {int(rescale.bias[channel]):,}, "
            f"{config.name} takes {-limit:,}...{limit - 1:,}"
            + (f" (and {len(outside) - 1} more)" * (len(outside) > 1))
        )


def _accumulator(
    layer: Conv2D | FullyConnected, network: Network, config: AcceleratorConfig
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
