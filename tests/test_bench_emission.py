"""Seconds of emission: taken of a tree by its command line, and a tree that does not write a machine is told."""

from pathlib import Path

import pytest

from bench import emission
from bench.against import ROOT
from bench.cycles import AgainstError

TINY = str(Path(__file__).with_name("tiny.toml"))


def test_a_row_has_the_seconds_of_each_tree():
    config, *seconds = emission.row(TINY, [ROOT, ROOT])
    assert config == TINY
    assert len(seconds) == 2
    assert all(float(value) > 0 for value in seconds)


def test_a_tree_that_does_not_write_it_is_told():
    with pytest.raises(AgainstError, match=r" does not write no_such: .*no_such"):
        emission.seconds(ROOT, "no_such")
