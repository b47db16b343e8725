"""Runs a list of commands: queues, waits, the weight stream, refusals. Which of the orders that the machine may take is
a policy of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from intaglio.sim.simulator.functional import commands
from intaglio.sim.simulator.functional.legality import (
    Grant,
    refused_at_dispatch,
    refused_by_engine,
    transfer_of,
)
from intaglio.sim.simulator.functional.matmul import matmul, stream_bytes
from intaglio.sim.simulator.functional.storage import Space, State
from intaglio.sim.simulator.functional.undefined import left_open
from intaglio.sim.simulator.functional.windows import Values
from intaglio.sim.simulator.machine import MachineStopped, fault_text
from intaglio.spec.commands import FORMATS, QUEUE_DEPTHS, WAITED, Engine, Opcode, decode
from intaglio.spec.limits import SEQUENCE_BITS
from intaglio.spec.registers import Cause

WAITS = {engine: f"wait_{engine.name.lower()}" for engine in WAITED}
_RUN: dict[Opcode, Callable[[State, Values], None]] = {
    Opcode.LOAD: commands.load,
    Opcode.STORE: commands.store,
    Opcode.RESCALE: commands.rescale,
    Opcode.MAX_POOL: commands.max_pool,
    Opcode.ELEMENTWISE: commands.elementwise,
}


class Stopped(MachineStopped):
    """The machine stopped itself: why, at which command, at which address in memory (0 where there is none)."""

    def __init__(self, cause: Cause, command: int, address: int = 0) -> None:
        super().__init__(fault_text(cause, command, address))
        self.cause, self.command, self.address = cause, command, address

    def __reduce__(self) -> tuple[type[Stopped], tuple[Cause, int, int]]:
        return Stopped, (self.cause, self.command, self.address)


class Order(Protocol):
    """Which of the steps that the machine may take next it takes."""

    ignore_waits: bool

    def queue(self, engine: Engine) -> int:
        """Commands that an engine holds at most, those at work in it included."""

    def dispatches(self) -> bool:
        """Whether the next command goes into its queue before anything else is done."""

    def choose(self, ready: Sequence[tuple[Engine, int]]) -> Engine:
        """Whose command goes on, of engines with the places in the list of theirs."""

    def beats(self, most: int) -> int:
        """How much of the weight stream moves at a time."""


class ListOrder:
    """The order of the list, as far as there are weights for it and room for them.

    It is one of the machine's: engines run their own commands in order, and a program waits for commands alone that
    come earlier in the list, which are complete when all of them are.
    """

    ignore_waits = False

    def queue(self, engine: Engine) -> int:
        return QUEUE_DEPTHS[engine] + 1

    def dispatches(self) -> bool:
        return True

    def choose(self, ready: Sequence[tuple[Engine, int]]) -> Engine:
        return min(ready, key=lambda entry: entry[1])[0]

    def beats(self, most: int) -> int:
        return most


class Interpreter:
    """Runs commands on a state, whole ones at a time but for the weight stream, which moves by beats.

    Parameters
    ----------
    fetch : the 64 bytes of the command at a place in the list
    count : commands in the list
    state : what they work on
    reads, writes : what the host granted
    order : which of the orders that waits and queues permit
    completed : called with an engine and how many commands it has completed, right after each

    Attributes
    ----------
    completed_commands : places in the list, in the order in which they completed
    stream : bytes of the weight stream that nobody has taken
    """

    def __init__(
        self,
        fetch: Callable[[int], bytes],
        count: int,
        state: State,
        reads: Grant,
        writes: Grant,
        order: Order,
        completed: Callable[[Engine, int], None] = lambda engine, count: None,
    ) -> None:
        self._fetch, self._count, self._state = fetch, count, state
        self._reads, self._writes = reads, writes
        self._order, self._completed = order, completed
        self._commands: list[tuple[Opcode, dict[str, int]]] = []
        """Those that have been fetched; the last may wait for room in its queue."""
        self._dispatched = 0
        self._queues: dict[Engine, list[int]] = {engine: [] for engine in Engine}
        self._done = dict.fromkeys(Engine, 0)
        self.completed_commands: list[int] = []
        self.stream = bytearray()
        self._taken = bytearray()
        """Of the stream, by the MATMUL at work."""
        self._moved = 0
        """Beats of the WEIGHTS at work."""

    def run(self) -> None:
        """Runs all commands.

        Raises
        ------
        Stopped
            Where the machine would have stopped itself; with the cause WATCHDOG where nothing goes on.
        """
        while len(self.completed_commands) < self._count:
            ready = [
                (engine, queue[0])
                for engine, queue in self._queues.items()
                if queue and self._ready(queue[0])
            ]
            queue = self._next_queue()
            if queue is not None and (not ready or self._order.dispatches()):
                queue.append(self._dispatched)
                self._dispatched += 1
            elif ready:
                self._step(self._order.choose(ready))
            else:
                raise Stopped(Cause.WATCHDOG, 0)

    def _next_queue(self) -> list[int] | None:
        """Where the next command goes, if there is one and room for it. Raises Stopped for one that nobody takes."""
        index = self._dispatched
        if index == self._count:
            return None
        if index == len(self._commands):
            encoded = self._fetch(index)
            if cause := refused_at_dispatch(encoded, self._state.config):
                raise Stopped(cause, index)
            self._commands.append(decode(encoded))
        engine = FORMATS[self._commands[index][0]].engine
        queue = self._queues[engine]
        return queue if len(queue) < self._order.queue(engine) else None

    def _ready(self, index: int) -> bool:
        """Whether the command at the head of its queue can go on, if only to be refused."""
        opcode, values = self._commands[index]
        if not self._order.ignore_waits and not all(
            _reached(self._done[engine], values[name]) for engine, name in WAITS.items()
        ):
            return False
        if opcode is Opcode.WEIGHTS:
            return self._room() > 0
        if opcode is Opcode.MATMUL:
            return bool(self.stream) or refused_by_engine(opcode, values, self._state.config)
        return True

    def _room(self) -> int:
        """Beats that the weight buffer can take."""
        config = self._state.config
        return (config.weight_buffer_bytes - len(self.stream)) // config.bus_bytes

    def _step(self, engine: Engine) -> None:
        index = self._queues[engine][0]
        opcode, values = self._commands[index]
        self._state.command = index
        if refused_by_engine(opcode, values, self._state.config):
            raise Stopped(Cause.ILLEGAL_FIELD, index)
        if self._state.watch is not None and (why := left_open(opcode, values, self._state.config)):
            self._state.watch.undefined(index, why)
        if opcode is Opcode.WEIGHTS:
            complete = self._weights(index, values)
        elif opcode is Opcode.MATMUL:
            complete = self._matmul(values)
        else:
            self._transfer(index, opcode, values)
            _RUN[opcode](self._state, values)
            complete = True
        if complete:
            self._queues[engine].pop(0)
            self._done[engine] += 1
            self.completed_commands.append(index)
            self._completed(engine, self._done[engine])

    def _transfer(self, index: int, opcode: Opcode, values: Values) -> None:
        """Checks and counts what a command moves between chip and memory, if it does."""
        if opcode not in (Opcode.LOAD, Opcode.STORE, Opcode.WEIGHTS):
            return
        grant = self._writes if opcode is Opcode.STORE else self._reads
        region, starts, size = transfer_of(opcode, values, self._state.config)
        if refused := grant.refused(region, starts, size):
            raise Stopped(refused[0], index, refused[1])
        beats = grant.beats(starts, size) * values.get("times", 1)
        if opcode is Opcode.STORE:
            self._state.write_beats += beats
        else:
            self._state.read_beats += beats

    def _weights(self, index: int, values: Values) -> bool:
        """Some of the beats, all of one stretch; whether the last has been moved."""
        if not self._moved:
            self._transfer(index, Opcode.WEIGHTS, values)
        beat, beats = self._state.config.bus_bytes, values["beats"]
        turn, place = divmod(self._moved, beats)
        count = self._order.beats(min(self._room(), beats - place))
        region, starts, _ = transfer_of(Opcode.WEIGHTS, values, self._state.config)
        first = self._state.memory.starts[region] + int(starts[turn // values["times"]]) + beat * place
        self.stream += self._state.memory.common(first, first + beat * count).tobytes()
        if self._state.watch is not None:
            self._state.touch(np.arange(first, first + beat * count), Space.MEMORY)
        self._moved = (self._moved + count) % (beats * values["times"] * values["stretches"])
        return self._moved == 0

    def _matmul(self, values: Values) -> bool:
        """Takes what has arrived of its weights, and runs when all of them have; whether they have."""
        whole = stream_bytes(values, self._state.config)
        wanted = whole - len(self._taken)
        self._taken += self.stream[:wanted]
        del self.stream[:wanted]
        if len(self._taken) < whole:
            return False
        taken, self._taken = bytes(self._taken), bytearray()
        matmul(self._state, values, taken)
        return True


def _reached(done: int, wait: int) -> bool:
    """Whether an engine that has completed `done` commands has completed those that are waited for: compared modulo
    ``2**16``; 0 waits for nothing."""
    half = 1 << (SEQUENCE_BITS - 1)
    return not wait or (done - wait) % (2 * half) < half
