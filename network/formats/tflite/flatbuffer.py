"""Whether the bytes of a flatbuffer hold together: every offset, vector and table inside the file, before any is read.

The accessors that read a flatbuffer in Python check nothing: an offset beyond the end raises one of many exceptions,
one before the start reads from the end, and a length of two thousand million is looped over.

Ref: the flatbuffers' internals: a table begins with the distance to its vtable, which holds its own size, the table's
size, and of each field the distance from the table's start, 0 where it is absent
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

MAX_TABLES = 200_000
"""More than any network of this project has; tables that share bytes could ask for any number."""

Kind = Union[int, "Vector", "Table"]
"""Of a field: the bytes of a scalar, or what its offset leads to."""


@dataclass(frozen=True)
class Vector:
    """Elements of so many bytes, or offsets to tables."""

    of: Kind


@dataclass(frozen=True)
class Table:
    """The fields that will be read, by their place in the schema; others may hold anything."""

    fields: Mapping[int, Kind] = field(default_factory=dict)


class DamagedError(ValueError):
    """What is wrong with the bytes."""


def verify(content: bytes, root: Table) -> None:
    """Raise DamagedError unless all that `root` names lies inside `content`."""
    _Verifier(content).table(_Verifier(content).offset(0), root)


class _Verifier:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = 0

    def _number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._content) - struct.calcsize(form):
            raise DamagedError(f"it points to byte {at} of {len(self._content)}")
        return int(struct.unpack_from(form, self._content, at)[0])

    def offset(self, at: int) -> int:
        """Where the offset at byte `at` leads."""
        distance = self._number("<I", at)
        if not distance:
            raise DamagedError(f"an offset at byte {at} leads nowhere")
        return at + distance

    def table(self, at: int, kind: Table) -> None:
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise DamagedError(f"it has more than {MAX_TABLES} tables")
        vtable = at - self._number("<i", at)
        size, extent = self._number("<H", vtable), self._number("<H", vtable + 2)
        if size < 4 or size % 2 or vtable + size > len(self._content):
            raise DamagedError(f"the table at byte {at} has {size} bytes of field offsets")
        if extent < 4 or at + extent > len(self._content):
            raise DamagedError(f"the table at byte {at} ends {extent} bytes on, beyond the end")
        for slot, what in kind.fields.items():
            entry = 4 + 2 * slot
            place = self._number("<H", vtable + entry) if entry < size else 0
            if not place:
                continue
            length = what if isinstance(what, int) else 4
            if place < 4 or place + length > extent:
                raise DamagedError(f"a field of the table at byte {at} is outside of it")
            if isinstance(what, Vector):
                self._vector(self.offset(at + place), what.of)
            elif isinstance(what, Table):
                self.table(self.offset(at + place), what)

    def _vector(self, at: int, of: Kind) -> None:
        count = self._number("<I", at)
        size = of if isinstance(of, int) else 4
        if at + 4 + count * size > len(self._content):
            raise DamagedError(f"the {count} elements at byte {at} go beyond the end")
        for index in range(count if isinstance(of, Table) else 0):
            self.table(self.offset(at + 4 + 4 * index), of)  # type: ignore[arg-type]
