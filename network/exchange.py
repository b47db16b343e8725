"""The project's own exchange format: one .npz of integer arrays and a JSON text (`docs/exchange.md`)."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import math
import tokenize
import types
import typing
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from network import graph
from network.errors import NetworkError
from network.files import MAX_FILE_BYTES

FORMAT = "Intaglio exchange (.npz)"
VERSION = 1
GRAPH = "network"
"""The member that holds the JSON text."""

_LAYERS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.AnyLayer)}
_RESCALES: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.Rescale)}
_DTYPES = ("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_AXES = 8
_DATE = (1980, 1, 1, 0, 0, 0)
"""The zip format's earliest: the same network makes the same file."""


# Writing.


def dumps(network: graph.Network) -> bytes:
    """The bytes of the network's file; the same for the same network."""
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
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue())
    return file.getvalue()


def dump(network: graph.Network, path: str | Path) -> None:
    """Write `network` to the file `path`. Raises OSError where that cannot be."""
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
        case float():
            return value.hex()
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
    """Whether this is a file of the format, damaged perhaps: a zip archive whose first member is the graph's."""
    return content.startswith(b"PK\x03\x04") and content[30:].startswith(f"{GRAPH}.npy".encode())


def loads(content: bytes, where: str) -> graph.Network:
    """The network in the bytes of a file; `where` is how errors name it.

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do, whatever is wrong with the file.
    """
    try:
        members = _members(content)
        if GRAPH not in members:
            raise NetworkError(f"the member {GRAPH}.npy is missing")
        text = members.pop(GRAPH)
        try:
            body = json.loads(text.astype(np.uint8).tobytes().decode())
        except (ValueError, RecursionError):
            raise NetworkError(f"{GRAPH}.npy holds no JSON text") from None
        return _Reader(members).network(body)
    except NetworkError as error:
        raise NetworkError(f"{where}: {error}; export the network again") from None


def _members(content: bytes) -> dict[str, npt.NDArray]:
    """The arrays by name; nothing is taken out of the archive that it does not announce."""
    found: dict[str, npt.NDArray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = 0
            for entry in archive.infolist():
                total += entry.file_size
                if total > MAX_FILE_BYTES:
                    raise NetworkError(f"its members take more than {MAX_FILE_BYTES >> 20} MiB")
                name = entry.filename.removesuffix(".npy")
                if name in found or name == entry.filename:
                    raise NetworkError(f"the member {entry.filename!r} is there twice or is no .npy array")
                with archive.open(entry) as member:
                    found[name] = _array(name, member.read(entry.file_size + 1))
    except NetworkError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever damaged bytes lead to
        why = " ".join(str(error).split()) or type(error).__name__
        raise NetworkError(f"this is no whole .npz archive ({why})") from None
    return found


def _array(name: str, data: bytes) -> npt.NDArray[np.int64]:
    file = io.BytesIO(data)
    try:
        reader = _HEADERS[np.lib.format.read_magic(file)]
        shape, fortran, dtype = reader(file)
    except (ValueError, KeyError, SyntaxError, tokenize.TokenError):
        raise NetworkError(f"the member {name!r} has no header of a .npy array") from None
    if dtype.kind not in "iu" or dtype.itemsize > 8:
        raise NetworkError(f"the member {name!r} holds {dtype}, not integers")
    if len(shape) > _MOST_AXES or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise NetworkError(f"the member {name!r} has not the {shape} numbers that its header announces")
    values = np.frombuffer(data, dtype, offset=file.tell())
    if dtype.kind == "u" and dtype.itemsize == 8 and values.size and int(values.max()) >= 1 << 63:
        raise NetworkError(f"the member {name!r} holds a number beyond 63 bits")
    return values.astype(np.int64).reshape(shape, order="F" if fortran else "C")


class _Reader:
    """Makes the graph's objects of JSON; every value is checked against the type of its field, an array taken once."""

    def __init__(self, arrays: dict[str, npt.NDArray]) -> None:
        self._arrays = arrays

    def network(self, body: Any) -> graph.Network:
        if not isinstance(body, dict) or body.get("format") != "intaglio":
            raise NetworkError("its JSON text does not say that the format is intaglio")
        if body.get("version") != VERSION:
            raise NetworkError(
                f"it is of version {body.get('version')!r} of the format, this program reads {VERSION}"
            )
        tensors: dict[str, graph.Tensor] = {}
        for index, fields in enumerate(self._list(body, "tensors")):
            tensor = self._make(graph.Tensor, fields, f"tensor {index}")
            if tensor.name in tensors:
                raise NetworkError(f"the tensor {tensor.name} is there twice")
            if any(extent < 1 for extent in tensor.shape):
                raise NetworkError(f"the tensor {tensor.name} has the shape {tensor.shape}")
            if tensor.scale is not None and not 0 < tensor.scale < math.inf:
                raise NetworkError(f"the tensor {tensor.name} has the scale {tensor.scale}")
            tensors[tensor.name] = tensor
        layers = []
        for index, fields in enumerate(self._list(body, "layers")):
            op = fields.get("op") if isinstance(fields, dict) else None
            if not isinstance(op, str) or op not in _LAYERS:
                raise NetworkError(f"layer {index} is a {op!r}, which is no layer of version {VERSION}")
            rest = {key: value for key, value in fields.items() if key != "op"}
            layers.append(self._make(_LAYERS[op], rest, f"layer {index}"))
        constants = body.get("constants", {})
        if not isinstance(constants, dict):
            raise NetworkError("`constants` is not an object")
        names = {name for layer in layers for name in (*layer.inputs, layer.output)}
        ends = [
            tuple(self._value(str, name, key) for name in self._list(body, key))
            for key in ("inputs", "outputs")
        ]
        for name in sorted({*names, *ends[0], *ends[1], *constants}):
            if name not in tensors:
                raise NetworkError(f"the tensor {name!r} is named but not described")
        network = graph.Network(
            self._value(str, body.get("name"), "name"),
            tensors,
            tuple(layers),
            ends[0],
            ends[1],
            FORMAT,
            {
                name: self._value(graph.Integers, value, f"constant {name}")
                for name, value in constants.items()
            },
        )
        if self._arrays:
            raise NetworkError(f"the member {min(self._arrays)!r} belongs to nothing")
        return network

    def _list(self, body: dict, key: str) -> list:
        value = body.get(key)
        if not isinstance(value, list):
            raise NetworkError(f"`{key}` is missing or not a list")
        return value

    def _make(self, kind: type, fields: Any, where: str) -> Any:
        if not isinstance(fields, dict):
            raise NetworkError(f"{where} is not an object")
        hints = typing.get_type_hints(kind, vars(graph))
        known = {field.name: field for field in dataclasses.fields(kind)}
        if unknown := sorted(set(fields) - set(known)):
            raise NetworkError(f"{where} has a field {unknown[0]!r}, which {kind.__name__} has not")
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
                raise NetworkError(f"{where} is a {name!r}, which is no rescale of version {VERSION}")
            rest = {key: item for key, item in value.items() if key != "kind"}
            return self._make(_RESCALES[name], rest, where)
        if kind is graph.TensorType:
            return self._type(value, where)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            if value not in [member.value for member in kind]:
                raise NetworkError(f"{where} is {value!r}, not one of {', '.join(m.value for m in kind)}")
            return kind(value)
        if dataclasses.is_dataclass(kind):
            return self._make(typing.cast(type, kind), value, where)
        if typing.get_origin(kind) is tuple:
            return self._tuple(typing.get_args(kind), value, where)
        if kind is float:
            return self._real(value, where)
        if type(value) is not kind or (kind is int and abs(value) >= 1 << 63):
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
            raise NetworkError(f"{where} names no array of the file: {_short(value)}")
        return self._arrays.pop(name)

    def _real(self, value: Any, where: str) -> float:
        try:
            return float.fromhex(value)
        except (TypeError, ValueError, OverflowError):
            raise NetworkError(f"{where} is {_short(value)}, not a hexadecimal number") from None

    def _type(self, value: Any, where: str) -> graph.TensorType:
        name = value if isinstance(value, str) else ""
        bits = name.removeprefix("u").removeprefix("int")
        if not (
            bits.isascii() and bits.isdigit() and len(bits) <= 2 and name in (f"int{bits}", f"uint{bits}")
        ):
            raise NetworkError(f"{where} is {_short(value)}, not a type such as int8 or uint4")
        return graph.TensorType(int(bits), name.startswith("int"))


_NAMES = {int: "an integer", str: "a string", bool: "true or false"}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
