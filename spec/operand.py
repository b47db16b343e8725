"""Types of the operands of a multiply-accumulate, in plain Python."""

import re
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["OperandType"]


@dataclass(frozen=True)
class OperandType:
    """What the bits of an activation or of a weight mean.

    ``int2`` … ``int16`` are two's complement, ``uint2`` … ``uint16`` unsigned. Two types are for
    weights alone and make a product without a multiplier:

    * ``ternary``, two bits: ``00`` is 0, ``01`` is +1, ``11`` is -1. ``10`` is 0 as well, so that
      every pattern has a defined value; an encoder writes ``00``.
    * ``binary``, one bit *b*: the weight is ``1 - 2*b``, so ``0`` is +1 and ``1`` is -1.

    Parameters
    ----------
    name : str
        One of the names above.

    Raises
    ------
    TypeError
        If ``name`` is not a string.
    ValueError
        If ``name`` is not one of the names above.
    """

    name: str

    _INTEGER: ClassVar[re.Pattern[str]] = re.compile(r"(u?)int([2-9]|1[0-6])")
    _NAMES: ClassVar[str] = "int2 … int16, uint2 … uint16, ternary or binary"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"`name` must be a string, not {self.name!r}")
        if not self.is_integer and not self.is_ternary and not self.is_binary:
            raise ValueError(f"`name` must be {self._NAMES}, not {self.name!r}")

    @property
    def is_integer(self) -> bool:
        return self._INTEGER.fullmatch(self.name) is not None

    @property
    def is_ternary(self) -> bool:
        return self.name == "ternary"

    @property
    def is_binary(self) -> bool:
        return self.name == "binary"

    @property
    def bits(self) -> int:
        """Bits that one operand takes in memory and on a port."""
        if self.is_ternary:
            return 2
        if self.is_binary:
            return 1
        return int(self.name.removeprefix("u").removeprefix("int"))

    @property
    def signed(self) -> bool:
        """Whether some value of the type is negative."""
        return not self.name.startswith("u")

    @property
    def min(self) -> int:
        if not self.is_integer:
            return -1
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        if not self.is_integer:
            return 1
        return (1 << (self.bits - (1 if self.signed else 0))) - 1

    def encode(self, value: int) -> int:
        """The bits of ``value``, as an unsigned integer below ``2**bits``."""
        if not self.min <= value <= self.max or (self.is_binary and value == 0):
            raise ValueError(f"`value` must be a value of {self.name}, not {value!r}")
        if self.is_binary:
            return 0 if value == 1 else 1
        return value & ((1 << self.bits) - 1)

    def decode(self, pattern: int) -> int:
        """The value of the bits ``pattern``; the inverse of :meth:`encode`."""
        if not 0 <= pattern < 1 << self.bits:
            raise ValueError(f"`pattern` must be {self.bits} bits, not {pattern!r}")
        if self.is_binary:
            return 1 - 2 * pattern
        if self.is_ternary:
            return (0, 1, 0, -1)[pattern]
        return pattern - (1 << self.bits) if pattern > self.max else pattern

    def __str__(self) -> str:
        return self.name
