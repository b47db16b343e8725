"""Builds the bench of the machine, runs it, and refuses a run that tested less than it should."""

from functools import cache
from pathlib import Path

from intaglio.hdl.verilog import emit_machine
from intaglio.sim.cocotb_runs import BUILD, build, simulate
from intaglio.sim.system.programs import CONFIG

__all__ = ["TESTS", "run", "simulator", "verilog"]

HERE = Path(__file__).parent
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
    "regions": 1,
    "rights": 1,
    "narrow_regions": 1,
    "command_lists": 1,
    "regions_after_reset": 1,
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
    return emit_machine(CONFIG, "machine", probes=True)


def simulator(machine: str | None = None) -> Path:
    """The folder of a simulator of the stand around the Verilog `machine`, by default that of `CONFIG`; built if it is
    not there. Raises RuntimeError if Verilator refuses the Verilog."""
    texts = {name: (HERE / name).read_text() for name in ("stand.vlt", "stand.v")}
    return build(BUILD / "system", {**texts, "machine.v": verilog() if machine is None else machine})


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
    place = simulator(machine)
    modules = [f"intaglio.sim.system.{name}" for name in MODULES]
    _, failure = simulate(place, modules, wanted, seed, TIME_LIMIT_S)
    if failure:
        raise RuntimeError(failure)
    return sum(wanted.values())
