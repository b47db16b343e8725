"""The most that one command can count, from the widths of its fields: what is more is cut into several commands."""

from __future__ import annotations

from intaglio.spec.commands import Opcode, command_layout


def _most(opcode: Opcode, *fields: str) -> int:
    """The greatest value that each of these fields holds."""
    layout = command_layout(opcode)
    return min(layout[field][1].max for field in fields)


MOST_DIGITS = _most(Opcode.MATMUL, "digits")
"""Digits of an operand of MATMUL."""
MOST_TRANSFER_ROWS = min(_most(opcode, "rows") for opcode in (Opcode.LOAD, Opcode.STORE))
"""Rows of one LOAD or STORE."""
MOST_WINDOWS = _most(Opcode.MAX_POOL, "output_rows", "output_columns")
"""Windows of one MAX_POOL along an axis."""
MOST_CHANNELS = _most(Opcode.MAX_POOL, "channels")
"""Elements of each of its windows."""
MOST_STRIDE = _most(Opcode.MAX_POOL, "row_stride")
"""Rows from a window to the one below it."""
