"""Counters that know a cycle ahead when they are at their last turn."""

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["last_turn"]


def last_turn(
    m: Module,
    count: Signal,
    total: Value,
    step: Value,
    *,
    name: str,
    stride: int | Value = 1,
    back: Value | None = None,
) -> Signal:
    """Whether ``count + stride >= total``, from a register: the sum and the comparison are not on the paths behind it.

    Parameters
    ----------
    count : begins at 0; in a cycle with `step` it advances by `stride`, or goes back to 0 where `back` is high
    total : 1 or more; as `stride`, it stands from the cycle before the first step on
    step : in this cycle
    name : of the register
    back : what is returned, if None
    """
    last = Signal(name=name)
    turned = Mux(last if back is None else back, total <= stride, count + (stride << 1) >= total)
    m.d.sync += last.eq(Mux(step, turned, count + stride >= total))
    return last
