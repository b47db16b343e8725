"""The bus as the machine reads it: bursts of several clients in turn, their data in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from intaglio.compiler.cost.events import Clock, Flow, Resource
from intaglio.compiler.cost.timing import BURST, BURST_BEATS, OUTSTANDING, Timing

BOUNDARY_BYTES = 4096
"""No burst of AXI4 crosses a multiple of it."""


def _nothing(beats: int) -> None:
    pass


@dataclass(eq=False)
class Client:
    """Who reads memory.

    Attributes
    ----------
    ended, begun, asked : called when all beats of a burst have arrived, so many; when the first does; when they have
        been asked for
    room : beats that it can take beside those it has asked for
    in_flight : beats that it asks for ahead, at most; no fewer than BURST_BEATS
    behind : what its beats wait for while that has users; the others' beats behind them wait, too
    bursts : beats of those that it wants, in order
    rests : whether its next burst is not measured yet
    """

    ended: Callable[[int], None]
    begun: Callable[[int], None] = _nothing
    asked: Callable[[int], None] = _nothing
    room: float = inf
    in_flight: float = inf
    behind: Resource | None = None
    bursts: deque[int] = field(default_factory=deque)
    rests: bool = False


class ReadBus:
    """A burst a cycle is asked for, of the first client that has one, of one client one in BURST cycles; no more than
    OUTSTANDING are under way, and a beat a cycle comes.

    Attributes
    ----------
    beats : all that have come
    """

    def __init__(self, clock: Clock, timing: Timing, clients: Iterable[Client]) -> None:
        self.beats = 0
        self._clock = clock
        self._latency = timing.data
        self._clients = list(clients)
        self._flight: deque[tuple[Client, int, float]] = deque()
        self._held_up = False
        self._early = 0
        """Beats of the burst that comes which have made room already."""

    def ask(self) -> None:
        """Somebody may have something to ask for, or room for it."""
        if self._held_up or len(self._flight) >= OUTSTANDING:
            return
        for client in self._clients:
            room = min(client.room, client.in_flight)
            if client.bursts and client.bursts[0] <= room and not client.rests:
                break
        else:
            return
        beats = client.bursts.popleft()
        client.room -= beats
        client.in_flight -= beats
        self._flight.append((client, beats, self._clock.now + self._latency))
        self._held_up = True
        client.rests = True
        self._clock.after(1, self._ask_again)
        self._clock.after(BURST, lambda: self._rested(client))
        if len(self._flight) == 1:
            self._deliver()
        client.asked(beats)

    def _ask_again(self) -> None:
        self._held_up = False
        self.ask()

    def _rested(self, client: Client) -> None:
        client.rests = False
        self.ask()

    def _deliver(self) -> None:
        """The oldest burst's data come next."""
        wait = self._flight[0][2] - self._clock.now
        if wait > 0:
            self._clock.after(wait, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        client, beats, _ = self._flight[0]
        client.begun(beats)
        # What has come makes room for what is asked for next, beat by beat.
        lacking = client.bursts[0] - client.in_flight if client.bursts else 0
        if client.behind is None and 0 < lacking < beats:
            self._early = int(lacking)
            self._clock.after(lacking, lambda: self._make_room(client))
        if client.behind is None:
            self._clock.after(beats, self._end)
        else:
            self._clock.flow(Flow(beats, self._end, writes=1.0, behind=client.behind))

    def _make_room(self, client: Client) -> None:
        client.in_flight += self._early
        self.ask()

    def _end(self) -> None:
        client, beats, _ = self._flight.popleft()
        client.in_flight += beats - self._early
        self._early = 0
        self.beats += beats
        client.ended(beats)
        if self._flight:
            self._deliver()
        self.ask()


def bursts_of(address: int, count: int, bus_bytes: int) -> Iterator[int]:
    """Beats of the bursts that move `count` bytes from an address on, over a bus of `bus_bytes`."""
    boundary = BOUNDARY_BYTES // bus_bytes
    first, end = address // bus_bytes, -(-(address + count) // bus_bytes)
    while first < end:
        beats = min(end - first, BURST_BEATS, boundary - first % boundary)
        yield beats
        first += beats
