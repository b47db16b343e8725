"""Runs a program on simulated machines, several at once, and compares every tensor with golden."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

import golden
from compiler.program import Program
from hdl.config import AcceleratorConfig
from network import Network
from sim.build import build
from sim.machine import Simulator

BATCH = 25
"""Inferences that a worker runs between two reports."""


@dataclass(frozen=True)
class Difference:
    """The first element that differs: which inference, layer and index, and both values."""

    inference: int
    layer: str
    tensor: str
    index: tuple[int, ...]
    hardware: int
    golden: int


@dataclass
class RunResult:
    """What `run` found.

    `cycles`, `layer_cycles` and `counters` are of one inference (the mean, should they differ); `mismatches` counts
    differing elements over all tensors and inferences, None where nothing was compared. `simulated_cycles` and
    `seconds` are summed over the workers, so that their quotient is the speed of one core.
    """

    inferences: int
    outputs: dict[str, npt.NDArray]
    cycles: float
    layer_cycles: list[float]
    counters: dict[str, float]
    mismatches: int | None
    difference: Difference | None
    simulated_cycles: int
    seconds: float
    golden_overflows: dict[str, int] = field(default_factory=dict)


@dataclass
class _Part:
    """A batch's share of the result."""

    first: int
    outputs: dict[str, list[npt.NDArray]]
    cycles: list[int]
    layer_cycles: list[tuple[int, ...]]
    counters: list[Mapping[str, int]]
    mismatches: int
    difference: Difference | None
    simulated_cycles: int
    seconds: float
    overflows: dict[str, int]


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know."""

    library: Path
    config: AcceleratorConfig
    program: Program
    network: Network
    check: bool
    trace: Path | None


class _Worker:
    def __init__(self, job: _Job) -> None:
        self._job = job
        self._simulator = Simulator(job.library, job.config, job.program, job.trace)

    def run(self, first: int, inputs: Mapping[str, npt.NDArray]) -> _Part:
        job, simulator = self._job, self._simulator
        count = len(next(iter(inputs.values())))
        began, cycles = time.perf_counter(), simulator.cycles
        runs = [simulator.infer({name: batch[i] for name, batch in inputs.items()}) for i in range(count)]
        seconds = time.perf_counter() - began
        part = _Part(
            first=first,
            outputs={name: [run.outputs[name] for run in runs] for name in runs[0].outputs},
            cycles=[run.cycles for run in runs],
            layer_cycles=[run.layer_cycles for run in runs],
            counters=[run.counters for run in runs],
            mismatches=0,
            difference=None,
            simulated_cycles=simulator.cycles - cycles,
            seconds=seconds,
            overflows={},
        )
        if job.check:
            expected = golden.run(job.network, inputs)
            part.overflows = dict(expected.overflows)
            for layer in job.network.layers:
                self._compare(part, layer.name, layer.output, expected.tensors, [run.tensors for run in runs])
            for name in job.program.outputs:
                self._compare(
                    part, "output", name.tensor, expected.tensors, [run.outputs for run in runs], count=False
                )
        return part

    def close(self) -> None:
        self._simulator.close()

    @staticmethod
    def _compare(part: _Part, layer: str, tensor: str, expected, computed, count: bool = True) -> None:
        """Adds the differing elements of one tensor. Outputs that a layer wrote on chip count once."""
        hardware = np.stack([tensors[tensor] for tensors in computed])
        wrong = np.asarray(hardware != expected[tensor])
        differing = int(wrong.sum())
        if not differing:
            return
        part.mismatches += differing if count or not part.mismatches else 0
        index = tuple(int(place) for place in np.argwhere(wrong)[0])
        candidate = Difference(
            part.first + index[0],
            layer,
            tensor,
            index[1:],
            int(hardware[index]),
            int(expected[tensor][index]),
        )
        if part.difference is None or candidate.inference < part.difference.inference:
            part.difference = candidate


_worker: _Worker | None = None


def _start(job: _Job) -> None:
    """In a worker process: Ctrl-C is the parent's to handle."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = _Worker(job)


def _run_part(first: int, inputs: Mapping[str, npt.NDArray]) -> _Part:
    assert _worker is not None
    return _worker.run(first, inputs)


def run(
    network: Network,
    program: Program,
    config: AcceleratorConfig,
    inputs: Mapping[str, npt.NDArray],
    *,
    jobs: int = 1,
    check: bool = True,
    trace: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> RunResult:
    """Runs `program` on each of the inferences along the first axis of `inputs`.

    Parameters
    ----------
    jobs : worker processes; 1 runs in this one
    check : compare every tensor with golden
    trace : an FST file of all that is run; for one job
    progress : called with the number of inferences that are done

    Raises
    ------
    NetworkError
        Where an input is of another shape or range.
    sim.machine.MachineStopped, sim.build.BuildError, sim.verilator.VerilatorNotFound
    """
    count = len(next(iter(inputs.values())))
    library = build(config, trace is not None)
    job = _Job(library, config, program, network, check, trace)
    size = max(1, min(BATCH, -(-count // max(jobs, 1))))
    batches = [
        (first, {name: values[first : first + size] for name, values in inputs.items()})
        for first in range(0, count, size)
    ]
    parts: list[_Part] = []
    runner = _serial(job, batches) if jobs == 1 or trace is not None else _parallel(job, batches, jobs)
    done = 0
    for part in runner:
        parts.append(part)
        done += len(part.cycles)
        progress(done)
    return _joined(sorted(parts, key=lambda part: part.first), check)


def _serial(job: _Job, batches) -> Iterator[_Part]:
    worker = _Worker(job)
    try:
        for first, inputs in batches:
            yield worker.run(first, inputs)
    finally:
        worker.close()


def _parallel(job: _Job, batches, jobs: int) -> Iterator[_Part]:
    """A few batches a worker are handed out at a time, so that an interrupt has little to wait for."""
    # numpy's own threads would fight with the workers for the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(batches))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(job,))
    waiting: set[Future[_Part]] = set()
    remaining = iter(batches)
    try:
        while True:
            while len(waiting) < 2 * workers and (batch := next(remaining, None)) is not None:
                waiting.add(pool.submit(_run_part, *batch))
            if not waiting:
                break
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _joined(parts: list[_Part], check: bool) -> RunResult:
    cycles = [value for part in parts for value in part.cycles]
    layers = np.array([value for part in parts for value in part.layer_cycles], np.float64)
    counters = [value for part in parts for value in part.counters]
    overflows: dict[str, int] = {}
    for part in parts:
        for name, number in part.overflows.items():
            overflows[name] = overflows.get(name, 0) + number
    differences = [part.difference for part in parts if part.difference is not None]
    return RunResult(
        inferences=len(cycles),
        outputs={
            name: np.stack([value for part in parts for value in part.outputs[name]]) for name in parts[0].outputs
        },
        cycles=float(np.mean(cycles)),
        layer_cycles=[float(value) for value in layers.mean(axis=0)],
        counters={name: float(np.mean([counter[name] for counter in counters])) for name in counters[0]},
        mismatches=sum(part.mismatches for part in parts) if check else None,
        difference=differences[0] if differences else None,
        simulated_cycles=sum(part.simulated_cycles for part in parts),
        seconds=sum(part.seconds for part in parts),
        golden_overflows=overflows,
    )
