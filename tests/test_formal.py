# amaranth: UnusedElaboratable=no
"""That a proof can fail. The proofs themselves are `make formal`."""

import pytest

from formal.__main__ import main, verdict
from formal.proofs import Outcome, missing_tools, proofs, prove

tools = pytest.mark.skipif(bool(missing_tools()), reason="the extra `formal` is not installed")


def named(name):
    return next(proof for proof in proofs() if proof.unit == name)


@tools
def test_one_wrong_result_is_found(tmp_path):
    assert prove(named("clamp"), tmp_path).passed is True
    assert prove(named("clamp"), tmp_path, planted=True).passed is False


@tools
def test_a_lost_value_is_found(tmp_path):
    assert prove(named("pipeline_3"), tmp_path, planted=True).passed is False


@tools
def test_a_solver_that_does_not_end_is_no_proof(tmp_path):
    assert prove(named("clamp"), tmp_path, limit_seconds=0.01).passed is None


def test_names_are_unique():
    names = [proof.unit for proof in proofs()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("passed", "planted", "good", "word"),
    [
        (True, False, True, "proven"),
        (False, False, False, "FALSE"),
        (None, False, False, "UNDECIDED"),
        (True, True, False, "MISSED"),
        (False, True, True, "found"),
        (None, True, False, "UNDECIDED"),
    ],
)
def test_verdict(tmp_path, passed, planted, good, word):
    wanted, said = verdict(Outcome(named("clamp"), passed, 1.0, tmp_path), planted)
    assert wanted is good
    assert said.startswith(word)


@tools
def test_unknown_name(capsys):
    assert main(["no_such_unit"]) == 2
    assert "no proof is named no_such_unit" in capsys.readouterr().err


def test_missing_tools(capsys, monkeypatch):
    monkeypatch.setattr("formal.__main__.missing_tools", lambda: ["yowasp-sby"])
    assert main([]) == 2
    assert "not installed: yowasp-sby" in capsys.readouterr().err
