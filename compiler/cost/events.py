"""Time: actions at their times, and beside them work that goes on at rates which depend on other work."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

Action = Callable[[], None]
LITTLE = 1e-6
"""Of a unit: what rounding leaves."""


@dataclass(eq=False)
class Resource:
    """What work waits for while it has users."""

    users: int = 0


@dataclass(eq=False)
class Flow:
    """Units of work that are read from the scratchpad, and then used.

    Attributes
    ----------
    left : units not used
    finished : called when all are
    reads, writes : vectors of the scratchpad that a unit reads and writes
    ahead : units that can be read before they are used
    fastest : units used in a cycle, at most
    behind : none is used while this has users
    unread : units not read
    rate, read_rate : units used and read in a cycle, now
    """

    left: float
    finished: Action
    reads: float = 0.0
    writes: float = 0.0
    ahead: float = 0.0
    fastest: float = 1.0
    behind: Resource | None = None
    unread: float = field(init=False)
    rate: float = field(default=0.0, init=False)
    read_rate: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.unread = self.left if self.reads else 0.0

    @property
    def held(self) -> float:
        """Units read and not used."""
        return self.left - self.unread

    def until(self) -> float:
        """Cycles until it is finished, or until its rates cannot be what they are any more."""
        rate, read_rate = self.rate, self.read_rate
        cycles = self.left / rate if rate else inf
        if self.ahead and self.unread:
            if read_rate:
                cycles = min(cycles, self.unread / read_rate)
            if read_rate > rate:
                cycles = min(cycles, (self.ahead - self.held) / (read_rate - rate))
            elif rate > read_rate:
                cycles = min(cycles, self.held / (rate - read_rate))
        return max(cycles, 0.0)

    def advance(self, cycles: float) -> None:
        self.left -= self.rate * cycles
        self.unread -= self.read_rate * cycles
        if self.unread < LITTLE:
            self.unread = 0.0


class Clock:
    """Runs actions in the order of their times, in cycles, and flows beside them.

    Parameters
    ----------
    share : sets the rates of the flows under way; called whenever they are others, and after `reshare`
    """

    def __init__(self, share: Callable[[Collection[Flow]], None]) -> None:
        self.now = 0.0
        self._share = share
        self._actions: list[tuple[float, int, Action]] = []
        self._number = 0
        self._flows: list[Flow] = []
        self._stale = False

    def after(self, cycles: float, action: Action) -> None:
        """Calls `action` so many cycles from now; those of one time in the order in which they came."""
        self._number += 1
        heappush(self._actions, (self.now + cycles, self._number, action))

    def flow(self, flow: Flow) -> None:
        """Work begins."""
        self._flows.append(flow)
        self._stale = True

    def reshare(self) -> None:
        """A resource has other users."""
        self._stale = True

    def run(self) -> None:
        """Until nothing is left to be done."""
        while True:
            if self._stale:
                self._stale = False
                self._share(self._flows)
            due, first = self._actions[0][0] if self._actions else inf, None
            for flow in self._flows:
                if (end := self.now + flow.until()) < due:
                    due, first = end, flow
            if due == inf:
                return
            for flow in self._flows:
                flow.advance(due - self.now)
            self.now = due
            if first is None:
                heappop(self._actions)[2]()
                continue
            self._stale = True
            if first.left < LITTLE:
                self._flows.remove(first)
                first.finished()
