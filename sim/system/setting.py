"""What the tests of the machine share."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from intaglio.sim.system.host import Host
from intaglio.sim.system.programs import CONFIG, job, network
from intaglio.spec.commands import FORMATS, Engine
from intaglio.spec.registers import Register

SMALL = job(network(1, small=True), 1)
LARGE = job(network(2), 2)
OPCODES = [
    opcode for opcode, entry in FORMATS.items() if entry.engine is not Engine.ELEMENTWISE or CONFIG.affine
]
"""What the machine has."""
ENGINES = {FORMATS[opcode].engine for opcode in OPCODES}
PATTERN = bytes(random.Random(0).randbytes(256))
NEVER = 30
"""Commands of any engine that none of these lists has: whoever waits for them waits for ever."""


async def begin(dut: Any, name: str) -> Host:
    host = Host(dut, name)
    await host.start()
    return host


async def check_counters(host: Host) -> None:
    dut = host.dut
    await host.cycles(1)
    assert await host.read(Register.CYCLES) == int(dut.irq_cycle.value) - host.start_cycle
    assert await host.read(Register.READ_BEATS) == int(dut.r_beats.value) - host.before["r_beats"]
    assert await host.read(Register.WRITE_BEATS) == int(dut.w_beats.value) - host.before["w_beats"]


async def until(host: Host, condition: Any, limit: int = 5000) -> None:
    for _ in range(limit):
        if condition():
            return
        await RisingEdge(host.dut.clk)
    raise AssertionError(f"still not so after {limit} cycles")
