"""The dispatcher: fetches commands in order, queues each for its engine, and starts it when its waits are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intaglio.compiler.cost.bus import Client
from intaglio.compiler.cost.events import Action, Clock
from intaglio.compiler.cost.timing import FETCH_COMMANDS, Timing
from intaglio.compiler.steps import AnyStep
from intaglio.compiler.waits import Waits
from intaglio.spec.commands import FORMATS, QUEUE_DEPTHS, Engine

NEVER = -1.0


@dataclass(eq=False)
class Command:
    """A step on its way: `seen` by its engine or not yet, `completed` at a time or NEVER."""

    step: AnyStep
    engine: Engine
    waits: tuple[tuple[Engine, int], ...]
    seen: bool = False
    completed: float = NEVER


class Dispatcher:
    """Hands commands to engines.

    Parameters
    ----------
    command_beats : beats of the bus that a command takes
    begin : called with a command whose waits are over, at the head of its queue; whoever runs it calls `leave` when it
        makes room there and the next may begin, and `complete`
    ask : called when there is room for commands to be fetched

    Attributes
    ----------
    client : of the bus
    commands : in their order
    """

    def __init__(
        self,
        clock: Clock,
        timing: Timing,
        steps: Sequence[AnyStep],
        waits: Waits,
        command_beats: int,
        begin: Callable[[Command], None],
        ask: Action,
    ) -> None:
        self.commands = [
            Command(step, FORMATS[step.opcode].engine, tuple(waits.of(step).items())) for step in steps
        ]
        self.client = Client(
            ended=self._fetch,
            room=FETCH_COMMANDS * command_beats,
            bursts=deque([command_beats] * len(steps)),
        )
        self._command_beats = command_beats
        self._clock, self._timing, self._begin, self._ask = clock, timing, begin, ask
        self._queues: dict[Engine, deque[Command]] = {engine: deque() for engine in Engine}
        self._at_work = dict.fromkeys(Engine, False)
        self._completed = dict.fromkeys(Engine, 0)
        self._fetched = self._sent = 0
        self._assembling = False
        self._held_by: Engine | None = None
        """The engine whose full queue keeps the command at hand."""

    def leave(self, engine: Engine) -> None:
        """The command at the head of an engine's queue leaves it, the cycle after it was taken."""
        self._clock.after(self._timing.leave, lambda: self._left(engine))

    def _left(self, engine: Engine) -> None:
        self._queues[engine].popleft()
        self._at_work[engine] = False
        if self._held_by == engine:
            self._send()
        self._start(engine)

    def complete(self, command: Command) -> None:
        """A command is complete: others may have waited for it."""
        command.completed = self._clock.now
        self._completed[command.engine] += 1
        for engine in Engine:
            self._start(engine)

    def _fetch(self, beats: int) -> None:
        self._fetched += 1
        self._assemble(self._timing.assembled)

    def _assemble(self, cycles: float) -> None:
        if not self._assembling and self._fetched > self._sent:
            self._assembling = True
            self._clock.after(cycles, self._assembled)

    def _assembled(self) -> None:
        self.client.room += self._command_beats
        self._ask()
        self._send()

    def _send(self) -> None:
        """Sends the command at hand, if its queue has room."""
        command = self.commands[self._sent]
        queue = self._queues[command.engine]
        depth = QUEUE_DEPTHS[command.engine]
        if len(queue) >= depth:
            self._held_by = command.engine
            return
        self._held_by = None
        queue.append(command)
        self._sent += 1
        # A register after the other.
        self._clock.after(depth, lambda: self._see(command))
        self._assembling = False
        self._assemble(2 + self._command_beats)

    def _see(self, command: Command) -> None:
        command.seen = True
        self._start(command.engine)

    def _start(self, engine: Engine) -> None:
        queue = self._queues[engine]
        if self._at_work[engine] or not queue or not queue[0].seen:
            return
        command = queue[0]
        for other, count in command.waits:
            if self._completed[other] < count:
                return
        self._at_work[engine] = True
        self._clock.after(self._timing.start, lambda: self._begin(command))
