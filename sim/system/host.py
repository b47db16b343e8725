"""The host of the machine in the bench: memory with somebody else's AXI4 slave, registers through AXI4-Lite."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import First, RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam
from cocotbext.axi.sparse_memory import SparseMemory

from intaglio.sim.system.programs import CONFIG, Job
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    BUS_PROTECTION_BITS,
    BUS_RESET,
    CONTROL_START,
    REGISTERS,
    SETTINGS,
    STATUS_DONE,
    STATUS_FAULT,
    Cause,
    Register,
)

__all__ = ["PLACES", "RESET", "RULES", "Fault", "Host"]

PERIOD_NS = 10
PATIENCE_CYCLES = 30000
SPACE = 1 << CONFIG.address_bits
RULES = {
    1: "something is valid in a reset, or right after it",
    2: "AR fell or changed before it was taken",
    3: "AW fell or changed before it was taken",
    4: "W fell or changed before it was taken",
    5: "AR is no aligned burst of whole beats",
    6: "AW is no aligned burst of whole beats",
    7: "a read burst crosses 4 KiB",
    8: "a write burst crosses 4 KiB",
    9: "a read burst is longer than stated",
    10: "a write burst is longer than stated",
    11: "a read outside the regions that may be read",
    12: "a write outside the regions that may be written",
    13: "more bursts in flight than stated",
    14: "WLAST is not on a burst's last beat",
    15: "the interrupt came with a burst open",
    16: "data without an address",
    17: "AxPROT or AxCACHE is not what the host set",
}
PLACES = tuple(register for register in SETTINGS if register is not Register.WATCHDOG)
"""Registers that say where a program and its regions lie, and what the bus is told of them."""
RESET = {entry.register: entry.reset for entry in REGISTERS}
"""The value of each register after a reset."""


@dataclass(frozen=True)
class Fault:
    """What the fault registers say."""

    cause: Cause
    command: int = 0
    address: int = 0


class Host:
    """Drives the machine and its memory.

    `response`, if set, is asked for the response of each read beat and each write burst: it gets the channel, "r" or
    "b", and how many responses that channel gave before.
    """

    def __init__(self, dut: Any, name: str) -> None:
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        self.dut = dut
        self.random = random.Random(f"{cocotb.RANDOM_SEED} {name}")
        dut._log.warning("%s: seed %s", name, cocotb.RANDOM_SEED)
        self.ram = AxiRam(
            AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=SPACE, mem=SparseMemory(SPACE)
        )
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        reads, writes = self.ram.read_if, self.ram.write_if
        self.channels = {
            "ar": reads.ar_channel,
            "r": reads.r_channel,
            "aw": writes.aw_channel,
            "w": writes.w_channel,
            "b": writes.b_channel,
        }
        self.lite_channels = (
            self.lite.write_if.aw_channel,
            self.lite.write_if.w_channel,
            self.lite.write_if.b_channel,
            self.lite.read_if.ar_channel,
            self.lite.read_if.r_channel,
        )
        self.settled: int | None = None
        """Interrupts up to the end of the last run, if it came to one."""
        self.response: Callable[[str, int], int] | None = None
        self.given = {"r": 0, "b": 0}
        for channel in ("r", "b"):
            self._spoil(channel)
        self.burst = {"r": 0, "b": 0}
        """Address of the burst that memory serves."""
        self.on_burst: Callable[[int], None] | None = None
        """Told of each read burst that memory begins to serve."""
        self._note("r", "ar")
        self._note("b", "aw")

    def _spoil(self, name: str) -> None:
        channel = self.channels[name]
        send = channel.send

        async def spoiled(transaction: Any) -> None:
            if self.response is not None:
                response = self.response(name, self.given[name])
                setattr(transaction, f"{name}resp", response)
            self.given[name] += 1
            await send(transaction)

        channel.send = spoiled

    def _note(self, name: str, address: str) -> None:
        channel = self.channels[address]
        receive = channel.recv

        async def noted() -> Any:
            transaction = await receive()
            self.burst[name] = int(getattr(transaction, f"{address}addr"))
            if name == "r" and self.on_burst is not None:
                self.on_burst(self.burst[name])
            return transaction

        channel.recv = noted

    async def start(self) -> None:
        for name in ("bases", "limits", "readable", "writable", "attributes", "forgive", "unanswered"):
            getattr(self.dut, name).value = 0
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start()
        await self.reset()

    async def reset(self, cycles: int = 2) -> None:
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 1
        await self.cycles(cycles)
        self.dut.rst.value = 0
        await self.cycles(1)

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    # Back-pressure

    def pause(self, chance: float | dict[str, float], lite: float = 0.0) -> None:
        """Each channel of memory is paused in a cycle with a chance of its own; 0 lets it run."""
        for name, channel in self.channels.items():
            self._pause(channel, chance[name] if isinstance(chance, dict) else chance)
        for channel in self.lite_channels:
            self._pause(channel, lite)

    def _pause(self, channel: Any, chance: float) -> None:
        channel.set_pause_generator(self._pauses(chance) if 0 < chance < 1 else None)
        channel.pause = chance >= 1

    def _pauses(self, chance: float) -> Iterator[bool]:
        while True:
            yield self.random.random() < chance

    def pause_at_random(self) -> dict[str, float]:
        """Draws how each channel stalls."""
        chances = {name: self.random.choice((0.0, 0.2, 0.5, 0.85)) for name in self.channels}
        self.pause(chances, self.random.choice((0.0, 0.3)))
        return chances

    # Registers

    async def write(self, register: int, value: int) -> None:
        await self.lite.write_dword(register, value)

    async def read(self, register: int) -> int:
        return await self.lite.read_dword(register)

    async def fault(self) -> Fault:
        cause = Cause(await self.read(Register.FAULT_CAUSE))
        high = await self.read(Register.FAULT_ADDRESS_HIGH)
        address = high << 32 | await self.read(Register.FAULT_ADDRESS)
        return Fault(cause, await self.read(Register.FAULT_COMMAND), address)

    # Runs

    def place(self, job: Job) -> None:
        """Memory as it is before a start."""
        self.ram.write(job.base, job.memory)
        self.ram.write(job.command_address, job.commands)

    async def configure(self, job: Job) -> None:
        attributes = self.random.getrandbits(8) & ~(1 << BUS_PROTECTION_BITS)
        for register, value in (job.settings() | {Register.BUS_ATTRIBUTES: attributes}).items():
            await self.write(register, value)
        self.grant(job)
        self.dut.attributes.value = attributes

    def grant(self, job: Job) -> None:
        """Tells the judge of the regions, and what it is to see beside addresses."""
        bits = CONFIG.address_bits
        grants = job.grants.items()
        self.dut.bases.value = sum(base << bits * region for region, (base, _) in grants)
        self.dut.limits.value = sum(limit << 32 * region for region, (_, limit) in grants)
        self.dut.readable.value = sum(1 << region for region in Region if region.readable)
        self.dut.writable.value = sum(1 << region for region in Region if region.writable)
        self.dut.attributes.value = BUS_RESET

    async def launch(self, job: Job) -> None:
        self.place(job)
        await self.configure(job)
        self.before = {name: int(getattr(self.dut, name).value) for name in ("r_beats", "w_beats")}
        await self.go()

    async def go(self) -> None:
        rises = int(self.dut.irq_rises.value)
        assert self.settled in (None, rises), "an interrupt that nobody started"
        self.rises, self.settled = rises, None
        await self.write(Register.CONTROL, CONTROL_START)
        await self.cycles(1)
        self.start_cycle = int(self.dut.written_cycle.value)

    async def interrupt(self, limit: int = PATIENCE_CYCLES) -> None:
        """Waits for it; the bus is at rest then."""
        if not int(self.dut.irq.value):
            await First(RisingEdge(self.dut.irq), Timer(limit * PERIOD_NS, "ns"))
        await self.cycles(2)
        assert int(self.dut.irq.value), f"no interrupt in {limit} cycles"
        self.settled = int(self.dut.irq_rises.value)
        assert self.settled == self.rises + 1, "more than one interrupt"
        self.judge()

    def judge(self) -> None:
        broken = int(self.dut.broken.value)
        assert not broken, f"the bus's rules are broken: {RULES.get(broken, broken)}"

    async def finish(self, job: Job) -> None:
        """Waits for a run's end and checks that it was right."""
        await self.interrupt()
        status = await self.read(Register.STATUS)
        assert status == STATUS_DONE, f"status {status}, {await self.fault()}"
        assert await self.fault() == Fault(Cause.NONE)
        self.check_memory(job)

    def check_memory(self, job: Job, whole: bool = True) -> None:
        """All of memory around the program; where a run was cut off, an output byte may be the old one."""
        memory = np.frombuffer(self.ram.read(job.base, len(job.memory)), np.uint8)
        old = np.frombuffer(job.memory, np.uint8).copy()
        start = job.command_address - job.base
        old[start : start + len(job.commands)] = np.frombuffer(job.commands, np.uint8)
        new = np.frombuffer(job.expected, np.uint8)
        output = np.zeros(len(memory), bool)
        output[job.written] = True
        right = (memory ^ new) & np.frombuffer(job.known, np.uint8) == 0
        right = np.where(output, right if whole else right | (memory == old), memory == old)
        if not right.all():
            place = int(right.argmin())
            raise AssertionError(
                f"{job.base + place:#x} holds {memory[place]:#04x}, not {new[place]:#04x}; "
                f"{old[place]:#04x} before"
            )

    async def run(self, job: Job) -> None:
        await self.launch(job)
        await self.finish(job)

    async def stopped(self, fault: Fault, job: Job, limit: int = PATIENCE_CYCLES) -> None:
        """Waits until the machine has stopped itself for this reason."""
        await self.interrupt(limit)
        status = await self.read(Register.STATUS)
        assert status == STATUS_FAULT, f"status {status}"
        found = await self.fault()
        assert found == fault, f"{found}, not {fault}"
        self.check_memory(job, whole=False)

    async def acknowledge(self) -> None:
        await self.write(Register.INTERRUPT, 1)
        await self.cycles(1)
        assert not int(self.dut.irq.value)
