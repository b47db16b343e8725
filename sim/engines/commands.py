"""Commands for the dispatcher's bench: legal ones with any fields, and each way to be illegal."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intaglio.spec.commands import COMMAND_BITS, COMMAND_BYTES, FORMATS, Opcode, command_layout, encode
from intaglio.spec.registers import Cause

__all__ = ["Illegal", "chosen_of", "drawn", "illegal", "unknown_choices", "zero_counts"]


@dataclass(frozen=True)
class Illegal:
    """The bytes of a command that is refused, why, and the bins that it belongs to."""

    word: bytes
    cause: Cause
    bins: tuple[str, ...]


def drawn(numbers: random.Random, opcode: Opcode) -> dict[str, int]:
    """Any fields of a legal command that waits for nobody."""
    values = {
        field.name: numbers.randrange(field.choices)
        if field.choices
        else numbers.randint(field.min, field.max)
        for field in FORMATS[opcode].fields
    }
    for name in FORMATS[opcode].nonzero:
        field = next(field for field in FORMATS[opcode].fields if field.name == name)
        # A count of which a single bit is set is no count of zero either.
        values[name] = numbers.choice((1 << numbers.randrange(field.bits), numbers.randint(1, field.max)))
    return values | {"mark": numbers.randrange(2)}


def illegal(numbers: random.Random, opcodes: Sequence[Opcode], quick: bool) -> Iterator[Illegal]:
    """Unknown opcodes, and each reserved bit of each known one; a sample of both in a quick run."""
    known = {opcode.value for opcode in opcodes}
    near = {code ^ 1 << bit for code in known for bit in range(8)} - known
    others = sorted(set(range(256)) - known - near)
    for code in sorted(near) + (numbers.sample(others, 8) if quick else others):
        bins = (
            "an unknown opcode",
            *(["an opcode that differs from a known one by a bit"] if code in near else []),
        )
        yield Illegal(bytes([code]) + numbers.randbytes(COMMAND_BYTES - 1), Cause.ILLEGAL_OPCODE, bins)
    for opcode in opcodes:
        places = command_layout(opcode)
        end = max(start + field.bits for start, field in places.values())
        for where, bits in (
            (
                "of the header",
                [
                    bit
                    for name, (start, field) in places.items()
                    if "reserved" in name
                    for bit in range(start, start + field.bits)
                ],
            ),
            ("behind the fields", list(range(end, COMMAND_BITS))),
        ):
            chosen = sorted({bits[0], bits[-1], *numbers.sample(bits, 6)}) if quick else bits
            for bit in chosen:
                word = int.from_bytes(encode(opcode, drawn(numbers, opcode)), "little") | 1 << bit
                name = f"{opcode.name}: a reserved bit {where}"
                yield Illegal(word.to_bytes(COMMAND_BYTES, "little"), Cause.ILLEGAL_FIELD, (name,))


def chosen_of(opcode: Opcode) -> dict[str, range]:
    """Fields whose number must name something, and the numbers that name nothing."""
    return {
        field.name: range(field.choices, field.max + 1) for field in FORMATS[opcode].fields if field.choices
    }


def unknown_choices(numbers: random.Random, opcode: Opcode) -> Iterator[Illegal]:
    """Each number that names nothing."""
    for name, unknown in chosen_of(opcode).items():
        for value in unknown:
            word = encode(opcode, drawn(numbers, opcode) | {name: value})
            yield Illegal(word, Cause.ILLEGAL_FIELD, (f"{opcode.name}: no {name}",))


def zero_counts(numbers: random.Random, opcode: Opcode) -> Iterator[Illegal]:
    """Each count that may not be 0 at 0, the others not."""
    for name in FORMATS[opcode].nonzero:
        word = encode(opcode, drawn(numbers, opcode) | {name: 0})
        yield Illegal(word, Cause.ILLEGAL_FIELD, (f"{opcode.name}: {name} is 0",))
