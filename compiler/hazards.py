"""The command list and its waits: which command must be complete before which may start.

Engines run at once, each its own commands in order; the only ordering between two engines is a command's
`wait_<engine>` counts. They are derived here from what each command reads and writes of the scratchpad and the memory
(a read after a write, a write after a read, a write after a write), and from what the caller names besides (the
accumulator banks).

Every wait names a command that comes earlier in the list. That, and the bound on weights sent ahead (`lower.py`), is
why a program cannot deadlock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from intaglio.compiler.views import Interval
from intaglio.network import NetworkError
from intaglio.spec.commands import FORMATS, SEQUENCE_BITS, Engine, Opcode, encode
from intaglio.spec.limits import QUEUE_DEPTH

# Waits are compared modulo 2**16 as signed 16-bit numbers, and 0 waits for nothing. Two rules keep that exact.
# 1. A wait is dropped for a command that must be complete anyway by the time that the waiting one is dispatched: it
#    comes later in the list than command `k` of that engine, so the engine's commands up to `k - QUEUE_DEPTH - 2` are
#    complete. So a wait names one of an engine's last IN_FLIGHT commands, whatever came before. (It may be compared
#    much later, when the engine is far ahead, if another of the command's waits holds it up: that is why there is
#    rule 2.)
# 2. No engine gets more than COUNT_LIMIT commands, so `done - wait` never leaves -2**15...2**15 - 1.
IN_FLIGHT = QUEUE_DEPTH + 28
COUNT_LIMIT = (1 << (SEQUENCE_BITS - 1)) - 1


@dataclass(frozen=True)
class Ticket:
    """A command in the list: number `sequence`, counted from 1, of `engine`."""

    engine: Engine
    sequence: int
    index: int


@dataclass(frozen=True)
class Places:
    """What a command touches: stretches of the scratchpad, and of the memory."""

    scratchpad: tuple[Interval, ...] = ()
    memory: tuple[Interval, ...] = ()

    def meets(self, other: Places) -> bool:
        pairs = ((self.scratchpad, other.scratchpad), (self.memory, other.memory))
        return any(a.meets(b) for ours, theirs in pairs for a in ours for b in theirs)

    def __bool__(self) -> bool:
        return bool(self.scratchpad or self.memory)


NOTHING = Places()


@dataclass
class _Entry:
    ticket: Ticket
    owner: str
    opcode: Opcode
    values: dict[str, int]
    reads: Places
    writes: Places
    waits: dict[Engine, int] = field(default_factory=dict)

    def wait_for(self, other: Ticket) -> None:
        self.waits[other.engine] = max(self.waits.get(other.engine, 0), other.sequence)


class CommandList:
    """Commands in the order in which the machine fetches them."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._counts = dict.fromkeys(Engine, 0)
        self._recent: dict[Engine, deque[_Entry]] = {engine: deque(maxlen=IN_FLIGHT) for engine in Engine}
        self._guards: dict[Engine, deque[tuple[Interval, Ticket]]] = {
            engine: deque(maxlen=IN_FLIGHT) for engine in Engine
        }
        self._last_mark: Ticket | None = None

    def add(
        self,
        owner: str,
        opcode: Opcode,
        values: Mapping[str, int],
        *,
        reads: Places = NOTHING,
        writes: Places = NOTHING,
        after: Iterable[Ticket] = (),
    ) -> Ticket:
        """Append a command; it waits for what it depends on and for the commands in `after`. `owner` is whom an
        error message names."""
        engine = FORMATS[opcode].engine
        self._counts[engine] += 1
        ticket = Ticket(engine, self._counts[engine], len(self._entries))
        entry = _Entry(ticket, owner, opcode, dict(values), reads, writes)
        for other in after:
            if self._pending(other):
                entry.wait_for(other)
        for recent in self._recent.values():
            for earlier in recent:
                if self._depends(entry, earlier):
                    entry.wait_for(earlier.ticket)
        for guards in self._guards.values():
            for interval, other in guards:
                if other.engine == engine or not self._pending(other):
                    continue
                if any(interval.meets(place) for place in writes.scratchpad):
                    entry.wait_for(other)
        self._entries.append(entry)
        self._recent[engine].append(entry)
        return ticket

    def _pending(self, ticket: Ticket) -> bool:
        """Whether a command may still be incomplete when the next one is dispatched."""
        return ticket.sequence > self._counts[ticket.engine] - IN_FLIGHT

    @staticmethod
    def _depends(entry: _Entry, earlier: _Entry) -> bool:
        """Whether `entry` must wait. One engine's own order settles all but its reads of what it has itself written:
        those could overtake writes that are still on their way."""
        if entry.reads.meets(earlier.writes):
            return True
        if entry.ticket.engine == earlier.ticket.engine:
            return False
        return entry.writes.meets(earlier.reads) or entry.writes.meets(earlier.writes)

    def after(self, ticket: Ticket, others: Iterable[Ticket]) -> None:
        """Let a command wait for earlier ones of other engines as well."""
        for other in others:
            if other.engine != ticket.engine:
                self._entries[ticket.index].wait_for(other)

    def guard(self, interval: Interval, ticket: Ticket) -> None:
        """From here on, whoever writes into `interval` waits for `ticket`: a tensor stays whole until the last of
        the commands that write it is complete, even where its first rows have had their last reader."""
        self._guards[ticket.engine].append((interval, ticket))

    def mark(self, ticket: Ticket) -> bool:
        """Let the command take the next time stamp; False where it, or one after it in the list, has taken one. Marks
        are stored in the order in which the marked commands complete, so each waits for the one before, where data do
        not make it wait anyway."""
        if self._last_mark is not None and self._last_mark.index >= ticket.index:
            return False
        entry = self._entries[ticket.index]
        entry.values["mark"] = 1
        if self._last_mark is not None and self._last_mark.engine != ticket.engine:
            entry.wait_for(self._last_mark)
        self._last_mark = ticket
        return True

    def encode(self, network: str) -> bytes:
        """The bytes of the list. Raises NetworkError naming the owner of a command that has a field out of range."""
        for engine, count in self._counts.items():
            if count > COUNT_LIMIT:
                raise NetworkError(
                    f"network {network}: it needs {count:,} {engine.name} commands, "
                    f"one program has at most {COUNT_LIMIT:,} ({count - COUNT_LIMIT:,} too many)"
                )
        commands = []
        for entry in self._entries:
            waits = {f"wait_{engine.name.lower()}": count for engine, count in entry.waits.items()}
            try:
                commands.append(encode(entry.opcode, entry.values | waits))
            except ValueError as error:
                raise NetworkError(f"{entry.owner}: too large for a command: {error}") from None
        return b"".join(commands)
