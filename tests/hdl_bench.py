"""Drives a unit's streams in Amaranth's own simulator: a quick check beside the cocotb benches."""

import random

from amaranth.sim import Simulator


def run_stream(unit, inputs, *, expected, stalls=0.0, seed=1):
    """Sends ``inputs`` through ``unit`` until ``expected`` results came out.

    Returns them, the cycles from the first input taken to the first result offered, and all cycles.
    """
    rng = random.Random(seed)
    outputs: list = []
    taken, offered = [], []
    limit = 100 + 20 * (len(inputs) + expected)

    async def both_sides(ctx):
        sent, held, waiting = 0, None, False
        for cycle in range(limit):
            valid = sent < len(inputs) and (waiting or rng.random() >= stalls)
            ready = rng.random() >= stalls
            if valid:
                ctx.set(unit.i.payload, inputs[sent])
            ctx.set(unit.i.valid, valid)
            ctx.set(unit.o.ready, ready)
            _, _, taking, offering, payload = await ctx.tick().sample(
                unit.i.ready, unit.o.valid, unit.o.payload
            )
            waiting = valid and not taking
            if valid and taking:
                taken.append(cycle)
                sent += 1
            if held is not None:
                assert offering, "a result was withdrawn before it was taken"
                assert payload == held, "a result changed before it was taken"
            held = payload if offering and not ready else None
            if offering:
                offered.append(cycle)
                if ready:
                    outputs.append(payload)
            if len(outputs) == expected:
                return
        raise AssertionError(f"{len(outputs)} results of {expected} came out in {limit} cycles")

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(both_sides)
    simulator.run()
    return outputs, offered[0] - taken[0], offered[-1] + 1


def check_stream(unit, inputs, reference, *, bare=False):
    """Each result equal to ``reference(**input)``, at the stated latency and full throughput; then
    with random stalls on both sides. ``bare`` says that the payload is its one field itself."""
    wanted = [reference(**value) for value in inputs]
    if bare:
        inputs = [next(iter(value.values())) for value in inputs]
    outputs, latency, cycles = run_stream(unit, inputs, expected=len(wanted))
    differing = [x for x in zip(inputs, outputs, wanted, strict=True) if x[1] != x[2]]
    assert not differing, differing[0]
    assert latency == unit.latency
    assert cycles <= len(inputs) + unit.latency + 2, "less than one result a cycle"
    few = 200
    stalled, _, _ = run_stream(unit, inputs[:few], expected=len(wanted[:few]), stalls=0.4)
    assert stalled == wanted[:few]


def corners(bits, is_signed=True):
    """Values of that many bits where arithmetic goes wrong first."""
    low = -(1 << (bits - 1)) if is_signed else 0
    high = (1 << (bits - (1 if is_signed else 0))) - 1
    near = [low, low + 1, -2, -1, 0, 1, 2, high - 1, high]
    near += [s * ((1 << k) + d) for k in range(bits) for d in (-1, 0, 1) for s in (-1, 1)]
    return sorted({v for v in near if low <= v <= high})
