"""The array of multiply-accumulates: rows are reduction lanes, columns output channels."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.checks import check_integer
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.product import operand_shape, product, product_bits
from intaglio.spec.operand import OperandType

__all__ = ["MacArray"]

_LEVELS_PER_STAGE = 3
"""Levels of the adder tree between two registers: eight products are added in a cycle."""


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
        # Rows, each as often as its digit makes it count.
        products = self.rows // lane_digits * sum(1 << digit_bits * digit for digit in range(lane_digits))
        exact_bits = product_bits(self.activation, self.weight) + (products - 1).bit_length()
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
        levels = (self.rows - 1).bit_length()
        return 2 + max(-(-levels // _LEVELS_PER_STAGE), 1)

    def elaborate(self, platform) -> Module:
        m = Module()
        weights, shadow_full = self._weights(m)

        offered = stream.Signature(self.i.payload.shape()).create()
        blocked = Signal()
        m.d.comb += [
            blocked.eq(self.i.payload.swap & ~shadow_full),
            offered.valid.eq(self.i.valid & ~blocked),
            offered.payload.eq(self.i.payload),
            self.i.ready.eq(offered.ready & ~blocked),
        ]
        pipeline = Pipeline(m, offered)

        operands = self._operands(m, pipeline.transfer)
        plane, negative = Signal(), Signal()
        if self.bit_planes:
            with m.If(pipeline.transfer):
                m.d.sync += [plane.eq(self.i.payload.plane), negative.eq(self.i.payload.negative)]
        along = ("tag", "digits") if self.lane_digits > 1 else ("tag",)
        stage = pipeline.stage(**{name: self.i.payload[name] for name in along})

        if self.bit_planes:
            products = self._plane_products(m, operands, weights, plane, negative)
        else:
            products = [
                [
                    product(operands[row][column], weights[row][column], self.weight)
                    for row in sorted(range(self.rows), key=lambda row: row % self.lane_digits)
                ]
                for column in range(self.columns)
            ]
        columns = self._register(m, pipeline, products, "product")
        stage = pipeline.stage(**{name: stage[name] for name in along})
        while True:
            columns = self._register(m, pipeline, [self._add(m, terms, stage) for terms in columns], "sum")
            stage = pipeline.stage(**{name: stage[name] for name in along})
            if len(columns[0]) == 1:
                break

        output = Signal(self.o.payload.shape())
        m.d.comb += output.tag.eq(stage.tag)
        for port, (total,) in zip(output.sums, columns, strict=True):
            m.d.comb += port.eq(total)
        pipeline.finish(self.o, output)
        return m

    def _operands(self, m: Module, transfer: Signal) -> list[list[Value]]:
        """What row and column multiply, from registers: the row's activation, or in a depthwise pass the column's, of
        this vector or its lines, some vectors ago, or the pad. It is chosen on the way in, so that nothing stands
        between a register and its multiplier."""
        vector = self.i.payload
        rows = [[vector.activations[row]] for row in range(self.rows)]
        if self.depthwise_taps:
            lines = [[vector.activations[column] for column in range(self.columns)]]
            if self.depthwise_lines:
                lines += [[given[column] for column in range(self.columns)] for given in vector.above]
            for line, taps in enumerate(lines):
                for tap in range(self.depthwise_taps):
                    row = line * self.depthwise_taps + tap
                    rows[row] = [
                        Mux(vector.depthwise, Mux(vector.beside[tap], vector.pad, value), *rows[row])
                        for value in taps
                    ]
                    if tap < self.depthwise_taps - 1:
                        taps = self._held(m, transfer, taps, f"line_{line}_before_{tap + 1}")
        held = [self._held(m, transfer, row, f"operand_{number}") for number, row in enumerate(rows)]
        return [row * (self.columns // len(row)) for row in held]

    def _held(self, m: Module, transfer: Signal, values: list[Value], name: str) -> list[Value]:
        """Registers that load with each vector taken."""
        held: list[Value] = []
        for column, value in enumerate(values):
            register = Signal(operand_shape(self.activation), name=f"{name}_{column}", reset_less=True)
            with m.If(transfer):
                m.d.sync += register.eq(value)
            held.append(register)
        return held

    def _plane_products(
        self,
        m: Module,
        operands: list[list[Value]],
        weights: list[list[Value]],
        plane: Signal,
        negative: Signal,
    ) -> list[list[Value]]:
        """Products a column, of binary weights or bits: what a bit chooses between is made once for all that share
        an operand."""
        bits = product_bits(self.activation, self.weight)
        choices: dict[int, tuple[Signal, Signal]] = {}
        for row in range(self.rows):
            for column, operand in enumerate(operands[row]):
                if id(operand) in choices:
                    continue
                zero = Signal(operand_shape(self.activation), name=f"of_zero_{row}_{column}")
                one = Signal(signed(bits), name=f"of_one_{row}_{column}")
                m.d.comb += [
                    zero.eq(Mux(plane, 0, operand)),
                    one.eq(Mux(plane & ~negative, operand, -operand)),
                ]
                choices[id(operand)] = zero, one
        return [
            [
                Mux(weights[row][column][0], *reversed(choices[id(operands[row][column])])).as_signed()
                for row in range(self.rows)
            ]
            for column in range(self.columns)
        ]

    def _register(
        self, m: Module, pipeline: Pipeline, columns: list[list[Value]], name: str
    ) -> list[list[Value]]:
        """Registers for every term of every column, that load with the next stage of the pipeline."""
        held = [
            [
                Signal(term.shape(), name=f"{name}_{column}_{index}", reset_less=True)
                for index, term in enumerate(terms)
            ]
            for column, terms in enumerate(columns)
        ]
        with m.If(pipeline.transfer):
            for registers, terms in zip(held, columns, strict=True):
                m.d.sync += [register.eq(term) for register, term in zip(registers, terms, strict=True)]
        return held

    def _add(self, m: Module, terms: list[Value], stage: data.View) -> list[Value]:
        """The terms after as many levels of a balanced adder tree as fit between two registers. The terms of each
        digit's rows follow each other and have a tree of their own; at the roots higher digits count more."""
        trees = self.lane_digits
        for _ in range(_LEVELS_PER_STAGE):
            if len(terms) == 1:
                break
            if len(terms) <= trees:
                terms = self._roots(m, terms, stage)
                continue
            size = len(terms) // trees
            parts = [terms[first : first + size] for first in range(0, len(terms), size)]
            terms = [total for part in parts for total in _pairs(part)]
        return terms

    def _roots(self, m: Module, terms: list[Value], stage: data.View) -> list[Value]:
        """Sums of digits, each with that of the next ones, which count more if there are so many."""
        together = self.lane_digits // len(terms)
        added = []
        for low, high in zip(terms[::2], terms[1::2], strict=True):
            # Signals of their own: a choice would be emitted with the sum that it is of twice.
            total = Signal(high.shape(), name=f"digits_{together}")
            more = Signal(signed(len(high) + self.digit_bits * together), name=f"moved_{together}")
            counts = stage.digits > exact_log2(together)
            m.d.comb += [total.eq(high), more.eq(Mux(counts, total << self.digit_bits * together, total))]
            added.append(low + more)
        return added

    def _weights(self, m: Module) -> tuple[list[list[Value]], Signal]:
        """The tile in use as bits of each weight, and whether the next one is whole in the shadow."""
        active = [
            Signal(self.beat_bits, name=f"active_{beat}", reset_less=True) for beat in range(self.tile_beats)
        ]
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
        held = [Signal(name=f"held_{beat}") for beat in range(self.tile_beats)]
        with m.If(swap):
            m.d.sync += [
                full.eq(0),
                *(now.eq(Mux(here, later, 0)) for now, later, here in zip(active, shadow, held, strict=True)),
            ]
        with m.If(self.w.valid & self.w.ready):
            m.d.sync += [
                position.eq(Mux(self.w.payload.last, 0, position + 1)),
                full.eq(self.w.payload.last),
            ]
            for beat, register in enumerate(shadow):
                with m.If(position == beat):
                    m.d.sync += [register.eq(self.w.payload.bits), held[beat].eq(1)]
                with m.Elif(position == 0):
                    m.d.sync += held[beat].eq(0)

        bits = self.weight.bits
        flat = [
            Value.cast(_slice(active, index * bits, bits, self.beat_bits))
            for index in range(self.rows * self.columns)
        ]
        return [flat[row :: self.rows] for row in range(self.rows)], full


def _slice(words: list[Signal], start: int, length: int, word_bits: int) -> Value:
    """Bits of a row of words; a weight may lie across two of them."""
    word, offset = divmod(start, word_bits)
    if offset + length <= word_bits:
        return words[word][offset : offset + length]
    return Cat(words[word][offset:], words[word + 1][: offset + length - word_bits])


def _pairs(terms: list[Value]) -> list[Value]:
    """One level of an adder tree."""
    pairs = [left + right for left, right in zip(terms[::2], terms[1::2], strict=False)]
    return pairs + ([terms[-1]] if len(terms) % 2 else [])
