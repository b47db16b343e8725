"""Rescale records: a channel's parameters in the weight stream, per scheme, packed from bit 0 up.

The bits of a record that no field takes are zero. The records of a machine that carries several schemes are all as
wide as the widest of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "RECORDS",
    "RECORD_SCHEMES",
    "Record",
    "RecordField",
    "most_accumulator_bits",
    "record_bits",
    "record_layout",
]


@dataclass(frozen=True)
class RecordField:
    """A field of a record: `bits` wide from bit `start` on, two's complement if `signed`."""

    name: str
    start: int
    bits: int
    signed: bool
    meaning: str

    @property
    def stop(self) -> int:
        return self.start + self.bits


@dataclass(frozen=True)
class Record:
    """The layout of a scheme's records on machines with sums of at most `accumulator_bits`."""

    scheme: str
    accumulator_bits: int
    fields: tuple[RecordField, ...]
    unit_bits: int
    """What the record's width is a multiple of."""

    @property
    def bits(self) -> int:
        return -(-self.fields[-1].stop // self.unit_bits) * self.unit_bits


def _record(
    scheme: str, accumulator_bits: int, *fields: tuple[str, int, bool, str], unit_bits: int = 8
) -> Record:
    """A record of the fields (name, bits, signed, meaning), one behind the other."""
    placed, start = [], 0
    for name, bits, signed, meaning in fields:
        placed.append(RecordField(name, start, bits, signed, meaning))
        start += bits
    return Record(scheme, accumulator_bits, tuple(placed), unit_bits)


def _sbnq(accumulator_bits: int, bias_bits: int) -> Record:
    """[sbnq: eq. 16, 19]"""
    return _record(
        "sbnq",
        accumulator_bits,
        ("bias", bias_bits, True, "subtracted from the sum"),
        ("shift", 6, True, "how far the difference is shifted right; negative: left"),
    )


def _llsq(accumulator_bits: int, bias_bits: int) -> Record:
    """[llsq: eq. 6]"""
    return _record(
        "llsq",
        accumulator_bits,
        ("bias", bias_bits, True, "added to the sum, modulo the accumulator's width"),
        ("mantissa", 8, False, "what the total is multiplied by"),
        ("shift", 5, False, "how far the product is shifted right"),
    )


RECORDS = (
    _sbnq(24, 24),
    _sbnq(48, 56),
    _record(  # [jacob2017: eq. 5, 6]
        "affine",
        32,
        ("bias", 32, True, "added to the sum, modulo 2**32"),
        ("multiplier", 32, True, "what the total is multiplied by, Q0.31"),
        ("exponent", 6, True, "the total is also multiplied by 2**exponent"),
        unit_bits=32,  # so that a word of the stream holds a field
    ),
    _llsq(16, 16),
    _llsq(32, 48),
)
"""Every layout; of a scheme's several, the first whose `accumulator_bits` are enough is a machine's."""

RECORD_SCHEMES = tuple(dict.fromkeys(record.scheme for record in RECORDS))
"""Rescale schemes that have a record, as a configuration names them."""


def _of(scheme: str, accumulator_bits: int) -> Record:
    if scheme not in RECORD_SCHEMES:
        raise ValueError(f"`scheme` must be one of {', '.join(RECORD_SCHEMES)}, not {scheme}")
    most = most_accumulator_bits(scheme)
    if accumulator_bits > most:
        raise ValueError(f"`accumulator_bits` must be at most {most} for {scheme}, not {accumulator_bits}")
    return next(
        record
        for record in RECORDS
        if record.scheme == scheme and accumulator_bits <= record.accumulator_bits
    )


def most_accumulator_bits(scheme: str) -> int:
    """The widest sums that a scheme rescales."""
    return max(record.accumulator_bits for record in RECORDS if record.scheme == scheme)


def record_layout(scheme: str, accumulator_bits: int) -> dict[str, RecordField]:
    """The fields of a scheme's record by name, on a machine with sums of `accumulator_bits`.

    Raises ValueError for a scheme without a record, and for sums that are too wide for it.
    """
    return {field.name: field for field in _of(scheme, accumulator_bits).fields}


def record_bits(schemes: Iterable[str], accumulator_bits: int) -> int:
    """Width of a record that holds any of the schemes' fields, a whole number of bytes."""
    return max(_of(scheme, accumulator_bits).bits for scheme in schemes)
