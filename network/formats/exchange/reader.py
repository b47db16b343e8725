"""Reads an exchange file; every error is one line, whatever is wrong with the file."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network import graph
from intaglio.network.errors import NetworkError
from intaglio.network.formats.exchange.archive import members_of, text_of
from intaglio.network.formats.exchange.format import (
    A_NAME,
    FORMAT,
    GRAPH,
    LAYERS,
    RESCALES,
    VERSION,
    is_name,
    short,
    version_of,
)
from intaglio.network.importing.limits import MAX_AXES, MAX_ELEMENTS
from intaglio.network.importing.windows import padded_elements

_MOST_SHOWN = 500
"""Characters of what an error line says; numbers of the file may be many."""

_BODY = {"format", "version", "name", "tensors", "layers", "inputs", "outputs", "constants"}
_WINDOWS = (graph.Conv2D, graph.DepthwiseConv2D, graph.MaxPool2D, graph.AveragePool2D)
_WEIGHT_AXES = {graph.Conv2D: 4, graph.DepthwiseConv2D: 3, graph.FullyConnected: 2}
_NAMES = {int: "an integer of 64 bits", str: A_NAME, bool: "true or false"}


def recognised(content: bytes) -> bool:
    """Whether this is a file of the format, damaged perhaps: a zip archive that names the graph's member."""
    return content.startswith(b"PK\x03\x04") and f"{GRAPH}.npy".encode() in content


class _NewerError(NetworkError):
    """The file is of a version that this program does not know yet."""


def loads(content: bytes, where: str) -> graph.Network:
    """The network in the bytes of a file; `where` is how errors name it.

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do, whatever is wrong with the file.
    """
    try:
        members = members_of(content)
        return _Reader(members).network(text_of(members))
    except NetworkError as error:
        what = str(error)
        if len(what) > _MOST_SHOWN:
            what = f"{what[:_MOST_SHOWN]}..."
        advice = "install a newer Intaglio" if isinstance(error, _NewerError) else "export the network again"
        raise NetworkError(f"{where}: {what}; {advice}") from None


class _Reader:
    """Makes the graph's objects of JSON; every value is checked against the type of its field, an array taken once."""

    def __init__(self, arrays: dict[str, npt.NDArray]) -> None:
        self._arrays = arrays

    def network(self, body: Any) -> graph.Network:
        """What the JSON text says; what does not depend on the file but on the graph, its constructor checks."""
        if not isinstance(body, dict) or body.get("format") != "intaglio":
            raise NetworkError("its JSON text does not say that the format is intaglio")
        version = body.get("version")
        if type(version) is not int or version < 1:
            raise NetworkError(f"its version is {short(version)}, not an integer from 1 on")
        if version > VERSION:
            raise _NewerError(
                f"it is of version {short(version)} of the format, this program reads up to {VERSION}"
            )
        if unknown := sorted(set(body) - _BODY):
            raise NetworkError(
                f"its JSON text has the key {short(unknown[0])}, which version {VERSION} does not define"
            )
        tensors: dict[str, graph.Tensor] = {}
        for index, fields in enumerate(self._list(body, "tensors")):
            tensor = self._make(graph.Tensor, fields, f"tensor {index}")
            if tensor.name in tensors:
                raise NetworkError(f"the tensor {tensor.name} appears twice")
            _check_tensor(tensor)
            tensors[tensor.name] = tensor
        layers = self._layers(body)
        if version_of(layers) > version:
            raise NetworkError(f"it is of version {version}, which has no binary weights")
        inputs, outputs = self._ends(body, "inputs"), self._ends(body, "outputs")
        constants = body.get("constants", {})
        if not isinstance(constants, dict):
            raise NetworkError("`constants` is not an object")
        named = {name for layer in layers for name in (*layer.inputs, layer.output)}
        for name in sorted({*named, *inputs, *outputs, *constants}):
            if name not in tensors:
                raise NetworkError(f"the tensor {short(name)} is named but not described")
        for name in inputs:
            if name in constants:
                raise NetworkError(f"the tensor {name} is an input and a constant")
        for layer in layers:
            if layer.inputs:
                _check_padded(layer, tensors[layer.inputs[0]])
        network = graph.Network(
            self._value(str, body.get("name"), "`name`"),
            tensors,
            layers,
            inputs,
            outputs,
            FORMAT,
            {
                name: self._value(graph.Integers, value, f"constant {name}")
                for name, value in constants.items()
            },
        )
        if self._arrays:
            raise NetworkError(f"the member {short(min(self._arrays))} is used by nothing")
        return network

    def _layers(self, body: dict[str, Any]) -> tuple[graph.AnyLayer, ...]:
        layers: dict[str, graph.AnyLayer] = {}
        for index, fields in enumerate(self._list(body, "layers")):
            op = fields.get("op") if isinstance(fields, dict) else None
            if not isinstance(op, str) or op not in LAYERS:
                raise NetworkError(
                    f"layer {index} is a {short(op)}, which is not a layer of version {VERSION}"
                )
            rest = {key: value for key, value in fields.items() if key != "op"}
            layer = self._make(LAYERS[op], rest, f"layer {index}")
            if layer.name in layers:
                raise NetworkError(f"the layer {layer.name} appears twice")
            _check_layer(layer)
            layers[layer.name] = layer
        return tuple(layers.values())

    def _ends(self, body: dict[str, Any], key: str) -> tuple[str, ...]:
        names = tuple(self._value(str, name, f"`{key}`") for name in self._list(body, key))
        if not names or len(set(names)) != len(names):
            raise NetworkError(
                f"`{key}` is {short(list(names))}, not names of at least one tensor, each once"
            )
        return names

    def _list(self, body: dict[str, Any], key: str) -> list[Any]:
        value = body.get(key)
        if not isinstance(value, list):
            raise NetworkError(f"`{key}` is missing or not a list")
        return value

    def _make(self, kind: type, fields: Any, where: str) -> Any:
        if not isinstance(fields, dict):
            raise NetworkError(f"{where} is not an object")
        hints = _hints(kind)
        known = {field.name: field for field in dataclasses.fields(kind)}
        if unknown := sorted(set(fields) - set(known)):
            raise NetworkError(
                f"{where} has a field {short(unknown[0])}, which {kind.__name__} does not have"
            )
        for name, field in known.items():
            if name not in fields and field.default is dataclasses.MISSING:
                raise NetworkError(f"{where} lacks the field `{name}` of {kind.__name__}")
        values = {key: self._value(hints[key], value, f"{where}: `{key}`") for key, value in fields.items()}
        return kind(**values)

    def _value(self, kind: Any, value: Any, where: str) -> Any:
        """`value` as a field of the type `kind`."""
        options = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
        if types.NoneType in options:
            (kind,) = (option for option in options if option is not types.NoneType)
            return None if value is None else self._value(kind, value, where)
        if kind in (graph.Integers, graph.Floats):
            return self._numbers(kind, value, where)
        if kind == graph.Rescale:
            name = value.get("kind") if isinstance(value, dict) else None
            if not isinstance(name, str) or name not in RESCALES:
                raise NetworkError(f"{where} is a {short(name)}, which is not a rescale of version {VERSION}")
            rest = {key: item for key, item in value.items() if key != "kind"}
            return self._make(RESCALES[name], rest, where)
        if kind == graph.WeightType and value == str(graph.BinaryType()):
            return graph.BinaryType()
        if kind in (graph.TensorType, graph.WeightType):
            return self._type(value, where)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            if value not in [member.value for member in kind]:
                raise NetworkError(
                    f"{where} is {short(value)}, not one of {', '.join(member.value for member in kind)}"
                )
            return kind(value)
        if dataclasses.is_dataclass(kind):
            return self._make(typing.cast(type, kind), value, where)
        if typing.get_origin(kind) is tuple:
            return self._tuple(typing.get_args(kind), value, where)
        if kind is float:
            return self._real(value, where)
        right = type(value) is kind
        if right and kind is int:
            right = abs(value) < 1 << 63
        elif right and kind is str:
            right = is_name(value)
        if not right:
            raise NetworkError(f"{where} is {short(value)}, not {_NAMES[kind]}")
        return value

    def _tuple(self, items: tuple, value: Any, where: str) -> tuple:
        endless = items[-1] is Ellipsis
        if not isinstance(value, list) or (not endless and len(value) != len(items)):
            count = "" if endless else f" of {len(items)}"
            raise NetworkError(f"{where} is {short(value)}, not a list{count}")
        kinds = [items[0]] * len(value) if endless else items
        return tuple(self._value(kind, item, where) for kind, item in zip(kinds, value, strict=True))

    def _numbers(self, kind: Any, value: Any, where: str) -> npt.NDArray:
        if kind == graph.Floats:
            if not isinstance(value, list):
                raise NetworkError(f"{where} is {short(value)}, not a list of hexadecimal numbers")
            return np.array([self._real(item, where) for item in value], np.float64)
        name = value.get("array") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(name, str) or name not in self._arrays:
            raise NetworkError(f"{where} does not name an unused array of the file: {short(value)}")
        return self._arrays.pop(name)

    def _real(self, value: Any, where: str) -> float:
        try:
            # Python reads digits without the prefix as hexadecimal ones: "0.1" as 1/16.
            if not value.lower().lstrip("+-").startswith("0x"):
                raise ValueError
            return float.fromhex(value)
        except (AttributeError, ValueError, OverflowError):
            what = 'a hexadecimal number such as "0x1.8p-4"'
            raise NetworkError(f"{where} is {short(value)}, not {what}") from None

    def _type(self, value: Any, where: str) -> graph.TensorType:
        name = value if isinstance(value, str) else ""
        bits = name.removeprefix("u").removeprefix("int")
        if not (
            bits.isascii() and bits.isdigit() and len(bits) <= 2 and name in (f"int{bits}", f"uint{bits}")
        ):
            raise NetworkError(f"{where} is {short(value)}, not a type such as int8 or uint4")
        return graph.TensorType(int(bits), name.startswith("int"))


def _check_tensor(tensor: graph.Tensor) -> None:
    shape, kind = tensor.shape, tensor.type
    if len(shape) > MAX_AXES or min(shape, default=1) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise NetworkError(
            f"the tensor {tensor.name} has the shape {short(list(shape))}; "
            f"the most is {MAX_AXES} axes of at least 1, and {MAX_ELEMENTS:,} elements"
        )
    if tensor.scale is not None and not 0 < tensor.scale < math.inf:
        raise NetworkError(f"the tensor {tensor.name} has the scale {tensor.scale}")
    if not kind.min <= tensor.zero_point <= kind.max:
        raise NetworkError(
            f"the tensor {tensor.name} has the zero point {tensor.zero_point}, which is not of type {kind}"
        )


def _check_layer(layer: graph.AnyLayer) -> None:
    """What the graph's own checks take for granted."""
    if isinstance(layer, graph.WeightLayer):
        shape, axes = layer.weights.shape, _WEIGHT_AXES[type(layer)]
        if len(shape) != axes or min(shape) < 1:
            raise NetworkError(
                f"layer {layer.name}: its weights have the shape {shape}, {layer.op} takes {axes} axes of at least 1"
            )
    real = layer.real if isinstance(layer, graph.Logistic | graph.Tanh) else None
    if real is not None and not 0 < real < math.inf:
        raise NetworkError(f"layer {layer.name}: its input's scale, `real`, is {real}")


def _check_padded(layer: graph.AnyLayer, source: graph.Tensor) -> None:
    """Refuse padding that would become an allocation."""
    if not isinstance(layer, _WINDOWS) or len(source.shape) != 3:
        return
    padded = padded_elements(source.shape, layer.padding)
    if min(layer.padding) >= 0 and padded > MAX_ELEMENTS:
        raise NetworkError(
            f"layer {layer.name}: its input has {padded:,} elements with its padding; "
            f"at most {MAX_ELEMENTS:,} are supported"
        )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
