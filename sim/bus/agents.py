"""What stands around the masters in the bench: memories, clients, and a judge of the bus's rules.

Agents work in lockstep: at the end of each cycle all sample, then all drive, so that a seed repeats a run.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import cocotb
from amaranth.lib.wiring import In
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from intaglio.sim.bus.top import Top

__all__ = [
    "Agent",
    "Habits",
    "Memory",
    "ReadClient",
    "ReadSlave",
    "ReadTransfer",
    "Stand",
    "Watch",
    "WriteClient",
    "WriteSlave",
    "WriteTransfer",
    "read_fault",
]

OKAY = 0
CHANNELS = {
    "ar": ("arid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot"),
    "r": ("rdata", "rresp", "rlast"),
    "aw": ("awid", "awaddr", "awlen", "awsize", "awburst", "awcache", "awprot"),
    "w": ("wdata", "wstrb", "wlast"),
    "b": ("bresp",),
}
INPUTS = [name for name, member in Top().signature.members.items() if member.flow == In]

AgentType = TypeVar("AgentType", bound="Agent")


class Agent:
    """Something at the ports of the design."""

    def sample(self) -> None:
        """Look at the cycle that ends, and check it."""

    def drive(self) -> None:
        """Set what the next cycle sees."""

    def restart(self) -> None:
        """Forget what was under way: the design has been reset."""


class Stand:
    """The clock, the reset, the random numbers and the agents of a test."""

    def __init__(self, dut: Any, name: str) -> None:
        self.dut = dut
        self.random = random.Random(f"{cocotb.RANDOM_SEED} {name}")
        self.agents: list[Agent] = []
        self.cycle = 0

    async def start(self) -> None:
        for name in INPUTS:
            getattr(self.dut, name).value = 0
        Clock(self.dut.clk, 10, unit="ns").start()
        await self.reset()

    async def reset(self) -> None:
        self.dut.rst.value = 1
        for agent in self.agents:
            agent.restart()
        await RisingEdge(self.dut.clk)
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        self.cycle += 2

    def add(self, agent: AgentType) -> AgentType:
        self.agents.append(agent)
        return agent

    async def tick(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
            for agent in self.agents:
                agent.sample()
            for agent in self.agents:
                agent.drive()
            self.cycle += 1

    async def until(self, condition: Callable[[], bool], limit: int = 20000) -> int:
        """Cycles that passed until the condition held."""
        start = self.cycle
        while not condition():
            assert self.cycle - start < limit, f"still not so after {limit} cycles"
            await self.tick()
        return self.cycle - start


@dataclass
class Habits:
    """How likely each side is to be ready, or to have something, in a cycle; cycles from a request to its answer."""

    address: float = 1.0
    data: float = 1.0
    answer: float = 1.0
    client: float = 1.0
    latency: int = 1

    @classmethod
    def drawn(cls, random_numbers: random.Random) -> "Habits":
        chances = (1.0, 1.0, 0.8, 0.5, 0.2)
        draw = random_numbers.choice
        return cls(draw(chances), draw(chances), draw(chances), draw(chances), draw((1, 2, 7, 32)))


class Memory:
    """All of the address space, by bytes; what was never written is a hash of its address."""

    def __init__(self) -> None:
        self.written: dict[int, int] = {}
        self.refused: dict[int, int] = {}
        """Response to the beat at an address that is not OKAY."""

    def byte(self, address: int) -> int:
        return self.written.get(address, (address // 8 * 0x9E3779B97F4A7C15 >> (address % 8 * 7 + 3)) & 0xFF)

    def beat(self, address: int) -> int:
        return int.from_bytes(bytes(self.byte(address + lane) for lane in range(8)), "little")

    def store(self, address: int, data: int, strobes: int) -> None:
        for lane in range(8):
            if strobes >> lane & 1:
                self.written[address + lane] = data >> 8 * lane & 0xFF

    async def read(self, address: int, length: int) -> bytes:
        """For cocotbext-axi's slaves."""
        self._may(address)
        return bytes(self.byte(address + lane) for lane in range(length))

    async def write(self, address: int, data: bytes) -> None:
        self._may(address)
        self.written.update(enumerate(data, address))

    def _may(self, address: int) -> None:
        if address & ~7 in self.refused:
            raise ValueError(f"no memory at {address:#x}")


class Watch(Agent):
    """Checks a master's signals: what is valid stays until taken, bursts keep within their limits, WLAST is right."""

    def __init__(self, dut: Any, part: str, longest: int, outstanding: int) -> None:
        self._signals = {
            channel: [
                getattr(dut, f"{part}_bus_{name}")
                for name in (f"{channel}valid", f"{channel}ready", *CHANNELS[channel])
            ]
            for channel in (("ar", "r") if "reader" in part else ("aw", "w", "b"))
        }
        self._progress = getattr(dut, f"{part}_progress")
        self._beat = getattr(dut, f"{part}_beat")
        self._longest = longest
        self._outstanding = outstanding
        self.bursts: list[tuple[int, int]] = []
        """Address and beats of each that was accepted."""
        self.beats = 0
        self.most_in_flight = 0
        self.restart()

    def restart(self) -> None:
        self._held: dict[str, list[int]] = {}
        self.in_flight = 0
        self._announced: deque[int] = deque()
        self._ended: deque[int] = deque()
        self._sent = 0

    def sample(self) -> None:
        moved = set()
        for channel, (valid, ready, *payload) in self._signals.items():
            if not int(valid.value):
                assert channel not in self._held, f"{channel}valid fell before it was taken"
                continue
            values = [int(signal.value) for signal in payload]
            assert self._held.pop(channel, values) == values, f"{channel} changed before it was taken"
            if int(ready.value):
                moved.add(channel)
                getattr(self, f"_{channel}")(*values)
            else:
                self._held[channel] = values
        assert int(self._progress.value) == bool(moved)
        assert int(self._beat.value) == bool(moved & {"r", "w"})
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        assert self.in_flight <= self._outstanding, "more bursts in flight than stated"

    @property
    def waits(self) -> int:
        """Whether the address of a burst is on the bus, but not yet taken."""
        return len({"ar", "aw"} & set(self._held))

    def _ar(self, ident: int, address: int, length: int, size: int, kind: int, cache: int, prot: int) -> None:
        assert (ident, size, kind, cache, prot) == (0, 3, 1, 3, 0)
        assert address % 8 == 0
        assert length < self._longest, "a burst longer than stated"
        assert address % 4096 + 8 * (length + 1) <= 4096, "a burst across 4 KiB"
        self.bursts.append((address, length + 1))
        self.in_flight += 1

    def _r(self, data: int, response: int, last: int) -> None:
        self.beats += 1
        self.in_flight -= last

    def _aw(self, *values: int) -> None:
        self._ar(*values)
        self._announced.append(values[2] + 1)
        self._match()

    def _w(self, data: int, strobes: int, last: int) -> None:
        self.beats += 1
        self._sent += 1
        if last:
            self._ended.append(self._sent)
            self._sent = 0
        self._match()

    def _b(self, response: int) -> None:
        self.in_flight -= 1

    def _match(self) -> None:
        # W may run ahead of AW: lengths are compared once both are known.
        while self._ended and self._announced:
            assert self._ended.popleft() == self._announced.popleft(), "WLAST is not on the burst's last beat"


class ReadSlave(Agent):
    """Answers AR after `latency` cycles, in order."""

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_bus_{name}")
        self._memory = memory
        self.habits = habits
        self.restart()

    def restart(self) -> None:
        self._bursts: deque[list[int]] = deque()
        self._on_bus = False
        self._pin("arready").value = 0
        self._pin("rvalid").value = 0

    def sample(self) -> None:
        if int(self._pin("arvalid").value) and int(self._pin("arready").value):
            due = self._stand.cycle + self.habits.latency
            self._bursts.append([due, int(self._pin("araddr").value), int(self._pin("arlen").value)])
        if self._on_bus and int(self._pin("rready").value):
            self._on_bus = False

    def drive(self) -> None:
        luck = self._stand.random.random
        self._pin("arready").value = luck() < self.habits.address
        if not self._on_bus:
            due = bool(self._bursts) and self._bursts[0][0] <= self._stand.cycle + 1
            if due and luck() < self.habits.data:
                self._next()
            self._pin("rvalid").value = self._on_bus

    def _next(self) -> None:
        burst = self._bursts[0]
        _, address, left = burst
        self._on_bus = True
        self._pin("rdata").value = self._memory.beat(address)
        self._pin("rresp").value = self._memory.refused.get(address, OKAY)
        self._pin("rlast").value = left == 0
        burst[1:] = [address + 8, left - 1]
        if left == 0:
            self._bursts.popleft()


class WriteSlave(Agent):
    """Stores, and answers `latency` cycles after a burst's last beat, in order.

    `order`: "any"; "data first": AW is ready only once W is valid; "address first": W only once the burst is known.
    """

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits, order: str = "any") -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_bus_{name}")
        self._memory = memory
        self.habits = habits
        self.order = order
        self.restart()

    def restart(self) -> None:
        self._bursts: deque[tuple[int, int]] = deque()
        self._beats: deque[tuple[int, int]] = deque()
        self._answers: deque[tuple[int, int]] = deque()
        for name in ("awready", "wready", "bvalid"):
            self._pin(name).value = 0

    def _moved(self, channel: str) -> bool:
        return bool(int(self._pin(f"{channel}valid").value) and int(self._pin(f"{channel}ready").value))

    def sample(self) -> None:
        if self._moved("b"):
            self._answers.popleft()
        if self._moved("aw"):
            self._bursts.append((int(self._pin("awaddr").value), int(self._pin("awlen").value) + 1))
        if self._moved("w"):
            self._beats.append((int(self._pin("wdata").value), int(self._pin("wstrb").value)))
        while self._bursts and len(self._beats) >= self._bursts[0][1]:
            address, beats = self._bursts.popleft()
            response = OKAY
            for beat in range(address, address + 8 * beats, 8):
                response = self._memory.refused.get(beat, response)
                self._memory.store(beat, *self._beats.popleft())
            self._answers.append((self._stand.cycle + self.habits.latency, response))

    def drive(self) -> None:
        luck = self._stand.random.random
        known = sum(beats for _, beats in self._bursts) > len(self._beats)
        waits = int(self._pin("wvalid").value) or bool(self._beats)
        data_first, address_first = self.order == "data first", self.order == "address first"
        self._pin("awready").value = luck() < self.habits.address and (waits or not data_first)
        self._pin("wready").value = luck() < self.habits.data and (known or not address_first)
        offered = bool(int(self._pin("bvalid").value)) and not int(self._pin("bready").value)
        due = bool(self._answers) and self._answers[0][0] <= self._stand.cycle + 1
        valid = due and (offered or luck() < self.habits.answer)
        self._pin("bvalid").value = valid
        if valid:
            self._pin("bresp").value = self._answers[0][1]


@dataclass
class ReadTransfer:
    address: int
    beats: int
    command: int = 0

    @property
    def word(self) -> int:
        return self.address | self.beats << 32 | self.command << 56

    def addresses(self) -> Iterable[int]:
        start = self.address & ~7
        return range(start, start + 8 * self.beats, 8)


class ReadClient(Agent):
    """Asks for transfers and compares what comes; consumes with its habit, so that its space comes and goes."""

    def __init__(
        self, stand: Stand, part: str, index: int, memory: Memory, capacity: int, habits: Habits
    ) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_clients_{index}_{name}")
        self._flush = getattr(stand.dut, f"{part}_flush")
        self._memory = memory
        self.capacity = capacity
        self.habits = habits
        self.consumes = True
        self.takes = True
        self.received = 0
        self.pending: deque[ReadTransfer] = deque()
        self.restart()

    def restart(self) -> None:
        self.pending.clear()
        self._due: deque[tuple[int, bool]] = deque()
        self._stored = 0
        self._offers = False
        self._held: int | None = None
        self._pin("transfer_valid").value = 0
        self._pin("data_ready").value = 0
        self._pin("space").value = self.capacity

    @property
    def finished(self) -> bool:
        return not self.pending and not self._due

    def sample(self) -> None:
        flush = int(self._flush.value)
        if flush:
            self._due.clear()
            self._held = None
        if self._offers and int(self._pin("transfer_ready").value):
            self._offers = False
            transfer = self.pending.popleft()
            addresses = [] if flush else list(transfer.addresses())
            self._due.extend((address, address == addresses[-1]) for address in addresses)
        if not int(self._pin("data_valid").value):
            assert self._held is None, "data withdrawn before they were taken"
            return
        assert not flush, "data during a flush"
        payload = int(self._pin("data_payload").value)
        assert self._held in (None, payload), "data changed before they were taken"
        self._held = payload
        if int(self._pin("data_ready").value):
            self._held = None
            self._take(payload)

    def _take(self, payload: int) -> None:
        assert self._due, "data that nobody asked for"
        address, last = self._due.popleft()
        assert payload == self._memory.beat(address) | last << 64, f"wrong data from {address:#x}"
        self.received += 1
        self._stored += 1
        assert self._stored <= self.capacity, "data without space"

    def drive(self) -> None:
        luck = self._stand.random.random
        if self._stored and self.consumes:
            self._stored -= luck() < self.habits.answer
        self._pin("space").value = self.capacity - self._stored
        self._pin("data_ready").value = self.takes and luck() < self.habits.client
        if not self._offers:
            self._offers = bool(self.pending) and luck() < self.habits.answer
            if self._offers:
                self._pin("transfer_payload").value = self.pending[0].word
            self._pin("transfer_valid").value = self._offers


@dataclass
class WriteTransfer:
    address: int
    bytes: int
    command: int = 0

    @property
    def word(self) -> int:
        return self.address | self.bytes << 32 | self.command << 56

    def beats(self) -> Iterable[tuple[int, int]]:
        """Address and strobes of each."""
        end = self.address + self.bytes
        for beat in range(self.address & ~7, end, 8):
            yield beat, sum(1 << lane for lane in range(8) if self.address <= beat + lane < end)


class WriteClient(Agent):
    """Writes transfers of random data, late or early; keeps a second memory as the bus's should be."""

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_{name}")
        self._memory = memory
        self.expected = Memory()
        self.habits = habits
        self.gives = True
        self.done = 0
        self.pending: deque[WriteTransfer] = deque()
        self.restart()

    def restart(self) -> None:
        self.pending.clear()
        self._beats: deque[tuple[int, int]] = deque()
        self._open: deque[WriteTransfer] = deque()
        self._offers = False
        self._data: int | None = None
        self._pin("transfer_valid").value = 0
        self._pin("data_valid").value = 0

    @property
    def finished(self) -> bool:
        return not self.pending and not self._open

    def sample(self) -> None:
        flush = int(self._pin("flush").value)
        if flush:
            self._open.clear()
            self._beats.clear()
        if self._data is not None and int(self._pin("data_ready").value):
            if not flush:
                address, strobes = self._beats.popleft()
                self.expected.store(address, self._data, strobes)
            self._data = None
        if self._offers and int(self._pin("transfer_ready").value):
            self._offers = False
            transfer = self.pending.popleft()
            if not flush:
                self._open.append(transfer)
                self._beats.extend(transfer.beats())
        if int(self._pin("done").value):
            self._finish()

    def _finish(self) -> None:
        assert self._open, "done with what nobody asked for"
        transfer = self._open.popleft()
        self.done += 1
        for byte in range(transfer.address, transfer.address + transfer.bytes):
            assert byte in self._memory.written, f"done before {byte:#x} was written"

    def drive(self) -> None:
        luck = self._stand.random.random
        if self._data is None:
            if self._beats and self.gives and luck() < self.habits.client:
                self._data = self._stand.random.getrandbits(64)
                self._pin("data_payload").value = self._data
            self._pin("data_valid").value = self._data is not None
        if not self._offers:
            self._offers = bool(self.pending) and luck() < self.habits.answer
            if self._offers:
                self._pin("transfer_payload").value = self.pending[0].word
            self._pin("transfer_valid").value = self._offers


def read_fault(dut: Any, part: str) -> tuple[int, int, int] | None:
    """Cause, command and address of a fault in this cycle."""
    if not int(getattr(dut, f"{part}_fault_valid").value):
        return None
    payload = int(getattr(dut, f"{part}_fault_payload").value)
    return payload & 0xFF, payload >> 8 & 0xFFFFFFFF, payload >> 40
