"""What the bench simulates: two read masters, two write masters and the registers, side by side."""

from dataclasses import replace

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import BusPorts
from intaglio.hdl.bus.axi_read import READABLE, ReadMaster
from intaglio.hdl.bus.axi_write import WRITABLE, WriteMaster
from intaglio.hdl.bus.registers import Registers
from intaglio.spec.config import AcceleratorConfig

__all__ = ["ADDRESS_BITS", "BEAT_BYTES", "CONFIG", "INPUTS", "READERS", "REGIONS", "WRITERS", "Top"]

CONFIG = replace(AcceleratorConfig.load("sbnq8x8"), address_bits=40)
READERS = {"reader": ((4, 16, 256), 8), "lone_reader": ((5,), 2)}
"""Longest bursts of the clients, bursts in flight."""
WRITERS = {"writer": (16, 8), "lone_writer": (256, 2)}
BEAT_BYTES = {"reader": 8, "lone_reader": 16, "writer": 8, "lone_writer": 16}
ADDRESS_BITS = {"reader": 40, "lone_reader": 32, "writer": 40, "lone_writer": 64}
"""Of each one's bus."""

REGIONS = {part: READABLE if part in READERS else WRITABLE for part in BEAT_BYTES}
"""Those that each one may use."""


class Top(wiring.Component):
    """Each part's ports, named by the part and the path in its signature."""

    def __init__(self) -> None:
        parts: dict[str, wiring.Component] = {
            **{
                name: ReadMaster(len(bursts), bursts, flying, ADDRESS_BITS[name], 8 * BEAT_BYTES[name])
                for name, (bursts, flying) in READERS.items()
            },
            **{
                name: WriteMaster(*limits, ADDRESS_BITS[name], 8 * BEAT_BYTES[name])
                for name, limits in WRITERS.items()
            },
            "registers": Registers(CONFIG),
        }
        self._parts = {name: BusPorts(part) for name, part in parts.items()}
        super().__init__(
            {
                f"{name}_{port}": member
                for name, part in self._parts.items()
                for port, member in part.signature.members.items()
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        for name, part in self._parts.items():
            m.submodules[name] = part
            for port, member in part.signature.members.items():
                inner, outer = getattr(part, port), getattr(self, f"{name}_{port}")
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        return m


INPUTS = [name for name, member in Top().signature.members.items() if member.flow == In]
"""Names of its inputs."""
