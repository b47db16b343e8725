"""All benches in one run and one table: `python -m intaglio.sim`, and the same for the units or the engines alone."""

import argparse
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from intaglio.sim.bus import run as bus
from intaglio.sim.engines import benches as engine_benches
from intaglio.sim.engines import runner as engine_runner
from intaglio.sim.outcome import Outcome, table
from intaglio.sim.simulator.verilator import VerilatorNotFound
from intaglio.sim.system import run as system
from intaglio.sim.units import benches as unit_benches
from intaglio.sim.units import runner as unit_runner

__all__ = ["ROOMS", "main"]

ROOMS = {
    "units": unit_benches.NAMES,
    "engines": engine_benches.NAMES,
    "bus": ("bus",),
    "system": ("system",),
}
"""Benches by room, in the table's order."""


@dataclass(frozen=True)
class Task:
    """What is built and run together."""

    names: Sequence[str]
    run: Callable[[], list[Outcome]]


def main(rooms: Sequence[str] = tuple(ROOMS), arguments: Sequence[str] | None = None) -> int:
    """The command line of some rooms' benches; 0 if all are right, 1 if one is not, 2 if there is no such bench.

    Parameters
    ----------
    rooms : whose benches run if none is named
    arguments : of the command line; the process's own if None
    """
    given = _parse(rooms, arguments)
    console = Console()
    console.width = max(console.width, 100)  # a log has room for the names
    started = time.perf_counter()
    try:
        tasks = _tasks(given)
    except ValueError as error:
        console.print(escape(str(error)), style="red")
        return 2
    outcomes = _run(tasks, given, console)
    console.print(table(outcomes))
    for outcome in outcomes:
        if outcome.failure:
            console.print(
                escape(f"{outcome.bench} {outcome.name}: {outcome.failure}"), style="red", soft_wrap=True
            )
    failed = sum(bool(outcome.failure) for outcome in outcomes)
    console.print(
        f"{len(outcomes) - failed} of {len(outcomes)} right, seed {given.seed}, {time.perf_counter() - started:.0f} s"
    )
    return 1 if failed else 0


def _run(tasks: Sequence[Task], given: argparse.Namespace, console: Console) -> list[Outcome]:
    """Some tasks at a time; what became of them, in their order."""
    outcomes: dict[int, list[Outcome]] = {}
    # The work is done in processes of their own; a thread waits for each. The longest come first.
    with ThreadPoolExecutor(given.jobs) as pool, console.status("") as status:
        running = {pool.submit(task.run): place for place, task in reversed(list(enumerate(tasks)))}
        waiting = [name for task in tasks for name in task.names]
        status.update(f"running {', '.join(waiting)}")
        for done in as_completed(running):
            place = running[done]
            names = tasks[place].names
            try:
                outcomes[place] = done.result()
            except (RuntimeError, ValueError, VerilatorNotFound) as error:
                outcomes[place] = [Outcome(name, name, given.seed, failure=str(error)) for name in names]
            waiting = [name for name in waiting if name not in names]
            status.update(f"running {', '.join(waiting)}")
    return [outcome for place in sorted(outcomes) for outcome in outcomes[place]]


def _parse(rooms: Sequence[str], arguments: Sequence[str] | None) -> argparse.Namespace:
    known = [name for room in rooms for name in ROOMS[room]]
    every = len(rooms) > 1
    parser = argparse.ArgumentParser(
        prog="python -m intaglio.sim" + ("" if every else f".{rooms[0]}"),
        description="Simulates the hardware's parts, each against a model of its own.",
    )
    choices = f"{', '.join(rooms)}; or of {', '.join(known)}" if every else f"{', '.join(known)}"
    parser.add_argument("bench", nargs="*", help=f"of {choices}; all if none is named")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this configuration alone"
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(2**31), help="a random one if not given"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="simulations at a time")
    parser.add_argument("--quick", action="store_true", help="fewer random cases")
    parser.add_argument(
        "--verilog",
        type=Path,
        metavar="DIR",
        help="take the units' Verilog from DIR, such as build/verilog, where it has a unit's file",
    )
    given = parser.parse_args(arguments)
    if given.seed < 0 or given.jobs < 1:
        parser.error("--seed must be 0 or more and --jobs 1 or more")
    chosen = [name for bench in given.bench for name in (ROOMS[bench] if bench in rooms else [bench])]
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no bench {', '.join(unknown)}: there are {choices}")
    given.names = [name for name in known if name in chosen or not chosen]
    return given


def _tasks(given: argparse.Namespace) -> list[Task]:
    """What is to be run. Raises ValueError for a configuration that no chosen bench has."""
    tasks, found = [], set()

    def only(benches: Sequence[Any]) -> list[str]:
        names = [c.name for bench in benches for c in bench.configurations if c.name in given.only]
        found.update(names)
        return names

    for name in unit_benches.NAMES:
        bench = unit_benches.load(name)
        if name in given.names and (only([bench]) or not given.only):
            options = {"quick": given.quick, "names": only([bench]), "replaced": given.verilog}
            tasks.append(Task([name], partial(unit_runner.run, bench, given.seed, **options)))
    for group in engine_benches.GROUPS:
        benches = [engine_benches.load(name) for name in group if name in given.names]
        if given.only:
            benches = [bench for bench in benches if only([bench])]
        if benches:
            run = partial(engine_runner.run, benches, given.seed, quick=given.quick, names=only(benches))
            tasks.append(Task([bench.name for bench in benches], run))
    if unknown := set(given.only) - found:
        raise ValueError(f"no chosen bench has a configuration {', '.join(sorted(unknown))}")
    for name, room in (("bus", bus), ("system", system)):
        if name in given.names and not given.only:
            tasks.append(Task([name], partial(_whole, name, room.run, given.seed)))
    return tasks


def _whole(name: str, run: Callable[..., int], seed: int) -> list[Outcome]:
    """All tests of a bench that has no configurations."""
    started = time.perf_counter()
    count = run(seed=seed)
    return [Outcome(name, "all tests", seed, cases=count, seconds=time.perf_counter() - started)]
