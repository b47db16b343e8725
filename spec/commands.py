"""The command set, in plain Python: what the compiler encodes and the machine decodes. `docs/architecture.md` shows
every field in a table that is made from this file, and says what the engines do with them.

A command is 64 bytes, little-endian: a header of 16 bytes that all share, then the fields of its opcode, packed from
bit 0 up. Bits that no field takes are reserved and must be zero.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from intaglio.spec.limits import (
    LONG_QUEUE_DEPTH,
    MEMORY_OFFSET_BITS,
    QUEUE_DEPTH,
    SCRATCHPAD_ADDRESS_BITS,
    SEQUENCE_BITS,
    SOFTMAX_ELEMENTS,
    TRANSFER_BITS,
    WEIGHTS_QUEUE_DEPTH,
    WINDOW_HEIGHT_BITS,
)
from intaglio.spec.regions import REGION_BITS, Region

COMMAND_BYTES = 64
COMMAND_BITS = 8 * COMMAND_BYTES


class Engine(enum.IntEnum):
    """The machine's units that take commands; each takes its own in order, and all work at the same time."""

    LOAD = 0
    WEIGHTS = 1
    MATMUL = 2
    RESCALE = 3
    POOL = 4
    STORE = 5
    ELEMENTWISE = 6


QUEUE_DEPTHS: Mapping[Engine, int] = {
    **dict.fromkeys(Engine, QUEUE_DEPTH),
    **dict.fromkeys((Engine.LOAD, Engine.MATMUL, Engine.RESCALE), LONG_QUEUE_DEPTH),
    Engine.WEIGHTS: WEIGHTS_QUEUE_DEPTH,
}
"""Commands that wait in front of each engine, besides those at work in it."""


class Opcode(enum.IntEnum):
    """What a command does; `FORMATS` has each one's engine and fields."""

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
    """A field of a command: `bits` wide, two's complement if `signed`; `meaning` is one line for the reader. Of a
    number that names one of `choices` things, others are illegal (0: none is).
    """

    name: str
    bits: int
    meaning: str
    signed: bool = False
    choices: int = 0

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.signed)) - 1


WAITED = (Engine.LOAD, Engine.MATMUL, Engine.RESCALE, Engine.POOL, Engine.STORE, Engine.ELEMENTWISE)
"""Engines that a command can wait for (weights are consumed in order: no command needs to wait for them by number)."""

HEADER = (
    Field("opcode", 8, "what the command does"),
    Field("mark", 1, "store the cycle counter in the next time stamp when the command completes"),
    Field("header_reserved", 7, "zero"),
    *(
        Field(
            f"wait_{engine.name.lower()}",
            SEQUENCE_BITS,
            f"commands that {engine.name} must have completed before this one starts, modulo 2**{SEQUENCE_BITS}",
        )
        for engine in WAITED
    ),
    Field("header_reserved_high", 16, "zero"),
)


def _place(name: str, meaning: str) -> Field:
    """An element address of the scratchpad, or a distance between two; all are modulo its size."""
    return Field(name, SCRATCHPAD_ADDRESS_BITS, meaning)


_WINDOW = (
    _place("source", "element 0 of row 0 of the tensor"),
    Field("width_elements", 20, "elements of a row"),
    Field("height", WINDOW_HEIGHT_BITS, "rows"),
    Field(
        "first_row",
        WINDOW_HEIGHT_BITS,
        "row of the first vector, which may lie above the tensor",
        signed=True,
    ),
    Field(
        "first_element", 20, "place along the row of the first vector, which may lie before it", signed=True
    ),
    _place("row_pitch", "elements from the start of a row to the start of the next"),
    Field("row_stride", 8, "rows from an output row's window to the next's"),
    Field("column_stride", 20, "elements from an output column's window to the next's"),
    Field("output_rows", 16, "rows of the output"),
    Field("output_columns", 16, "columns of the output"),
    Field("kernel_rows", 16, "rows of the window"),
    Field("kernel_row_step", 8, "rows from a row of the window to the next: the dilation"),
    Field("kernel_columns", 16, "columns of the window"),
    Field("kernel_column_step", 20, "elements from a column of the window to the next"),
    Field("chunks", 16, "vectors at each place of the window, one behind the other"),
    Field("pad", 8, "what a lane outside the tensor holds"),
    Field("signed", 1, "elements are two's complement; those of MATMUL's later digits are unsigned"),
)

_DESTINATION = (
    _place("destination", "element that the first position's channel 0 goes to"),
    _place("destination_pitch", "elements from a row of the output to the next"),
    _place("pixel_pitch", "elements from a column of the output to the next"),
)

_REGION = Field(
    "region",
    REGION_BITS,
    "region of memory: " + ", ".join(f"{region.value} {region.name}" for region in Region),
    choices=len(Region),
)
_TRANSFER = (
    _REGION,
    Field("memory_offset", MEMORY_OFFSET_BITS, "byte of the region that row 0 begins with"),
    _place("scratchpad_address", "element that row 0 begins with in the scratchpad"),
    Field("row_bytes", TRANSFER_BITS, "bytes of a row"),
    Field("rows", 16, "rows"),
    Field("memory_pitch", MEMORY_OFFSET_BITS, "bytes from a row to the next in memory"),
    _place("scratchpad_pitch", "elements from a row to the next in the scratchpad"),
)


def _operand(name: str) -> tuple[Field, ...]:
    return (
        _place(f"{name}_source", f"first element of operand {name}; of LOAD_TABLE, operand a, the tables"),
        _place(f"{name}_pitch", f"elements from a run of operand {name} to the next"),
        Field(f"{name}_splat", 1, f"operand {name} is one element a run, whatever the place in it"),
        Field(
            f"{name}_zero_point", 9, f"what ADD, SUBTRACT and MULTIPLY take from operand {name}", signed=True
        ),
        Field(f"{name}_multiplier", 31, f"of ADD and SUBTRACT, operand {name}'s, Q0.31"),
        Field(f"{name}_shift", 5, f"of ADD and SUBTRACT, how far operand {name} is shifted right"),
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
        Format(
            Opcode.WEIGHTS,
            Engine.WEIGHTS,
            (
                _REGION,
                Field(
                    "memory_offset", MEMORY_OFFSET_BITS, "first byte in the region, at a multiple of a beat"
                ),
                Field(
                    "beats",
                    TRANSFER_BITS,
                    "beats of the bus of a stretch, which is appended to the weight stream",
                ),
                Field("times", 16, "how often a stretch is appended before the next"),
                Field("stretches", 16, "stretches, one behind the other in memory"),
            ),
            ("beats", "times", "stretches"),
        ),
        Format(
            Opcode.MATMUL,
            Engine.MATMUL,
            (
                *_WINDOW,
                Field("digits", 4, "digits of the elements, or of the weights"),
                Field("weight_digits", 1, "the digits are the weights'"),
                Field(
                    "lane_digits",
                    2,
                    "2 to this are the digits of an element that lie side by side in a vector, low first",
                ),
                Field("last_lanes", 7, "of binary weights: lanes of the last chunk that count (0: all)"),
                Field("bank", 1, "accumulator bank that is filled"),
                Field("one_tile", 1, "the first tile serves all passes"),
                Field(
                    "tile_words", 10, "words of the weight stream that each tile has, at most a whole tile's"
                ),
                Field("depthwise", 1, "each channel is multiplied by itself"),
                Field("first_output", 16, "of a depthwise row: the first vector with which a sum is kept"),
                Field("output_step", 8, "of a depthwise row: vectors from a kept sum to the next"),
                Field(
                    "row_overlap",
                    6,
                    "depthwise: vectors of a row with which sums of the row before are kept, if rows share them; then "
                    "`first_output` is one of the pass",
                ),
                Field("last_row_columns", 6, "vectors of the last row, where it has not as many as others"),
                Field(
                    "lines", 2, "rows of vectors before a vector's own that are multiplied together with it"
                ),
                Field("line_lanes", 7, "with lines, not depthwise: lanes that a vector takes"),
                Field("line_lanes_step", 3, "lanes that a vector takes more with each pass"),
                Field("first_output_row", 2, "the first row of vectors with which sums are kept"),
                Field("kernel_column_row_step", 8, "rows from a column of the window to the next"),
                Field(
                    "kernel_row_column_step",
                    8,
                    "elements from a row of the window to the next",
                    signed=True,
                ),
                Field(
                    "goes_on",
                    1,
                    "with lines: those before the first rows are the last command's; else they are outside the tensor",
                ),
            ),
            (
                "output_rows",
                "output_columns",
                "kernel_rows",
                "kernel_columns",
                "chunks",
                "digits",
                "tile_words",
            ),
        ),
        Format(
            Opcode.RESCALE,
            Engine.RESCALE,
            (
                Field("scheme", 2, ", ".join(f"{scheme.value} {scheme.name}" for scheme in Scheme)),
                Field("bank", 1, "accumulator bank that is drained"),
                Field("positions", 16, "positions of the bank"),
                Field("columns", 16, "positions of a row of the output"),
                Field("channels", 8, "channels of a position up to which they are written"),
                Field("first_channel", 8, "channels of a position before which none is written"),
                *_DESTINATION,
                Field("relu", 1, "SBNQ: negative sums become 0"),
                Field("double", 1, "affine: double rounding; else single"),
                Field("signed", 1, "SBNQ: results are two's complement"),
                Field("wide", 1, "LLSQ: results have 8 bits, in several elements each"),
                Field("zero_point", 10, "affine: added to the rescaled sum", signed=True),
                Field("low", 10, "least result", signed=True),
                Field("high", 10, "greatest result", signed=True),
            ),
            ("positions", "columns", "channels"),
        ),
        Format(
            Opcode.MAX_POOL,
            Engine.POOL,
            (*_WINDOW, Field("channels", 16, "channels of a position that are written"), *_DESTINATION),
            ("output_rows", "output_columns", "kernel_rows", "kernel_columns", "chunks", "channels"),
        ),
        Format(Opcode.STORE, Engine.STORE, _TRANSFER, ("row_bytes", "rows")),
        Format(
            Opcode.ELEMENTWISE,
            Engine.ELEMENTWISE,
            (
                Field("operation", 3, ", ".join(f"{kind.value} {kind.name}" for kind in Operation)),
                Field("pixels", 24, "runs; of LOAD_TABLE: planes"),
                Field("channels", 24, f"elements of a run; of SOFTMAX at most {SOFTMAX_ELEMENTS:,}"),
                *_operand("a"),
                *_operand("b"),
                _place("destination", "first element of the result"),
                _place("pitch", "elements from a run of the result to the next"),
                Field("multiplier", 31, "of the result's rescale, Q0.31"),
                Field("exponent", 6, "of the result's rescale", signed=True),
                Field("double", 1, "double rounding in the result's rescale; else single"),
                Field("zero_point", 9, "added to the rescaled result", signed=True),
                Field("low", 9, "least result", signed=True),
                Field("high", 9, "greatest result", signed=True),
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
    opcode = Opcode(word & HEADER[0].max)
    values = {}
    for name, (start, field) in command_layout(opcode).items():
        value = word >> start & ((1 << field.bits) - 1)
        values[name] = value - (1 << field.bits) if field.signed and value > field.max else value
    del values["opcode"]
    return opcode, values
