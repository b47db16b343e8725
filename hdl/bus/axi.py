"""AXI4 and AXI4-Lite: the signals of the buses, and their standard names on an emitted top level.

Ref: Arm IHI 0022, AMBA AXI Protocol Specification, chapters A2 (signals) and A3 (handshakes, bursts).
"""

from collections.abc import Iterator

from amaranth.hdl import Module, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.spec.limits import COMMAND_INDEX_BITS, REGISTER_BITS
from intaglio.spec.registers import CAUSE_BITS, REGISTER_ADDRESS_BITS

__all__ = [
    "ADDRESS_BITS",
    "BOUNDARY_BYTES",
    "AXI4LiteSignature",
    "AXI4ReadSignature",
    "AXI4Signature",
    "AXI4WriteSignature",
    "BurstType",
    "BusPorts",
    "FaultSignature",
    "Response",
    "fault_layout",
    "pass_through",
]

BOUNDARY_BYTES = 4096
"""No burst crosses a multiple of this [AXI: A3.4.1]."""
LENGTH_BITS = 8
"""Of AxLEN: beats of a burst less one."""
MAX_BURST_BEATS = 1 << LENGTH_BITS
DATA_BITS = 64
"""Of a memory bus, where nothing else is said."""
ADDRESS_BITS = 32
"""Of a memory bus, where nothing else is said."""


class BurstType(enum.Enum, shape=2):
    FIXED = 0
    INCR = 1
    WRAP = 2


class Response(enum.Enum, shape=2):
    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _read_members(address_bits: int, data_bits: int, id_bits: int) -> dict[str, wiring.Member]:
    return {
        "arid": Out(id_bits),
        "araddr": Out(address_bits),
        "arlen": Out(LENGTH_BITS),
        "arsize": Out(3),
        "arburst": Out(BurstType),
        "arcache": Out(4),
        "arprot": Out(3),
        "arvalid": Out(1),
        "arready": In(1),
        "rid": In(id_bits),
        "rdata": In(data_bits),
        "rresp": In(Response),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def _write_members(address_bits: int, data_bits: int, id_bits: int) -> dict[str, wiring.Member]:
    return {
        "awid": Out(id_bits),
        "awaddr": Out(address_bits),
        "awlen": Out(LENGTH_BITS),
        "awsize": Out(3),
        "awburst": Out(BurstType),
        "awcache": Out(4),
        "awprot": Out(3),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(data_bits),
        "wstrb": Out(data_bits // 8),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(id_bits),
        "bresp": In(Response),
        "bvalid": In(1),
        "bready": Out(1),
    }


class _Bus(wiring.Signature):
    def __init__(self, members: dict[str, wiring.Member], address_bits: int, data_bits: int) -> None:
        check_integer("address_bits", address_bits, 1, 64)
        if check_integer("data_bits", data_bits, 8, 1024) & (data_bits - 1):
            raise ValueError(f"`data_bits` must be a power of two, not {data_bits}")
        self.address_bits = address_bits
        self.data_bits = data_bits
        super().__init__(members)


class AXI4ReadSignature(_Bus):
    """Channels AR and R of an AXI4 bus, seen by the master."""

    def __init__(
        self, address_bits: int = ADDRESS_BITS, data_bits: int = DATA_BITS, id_bits: int = 1
    ) -> None:
        super().__init__(_read_members(address_bits, data_bits, id_bits), address_bits, data_bits)


class AXI4WriteSignature(_Bus):
    """Channels AW, W and B of an AXI4 bus, seen by the master."""

    def __init__(
        self, address_bits: int = ADDRESS_BITS, data_bits: int = DATA_BITS, id_bits: int = 1
    ) -> None:
        super().__init__(_write_members(address_bits, data_bits, id_bits), address_bits, data_bits)


class AXI4Signature(_Bus):
    """All five channels of an AXI4 bus, seen by the master."""

    def __init__(
        self, address_bits: int = ADDRESS_BITS, data_bits: int = DATA_BITS, id_bits: int = 1
    ) -> None:
        parameters = (address_bits, data_bits, id_bits)
        super().__init__(_write_members(*parameters) | _read_members(*parameters), address_bits, data_bits)


class AXI4LiteSignature(_Bus):
    """An AXI4-Lite bus, seen by the slave; without ``awprot`` and ``arprot``, which it ignores."""

    def __init__(self, address_bits: int = REGISTER_ADDRESS_BITS, data_bits: int = REGISTER_BITS) -> None:
        members = {
            "awaddr": In(address_bits),
            "awvalid": In(1),
            "awready": Out(1),
            "wdata": In(data_bits),
            "wstrb": In(data_bits // 8),
            "wvalid": In(1),
            "wready": Out(1),
            "bresp": Out(Response),
            "bvalid": Out(1),
            "bready": In(1),
            "araddr": In(address_bits),
            "arvalid": In(1),
            "arready": Out(1),
            "rdata": Out(data_bits),
            "rresp": Out(Response),
            "rvalid": Out(1),
            "rready": In(1),
        }
        super().__init__(members, address_bits, data_bits)


def fault_layout(address_bits: int) -> data.StructLayout:
    """Why (`intaglio.spec.registers.Cause`), the index of the command in the list, the address in memory."""
    return data.StructLayout({"cause": CAUSE_BITS, "command": COMMAND_INDEX_BITS, "address": address_bits})


class FaultSignature(wiring.Signature):
    """A fault: ``payload`` is one in each cycle in which ``valid`` is high. It has no ``ready``: none is held back."""

    def __init__(self, address_bits: int = ADDRESS_BITS) -> None:
        super().__init__({"valid": Out(1), "payload": Out(fault_layout(address_bits))})


def pass_through(m: Module, inner, outer) -> None:
    """Connect the bus ``inner`` of a part to those signals of its parent's bus ``outer`` that it has.

    Both are of one direction; the halves of an `AXI4Signature` may come from two masters.
    """
    for name, member in inner.signature.members.items():
        drive, source = getattr(outer, name), getattr(inner, name)
        m.d.comb += drive.eq(source) if member.flow == Out else source.eq(drive)


class BusPorts(wiring.Component):
    """A component with its interfaces spread into ports whose names are joined by one underscore.

    A member ``m_axi`` of `AXI4Signature` gives the ports ``m_axi_awaddr``, ``m_axi_awvalid``, …, which tools know as
    one bus; alone, Amaranth would name them ``m_axi__awaddr``. Ports that are no part of an interface keep their name.

    Parameters
    ----------
    component : wiring.Component

    Members
    -------
    Those of the component, flattened. A structure stays a structure.

    Raises
    ------
    ValueError
        If two ports would have one name.
    """

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        members: dict[str, wiring.Member] = {}
        for name, member, _ in self._ports():
            if name in members:
                raise ValueError(f"`component` must not have two ports that flatten to `{name}`")
            flow = Out if member.flow == wiring.Out else In
            members[name] = flow(member.shape)
        super().__init__(members)

    def _ports(self) -> Iterator[tuple[str, wiring.Member, Signal]]:
        for path, member, signal in self._component.signature.flatten(self._component):
            yield "_".join(str(part) for part in path), member, signal

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.inner = self._component
        for name, member, signal in self._ports():
            port = getattr(self, name)
            m.d.comb += port.eq(signal) if member.flow == Out else signal.eq(port)
        return m
