"""The artifact in a file's bytes, or one line that says why they are none."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from intaglio.compiler.artifact.model import Artifact, SelfTest, StoredTensor
from intaglio.compiler.program import Binding, LayerInfo, Program
from intaglio.network import NetworkError, TensorType
from intaglio.spec.artifact import (
    ABSENT,
    ARTIFACT_VERSION,
    FLAG_LAYERS,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    PART_ALIGNMENT,
    PART_ENTRY,
    RECORDS_OF,
    WORD_BYTES,
    Kind,
    Part,
    Role,
    Word,
    offsets,
    words_of,
)
from intaglio.spec.c_header import rights_of
from intaglio.spec.commands import COMMAND_BYTES
from intaglio.spec.limits import MARKS, REGISTER_BITS
from intaglio.spec.regions import Region

_AGAIN = "write it again"
_LAST_ROLE = list(Role)[-1]


def recognised(content: bytes) -> bool:
    """Whether a file that begins so says that it is an artifact."""
    return content.startswith(MAGIC)


def decode(content: bytes, where: str) -> Artifact:
    """The artifact in a file's bytes; its program has what a run needs, and no probes.

    Raises NetworkError, in one line that begins with `where`: this is no artifact, or one that is cut, changed, of
    another version, or contradicts itself.
    """
    try:
        return _decode(content)
    except _Refused as error:
        raise NetworkError(f"{where}: {error}; {_AGAIN}") from None


class _Refused(ValueError):
    """Why, without the file."""


def _require(right: bool, problem: str) -> None:
    if not right:
        raise _Refused(problem)


def _unpacked(fields: tuple[Word, ...], record: bytes) -> dict[str, int]:
    return {
        field.name: int.from_bytes(record[place : place + field.count * WORD_BYTES], "little")
        for field, place in zip(fields, offsets(fields).values(), strict=True)
    }


@dataclass
class _Parts:
    """What parts hold, and what the records of some say of others."""

    header: Mapping[str, int]
    bytes: dict[Part, bytes] = field(default_factory=dict)
    count: dict[Part, int] = field(default_factory=dict)

    def records(self, part: Part) -> list[dict[str, int]]:
        fields, content = RECORDS_OF[part], self.bytes[part]
        size = words_of(fields) * WORD_BYTES
        return [_unpacked(fields, content[i * size : (i + 1) * size]) for i in range(self.count[part])]

    def string(self, offset: int, what: str) -> str:
        """Raises _Refused, naming what has it, where there is none."""
        _require(offset < self.count[Part.STRINGS], f"{what}: no string begins at {offset}")
        strings = self.bytes[Part.STRINGS]
        try:
            return strings[offset : strings.index(0, offset)].decode()
        except UnicodeDecodeError:
            raise _Refused(f"{what}: the string at {offset} is no UTF-8") from None


def _decode(content: bytes) -> Artifact:
    parts = _Parts(_header(content))
    _find_parts(content, parts)
    header = parts.header
    regions = _regions(parts)
    stored = _tensors(parts, regions)
    layers, layer_tensors = _layers(parts, len(stored))
    image = _contents(parts, regions[Region.PROGRAM])
    begin, count = header["command_offset"], header["command_count"]
    _require(count > 0 and begin % COMMAND_BYTES == 0, "its list of commands is empty or misaligned")
    commands = image[begin : begin + count * COMMAND_BYTES]
    _require(len(commands) == count * COMMAND_BYTES, "its list of commands goes beyond the program")
    _require(parts.count[Part.OWNERS] == count, "commands and their owners are not as many")
    owners = tuple(parts.string(row["owner"], "an owner") for row in parts.records(Part.OWNERS))
    program = Program(
        network=parts.string(header["name"], "the network's name"),
        config=parts.string(header["config"], "the configuration's name"),
        fingerprint=header["fingerprint"],
        commands=commands,
        command_offset=begin,
        region_bytes={region: regions[region]["bytes"] for region in Region},
        image=np.frombuffer(image, np.uint8),
        inputs=tuple(tensor.binding for tensor in stored if tensor.role is Role.INPUT),
        outputs=tuple(tensor.binding for tensor in stored if tensor.role is not Role.INPUT),
        probes=(),
        spills=(),
        layers=layers,
        warnings=(),
        owners=owners,
    )
    held = {region: _contents(parts, regions[region]) for region in Region if region is not Region.PROGRAM}
    return Artifact(
        program=program,
        address_bits=header["address_bits"],
        stored=stored,
        layer_tensors=layer_tensors,
        store_layers=bool(header["flags"] & FLAG_LAYERS),
        contents={region: content for region, content in held.items() if content},
        tests=_tests(parts, stored),
        producer=parts.string(header["producer"], "its producer"),
    )


def _header(content: bytes) -> dict[str, int]:
    _require(recognised(content), "this is no artifact")
    _require(len(content) >= HEADER_BYTES, f"it is cut off after {len(content)} bytes")
    header = _unpacked(HEADER, content[:HEADER_BYTES])
    version = header["version"]
    _require(
        version == ARTIFACT_VERSION,
        f"it is of version {version} of the format, {ARTIFACT_VERSION} is read here",
    )
    place = offsets(HEADER)
    _require(zlib.crc32(content[: place["crc"]]) == header["crc"], "its header was changed")
    size = header["bytes"]
    _require(len(content) >= size, f"it is cut off after {len(content):,} bytes of {size:,}")
    _require(len(content) == size, f"{len(content) - size:,} bytes follow its {size:,}")
    _require(header["flags"] <= FLAG_LAYERS and not header["reserved"], "it has flags that are not known")
    bits = header["address_bits"]
    _require(REGISTER_BITS <= bits <= 2 * REGISTER_BITS, f"its machine has addresses of {bits} bits")
    return header


def _find_parts(content: bytes, parts: _Parts) -> None:
    place = offsets(HEADER)
    entry_bytes = words_of(PART_ENTRY) * WORD_BYTES
    end = HEADER_BYTES
    for part in Part:
        first = place["parts"] + part * entry_bytes
        entry = _unpacked(PART_ENTRY, content[first : first + entry_bytes])
        size, count = entry["bytes"], entry["count"]
        _require(
            entry["offset"] == end and size % PART_ALIGNMENT == 0 and size <= len(content) - end,
            f"part {part.name} does not follow the one before",
        )
        parts.bytes[part], parts.count[part] = content[end : end + size], count
        if part not in (Part.TEST_INPUTS, Part.TEST_CRCS):
            each = words_of(RECORDS_OF[part]) * WORD_BYTES if part in RECORDS_OF else 1
            _require(_padded(count * each) == size, f"part {part.name} has not as many records as it says")
        _require(zlib.crc32(parts.bytes[part]) == entry["crc"], f"part {part.name} was changed")
        end += size
    _require(end == len(content), "bytes follow its last part")
    count = parts.count[Part.STRINGS]
    _require(count > 0 and parts.bytes[Part.STRINGS][count - 1] == 0, "its last string does not end")
    blank = bytearray(content)
    blank[place["sha256"] : place["sha256"] + 32] = bytes(32)
    blank[place["crc"] : HEADER_BYTES] = bytes(WORD_BYTES)
    wanted = parts.header["sha256"].to_bytes(32, "little")
    _require(hashlib.sha256(blank).digest() == wanted, "its SHA-256 is another")


def _padded(size: int) -> int:
    return size + -size % PART_ALIGNMENT


def _regions(parts: _Parts) -> dict[Region, dict[str, int]]:
    rows = parts.records(Part.REGIONS)
    numbers = [row["region"] for row in rows]
    _require(numbers == list(Region), "its regions are not those of a machine")
    for region, row in zip(Region, rows, strict=True):
        alignment, size = row["alignment"], row["bytes"]
        _require(row["rights"] == rights_of(region), f"region {region.name}: its rights are others")
        _require(
            alignment > 0 and alignment & (alignment - 1) == 0 and size % alignment == 0,
            f"region {region.name}: its alignment is no power of two, or its size no multiple of it",
        )
        held = row["contents_bytes"]
        _require(
            held <= size and row["contents"] + held <= parts.count[Part.CONTENTS],
            f"region {region.name}: its contents are larger than it is, or than the file's",
        )
    return dict(zip(Region, rows, strict=True))


def _contents(parts: _Parts, region: Mapping[str, int]) -> bytes:
    begin = region["contents"]
    return parts.bytes[Part.CONTENTS][begin : begin + region["contents_bytes"]]


def _tensors(parts: _Parts, regions: Mapping[Region, Mapping[str, int]]) -> tuple[StoredTensor, ...]:
    dimensions = [row["dimension"] for row in parts.records(Part.DIMENSIONS)]
    numbers = list(struct.iter_unpack("<fi", parts.bytes[Part.SCALES]))[: parts.count[Part.SCALES]]
    _require(
        all(scale > 0 and math.isfinite(scale) for scale, _ in numbers),
        "a scale is no positive finite number",
    )
    stored = []
    for row in parts.records(Part.TENSORS):
        name = parts.string(row["name"], "a tensor's name")
        try:
            stored.append(_tensor(name, row, dimensions, numbers))
        except _Refused as error:
            raise _Refused(f"tensor {name}: {error}") from None
        size = regions[stored[-1].binding.region]["bytes"]
        _require(row["offset"] + row["bytes"] <= size, f"tensor {name}: it goes beyond its region")
    roles = [tensor.role for tensor in stored]
    _require(roles == sorted(roles), "its tensors are not in the order of their roles")
    return tuple(stored)


def _tensor(
    name: str, row: Mapping[str, int], dimensions: list[int], numbers: list[tuple[float, int]]
) -> StoredTensor:
    shape = tuple(dimensions[row["shape"] : row["shape"] + row["rank"]])
    scales = tuple(numbers[row["scale"] : row["scale"] + row["scales"]])
    bits, digits, axis = row["element_bits"], row["digits"], row["axis"]
    _require(row["role"] <= _LAST_ROLE and row["region"] in list(Region), "its role or its region is unknown")
    _require(
        row["kind"] in (Kind.SIGNED, Kind.UNSIGNED) and row["edge_kind"] in list(Kind), "its kind is unknown"
    )
    _require(
        bits in (1, 2, 4, 8) and 1 <= digits <= 32 // bits and 1 <= row["bits"] <= digits * bits,
        f"{digits} elements of {bits} bits hold no value of {row['bits']}",
    )
    _require(
        row["shape"] + row["rank"] <= len(dimensions)
        and 0 not in shape
        and math.prod(shape) == row["elements"],
        "its shape is not of as many elements",
    )
    _require(
        row["bytes"] == -(-row["elements"] * digits * bits // 8),
        f"its elements do not take {row['bytes']} bytes",
    )
    _require(row["scale"] + row["scales"] <= len(numbers), "it has not as many scales")
    _require(
        (axis == 0 or axis < len(shape)) and (len(scales) <= 1 or shape[axis : axis + 1] == (len(scales),)),
        "its scales are not those of a dimension",
    )
    binding = Binding(
        tensor=name,
        shape=shape,
        type=TensorType(row["bits"], row["kind"] == Kind.SIGNED),
        region=Region(row["region"]),
        offset=row["offset"],
        bytes=row["bytes"],
        digits=digits,
        element_bits=bits,
    )
    return StoredTensor(binding, Role(row["role"]), scales, axis, (Kind(row["edge_kind"]), row["edge_bits"]))


def _layers(parts: _Parts, tensors: int) -> tuple[tuple[LayerInfo, ...], tuple[int | None, ...]]:
    layers, places = [], []
    for row in parts.records(Part.LAYERS):
        name = parts.string(row["name"], "a layer's name")
        mark, tensor = row["mark"], row["tensor"]
        _require(mark == ABSENT or mark < MARKS, f"layer {name}: there is no time stamp {mark}")
        _require(tensor == ABSENT or tensor < tensors, f"layer {name}: there is no tensor {tensor}")
        op = parts.string(row["op"], f"layer {name}")
        layers.append(LayerInfo(name, op, row["macs"], -1 if mark == ABSENT else mark))
        places.append(None if tensor == ABSENT else tensor)
    return tuple(layers), tuple(places)


def _tests(parts: _Parts, stored: tuple[StoredTensor, ...]) -> tuple[SelfTest, ...]:
    count = parts.count[Part.TEST_INPUTS]
    sizes = [tensor.binding.bytes for tensor in stored if tensor.role is Role.INPUT]
    stride = sum(size + -size % WORD_BYTES for size in sizes)
    outputs = sum(tensor.role is Role.OUTPUT for tensor in stored)
    words = outputs + parts.count[Part.LAYERS]
    inputs, crcs = parts.bytes[Part.TEST_INPUTS], parts.bytes[Part.TEST_CRCS]
    _require(
        parts.count[Part.TEST_CRCS] == count
        and len(inputs) == _padded(count * stride)
        and len(crcs) == _padded(count * words * WORD_BYTES),
        "its self-tests are not as many or not as long as it says",
    )
    tests = []
    for test in range(count):
        given, place = [], test * stride
        for size in sizes:
            given.append(inputs[place : place + size])
            place += size + -size % WORD_BYTES
        tests.append(
            SelfTest(tuple(given), struct.unpack_from(f"<{words}I", crcs, test * words * WORD_BYTES))
        )
    return tuple(tests)
