# amaranth: UnusedElaboratable=no
import gc
import os
import re
import subprocess
import sys

import pytest

from intaglio.hdl.catalogue import units
from intaglio.hdl.units.mac import MAC
from intaglio.hdl.verilog import emit, write
from intaglio.sim.simulator.verilator import find

UNITS = list(units())


@pytest.fixture(scope="module")
def emitted():
    components = {name: make() for name, make in units().items()}
    return {name: (component, emit(component, name)) for name, component in components.items()}


@pytest.fixture(scope="module")
def texts(emitted):
    return {name: text for name, (_, text) in emitted.items()}


@pytest.mark.parametrize("name", UNITS)
def test_one_module_with_the_ports_of_the_signature(emitted, name):
    component, text = emitted[name]
    modules = re.findall(r"^module (\S+?)\((.*)\);$", text, re.M)
    assert [module for module, _ in modules] == [name]
    signature = ["__".join(map(str, path)) for path, _, _ in component.signature.flatten(component)]
    assert sorted(modules[0][1].split(", ")) == sorted(["clk", "rst", *signature])


@pytest.mark.parametrize("name", UNITS)
def test_names_no_version_path_or_date(texts, name):
    assert not re.search(r"Yosys|Amaranth|\.cc|\.py|/|\d\d\d\d-\d\d", texts[name])


def test_the_same_bytes_in_another_process(texts):
    script = "import sys; from intaglio.hdl.catalogue import units; from intaglio.hdl.verilog import emit\n"
    script += "for n, make in units().items(): sys.stdout.write(emit(make(), n))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "".join(texts.values())


@pytest.mark.parametrize("name", UNITS)
def test_lint(texts, name, tmp_path):
    path = tmp_path / f"{name}.v"
    path.write_text(texts[name])
    options = ["--lint-only", "-Wall", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC"]
    tool = find()
    run = subprocess.run(
        [str(tool.executable), *options, path], env=tool.environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "%Warning" not in run.stderr


@pytest.mark.parametrize("name", ["mac_int8_ternary", "mac_int8_binary"])
def test_no_multiplier(texts, name):
    assert "*" not in texts[name]
    assert "*" in texts["mac_int8_int8"]


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_states_its_latency(emitted, name):
    assert emitted[name][0].latency in range(1, 9)


def test_write(texts, tmp_path):
    path = write(emit(units()["clamp"](), "clamp"), "clamp", tmp_path / "verilog")
    assert path == tmp_path / "verilog" / "clamp.v"
    assert path.read_text() == texts["clamp"]


def test_bad_component():
    with pytest.raises(TypeError, match="^`component` must be a wiring.Component, not 'mac'$"):
        emit("mac", "mac")


@pytest.mark.parametrize("name", ["", "a b", "1st", "mac.v"])
def test_bad_name(name):
    with pytest.raises(ValueError, match="^`name` must be a Verilog identifier, not "):
        emit(MAC(), name)


def test_what_yosys_refuses(monkeypatch):
    monkeypatch.setattr("intaglio.hdl.verilog._SCRIPT", "no_such_command")
    with pytest.raises(RuntimeError, match="^Yosys refused `mac`: ERROR: No such command: no_such_command"):
        emit(MAC(), "mac")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collection_of_garbage_is_left_as_it_was(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        emit(MAC(), "top")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
