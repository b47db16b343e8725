"""Whom the masters serve in the bench: clients that ask for transfers and know what must come of them."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from intaglio.sim.bus.memory import Habits, Memory
from intaglio.sim.bus.top import ADDRESS_BITS, BEAT_BYTES, REGIONS
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.regions import Region

__all__ = ["ReadClient", "ReadTransfer", "WriteClient", "WriteTransfer", "read_fault"]


def _word(offset: int, length: int, command: int, region: int) -> int:
    """A transfer as the masters take it."""
    return offset | length << 32 | command << 56 | region << 88


def _base(dut: Any, part: str, region: int) -> int:
    """Where a region of a master's begins now; 0 for one that it may not use."""
    return region in REGIONS[part] and int(getattr(dut, f"{part}_{Region(region).name.lower()}_base").value)


@dataclass
class ReadTransfer:
    offset: int
    beats: int
    command: int = 0
    region: int = Region.PROGRAM

    @property
    def word(self) -> int:
        return _word(self.offset, self.beats, self.command, self.region)

    def addresses(self, base: int, beat_bytes: int) -> Iterable[int]:
        """Of its beats, so many bytes each, in a region that begins there."""
        start = base + (self.offset & -beat_bytes)
        return (start + beat_bytes * beat for beat in range(self.beats))


class ReadClient(Agent):
    """Asks for transfers and compares what comes; consumes with its habit, so that its space comes and goes."""

    def __init__(
        self, stand: Stand, part: str, index: int, memory: Memory, capacity: int, habits: Habits
    ) -> None:
        self._stand, self._part = stand, part
        self._pin = lambda name: getattr(stand.dut, f"{part}_clients_{index}_{name}")
        self._flush = getattr(stand.dut, f"{part}_flush")
        self._memory = memory
        self._beat_bytes = BEAT_BYTES[part]
        self._top = (1 << ADDRESS_BITS[part]) - 1
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
            if not flush:
                base = _base(self._stand.dut, self._part, transfer.region)
                addresses = [address & self._top for address in transfer.addresses(base, self._beat_bytes)]
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
        wanted = self._memory.beat(address, self._beat_bytes) | last << 8 * self._beat_bytes
        assert payload == wanted, f"wrong data from {address:#x}"
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
    offset: int
    bytes: int
    command: int = 0
    region: int = Region.OUTPUT

    @property
    def word(self) -> int:
        return _word(self.offset, self.bytes, self.command, self.region)

    def beats(self, base: int, beat_bytes: int) -> Iterable[tuple[int, int]]:
        """Address and strobes of each, of so many bytes, in a region that begins there."""
        first = base + self.offset
        end = first + self.bytes
        for beat in range(first & -beat_bytes, end, beat_bytes):
            yield beat, sum(1 << lane for lane in range(beat_bytes) if first <= beat + lane < end)


class WriteClient(Agent):
    """Writes transfers of random data, late or early; keeps a second memory as the bus's should be."""

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits) -> None:
        self._stand, self._part = stand, part
        self._pin = lambda name: getattr(stand.dut, f"{part}_{name}")
        self._memory = memory
        self._beat_bytes = BEAT_BYTES[part]
        self._top = (1 << ADDRESS_BITS[part]) - 1
        self.expected = Memory()
        self.habits = habits
        self.gives = True
        self.done = 0
        self.pending: deque[WriteTransfer] = deque()
        self.restart()

    def restart(self) -> None:
        self.pending.clear()
        self._beats: deque[tuple[int, int]] = deque()
        self._open: deque[list[int]] = deque()
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
                base = _base(self._stand.dut, self._part, transfer.region)
                first = base + transfer.offset
                self._open.append([byte & self._top for byte in range(first, first + transfer.bytes)])
                self._beats.extend(
                    (address & self._top, strobes)
                    for address, strobes in transfer.beats(base, self._beat_bytes)
                )
        if int(self._pin("done").value):
            self._finish()

    def _finish(self) -> None:
        assert self._open, "done with what nobody asked for"
        written = self._open.popleft()
        self.done += 1
        for byte in written:
            assert byte in self._memory.written, f"done before {byte:#x} was written"

    def drive(self) -> None:
        luck = self._stand.random.random
        if self._data is None:
            if self._beats and self.gives and luck() < self.habits.client:
                self._data = self._stand.random.getrandbits(8 * self._beat_bytes)
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
