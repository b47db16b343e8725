"""Builds the bench of the bus, runs it, and refuses a run that tested less than it should."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from hdl.verilog import emit
from sim import verilator
from sim.axi.top import READERS, WRITERS, Top

__all__ = ["TESTS", "build", "run"]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "axi"
WARNINGS = ["-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC"]
TIME_LIMIT_S = 900

TESTS = {
    "read_at_random": len(READERS),
    "write_at_random": len(WRITERS),
    "against_cocotbext": 1,
    "read_keeps_the_bus_full": 1,
    "short_bursts_follow_at_once": 1,
    "write_keeps_the_bus_full": 1,
    "stated_latencies": 1,
    "a_full_client_blocks_nobody": 1,
    "clients_take_turns": 1,
    "bursts_in_flight": 1,
    "windows": 2,
    "read_errors": 1,
    "write_errors": 1,
    "read_flush": len(READERS),
    "write_flush": len(WRITERS),
    "registers_at_random": 1,
    "registers_of_a_run": 1,
    "registers_in_any_order": 1,
}
"""Each test of `sim.axi.cases`, and how often it must run."""


def build(text: str) -> Path:
    """The folder of a simulator of the Verilog, made unless one of the same text is there."""
    os.environ.update(verilator.environment())
    tool = verilator.find()
    content = "\n".join([text, *WARNINGS, str(tool.version), str(tool.executable)])
    place = BUILD / hashlib.sha256(content.encode()).hexdigest()[:16]
    if (place / "top").is_file():
        return place
    BUILD.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="build-", dir=BUILD))
    (work / "top.v").write_text(text)
    try:
        _compile(work)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"Verilator refuses the bench, see {work / 'build.log'}") from error
    try:
        work.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(work)
    return place


def _compile(work: Path) -> None:
    Verilator().build(
        sources=[work / "top.v"],
        hdl_toplevel="top",
        build_dir=work,
        build_args=[*WARNINGS, "-O3", "--x-initial", "unique"],
        always=True,
        log_file=work / "build.log",
    )


def run(tests: str = "", seed: int = 1, text: str | None = None) -> int:
    """Runs the tests with `tests` in their name, on the Verilog `text` instead of `Top`'s if given; how many passed.

    Raises
    ------
    ValueError
        If no test has such a name.
    RuntimeError
        If Verilator refuses the Verilog, or a test fails or does not run.
    """
    wanted = {name: count for name, count in TESTS.items() if tests in name}
    if not wanted:
        raise ValueError(f"no test has {tests!r} in its name: there are {', '.join(TESTS)}")
    place = build(emit(Top(), "top") if text is None else text)
    # A simulation that hangs without passing time is ended from outside; cocotb's runner has no time limit.
    os.environ["SIM_CMD_PREFIX"] = f"timeout --kill-after=5 {TIME_LIMIT_S}"
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    log = work / "run.log"
    results = Verilator().test(
        test_module="sim.axi.cases",
        hdl_toplevel="top",
        hdl_toplevel_lang="verilog",
        test_filter=rf"\.({'|'.join(wanted)})(/|$)",
        seed=seed,
        build_dir=place,
        test_dir=work,
        results_xml=str(work / "results.xml"),
        extra_env={"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        log_file=log,
    )
    ran, failed = get_results(results)
    if failed:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        telling = [line for line in lines if line.endswith("failed") or "Error" in line]
        raise RuntimeError("\n".join([f"{failed} of {ran} failed with seed {seed}, see {log}:", *telling]))
    if ran != sum(wanted.values()):
        raise RuntimeError(f"{ran} tests ran, not {sum(wanted.values())}, see {log}")
    shutil.rmtree(work)
    return ran
