"""The affine rescale's lanes: wide multipliers, which the drained accumulators and the elementwise engine share."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.repeated import place
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.units.affine_rescale import AffineLane
from intaglio.spec.commands import FORMATS, Opcode
from intaglio.spec.records import most_accumulator_bits, record_layout

__all__ = ["AFFINE_LATENCY", "VALUE_BITS", "AffineLanes", "results_layout", "work_layout"]

VALUE_BITS = most_accumulator_bits("affine")
"""Of what is rescaled, and of the first lane's zero point, limits and result."""
LIMIT_BITS = max(
    field.bits for field in FORMATS[Opcode.RESCALE].fields if field.name in ("zero_point", "low", "high")
)
"""Of a command's zero point and limits, and of the results of the lanes past the first. (Softmax has the first.)"""
_RECORD = record_layout("affine", VALUE_BITS)

AFFINE_LATENCY = AffineLane.latency
"""Cycles from work taken to its results."""


def work_layout(lanes: int) -> data.StructLayout:
    """One value and one real factor a lane; zero point, limits and rounding for all: of LIMIT_BITS past the first."""
    return data.StructLayout(
        {
            "values": data.ArrayLayout(signed(VALUE_BITS), lanes),
            "multipliers": data.ArrayLayout(signed(_RECORD["multiplier"].bits), lanes),
            "exponents": data.ArrayLayout(signed(_RECORD["exponent"].bits), lanes),
            "zero_point": signed(VALUE_BITS),
            "low": signed(VALUE_BITS),
            "high": signed(VALUE_BITS),
            "single": 1,
        }
    )


def results_layout(lanes: int) -> data.ArrayLayout:
    """A rescaled value a lane, of LIMIT_BITS past the first."""
    return data.ArrayLayout(signed(VALUE_BITS), lanes)


class AffineLanes(wiring.Component):
    """`lanes` rescales side by side, for two users of which the first never waits.

    Latency: AFFINE_LATENCY cycles from work taken to its results. Throughput: one vector of `lanes` a cycle.

    Parameters
    ----------
    lanes : int

    Members
    -------
    first, second : In(stream of work_layout)
        The second's work is taken in cycles in which the first has none.
    first_idle : In(1)
        The first has none: from a register of its own, since much hangs on ``first.valid``.
    results : Out(results_layout)
    first_valid, second_valid : Out(1)
        Whose results they are.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        super().__init__(
            {
                "first": In(stream.Signature(work_layout(lanes))),
                "second": In(stream.Signature(work_layout(lanes))),
                "first_idle": In(1),
                "results": Out(results_layout(lanes)),
                "first_valid": Out(1),
                "second_valid": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        work = Signal(self.first.payload.shape())
        m.d.comb += [
            work.eq(Mux(self.first.valid, Value.cast(self.first.payload), Value.cast(self.second.payload))),
            self.first.ready.eq(1),
            self.second.ready.eq(self.first_idle),
        ]
        # Nothing stalls a lane: what is taken moves on in every cycle, in all of them.
        valid = Signal()
        m.d.comb += valid.eq(self.first.valid | self.second.valid)
        moves = [valid]
        for stage in range(1, AFFINE_LATENCY + 1):
            moves.append(Signal(name=f"valid_{stage}"))
            m.d.sync += moves[stage].eq(moves[stage - 1])
        for lane in range(self._lanes):
            bits = LIMIT_BITS if lane else VALUE_BITS
            unit = place(m, platform, f"lane_{lane}", AffineLane, VALUE_BITS, bits)
            m.d.comb += [
                *(port.eq(move) for port, move in zip(unit.advance, moves, strict=False)),
                unit.accumulator.eq(work.values[lane]),
                unit.multiplier.eq(work.multipliers[lane]),
                unit.exponent.eq(work.exponents[lane]),
                unit.zero_point.eq(work.zero_point[:bits]),
                unit.low.eq(work.low[:bits]),
                unit.high.eq(work.high[:bits]),
                unit.single.eq(work.single),
                self.results[lane].eq(unit.result),
            ]
        # Whose turn it was comes out as late as the result.
        turn = delayed(m, self.first.valid, AFFINE_LATENCY, "turn")
        m.d.comb += [
            self.first_valid.eq(moves[-1] & turn),
            self.second_valid.eq(moves[-1] & ~turn),
        ]
        return m
