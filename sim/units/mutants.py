"""The cocotb test that `mutate` runs: every mutant of one configuration, until its first difference."""

import json
import os
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

from intaglio.sim.cocotb_runs import SPEC as VARIABLE
from intaglio.sim.units import benches
from intaglio.sim.units.simulated import PERIOD_NS, Volume, play, rewind, start_clock

SPEC = json.loads(os.environ[VARIABLE])

FAULTS = {
    "mismatches": "wrong result",
    "extras": "output that nothing asked for",
    "ready_errors": "wrong `ready`",
    "valid_errors": "wrong `valid`",
    "side_errors": "wrong `ready` of the weights",
    "hang": "hangs",
}


@cocotb.test(timeout_time=100_000, timeout_unit="ms")
async def mutants(dut) -> None:
    """What the bench finds wrong with each mutant, `""` where nothing; mutant 0 is the unit itself."""
    bench = benches.load(SPEC["bench"])
    configuration = next(c for c in bench.configurations if c.name == SPEC["configurations"][0])
    start_clock(dut)
    volume = Volume(dut, 0, configuration, configuration.cases(SPEC["seed"], SPEC["quick"]))
    await Timer(PERIOD_NS, "ns")
    found: dict[int, str] = {}
    for mutant in range(SPEC["mutants"] + 1):
        dut.mutsel.value = mutant
        await Timer(PERIOD_NS, "ns")
        await play([volume], stop_early=True)
        faults = [what for name, what in FAULTS.items() if int(getattr(volume.stand, name).value)]
        found[mutant] = ", ".join(faults)
        if not faults and int(volume.stand.received.value) != int(volume.stand.results.value):
            found[mutant] = "too few results"
        await rewind([volume])
        # Kept as it grows, so that a mutant that stops the simulator is known by the one before it.
        Path("report.json").write_text(json.dumps(found))
    assert not found[0], f"the unit itself: {found[0]}"
