"""A machine and a memory on a cocotb bench, to copy: reads who the machine is, lets it copy bytes from its region
INPUT to its region OUTPUT by a program of LOADs and STOREs, and checks memory and counters.

The design's top is a machine that `intaglio generate` wrote, or has its ports. Where the environment variable
FINGERPRINT is set, it is compared; a machine's is in the head of its Verilog. Verilator wants `-Wno-WIDTHEXPAND
-Wno-WIDTHTRUNC`.
"""

import os
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from intaglio.spec.commands import Opcode, encode
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    CONTROL_START,
    ID_VALUE,
    INTERRUPT_PENDING,
    REGION_REGISTERS,
    STATUS_DONE,
    VERSION_VALUE,
    Cause,
    Register,
)

BYTES = 4000
"""Copied: several bursts, on both sides of a multiple of 4 KiB. A multiple of a beat."""
PLACES = {Region.PROGRAM: 0x1000, Region.INPUT: 0x2F80, Region.OUTPUT: 0x5F40}
"""Where the regions lie in memory."""
MEMORY_BYTES = 1 << 16
ROW_BYTES = 400
"""The scratchpad of the smallest machine holds that."""


def program() -> bytes:
    """Each row of INPUT is loaded into the chip and stored from there."""
    commands = []
    for row in range(BYTES // ROW_BYTES):
        both = {"memory_offset": row * ROW_BYTES, "row_bytes": ROW_BYTES, "rows": 1}
        # A row is stored when it is there, and the next is loaded when it has been stored.
        commands.append(encode(Opcode.LOAD, {**both, "region": Region.INPUT, "wait_store": row}))
        commands.append(encode(Opcode.STORE, {**both, "region": Region.OUTPUT, "wait_load": row + 1}))
    return b"".join(commands)


@cocotb.test()
async def copies_memory(dut: Any) -> None:
    memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES)
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 1)

    assert await host.read_dword(Register.ID) == ID_VALUE
    assert await host.read_dword(Register.VERSION) == VERSION_VALUE
    if "FINGERPRINT" in os.environ:
        assert await host.read_dword(Register.FINGERPRINT) == int(os.environ["FINGERPRINT"], 0)

    commands = program()
    before = bytearray(random.Random(1).randbytes(MEMORY_BYTES))
    start = PLACES[Region.PROGRAM]
    before[start : start + len(commands)] = commands
    memory.write(0, bytes(before))
    sizes = {Region.PROGRAM: len(commands), Region.INPUT: BYTES, Region.OUTPUT: BYTES}
    for region, place in PLACES.items():
        await host.write_dword(REGION_REGISTERS[region].base, place)
        await host.write_dword(REGION_REGISTERS[region].limit, sizes[region])
    await host.write_dword(Register.COMMAND_COUNT, 2 * BYTES // ROW_BYTES)
    await host.write_dword(Register.CONTROL, CONTROL_START)
    if not dut.irq.value:
        await with_timeout(RisingEdge(dut.irq), 1, "ms")

    assert await host.read_dword(Register.FAULT_CAUSE) == Cause.NONE
    assert await host.read_dword(Register.STATUS) == STATUS_DONE
    assert await host.read_dword(Register.WRITE_BEATS) >= BYTES // (len(dut.m_axi_wdata) // 8)
    await host.write_dword(Register.INTERRUPT, INTERRUPT_PENDING)
    assert await host.read_dword(Register.INTERRUPT) == 0

    source, goal = PLACES[Region.INPUT], PLACES[Region.OUTPUT]
    expected = before[:goal] + before[source : source + BYTES] + before[goal + BYTES :]
    assert memory.read(0, MEMORY_BYTES) == bytes(expected), "not what the program says, or beside it"
