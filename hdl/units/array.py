"""The array of multiply-accumulates: rows are reduction lanes, columns output channels."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer
from intaglio.hdl.repeated import place
from intaglio.hdl.units.column import ArrayColumn, choices, column_latency, column_sum_bits, held
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.product import operand_shape
from intaglio.spec.operand import OperandType

__all__ = ["MacArray"]


class MacArray(wiring.Component):
    """A vector times a matrix of weights that stays: ``sums[c] = sum(activations[r] * w[r][c])``.

    The activations go to all columns at once, and the products of a column are added by a tree.
    Weights are double-buffered: a tile of rows x columns arrives as beats on ``w`` in shadow
    registers while the array works with the tile before; a vector with ``swap`` high is the first
    that sees it, and waits until the tile is whole. A tile that takes no more cycles to load than
    its predecessor is used costs no cycle. One of fewer beats holds the weights of the first columns
    alone; all bits of the others' weights are 0.

    Latency: :attr:`latency` cycles. Throughput: one vector, rows x columns products, a cycle.

    Parameters
    ----------
    rows, columns : int
        1…64.
    activation : OperandType or str
        An integer type.
    weight : OperandType or str
        Any type.
    accumulator_bits : int or None
        Width of the sums, 8…48, taken modulo ``2**accumulator_bits``; None: as wide as the exact sum.
    tag_bits : int
        Bits that a vector carries along to its sums.
    beat_bits : int
        Width of ``w``.
    depthwise_taps : int
        With k > 0 the array has a second mapping: a vector with ``depthwise`` high gives element c to
        column c, and row r < k multiplies what the vector taken r before gave: ``sums[c] =
        sum(v[t - r][c] * w[r][c])``. Where bit r of ``beside`` is high, it multiplies ``pad`` instead. Rows from k on
        must hold zero weights.
    depthwise_lines : int
        In the second mapping, vectors that come with each, ``above``: with k taps, row ``l * k + r`` multiplies what
        line l - 1 of the vector taken r before gave, line 0 being the vector itself; rows from
        ``(depthwise_lines + 1) * k`` on must hold zero weights.
    lane_digits : int
        A power of two that divides `rows`. With more than 1 a vector says how many digits of a number lie side by side
        in its rows: ``digits`` of k multiplies the products of row r by ``2**(digit_bits * (r % 2**k))``.
    digit_bits : int
        Bits of a digit.
    bit_planes : bool
        For binary weights alone. A vector with ``plane`` high takes a weight's bit b as the number b, and as -b if
        ``negative`` is high as well: one plane of the bits of wider weights.

    Members
    -------
    w : In(stream)
        Payload: ``bits``, unsigned(beat_bits), and ``last``, high with a tile's last beat. A tile is
        at most :attr:`tile_beats` beats: ``w[0][0], w[1][0], …``, column by column, packed from bit 0 up.
    i : In(stream)
        Payload, from the lowest bit: ``activations`` (:attr:`lanes` of the activation's shape: rows, or columns
        if they are more and there is a depthwise mapping), ``swap`` unsigned(1), ``stop`` unsigned(1): with `swap`,
        no beat is taken in the same cycle, ``tag`` unsigned(tag_bits),
        only with ``depthwise_taps`` ``depthwise`` unsigned(1), ``beside`` unsigned(depthwise_taps) and ``pad``, of the
        activation's shape, only with ``depthwise_lines`` ``above``
        (depthwise_lines rows of columns of the activation's shape), only with ``bit_planes`` ``plane`` and
        ``negative``, unsigned(1) each, and only with ``lane_digits`` ``digits``.
    o : Out(stream)
        Payload, from the lowest bit: ``sums`` (columns of signed(sum_bits)), ``tag``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        activation: OperandType | str,
        weight: OperandType | str,
        accumulator_bits: int | None = None,
        tag_bits: int = 0,
        beat_bits: int = 64,
        depthwise_taps: int = 0,
        bit_planes: bool = False,
        depthwise_lines: int = 0,
        lane_digits: int = 1,
        digit_bits: int = 0,
    ) -> None:
        self.rows = check_integer("rows", rows, 1, 64)
        self.columns = check_integer("columns", columns, 1, 64)
        self.activation = OperandType(activation) if isinstance(activation, str) else activation
        self.weight = OperandType(weight) if isinstance(weight, str) else weight
        for name in ("activation", "weight"):
            if not isinstance(getattr(self, name), OperandType):
                raise TypeError(f"`{name}` must be an OperandType or its name, not {getattr(self, name)!r}")
        if not self.activation.is_integer:
            raise ValueError(f"`activation` must be an integer type, not {self.activation}")
        if accumulator_bits is not None:
            check_integer("accumulator_bits", accumulator_bits, 8, 48)
        self.lane_digits = check_integer("lane_digits", lane_digits, 1, self.rows)
        if lane_digits & (lane_digits - 1) or self.rows % lane_digits:
            raise ValueError(f"`lane_digits` must be a power of two that divides `rows`, not {lane_digits}")
        self.digit_bits = check_integer("digit_bits", digit_bits, 0, 8)
        exact_bits = column_sum_bits(self.rows, self.activation, self.weight, lane_digits, digit_bits)
        self.sum_bits = accumulator_bits or exact_bits
        self.tag_bits = check_integer("tag_bits", tag_bits, 0, 256)
        self.beat_bits = check_integer("beat_bits", beat_bits, 8, 1024)
        self.depthwise_taps = check_integer("depthwise_taps", depthwise_taps, 0, self.rows)
        most_lines = self.rows // depthwise_taps - 1 if depthwise_taps else 0
        self.depthwise_lines = check_integer("depthwise_lines", depthwise_lines, 0, most_lines)
        self.bit_planes = bit_planes
        if not isinstance(bit_planes, bool):
            raise TypeError(f"`bit_planes` must be a bool, not {bit_planes!r}")
        if bit_planes and not self.weight.is_binary:
            raise ValueError(
                f"`bit_planes` must be False for weights of {self.weight}: binary ones have them"
            )
        self.lanes = max(self.rows, self.columns if depthwise_taps else 0)
        sums = data.StructLayout(
            {"sums": data.ArrayLayout(signed(self.sum_bits), self.columns), "tag": self.tag_bits}
        )
        super().__init__(
            {
                "w": In(stream.Signature(data.StructLayout({"bits": self.beat_bits, "last": 1}))),
                "i": In(stream.Signature(self._vector())),
                "o": Out(stream.Signature(sums)),
            }
        )

    def _vector(self) -> data.StructLayout:
        """Of what goes in."""
        shape = operand_shape(self.activation)
        above = data.ArrayLayout(data.ArrayLayout(shape, self.columns), self.depthwise_lines)
        return data.StructLayout(
            {
                "activations": data.ArrayLayout(shape, self.lanes),
                "swap": 1,
                "stop": 1,
                "tag": self.tag_bits,
                **(
                    {"depthwise": 1, "beside": self.depthwise_taps, "pad": shape}
                    if self.depthwise_taps
                    else {}
                ),
                **({"above": above} if self.depthwise_lines else {}),
                **({"plane": 1, "negative": 1} if self.bit_planes else {}),
                **({"digits": range(self.lane_digits.bit_length())} if self.lane_digits > 1 else {}),
            }
        )

    @property
    def tile_beats(self) -> int:
        """Beats on ``w`` that hold a tile of all columns."""
        return -(-self.rows * self.columns * self.weight.bits // self.beat_bits)

    @property
    def latency(self) -> int:
        """Cycles from a vector taken to its sums offered."""
        return column_latency(self.rows)

    def elaborate(self, platform) -> Module:
        m = Module()
        weights, swap, shadow_full = self._weights(m)

        offered = stream.Signature(self.i.payload.shape()).create()
        blocked = Signal()
        m.d.comb += [
            blocked.eq(self.i.payload.swap & ~shadow_full),
            offered.valid.eq(self.i.valid & ~blocked),
            offered.payload.eq(self.i.payload),
            self.i.ready.eq(offered.ready & ~blocked),
        ]
        pipeline = Pipeline(m, offered)
        advance = [pipeline.transfer]
        along = ("tag", "digits") if self.lane_digits > 1 else ("tag",)
        stages = [pipeline.stage(**{name: self.i.payload[name] for name in along})]
        for _ in range(self.latency - 1):
            advance.append(pipeline.transfer)
            stages.append(pipeline.stage(**{name: stages[-1][name] for name in along}))

        lines = self.depthwise_lines + 1 if self.depthwise_taps else 0
        column_of = (
            *(self.rows, self.activation, self.weight, self.depthwise_taps, lines, self.bit_planes),
            *(self.lane_digits, self.digit_bits),
        )
        columns = [
            place(m, platform, f"column_{number}", ArrayColumn, *column_of) for number in range(self.columns)
        ]
        for number, column in enumerate(columns):
            m.d.comb += [
                column.swap.eq(swap),
                *(port.eq(moves) for port, moves in zip(column.advance, advance, strict=True)),
                *(port.eq(row[number]) for port, row in zip(column.weights, weights, strict=True)),
            ]
            if self.lane_digits > 1:
                m.d.comb += [
                    port.eq(stage.digits) for port, stage in zip(column.digits, stages[1:], strict=False)
                ]
        self._operands(m, advance[0], columns)

        output = Signal(self.o.payload.shape())
        m.d.comb += output.tag.eq(stages[-1].tag)
        for port, column in zip(output.sums, columns, strict=True):
            m.d.comb += port.eq(column.sum)
        pipeline.finish(self.o, output)
        return m

    def _operands(self, m: Module, taken: Signal, columns: list[ArrayColumn]) -> None:
        """What the columns multiply: of rows that all share, from registers here, of others from the vector."""
        vector = self.i.payload
        lines = [vector.activations, *(vector.above if self.depthwise_lines else [])]
        shape = operand_shape(self.activation)
        own = len(columns[0].activations)
        shared: list[Value | data.View] = [
            held(m, taken, vector.activations[row], shape, f"operand_{row}") for row in range(own, self.rows)
        ]
        plane, negative = Signal(), Signal()
        if self.bit_planes:
            with m.If(taken):
                m.d.sync += [plane.eq(vector.plane), negative.eq(vector.negative)]
            shared = [
                choices(m, operand, plane, negative, self.activation, f"of_{own + index}")
                for index, operand in enumerate(shared)
            ]
        for number, column in enumerate(columns):
            m.d.comb += [port.eq(operand) for port, operand in zip(column.operands, shared, strict=True)]
            if not self.depthwise_taps:
                continue
            m.d.comb += [
                column.depthwise.eq(vector.depthwise),
                column.beside.eq(vector.beside),
                column.pad.eq(vector.pad),
                *(port.eq(vector.activations[row]) for row, port in enumerate(column.activations)),
                *(port.eq(line[number]) for port, line in zip(column.above, lines, strict=True)),
            ]
            if self.bit_planes:
                m.d.comb += [column.plane.eq(plane), column.negative.eq(negative)]

    def _weights(self, m: Module) -> tuple[list[list[Value]], Signal, Signal]:
        """The next tile as bits of each weight, whether it becomes the one in use, and whether it is whole."""
        shadow = [
            Signal(self.beat_bits, name=f"shadow_{beat}", reset_less=True) for beat in range(self.tile_beats)
        ]
        position = Signal(range(self.tile_beats))
        full = Signal()
        swap = Signal()
        m.d.comb += [
            swap.eq(self.i.valid & self.i.ready & self.i.payload.swap),
            self.w.ready.eq(~full | (swap & ~self.i.payload.stop)),
        ]
        # Of the tile in the shadow; a tile that ends early leaves words of another there.
        here = [Signal(name=f"here_{beat}") for beat in range(self.tile_beats)]
        with m.If(swap):
            m.d.sync += full.eq(0)
        with m.If(self.w.valid & self.w.ready):
            m.d.sync += [
                position.eq(Mux(self.w.payload.last, 0, position + 1)),
                full.eq(self.w.payload.last),
            ]
            for beat, register in enumerate(shadow):
                with m.If(position == beat):
                    m.d.sync += [register.eq(self.w.payload.bits), here[beat].eq(1)]
                with m.Elif(position == 0):
                    m.d.sync += here[beat].eq(0)

        bits = self.weight.bits
        tile = [Signal.like(word, name=f"next_{beat}") for beat, word in enumerate(shadow)]
        m.d.comb += [word.eq(Mux(here[beat], shadow[beat], 0)) for beat, word in enumerate(tile)]
        flat = [
            Value.cast(_slice(tile, index * bits, bits, self.beat_bits))
            for index in range(self.rows * self.columns)
        ]
        return [flat[row :: self.rows] for row in range(self.rows)], swap, full


def _slice(words: list[Signal], start: int, length: int, word_bits: int) -> Value:
    """Bits of a row of words; a weight may lie across two of them."""
    word, offset = divmod(start, word_bits)
    if offset + length <= word_bits:
        return words[word][offset : offset + length]
    return Cat(words[word][offset:], words[word + 1][: offset + length - word_bits])
