"""Array files: .npy, .npz and IDX, gzipped or not. Headers first, and of the elements no more than is wanted.

A megabyte of gzip or zip can unpack to a gibibyte of zeros. What a header states is therefore held against what the
reader wants and against the packed bytes before any element is unpacked, and nothing is unpacked beyond what it states.

Ref: the IDX format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", file formats
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError
from intaglio.network.files import MAX_FILE_BYTES, read_bytes, shown

Array = npt.NDArray[Any]

PACKED_RATIO = 100
"""Times its packed bytes a file may unpack to: images take a tenth of theirs packed, zeros a thousandth."""
PACKED_FLOOR = 1 << 26
"""Bytes that any packed file may unpack to: a fraction of a second, and blank images are no attack."""
HEAD_BYTES = 1 << 14
"""Read before anything is known of an array: more than the longest header that is taken, and some elements."""
_CHUNK = 1 << 20

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # A header of version 3 differs from one of version 2 in its encoding, which matters to field names alone.
    (3, 0): np.lib.format.read_array_header_2_0,
}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes. LZMA takes the memory that its header asks for."""
KNOWN = "known are .npy, .npz and IDX, the first and the last gzipped or not"


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype that the .npy data in `file` states; `file` is then at its first element.

    Raises ValueError where it states none: the header is a Python literal, and damage raises whatever parsing it does.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what numpy or Python finds odd in a header, no writer wrote
            shape, fortran, dtype = _NPY_HEADERS[np.lib.format.read_magic(file)](file)
    except Exception as error:
        raise ValueError("no header of a .npy array") from error
    if any(extent < 0 for extent in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype


class Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


class _Room:
    """How many bytes a file may still unpack to. `packed`: its own bytes, None where it is not packed."""

    def __init__(self, where: str, packed: int | None) -> None:
        self._where, self._packed = where, packed
        self._left = MAX_FILE_BYTES
        if packed is not None:
            self._left = min(self._left, max(PACKED_FLOOR, PACKED_RATIO * packed))

    def take(self, count: int) -> None:
        """Raise NetworkError where there are no `count` bytes left."""
        if count > self._left:
            packed = "" if self._packed is None else f" in {self._packed:,} packed bytes"
            raise NetworkError(
                f"{self._where}: states {count:,} bytes of data{packed}, more than this program unpacks; "
                "take fewer inferences, or store them unpacked"
            )
        self._left -= count


class _Source:
    """The bytes of one array, unpacked as they are read. `size`: how many there are, None where that is not known."""

    def __init__(self, stream: Readable, size: int | None, room: _Room, where: str, damaged: str) -> None:
        self._stream = stream
        self.size, self.room, self.where, self._damaged = size, room, where, damaged

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end."""
        try:
            return self._stream.read(count)
        except Exception as error:  # gzip, zlib and zipfile raise a dozen kinds on damaged bytes
            raise NetworkError(f"{self.where}: {self._damaged}") from error


class StoredArray:
    """An array in a file, of which the header alone has been read.

    Attributes
    ----------
    shape : as the header states it
    dtype : integers, floats or truth values
    """

    def __init__(
        self, source: _Source, idx: bool = True, otherwise: str = f"is not an array file; {KNOWN}"
    ) -> None:
        self._source, self._otherwise = source, otherwise
        self._head = source.read(HEAD_BYTES)
        if self._head.startswith(b"\x93NUMPY"):
            self._kind, advice = ".npy", "write the file again"
            start = self._read_npy_header()
        elif idx and self._head.startswith(b"\x00\x00"):
            self._kind, advice = "IDX", "fetch the file again"
            start = self._read_idx_header()
        else:
            raise NetworkError(f"{source.where}: {otherwise}")
        self._damage = f"{source.where}: the {self._kind} data is damaged or cut short: its header states"
        self._advice = advice
        self._head = self._head[start:]
        if source.size is not None:
            self._require(source.size - start)

    def _read_npy_header(self) -> int:
        """Where the elements begin."""
        file = io.BytesIO(self._head)
        try:
            self.shape, self._fortran, self.dtype = npy_header(file)
        except ValueError as error:
            raise NetworkError(
                f"{self._source.where}: the .npy data is damaged or cut short; write the file again"
            ) from error
        if self.dtype.kind not in "iufb":
            raise NetworkError(f"{self._source.where}: an array of {self.dtype}; give integers or floats")
        return file.tell()

    def _read_idx_header(self) -> int:
        """As for .npy: two zero bytes, the type, the number of axes, their 32-bit big-endian sizes, the elements."""
        head, where = self._head, self._source.where
        if len(head) < 4 or head[2] not in _IDX_TYPES or not head[3]:
            raise NetworkError(f"{where}: {self._otherwise}")
        start = 4 + 4 * head[3]
        if len(head) < start:
            raise NetworkError(f"{where}: the IDX header is cut short; fetch the file again")
        self.shape = struct.unpack(f">{head[3]}I", head[4:start])
        self.dtype, self._fortran = np.dtype(_IDX_TYPES[head[2]]), False
        return start

    @property
    def _bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _require(self, found: int) -> None:
        if found != self._bytes:
            there = (
                f"there are {found}"
                if found <= self._bytes or self._source.size is not None
                else "there are more"
            )
            raise NetworkError(f"{self._damage} {self._bytes} bytes of data, {there}; {self._advice}")

    def read(self, count: int | None = None) -> Array:
        """The array, or of its first axis the first `count`. To be called once.

        Raises
        ------
        NetworkError
            Where the data is damaged or cut short, or more than the file may unpack to.
        """
        shape = self.shape
        if count is not None and shape and not self._fortran:
            shape = (min(count, shape[0]), *shape[1:])
        wanted = math.prod(shape) * self.dtype.itemsize
        self._source.room.take(wanted)
        data, filled = bytearray(wanted), 0
        part, beyond = self._head[:wanted], self._head[wanted:]
        while part:
            data[filled : filled + len(part)] = part
            filled += len(part)
            part = self._source.read(min(_CHUNK, wanted - filled))
        if filled < wanted:
            self._require(filled)
        if wanted == self._bytes and (beyond or self._source.read(1)):
            self._require(wanted + 1)
        try:
            array = np.frombuffer(data, self.dtype).reshape(shape, order="F" if self._fortran else "C")
        except (ValueError, OverflowError) as error:  # too many axes, or too large ones beside one of 0
            raise NetworkError(f"{self._damage} the shape {shape}; {self._advice}") from error
        return array[:count] if count is not None and shape else array


def open_arrays(path: str | os.PathLike[str]) -> Mapping[str, Callable[[], StoredArray]]:
    """What opens each array in the file `path`, by name; that of a .npy or an IDX file is called ''.

    Raises
    ------
    NetworkError
        Where the file is missing, empty, of another format, or an archive that is damaged or holds nothing. What opens
        an array raises it where the array's header is damaged.
    """
    content, where = read_bytes(path), shown(path)
    if not content:
        raise NetworkError(f"{where}: the file is empty; {KNOWN}")
    if content.startswith(b"PK"):
        return _members(content, where)
    if content.startswith(b"\x1f\x8b"):
        damaged = "the gzip data is damaged or cut short; fetch the file again"
        unpacked = gzip.GzipFile(fileobj=io.BytesIO(content))
        source = _Source(unpacked, None, _Room(where, len(content)), where, damaged)
    else:
        source = _Source(io.BytesIO(content), len(content), _Room(where, None), where, "cannot be read")
    return {"": partial(StoredArray, source)}


def _members(content: bytes, where: str) -> dict[str, Callable[[], StoredArray]]:
    """The arrays of an .npz file: a zip archive of .npy files."""
    damaged = "the .npz archive is damaged or cut short; write the file again"
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception as error:  # as in `_Source.read`
        raise NetworkError(f"{where}: {damaged}") from error
    room = _Room(where, len(content))

    def opened(entry: zipfile.ZipInfo) -> StoredArray:
        if entry.compress_type not in _METHODS:
            raise NetworkError(
                f"{where}: the .npz archive is packed otherwise than numpy packs; write it again"
            )
        try:
            stream = archive.open(entry)
        except Exception as error:
            raise NetworkError(f"{where}: {damaged}") from error
        otherwise = f"its entry {shown(entry.filename)} is not a numpy array; write it with numpy.savez"
        source = _Source(stream, entry.file_size, room, where, damaged)
        return StoredArray(source, idx=False, otherwise=otherwise)

    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if not entries:
        raise NetworkError(
            f"{where}: the .npz archive holds no array; give one under each input tensor's name"
        )
    return {name: partial(opened, entry) for name, entry in entries.items()}
