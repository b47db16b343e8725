"""The ELEMENTWISE engine: sums, products, functions by table and softmax of tensors in the scratchpad."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY, results_layout, work_layout
from intaglio.hdl.engines.binary_arithmetic import BinaryArithmetic
from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.element_runs import ElementReader, ElementWriter, is_any
from intaglio.hdl.engines.softmax import Softmax
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.register_slice import RegisterSlice
from intaglio.hdl.storage.scratchpad import read_signature, write_signature
from intaglio.hdl.storage.tables import Tables
from intaglio.spec.commands import SOFTMAX_PLANES, TABLE_ENTRIES, Opcode, Operation
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS, SOFTMAX_ELEMENTS

__all__ = ["Elementwise"]


class Elementwise(wiring.Component):
    """Runs ELEMENTWISE commands, one at a time.

    Throughput: with *n* the greatest power of two up to `rescale_lanes`, ADD, SUBTRACT, MULTIPLY and LOOKUP take *n*
    elements of a run a cycle (half as many where *n* is `vector_lanes` and two operands share the read port),
    LOAD_TABLE `vector_lanes`, SOFTMAX as `Softmax` says. Some 20 cycles a command come on top.

    A vector is read before any of its elements is written, so a result may take the place of an operand.

    LOOKUP takes the entries of lane k from table k modulo 4; they are alike after a LOAD_TABLE of one plane.

    Parameters
    ----------
    config : AcceleratorConfig
        With the affine rescale.

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    read, data : Out(read_signature), In
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    write : Out(write_signature)
    work : Out(stream of work_layout)
        For the affine lanes.
    result_valid, results : In
        Their results, in order, AFFINE_LATENCY cycles after the work is taken.
    done, done_mark : Out(1)
        The last vector of a command is being written, of LOAD_TABLE to the tables.
    busy : Out(1)
    fault, fault_command : Out
        Unknown operation, or count out of range.

    Raises
    ------
    ValueError
        If `config` has no affine rescale.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        if not config.affine:
            raise ValueError(f"`config.rescales` must have affine, not {', '.join(config.rescales)} alone")
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.ELEMENTWISE)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "write": Out(write_signature(config)),
                "work": Out(stream.Signature(work_layout(config.rescale_lanes))),
                "result_valid": In(1),
                "results": In(results_layout(config.rescale_lanes)),
                "done": Out(1),
                "done_mark": Out(1),
                "busy": Out(1),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes = config.step_lanes
        command = self.command.payload
        m.submodules.reader = reader = ElementReader(config)
        m.submodules.arithmetic = arithmetic = BinaryArithmetic(lanes)
        m.submodules.tables = tables = Tables(SOFTMAX_PLANES, max(lanes, SOFTMAX_PLANES), config.vector_lanes)
        m.submodules.softmax = softmax = Softmax()
        # From work taken to its result having left the buffer in front of the writer.
        m.submodules.credits = credits = Credits(depth_to_cover(AFFINE_LATENCY + FIFO_LATENCY))
        m.submodules.results = results = Fifo(lanes * config.element_bits, credits.depth)
        m.submodules.writer = writer = ElementWriter(config)
        wiring.connect(m, reader.read, wiring.flipped(self.read))
        wiring.connect(m, results.o, writer.i)
        stored = self._write(m, writer)

        go = Signal()
        legal, is_softmax, is_sum = Signal(), Signal(), Signal()
        """Two registers of one choice, since much hangs on either: the softmax has the lanes, or sums have them."""
        operation = Signal.like(command.body.operation)
        m.d.sync += [
            legal.eq(_legal(command.body)),
            operation.eq(command.body.operation),
            is_softmax.eq(is_any(command.body, Operation.SOFTMAX)),
            is_sum.eq(~is_any(command.body, Operation.SOFTMAX)),
        ]
        m.d.comb += [
            go.eq(self.command.valid & legal),
            *(Value.cast(unit.body).eq(command.body) for unit in (reader, arithmetic, writer)),
            reader.data.eq(self.data),
            reader.go.eq(go),
            reader.done.eq(self.done),
        ]
        loaded, looking = self._deal(m, operation, reader, arithmetic, tables, softmax, credits.available)
        storing = self._work(m, is_softmax, is_sum, arithmetic, softmax, credits.available)
        self._collect(m, is_softmax, tables, softmax, results, looking)
        m.d.comb += [
            credits.take.eq(storing | looking),
            credits.give_back[0].eq(results.o.valid & results.o.ready),
            self.fault.eq(self.command.valid & ~go),
            self.fault_command.eq(command.index),
            self.busy.eq(go),
            self.done.eq(stored | loaded),
            self.done_mark.eq(command.mark),
            self.command.ready.eq(self.done),
        ]
        return m

    def _write(self, m: Module, writer: ElementWriter) -> Value:
        """Vectors to the scratchpad, past a register; whether the last one of a command is being written."""
        vector = data.StructLayout({"vector": self.write.payload.shape(), "last": 1})
        m.submodules.written = written = RegisterSlice(vector)
        m.d.comb += [
            written.i.valid.eq(writer.write.valid),
            written.i.payload.vector.eq(writer.write.payload),
            written.i.payload.last.eq(writer.done),
            writer.write.ready.eq(written.i.ready),
            self.write.valid.eq(written.o.valid),
            self.write.payload.eq(written.o.payload.vector),
            written.o.ready.eq(self.write.ready),
        ]
        return self.write.valid & self.write.ready & written.o.payload.last

    def _deal(
        self, m: Module, operation: Signal, reader, arithmetic, tables, softmax, room: Value
    ) -> tuple[Signal, Signal]:
        """Hands the operands to the unit that the operation needs. Returns whether a last vector goes to the tables,
        and whether elements are looked up."""
        body = self.command.payload.body
        steps = reader.o
        m.submodules.to_arithmetic = to_arithmetic = RegisterSlice(arithmetic.i.payload.shape())
        m.submodules.to_softmax = to_softmax = RegisterSlice(softmax.elements.payload.shape())
        wiring.connect(m, to_arithmetic.o, arithmetic.i)
        wiring.connect(m, to_softmax.o, softmax.elements)
        operands, elements = to_arithmetic.i, to_softmax.i
        loaded = Signal()
        looking = Signal()
        m.d.comb += [
            operands.payload.a.eq(steps.payload.a),
            operands.payload.b.eq(steps.payload.b),
            elements.payload.value.eq(steps.payload.a[0]),
            elements.payload.last.eq(steps.payload.run_last),
            tables.write_word.eq(steps.payload.word),
            tables.write_data.eq(steps.payload.vector),
            tables.read_enable.eq(looking | softmax.table_enable),
            *(index.eq(element) for index, element in zip(tables.indices, steps.payload.a, strict=False)),
        ]
        with m.Switch(operation):
            with m.Case(Operation.LOOKUP):
                m.d.comb += [steps.ready.eq(room), looking.eq(steps.valid & steps.ready)]
            with m.Case(Operation.LOAD_TABLE):
                m.d.comb += [steps.ready.eq(1), loaded.eq(steps.valid & steps.payload.last)]
                for table in range(SOFTMAX_PLANES):
                    mine = (body.pixels == 1) | (steps.payload.plane == table)
                    m.d.comb += tables.write_enable[table].eq(steps.valid & mine)
            with m.Case(Operation.SOFTMAX):
                m.d.comb += [steps.ready.eq(elements.ready), elements.valid.eq(steps.valid)]
                m.d.comb += [tables.indices[plane].eq(softmax.table_index) for plane in range(SOFTMAX_PLANES)]
            with m.Default():
                m.d.comb += [steps.ready.eq(operands.ready), operands.valid.eq(steps.valid)]
        return loaded, looking

    def _work(self, m: Module, is_softmax: Value, is_sum: Value, arithmetic, softmax, room: Value) -> Signal:
        """What the lanes work on; whether they take work whose results are the command's."""
        body = self.command.payload.body
        work = self.work.payload
        final = Signal()
        free = Signal()
        storing = Signal()
        m.d.comb += [
            final.eq(is_sum | softmax.storing),
            free.eq(room | ~final),
            self.work.valid.eq(Mux(is_sum, arithmetic.o.valid, softmax.work.valid) & free),
            arithmetic.o.ready.eq(is_sum & self.work.ready & free),
            softmax.work.ready.eq(~is_sum & self.work.ready & free),
            storing.eq(self.work.valid & self.work.ready & final),
            *(
                work[name].eq(Mux(is_sum, body[name], softmax.work.payload[name]))
                for name in ("zero_point", "low", "high")
            ),
            work.single.eq(Mux(is_sum, ~body.double, softmax.work.payload.single)),
        ]
        # The softmax has work for the first lane; what the others do then is nobody's.
        for lane, value in enumerate(arithmetic.o.payload):
            m.d.comb += [
                work.values[lane].eq(value),
                work.multipliers[lane].eq(body.multiplier),
                work.exponents[lane].eq(body.exponent),
            ]
        with m.If(is_softmax):
            m.d.comb += [
                work[name][0].eq(softmax.work.payload[name][0])
                for name in ("values", "multipliers", "exponents")
            ]
        return storing

    def _collect(self, m: Module, is_softmax: Value, tables, softmax, results: Fifo, looking: Signal) -> None:
        """Results from the lanes, or from the tables."""
        lanes, bits = self._config.step_lanes, self._config.element_bits
        looked = Signal()
        m.d.sync += looked.eq(looking)
        m.d.comb += [
            softmax.table_entry.eq(Cat(tables.entries[plane] for plane in range(SOFTMAX_PLANES))),
            softmax.result_valid.eq(self.result_valid),
            softmax.result.eq(self.results[0]),
            results.i.valid.eq(looked | (self.result_valid & (~is_softmax | softmax.storing))),
        ]
        # There is room: each was asked for because there was.
        for lane in range(lanes):
            result = Mux(is_softmax, self.results[0], self.results[lane])[:bits]
            m.d.comb += results.i.payload.word_select(lane, bits).eq(
                Mux(looked, tables.entries[lane], result)
            )


def _legal(body: data.View) -> Value:
    """Whether the operation is known, and its counts in range."""
    loads = is_any(body, Operation.LOAD_TABLE)
    planes = (body.pixels == 1) | (body.pixels == SOFTMAX_PLANES)
    loadable = planes & (body.channels == TABLE_ENTRIES)
    summable = body.channels <= SOFTMAX_ELEMENTS
    return is_any(body, *Operation) & (~loads | loadable) & (~is_any(body, Operation.SOFTMAX) | summable)
