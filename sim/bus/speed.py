"""Tests of both masters: how fast they are, how fair, and how much they have in flight."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from intaglio.sim.bus.clients import ReadTransfer, WriteTransfer
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import begin, finished, grant, read_parts, write_parts
from intaglio.sim.bus.top import READERS, WRITERS


@cocotb.test()
async def read_keeps_the_bus_full(dut):
    """A beat a cycle at 32 cycles of latency, for one client and for several; short transfers, too."""
    stand = await begin(dut, "speed")
    grant(dut, "reader")
    for loads, cycles in (
        (([], [(1024, 1)], []), 1024 + 40),
        (([], [], [(2048, 1)]), 2048 + 40),
        (([], [(512, 1)], [(512, 1)]), 1024 + 40),
        (([(1, 1)], [(1, 1)], []), 42),
        # Eight short bursts are in flight at a time.
        (([], [(2, 64)], []), 64 // 8 * 34 + 44),
    ):
        stand.agents.clear()
        memory = Memory()
        stand.add(ReadSlave(stand, "reader", memory, Habits(latency=32)))
        watch, clients = read_parts(stand, "reader", memory, Habits())
        for client, parts in zip(clients, loads, strict=True):
            # Room for what is in flight.
            client.capacity = 8 * client.capacity
            client._pin("space").value = client.capacity
            for beats, count in parts:
                client.pending.extend(ReadTransfer(0x10000 + 8192 * index, beats) for index in range(count))
        took = await stand.until(finished(*clients))
        assert took <= cycles, f"{took} cycles for {watch.beats} beats, not {cycles}"
        await stand.tick(30)


@cocotb.test()
async def short_bursts_follow_at_once(dut):
    """A transfer in three cycles of one client, two clients' in no more time, where memory answers at once."""
    stand = await begin(dut, "short")
    grant(dut, "reader")
    grant(dut, "writer")
    memory = Memory()
    stand.add(ReadSlave(stand, "reader", memory, Habits(latency=1)))
    _, clients = read_parts(stand, "reader", memory, Habits())
    for busy in (clients[1:2], clients[:2]):
        for client in busy:
            client.capacity = 1000
            client.pending.extend(ReadTransfer(8 * index, 1) for index in range(200))
        took = await stand.until(finished(*clients))
        assert took <= 600 + 14, took
    stand.agents.clear()
    stand.add(WriteSlave(stand, "writer", memory, Habits(latency=1)))
    _, writer = write_parts(stand, "writer", memory, Habits())
    writer.pending.extend(WriteTransfer(8 * index, 8) for index in range(200))
    took = await stand.until(finished(writer))
    assert took <= 600 + 16, took


@cocotb.test()
async def write_keeps_the_bus_full(dut):
    stand = await begin(dut, "write speed")
    for part, beats in (("writer", 1024), ("lone_writer", 1024)):
        grant(dut, part)
        stand.agents.clear()
        memory = Memory()
        stand.add(WriteSlave(stand, part, memory, Habits(latency=32)))
        _, client = write_parts(stand, part, memory, Habits())
        client.pending.append(WriteTransfer(0x10000, 8 * beats))
        took = await stand.until(finished(client))
        assert took <= beats + 45, f"{part}: {took} cycles for {beats} beats"


@cocotb.test()
async def stated_latencies(dut):
    """From a transfer taken to its address on the bus 5 cycles where it is read, 4 where it is written; from data to
    data 1, though nobody takes them."""
    await begin(dut, "latency")

    async def counts(valid: Any, ready: Any, answer: Any, cycles: int) -> None:
        """The answer comes `cycles` after valid meets ready."""
        valid.value = 1
        await RisingEdge(dut.clk)
        assert int(ready.value)
        valid.value = 0
        for late in range(1, cycles + 1):
            await RisingEdge(dut.clk)
            assert int(answer.value) == (late == cycles)

    grant(dut, "reader")
    dut.reader_clients_1_space.value = 16
    dut.reader_clients_1_transfer_payload.value = ReadTransfer(0x40, 8).word
    ready = dut.reader_clients_1_transfer_ready
    await counts(dut.reader_clients_1_transfer_valid, ready, dut.reader_bus_arvalid, 5)
    dut.reader_bus_arready.value = 1
    await RisingEdge(dut.clk)
    await counts(dut.reader_bus_rvalid, dut.reader_bus_rready, dut.reader_clients_1_data_valid, 1)

    grant(dut, "writer")
    dut.writer_transfer_payload.value = WriteTransfer(0x40, 64).word
    await counts(dut.writer_transfer_valid, dut.writer_transfer_ready, dut.writer_bus_awvalid, 4)
    await RisingEdge(dut.clk)
    await counts(dut.writer_data_valid, dut.writer_data_ready, dut.writer_bus_wvalid, 1)


@cocotb.test()
async def a_full_client_blocks_nobody(dut):
    """Nothing is issued for a client without room; others are served."""
    stand = await begin(dut, "full")
    grant(dut, "reader")
    memory = Memory()
    stand.add(ReadSlave(stand, "reader", memory, Habits(latency=32)))
    watch, clients = read_parts(stand, "reader", memory, Habits())
    clients[1].consumes = False
    clients[1].pending.append(ReadTransfer(0x8000, 200))
    clients[2].pending.append(ReadTransfer(0x20000, 3000))
    clients[0].pending.append(ReadTransfer(0x40000, 300))
    await stand.until(finished(clients[0], clients[2]))
    await stand.tick(100)
    assert clients[1].received == clients[1].capacity
    assert int(dut.reader_idle.value)
    clients[1].consumes = True
    await stand.until(finished(clients[1]))
    assert watch.beats == 3500


@cocotb.test()
async def the_first_client_goes_first(dut):
    """Of the clients that have bursts to be issued, as soon as not all that memory takes are in flight at once."""
    stand = await begin(dut, "order")
    grant(dut, "reader")
    memory = Memory()
    stand.add(ReadSlave(stand, "reader", memory, Habits(latency=4)))
    watch, clients = read_parts(stand, "reader", memory, Habits())
    for index, client in enumerate(clients):
        client.capacity = 4096
        client.pending.append(ReadTransfer(index << 16, 1024))
    await stand.until(finished(*clients))
    order = [address >> 16 for address, _ in watch.bursts]
    _, flying = READERS["reader"]
    assert order[0] == 0
    behind = order[flying:]
    assert behind == sorted(behind)
    assert set(behind) == {0, 1, 2}


@cocotb.test()
async def bursts_in_flight(dut):
    """As many as stated while memory does not answer, and no more."""
    stand = await begin(dut, "flight")
    for part, (_, flying) in READERS.items():
        stand.agents.clear()
        grant(dut, part)
        memory = Memory()
        stand.add(ReadSlave(stand, part, memory, Habits(data=0.0)))
        watch, clients = read_parts(stand, part, memory, Habits())
        clients[0].capacity = 4096
        clients[0].pending.append(ReadTransfer(0, 1000))
        await stand.tick(100)
        assert len(watch.bursts) == watch.most_in_flight == flying
        assert not int(getattr(dut, f"{part}_idle").value)
    for part, (_, flying) in WRITERS.items():
        stand.agents.clear()
        grant(dut, part)
        memory = Memory()
        stand.add(WriteSlave(stand, part, memory, Habits(answer=0.0)))
        watch, client = write_parts(stand, part, memory, Habits())
        client.pending.append(WriteTransfer(4096 - 8, 40000))
        await stand.tick(700)
        assert len(watch.bursts) == watch.most_in_flight == flying
        assert client.done == 0
        assert not int(getattr(dut, f"{part}_idle").value)
