"""A chain of registers."""

from typing import Any

from amaranth.hdl import Module, Signal

__all__ = ["delayed"]


def delayed(m: Module, value: Any, cycles: int, name: str) -> Any:
    """`value`, of any shape, some cycles later; the registers are called ``NAME_0``, ``NAME_1``, …"""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle}")
        m.d.sync += later.eq(value)
        value = later
    return value
