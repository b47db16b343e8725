"""The registers through which a host drives the machine, each once: offset, access, value after reset, meaning; the
bits of those that have some; the counters; the causes of a fault.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from intaglio.spec.commands import Engine
from intaglio.spec.limits import MARKS, REGISTER_BITS
from intaglio.spec.regions import Region

__all__ = [
    "BUS_CACHE_BITS",
    "BUS_CACHE_SHIFT",
    "BUS_PROTECTION_BITS",
    "BUS_RESET",
    "CAUSE_BITS",
    "CONTROL_ABORT",
    "CONTROL_START",
    "COUNTERS",
    "ID_VALUE",
    "INTERRUPT_PENDING",
    "REGION_REGISTERS",
    "REGISTERS",
    "REGISTER_ADDRESS_BITS",
    "REGISTER_BYTES",
    "SETTINGS",
    "STATUS_BUSY",
    "STATUS_DONE",
    "STATUS_FAULT",
    "VERSION_VALUE",
    "WATCHDOG_RESET",
    "Access",
    "Cause",
    "RegionRegisters",
    "Register",
    "RegisterSpec",
    "setting_mask",
]

REGISTER_BYTES = REGISTER_BITS // 8
REGISTER_ADDRESS_BITS = 12
ID_VALUE = int.from_bytes(b"INTG", "little")
VERSION_VALUE = 2
CONTROL_START = 1
CONTROL_ABORT = 2
STATUS_BUSY = 1
STATUS_DONE = 2
STATUS_FAULT = 4
INTERRUPT_PENDING = 1
WATCHDOG_RESET = 1 << 20
BUS_PROTECTION_BITS = 3
"""Of BUS_ATTRIBUTES, from bit 0: AxPROT."""
BUS_CACHE_SHIFT, BUS_CACHE_BITS = 4, 4
"""Of BUS_ATTRIBUTES: where AxCACHE lies."""
BUS_RESET = 0b0011 << BUS_CACHE_SHIFT | 0b010
"""Normal memory, not cacheable, bufferable [AXI: A4.4]; unprivileged, non-secure data [AXI: A4.7]."""
CAUSE_BITS = 8
"""Of FAULT_CAUSE: those that may be set."""


class Cause(enum.IntEnum):
    """Why the machine stopped itself; `meaning` says it in a sentence."""

    NONE = 0
    ILLEGAL_OPCODE = 1
    ILLEGAL_FIELD = 2
    READ_REGION = 3
    WRITE_REGION = 4
    READ_ERROR = 5
    WRITE_ERROR = 6
    WATCHDOG = 7
    ABORTED = 8
    BUS_PROTOCOL = 9

    @property
    def meaning(self) -> str:
        return _CAUSES[self]


_CAUSES = {
    Cause.NONE: "There was no fault since the start.",
    Cause.ILLEGAL_OPCODE: "A command has an opcode that this machine does not implement.",
    Cause.ILLEGAL_FIELD: "A command has a reserved bit set or a count out of range, or asks for something that this "
    "machine does not implement.",
    Cause.READ_REGION: "A command reads memory beyond its region's limit, or in a region that is not read.",
    Cause.WRITE_REGION: "A command writes memory beyond its region's limit, or in a region that is not "
    "written.",
    Cause.READ_ERROR: "The bus answered a read with an error.",
    Cause.WRITE_ERROR: "The bus answered a write with an error.",
    Cause.WATCHDOG: "Nothing moved for as many cycles as WATCHDOG says.",
    Cause.ABORTED: "The host aborted the run.",
    Cause.BUS_PROTOCOL: "The bus answered what was not asked: another ID, a burst's last beat too early or too late, "
    "or the response to a write before its data.",
}


class Register(enum.IntEnum):
    """Byte offsets of the AXI4-Lite registers."""

    ID = 0x00
    VERSION = 0x04
    FINGERPRINT = 0x08
    CONTROL = 0x10
    STATUS = 0x14
    INTERRUPT = 0x18
    COMMAND_OFFSET = 0x20
    COMMAND_COUNT = 0x24
    BUS_ATTRIBUTES = 0x28
    FAULT_CAUSE = 0x40
    FAULT_COMMAND = 0x44
    FAULT_ADDRESS = 0x48
    WATCHDOG = 0x4C
    FAULT_ADDRESS_HIGH = 0x50
    CYCLES = 0x80
    OVERFLOWS = 0x84
    READ_BEATS = 0x88
    WRITE_BEATS = 0x8C
    BUSY_LOAD = 0x90
    BUSY_WEIGHTS = 0x94
    BUSY_MATMUL = 0x98
    BUSY_RESCALE = 0x9C
    BUSY_POOL = 0xA0
    BUSY_STORE = 0xA4
    BUSY_ELEMENTWISE = 0xA8
    PROGRAM_BASE = 0x100
    PROGRAM_BASE_HIGH = 0x104
    PROGRAM_LIMIT = 0x108
    INPUT_BASE = 0x110
    INPUT_BASE_HIGH = 0x114
    INPUT_LIMIT = 0x118
    OUTPUT_BASE = 0x120
    OUTPUT_BASE_HIGH = 0x124
    OUTPUT_LIMIT = 0x128
    SCRATCH_BASE = 0x130
    SCRATCH_BASE_HIGH = 0x134
    SCRATCH_LIMIT = 0x138
    STATE_BASE = 0x140
    STATE_BASE_HIGH = 0x144
    STATE_LIMIT = 0x148
    MARKS = 0x400


class Access(enum.Enum):
    """What a host may do with a register."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read and write"
    WRITE_ONE_TO_CLEAR = "read, write 1 to clear"


@dataclass(frozen=True)
class RegisterSpec:
    """A register as a host sees it. `reset` is None where the value depends on the machine or is not defined;
    `count` registers stand one after the other; `bits` are (name, mask, meaning) of those that have some.
    """

    register: Register
    access: Access
    reset: int | None
    meaning: str
    count: int = 1
    bits: tuple[tuple[str, int, str], ...] = ()


class RegionRegisters(NamedTuple):
    """The registers of a region of memory."""

    base: Register
    base_high: Register
    limit: Register


REGION_REGISTERS: Mapping[Region, RegionRegisters] = {
    region: RegionRegisters(
        Register[f"{region.name}_BASE"],
        Register[f"{region.name}_BASE_HIGH"],
        Register[f"{region.name}_LIMIT"],
    )
    for region in Region
}
"""By region."""


def _settings() -> tuple[RegisterSpec, ...]:
    """What the host writes before a start."""
    kept = "; keeps its value while the machine is busy"
    words = [
        (
            Register.COMMAND_OFFSET,
            0,
            "where the command list begins in PROGRAM, a multiple of a beat of the bus",
            (),
        ),
        (Register.COMMAND_COUNT, 0, "commands in the list", ()),
        (
            Register.BUS_ATTRIBUTES,
            BUS_RESET,
            "what the machine says of its accesses of memory",
            (
                ("BUS_PROTECTION", (1 << BUS_PROTECTION_BITS) - 1, "AxPROT"),
                ("BUS_CACHE", ((1 << BUS_CACHE_BITS) - 1) << BUS_CACHE_SHIFT, "AxCACHE"),
            ),
        ),
        (
            Register.WATCHDOG,
            WATCHDOG_RESET,
            "cycles without any progress after which a run is stopped (0: never)",
            (),
        ),
    ]
    for region, registers in REGION_REGISTERS.items():
        words += [
            (registers.base, 0, f"{region.name}'s first address, whole beats: its low word", ()),
            (registers.base_high, 0, "its high word, of as many bits as addresses have beyond 32", ()),
            (registers.limit, 0, f"bytes of {region.name} that are granted, whole beats", ()),
        ]
    return tuple(
        RegisterSpec(register, Access.READ_WRITE, reset, meaning + kept, bits=bits)
        for register, reset, meaning, bits in words
    )


def setting_mask(register: Register, address_bits: int, beat_bytes: int) -> int:
    """The bits of a register of `SETTINGS` on a machine of so many address bits and bytes a beat; the others read 0."""
    every = (1 << REGISTER_BITS) - 1
    if register is Register.BUS_ATTRIBUTES:
        return next(
            sum(mask for _, mask, _ in entry.bits) for entry in REGISTERS if entry.register is register
        )
    for registers in REGION_REGISTERS.values():
        if register is registers.base_high:
            return (1 << (address_bits - REGISTER_BITS)) - 1
        if register in registers:
            return every & -beat_bytes
    return every


def _counters() -> tuple[RegisterSpec, ...]:
    meanings = {
        Register.CYCLES: "cycles from the start to the interrupt",
        Register.OVERFLOWS: "additions that left the accumulator's range, LLSQ's of the bias among them "
        "(a warning: a sum may come back)",
        Register.READ_BEATS: "beats read on the bus",
        Register.WRITE_BEATS: "beats written on the bus",
        **{
            Register[f"BUSY_{engine.name}"]: f"cycles in which {engine.name} worked on a command"
            for engine in Engine
        },
    }
    return tuple(RegisterSpec(register, Access.READ, 0, meaning) for register, meaning in meanings.items())


REGISTERS = (
    RegisterSpec(Register.ID, Access.READ, ID_VALUE, '"INTG", the first letter in the low byte'),
    RegisterSpec(Register.VERSION, Access.READ, VERSION_VALUE, "of the registers"),
    RegisterSpec(
        Register.FINGERPRINT,
        Access.READ,
        None,
        "of the configuration and the formats: a program names the one that it was compiled for",
    ),
    RegisterSpec(
        Register.CONTROL,
        Access.WRITE,
        0,
        "starts and ends a run; reads 0",
        bits=(
            ("CONTROL_START", CONTROL_START, "start; ignored while busy"),
            ("CONTROL_ABORT", CONTROL_ABORT, "abort; ignored while not busy"),
        ),
    ),
    RegisterSpec(
        Register.STATUS,
        Access.READ,
        0,
        "where the run is",
        bits=(
            ("STATUS_BUSY", STATUS_BUSY, "busy"),
            ("STATUS_DONE", STATUS_DONE, "done, without a fault"),
            ("STATUS_FAULT", STATUS_FAULT, "a fault since the start"),
        ),
    ),
    RegisterSpec(
        Register.INTERRUPT,
        Access.WRITE_ONE_TO_CLEAR,
        0,
        "cleared by a start as well",
        bits=(("INTERRUPT_PENDING", INTERRUPT_PENDING, "pending: the `irq` output"),),
    ),
    *_settings(),
    RegisterSpec(
        Register.FAULT_CAUSE, Access.READ, 0, "why the run was stopped: a number of the causes below"
    ),
    RegisterSpec(
        Register.FAULT_COMMAND, Access.READ, 0, "the place in the list of the command that was stopped"
    ),
    RegisterSpec(
        Register.FAULT_ADDRESS, Access.READ, 0, "its address in memory, where there is one: the low word"
    ),
    RegisterSpec(
        Register.FAULT_ADDRESS_HIGH, Access.READ, 0, "the high word, where addresses have more than 32 bits"
    ),
    *_counters(),
    RegisterSpec(
        Register.MARKS,
        Access.READ,
        None,
        f"the cycle counter when the i-th marked command completed, at MARKS + {REGISTER_BYTES}*i; "
        "undefined where none has",
        count=MARKS,
    ),
)
"""Every register, in the order of the documentation."""

SETTINGS = tuple(spec.register for spec in _settings())
"""What the host writes before a start."""
COUNTERS = tuple(spec.register for spec in _counters())
"""What the machine counts of a run."""
