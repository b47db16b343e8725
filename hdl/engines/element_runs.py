"""Between the elementwise engine's functions and the scratchpad: operands in, results out, run after run."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.engines.command import body_layout
from intaglio.hdl.engines.last_turn import last_turn
from intaglio.hdl.engines.softmax import PASSES
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.scratchpad import READ_LATENCY, address_bits, read_signature, write_signature
from intaglio.spec.commands import SOFTMAX_PLANES, TABLE_ENTRIES, Opcode, Operation
from intaglio.spec.config import AcceleratorConfig

__all__ = ["ElementReader", "ElementWriter", "is_any"]

_BINARY = (Operation.ADD, Operation.SUBTRACT, Operation.MULTIPLY)
_PAIR_LATENCY = 1 + READ_LATENCY + FIFO_LATENCY
"""Cycles from a vector of operand a asked for to its step: operand b's is asked for in the cycle after."""


def is_any(body: data.View, *operations: Operation) -> Value:
    """Whether a command's operation is one of these."""
    return Cat(body.operation == operation.value for operation in operations).any()


class _Walk:
    """Walks the runs of a command, `stride` elements a step, each run `turns` times; a run starts with a new vector.

    After the last step it is at the first again.
    """

    def __init__(
        self,
        m: Module,
        config: AcceleratorConfig,
        body: data.View,
        *,
        stride: int | Value,
        step: Value,
        turns: int | Value = 1,
        pitches: tuple[str, ...] = (),
        name: str,
    ) -> None:
        lane_bits = exact_log2(config.vector_lanes)
        self.channel = Signal(len(body.channels), name=f"{name}_channel")
        """The step's first element of the run."""
        self.pixel = Signal(len(body.pixels), name=f"{name}_pixel")
        turn = Signal(range(PASSES), name=f"{name}_turn")
        self.lane = self.channel[:lane_bits]
        self.vector = Cat(Const(0, lane_bits), self.channel[lane_bits:])
        """The run's element that the vector at hand starts with."""
        self.run_last = last_turn(
            m, self.channel, body.channels, step, name=f"{name}_run_last", stride=stride
        )
        self.vector_last = self.run_last | (self.lane + stride == config.vector_lanes)
        turns_last = self.run_last & (turn + 1 == turns)
        over = step & turns_last
        self.last = turns_last & last_turn(m, self.pixel, body.pixels, over, name=f"{name}_pixel_last")
        with m.If(step):
            m.d.sync += self.channel.eq(Mux(self.run_last, 0, self.channel + stride))
            with m.If(self.run_last):
                m.d.sync += turn.eq(Mux(turns_last, 0, turn + 1))
        self.offsets = []
        """Of the run at hand, by pitch."""
        with m.If(over):
            m.d.sync += self.pixel.eq(Mux(self.last, 0, self.pixel + 1))
            for pitch in pitches:
                offset = Signal(address_bits(config), name=f"{name}_{pitch}_offset")
                m.d.sync += offset.eq(Mux(self.last, 0, offset + body[pitch]))
                self.offsets.append(offset)


class ElementReader(wiring.Component):
    """Reads the operands of a command, ahead of their use, and deals them out step by step.

    Latency: 5 cycles from the first read to the first step, 4 for one operand. Throughput: a step a cycle, where the
    scratchpad grants a read for each vector of each operand.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    body : In(body_layout)
        Of the command at hand, from the cycle before `go` on.
    go, done : In(1)
        The command may be read; it is complete, and another may be there in the next cycle but one.
    read, data : Out(read_signature), In
        The scratchpad's read stream and its vector, READ_LATENCY cycles after.
    o : Out(stream)
        Payload: ``a`` and ``b``, the step's elements, for SOFTMAX one in lane 0, for the run's PASSES times over;
        ``run_last``, ``last`` of the command; of LOAD_TABLE, whose step is a vector, ``vector``, its ``word`` of the
        table and its ``plane``.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        vector_bits = config.vector_lanes * config.element_bits
        elements = data.ArrayLayout(signed(config.element_bits), config.step_lanes)
        super().__init__(
            {
                "body": In(body_layout(Opcode.ELEMENTWISE)),
                "go": In(1),
                "done": In(1),
                "read": Out(read_signature(config)),
                "data": In(vector_bits),
                "o": Out(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "a": elements,
                                "b": elements,
                                "run_last": 1,
                                "last": 1,
                                "vector": vector_bits,
                                "word": range(TABLE_ENTRIES // config.vector_lanes),
                                "plane": range(SOFTMAX_PLANES),
                            }
                        )
                    )
                ),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes, bits = config.step_lanes, config.element_bits
        body = self.body
        is_softmax, is_table = is_any(body, Operation.SOFTMAX), is_any(body, Operation.LOAD_TABLE)
        one_by_one, two, a_splat = Signal(), Signal(), Signal()
        turns = Signal(range(PASSES + 1))
        stride = Signal(range(config.vector_lanes + 1))
        m.d.sync += [
            one_by_one.eq(is_softmax),
            two.eq(is_any(body, *_BINARY)),
            a_splat.eq(body.a_splat & ~is_table),
            turns.eq(Mux(is_softmax, PASSES, 1)),
            stride.eq(Mux(is_table, config.vector_lanes, Mux(is_softmax, 1, lanes))),
        ]

        step = Signal()
        walk = _Walk(m, config, body, stride=stride, step=step, turns=turns, name="step")
        vector_taken = Signal()
        # A credit is for a vector of each operand.
        m.submodules.credits = credits = Credits(depth_to_cover(_PAIR_LATENCY))
        m.submodules.a = a = Fifo(self.data.shape(), credits.depth)
        m.submodules.b = b = Fifo(self.data.shape(), credits.depth)
        m.d.comb += credits.give_back[0].eq(vector_taken)
        arriving = self._ask(m, turns, two, a_splat, credits)
        for waiting, arrives in zip((a, b), arriving, strict=True):
            m.d.comb += [
                waiting.i.valid.eq(arrives),
                waiting.i.payload.eq(self.data),
                waiting.o.ready.eq(vector_taken),
            ]

        o = self.o.payload
        m.d.comb += [
            self.o.valid.eq(a.o.valid & (b.o.valid | ~two)),
            step.eq(self.o.valid & self.o.ready),
            vector_taken.eq(step & walk.vector_last),
            o.run_last.eq(walk.run_last),
            o.last.eq(walk.last),
            o.vector.eq(a.o.payload),
            o.word.eq(walk.channel[exact_log2(config.vector_lanes) : exact_log2(TABLE_ENTRIES)]),
            o.plane.eq(walk.pixel[: exact_log2(SOFTMAX_PLANES)]),
        ]
        for taken, waiting, splat in ((o.a, a, a_splat), (o.b, b, body.b_splat)):
            vector = waiting.o.payload
            elements = vector.word_select(walk.lane >> exact_log2(lanes), lanes * bits)
            m.d.comb += Value.cast(taken).eq(Mux(splat, vector[:bits].replicate(lanes), elements))
        with m.If(one_by_one & ~a_splat):
            m.d.comb += o.a[0].eq(a.o.payload.word_select(walk.lane, bits))
        return m

    def _ask(
        self, m: Module, turns: Value, two: Value, a_splat: Value, credits: Credits
    ) -> tuple[Value, Value]:
        """Asks for the vectors, of two operands in turn; whether one of a, of b, is on `data`."""
        config = self._config
        body = self.body
        asked = Signal()
        pair_asked = Signal()
        all_asked = Signal()
        second = Signal()
        walk = _Walk(
            m,
            config,
            body,
            stride=config.vector_lanes,
            step=pair_asked,
            turns=turns,
            pitches=("a_pitch", "b_pitch"),
            name="ask",
        )
        a_offset, b_offset = walk.offsets
        a_address = body.a_source + a_offset + Mux(a_splat, 0, walk.channel)
        b_address = body.b_source + b_offset + Mux(body.b_splat, 0, walk.channel)
        m.d.comb += [
            self.read.valid.eq(self.go & ~all_asked & (second | credits.available)),
            self.read.payload.eq(Mux(second, b_address, a_address)[: address_bits(config)]),
            asked.eq(self.read.valid & self.read.ready),
            pair_asked.eq(asked & (second | ~two)),
            credits.take.eq(asked & ~second),
        ]
        with m.If(asked):
            m.d.sync += second.eq(two & ~second)
        with m.If(self.done):
            m.d.sync += all_asked.eq(0)
        with m.Elif(pair_asked & walk.last):
            m.d.sync += all_asked.eq(1)

        arriving = delayed(m, Cat(credits.take, asked & second), READ_LATENCY, "arriving")
        return arriving[0], arriving[1]


class ElementWriter(wiring.Component):
    """Gathers the results of a command into vectors and writes them.

    Latency: none; the last step of a vector waits for the vector to be written. Throughput: a step a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    body : In(body_layout)
        Of the command at hand, from two cycles before its first result on.
    i : In(stream)
        Results of a step; of SOFTMAX one, in every lane.
    write : Out(write_signature)
    done : Out(1)
        The last vector of the command is being written.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "body": In(body_layout(Opcode.ELEMENTWISE)),
                "i": In(stream.Signature(config.step_lanes * config.element_bits)),
                "write": Out(write_signature(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes, bits = config.step_lanes, config.element_bits
        step_bits = exact_log2(lanes)
        body = self.body
        one_by_one = Signal()
        m.d.sync += one_by_one.eq(is_any(body, Operation.SOFTMAX))
        step = Signal()
        walk = _Walk(
            m, config, body, stride=Mux(one_by_one, 1, lanes), step=step, pitches=("pitch",), name="write"
        )

        # The step's elements in their lanes, before them those of the vector's earlier steps.
        held = Signal(config.vector_lanes * bits)
        gathered = Signal(held.shape())
        for lane in range(config.vector_lanes):
            of_step = (walk.lane >> step_bits) == lane >> step_bits
            chosen = (walk.lane & (lanes - 1)) == lane % lanes
            m.d.comb += gathered.word_select(lane, bits).eq(
                Mux(
                    of_step & (chosen | ~one_by_one),
                    self.i.payload.word_select(lane % lanes, bits),
                    held.word_select(lane, bits),
                )
            )
        with m.If(step):
            m.d.sync += held.eq(gathered)

        rest = (body.channels - walk.vector)[: len(body.channels)]
        whole = rest >= config.vector_lanes
        lane_bits = exact_log2(config.vector_lanes)
        mask = Mux(whole, (1 << config.vector_lanes) - 1, (Const(1, 1) << rest[:lane_bits]) - 1)
        (offset,) = walk.offsets
        m.d.comb += [
            self.write.valid.eq(self.i.valid & walk.vector_last),
            self.write.payload.address.eq((body.destination + offset + walk.vector)[: address_bits(config)]),
            self.write.payload.mask.eq(mask[: config.vector_lanes]),
            self.write.payload.data.eq(gathered),
            self.i.ready.eq(~walk.vector_last | self.write.ready),
            step.eq(self.i.valid & self.i.ready),
            self.done.eq(step & walk.last),
        ]
        return m
