"""What stands around an engine in its bench: sources and sinks of streams, and the scratchpad's read port."""

import random
from collections import deque
from collections.abc import Callable

from intaglio.hdl.storage.scratchpad import READ_LATENCY
from intaglio.sim.lockstep import Agent, Stand

__all__ = ["Pace", "ReadPort", "Sink", "Source"]


class Pace:
    """Whether a side moves in a cycle: with a likelihood that changes every so often, or always where `full`."""

    def __init__(self, numbers: random.Random) -> None:
        self._random = numbers
        self._left = 0
        self._chance = 1.0
        self.full = False

    def __call__(self) -> bool:
        if self.full:
            return True
        if self._left == 0:
            self._left = self._random.randint(10, 60)
            self._chance = self._random.choice((1.0, 1.0, 0.8, 0.5, 0.2, 0.05))
        self._left -= 1
        return self._random.random() < self._chance


class Source(Agent):
    """Offers the words of `queue` on a stream, each until it is taken; rubbish in between.

    Parameters
    ----------
    stand : Stand
    port : of the stream
    taken : is told of each word that was
    ahead : whether a word stands on the port for a cycle before it is offered, as a command does
    """

    def __init__(
        self, stand: Stand, port: str, taken: Callable[[int], None] = lambda word: None, ahead: bool = False
    ) -> None:
        self._stand = stand
        self._ahead = ahead
        self._valid, self._ready, self._payload = (
            f"{port}__{name}" for name in ("valid", "ready", "payload")
        )
        self._bits = len(stand.pin(self._payload))
        self._told = taken
        self.pace = Pace(stand.random)
        self.queue: deque[int] = deque()
        self.allowed: Callable[[], bool] = lambda: True
        """Whether a word may be offered now that was not yet."""
        self.sent = 0
        self.offers = self._stands = False

    def restart(self) -> None:
        self.queue.clear()
        self.offers = self._stands = False
        self._stand.write(self._valid, 0)

    @property
    def moves(self) -> bool:
        """Whether a word is taken in the cycle that ends."""
        return self.offers and bool(self._stand.read(self._ready))

    def sample(self) -> None:
        if self.moves:
            self.offers = self._stands = False
            self.sent += 1
            self._told(self.queue.popleft())

    def drive(self) -> None:
        if self.offers:
            return
        stood = self._stands
        self._stands = self._stands or (bool(self.queue) and self.allowed() and self.pace())
        self.offers = stood if self._ahead else self._stands
        word = self.queue[0] if self._stands else self._stand.random.getrandbits(self._bits)
        self._stand.write(self._payload, word)
        self._stand.write(self._valid, int(self.offers))


class Sink(Agent):
    """Takes words from a stream, and checks that what is offered stays until it is taken.

    Parameters
    ----------
    stand : Stand
    port : of the stream
    taken : is told of each word that was
    """

    def __init__(self, stand: Stand, port: str, taken: Callable[[int], None]) -> None:
        self._stand = stand
        self._port = port
        self._valid, self._ready, self._payload = (
            f"{port}__{name}" for name in ("valid", "ready", "payload")
        )
        self._told = taken
        self.pace = Pace(stand.random)
        self.allowed: Callable[[], bool] = lambda: True
        """Whether a word may be taken in the next cycle."""
        self.withdrawn: Callable[[], bool] = lambda: False
        """Whether what was offered and not taken may be gone in the cycle that ends."""
        self.received = 0
        self._waiting: int | None = None
        self._takes = False

    def restart(self) -> None:
        self._waiting = None
        self._takes = False
        self._stand.write(self._ready, 0)

    @property
    def offered(self) -> bool:
        return bool(self._stand.read(self._valid))

    def sample(self) -> None:
        if self.withdrawn():
            self._waiting = None
        if not self.offered:
            assert self._waiting is None, f"{self._port}: `valid` was taken back before `ready`"
            return
        word = self._stand.read(self._payload)
        assert self._waiting in (None, word), f"{self._port}: the payload changed before `ready`"
        self._waiting = None if self._takes else word
        if self._takes:
            self.received += 1
            self._told(word)

    def drive(self) -> None:
        self._takes = self.allowed() and self.pace()
        self._stand.write(self._ready, int(self._takes))


class ReadPort(Agent):
    """The scratchpad as one of its readers sees it: addresses are taken at times, and the vector of each is there
    READ_LATENCY cycles later, in that cycle alone.

    Parameters
    ----------
    stand : Stand
    vector : of an element address: the bits of what lies there
    """

    def __init__(self, stand: Stand, vector: Callable[[int], int]) -> None:
        self._stand = stand
        self._vector = vector
        self._bits = len(stand.pin("data"))
        self.sink = Sink(stand, "read", self._asked)
        self.pace = self.sink.pace
        self.asked_in: list[int] = []
        """Cycles in which addresses were taken."""
        self._due: deque[tuple[int, int]] = deque()

    def _asked(self, address: int) -> None:
        self.asked_in.append(self._stand.cycle)
        self._due.append((self._stand.cycle + READ_LATENCY, self._vector(address)))

    def restart(self) -> None:
        self.sink.restart()
        self._due.clear()

    def sample(self) -> None:
        self.sink.sample()

    def drive(self) -> None:
        self.sink.drive()
        if self._due and self._due[0][0] == self._stand.cycle + 1:
            self._stand.write("data", self._due.popleft()[1])
        else:
            self._stand.write("data", self._stand.random.getrandbits(self._bits))
