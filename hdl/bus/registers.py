"""The registers through which a host drives the machine."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.bus.axi import AXI4LiteSignature, FaultSignature, pass_through
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS, REGISTER_BITS
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    COUNTERS,
    ID_VALUE,
    INTERRUPT_PENDING,
    REGISTER_ADDRESS_BITS,
    REGISTER_BYTES,
    REGISTERS,
    SETTINGS,
    VERSION_VALUE,
    Register,
    setting_mask,
)

__all__ = ["Registers"]

_RESET = {entry.register: entry.reset for entry in REGISTERS}
_MARK_INDEX_BITS = exact_log2(MARKS)
_OFFSET_BITS = exact_log2(REGISTER_BYTES)
"""Bits of a byte's address within a register."""


class Registers(wiring.Component):
    """AXI4-Lite slave with the registers of `intaglio.spec.registers.Register`.

    Address and data of a write may come in any order; every response is OKAY. Byte lanes below an
    address that is no multiple of 4 are neither written nor read [AXI: A3.4.3].
    A register that does not exist reads 0, and so do bits that a setting lacks (`setting_mask`). Writes to it, to a
    read-only register, and to one of `SETTINGS` while `busy` is high are ignored. CONTROL: a start is ignored while
    busy, an abort while not.

    Latency: the response is valid 2 cycles after address (and data) are accepted; one read and one write at a time.

    Parameters
    ----------
    config : AcceleratorConfig
        Its fingerprint can be read.

    Members
    -------
    bus : Out(AXI4LiteSignature)
    irq : Out(1)
        High from `finish` until the host writes 1 to INTERRUPT, or a start.
    command_offset, command_count, program_base, program_base_high, program_limit, ... : Out(REGISTER_BITS)
        One for each register of `SETTINGS`.
    start, abort : Out(1)
        Pulses. A start clears the interrupt, STATUS and the fault.
    busy : In(1)
        High from the cycle after `start` to the cycle of `finish`.
    finish : In(1)
        A pulse: the run is over. STATUS says done, unless there was a fault.
    fault : In(FaultSignature)
        The first since the start is kept, and can be read at once.
    cycles, overflows, read_beats, write_beats, busy_load, ... : In(REGISTER_BITS)
        One for each register of `COUNTERS`.
    mark_enable : Out(1)
    mark_address : Out(range(MARKS))
    mark_data : In(REGISTER_BITS)
        A read port of the memory of time stamps: data in the cycle after the address.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"`config` must be an AcceleratorConfig, not {config!r}")
        self._fingerprint = config.fingerprint
        self._masks = {
            register: setting_mask(register, config.address_bits, config.bus_bytes) for register in SETTINGS
        }
        super().__init__(
            {
                "bus": Out(AXI4LiteSignature()),
                "irq": Out(1),
                **{register.name.lower(): Out(REGISTER_BITS, init=_RESET[register]) for register in SETTINGS},
                "start": Out(1),
                "abort": Out(1),
                "busy": In(1),
                "finish": In(1),
                "fault": In(FaultSignature(config.address_bits)),
                **{register.name.lower(): In(REGISTER_BITS) for register in COUNTERS},
                "mark_enable": Out(1),
                "mark_address": Out(_MARK_INDEX_BITS),
                "mark_data": In(REGISTER_BITS),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.port = port = _Port()
        pass_through(m, port.bus, self.bus)
        done = Signal()
        faulted = Signal()
        fault = Signal.like(self.fault.payload)
        m.d.comb += [
            self.mark_enable.eq(port.read),
            self.mark_address.eq(port.read_address[_OFFSET_BITS:]),
        ]
        self._read(
            m,
            port,
            {
                Register.ID: ID_VALUE,
                Register.VERSION: VERSION_VALUE,
                Register.FINGERPRINT: self._fingerprint,
                Register.STATUS: Cat(self.busy, done, faulted),
                Register.INTERRUPT: self.irq,
                Register.FAULT_CAUSE: fault.cause,
                Register.FAULT_COMMAND: fault.command,
                Register.FAULT_ADDRESS: fault.address[:REGISTER_BITS],
                Register.FAULT_ADDRESS_HIGH: fault.address[REGISTER_BITS:],
                **{register: getattr(self, register.name.lower()) for register in SETTINGS + COUNTERS},
            },
        )
        self._write(m, port)
        with m.If(self.fault.valid & ~faulted):
            m.d.sync += [faulted.eq(1), fault.eq(self.fault.payload)]
        with m.If(self.finish):
            m.d.sync += [self.irq.eq(1), done.eq(~faulted & ~self.fault.valid)]
        with m.If(self.start):
            m.d.sync += [self.irq.eq(0), done.eq(0), faulted.eq(0), fault.eq(0)]
        return m

    def _read(self, m: Module, port: "_Port", values: dict) -> None:
        """Data in the cycle after the address, as a memory gives them."""
        marked = Signal()
        value = Signal(REGISTER_BITS)
        with m.If(port.read):
            m.d.sync += [value.eq(0), marked.eq(port.read_address >= Register.MARKS)]
            with m.If(port.read_address >= Register.MARKS + REGISTER_BYTES * MARKS):
                m.d.sync += marked.eq(0)
            with m.Switch(port.read_address[_OFFSET_BITS:]):
                for register, source in values.items():
                    with m.Case(register >> _OFFSET_BITS):
                        m.d.sync += value.eq(source)
        m.d.comb += port.read_data.eq(Mux(marked, self.mark_data, value))

    def _write(self, m: Module, port: "_Port") -> None:
        lanes = port.write_strobes & _lanes(port.write_address)
        strobes = Cat(bit.replicate(8) for bit in lanes)
        bits = Signal(REGISTER_BITS)
        m.d.comb += bits.eq(port.write_data & strobes)
        with m.If(port.write):
            with m.Switch(port.write_address[_OFFSET_BITS:]):
                with m.Case(Register.CONTROL >> _OFFSET_BITS):
                    m.d.comb += [
                        self.start.eq((bits & CONTROL_START).any() & ~self.busy),
                        self.abort.eq((bits & CONTROL_ABORT).any() & self.busy),
                    ]
                with m.Case(Register.INTERRUPT >> _OFFSET_BITS):
                    with m.If(bits[exact_log2(INTERRUPT_PENDING)]):
                        m.d.sync += self.irq.eq(0)
                for register in SETTINGS:
                    with m.Case(register >> _OFFSET_BITS):
                        setting = getattr(self, register.name.lower())
                        # A byte is written or kept: an enable, and no logic in front of it.
                        for lane, strobe in enumerate(lanes):
                            byte = slice(8 * lane, 8 * lane + 8)
                            with m.If(strobe & ~self.busy):
                                m.d.sync += setting[byte].eq((port.write_data & self._masks[register])[byte])


def _lanes(address: Value) -> Value:
    """A bit for each byte of a word that is not below the address."""
    return (Const((1 << REGISTER_BYTES) - 1, REGISTER_BYTES) << address[:_OFFSET_BITS])[:REGISTER_BYTES]


class _Port(wiring.Component):
    """The handshakes of AXI4-Lite: turns them into pulses with an address, and data one cycle after a read."""

    def __init__(self) -> None:
        super().__init__(
            {
                "bus": Out(AXI4LiteSignature()),
                "write": Out(1),
                "write_address": Out(REGISTER_ADDRESS_BITS),
                "write_data": Out(REGISTER_BITS),
                "write_strobes": Out(REGISTER_BYTES),
                "read": Out(1),
                "read_address": Out(REGISTER_ADDRESS_BITS),
                "read_data": In(REGISTER_BITS),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        bus = self.bus
        address_held = Signal()
        data_held = Signal()
        answering = Signal()
        m.d.comb += [
            bus.awready.eq(~address_held),
            bus.wready.eq(~data_held),
            # Nothing is valid while reset is asserted [AXI: A3.1.2].
            bus.bvalid.eq(answering & ~ResetSignal()),
            self.write.eq(address_held & data_held & ~answering),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address_held.eq(1), self.write_address.eq(bus.awaddr)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data_held.eq(1), self.write_data.eq(bus.wdata), self.write_strobes.eq(bus.wstrb)]
        with m.If(bus.bready):
            m.d.sync += answering.eq(0)
        with m.If(self.write):
            m.d.sync += [address_held.eq(0), data_held.eq(0), answering.eq(1)]

        read_held = Signal()
        fetched = Signal()
        returning = Signal()
        m.d.comb += [
            bus.arready.eq(~read_held & ~fetched),
            bus.rvalid.eq(returning & ~ResetSignal()),
            self.read.eq(read_held & ~returning),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [read_held.eq(1), self.read_address.eq(bus.araddr)]
        m.d.sync += fetched.eq(self.read)
        with m.If(bus.rready):
            m.d.sync += returning.eq(0)
        with m.If(self.read):
            m.d.sync += read_held.eq(0)
        with m.If(fetched):
            lanes = Cat(bit.replicate(8) for bit in _lanes(self.read_address))
            m.d.sync += [bus.rdata.eq(self.read_data & lanes), returning.eq(1)]
        return m
