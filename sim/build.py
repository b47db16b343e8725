"""Builds the simulated machine: Verilog, Verilator, a shared library; once for each content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from hdl.config import AcceleratorConfig
from sim import verilator

ROOT = Path(__file__).resolve().parent.parent
CACHE = (ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()) / "build" / "sim"
HARNESS = Path(__file__).parent / "harness.cpp"
_LIBRARY = "harness.so"
_OPTIONS = (
    "--cc",
    "--exe",
    "--build",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--output-split",
    "20000",
    "-Wall",
    "-Wno-WIDTHEXPAND",
    "-Wno-WIDTHTRUNC",
    "--top-module",
    "machine",
    "-LDFLAGS",
    "-shared",
)
_COMPILER_FLAGS = "-O2 -fPIC"


class BuildError(RuntimeError):
    """The simulated machine could not be built; one line says why and where the log is."""


def build(config: AcceleratorConfig, trace: bool = False) -> Path:
    """The shared library of the Verilated machine and its harness; built unless `build/sim` holds it already.

    Raises BuildError, or `sim.verilator.VerilatorNotFound`.
    """
    tool = verilator.find()
    folder = _folder(config, trace, tool)
    library = folder / _LIBRARY
    if library.is_file():
        return library
    if trace:
        verilator.require_fst()
    verilator.require_plain_path(CACHE)
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{CACHE}: cannot be made ({error.strerror}); machines are built there") from error
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as name:
        work = Path(name).resolve()
        _make(config, trace, tool, work)
        # Another builder may have been faster: its library is the same.
        kept = work / "kept"
        kept.mkdir()
        shutil.move(work / "obj" / _LIBRARY, kept / _LIBRARY)
        shutil.move(work / "machine.v", kept / "machine.v")
        try:
            kept.rename(folder)
        except OSError:
            if not library.is_file():
                raise
    return library


def cached(config: AcceleratorConfig, trace: bool = False) -> bool:
    """Whether `build` has nothing to build."""
    return (_folder(config, trace, verilator.find()) / _LIBRARY).is_file()


def _folder(config: AcceleratorConfig, trace: bool, tool: verilator.Verilator) -> Path:
    return CACHE / f"{re.sub(r'[^A-Za-z0-9_-]', '_', config.name)}-{_key(config, trace, tool)}"


def _key(config: AcceleratorConfig, trace: bool, tool: verilator.Verilator) -> str:
    """A digest of all that the library is made from."""
    digest = hashlib.sha256()
    fields = {key: value for key, value in dataclasses.asdict(config).items() if key != "name"}
    made_with = [
        fields,
        trace,
        str(tool.executable),
        tool.version,
        _OPTIONS,
        _COMPILER_FLAGS,
        shutil.which("g++"),
    ]
    digest.update(json.dumps(made_with).encode())
    for path in (HARNESS, *sorted((ROOT / "hdl").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make(config: AcceleratorConfig, trace: bool, tool: verilator.Verilator, work: Path) -> None:
    from hdl.verilog import emit_machine

    verilog = work / "machine.v"
    verilog.write_text(emit_machine(config))
    flags = _COMPILER_FLAGS + (" -DTRACE" if trace else "")
    command = [
        str(tool.executable),
        *_OPTIONS,
        *(("--trace-fst",) if trace else ()),
        "-j",
        str(len(os.sched_getaffinity(0))),
        "-CFLAGS",
        flags,
        "-o",
        _LIBRARY,
        "--Mdir",
        str(work / "obj"),
        str(verilog),
        str(HARNESS),
    ]
    log = CACHE / f"{work.name}.log"
    with log.open("wb") as output:
        # In a session of their own, so that an interrupt ends the compilers, too.
        process = subprocess.Popen(
            command, cwd=work, env=tool.environment(), stdout=output, stderr=output, start_new_session=True
        )
        try:
            failed = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.unlink()
            raise
    if failed:
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line] or [
            "no reason given"
        ]
        raise BuildError(f"Verilator could not build {config.name}: {lines[0].strip()}; see {log}")
    log.unlink()
