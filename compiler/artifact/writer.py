"""An artifact's bytes."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping

from intaglio.compiler.artifact.model import Artifact, StoredTensor, kind_of
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
    Part,
    Word,
    offsets,
)
from intaglio.spec.c_header import rights_of
from intaglio.spec.regions import Region

REGION_ALIGNMENT = 64
"""Of a region's base, in bytes: of what lies in it, too, and of lines of a processor's cache."""


def encode(artifact: Artifact) -> bytes:
    """The file, from its first byte to its last."""
    strings, dimensions, scales, contents = _Strings(), bytearray(), bytearray(), bytearray()
    program = artifact.program
    held = {Region.PROGRAM: program.image.tobytes(), **artifact.contents}
    parts: dict[Part, tuple[int, bytes]] = {}

    def records(part: Part, rows: Iterable[Mapping[str, int]]) -> None:
        made = [packed(RECORDS_OF[part], row) for row in rows]
        parts[part] = len(made), b"".join(made)

    records(Part.REGIONS, (_region(region, artifact, held, contents) for region in Region))
    records(Part.TENSORS, [_tensor(tensor, strings, dimensions, scales) for tensor in artifact.stored])
    records(
        Part.LAYERS,
        (
            {
                "name": strings.place(layer.name),
                "op": strings.place(layer.op),
                "mark": ABSENT if layer.mark < 0 else layer.mark,
                "macs": layer.macs,
                "tensor": ABSENT if tensor is None else tensor,
            }
            for layer, tensor in zip(program.layers, artifact.layer_tensors, strict=True)
        ),
    )
    owners = program.owners or ("",) * program.command_count
    records(Part.OWNERS, ({"owner": strings.place(owner)} for owner in owners))
    tests = artifact.tests
    inputs = b"".join(given + bytes(-len(given) % WORD_BYTES) for test in tests for given in test.inputs)
    parts[Part.TEST_INPUTS] = len(tests), inputs
    parts[Part.TEST_CRCS] = len(tests), b"".join(_words(test.crcs) for test in tests)
    named = {
        "name": strings.place(program.network),
        "config": strings.place(program.config),
        "producer": strings.place(artifact.producer),
    }
    parts[Part.DIMENSIONS] = len(dimensions) // WORD_BYTES, bytes(dimensions)
    parts[Part.SCALES] = len(scales) // 2 // WORD_BYTES, bytes(scales)
    parts[Part.STRINGS] = len(strings.content), bytes(strings.content)
    parts[Part.CONTENTS] = len(contents), bytes(contents)
    return _file(artifact, named, parts)


def packed(fields: tuple[Word, ...], values: Mapping[str, int | bytes]) -> bytes:
    """A record, from a value for each of its fields."""
    if values.keys() != {field.name for field in fields}:
        raise ValueError(
            f"the fields are {', '.join(field.name for field in fields)}, not {', '.join(values)}"
        )
    made = bytearray()
    for field in fields:
        value, size = values[field.name], field.count * WORD_BYTES
        made += value if isinstance(value, bytes) else value.to_bytes(size, "little")
    return bytes(made)


def sealed(file: bytes | bytearray) -> bytes:
    """The file with the header's SHA-256 and CRC-32 made anew."""
    place, content = offsets(HEADER), bytearray(file)
    content[place["sha256"] : place["sha256"] + 32] = bytes(32)
    content[place["crc"] : HEADER_BYTES] = bytes(WORD_BYTES)
    content[place["sha256"] : place["sha256"] + 32] = hashlib.sha256(content).digest()
    content[place["crc"] : HEADER_BYTES] = _words([zlib.crc32(content[: place["crc"]])])
    return bytes(content)


class _Strings:
    """The part that holds them; equal ones once."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._places: dict[str, int] = {}
        self.place("")

    def place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.content)
            # A name out of a file may hold what UTF-8 or C's strings do not.
            self.content += text.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"
        return self._places[text]


def _words(numbers: Iterable[int]) -> bytes:
    return b"".join(number.to_bytes(WORD_BYTES, "little") for number in numbers)


def _region(
    region: Region, artifact: Artifact, held: Mapping[Region, bytes], contents: bytearray
) -> dict[str, int]:
    begin, content = len(contents), held.get(region, b"")
    contents += content + bytes(-len(content) % PART_ALIGNMENT)
    return {
        "region": region,
        "rights": rights_of(region),
        "bytes": artifact.program.region_bytes.get(region, 0),
        "alignment": REGION_ALIGNMENT,
        "contents": begin,
        "contents_bytes": len(content),
    }


def _tensor(
    tensor: StoredTensor, strings: _Strings, dimensions: bytearray, scales: bytearray
) -> dict[str, int]:
    binding = tensor.binding
    shape, scale = len(dimensions) // WORD_BYTES, len(scales) // 2 // WORD_BYTES
    dimensions += _words(binding.shape)
    for factor, zero_point in tensor.scales:
        scales += struct.pack("<fi", factor, zero_point)
    return {
        "name": strings.place(tensor.name),
        "role": tensor.role,
        "kind": kind_of(binding.type),
        "bits": binding.type.bits,
        "edge_kind": tensor.edge[0],
        "edge_bits": tensor.edge[1],
        "digits": binding.digits,
        "element_bits": binding.element_bits,
        "region": binding.region,
        "offset": binding.offset,
        "bytes": binding.bytes,
        "elements": binding.size,
        "rank": len(binding.shape),
        "shape": shape,
        "scales": len(tensor.scales),
        "scale": scale,
        "axis": tensor.axis,
    }


def _file(artifact: Artifact, named: Mapping[str, int], parts: Mapping[Part, tuple[int, bytes]]) -> bytes:
    entries, body = bytearray(), bytearray()
    for part in Part:
        count, content = parts[part]
        content += bytes(-len(content) % PART_ALIGNMENT)
        entry = {
            "offset": HEADER_BYTES + len(body),
            "bytes": len(content),
            "count": count,
            "crc": zlib.crc32(content),
        }
        entries += packed(PART_ENTRY, entry)
        body += content
    program = artifact.program
    header = packed(
        HEADER,
        {
            "magic": MAGIC,
            "version": ARTIFACT_VERSION,
            "bytes": HEADER_BYTES + len(body),
            "fingerprint": program.fingerprint,
            "address_bits": artifact.address_bits,
            "command_offset": program.command_offset,
            "command_count": program.command_count,
            "flags": FLAG_LAYERS * artifact.store_layers,
            **named,
            "parts": bytes(entries),
            "sha256": bytes(32),
            "reserved": 0,
            "crc": 0,
        },
    )
    return sealed(header + body)
