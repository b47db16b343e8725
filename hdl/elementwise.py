"""The ELEMENTWISE engine: sums and products of two tensors, functions of one element by table, softmax."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hdl import isa
from hdl.affine_lanes import work_layout
from hdl.command import COMMAND_INDEX_BITS, command_signature
from hdl.config import AcceleratorConfig
from hdl.fifo import Fifo
from hdl.operand_rescale import operand_totals
from hdl.pipeline import Pipeline
from hdl.scratchpad import READ_LATENCY, address_bits, read_signature, write_signature
from hdl.softmax import Pass, Softmax
from hdl.tables import Tables

__all__ = ["Elementwise"]

_VECTORS = 4
"""Vectors of each operand between the scratchpad and the lanes."""
_RESULTS = 16
"""Results between the lanes and the scratchpad: more than their latency."""
_MOST_IN_SOFTMAX = 4095
"""Elements of a run whose exponentials' sum fits Q12.19."""


class Elementwise(wiring.Component):
    """Runs ELEMENTWISE commands, one at a time (`docs/architecture.md`).

    Throughput: sums, products and lookups, ``rescale_lanes`` elements a cycle (or the power of two below that), while
    the scratchpad and the lanes let them; a table, ``vector_lanes`` entries a cycle; softmax, an element in 3 cycles
    and some 100 a run. Between two commands lie some 20 cycles.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
    read, data : In, Out
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    write : Out(write_signature)
    work : Out(stream of work_layout)
    result_valid, results : In
        The lanes' results, in the order of `work`.
    done, done_mark : Out(1)
        A command's last write has been taken.
    fault, fault_command : Out
        The command names an operation that is none, a table that is not 1 or 4 planes of 256 entries, or a softmax of
        more than 4,095 elements.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._lanes = 1 << (config.rescale_lanes.bit_length() - 1)
        super().__init__(
            {
                "command": In(command_signature(isa.Opcode.ELEMENTWISE)),
                "read": Out(read_signature(config)),
                "data": In(config.vector_lanes * config.element_bits),
                "write": Out(write_signature(config)),
                "work": Out(stream.Signature(work_layout(config.rescale_lanes))),
                "result_valid": In(1),
                "results": In(data.ArrayLayout(signed(32), config.rescale_lanes)),
                "done": Out(1),
                "done_mark": Out(1),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        command = self.command.payload
        body = command.body
        is_ = {operation: Signal(name=operation.name.lower()) for operation in isa.Operation}
        m.d.comb += [signal.eq(body.operation == operation.value) for operation, signal in is_.items()]
        binary = is_[isa.Operation.ADD] | is_[isa.Operation.SUBTRACT] | is_[isa.Operation.MULTIPLY]
        loads, lookup, softmax = (is_[isa.Operation[name]] for name in ("LOAD_TABLE", "LOOKUP", "SOFTMAX"))
        bad_table = loads & (
            ((body.pixels != 1) & (body.pixels != isa.SOFTMAX_PLANES)) | (body.channels != isa.TABLE_ENTRIES)
        )
        legal = Signal()
        go = Signal()
        m.d.comb += [
            legal.eq(Cat(is_.values()).any() & ~bad_table & ~(softmax & (body.channels > _MOST_IN_SOFTMAX))),
            go.eq(self.command.valid & legal),
            self.fault.eq(self.command.valid & ~legal),
            self.fault_command.eq(command.index),
            self.busy.eq(self.command.valid),
            self.done_mark.eq(command.mark),
            self.command.ready.eq(self.done),
        ]
        vectors, taken = self._fetch(m, go, body, binary, softmax)

        # Steps along a run: so many elements at a time, of vectors that begin at its multiples.
        lanes, wide = self._lanes, config.vector_lanes
        size = Mux(loads, wide, Mux(softmax, 1, lanes))
        pixel = Signal(24)
        origin = Signal(address_bits(config))
        place = Signal(25)
        turn = Signal(Pass)
        step = Signal()
        after = place + size
        run_last = after >= body.channels
        turn_last = ~softmax | (turn == Pass.RESULT)
        all_last = run_last & turn_last & (pixel + 1 == body.pixels)
        m.d.comb += taken.eq(step & (run_last | (after[: exact_log2(wide)] == 0)))
        with m.If(step):
            m.d.sync += place.eq(Mux(run_last, 0, after))
            with m.If(run_last):
                m.d.sync += turn.eq(Mux(turn_last, 0, turn.as_value() + 1))
                with m.If(turn_last):
                    m.d.sync += [
                        pixel.eq(Mux(all_last, 0, pixel + 1)),
                        origin.eq(Mux(all_last, 0, origin + body.pitch)),
                    ]
        there = go & vectors["a"].valid & (vectors["b"].valid | ~binary)
        elements = {
            name: [
                self._element(vectors[name].payload, place, lane, body[f"{name}_splat"])
                for lane in range(lanes)
            ]
            for name in "ab"
        }

        # Every step that ends in a write takes room until it is written.
        room = Signal(range(_RESULTS + 1), init=_RESULTS)
        stored = Signal()
        writes = Signal()
        m.d.comb += writes.eq(binary | lookup | (softmax & (turn == Pass.RESULT)))
        issued = Signal()
        m.d.comb += issued.eq(step & writes)
        m.d.sync += room.eq(room - issued + stored)
        may = there & ((room != 0) | ~writes)

        m.submodules.tables = tables = Tables(config)
        m.submodules.softmax_unit = unit = Softmax()
        totals, operands_ready = self._totals(m, may & binary, elements, body, is_)
        m.d.comb += [
            unit.element.valid.eq(may & softmax),
            unit.element.payload.value.eq(elements["a"][0]),
            unit.element.payload.turn.eq(turn),
            unit.element.payload.last.eq(run_last),
            step.eq(may & Mux(softmax, unit.element.ready, operands_ready | ~binary)),
            tables.write_enable.eq(
                Mux(step & loads, Mux(body.pixels == 1, (1 << config.tables) - 1, 1 << pixel[:2]), 0)
            ),
            tables.write_word.eq(place[exact_log2(wide) :]),
            tables.write_data.eq(vectors["a"].payload),
            tables.read_enable.eq((step & lookup) | unit.table_enable),
            unit.exponential.eq(Cat(tables.read_data[plane] for plane in range(isa.SOFTMAX_PLANES))),
            *(
                tables.read_entries[table].eq(
                    Mux(softmax, unit.table_entry, elements["a"][min(table, lanes - 1)])
                )
                for table in range(config.tables)
            ),
        ]
        self._ask(m, totals, unit, body, softmax)

        results = Signal(lanes * config.element_bits)
        looked_up = Signal()
        m.d.sync += looked_up.eq(step & lookup)
        m.d.comb += results.eq(
            Mux(
                looked_up,
                Cat(tables.read_data[lane] for lane in range(lanes)),
                Cat(self.results[lane][: config.element_bits] for lane in range(lanes)),
            )
        )
        address = (body.destination + origin + place)[: address_bits(config)]
        mask = Cat((place + lane < body.channels) & (~softmax | (lane == 0)) for lane in range(lanes))
        last = self._write(
            m, issued, address, mask, all_last, looked_up | (self.result_valid & ~unit.own), results, stored
        )
        m.d.comb += self.done.eq(Mux(loads, step & all_last, stored & last))
        return m

    def _fetch(
        self, m: Module, go: Value, body: data.View, binary: Value, softmax: Value
    ) -> tuple[dict, Signal]:
        """Reads the vectors of both operands in turn, as far ahead as there is room; streams of them, and what takes
        one of each."""
        config = self._config
        pixel = Signal(24, name="read_pixel")
        place = Signal(25, name="read_place")
        turn = Signal(2, name="read_turn")
        second = Signal(name="read_second")
        all_read = Signal()
        offsets = {name: Signal(address_bits(config), name=f"{name}_offset") for name in "ab"}
        room = {name: Signal(range(_VECTORS + 1), init=_VECTORS, name=f"{name}_room") for name in "ab"}
        taken = Signal()
        ask = Signal()
        addresses = {
            name: body[f"{name}_source"] + offsets[name] + Mux(body[f"{name}_splat"], 0, place)
            for name in "ab"
        }
        operands_last = second | ~binary
        run_last = place + config.vector_lanes >= body.channels
        turn_last = ~softmax | (turn == Pass.RESULT.value)
        all_last = operands_last & run_last & turn_last & (pixel + 1 == body.pixels)
        m.d.comb += [
            self.read.valid.eq(go & ~all_read & (Mux(second, room["b"], room["a"]) != 0)),
            self.read.payload.eq(Mux(second, addresses["b"], addresses["a"])),
            ask.eq(self.read.valid & self.read.ready),
        ]
        with m.If(ask):
            m.d.sync += second.eq(~operands_last)
            with m.If(operands_last):
                m.d.sync += place.eq(Mux(run_last, 0, place + config.vector_lanes))
                with m.If(run_last):
                    m.d.sync += turn.eq(Mux(turn_last, 0, turn + 1))
                    with m.If(turn_last):
                        m.d.sync += pixel.eq(Mux(all_last, 0, pixel + 1))
                        m.d.sync += [
                            offset.eq(Mux(all_last, 0, offset + body[f"{name}_pitch"]))
                            for name, offset in offsets.items()
                        ]
        with m.If(self.done):
            m.d.sync += all_read.eq(0)
        with m.Elif(ask & all_last):
            m.d.sync += all_read.eq(1)

        streams = {}
        for name, mine in (("a", ~second), ("b", second)):
            m.submodules[f"{name}_vectors"] = fifo = Fifo(len(self.data), _VECTORS)
            arriving: Value = ask & mine
            m.d.sync += room[name].eq(room[name] - (ask & mine) + (fifo.o.valid & fifo.o.ready))
            for stage in range(READ_LATENCY):
                later = Signal(name=f"{name}_arriving_{stage}")
                m.d.sync += later.eq(arriving)
                arriving = later
            m.d.comb += [
                fifo.i.valid.eq(arriving),
                fifo.i.payload.eq(self.data),
                fifo.o.ready.eq(taken & (binary if name == "b" else 1)),
            ]
            streams[name] = fifo.o
        return streams, taken

    def _element(self, vector: Value, place: Signal, lane: int, splat: Value) -> Value:
        """The element of a lane, from the place in its run on."""
        bits, lane_bits = self._config.element_bits, exact_log2(self._lanes)
        inner = place[: exact_log2(self._config.vector_lanes)]
        start = Cat(Const(lane, lane_bits), inner[lane_bits:]) if lane_bits else inner
        # Softmax goes by single elements, all in lane 0.
        chosen = inner if lane == 0 else start
        return vector.word_select(Mux(splat, 0, chosen), bits).as_signed()

    def _totals(
        self, m: Module, valid: Value, elements: dict, body: data.View, is_: dict
    ) -> tuple[stream.Interface, Value]:
        """What ADD, SUBTRACT and MULTIPLY rescale: a stream of a total a lane, and whether it takes more elements."""
        upstream = stream.Signature(0).create()
        m.d.comb += upstream.valid.eq(valid)
        layout = data.ArrayLayout(signed(32), self._lanes)
        totals = stream.Signature(layout).create()
        pipeline = Pipeline(m, upstream)
        values = operand_totals(
            pipeline,
            elements["a"],
            elements["b"],
            body,
            is_[isa.Operation.MULTIPLY],
            is_[isa.Operation.SUBTRACT],
        )
        joined = Signal(layout)
        m.d.comb += [joined[lane].eq(value) for lane, value in enumerate(values)]
        pipeline.finish(totals, joined)
        return totals, upstream.ready

    def _ask(
        self, m: Module, totals: stream.Interface, unit: Softmax, body: data.View, softmax: Value
    ) -> None:
        """The lanes' work: totals, or softmax's products in lane 0."""
        work = self.work.payload
        product = unit.work.payload
        m.d.comb += [
            self.work.valid.eq(Mux(softmax, unit.work.valid, totals.valid)),
            totals.ready.eq(self.work.ready & ~softmax),
            unit.work.ready.eq(self.work.ready & softmax),
            work.zero_point.eq(Mux(softmax, Mux(product.result, -128, 0), body.zero_point)),
            work.low.eq(Mux(softmax, Mux(product.result, -128, -(1 << 31)), body.low)),
            work.high.eq(Mux(softmax, Mux(product.result, 127, (1 << 31) - 1), body.high)),
            work.single.eq(~softmax & ~body.double),
            unit.answer_valid.eq(self.result_valid & softmax),
            unit.answer.eq(self.results[0]),
        ]
        for lane in range(self._lanes):
            m.d.comb += [
                work.values[lane].eq(Mux(softmax, product.value, totals.payload[lane])),
                work.multipliers[lane].eq(Mux(softmax, product.multiplier, body.multiplier)),
                work.exponents[lane].eq(Mux(softmax, product.exponent, body.exponent)),
            ]

    def _write(
        self,
        m: Module,
        issued: Value,
        address: Value,
        mask: Value,
        all_last: Value,
        valid: Value,
        results: Value,
        stored: Signal,
    ) -> Value:
        """Joins the results with their places, in order; whether the one written is the command's last."""
        config = self._config
        layout = data.StructLayout({"address": address_bits(config), "mask": self._lanes, "last": 1})
        m.submodules.places = places = Fifo(layout, _RESULTS)
        m.submodules.results_waiting = waiting = Fifo(len(results), _RESULTS)
        both = places.o.valid & waiting.o.valid
        m.d.comb += [
            places.i.valid.eq(issued),
            places.i.payload.address.eq(address),
            places.i.payload.mask.eq(mask),
            places.i.payload.last.eq(all_last),
            waiting.i.valid.eq(valid),
            waiting.i.payload.eq(results),
            self.write.valid.eq(both),
            self.write.payload.address.eq(places.o.payload.address),
            self.write.payload.mask.eq(places.o.payload.mask),
            self.write.payload.data.eq(waiting.o.payload),
            stored.eq(both & self.write.ready),
            places.o.ready.eq(stored),
            waiting.o.ready.eq(stored),
        ]
        return places.o.payload.last
