"""The window reader: walks a convolution's or a pooling's positions and names the vector to read for each."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.command import body_layout, command_signature
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.spec.commands import Opcode
from intaglio.spec.limits import COMMAND_INDEX_BITS, WINDOW_ELEMENT_BITS, WINDOW_ROW_BITS

__all__ = ["MATMUL_ORDER", "POOL_ORDER", "Window"]

# Loops from the innermost out, by the field that counts them.
MATMUL_ORDER = ("output_columns", "output_rows", "chunks", "kernel_columns", "kernel_rows", "digits")
POOL_ORDER = ("kernel_columns", "kernel_rows", "chunks", "output_columns", "output_rows")


class Window(wiring.Component):
    """Turns a command into its sequence of vectors (`docs/architecture.md`, "The window reader").

    Latency: 3 cycles from a command to its first vector. Throughput: one vector a cycle, also from one command to the
    next.

    Parameters
    ----------
    opcode : Opcode
        MATMUL or MAX_POOL: which fields a command has.
    order : tuple of str
        The loops from the innermost out.
    lanes : int
        Elements of a vector that are looked at.
    chunk : int
        Elements from one chunk to the next.
    address_bits : int
        Bits of an element address.
    carried : tuple of str
        Fields of the command that go with each of its vectors.
    slanted : bool
        Whether a step of the kernel's columns can go down as well, by the field ``kernel_column_row_step``.
    ragged : bool
        Whether the last row can have other than ``output_columns``, by the field ``last_row_columns``.

    Members
    -------
    command : In(command_signature)
    o : Out(stream)
        Payload: ``address``; ``inside``, a bit a lane; ``first`` and ``last``, a bit a loop: whether it is at its
        first or last turn; the carried fields; ``index`` and ``mark`` of the command.
    """

    def __init__(
        self,
        opcode: Opcode,
        order: tuple[str, ...],
        lanes: int,
        chunk: int,
        address_bits: int,
        carried: tuple[str, ...],
        slanted: bool = False,
        ragged: bool = False,
    ) -> None:
        self._order = order
        self._ragged = ragged
        self._row_steps = {"output_rows": "row_stride", "kernel_rows": "kernel_row_step"}
        if slanted:
            self._row_steps["kernel_columns"] = "kernel_column_row_step"
        self._lanes = lanes
        self._chunk = chunk
        self._address_bits = address_bits
        self._carried = carried
        loops = data.StructLayout({name: 1 for name in order})
        body = body_layout(opcode)
        vector = data.StructLayout(
            {
                "address": address_bits,
                "inside": lanes,
                "first": loops,
                "last": loops,
                **{name: body[name].shape for name in carried},
                "index": COMMAND_INDEX_BITS,
                "mark": 1,
            }
        )
        super().__init__({"command": In(command_signature(opcode)), "o": Out(stream.Signature(vector))})

    def elaborate(self, platform) -> Module:
        m = Module()
        command = self.command.payload
        body = command.body
        step = Signal()
        first, last, row_offset, element_offset = self._loops(m, step)

        walk = stream.Signature(0).create()
        m.d.comb += [
            walk.valid.eq(self.command.valid),
            self.command.ready.eq(walk.ready & Value.cast(last).all()),
        ]
        pipeline = Pipeline(m, walk)
        m.d.comb += step.eq(pipeline.transfer)
        along = {name: body[name] for name in self._carried} | {
            "first": first,
            "last": last,
            "index": command.index,
            "mark": command.mark,
        }

        place = pipeline.stage(
            row=(body.first_row + row_offset)[:WINDOW_ROW_BITS].as_signed(),
            element=(body.first_element + element_offset)[:WINDOW_ELEMENT_BITS].as_signed(),
            **{name: body[name] for name in ("source", "row_pitch", "height", "width_elements")},
            **along,
        )
        # The product of a signed and an unsigned number, modulo the scratchpad's size as all addresses are.
        line = pipeline.stage(
            start=(place.row * place.row_pitch + place.source)[: self._address_bits],
            element=place.element,
            inside=(place.row >= 0) & (place.row < place.height),
            width_elements=place.width_elements,
            **{name: place[name] for name in along},
        )
        # Lane l is inside from the first lane at or past the row's start to the last one before its end.
        before = Signal(range(self._lanes + 1))
        until = Signal(range(self._lanes + 1))
        m.d.comb += [
            before.eq(_clamp(-line.element, self._lanes)),
            until.eq(_clamp(line.width_elements - line.element, self._lanes)),
        ]
        vector = pipeline.stage(
            address=(line.start + line.element)[: self._address_bits],
            inside=Cat(line.inside & (before <= lane) & (until > lane) for lane in range(self._lanes)),
            **{name: line[name] for name in along},
        )
        output = Signal(self.o.payload.shape())
        for name in ("address", "inside", *along):
            m.d.comb += output[name].eq(vector[name])
        pipeline.finish(self.o, output)
        return m

    def _loops(self, m: Module, step: Signal) -> tuple[data.View, data.View, Value, Value]:
        """Nested counters: which loops are at their first and last turn, and the offsets in rows and elements."""
        body = self.command.payload.body
        element_steps = {"output_columns": "column_stride", "kernel_columns": "kernel_column_step"}
        first = Signal(self.o.payload.first.shape())
        last = Signal(self.o.payload.last.shape())
        rows: list[Value] = []
        elements: list[Value] = []
        advance: Value = step
        for name in self._order:
            turn = Signal(len(body[name]), name=f"{name}_turn")
            ends = turn + 1 == body[name]
            if self._ragged and name == "output_columns":
                ragged = last.output_rows & (body.last_row_columns != 0)
                ends = Mux(ragged, turn + 1 == body.last_row_columns, ends)
            m.d.comb += [first[name].eq(turn == 0), last[name].eq(ends)]
            with m.If(advance):
                m.d.sync += turn.eq(Mux(last[name], 0, turn + 1))
            if name in self._row_steps:
                distance = body[self._row_steps[name]]
                rows.append(_offset(m, f"{name}_row", WINDOW_ROW_BITS, distance, advance, last[name]))
            if name in element_steps:
                distance = body[element_steps[name]]
                elements.append(_offset(m, name, WINDOW_ELEMENT_BITS, distance, advance, last[name]))
            elif name == "chunks":
                elements.append(_offset(m, name, WINDOW_ELEMENT_BITS, self._chunk, advance, last[name]))
            advance = advance & last[name]
        return first, last, sum(rows), sum(elements)


def _offset(m: Module, loop: str, bits: int, distance: Value | int, advance: Value, last: Value) -> Signal:
    """Turns of a loop times a distance, without a multiplier."""
    offset = Signal(bits, name=f"{loop}_offset")
    with m.If(advance):
        m.d.sync += offset.eq(Mux(last, 0, offset + distance))
    return offset


def _clamp(value: Value, high: int) -> Value:
    """A signed value between 0 and `high`."""
    return Mux(value < 0, 0, Mux(value > high, high, value))
