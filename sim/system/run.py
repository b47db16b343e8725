"""Builds the bench of the machine, runs it, and refuses a run that tested less than it should."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from hdl.verilog import emit_machine
from sim import verilator
from sim.system.programs import CONFIG

__all__ = ["TESTS", "run", "verilog"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "system"
OPTIONS = [
    "--no-public-flat-rw",  # the runner's own; stand.vlt says what is public
    "-Wno-WIDTHEXPAND",
    "-Wno-WIDTHTRUNC",
    "-O3",
    "--x-initial",
    "unique",
    "-CFLAGS",
    "-O1",
]
TIME_LIMIT_S = 300

MODULES = ("runs", "stops", "refusals", "bus_errors")
TESTS = {
    "right_under_back_pressure": 6,
    "bursts_in_flight": 1,
    "an_empty_list": 1,
    "rows_of_any_shape": 1,
    "overflows": 1,
    "reset_at_any_cycle": 2,
    "abort_at_any_cycle": 2,
    "a_host_that_meddles": 1,
    "controls": 1,
    "unknown_opcodes": 1,
    "reserved_bits": 1,
    "counts_of_zero": 1,
    "more_than_there_is": 1,
    "windows": 1,
    "command_lists": 1,
    "windows_after_reset": 1,
    "read_errors": 1,
    "write_errors": 1,
    "waits_for_ever": 1,
    "a_patient_watchdog": 1,
    "a_memory_that_never_answers": 1,
    "leftovers": 1,
    "marks": 1,
    "chunks_without_end": 1,
    "faults_that_meet": 1,
}
"""Each test of `MODULES`, and how often it must run."""


@cache
def verilog() -> str:
    """The machine's text, which takes seconds to make."""
    return emit_machine(CONFIG)


def build(machine: str) -> Path:
    """The folder of a simulator of the stand with this machine, made unless one of the same text is there."""
    os.environ.update(verilator.environment())
    tool = verilator.find()
    texts = {
        "stand.vlt": (HERE / "stand.vlt").read_text(),
        "stand.v": (HERE / "stand.v").read_text(),
        "machine.v": machine,
    }
    content = "\n".join([*texts.values(), *OPTIONS, str(tool.version), str(tool.executable)])
    place = BUILD / hashlib.sha256(content.encode()).hexdigest()[:16]
    if (place / "top").is_file():
        return place
    BUILD.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="build-", dir=BUILD))
    for name, text in texts.items():
        (work / name).write_text(text)
    log = work / "build.log"
    try:
        Verilator().build(
            sources=[work / name for name in texts],
            hdl_toplevel="top",
            build_dir=work,
            build_args=OPTIONS,
            always=True,
            log_file=log,
        )
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"Verilator refuses the bench, see {log}") from error
    try:
        work.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(work)
    return place


def run(tests: str = "", seed: int = 1, machine: str | None = None) -> int:
    """Runs the tests whose name begins with `tests`, on the Verilog `machine` if given; how many passed.

    Raises
    ------
    ValueError
        If no test has such a name.
    RuntimeError
        If Verilator refuses the Verilog, or a test fails or does not run.
    """
    wanted = {name: count for name, count in TESTS.items() if name.startswith(tests)}
    if not wanted:
        raise ValueError(f"no test begins with {tests!r}: there are {', '.join(TESTS)}")
    place = build(verilog() if machine is None else machine)
    # A simulation that hangs without passing time is ended from outside; cocotb's runner has no time limit.
    os.environ["SIM_CMD_PREFIX"] = f"timeout --kill-after=5 {TIME_LIMIT_S}"
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    log = work / "run.log"
    results = Verilator().test(
        test_module=[f"sim.system.{name}" for name in MODULES],
        hdl_toplevel="top",
        hdl_toplevel_lang="verilog",
        test_filter=rf"\.({'|'.join(wanted)})(/|$)",
        seed=seed,
        plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"],
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
