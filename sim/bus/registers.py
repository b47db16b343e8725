"""Tests of the registers."""

import logging
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from intaglio.sim.bus.setting import begin, pauses, stand_of
from intaglio.sim.bus.top import CONFIG
from intaglio.sim.lockstep import Stand
from intaglio.spec.limits import MARKS
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    COUNTERS,
    REGISTER_ADDRESS_BITS,
    REGISTERS,
    SETTINGS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    WATCHDOG_RESET,
    Access,
    Cause,
    Register,
    setting_mask,
)


class Host:
    """The machine's side of the registers, and a master on the other."""

    def __init__(self, dut: Any, stand: Stand) -> None:
        self.dut = dut
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "registers_bus"), dut.clk, dut.rst)
        self.starts = self.aborts = 0
        self._stand = stand
        write, read = self.bus.write_if, self.bus.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(pauses(stand))
        cocotb.start_soon(self._machine())

    async def _machine(self) -> None:
        mark = None
        while True:
            await RisingEdge(self.dut.clk)
            start, abort = int(self.dut.registers_start.value), int(self.dut.registers_abort.value)
            self.starts += start
            self.aborts += abort
            if start:
                self.dut.registers_busy.value = 1
            if int(self.dut.registers_mark_enable.value):
                mark = int(self.dut.registers_mark_address.value)
                self.dut.registers_mark_data.value = self.mark(mark)
            else:
                self.dut.registers_mark_data.value = 0xDEADBEEF

    @staticmethod
    def mark(index: int) -> int:
        return 0x5A00_0000 + 77 * index

    async def pulse(self, pin: Any) -> None:
        pin.value = 1
        await RisingEdge(self.dut.clk)
        pin.value = 0

    async def finish(self) -> None:
        self.dut.registers_finish.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.registers_finish.value = 0
        self.dut.registers_busy.value = 0
        await RisingEdge(self.dut.clk)

    async def read(self, address: int) -> int:
        answer = await self.bus.read(address, 4)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, address: int, value: int, size: int = 4) -> None:
        answer = await self.bus.write(address, value.to_bytes(size, "little"))
        assert answer.resp == AxiResp.OKAY


async def hosted(dut: Any, name: str) -> tuple[Stand, Host]:
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    stand = stand_of(dut, name)
    host = Host(dut, stand)
    await stand.start()
    return stand, host


def mask_of(register: int) -> int:
    """The bits that a setting has."""
    return setting_mask(Register(register), CONFIG.address_bits, CONFIG.bus_bytes)


def fresh(host: Host) -> dict[int, int]:
    """Every word of the address space after a reset; 0 where there is no register."""
    words = dict.fromkeys(range(0, 1 << REGISTER_ADDRESS_BITS, 4), 0)
    for spec in REGISTERS:
        for index in range(spec.count):
            words[spec.register + 4 * index] = spec.reset or 0
    words[Register.FINGERPRINT] = CONFIG.fingerprint
    words |= {Register.MARKS + 4 * index: host.mark(index) for index in range(MARKS)}
    return words


@cocotb.test()
async def reset_and_access(dut):
    """Each register's value after a reset and what a write makes of it; no other word holds anything."""
    stand, host = await hosted(dut, "access")
    words = fresh(host)
    assert {spec.register for spec in REGISTERS} == set(Register)
    for address, value in words.items():
        assert await host.read(address) == value, f"{address:#x} after a reset"
    kept = {spec.register for spec in REGISTERS if spec.access is Access.READ_WRITE}
    assert kept == set(SETTINGS)
    for address in words:
        if address == Register.CONTROL:
            continue  # what it does, `registers_of_a_run` shows
        value = stand.random.getrandbits(32)
        await host.write(address, value)
        if address in kept:
            words[address] = value & mask_of(address)
        assert await host.read(address) == words[address], f"{address:#x} after a write"
    for register in Register:
        assert await host.read(register) == words[register], f"{register.name} after writes of all others"
    await stand.reset()
    for register in Register:
        assert await host.read(register) == fresh(host)[register], f"{register.name} after another reset"


@cocotb.test()
async def registers_at_random(dut):
    """By bytes: settings keep what the host wrote, all else what the machine says."""
    stand, host = await hosted(dut, "registers")
    words = fresh(host)
    for register in COUNTERS:
        words[register] = stand.random.getrandbits(32)
        getattr(dut, f"registers_{register.name.lower()}").value = words[register]
    for register in COUNTERS:
        assert await host.read(register) == words[register], register.name
    for _ in range(400):
        kind = stand.random.random()
        address = 4 * stand.random.randrange(90) if kind < 0.5 else stand.random.choice(SETTINGS)
        if address in (Register.CONTROL, Register.INTERRUPT):
            continue
        first = stand.random.randrange(4)
        size = stand.random.randint(1, 4 - first)
        value = stand.random.getrandbits(8 * size)
        await host.write(address + first, value, size)
        if address in SETTINGS:
            old = words[address].to_bytes(4, "little")
            new = old[:first] + value.to_bytes(size, "little") + old[first + size :]
            words[address] = int.from_bytes(new, "little") & mask_of(address)
        assert await host.read(address) == words[address], hex(address)
    for register in SETTINGS:
        assert int(getattr(dut, f"registers_{register.name.lower()}").value) == words[register]
    assert host.starts == host.aborts == 0


@cocotb.test()
async def registers_of_a_run(dut):
    """Start, interrupt, fault, abort; what a busy machine ignores."""
    _, host = await hosted(dut, "run")
    status, control = Register.STATUS, Register.CONTROL
    assert await host.read(status) == 0
    await host.write(control, CONTROL_ABORT)
    assert (host.starts, host.aborts) == (0, 0), "an abort of nothing"
    await host.write(control + 1, 1, 1)
    assert host.starts == 0, "a byte that is not strobed"
    await host.write(Register.COMMAND_COUNT, 5)
    await host.write(control, CONTROL_START)
    assert (host.starts, host.aborts) == (1, 0)
    assert await host.read(status) == STATUS_BUSY
    await host.write(control, CONTROL_START)
    await host.write(Register.COMMAND_COUNT, 6)
    await host.write(Register.WATCHDOG, 6)
    assert host.starts == 1
    assert await host.read(Register.COMMAND_COUNT) == 5
    assert await host.read(Register.WATCHDOG) == WATCHDOG_RESET
    assert int(dut.registers_irq.value) == 0
    await host.finish()
    assert int(dut.registers_irq.value) == 1
    assert await host.read(status) == STATUS_DONE
    assert await host.read(Register.INTERRUPT) == 1
    await host.write(Register.INTERRUPT, 0)
    assert int(dut.registers_irq.value) == 1
    await host.write(Register.INTERRUPT, 1)
    assert int(dut.registers_irq.value) == 0
    assert await host.read(status) == STATUS_DONE

    await host.write(control, CONTROL_START)
    assert await host.read(status) == STATUS_BUSY
    for cause, command, address in ((Cause.READ_REGION, 0x89ABCDEF, 0x9A_1234_5670), (Cause.ABORTED, 1, 2)):
        dut.registers_fault_payload.value = cause | command << 8 | address << 40
        await host.pulse(dut.registers_fault_valid)
    assert await host.read(status) == STATUS_BUSY | STATUS_FAULT
    assert await host.read(Register.FAULT_CAUSE) == Cause.READ_REGION
    assert await host.read(Register.FAULT_COMMAND) == 0x89ABCDEF
    assert await host.read(Register.FAULT_ADDRESS) == 0x1234_5670
    assert await host.read(Register.FAULT_ADDRESS_HIGH) == 0x9A
    await host.write(control, CONTROL_ABORT)
    assert (host.starts, host.aborts) == (2, 1)
    await host.finish()
    assert int(dut.registers_irq.value) == 1
    assert await host.read(status) == STATUS_FAULT
    await host.write(control, CONTROL_START)
    assert int(dut.registers_irq.value) == 0
    assert await host.read(status) == STATUS_BUSY
    assert await host.read(Register.FAULT_CAUSE) == 0
    # A fault in the very cycle of the end.
    dut.registers_fault_payload.value = Cause.WATCHDOG
    dut.registers_fault_valid.value = 1
    await host.finish()
    dut.registers_fault_valid.value = 0
    assert await host.read(status) == STATUS_FAULT
    assert await host.read(Register.FAULT_CAUSE) == Cause.WATCHDOG


class Channels:
    """The register bus, channel by channel."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    def pin(self, name: str) -> Any:
        return getattr(self._dut, f"registers_bus_{name}")

    def is_set(self, name: str) -> bool:
        return bool(int(self.pin(name).value))

    async def send(self, channel: str) -> None:
        self.pin(f"{channel}valid").value = 1
        await RisingEdge(self._dut.clk)
        while not self.is_set(f"{channel}ready"):
            await RisingEdge(self._dut.clk)
        self.pin(f"{channel}valid").value = 0

    async def send_both(self) -> None:
        """Address and data of a write in one cycle."""
        self.pin("awvalid").value = self.pin("wvalid").value = 1
        await RisingEdge(self._dut.clk)
        assert self.is_set("awready")
        assert self.is_set("wready")
        self.pin("awvalid").value = self.pin("wvalid").value = 0

    async def nothing(self, cycles: int) -> None:
        for _ in range(cycles):
            await RisingEdge(self._dut.clk)
            assert not self.is_set("bvalid"), "answered before all was there"

    async def answered(self, channel: str, waits: int) -> int:
        """The cycles until an answer is valid; it stays so for `waits` more until it is taken."""
        cycles = 0
        valid = False
        while not valid:
            await RisingEdge(self._dut.clk)
            cycles += 1
            valid = self.is_set(f"{channel}valid")
            assert cycles < 20, "no answer"
        first = int(self.pin("rdata").value)
        for _ in range(waits):
            await RisingEdge(self._dut.clk)
            assert self.is_set(f"{channel}valid")
            assert int(self.pin("rdata").value) == first
        self.pin(f"{channel}ready").value = 1
        await RisingEdge(self._dut.clk)
        self.pin(f"{channel}ready").value = 0
        await RisingEdge(self._dut.clk)
        assert not self.is_set(f"{channel}valid")
        return cycles


@cocotb.test()
async def registers_in_any_order(dut):
    """Address before data, data before address, both; answers wait for the host and stay as they are."""
    await begin(dut, "order")
    bus = Channels(dut)
    bus.pin("awaddr").value = Register.COMMAND_COUNT
    bus.pin("araddr").value = Register.COMMAND_COUNT
    bus.pin("wstrb").value = 15
    for value, order, gap, waits in (
        (1, ("aw", "w"), 0, 0),
        (2, ("w", "aw"), 0, 3),
        (3, ("aw", "w"), 5, 2),
        (4, ("w", "aw"), 5, 0),
        (5, (), 0, 1),
    ):
        bus.pin("wdata").value = value
        if order:
            await bus.send(order[0])
            await bus.nothing(gap)
            await bus.send(order[1])
        else:
            await bus.send_both()
        assert await bus.answered("b", waits) == 2
        assert int(dut.registers_command_count.value) == value
        await bus.send("ar")
        assert await bus.answered("r", waits) == 3
        assert int(bus.pin("rdata").value) == value
