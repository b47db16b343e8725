"""Commands as Amaranth layouts, and the queue in front of each engine."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl import isa
from hdl.fifo import Fifo

__all__ = ["COMMAND_INDEX_BITS", "CommandQueue", "body_layout", "command_signature"]

COMMAND_INDEX_BITS = 32


def body_layout(opcode: isa.Opcode) -> data.StructLayout:
    """The fields of an opcode after the header."""
    return data.StructLayout(
        {
            field.name: signed(field.bits) if field.signed else field.bits
            for field in isa.FORMATS[opcode].fields
        }
    )


def command_signature(opcode: isa.Opcode) -> stream.Signature:
    """A stream of commands: the fields, the place in the command list, and whether to mark the completion."""
    return stream.Signature(
        data.StructLayout({"body": body_layout(opcode), "index": COMMAND_INDEX_BITS, "mark": 1})
    )


class CommandQueue(wiring.Component):
    """Holds an engine's commands until the engine is free and all that they wait for is complete.

    Latency: 2 cycles at least. Depth: `isa.QUEUE_DEPTH` commands, of WEIGHTS `isa.WEIGHTS_QUEUE_DEPTH`.

    Parameters
    ----------
    opcode : isa.Opcode

    Members
    -------
    i : In(stream)
        Payload: ``waits`` (one sequence number an engine of `isa.WAITED`), then `command_signature`'s.
    o : Out(command_signature)
    completed : In(isa.SEQUENCE_BITS) array
        Commands that each engine of `isa.WAITED` has completed since the start, modulo ``2**16``.
    """

    def __init__(self, opcode: isa.Opcode) -> None:
        self._depth = isa.WEIGHTS_QUEUE_DEPTH if opcode is isa.Opcode.WEIGHTS else isa.QUEUE_DEPTH
        self._command = command_signature(opcode).members["payload"].shape
        self._entry = data.StructLayout(
            {"waits": data.ArrayLayout(isa.SEQUENCE_BITS, len(isa.WAITED)), "command": self._command}
        )
        super().__init__(
            {
                "i": In(stream.Signature(self._entry)),
                "o": Out(command_signature(opcode)),
                "completed": In(isa.SEQUENCE_BITS).array(len(isa.WAITED)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fifo = fifo = Fifo(self._entry, self._depth)
        wiring.connect(m, wiring.flipped(self.i), fifo.i)
        met = Signal(len(isa.WAITED))
        for index, count in enumerate(self.completed):
            ahead = Signal(isa.SEQUENCE_BITS, name=f"ahead_{index}")
            m.d.comb += [
                ahead.eq(count - fifo.o.payload.waits[index]),
                met[index].eq(~ahead[-1]),
            ]
        m.d.comb += [
            self.o.valid.eq(fifo.o.valid & met.all()),
            self.o.payload.eq(fifo.o.payload.command),
            fifo.o.ready.eq(self.o.ready & met.all()),
        ]
        return m


def pack_entry(word: Signal, opcode: isa.Opcode, index: Signal) -> Cat:
    """The entry of a queue from the 512 bits of a command and its place in the list."""
    places = isa.layout(opcode)
    bits = {name: word[start : start + field.bits] for name, (start, field) in places.items()}
    return Cat(
        *(bits[f"wait_{engine.name.lower()}"] for engine in isa.WAITED),
        *(bits[field.name] for field in isa.FORMATS[opcode].fields),
        index,
        bits["mark"],
    )
