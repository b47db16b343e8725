"""Tests of both masters: flushed or reset at any cycle, they are as new."""

import cocotb

from intaglio.sim.bus.clients import ReadTransfer, WriteTransfer, read_fault
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import (
    begin,
    drawn_reads,
    drawn_writes,
    grant,
    read_parts,
    write_parts,
)
from intaglio.sim.bus.top import BEAT_BYTES, READERS, WRITERS
from intaglio.sim.bus.watch import Watch
from intaglio.sim.lockstep import Stand


async def fixed_reads(stand: Stand, part: str) -> list[tuple[int, int, int]]:
    """What a master does, cycle by cycle, with the same transfers and no stalls."""
    memory = Memory()
    stand.agents.clear()
    stand.add(ReadSlave(stand, part, memory, Habits(latency=5)))
    watch, clients = read_parts(stand, part, memory, Habits())
    for agent in stand.agents:
        agent.drive()
    for index, client in enumerate(clients):
        client.pending.extend(ReadTransfer(0xFC0 + (index << 16), beats) for beats in (3, 40, 1))
    trace: list[tuple[int, int, int]] = []
    start = stand.cycle
    while not all(client.finished for client in clients):
        before = len(watch.bursts)
        await stand.tick()
        trace.extend((stand.cycle - start, *burst) for burst in watch.bursts[before:])
        assert stand.cycle - start < 1000
    await stand.until(lambda: bool(int(getattr(stand.dut, f"{part}_idle").value)))
    return trace


@cocotb.test()
@cocotb.parametrize(part=list(READERS))
async def read_flush(dut, part):
    """At any cycle: the bus ends in order, and all is as after reset."""
    stand = await begin(dut, part)
    grant(dut, part)
    fresh = await fixed_reads(stand, part)
    assert len(fresh) >= 3 * len(READERS[part][0])
    discarded = 0
    for attempt in range(40):
        stand.agents.clear()
        memory = Memory()
        stand.add(ReadSlave(stand, part, memory, Habits.drawn(stand.random)))
        watch, clients = read_parts(stand, part, memory, Habits.drawn(stand.random))
        for client in clients:
            client.pending.extend(drawn_reads(stand, 8, 100))
        memory.refused = {client.pending[0].offset & -BEAT_BYTES[part]: 2 for client in clients}
        await stand.tick(stand.random.randrange(120))
        if attempt % 8 == 7:
            await stand.reset()
            grant(dut, part)
        else:
            discarded += watch.in_flight
            for client in clients:
                # One that takes nothing holds up no flush.
                client.takes = stand.random.random() < 0.5
            await flush(stand, part, watch)
        for client in clients:
            client.restart()
        assert await fixed_reads(stand, part) == fresh
    assert discarded > 20


async def flush(stand: Stand, part: str, watch: Watch) -> None:
    """Until idle, and a cycle more or a few."""
    pin = getattr(stand.dut, f"{part}_flush")
    idle = getattr(stand.dut, f"{part}_idle")
    pin.value = 1
    await stand.tick()
    bursts = len(watch.bursts) + watch.waits
    for _ in range(20000):
        await stand.tick()
        assert read_fault(stand.dut, part) is None
        if int(idle.value):
            break
    else:
        raise AssertionError("never idle")
    assert watch.in_flight == 0, "idle with bursts in flight"
    assert len(watch.bursts) == bursts, "bursts are issued during a flush"
    await stand.tick(stand.random.choice((0, 0, 1, 5)))
    pin.value = 0


async def fixed_writes(stand: Stand, part: str) -> list[tuple[int, int, int]]:
    memory = Memory()
    stand.agents.clear()
    stand.add(WriteSlave(stand, part, memory, Habits(latency=5)))
    watch, client = write_parts(stand, part, memory, Habits())
    for agent in stand.agents:
        agent.drive()
    client.pending.extend(WriteTransfer(0xFC3, size) for size in (3, 330, 1, 8))
    trace: list[tuple[int, int, int]] = []
    start = stand.cycle
    while not client.finished:
        before, done, beats = len(watch.bursts), client.done, watch.beats
        await stand.tick()
        trace.append((len(watch.bursts) - before, client.done - done, watch.beats - beats))
        assert stand.cycle - start < 1000
    assert memory.written == client.expected.written
    await stand.tick(2)
    return trace


@cocotb.test()
@cocotb.parametrize(part=list(WRITERS))
async def write_flush(dut, part):
    """Beats that were promised go out without strobes: no byte is written of which the client did not give the data."""
    stand = await begin(dut, part)
    grant(dut, part)
    fresh = await fixed_writes(stand, part)
    discarded = 0
    for attempt in range(40):
        stand.agents.clear()
        memory = Memory()
        order = stand.random.choice(("any", "data first", "address first"))
        stand.add(WriteSlave(stand, part, memory, Habits.drawn(stand.random), order))
        watch, client = write_parts(stand, part, memory, Habits.drawn(stand.random))
        client.pending.extend(drawn_writes(stand, 10, 300))
        memory.refused = {client.pending[1].offset & -BEAT_BYTES[part]: 2}
        await stand.tick(stand.random.randrange(120))
        client.gives = stand.random.random() < 0.5
        await stand.tick(stand.random.randrange(40))
        if attempt % 8 == 7:
            await stand.reset()
            grant(dut, part)
        else:
            discarded += watch.in_flight
            await flush(stand, part, watch)
            assert memory.written == client.expected.written
        client.restart()
        assert await fixed_writes(stand, part) == fresh
    assert discarded > 10
