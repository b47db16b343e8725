"""Softmax's own arithmetic: the greatest element, the sum of exponentials, its reciprocal."""

# Ref: TensorFlow Lite's reference kernel `softmax.h`; gemmlowp's `one_over_one_plus_x_for_x_in_0_1`, which
#      GetReciprocal calls: Newton's method on 1 / ((1 + x) / 2), from 48/17 - 32/17 * x on.

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SOFTMAX_WORK", "Pass", "Softmax"]

_48_17 = 1515870810
_MINUS_32_17 = -1010580540
_NEWTON_STEPS = 3
_SUM_BITS = 12
"""Integer bits of the sum, Q12.19."""


class Pass(enum.Enum, shape=2):
    """A run of elements is taken three times."""

    GREATEST = 0
    SUM = 1
    RESULT = 2


class _State(enum.Enum, shape=2):
    TAKE = 0
    ADD_LAST = 1
    NORMALISE = 2
    DIVIDE = 3


SOFTMAX_WORK = data.StructLayout(
    {"value": signed(32), "multiplier": signed(32), "exponent": signed(6), "result": 1}
)
"""A product for a rescale in double rounding; `result`: its zero point is -128 and its limits those of int8, else it is
a plain SQRDMULH."""


class Softmax(wiring.Component):
    """Takes the elements of a run three times, and asks for its multiplications (`docs/architecture.md`, SOFTMAX).

    Throughput: one element a cycle in each pass; between the second and the third some 90 cycles for the reciprocal.

    Members
    -------
    element : In(stream)
        Payload: ``value`` signed(8), ``turn`` :class:`Pass`, ``last`` of the run in this pass.
    table_enable, table_entry : Out
        A read of the exponentials.
    exponential : In(32)
        What it gives, one cycle later and until the next.
    work : Out(stream of SOFTMAX_WORK)
    answer_valid, answer : In
        The answers to `work`, in order.
    own : Out(1)
        The next answer is of the reciprocal, and no result.
    """

    def __init__(self) -> None:
        element = data.StructLayout({"value": signed(8), "turn": Pass, "last": 1})
        super().__init__(
            {
                "element": In(stream.Signature(element)),
                "table_enable": Out(1),
                "table_entry": Out(8),
                "exponential": In(32),
                "work": Out(stream.Signature(SOFTMAX_WORK)),
                "answer_valid": In(1),
                "answer": In(signed(32)),
                "own": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        state = Signal(_State)
        element = self.element.payload
        greatest = Signal(signed(8), init=-128)
        scale = Signal(signed(32))
        exponent = Signal(signed(6))
        adding = Signal()
        held = Signal()
        """An exponential waits for its multiplication."""
        total = Signal(32)
        heading = Signal(5)
        """Zeros in front of the sum."""

        free = ~held | self.work.ready
        taken = Signal()
        m.d.comb += [
            self.element.ready.eq((state == _State.TAKE) & ((element.turn == Pass.GREATEST) | free)),
            taken.eq(self.element.valid & self.element.ready),
            self.table_entry.eq(greatest - element.value),
            # An exponential that waits must stay, also while the next run's greatest element is looked for.
            self.table_enable.eq(taken & (element.turn != Pass.GREATEST)),
        ]
        m.d.sync += adding.eq(taken & (element.turn == Pass.SUM))
        with m.If(free):
            m.d.sync += held.eq(taken & (element.turn == Pass.RESULT))
        with m.If(adding):
            # An exponential is not negative, so half away is half up.
            rounded = (self.exponential + (1 << (_SUM_BITS - 1))) >> _SUM_BITS
            m.d.sync += total.eq((total + rounded)[:32])

        multiplier, multiplicand, ask = self._reciprocal(m, state, total, scale)
        unanswered = Signal(4)
        """Results that were asked for and have not come."""
        asked = Signal()
        m.d.comb += [
            self.work.valid.eq(held | ask & (unanswered == 0)),
            self.work.payload.value.eq(Mux(held, self.exponential, multiplicand)),
            self.work.payload.multiplier.eq(Mux(held, scale, multiplier)),
            self.work.payload.exponent.eq(Mux(held, exponent, 0)),
            self.work.payload.result.eq(held),
            asked.eq(self.work.valid & self.work.ready),
        ]
        m.d.sync += unanswered.eq(unanswered + (asked & held) - (self.answer_valid & ~self.own))

        with m.Switch(state):
            with m.Case(_State.TAKE):
                with m.If(taken):
                    with m.If((element.turn == Pass.GREATEST) & (element.value > greatest)):
                        m.d.sync += greatest.eq(element.value)
                    with m.If((element.turn == Pass.SUM) & element.last):
                        m.d.sync += state.eq(_State.ADD_LAST)
                    with m.If((element.turn == Pass.RESULT) & element.last):
                        m.d.sync += [greatest.eq(-128), total.eq(0)]
            with m.Case(_State.ADD_LAST):
                m.d.sync += [heading.eq(0), state.eq(_State.NORMALISE)]
            with m.Case(_State.NORMALISE):
                # A sum of 0 is none of softmax's tables; it must come to an end, too.
                with m.If(total[31] | (heading == 31)):
                    m.d.sync += state.eq(_State.DIVIDE)
                with m.Else():
                    m.d.sync += [total.eq(total << 1), heading.eq(heading + 1)]
            with m.Case(_State.DIVIDE):
                with m.If(self._divided):
                    shift = C(_SUM_BITS + 31 - 8) - heading
                    m.d.sync += [exponent.eq(Mux(shift > 32, -32, -shift)), state.eq(_State.TAKE)]
        return m

    def _reciprocal(
        self, m: Module, state: Signal, total: Signal, scale: Signal
    ) -> tuple[Value, Value, Value]:
        """``1 / (1 + x)``, one product after the other; its factors, and whether one is to be asked for.

        Products 0: half * -32/17; then in turn half * y and y * error.
        """
        half = Signal(signed(32))
        m.d.comb += half.eq(total >> 1)
        step = Signal(range(2 * _NEWTON_STEPS + 1))
        waiting = Signal()
        y = Signal(signed(32))
        error = Signal(signed(32))
        last = step == 2 * _NEWTON_STEPS
        dividing = state == _State.DIVIDE
        self._divided = Signal()
        answered = Signal()
        m.d.comb += [
            self.own.eq(waiting),
            answered.eq(self.answer_valid & waiting),
            self._divided.eq(answered & last),
        ]
        with m.If(dividing & self.work.valid & self.work.ready & ~self.work.payload.result):
            m.d.sync += waiting.eq(1)
        with m.Elif(answered):
            m.d.sync += waiting.eq(0)
        refined = (y + _saturated(self.answer << 2))[:32].as_signed()
        with m.If(answered):
            m.d.sync += step.eq(Mux(last, 0, step + 1))
            with m.If(step == 0):
                m.d.sync += y.eq(self.answer + _48_17)
            with m.Elif(step[0]):
                m.d.sync += error.eq((1 << 29) - self.answer)
            with m.Else():
                m.d.sync += [y.eq(refined), scale.eq(_saturated(refined << 1))]
        multiplier = Mux(step == 0, C(_MINUS_32_17, signed(32)), Mux(step[0], y, error))
        multiplicand = Mux((step == 0) | step[0], half, y)
        return multiplier, multiplicand, dividing & ~waiting


def _saturated(value: Value) -> Value:
    """To 32 bits."""
    low, high = -(1 << 31), (1 << 31) - 1
    return Mux(value > high, high, Mux(value < low, low, value))[:32].as_signed()
