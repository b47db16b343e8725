"""The registers of one machine: what its fingerprint, its address width and its bus make of those of the contract."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import REGISTER_BITS
from intaglio.spec.registers import (
    CAUSE_BITS,
    REGISTERS,
    SETTINGS,
    Access,
    Cause,
    Register,
    RegisterSpec,
    setting_mask,
)

__all__ = ["ACCESS", "Field", "MachineRegister", "registers"]

ACCESS = {
    Access.READ: "read-only",
    Access.WRITE: "write-only",
    Access.READ_WRITE: "read-write",
    Access.WRITE_ONE_TO_CLEAR: "read-write",
}
"""In the words that IP-XACT and CMSIS-SVD share."""


@dataclass(frozen=True)
class Field:
    """Neighbouring bits of a register. `values` are (name, value, meaning) of those that have names."""

    name: str
    mask: int
    meaning: str
    values: tuple[tuple[str, int, str], ...] = ()

    @property
    def offset(self) -> int:
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def bits(self) -> int:
        return self.mask.bit_count()


@dataclass(frozen=True)
class MachineRegister:
    """`reset` is None where the value is not defined. A register whose bits are all of one meaning has no fields."""

    spec: RegisterSpec
    access: str
    reset: int | None
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        return self.spec.register.name

    @property
    def write_one_to_clear(self) -> bool:
        return self.spec.access is Access.WRITE_ONE_TO_CLEAR


def registers(config: AcceleratorConfig) -> tuple[MachineRegister, ...]:
    """Every register of a machine of `config`, in the order of their offsets."""
    return tuple(_register(entry, config) for entry in sorted(REGISTERS, key=lambda entry: entry.register))


def _register(entry: RegisterSpec, config: AcceleratorConfig) -> MachineRegister:
    access, reset = ACCESS[entry.access], entry.reset
    fields = tuple(Field(*bits) for bits in entry.bits)
    if entry.register is Register.FINGERPRINT:
        reset = config.fingerprint
    elif entry.register is Register.FAULT_CAUSE:
        values = tuple((cause.name, cause.value, cause.meaning) for cause in Cause)
        fields = (Field("CAUSE", (1 << CAUSE_BITS) - 1, "the cause", values),)
    elif entry.register in SETTINGS and not fields:
        mask = setting_mask(entry.register, config.address_bits, config.bus_bytes)
        if not mask:
            access = "read-only"  # the high word of an address of 32 bits
        elif mask != (1 << REGISTER_BITS) - 1:
            fields = (Field(entry.register.name, mask, "the bits that this machine has; the others read 0"),)
    return MachineRegister(entry, access, reset, fields)
