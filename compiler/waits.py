"""Which command must be complete before which may start.

Engines run at once, each its own commands in order; the only ordering between two engines is a command's
`wait_<engine>` counts. They are derived here from what each step reads and writes of the scratchpad and the memory
(a read after a write, a write after a read, a write after a write), and from what the schedule names besides (the
accumulator banks, time stamps).

Every wait names a command that comes earlier in the list. That, and the bound on weights sent ahead (`prefetch.py`), is
why a program cannot deadlock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from intaglio.compiler.steps import Step
from intaglio.compiler.views import Interval
from intaglio.network import NetworkError
from intaglio.spec.commands import FORMATS, Engine
from intaglio.spec.limits import LONG_QUEUE_DEPTH, SEQUENCE_BITS

# Waits are compared modulo 2**16 as signed 16-bit numbers, and 0 waits for nothing. Two rules keep that exact.
# 1. A wait is dropped for a command that must be complete anyway by the time that the waiting one is dispatched: it
#    comes later in the list than command `k` of that engine, so the engine's commands up to `k - depth - 2`, of its
#    queue's depth, are complete. So a wait names one of an engine's last IN_FLIGHT commands, whatever came before,
#    the longest queue that is waited for being of LONG_QUEUE_DEPTH. (It may be compared much later, when the engine
#    is far ahead, if another of the command's waits holds it up: that is why there is rule 2.)
# 2. No engine gets more than COUNT_LIMIT commands, so `done - wait` never leaves -2**15...2**15 - 1.
IN_FLIGHT = LONG_QUEUE_DEPTH + 28
COUNT_LIMIT = (1 << (SEQUENCE_BITS - 1)) - 1


@dataclass(frozen=True)
class Ticket:
    """A command of the list: number `sequence`, counted from 1, of `engine`."""

    engine: Engine
    sequence: int


@dataclass
class _Entry:
    step: Step
    ticket: Ticket
    waits: dict[Engine, int] = field(default_factory=dict)

    def wait_for(self, other: Ticket) -> None:
        self.waits[other.engine] = max(self.waits.get(other.engine, 0), other.sequence)


class Waits:
    """The waits of steps in the order in which the machine fetches their commands.

    `whole`: stretches of the scratchpad in which a tensor is whole when a step is complete. Whoever writes there later
    waits for that step, even where the tensor's first rows have had their last reader.

    Raises NetworkError, naming the network, where an engine has more commands than can be counted.
    """

    def __init__(
        self, network: str, steps: Iterable[Step], whole: Iterable[tuple[Step, Interval]] = ()
    ) -> None:
        self._counts = dict.fromkeys(Engine, 0)
        self._recent: dict[Engine, deque[_Entry]] = {engine: deque(maxlen=IN_FLIGHT) for engine in Engine}
        self._guards: dict[Engine, deque[tuple[Interval, Ticket]]] = {
            engine: deque(maxlen=IN_FLIGHT) for engine in Engine
        }
        self._whole: dict[Step, list[Interval]] = {}
        for step, interval in whole:
            self._whole.setdefault(step, []).append(interval)
        self._entries: dict[Step, _Entry] = {}
        for step in steps:
            self._add(step)
        for engine, count in self._counts.items():
            if count > COUNT_LIMIT:
                raise NetworkError(
                    f"network {network}: it needs {count:,} {engine.name} commands, "
                    f"one program has at most {COUNT_LIMIT:,} ({count - COUNT_LIMIT:,} too many)"
                )
        for entry in self._entries.values():
            for earlier in entry.step.after:
                other = self._entries[earlier].ticket
                if other.engine != entry.ticket.engine:
                    entry.wait_for(other)

    def ticket(self, step: Step) -> Ticket:
        return self._entries[step].ticket

    def of(self, step: Step) -> Mapping[Engine, int]:
        """How many commands of which engines must be complete before the step's starts."""
        return self._entries[step].waits

    def _add(self, step: Step) -> None:
        engine = FORMATS[step.opcode].engine
        self._counts[engine] += 1
        entry = _Entry(step, Ticket(engine, self._counts[engine]))
        for recent in self._recent.values():
            for earlier in recent:
                if _depends(entry, earlier):
                    entry.wait_for(earlier.ticket)
        for guards in self._guards.values():
            for interval, other in guards:
                if other.engine == engine or not self._pending(other):
                    continue
                if any(interval.meets(place) for place in step.writes.scratchpad):
                    entry.wait_for(other)
        self._entries[step] = entry
        self._recent[engine].append(entry)
        self._guards[engine].extend((interval, entry.ticket) for interval in self._whole.get(step, ()))

    def _pending(self, ticket: Ticket) -> bool:
        """Whether a command may still be incomplete when the next one is dispatched."""
        return ticket.sequence > self._counts[ticket.engine] - IN_FLIGHT


def _depends(entry: _Entry, earlier: _Entry) -> bool:
    """Whether `entry` must wait. One engine's own order settles all but its reads of what it has itself written:
    those could overtake writes that are still on their way."""
    step, before = entry.step, earlier.step
    if step.reads.meets(before.writes):
        return True
    if entry.ticket.engine == earlier.ticket.engine:
        return False
    return step.writes.meets(before.reads) or step.writes.meets(before.writes)
