"""The ports of a machine, as its Verilog has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["BUSES", "CLOCK", "INTERRUPT", "RESET", "Port", "ports_of"]

CLOCK, RESET, INTERRUPT = "clk", "rst", "irq"
BUSES = ("s_axil", "m_axi")
"""The AXI interfaces: the registers' and memory's. A bus's ports begin with its name and an underscore."""
_PORT = re.compile(r"^  (input|output)(?: reg)?(?: \[(\d+):0\])? (\w+),?$", re.M)


@dataclass(frozen=True)
class Port:
    name: str
    is_input: bool
    bits: int

    @property
    def bus(self) -> str | None:
        """The interface that it is of, if any."""
        return next((bus for bus in BUSES if self.name.startswith(f"{bus}_")), None)

    @property
    def signal(self) -> str:
        """Its name on its bus, as the AXI specification writes it."""
        return self.name.removeprefix(f"{self.bus}_").upper()


def ports_of(verilog: str, name: str) -> tuple[Port, ...]:
    """The ports of module `name`, in the order of its head.

    Raises
    ------
    ValueError
        If the text has no such module, or it has no ports.
    """
    head = re.search(rf"^module {re.escape(name)}\((.*?)\);", verilog, re.M | re.S)
    found = _PORT.findall(head[1]) if head else []
    if not found:
        raise ValueError(f"`verilog` must have a module {name} with ports")
    return tuple(Port(port, way == "input", int(high or 0) + 1) for way, high, port in found)
