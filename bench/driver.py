"""The C driver: how large it is on a small processor, and every network run by it on the simulated machine."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.driver_harness import DRIVER, TIMEOUT, Driver, build, one_behind_the_other
from bench.page import Grid
from intaglio import artifacts, session
from intaglio.demo import embedded
from intaglio.sim.simulator.build import build as build_machine
from intaglio.spec.artifact import Role

PAGE = "driver.md"
CORE_BYTES = 4096
"""Bar of the driver without explanations, values and self-test."""
TESTS = 2
PARTS = {
    "core": ("intaglio.c", "intaglio_bytes.c"),
    "and explanations": ("intaglio_text.c",),
    "and self-test": ("intaglio_self_test.c",),
    "and values": ("intaglio_quantize.c",),
}
_OPTIONS = ("-std=c99", "-ffreestanding", "-Os", "-ffunction-sections", "-fdata-sections", "-nostdlib")
_KEPT = (".text", ".rodata", ".srodata", ".data", ".sdata", ".bss", ".sbss")


class SizeError(RuntimeError):
    """No size could be taken; one line."""


@dataclass(frozen=True)
class Compiler:
    """One that makes RV32IMC: its name and the command that it begins with, and what it links with at last."""

    name: str
    command: tuple[str, ...]
    libraries: tuple[str, ...] = ()


def compilers() -> list[Compiler]:
    """Those that are there. GCC has a library for floats; Zig's Clang brings none, and values are left out."""
    found = []
    if gcc := shutil.which("riscv64-unknown-elf-gcc"):
        found.append(Compiler("GCC", (gcc, "-march=rv32imc", "-mabi=ilp32"), ("-lgcc",)))
    if importlib.util.find_spec("ziglang"):
        target = ("-target", "riscv32-freestanding", "-mcpu=generic_rv32+m+c+relax")
        plain = ("-fno-sanitize=all", "-fno-asynchronous-unwind-tables")
        found.append(Compiler("Clang of Zig", (sys.executable, "-m", "ziglang", "cc", *target, *plain)))
    return found


def size_of(compiler: Compiler, sources: tuple[str, ...], folder: Path) -> int:
    """Bytes of these files of the driver, every function of theirs kept that is for users, linked with nothing unused.

    Raises SizeError where the compiler or `size` fails.
    """
    objects, public = [], []
    for source in sources:
        objects.append(folder / f"{Path(source).stem}.o")
        _run(*compiler.command, *_OPTIONS, "-c", str(DRIVER / source), "-o", str(objects[-1]))
        listed = _run("nm", "-g", "--defined-only", str(objects[-1])).splitlines()
        public += [line.split()[2] for line in listed if line.strip()]
    linked = folder / "linked"
    keep = [f"-Wl,-u,{name}" for name in public]
    options = ("-Wl,--gc-sections", f"-Wl,-e,{public[0]}", *keep)
    _run(*compiler.command, *_OPTIONS, *options, *map(str, objects), *compiler.libraries, "-o", str(linked))
    sections = (line.split() for line in _run("size", "-A", str(linked)).splitlines())
    return sum(int(line[1]) for line in sections if len(line) >= 3 and line[0].startswith(_KEPT))


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise SizeError(f"{Path(command[0]).name}: {said.strip().splitlines()[0]}") from error


def sizes() -> Grid:
    """Files and compilers. Raises SizeError where there is none, or one fails."""
    made = compilers()
    if not made:
        raise SizeError("no compiler for RISC-V: install gcc-riscv64-unknown-elf, or the extra soc")
    rows: list[list[str]] = []
    sources: tuple[str, ...] = ()
    for part, files in PARTS.items():
        sources += files
        with tempfile.TemporaryDirectory() as folder:
            rows.append([part, *(_shown(compiler, sources, Path(folder)) for compiler in made)])
    return Grid(["bytes", *(compiler.name for compiler in made)], rows)


def _shown(compiler: Compiler, sources: tuple[str, ...], folder: Path) -> str:
    if "intaglio_quantize.c" in sources and not compiler.libraries:
        return "wants a library for floats"
    return f"{size_of(compiler, sources, folder):,}"


@dataclass(frozen=True)
class Row:
    """A network run by the driver: self-tests, tensors whose CRC is right, and of how many; cycles of the last run."""

    network: str
    config: str
    tests: int
    equal: int
    wanted: int
    cycles: int


def grid(rows: Sequence[Row]) -> Grid:
    return Grid(
        ["network", "config", "self-tests", "tensors equal", "of", "cycles"],
        [
            [row.network, row.config, f"{row.tests}", f"{row.equal}", f"{row.wanted}", f"{row.cycles:,}"]
            for row in rows
        ],
        left=2,
    )


def blocks(size: Grid, rows: Sequence[Row]) -> dict[str, str]:
    """Of the page."""
    return {"size": size.markdown(), "networks": grid(rows).markdown()}


def networks(shared: Path, folder: Path) -> Iterator[Row]:
    """The embedded networks, and those of a folder where it is there: every layer of each self-test compared by the
    driver. Builds the machines that are not built yet, a minute each."""
    program = build(folder)
    models: list[tuple[Path, Path | None]] = [
        *embedded(),
        *((path, None) for path in sorted(shared.glob("*.tflite"))),
    ]
    for model, images in models:
        written = artifacts.write(model, folder, tests=TESTS, inputs=images, layers=True)
        artifact = written.artifact
        config = session.load_config(artifact.program.config)
        with Driver(program, folder) as driver:
            driver.machine(build_machine(config), config)
            driver.load(written.files[0].read_bytes())
            driver.bind_all(artifact, one_behind_the_other(artifact))
            _, tests, equal, *_ = driver.numbers("test", TIMEOUT)
            cycles = driver.numbers("result")[0]
        wanted = TESTS * (len(artifact.program.layers) + len(artifact.of_role(Role.OUTPUT)))
        yield Row(artifact.name, config.name, tests, equal, wanted, cycles)
