"""What a program and a machine must have in common, as 32 bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from intaglio.spec import commands, limits, records, regions, registers

__all__ = ["fingerprint_of", "formats"]


def formats() -> dict[str, object]:
    """Every layout that a program is encoded in, every limit that its compiler relied on, and every register through
    which it is started and watched, as plain values. Meanings for the reader are left out.
    """
    return {
        "command bytes": commands.COMMAND_BYTES,
        "header": [(field.name, field.bits, field.signed) for field in commands.HEADER],
        "commands": [
            (
                int(entry.opcode),
                int(entry.engine),
                [(field.name, field.bits, field.signed, field.choices) for field in entry.fields],
                list(entry.nonzero),
            )
            for entry in commands.FORMATS.values()
        ],
        "arithmetic": [commands.OPERAND_SHIFT, commands.TABLE_ENTRIES, commands.SOFTMAX_PLANES],
        "limits": [(name, value) for name, value, _ in limits.LIMITS],
        "enumerations": [
            [(member.name, int(member)) for member in kind]
            for kind in (commands.Engine, commands.Scheme, commands.Operation, registers.Cause)
        ],
        "records": [
            (
                record.scheme,
                record.accumulator_bits,
                record.bits,
                [(field.name, field.start, field.bits, field.signed) for field in record.fields],
            )
            for record in records.RECORDS
        ],
        "registers": [
            (
                int(entry.register),
                entry.access.value,
                entry.reset,
                entry.count,
                [(name, mask) for name, mask, _ in entry.bits],
            )
            for entry in registers.REGISTERS
        ],
        "regions": [
            (region.name, int(region), region.readable, region.writable) for region in regions.Region
        ],
        "version": registers.VERSION_VALUE,
    }


def fingerprint_of(fields: Mapping[str, object]) -> int:
    """32 bits that differ where two machines' configuration (its `fields`) or formats do."""
    content = {"configuration": dict(fields), "formats": formats()}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "little")
