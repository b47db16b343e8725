"""A column of the array: its weights, its products and their sum."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.units.product import operand_shape, product, product_bits
from intaglio.spec.operand import OperandType

__all__ = ["ArrayColumn", "choices", "choices_layout", "column_latency", "column_sum_bits", "held"]

_LEVELS_PER_STAGE = 3
"""Levels of the adder tree between two registers: eight products are added in a cycle."""


def choices_layout(activation: OperandType) -> data.StructLayout:
    """What a binary weight chooses between: a product with its bit low, and with it high."""
    return data.StructLayout({"zero": operand_shape(activation), "one": signed(activation.bits + 1)})


def column_latency(rows: int) -> int:
    """Cycles from a vector taken to its sum: operands, products, and registers in the adder tree."""
    levels = (rows - 1).bit_length()
    return 2 + max(-(-levels // _LEVELS_PER_STAGE), 1)


def column_sum_bits(
    rows: int, activation: OperandType, weight: OperandType, lane_digits: int = 1, digit_bits: int = 0
) -> int:
    """Bits of the exact sum of a column: its rows' products, each as often as its digit makes it count."""
    products = rows // lane_digits * sum(1 << digit_bits * digit for digit in range(lane_digits))
    return product_bits(activation, weight) + (products - 1).bit_length()


class ArrayColumn(wiring.Component):
    """The sum of the products of a column's weights and a vector of operands.

    Every column of an array is the same, so that a simulator runs one's code for all. It has no reset: nothing that
    it holds is used before it was written.

    Latency: `column_latency` cycles. Throughput: one vector a cycle.

    Parameters
    ----------
    rows : int
    activation, weight : OperandType
    taps, lines : int
        Of a depthwise mapping, 0 without one: its first ``taps * lines`` rows choose their operand here.
    bit_planes : bool
        Whether weights choose between products that are given.
    lane_digits, digit_bits : int
        Digits side by side in the rows, and bits of each (:class:`intaglio.hdl.units.array.MacArray`).

    Members
    -------
    swap : In(1)
        ``weights`` are those from the next cycle on.
    weights : In(unsigned(weight bits)) array, a row each
    advance : In(1) array of `column_latency`
        Whether each stage loads; the first when a vector is taken.
    operands : In array
        Of the other rows, a cycle after the vector is taken: activations, or `choices_layout` of them.
    activations : In array
        Of the first rows, with the vector.
    depthwise, beside, pad : In
        Only with `taps`, of the vector (:class:`intaglio.hdl.units.array.MacArray`).
    above : In array
        This column's element of each of the vector's lines, the vector itself first.
    plane, negative : In(1)
        Only with `taps` and `bit_planes`, a cycle after the vector is taken.
    digits : In array
        Only with `lane_digits`, a stage of the adder tree each: of the vector whose terms it adds.
    sum : Out(signed)
    """

    def __init__(
        self,
        rows: int,
        activation: OperandType,
        weight: OperandType,
        taps: int = 0,
        lines: int = 0,
        bit_planes: bool = False,
        lane_digits: int = 1,
        digit_bits: int = 0,
    ) -> None:
        self._rows, self._taps, self._lines = rows, taps, lines
        self._activation, self._weight, self._bit_planes = activation, weight, bit_planes
        self._lane_digits, self._digit_bits = lane_digits, digit_bits
        self._own = taps * lines
        shape = operand_shape(activation)
        given = choices_layout(activation) if bit_planes else shape
        self.sum_bits = column_sum_bits(rows, activation, weight, lane_digits, digit_bits)
        stages = column_latency(rows) - 2
        digits = In(range(lane_digits.bit_length())).array(stages)
        super().__init__(
            {
                "swap": In(1),
                "weights": In(weight.bits).array(rows),
                "advance": In(1).array(column_latency(rows)),
                "operands": In(given).array(rows - self._own),
                "activations": In(shape).array(self._own),
                "above": In(shape).array(lines),
                **({"depthwise": In(1), "beside": In(taps), "pad": In(shape)} if taps else {}),
                **({"plane": In(1), "negative": In(1)} if taps and bit_planes else {}),
                **({"digits": digits} if lane_digits > 1 else {}),
                "sum": Out(signed(self.sum_bits)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        weights = [
            held(m, self.swap, weight, weight.shape(), f"weight_{row}")
            for row, weight in enumerate(self.weights)
        ]
        operands = [*self._chosen(m), *self.operands]
        name = "product"
        terms = [self._product(operand, weight) for operand, weight in zip(operands, weights, strict=True)]
        # The rows of a digit one behind the other: each has a tree of its own.
        terms = [term for digit in range(self._lane_digits) for term in terms[digit :: self._lane_digits]]
        for stage, load in enumerate(self.advance[1:]):
            registers = [
                held(m, load, term, term.shape(), f"{name}_{index}") for index, term in enumerate(terms)
            ]
            name, terms = "sum", self._add(m, registers, stage)
        m.d.comb += self.sum.eq(registers[0])
        return m

    def _add(self, m: Module, terms: list[Value], stage: int) -> list[Value]:
        """The terms after as many levels of a balanced adder tree as fit between two registers, the trees of the digits
        side by side; at the roots higher digits count more."""
        trees = self._lane_digits
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

    def _roots(self, m: Module, terms: list[Value], stage: int) -> list[Value]:
        """Sums of digits, each with that of the next ones, which count more if there are so many."""
        together = self._lane_digits // len(terms)
        added = []
        for low, high in zip(terms[::2], terms[1::2], strict=True):
            # Signals of their own: a choice would be emitted with the sum that it is of twice.
            total = Signal(high.shape(), name=f"digits_{together}")
            more = Signal(signed(len(high) + self._digit_bits * together), name=f"moved_{together}")
            counts = self.digits[stage] > exact_log2(together)
            m.d.comb += [total.eq(high), more.eq(Mux(counts, total << self._digit_bits * together, total))]
            added.append(low + more)
        return added

    def _product(self, operand: Value | data.View, weight: Value) -> Value:
        if self._bit_planes:
            return Mux(weight, operand.one, operand.zero).as_signed()
        return product(operand, weight, self._weight)

    def _chosen(self, m: Module) -> list[Value | data.View]:
        """Operands of the first rows: the row's activation, or in a depthwise pass the column's, of this vector or its
        lines, some vectors ago, or the pad. They are chosen on the way in, so that nothing stands between a register
        and its multiplier."""
        operands: list[Value | data.View] = []
        shape = operand_shape(self._activation)
        for line, value in enumerate(self.above):
            for tap in range(self._taps):
                row = line * self._taps + tap
                given = Mux(self.depthwise, Mux(self.beside[tap], self.pad, value), self.activations[row])
                operands.append(held(m, self.advance[0], given, shape, f"operand_{row}"))
                if tap < self._taps - 1:
                    value = held(m, self.advance[0], value, shape, f"line_{line}_before_{tap + 1}")
        if not self._bit_planes:
            return operands
        return [
            choices(m, operand, self.plane, self.negative, self._activation, f"of_{row}")
            for row, operand in enumerate(operands)
        ]


def held(m: Module, load: Value, value: Value, shape: Shape, name: str) -> Signal:
    """A register that loads `value` where `load` is high."""
    register = Signal(shape, name=name, reset_less=True)
    with m.If(load):
        m.d.sync += register.eq(value)
    return register


def choices(
    m: Module, operand: Value, plane: Value, negative: Value, activation: OperandType, name: str
) -> data.View:
    """What a binary weight, or a bit of a wider one, chooses between: made once for all that share an operand."""
    chosen = Signal(choices_layout(activation), name=name)
    m.d.comb += [
        chosen.zero.eq(Mux(plane, 0, operand)),
        chosen.one.eq(Mux(plane & ~negative, operand, -operand)),
    ]
    return chosen


def _pairs(terms: list[Value]) -> list[Value]:
    """One level of an adder tree."""
    pairs = [left + right for left, right in zip(terms[::2], terms[1::2], strict=False)]
    return pairs + ([terms[-1]] if len(terms) % 2 else [])
