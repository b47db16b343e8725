"""Runs a program on machines, several at once, and compares every tensor with golden."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio import golden
from intaglio.compiler import LayerInfo, Program
from intaglio.network import Network
from intaglio.network.inputs import check_batch
from intaglio.sim.simulator.build import build
from intaglio.sim.simulator.functional.backend import FunctionalMachine, batch_size
from intaglio.sim.simulator.inferences import Inferences
from intaglio.sim.simulator.machine import Inference, MachineStopped, Simulator
from intaglio.spec.config import AcceleratorConfig

BATCH = 25
"""Inferences that a worker simulates between two reports."""
BACKENDS = ("rtl", "functional")
"""What runs a program: the machine's Verilog in Verilator, or its commands in numpy."""

Batch = Mapping[str, npt.NDArray]


class WorkerLost(RuntimeError):
    """A worker process was ended by something else; one line."""


@dataclass(frozen=True)
class Difference:
    """The first element that differs: which inference, layer and index, and both values."""

    inference: int
    layer: str
    tensor: str
    index: tuple[int, ...]
    hardware: int
    golden: int


@dataclass(frozen=True)
class RunResult:
    """What `run` found.

    Attributes
    ----------
    outputs : the stored integers, by tensor name, batch first
    cycles, layer_cycles, counters : of one inference (the mean, should they differ); the layers' add up to `cycles`.
        The functional backend counts no cycles: None, and nothing; of the counters it has those that no time is in
    mismatches : differing elements over all tensors and inferences; None where nothing was compared
    difference : the first of them: of the first inference, in the first layer
    tensors : how many tensors of an inference were compared
    simulated_cycles, seconds : clock cycles simulated, and the processors' time that it took, of all workers
    warnings : what a user should know of, one line each
    """

    inferences: int
    outputs: Mapping[str, npt.NDArray]
    layers: tuple[LayerInfo, ...]
    cycles: float | None
    layer_cycles: tuple[float, ...]
    counters: Mapping[str, float]
    mismatches: int | None
    difference: Difference | None
    tensors: int
    simulated_cycles: int
    seconds: float
    warnings: tuple[str, ...]
    backend: str = "rtl"

    @property
    def counted_cycles(self) -> float:
        """`cycles`, where they were counted. Raises ValueError where not."""
        if self.cycles is None:
            raise ValueError(f"the backend {self.backend} counts no cycles: run on rtl")
        return self.cycles

    @property
    def cycles_per_second(self) -> float:
        """Of one core."""
        return self.simulated_cycles / self.seconds if self.seconds else 0.0


@dataclass
class _Part:
    """A batch's share of the result."""

    first: int
    outputs: Mapping[str, npt.NDArray]
    cycles: Sequence[int]
    layer_cycles: Sequence[tuple[int, ...]]
    counters: Sequence[Mapping[str, int]]
    simulated_cycles: int
    seconds: float
    mismatches: int = 0
    difference: Difference | None = None


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know."""

    library: Path | None
    """None: the functional backend."""
    config: AcceleratorConfig
    program: Program
    network: Network
    check: bool
    trace: Path | None


class _Simulated:
    """The backend `rtl`: inferences one after the other."""

    def __init__(self, job: _Job, library: Path) -> None:
        self._simulator = Simulator(library, job.config, job.program, job.trace)

    def run(self, first: int, inputs: Batch) -> Inferences:
        count = len(next(iter(inputs.values())))
        return Inferences.of(
            [self._infer(first + i, {name: batch[i] for name, batch in inputs.items()}) for i in range(count)]
        )

    def _infer(self, number: int, inputs: Batch) -> Inference:
        try:
            return self._simulator.infer(inputs)
        except MachineStopped as error:
            raise MachineStopped(f"inference {number}: {error}") from None

    @property
    def cycles(self) -> int:
        return self._simulator.cycles

    def close(self) -> None:
        self._simulator.close()


class _Functional:
    """The backend `functional`: all inferences of a batch at once."""

    cycles = 0

    def __init__(self, job: _Job) -> None:
        self._machine = FunctionalMachine(job.program, job.config)

    def run(self, first: int, inputs: Batch) -> Inferences:
        try:
            return self._machine.infer(inputs)
        except MachineStopped as error:
            raise MachineStopped(f"inference {first}: {error}") from None

    def close(self) -> None:
        """Nothing is held."""


class _Worker:
    def __init__(self, job: _Job) -> None:
        self._job = job
        self._backend = _Functional(job) if job.library is None else _Simulated(job, job.library)

    def run(self, first: int, inputs: Batch) -> _Part:
        began, cycles = time.process_time(), self._backend.cycles
        runs = self._backend.run(first, inputs)
        part = _Part(
            first=first,
            outputs=runs.outputs,
            cycles=runs.cycles,
            layer_cycles=runs.layer_cycles,
            counters=runs.counters,
            simulated_cycles=self._backend.cycles - cycles,
            seconds=time.process_time() - began,
        )
        if self._job.check:
            self._compare(part, runs.tensors, golden.run(self._job.network, inputs).tensors)
        return part

    def _compare(
        self, part: _Part, found: Mapping[str, npt.NDArray], expected: Mapping[str, npt.NDArray]
    ) -> None:
        """Every tensor as it was written on chip, and the outputs as they were stored, too: an element counts once."""
        for layer in self._job.network.layers:
            tensor = layer.output
            seen = [found[tensor]]
            if tensor in part.outputs:
                seen.append(part.outputs[tensor])
            wrong = [values != expected[tensor] for values in seen]
            any_wrong = np.logical_or.reduce(wrong)
            if not any_wrong.any():
                continue
            part.mismatches += int(np.count_nonzero(any_wrong))
            where = tuple(int(place) for place in np.argwhere(any_wrong)[0])
            inference = part.first + where[0]
            if part.difference is None or inference < part.difference.inference:
                values = seen[0] if wrong[0][where] else seen[-1]
                part.difference = Difference(
                    inference, layer.name, tensor, where[1:], int(values[where]), int(expected[tensor][where])
                )

    def close(self) -> None:
        self._backend.close()


def run(
    network: Network,
    program: Program,
    config: AcceleratorConfig,
    inputs: Batch,
    *,
    backend: str = "rtl",
    jobs: int = 1,
    check: bool = True,
    trace: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> RunResult:
    """Runs `program` on each of the inferences along the first axis of `inputs`.

    Parameters
    ----------
    backend : one of BACKENDS; the functional one builds nothing and counts no cycles
    jobs : worker processes; 1 runs in this one
    check : compare every tensor with golden
    trace : an FST file of the first inference; all run in this process, then
    progress : called with the number of inferences that are done

    Raises
    ------
    NetworkError
        Where an input is missing, unknown, of another shape or range, or their counts differ or are 0.
    ValueError
        Where there is no such backend, a trace is wanted of the functional one, or the program lets a tensor go by
        without a probe.
    WorkerLost
        Where a worker process was ended by something else.
    MachineStopped
        Where the machine stopped itself, did not come to an end, or is not right: which inference, and why.
    BuildError, VerilatorNotFound
        As `intaglio.sim.simulator.build.build`.
    """
    count = _checked(network, program, inputs, backend, jobs, check, trace)
    functional = backend == "functional"
    library = None if functional else build(config, trace is not None)
    job = _Job(library, config, program, network, check, trace)
    size = max(1, min(batch_size(program, config) if functional else BATCH, -(-count // jobs)))
    batches = [
        (first, {name: values[first : first + size] for name, values in inputs.items()})
        for first in range(0, count, size)
    ]
    workers = 1 if trace is not None else min(jobs, len(batches))
    parts: list[_Part] = []
    done = 0
    with closing(_serial(job, batches) if workers == 1 else _parallel(job, batches, workers)) as results:
        for part in results:
            parts.append(part)
            done += len(part.counters)
            progress(done)
    parts.sort(key=lambda part: part.first)
    return _joined(parts, program, len({layer.output for layer in network.layers}), check, backend)


def run_alone(
    program: Program, config: AcceleratorConfig, inputs: Batch, backend: str = "rtl"
) -> tuple[Batch, Sequence[int]]:
    """The outputs of `program` on each of the inferences along the first axis of `inputs`, and the cycles of each where
    the backend counts them; with no golden model beside, in this process. Errors as those of `run`."""
    count = len(next(iter(inputs.values())))
    if backend == "functional":
        machine, size = FunctionalMachine(program, config), batch_size(program, config)
        parts = [
            machine.infer({name: batch[first : first + size] for name, batch in inputs.items()})
            for first in range(0, count, size)
        ]
        return Inferences.joined(parts).outputs, ()
    with Simulator(build(config), config, program) as simulator:
        runs = [simulator.infer({name: batch[i] for name, batch in inputs.items()}) for i in range(count)]
    return Inferences.of(runs).outputs, [run.cycles for run in runs]


def _checked(
    network: Network,
    program: Program,
    inputs: Batch,
    backend: str,
    jobs: int,
    check: bool,
    trace: Path | None,
) -> int:
    """How many inferences there are. Raises where `run` says that arguments are refused."""
    count = check_batch(network, inputs)
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, not {jobs}")
    if backend not in BACKENDS:
        raise ValueError(f"`backend` must be {' or '.join(BACKENDS)}, not {backend}")
    if backend == "functional" and trace is not None:
        raise ValueError("`trace` needs the backend rtl: the functional one has no signals")
    seen = {probe.tensor for probe in program.probes} | {binding.tensor for binding in program.spills}
    if check and (unprobed := {layer.output for layer in network.layers} - seen):
        raise ValueError(f"the program has no probe for {', '.join(sorted(unprobed))}")
    return count


def _serial(job: _Job, batches: Iterable[tuple[int, Batch]]) -> Generator[_Part, None, None]:
    with closing(_Worker(job)) as worker:
        for first, inputs in batches:
            yield worker.run(first, inputs)


_worker: _Worker | None = None


def _start(job: _Job, parent: int) -> None:
    """In a worker process."""
    global _worker
    if sys.platform == "linux":
        # A parent that is killed can end nobody: the kernel does.
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    _worker = _Worker(job)


def _run_part(first: int, inputs: Batch) -> _Part:
    if _worker is None:
        raise RuntimeError("a worker is used before its start")
    return _worker.run(first, inputs)


def _parallel(job: _Job, batches: Iterable[tuple[int, Batch]], workers: int) -> Generator[_Part, None, None]:
    """A few batches a worker are handed out at a time."""
    others = set(multiprocessing.active_children())
    started: set[BaseProcess] = set()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(job, os.getpid()))
    waiting: set[Future[_Part]] = set()
    remaining = iter(batches)
    try:
        while True:
            with _interrupts_held_back(), _one_thread_each():
                while len(waiting) < 2 * workers and (batch := next(remaining, None)) is not None:
                    waiting.add(pool.submit(_run_part, *batch))
                started |= set(multiprocessing.active_children()) - others
            if not waiting:
                break
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        pool.shutdown(wait=True)
        raise WorkerLost(_lost(process.exitcode for process in started)) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _lost(codes: Iterable[int | None]) -> str:
    """Why a worker is gone. The pool itself terminates the others."""
    code = next((code for code in codes if code not in (None, 0, -signal.SIGTERM)), None)
    if code == -signal.SIGKILL:
        how = "was killed, perhaps for want of memory"
    elif code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = "ended before its work did" + (f", with exit code {code}" if code else "")
    return f"a worker process {how}: use fewer `jobs`"


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C, which is this one's to handle; it comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """numpy's own threads, in processes that are started meanwhile, would fight with each other for the cores."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _joined(parts: list[_Part], program: Program, tensors: int, check: bool, backend: str) -> RunResult:
    cycles = [value for part in parts for value in part.cycles]
    layers = np.array([value for part in parts for value in part.layer_cycles], np.float64)
    counters = [value for part in parts for value in part.counters]
    warnings = list(program.warnings)
    if cycles and min(cycles) != max(cycles):
        warnings.append(
            f"cycles differ between inferences: {min(cycles):,} to {max(cycles):,}; the mean is shown"
        )
    overflowing = [counter["overflows"] for counter in counters if counter["overflows"]]
    if overflowing:
        warnings.append(
            f"{sum(overflowing):,} additions left the accumulator's range, in {len(overflowing):,} of "
            f"{len(counters):,} inferences: sums wrapped"
        )
    return RunResult(
        inferences=len(counters),
        outputs={name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
        layers=program.layers,
        cycles=float(np.mean(cycles)) if cycles else None,
        layer_cycles=tuple(float(value) for value in layers.mean(axis=0)) if cycles else (),
        counters={name: float(np.mean([counter[name] for counter in counters])) for name in counters[0]},
        mismatches=sum(part.mismatches for part in parts) if check else None,
        difference=next((part.difference for part in parts if part.difference is not None), None),
        tensors=tensors if check else 0,
        simulated_cycles=sum(part.simulated_cycles for part in parts),
        seconds=sum(part.seconds for part in parts),
        warnings=tuple(warnings),
        backend=backend,
    )
