# amaranth: UnusedElaboratable=no
"""Bench of `hdl/engines/dispatcher.py` and the queues in it: who gets which command when, and what is refused."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cocotb.triggers import ClockCycles

from intaglio.hdl.bus.axi_read import READ_TRANSFER
from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.dispatcher import Dispatcher
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.commands import Illegal, chosen_of, drawn, illegal, unknown_choices, zero_counts
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.commands import (
    COMMAND_BYTES,
    FORMATS,
    QUEUE_DEPTHS,
    SEQUENCE_BITS,
    WAITED,
    Engine,
    Opcode,
    encode,
)
from intaglio.spec.regions import Region
from intaglio.spec.registers import Cause

__all__ = ["configurations"]

MODULUS = 1 << SEQUENCE_BITS
HALF = MODULUS // 2


def configurations() -> list[Configuration]:
    every = tuple(FORMATS)
    some = tuple(opcode for opcode in every if opcode is not Opcode.ELEMENTWISE)
    return [
        Configuration(
            f"dispatcher_{len(opcodes)}",
            partial(Dispatcher, opcodes, 8 * beat_bytes),
            partial(_check, opcodes, beat_bytes),
            _bins(opcodes),
            mutants=opcodes == some,
        )
        for opcodes, beat_bytes in ((every, 16), (some, 8))
    ]


def _bins(opcodes: Sequence[Opcode]) -> list[str]:
    bins = [
        "an empty list",
        "a command of each opcode",
        "commands ten cycles apart",
        "a wait that is met when the command comes",
        "a wait that is met later",
        "a command that waits for two engines",
        "a wait across the end of the sequence",
        "a wait for the number before the end of the sequence",
        "a wait for far fewer than are complete",
        "a wait for nothing where half of all numbers are past",
        "two engines complete in one cycle",
        "every engine completes in one cycle",
        "two marked commands complete in one cycle",
        "a fault behind commands that still run",
        "a list at the end of memory",
        "a reset in the middle of a list",
        "an unknown opcode",
        "an opcode that differs from a known one by a bit",
    ]
    for opcode in opcodes:
        bins += [f"{opcode.name}: {name} is 0" for name in FORMATS[opcode].nonzero]
        bins += [f"{opcode.name}: a reserved bit {where}" for where in ("of the header", "behind the fields")]
        bins += [f"{opcode.name}: its queue is full", f"{opcode.name}: its queue has one place left"]
        bins += [f"{opcode.name}: no {name}" for name in chosen_of(opcode)]
    engines = {FORMATS[opcode].engine for opcode in opcodes}
    bins += [f"a wait for {engine.name}" for engine in WAITED if engine in engines]
    return bins


@dataclass
class _Command:
    opcode: Opcode
    values: dict[str, int]
    index: int

    @property
    def waits(self) -> dict[Engine, int]:
        return {engine: self.values.get(f"wait_{engine.name.lower()}", 0) for engine in WAITED}


class _Machine(Agent):
    """Memory, and engines that take commands and complete them in order some time later."""

    def __init__(self, stand: Stand, opcodes: Sequence[Opcode], beat_bytes: int, beats: Source) -> None:
        self._beat_bytes = beat_bytes
        self.command_beats = COMMAND_BYTES // beat_bytes
        self._stand = stand
        self._opcodes = opcodes
        self._beats = beats
        self.sinks = {
            opcode: Sink(stand, opcode.name.lower(), partial(self._taken, opcode)) for opcode in opcodes
        }
        self._layouts = {
            opcode: Packed(command_signature(opcode).members["payload"].shape) for opcode in opcodes
        }
        self._transfer = Packed(READ_TRANSFER)
        self.at_once = False
        self._room = 1
        beats.allowed = lambda: self._room > 0
        self.restart()

    def restart(self) -> None:
        self.base = self.asked = 0
        self.words: list[bytes] = []
        self.fault: tuple[Cause, int] | None = None
        self.faulted = 0
        self.count = 0
        self.completed = dict.fromkeys(Engine, 0)
        self.total = self._arrived = self._marked = 0
        self.taken_in: list[int] = []
        self._expected: dict[Opcode, deque[_Command]] = {opcode: deque() for opcode in self._opcodes}
        self._running: dict[Engine, deque[tuple[int, int]]] = {engine: deque() for engine in Engine}
        self._done = 0
        self._room = 0
        for sink in self.sinks.values():
            sink.restart()

    def ask(self, address: int, count: int, words: Sequence[bytes], commands: Sequence[_Command]) -> None:
        """A list in memory, and those of its commands that the engines are to get."""
        self.base, self.count, self.words = address, count, list(words)
        self._stand.write("offset", address)
        self._stand.write("count", count)
        for command in commands:
            self._expected[command.opcode].append(command)

    @property
    def finished(self) -> bool:
        return not any(self._expected.values()) and not any(self._running.values()) and not self._done

    def transfer(self, word: int) -> None:
        given = self._transfer.unpack(word)
        expected = {
            "offset": (self.base + COMMAND_BYTES * self.asked) % 2**32,
            "beats": self.command_beats,
            "command": self.asked,
            "region": Region.PROGRAM,
        }
        assert given == expected, f"asked for is {given}, not {expected}"
        data = self.words[self.asked] if self.asked < len(self.words) else bytes(COMMAND_BYTES)
        self.asked += 1
        size = self._beat_bytes
        for start in range(0, COMMAND_BYTES, size):
            value = int.from_bytes(data[start : start + size], "little")
            last = start + size == COMMAND_BYTES
            self._beats.queue.append(value | last << 8 * size)

    def met(self, command: _Command) -> bool:
        """Whether all that a command waits for is complete [docs/architecture.md: Engines]."""
        return all(
            not wait or (self.completed[engine] - wait) % MODULUS < HALF
            for engine, wait in command.waits.items()
        )

    def _taken(self, opcode: Opcode, word: int) -> None:
        command = self._expected[opcode].popleft()
        given = self._layouts[opcode].unpack(word)
        names = [field.name for field in FORMATS[opcode].fields]
        wrong = [name for name in names if given["body"].get(name, 0) != command.values.get(name, 0)]
        assert not wrong, (
            f"{wrong[0]} of {opcode.name} is {given['body'][wrong[0]]}, not {command.values[wrong[0]]}"
        )
        assert given["index"] == command.index, f"the command at {command.index} comes as {given['index']}"
        assert given["mark"] == command.values.get("mark", 0), "the mark of another command"
        engine, cycle = FORMATS[opcode].engine, self._stand.cycle
        # Some end where others end.
        delay = 0 if self.at_once else self._stand.random.choice((0, 1, 5, 20, 31 - cycle % 16))
        self._running[engine].append((cycle + 1 + delay, given["mark"]))
        self.taken_in.append(cycle)

    def sample(self) -> None:
        read, bins = self._stand.read, self._stand.bins
        for opcode, sink in self.sinks.items():
            if sink.offered:
                assert self._expected[opcode], f"a command for {opcode.name} that is not in the list"
                command = self._expected[opcode][0]
                assert self.met(command), f"the command at {command.index} does not wait"
            sink.sample()
        assert read("finished") == (self.total == self.count), "finished, or not, with another count"
        fault = read("fault")
        if fault:
            given = Cause(read("fault_cause")), read("fault_command")
            assert given == self.fault, f"refused is {given}, not {self.fault}"
            bins["a fault behind commands that still run"] += not self.finished
        self.faulted += fault
        space, moves = read("space"), self._beats.moves
        assert space or not moves, "a beat is taken without room"
        assert not space or read("beats__ready"), "no beat is taken though there is room"
        self._room = space - moves
        self._complete()

    def _complete(self) -> None:
        bins, done, marks = self._stand.bins, self._done, self._stand.read("done_mark") & self._done
        assert self._stand.read("marks") == self._marked.bit_count(), "marks that no engine had"
        self._marked = marks
        for engine in Engine:
            if done >> engine & 1:
                self.completed[engine] = (self.completed[engine] + 1) % MODULUS
        self.total += self._arrived
        self._arrived = done.bit_count()
        bins["two engines complete in one cycle"] += done.bit_count() == 2
        bins["two marked commands complete in one cycle"] += marks.bit_count() == 2

    def drive(self) -> None:
        done = marks = 0
        for engine, running in self._running.items():
            if running and running[0][0] <= self._stand.cycle + 1:
                _, mark = running.popleft()
                done |= 1 << engine
                marks |= mark << engine
            elif self._stand.random.random() < 0.5:
                marks |= 1 << engine  # means nothing without `done`
        self._done = done
        self._stand.write("done", done)
        self._stand.write("done_mark", marks)
        for sink in self.sinks.values():
            sink.drive()

    async def forward(self, cycles: int) -> None:
        """Every engine completes a command a cycle; nobody looks on."""
        everyone = (1 << len(Engine)) - 1
        self._stand.write("done", everyone)
        self._stand.write("done_mark", everyone)
        await ClockCycles(self._stand.clk, 1)
        assert self._stand.read("marks") in (0, len(Engine))  # 0 where the cycle before is seen
        await ClockCycles(self._stand.clk, cycles - 1)
        assert self._stand.read("marks") == len(Engine), "not every mark is counted"
        self._stand.write("done", 0)
        self._stand.cycle += cycles
        self.total += (cycles - 1) * len(Engine)
        self._arrived, self._marked = len(Engine), everyone
        self._stand.bins["every engine completes in one cycle"] += 1
        for engine in Engine:
            self.completed[engine] = (self.completed[engine] + cycles) % MODULUS


class _Bench:
    def __init__(self, stand: Stand, opcodes: Sequence[Opcode], beat_bytes: int) -> None:
        self.stand = stand
        self.opcodes = opcodes
        beats = Source(stand, "beats")
        self.machine = _Machine(stand, opcodes, beat_bytes, beats)
        self.asks = Sink(stand, "transfer", self.machine.transfer)
        for agent in (self.asks, self.machine, beats):
            stand.add(agent)
        self._beats = beats

    def pace(self, full: bool) -> None:
        paces = [self.asks.pace, self._beats.pace, *(sink.pace for sink in self.machine.sinks.values())]
        for pace in paces:
            pace.full = full
        self.machine.at_once = full

    def commands(self, count: int, waiting: bool = True) -> list[_Command]:
        """Legal commands, each of which waits for some of those before it."""
        draw, machine = self.stand.random, self.machine
        before = dict(machine.completed)
        found = []
        for index in range(count):
            opcode = draw.choice(self.opcodes)
            values = drawn(draw, opcode)
            for engine in WAITED:
                behind = draw.choice((0, 0, 1, 3, HALF - 100)) if waiting else HALF - 100
                if draw.random() < 0.7 or not waiting:
                    behind = HALF - 100
                nobody = waiting and draw.random() < 0.1
                values[f"wait_{engine.name.lower()}"] = 0 if nobody else (before[engine] - behind) % MODULUS
            before[FORMATS[opcode].engine] += 1
            found.append(_Command(opcode, values, index))
            self.cover(found[-1])
        return found

    def cover(self, command: _Command) -> None:
        """What of its waits is to come when the command is drawn."""
        bins, completed = self.stand.bins, self.machine.completed
        ahead = {engine: (wait - completed[engine]) % MODULUS for engine, wait in command.waits.items()}
        waits = [engine for engine, steps in ahead.items() if 0 < steps < HALF and command.waits[engine]]
        bins["a wait for nothing where half of all numbers are past"] += any(
            not wait and completed[engine] >= HALF for engine, wait in command.waits.items()
        )
        for engine in waits:
            bins[f"a wait for {engine.name}"] += 1
        bins["a wait that is met later"] += bool(waits)
        bins["a wait that is met when the command comes"] += 0 in ahead.values()
        bins["a command that waits for two engines"] += len(waits) > 1
        bins["a wait across the end of the sequence"] += any(
            command.waits[engine] < completed[engine] for engine in waits
        )
        bins["a wait for the number before the end of the sequence"] += MODULUS - 1 in command.waits.values()
        bins["a wait for far fewer than are complete"] += any(steps > HALF for steps in ahead.values())

    async def run(self, commands: Sequence[_Command], address: int, count: int | None = None) -> None:
        words = [encode(command.opcode, command.values) for command in commands]
        self.machine.ask(address, len(words) if count is None else count, words, commands)
        await self.stand.until(lambda: self.machine.finished, 400 * len(words) + 4000)
        await self.stand.tick(20)
        assert not self.machine.faulted, "a legal command is refused"


async def _check(opcodes: Sequence[Opcode], beat_bytes: int, stand: Stand, quick: bool) -> None:
    bench = _Bench(stand, opcodes, beat_bytes)
    draw = stand.random
    await stand.start()
    await bench.run([], 64)
    stand.bins["an empty list"] += 1
    for turn in range(20 if quick else 100):
        await stand.reset()
        bench.pace(turn % 5 == 0)
        commands = bench.commands(40, waiting=turn % 5 != 0)
        stand.bins["a command of each opcode"] += {command.opcode for command in commands} == set(opcodes)
        address = draw.choice((draw.getrandbits(29) << 3, 2**32 - 64 * 20))
        stand.bins["a list at the end of memory"] += address == 2**32 - 64 * 20
        start = stand.cycle
        await bench.run(commands, address)
        if turn % 5 == 0:
            took = bench.machine.taken_in[-1] - start
            assert took <= (bench.machine.command_beats + 2) * 40 + 20, f"40 commands in {took} cycles"
            stand.bins["commands ten cycles apart"] += 1
        if turn % 5 == 4:
            await stand.reset()
            words = [encode(command.opcode, command.values) for command in commands]
            bench.machine.ask(address, len(words), words, commands)
            await stand.tick(draw.randrange(20, 200))
            stand.bins["a reset in the middle of a list"] += not bench.machine.finished
    await _round_the_end(bench, 2 if quick else 6)
    for opcode in opcodes:
        await _fill(bench, opcode)
    await _refuse(bench, quick)


async def _round_the_end(bench: _Bench, turns: int) -> None:
    """Sequence numbers that go over 2**16 - 1."""
    for _ in range(turns):
        await bench.stand.reset()
        bench.pace(False)
        # Of a list that goes on and on some commands come; nothing is asked for meanwhile.
        bench.machine.ask(0, 2**32 - 1, [], [])
        await bench.machine.forward(MODULUS - 1 - bench.stand.random.randrange(4))
        commands = bench.commands(24)
        bench.asks.allowed = lambda: bench.machine.asked < 24
        await bench.run(commands, 0, 2**32 - 1)
        bench.asks.allowed = lambda: True


async def _fill(bench: _Bench, opcode: Opcode) -> None:
    """A queue holds so many commands, and one more stops what comes behind it."""
    stand, machine = bench.stand, bench.machine
    depth = QUEUE_DEPTHS[FORMATS[opcode].engine]
    other = next(each for each in bench.opcodes if each is not opcode)
    for extra in (0, 1):
        await stand.reset()
        bench.pace(True)
        machine.sinks[opcode].allowed = lambda: False
        order = [opcode] * (depth + extra) + [other]
        commands = [_Command(each, drawn(stand.random, each), index) for index, each in enumerate(order)]
        machine.ask(0, len(order), [encode(command.opcode, command.values) for command in commands], commands)
        await stand.tick((machine.command_beats + 2) * len(order) + 20)
        assert len(machine.taken_in) == 1 - extra, (
            f"a queue of {depth} commands of {opcode.name} holds others"
        )
        stand.bins[f"{opcode.name}: its queue is full"] += extra == 1
        stand.bins[f"{opcode.name}: its queue has one place left"] += extra == 0
        machine.sinks[opcode].allowed = lambda: True
        await stand.until(lambda: machine.finished, 400)
        assert len(machine.taken_in) == len(order)


async def _refuse(bench: _Bench, quick: bool) -> None:
    """Each kind of illegal command, alone and behind others: nothing at or behind it reaches an engine."""
    stand, draw = bench.stand, bench.stand.random
    for number, wrong in enumerate(illegal(draw, bench.opcodes, quick)):
        await stand.reset()
        before = bench.commands(draw.randint(1, 6)) if number % 8 == 0 else []
        bench.pace(number % 8 != 0)
        await _refused(bench, before, wrong)
    for opcode in bench.opcodes:
        for wrong in (*zero_counts(draw, opcode), *unknown_choices(draw, opcode)):
            await stand.reset()
            bench.pace(True)
            await _refused(bench, [], wrong)


async def _refused(bench: _Bench, before: Sequence[_Command], wrong: Illegal) -> None:
    stand, machine = bench.stand, bench.machine
    words: list[Any] = [encode(command.opcode, command.values) for command in before]
    behind = encode(Opcode.LOAD, drawn(stand.random, Opcode.LOAD))
    machine.fault = (wrong.cause, len(before))
    machine.ask(8 * stand.random.getrandbits(20), len(words) + 2, [*words, wrong.word, behind], before)
    await stand.until(lambda: machine.finished and machine.faulted > 0, 3000)
    await stand.tick(12 if before else 2)
    for bin_ in wrong.bins:
        stand.bins[bin_] += 1
