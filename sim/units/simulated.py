"""The cocotb tests that run inside the simulator; `runner` starts it and reads `report.json`.

Signals are driven and sampled at the falling edge, in the middle of a cycle: what is seen there is what the unit
takes at the rising edge, whatever the order in which a simulator runs its callbacks.
"""

import json
import os
from collections import deque
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, Timer, ValueChange

from intaglio.sim.cocotb_runs import SPEC as VARIABLE
from intaglio.sim.units import benches
from intaglio.sim.units.bench import Configuration, stalls
from intaglio.sim.units.cases import Cases, pack, pack_bits, unpack_word

SPEC = json.loads(os.environ[VARIABLE])
SEED: int = SPEC["seed"]
QUICK: bool = SPEC["quick"]
BENCH = benches.load(SPEC["bench"])
CONFIGURATIONS = [c for c in BENCH.configurations if c.name in SPEC["configurations"]]
REPORT = Path("report.json")

PERIOD_NS = 2
STREAM_CASES = 300
PATIENCE_CYCLES = 500


def start_clock(dut) -> None:
    Clock(dut.clk, PERIOD_NS, unit="ns", impl="gpi").start()


def note(configuration: Configuration, **facts) -> None:
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    report.setdefault(configuration.name, {}).update(facts)
    REPORT.write_text(json.dumps(report))


# streams: drivers and monitors in Python


class Source:
    """Offers words on a stream; a word once offered stays until it is taken."""

    def __init__(self, stand, prefix: str, words: list[int], random) -> None:
        self.valid = getattr(stand, f"manual_{prefix}valid")
        self.payload = getattr(stand, f"manual_{prefix}payload")
        self.words = words
        self.random = random
        self.offered = False
        self.position = 0
        self.chance = 1.0

    def drive(self, limit: int) -> None:
        """Settles what is offered in this cycle, of the words before `limit`."""
        if not self.offered:
            self.offered = self.position < min(limit, len(self.words)) and self.random.random() < self.chance
        self.valid.value = int(self.offered)
        if self.offered:
            self.payload.value = self.words[self.position]
        elif self.words:
            self.payload.value = ~self.words[self.position % len(self.words)] & ((1 << len(self.payload)) - 1)

    def taken(self) -> None:
        self.position += 1
        self.offered = False


class Streams:
    """One unit with a source, a sink, a monitor of the rules and a scoreboard."""

    def __init__(self, dut, index: int, configuration: Configuration, cases: Cases) -> None:
        self.name = configuration.name
        self.latency = configuration.latency
        self.clk = dut.clk
        self.stand = getattr(dut, f"s{index}")
        self.random = configuration.random(SEED + 1)
        inputs, brings, expected = _first(configuration, cases, STREAM_CASES)
        self.expected = expected
        self.brings = brings
        self.back_to_back = cases.back_to_back
        self.source = Source(self.stand, "i_", inputs, self.random)
        self.side = None
        if cases.side is not None:
            words = _words(pack_bits(cases.side))
            self.side = Source(getattr(dut, f"s{index}_w"), "", words, self.random)
        self.in_ready = getattr(dut, f"s{index}_ir")
        self.side_ready = getattr(dut, f"s{index}_wr") if self.side else self.in_ready
        self.out_valid = getattr(dut, f"s{index}_ov")
        self.out_payload = getattr(dut, f"s{index}_op")
        self.out_bits = len(self.out_payload) // configuration.lanes
        self.cycle = 0
        self.sink_chance = 1.0
        self.scoreboard: deque[tuple[int, int]] = (
            deque()
        )  # expected payload, cycle in which its input was taken
        self.received = 0
        self.waiting: int | None = None
        self.side_taken = 0

    async def step(self, limit: int, check_latency: bool = False, ready: bool | None = None) -> None:
        """One cycle: drive, look, and note what moves at the rising edge."""
        stand = self.stand
        self.source.drive(limit)
        if self.side:
            self.side.drive(len(self.side.words))
        stand.manual_o_ready.value = int(self.random.random() < self.sink_chance if ready is None else ready)
        await ReadOnly()
        valid, is_ready = int(self.out_valid.value) & 1, int(stand.manual_o_ready.value)
        payload = int(self.out_payload.value) & ((1 << self.out_bits) - 1) if valid else None
        if self.waiting is not None:
            assert valid, f"{self.name}: `valid` was taken back before `ready`, in cycle {self.cycle}"
            assert payload == self.waiting, (
                f"{self.name}: the payload changed before `ready`, in cycle {self.cycle}"
            )
        self.waiting = payload if valid and not is_ready else None
        if valid and is_ready:
            assert self.scoreboard, f"{self.name}: an output that nothing asked for, in cycle {self.cycle}"
            expected, taken = self.scoreboard.popleft()
            assert payload == expected, (
                f"{self.name}: output {self.received} is {payload:#x}, not {expected:#x}, in cycle {self.cycle}"
            )
            if check_latency:
                assert self.cycle - taken == self.latency, (
                    f"{self.name}: output {self.received} took {self.cycle - taken} cycles, not {self.latency}"
                )
            self.received += 1
        if self.source.offered and int(self.in_ready.value) & 1:
            if self.brings[self.source.position]:
                asked = sum(self.brings[: self.source.position])
                self.scoreboard.append((self.expected[asked], self.cycle))
            self.source.taken()
        if self.side and self.side.offered and int(self.side_ready.value):
            self.side.taken()
            self.side_taken += 1
        self.cycle += 1
        await FallingEdge(self.clk)

    async def reset(self) -> None:
        self.stand.manual_rst.value = 1
        await FallingEdge(self.clk)
        self.stand.manual_rst.value = 0
        self.scoreboard.clear()
        self.waiting = None
        self.received = 0
        for source in filter(None, (self.source, self.side)):
            source.position, source.offered = 0, False

    async def run(self) -> str:
        """What went wrong, or nothing."""
        try:
            await self.check()
        except Exception as error:  # whatever it is, the other units go on
            message = f"{type(error).__name__}: {error}"
            return message if self.name in message else f"{self.name}: {message}"
        finally:
            self.stand.manual.value = 0
        return ""

    async def check(self) -> None:
        stand = self.stand
        stand.manual.value = 1
        await FallingEdge(self.clk)
        await self.reset()

        # Full of values that were never taken out, the unit forgets them all when it is reset.
        for _ in range(PATIENCE_CYCLES if self.side else 2 * self.latency + 4):
            await self.step(2 * self.latency + 2, ready=False)
        await self.reset()

        # Nothing stalls: a value goes in every cycle, and each result comes out after the latency, no later.
        if self.side:
            for _ in range(PATIENCE_CYCLES):
                await self.step(0)
        for count in range(self.back_to_back):
            assert self.source.position == count, f"{self.name}: not ready in cycle {count} at full speed"
            await self.step(self.back_to_back, check_latency=True)
        for _ in range(self.latency):
            await self.step(self.back_to_back, check_latency=True)
        assert self.source.position == self.back_to_back
        assert self.received == sum(self.brings[: self.back_to_back]), f"{self.name}: results are missing"

        # Stalls of all habits.
        total = len(self.source.words)
        idle = 0
        while self.source.position < total or self.scoreboard:
            if self.cycle % 40 == 0:
                self.source.chance = self.random.choice([1.0, 0.5, 0.2])
                self.sink_chance = self.random.choice([1.0, 0.5, 0.2])
                if self.side:
                    self.side.chance = self.random.choice([1.0, 0.5])
            before = self.source.position, self.received, self.side_taken
            await self.step(total)
            idle = 0 if before != (self.source.position, self.received, self.side_taken) else idle + 1
            assert idle < PATIENCE_CYCLES, f"{self.name}: nothing moves"
        for _ in range(2 * self.latency + 4):
            await self.step(total, ready=True)
        assert not self.scoreboard
        assert self.received == len(self.expected), (
            f"{self.name}: {self.received} results, not {len(self.expected)}"
        )
        assert self.received > 20, f"{self.name}: only {self.received} results"


def _words(rows) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in rows]


def _first(configuration: Configuration, cases: Cases, count: int) -> tuple[list[int], list[bool], list[int]]:
    """The first inputs as words, whether each brings a result, and the results."""
    count = min(count, len(cases))
    inputs = _words(pack(configuration.in_shape, {k: v[:count] for k, v in cases.inputs.items()}))
    brings = [True] * count if cases.brings is None else [bool(b) for b in cases.brings[:count]]
    expected = _words(pack(configuration.out_shape, {k: v[: sum(brings)] for k, v in cases.expected.items()}))
    return inputs, brings, expected


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def streams(dut) -> None:
    """Latency, throughput and the rules of a stream, by drivers and monitors in Python."""
    cocotb.log.info("seed %d", SEED)
    start_clock(dut)
    await FallingEdge(dut.clk)
    # Python drives but the first few, so those of a quick run do.
    units = [
        Streams(dut, index, configuration, configuration.cases(SEED, True))
        for index, configuration in enumerate(CONFIGURATIONS)
    ]
    tasks = [cocotb.start_soon(unit.run()) for unit in units]
    failures = []
    for task, unit, configuration in zip(tasks, units, CONFIGURATIONS, strict=True):
        failure = await task
        note(configuration, streamed=unit.received, stream_failure=failure)
        failures += [failure] if failure else []
    assert not failures, "; ".join(failures)


# volume: files played by stand.v


class Volume:
    """One unit whose cases `stand.v` plays from files."""

    def __init__(self, dut, index: int, configuration: Configuration, cases: Cases) -> None:
        self.configuration = configuration
        self.cases = cases
        self.stand = getattr(dut, f"s{index}")
        lanes = configuration.lanes
        brings = np.ones(len(cases), bool) if cases.brings is None else cases.brings
        if lanes > 1 and cases.brings is not None:
            raise ValueError(
                f"`{configuration.name}` cannot have lanes: not each of its inputs brings a result"
            )
        inputs = _in_lanes(pack(configuration.in_shape, cases.inputs), lanes)
        flags = brings[::lanes][: len(inputs)].astype(np.uint8)[:, None]
        np.concatenate([flags, inputs], axis=1).tofile(f"stand{index}.i")
        outputs = _in_lanes(pack(configuration.out_shape, cases.expected), lanes)
        outputs.tofile(f"stand{index}.o")
        stalls(configuration.random(SEED + 2), configuration.latency).tofile(f"stand{index}.s")
        self.stand.words.value = len(inputs)
        self.stand.results.value = len(outputs)
        self.stand.limit.value = 20 * (len(inputs) + len(outputs)) + 100_000
        self.gate = None
        if cases.side is not None:
            side = pack_bits(cases.side)
            side.tofile(f"stand{index}.w")
            getattr(dut, f"s{index}_w").words.value = len(side)
            self.gate = getattr(dut, f"s{index}_gate")

    def outcome(self) -> str:
        """What went wrong, or nothing."""
        stand, configuration = self.stand, self.configuration
        counts = {
            "outputs that nothing asked for": int(stand.extras.value),
            "cycles with a wrong `ready`": int(stand.ready_errors.value),
            "cycles with a wrong `valid`": int(stand.valid_errors.value),
            "cycles in which the weights' `ready` is wrong": int(stand.side_errors.value),
        }
        faults = [f"{count} {what}" for what, count in counts.items() if count]
        if int(stand.hang.value):
            faults.append(f"hangs after {int(stand.received.value)} results")
        elif int(stand.received.value) != int(stand.results.value):
            faults.append(f"{int(stand.received.value)} results, not {int(stand.results.value)}")
        if mismatches := int(stand.mismatches.value):
            faults.append(f"{mismatches} cycles with a wrong result, first {self._first_mismatch()}")
        return f"{configuration.name}: {'; '.join(faults)}" if faults else ""

    def _first_mismatch(self) -> str:
        shape, lanes = self.configuration.out_shape, self.configuration.lanes
        word = int(self.stand.first_mismatch.value)
        got = int(self.stand.first_got.value)
        outputs = _in_lanes(pack(shape, self.cases.expected), lanes)
        bits = outputs.shape[1] // lanes * 8
        wanted = int.from_bytes(outputs[word].tobytes(), "big")
        mask = (1 << bits) - 1
        lane = next((k for k in range(lanes) if (got ^ wanted) >> (k * bits) & mask), 0)
        position = word * lanes + lane
        brings = self.cases.brings
        case = position if brings is None else int(np.flatnonzero(brings)[position])
        case = min(case, len(self.cases) - 1)
        fields = {k: v[case].tolist() for k, v in self.cases.inputs.items()}
        return (
            f"case {case} {fields}: {unpack_word(shape, got >> (lane * bits) & mask)},"
            f" not {unpack_word(shape, wanted >> (lane * bits) & mask)}"
        )

    def bins(self) -> dict[str, int]:
        """The cases' own, and those of the flow through each stage."""
        stand, latency = self.stand, self.configuration.latency
        bins = dict(self.cases.bins)
        for stage in range(latency):
            bins[f"stage {stage + 1} stalled while full"] = int(stand.stalled[stage].value)
        for stage in range(latency - 1):
            bins[f"stage {stage + 1} filled behind a stall"] = int(stand.filled[stage].value)
        bins["all stages full and stalled"] = int(stand.all_full.value)
        bins["all stages full and moving"] = int(stand.full_speed.value)
        if self.gate is not None:
            bins["swaps that waited for weights"] = int(self.gate.waited.value)
            bins["swaps with the weights in time"] = int(self.gate.in_time.value)
        return bins


def _in_lanes(rows, lanes: int):
    """Rows of `lanes` cases, the first case last; the last case again where a row is not full."""
    if lanes == 1:
        return rows
    missing = -len(rows) % lanes
    padded = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
    return padded.reshape(-1, lanes, rows.shape[1])[:, ::-1].reshape(-1, lanes * rows.shape[1])


async def play(volumes: list[Volume], *, stop_early: bool) -> None:
    """Runs all stands at once, to their ends."""
    for volume in volumes:
        volume.stand.stop_early.value = int(stop_early)
        volume.stand.start.value = 1
    for volume in volumes:
        if not int(volume.stand.done.value):
            await ValueChange(volume.stand.done)


async def rewind(volumes: list[Volume]) -> None:
    for volume in volumes:
        volume.stand.start.value = 0
    await Timer(4 * PERIOD_NS, "ns")


@cocotb.test(timeout_time=1000, timeout_unit="ms")
async def volume(dut) -> None:
    """All cases, in every lane, cycle by cycle, by `stand.v`."""
    cocotb.log.info("seed %d", SEED)
    start_clock(dut)
    volumes = [
        Volume(dut, index, configuration, configuration.cases(SEED, QUICK))
        for index, configuration in enumerate(CONFIGURATIONS)
    ]
    await Timer(PERIOD_NS, "ns")
    await play(volumes, stop_early=False)
    failures = []
    for each in volumes:
        outcome, bins = each.outcome(), each.bins()
        missed = [name for name, count in bins.items() if not count]
        if missed:
            outcome = "; ".join(
                filter(None, [outcome, f"{each.configuration.name}: no case for {', '.join(missed)}"])
            )
        note(
            each.configuration,
            cases=len(each.cases),
            transfers=int(each.stand.received.value) * each.configuration.lanes,
            cycles=int(each.stand.cycles.value),
            bins=bins,
            outcome=outcome,
        )
        if outcome:
            failures.append(outcome)
    assert not failures, "; ".join(failures)
