"""Builds the simulated machine: Verilog, Verilator, a shared library; once for each content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hdl.config import AcceleratorConfig
from sim import verilator

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path("build/sim")
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
    "-j",
    "2",
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
    folder = CACHE / f"{config.name}-{_key(config, trace, tool)}"
    library = folder / _LIBRARY
    if library.is_file():
        return library.resolve()
    verilator.require_build_tools()
    if trace:
        verilator.require_fst()
    CACHE.mkdir(parents=True, exist_ok=True)
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
    return library.resolve()


def _key(config: AcceleratorConfig, trace: bool, tool: verilator.Verilator) -> str:
    """A digest of all that the library is made from."""
    digest = hashlib.sha256()
    fields = {key: value for key, value in dataclasses.asdict(config).items() if key != "name"}
    compiler = shutil.which("c++") or shutil.which("g++") or ""
    digest.update(json.dumps([fields, trace, tool.version, _OPTIONS, _COMPILER_FLAGS, compiler]).encode())
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
        "-CFLAGS",
        flags,
        "-o",
        _LIBRARY,
        "--Mdir",
        str(work / "obj"),
        str(verilog),
        str(HARNESS),
    ]
    result = subprocess.run(
        command,
        cwd=work,
        env=tool.environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        log = CACHE / f"{config.name}.log"
        log.write_text(result.stdout)
        raise BuildError(f"Verilator could not build {config.name}: see {log}")
