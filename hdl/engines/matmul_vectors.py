"""Between the scratchpad and the array: the vectors of MATMUL commands, as the array takes them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.line_buffer import lines_layout
from intaglio.hdl.engines.window import MATMUL_ORDER, Window
from intaglio.hdl.storage.accumulators import tag_layout
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.register_slice import RegisterSlice
from intaglio.hdl.storage.scratchpad import READ_LATENCY, address_bits, read_signature
from intaglio.hdl.storage.weight_stream import length_shape
from intaglio.hdl.units.product import operand_shape
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS

__all__ = ["MatmulVectors"]

_CARRIED = (
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
)
_LINES = (
    "lines",
    "line_lanes",
    "line_lanes_step",
    "first_output_row",
    "goes_on",
    "kernel_column_row_step",
    "kernel_row_column_step",
)
"""Fields for machines with a line buffer; all 0 on others."""
_ROWS = ("row_overlap", "last_row_columns")
"""Fields for machines with the depthwise mapping; all 0 on others."""


class MatmulVectors(wiring.Component):
    """Walks the windows of MATMUL commands, reads their vectors and deals them out, each with its tag.

    Latency: from a command, that of the window reader, READ_LATENCY cycles and a FIFO's. Throughput: one vector a cycle
    while the scratchpad grants one and the array takes one.

    Parameters
    ----------
    config : AcceleratorConfig
    vector : Shape
        Of what the array takes (:class:`intaglio.hdl.units.array.MacArray`), with a tag of `tag_layout`; of machines
        with a line buffer, of what that takes (:class:`intaglio.hdl.engines.line_buffer.LineBuffer`).

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    read, data : Out(read_signature), In
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    lengths : Out(stream)
        Of each command, when it begins, words of its tiles less one.
    o : Out(stream of `vector`)
    fault, fault_command : Out
        A command has more positions than a bank, or asks for what this machine does not implement.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig, vector: data.StructLayout) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.MATMUL)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "lengths": Out(stream.Signature(length_shape(config))),
                "o": Out(stream.Signature(vector)),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes, bits = config.operand_lanes, address_bits(config)
        with_lines = config.line_buffer_rows > 0
        depthwise = config.depthwise_taps > 0
        digits = ("lane_digits",) if config.lane_digits > 1 else ()
        carried = (*_CARRIED, *(_LINES[:5] if with_lines else ()), *(_ROWS if depthwise else ()), *digits)
        m.submodules.window = window = Window(
            Opcode.MATMUL,
            MATMUL_ORDER,
            lanes,
            config.rows,
            bits,
            carried,
            slanted=with_lines,
            ragged=depthwise,
        )
        # From a vector asked for to its place in front of the array being free again.
        m.submodules.credits = credits = Credits(depth_to_cover(READ_LATENCY + FIFO_LATENCY))
        m.submodules.waiting = waiting = Fifo(self.o.payload.shape(), credits.depth)
        wiring.connect(m, waiting.o, wiring.flipped(self.o))
        command = self.command.payload
        runs = self._runs(m)
        begins = self._announce(m, runs)
        m.d.comb += [
            window.command.valid.eq(self.command.valid & begins),
            window.command.payload.eq(command),
            self.command.ready.eq(window.command.ready & begins),
        ]

        vector = window.o.payload
        position = Signal(ceil_log2(config.accumulator_depth) + 1)
        fits = ~position[-1]
        ask = Signal()
        taken = Signal()
        refused = Signal()
        m.d.comb += [
            self.read.valid.eq(window.o.valid & credits.available & fits),
            self.read.payload.eq(vector.address),
            window.o.ready.eq(self.read.ready & credits.available & fits),
            ask.eq(self.read.valid & self.read.ready),
            taken.eq(self.o.valid & self.o.ready),
            credits.take.eq(ask),
            credits.give_back[0].eq(taken),
            refused.eq(window.o.valid & (~fits | self._refused(vector))),
            self.fault.eq(refused | (self.command.valid & ~runs)),
            self.fault_command.eq(Mux(refused, vector.index, command.index)),
            self.busy.eq(window.o.valid),
        ]
        keep = self._keep(m, vector, ask)
        pass_last = vector.last.output_columns & vector.last.output_rows
        with m.If(ask):
            m.d.sync += position.eq(Mux(pass_last, 0, position + keep))

        self._arrive(m, self._describe(m, vector, ask, position, keep), waiting.i)
        return m

    def _runs(self, m: Module) -> Signal:
        """Whether the machine has all that a command asks for."""
        config, body = self._config, self.command.payload.body
        has_tile = body.tile_words <= config.tile_words(config.columns)
        has_digits = body.lane_digits <= exact_log2(config.lane_digits)
        runs = Signal()
        # A command's fields stand a cycle before it is offered.
        m.d.sync += runs.eq(self._has_lines(body) & self._has_rows(body) & has_tile & has_digits)
        return runs

    def _announce(self, m: Module, runs: Signal) -> Value:
        """Whether a command that runs may begin: the weight stream has been told how long its tiles are, or hears of it
        now. It is told of some commands ahead of the one whose tiles it gives."""
        m.submodules.ahead = ahead = RegisterSlice(self.lengths.payload.shape())
        wiring.connect(m, ahead.o, wiring.flipped(self.lengths))
        told = Signal()
        m.d.comb += [
            ahead.i.valid.eq(self.command.valid & runs & ~told),
            ahead.i.payload.eq(self.command.payload.body.tile_words - 1),
        ]
        # Between a command taken and the next none is offered.
        m.d.sync += told.eq(self.command.valid & (told | (runs & ahead.i.ready)))
        return runs & (told | ahead.i.ready)

    def _has_lines(self, body: data.View) -> Value:
        """Whether the machine has the line buffer that a command asks for."""
        config = self._config
        if not config.line_buffer_rows:
            return Cat(body[name] for name in _LINES) == 0
        fits = (body.line_lanes <= config.rows) & (body.output_columns <= config.line_buffer_columns)
        known = Cat(body.lines == lines for lines in range(1, config.line_buffer_rows + 1)).any()
        return (body.lines == 0) | (fits & known)

    def _has_rows(self, body: data.View) -> Value:
        """Whether the machine has the rows of vectors that a command asks for."""
        if self._config.depthwise_taps:
            return Const(1, 1)
        return Cat(body[name] for name in _ROWS) == 0

    def _refused(self, vector: data.View) -> Value:
        """What this machine does not implement: the depthwise mapping, digits of weights, of activations."""
        config = self._config
        refused = vector.depthwise & (config.depthwise_taps == 0)
        if not config.weight_digits:
            refused |= vector.weight_digits
        if not config.activation_digits:
            refused |= (vector.digits != 1) & ~vector.weight_digits
        return refused

    def _keep(self, m: Module, vector: data.View, ask: Signal) -> Value:
        """Whether a vector completes a sum of the output: all do, but for the rows before the first output row, and
        those between a depthwise row's outputs."""
        return self._keep_row(m, vector, ask) & self._keep_column(m, vector, ask)

    def _keep_row(self, m: Module, vector: data.View, ask: Signal) -> Value:
        if not self._config.line_buffer_rows:
            return Const(1, 1)
        until = Signal(len(vector.first_output_row))
        """Rows up to the first output row."""
        wait = Mux(vector.first.output_rows, vector.first_output_row, until)
        with m.If(ask & vector.last.output_columns):
            m.d.sync += until.eq(Mux(wait == 0, 0, wait - 1))
        return wait == 0

    def _keep_column(self, m: Module, vector: data.View, ask: Signal) -> Value:
        if not self._config.depthwise_taps:
            return Const(1, 1)
        until = Signal(len(vector.first_output))
        """Vectors up to the next output, of this row or, where rows share vectors, of the pass."""
        begins = vector.first.output_columns & (vector.first.output_rows | (vector.row_overlap == 0))
        wait = Mux(begins, vector.first_output, until)
        keep = (wait == 0) | ~vector.depthwise
        with m.If(ask):
            m.d.sync += until.eq(Mux(wait == 0, vector.output_step - 1, wait - 1))
        return keep

    def _describe(
        self, m: Module, vector: data.View, ask: Signal, position: Signal, keep: Value
    ) -> data.View:
        """What has to be known of a vector when it comes out of the scratchpad."""
        config = self._config
        layout = data.StructLayout(
            {
                "valid": 1,
                "inside": config.operand_lanes,
                "counts": config.operand_lanes,
                **({"place": lines_layout(config)} if config.line_buffer_rows else {}),
                "pad": config.element_bits,
                "signed": 1,
                "swap": 1,
                "depthwise": 1,
                "beside": config.depthwise_taps,
                "negative": 1,
                **({"digits": range(config.lane_digits.bit_length())} if config.lane_digits > 1 else {}),
                "tag": tag_layout(config),
            }
        )
        described = Signal(layout)
        digit_first = Cat(vector.first[name] for name in ("chunks", "kernel_columns", "kernel_rows")).all()
        positions_first = vector.first.output_columns & vector.first.output_rows
        passes_last = Cat(vector.last[name] for name in MATMUL_ORDER[2:]).all()
        all_last = passes_last & vector.last.output_columns & vector.last.output_rows
        # Binary weights have no zero for the lanes past a run's end.
        partial = vector.last.chunks & (vector.last_lanes != 0)
        counts = Cat(~partial | (lane < vector.last_lanes) for lane in range(config.operand_lanes))
        m.d.comb += [
            described.valid.eq(ask),
            described.inside.eq(vector.inside),
            described.counts.eq(counts),
            described.pad.eq(vector.pad),
            described.signed.eq(vector.signed & (vector.first.digits | vector.weight_digits)),
            described.negative.eq(vector.first.digits),
            described.swap.eq(positions_first & (~vector.one_tile | (digit_first & vector.first.digits))),
            described.depthwise.eq(vector.depthwise),
            described.beside.eq(self._beside(m, vector, ask)),
            described.tag.keep.eq(keep | all_last),
            described.tag.position.eq(position),
            described.tag.bank.eq(vector.bank),
            described.tag.first.eq(digit_first & vector.first.digits),
            described.tag.shift.eq(digit_first & ~vector.first.digits),
            described.tag.weight_digits.eq(vector.weight_digits),
            described.tag.last.eq(all_last),
            described.tag.last_tile.eq(vector.one_tile | passes_last),
            described.tag.mark.eq(vector.mark),
        ]
        if config.lane_digits > 1:
            m.d.comb += described.digits.eq(vector.lane_digits)
        if config.line_buffer_rows:
            self._place(m, described.place, vector, ask)
        return described

    def _beside(self, m: Module, vector: data.View, ask: Signal) -> Value:
        """Of the vectors of a depthwise sum, this one's and those before it, which lie beside its row: at a row's start
        those of the row before, or, where the sum is one of the row before, those of this row."""
        taps = self._config.depthwise_taps
        if not taps:
            return Const(0, 0)
        column = Signal(range(taps))
        """Of the vector in its row, or the last that matters."""
        place = Mux(vector.first.output_columns, 0, column)
        with m.If(ask):
            m.d.sync += column.eq(Mux(place == taps - 1, place, place + 1))
        of_this_row = place >= vector.row_overlap
        shared = vector.row_overlap != 0
        # The vector itself is of this row.
        before = (shared & (of_this_row ^ (place >= age)) for age in range(1, taps))
        return Cat(shared & ~of_this_row, *before)

    def _place(self, m: Module, place: data.View, vector: data.View, ask: Signal) -> None:
        """How the vector meets the rows before its own. Each pass of a command has columns of its own in the line
        buffer, behind those of the pass before it."""
        first = vector.first
        pass_first = first.output_columns & first.output_rows
        command_first = Cat(first[name] for name in MATMUL_ORDER).all()
        after = Signal.like(place.column)
        of_pass = Signal.like(place.column)
        start = Mux(pass_first, Mux(command_first, 0, after), of_pass)
        column = Mux(first.output_columns, start, after)
        rows = Signal.like(place.known)
        """Rows of this pass, as far as they matter."""
        row = Mux(first.output_rows, 0, rows)
        most = self._config.line_buffer_rows
        # What has a row of its own only to end sums of the row before is no line.
        kept = Const(1, 1)
        if self._config.depthwise_taps:
            kept = ~vector.last.output_rows | (vector.last_row_columns == 0)
        lanes = Signal.like(place.lanes)
        more = Mux(command_first, vector.line_lanes, lanes + vector.line_lanes_step)
        of_vector = Mux(pass_first, more, lanes)
        with m.If(ask):
            m.d.sync += [of_pass.eq(start), lanes.eq(of_vector)]
            with m.If(kept):
                m.d.sync += after.eq(column + 1)
            with m.If(vector.last.output_columns):
                m.d.sync += rows.eq(Mux(row == most, row, row + 1))
        m.d.comb += [
            place.lines.eq(Mux(kept, vector.lines, 0)),
            place.column.eq(column),
            place.lanes.eq(of_vector),
            place.known.eq(Mux(vector.goes_on, most, row)),
        ]

    def _arrive(self, m: Module, asked: data.View, waiting) -> None:
        """Vectors that come out of the scratchpad meet what is known of them, and wait for the array."""
        for stage in range(READ_LATENCY):
            later = Signal.like(asked, name=f"asked_{stage}")
            m.d.sync += later.valid.eq(asked.valid)
            with m.If(asked.valid):
                m.d.sync += [later[name].eq(asked[name]) for name, _ in asked.shape() if name != "valid"]
            asked = later
        vector = waiting.payload
        if self._config.line_buffer_rows:
            vector = waiting.payload.vector
            m.d.comb += [
                waiting.payload.place.eq(asked.place),
                waiting.payload.pad.eq(self._extended(asked, asked.pad)),
            ]
        m.d.comb += [
            waiting.valid.eq(asked.valid),
            vector.activations.eq(Cat(self._operands(asked))),
            vector.swap.eq(asked.swap),
            # What follows a command's first tile are its parameters, what follows the last is another command's.
            vector.stop.eq(asked.tag.first | asked.tag.last_tile),
            vector.tag.eq(asked.tag),
        ]
        if self._config.depthwise_taps:
            m.d.comb += [
                vector.depthwise.eq(asked.depthwise),
                vector.beside.eq(asked.beside),
                vector.pad.eq(self._extended(asked, asked.pad)),
            ]
        if self._config.lane_digits > 1:
            m.d.comb += vector.digits.eq(asked.digits)
        if self._config.weight.is_binary:
            m.d.comb += [
                vector.plane.eq(asked.tag.weight_digits),
                vector.negative.eq(asked.negative),
            ]

    def _operands(self, asked: data.View) -> list[Value]:
        """The array's operands: elements inside the tensor, the pad outside it, nothing where no weight is, extended by
        their sign if they have one."""
        config = self._config
        operands = []
        for lane in range(config.operand_lanes):
            bits = config.element_bits
            element = Mux(asked.inside[lane], self.data.word_select(lane, bits), asked.pad)
            if config.weight.is_binary:
                element = Mux(asked.counts[lane], element, 0)
            operands.append(self._extended(asked, element))
        return operands

    def _extended(self, asked: data.View, element: Value) -> Value:
        """An element as an operand."""
        config = self._config
        sign = element[-1] & (asked.signed if config.unsigned_activations else 1)
        return Cat(element, sign)[: operand_shape(config.operand).width]
