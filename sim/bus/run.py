"""Builds the bench of the bus, runs it, and refuses a run that tested less than it should."""

from intaglio.hdl.verilog import emit
from intaglio.sim.bus.top import READERS, WRITERS, Top
from intaglio.sim.cocotb_runs import BUILD, build, simulate

__all__ = ["TESTS", "run"]

TIME_LIMIT_S = 900
MODULES = ("transfers", "speed", "faults", "flushes", "protocol", "registers")
TESTS = {
    "read_at_random": len(READERS),
    "write_at_random": len(WRITERS),
    "against_cocotbext": 1,
    "read_keeps_the_bus_full": 1,
    "short_bursts_follow_at_once": 1,
    "write_keeps_the_bus_full": 1,
    "stated_latencies": 1,
    "a_full_client_blocks_nobody": 1,
    "the_first_client_goes_first": 1,
    "bursts_in_flight": 1,
    "regions": len(READERS) + len(WRITERS),
    "read_errors": 1,
    "write_errors": 1,
    "reads_out_of_protocol": len(READERS),
    "writes_out_of_protocol": len(WRITERS),
    "nothing_is_valid_during_reset": 1,
    "read_flush": len(READERS),
    "write_flush": len(WRITERS),
    "reset_and_access": 1,
    "registers_at_random": 1,
    "registers_of_a_run": 1,
    "registers_in_any_order": 1,
}
"""Each test of `MODULES`, and how often it must run."""


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
    place = build(BUILD / "bus", {"top.v": emit(Top(), "top") if text is None else text})
    modules = [f"intaglio.sim.bus.{name}" for name in MODULES]
    _, failure = simulate(place, modules, wanted, seed, TIME_LIMIT_S)
    if failure:
        raise RuntimeError(failure)
    return sum(wanted.values())
