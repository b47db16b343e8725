"""The accumulators: two banks of sums, one filling while the other drains."""

from amaranth.hdl import Array, C, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hdl.storage.memory import SyncMemory
from intaglio.spec.config import AcceleratorConfig

__all__ = ["Accumulators", "tag_layout"]


def tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What goes with each vector of sums: where to add it, and how.

    ``keep``: whether it is a sum of the output at all; ``position`` in ``bank``; ``first``: begin a sum; ``shift``:
    move the sum so far up by a digit, of the weights if ``weight_digits``; ``last``: the command's last; ``mark``: of
    the command.
    """
    return data.StructLayout(
        {
            "keep": 1,
            "position": ceil_log2(config.accumulator_depth),
            "bank": 1,
            "first": 1,
            "shift": 1,
            "weight_digits": 1,
            "last": 1,
            "mark": 1,
        }
    )


class Accumulators(wiring.Component):
    """Adds vectors of sums to the positions of two banks, modulo ``2**accumulator_bits``.

    Latency: 1 cycle from sums to the total being stored, which a read in the cycle after sees. Throughput: one vector a
    cycle, also at the same position again and again.

    Parameters
    ----------
    config : AcceleratorConfig
    sum_bits : int
        Width of the sums that are added.

    Members
    -------
    valid, sums, tag : In
        A vector to add, taken in every cycle with `valid`.
    done, done_mark : Out(1)
        The vector with ``last`` has been added.
    read_enable, read_bank, read_address : In
        A read of a bank that is not being filled; a position's, later than in the cycle in which its total is stored.
    read_data : Out(columns of signed(accumulator_bits))
        One cycle after it.
    overflows : Out(range(columns + 1))
        Additions (or shifts) whose exact result did not fit, some cycles later.
    """

    def __init__(self, config: AcceleratorConfig, sum_bits: int) -> None:
        self._config = config
        tag = tag_layout(config)
        totals = data.ArrayLayout(signed(config.accumulator_bits), config.columns)
        super().__init__(
            {
                "valid": In(1),
                "sums": In(data.ArrayLayout(signed(sum_bits), config.columns)),
                "tag": In(tag),
                "done": Out(1),
                "done_mark": Out(1),
                "read_enable": In(1),
                "read_bank": In(1),
                "read_address": In(tag["position"].shape),
                "read_data": Out(totals),
                "overflows": Out(range(config.columns + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        width = config.columns * config.accumulator_bits
        banks = [SyncMemory(width, config.accumulator_depth) for _ in range(2)]
        m.submodules.bank_0, m.submodules.bank_1 = banks

        # The sums wait one cycle for the total so far.
        adding = Signal()
        tag = Signal(self.tag.shape(), reset_less=True)
        sums = [
            Signal.like(value, name=f"sum_{index}", reset_less=True) for index, value in enumerate(self.sums)
        ]
        m.d.sync += adding.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += [
                tag.eq(self.tag),
                *(held.eq(value) for held, value in zip(sums, self.sums, strict=True)),
            ]

        totals = Signal(self.read_data.shape())
        newest = Signal(self.read_data.shape(), reset_less=True)
        with m.If(adding):
            m.d.sync += newest.eq(totals)
        before = self._before(m, banks, adding, tag, newest)
        # Counted two cycles later: the longest path of a machine ends in what tells whether a total fits.
        lost = Signal(config.columns)
        for column, value in enumerate(sums):
            exact = _accumulate(before[column], value, tag, config)
            signs = Signal(len(exact) - len(totals[column]) + 1, name=f"signs_{column}")
            m.d.comb += totals[column].eq(exact)
            m.d.sync += signs.eq(exact[len(totals[column]) - 1 :])
            m.d.comb += lost[column].eq(signs.any() & ~signs.all())

        read_bank = Signal()
        m.d.sync += read_bank.eq(self.read_bank)
        for index, bank in enumerate(banks):
            filling = self.valid & (self.tag.bank == index)
            m.d.comb += [
                bank.read_enable.eq(filling | (self.read_enable & (self.read_bank == index))),
                bank.read_address.eq(Mux(filling, self.tag.position, self.read_address)),
                bank.write_enable.eq(adding & (tag.bank == index)),
                bank.write_address.eq(tag.position),
                bank.write_data.eq(totals),
            ]
        m.d.comb += Value.cast(self.read_data).eq(Array(bank.read_data for bank in banks)[read_bank])

        m.d.comb += [self.done.eq(adding & tag.last), self.done_mark.eq(tag.mark)]
        counted = Signal(config.columns)
        added = Signal()
        m.d.sync += [
            added.eq(adding),
            counted.eq(Mux(added, lost, 0)),
            self.overflows.eq(_population(counted)),
        ]
        return m

    def _before(
        self, m: Module, banks: list[SyncMemory], adding: Signal, tag: data.View, newest: Signal
    ) -> Signal:
        """The totals so far: a bank's, those that were stored last if the position is the same again, or none. Which of
        them is settled a cycle ahead, in one register, so that a bit is a choice by two bits among three."""
        source = Signal(2, reset_less=True)
        same = (tag.bank == self.tag.bank) & (tag.position == self.tag.position)
        with m.If(self.valid):
            m.d.sync += source.eq(Mux(self.tag.first, 0, Mux(adding & same, 1, Cat(self.tag.bank, C(1, 1)))))
        # A signal of its own: each bit taken from the choice itself would be emitted as the whole choice.
        before = Signal(self.read_data.shape())
        choices = (C(0), newest, *(bank.read_data for bank in banks))
        m.d.comb += Value.cast(before).eq(Array(map(Value.cast, choices))[source])
        return before


def _accumulate(before: Value, value: Value, tag: data.View, config: AcceleratorConfig) -> Value:
    """The exact new total, a few bits wider than what is kept."""
    shifts = {0: Const(1, 1)}
    if config.activation_digits:
        shifts[config.element_bits] = tag.shift & ~tag.weight_digits
    if config.weight_digits:
        shifts[config.weight_digit_bits] = tag.shift & tag.weight_digits
    # The top bit is the sign whatever the shift. Chosen with the others, it makes a vector that depends on itself.
    width = len(before) + max(shifts)
    total: Value = C(0, width - 1)
    for shift, chosen in shifts.items():
        total = Mux(chosen, Cat(C(0, shift), before, before[-1].replicate(width))[: width - 1], total)
    return Cat(total, before[-1]).as_signed() + value


def _population(bits: Value) -> Value:
    """How many bits are set."""
    return sum(bits[index] for index in range(len(bits)))
