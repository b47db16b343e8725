"""The benches' command line: `python -m intaglio.sim.units [BENCH …]`."""

import argparse
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intaglio.sim.simulator.verilator import VerilatorNotFound
from intaglio.sim.units import benches
from intaglio.sim.units.runner import Outcome, run


def main() -> int:
    arguments = _parse()
    console = Console()
    console.width = max(console.width, 100)  # a log has room for the names
    started = time.perf_counter()
    try:
        chosen = [benches.load(name) for name in arguments.bench or benches.NAMES]
    except ValueError as error:
        console.print(escape(str(error)), style="red")
        return 2
    outcomes: dict[str, list[Outcome]] = {}
    # The work is done in processes of their own; a thread waits for each.
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {
            pool.submit(
                run,
                bench,
                arguments.seed,
                quick=arguments.quick,
                names=arguments.only,
                replaced=arguments.verilog,
            ): bench.name
            for bench in chosen
        }
        with console.status("") as status:
            waiting = set(running.values())
            status.update(f"running {', '.join(sorted(waiting))}")
            for done in as_completed(running):
                name = running[done]
                try:
                    outcomes[name] = done.result()
                except (RuntimeError, ValueError, VerilatorNotFound) as error:
                    outcomes[name] = [Outcome(name, name, arguments.seed, failure=str(error))]
                waiting.discard(name)
                status.update(f"running {', '.join(sorted(waiting))}")

    everything = [outcome for bench in chosen for outcome in outcomes[bench.name]]
    console.print(_table(everything))
    for outcome in everything:
        if outcome.failure:
            console.print(
                escape(f"{outcome.bench} {outcome.name}: {outcome.failure}"), style="red", soft_wrap=True
            )
    failed = sum(bool(outcome.failure) for outcome in everything)
    console.print(
        f"{len(everything) - failed} of {len(everything)} configurations right, seed {arguments.seed},"
        f" {time.perf_counter() - started:.0f} s"
    )
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m intaglio.sim.units", description="Simulates the units against the golden model."
    )
    parser.add_argument("bench", nargs="*", help=f"of {', '.join(benches.NAMES)}; all if none is named")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this configuration alone"
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(2**31), help="a random one if not given"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="benches at a time")
    parser.add_argument("--quick", action="store_true", help="fewer random cases")
    parser.add_argument(
        "--verilog",
        type=Path,
        metavar="DIR",
        help="take the units' Verilog from DIR, such as build/verilog, where it has a unit's file",
    )
    arguments = parser.parse_args()
    if arguments.seed < 0 or arguments.jobs < 1:
        parser.error("--seed must be 0 or more and --jobs 1 or more")
    return arguments


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(caption="s: build and run of the whole bench")
    for column in ("unit", "configuration"):
        table.add_column(column, no_wrap=True)
    for column in ("cases", "cycles", "bins", "seed", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    last = ""
    for outcome in outcomes:
        new = outcome.bench != last
        last = outcome.bench
        table.add_row(
            outcome.bench if new else "",
            outcome.name.removeprefix(f"{outcome.bench}_"),
            f"{outcome.cases:,}",
            f"{outcome.cycles:,}",
            f"{outcome.hit}/{len(outcome.bins)}",
            str(outcome.seed) if new else "",
            f"{outcome.seconds:.1f}" if new else "",
            "[red]wrong[/red]" if outcome.failure else "[green]right[/green]",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
