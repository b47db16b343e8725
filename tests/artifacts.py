"""Artifacts made by hand: every type of tensor, and damage."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from intaglio.compiler.artifact import Artifact, SelfTest, StoredTensor, encode
from intaglio.compiler.artifact.writer import sealed
from intaglio.compiler.program import Binding, LayerInfo, Program
from intaglio.network import TensorType
from intaglio.spec.artifact import (
    ABSENT,
    HEADER,
    HEADER_BYTES,
    PART_ENTRY,
    RECORDS_OF,
    Kind,
    Part,
    Role,
    offsets,
    record_bytes,
    words_of,
)
from intaglio.spec.commands import COMMAND_BYTES
from intaglio.spec.regions import Region

FINGERPRINT = 0x12345678
PLACES = offsets(HEADER)
ENTRY_BYTES = words_of(PART_ENTRY) * 4


def tensor(
    name: str,
    role: Role,
    kind: TensorType,
    shape: tuple[int, ...],
    element_bits: int,
    scales: tuple[tuple[float, int], ...] = (),
    axis: int = 0,
    offset: int = 0,
) -> StoredTensor:
    digits = -(-kind.bits // element_bits)
    size = -(-int(np.prod(shape)) * digits * element_bits // 8)
    region = Region.INPUT if role is Role.INPUT else Region.OUTPUT
    binding = Binding(name, shape, kind, region, offset, size, digits, element_bits)
    edge = (Kind.FLOAT, 32) if scales else (Kind.SIGNED if kind.signed else Kind.UNSIGNED, kind.bits)
    return StoredTensor(binding, role, scales, axis, edge)


def every_type() -> Artifact:
    """Tensors of every width and sign on elements of every width, of one scale and of one a channel; no network."""
    rng = np.random.default_rng(1)
    made, tops = [], {Region.INPUT: 0, Region.OUTPUT: 0}
    shapes = ((5,), (3, 3, 3), (2, 7), (1,))
    for number, (bits, signed) in enumerate(
        (bits, signed) for bits in range(1, 33) for signed in (False, True)
    ):
        shape = shapes[number % len(shapes)]
        element_bits = (1, 2, 4, 8)[number // 2 % 4]
        role = (Role.INPUT, Role.OUTPUT, Role.LAYER)[number * 3 // 64]
        axis = number % len(shape)
        zero = (-(1 << (bits - 1)), 3)[number // 16 % 2] if signed else (1 << bits) - 1
        one = (float(np.float32(rng.uniform(1e-3, 3))), zero)
        each = tuple(
            (float(np.float32(rng.uniform(1e-3, 3))), int(z)) for z in rng.integers(-3, 4, shape[axis])
        )
        scales = ((), (one,), each)[(number + 1) % 3]
        region = Region.INPUT if role is Role.INPUT else Region.OUTPUT
        kind = TensorType(bits, signed)
        axis = axis if len(scales) > 1 else 0
        made.append(tensor(f"tensor {number}", role, kind, shape, element_bits, scales, axis, tops[region]))
        tops[region] += -(-made[-1].binding.bytes // 64) * 64
    image = rng.integers(0, 256, 3 * COMMAND_BYTES, np.uint8)
    program = Program(
        network='names "of\\ any */ sort" é',
        config="by hand",
        fingerprint=FINGERPRINT,
        commands=image[COMMAND_BYTES:].tobytes(),
        command_offset=COMMAND_BYTES,
        region_bytes={Region.PROGRAM: 192, **tops, Region.SCRATCH: 0, Region.STATE: 128},
        image=image,
        inputs=tuple(each.binding for each in made if each.role is Role.INPUT),
        outputs=tuple(each.binding for each in made if each.role is not Role.INPUT),
        probes=(),
        spills=(),
        layers=(LayerInfo("first", "Conv2D", 1 << 40, -1), LayerInfo("last", "Add", 0, 7)),
        warnings=(),
        owners=("layer first", "layer last"),
    )
    inputs = [each.binding for each in made if each.role is Role.INPUT]
    outputs = sum(each.role is Role.OUTPUT for each in made)
    tests = tuple(
        SelfTest(
            tuple(rng.integers(0, 256, binding.bytes, np.uint8).tobytes() for binding in inputs),
            tuple(int(crc) for crc in rng.integers(0, 1 << 32, outputs + 2, np.uint64)),
        )
        for _ in range(2)
    )
    return Artifact(
        program=program,
        address_bits=40,
        stored=tuple(made),
        layer_tensors=(None, len(made) - 1),
        store_layers=False,
        contents={Region.STATE: bytes(range(100))},
        tests=tests,
        producer="by hand",
    )


def entry(part: Part, field: str) -> int:
    """Where the header has this of a part."""
    return PLACES["parts"] + part * ENTRY_BYTES + offsets(PART_ENTRY)[field]


def word(content: bytes | bytearray, place: int) -> int:
    return int.from_bytes(content[place : place + 4], "little")


def resealed(content: bytes | bytearray) -> bytes:
    """With the checksum of every part and of the whole made anew, as far as parts are where it says."""
    made = bytearray(content)
    for part in Part:
        begin, size = word(made, entry(part, "offset")), word(made, entry(part, "bytes"))
        crc = zlib.crc32(made[begin : begin + size])
        made[entry(part, "crc") : entry(part, "crc") + 4] = crc.to_bytes(4, "little")
    return sealed(made)


def with_words(content: bytes, words: Mapping[int, int]) -> bytes:
    """With other words at some places, and right checksums."""
    made = bytearray(content)
    for place, value in words.items():
        made[place : place + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "little")
    return resealed(made)


TELLING = (0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
"""What hurts in a place that counts."""


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """So many artifacts that are not right: bytes changed, words changed and checksums right again, ends cut off,
    stretches moved."""
    rng = random.Random(seed)
    ways: tuple[Callable[[random.Random, bytearray], bytes], ...] = (
        _bytes,
        _words,
        _words,
        _words,
        _cut,
        _moved,
    )
    for _ in range(count):
        yield rng.choice(ways)(rng, bytearray(content))


def _bytes(rng: random.Random, content: bytearray) -> bytes:
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] ^= rng.randint(1, 255)
    return bytes(content)


def _words(rng: random.Random, content: bytearray) -> bytes:
    """In the header, or anywhere; checksums say nothing of it."""
    for _ in range(rng.randint(1, 3)):
        place = 4 * rng.randrange((HEADER_BYTES if rng.random() < 0.3 else len(content)) // 4)
        near = word(content, place) + rng.choice((-64, -4, -1, 1, 4, 64))
        value = rng.choice((near, rng.choice(TELLING), rng.getrandbits(32)))
        content[place : place + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "little")
    return resealed(content)


def _cut(rng: random.Random, content: bytearray) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _moved(rng: random.Random, content: bytearray) -> bytes:
    size = rng.randint(1, len(content) // 2)
    source, target = rng.randrange(len(content) - size), rng.randrange(len(content) - size)
    content[target : target + size] = content[source : source + size]
    return resealed(content)


EVERY = every_type()
CONTENT, NAME = encode(EVERY), EVERY.name


def record(part: Part, index: int, field: str) -> int:
    """Where a record's field lies in CONTENT."""
    return (
        word(CONTENT, entry(part, "offset")) + index * record_bytes(part) + offsets(RECORDS_OF[part])[field]
    )


REFUSED = {
    "of version 9 of the format, 1 is read": {PLACES["version"]: 9},
    "addresses of 31 bits": {PLACES["address_bits"]: 31},
    "flags that are not known": {PLACES["flags"]: 2},
    "list of commands goes beyond": {PLACES["command_offset"]: 128},
    "list of commands is empty": {PLACES["command_count"]: 0},
    "misaligned": {PLACES["command_offset"]: 4},
    "owners are not as many": {PLACES["command_count"]: 1},
    "part LAYERS does not follow": {entry(Part.LAYERS, "offset"): 320},
    "part LAYERS has not as many records": {entry(Part.LAYERS, "count"): 9},
    "the network's name: no string begins": {PLACES["name"]: 1 << 31},
    "the string at .* is no UTF-8": {PLACES["name"]: word(CONTENT, PLACES["name"]) + len(NAME.encode()) - 1},
    "self-tests are not as many": {entry(Part.TEST_CRCS, "count"): 1},
    "self-tests are not as many or": {entry(Part.TEST_INPUTS, "count"): ABSENT},
    "regions are not those": {record(Part.REGIONS, 1, "region"): 2},
    "region OUTPUT: its rights": {record(Part.REGIONS, 2, "rights"): 3},
    "region INPUT: its alignment": {record(Part.REGIONS, 1, "alignment"): 48},
    "region INPUT: its alignment is": {record(Part.REGIONS, 1, "alignment"): 0},
    "region STATE: its contents": {record(Part.REGIONS, 4, "contents_bytes"): 129},
    "region STATE: its contents are": {record(Part.REGIONS, 4, "contents"): ABSENT},
    "tensor tensor 0: its role": {record(Part.TENSORS, 0, "role"): 3},
    "not in the order of their roles": {record(Part.TENSORS, 0, "role"): 1},
    "tensor tensor 0: its kind": {record(Part.TENSORS, 0, "kind"): 2},
    "tensor tensor 1: .* hold no value": {record(Part.TENSORS, 1, "bits"): 33},
    "tensor tensor 1: 0 elements": {record(Part.TENSORS, 1, "digits"): 0},
    "tensor tensor 1: .* of 3 bits": {record(Part.TENSORS, 1, "element_bits"): 3},
    "tensor tensor 1: its shape": {record(Part.TENSORS, 1, "elements"): 26},
    "tensor tensor 1: its shape is": {record(Part.TENSORS, 1, "shape"): ABSENT},
    "tensor tensor 1: its elements do not": {record(Part.TENSORS, 1, "bytes"): 1},
    "tensor tensor 1: it has not as many scales": {record(Part.TENSORS, 1, "scale"): ABSENT},
    "tensor tensor 2: its scales are not": {record(Part.TENSORS, 2, "axis"): 7},
    "tensor tensor 1: it goes beyond its region": {record(Part.TENSORS, 1, "offset"): ABSENT},
    "a scale is no positive": {record(Part.SCALES, 0, "scale"): 0},
    "a scale is no": {record(Part.SCALES, 0, "scale"): 0x7FC00000},
    "layer first: there is no time stamp 256": {record(Part.LAYERS, 0, "mark"): 256},
    "layer first: there is no tensor 64": {record(Part.LAYERS, 0, "tensor"): 64},
    "tensor tensor 12: 5 elements of 8 bits": {
        record(Part.TENSORS, 12, "digits"): 5, record(Part.TENSORS, 12, "element_bits"): 8,
        record(Part.TENSORS, 12, "bytes"): 5 * EVERY.stored[12].binding.size,
    },
    "not in the order of their": {record(Part.TENSORS, 22, "role"): 2, record(Part.TENSORS, 63, "role"): 1},
    # 27 modulo 2**64.
    "tensor tensor 1: its shape is not": {
        record(Part.DIMENSIONS, 1, "dimension"): 4188163, record(Part.DIMENSIONS, 2, "dimension"): 4194307,
        record(Part.DIMENSIONS, 3, "dimension"): 4200451,
    },
}  # fmt: skip
"""Words that make the artifact contradict itself, by what Python says of it then: a regular expression."""
