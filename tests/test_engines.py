# amaranth: UnusedElaboratable=no
"""The engines' and the storage's benches pass on what is emitted, and fail on what is wrong."""

import re

import pytest

pytest.importorskip("cocotb", reason="the extra `sim` is not installed")

from intaglio.hdl.verilog import emit
from intaglio.sim.engines.benches import GROUPS, NAMES, load
from intaglio.sim.engines.runner import run

SEED = 20_261_125


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_bench(group):
    """All configurations right, every bin hit; fewer transfers than `make sim` has."""
    benches = [load(name) for name in group]
    outcomes = run(benches, SEED, quick=True)
    assert len(outcomes) == sum(len(bench.configurations) for bench in benches)
    for outcome in outcomes:
        assert not outcome.failure
        assert outcome.cycles > 0
        assert outcome.hit == len(outcome.bins) > 0


def test_a_fault_is_seen():
    """A queue that loses what it takes while its output moves."""
    configuration = next(c for c in load("fifo").configurations if c.mutants)
    text = emit(configuration.component, configuration.name)
    wrong, count = re.subn(r"assign pop = (.*);", r"assign pop = (\1) && !i__valid;", text)
    assert count == 1
    (outcome,) = run(
        [load("fifo")], SEED, quick=True, names=[configuration.name], replaced={configuration.name: wrong}
    )
    assert outcome.failure


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=f"no bench `nothing`: there are {NAMES[0]}"):
        load("nothing")
    with pytest.raises(ValueError, match="no configuration nothing: there are"):
        run([load("fifo")], SEED, names=["nothing"])
