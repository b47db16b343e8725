"""What runs to its end: right outputs, and counters that are so."""

from itertools import pairwise
from typing import Any

import cocotb
import numpy as np

from intaglio.network import FullyConnected
from intaglio.sim.system.programs import CONFIG, UNSET, at, bare, job, network, overflowing
from intaglio.sim.system.setting import ENGINES, LARGE, PATTERN, SMALL, begin, check_counters, until
from intaglio.spec.commands import COMMAND_BYTES, Engine, Opcode
from intaglio.spec.regions import Region
from intaglio.spec.registers import STATUS_DONE, Register


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
        marks = [await host.read(Register.MARKS + 4 * layer.mark) for layer in work.compiled.layers]
        assert 0 < marks[0] <= marks[1] <= marks[2] <= cycles
        for engine in Engine:
            busy = await host.read(Register[f"BUSY_{engine.name}"])
            assert 0 < busy < cycles or (engine not in ENGINES and not busy)
        if turn == 1:
            await host.acknowledge()
            assert await host.read(Register.STATUS) == STATUS_DONE


@cocotb.test()
async def bursts_in_flight(dut: Any) -> None:
    """While memory answers nothing, as many bursts are open as are stated, and not one more."""
    host = await begin(dut, "in flight")
    stated = int(dut.stated_open.value)
    rows = {"row_bytes": 8, "rows": 30, "memory_pitch": 8, "scratchpad_pitch": 16}
    work = bare(
        (Opcode.LOAD, rows | {**at(Region.INPUT)}),
        (Opcode.STORE, rows | {**at(Region.OUTPUT), "wait_load": 1}),
        source=PATTERN[:240],
        outputs=PATTERN[:240],
    )
    for channel in ("ar", "aw", "w"):
        host.channels[channel].queue_occupancy_limit = 2 * stated
    host.pause({"ar": 0, "r": 0, "aw": 0, "w": 0, "b": 1})
    await host.launch(work)
    commands = work.count * COMMAND_BYTES // 8
    await until(host, lambda: int(dut.r_beats.value) - host.before["r_beats"] >= commands)
    host.pause({"ar": 0, "r": 1, "aw": 0, "w": 0, "b": 1})
    for open_now in (dut.reads_open, dut.writes_open):
        await until(host, lambda open_now=open_now: int(open_now.value) == stated)
        for _ in range(100):
            assert int(open_now.value) == stated, "a burst more than stated, or one answered by nobody"
            await host.cycles(1)
        host.pause({"ar": 0, "r": 0, "aw": 0, "w": 0, "b": 1})
    host.pause(0.0)
    await host.finish(work)


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
        load = both | {**at(Region.INPUT, first_in), "memory_pitch": pitch_in % 2**32}
        store = both | {**at(Region.OUTPUT, first_out), "memory_pitch": pitch_out % 2**32}
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
        (layer,) = net.layers
        assert isinstance(layer, FullyConnected)
        work = job(net, seed)
        assert work.overflows
        await host.run(work)
        binding = work.compiled.inputs[0]
        start = work.address(binding.region, binding.offset) - work.base
        stored = np.frombuffer(work.memory[start : start + binding.bytes], np.uint8)
        values = binding.unpack(stored).reshape(-1)
        lost = 0
        for weights in layer.weights:
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


@cocotb.test()
async def leftovers(dut: Any) -> None:
    """What a run leaves behind is not the next one's: weights that nobody used, sums that nobody read."""
    host = await begin(dut, "leftovers")
    matmul = SMALL.of(Opcode.MATMUL)[0]
    weights = SMALL.command(SMALL.of(Opcode.WEIGHTS)[0])[1]
    rescale = {"positions": 16, "columns": 16, "channels": 3, "destination": 0, "pixel_pitch": 3, "high": 15}
    odd = (
        SMALL.changed(SMALL.of(Opcode.WEIGHTS)[-1], beats=9).having(expected=SMALL.expected),
        bare(
            (Opcode.WEIGHTS, {**at(Region.INPUT), "beats": 20, "times": 1, "stretches": 1}),
            source=PATTERN,
        ),
        bare((Opcode.RESCALE, rescale)),
        bare(
            (Opcode.RESCALE, rescale | {"bank": 1}),
            (Opcode.RESCALE, rescale | {"low": 5, "high": -5}),
        ),
        bare(
            (Opcode.WEIGHTS, weights | {**at(Region.INPUT)}),
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
async def chunks_without_end(dut: Any) -> None:
    """A pooling's chunks past its last channel write nothing, however many they are."""
    host = await begin(dut, "chunks")
    lanes = CONFIG.vector_lanes
    store = {**at(Region.OUTPUT), "row_bytes": 8, "rows": 1, "scratchpad_address": 64, "wait_pool": 1}
    pool = {
        "width_elements": lanes, "height": 1, "output_rows": 1, "output_columns": 1, "kernel_rows": 1,
        "kernel_columns": 1, "chunks": (1 << 17) // lanes + 2, "channels": 16, "pad": 9, "destination": 64,
        "wait_load": 1,
    }  # fmt: skip
    load = {**at(Region.INPUT), "row_bytes": 8, "rows": 1}
    work = bare(
        (Opcode.LOAD, load),
        (Opcode.MAX_POOL, pool),
        (Opcode.STORE, store),
        source=PATTERN,
        outputs=PATTERN[:8],
    )
    await host.run(work)


@cocotb.test()
async def marks(dut: Any) -> None:
    """A time stamp for each marked command, also where two complete in one cycle; the last place is written anew."""
    host = await begin(dut, "marks")
    beat = {**at(Region.INPUT), "row_bytes": 8, "rows": 1, "mark": 1}
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
        store = {**at(Region.OUTPUT), "row_bytes": 8, "rows": 1, "mark": 1, "scratchpad_address": 0}
        work = bare(
            (Opcode.LOAD, beat | {"mark": 0}),
            (Opcode.MAX_POOL, pool),
            (Opcode.STORE, store | {"wait_load": 1}),
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
