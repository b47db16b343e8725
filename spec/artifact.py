"""The layout of an artifact, the one file that holds a compiled network: header, parts, records, each once.

Everything is a little-endian word of 32 bits, or bytes. Parts follow the header in the order of `Part`, without a gap,
each padded with zeros to a multiple of `PART_ALIGNMENT`. A reader knows a file that is cut, changed or of another
version: the header has a CRC-32 of its own, and one of each part; SHA-256 is over the whole file.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "ABSENT",
    "ARTIFACT_VERSION",
    "CRC_POLYNOMIAL",
    "FLAG_LAYERS",
    "HEADER",
    "HEADER_BYTES",
    "MAGIC",
    "PART_ALIGNMENT",
    "PART_ENTRY",
    "RECORDS_OF",
    "WORD_BYTES",
    "Kind",
    "Part",
    "Role",
    "Word",
    "offsets",
    "record_bytes",
    "words_of",
]

WORD_BYTES = 4
MAGIC = b"INTAGLIO"
ARTIFACT_VERSION = 1
PART_ALIGNMENT = 64
"""Of parts in the file, in bytes: an image may be run where the file lies, if that begins at such a multiple."""
ABSENT = 0xFFFF_FFFF
"""In place of an index: there is none."""
FLAG_LAYERS = 1
"""Of the header's flags: the program stores the output of each layer."""
CRC_POLYNOMIAL = 0xEDB8_8320
"""CRC-32 of IEEE 802.3 (zlib's), bits reflected: begins with all ones, ends inverted."""


class Part(enum.IntEnum):
    """The parts, in the file's order; `meaning` says what each holds."""

    REGIONS = 0
    TENSORS = 1
    LAYERS = 2
    DIMENSIONS = 3
    SCALES = 4
    OWNERS = 5
    TEST_INPUTS = 6
    TEST_CRCS = 7
    STRINGS = 8
    CONTENTS = 9

    @property
    def meaning(self) -> str:
        return _PARTS[self]


_PARTS = {
    Part.REGIONS: "what the machine must be granted, in the order of their numbers",
    Part.TENSORS: "inputs, then outputs, then what layers store besides, each in the network's order",
    Part.LAYERS: "in the order in which they run",
    Part.DIMENSIONS: "of all shapes, a word each",
    Part.SCALES: "what stored integers mean",
    Part.OWNERS: "of each command, whom a fault names: offset of a string, a word each",
    Part.TEST_INPUTS: "of each self-test, the inputs' bytes one after the other, each padded to a whole word",
    Part.TEST_CRCS: "of each self-test, the CRC-32 of each output, then of each layer's output, a word each",
    Part.STRINGS: "UTF-8, each ended by a zero byte; offsets count from the part's begin; the first is empty",
    Part.CONTENTS: "what regions hold before the first start, bytes",
}


class Role(enum.IntEnum):
    """What a tensor is to the host."""

    INPUT = 0
    OUTPUT = 1
    LAYER = 2


class Kind(enum.IntEnum):
    """How a number is to be read."""

    SIGNED = 0
    UNSIGNED = 1
    FLOAT = 2


@dataclass(frozen=True)
class Word:
    """A field of `count` words."""

    name: str
    meaning: str
    count: int = 1


PART_ENTRY = (
    Word("offset", "where the part begins in the file"),
    Word("bytes", "a multiple of the alignment"),
    Word(
        "count", "of records; of TEST_INPUTS and TEST_CRCS, of self-tests; of STRINGS and CONTENTS, of bytes"
    ),
    Word("crc", "CRC-32 of the part's bytes"),
)
"""A line of the header's table of parts."""

HEADER = (
    Word("magic", '"INTAGLIO", the first letter in the low byte', 2),
    Word("version", "of this layout"),
    Word("bytes", "of the file"),
    Word("fingerprint", "of the machine that the program was compiled for"),
    Word("address_bits", "of that machine's addresses"),
    Word("command_offset", "where the commands begin in region PROGRAM"),
    Word("command_count", "commands in the list"),
    Word("flags", "bit 0: the program stores the output of each layer; others are zero"),
    Word("name", "the network's; offset of a string"),
    Word("config", "the configuration's name; offset of a string"),
    Word("producer", "what wrote the file; offset of a string"),
    Word("parts", "a line each, in their order", len(PART_ENTRY) * len(Part)),
    Word("sha256", "of the whole file, in which this field and `crc` count as zeros", 8),
    Word("reserved", "zeros", 3),
    Word("crc", "CRC-32 of the header before this word"),
)

_REGION = (
    Word("region", "its number"),
    Word("rights", "bit 0: the machine reads it, bit 1: it writes it"),
    Word("bytes", "that the machine must be granted, from the region's base on"),
    Word("alignment", "of the base, in bytes; a power of two"),
    Word("contents", "what it holds before the first start: where in CONTENTS"),
    Word("contents_bytes", "so many bytes, from the base on; what follows may be anything"),
)

_TENSOR = (
    Word("name", "offset of a string"),
    Word("role", "0 input, 1 output, 2 stored by a layer besides"),
    Word("kind", "of a stored value: 0 two's complement, 1 unsigned"),
    Word("bits", "of a stored value's type, at most those of its elements"),
    Word("edge_kind", "what the model's file takes or gives at this place: 0, 1 as `kind`, 2 floating point"),
    Word("edge_bits", "of such a value"),
    Word("digits", "elements a value, the low one first"),
    Word("element_bits", "of an element, 1, 2, 4 or 8; element 0 is in the low bits of byte 0, without gaps"),
    Word("region", "that holds it"),
    Word("offset", "from the region's base, in bytes"),
    Word("bytes", "of the whole tensor; bits of the last one that no element takes are undefined"),
    Word("elements", "values: the product of the shape"),
    Word("rank", "dimensions of the shape, channels last, without the batch"),
    Word("shape", "the first of them in DIMENSIONS"),
    Word("scales", "0: values mean themselves; 1: one scale; else one a channel"),
    Word("scale", "the first of them in SCALES"),
    Word("axis", "the dimension that counts channels, where there are several scales; else zero"),
)

_LAYER = (
    Word("name", "offset of a string"),
    Word("op", "what it does; offset of a string"),
    Word("mark", "the time stamp that is taken when it is complete; all ones: it is complete from the start"),
    Word("macs", "multiply-accumulates, 64 bits, the low word first", 2),
    Word("tensor", "its output's number in TENSORS; all ones: it is not stored"),
)

_SCALE = (
    Word("scale", "a value's real one is scale * (value - zero point); IEEE 754, 32 bits"),
    Word("zero_point", "two's complement"),
)

RECORDS_OF: dict[Part, tuple[Word, ...]] = {
    Part.REGIONS: _REGION,
    Part.TENSORS: _TENSOR,
    Part.LAYERS: _LAYER,
    Part.DIMENSIONS: (Word("dimension", "at least 1"),),
    Part.SCALES: _SCALE,
    Part.OWNERS: (Word("owner", "offset of a string"),),
}
"""The words of a record, of parts that hold records."""


def words_of(fields: tuple[Word, ...]) -> int:
    """Words of a record of these fields."""
    return sum(field.count for field in fields)


def record_bytes(part: Part) -> int:
    """Bytes of a part's record; 0 of one that holds none."""
    return words_of(RECORDS_OF[part]) * WORD_BYTES if part in RECORDS_OF else 0


def offsets(fields: tuple[Word, ...]) -> dict[str, int]:
    """Of each field, the byte at which it begins."""
    found, place = {}, 0
    for field in fields:
        found[field.name] = place
        place += field.count * WORD_BYTES
    return found


HEADER_BYTES = words_of(HEADER) * WORD_BYTES
