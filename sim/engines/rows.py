"""Rows of LOAD and STORE: commands at every edge, and where each byte lies on either side."""

import random
from collections.abc import Mapping

from intaglio.sim.lockstep import Stand
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

__all__ = ["beats_of", "bins", "byte", "cover", "drawn", "element_of", "memory_of"]

_LONGEST = 400
_BINS = (
    "a row of one byte",
    "a row of two bytes in two beats",
    "a row of whole beats",
    "a row within a beat",
    "a row of more than 20 beats",
    "one row",
    "many rows",
    "rows one behind the other in memory",
    "rows backwards in memory",
    "all rows at one place in memory",
    "rows that overlap in the scratchpad",
    "a row that goes round the scratchpad's end",
    "memory's offsets wrap",
    "the greatest scratchpad_pitch",
    "the greatest scratchpad_address",
    "a marked command",
    "a command that is not marked",
)


def bins(config: AcceleratorConfig) -> list[str]:
    """Of functional coverage."""
    offsets = range(config.bus_bytes)
    return [
        *(f"a row from byte {offset} of a beat on" for offset in offsets),
        *(f"a row to byte {offset} of a beat" for offset in offsets),
        *_BINS,
    ]


def drawn(numbers: random.Random, config: AcceleratorConfig) -> dict[str, int]:
    """The fields of a command of few bytes."""
    draw = numbers.choice
    row_bytes = draw(
        (
            1,
            2,
            config.bus_bytes,
            16,
            numbers.randint(1, 7),
            numbers.randint(1, 40),
            numbers.randint(1, _LONGEST),
        )
    )
    rows = draw((1, 2, numbers.randint(1, max(1, 60 // row_bytes))))
    a_byte = 8 // config.element_bits
    top = (1 << 24) - 1
    size = config.scratchpad_elements
    return {
        "region": draw(list(Region)),
        "memory_offset": draw(
            (
                numbers.getrandbits(32),
                4096 + numbers.randrange(config.bus_bytes),
                2**32 - numbers.randint(1, 60),
            )
        ),
        "scratchpad_address": draw(
            (numbers.getrandbits(24), top, size - numbers.randint(1, 2 * a_byte * row_bytes))
        ),
        "row_bytes": row_bytes,
        "rows": rows,
        "memory_pitch": draw((row_bytes, numbers.getrandbits(32), 2**32 - row_bytes, 0, row_bytes + 3)),
        "scratchpad_pitch": draw(
            (a_byte * row_bytes, numbers.getrandbits(24), top, 1, a_byte * row_bytes + 1)
        ),
    }


def memory_of(fields: Mapping[str, int], row: int, byte: int = 0) -> int:
    """The offset in its region of a row's byte [docs/architecture.md: LOAD, STORE]."""
    return (fields["memory_offset"] + row * fields["memory_pitch"] + byte) % 2**32


def element_of(fields: Mapping[str, int], config: AcceleratorConfig, row: int, byte: int = 0) -> int:
    """The first of the elements in which a row's byte lies."""
    first = fields["scratchpad_address"] + row * fields["scratchpad_pitch"]
    return (first + byte * (8 // config.element_bits)) % config.scratchpad_elements


def beats_of(config: AcceleratorConfig, address: int, count: int) -> int:
    """Beats that so many bytes touch."""
    return -(-(address % config.bus_bytes + count) // config.bus_bytes)


def byte(address: int) -> int:
    """What memory holds: a hash of the address."""
    return (address // 8 * 0x9E3779B97F4A7C15 >> (address % 8 * 7 + 3)) & 0xFF


def cover(stand: Stand, config: AcceleratorConfig, fields: Mapping[str, int], mark: int) -> None:
    bins, count, rows = stand.bins, fields["row_bytes"], fields["rows"]
    a_byte, size, beat = 8 // config.element_bits, config.scratchpad_elements, config.bus_bytes
    for row in range(rows):
        first = memory_of(fields, row)
        bins[f"a row from byte {first % beat} of a beat on"] += 1
        bins[f"a row to byte {(first + count - 1) % beat} of a beat"] += 1
        beats = beats_of(config, first, count)
        bins["a row of two bytes in two beats"] += count == 2 and beats == 2
        bins["a row of whole beats"] += count == beat * beats
        bins["a row within a beat"] += beats == 1 and count < beat
        bins["a row of more than 20 beats"] += beats > 20
        bins["a row that goes round the scratchpad's end"] += (
            element_of(fields, config, row) + a_byte * count > size
        )
        bins["memory's offsets wrap"] += first + count > 2**32
    bins["a row of one byte"] += count == 1
    bins["one row"] += rows == 1
    bins["many rows"] += rows > 5
    bins["rows one behind the other in memory"] += rows > 1 and fields["memory_pitch"] == count
    bins["rows backwards in memory"] += rows > 1 and fields["memory_pitch"] == 2**32 - count
    bins["all rows at one place in memory"] += rows > 1 and fields["memory_pitch"] == 0
    bins["rows that overlap in the scratchpad"] += rows > 1 and fields["scratchpad_pitch"] < a_byte * count
    bins["the greatest scratchpad_pitch"] += rows > 1 and fields["scratchpad_pitch"] == (1 << 24) - 1
    bins["the greatest scratchpad_address"] += fields["scratchpad_address"] == (1 << 24) - 1
    bins["a marked command"] += mark
    bins["a command that is not marked"] += not mark
