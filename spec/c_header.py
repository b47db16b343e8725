"""The contract for programs in C and C++: the constants that the simulator's harness shares with the machine, and the
headers of the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from intaglio.spec import artifact
from intaglio.spec.commands import COMMAND_BYTES, Engine
from intaglio.spec.limits import (
    MARKS,
    REGISTER_BITS,
    SCRATCHPAD_ADDRESS_BITS,
)
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    COUNTERS,
    ID_VALUE,
    INTERRUPT_PENDING,
    REGION_REGISTERS,
    REGISTER_BYTES,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    VERSION_VALUE,
    Cause,
    Register,
)

__all__ = ["DRIVER_HEADERS", "artifact_header", "harness_header", "registers_header"]

READS, WRITES = 1, 2
"""Bits of a region's rights, in the driver and in an artifact."""


_BITS = {
    "CONTROL_START": CONTROL_START,
    "CONTROL_ABORT": CONTROL_ABORT,
    "STATUS_BUSY": STATUS_BUSY,
    "STATUS_DONE": STATUS_DONE,
    "STATUS_FAULT": STATUS_FAULT,
    "INTERRUPT_PENDING": INTERRUPT_PENDING,
}


def harness_header() -> str:
    """C++ text of a header that the harness includes: namespace ``spec``, a constant a line, registers by offset."""
    lines = [
        "// Generated from intaglio.spec: what the harness shares with the machine.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "namespace spec {",
        "",
    ]
    groups: tuple[Mapping[str, int], ...] = (
        {
            "ENGINES": len(Engine),
            "SCRATCHPAD_ADDRESS_BITS": SCRATCHPAD_ADDRESS_BITS,
            "REGISTER_BITS": REGISTER_BITS,
            "REGISTER_BYTES": REGISTER_BYTES,
            "MARKS": MARKS,
        },
        {f"ENGINE_{engine.name}": engine.value for engine in Engine},
        {f"REGISTER_{register.name}": register.value for register in Register},
        _BITS,
    )
    for group in groups:
        lines += [f"constexpr uint32_t {name} = {value};" for name, value in group.items()]
        lines.append("")
    return "\n".join([*lines, "}  // namespace spec", ""])


def registers_header() -> str:
    """C99 text of the driver's `intaglio_registers.h`: registers, regions, counters, causes."""
    return _header(
        "INTAGLIO_REGISTERS_H",
        "the registers of a machine",
        (
            {"ID": ID_VALUE, "VERSION": VERSION_VALUE, "REGISTER_BYTES": REGISTER_BYTES, "MARKS": MARKS},
            {f"REGISTER_{register.name}": register.value for register in Register},
            _BITS,
            {"COMMAND_BYTES": COMMAND_BYTES},
            {f"REGION_{region.name}": region.value for region in Region},
            {"REGIONS": len(Region), "REGION_STRIDE": _region_stride(), "READS": READS, "WRITES": WRITES},
            {f"COUNTER_{register.name}": index for register, index in _counter_places()},
            {"COUNTERS": len(COUNTERS)},
            {f"CAUSE_{cause.name}": cause.value for cause in Cause},
        ),
        (
            *_list("REGION_RIGHTS", ((region.name, f"{rights_of(region)}") for region in Region)),
            *_list("CAUSES", ((cause.name, f'{cause.value}, "{cause.meaning}"') for cause in Cause)),
        ),
    )


def artifact_header() -> str:
    """C99 text of the driver's `intaglio_artifact.h`: where each field of an artifact lies, in bytes."""
    entry = artifact.words_of(artifact.PART_ENTRY) * artifact.WORD_BYTES
    magic = [int.from_bytes(artifact.MAGIC[place : place + 4], "little") for place in (0, 4)]
    records = {
        part.name: fields for part, fields in artifact.RECORDS_OF.items() if artifact.words_of(fields) > 1
    }
    return _header(
        "INTAGLIO_ARTIFACT_H",
        "the layout of an artifact",
        (
            {
                "MAGIC_LOW": magic[0],
                "MAGIC_HIGH": magic[1],
                "ARTIFACT_VERSION": artifact.ARTIFACT_VERSION,
                "PART_ALIGNMENT": artifact.PART_ALIGNMENT,
                "ABSENT": artifact.ABSENT,
                "FLAG_LAYERS": artifact.FLAG_LAYERS,
                "CRC_POLYNOMIAL": artifact.CRC_POLYNOMIAL,
                "HEADER_BYTES": artifact.HEADER_BYTES,
                "PART_ENTRY_BYTES": entry,
            },
            {f"PART_{part.name}": part.value for part in artifact.Part},
            {"PARTS": len(artifact.Part)},
            {f"ROLE_{role.name}": role.value for role in artifact.Role},
            {f"KIND_{kind.name}": kind.value for kind in artifact.Kind},
            _places("HEADER", artifact.HEADER),
            _places("PART", artifact.PART_ENTRY),
            *(
                {f"BYTES_OF_{name}": artifact.words_of(fields) * artifact.WORD_BYTES, **_places(name, fields)}
                for name, fields in records.items()
            ),
        ),
    )


def rights_of(region: Region) -> int:
    """A region's rights as the bits `READS` and `WRITES`."""
    return READS * region.readable + WRITES * region.writable


def _places(name: str, fields: tuple[artifact.Word, ...]) -> dict[str, int]:
    return {f"AT_{name}_{field.upper()}": place for field, place in artifact.offsets(fields).items()}


def _region_stride() -> int:
    """Bytes from a region's registers to the next's. Raises ValueError where they are not equally far apart."""
    first = REGION_REGISTERS[Region(0)]
    stride = REGION_REGISTERS[Region(1)].base - first.base
    for region, registers in REGION_REGISTERS.items():
        if [other - own for own, other in zip(first, registers, strict=True)] != [region * stride] * len(
            first
        ):
            raise ValueError(f"the registers of {region.name} do not stand {stride} bytes behind the last's")
    return stride


def _counter_places() -> list[tuple[Register, int]]:
    """Counters by index. Raises ValueError where they do not stand one behind the other."""
    for index, register in enumerate(COUNTERS):
        if register != COUNTERS[0] + index * REGISTER_BYTES:
            raise ValueError(f"the counter {register.name} does not stand behind the last")
    return [(Register(register), index) for index, register in enumerate(COUNTERS)]


def _list(name: str, entries: Iterable[tuple[str, str]]) -> list[str]:
    """A macro that applies another to each entry."""
    lines = [f"    X({entry}, {rest})" for entry, rest in entries]
    return [" \\\n".join([f"#define INTAGLIO_{name}(X)", *lines]), ""]


def _header(guard: str, what: str, groups: Iterable[Mapping[str, int]], more: Iterable[str] = ()) -> str:
    lines = [
        f"/* Generated by `python -m intaglio.spec`: {what}. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
    ]
    for group in groups:
        lines += [
            f"#define INTAGLIO_{name} {value:#x}u" if value > 15 else f"#define INTAGLIO_{name} {value}u"
            for name, value in group.items()
        ]
        lines.append("")
    return "\n".join([*lines, *more, "#endif", ""])


DRIVER_HEADERS: Mapping[str, Callable[[], str]] = {
    "intaglio_registers.h": registers_header,
    "intaglio_artifact.h": artifact_header,
}
"""What makes each of the driver's generated headers, by the name of its file."""
