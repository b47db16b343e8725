"""What is built for simulation: where it is kept, when it is built anew, and what a user's machine does to it.

Most of it with a program in Verilator's place that is done at once.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.sim.simulator import build as building
from intaglio.sim.simulator import cache, verilator
from intaglio.sim.simulator.build import EMITTER, PACKAGES, BuildError, build_verilog
from intaglio.sim.simulator.sources import imported
from intaglio.sim.simulator.verilator import VerilatorNotFound
from intaglio.spec.config import AcceleratorConfig

TINY = Path(__file__).with_name("tiny.toml")
TRAFFIC = Path(__file__).with_name("traffic.v")
BUILD_IT = """
import pathlib, sys
from intaglio.sim.simulator.build import build_verilog
print(build_verilog(pathlib.Path(sys.argv[1]).read_text(), "traffic"))
"""
RUN_IT = """
import sys
from intaglio.compiler import compile_network
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator.build import cached
from intaglio.sim.simulator.run import run
from intaglio.spec.config import AcceleratorConfig
config = AcceleratorConfig.load(sys.argv[1])
network = load(sys.argv[2])
assert cached(config)
result = run(network, compile_network(network, config), config, load_inputs(sys.argv[3], network, 2))
print(result.mismatches, "amaranth" in sys.modules)
"""


class Tools:
    """A Verilator, first on PATH, that writes what the test says; and how often it was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.installed()

    def installed(self, version: str = "5.040", script: str = "echo library > obj/harness.so") -> None:
        program = self.folder / "verilator"
        program.write_text(
            f"#!/bin/sh\n[ $1 = --version ] && {{ echo Verilator {version}; exit; }}\n"
            f"echo run >> {self.folder}/runs\nmkdir -p obj\n{script}\n"
        )
        program.chmod(0o755)
        verilator.find.cache_clear()

    def removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        verilator.find.cache_clear()

    @property
    def runs(self) -> int:
        file = self.folder / "runs"
        return len(file.read_text().split()) if file.exists() else 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where machines are built, empty at first."""
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "machines"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Tools]:
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    yield Tools(tmp_path / "tools")
    verilator.find.cache_clear()


def made() -> Path:
    return build_verilog("module machine; endmodule\n", "planted")


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("INTAGLIO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.folder() == Path("/home/somebody/.cache/intaglio")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == Path("/home/somebody/.cache/intaglio")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert cache.folder() == Path("/var/caches/intaglio")
    monkeypatch.setenv("INTAGLIO_CACHE", "~/kept")
    assert cache.folder() == Path("/home/somebody/kept")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTAGLIO_CACHE", "here")
    assert cache.folder() == tmp_path / "here"


def test_a_user_without_a_home_is_told(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("INTAGLIO_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(BuildError, match="set INTAGLIO_CACHE"):
        made()


def test_it_is_built_once_in_the_cache_and_nowhere_else(tools: Tools, home: Path) -> None:
    def beside() -> set[Path]:
        return {
            path for path in (PACKAGES / "intaglio" / "sim").rglob("*") if "__pycache__" not in path.parts
        }

    before = beside()
    library = made()
    assert made() == library
    assert tools.runs == 1
    assert library.is_relative_to(home)
    assert {path.name for path in home.iterdir()} == {library.parent.name, f"{library.parent.name}.lock"}
    assert {path.name for path in library.parent.iterdir()} == {"harness.so", "machine.v", "built.json"}
    assert beside() == before


def test_two_at_once_build_once(tools: Tools, home: Path) -> None:
    tools.installed(script="sleep 1; echo library > obj/harness.so")
    command = [sys.executable, "-c", BUILD_IT, str(TRAFFIC)]
    processes = [subprocess.Popen(command, cwd=PACKAGES, stdout=subprocess.PIPE) for _ in range(3)]
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(said) == 1
    assert tools.runs == 1


def cut(library: Path) -> None:
    library.write_bytes(library.read_bytes()[:3])


def flip(library: Path) -> None:
    library.write_bytes(b"Library\n")


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        Path.unlink,
        lambda library: library.with_name("machine.v").write_text(""),
        lambda library: library.with_name("built.json").unlink(),
        lambda library: library.with_name("built.json").write_text("[]"),
        lambda library: library.with_name("built.json").write_text('{"files": {}}'),
    ],
    ids=["cut", "a byte", "no library", "no Verilog", "no record", "another record", "an empty record"],
)
def test_what_is_damaged_is_built_anew_and_said(tools: Tools, capsys, damage) -> None:
    library = made()
    assert capsys.readouterr().err == ""
    damage(library)
    assert made() == library
    assert library.read_text() == "library\n"
    assert tools.runs == 2
    said = capsys.readouterr().err
    assert str(library.parent) in said
    assert "damaged" in said
    assert said.count("\n") == 1
    made()
    assert capsys.readouterr().err == ""


def test_a_damaged_one_is_not_used_where_nothing_can_be_built(tools: Tools, monkeypatch, capsys) -> None:
    cut(made())
    tools.removed(monkeypatch)
    with pytest.raises(VerilatorNotFound):
        made()
    assert "damaged" in capsys.readouterr().err


def test_another_verilator_builds_anew_and_none_takes_what_is_there(tools: Tools, monkeypatch) -> None:
    first = made()
    tools.installed("5.041")
    second = made()
    assert first != second
    assert tools.runs == 2
    os.utime(first.parent, (1, 1))
    tools.removed(monkeypatch)
    assert made() == second
    cut(second)
    assert made() == first


def test_another_compiler_builds_anew(tools: Tools, monkeypatch) -> None:
    first = made()
    monkeypatch.setattr(verilator, "compiler_version", lambda: "99.1")
    assert made() != first


def test_a_built_machine_wants_no_tools_and_no_amaranth() -> None:
    building.build(AcceleratorConfig.load(TINY))
    models = PACKAGES / "intaglio" / "models"
    command = [sys.executable, "-c", RUN_IT, TINY, models / "digits_sbnq4.txt", models / "digits_test.npz"]
    run = subprocess.run(command, cwd=PACKAGES, env=os.environ | {"PATH": ""}, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "0 False\n"), run.stderr


def test_sources_are_what_the_emission_loads() -> None:
    script = "import sys; from intaglio.spec.config import AcceleratorConfig\n"
    script += f"from {EMITTER} import emit_machine; emit_machine(AcceleratorConfig.load(sys.argv[1]))\n"
    script += "print(*(name for name in sys.modules if name.startswith('intaglio.')))"
    run = subprocess.run(
        [sys.executable, "-c", script, TINY], cwd=PACKAGES, capture_output=True, text=True, check=True
    )
    assert set(run.stdout.split()) <= set(imported(EMITTER, PACKAGES))
    assert "intaglio.hdl.engines.matmul" in run.stdout


def test_a_source_in_any_folder_counts_and_one_that_is_not_imported_does_not(tmp_path: Path) -> None:
    for room in ("hdl", "spec"):
        shutil.copytree(PACKAGES / "intaglio" / room, tmp_path / "intaglio" / room)
    config = AcceleratorConfig.load(TINY)

    def content() -> tuple[bytes, ...]:
        building._sources.cache_clear()
        return building._content(config, tmp_path)

    def changed(name: str, text: str) -> bool:
        before = content()
        path = tmp_path / "intaglio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        return content() != before

    assert changed("hdl/engines/matmul.py", "# another\n")
    assert changed("spec/records.py", "# another\n")
    assert changed("hdl/units/__init__.py", "# another\n")
    assert not changed("hdl/catalogue.py", "# another\n")
    assert not changed("hdl/engines/deep/new.py", "PLACE = 1\n")
    assert not changed("hdl/engines/deep/__init__.py", "")
    assert changed("hdl/engines/matmul.py", "def late():\n    from .deep import new\n")
    assert changed("hdl/engines/deep/new.py", "# another\n")


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "room.py").write_text("import os\nimport house.cellar\n")
    with pytest.raises(ModuleNotFoundError, match=r"house\.cellar"):
        imported("house.room", tmp_path)


def test_a_path_that_make_cannot_handle_is_told(tools: Tools, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(VerilatorNotFound, match=r"my cache.*: set INTAGLIO_CACHE to a folder elsewhere$"):
        made()


def test_a_cache_that_cannot_be_made_is_told(tools: Tools, home: Path) -> None:
    home.parent.write_text("")
    with pytest.raises(BuildError, match=rf"^{home}: planted cannot be built there \(.*set INTAGLIO_CACHE"):
        made()


def test_a_compiler_on_a_full_disk(tools: Tools, home: Path) -> None:
    tools.installed(script="echo /x/ccJ0zS.s: No space left on device >&2; exit 1")
    with pytest.raises(
        BuildError, match=rf"^{home}/planted-\S*: .* \(the disk is full\); set INTAGLIO_CACHE"
    ):
        made()
    assert [path.suffix for path in home.iterdir()] == [".lock"]


def test_a_full_disk_in_every_step(tools: Tools, home: Path, monkeypatch) -> None:
    """The n-th file that is written finds the disk full, whichever it is; afterwards it is built."""
    write, left = Path.write_text, 0

    def until_full(path: Path, text: str) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text)

    for count in range(3):
        left = count
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_text", until_full)
            with pytest.raises(BuildError, match=rf"^{home}/planted\S*: .* \(the disk is full\); set"):
                made()
    assert made().read_text() == "library\n"


@pytest.mark.parametrize("size", ["16k", "200k", "1m"])
def test_a_disk_that_is_full(tmp_path: Path, monkeypatch, size: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root mounts a small disk")
    try:
        monkeypatch.setenv("INTAGLIO_CACHE", str(disk))
        with pytest.raises(BuildError, match=rf"^{disk}/machines\S*: traffic .* \(the disk is full\); set"):
            build_verilog(TRAFFIC.read_text(), "traffic")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_compiler_that_says_nothing(tools: Tools) -> None:
    tools.installed(script="exit 7")
    with pytest.raises(BuildError, match=r"^Verilator could not build planted: exit code 7; see "):
        made()


def inside(folder: Path) -> list[str]:
    """The processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue
    return found


def until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are found in /proc")
def test_a_build_that_is_killed_leaves_no_compiler_and_the_next_tidies_up(home: Path) -> None:
    command = [sys.executable, "-c", BUILD_IT, str(TRAFFIC)]
    killed = subprocess.Popen(command, cwd=PACKAGES, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: "cc1plus" in inside(home), 120)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    until(lambda: not inside(home), 5)
    (left,) = home.glob("*.building")
    assert any(left.iterdir())

    other = home / "other-1.building"
    other.mkdir()
    used = home / "used-1.building"
    used.mkdir()
    with cache.alone(home / "used-1"):
        run = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True, check=True)
    library = Path(run.stdout.strip())
    assert library.is_file()
    assert run.stderr == ""
    assert {path.name for path in home.iterdir() if path.suffix != ".lock"} == {
        library.parent.name,
        used.name,
    }
