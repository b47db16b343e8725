# amaranth: UnusedElaboratable=no
"""That a proof can fail. The proofs themselves are `make formal`."""

from dataclasses import replace

import pytest
from amaranth.hdl import Fragment

from formal.__main__ import main, verdict
from formal.bus import MUTE, ReadBus, WriteBus
from formal.opened import Opened
from formal.proofs import Outcome, missing_tools, proofs, prove
from intaglio.hdl.core import READERS
from intaglio.hdl.machine import Machine
from intaglio.hdl.storage.fifo import Fifo
from intaglio.spec.config import AcceleratorConfig

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


@tools
@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        *(("bus_write_32", fault) for fault in WriteBus.faults),
        *(("bus_read_2_32", fault) for fault in ReadBus.faults),
        ("bus_read_1_32_shown", MUTE),
    ],
)
def test_a_fault_of_a_master_is_found(tmp_path, unit, fault):
    assert fault in named(unit).faults
    assert prove(named(unit), tmp_path, planted=fault).passed is False


@pytest.mark.parametrize("address_bits", [32, 64])
def test_the_masters_are_the_machines(address_bits):
    machine = Machine(replace(AcceleratorConfig.load("affine16x16"), address_bits=address_bits))
    theirs = {f"bus_read_{client}": machine._reader for client in range(len(READERS))}
    theirs["bus_write"] = machine._writer
    ours = {name: named(f"{name}_{address_bits}").harness(planted=False) for name in theirs}
    for elaboratable in (machine, *ours.values()):
        Fragment.get(elaboratable, None)  # Amaranth warns of what was made in vain
    assert {name: parameters(harness.master) for name, harness in ours.items()} == {
        name: parameters(master) for name, master in theirs.items()
    }


def parameters(master):
    bus = master.bus.signature
    return type(master), master.max_burst_beats, master.outstanding, bus.address_bits, bus.data_bits


def test_a_signal_has_to_be_there():
    opened = Opened(Fifo(8, 4))
    Fragment.get(opened.component, None)
    assert opened.signal("stored") is opened.stored
    with pytest.raises(LookupError, match="Fifo drives 0 signals `nothing`, not one"):
        opened.signal("nothing")
