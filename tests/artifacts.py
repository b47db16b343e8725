"""Artifacts made by hand: every type of tensor, and damage."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from intaglio.compiler.artifact import Artifact, SelfTest, StoredTensor
from intaglio.compiler.artifact.writer import sealed
from intaglio.compiler.program import Binding, LayerInfo, Program
from intaglio.network import TensorType
from intaglio.spec.artifact import HEADER, HEADER_BYTES, PART_ENTRY, Kind, Part, Role, offsets, words_of
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
        zero = (-(1 << (bits - 1)), 3)[number // 4 % 2] if signed else (1 << bits) - 1
        one = (float(np.float32(rng.uniform(1e-3, 3))), zero)
        each = tuple(
            (float(np.float32(rng.uniform(1e-3, 3))), int(z)) for z in rng.integers(-3, 4, shape[axis])
        )
        scales = ((), (one,), each)[number % 3]
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


def with_word(content: bytes, place: int, value: int) -> bytes:
    """With another word at a place, and right checksums."""
    made = bytearray(content)
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
