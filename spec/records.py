"""Rescale records: a channel's parameters in the weight stream, per scheme, packed from bit 0 up.

Fields are two's complement; the bits of a record that no field takes are zero. The records of a machine that carries
several schemes are all as wide as the widest of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["RECORD_SCHEMES", "RecordField", "record_bits", "record_layout"]

RECORD_SCHEMES = ("sbnq", "affine", "llsq")
"""Rescale schemes that have a record, as a configuration names them."""


@dataclass(frozen=True)
class RecordField:
    """A field of a record: `bits` wide from bit `start` on, two's complement if `signed`."""

    name: str
    start: int
    bits: int
    signed: bool

    @property
    def stop(self) -> int:
        return self.start + self.bits


def record_layout(scheme: str, accumulator_bits: int) -> dict[str, RecordField]:
    """The fields of a scheme's record by name, on a machine with sums of `accumulator_bits`.

    Raises ValueError for a scheme without a record.
    """
    widths: tuple[tuple[str, int, bool], ...]
    if scheme == "sbnq":  # [sbnq: eq. 16, 19]
        widths = (("bias", 24 if accumulator_bits <= 24 else 56, True), ("shift", 6, True))
    elif scheme == "affine":  # [jacob2017: eq. 5, 6]
        widths = (("bias", 32, True), ("multiplier", 32, True), ("exponent", 6, True))
    elif scheme == "llsq":  # [llsq: eq. 6]
        widths = (
            ("bias", 16 if accumulator_bits <= 16 else 48, True),
            ("mantissa", 8, False),
            ("shift", 5, False),
        )
    else:
        raise ValueError(f"`scheme` must be one of {', '.join(RECORD_SCHEMES)}, not {scheme}")
    fields, start = {}, 0
    for name, bits, signed in widths:
        fields[name] = RecordField(name, start, bits, signed)
        start += bits
    return fields


def record_bits(schemes: Iterable[str], accumulator_bits: int) -> int:
    """Width of a record that holds any of the schemes' fields: a whole number of bytes; affine's are padded to 32-bit
    words, so that a word of the stream holds a field.
    """
    widths = []
    for scheme in schemes:
        used = max(field.stop for field in record_layout(scheme, accumulator_bits).values())
        unit = 32 if scheme == "affine" else 8
        widths.append(-(-used // unit) * unit)
    return max(widths)
