"""A user's inputs and labels from .npy, .npz and IDX files, conformed to what a network reads.

Ref: the IDX format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", file formats.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError
from intaglio.network.files import MAX_FILE_BYTES, read_bytes, shown
from intaglio.network.graph import Network, Tensor, TensorType

Array = npt.NDArray[Any]

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_KNOWN = "known are .npy, .npz and IDX, the latter gzipped or not"
_LABELS = "labels"


def read_array(path: str | os.PathLike[str]) -> Array:
    """The one array in the .npy, .npz or IDX file `path`; the content says which it is.

    Raises
    ------
    NetworkError
        Where the file is missing, damaged, of another format, or an .npz of several arrays.
    """
    arrays = _read(path)
    if len(arrays) != 1:
        raise NetworkError(
            f"{shown(path)}: holds {len(arrays)} arrays ({_names(arrays)}) where one is wanted; leave one"
        )
    return next(iter(arrays.values()))


def load_inputs(
    path: str | os.PathLike[str], network: Network, limit: int | None = None
) -> dict[str, npt.NDArray[np.integer]]:
    """The inputs in the file `path`, by the names of the network's input tensors.

    Each array is (inferences, *the tensor's shape), of the tensor's own numpy type. Integers go in as they are;
    uint8 into an int8 tensor whose zero point is -128 loses 128; floats become ``round(x / scale) + zero_point``,
    clamped to the type: the quotient is float32's, its ties go away from zero, as TFLite's QUANTIZE has it. An image
    tensor (H, W, 1) takes (N, H, W) too.
    An .npz holds an array a tensor under the tensor's name (and may hold ``labels``); where the network has one
    input, the file's only other array may have any name.

    Parameters
    ----------
    path
        A .npy, .npz or IDX file, the latter gzipped or not.
    network
        Whose inputs they are.
    limit
        How many inferences to take from the front; all, where None.

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do: no such file, damage, an absent or unknown name, a wrong
        shape (both are named), an integer out of range (its value and index), a float that is not finite or whose
        tensor has no scale, counts that differ, no inference at all.
    """
    where = shown(path)
    if limit is not None and limit < 1:
        raise NetworkError(f"the limit of inferences must be 1 or more, not {limit}")
    arrays = _read(path)
    matched = _match(arrays, network, where)
    counts = {name: len(array) if array.ndim else 0 for name, array in matched.items()}
    if len(set(counts.values())) > 1:
        stated = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise NetworkError(
            f"{where}: inputs of different counts ({stated}); the first axis counts inferences"
        )
    conformed = {}
    for name, array in matched.items():
        tensor = network.tensors[name]
        fitted = _fit_shape(array, tensor, where)
        if not len(fitted):
            raise NetworkError(f"{where}: {name} holds no inference; give at least one")
        conformed[name] = conform(fitted[:limit], tensor, where)
    return conformed


def load_labels(path: str | os.PathLike[str], count: int) -> npt.NDArray[np.int64]:
    """The classes of the first `count` inferences, (count,) integers >= 0, from the file `path`.

    An .npz holds them as ``labels`` or as its only array.

    Raises
    ------
    NetworkError
        Where the file is missing or damaged, or holds fewer labels, no integers, or a negative one.
    """
    where = shown(path)
    arrays = _read(path)
    if _LABELS not in arrays and len(arrays) != 1:
        raise NetworkError(f"{where}: has no {_LABELS} among its arrays ({_names(arrays)}); name it so")
    labels = arrays[_LABELS] if _LABELS in arrays else next(iter(arrays.values()))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise NetworkError(
            f"{where}: labels must be one integer an inference, not {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) < count:
        raise NetworkError(
            f"{where}: {len(labels)} labels for {count} inferences; give as many, or lower --limit"
        )
    labels = labels[:count]
    bad = (labels < 0) | (labels > 2**31 - 1)
    if bad.any():
        index = int(bad.argmax())
        raise NetworkError(f"{where}: label {index} is {labels[index]}; a label is a class, 0 or more")
    return labels.astype(np.int64)


def _names(arrays: dict[str, Array]) -> str:
    names = sorted(arrays)
    listed = ", ".join(shown(name) for name in names[:8])
    return listed + (", ..." if len(names) > 8 else "") if names else "none"


def _read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Every array in the file, by name; the array of a .npy or an IDX file is called ''."""
    content, where = read_bytes(path), shown(path)
    if not content:
        raise NetworkError(f"{where}: the file is empty; {_KNOWN}")
    if content.startswith(b"\x1f\x8b"):
        content = _decompress(content, where)
    if content.startswith(b"\x93NUMPY"):
        return {"": _numpy(content, where)}
    if content.startswith(b"PK"):
        return _archive(content, where)
    if content.startswith(b"\x00\x00"):
        return {"": _idx(content, where)}
    raise NetworkError(f"{where}: is no array file; {_KNOWN}")


def _decompress(content: bytes, where: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NetworkError(f"{where}: the gzip data is damaged or cut short; fetch the file again") from error
    if len(plain) > MAX_FILE_BYTES:
        raise NetworkError(f"{where}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB; give fewer inferences")
    return plain


def _numpy(content: bytes, where: str) -> Array:
    """A .npy file: its header is read first, so that a damaged one cannot ask for more memory than there are bytes."""
    damaged = f"{where}: the .npy data is damaged or cut short; write the file again"
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        # A header of version 3 differs from one of version 2 in its encoding, which matters to field names alone.
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read_header(file)
    except Exception as error:  # the header is a Python literal: damage raises whatever parsing it raises
        raise NetworkError(damaged) from error
    if dtype.kind not in "iufb":
        raise NetworkError(f"{where}: an array of {dtype}; give integers or floats")
    if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise NetworkError(damaged)
    flat = np.frombuffer(content, dtype, offset=file.tell())
    try:
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except (ValueError, OverflowError) as error:  # too many dimensions, or too large ones beside one of 0
        raise NetworkError(damaged) from error


def _archive(content: bytes, where: str) -> dict[str, Array]:
    """An .npz file: a zip of .npy files."""
    arrays: dict[str, Array] = {}
    room = MAX_FILE_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.namelist():
                name = entry.removesuffix(".npy")
                with archive.open(entry) as file:
                    member = file.read(room + 1)
                room -= len(member)
                if room < 0:
                    raise NetworkError(
                        f"{where}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB; give fewer inferences"
                    )
                if not member.startswith(b"\x93NUMPY"):
                    raise NetworkError(
                        f"{where}: its entry {shown(entry)} is no numpy array; write it with numpy.savez"
                    )
                arrays[name] = _numpy(member, where)
    except NetworkError:
        raise
    except (
        Exception
    ) as error:  # zipfile raises a dozen kinds on damaged bytes: struct, zlib, NotImplemented, ...
        raise NetworkError(
            f"{where}: the .npz archive is damaged or cut short; write the file again"
        ) from error
    if not arrays:
        raise NetworkError(
            f"{where}: the .npz archive holds no array; give one under each input tensor's name"
        )
    return arrays


def _idx(content: bytes, where: str) -> Array:
    """An IDX file: two zero bytes, the type, the number of dimensions, their 32-bit big-endian sizes, the elements."""
    if len(content) < 4 or content[2] not in _IDX_TYPES or not content[3]:
        raise NetworkError(f"{where}: is no array file; {_KNOWN}")
    dtype, dimensions = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise NetworkError(f"{where}: the IDX header is cut short; fetch the file again")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(content) - start:
        raise NetworkError(
            f"{where}: the IDX header states {expected} bytes of data, there are {len(content) - start}; "
            "fetch the file again"
        )
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape)
    except (ValueError, OverflowError) as error:  # too many dimensions, or too large ones beside one of 0
        raise NetworkError(f"{where}: the IDX header is damaged; fetch the file again") from error


def _match(arrays: dict[str, Array], network: Network, where: str) -> dict[str, Array]:
    """The arrays by input tensor."""
    others = {name: array for name, array in arrays.items() if name != _LABELS or name in network.inputs}
    if len(network.inputs) == 1 and len(others) == 1:
        return {network.inputs[0]: next(iter(others.values()))}
    wanted = ", ".join(network.inputs)
    for name in network.inputs:
        if name not in others:
            raise NetworkError(
                f"{where}: has no input {name} (it has {_names(others)}); give an .npz that names {wanted}"
            )
    for name in others:
        if name not in network.inputs:
            raise NetworkError(
                f"{where}: holds {shown(name)}, no input of the network; its inputs are {wanted}"
            )
    return {name: others[name] for name in network.inputs}


def _fit_shape(array: Array, tensor: Tensor, where: str) -> Array:
    shape = tensor.shape
    if array.shape[1:] == shape and array.ndim:
        return array
    if len(shape) == 3 and shape[2] == 1 and array.ndim == 3 and array.shape[1:] == shape[:2]:
        return array[..., np.newaxis]
    raise NetworkError(
        f"{where}: an array of shape {array.shape} for the input {tensor.name}, "
        f"which needs (N, {', '.join(map(str, shape))}); the first axis counts inferences"
    )


def _refuse_at(bad: npt.NDArray[np.bool_], array: Array, tensor: Tensor, where: str, why: str) -> None:
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        at = ", ".join(map(str, index))
        raise NetworkError(f"{where}: {tensor.name}[{at}] is {array[index]}, {why}")


def conform(array: Array, tensor: Tensor, where: str) -> npt.NDArray[np.integer]:
    """`array`, of any shape, as integers of the tensor's type; see `load_inputs`. Errors begin with `where`."""
    type_ = tensor.type
    if array.dtype.kind == "f":
        return _quantize(array, tensor, where)
    if array.dtype.kind not in "iu":
        what = "truth values" if array.dtype.kind == "b" else str(array.dtype)
        raise NetworkError(f"{where}: {tensor.name} is an array of {what}; give integers of type {type_}")
    if array.dtype == np.uint8 and type_ == TensorType(8, signed=True) and tensor.zero_point == -128:
        return (array.astype(np.int16) - 128).astype(np.int8)
    # Compared in the array's own type: numpy compares a uint64 with a Python integer exactly.
    bad = (array < type_.min) | (array > type_.max)
    _refuse_at(
        bad, array, tensor, where, f"outside {type_.min}...{type_.max} of {type_}; bring it into range"
    )
    return array.astype(type_.dtype)


def _quantize(array: Array, tensor: Tensor, where: str) -> npt.NDArray[np.integer]:
    type_ = tensor.type
    if tensor.scale is None:
        raise NetworkError(
            f"{where}: floats, but the input {tensor.name} states no scale; give integers of type {type_}"
        )
    _refuse_at(~np.isfinite(array), array, tensor, where, "not a finite number; mend the data")
    with np.errstate(over="ignore"):  # an infinite quotient is clamped like any that is out of range
        quotient = (array.astype(np.float32) / np.float32(tensor.scale)).astype(np.float64)
    quantized = np.copysign(np.floor(np.abs(quotient) + 0.5), quotient) + tensor.zero_point
    return np.clip(quantized, type_.min, type_.max).astype(type_.dtype)
