"""Builds a bench's units once, runs cocotb's tests on them, and refuses a run that tested less than it should."""

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from intaglio.hdl.catalogue import units
from intaglio.hdl.verilog import emit
from intaglio.sim.cocotb_runs import BUILD, build, simulate
from intaglio.sim.outcome import Outcome
from intaglio.sim.units.bench import STAND, Bench, Configuration, top

__all__ = ["TIME_LIMIT_S", "run", "sources", "stood"]

TESTS = {"streams": 1, "volume": 1}
TIME_LIMIT_S = 600


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


def stood(
    configurations: Sequence[Configuration],
    texts: Mapping[str, str],
    selectors: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """What a simulator is built of, by file name: the units' texts, by module name, on their stands."""
    # What Python reads and writes; the unit's own signals stay private, and Verilator simplifies what it likes.
    visible = STAND.with_suffix(".vlt")
    return {
        visible.name: visible.read_text(),
        "stand.sv": STAND.read_text(),
        "top.v": top(configurations, selectors),
        **{f"{module}.v": text for module, text in texts.items()},
    }


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
    place = build(BUILD / "units" / bench.name, stood(chosen, sources(chosen, replaced)))
    spec = {"bench": bench.name, "seed": seed, "quick": quick, "configurations": [c.name for c in chosen]}
    report, failure = simulate(place, ["intaglio.sim.units.simulated"], TESTS, seed, TIME_LIMIT_S, spec)
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
