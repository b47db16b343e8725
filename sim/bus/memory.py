"""Memory in the bench: what it holds, and who answers on the bus, at a pace of its own."""

import random
from collections import deque
from dataclasses import dataclass

from intaglio.sim.bus.top import BEAT_BYTES
from intaglio.sim.lockstep import Agent, Stand

__all__ = ["Habits", "Memory", "ReadSlave", "WriteSlave"]

OKAY = 0


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

    def beat(self, address: int, size: int) -> int:
        """The `size` bytes from an address on."""
        return int.from_bytes(bytes(self.byte(address + lane) for lane in range(size)), "little")

    def store(self, address: int, data: int, strobes: int) -> None:
        for lane in range(strobes.bit_length()):
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


class ReadSlave(Agent):
    """Answers AR after `latency` cycles, in order."""

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits) -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_bus_{name}")
        self._beat_bytes = BEAT_BYTES[part]
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
        self._pin("rdata").value = self._memory.beat(address, self._beat_bytes)
        self._pin("rresp").value = self._memory.refused.get(address, OKAY)
        self._pin("rlast").value = left == 0
        burst[1:] = [address + self._beat_bytes, left - 1]
        if left == 0:
            self._bursts.popleft()


class WriteSlave(Agent):
    """Stores, and answers `latency` cycles after a burst's last beat, in order.

    `order`: "any"; "data first": AW is ready only once W is valid; "address first": W only once the burst is known.
    """

    def __init__(self, stand: Stand, part: str, memory: Memory, habits: Habits, order: str = "any") -> None:
        self._stand = stand
        self._pin = lambda name: getattr(stand.dut, f"{part}_bus_{name}")
        self._beat_bytes = BEAT_BYTES[part]
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
            for beat in range(address, address + self._beat_bytes * beats, self._beat_bytes):
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
