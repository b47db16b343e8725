"""The archive of an exchange file: its arrays, and its JSON text. What they mean is the reader's."""

from __future__ import annotations

import io
import json
import math
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network.arrays import npy_header
from intaglio.network.errors import NetworkError
from intaglio.network.formats.exchange.format import GRAPH, MAX_BYTES, MAX_TEXT_BYTES, METHODS, short
from intaglio.network.importing.limits import MAX_AXES


def text_of(members: dict[str, npt.NDArray[np.int64]]) -> Any:
    """What the JSON text says; its member is taken out of `members`."""
    if GRAPH not in members:
        raise NetworkError(f"the member {GRAPH}.npy is missing")
    codes = members.pop(GRAPH)
    if codes.ndim != 1 or np.any((codes < 0) | (codes > 255)):
        raise NetworkError(f"{GRAPH}.npy is not a list of bytes (uint8)")
    try:
        text = codes.astype(np.uint8).tobytes().decode()
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        why = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise NetworkError(f"{GRAPH}.npy does not hold JSON ({why})") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"{GRAPH}.npy does not hold readable JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NetworkError(f"an object of its JSON text has the key {short(key)} twice")
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise NetworkError(f"its JSON text holds {name}, which is not JSON")


def members_of(content: bytes) -> dict[str, npt.NDArray[np.int64]]:
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
                        f"the member {short(entry.filename)} appears twice or is not a .npy array"
                    )
                if name == GRAPH and entry.file_size > MAX_TEXT_BYTES:
                    raise NetworkError(f"its JSON text takes more than {MAX_TEXT_BYTES >> 20} MiB")
                if entry.compress_type not in METHODS:
                    raise NetworkError(
                        f"the member {short(name)} is compressed by another method than deflate"
                    )
                with archive.open(entry) as member:
                    found[name] = _array(name, member.read(entry.file_size + 1))
    except NetworkError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever damaged bytes lead to
        why = short(str(error))[1:-1] or type(error).__name__
        raise NetworkError(f"this is not a whole .npz archive ({why})") from None
    return found


def _array(name: str, data: bytes) -> npt.NDArray[np.int64]:
    file, what = io.BytesIO(data), f"the member {short(name)}"
    try:
        shape, fortran, dtype = npy_header(file)
    except ValueError:
        raise NetworkError(f"{what} does not begin with the header of a .npy array") from None
    if dtype.kind not in "iu" or dtype.itemsize > 8:
        raise NetworkError(f"{what} holds {short(str(dtype))[1:-1]}, not integers")
    fits = math.prod(shape) * dtype.itemsize == len(data) - file.tell()
    if len(shape) > MAX_AXES or not fits:
        raise NetworkError(f"{what} does not hold the {short(list(shape))} numbers that its header states")
    values = np.frombuffer(data, dtype, offset=file.tell())
    if dtype.kind == "u" and dtype.itemsize == 8 and values.size and int(values.max()) >= 1 << 63:
        raise NetworkError(f"{what} holds a number beyond 63 bits")
    return values.astype(np.int64).reshape(shape, order="F" if fortran else "C")
