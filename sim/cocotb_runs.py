"""cocotb's benches of whole designs: a simulator built once for each content, runs that must test what they should."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from intaglio.sim.simulator import verilator
from intaglio.sim.simulator.build import PACKAGES
from intaglio.sim.simulator.cache import ELSEWHERE

__all__ = ["build", "simulate"]


def build(folder: Path, texts: Mapping[str, str], options: Sequence[str]) -> Path:
    """The folder of a simulator of module ``top``, below `folder`; made unless one of the same content is there.

    Parameters
    ----------
    folder : made if needed
    texts : by file name, in the order in which Verilator reads them
    options : Verilator's

    Raises
    ------
    RuntimeError
        If Verilator refuses the texts.
    intaglio.sim.simulator.verilator.VerilatorNotFound
        If it is missing, or cannot handle the folder's path.
    """
    verilator.require_plain_path(folder, ELSEWHERE)
    os.environ.update(verilator.environment())
    tool = verilator.find()
    content = "\n".join([*texts.values(), *options, str(tool.version), str(tool.executable)])
    place = folder / hashlib.sha256(content.encode()).hexdigest()[:16]
    if (place / "top").is_file():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="build-", dir=folder))
    for name, text in texts.items():
        (work / name).write_text(text)
    log = work / "build.log"
    try:
        Verilator().build(
            sources=[work / name for name in texts],
            hdl_toplevel="top",
            build_dir=work,
            build_args=list(options),
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


def simulate(
    place: Path,
    modules: Sequence[str],
    wanted: Mapping[str, int],
    seed: int,
    time_limit_s: int,
    plusargs: Sequence[str] = (),
) -> int:
    """Run the tests `wanted` of cocotb's `modules` on a simulator that `build` made; how many passed.

    Parameters
    ----------
    place : of the simulator
    modules : as Python imports them
    wanted : how often each test must run
    seed : cocotb's
    time_limit_s : of wall time. A simulation that hangs without passing time is ended from outside, since cocotb's
        runner has no limit.
    plusargs : of the simulator

    Raises
    ------
    RuntimeError
        If a test fails or does not run.
    """
    os.environ["SIM_CMD_PREFIX"] = f"timeout --kill-after=5 {time_limit_s}"
    work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    log = work / "run.log"
    results = Verilator().test(
        test_module=list(modules),
        hdl_toplevel="top",
        hdl_toplevel_lang="verilog",
        test_filter=rf"\.({'|'.join(wanted)})(/|$)",
        seed=seed,
        plusargs=list(plusargs),
        build_dir=place,
        test_dir=work,
        results_xml=str(work / "results.xml"),
        extra_env={"PYTHONPATH": str(PACKAGES), "NO_COLOR": "1"},
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
