"""The window reader: walks a convolution's or a pooling's positions and names the vector to read for each."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.command import body_layout, command_signature
from intaglio.hdl.engines.last_turn import last_turn
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.spec.commands import Opcode
from intaglio.spec.limits import COMMAND_INDEX_BITS, WINDOW_ELEMENT_BITS, WINDOW_ROW_BITS

__all__ = ["MATMUL_ORDER", "POOL_ORDER", "Window"]

# Loops from the innermost out, by the field that counts them.
MATMUL_ORDER = ("output_columns", "output_rows", "chunks", "kernel_columns", "kernel_rows", "digits")
POOL_ORDER = ("kernel_columns", "kernel_rows", "chunks", "output_columns", "output_rows")
_LATENCY = 3
"""Stages from a turn of the loops to its vector."""
_INNERMOST = 2
"""Loops whose ends all others hang on: those of a pass, or of a window."""
_TENSOR = ("source", "row_pitch", "height", "width_elements")


class Window(wiring.Component):
    """Turns a command into its sequence of vectors (`docs/architecture.md`, "The window reader").

    Latency: 3 cycles from a command to its first vector. Throughput: one vector a cycle.

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
    holds : bool
        Whether a command stands until its last vector has been taken, so that nothing of it need be carried. Vectors
        come FIFO_LATENCY cycles later then.

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    o : Out(stream)
        Payload: ``address``; ``inside``, a bit a lane; ``first`` and ``last``, a bit a loop: whether it is at its
        first or last turn; the carried fields, and ``index`` and ``mark`` of the command, but where it `holds`.
    """

    def __init__(
        self,
        opcode: Opcode,
        order: tuple[str, ...],
        lanes: int,
        chunk: int,
        address_bits: int,
        carried: tuple[str, ...] = (),
        slanted: bool = False,
        ragged: bool = False,
        holds: bool = False,
    ) -> None:
        self._order = order
        self._ragged = ragged
        self._holds = holds
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
                **({} if holds else {"index": COMMAND_INDEX_BITS, "mark": 1}),
            }
        )
        super().__init__({"command": In(command_signature(opcode)), "o": Out(stream.Signature(vector))})

    def elaborate(self, platform) -> Module:
        m = Module()
        command = self.command.payload
        body = command.body
        step = Signal()
        first, last, row_offset, element_offset, ends = self._loops(m, step)

        walk, named = stream.Signature(0).create(), self.o
        if self._holds:
            named = self._hold(m, walk, step, ends)
        else:
            m.d.comb += [walk.valid.eq(self.command.valid), self.command.ready.eq(walk.ready & ends)]
        pipeline = Pipeline(m, walk)
        m.d.comb += step.eq(pipeline.transfer)
        along = {name: body[name] for name in self._carried} | {"first": first, "last": last}
        if not self._holds:
            along |= {"index": command.index, "mark": command.mark}

        place = pipeline.stage(
            row=(body.first_row + row_offset)[:WINDOW_ROW_BITS].as_signed(),
            element=(body.first_element + element_offset)[:WINDOW_ELEMENT_BITS].as_signed(),
            **({} if self._holds else {name: body[name] for name in _TENSOR}),
            **along,
        )
        tensor = body if self._holds else place
        # The product of a signed and an unsigned number, modulo the scratchpad's size as all addresses are.
        line = pipeline.stage(
            start=(place.row * tensor.row_pitch + tensor.source)[: self._address_bits],
            element=place.element,
            inside=(place.row >= 0) & (place.row < tensor.height),
            **({} if self._holds else {"width_elements": place.width_elements}),
            **{name: place[name] for name in along},
        )
        # Lane l is inside from the first lane at or past the row's start to the last one before its end.
        width = body.width_elements if self._holds else line.width_elements
        before = Signal(range(self._lanes + 1))
        until = Signal(range(self._lanes + 1))
        m.d.comb += [
            before.eq(_clamp(-line.element, self._lanes)),
            until.eq(_clamp(width - line.element, self._lanes)),
        ]
        vector = pipeline.stage(
            address=(line.start + line.element)[: self._address_bits],
            inside=Cat(line.inside & (before <= lane) & (until > lane) for lane in range(self._lanes)),
            **{name: line[name] for name in along},
        )
        output = Signal(self.o.payload.shape())
        for name in ("address", "inside", *along):
            m.d.comb += output[name].eq(vector[name])
        pipeline.finish(named, output)
        return m

    def _hold(self, m: Module, walk, step: Signal, ends: Value):
        """Where vectors go of a window that holds its command; it goes when the last has been taken. Nothing stalls the
        stages, since what they name has a place to go to: no path from who reads to the counters."""
        m.submodules.credits = credits = Credits(depth_to_cover(_LATENCY + FIFO_LATENCY))
        m.submodules.waiting = waiting = Fifo(self.o.payload.shape(), credits.depth)
        wiring.connect(m, waiting.o, wiring.flipped(self.o))
        named = stream.Signature(self.o.payload.shape()).create()
        walked = Signal()
        taken = self.o.valid & self.o.ready
        gone = taken & Value.cast(self.o.payload.last).all()
        m.d.comb += [
            walk.valid.eq(self.command.valid & ~walked & credits.available),
            self.command.ready.eq(gone),
            credits.take.eq(step),
            credits.give_back[0].eq(taken),
            named.ready.eq(1),
            waiting.i.valid.eq(named.valid),
            waiting.i.payload.eq(named.payload),
        ]
        m.d.sync += walked.eq((walked | (step & ends)) & ~gone)
        return named

    def _loops(self, m: Module, step: Signal) -> tuple[data.View, data.View, Value, Value, Value]:
        """Nested counters: which loops are at their first and last turn, the offsets in rows and elements, and whether
        all are at their last turn.

        A step may end all loops. So that it need not run through one after the other, whether the loops around a pass
        of the innermost are at their last turn, up to each, comes from registers: as it was, unless a pass has ended
        since; then as it is after that.
        """
        body = self.command.payload.body
        element_steps = {"output_columns": "column_stride", "kernel_columns": "kernel_column_step"}
        first = Signal(self.o.payload.first.shape())
        last = Signal(self.o.payload.last.shape())
        rows: list[Value] = []
        elements: list[Value] = []
        advance = pass_ends = step
        passed = Signal()
        ended: Value = Const(1, 1)
        now: Value = Const(1, 1)
        after: Value = Const(1, 1)
        for depth, name in enumerate(self._order):
            innermost = depth < _INNERMOST
            following = self._turn(m, name, innermost, advance, first, last)
            if name in self._row_steps:
                distance = body[self._row_steps[name]]
                rows.append(_offset(m, f"{name}_row", WINDOW_ROW_BITS, distance, advance, last[name]))
            if name in element_steps:
                distance = body[element_steps[name]]
                elements.append(_offset(m, name, WINDOW_ELEMENT_BITS, distance, advance, last[name]))
            elif name == "chunks":
                elements.append(_offset(m, name, WINDOW_ELEMENT_BITS, self._chunk, advance, last[name]))
            if innermost:
                advance = pass_ends = advance & last[name]
                m.d.sync += passed.eq(pass_ends)
                pass_last = Cat(last[inner] for inner in self._order[:_INNERMOST]).all()
                continue
            turned = Mux(last[name], body[name] == 1, following == body[name])
            now, after = now & last[name], after & Mux(ended, turned, last[name])
            was, will = Signal(name=f"{name}_ended"), Signal(name=f"{name}_would_end")
            m.d.sync += [was.eq(now), will.eq(after)]
            ended = Mux(passed, will, was)
            advance = pass_ends & ended
        return first, last, sum(rows), sum(elements), pass_last & ended

    def _turn(
        self, m: Module, name: str, innermost: bool, advance: Value, first: data.View, last: data.View
    ) -> Signal:
        """Counts the turns of a loop, and returns which one follows. All others hang on whether the innermost end: they
        know it from registers. The others are counted from 1, the one that follows in a register of its own, so that no
        sum stands before a comparison."""
        body = self.command.payload.body
        least = 0 if innermost else 1
        turn = Signal(len(body[name]), init=least, name=f"{name}_turn")
        at_first = Signal(init=1, name=f"{name}_first")
        at_last: Value = turn == body[name]
        if innermost:
            at_last = last_turn(m, turn, body[name], advance, name=f"{name}_last", back=last[name])
        if self._ragged and name == "output_columns":
            width = body.last_row_columns
            other = last_turn(m, turn, width, advance, name="last_row_last", back=last[name])
            ragged = Signal()
            m.d.sync += ragged.eq(width != 0)
            at_last = Mux(last.output_rows & ragged, other, at_last)
        following: Value = turn + 1
        if not innermost:
            following = Signal(len(turn), init=least + 1, name=f"{name}_following")
            with m.If(advance):
                m.d.sync += following.eq(Mux(last[name], least + 1, following + 1))
        m.d.comb += [first[name].eq(at_first), last[name].eq(at_last)]
        with m.If(advance):
            m.d.sync += [turn.eq(Mux(last[name], least, following)), at_first.eq(last[name])]
        return following


def _offset(m: Module, loop: str, bits: int, distance: Value | int, advance: Value, last: Value) -> Signal:
    """Turns of a loop times a distance, without a multiplier."""
    offset = Signal(bits, name=f"{loop}_offset")
    with m.If(advance):
        m.d.sync += offset.eq(Mux(last, 0, offset + distance))
    return offset


def _clamp(value: Value, high: int) -> Value:
    """A signed value between 0 and `high`."""
    return Mux(value < 0, 0, Mux(value > high, high, value))
