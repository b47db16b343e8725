"""Writes a network as an exchange file; the same network makes the same bytes, with the same zlib."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network import graph
from intaglio.network.errors import NetworkError
from intaglio.network.formats.exchange.format import A_NAME, GRAPH, RESCALES, is_name, short, version_of

_DTYPES = ("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8")
_DATE = (1980, 1, 1, 0, 0, 0)
"""The zip format's earliest: the same network makes the same file."""
_UNIX = 3
"""As which zipfile marks a file everywhere but on Windows."""


def dumps(network: graph.Network) -> bytes:
    """The bytes of the network's file; the same for the same network (and the same zlib).

    Raises
    ------
    NetworkError
        Where a name is none that a file may hold.
    """
    for name in (network.name, *network.tensors, *(layer.name for layer in network.layers)):
        if not is_name(name):
            raise NetworkError(f"the name {short(name)} is not {A_NAME}; give the network another")
    arrays: dict[str, npt.NDArray] = {}
    body = {
        "format": "intaglio",
        "version": version_of(network.layers),
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
        case graph.TensorType() | graph.BinaryType():
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
            kind = {"kind": type(value).__name__} if type(value).__name__ in RESCALES else {}
            return kind | _fields_out(value, place, arrays)
    return value


def _narrowest(values: npt.NDArray) -> np.dtype:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for name in _DTYPES:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    raise ValueError(f"an array of the network holds {high}, which is no int64")
