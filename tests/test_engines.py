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
    """A queue that says it holds nothing when its last place is taken."""
    configuration = next(c for c in load("fifo").configurations if c.mutants)
    text = emit(configuration.component, configuration.name)
    assert len(re.findall(r"assign o__valid = .*;", text)) == 1
    wrong = re.sub(r"assign o__valid = (.*);", r"assign o__valid = (\1) && i__ready;", text)
    (outcome,) = run(
        [load("fifo")], SEED, quick=True, names=[configuration.name], replaced={configuration.name: wrong}
    )
    assert outcome.failure


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=f"no bench `nothing`: there are {NAMES[0]}"):
        load("nothing")
    with pytest.raises(ValueError, match="no configuration nothing: there are"):
        run([load("fifo")], SEED, names=["nothing"])
