"""The command set, in plain Python: what the compiler encodes and the machine decodes. `docs/architecture.md` has
the meaning of every field.

A command is 64 bytes, little-endian: a header of 16 bytes that all share, then the fields of its opcode, packed from
bit 0 up. Bits that no field takes are reserved and must be zero.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

COMMAND_BYTES = 64
COMMAND_BITS = 8 * COMMAND_BYTES
SEQUENCE_BITS = 16


class Engine(enum.IntEnum):
    """The machine's units that take commands, each in order, all at once."""

    LOAD = 0
    WEIGHTS = 1
    MATMUL = 2
    RESCALE = 3
    POOL = 4
    STORE = 5
    ELEMENTWISE = 6


class Opcode(enum.IntEnum):
    LOAD = 0x01
    WEIGHTS = 0x02
    MATMUL = 0x10
    RESCALE = 0x20
    MAX_POOL = 0x30
    STORE = 0x40
    ELEMENTWISE = 0x50


class Scheme(enum.IntEnum):
    """Rescale schemes, as RESCALE names them."""

    SBNQ = 0
    AFFINE = 1
    LLSQ = 2


class Operation(enum.IntEnum):
    """What ELEMENTWISE does."""

    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2
    LOOKUP = 3
    LOAD_TABLE = 4
    SOFTMAX = 5


OPERAND_SHIFT = 20
"""How far ADD and SUBTRACT shift their operands to the left before they rescale them [jacob2017: A.2]."""
TABLE_ENTRIES = 256
SOFTMAX_PLANES = 4
"""Bytes of an entry of softmax's table, each a table of its own."""


@dataclass(frozen=True)
class Field:
    """A field of a command: `bits` wide, two's complement if `signed`."""

    name: str
    bits: int
    signed: bool = False

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.signed)) - 1


WAITED = (Engine.LOAD, Engine.MATMUL, Engine.RESCALE, Engine.POOL, Engine.STORE, Engine.ELEMENTWISE)
"""Engines that a command can wait for (weights are consumed in order: nobody needs to wait for them by number)."""

HEADER = (
    Field("opcode", 8),
    Field("mark", 1),
    Field("header_reserved", 7),
    *(Field(f"wait_{engine.name.lower()}", SEQUENCE_BITS) for engine in WAITED),
    Field("header_reserved_high", 16),
)

_WINDOW = (
    Field("source", 24),
    Field("width_elements", 20),
    Field("height", 16),
    Field("first_row", 16, signed=True),
    Field("first_element", 20, signed=True),
    Field("row_pitch", 24),
    Field("row_stride", 8),
    Field("column_stride", 20),
    Field("output_rows", 16),
    Field("output_columns", 16),
    Field("kernel_rows", 16),
    Field("kernel_row_step", 8),
    Field("kernel_columns", 16),
    Field("kernel_column_step", 20),
    Field("chunks", 16),
    Field("pad", 8),
    Field("signed", 1),
)

_DESTINATION = (Field("destination", 24), Field("destination_pitch", 24), Field("pixel_pitch", 24))

_TRANSFER = (
    Field("memory_address", 32),
    Field("scratchpad_address", 24),
    Field("row_bytes", 24),
    Field("rows", 16),
    Field("memory_pitch", 32),
    Field("scratchpad_pitch", 24),
)


@dataclass(frozen=True)
class Format:
    """The fields of one opcode after the header, and the engine that runs it."""

    opcode: Opcode
    engine: Engine
    fields: tuple[Field, ...]
    nonzero: tuple[str, ...] = ()
    """Counts that a legal command has at 1 or more."""


FORMATS: dict[Opcode, Format] = {
    entry.opcode: entry
    for entry in (
        Format(Opcode.LOAD, Engine.LOAD, _TRANSFER, ("row_bytes", "rows")),
        Format(Opcode.WEIGHTS, Engine.WEIGHTS, (Field("memory_address", 32), Field("beats", 24)), ("beats",)),
        Format(
            Opcode.MATMUL,
            Engine.MATMUL,
            (
                *_WINDOW,
                Field("digits", 4),
                Field("weight_digits", 1),
                Field("last_lanes", 7),
                Field("bank", 1),
                Field("one_tile", 1),
                Field("depthwise", 1),
                Field("first_output", 16),
                Field("output_step", 8),
            ),
            ("output_rows", "output_columns", "kernel_rows", "kernel_columns", "chunks", "digits"),
        ),
        Format(
            Opcode.RESCALE,
            Engine.RESCALE,
            (
                Field("scheme", 2),
                Field("bank", 1),
                Field("positions", 16),
                Field("columns", 16),
                Field("channels", 8),
                *_DESTINATION,
                Field("relu", 1),
                Field("double", 1),
                Field("signed", 1),
                Field("wide", 1),
                Field("zero_point", 10, signed=True),
                Field("low", 10, signed=True),
                Field("high", 10, signed=True),
            ),
            ("positions", "columns", "channels"),
        ),
        Format(
            Opcode.MAX_POOL,
            Engine.POOL,
            (*_WINDOW, Field("channels", 16), *_DESTINATION),
            ("output_rows", "output_columns", "kernel_rows", "kernel_columns", "chunks", "channels"),
        ),
        Format(Opcode.STORE, Engine.STORE, _TRANSFER, ("row_bytes", "rows")),
        Format(
            Opcode.ELEMENTWISE,
            Engine.ELEMENTWISE,
            (
                Field("operation", 3),
                Field("pixels", 24),
                Field("channels", 24),
                *(
                    Field(f"{operand}_{name}", bits, signed)
                    for operand in "ab"
                    for name, bits, signed in (
                        ("source", 24, False),
                        ("pitch", 24, False),
                        ("splat", 1, False),
                        ("zero_point", 9, True),
                        ("multiplier", 31, False),
                        ("shift", 5, False),
                    )
                ),
                Field("destination", 24),
                Field("pitch", 24),
                Field("multiplier", 31),
                Field("exponent", 6, signed=True),
                Field("double", 1),
                Field("zero_point", 9, signed=True),
                Field("low", 9, signed=True),
                Field("high", 9, signed=True),
            ),
            ("pixels", "channels"),
        ),
    )
}


def command_layout(opcode: Opcode) -> dict[str, tuple[int, Field]]:
    """Every field of an opcode, the header's too, with the bit at which it starts."""
    fields: dict[str, tuple[int, Field]] = {}
    start = 0
    for field in HEADER + FORMATS[opcode].fields:
        fields[field.name] = (start, field)
        start += field.bits
    if start > COMMAND_BITS:
        raise ValueError(f"the fields of {opcode.name} take {start} bits of {COMMAND_BITS}")
    return fields


def encode(opcode: Opcode, values: Mapping[str, int]) -> bytes:
    """The 64 bytes of a command. Fields that `values` does not name are 0.

    Raises ValueError for a field that the opcode does not have or a value that does not fit it.
    """
    fields = command_layout(opcode)
    word = int(opcode)
    for name, value in values.items():
        if name not in fields or name == "opcode":
            raise ValueError(f"{opcode.name} has no field `{name}`")
        start, field = fields[name]
        if not field.min <= value <= field.max:
            raise ValueError(
                f"`{name}` of {opcode.name} must be between {field.min} and {field.max}, not {value}"
            )
        word |= (value & ((1 << field.bits) - 1)) << start
    return word.to_bytes(COMMAND_BYTES, "little")


def decode(command: bytes) -> tuple[Opcode, dict[str, int]]:
    """The opcode and the fields of a command; the inverse of `encode`. Raises ValueError for an unknown opcode."""
    word = int.from_bytes(command, "little")
    opcode = Opcode(word & 0xFF)
    values = {}
    for name, (start, field) in command_layout(opcode).items():
        value = word >> start & ((1 << field.bits) - 1)
        values[name] = value - (1 << field.bits) if field.signed and value > field.max else value
    del values["opcode"]
    return opcode, values
