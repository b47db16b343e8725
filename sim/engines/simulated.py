"""The cocotb tests that run inside the simulator; `runner` starts it and reads `report.json`."""

import json
import os
import time
from pathlib import Path
from typing import Any

import cocotb

from intaglio.sim.cocotb_runs import SPEC as VARIABLE
from intaglio.sim.engines import benches
from intaglio.sim.lockstep import Stand

SPEC = json.loads(os.environ[VARIABLE])
CONFIGURATIONS = {
    configuration.name: configuration
    for bench in SPEC["benches"]
    for configuration in benches.load(bench).configurations
    if configuration.name in SPEC["configurations"]
}
REPORT = Path("report.json")


def report(name: str, facts: Any) -> None:
    """Kept as it grows, so that what ends the simulator is known by what it began with."""
    known = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    REPORT.write_text(json.dumps(known | {name: facts}))


async def outcome(dut: Any, name: str, clocked: bool = False) -> tuple[Stand, str]:
    """The stand after a configuration's whole test, and what went wrong, or nothing."""
    configuration = CONFIGURATIONS[name]
    stand = Stand(dut, name, f"{name}__", configuration.inputs, clocked)
    try:
        await configuration.check(stand, SPEC["quick"])
    except Exception as error:  # whatever a wrong design brings the bench to
        message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return stand, f"cycle {stand.cycle}: {message.splitlines()[0] if message else 'an assertion failed'}"
    missed = [bin_ for bin_ in configuration.bins if not stand.bins[bin_]]
    return stand, f"no case for {', '.join(missed)}" if missed else ""


@cocotb.test()
@cocotb.parametrize(name=list(CONFIGURATIONS))
async def engine(dut: Any, name: str) -> None:
    started = time.perf_counter()
    stand, failure = await outcome(dut, name)
    bins = {bin_: stand.bins[bin_] for bin_ in CONFIGURATIONS[name].bins}
    seconds = time.perf_counter() - started
    report(name, {"cycles": stand.cycle, "bins": bins, "failure": failure, "seconds": seconds})
    assert not failure, failure


@cocotb.test()
async def mutants(dut: Any) -> None:
    """What the bench finds wrong with each mutant of one configuration, "" where nothing; 0 is the engine itself."""
    (name,) = CONFIGURATIONS
    selector = getattr(dut, f"{name}__mutsel")
    for mutant in range(SPEC["mutants"] + 1):
        selector.value = mutant
        _, failure = await outcome(dut, name, clocked=mutant > 0)
        report(str(mutant), failure)
        assert mutant or not failure, f"the engine itself: {failure}"
