"""The MATMUL engine: window reader, array and accumulators."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hdl.engines.command import COMMAND_INDEX_BITS, command_signature
from intaglio.hdl.engines.window import MATMUL_ORDER, Window
from intaglio.hdl.storage.accumulators import Accumulators, tag_layout
from intaglio.hdl.storage.fifo import Fifo
from intaglio.hdl.storage.scratchpad import READ_LATENCY, address_bits, read_signature
from intaglio.hdl.units.array import MacArray
from intaglio.hdl.units.product import operand_shape
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

__all__ = ["Matmul"]

_VECTORS = 8
"""Vectors that may be between the scratchpad and the array: more than its latency and the buffer's."""


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
    read, data : In, Out
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    weights : In(stream)
        The weight stream, parameters taken out (:class:`intaglio.hdl.storage.weight_stream.WeightStream`).
    started, started_bank : Out(1)
        The first tile of a command has come into use, so that the bank of its parameters is free.
    parameters_loaded : In(1)
        The parameters of a command have arrived.
    done, done_mark : Out(1)
        A command's sums and parameters are complete.
    fault : Out(1)
        The command `fault_command` has more positions than a bank.
    busy : Out(1)
    read_bank, ... : the accumulators' read port.
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
        )
        self._accumulators = Accumulators(config, self._array.sum_bits)
        drain = self._accumulators.signature.members
        super().__init__(
            {
                "command": In(command_signature(Opcode.MATMUL)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "weights": In(stream.Signature(config.weight_bits)),
                "started": Out(1),
                "started_bank": Out(1),
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
        m.submodules.window = window = Window(
            Opcode.MATMUL,
            MATMUL_ORDER,
            config.operand_lanes,
            config.rows,
            address_bits(config),
            (
                "pad",
                "signed",
                "digits",
                "weight_digits",
                "last_lanes",
                "bank",
                "one_tile",
                "depthwise",
                "first_output",
                "output_step",
            ),
        )
        wiring.connect(m, wiring.flipped(self.command), window.command)
        wiring.connect(m, wiring.flipped(self.weights), array.w)

        # A vector is asked for when there is room for it in front of the array.
        vector = window.o.payload
        position = Signal(ceil_log2(config.accumulator_depth) + 1)
        room = Signal(range(_VECTORS + 1), init=_VECTORS)
        ask = Signal()
        fits = ~position[-1]
        # What the machine has not: the depthwise mapping, digits of weights, of activations.
        refused = vector.depthwise & (config.depthwise_taps == 0)
        if not config.weight_digits:
            refused |= vector.weight_digits
        if not config.activation_digits:
            refused |= (vector.digits != 1) & ~vector.weight_digits
        m.d.comb += [
            ask.eq(self.read.valid & self.read.ready),
            self.read.valid.eq(window.o.valid & (room != 0) & fits),
            self.read.payload.eq(vector.address),
            window.o.ready.eq(self.read.ready & (room != 0) & fits),
            self.fault.eq(window.o.valid & (~fits | refused)),
            self.fault_command.eq(vector.index),
            self.busy.eq(window.o.valid),
        ]
        keep = self._keep(m, vector, ask)
        pass_last = vector.last.output_columns & vector.last.output_rows
        with m.If(ask):
            m.d.sync += position.eq(Mux(pass_last, 0, position + keep))

        asked = self._describe(m, vector, position, keep)
        for stage in range(READ_LATENCY):
            later = Signal.like(asked, name=f"asked_{stage}")
            if stage == 0:
                m.d.sync += later.valid.eq(ask)
            else:
                m.d.sync += later.valid.eq(asked.valid)
            with m.If(ask if stage == 0 else asked.valid):
                for name in ("inside", "counts", "pad", "signed", "swap", "tag", "depthwise", "negative"):
                    m.d.sync += later[name].eq(asked[name])
            asked = later

        m.submodules.waiting = waiting = Fifo(array.i.payload.shape(), _VECTORS)
        m.d.comb += [
            waiting.i.valid.eq(asked.valid),
            waiting.i.payload.activations.eq(Cat(self._operands(asked))),
            waiting.i.payload.swap.eq(asked.swap),
            waiting.i.payload.tag.eq(asked.tag),
        ]
        if config.depthwise_taps:
            m.d.comb += waiting.i.payload.depthwise.eq(asked.depthwise)
        if config.weight.is_binary:
            m.d.comb += [
                waiting.i.payload.plane.eq(asked.tag.weight_digits),
                waiting.i.payload.negative.eq(asked.negative),
            ]
        wiring.connect(m, waiting.o, array.i)
        taken = Signal()
        m.d.comb += taken.eq(array.i.valid & array.i.ready)
        m.d.sync += room.eq(room - ask + taken)

        tag = data.View(tag_layout(config), array.i.payload.tag)
        m.d.comb += [
            self.started.eq(taken & array.i.payload.swap & tag.first),
            self.started_bank.eq(tag.bank),
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

    def _keep(self, m: Module, vector: data.View, ask: Signal) -> Value:
        """Whether a vector completes a sum of the output: all do, but for those between a depthwise row's outputs."""
        if not self._config.depthwise_taps:
            return Const(1, 1)
        until = Signal(16)
        """Vectors of this row up to its next output."""
        wait = Mux(vector.first.output_columns, vector.first_output, until)
        keep = (wait == 0) | ~vector.depthwise
        with m.If(ask):
            m.d.sync += until.eq(Mux(wait == 0, vector.output_step - 1, wait - 1))
        return keep

    def _describe(self, m: Module, vector: data.View, position: Signal, keep: Value) -> data.View:
        """What has to be known of a vector when it comes out of the scratchpad."""
        config = self._config
        layout = data.StructLayout(
            {
                "valid": 1,
                "inside": config.operand_lanes,
                "counts": config.operand_lanes,
                "pad": config.element_bits,
                "signed": 1,
                "swap": 1,
                "depthwise": 1,
                "negative": 1,
                "tag": tag_layout(config),
            }
        )
        described = Signal(layout)
        digit_first = Cat(vector.first[name] for name in ("chunks", "kernel_columns", "kernel_rows")).all()
        positions_first = vector.first.output_columns & vector.first.output_rows
        all_last = Cat(vector.last[name] for name in MATMUL_ORDER).all()
        # Binary weights have no zero for the lanes past a run's end.
        partial = vector.last.chunks & (vector.last_lanes != 0)
        counts = Cat(~partial | (lane < vector.last_lanes) for lane in range(config.operand_lanes))
        m.d.comb += [
            described.inside.eq(vector.inside),
            described.counts.eq(counts),
            described.pad.eq(vector.pad),
            described.signed.eq(vector.signed & (vector.first.digits | vector.weight_digits)),
            described.negative.eq(vector.first.digits),
            described.swap.eq(positions_first & (~vector.one_tile | (digit_first & vector.first.digits))),
            described.depthwise.eq(vector.depthwise),
            described.tag.keep.eq(keep | all_last),
            described.tag.position.eq(position),
            described.tag.bank.eq(vector.bank),
            described.tag.first.eq(digit_first & vector.first.digits),
            described.tag.shift.eq(digit_first & ~vector.first.digits),
            described.tag.weight_digits.eq(vector.weight_digits),
            described.tag.last.eq(all_last),
            described.tag.mark.eq(vector.mark),
        ]
        return described

    def _operands(self, asked: data.View) -> list[Signal]:
        """The array's operands: elements inside the tensor, the pad outside it, nothing where no weight is, extended by
        their sign if they have."""
        config = self._config
        shape = operand_shape(config.operand)
        operands = []
        for lane in range(config.operand_lanes):
            bits = config.element_bits
            element = Mux(asked.inside[lane], self.data.word_select(lane, bits), asked.pad)
            if config.weight.is_binary:
                element = Mux(asked.counts[lane], element, 0)
            sign = element[-1] & (asked.signed if config.unsigned_activations else 1)
            operands.append(Cat(element, sign)[: shape.width])
        return operands

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
