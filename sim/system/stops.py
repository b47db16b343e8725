"""Whoever stops the machine, at any cycle: the reset, the host, the watchdog."""

from typing import Any

import cocotb

from intaglio.sim.system.host import PLACES, RESET, Fault, Host
from intaglio.sim.system.programs import CONFIG, at, bare
from intaglio.sim.system.setting import LARGE, NEVER, PATTERN, SMALL, begin, check_counters, until
from intaglio.spec.commands import Engine, Opcode
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    CONTROL_ABORT,
    CONTROL_START,
    COUNTERS,
    ID_VALUE,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    VERSION_VALUE,
    WATCHDOG_RESET,
    Cause,
    Register,
)


async def reach(host: Host, where: str) -> None:
    """Goes on to a moment of the run."""
    dut = host.dut
    if where == "reads":
        await until(host, lambda: int(dut.reads_open.value) != 0)
    elif where == "writes":
        await until(host, lambda: int(dut.writes_open.value) != 0)
    await host.cycles(host.random.choice((0, 0, 1, 2, 3, host.random.randint(0, 12))))
    if where == "any":
        await host.cycles(host.random.randint(0, 700))


@cocotb.test()
@cocotb.parametrize(seed=range(2))
async def reset_at_any_cycle(dut: Any, seed: int) -> None:
    host = await begin(dut, f"reset {seed}")
    seen = dict.fromkeys(("reads", "writes", "data", "flush", "idle", "irq"), 0)
    for turn in range(32):
        host.pause_at_random()
        await host.launch(LARGE)
        where = ("reads", "writes", "any", "flush")[turn % 4]
        await reach(host, where if where != "flush" else host.random.choice(("reads", "writes")))
        if where == "flush":
            await host.write(Register.CONTROL, CONTROL_ABORT)
            seen["flush"] += not int(dut.irq.value)
        seen["reads"] += int(dut.reads_open.value) != 0
        seen["writes"] += int(dut.writes_open.value) != 0
        seen["data"] += int(dut.m_axi_wvalid.value)
        seen["irq"] += int(dut.irq.value)
        host.judge()
        await host.reset(host.random.choice((1, 2, 5)))
        host.pause_at_random()
        if turn % 3 == 0:
            for place in PLACES:
                assert await host.read(place) == RESET[place]
            assert await host.read(Register.WATCHDOG) == WATCHDOG_RESET
            assert await host.read(Register.STATUS) == await host.read(Register.INTERRUPT) == 0
            assert await host.fault() == Fault(Cause.NONE)
            for counter in COUNTERS:
                assert await host.read(counter) == 0
            seen["idle"] += 1
        assert not int(dut.irq.value)
        await host.run(SMALL if turn % 2 else LARGE)
    dut._log.warning("%s", seen)
    assert all(seen[name] >= 3 for name in ("reads", "writes", "data", "flush", "idle")), seen


@cocotb.test()
@cocotb.parametrize(seed=range(2))
async def abort_at_any_cycle(dut: Any, seed: int) -> None:
    host = await begin(dut, f"abort {seed}")
    seen = dict.fromkeys(("aborted", "done", "reads", "writes"), 0)
    silent = int(dut.silent_beats.value)
    for turn in range(32):
        host.pause_at_random()
        await host.launch(LARGE)
        await reach(host, ("any", "reads", "writes", "start")[turn % 4])
        await host.write(Register.CONTROL, CONTROL_ABORT)
        seen["reads"] += int(dut.reads_open.value) != 0
        seen["writes"] += int(dut.writes_open.value) != 0
        await host.interrupt()
        await check_counters(host)
        status = await host.read(Register.STATUS)
        if status == STATUS_DONE:
            seen["done"] += 1
            host.check_memory(LARGE)
        else:
            seen["aborted"] += 1
            assert status == STATUS_FAULT
            assert await host.fault() == Fault(Cause.ABORTED)
            host.check_memory(LARGE, whole=False)
        host.pause_at_random()
        await host.run(SMALL if turn % 2 else LARGE)
    seen["silent"] = int(dut.silent_beats.value) - silent
    dut._log.warning("%s", seen)
    assert seen["aborted"] >= 20, seen
    assert all(seen[name] >= 2 for name in ("reads", "writes", "silent")), seen


@cocotb.test()
async def a_host_that_meddles(dut: Any) -> None:
    """While a run goes on, every register can be read, and nothing but an abort changes it."""
    host = await begin(dut, "meddling")
    for turn in range(4):
        work = (LARGE, SMALL)[turn % 2]
        host.pause(0.5)
        await host.launch(work)
        values = work.settings()
        busy = True
        while busy:
            for place in host.random.sample(list(PLACES), 3):
                await host.write(place, host.random.getrandbits(32))
            await host.write(Register.WATCHDOG, 1)
            await host.write(Register.CONTROL, CONTROL_START)
            for read_only in (Register.STATUS, Register.ID, Register.FAULT_CAUSE, *COUNTERS):
                await host.write(read_only, 0xFFFF_FFFF)
            for register in Register:
                value = await host.read(register)
                if register in values and not int(dut.irq.value):
                    assert value == values[register], register
            await host.read(Register.MARKS + 4 * host.random.randrange(256))
            busy = bool(await host.read(Register.STATUS) & STATUS_BUSY) and not int(dut.irq.value)
            if turn < 2:
                break
        if turn < 2:
            await host.finish(work)
        else:
            # A start that comes after the end is one, so the last of them may be at work, with settings of no sense.
            await host.reset()
        await host.run(SMALL)


@cocotb.test()
async def controls(dut: Any) -> None:
    host = await begin(dut, "controls")
    assert await host.read(Register.ID) == ID_VALUE
    assert await host.read(Register.VERSION) == VERSION_VALUE
    assert await host.read(Register.FINGERPRINT) == CONFIG.fingerprint
    for value in (CONTROL_ABORT, 0, 0xFFFF_FFFC):
        await host.write(Register.CONTROL, value)
        await host.cycles(20)
        assert await host.read(Register.STATUS) == 0
        assert not int(dut.irq.value)
    # Start and abort at once: a start where nothing runs.
    host.place(SMALL)
    await host.configure(SMALL)
    host.before = {name: int(getattr(dut, name).value) for name in ("r_beats", "w_beats")}
    host.rises = int(dut.irq_rises.value)
    await host.write(Register.CONTROL, CONTROL_START | CONTROL_ABORT)
    await host.finish(SMALL)
    await host.write(Register.INTERRUPT, 0xFFFF_FFFE)
    assert int(dut.irq.value)
    await host.write(Register.CONTROL, CONTROL_ABORT)
    assert await host.read(Register.STATUS) == STATUS_DONE
    assert await host.fault() == Fault(Cause.NONE)
    # A start takes the interrupt and the fault of the run before away.
    await host.launch(SMALL.replaced(0, bytes(64)))
    await host.stopped(Fault(Cause.ILLEGAL_OPCODE), SMALL.replaced(0, bytes(64)))
    await host.launch(SMALL)
    assert not int(dut.irq.value)
    assert await host.fault() == Fault(Cause.NONE)
    await host.finish(SMALL)
    for unknown in (0x0C, 0x1C, 0x2C, 0x54, 0x7C, 0xA8, 0x10C, 0x150, 0x3FC, 0x800, 0xFFC):
        assert await host.read(unknown) == 0


@cocotb.test()
async def waits_for_ever(dut: Any) -> None:
    """The watchdog ends what cannot end, not before its time; 0 switches it off, and an abort does it then."""
    host = await begin(dut, "for ever")
    weights = SMALL.of(Opcode.WEIGHTS)
    long_pool = {
        "width_elements": 16, "height": 1, "output_rows": 0xFFFF, "output_columns": 0xFFFF, "kernel_rows": 255,
        "kernel_columns": 255, "chunks": 0xFFFF, "channels": 1,
    }  # fmt: skip
    matmul = SMALL.of(Opcode.MATMUL)[0]
    stuck = [
        *(SMALL.changed(SMALL.of(opcode)[0], **{f"wait_{engine.name.lower()}": NEVER})
          for opcode, engine in ((Opcode.LOAD, Engine.STORE), (Opcode.STORE, Engine.POOL),
                                 (Opcode.WEIGHTS, Engine.MATMUL), (Opcode.RESCALE, Engine.LOAD),
                                 (Opcode.MATMUL, Engine.RESCALE), (Opcode.MAX_POOL, Engine.MATMUL))),
        # Waits for itself.
        SMALL.changed(0, wait_load=1),
        # No weights, one tile too few, more than the buffer holds.
        bare((Opcode.MATMUL, SMALL.command(matmul)[1] | {"wait_load": 0})),
        SMALL.changed(weights[-1], beats=SMALL.command(weights[-1])[1]["beats"] - 1),
        bare((Opcode.WEIGHTS, {**at(Region.INPUT), "beats": 80, "times": 1, "stretches": 1}), source=PATTERN),
    ]  # fmt: skip
    for work in stuck:
        for patience in (60, 300):
            host.pause(host.random.choice((0.0, 0.3)))
            await host.write(Register.WATCHDOG, patience)
            await host.launch(work)
            await host.stopped(Fault(Cause.WATCHDOG), work)
            assert await host.read(Register.CYCLES) >= patience
        await host.run(SMALL)
    # Endless, but at work: nothing but an abort ends it.
    for work, patience in ((bare((Opcode.MAX_POOL, long_pool)), 60), (stuck[0], 0), (stuck[-1], 0)):
        await host.write(Register.WATCHDOG, patience)
        await host.launch(work)
        await host.cycles(1500)
        assert not int(dut.irq.value)
        await host.write(Register.CONTROL, CONTROL_ABORT)
        await host.stopped(Fault(Cause.ABORTED), work)
        await host.run(SMALL)


@cocotb.test()
async def a_patient_watchdog(dut: Any) -> None:
    """A slow memory is no reason to stop: the longest wait of a run passes, one cycle less does not."""
    host = await begin(dut, "patience")
    await host.run(SMALL)
    low, high = 1, 400
    while high - low > 1:
        patience = (low + high) // 2
        await host.write(Register.WATCHDOG, patience)
        await host.launch(SMALL)
        await host.interrupt()
        if await host.read(Register.STATUS) == STATUS_DONE:
            high = patience
            host.check_memory(SMALL)
        else:
            low = patience
            assert await host.fault() == Fault(Cause.WATCHDOG)
    dut._log.warning("the longest wait is of %d cycles", low)
    assert 4 < low < 60


@cocotb.test()
async def a_memory_that_never_answers(dut: Any) -> None:
    """The interrupt comes all the same. A start after it waits for what is owed, and is right once that has come."""
    host = await begin(dut, "no answer")
    owed = set()
    for name in host.channels:
        for control in ("watchdog", "abort"):
            host.pause(0)
            await host.write(Register.WATCHDOG, 80)
            await host.launch(LARGE)
            if name in ("aw", "w", "b"):
                await until(host, lambda: int(dut.m_axi_awvalid.value))
            else:
                await host.cycles(host.random.randint(0, 60))
            dut.unanswered.value = 1
            host.channels[name].pause = True
            if control == "abort":
                await host.write(Register.CONTROL, CONTROL_ABORT)
            await host.interrupt(1000)
            assert await host.read(Register.STATUS) == STATUS_FAULT
            assert await host.fault() == Fault(Cause.WATCHDOG if control == "watchdog" else Cause.ABORTED)
            host.check_memory(LARGE, whole=False)
            open_bursts = int(dut.reads_open.value) + int(dut.writes_open.value)
            pending = open_bursts or int(dut.m_axi_arvalid.value) or int(dut.m_axi_awvalid.value)
            # A start while the memory is still away: refused by the watchdog again, where anything is owed.
            if pending:
                owed.add(name)
                await host.go()
                await host.interrupt(1000)
                assert await host.fault() == Fault(Cause.WATCHDOG)
                await host.write(Register.WATCHDOG, 0)
                await host.go()
                await host.cycles(300)
                assert not int(dut.irq.value)
                await host.write(Register.WATCHDOG, 80)
                assert await host.read(Register.WATCHDOG) == 0, "a setting changed while busy"
                await host.write(Register.CONTROL, CONTROL_ABORT)
                await host.interrupt(20)
                assert await host.fault() == Fault(Cause.ABORTED)
                await host.write(Register.WATCHDOG, 80)
            # It comes back while a start waits for it.
            await host.go()
            await host.cycles(host.random.randint(0, 40))
            assert not int(dut.irq.value)
            host.channels[name].pause = False
            await host.finish(LARGE)
            dut.unanswered.value = 0
            await host.run(SMALL)
    assert owed == set(host.channels)
