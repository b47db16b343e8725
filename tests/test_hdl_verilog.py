# amaranth: UnusedElaboratable=no
import gc
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
from amaranth.hdl import Shape, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from intaglio.hdl.catalogue import units
from intaglio.hdl.units.mac import MAC
from intaglio.hdl.units.rounding import Rounding
from intaglio.hdl.verilog import emit, payload_table, write
from intaglio.sim.simulator.verilator import find

UNITS = list(units())


@pytest.fixture(scope="module")
def emitted():
    components = {name: make() for name, make in units().items()}
    return {name: (component, emit(component, name)) for name, component in components.items()}


@pytest.fixture(scope="module")
def texts(emitted):
    return {name: text for name, (_, text) in emitted.items()}


def without_comments(text):
    return re.sub(r"//.*|/\*.*?\*/", "", text)


@pytest.mark.parametrize("name", UNITS)
def test_one_module_with_the_ports_of_the_signature(emitted, name):
    component, text = emitted[name]
    modules = re.findall(r"^module (\S+?)\((.*?)\);$", text, re.M | re.S)
    assert [module for module, _ in modules] == [name]
    signature = ["__".join(map(str, path)) for path, _, _ in component.signature.flatten(component)]
    ports = re.findall(r"^  (?:input|output)(?: reg)?(?: \[\d+:0\])? (\w+),?$", modules[0][1], re.M)
    assert ports == ["clk", "rst", *signature]


@pytest.mark.parametrize("name", UNITS)
def test_names_no_path_or_date(texts, name):
    text = texts[name].replace("//", "").replace("/*", "").replace("*/", "")
    assert not re.search(r"Yosys|Amaranth|\.cc|\.py|\w/\w|\d\d\d\d-\d\d", text)


@pytest.mark.parametrize("name", UNITS)
def test_its_comment_says_what_it_is(emitted, name):
    component, text = emitted[name]
    comment = [line.removeprefix("//").strip() for line in text.splitlines() if line.startswith("//")]
    assert comment[0] == name
    assert "SPDX-License-Identifier: Apache-2.0" in comment
    assert f"Written by Intaglio {importlib.metadata.version('intaglio')}." in comment
    assert f"Latency: {component.latency} cycle{'s' if component.latency > 1 else ''}." in comment
    assert [line.strip() for line in payload_table(component)] == comment[-len(payload_table(component)) :]


@pytest.mark.parametrize("name", UNITS)
def test_the_table_is_of_the_payloads(emitted, name):
    """Each field stands where Amaranth puts its lowest bit, and no bit of a payload is in none."""
    component, text = emitted[name]
    rows = [re.split("  +", line, maxsplit=3) for line in payload_table(component)[1:]]
    payloads = {
        "__".join(path): m.shape for path, m, _ in component.signature.flatten(component) if "payload" in path
    }
    assert {row[0] for row in rows} == set(payloads)
    for port, shape in payloads.items():
        width = Shape.cast(shape).width
        assert f"[{width - 1}:0] {port}" in text
        covered = 0
        for _, bits, field, kind in (row for row in rows if row[0] == port):
            high, low = map(int, bits.strip("[]").split(":"))
            mask = (1 << (high + 1)) - (1 << low)
            assert not covered & mask
            covered |= mask
            if field != "all":
                one = [1] + [0] * (shape[field].shape.length - 1) if " times " in kind else 1
                assert shape.const({field: one}).as_bits() == 1 << low
                assert shape[field].width == high - low + 1
        assert covered == (1 << width) - 1


def test_the_table_of_a_structure_in_a_structure():
    pair = data.StructLayout({"low": signed(3), "mode": Rounding})
    shape = data.StructLayout({"tag": 2, "none": 0, "pair": pair, "many": data.ArrayLayout(signed(4), 3)})
    component = wiring.Component({"i": In(stream.Signature(shape))})
    assert payload_table(component) == [
        "port        bits    field      type",
        "i__payload  [1:0]   tag        unsigned 2",
        "i__payload  [4:2]   pair.low   signed 3",
        "i__payload  [6:5]   pair.mode  unsigned 2: 0 FLOOR, 1 HALF_UP, 2 HALF_AWAY, 3 HALF_EVEN",
        "i__payload  [18:7]  many       3 times signed 4, the first lowest",
    ]


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
    assert "*" not in without_comments(texts[name])
    assert "*" in without_comments(texts["mac_int8_int8"])


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


def test_a_keyword_as_name():
    with pytest.raises(ValueError, match="^`name` must be a Verilog identifier, and no keyword, not 'wire'$"):
        emit(MAC(), "wire")


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
