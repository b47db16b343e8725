"""The contract for programs in C and C++: the constants that the simulator's harness shares with the machine."""

from __future__ import annotations

from collections.abc import Mapping

from intaglio.spec.commands import Engine
from intaglio.spec.limits import (
    MARKS,
    REGISTER_BITS,
    SCRATCHPAD_ADDRESS_BITS,
)
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    INTERRUPT_PENDING,
    REGISTER_BYTES,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    Register,
)

__all__ = ["harness_header"]


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
        {
            "CONTROL_START": CONTROL_START,
            "CONTROL_ABORT": CONTROL_ABORT,
            "STATUS_BUSY": STATUS_BUSY,
            "STATUS_DONE": STATUS_DONE,
            "STATUS_FAULT": STATUS_FAULT,
            "INTERRUPT_PENDING": INTERRUPT_PENDING,
        },
    )
    for group in groups:
        lines += [f"constexpr uint32_t {name} = {value};" for name, value in group.items()]
        lines.append("")
    return "\n".join([*lines, "}  // namespace spec", ""])
