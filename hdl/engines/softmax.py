"""Softmax of a run of int8, one element at a time, with one multiplier that it borrows."""

# Ref: gemmlowp, `fixedpoint/fixedpoint.h`: `one_over_one_plus_x_for_x_in_0_1`
# Ref: TensorFlow Lite's reference kernels, `softmax.h`

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY, work_layout
from intaglio.hdl.units.pipeline import Pipeline
from intaglio.hdl.units.saturate import saturate
from intaglio.spec.commands import TABLE_ENTRIES
from intaglio.spec.limits import SOFTMAX_SUM_BITS

__all__ = ["PASSES", "Softmax"]

PASSES = 3
"""How often the elements of a run are read: for the greatest, for the sum, for the results."""

_48_17, _MINUS_32_17 = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29
_ONE = 1 << 29  # in Q2.29
_NEWTON_STEPS = 3
_PRODUCTS = 1 + 2 * _NEWTON_STEPS
"""SQRDMULHs of a reciprocal."""
_RESULT_SHIFT = SOFTMAX_SUM_BITS + 31 - 8
"""From a result in Q0.31 of a sum of SOFTMAX_SUM_BITS integer bits to units of 1/256."""
_ZERO_POINT = -128
_INT8 = (-128, 127)
_INT32 = (-(1 << 31), (1 << 31) - 1)


class Softmax(wiring.Component):
    """Takes the elements of a run PASSES times, and asks for the rescales whose results are the run's
    (`docs/architecture.md`: SOFTMAX).

    The table's entries are 0…2**31 − 1 and no more than SOFTMAX_ELEMENTS elements make a run, so that the sum fits
    32 bits; it is not 0.

    Throughput: PASSES cycles an element, and up to 115 cycles a run for the reciprocal of its sum, when the lanes are
    free.

    Members
    -------
    elements : In(stream)
        Payload: ``value`` signed(8), ``last`` of the run.
    table_enable, table_index : Out
        A read of the table.
    table_entry : In(32)
        What it holds, one cycle later, until the next read.
    work : Out(stream of work_layout)
        One lane.
    result_valid, result : In
        Results of the work, in order, AFFINE_LATENCY cycles after it is taken at the latest.
    storing : Out(1)
        The result of the work is a result of the run; of no other work are any under way.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "elements": In(stream.Signature(data.StructLayout({"value": signed(8), "last": 1}))),
                "table_enable": Out(1),
                "table_index": Out(exact_log2(TABLE_ENTRIES)),
                "table_entry": In(32),
                "work": Out(stream.Signature(work_layout(1))),
                "result_valid": In(1),
                "result": In(signed(32)),
                "storing": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        element = self.elements.payload
        # Past a register: the lanes shift what they take in the same cycle.
        work = stream.Signature(work_layout(1)).create()
        pipeline = Pipeline(m, work)
        pipeline.finish(self.work, pipeline.stage(work=work.payload).work)
        taken = Signal()
        worked = Signal()
        greatest = Signal(signed(8), init=_INT8[0])
        total = Signal(32)
        """The sum, then shifted to the left until its highest bit is set."""
        zeros = Signal(range(32))
        estimate = Signal(signed(32))
        """Of ``2 / (1 + x)``, the sum being ``1 + x`` times a power of two; Q2.29."""
        estimated = Signal()
        looked = Signal()
        """The entry of the element taken last waits for its turn."""
        m.d.comb += [
            taken.eq(self.elements.valid & self.elements.ready),
            worked.eq(work.valid & work.ready),
            self.table_index.eq((greatest - element.value)[: len(self.table_index)]),
        ]

        with m.FSM():
            with m.State("MAXIMUM"):
                m.d.comb += self.elements.ready.eq(1)
                m.d.sync += [total.eq(0), zeros.eq(0)]
                with m.If(taken):
                    m.d.sync += greatest.eq(Mux(element.value > greatest, element.value, greatest))
                    with m.If(element.last):
                        m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += [self.elements.ready.eq(1), self.table_enable.eq(taken)]
                m.d.sync += looked.eq(taken)
                with m.If(looked):
                    m.d.sync += total.eq((total + _addend(self.table_entry))[:32])
                with m.If(taken & element.last):
                    m.next = "LAST_ADDEND"
            with m.State("LAST_ADDEND"):
                m.d.sync += [looked.eq(0), total.eq((total + _addend(self.table_entry))[:32])]
                m.next = "NORMALISE"
            with m.State("NORMALISE"):
                # A sum of 0, which no table of exponentials gives, ends here as well.
                with m.If(total[-1] | (zeros == 31)):
                    m.next = "RECIPROCAL"
                with m.Else():
                    m.d.sync += [total.eq(Cat(C(0, 1), total[:-1])), zeros.eq(zeros + 1)]
            with m.State("RECIPROCAL"):
                self._estimate(m, work, total, estimate, estimated)
                with m.If(estimated):
                    m.next = "RESULTS"
            with m.State("RESULTS"):
                self._rescale(m, work, looked, zeros, estimate)
                with m.If(self._results(m, taken, worked, looked)):
                    m.d.sync += greatest.eq(_INT8[0])
                    m.next = "MAXIMUM"
        return m

    def _estimate(self, m: Module, work, total: Signal, estimate: Signal, done: Signal) -> None:
        """``2 / (1 + x)`` in Q2.29 of ``total = 2**31 * (1 + x)``: a first estimate, then steps of Newton's.

        The product at hand is offered, then waited for.
        """
        half = total[1:]  # of 1 + x, in Q0.31
        error = Signal(signed(32))
        product = Signal(range(_PRODUCTS))
        offered = Signal()
        is_first = product == 0
        is_error = product[0]
        m.d.comb += [
            work.valid.eq(~offered),
            work.payload.values[0].eq(Mux(is_first | is_error, half, estimate)),
            work.payload.multipliers[0].eq(
                Mux(is_first, C(_MINUS_32_17, signed(32)), Mux(is_error, estimate, error))
            ),
            work.payload.low.eq(_INT32[0]),
            work.payload.high.eq(_INT32[1]),
        ]
        with m.If(work.ready):
            m.d.sync += offered.eq(1)
        with m.If(self.result_valid):
            last = product == _PRODUCTS - 1
            m.d.sync += [offered.eq(0), product.eq(Mux(last, 0, product + 1))]
            with m.If(is_error):
                m.d.sync += error.eq((_ONE - self.result)[:32])
            with m.Else():
                m.d.comb += done.eq(last)
                better = estimate + _shifted_left(self.result, 2)
                m.d.sync += estimate.eq(Mux(is_first, C(_48_17, signed(32)) + self.result, better)[:32])

    def _results(self, m: Module, taken: Signal, worked: Signal, looked: Signal) -> Value:
        """Looks the elements up a last time, each as soon as the one before has gone to the lanes; whether all
        results are here."""
        all_taken = Signal()
        under_way = Signal(range(AFFINE_LATENCY + 3))
        """Work of this pass whose results are not here."""
        m.d.comb += [
            self.storing.eq(1),
            self.elements.ready.eq(~all_taken & (~looked | worked)),
            self.table_enable.eq(taken),
        ]
        m.d.sync += under_way.eq(under_way + worked - self.result_valid)
        with m.If(taken):
            m.d.sync += [looked.eq(1), all_taken.eq(self.elements.payload.last)]
        with m.Elif(worked):
            m.d.sync += looked.eq(0)
        finished = all_taken & ~looked & (under_way == 0)
        with m.If(finished):
            m.d.sync += all_taken.eq(0)
        return finished

    def _rescale(self, m: Module, work, looked: Signal, zeros: Signal, estimate: Signal) -> None:
        """The rescale of the entry looked up. Where it is to be shifted by more than 32, one by 32 leaves 0 as well."""
        exponent = Signal(signed(6))
        # `zeros` stands from long before.
        m.d.sync += exponent.eq(Mux(zeros < _RESULT_SHIFT - 32, -32, zeros - _RESULT_SHIFT))
        m.d.comb += [
            work.valid.eq(looked),
            work.payload.values[0].eq(_shifted_left(estimate, 1)),
            work.payload.multipliers[0].eq(self.table_entry),
            work.payload.exponents[0].eq(exponent),
            work.payload.zero_point.eq(_ZERO_POINT),
            work.payload.low.eq(_INT8[0]),
            work.payload.high.eq(_INT8[1]),
        ]


def _addend(entry: Value) -> Value:
    """``HALF_AWAY(entry, 12)`` of an entry of 0 or more: half up."""
    return entry[SOFTMAX_SUM_BITS:] + entry[SOFTMAX_SUM_BITS - 1]


def _shifted_left(value: Value, amount: int) -> Value:
    """``saturate(value << amount)``, signed(32)."""
    return saturate(Cat(C(0, amount), value).as_signed(), 32, True).as_signed()
