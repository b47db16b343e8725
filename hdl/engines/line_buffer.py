"""The line buffer: a vector meets those of its column in the rows before it, and goes to the array with them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from intaglio.hdl.storage.memory import SyncMemory
from intaglio.hdl.units.product import operand_shape
from intaglio.spec.config import AcceleratorConfig

__all__ = ["LineBuffer", "lines_layout"]


def lines_layout(config: AcceleratorConfig) -> data.StructLayout:
    """How a vector meets the rows before its own: with so many ``lines`` of them, of which the first ``known`` are
    kept, at a ``column`` of its row; not depthwise, its first ``lanes`` lanes and as many of each line side by
    side."""
    return data.StructLayout(
        {
            "lines": range(config.line_buffer_rows + 1),
            "known": range(config.line_buffer_rows + 1),
            "column": exact_log2(config.line_buffer_columns),
            "lanes": bits_for(config.rows),
        }
    )


class LineBuffer(wiring.Component):
    """Keeps, for each column of a row of vectors, the ``line_buffer_rows`` vectors that came there last.

    A vector with ``lines`` of 0 passes as it is, and leaves no trace. Another meets the last vectors of its column, as
    many as are ``known``, and vectors of ``pad`` in place of the others, and is kept. A depthwise one goes on with
    them in ``above``, the last row's first. Else its first ``lanes`` lanes go on with those of `lines` vectors behind
    them, the last row's first; lanes past the array's are dropped. The lanes behind have the oldest line's other lanes
    or, on an array of binary weights, which have no zero, nothing.

    Latency: 2 cycles. Throughput: one vector a cycle. What is kept is undefined before so many rows have come.

    Parameters
    ----------
    config : AcceleratorConfig
        With a line buffer.
    vector : data.StructLayout
        Of what the array takes (:class:`intaglio.hdl.units.array.MacArray`).

    Members
    -------
    i : In(stream)
        Payload: ``vector``, whose ``above`` is not looked at, `lines_layout` as ``place``, and ``pad``, an operand.
    o : Out(stream of `vector`)
    """

    def __init__(self, config: AcceleratorConfig, vector: data.StructLayout) -> None:
        self._config = config
        self._entry = data.StructLayout(
            {"vector": vector, "place": lines_layout(config), "pad": operand_shape(config.operand)}
        )
        super().__init__({"i": In(stream.Signature(self._entry)), "o": Out(stream.Signature(vector))})

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        held = Signal(self._entry, reset_less=True)
        full = Signal()
        taken = Signal()
        given = Signal()
        room = Signal()
        m.d.comb += [
            self.i.ready.eq(~full | room),
            taken.eq(self.i.valid & self.i.ready),
            given.eq(full & room),
            room.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(taken):
            m.d.sync += [full.eq(1), held.eq(self.i.payload)]
        with m.Elif(room):
            m.d.sync += full.eq(0)
        place, vector = held.place, held.vector
        lanes = config.operand_lanes
        row = Value.cast(vector.activations)

        # Reading and writing a column in one cycle, a row of one vector reads what it has just written.
        memory = SyncMemory(config.line_buffer_rows * len(row), config.line_buffer_columns, bypass=True)
        m.submodules.memory = memory
        before = []
        for line in range(config.line_buffer_rows):
            earlier = Signal(len(row), name=f"line_{line}")
            kept = memory.read_data.word_select(line, len(row))
            m.d.comb += earlier.eq(Mux(place.known > line, kept, Value.cast(held.pad).replicate(lanes)))
            before.append(earlier)
        m.d.comb += [
            memory.read_enable.eq(taken & (self.i.payload.place.lines != 0)),
            memory.read_address.eq(self.i.payload.place.column),
            memory.write_enable.eq(given & (place.lines != 0)),
            memory.write_address.eq(place.column),
            memory.write_data.eq(Cat(row, *before[:-1])),
        ]

        # A register, since the memory's output is late in its cycle. What is chosen by goes along: no comparison stands
        # behind it.
        depthwise = vector.depthwise if config.depthwise_taps else Const(0, 1)
        numbers = range(1, len(before) + 1)
        choices = {
            # Vectors that share the array's lanes have so many each.
            "shared": Cat(lane < place.lanes if lane < config.rows else Const(0, 1) for lane in range(lanes)),
            "there": Cat(place.lines >= line for line in numbers),
            "oldest": Cat(place.lines == line for line in numbers),
            "together": (place.lines != 0) & ~depthwise,
        }
        met = Signal(
            data.StructLayout(
                {
                    "vector": vector.shape(),
                    "lanes": len(place.lanes),
                    "before": data.ArrayLayout(len(row), len(before)),
                    **{name: len(choice) for name, choice in choices.items()},
                }
            ),
            reset_less=True,
        )
        with m.If(room):
            m.d.sync += [self.o.valid.eq(full), met.eq(Cat(vector, place.lanes, *before, *choices.values()))]
        m.d.comb += self.o.payload.eq(met.vector)
        self._join(m, met)
        return m

    def _join(self, m: Module, met: data.View) -> None:
        """Vectors of one column as the array takes them: each in lanes of its own, or above the last."""
        config = self._config
        row = Value.cast(met.vector.activations)
        lane_bits = len(row) // config.operand_lanes
        share = Cat(bit.replicate(lane_bits) for bit in met.shared)
        joined = row & share
        before = [met.before[line] for line in range(config.line_buffer_rows)]
        for line, earlier in enumerate(before, start=1):
            if not config.weight.is_binary:
                # Nothing stands behind the oldest.
                earlier = Mux(met.oldest[line - 1], earlier, earlier & share)
            else:
                earlier = earlier & share
            moved = _behind(m, earlier, met.lanes * line, lane_bits)
            joined = joined | Mux(met.there[line - 1], moved, 0)
        m.d.comb += Value.cast(self.o.payload.activations).eq(Mux(met.together, joined, row))
        if config.depthwise_taps:
            m.d.comb += [
                Value.cast(above).eq(earlier[: len(Value.cast(above))])
                for above, earlier in zip(self.o.payload.above, before, strict=True)
            ]


def _behind(m: Module, row: Value, lanes: Value, lane_bits: int) -> Value:
    """A row of lanes, so many lanes further up; what leaves it is dropped."""
    for bit in range(len(lanes)):
        before, row = row, Signal(len(row), name=f"moved_{bit}")
        m.d.comb += row.eq(Mux(lanes[bit], before << (lane_bits << bit), before))
    return row
