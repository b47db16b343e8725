"""The dispatcher: fetches commands, refuses illegal ones, queues the rest for the engines, counts what completes."""

from collections.abc import Collection

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import DATA_BITS
from intaglio.hdl.bus.axi_read import READ_TRANSFER, read_beat
from intaglio.hdl.engines.command import CommandQueue, command_signature, pack_entry
from intaglio.hdl.storage.fifo import Fifo
from intaglio.spec.commands import (
    COMMAND_BITS,
    COMMAND_BYTES,
    FORMATS,
    HEADER,
    WAITED,
    Engine,
    Opcode,
    command_layout,
)
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_OFFSET_BITS, SEQUENCE_BITS
from intaglio.spec.regions import Region
from intaglio.spec.registers import Cause

__all__ = ["FETCH_COMMANDS", "Dispatcher"]

FETCH_COMMANDS = 4
"""Commands that are fetched ahead."""


class Dispatcher(wiring.Component):
    """Fetches `count` commands from `offset` of PROGRAM and queues each for its engine, in order, when that has room.

    Throughput: a command in two cycles more than it has beats, if the bus brings it.

    Parameters
    ----------
    opcodes : those that the machine has
    data_bits : of the bus

    Members
    -------
    offset, count : In
        The command list; stable while the machine runs.
    transfer : Out(stream of READ_TRANSFER)
    beats : In(stream of read_beat)
    space : Out
        Beats that can be taken.
    commands : Out(command_signature), one member an opcode, by its name in lower case
    done, done_mark : In(number of engines)
        An engine completes a command, one bit an engine.
    marks : Out(range(number of engines + 1))
        Marked commands that completed in the cycle before.
    fault, fault_cause, fault_command : Out
        The command at hand is refused.
    finished : Out(1)
        All commands are complete, two cycles after the last one was.
    """

    def __init__(self, opcodes: Collection[Opcode] = tuple(FORMATS), data_bits: int = DATA_BITS) -> None:
        self._opcodes = opcodes
        self._beats = COMMAND_BITS // data_bits
        self._fifo = Fifo(data_bits, FETCH_COMMANDS * self._beats)
        super().__init__(
            {
                "offset": In(MEMORY_OFFSET_BITS),
                "count": In(COMMAND_INDEX_BITS),
                "transfer": Out(stream.Signature(READ_TRANSFER)),
                "beats": In(stream.Signature(read_beat(data_bits))),
                "space": Out(self._fifo.space.shape()),
                **{opcode.name.lower(): Out(command_signature(opcode)) for opcode in opcodes},
                "done": In(len(Engine)),
                "done_mark": In(len(Engine)),
                "marks": Out(range(len(Engine) + 1)),
                "fault": Out(1),
                "fault_cause": Out(Cause),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        self._fetch(m)
        word, whole = self._assemble(m)
        completed = self._count(m)

        index = Signal(COMMAND_INDEX_BITS)
        sent = Signal()
        # The verdict on the command at hand, a cycle after it is whole.
        judged = Signal()
        known = Signal()
        legal = Signal()
        m.d.sync += [judged.eq(whole & ~sent), known.eq(0), legal.eq(0)]
        opcode = word[: HEADER[0].bits]
        for code in self._opcodes:
            name = code.name.lower()
            m.submodules[name] = queue = CommandQueue(code)
            wiring.connect(m, queue.o, wiring.flipped(getattr(self, name)))
            chosen = Signal(name=f"chosen_{name}")
            m.d.sync += chosen.eq(opcode == code.value)
            m.d.comb += [
                Value.cast(queue.i.payload).eq(pack_entry(word, code, index)),
                queue.i.valid.eq(judged & chosen & legal),
                *(port.eq(count) for port, count in zip(queue.completed, completed, strict=True)),
            ]
            with m.If(opcode == code.value):
                m.d.sync += [known.eq(1), legal.eq(_legal(word, code))]
            with m.If(chosen):
                m.d.comb += sent.eq(queue.i.valid & queue.i.ready)
        m.d.comb += [
            self._taken.eq(sent),
            self.fault.eq(judged & ~legal),
            self.fault_cause.eq(Mux(known, Cause.ILLEGAL_FIELD.value, Cause.ILLEGAL_OPCODE.value)),
            self.fault_command.eq(index),
        ]
        with m.If(sent):
            m.d.sync += index.eq(index + 1)
        return m

    def _fetch(self, m: Module) -> None:
        """Asks for the whole list, a command a transfer, as far ahead as the buffer holds."""
        asked = Signal(COMMAND_INDEX_BITS)
        m.d.comb += [
            self.transfer.valid.eq(asked != self.count),
            self.transfer.payload.region.eq(Region.PROGRAM),
            self.transfer.payload.offset.eq(self.offset + asked * COMMAND_BYTES),
            self.transfer.payload.beats.eq(self._beats),
            self.transfer.payload.command.eq(asked),
        ]
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.sync += asked.eq(asked + 1)
        m.submodules.fifo = fifo = self._fifo
        m.d.comb += [
            fifo.i.valid.eq(self.beats.valid),
            fifo.i.payload.eq(self.beats.payload.data),
            self.beats.ready.eq(fifo.i.ready),
            self.space.eq(fifo.space),
        ]

    def _assemble(self, m: Module) -> tuple[Signal, Signal]:
        """The command at hand and whether it is whole; the next one's beats push it out once it is taken."""
        source = self._fifo.o
        beats = [Signal(len(source.payload), name=f"beat_{index}") for index in range(self._beats)]
        held = Signal(range(self._beats + 1))
        whole = Signal()
        self._taken = Signal()
        m.d.comb += [whole.eq(held == self._beats), source.ready.eq(~whole)]
        with m.If(self._taken):
            m.d.sync += held.eq(0)
        with m.Elif(source.valid & source.ready):
            m.d.sync += held.eq(held + 1)
        # None comes while a command is whole, and so none while one is taken, which is known late.
        with m.If(source.valid & source.ready):
            m.d.sync += [
                now.eq(later) for now, later in zip(beats, [*beats[1:], source.payload], strict=True)
            ]
        word = Signal(COMMAND_BITS)
        m.d.comb += word.eq(Cat(beats))
        return word, whole

    def _count(self, m: Module) -> list[Signal]:
        """Completed commands of the engines that can be waited for; all of them, and marks, a cycle later."""
        completed = []
        for engine in WAITED:
            count = Signal(SEQUENCE_BITS, name=f"completed_{engine.name.lower()}")
            with m.If(self.done[engine]):
                m.d.sync += count.eq(count + 1)
            completed.append(count)
        total = Signal(COMMAND_INDEX_BITS + 1)
        # Completions come at the end of long paths: they are added up a cycle later.
        arrived = Signal(len(Engine))
        marked = Signal(len(Engine))
        m.d.sync += [
            arrived.eq(self.done),
            marked.eq(self.done_mark),
            total.eq(total + sum(arrived[engine] for engine in Engine)),
        ]
        m.d.comb += [
            self.finished.eq(total == self.count),
            self.marks.eq(sum(arrived[engine] & marked[engine] for engine in Engine)),
        ]
        return completed


def _legal(word: Value, opcode: Opcode) -> Value:
    """Whether reserved bits are zero, counts are not, and numbers name something."""
    places = command_layout(opcode)
    end = max(start + field.bits for start, field in places.values())
    reserved = [(start, field.bits) for name, (start, field) in places.items() if "reserved" in name]
    reserved.append((end, COMMAND_BITS - end))
    zero = [word[start : start + bits] == 0 for start, bits in reserved]
    counts = [places[name] for name in FORMATS[opcode].nonzero]
    nonzero = [word[start : start + field.bits] != 0 for start, field in counts]
    named = [
        word[start : start + field.bits] < field.choices for start, field in places.values() if field.choices
    ]
    return Cat(*zero, *nonzero, *named).all()
