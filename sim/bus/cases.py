"""cocotb's tests of the bus masters and of the registers; `intaglio.sim.bus.run` builds the design and counts them."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiReadBus,
    AxiResp,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
)

from intaglio.sim.bus.agents import (
    Habits,
    Memory,
    ReadClient,
    ReadSlave,
    ReadTransfer,
    Stand,
    Watch,
    WriteClient,
    WriteSlave,
    WriteTransfer,
    read_fault,
)
from intaglio.sim.bus.top import CONFIG, READERS, WRITERS
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    COUNTERS,
    REGISTERS,
    SETTINGS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    WATCHDOG_RESET,
    Cause,
    Register,
)

TOP_OF_MEMORY = 0xFFFF_FFF8
"""The highest limit: the last beat of the address space cannot be granted."""


def read_parts(stand: Stand, part: str, memory: Memory, habits: Habits) -> tuple[Watch, list[ReadClient]]:
    bursts, flying = READERS[part]
    watch = stand.add(Watch(stand.dut, part, max(bursts), flying))
    clients = [
        stand.add(ReadClient(stand, part, index, memory, 2 * longest, habits))
        for index, longest in enumerate(bursts)
    ]
    return watch, clients


def write_parts(stand: Stand, part: str, memory: Memory, habits: Habits) -> tuple[Watch, WriteClient]:
    watch = stand.add(Watch(stand.dut, part, *WRITERS[part]))
    return watch, stand.add(WriteClient(stand, part, memory, habits))


def grant(dut: Any, part: str, base: int = 0, limit: int = TOP_OF_MEMORY) -> None:
    getattr(dut, f"{part}_window_base").value = base
    getattr(dut, f"{part}_window_limit").value = limit


def finished(*clients: ReadClient | WriteClient) -> Callable[[], bool]:
    return lambda: all(client.finished for client in clients)


def drawn_reads(stand: Stand, count: int, longest: int = 700) -> list[ReadTransfer]:
    draw = stand.random
    transfers = []
    for _ in range(count):
        beats = draw.choice((1, 2, draw.randint(1, 40), draw.randint(1, longest)))
        page = draw.choice((0, 0x1000, draw.randrange(1 << 19) << 12))
        near = draw.choice((0, draw.randrange(4096), 4096 - draw.randrange(1, 200)))
        transfers.append(ReadTransfer(page + near, beats, draw.getrandbits(32)))
    return transfers


def drawn_writes(stand: Stand, count: int, longest: int = 3000) -> list[WriteTransfer]:
    draw = stand.random
    transfers = drawn_reads(stand, count)
    lengths = (1, draw.randint(1, 17), draw.randint(1, 200), draw.randint(1, longest))
    return [WriteTransfer(transfer.address, draw.choice(lengths), transfer.command) for transfer in transfers]


@cocotb.test()
@cocotb.parametrize(part=list(READERS))
async def read_at_random(dut, part):
    """Every client gets its data, whatever stalls."""
    stand = Stand(dut, part)
    await stand.start()
    grant(dut, part)
    for _ in range(6):
        stand.agents.clear()
        memory = Memory()
        stand.add(ReadSlave(stand, part, memory, Habits.drawn(stand.random)))
        watch, clients = read_parts(stand, part, memory, Habits.drawn(stand.random))
        for client in clients:
            client.pending.extend(drawn_reads(stand, 10, 10 * client.capacity))
        asked = sum(transfer.beats for client in clients for transfer in client.pending)
        await stand.until(finished(*clients), 60000)
        await stand.tick(3)
        assert watch.beats == sum(client.received for client in clients) == asked >= 30
        assert int(getattr(dut, f"{part}_idle").value)


@cocotb.test()
@cocotb.parametrize(part=list(WRITERS))
async def write_at_random(dut, part):
    """Every byte is written, and no other; each transfer is told done once, in order."""
    stand = Stand(dut, part)
    await stand.start()
    grant(dut, part)
    for order in ("any", "data first", "address first", "any"):
        stand.agents.clear()
        memory = Memory()
        stand.add(WriteSlave(stand, part, memory, Habits.drawn(stand.random), order))
        watch, client = write_parts(stand, part, memory, Habits.drawn(stand.random))
        client.pending.extend(drawn_writes(stand, 25))
        beats = sum(len(list(transfer.beats())) for transfer in client.pending)
        await stand.until(finished(client), 60000)
        await stand.tick(3)
        assert client.done == 25
        assert watch.beats == beats
        assert memory.written == client.expected.written
        assert int(getattr(dut, f"{part}_idle").value)


def pauses(stand: Stand):
    for share in itertools.cycle((0.0, 0.3, 0.8, 0.5)):
        for _ in range(50):
            yield stand.random.random() < share


@cocotb.test()
async def against_cocotbext(dut):
    """Both masters against somebody else's slaves, refused beats among the others."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    stand = Stand(dut, "cocotbext")
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
    seen = {}
    for part in ("reader", "writer"):

        def fault(part=part):
            seen[part] = read_fault(dut, part)
            return seen[part] is not None

        # cocotbext-axi refuses a read with data of zero, of which the client knows nothing.
        stand.agents = [agent for agent in stand.agents if agent is not read_watch or part == "reader"]
        clients[0]._memory = _Zeros(source)
        await stand.until(fault, 500)
    assert seen == {
        "reader": (Cause.READ_ERROR, 7, 0x5000),
        "writer": (Cause.WRITE_ERROR, 9, 0x6000),
    }


class _Zeros(Memory):
    """What a refused beat reads as."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def beat(self, address: int) -> int:
        return 0 if address in self._memory.refused else self._memory.beat(address)


@cocotb.test()
async def read_keeps_the_bus_full(dut):
    """A beat a cycle at 32 cycles of latency, for one client and for several; short transfers, too."""
    stand = Stand(dut, "speed")
    await stand.start()
    grant(dut, "reader")
    for loads, cycles in (
        (([], [(1024, 1)], []), 1024 + 40),
        (([], [], [(2048, 1)]), 2048 + 40),
        (([], [(512, 1)], [(512, 1)]), 1024 + 40),
        (([(1, 1)], [(1, 1)], []), 40),
        # Eight short bursts are in flight at a time.
        (([], [(2, 64)], []), 64 // 8 * 34 + 40),
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
    """A burst a cycle where memory answers at once."""
    stand = Stand(dut, "short")
    await stand.start()
    grant(dut, "reader")
    grant(dut, "writer")
    memory = Memory()
    stand.add(ReadSlave(stand, "reader", memory, Habits(latency=1)))
    _, clients = read_parts(stand, "reader", memory, Habits())
    clients[1].capacity = 1000
    clients[1].pending.extend(ReadTransfer(8 * index, 1) for index in range(200))
    took = await stand.until(finished(clients[1]))
    assert took <= 200 + 12, took
    stand.agents.clear()
    stand.add(WriteSlave(stand, "writer", memory, Habits(latency=1)))
    _, client = write_parts(stand, "writer", memory, Habits())
    client.pending.extend(WriteTransfer(8 * index, 8) for index in range(200))
    took = await stand.until(finished(client))
    assert took <= 200 + 16, took


@cocotb.test()
async def write_keeps_the_bus_full(dut):
    stand = Stand(dut, "write speed")
    await stand.start()
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
    """From a transfer taken to its address on the bus 3 cycles, from data to data 1, though nobody takes them."""
    stand = Stand(dut, "latency")
    await stand.start()

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
    await counts(dut.reader_clients_1_transfer_valid, ready, dut.reader_bus_arvalid, 3)
    dut.reader_bus_arready.value = 1
    await RisingEdge(dut.clk)
    await counts(dut.reader_bus_rvalid, dut.reader_bus_rready, dut.reader_clients_1_data_valid, 1)

    grant(dut, "writer")
    dut.writer_transfer_payload.value = WriteTransfer(0x40, 64).word
    await counts(dut.writer_transfer_valid, dut.writer_transfer_ready, dut.writer_bus_awvalid, 3)
    await RisingEdge(dut.clk)
    await counts(dut.writer_data_valid, dut.writer_data_ready, dut.writer_bus_wvalid, 1)


@cocotb.test()
async def a_full_client_blocks_nobody(dut):
    """Nothing is issued for a client without room; others are served."""
    stand = Stand(dut, "full")
    await stand.start()
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
async def clients_take_turns(dut):
    """Burst by burst."""
    stand = Stand(dut, "turns")
    await stand.start()
    grant(dut, "reader")
    memory = Memory()
    stand.add(ReadSlave(stand, "reader", memory, Habits(latency=4)))
    watch, clients = read_parts(stand, "reader", memory, Habits())
    for index, client in enumerate(clients):
        client.capacity = 4096
        client.pending.append(ReadTransfer(index << 16, 1024))
    await stand.until(finished(*clients))
    turns = [address >> 16 for address, _ in watch.bursts]
    while_all = turns[3 : 3 * turns.count(2)]
    assert len(while_all) >= 9
    assert all(len(set(while_all[at : at + 3])) == 3 for at in range(len(while_all) - 2))


@cocotb.test()
async def bursts_in_flight(dut):
    """As many as stated while memory does not answer, and no more."""
    stand = Stand(dut, "flight")
    await stand.start()
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


WINDOWS = [
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
async def windows(dut, part):
    """All of a transfer lies inside, or nothing of it is issued and the fault says so."""
    stand = Stand(dut, "windows")
    await stand.start()
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
    for number, (base, limit, address, size, inside) in enumerate(WINDOWS):
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
            assert len(watch.bursts) == before, "issued outside the window"
            # The master goes on with the next transfer; the client waits no longer for this.
            client.restart()
    assert watch.beats > 500


@cocotb.test()
async def read_errors(dut):
    """The fault names the command of the burst and the burst's address; EXOKAY is an error, and an ID not sent, too."""
    stand = Stand(dut, "errors")
    await stand.start()
    grant(dut, "reader")
    memory = Memory()
    for number, response in enumerate((AxiResp.EXOKAY, AxiResp.SLVERR, AxiResp.DECERR)):
        await stand.reset()
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
    stand = Stand(dut, "write errors")
    await stand.start()
    grant(dut, "writer")
    memory = Memory()
    for number, response in enumerate((AxiResp.EXOKAY, AxiResp.SLVERR, AxiResp.DECERR)):
        await stand.reset()
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
    stand = Stand(dut, part)
    await stand.start()
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
        memory.refused = {client.pending[0].address & ~7: 2 for client in clients}
        await stand.tick(stand.random.randrange(120))
        if attempt % 8 == 7:
            await stand.reset()
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
    stand = Stand(dut, part)
    await stand.start()
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
        memory.refused = {client.pending[1].address & ~7: 2}
        await stand.tick(stand.random.randrange(120))
        client.gives = stand.random.random() < 0.5
        await stand.tick(stand.random.randrange(40))
        if attempt % 8 == 7:
            await stand.reset()
        else:
            discarded += watch.in_flight
            await flush(stand, part, watch)
            assert memory.written == client.expected.written
        client.restart()
        assert await fixed_writes(stand, part) == fresh
    assert discarded > 10


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
    stand = Stand(dut, name)
    host = Host(dut, stand)
    await stand.start()
    return stand, host


@cocotb.test()
async def registers_at_random(dut):
    """Every word of the address space, by bytes; settings keep what the host wrote, all else what the machine says."""
    stand, host = await hosted(dut, "registers")
    wanted: dict[int, int] = {
        Register.ID: int.from_bytes(b"INTG", "little"),
        Register.VERSION: 1,
        Register.FINGERPRINT: AcceleratorConfig.load(CONFIG).fingerprint,
        **{spec.register: spec.reset or 0 for spec in REGISTERS if spec.register in SETTINGS},
    }
    for register in COUNTERS:
        wanted[register] = stand.random.getrandbits(32)
        getattr(dut, f"registers_{register.name.lower()}").value = wanted[register]
    words = {address: wanted.get(address, 0) for address in range(0, 4096, 4)}
    words |= {Register.MARKS + 4 * index: host.mark(index) for index in range(MARKS)}
    for address in range(0, 4096, 4):
        assert await host.read(address) == words[address], hex(address)
    for _ in range(400):
        kind = stand.random.random()
        address = 4 * stand.random.randrange(40) if kind < 0.5 else stand.random.choice(SETTINGS)
        if address in (Register.CONTROL, Register.INTERRUPT):
            continue
        first = stand.random.randrange(4)
        size = stand.random.randint(1, 4 - first)
        value = stand.random.getrandbits(8 * size)
        await host.write(address + first, value, size)
        if address in SETTINGS:
            old = words[address].to_bytes(4, "little")
            new = old[:first] + value.to_bytes(size, "little") + old[first + size :]
            words[address] = int.from_bytes(new, "little")
        assert await host.read(address) == words[address], hex(address)
    for setting in SETTINGS:
        assert int(getattr(dut, f"registers_{setting.name.lower()}").value) == words[setting]
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
    for cause, command, address in ((Cause.READ_REGION, 0x89ABCDEF, 0x1234_5670), (Cause.ABORTED, 1, 2)):
        dut.registers_fault_payload.value = cause | command << 8 | address << 40
        await host.pulse(dut.registers_fault_valid)
    assert await host.read(status) == STATUS_BUSY | STATUS_FAULT
    assert await host.read(Register.FAULT_CAUSE) == Cause.READ_REGION
    assert await host.read(Register.FAULT_COMMAND) == 0x89ABCDEF
    assert await host.read(Register.FAULT_ADDRESS) == 0x1234_5670
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


@cocotb.test()
async def registers_in_any_order(dut):
    """Address before data, data before address, both; answers wait for the host and stay as they are."""
    stand = Stand(dut, "order")
    await stand.start()

    def pin(name):
        return getattr(dut, f"registers_bus_{name}")

    async def send(channel):
        pin(f"{channel}valid").value = 1
        while True:
            await RisingEdge(dut.clk)
            if int(pin(f"{channel}ready").value):
                break
        pin(f"{channel}valid").value = 0

    async def answered(channel, waits):
        """The cycles until an answer is valid; it stays so for `waits` more until it is taken."""
        cycles = 0
        valid = False
        while not valid:
            await RisingEdge(dut.clk)
            cycles += 1
            valid = bool(int(pin(f"{channel}valid").value))
            assert cycles < 20, "no answer"
        first = int(pin("rdata").value)
        for _ in range(waits):
            await RisingEdge(dut.clk)
            assert int(pin(f"{channel}valid").value)
            assert int(pin("rdata").value) == first
        pin(f"{channel}ready").value = 1
        await RisingEdge(dut.clk)
        pin(f"{channel}ready").value = 0
        await RisingEdge(dut.clk)
        assert not int(pin(f"{channel}valid").value)
        return cycles

    pin("awaddr").value = Register.READ_BASE
    pin("araddr").value = Register.READ_BASE
    pin("wstrb").value = 15
    for value, (first, second), gap, waits in (
        (1, ("aw", "w"), 0, 0),
        (2, ("w", "aw"), 0, 3),
        (3, ("aw", "w"), 5, 2),
        (4, ("w", "aw"), 5, 0),
        (5, (None, None), 0, 1),
    ):
        pin("wdata").value = value
        if first is None:
            pin("awvalid").value = pin("wvalid").value = 1
            await RisingEdge(dut.clk)
            assert int(pin("awready").value)
            assert int(pin("wready").value)
            pin("awvalid").value = pin("wvalid").value = 0
        else:
            await send(first)
            for _ in range(gap):
                await RisingEdge(dut.clk)
                assert not int(pin("bvalid").value), "answered before all was there"
            await send(second)
        assert await answered("b", waits) == 2
        assert int(dut.registers_read_base.value) == value
        await send("ar")
        assert await answered("r", waits) == 3
        assert int(pin("rdata").value) == value
