"""Elastic pipelines: register stages with valid and ready between two streams."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Module, Shape, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = ["Pipeline", "Stages"]


class Stages:
    """The registers of a pipeline whose control lies elsewhere: the n-th stage loads where ``advance[n]`` is high."""

    def __init__(self, m: Module, advance: Iterable[Value]) -> None:
        self._m = m
        self._advance = list(advance)
        self._depth = 0

    def stage(self, **fields: ValueLike) -> data.View:
        """Add registers for ``fields``, as `Pipeline.stage` does."""
        self._depth += 1
        return _registers(self._m, self._advance[self._depth - 1], self._depth, fields)


def _registers(m: Module, load: Value, depth: int, fields: Mapping[str, ValueLike]) -> data.View:
    """Registers that load ``fields``, each as wide as its expression."""
    values = {name: Value.cast(value) for name, value in fields.items()}
    layout = data.StructLayout({name: value.shape() for name, value in values.items()})
    # Payloads need no reset: one whose `valid` is low is never used.
    held = Signal(layout, name=f"stage_{depth}", reset_less=True)
    with m.If(load):
        for name, value in values.items():
            m.d.sync += held[name].eq(value)
    return held


class Pipeline:
    """Builds the register stages of a unit, between its stream ``i`` and its stream ``o``.

    A stage takes a new value when it is empty, or when what it holds moves on in that cycle. So a
    pipeline of *n* stages moves one value a cycle, holds *n*, fills its own gaps while the output
    is stalled, and keeps the output's payload unchanged until it is taken. Nothing is lost,
    repeated or reordered. ``ready`` runs back through all stages without a register.

    Latency: one cycle for each call of :meth:`stage`. Throughput: one value a cycle.

    Use, inside ``elaborate``::

        pipeline = Pipeline(m, self.i)
        first = pipeline.stage(total=self.i.payload.a + self.i.payload.b)
        second = pipeline.stage(result=clamp(first.total, …))
        pipeline.finish(self.o, second.result)

    Parameters
    ----------
    m : Module
        Where the registers go; domain ``sync``.
    upstream : stream interface
        What the first stage takes from.

    Members
    -------
    valid : Value
        High while the last stage built so far holds a value, or the upstream offers one.
    transfer : Signal
        High in a cycle in which a value moves out of what has been built so far: for work beside
        the registers, such as an accumulator.
    """

    def __init__(self, m: Module, upstream) -> None:
        self._m = m
        self.valid: Value = upstream.valid
        self._ready: Value = upstream.ready
        self.transfer = self._transfer(0)
        self._depth = 0

    def _transfer(self, depth: int) -> Signal:
        transfer = Signal(name=f"transfer_{depth}")
        self._m.d.comb += transfer.eq(self.valid & self._ready)
        return transfer

    def stage(self, *, when: ValueLike = 1, **fields: ValueLike) -> data.View:
        """Add registers for ``fields``, each as wide as its expression; returns them by name.

        A value for which ``when`` is low is taken and goes no further.
        """
        self._depth += 1
        valid = Signal(name=f"valid_{self._depth}")
        ready = Signal(name=f"ready_{self._depth}")

        m = self._m
        m.d.comb += self._ready.eq(~valid | ready)
        with m.If(self._ready):
            m.d.sync += valid.eq(self.valid & when)
        held = _registers(m, self.transfer, self._depth, fields)

        self.valid, self._ready = valid, ready
        self.transfer = self._transfer(self._depth)
        return held

    def finish(self, downstream, payload: ValueLike) -> None:
        """Connect the last stage to the stream ``downstream``, which carries ``payload``."""
        payload = Value.cast(payload)
        port = Value.cast(downstream.payload)
        if Shape.cast(payload.shape()).width != len(port):
            raise ValueError(f"`payload` must be {len(port)} bits, not {len(payload)}")
        self._m.d.comb += [
            downstream.valid.eq(self.valid),
            self._ready.eq(downstream.ready),
            port.eq(payload),
        ]
