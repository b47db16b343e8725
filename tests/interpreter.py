"""Programs run in orders drawn at random, over garbage, and a proof of a program's order.

The interpreter of the functional backend runs a program's commands in an order drawn at random from all that waits and
queues permit, over garbage in memory, scratchpad, accumulators and tables, with everything noticed that no definition
covers. Besides, the order is proved: of every two commands that touch one element, one of them writing, the later one
in the list waits for the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from intaglio.compiler import Binding, Probe, Program
from intaglio.sim.simulator.functional.arithmetic import Integers
from intaglio.sim.simulator.functional.interpreter import WAITS, Interpreter
from intaglio.sim.simulator.functional.legality import Grant
from intaglio.sim.simulator.functional.storage import Memory, Space, State, region_starts
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.spec.commands import COMMAND_BYTES, FORMATS, QUEUE_DEPTHS, SOFTMAX_PLANES, TABLE_ENTRIES, Engine
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

Clock = dict[Engine, int]

PIPELINED = 16
"""Commands that an engine is taken to have at work at most, besides its queue."""


class RandomOrder:
    """Any order that waits and queues permit; with `ignore_waits`, queues alone. Engines differ in speed."""

    def __init__(self, rng: np.random.Generator, ignore_waits: bool) -> None:
        self._rng, self.ignore_waits = rng, ignore_waits
        held = int(rng.choice([0, 1, 2, PIPELINED]))
        self._queues = {engine: depth + held for engine, depth in QUEUE_DEPTHS.items()}
        self._speed = {engine: rng.exponential() + 0.01 for engine in Engine}

    def queue(self, engine: Engine) -> int:
        return self._queues[engine]

    def dispatches(self) -> bool:
        return self._rng.random() < 0.7

    def choose(self, ready: Sequence[tuple[Engine, int]]) -> Engine:
        weights = np.array([self._speed[engine] for engine, _ in ready])
        return ready[self._rng.choice(len(ready), p=weights / weights.sum())][0]

    def beats(self, most: int) -> int:
        return min(most, int(self._rng.integers(1, 200)))


class Machine:
    """Runs a program on one inference, given without a batch axis; notices what no program may do.

    Attributes
    ----------
    memory, scratchpad, banks, parameters : what they hold; elements are unsigned patterns
    probes : by tensor, its values when the program says that it is whole
    completed : indices of commands in the order in which they completed
    reads, writes : what each command touched, by command index and space; wanted by `check_order`
    """

    def __init__(
        self,
        program: Program,
        config: AcceleratorConfig,
        inputs: Mapping[str, npt.NDArray],
        rng: np.random.Generator,
        ignore_waits: bool = False,
    ) -> None:
        self.program, self.config = program, config
        self.starts = region_starts(program.region_bytes)
        memory = rng.integers(0, 256, program.memory_bytes, np.uint8)
        memory[self.starts[Region.PROGRAM] :][: len(program.image)] = program.image
        for binding in program.inputs:
            memory[self.place(binding)] = binding.pack(inputs[binding.tensor][None])[0]
        self.state = state = State(config, Memory(memory, self.starts, range(len(memory)), 1), 1, self)
        state.scratchpad[:] = rng.integers(0, 1 << config.element_bits, state.scratchpad.shape)
        for bank in (0, 1):
            state.banks[bank][:] = rng.integers(-99, 99, state.banks[bank].shape)
            state.parameters[bank] = rng.bytes(config.parameter_beats * config.bus_bytes)
        state.tables[:] = rng.integers(0, 128, (1, SOFTMAX_PLANES, TABLE_ENTRIES))
        self._probes: dict[tuple[Engine, int], list[Probe]] = {}
        for probe in program.probes:
            self._probes.setdefault((probe.engine, probe.sequence), []).append(probe)
        self._interpreter = Interpreter(
            lambda index: program.commands[index * COMMAND_BYTES : (index + 1) * COMMAND_BYTES],
            program.command_count,
            state,
            Grant.reads(MemoryMap.of(program, config), program.region_bytes, config),
            Grant.writes(MemoryMap.of(program, config), program.region_bytes, config),
            RandomOrder(rng, ignore_waits),
            self._take,
        )
        self.completed = self._interpreter.completed_commands
        self.probes: dict[str, npt.NDArray] = {}
        self.reads: dict[int, dict[Space, Integers]] = {}
        self.writes: dict[int, dict[Space, Integers]] = {}

    def place(self, binding: Binding) -> slice:
        """Where a tensor lies in `memory`."""
        first = self.starts[binding.region] + binding.offset
        return slice(first, first + binding.bytes)

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        return self.state.memory.common(0, self.state.memory.size)

    @property
    def scratchpad(self) -> npt.NDArray[np.uint8]:
        return self.state.scratchpad[0]

    @property
    def banks(self) -> list[Integers]:
        return [bank[0] for bank in self.state.banks]

    @property
    def parameters(self) -> list[bytes]:
        return self.state.parameters

    def run(self) -> Machine:
        self._interpreter.run()
        assert not self._interpreter.stream, "weights were left over"
        return self

    def _take(self, engine: Engine, sequence: int) -> None:
        for probe in self._probes.get((engine, sequence), ()):
            self.probes[probe.tensor] = probe.values_of(self.scratchpad[probe.address :][: probe.elements])

    # What the interpreter tells.

    def read(self, command: int, space: Space, elements: Integers) -> None:
        touched = _touch(self.reads.setdefault(command, {}), space, elements)
        self._check_apart(command, space, touched, self.writes)

    def write(self, command: int, space: Space, elements: Integers) -> None:
        written = self.writes.setdefault(command, {})
        before = written.get(space, ())
        after = _touch(written, space, elements)
        what = "a byte" if space is Space.MEMORY else "an element"
        assert len(after) == len(before) + elements.size, f"command {command} writes {what} twice"
        self._check_apart(command, space, after, self.reads)

    def _check_apart(
        self, command: int, space: Space, touched: Integers, others: dict[int, dict[Space, Integers]]
    ) -> None:
        other = others.get(command, {}).get(space)
        if other is not None:
            assert not np.isin(touched, other).any(), f"command {command} writes what it reads"

    def undefined(self, command: int, why: str) -> None:
        raise AssertionError(f"command {command}: {why}")


def _touch(log: dict[Space, Integers], space: Space, elements: npt.ArrayLike) -> Integers:
    """What of a space a command has touched so far, these included."""
    touched = np.unique(np.asarray(elements, np.int64))
    log[space] = np.union1d(log[space], touched) if space in log else touched
    return log[space]


# The order of commands.


def clocks(program: Program) -> list[Clock]:
    """For each command, how many commands of each engine are surely complete when it starts.

    By its waits, and those of whatever it waits for; by those of its own engine's commands before it, which have
    started; and because it has been dispatched, with all before it in the list, of which no more than so many are in
    each engine and its queue.
    """
    starts: list[Clock] = []
    of_engine: dict[Engine, list[int]] = {engine: [] for engine in Engine}
    for index in range(program.command_count):
        opcode, values = program.command(index)
        own = of_engine[FORMATS[opcode].engine]
        clock = dict(starts[own[-1]]) if own else dict.fromkeys(Engine, 0)
        for engine, earlier in of_engine.items():
            known = max(0, len(earlier) - QUEUE_DEPTHS[engine] - PIPELINED)
            if engine in WAITS:
                assert values[WAITS[engine]] <= len(earlier), "a wait for a later command"
                known = max(known, values[WAITS[engine]])
            if known > clock[engine]:
                _join(clock, starts[earlier[known - 1]])
                clock[engine] = known
        starts.append(clock)
        own.append(index)
    return starts


def _join(clock: Clock, other: Clock) -> None:
    for engine, count in other.items():
        clock[engine] = max(clock[engine], count)


class Touched:
    """The last command of each engine that has read, and that has written, each element of a space."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: dict[tuple[str, Engine], npt.NDArray[np.int32]] = {}

    def record(self, how: str, engine: Engine, elements: Integers, sequence: int) -> None:
        last = self._last.setdefault((how, engine), np.zeros(self._size, np.int32))
        last[elements] = np.maximum(last[elements], sequence)

    def unordered(
        self, how: str, elements: Integers, clock: Clock, besides: Engine | None = None
    ) -> Iterator[tuple[Engine, int, int]]:
        """Engine, sequence number and element of what may not be complete; not of engine `besides`."""
        for (kind, engine), last in self._last.items():
            if kind == how and engine is not besides:
                late = elements[last[elements] > clock[engine]]
                if len(late):
                    yield engine, int(last[late[0]]), int(late[0])


def check_order(program: Program, machine: Machine) -> None:
    """Whatever a command reads has been written, and whatever it writes has been read and written, by commands that it
    surely comes after. A tensor of a probe is whole when its command completes.

    One engine's own order settles its own writes, but not its reads of what it has itself written.
    """
    config = machine.config
    sizes = {
        Space.SCRATCHPAD: config.scratchpad_elements,
        Space.MEMORY: len(machine.memory),
        Space.BANKS: 2 * config.accumulator_depth + 2,
    }
    spaces = {space: Touched(size) for space, size in sizes.items()}
    probes: dict[tuple[Engine, int], list[Probe]] = {}
    for probe in program.probes:
        probes.setdefault((probe.engine, probe.sequence), []).append(probe)
    counts = dict.fromkeys(Engine, 0)
    for index, clock in enumerate(clocks(program)):
        engine = FORMATS[program.command(index)[0]].engine
        counts[engine] += 1
        reads, writes = machine.reads.get(index, {}), machine.writes.get(index, {})
        conflicts = [
            *(("reads", "written", s, t, None) for s, t in reads.items()),
            *(("writes", "read", s, t, engine) for s, t in writes.items()),
            *(("writes", "written", s, t, engine) for s, t in writes.items()),
        ]
        for does, how, space, touched, besides in conflicts:
            for other, sequence, element in spaces[space].unordered(how, touched, clock, besides):
                raise AssertionError(
                    f"command {index} ({engine.name}#{counts[engine]}) {does} {space.value} {element}, "
                    f"{how} by {other.name}#{sequence}, unordered"
                )
        for how, touches in (("read", reads), ("written", writes)):
            for space, touched in touches.items():
                spaces[space].record(how, engine, touched, counts[engine])
        complete = clock | {engine: counts[engine]}
        for probe in probes.get((engine, counts[engine]), ()):
            whole = _elements_of(probe)
            for other, sequence, _ in spaces[Space.SCRATCHPAD].unordered("written", whole, complete):
                raise AssertionError(
                    f"{probe.tensor} may not be whole at {engine.name}#{probe.sequence}: {other.name}#{sequence}"
                )
            spaces[Space.SCRATCHPAD].record("read", engine, whole, probe.sequence)


def _elements_of(probe: Probe) -> Integers:
    elements = np.arange(probe.address, probe.address + probe.elements)
    if not probe.gap:
        return elements
    pixel = probe.shape[-1] * probe.digits
    return elements[np.arange(probe.elements) % (pixel + probe.gap) < pixel]
