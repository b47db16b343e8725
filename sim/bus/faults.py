"""Tests of both masters: what lies outside the granted region, and what memory refuses."""

from typing import Any

import cocotb
from cocotbext.axi import AxiResp

from intaglio.sim.bus.clients import ReadTransfer, WriteTransfer, read_fault
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import TOP_OF_MEMORY, begin, finished, grant, read_parts, write_parts
from intaglio.sim.bus.watch import Watch
from intaglio.spec.registers import Cause

REGIONS = [
    # base, limit, first byte, bytes of whole beats, inside
    (0x1000, 0x2000, 0x1000, 0x1000, True),
    (0x1000, 0x2000, 0x1000, 0x1008, False),
    (0x1000, 0x2000, 0x0FF8, 0x0008, False),
    (0x1000, 0x2000, 0x0FF8, 0x0010, False),
    (0x1000, 0x2000, 0x1FF8, 0x0008, True),
    (0x1000, 0x2000, 0x1FF8, 0x0010, False),
    (0x1000, 0x2000, 0x2000, 0x0008, False),
    (0x1001, 0x2000, 0x1000, 0x0008, False),
    (0x1001, 0x2000, 0x1008, 0x0008, True),
    (0x1007, 0x1017, 0x1008, 0x0008, True),
    (0x1007, 0x1017, 0x1008, 0x0010, False),
    (0x1007, 0x1018, 0x1008, 0x0010, True),
    (0, 0, 0, 0x0008, False),
    (0x2000, 0x1000, 0x1800, 0x0008, False),
    (0x1000, 0x1000, 0x1000, 0x0008, False),
    (0, TOP_OF_MEMORY, 0xFFFF_FFF0, 0x0008, True),
    (0, TOP_OF_MEMORY, 0xFFFF_FFF8, 0x0008, False),
    (0, 0xFFFF_FFFF, 0xFFFF_FFF8, 0x0008, False),
    (0, 0xFFFF_FFFF, 0xFFFF_FFF8, 0x0010, False),
    (0, 0xFFFF_FFFF, 0xFFFF_0000, 0x7FF_0000, False),
    (0xFFFF_0000, 0xFFFF_FFFF, 0xFFFF_F000, 0x0FF8, True),
    (0x8000_0000, TOP_OF_MEMORY, 0x0000_0000, 0x0008, False),
]


@cocotb.test()
@cocotb.parametrize(part=["reader", "writer"])
async def regions(dut, part):
    """All of a transfer lies inside, or nothing of it is issued and the fault says so."""
    stand = await begin(dut, "regions")
    memory = Memory()
    reads = part == "reader"
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
    for number, (base, limit, address, size, inside) in enumerate(REGIONS):
        grant(dut, part, base, limit)
        client: Any = clients[number % len(clients)]
        offset = number % 8
        if reads:
            client.pending.append(ReadTransfer(address + offset, size // 8, number))
        elif size >= 1 << 24:
            continue
        else:
            # The last byte alone puts the whole last beat outside.
            client.pending.append(
                WriteTransfer(address + offset, size - offset - (number % 3) % (8 - offset), number)
            )
        before = len(watch.bursts)
        faults = []
        for _ in range(20 if not inside else 4):
            await stand.tick()
            faults.append(read_fault(dut, part))
        if inside:
            await stand.until(finished(client))
            assert len(watch.bursts) > before, "nothing was issued"
            assert not any(faults)
        else:
            assert [fault for fault in faults if fault] == [(cause, number, address)], number
            assert len(watch.bursts) == before, "issued outside the region"
            # The master goes on with the next transfer; the client waits no longer for this.
            client.restart()
    assert watch.beats > 500


@cocotb.test()
async def read_errors(dut):
    """The fault names the command of the burst and the burst's address; EXOKAY is an error, and an ID not sent, too."""
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
    memory.refused = {}
    dut.reader_bus_rid.value = 1
    clients[0].pending.append(ReadTransfer(0x1000, 1, 3))
    faults.clear()
    while not clients[0].finished:
        await stand.tick()
        faults.add(read_fault(dut, "reader"))
    dut.reader_bus_rid.value = 0
    assert faults - {None} == {(Cause.READ_ERROR, 3, 0x1000)}


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
