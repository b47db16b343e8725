"""The engines that move data between memory and the chip: LOAD, WEIGHTS, STORE."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.bus.axi import DATA_BITS
from intaglio.hdl.bus.axi_read import READ_TRANSFER, read_beat
from intaglio.hdl.bus.axi_write import WRITE_TRANSFER
from intaglio.hdl.bus.bursts import beat_offset_bits
from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.last_turn import last_turn
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.register_slice import RegisterSlice
from intaglio.hdl.storage.scratchpad import READ_LATENCY, address_bits, read_signature, write_signature
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import (
    COMMAND_INDEX_BITS,
    MEMORY_ADDRESS_BITS,
    TRANSFER_BITS,
    WEIGHTS_QUEUE_DEPTH,
)

__all__ = ["Load", "Store", "Weights"]


class _Rows:
    """Walks the rows of a LOAD or STORE: addresses on either side of the one at hand."""

    def __init__(
        self, m: Module, config: AcceleratorConfig, command: data.View, step: Value, name: str
    ) -> None:
        row = Signal(len(command.body.rows), name=f"{name}_row")
        memory = Signal(MEMORY_ADDRESS_BITS, name=f"{name}_memory_offset")
        scratchpad = Signal(address_bits(config), name=f"{name}_scratchpad_offset")
        body = command.body
        self.last = last_turn(m, row, body.rows, step, name=f"{name}_row_last")
        self.address = (body.memory_address + memory)[:MEMORY_ADDRESS_BITS]
        self.element = (body.scratchpad_address + scratchpad)[: address_bits(config)]
        with m.If(step):
            m.d.sync += [
                row.eq(Mux(self.last, 0, row + 1)),
                memory.eq(Mux(self.last, 0, memory + body.memory_pitch)),
                scratchpad.eq(Mux(self.last, 0, scratchpad + body.scratchpad_pitch)),
            ]


class _Beats:
    """Walks the beats of a row: where each lies in the scratchpad, and which of its bytes are the row's."""

    def __init__(
        self, m: Module, config: AcceleratorConfig, rows: _Rows, row_bytes: Value, step: Value, name: str
    ) -> None:
        bits = beat_offset_bits(config.bus_bits)
        beat = Signal(TRANSFER_BITS - bits + 1, name=f"{name}_beat")
        offset = rows.address[:bits]
        # The row's end in bytes from the start of its first beat.
        end = offset + row_bytes
        self.last = ((beat + 1) << bits) >= end
        first = beat == 0
        all_bytes = Const(1, 1).replicate(config.bus_bytes)
        begun = Mux(first, all_bytes << offset, all_bytes)
        self.bytes = Cat(
            begun[lane] & (Cat(Const(lane, bits), beat) < end) for lane in range(config.bus_bytes)
        )
        # Element of the beat's lane 0; in a first beat that is before the row's start.
        shift = exact_log2(8 // config.element_bits)
        elements = (Cat(Const(0, bits), beat) - offset) << shift
        self.element = (rows.element + elements)[: address_bits(config)]
        with m.If(step):
            m.d.sync += beat.eq(Mux(self.last, 0, beat + 1))


class Load(wiring.Component):
    """Runs LOAD commands: memory to scratchpad, a beat a cycle, a cycle after it came.

    Transfers of all rows are asked for ahead of the data; the next command begins when this one is written.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    transfer : Out(stream of READ_TRANSFER)
    beats : In(stream of read_beat)
    write : Out(write_signature)
    done, done_mark : Out(1)
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.LOAD)),
                "transfer": Out(stream.Signature(READ_TRANSFER)),
                "beats": In(stream.Signature(read_beat(config.bus_bits))),
                "write": Out(write_signature(config)),
                "done": Out(1),
                "done_mark": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        command = self.command.payload

        asked = Signal()
        all_asked = Signal()
        asking = _Rows(m, config, command, asked, "asking")
        m.d.comb += [
            self.transfer.valid.eq(self.command.valid & ~all_asked),
            self.transfer.payload.address.eq(asking.address),
            self.transfer.payload.beats.eq(_beats_of(config, asking.address, command.body.row_bytes)),
            self.transfer.payload.command.eq(command.index),
            asked.eq(self.transfer.valid & self.transfer.ready),
        ]

        taken = Signal()
        row_taken = Signal()
        rows = _Rows(m, config, command, row_taken, "writing")
        beats = _Beats(m, config, rows, command.body.row_bytes, taken, "writing")
        # Whose turn it is to write is known late in a cycle: what is to be written waits for it in registers.
        m.submodules.waiting = waiting = RegisterSlice(
            data.StructLayout(
                {
                    "address": len(beats.element),
                    "bytes": config.bus_bytes,
                    "data": config.bus_bits,
                    "ends": 1,
                }
            )
        )
        written = waiting.o.payload
        a_byte = 8 // config.element_bits
        m.d.comb += [
            waiting.i.valid.eq(self.beats.valid & self.command.valid),
            waiting.i.payload.address.eq(beats.element),
            waiting.i.payload.bytes.eq(beats.bytes),
            waiting.i.payload.data.eq(self.beats.payload.data),
            waiting.i.payload.ends.eq(beats.last & rows.last),
            self.beats.ready.eq(waiting.i.ready & self.command.valid),
            taken.eq(self.beats.valid & self.beats.ready),
            row_taken.eq(taken & beats.last),
            self.write.valid.eq(waiting.o.valid),
            self.write.payload.address.eq(written.address),
            self.write.payload.mask.eq(Cat(bit.replicate(a_byte) for bit in written.bytes)),
            self.write.payload.data.eq(written.data),
            waiting.o.ready.eq(self.write.ready),
            self.done.eq(self.write.valid & self.write.ready & written.ends),
            self.done_mark.eq(command.mark),
            self.command.ready.eq(self.done),
            self.busy.eq(self.command.valid),
        ]
        # Between two commands none is offered.
        with m.If(~self.command.valid):
            m.d.sync += all_asked.eq(0)
        with m.Elif(asked & asking.last):
            m.d.sync += all_asked.eq(1)
        return m


class Weights(wiring.Component):
    """Runs WEIGHTS commands: memory to the weight stream, a transfer for each time that a stretch is sent.

    A transfer is asked for as soon as the one before has been, so the stream has no gap between them.

    Parameters
    ----------
    data_bits : int
        Of the bus.

    Members
    -------
    command : In(command_signature)
    transfer : Out(stream of READ_TRANSFER)
    beats : In(stream of read_beat)
    o : Out(stream)
        Beats.
    done, done_mark : Out(1)
        A command's last beat has been taken. (Its mark is that of the oldest command that is not complete.)
    fault, fault_command : Out
        A command's address is no multiple of a beat.
    busy : Out(1)
    """

    def __init__(self, data_bits: int = DATA_BITS) -> None:
        self._offset_bits = beat_offset_bits(data_bits)
        super().__init__(
            {
                "command": In(command_signature(Opcode.WEIGHTS)),
                "transfer": Out(stream.Signature(READ_TRANSFER)),
                "beats": In(stream.Signature(read_beat(data_bits))),
                "o": Out(stream.Signature(data_bits)),
                "done": Out(1),
                "done_mark": Out(1),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        command, body = self.command.payload, self.command.payload.body
        time = Signal(len(body.times))
        stretch = Signal(len(body.stretches))
        offset = Signal(MEMORY_ADDRESS_BITS - self._offset_bits)
        """Beats from the first stretch to the one at hand."""
        asked = Signal()
        last_time = last_turn(m, time, body.times, asked, name="last_time")
        last_stretch = last_turn(m, stretch, body.stretches, asked & last_time, name="last_stretch")
        last = last_time & last_stretch
        m.submodules.under_way = under_way = Fifo(
            data.StructLayout({"ends": 1, "mark": 1}), WEIGHTS_QUEUE_DEPTH
        )
        aligned = body.memory_address[: self._offset_bits] == 0
        m.d.comb += [
            self.transfer.valid.eq(self.command.valid & aligned & under_way.i.ready),
            self.transfer.payload.address.eq(body.memory_address + Cat(Const(0, self._offset_bits), offset)),
            self.transfer.payload.beats.eq(body.beats),
            self.transfer.payload.command.eq(command.index),
            asked.eq(self.transfer.valid & self.transfer.ready),
            self.command.ready.eq(asked & last),
            under_way.i.valid.eq(asked),
            under_way.i.payload.ends.eq(last),
            under_way.i.payload.mark.eq(command.mark),
            self.fault.eq(self.command.valid & ~aligned),
            self.fault_command.eq(command.index),
            self.o.valid.eq(self.beats.valid),
            self.o.payload.eq(self.beats.payload.data),
            self.beats.ready.eq(self.o.ready),
            under_way.o.ready.eq(self.beats.valid & self.beats.ready & self.beats.payload.last),
            self.done.eq(under_way.o.ready & under_way.o.payload.ends),
            self.done_mark.eq(under_way.o.payload.mark),
            self.busy.eq(under_way.o.valid),
        ]
        with m.If(asked):
            m.d.sync += time.eq(Mux(last_time, 0, time + 1))
            with m.If(last_time):
                m.d.sync += [
                    stretch.eq(Mux(last_stretch, 0, stretch + 1)),
                    offset.eq(Mux(last_stretch, 0, offset + body.beats)),
                ]
        return m


class Store(wiring.Component):
    """Runs STORE commands: scratchpad to memory, a beat a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    read, data : In, Out
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    transfer : Out(stream of WRITE_TRANSFER)
    beats : Out(stream)
        Beats as they lie in memory: the writer masks a transfer's first and last.
    written : In(1)
        A transfer is complete in memory.
    done, done_mark : Out(1)
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.STORE)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "transfer": Out(stream.Signature(WRITE_TRANSFER)),
                "beats": Out(stream.Signature(config.bus_bits)),
                "written": In(1),
                "done": Out(1),
                "done_mark": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        command = self.command.payload

        asked = Signal()
        all_asked = Signal()
        asking = _Rows(m, config, command, asked, "asking")
        m.d.comb += [
            self.transfer.valid.eq(self.command.valid & ~all_asked),
            self.transfer.payload.address.eq(asking.address),
            self.transfer.payload.bytes.eq(command.body.row_bytes),
            self.transfer.payload.command.eq(command.index),
            asked.eq(self.transfer.valid & self.transfer.ready),
        ]

        ask = Signal()
        row_read = Signal()
        all_read = Signal()
        # From a vector asked for to its beat having left the buffer in front of the bus.
        m.submodules.credits = credits = Credits(depth_to_cover(READ_LATENCY + FIFO_LATENCY))
        rows = _Rows(m, config, command, row_read, "reading")
        beats = _Beats(m, config, rows, command.body.row_bytes, ask, "reading")
        m.submodules.waiting = waiting = Fifo(config.bus_bits, credits.depth)
        m.d.comb += [
            self.read.valid.eq(self.command.valid & ~all_read & credits.available),
            self.read.payload.eq(beats.element),
            ask.eq(self.read.valid & self.read.ready),
            row_read.eq(ask & beats.last),
            waiting.i.valid.eq(delayed(m, ask, READ_LATENCY, "arriving")),
            waiting.i.payload.eq(self.data[: config.bus_bits]),
        ]
        wiring.connect(m, waiting.o, wiring.flipped(self.beats))
        m.d.comb += [
            credits.take.eq(ask),
            credits.give_back[0].eq(self.beats.valid & self.beats.ready),
        ]

        # Complete when every row is in memory.
        rows_written = Signal(len(command.body.rows))
        m.d.comb += [
            self.done.eq(self.written & (rows_written + 1 == command.body.rows)),
            self.done_mark.eq(command.mark),
            self.command.ready.eq(self.done),
            self.busy.eq(self.command.valid),
        ]
        with m.If(self.done):
            m.d.sync += [all_asked.eq(0), all_read.eq(0), rows_written.eq(0)]
        with m.Else():
            with m.If(asked & asking.last):
                m.d.sync += all_asked.eq(1)
            with m.If(row_read & rows.last):
                m.d.sync += all_read.eq(1)
            with m.If(self.written):
                m.d.sync += rows_written.eq(rows_written + 1)
        return m


def _beats_of(config: AcceleratorConfig, address: Value, row_bytes: Value) -> Value:
    """Beats that a run of bytes touches."""
    bits = beat_offset_bits(config.bus_bits)
    return (address[:bits] + row_bytes + (config.bus_bytes - 1)) >> bits
