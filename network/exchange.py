"""The project's own exchange format: one .npz of integer arrays and a JSON text (`docs/exchange.md`)."""

from __future__ import annotations

import dataclasses
import enum
import functools
import io
import json
import math
import tokenize
import types
import typing
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network import graph
from intaglio.network.errors import NetworkError

FORMAT = "Intaglio exchange (.npz)"
VERSION = 1
GRAPH = "network"
"""The member that holds the JSON text."""

_LAYERS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.AnyLayer)}
_RESCALES: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.Rescale)}
_DTYPES = ("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. LZMA takes the memory that its header asks for."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The zip format's earliest: the same network makes the same file."""
_UNIX = 3
"""As which zipfile marks a file everywhere but on Windows."""

MAX_BYTES = 1 << 27
"""Of all members, unpacked; an array of bytes takes eight times that as the graph's int64."""
MAX_TEXT_BYTES = 1 << 24
"""Of the JSON text, which as Python's objects takes some twenty times that."""
MAX_ELEMENTS = 1 << 24
"""Of one tensor, its padding included; a number above is a damaged file, and must not become an allocation."""
MAX_AXES = 8
MAX_NAME = 256
"""Characters of a name, which error lines repeat."""
_MOST_SHOWN = 500
"""Characters of what an error line says; numbers of the file may be many."""

_BODY = {"format", "version", "name", "tensors", "layers", "inputs", "outputs", "constants"}
_WINDOWS = (graph.Conv2D, graph.DepthwiseConv2D, graph.MaxPool2D, graph.AveragePool2D)
_WEIGHT_AXES = {graph.Conv2D: 4, graph.DepthwiseConv2D: 3, graph.FullyConnected: 2}


# Writing.


def dumps(network: graph.Network) -> bytes:
    """The bytes of the network's file; the same for the same network (and the same zlib).

    Raises
    ------
    NetworkError
        Where a name is none that a file may hold.
    """
    for name in (network.name, *network.tensors, *(layer.name for layer in network.layers)):
        if not _is_name(name):
            raise NetworkError(f"the name {_short(name)} is not {_A_NAME}; give the network another")
    arrays: dict[str, npt.NDArray] = {}
    body = {
        "format": "intaglio",
        "version": VERSION,
        "name": network.name,
        "inputs": list(network.inputs),
        "outputs": list(network.outputs),
        "tensors": [_fields_out(tensor, "", arrays) for tensor in network.tensors.values()],
        "layers": [
            {"op": layer.op} | _fields_out(layer, f"layer{index}", arrays)
            for index, layer in enumerate(network.layers)
        ],
        "constants": {
            name: _value_out(values, f"constant{index}", arrays)
            for index, (name, values) in enumerate(network.constants.items())
        },
    }
    text = np.frombuffer(json.dumps(body, indent=1).encode(), np.uint8)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {GRAPH: text, **arrays}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, _UNIX
            archive.writestr(entry, member.getvalue())
    return file.getvalue()


def dump(network: graph.Network, path: str | Path) -> None:
    """Write `network` to the file `path`. Raises as `dumps` does, and OSError where the file cannot be written."""
    Path(path).write_bytes(dumps(network))


def _fields_out(value: Any, prefix: str, arrays: dict[str, npt.NDArray]) -> dict[str, Any]:
    return {
        field.name: _value_out(getattr(value, field.name), f"{prefix}/{field.name}", arrays)
        for field in dataclasses.fields(value)
    }


def _value_out(value: Any, place: str, arrays: dict[str, npt.NDArray]) -> Any:
    match value:
        case np.ndarray() if value.dtype.kind == "f":
            return [float(number).hex() for number in value]
        case np.ndarray():
            arrays[place] = value.astype(_narrowest(value))
            return {"array": place}
        case graph.TensorType():
            return str(value)
        case enum.Enum():
            return value.value
        case float() | np.floating():
            return float(value).hex()
        case np.integer() | np.bool_():
            return value.item()
        case tuple():
            return [_value_out(item, place, arrays) for item in value]
        case _ if dataclasses.is_dataclass(value):
            kind = {"kind": type(value).__name__} if type(value).__name__ in _RESCALES else {}
            return kind | _fields_out(value, place, arrays)
    return value


def _narrowest(values: npt.NDArray) -> np.dtype:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for name in _DTYPES:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    raise ValueError(f"an array of the network holds {high}, which is no int64")


# Reading.


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
        members = _members(content)
        return _Reader(members).network(_text(members))
    except NetworkError as error:
        what = str(error)
        if len(what) > _MOST_SHOWN:
            what = f"{what[:_MOST_SHOWN]}..."
        advice = "install a newer Intaglio" if isinstance(error, _NewerError) else "export the network again"
        raise NetworkError(f"{where}: {what}; {advice}") from None


def _text(members: dict[str, npt.NDArray[np.int64]]) -> Any:
    """What the JSON text says; its member is taken out of `members`."""
    if GRAPH not in members:
        raise NetworkError(f"the member {GRAPH}.npy is missing")
    codes = members.pop(GRAPH)
    if codes.ndim != 1 or np.any((codes < 0) | (codes > 255)):
        raise NetworkError(f"{GRAPH}.npy is no list of bytes (uint8)")
    try:
        text = codes.astype(np.uint8).tobytes().decode()
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        why = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise NetworkError(f"{GRAPH}.npy holds no JSON text ({why})") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"{GRAPH}.npy holds no JSON text in UTF-8 that can be read") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NetworkError(f"an object of its JSON text has the key {_short(key)} twice")
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise NetworkError(f"its JSON text holds {name}, which is no JSON")


def _members(content: bytes) -> dict[str, npt.NDArray[np.int64]]:
    """The arrays by name; no more is unpacked of any than the archive announces, and that is limited."""
    found: dict[str, npt.NDArray[np.int64]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = 0
            for entry in archive.infolist():
                total += entry.file_size
                if total > MAX_BYTES:
                    raise NetworkError(f"its members take more than {MAX_BYTES >> 20} MiB")
                name = entry.filename.removesuffix(".npy")
                if name in found or name == entry.filename:
                    raise NetworkError(
                        f"the member {_short(entry.filename)} is there twice or is no .npy array"
                    )
                if name == GRAPH and entry.file_size > MAX_TEXT_BYTES:
                    raise NetworkError(f"its JSON text takes more than {MAX_TEXT_BYTES >> 20} MiB")
                if entry.compress_type not in _METHODS:
                    raise NetworkError(f"the member {_short(name)} is compressed in another way than deflate")
                with archive.open(entry) as member:
                    found[name] = _array(name, member.read(entry.file_size + 1))
    except NetworkError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever damaged bytes lead to
        why = _short(str(error))[1:-1] or type(error).__name__
        raise NetworkError(f"this is no whole .npz archive ({why})") from None
    return found


def _array(name: str, data: bytes) -> npt.NDArray[np.int64]:
    file, what = io.BytesIO(data), f"the member {_short(name)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what NumPy or Python finds odd in a header, no writer wrote
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError, SyntaxError, tokenize.TokenError, Warning):
        raise NetworkError(f"{what} has no header of a .npy array") from None
    if dtype.kind not in "iu" or dtype.itemsize > 8:
        raise NetworkError(f"{what} holds {_short(str(dtype))[1:-1]}, not integers")
    fits = math.prod(shape) * dtype.itemsize == len(data) - file.tell()
    if len(shape) > MAX_AXES or min(shape, default=0) < 0 or not fits:
        raise NetworkError(f"{what} has not the {_short(list(shape))} numbers that its header announces")
    values = np.frombuffer(data, dtype, offset=file.tell())
    if dtype.kind == "u" and dtype.itemsize == 8 and values.size and int(values.max()) >= 1 << 63:
        raise NetworkError(f"{what} holds a number beyond 63 bits")
    return values.astype(np.int64).reshape(shape, order="F" if fortran else "C")


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
            raise NetworkError(f"its version is {_short(version)}, not an integer from 1 on")
        if version > VERSION:
            raise _NewerError(
                f"it is of version {_short(version)} of the format, this program reads up to {VERSION}"
            )
        if unknown := sorted(set(body) - _BODY):
            raise NetworkError(
                f"its JSON text has the key {_short(unknown[0])}, which version {VERSION} has not"
            )
        tensors: dict[str, graph.Tensor] = {}
        for index, fields in enumerate(self._list(body, "tensors")):
            tensor = self._make(graph.Tensor, fields, f"tensor {index}")
            if tensor.name in tensors:
                raise NetworkError(f"the tensor {tensor.name} is there twice")
            _check_tensor(tensor)
            tensors[tensor.name] = tensor
        layers = self._layers(body)
        inputs, outputs = self._ends(body, "inputs"), self._ends(body, "outputs")
        constants = body.get("constants", {})
        if not isinstance(constants, dict):
            raise NetworkError("`constants` is not an object")
        named = {name for layer in layers for name in (*layer.inputs, layer.output)}
        for name in sorted({*named, *inputs, *outputs, *constants}):
            if name not in tensors:
                raise NetworkError(f"the tensor {_short(name)} is named but not described")
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
            raise NetworkError(f"the member {_short(min(self._arrays))} belongs to nothing")
        return network

    def _layers(self, body: dict[str, Any]) -> tuple[graph.AnyLayer, ...]:
        layers: dict[str, graph.AnyLayer] = {}
        for index, fields in enumerate(self._list(body, "layers")):
            op = fields.get("op") if isinstance(fields, dict) else None
            if not isinstance(op, str) or op not in _LAYERS:
                raise NetworkError(f"layer {index} is a {_short(op)}, which is no layer of version {VERSION}")
            rest = {key: value for key, value in fields.items() if key != "op"}
            layer = self._make(_LAYERS[op], rest, f"layer {index}")
            if layer.name in layers:
                raise NetworkError(f"the layer {layer.name} is there twice")
            _check_layer(layer)
            layers[layer.name] = layer
        return tuple(layers.values())

    def _ends(self, body: dict[str, Any], key: str) -> tuple[str, ...]:
        names = tuple(self._value(str, name, f"`{key}`") for name in self._list(body, key))
        if not names or len(set(names)) != len(names):
            raise NetworkError(
                f"`{key}` is {_short(list(names))}, not names of at least one tensor, each once"
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
            raise NetworkError(f"{where} has a field {_short(unknown[0])}, which {kind.__name__} has not")
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
            if not isinstance(name, str) or name not in _RESCALES:
                raise NetworkError(f"{where} is a {_short(name)}, which is no rescale of version {VERSION}")
            rest = {key: item for key, item in value.items() if key != "kind"}
            return self._make(_RESCALES[name], rest, where)
        if kind is graph.TensorType:
            return self._type(value, where)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            if value not in [member.value for member in kind]:
                raise NetworkError(
                    f"{where} is {_short(value)}, not one of {', '.join(member.value for member in kind)}"
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
            right = _is_name(value)
        if not right:
            raise NetworkError(f"{where} is {_short(value)}, not {_NAMES[kind]}")
        return value

    def _tuple(self, items: tuple, value: Any, where: str) -> tuple:
        endless = items[-1] is Ellipsis
        if not isinstance(value, list) or (not endless and len(value) != len(items)):
            count = "" if endless else f" of {len(items)}"
            raise NetworkError(f"{where} is {_short(value)}, not a list{count}")
        kinds = [items[0]] * len(value) if endless else items
        return tuple(self._value(kind, item, where) for kind, item in zip(kinds, value, strict=True))

    def _numbers(self, kind: Any, value: Any, where: str) -> npt.NDArray:
        if kind == graph.Floats:
            if not isinstance(value, list):
                raise NetworkError(f"{where} is {_short(value)}, not a list of hexadecimal numbers")
            return np.array([self._real(item, where) for item in value], np.float64)
        name = value.get("array") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(name, str) or name not in self._arrays:
            raise NetworkError(f"{where} names no array of the file, or one that is taken: {_short(value)}")
        return self._arrays.pop(name)

    def _real(self, value: Any, where: str) -> float:
        try:
            # Python reads digits without the prefix as hexadecimal ones: "0.1" as 1/16.
            if not value.lower().lstrip("+-").startswith("0x"):
                raise ValueError
            return float.fromhex(value)
        except (AttributeError, ValueError, OverflowError):
            what = 'a hexadecimal number such as "0x1.8p-4"'
            raise NetworkError(f"{where} is {_short(value)}, not {what}") from None

    def _type(self, value: Any, where: str) -> graph.TensorType:
        name = value if isinstance(value, str) else ""
        bits = name.removeprefix("u").removeprefix("int")
        if not (
            bits.isascii() and bits.isdigit() and len(bits) <= 2 and name in (f"int{bits}", f"uint{bits}")
        ):
            raise NetworkError(f"{where} is {_short(value)}, not a type such as int8 or uint4")
        return graph.TensorType(int(bits), name.startswith("int"))


def _check_tensor(tensor: graph.Tensor) -> None:
    shape, kind = tensor.shape, tensor.type
    if len(shape) > MAX_AXES or min(shape, default=1) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise NetworkError(
            f"the tensor {tensor.name} has the shape {_short(list(shape))}; "
            f"possible are {MAX_AXES} axes of at least 1 and {MAX_ELEMENTS:,} elements"
        )
    if tensor.scale is not None and not 0 < tensor.scale < math.inf:
        raise NetworkError(f"the tensor {tensor.name} has the scale {tensor.scale}")
    if not kind.min <= tensor.zero_point <= kind.max:
        raise NetworkError(
            f"the tensor {tensor.name} has the zero point {tensor.zero_point}, which is no {kind}"
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
    top, bottom, left, right = layer.padding
    height, width, channels = source.shape
    padded = (height + top + bottom) * (width + left + right) * channels
    if min(layer.padding) >= 0 and padded > MAX_ELEMENTS:
        raise NetworkError(
            f"layer {layer.name}: its input has {padded:,} elements with its padding; "
            f"at most {MAX_ELEMENTS:,} are possible"
        )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, vars(graph))


def _is_name(text: str) -> bool:
    """Whether error lines and tables can show it."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


_A_NAME = f"a printable string of 1 to {MAX_NAME} characters"
_NAMES = {int: "an integer of 64 bits", str: _A_NAME, bool: "true or false"}


def _short(value: Any) -> str:
    """As JSON has it, in ASCII, cut where it is long."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return "a list in lists"
    return text if len(text) <= 40 else f"{text[:37]}..."
