"""What a program and a machine must have in common, as 32 bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from intaglio.spec.commands import COMMAND_BYTES, FORMATS, HEADER, Engine, Operation, Scheme
from intaglio.spec.records import RECORD_SCHEMES, record_layout
from intaglio.spec.registers import REGISTERS, VERSION_VALUE

__all__ = ["fingerprint_of", "formats"]


def formats() -> dict[str, object]:
    """Every layout that a program is encoded in, and every register through which it is started, as plain values."""
    return {
        "command bytes": COMMAND_BYTES,
        "header": [(field.name, field.bits, field.signed) for field in HEADER],
        "commands": [
            (
                int(entry.opcode),
                int(entry.engine),
                [(field.name, field.bits, field.signed) for field in entry.fields],
                list(entry.nonzero),
            )
            for entry in FORMATS.values()
        ],
        "enumerations": [
            [(member.name, int(member)) for member in kind] for kind in (Engine, Scheme, Operation)
        ],
        "records": [
            [
                (field.name, field.start, field.bits, field.signed)
                for field in record_layout(scheme, bits).values()
            ]
            for scheme in RECORD_SCHEMES
            for bits in (16, 24, 32, 48)
        ],
        "registers": [(int(entry.register), entry.access.value, entry.count) for entry in REGISTERS],
        "version": VERSION_VALUE,
    }


def fingerprint_of(fields: Mapping[str, object]) -> int:
    """32 bits that differ where two machines' configuration (its `fields`) or formats do."""
    content = {"configuration": dict(fields), "formats": formats()}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "little")
