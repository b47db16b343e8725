"""Builds a bench's units once, runs cocotb's tests on them, and refuses a run that tested less than it should."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator as VerilatorRunner

from intaglio.hdl.catalogue import units
from intaglio.hdl.verilog import emit
from intaglio.sim.simulator import verilator
from intaglio.sim.simulator.build import PACKAGES
from intaglio.sim.simulator.cache import ELSEWHERE
from intaglio.sim.simulator.cache import folder as cache_folder
from intaglio.sim.units.bench import STAND, Bench, Configuration, top

__all__ = ["BUILD", "Outcome", "build", "run", "simulate"]

BUILD = cache_folder() / "units"

TESTS = ("streams", "volume")
TIME_LIMIT_S = 600
# Where few cases are simulated, most of the time is the compiler's.
HASTY = ("-CFLAGS", "-O0")

OPTIONS = [
    # Widths are Amaranth's habit; all other warnings stop the build.
    "-Wno-WIDTHEXPAND",
    "-Wno-WIDTHTRUNC",
    "--no-public-flat-rw",  # the runner's own; stand.vlt says what is public
    "-O3",
    "--x-initial",
    "unique",
]
VISIBLE = STAND.with_suffix(".vlt")


@dataclass
class Outcome:
    """What became of one configuration."""

    bench: str
    name: str
    seed: int
    cases: int = 0
    transfers: int = 0
    cycles: int = 0
    bins: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""

    @property
    def hit(self) -> int:
        return sum(count > 0 for count in self.bins.values())


@cache
def _environment() -> None:
    os.environ.update(verilator.environment())
    # A simulation that hangs without passing time is ended from outside; cocotb's runner has no time limit.
    os.environ["SIM_CMD_PREFIX"] = f"timeout --kill-after=5 {TIME_LIMIT_S}"


def sources(configurations: Sequence[Configuration], replaced: Path | None = None) -> dict[str, str]:
    """Verilog of each configuration by module name.

    From the folder `replaced` where it has the configuration's file, under the configuration's name or under
    the one that the unit is emitted by with the same parameters.
    """
    texts = {}
    emitted = _emitted(replaced) if replaced else {}
    for configuration in configurations:
        name = configuration.name
        texts[name] = emit(configuration.component, name)
        if replaced is None:
            continue
        other = name if (replaced / f"{name}.v").is_file() else emitted.get(texts[name].replace(name, "unit"))
        if other:
            given = (replaced / f"{other}.v").read_text()
            texts[name] = re.sub(rf"\bmodule {other}\b", f"module {name}", given)
    return texts


@cache
def _emitted(folder: Path) -> dict[str, str]:
    """Verilog of the units that have a file in the folder, as of a module `unit`, and the file's name."""
    found = {name: make for name, make in units().items() if (folder / f"{name}.v").is_file()}
    return {emit(make(), "unit"): name for name, make in found.items()}


def build(
    name: str,
    configurations: Sequence[Configuration],
    texts: Mapping[str, str],
    selectors: Mapping[str, int] | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """The folder of a simulator of the configurations, built unless one of the same content is there."""
    _environment()
    verilator.require_plain_path(BUILD, ELSEWHERE)
    tool = verilator.find()
    bench = top(configurations, selectors)
    arguments = [*OPTIONS, *flags]
    content = json.dumps(
        [
            bench,
            STAND.read_text(),
            VISIBLE.read_text(),
            dict(texts),
            arguments,
            tool.version,
            str(tool.executable),
        ]
    )
    place = BUILD / name / hashlib.sha256(content.encode()).hexdigest()[:16]
    if (place / "bench").is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="build-", dir=place.parent))
    for module, text in {**texts, "bench_top": bench}.items():
        (work / f"{module}.v").write_text(text)
    shutil.copy(STAND, work / "stand.sv")
    shutil.copy(VISIBLE, work)
    # Verilator's own runtime takes longer to compile than most units, and is the same for all.
    runtime = BUILD / "runtime" / hashlib.sha256(
        json.dumps([arguments, tool.version, str(tool.executable)]).encode()
    ).hexdigest()[:16]  # fmt: skip
    if runtime.is_dir():
        shutil.copytree(runtime, work, dirs_exist_ok=True, copy_function=shutil.copyfile)
    log = work / "build.log"
    runner = VerilatorRunner()
    try:
        runner.build(
            sources=[
                *(work / name for name in (VISIBLE.name, "stand.sv", "bench_top.v")),
                *(work / f"{module}.v" for module in texts),
            ],
            hdl_toplevel="bench",
            build_dir=work,
            build_args=arguments,
            always=True,
            log_file=log,
        )
    except (RuntimeError, subprocess.CalledProcessError, SystemExit) as error:
        raise RuntimeError(f"{name}: Verilator refuses the bench, see {log}: {_last_lines(log)}") from error
    if not runtime.is_dir():
        kept = Path(tempfile.mkdtemp(prefix="runtime-", dir=place.parent))
        for file in work.glob("verilated*.[od]"):
            shutil.copyfile(file, kept / file.name)
        runtime.parent.mkdir(exist_ok=True)
        _settle(kept, runtime)
    for header in work.glob("*.gch"):
        header.unlink()
    _settle(work, place)
    return place


def _settle(folder: Path, place: Path) -> None:
    """Moves `folder` to `place`, or drops it where another process was faster."""
    try:
        folder.rename(place)
    except OSError:
        shutil.rmtree(folder)


def _last_lines(log: Path, count: int = 12) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if line.startswith("%") or "rror" in line]
    return "\n".join((telling or lines)[-count:])


def simulate(
    place: Path, module: str, spec: Mapping[str, Any], tests: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Runs the cocotb tests of `module` on a built simulator; what they reported, and what failed.

    A run that ends without a result, or with fewer tests than `tests`, has failed, as has one that takes
    longer than the time limit.
    """
    _environment()
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    log = work / "run.log"
    runner = VerilatorRunner()
    failure = ""
    try:
        runner.test(
            test_module=module,
            hdl_toplevel="bench",
            hdl_toplevel_lang="verilog",
            build_dir=place,
            test_dir=work,
            seed=spec["seed"],
            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{spec['seed'] % 2**31 or 1}"],
            extra_env={
                "INTAGLIO_BENCH": json.dumps(spec),
                "PYTHONPATH": os.pathsep.join([str(PACKAGES), *sys.path]),
                "NO_COLOR": "1",
            },
            results_xml=str(work / "results.xml"),
            log_file=log,
        )
    except (RuntimeError, subprocess.CalledProcessError, SystemExit) as error:
        failure = f"the simulator stopped: {error}"  # or a test failed, which the results tell better
    results = work / "results.xml"
    if results.is_file():
        ran, failed = get_results(results)
        if ran != len(tests):
            failure = f"{ran} tests ran, not {len(tests)}"
        elif failed:
            failure = f"{failed} of {ran} tests failed"
    else:
        failure = failure or "the simulator left no results"
    report_file = work / "report.json"
    report = json.loads(report_file.read_text()) if report_file.is_file() else {}
    if failure:
        failure = f"{failure}; see {log}: {_last_lines(log, 3)}"
    else:
        shutil.rmtree(work)
    return report, failure


def run(
    bench: Bench,
    seed: int,
    *,
    quick: bool = False,
    names: Sequence[str] = (),
    replaced: Path | None = None,
) -> list[Outcome]:
    """Runs a bench, or those of its configurations that are named; an outcome for each.

    Parameters
    ----------
    bench : Bench
    seed : of the random cases and stalls, 0 or more
    quick : fewer random cases; all others, and all bins, stay
    names : configurations; all if empty
    replaced : folder of Verilog files that take the place of the configurations' own, NAME.v each

    Raises
    ------
    ValueError
        If a name is not a configuration's.
    RuntimeError
        If Verilator refuses the Verilog.
    """
    known = [configuration.name for configuration in bench.configurations]
    if unknown := set(names) - set(known):
        raise ValueError(f"bench {bench.name} has no {', '.join(sorted(unknown))}: it has {', '.join(known)}")
    chosen = [c for c in bench.configurations if not names or c.name in names]
    started = time.perf_counter()
    place = build(bench.name, chosen, sources(chosen, replaced), flags=HASTY if quick else ())
    spec = {"bench": bench.name, "seed": seed, "quick": quick, "configurations": [c.name for c in chosen]}
    report, failure = simulate(place, "intaglio.sim.units.simulated", spec, TESTS)
    seconds = time.perf_counter() - started

    outcomes = []
    for configuration in chosen:
        facts = report.get(configuration.name, {})
        outcome = Outcome(
            bench.name,
            configuration.name,
            seed,
            facts.get("cases", 0),
            facts.get("transfers", 0),
            facts.get("cycles", 0),
            facts.get("bins", {}),
            seconds,
            "; ".join(filter(None, [facts.get("stream_failure", ""), facts.get("outcome", "")])),
        )
        if not outcome.failure and ("cases" not in facts or "streamed" not in facts):
            outcome.failure = failure or "a test said nothing about it"
        outcomes.append(outcome)
    if failure and not any(outcome.failure for outcome in outcomes):
        outcomes[0].failure = failure
    return outcomes
