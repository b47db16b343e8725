"""Tests of both masters: every byte arrives, whatever stalls, and against slaves that others wrote."""

import logging

import cocotb
from cocotbext.axi import AxiReadBus, AxiResp, AxiSlaveRead, AxiSlaveWrite, AxiWriteBus

from intaglio.sim.bus.clients import ReadTransfer, WriteTransfer, read_fault
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import (
    begin,
    drawn_reads,
    drawn_writes,
    finished,
    grant,
    pauses,
    read_parts,
    stand_of,
    write_parts,
)
from intaglio.sim.bus.top import BEAT_BYTES, READERS, WRITERS
from intaglio.spec.registers import Cause


@cocotb.test()
@cocotb.parametrize(part=list(READERS))
async def read_at_random(dut, part):
    """Every client gets its data, whatever stalls."""
    stand = await begin(dut, part)
    grant(dut, part)
    for _ in range(6):
        stand.agents.clear()
        memory = Memory()
        stand.add(ReadSlave(stand, part, memory, Habits.drawn(stand.random)))
        watch, clients = read_parts(stand, part, memory, Habits.drawn(stand.random))
        for client in clients:
            client.pending.extend(drawn_reads(stand, 10, 10 * client.capacity))
        asked = sum(transfer.beats for client in clients for transfer in client.pending)
        # One after the other, each beat a burst: 32 cycles until it comes, and some more for chances of one in five.
        await stand.until(finished(*clients), 100 * asked)
        await stand.tick(3)
        assert watch.beats == sum(client.received for client in clients) == asked >= 30
        assert int(getattr(dut, f"{part}_idle").value)


@cocotb.test()
@cocotb.parametrize(part=list(WRITERS))
async def write_at_random(dut, part):
    """Every byte is written, and no other; each transfer is told done once, in order."""
    stand = await begin(dut, part)
    grant(dut, part)
    for order in ("any", "data first", "address first", "any"):
        stand.agents.clear()
        memory = Memory()
        stand.add(WriteSlave(stand, part, memory, Habits.drawn(stand.random), order))
        watch, client = write_parts(stand, part, memory, Habits.drawn(stand.random))
        client.pending.extend(drawn_writes(stand, 25))
        beats = sum(len(list(transfer.beats(0, BEAT_BYTES[part]))) for transfer in client.pending)
        await stand.until(finished(client), 60000)
        await stand.tick(3)
        assert client.done == 25
        assert watch.beats == beats
        assert memory.written == client.expected.written
        assert int(getattr(dut, f"{part}_idle").value)


@cocotb.test()
async def against_cocotbext(dut):
    """Both masters against somebody else's slaves, refused beats among the others."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    stand = stand_of(dut, "cocotbext")
    memory = Memory()
    reads = AxiSlaveRead(AxiReadBus.from_prefix(dut, "reader_bus"), dut.clk, dut.rst, target=memory)
    writes = AxiSlaveWrite(AxiWriteBus.from_prefix(dut, "writer_bus"), dut.clk, dut.rst, target=memory)
    for channel in (reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel):
        channel.set_pause_generator(pauses(stand))
    await stand.start()
    grant(dut, "reader")
    grant(dut, "writer")
    source = Memory()
    reads.target = source
    read_watch, clients = read_parts(stand, "reader", source, Habits(client=0.7))
    write_watch, writer = write_parts(stand, "writer", memory, Habits(client=0.7))
    for client in clients:
        client.pending.extend(drawn_reads(stand, 12, 100))
    writer.pending.extend(drawn_writes(stand, 40, 600))
    await stand.until(finished(writer, *clients), 60000)
    assert memory.written == writer.expected.written
    assert writer.done == 40
    assert read_watch.beats >= 36
    assert write_watch.beats >= 40

    source.refused[0x5008] = memory.refused[0x6010] = AxiResp.SLVERR
    clients[0].pending.append(ReadTransfer(0x5000, 2, 7))
    writer.pending.append(WriteTransfer(0x6000, 24, 9))
    # cocotbext-axi refuses a read with data of zero, of which the client knows nothing.
    clients[0]._memory = _Zeros(source)
    seen: dict[str, tuple[int, int, int]] = {}

    def both() -> bool:
        """Which of the two faults comes first is the slaves' affair, and the writer's lasts a cycle; the reader's lasts
        until its client has taken the beat."""
        for part in ("reader", "writer"):
            if fault := read_fault(dut, part):
                assert seen.setdefault(part, fault) == fault
        return len(seen) == 2

    await stand.until(both, 500)
    assert seen == {
        "reader": (Cause.READ_ERROR, 7, 0x5000),
        "writer": (Cause.WRITE_ERROR, 9, 0x6000),
    }


class _Zeros(Memory):
    """What a refused beat reads as."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def beat(self, address: int, size: int) -> int:
        return 0 if address in self._memory.refused else self._memory.beat(address, size)
