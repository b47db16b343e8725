"""Tests of both masters against a bus that breaks its promises, and of all ports while reset is asserted."""

from functools import partial

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from intaglio.sim.bus.clients import ReadTransfer, WriteClient, WriteTransfer, read_fault
from intaglio.sim.bus.flushes import fixed_reads, fixed_writes, flush
from intaglio.sim.bus.memory import Habits, Memory, ReadSlave, WriteSlave
from intaglio.sim.bus.setting import begin, grant, read_parts, write_parts
from intaglio.sim.bus.top import BEAT_BYTES, READERS, WRITERS
from intaglio.sim.bus.watch import Watch
from intaglio.sim.lockstep import Stand
from intaglio.spec.registers import Cause

ADDRESS, BEATS, COMMAND = 0x2000, 12, 77


class BrokenReads(ReadSlave):
    """Ends a burst `extra` beats after its last, or says another ID with its `id_at`-th."""

    def __init__(self, stand: Stand, part: str, memory: Memory, extra: int, id_at: int | None) -> None:
        self._extra, self._id_at = extra, id_at
        super().__init__(stand, part, memory, Habits(latency=3))

    def _next(self) -> None:
        burst = self._bursts[0]
        _, address, left = burst
        beat = (address - ADDRESS) // self._beat_bytes
        self._on_bus = True
        last = left + self._extra == 0
        self._pin("rdata").value = self._memory.beat(address, self._beat_bytes)
        self._pin("rresp").value = 0
        self._pin("rid").value = beat == self._id_at
        self._pin("rlast").value = last
        burst[1:] = [address + self._beat_bytes, left - 1]
        if last:
            self._bursts.popleft()


@cocotb.test()
@cocotb.parametrize(part=list(READERS))
async def reads_out_of_protocol(dut, part):
    """The last beat too early or too late, another ID in any beat, a beat that nobody asked for: a fault that says so,
    and after a flush all is as new."""
    stand = await begin(dut, part)
    grant(dut, part)
    fresh = await fixed_reads(stand, part)
    longest = min(BEATS, READERS[part][0][-1])
    for extra, id_at in (
        (-1, None),
        (1, None),
        (-longest + 1, None),
        *((0, beat) for beat in range(longest)),
    ):
        stand.agents.clear()
        memory = Memory()
        stand.add(BrokenReads(stand, part, memory, extra, id_at))
        watch, clients = read_parts(stand, part, memory, Habits())
        client = clients[-1]
        # One burst, whose client does not look at what comes.
        stand.agents.remove(client)
        client._pin("space").value = 1000
        client._pin("data_ready").value = 1
        client._pin("transfer_payload").value = ReadTransfer(ADDRESS, longest, COMMAND).word
        client._pin("transfer_valid").value = 1
        await stand.tick()
        client._pin("transfer_valid").value = 0
        faults = await faults_of(stand, part, 60)
        assert set(faults) == {(Cause.BUS_PROTOCOL, COMMAND, ADDRESS)}, (extra, id_at)
        getattr(dut, f"{part}_bus_rid").value = 0
        await flush(stand, part, watch)
        client.restart()
        assert await fixed_reads(stand, part) == fresh

    stand.agents.clear()
    watch, _ = read_parts(stand, part, Memory(), Habits())
    valid = getattr(dut, f"{part}_bus_rvalid")
    valid.value = 1
    getattr(dut, f"{part}_bus_rlast").value = 0
    await stand.tick()
    valid.value = 0
    faults = await faults_of(stand, part, 10)
    assert {cause for cause, _, _ in faults} == {Cause.BUS_PROTOCOL}
    await flush(stand, part, watch)
    assert await fixed_reads(stand, part) == fresh


async def faults_of(stand: Stand, part: str, cycles: int) -> list[tuple[int, int, int]]:
    faults = []
    for _ in range(cycles):
        await stand.tick()
        if fault := read_fault(stand.dut, part):
            faults.append(fault)
    return faults


@cocotb.test()
@cocotb.parametrize(part=list(WRITERS))
async def writes_out_of_protocol(dut, part):
    """A response before the last data, another ID, a response that nobody waits for: a fault that says so. None is
    taken before its data have gone out, and WLAST is where it belongs (the watch sees to that)."""
    stand = await begin(dut, part)
    grant(dut, part)
    fresh = await fixed_writes(stand, part)
    valid, ident, data_ready, flushes = (
        getattr(dut, f"{part}_{name}") for name in ("bus_bvalid", "bus_bid", "bus_wready", "flush")
    )
    for given in (0, 1, BEATS - 1):
        watch, client = await announced(stand, part, given)
        valid.value = 1
        faults = await faults_of(stand, part, 5)
        assert set(faults) == {(Cause.BUS_PROTOCOL, COMMAND, ADDRESS)}, given
        assert (watch.in_flight, watch.beats) == (1, given), "a response was taken before its data"
        flushes.value = data_ready.value = 1
        await stand.until(partial(_answered, watch))
        assert watch.beats == BEATS
        valid.value = 0
        await flush(stand, part, watch)
        client.restart()
        assert await fixed_writes(stand, part) == fresh

    _, client = await announced(stand, part, BEATS)
    valid.value = ident.value = 1
    await stand.tick()
    valid.value = ident.value = 0
    # It is told a cycle after the response.
    await stand.tick()
    assert read_fault(dut, part) == (Cause.BUS_PROTOCOL, COMMAND, ADDRESS)
    client.restart()
    await stand.tick(3)
    assert await fixed_writes(stand, part) == fresh

    watch, client = await announced(stand, part, BEATS)
    stand.agents.remove(client)
    valid.value = 1
    await stand.tick()
    await stand.tick()
    assert {cause for cause, _, _ in await faults_of(stand, part, 3)} == {Cause.BUS_PROTOCOL}
    watch.in_flight = 1
    flushes.value = 1
    await stand.until(partial(_answered, watch))
    valid.value = flushes.value = 0
    await stand.tick(3)
    assert await fixed_writes(stand, part) == fresh


def _answered(watch: Watch) -> bool:
    return not watch.in_flight


async def announced(stand: Stand, part: str, given: int) -> tuple[Watch, WriteClient]:
    """A burst of BEATS whose address is taken, and of whose data so many have gone out."""
    stand.agents.clear()
    watch, client = write_parts(stand, part, Memory(), Habits())
    address_ready, data_ready = (getattr(stand.dut, f"{part}_bus_{name}ready") for name in ("aw", "w"))
    address_ready.value = 1
    data_ready.value = 0
    client.pending.append(WriteTransfer(ADDRESS, BEATS * BEAT_BYTES[part], COMMAND))
    await stand.until(lambda: len(watch.bursts) == 1)
    if given:
        data_ready.value = 1
        await stand.until(lambda: watch.beats == given)
        data_ready.value = 0
    return watch, client


@cocotb.test()
async def nothing_is_valid_during_reset(dut):
    """Not even in its first cycle, whatever is under way [AXI: A3.1.2]."""
    seen = set()
    stand = await begin(dut, "reset")
    for cycles in range(40):
        stand.agents.clear()
        for part in READERS:
            grant(dut, part)
            stand.add(ReadSlave(stand, part, Memory(), Habits(address=0.5)))
            _, clients = read_parts(stand, part, Memory(), Habits())
            clients[-1].pending.append(ReadTransfer(0, 40))
        for part in WRITERS:
            grant(dut, part)
            memory = Memory()
            stand.add(WriteSlave(stand, part, memory, Habits(address=0.5, data=0.5)))
            _, writer = write_parts(stand, part, memory, Habits())
            writer.pending.append(WriteTransfer(0, 40))
        ask = stand.random.choice(("aw", "ar"))
        for name in ("awvalid", "wvalid") if ask == "aw" else ("arvalid",):
            getattr(dut, f"registers_bus_{name}").value = 1
        await stand.tick(3 + cycles // 2)
        valid = [getattr(dut, name) for name in VALID]
        await FallingEdge(dut.clk)
        seen |= {name for name, signal in zip(VALID, valid, strict=True) if int(signal.value)}
        dut.rst.value = 1
        await ReadOnly()
        assert not any(int(signal.value) for signal in valid)
        await FallingEdge(dut.clk)
        assert not any(int(signal.value) for signal in valid)
        await stand.reset()
    assert seen == set(VALID), "some had nothing to say"


VALID = (
    *(f"{part}_bus_arvalid" for part in READERS),
    *(f"{part}_bus_{channel}valid" for part in WRITERS for channel in ("aw", "w")),
    "registers_bus_bvalid",
    "registers_bus_rvalid",
)
"""What the design drives."""
