"""Writes a network as an IntegerNet text, where that format can say it."""

from __future__ import annotations

import os
from pathlib import Path

from intaglio.network.errors import NetworkError
from intaglio.network.files import shown
from intaglio.network.formats.integernet.reader import FORMAT
from intaglio.network.graph import (
    AnyLayer,
    Conv2D,
    FullyConnected,
    Integers,
    MaxPool2D,
    Network,
    SbnqRescale,
    Tensor,
)


def dumps(network: Network) -> str:
    """The text of `network`, in the authors' own spacing; ``loads`` of it is the same network again.

    Raises
    ------
    NetworkError
        Where the format cannot say it: a network that is no chain of stride-1 convolutions with odd square
        kernels, fully connected layers and 2x2 max pooling, each weight layer with the SBNQ rescale.
    """
    blocks = []
    expected = network.inputs
    for layer in network.layers:
        source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
        if layer.inputs != expected:
            raise _unsayable(layer, "does not read the layer before it")
        expected = (layer.output,)
        if isinstance(layer, MaxPool2D):
            blocks.append(_pool_text(layer, source))
            continue
        if not isinstance(layer, Conv2D | FullyConnected):
            raise _unsayable(layer, f"is a {layer.op}")
        weights = _conv_text(layer, source) if isinstance(layer, Conv2D) else _fc_text(layer, source)
        blocks.append(weights + _quantizer_text(layer, target))
    if network.outputs != expected:
        raise NetworkError(f"network {network.name}: the {FORMAT} format has one output, the last layer's")
    return "".join(blocks)


def dump(network: Network, path: str | os.PathLike[str]) -> None:
    """Write `network` to the file `path`; see `dumps`.

    Raises
    ------
    NetworkError
        Where the format cannot say the network, or the file cannot be written.
    """
    text = dumps(network)
    try:
        Path(path).write_text(text, encoding="ascii", newline="\n")
    except (OSError, ValueError) as error:
        raise NetworkError(
            f"{shown(path)}: cannot be written ({error}); name a file in a folder that exists"
        ) from error


def _unsayable(layer: AnyLayer, what: str) -> NetworkError:
    return NetworkError(
        f"layer {layer.name}: {what}, which the {FORMAT} format cannot express; choose another format"
    )


def _line(values: Integers) -> str:
    """The authors' writer puts a space after every number."""
    return "".join(f"{value} " for value in values.ravel().tolist()) + "\n"


def _conv_text(layer: Conv2D, source: Tensor) -> str:
    outputs, height, width, channels = layer.weights.shape
    reach = (height - 1) // 2
    same = height == width and height % 2 == 1 and layer.padding == (reach,) * 4
    if not same or layer.stride != (1, 1) or layer.dilation != (1, 1):
        raise _unsayable(layer, "its kernel is not odd and square with stride 1 and padding (k − 1)/2")
    header = f"CONV CO {outputs} CI {channels} H {source.shape[0]} W {source.shape[1]}\n"
    return header + _line(layer.weights.transpose(0, 3, 1, 2)) + "\n"


def _fc_text(layer: FullyConnected, source: Tensor) -> str:
    outputs, inputs = layer.weights.shape
    height, width, channels = source.shape if len(source.shape) == 3 else (1, 1, inputs)
    chwo = layer.weights.reshape(outputs, height, width, channels).transpose(3, 1, 2, 0)
    return f"FC CI {inputs} CO {outputs}\n" + _line(chwo) + "\n"


def _quantizer_text(layer: Conv2D | FullyConnected, target: Tensor) -> str:
    rescale = layer.rescale
    if not isinstance(rescale, SbnqRescale):
        raise _unsayable(layer, f"its rescale is {type(rescale).__name__}")
    if rescale.relu == target.type.signed or target.type.bits != layer.weight_type.bits:
        raise _unsayable(
            layer, f"it has {layer.weight_type} weights and writes {target.type}, relu {rescale.relu}"
        )
    height, width, channels = target.shape if len(target.shape) == 3 else (1, 1, *target.shape)
    keyword = "UNSIGNEDQUAN" if rescale.relu else "SIGNEDQUAN"
    header = f"{keyword} C {channels} H {height} W {width}\n"
    return f"{header}BIAS {_line(rescale.bias)}SHIFT {_line(rescale.shift)}\n"


def _pool_text(layer: MaxPool2D, source: Tensor) -> str:
    if (layer.kernel, layer.stride, layer.padding) != ((2, 2), (2, 2), (0, 0, 0, 0)):
        raise _unsayable(layer, "it does not pool 2×2 with stride 2 and no padding")
    height, width, channels = source.shape
    return f"POOL C {channels} H {height} W {width}\n\n"
