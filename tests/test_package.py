"""The package as it is installed: from a wheel, in an environment and a folder that know nothing of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import intaglio
from tests.rooms import ROOMS, ROOT

DATA = (".py", ".toml", ".cpp", ".h", ".v", ".vlt", ".txt", ".npz")
TINY = Path(__file__).with_name("tiny.toml")
USERS_OWN = (
    "network.py",
    "golden.py",
    "sim/__init__.py",
    "hdl/__init__.py",
    "spec/__init__.py",
    "compiler.py",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The checkout's files that make the package, its links still links, without what earlier builds left."""
    place = tmp_path_factory.mktemp("source")
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("intaglio", *ROOMS):
        shutil.copytree(ROOT / name, place / name, symlinks=True, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    return place


def pip(*arguments: object) -> None:
    """pip without its index: the build system is the environment's own."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "-qq", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """Built from the source distribution, as an index's users would."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", sdist, "--no-build-isolation", "--wheel-dir", folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Python of an environment with the wheel in it. What the project depends on is this environment's, to spare the
    download; `intaglio` is not: an editable install is known to its own environment alone."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    packages = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip("--python", python, "install", wheel)
    return python


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder outside the checkout with a user's own modules, by the names of our rooms."""
    folder = tmp_path / "users"
    for name in USERS_OWN:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise RuntimeError('the user\\'s own {name} is imported')\n")
    shutil.copy(TINY, folder)
    return folder


@pytest.fixture
def run(installed, elsewhere):
    """Runs the environment's Python in the user's folder; what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [str(installed), *map(str, arguments)],
            cwd=elsewhere,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


def test_the_build_system_is_the_one_that_the_tests_have() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["build-system"]["requires"]) <= set(
        project["project"]["optional-dependencies"]["test"]
    )


def test_the_wheel_has_one_package_with_all_its_files(source, sdist, wheel) -> None:
    wanted = {
        f"intaglio/{path.relative_to(source)}" if room != "intaglio" else f"{path.relative_to(source)}"
        for room in ("intaglio", *ROOMS)
        for path in (source / room).rglob("*")
        if path.suffix in DATA and not path.is_symlink()
    }
    assert {
        "intaglio/hdl/core.py",
        "intaglio/sim/simulator/harness.cpp",
        "intaglio/spec/configs/sbnq8x8.toml",
    } < wanted
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "intaglio",
        f"intaglio-{intaglio.__version__}.dist-info",
    }
    assert {name for name in names if name.startswith("intaglio/")} == wanted
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive}
    assert wanted | {"pyproject.toml", "README.md", "LICENSE"} <= set(members)
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]


def test_commands_beside_a_users_own_modules(run, installed, elsewhere, wheel) -> None:
    models = Path(run("-I", "-c", "import intaglio; print(*intaglio.__path__)").strip()) / "models"
    assert models.is_relative_to(installed.parent.parent)
    command, images = (
        ("-m", "intaglio"),
        ("--inputs", models / "digits_test.npz", "--labels", models / "digits_test.npz"),
    )
    digits = ("run", models / "digits_sbnq4.txt", *images, "--config", "tiny.toml")

    shown = run(*command, "demo", "--backend", "functional")
    assert shown.count("bit-exact: every element") == shown.count(" 400 inferences ") == 6
    # On simulated hardware, in worker processes.
    for backend in ("rtl", "functional"):
        said = run(*command, *digits, "--limit", 30, "--jobs", 2, "--backend", backend)
        assert "bit-exact: every element of 5 tensors of 30 inferences" in said
    assert "intaglio_tiny.v: the machine tiny" in run(
        *command, "generate", "--config", "tiny.toml", "--output", "rtl"
    )
    assert "module intaglio_tiny(" in (elsewhere / "rtl" / "intaglio_tiny.v").read_text()
    # The console script, and what a user writes beside their own modules.
    program = subprocess.run(
        [installed.with_name("intaglio"), "--version"], capture_output=True, text=True, check=True
    )
    assert program.stdout == f"intaglio {intaglio.__version__}\n"
    (elsewhere / "own.py").write_text(
        "import intaglio\n"
        f"result = intaglio.run({str(models / 'digits_sbnq4.txt')!r}, {str(models / 'digits_test.npz')!r},\n"
        "                      config='tiny.toml', limit=5, backend='functional')\n"
        "print(result.mismatches, len(result.rows()), intaglio.hdl.__name__)\n"
    )
    assert run("own.py") == "0 5 intaglio.hdl\n"
    left = {path.name for path in elsewhere.iterdir()}
    assert left == {name.partition("/")[0] for name in USERS_OWN} | {"own.py", "rtl", "tiny.toml"}


def test_training_says_in_one_line_what_it_needs(run) -> None:
    """With the extra, it says how it is called."""
    without = (
        "import sys, runpy; sys.modules['torch'] = sys.modules['sklearn'] = None; sys.argv = ['train', '--help'];"
        "runpy.run_module('intaglio.train', run_name='__main__')"
    )
    said = run("-c", without, code=1)
    assert said.count("\n") == 1
    assert re.match(
        r"training needs (torch|sklearn), which is not installed: pip install 'intaglio\[train\]'", said
    )
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    assert "--scheme" in run("-m", "intaglio.train", "--help")


def test_no_room_has_two_names() -> None:
    """In a process that could import them by both."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    program += "from tests.rooms import *; print(len(import_all()), imported_twice())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, _, twice = done.stdout.partition(" ")
    assert twice == "[]\n"
    assert int(count) > 100


def test_no_room_has_two_names_inside_a_simulator(tmp_path) -> None:
    pytest.importorskip("cocotb", reason="the extra `sim` is not installed")
    from intaglio.sim.cocotb_runs import build, simulate

    place = build(tmp_path, {"top.v": "module top(input clk, output o); assign o = clk; endmodule\n"})
    _, failure = simulate(place, ["tests.cocotb_imports"], {"no_room_by_two_names": 1}, 1, 300)
    assert failure == ""


def test_a_room_by_two_names_is_seen() -> None:
    program = "from tests.rooms import *; import golden; print(imported_twice())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "'golden'" in done.stdout
