"""Tests of both masters: what lies outside a granted region, and what memory refuses."""

from collections.abc import Iterator
from typing import Any

import cocotb
from amaranth.utils import exact_log2
from cocotbext.axi import AxiResp

from intaglio.sim.bus.clients import ReadTransfer, WriteTransfer, read_fault
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import WHOLE, begin, finished, grant, read_parts, write_parts
from intaglio.sim.bus.top import ADDRESS_BITS, BEAT_BYTES, REGIONS
from intaglio.sim.bus.watch import Watch
from intaglio.spec.limits import MEMORY_OFFSET_BITS
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import Cause

BASE = 0xEF_FFFF_F000


def attempts(part: str, beat: int) -> Iterator[tuple[int, int, int, int, bool]]:
    """Limits, and transfers on either side of each of their bits: number of the region, limit, offset, bytes of whole
    beats, whether all of it is inside."""
    for region in range(1 << REGION_BITS):
        if region not in REGIONS[part]:
            yield region, WHOLE, 0, beat, False
            continue
        for bit in range(exact_log2(beat), MEMORY_OFFSET_BITS):
            limit = 1 << bit
            yield region, limit, limit - beat, beat, True
            yield region, limit, limit, beat, False
            yield region, limit, limit - beat, 2 * beat, False
        for size in (beat, 4096, 1 << 14):
            yield region, size, 0, size + beat, False
        yield region, 0, 0, beat, False
        yield region, WHOLE, WHOLE - beat, beat, True
        yield region, WHOLE, WHOLE, beat, False
        yield region, 0x2000, 0x1000, 0x1000, True
        yield region, 0x1FF8 & -beat, 0x1000, 0x1000, False


@cocotb.test()
@cocotb.parametrize(part=list(REGIONS))
async def regions(dut, part):
    """All of a transfer lies inside its region, or nothing of it is issued and the fault says so: for every client,
    every region, every bit of the comparison. What is inside is all that lies on one side or the other of its base, in
    spite of regions that touch it."""
    stand = await begin(dut, "regions")
    memory, beat = Memory(), BEAT_BYTES[part]
    reads = "reader" in part
    watch: Watch
    clients: list[Any]
    if reads:
        stand.add(ReadSlave(stand, part, memory, Habits()))
        watch, clients = read_parts(stand, part, memory, Habits())
    else:
        stand.add(WriteSlave(stand, part, memory, Habits()))
        watch, writer = write_parts(stand, part, memory, Habits())
        clients = [writer]
    cause = Cause.READ_REGION if reads else Cause.WRITE_REGION
    top = (1 << ADDRESS_BITS[part]) - 1
    number = 0
    for client in clients:
        ask: Any = client.pending.append
        for region, limit, offset, size, inside in attempts(part, beat):
            base = (BASE + 0x1010 * region) & top
            # Others begin where this one ends, and all of them is granted.
            grant(dut, part, dict.fromkeys(Region, base + limit & top))
            if region in REGIONS[part]:
                getattr(dut, f"{part}_{Region(region).name.lower()}_base").value = base
                getattr(dut, f"{part}_{Region(region).name.lower()}_limit").value = limit
            number += 1
            within = number % beat
            if reads:
                ask(ReadTransfer(offset + within, size // beat, number, region))
            else:
                # The last byte alone puts the whole last beat outside.
                cut = (number % 3) % (beat - within)
                ask(WriteTransfer(offset + within, size - within - cut, number, region))
            before = len(watch.bursts)
            if inside:
                await stand.until(finished(client))
                assert watch.bursts[before][0] == (base + offset) & top, "issued elsewhere"
                continue
            faults = []
            for _ in range(7):
                await stand.tick()
                if fault := read_fault(dut, part):
                    faults.append(fault)
            address = (base + offset) & top if region in REGIONS[part] else 0
            assert faults == [(cause, number, address)], (region, limit, offset, size)
            assert len(watch.bursts) == before, "issued outside the region"
            # The master goes on with the next transfer; the client waits no longer for this.
            client.restart()
    assert watch.beats > 500


@cocotb.test()
async def read_errors(dut):
    """The fault names the command of the burst and the burst's address; EXOKAY is an error."""
    stand = await begin(dut, "errors")
    memory = Memory()
    for number, response in enumerate((AxiResp.EXOKAY, AxiResp.SLVERR, AxiResp.DECERR)):
        await stand.reset()
        grant(dut, "reader")
        stand.agents.clear()
        stand.add(ReadSlave(stand, "reader", memory, Habits(latency=20)))
        _, clients = read_parts(stand, "reader", memory, Habits())
        memory.refused = {0x2000 + 8 * (16 + 3 * number): int(response)}
        clients[1].pending.extend([ReadTransfer(0x1000, 20, 5), ReadTransfer(0x2004, 40, 6 + number)])
        clients[2].pending.append(ReadTransfer(0x8000, 60, 99))
        faults = set()
        while not all(client.finished for client in clients):
            await stand.tick()
            faults.add(read_fault(dut, "reader"))
        assert faults - {None} == {(Cause.READ_ERROR, 6 + number, 0x2080)}


@cocotb.test()
async def write_errors(dut):
    stand = await begin(dut, "write errors")
    memory = Memory()
    for number, response in enumerate((AxiResp.EXOKAY, AxiResp.SLVERR, AxiResp.DECERR)):
        await stand.reset()
        grant(dut, "writer")
        stand.agents.clear()
        stand.add(WriteSlave(stand, "writer", memory, Habits(latency=20)))
        _, client = write_parts(stand, "writer", memory, Habits())
        memory.refused = {0x2100: int(response)}
        client.pending.extend([WriteTransfer(0x1003, 50, 5), WriteTransfer(0x2000, 264, 6 + number)])
        faults = []
        for _ in range(200):
            await stand.tick()
            if fault := read_fault(dut, "writer"):
                faults.append(fault)
        assert faults == [(Cause.WRITE_ERROR, 6 + number, 0x2100)]
        assert client.done == 1, "done must not be said of a transfer that failed"
