"""Builds the engines' benches, several in one simulator, and runs them."""

import time
from collections.abc import Mapping, Sequence

from intaglio.hdl.verilog import emit
from intaglio.sim.cocotb_runs import BUILD, OPTIONS, build, simulate
from intaglio.sim.engines.bench import Bench, Configuration, top
from intaglio.sim.outcome import Outcome

__all__ = ["run", "stood"]

TIME_LIMIT_S = 900
# Yosys reads bits of an output's vector back where others depend on them: no loop, as the whole machine's build shows,
# in which the warning stops.
_READ_BACK = "-Wno-UNOPTFLAT"
# What the bench reads and writes are the ports of `top`; Verilator simplifies the rest as it likes.
_VISIBLE = '`verilator_config\npublic_flat_rw -module "top" -var "*"\n'


def stood(
    configurations: Sequence[Configuration],
    replaced: Mapping[str, str] | None = None,
    selectors: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """The texts of a simulator of the configurations, by file name; the Verilog `replaced` instead of their own."""
    texts = {"top.vlt": _VISIBLE, "top.v": top(configurations, selectors)}
    for configuration in configurations:
        name = configuration.name
        texts[f"{name}.v"] = (replaced or {}).get(name) or emit(configuration.component, name)
    return texts


def run(
    benches: Sequence[Bench],
    seed: int,
    *,
    quick: bool = False,
    names: Sequence[str] = (),
    replaced: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Runs benches in one simulation, or those of their configurations that are named; an outcome for each.

    Parameters
    ----------
    benches : Bench
    seed : of all random numbers, 0 or more
    quick : fewer transfers; all bins stay
    names : configurations; all if empty
    replaced : Verilog that takes the place of a configuration's own, by name

    Raises
    ------
    ValueError
        If a name is not a configuration's.
    RuntimeError
        If Verilator refuses the Verilog.
    """
    known = {c.name: (bench, c) for bench in benches for c in bench.configurations}
    if unknown := set(names) - set(known):
        raise ValueError(f"no configuration {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    chosen = {name: found for name, found in known.items() if not names or name in names}
    started = time.perf_counter()
    place = build(
        BUILD / "engines",
        stood([configuration for _, configuration in chosen.values()], replaced),
        [*OPTIONS, _READ_BACK],
    )
    building = time.perf_counter() - started
    spec = {"benches": [bench.name for bench in benches], "quick": quick, "configurations": list(chosen)}
    report, failure = simulate(
        place, ["intaglio.sim.engines.simulated"], {"engine": len(chosen)}, seed, TIME_LIMIT_S, spec
    )
    outcomes = []
    for name, (bench, _) in chosen.items():
        facts = report.get(name, {})
        outcomes.append(
            Outcome(
                bench.name,
                name,
                seed,
                cycles=facts.get("cycles", 0),
                bins=facts.get("bins", {}),
                seconds=building + facts.get("seconds", 0.0),
                failure=facts.get("failure", failure or "its test said nothing"),
            )
        )
    if failure and not any(outcome.failure for outcome in outcomes):
        outcomes[0].failure = failure
    return outcomes
