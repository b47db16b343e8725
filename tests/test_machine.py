# amaranth: UnusedElaboratable=no
import pytest

from intaglio.sim.system.run import TESTS, run


def test_bench():
    assert run(seed=1) == sum(TESTS.values())


def test_bench_refuses_to_run_nothing():
    with pytest.raises(ValueError, match="no test begins with 'nonsense'"):
        run("nonsense")
