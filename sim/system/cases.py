"""What the machine is tested for."""

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hdl import isa
from hdl.isa import Cause, Opcode, Register
from sim.system.host import SETTINGS, Fault, Host
from sim.system.programs import (
    CONFIG,
    OUTPUTS,
    SOURCE,
    UNSET,
    Job,
    bare,
    job,
    network,
    overflowing,
)

SMALL = job(network(1, small=True), 1)
LARGE = job(network(2), 2)
COUNTERS = [register for register in Register if Register.CYCLES <= register <= Register.BUSY_STORE]
PATTERN = bytes(random.Random(0).randbytes(256))
NEVER = 30
"""Commands of any engine that none of these lists has: whoever waits for them waits for ever."""


async def begin(dut: Any, name: str) -> Host:
    host = Host(dut, name)
    await host.start()
    return host


async def check_counters(host: Host) -> None:
    dut = host.dut
    await host.cycles(1)
    assert await host.read(Register.CYCLES) == int(dut.irq_cycle.value) - host.start_cycle
    assert await host.read(Register.READ_BEATS) == int(dut.r_beats.value) - host.before["r_beats"]
    assert await host.read(Register.WRITE_BEATS) == int(dut.w_beats.value) - host.before["w_beats"]


# Right runs


@cocotb.test()
@cocotb.parametrize(seed=range(6))
async def right_under_back_pressure(dut: Any, seed: int) -> None:
    """Each start gives the right outputs, without a reset between, and counts the beats that memory saw."""
    host = await begin(dut, f"back-pressure {seed}")
    for turn, small in enumerate((False, True, False)):
        work = job(network(seed + turn, small), seed)
        host.pause_at_random()
        await host.run(work)
        await check_counters(host)
        cycles = await host.read(Register.CYCLES)
        assert await host.read(Register.OVERFLOWS) == work.overflows == 0
        assert await host.read(Register.INTERRUPT) == 1
        marks = [await host.read(Register.MARKS + 4 * layer.mark) for layer in work.program.layers]
        assert 0 < marks[0] <= marks[1] <= marks[2] <= cycles
        for engine in isa.Engine:
            busy = await host.read(Register[f"BUSY_{engine.name}"])
            assert 0 < busy < cycles
        if turn == 1:
            await host.acknowledge()
            assert await host.read(Register.STATUS) == isa.STATUS_DONE


@cocotb.test()
async def bursts_in_flight(dut: Any) -> None:
    """A memory that keeps the machine waiting sees as many bursts open as are stated, and no more."""
    host = await begin(dut, "in flight")
    rows = {"row_bytes": 8, "rows": 30, "memory_pitch": 8, "scratchpad_pitch": 16}
    work = bare(
        (Opcode.LOAD, rows | {"memory_address": SOURCE}),
        (Opcode.STORE, rows | {"memory_address": OUTPUTS, "wait_load": 1}),
        source=PATTERN[:240],
        outputs=PATTERN[:240],
    )
    host.pause({"ar": 0, "r": 0.95, "aw": 0, "w": 0, "b": 0.95})
    await host.run(work)
    # The memory's own queues hide some: it takes an address when it has served one.
    assert int(dut.most_reads_open.value) in range(3, 9)
    assert int(dut.most_writes_open.value) in range(3, 9)


@cocotb.test()
async def an_empty_list(dut: Any) -> None:
    host = await begin(dut, "empty")
    empty = SMALL.having(count=0, expected=SMALL.memory)
    for _ in range(2):
        await host.run(empty)
        assert await host.read(Register.READ_BEATS) == await host.read(Register.WRITE_BEATS) == 0
        assert await host.read(Register.CYCLES) < 8
    await host.run(SMALL)


@cocotb.test()
async def rows_of_any_shape(dut: Any) -> None:
    """LOAD and STORE of rows at any byte, with gaps, backwards and onto themselves, write what they say and no more."""
    host = await begin(dut, "rows")
    elements = CONFIG.scratchpad_elements
    for turn in range(24):
        draw = host.random
        host.pause(draw.choice((0.0, 0.3, 0.7)))
        rows, row_bytes = draw.choice(((1, draw.randint(1, 200)), (draw.randint(2, 8), draw.randint(1, 24))))
        # Places of the rows: in memory bytes, on chip elements, two a byte.
        pitch_in = draw.choice((row_bytes, draw.randint(0, 30), -draw.randint(0, 30)))
        pitch_chip = 2 * row_bytes + draw.randint(0, 9)
        pitch_out = draw.choice((0, row_bytes, draw.randint(0, 30), -draw.randint(0, 30)))
        first_in = draw.randint(0, 256 - row_bytes)
        reach = [first_in + row * pitch_in for row in range(rows)]
        first_out = draw.randint(0, 256 - row_bytes)
        goal = [first_out + row * pitch_out for row in range(rows)]
        if min(reach) < 0 or max(reach) + row_bytes > 256 or min(goal) < 0 or max(goal) + row_bytes > 256:
            pitch_in = pitch_out = 0
            reach, goal = [first_in] * rows, [first_out] * rows
        place = draw.randint(0, elements - 1)
        outputs = bytearray([UNSET]) * 256
        for start, end in zip(reach, goal, strict=True):
            outputs[end : end + row_bytes] = PATTERN[start : start + row_bytes]
        both = {"row_bytes": row_bytes, "rows": rows}
        both |= {"scratchpad_address": place, "scratchpad_pitch": pitch_chip}
        load = both | {"memory_address": SOURCE + first_in, "memory_pitch": pitch_in % 2**32}
        store = both | {"memory_address": OUTPUTS + first_out, "memory_pitch": pitch_out % 2**32}
        work = bare(
            (Opcode.LOAD, load),
            (Opcode.STORE, store | {"wait_load": 1}),
            source=PATTERN,
            outputs=bytes(outputs),
        )
        dut._log.warning("%d: %s in %+d out %+d", turn, both, pitch_in, pitch_out)
        await host.run(work)


@cocotb.test()
async def overflows(dut: Any) -> None:
    """Sums that leave the accumulator wrap as golden says, and each addition that does is counted."""
    host = await begin(dut, "overflows")
    low, high = -(1 << CONFIG.accumulator_bits - 1), (1 << CONFIG.accumulator_bits - 1) - 1
    for seed in range(3):
        net = overflowing(seed)
        work = job(net, seed)
        assert work.overflows
        await host.run(work)
        binding = work.program.inputs[0]
        start = binding.address - work.base
        stored = np.frombuffer(work.memory[start : start + binding.bytes], np.uint8)
        values = binding.unpack(stored).reshape(-1)
        lost = 0
        for weights in net.layers[0].weights:
            total = 0
            for first in range(0, len(values), CONFIG.rows):
                chunk = slice(first, first + CONFIG.rows)
                total += int(values[chunk].astype(int) @ weights[chunk])
                lost += not low <= total <= high
                total = (total - low) % (1 << CONFIG.accumulator_bits) + low
        assert lost
        assert await host.read(Register.OVERFLOWS) == lost
        await host.run(SMALL)
        assert await host.read(Register.OVERFLOWS) == 0


# Reset and abort


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


async def until(host: Host, condition: Any, limit: int = 5000) -> None:
    for _ in range(limit):
        if condition():
            return
        await RisingEdge(host.dut.clk)
    raise AssertionError(f"still not so after {limit} cycles")


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
            await host.write(Register.CONTROL, isa.CONTROL_ABORT)
            seen["flush"] += not int(dut.irq.value)
        seen["reads"] += int(dut.reads_open.value) != 0
        seen["writes"] += int(dut.writes_open.value) != 0
        seen["data"] += int(dut.m_axi_wvalid.value)
        seen["irq"] += int(dut.irq.value)
        host.judge()
        await host.reset(host.random.choice((1, 2, 5)))
        host.pause_at_random()
        if turn % 3 == 0:
            for register in SETTINGS:
                assert await host.read(register) == 0
            assert await host.read(Register.WATCHDOG) == isa.WATCHDOG_RESET
            assert await host.read(Register.STATUS) == await host.read(Register.INTERRUPT) == 0
            assert await host.fault() == Fault(Cause.NONE)
            for register in COUNTERS:
                assert await host.read(register) == 0
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
        await host.write(Register.CONTROL, isa.CONTROL_ABORT)
        seen["reads"] += int(dut.reads_open.value) != 0
        seen["writes"] += int(dut.writes_open.value) != 0
        await host.interrupt()
        await check_counters(host)
        status = await host.read(Register.STATUS)
        if status == isa.STATUS_DONE:
            seen["done"] += 1
            host.check_memory(LARGE)
        else:
            seen["aborted"] += 1
            assert status == isa.STATUS_FAULT
            assert await host.fault() == Fault(Cause.ABORTED)
            host.check_memory(LARGE, whole=False)
        host.pause_at_random()
        await host.run(SMALL if turn % 2 else LARGE)
    seen["silent"] = int(dut.silent_beats.value) - silent
    dut._log.warning("%s", seen)
    assert seen["aborted"] >= 20, seen
    assert all(seen[name] >= 2 for name in ("reads", "writes", "silent")), seen


# What the host may do at any time


@cocotb.test()
async def a_host_that_meddles(dut: Any) -> None:
    """While a run goes on, every register can be read, and nothing but an abort changes it."""
    host = await begin(dut, "meddling")
    for turn in range(4):
        work = (LARGE, SMALL)[turn % 2]
        host.pause(0.5)
        await host.launch(work)
        values = dict(
            zip(
                SETTINGS,
                (work.command_address, work.count, *work.read_window, *work.write_window),
                strict=True,
            )
        )
        busy = True
        while busy:
            for register in host.random.sample(list(SETTINGS), 3):
                await host.write(register, host.random.getrandbits(32))
            await host.write(Register.WATCHDOG, 1)
            await host.write(Register.CONTROL, isa.CONTROL_START)
            for register in (Register.STATUS, Register.ID, Register.FAULT_CAUSE, *COUNTERS):
                await host.write(register, 0xFFFF_FFFF)
            for register in Register:
                value = await host.read(register)
                if register in values and not int(dut.irq.value):
                    assert value == values[register], register
            await host.read(Register.MARKS + 4 * host.random.randrange(256))
            busy = bool(await host.read(Register.STATUS) & isa.STATUS_BUSY) and not int(dut.irq.value)
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
    assert await host.read(Register.ID) == isa.ID_VALUE
    assert await host.read(Register.VERSION) == isa.VERSION_VALUE
    assert await host.read(Register.FINGERPRINT) == CONFIG.fingerprint
    for value in (isa.CONTROL_ABORT, 0, 0xFFFF_FFFC):
        await host.write(Register.CONTROL, value)
        await host.cycles(20)
        assert await host.read(Register.STATUS) == 0
        assert not int(dut.irq.value)
    # Start and abort at once: a start where nothing runs.
    host.place(SMALL)
    await host.configure(SMALL)
    host.before = {name: int(getattr(dut, name).value) for name in ("r_beats", "w_beats")}
    host.rises = int(dut.irq_rises.value)
    await host.write(Register.CONTROL, isa.CONTROL_START | isa.CONTROL_ABORT)
    await host.finish(SMALL)
    await host.write(Register.INTERRUPT, 0xFFFF_FFFE)
    assert int(dut.irq.value)
    await host.write(Register.CONTROL, isa.CONTROL_ABORT)
    assert await host.read(Register.STATUS) == isa.STATUS_DONE
    assert await host.fault() == Fault(Cause.NONE)
    # A start takes the interrupt and the fault of the run before away.
    await host.launch(SMALL.replaced(0, bytes(64)))
    await host.stopped(Fault(Cause.ILLEGAL_OPCODE), SMALL.replaced(0, bytes(64)))
    await host.launch(SMALL)
    assert not int(dut.irq.value)
    assert await host.fault() == Fault(Cause.NONE)
    await host.finish(SMALL)
    for unknown in (0x0C, 0x1C, 0x28, 0x50, 0x7C, 0xA8, 0x3FC, 0x800, 0xFFC):
        assert await host.read(unknown) == 0


# Refusals


async def refused(host: Host, work: Job, fault: Fault, again: bool = True) -> None:
    """The machine stops with the fault, and then runs right."""
    host.pause(host.random.choice((0.0, 0.0, 0.4)))
    await host.launch(work)
    await host.stopped(fault, work)
    if again:
        await host.run(SMALL)


@cocotb.test()
async def unknown_opcodes(dut: Any) -> None:
    host = await begin(dut, "opcodes")
    unknown = set(range(256)) - {opcode.value for opcode in Opcode}
    for code in sorted(unknown):
        word = bytes([code]) + host.random.randbytes(63)
        lone = SMALL.replaced(0, word).having(count=1)
        await refused(host, lone, Fault(Cause.ILLEGAL_OPCODE, 0), again=False)
    for code in host.random.sample(sorted(unknown), 6):
        index = host.random.randrange(SMALL.count)
        bad = SMALL.replaced(index, bytes([code]) + bytes(63))
        await refused(host, bad, Fault(Cause.ILLEGAL_OPCODE, index))


@cocotb.test()
async def reserved_bits(dut: Any) -> None:
    host = await begin(dut, "reserved")
    for opcode in Opcode:
        places = isa.layout(opcode)
        end = max(start + field.bits for start, field in places.values())
        low, high = (places[name][0] for name in ("header_reserved", "header_reserved_high"))
        draw = host.random.randrange
        bits = [low, low + 6, draw(low, low + 7), high, high + 31, draw(high, high + 32)]
        bits += [end, 511, draw(end, 512), draw(end, 512)]
        for turn, bit in enumerate(bits):
            index = host.random.choice(SMALL.of(opcode))
            word = int.from_bytes(SMALL.commands[64 * index :][:64], "little") | 1 << bit
            bad = SMALL.replaced(index, word.to_bytes(64, "little"))
            await refused(host, bad, Fault(Cause.ILLEGAL_FIELD, index), again=turn % 5 == 0)


@cocotb.test()
async def counts_of_zero(dut: Any) -> None:
    host = await begin(dut, "zero")
    for opcode, entry in isa.FORMATS.items():
        for name in entry.nonzero:
            index = host.random.choice(SMALL.of(opcode))
            await refused(host, SMALL.changed(index, **{name: 0}), Fault(Cause.ILLEGAL_FIELD, index))


@cocotb.test()
async def more_than_there_is(dut: Any) -> None:
    """Positions and channels beyond the accumulators, and weights between beats."""
    host = await begin(dut, "too many")
    depth = CONFIG.accumulator_depth
    for rows, columns in ((depth + 1, 1), (1, depth + 1), (depth, 2), (0xFFFF, 0xFFFF), (0x8000, 2)):
        index = host.random.choice(SMALL.of(Opcode.MATMUL))
        bad = SMALL.changed(index, output_rows=rows, output_columns=columns)
        await refused(host, bad, Fault(Cause.ILLEGAL_FIELD, index))
    for fields in (
        {"positions": depth + 1},
        {"positions": 0xFFFF},
        {"channels": CONFIG.columns + 1},
        {"channels": 0xFF},
    ):
        index = host.random.choice(SMALL.of(Opcode.RESCALE_SBNQ))
        await refused(host, SMALL.changed(index, **fields), Fault(Cause.ILLEGAL_FIELD, index))
    for offset in range(1, 8):
        index = host.random.choice(SMALL.of(Opcode.WEIGHTS))
        address = SMALL.command(index)[1]["memory_address"] + offset
        await refused(host, SMALL.changed(index, memory_address=address), Fault(Cause.ILLEGAL_FIELD, index))


@cocotb.test()
async def windows(dut: Any) -> None:
    """One beat beyond either end of a window, or past the top of the address space, is refused."""
    host = await begin(dut, "windows")
    base, limit = SMALL.read_window
    top = 0xFFFF_FFF8
    all_memory = (0, 0xFFFF_FFFF)
    for opcode in (Opcode.LOAD, Opcode.WEIGHTS, Opcode.STORE):
        reads = opcode != Opcode.STORE
        cause = Cause.READ_WINDOW if reads else Cause.WRITE_WINDOW
        low, high = SMALL.read_window if reads else SMALL.write_window
        longest = {"beats" if opcode == Opcode.WEIGHTS else "row_bytes": 0xFFFFFF}

        def size(beats, opcode=opcode):
            return {"beats": beats} if opcode == Opcode.WEIGHTS else {"row_bytes": 8 * beats}

        cases = [
            (low - 8, size(1), None),
            (low - 8, size(2), None),
            (high, size(1), None),
            (high - 8, size(2), None),
            (low, longest, None),
            (high - 8, longest, None),
            (0, size(1), None),
            (top, size(1), all_memory),
            (top, size(2), all_memory),
            (top - 8, size(2), all_memory),
            (top - 8, size(4), all_memory),
            (top, longest, all_memory),
            (low, size(1), (low, low)),
            (low, size(1), (high, low)),
            (low, size(1), (low + 4, high)),
            (low, size(1), (low, low + 4)),
        ]
        if opcode != Opcode.WEIGHTS:
            cases += [
                (low - 1, {"row_bytes": 1}, None),
                (high, {"row_bytes": 1}, None),
                (high - 1, {"row_bytes": 2}, None),
                (0xFFFF_FFFF, {"row_bytes": 1}, all_memory),
                (0xFFFF_FFFF, {"row_bytes": 2}, all_memory),
            ]
        for address, fields, window in cases:
            index = host.random.choice(SMALL.of(opcode))
            bad = SMALL.changed(index, memory_address=address, **fields)
            if window and reads:
                # Such a window may refuse the list itself.
                await refused_alone(host, SMALL, index, address, fields, window, cause)
                continue
            if window:
                bad = bad.having(write_window=window)
            await refused(host, bad, Fault(cause, index, address & ~7), again=host.random.random() < 0.3)
    await host.run(SMALL)
    # The windows that the compiler asks for are as narrow as can be at their beginning and READ's end.
    first_load, store = SMALL.of(Opcode.LOAD)[0], SMALL.of(Opcode.STORE)[0]
    last = SMALL.count - 1
    out = SMALL.command(store)[1]["memory_address"]
    for work, fault in (
        (SMALL.having(read_window=(base + 8, limit)), Fault(Cause.READ_WINDOW, first_load, base)),
        (SMALL.having(read_window=(base + 1, limit)), Fault(Cause.READ_WINDOW, first_load, base)),
        (SMALL.having(read_window=(base, limit - 8)), Fault(Cause.READ_WINDOW, last, limit - 64)),
        (SMALL.having(read_window=(base, limit - 1)), Fault(Cause.READ_WINDOW, last, limit - 64)),
        (SMALL.having(write_window=(out + 1, out + 64)), Fault(Cause.WRITE_WINDOW, store, out)),
        (SMALL.having(write_window=(out, out + 7)), Fault(Cause.WRITE_WINDOW, store, out)),
    ):
        await refused(host, work, fault)
    await host.run(SMALL.having(write_window=(out, out + 8)))


async def refused_alone(
    host: Host,
    work: Job,
    index: int,
    address: int,
    fields: dict[str, int],
    window: tuple[int, int],
    cause: Cause,
) -> None:
    """A READ window other than the program's: where it does not hold the commands, they are what is refused."""
    lone = work.changed(index, memory_address=address, **fields)
    lone = lone.replaced(0, lone.commands[64 * index :][:64]).having(count=1, read_window=window)
    if window[0] <= work.command_address and window[1] >= work.command_address + 64:
        word = int.from_bytes(lone.commands[:64], "little") & ~(((1 << 80) - 1) << 16)
        lone = lone.replaced(0, word.to_bytes(64, "little"))
        fault = Fault(cause, 0, address & ~7)
    else:
        fault = Fault(Cause.READ_WINDOW, 0, work.command_address)
    await refused(host, lone, fault, again=False)


@cocotb.test()
async def command_lists(dut: Any) -> None:
    """Lists that lie where they may not, and those at addresses between beats: their low three bits are ignored."""
    host = await begin(dut, "lists")
    base, limit = SMALL.read_window
    list_at = SMALL.command_address
    for offset in range(1, 8):
        host.place(SMALL)
        await host.configure(SMALL)
        await host.write(Register.COMMAND_ADDRESS, list_at + offset)
        assert await host.read(Register.COMMAND_ADDRESS) == list_at + offset
        await host.go()
        await host.finish(SMALL)
    for index in (0, 1, 5, SMALL.count - 1):
        for cut in (8, 64):
            at = list_at + 64 * index
            work = SMALL.having(read_window=(base, at + 64 - cut))
            await refused(host, work, Fault(Cause.READ_WINDOW, index, at))
    for address, window in (
        (0xFFFF_FFC0, (0, 0xFFFF_FFFF)),
        (0xFFFF_FFF8, (0, 0xFFFF_FFFF)),
        (base - 64, SMALL.read_window),
        (limit, SMALL.read_window),
        (0, SMALL.read_window),
        (list_at, (0, 0)),
    ):
        host.place(SMALL)
        await host.configure(SMALL.having(read_window=window))
        await host.write(Register.COMMAND_ADDRESS, address)
        await host.go()
        await host.stopped(Fault(Cause.READ_WINDOW, 0, address), SMALL)
    # The second command of this list lies past the top of the address space.
    host.place(SMALL)
    host.ram.write(0xFFFF_FF80, SMALL.commands[:64])
    await host.configure(SMALL.having(read_window=(0, 0xFFFF_FFFF)))
    await host.write(Register.COMMAND_ADDRESS, 0xFFFF_FF80)
    await host.go()
    await host.stopped(Fault(Cause.READ_WINDOW, 1, 0xFFFF_FFC0), SMALL)
    await host.run(SMALL)


@cocotb.test()
async def windows_after_reset(dut: Any) -> None:
    host = await begin(dut, "no windows")
    host.place(SMALL)
    store = SMALL.of(Opcode.STORE)[0]
    steps = (
        ((), Fault(Cause.READ_WINDOW, 0, SMALL.command_address)),
        ((Register.READ_BASE, Register.READ_LIMIT), Fault(Cause.WRITE_WINDOW, store, SMALL.write_window[0])),
    )
    host.grant(SMALL)
    await host.write(Register.COMMAND_ADDRESS, SMALL.command_address)
    await host.write(Register.COMMAND_COUNT, SMALL.count)
    for registers, fault in steps:
        for register, value in zip(registers, SMALL.read_window, strict=False):
            await host.write(register, value)
        await host.go()
        await host.stopped(fault, SMALL)
    await host.run(SMALL)


# Errors on the bus


def commands_of_bursts(work: Job) -> list[int]:
    """Indexes of the WEIGHTS commands: each is one burst here."""
    indexes = work.of(Opcode.WEIGHTS)
    assert all(work.command(index)[1]["beats"] <= 32 for index in indexes)
    return indexes


@cocotb.test()
async def read_errors(dut: Any) -> None:
    """Any response but OKAY, at any beat: the fault names the burst and the command that it was for."""
    host = await begin(dut, "RRESP")
    weights = commands_of_bursts(SMALL)
    weights_at = {SMALL.command(index)[1]["memory_address"] for index in weights}
    load = SMALL.of(Opcode.LOAD)[0]
    sizes = {"list": 8 * SMALL.count, "weights": 8, "load": 1}
    for turn in range(45):
        host.pause(host.random.choice((0.0, 0.5)))
        kind = ("list", "weights", "load")[turn % 3]
        chosen, code = host.random.randrange(sizes[kind]), 1 + turn // 3 % 3
        seen: list[int] = []
        """Beats of this kind so far, and the burst of the one that failed."""
        failed: list[tuple[int, int]] = []

        def response(channel, place, kind=kind, chosen=chosen, code=code, seen=seen, failed=failed):
            if channel != "r":
                return 0
            address = host.burst["r"]
            listed = "list" if address >= SMALL.command_address else "load"
            if kind != ("weights" if address in weights_at else listed):
                return 0
            seen.append(address)
            if len(seen) != chosen + 1:
                return 0
            failed.append((address, place))
            return code

        served = _Served(host, weights_at)
        host.response = response
        await host.launch(SMALL)
        await host.interrupt()
        served.close()
        host.response = None
        ((address, place),) = failed
        index = {
            "list": (address - SMALL.command_address) // 64,
            "weights": weights[served.order(place)] if kind == "weights" else 0,
            "load": load,
        }[kind]
        assert await host.read(Register.STATUS) == isa.STATUS_FAULT
        fault = await host.fault()
        assert fault == Fault(Cause.READ_ERROR, index, address), f"{fault}, not of {index} at {address:#x}"
        host.check_memory(SMALL, whole=False)
        await host.run(SMALL)


class _Served:
    """Which burst of weights each served beat belonged to."""

    def __init__(self, host: Host, addresses: set[int]) -> None:
        self._host, self._addresses = host, addresses
        self._places: list[int] = []
        host.on_burst = self._see

    def _see(self, address: int) -> None:
        if address in self._addresses:
            self._places.append(self._host.given["r"])

    def order(self, beat: int) -> int:
        return sum(place <= beat for place in self._places) - 1

    def close(self) -> None:
        self._host.on_burst = None


@cocotb.test()
async def write_errors(dut: Any) -> None:
    host = await begin(dut, "BRESP")
    await host.run(LARGE)
    stores = {LARGE.command(index)[1]["memory_address"] & ~7: index for index in LARGE.of(Opcode.STORE)}
    first = host.given["b"]
    await host.run(LARGE)
    responses = host.given["b"] - first
    assert responses >= 2
    for turn in range(3 * responses):
        host.pause(host.random.choice((0.0, 0.5)))
        at, code, found = host.given["b"] + turn // 3, 1 + turn % 3, []

        def response(channel, place, at=at, code=code, found=found):
            if channel == "b" and place == at:
                found.append(host.burst["b"])
                return code
            return 0

        host.response = response
        await host.launch(LARGE)
        await host.interrupt()
        host.response = None
        index = max(index for address, index in stores.items() if address <= found[0])
        index = stores.get(found[0], index)
        assert await host.read(Register.STATUS) == isa.STATUS_FAULT
        assert await host.fault() == Fault(Cause.WRITE_ERROR, index, found[0])
        host.check_memory(LARGE, whole=False)
        await host.run(SMALL)


# What would never end


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
          for opcode, engine in ((Opcode.LOAD, isa.Engine.STORE), (Opcode.STORE, isa.Engine.POOL),
                                 (Opcode.WEIGHTS, isa.Engine.MATMUL), (Opcode.RESCALE_SBNQ, isa.Engine.LOAD),
                                 (Opcode.MATMUL, isa.Engine.RESCALE), (Opcode.MAX_POOL, isa.Engine.MATMUL))),
        # Waits for itself.
        SMALL.changed(0, wait_load=1),
        # No weights, one tile too few, more than the buffer holds.
        bare((Opcode.MATMUL, SMALL.command(matmul)[1] | {"wait_load": 0})),
        SMALL.changed(weights[-1], beats=SMALL.command(weights[-1])[1]["beats"] - 1),
        bare((Opcode.WEIGHTS, {"memory_address": SOURCE, "beats": 80}), source=PATTERN),
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
        await host.write(Register.CONTROL, isa.CONTROL_ABORT)
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
        if await host.read(Register.STATUS) == isa.STATUS_DONE:
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
                await host.write(Register.CONTROL, isa.CONTROL_ABORT)
            await host.interrupt(1000)
            assert await host.read(Register.STATUS) == isa.STATUS_FAULT
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
            # It comes back while a start waits for it.
            await host.go()
            await host.cycles(host.random.randint(0, 40))
            assert not int(dut.irq.value)
            host.channels[name].pause = False
            await host.finish(LARGE)
            dut.unanswered.value = 0
            await host.run(SMALL)
    assert owed == set(host.channels)


# Odd but legal


@cocotb.test()
async def leftovers(dut: Any) -> None:
    """What a run leaves behind is not the next one's: weights that nobody used, sums that nobody read."""
    host = await begin(dut, "leftovers")
    matmul = SMALL.of(Opcode.MATMUL)[0]
    weights = SMALL.command(SMALL.of(Opcode.WEIGHTS)[0])[1]
    rescale = {"positions": 16, "channels": 3, "destination": 0, "pixel_pitch": 3, "high": 15}
    odd = (
        SMALL.changed(SMALL.of(Opcode.WEIGHTS)[-1], beats=9).having(expected=SMALL.expected),
        bare((Opcode.WEIGHTS, {"memory_address": SOURCE, "beats": 20}), source=PATTERN),
        bare((Opcode.RESCALE_SBNQ, rescale)),
        bare(
            (Opcode.RESCALE_SBNQ, rescale | {"bank": 1}),
            (Opcode.RESCALE_SBNQ, rescale | {"low": 5, "high": -5}),
        ),
        bare(
            (Opcode.WEIGHTS, {"memory_address": SOURCE, "beats": weights["beats"]}),
            (Opcode.MATMUL, SMALL.command(matmul)[1] | {"wait_load": 0}),
            source=PATTERN,
        ),
    )
    for work in odd:
        for _ in range(2):
            await host.run(work)
        await host.run(LARGE)
        await host.run(SMALL)


@cocotb.test()
async def marks(dut: Any) -> None:
    """A time stamp for each marked command, also where two complete in one cycle; the last place is written anew."""
    host = await begin(dut, "marks")
    beat = {"memory_address": SOURCE, "row_bytes": 8, "rows": 1, "mark": 1}
    many = bare(*[(Opcode.LOAD, beat)] * 300, source=PATTERN)
    await host.run(many)
    stamps = [await host.read(Register.MARKS + 4 * place) for place in range(256)]
    cycles = await host.read(Register.CYCLES)
    assert all(0 < first < second <= cycles for first, second in pairwise(stamps))
    assert stamps[255] > stamps[254] + 200, "the last place is not the last command's"

    met = 0
    for kernel in range(1, 60):
        pool = {
            "width_elements": 16, "height": 1, "output_rows": 1, "output_columns": 1, "kernel_rows": 1,
            "kernel_columns": kernel, "chunks": 1, "channels": 1, "mark": 1, "destination": 64,
        }  # fmt: skip
        before = int(dut.together.value)
        store = {"memory_address": OUTPUTS, "row_bytes": 8, "rows": 1, "mark": 1, "scratchpad_address": 0}
        work = bare(
            (Opcode.LOAD, beat | {"mark": 0}),
            (Opcode.STORE, store | {"wait_load": 1}),
            (Opcode.MAX_POOL, pool),
            (Opcode.LOAD, beat | {"wait_pool": 1, "wait_store": 1}),
            source=PATTERN,
            outputs=PATTERN[:8],
        )
        await host.run(work)
        await host.cycles(1)
        together = int(dut.together.value) - before
        stamps = [await host.read(Register.MARKS + 4 * place) for place in range(3)]
        cycles = await host.read(Register.CYCLES)
        assert stamps == sorted(stamps), stamps
        assert 0 < stamps[0] <= stamps[1] < stamps[2] <= cycles
        assert stamps[2] > cycles - 8, f"{stamps} of {cycles}: the last mark is not in the third place"
        assert (stamps[1] - stamps[0] <= 1) >= bool(together)
        met += bool(together)
    assert met, "no two commands completed in one cycle"


@cocotb.test()
async def chunks_without_end(dut: Any) -> None:
    """A pooling's chunks past its last channel write nothing, however many they are."""
    host = await begin(dut, "chunks")
    lanes = CONFIG.vector_lanes
    store = {"memory_address": OUTPUTS, "row_bytes": 8, "rows": 1, "scratchpad_address": 64, "wait_pool": 1}
    pool = {
        "width_elements": lanes, "height": 1, "output_rows": 1, "output_columns": 1, "kernel_rows": 1,
        "kernel_columns": 1, "chunks": (1 << 17) // lanes + 2, "channels": 16, "pad": 9, "destination": 64,
        "wait_load": 1,
    }  # fmt: skip
    load = {"memory_address": SOURCE, "row_bytes": 8, "rows": 1}
    work = bare(
        (Opcode.LOAD, load),
        (Opcode.MAX_POOL, pool),
        (Opcode.STORE, store),
        source=PATTERN,
        outputs=PATTERN[:8],
    )
    await host.run(work)


@cocotb.test()
async def faults_that_meet(dut: Any) -> None:
    """Of several faults one is kept, whole: the one of the command that came to it first."""
    host = await begin(dut, "several")
    for _ in range(12):
        host.pause_at_random()
        window = Fault(Cause.READ_WINDOW, 1, SMALL.read_window[1])
        unknown = Fault(Cause.ILLEGAL_OPCODE, 2)
        store = Fault(Cause.WRITE_WINDOW, 0, SMALL.read_window[0])
        work = SMALL.replaced(
            0, isa.encode(Opcode.STORE, {"memory_address": SMALL.read_window[0], "row_bytes": 8, "rows": 1})
        )
        work = work.replaced(1, isa.encode(Opcode.WEIGHTS, {"memory_address": window.address, "beats": 1}))
        work = work.replaced(2, bytes(64))
        await host.launch(work)
        await host.interrupt()
        assert await host.fault() in (window, unknown, store)
        host.check_memory(work, whole=False)
        await host.run(SMALL)
