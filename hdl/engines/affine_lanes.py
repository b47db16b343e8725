"""The affine rescale's lanes: wide multipliers, which the drained accumulators and the elementwise engine share."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.units.affine_rescale import AffineRescale, AffineRounding
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

AFFINE_LATENCY = 8
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
        self._units = [
            AffineRescale(VALUE_BITS, LIMIT_BITS if lane else VALUE_BITS, rounding=None)
            for lane in range(lanes)
        ]
        if self._units[0].latency != AFFINE_LATENCY:
            raise ValueError(f"`AFFINE_LATENCY` must be {self._units[0].latency}, not {AFFINE_LATENCY}")
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
        for lane, unit in enumerate(self._units):
            m.submodules[f"lane_{lane}"] = unit
            m.d.comb += [
                unit.i.valid.eq(self.first.valid | self.second.valid),
                unit.i.payload.accumulator.eq(work.values[lane]),
                unit.i.payload.multiplier.eq(work.multipliers[lane]),
                unit.i.payload.exponent.eq(work.exponents[lane]),
                *(
                    unit.i.payload[name].eq(work[name][: unit.output_bits])
                    for name in ("zero_point", "low", "high")
                ),
                unit.i.payload.rounding.eq(Mux(work.single, AffineRounding.SINGLE, AffineRounding.DOUBLE)),
                unit.o.ready.eq(1),
                self.results[lane].eq(unit.o.payload),
            ]
        # Nothing stalls a lane, so whose turn it was comes out as late as the result.
        turn = delayed(m, self.first.valid, AFFINE_LATENCY, "turn")
        m.d.comb += [
            self.first_valid.eq(self._units[0].o.valid & turn),
            self.second_valid.eq(self._units[0].o.valid & ~turn),
        ]
        return m
