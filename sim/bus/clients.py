"""Whom the masters serve in the bench: clients that ask for transfers and know what must come of them."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from intaglio.sim.bus.memory import Habits, Memory
from intaglio.sim.bus.top import BEAT_BYTES
from intaglio.sim.lockstep import Agent, Stand

__all__ = ["ReadClient", "ReadTransfer", "WriteClient", "WriteTransfer", "read_fault"]


@dataclass
class ReadTransfer:
    address: int
    beats: int
    command: int = 0

    @property
    def word(self) -> int:
        return self.address | self.beats << 32 | self.command << 56

    def addresses(self, beat_bytes: int) -> Iterable[int]:
        """Of its beats, so many bytes each."""
        start = self.address & -beat_bytes
        return range(start, start + beat_bytes * self.beats, beat_bytes)


class ReadClient(Agent):
    """Asks for transfers and compares what comes; consumes with its habit, so that its space comes and goes."""

    def __init__(
        self, stand: Stand, part: str, index: int, memory: Memory, capacity: int, habits: Habits
    ) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_clients_{index}_{name}")
        self._flush = getattr(stand.dut, f"{part}_flush")
        self._memory = memory
        self._beat_bytes = BEAT_BYTES[part]
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
            addresses = [] if flush else list(transfer.addresses(self._beat_bytes))
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
    address: int
    bytes: int
    command: int = 0

    @property
    def word(self) -> int:
        return self.address | self.bytes << 32 | self.command << 56

    def beats(self, beat_bytes: int) -> Iterable[tuple[int, int]]:
        """Address and strobes of each, of so many bytes."""
        end = self.address + self.bytes
        for beat in range(self.address & -beat_bytes, end, beat_bytes):
            yield beat, sum(1 << lane for lane in range(beat_bytes) if self.address <= beat + lane < end)


class WriteClient(Agent):
    """Writes transfers of random data, late or early; keeps a second memory as the bus's should be."""

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_{name}")
        self._memory = memory
        self._beat_bytes = BEAT_BYTES[part]
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
                self._beats.extend(transfer.beats(self._beat_bytes))
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
