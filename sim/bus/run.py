"""Builds the bench of the bus, runs it, and refuses a run that tested less than it should."""

from intaglio.hdl.verilog import emit
from intaglio.sim.bus.top import READERS, WRITERS, Top
from intaglio.sim.cocotb_runs import build, simulate
from intaglio.sim.simulator.cache import folder

__all__ = ["TESTS", "run"]

BUILD = folder() / "bus"
OPTIONS = ["-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-O3", "--x-initial", "unique"]
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
"""Each test of `intaglio.sim.bus.cases`, and how often it must run."""


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
    place = build(BUILD, {"top.v": emit(Top(), "top") if text is None else text}, OPTIONS)
    return simulate(place, ["intaglio.sim.bus.cases"], wanted, seed, TIME_LIMIT_S)
