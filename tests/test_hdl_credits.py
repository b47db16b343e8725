# amaranth: UnusedElaboratable=no
import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY
from intaglio.hdl.storage.credits import Credits, depth_to_cover
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.storage.fifo import FIFO_LATENCY, Fifo
from intaglio.hdl.storage.scratchpad import READ_LATENCY


class Path(wiring.Component):
    """A path that cannot stall, as from the scratchpad: what is asked for arrives in a FIFO cycles later."""

    def __init__(self, cycles, places):
        self._cycles = cycles
        self._places = places
        self.lost = Signal()
        super().__init__({"asked": Out(1), "o": Out(stream.Signature(16))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.credits = credits = Credits(self._places)
        # One more than there are credits, so that a value that should not have been sent is seen and not dropped.
        m.submodules.fifo = fifo = Fifo(16, 2 * depth_to_cover(self._places))
        number = Signal(16)
        with m.If(credits.available):
            m.d.sync += number.eq(number + 1)
        m.d.comb += [
            credits.take.eq(credits.available),
            self.asked.eq(credits.take),
            fifo.i.valid.eq(delayed(m, credits.take, self._cycles, "arriving")),
            fifo.i.payload.eq(delayed(m, number, self._cycles, "number")),
            credits.give_back[0].eq(self.o.valid & self.o.ready),
            self.lost.eq(fifo.depth - fifo.space > self._places),
        ]
        wiring.connect(m, fifo.o, wiring.flipped(self.o))
        return m


def run(dut, cycles, ready):
    """Cycles in which something was asked for, what came out, and whether more than fits was on its way."""
    asked, came, lost = [], [], []

    async def bench(ctx):
        for cycle in range(cycles):
            ctx.set(dut.o.ready, ready(cycle))
            _, _, took, valid, taken, payload, over = await ctx.tick().sample(
                dut.asked, dut.o.valid, dut.o.ready, dut.o.payload, dut.lost
            )
            asked.append(took)
            if valid and taken:
                came.append(payload)
            lost.append(over)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return asked, came, any(lost)


@pytest.mark.parametrize("cycles", [READ_LATENCY, READ_LATENCY + 1, AFFINE_LATENCY])
def test_the_depth_covers_the_latency(cycles):
    """With as many credits as the latency wants nothing waits; with one less than its cycles, something does."""
    latency = cycles + FIFO_LATENCY
    asked, came, lost = run(Path(cycles, depth_to_cover(latency)), 100, lambda cycle: True)
    assert asked == [1] * 100
    assert came == list(range(100 - latency))
    assert not lost
    asked, came, lost = run(Path(cycles, latency + 1), 100, lambda cycle: True)
    assert asked == [1] * 100
    asked, came, lost = run(Path(cycles, latency), 100, lambda cycle: True)
    assert asked.count(0) >= 100 // (latency + 1)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_however_the_taker_stalls(seed):
    rng = random.Random(seed)
    depth = depth_to_cover(READ_LATENCY + FIFO_LATENCY)
    asked, came, lost = run(Path(READ_LATENCY, depth), 2000, lambda cycle: rng.random() < 0.3 * seed)
    assert came == list(range(len(came)))
    assert not lost
    assert sum(asked) - len(came) <= depth
    assert sum(asked) == depth if seed == 0 else len(came) > 400


def test_the_least_power_of_two():
    assert [depth_to_cover(latency) for latency in (1, 2, 3, 4, 7, 8, 15, 16)] == [2, 4, 4, 8, 8, 16, 16, 32]
    with pytest.raises(ValueError, match="^`latency` must be an integer from 1 to 32768, not 0$"):
        depth_to_cover(0)


def test_ends():
    """What comes back in several ways in one cycle is counted each time."""
    credits = Credits(3, ends=2)

    async def bench(ctx):
        for take, ends, left in (
            (1, (0, 0), 2), (1, (0, 0), 1), (1, (0, 0), 0), (0, (1, 1), 2), (1, (1, 0), 2), (1, (1, 1), 3),
        ):  # fmt: skip
            ctx.set(credits.take, take)
            for port, value in zip(credits.give_back, ends, strict=True):
                ctx.set(port, value)
            await ctx.tick()
            assert ctx.get(credits.available) == (left > 0)
        ctx.set(credits.take, 1)
        for port in credits.give_back:
            ctx.set(port, 0)
        for left in (2, 1, 0):
            await ctx.tick()
            assert ctx.get(credits.available) == (left > 0)

    simulator = Simulator(credits)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depth": 0}, "`depth` must be an integer from 1 to 65536, not 0"),
        ({"depth": 8, "ends": 9}, "`ends` must be an integer from 1 to 8, not 9"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Credits(**parameters)
