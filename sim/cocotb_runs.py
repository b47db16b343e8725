"""cocotb's benches: a simulator built once for each content, and runs that must test what they should."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from intaglio.sim.simulator import verilator
from intaglio.sim.simulator.build import PACKAGES
from intaglio.sim.simulator.cache import ELSEWHERE, folder

__all__ = ["BUILD", "OPTIONS", "SPEC", "build", "simulate"]

BUILD = folder()
"""Simulators are kept with the built machines: a package that is installed may be read-only."""

OPTIONS = (
    # Widths are Amaranth's habit; all other warnings stop the build.
    "-Wno-WIDTHEXPAND",
    "-Wno-WIDTHTRUNC",
    "-O3",
    "--x-initial",
    "unique",
)
"""Verilator's, of every bench."""
_COMPILED = "OPT_FAST=-Og"
"""What make is told of the code that runs in every cycle: three times as fast as -O0, nearly as fast as Verilator's own
-Os, and compiled in less time than that. What runs once, at the start, stays at g++'s -O0."""
RANDOM_RESET = ("+verilator+rand+reset+2",)
_RUNTIME = "verilated*.[od]"
"""Objects of Verilator's own sources, and what make knows of these. cocotb's `verilator.o` is a design's: it makes the
top, whose ports decide its size."""
_AHEAD_S = 3600
SPEC = "INTAGLIO_BENCH"
"""The environment variable in which a simulation finds what it is to do, as JSON."""


def build(folder: Path, texts: Mapping[str, str], options: Sequence[str] = OPTIONS) -> Path:
    """The folder of a simulator of module ``top``, below `folder`; made unless one of the same content is there.

    Parameters
    ----------
    folder : made if needed
    texts : by file name, in the order in which Verilator reads them. Where one of them is a control file, ``NAME.vlt``,
        it says what is public; else all is.
    options : Verilator's

    Raises
    ------
    RuntimeError
        If Verilator refuses the texts.
    intaglio.sim.simulator.verilator.VerilatorNotFound
        If it is missing, or cannot handle the folder's path.
    """
    verilator.require_plain_path(folder, ELSEWHERE)
    environment = verilator.environment()
    environment["MAKEFLAGS"] = " ".join([environment.get("MAKEFLAGS", ""), _COMPILED]).strip()
    os.environ.update(environment)
    tool = verilator.find()
    tools = [_COMPILED, str(tool.version), str(tool.executable)]
    # Verilator's own runtime takes longer to compile than most designs. Whatever is warned of, it is the same.
    runtime = BUILD / "runtime" / _digest([*tools, [each for each in options if not each.startswith("-W")]])
    options = list(options)
    if any(name.endswith(".vlt") for name in texts):
        options.insert(0, "--no-public-flat-rw")  # which the runner sets
    place = folder / _digest([dict(texts), *tools, options])
    if (place / "top").is_file():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="build-", dir=folder))
    for name, text in texts.items():
        (work / name).write_text(text)
    if runtime.is_dir():
        for file in runtime.glob(_RUNTIME):
            shutil.copyfile(file, work / file.name)
            # Newer than the headers that Verilator will write, so that make takes it as it is.
            os.utime(work / file.name, (time.time() + _AHEAD_S,) * 2)
    log = work / "build.log"
    try:
        Verilator().build(
            sources=[work / name for name in texts],
            hdl_toplevel="top",
            build_dir=work,
            build_args=options,
            always=True,
            log_file=log,
        )
    except (RuntimeError, subprocess.CalledProcessError, SystemExit) as error:
        raise RuntimeError(f"Verilator refuses the bench, see {log}: {_last_lines(log)}") from error
    if not runtime.is_dir():
        runtime.parent.mkdir(exist_ok=True)
        kept = Path(tempfile.mkdtemp(prefix="runtime-", dir=runtime.parent))
        for file in work.glob(_RUNTIME):
            shutil.copyfile(file, kept / file.name)
        _settle(kept, runtime)
    for header in work.glob("*.gch"):
        header.unlink()
    _settle(work, place)
    return place


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _settle(folder: Path, place: Path) -> None:
    """Moves `folder` to `place`, or drops it where another process was faster."""
    try:
        folder.rename(place)
    except OSError:
        shutil.rmtree(folder)


def _last_lines(log: Path, count: int = 12) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    telling = [line.strip() for line in lines if line.startswith("%") or "rror" in line]
    return "\n".join((telling or lines)[-count:])


def simulate(
    place: Path,
    modules: Sequence[str],
    wanted: Mapping[str, int],
    seed: int,
    time_limit_s: int,
    spec: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """Runs the tests `wanted` of cocotb's `modules` on a simulator that `build` made.

    Parameters
    ----------
    place : of the simulator
    modules : as Python imports them
    wanted : how often each test must run
    seed : cocotb's, and of what the simulation is filled with before it starts
    time_limit_s : of wall time. A simulation that hangs without passing time is ended from outside, since cocotb's
        runner has no limit.
    spec : what the tests find in the environment variable `SPEC`

    Returns
    -------
    report : what the tests wrote into ``report.json``
    failure : what went wrong, in one line and what the log says; "" if every wanted test ran and passed
    """
    os.environ.update(verilator.environment())
    os.environ["SIM_CMD_PREFIX"] = f"timeout --kill-after=5 {time_limit_s}"
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    log = work / "run.log"
    failure = ""
    try:
        Verilator().test(
            test_module=list(modules),
            hdl_toplevel="top",
            hdl_toplevel_lang="verilog",
            test_filter=rf"\.({'|'.join(wanted)})(/|$)",
            seed=seed,
            plusargs=[*RANDOM_RESET, f"+verilator+seed+{seed % 2**31 or 1}"],
            build_dir=place,
            test_dir=work,
            results_xml=str(work / "results.xml"),
            extra_env={
                **({} if spec is None else {SPEC: json.dumps(spec)}),
                "PYTHONPATH": os.pathsep.join([str(PACKAGES), *sys.path]),
                "NO_COLOR": "1",
                # Whose assertions say what they compared: the benches'. Of all that is imported, it would take seconds.
                "COCOTB_REWRITE_ASSERTION_FILES": "*/intaglio/sim/*.py",
            },
            log_file=log,
        )
    except (RuntimeError, subprocess.CalledProcessError, SystemExit) as error:
        failure = f"the simulator stopped: {error}"  # or a test failed, which the results tell better
    results = work / "results.xml"
    count = sum(wanted.values())
    if results.is_file():
        ran, failed = get_results(results)
        if ran != count:
            failure = f"{ran} tests ran, not {count}"
        elif failed:
            failure = f"{failed} of {ran} tests failed with seed {seed}"
    else:
        failure = failure or "the simulator left no results"
    report_file = work / "report.json"
    report = json.loads(report_file.read_text()) if report_file.is_file() else {}
    if failure:
        return report, f"{failure}; see {log}: {_last_lines(log, 4)}"
    shutil.rmtree(work)
    return report, ""
