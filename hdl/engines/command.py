"""Commands as Amaranth layouts, and the queue in front of each engine."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.storage.register_queue import RegisterQueue
from intaglio.spec.commands import FORMATS, QUEUE_DEPTHS, WAITED, Opcode, command_layout
from intaglio.spec.limits import COMMAND_INDEX_BITS, SEQUENCE_BITS

__all__ = ["CommandQueue", "body_layout", "command_signature", "pack_entry"]


def body_layout(opcode: Opcode) -> data.StructLayout:
    """The fields of an opcode after the header."""
    return data.StructLayout(
        {field.name: signed(field.bits) if field.signed else field.bits for field in FORMATS[opcode].fields}
    )


def command_signature(opcode: Opcode) -> stream.Signature:
    """A stream of commands: the fields, the place in the command list, and whether to mark the completion."""
    return stream.Signature(
        data.StructLayout({"body": body_layout(opcode), "index": COMMAND_INDEX_BITS, "mark": 1})
    )


class CommandQueue(wiring.Component):
    """Holds an engine's commands until the engine is free and all that they wait for is complete.

    The fields of a command stand on `o` from the cycle before it is offered at the latest, so that an engine may decode
    them into registers. Between a command taken and the next one offered lie two cycles: that one is taken is known
    late in its cycle, and only a register hears of it.

    Depth: the engine's of `QUEUE_DEPTHS`. Latency: a cycle more than that.

    Parameters
    ----------
    opcode : Opcode

    Members
    -------
    i : In(stream)
        Payload: ``waits`` (one sequence number an engine of `WAITED`), then `command_signature`'s.
    o : Out(command_signature)
    completed : In(SEQUENCE_BITS) array
        Commands that each engine of `WAITED` has completed since the start, modulo ``2**SEQUENCE_BITS``.
    """

    def __init__(self, opcode: Opcode) -> None:
        self._opcode = opcode
        self._command = command_signature(opcode).members["payload"].shape
        self._entry = data.StructLayout(
            {"waits": data.ArrayLayout(SEQUENCE_BITS, len(WAITED)), "command": self._command}
        )
        super().__init__(
            {
                "i": In(stream.Signature(self._entry)),
                "o": Out(command_signature(opcode)),
                "completed": In(SEQUENCE_BITS).array(len(WAITED)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        depth = QUEUE_DEPTHS[FORMATS[self._opcode].engine]
        m.submodules.registers = registers = RegisterQueue(self._entry, depth)
        wiring.connect(m, wiring.flipped(self.i), registers.i)
        queue = registers.o
        met = Signal(len(WAITED))
        for index, count in enumerate(self.completed):
            ahead = Signal(SEQUENCE_BITS, name=f"ahead_{index}")
            m.d.comb += [
                ahead.eq(count - queue.payload.waits[index]),
                met[index].eq(~ahead[-1]),
            ]
        stands = Signal()
        taken = Signal()
        leaves = Signal()
        m.d.comb += [
            self.o.valid.eq(stands & ~leaves),
            taken.eq(self.o.valid & self.o.ready),
            self.o.payload.eq(queue.payload.command),
            queue.ready.eq(leaves),
        ]
        m.d.sync += [leaves.eq(taken), stands.eq(queue.valid & met.all() & ~leaves)]
        return m


def pack_entry(word: Signal, opcode: Opcode, index: Signal) -> Cat:
    """The entry of a queue from the bits of a command and its place in the list."""
    places = command_layout(opcode)
    bits = {name: word[start : start + field.bits] for name, (start, field) in places.items()}
    return Cat(
        *(bits[f"wait_{engine.name.lower()}"] for engine in WAITED),
        *(bits[field.name] for field in FORMATS[opcode].fields),
        index,
        bits["mark"],
    )
