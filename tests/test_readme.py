"""The README says what is so."""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
from amaranth.hdl import Fragment

from intaglio import session, verilog
from intaglio.hdl.catalogue import units
from intaglio.spec.config import AcceleratorConfig

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
MODELS = ROOT / "intaglio" / "models"


def test_every_unit_is_in_the_table_with_its_latency():
    rows = re.findall(r"^\| `(intaglio\.hdl\.[\w.]+)\.(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|", TEXT, re.M)
    # "3", "3 (1…8, a parameter)", "3 (8 × 8), 4 (32 × 7)"
    stated = {unit: set(map(int, re.findall(r"(\d+)(?: \(|$)", latency))) for _, unit, latency in rows}
    for module, unit, _ in rows:
        assert getattr(importlib.import_module(module), unit).__module__ == module
    for name, make in units().items():
        unit = make()
        Fragment.get(unit, None)  # a component that is never elaborated is one that Amaranth warns of
        assert unit.latency in stated[type(unit).__name__], name


def test_every_configuration_is_in_the_table():
    assert set(re.findall(r"^\| `(\w+)` \| \d+ × \d+ \|", TEXT, re.M)) == set(AcceleratorConfig.names())


def test_commands_have_the_options_that_they_are_shown_with(call):
    lines = re.findall(r"^intaglio (.*)$", TEXT, re.M)
    assert len(lines) > 5
    for line in lines:
        command, *words = line.split()
        code, known, _ = call(command, "--help")
        assert code == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"^ +{option} ", known, re.M), line


def test_the_example_in_python_runs(monkeypatch, tmp_path, capsys):
    """With the functional backend throughout, which needs no build, and a machine's Verilog left out."""
    (example,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    test = np.load(MODELS / "digits_test.npz")["input"]
    np.save(tmp_path / "images.npy", test[:5])
    (tmp_path / "model.txt").write_bytes((MODELS / "digits_sbnq4.txt").read_bytes())
    monkeypatch.chdir(tmp_path)
    run = session.run
    monkeypatch.setattr(
        session, "run", lambda *given, **named: run(*given, **named | {"backend": "functional"})
    )
    written = []
    signature = inspect.signature(verilog.generate)
    monkeypatch.setattr(
        verilog, "generate", lambda *given, **named: written.append(signature.bind(*given, **named))
    )
    exec(example, {"images": test})
    assert written[0].arguments == {"config": "sbnq8x8", "output": "rtl", "name": "my_npu"}
    assert "None 0 {'" in capsys.readouterr().out
