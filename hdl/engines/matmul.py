"""The MATMUL engine: vectors from the scratchpad, array and accumulators."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.line_buffer import LineBuffer
from intaglio.hdl.engines.matmul_vectors import MatmulVectors
from intaglio.hdl.storage.accumulators import Accumulators, tag_layout
from intaglio.hdl.storage.scratchpad import read_signature
from intaglio.hdl.storage.weight_stream import length_shape, tile_layout
from intaglio.hdl.units.array import MacArray
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS

__all__ = ["Matmul"]


class Matmul(wiring.Component):
    """Runs MATMUL commands: vectors from the scratchpad times tiles from the weight stream, into an accumulator bank.

    Throughput: one vector a cycle while the scratchpad grants one and the next tile is loaded by the time of its first
    vector.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    read, data : In, Out
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    weights : In(stream)
        The weight stream, parameters taken out (:class:`intaglio.hdl.storage.weight_stream.WeightStream`).
    lengths : Out(stream)
        Of each command, once it is known to start, words of its tiles less one.
    started, started_bank : Out(1)
        The first tile of a command has come into use, so that the bank of its parameters is free.
    ended : Out(1)
        Its last tile has come into use.
    parameters_loaded : In(1)
        The parameters of a command have arrived.
    done, done_mark : Out(1)
        A command's sums and parameters are complete.
    fault, fault_command : Out
        A command has more positions than a bank, or asks for what this machine does not implement.
    busy : Out(1)
    overflows : Out
        Additions that left the accumulators' range, in this cycle.
    read_enable, read_bank, read_address, read_data : In, In, In, Out
        The accumulators' read port.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._array = MacArray(
            config.rows,
            config.columns,
            config.operand,
            config.weight,
            tag_bits=tag_layout(config).size,
            beat_bits=config.weight_bits,
            depthwise_taps=config.depthwise_taps,
            bit_planes=config.weight.is_binary,
            depthwise_lines=config.line_buffer_rows if config.depthwise_taps else 0,
            lane_digits=config.lane_digits,
            digit_bits=config.element_bits,
        )
        self._accumulators = Accumulators(config, self._array.sum_bits)
        drain = self._accumulators.signature.members
        super().__init__(
            {
                "command": In(command_signature(Opcode.MATMUL)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "weights": In(stream.Signature(tile_layout(config))),
                "lengths": Out(stream.Signature(length_shape(config))),
                "started": Out(1),
                "started_bank": Out(1),
                "ended": Out(1),
                "parameters_loaded": In(1),
                "done": Out(1),
                "done_mark": Out(1),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "busy": Out(1),
                "overflows": Out(drain["overflows"].shape),
                "read_enable": In(1),
                "read_bank": In(1),
                "read_address": In(drain["read_address"].shape),
                "read_data": Out(drain["read_data"].shape),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.array = array = self._array
        m.submodules.accumulators = accumulators = self._accumulators
        m.submodules.vectors = vectors = self._vectors(m, array)
        wiring.connect(m, wiring.flipped(self.command), vectors.command)
        wiring.connect(m, vectors.read, wiring.flipped(self.read))
        wiring.connect(m, wiring.flipped(self.weights), array.w)
        wiring.connect(m, vectors.lengths, wiring.flipped(self.lengths))
        tag = data.View(tag_layout(config), array.i.payload.tag)
        swapped = array.i.valid & array.i.ready & array.i.payload.swap
        m.d.comb += [
            vectors.data.eq(self.data),
            self.started.eq(swapped & tag.first),
            self.ended.eq(swapped & tag.last_tile),
            self.started_bank.eq(tag.bank),
            self.fault.eq(vectors.fault),
            self.fault_command.eq(vectors.fault_command),
            self.busy.eq(vectors.busy),
            array.o.ready.eq(1),
            accumulators.valid.eq(array.o.valid & data.View(tag_layout(config), array.o.payload.tag).keep),
            accumulators.sums.eq(array.o.payload.sums),
            accumulators.tag.eq(array.o.payload.tag),
            self.overflows.eq(accumulators.overflows),
            accumulators.read_enable.eq(self.read_enable),
            accumulators.read_bank.eq(self.read_bank),
            accumulators.read_address.eq(self.read_address),
            self.read_data.eq(accumulators.read_data),
        ]
        self._complete(m, accumulators)
        return m

    def _vectors(self, m: Module, array: MacArray) -> MatmulVectors:
        """Where the array's vectors come from, through the line buffer if there is one."""
        config = self._config
        if not config.line_buffer_rows:
            vectors = MatmulVectors(config, array.i.payload.shape())
            wiring.connect(m, vectors.o, array.i)
            return vectors
        m.submodules.line_buffer = line_buffer = LineBuffer(config, array.i.payload.shape())
        vectors = MatmulVectors(config, line_buffer.i.payload.shape())
        wiring.connect(m, vectors.o, line_buffer.i)
        wiring.connect(m, line_buffer.o, array.i)
        return vectors

    def _complete(self, m: Module, accumulators: Accumulators) -> None:
        """A command is complete when both its sums and its parameters are: two events a command, in either order."""
        sums = Signal(3)
        marks = Signal(4)
        parameters = Signal(3)
        m.d.comb += self.done.eq((sums != 0) & (parameters != 0))
        m.d.comb += self.done_mark.eq(Array(marks)[(sums - 1)[:2]])
        m.d.sync += [
            sums.eq(sums + accumulators.done - self.done),
            parameters.eq(parameters + self.parameters_loaded - self.done),
        ]
        with m.If(accumulators.done):
            m.d.sync += marks.eq(Cat(accumulators.done_mark, marks))
