"""The contract as Markdown tables, and their places in a page: between ``<!-- generated: NAME -->`` and
``<!-- end: NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from intaglio.spec import artifact
from intaglio.spec.commands import (
    COMMAND_BITS,
    FORMATS,
    HEADER,
    Field,
    Opcode,
    command_layout,
)
from intaglio.spec.limits import LIMITS, REGISTER_BITS
from intaglio.spec.records import RECORDS
from intaglio.spec.regions import Region
from intaglio.spec.registers import COUNTERS, REGISTERS, Cause, Register, RegisterSpec

__all__ = ["ARTIFACT_TABLES", "TABLES", "filled", "table"]

_PLACE = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def filled(page: str, tables: Mapping[str, Callable[[], str]] | None = None) -> str:
    """The page with each of `tables` in its place; of None, each of `TABLES`, or, where its first place is for one of
    these, `ARTIFACT_TABLES`.

    Raises
    ------
    ValueError
        If the page has no place for one of them, more than one, or a place for another.
    """
    places = [match[2] for match in _PLACE.finditer(page)]
    if tables is None:
        tables = ARTIFACT_TABLES if places and places[0] in ARTIFACT_TABLES else TABLES
    if sorted(places) != sorted(tables):
        raise ValueError(
            f"it must have one place for each of {', '.join(tables)} (`<!-- generated: NAME -->`, "
            f"`<!-- end: NAME -->`), not for {', '.join(places) or 'none'}"
        )
    return _PLACE.sub(lambda match: f"{match[1]}{tables[match[2]]()}{match[3]}", page)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _bits(start: int, bits: int) -> str:
    return str(start) if bits == 1 else f"{start + bits - 1}:{start}"


def _type(bits: int, signed: bool) -> str:
    return f"{'s' if signed else 'u'}{bits}"


def _fields(fields: Sequence[Field], layout: dict[str, tuple[int, Field]]) -> str:
    """A table of the fields, which stand in the layout."""
    rows = []
    for field in fields:
        name = "reserved" if "reserved" in field.name else f"`{field.name}`"
        start = layout[field.name][0]
        rows.append((_bits(start, field.bits), name, _type(field.bits, field.signed), field.meaning))
    return table(("bits", "field", "type", "meaning"), rows)


def _alike() -> Iterator[list[Opcode]]:
    """The opcodes, those of the same fields together."""
    groups: dict[tuple[Field, ...], list[Opcode]] = {}
    for opcode, entry in FORMATS.items():
        groups.setdefault(entry.fields, []).append(opcode)
    yield from groups.values()


def _commands() -> str:
    layout = command_layout(next(iter(FORMATS)))
    text = f"Every command:\n\n{_fields(HEADER, layout)}"
    for opcodes in _alike():
        entry, layout = FORMATS[opcodes[0]], command_layout(opcodes[0])
        end = max(start + field.bits for start, field in layout.values())
        names = ", ".join(f"**{opcode.name}** ({opcode.value:#04x})" for opcode in opcodes)
        counts = ", ".join(f"`{name}`" for name in entry.nonzero)
        text += f"\n{names}; at least 1: {counts}; bits {COMMAND_BITS - 1}:{end} are reserved:\n\n"
        text += _fields(entry.fields, layout)
    return text


def _records() -> str:
    return table(
        ("scheme", "sums of at most", "record", "bits", "field", "type", "meaning"),
        (
            (
                record.scheme,
                f"{record.accumulator_bits} bits",
                f"{record.bits} bits",
                _bits(field.start, field.bits),
                f"`{field.name}`",
                _type(field.bits, field.signed),
                field.meaning,
            )
            for record in RECORDS
            for field in record.fields
        ),
    )


def _offset(entry: RegisterSpec) -> str:
    first = int(entry.register)
    last = first + (entry.count - 1) * REGISTER_BITS // 8
    return f"{first:#05x}" if entry.count == 1 else f"{first:#05x}…{last:#05x}"


def _named(mask: int) -> str:
    """A register's bits, as a reader names them."""
    first, last = (mask & -mask).bit_length() - 1, mask.bit_length() - 1
    return f"bit {first}" if first == last else f"bits {_bits(first, last - first + 1)}"


def _registers() -> str:
    rows = []
    for entry in REGISTERS:
        if entry.register in COUNTERS:
            continue
        reset = "" if entry.reset is None else f"{entry.reset:#x}" if entry.reset else "0"
        bits = "".join(f"; {_named(mask)}: {meaning}" for _, mask, meaning in entry.bits)
        rows.append((_offset(entry), entry.register.name, entry.access.value, reset, entry.meaning + bits))
    return table(("offset", "register", "access", "after reset", "meaning"), rows)


def _counters() -> str:
    counters = {Register(register) for register in COUNTERS}
    return table(
        ("offset", "counter", "meaning"),
        (
            (_offset(entry), entry.register.name, entry.meaning)
            for entry in REGISTERS
            if entry.register in counters
        ),
    )


def _causes() -> str:
    return table(
        ("number", "cause", "meaning"), ((cause.value, cause.name, cause.meaning) for cause in Cause)
    )


def _regions() -> str:
    return table(
        ("number", "region", "the machine may", "what is there"),
        ((region.value, region.name, region.rights, region.meaning) for region in Region),
    )


def _limits() -> str:
    return table(
        ("limit", "value", "meaning"), ((f"`{name}`", f"{value:,}", text) for name, value, text in LIMITS)
    )


def _words(fields: tuple[artifact.Word, ...]) -> str:
    return table(
        ("byte", "field", "words", "meaning"),
        (
            (place, f"`{field.name}`", field.count, field.meaning)
            for field, place in zip(fields, artifact.offsets(fields).values(), strict=True)
        ),
    )


def _parts() -> str:
    return table(
        ("number", "part", "bytes of a record", "what it holds"),
        (
            (
                part.value,
                part.name,
                artifact.record_bytes(part) or "",
                part.meaning,
            )
            for part in artifact.Part
        ),
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": _commands,
    "records": _records,
    "regions": _regions,
    "registers": _registers,
    "counters": _counters,
    "causes": _causes,
    "limits": _limits,
}
"""What makes each table of the machine, by its name in a page."""
ARTIFACT_TABLES: Mapping[str, Callable[[], str]] = {
    "artifact header": partial(_words, artifact.HEADER),
    "artifact part entry": partial(_words, artifact.PART_ENTRY),
    "artifact parts": _parts,
    **{
        f"artifact {part.name.lower()}": partial(_words, fields)
        for part, fields in artifact.RECORDS_OF.items()
        if len(fields) > 1
    },
}
"""The same of the artifact."""
