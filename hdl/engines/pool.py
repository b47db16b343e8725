"""The POOL engine: the greatest element of each window, channel by channel."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.engines.command import body_layout, command_signature
from intaglio.hdl.engines.window import POOL_ORDER, Window
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.scratchpad import READ_LATENCY, address_bits, read_signature, write_signature
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

__all__ = ["Pool"]


class Pool(wiring.Component):
    """Runs MAX_POOL commands: one vector of a window a cycle, `vector_lanes` channels at once.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
    read, data : In, Out
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    write : Out(write_signature)
    done, done_mark : Out(1)
        The last vector of a command is being written.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.MAX_POOL)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "write": Out(write_signature(config)),
                "done": Out(1),
                "done_mark": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes = config.vector_lanes
        m.submodules.window = window = Window(
            Opcode.MAX_POOL,
            POOL_ORDER,
            lanes,
            lanes,
            address_bits(config),
            holds=True,
        )
        wiring.connect(m, wiring.flipped(self.command), window.command)
        vector = window.o.payload
        # From a vector asked for to its result having left the buffer in front of the write port.
        m.submodules.credits = credits = Credits(depth_to_cover(READ_LATENCY + FIFO_LATENCY), ends=2)
        ask = Signal()
        m.d.comb += [
            self.read.valid.eq(window.o.valid & credits.available),
            self.read.payload.eq(vector.address),
            window.o.ready.eq(self.read.ready & credits.available),
            ask.eq(self.read.valid & self.read.ready),
            self.busy.eq(window.o.valid),
        ]
        asked = delayed(m, self._describe(m, vector, ask), READ_LATENCY, "asked")
        maximum = self._maximum(m, asked)

        result = data.StructLayout({"vector": self.write.payload.shape(), "last": 1, "mark": 1})
        m.submodules.results = results = Fifo(result, credits.depth)
        whole = asked.valid & asked.last_of_window
        stored = Signal()
        m.d.comb += [
            results.i.valid.eq(whole),
            results.i.payload.vector.address.eq(asked.address),
            results.i.payload.vector.mask.eq(asked.mask),
            results.i.payload.vector.data.eq(Cat(maximum)),
            results.i.payload.last.eq(asked.last),
            results.i.payload.mark.eq(asked.mark),
            self.write.valid.eq(results.o.valid),
            self.write.payload.eq(results.o.payload.vector),
            results.o.ready.eq(self.write.ready),
            stored.eq(self.write.valid & self.write.ready),
            self.done.eq(stored & results.o.payload.last),
            self.done_mark.eq(results.o.payload.mark),
        ]
        # A vector asked for holds its credit until it is merged into its window's maximum, or that is written.
        m.d.comb += [
            credits.take.eq(ask),
            credits.give_back[0].eq(asked.valid & ~asked.last_of_window),
            credits.give_back[1].eq(stored),
        ]
        return m

    def _maximum(self, m: Module, asked: data.View) -> list[Value]:
        """The greatest element of the window so far, in each lane, the vector just read included."""
        bits = self._config.element_bits
        greatest = [Signal(bits, name=f"greatest_{lane}") for lane in range(self._config.vector_lanes)]
        maximum: list[Value] = []
        for lane, held in enumerate(greatest):
            element = Mux(asked.inside[lane], self.data.word_select(lane, bits), asked.pad)
            bigger = _ordered(element, asked.signed) > _ordered(held, asked.signed)
            maximum.append(Mux(asked.first | bigger, element, held))
        with m.If(asked.valid):
            m.d.sync += [held.eq(value) for held, value in zip(greatest, maximum, strict=True)]
        return maximum

    def _describe(self, m: Module, vector: data.View, ask: Signal) -> data.View:
        """What has to be known of a vector when it comes out of the scratchpad."""
        config = self._config
        lanes = config.vector_lanes
        described = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "inside": lanes,
                    "pad": config.element_bits,
                    "signed": 1,
                    "first": 1,
                    "last_of_window": 1,
                    "last": 1,
                    "mark": 1,
                    "mask": lanes,
                    "address": address_bits(config),
                }
            )
        )
        line = Signal(address_bits(config))
        pixel = Signal(address_bits(config))
        # Wide enough for any number of chunks: if it wrapped, later chunks would write the first channels again.
        chunk_bits = Shape.cast(body_layout(Opcode.MAX_POOL)["chunks"].shape).width
        body = self.command.payload.body
        channel = Signal(chunk_bits + exact_log2(lanes))
        window_last = vector.last.kernel_columns & vector.last.kernel_rows
        pixel_last = window_last & vector.last.chunks
        all_last = Value.cast(vector.last).all()
        with m.If(ask & window_last):
            m.d.sync += channel.eq(Mux(vector.last.chunks, 0, channel + lanes))
        with m.If(ask & pixel_last):
            next_line = line + body.destination_pitch
            m.d.sync += pixel.eq(
                Mux(all_last, 0, Mux(vector.last.output_columns, next_line, pixel + body.pixel_pitch))
            )
            with m.If(vector.last.output_columns):
                m.d.sync += line.eq(Mux(all_last, 0, next_line))
        m.d.comb += [
            described.valid.eq(ask),
            described.inside.eq(vector.inside),
            described.pad.eq(body.pad),
            described.signed.eq(body.signed),
            described.first.eq(vector.first.kernel_columns & vector.first.kernel_rows),
            described.last_of_window.eq(window_last),
            described.last.eq(all_last),
            described.mark.eq(self.command.payload.mark),
            described.mask.eq(Cat(channel + lane < body.channels for lane in range(lanes))),
            described.address.eq(body.destination + pixel + channel),
        ]
        return described


def _ordered(element: Value, is_signed: Value) -> Value:
    """An element as an unsigned number of the same order: a signed one has its sign turned round."""
    return Cat(element[:-1], element[-1] ^ is_signed)
