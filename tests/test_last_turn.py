# amaranth: UnusedElaboratable=no
"""A counter's last turn from a register is the last turn, whatever the counter counts and wherever it goes back."""

import random

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.sim import Simulator

from intaglio.hdl.engines.last_turn import last_turn


@pytest.mark.parametrize("early", [False, True], ids=["to the end", "back early"])
def test_the_register_tells_what_the_counter_is(early):
    m = Module()
    count, total, stride = Signal(6), Signal(6), Signal(4)
    step, chance = Signal(), Signal()
    back = Signal()
    last = last_turn(m, count, total, step, name="last", stride=stride, back=back if early else None)
    m.d.comb += back.eq(last | (chance & early))
    with m.If(step):
        m.d.sync += count.eq(Mux(back, 0, count + stride))
    rng = random.Random(5)
    seen = {False: 0, True: 0}

    async def bench(ctx):
        for _ in range(50):
            ctx.set(total, rng.randint(1, 40))
            ctx.set(stride, rng.randint(1, 8))
            ctx.set(step, 0)
            await ctx.tick()
            # The next command may find the counter anywhere: it always goes back.
            for _ in range(40):
                at_last = bool(ctx.get(last))
                assert at_last == (ctx.get(count) + ctx.get(stride) >= ctx.get(total))
                seen[at_last] += 1
                ctx.set(chance, rng.random() < 0.1)
                ctx.set(step, rng.random() < 0.7)
                await ctx.tick()
            ctx.set(step, 1)
            ctx.set(chance, 0)
            while not ctx.get(last):
                await ctx.tick()
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(seen.values()) > 200
