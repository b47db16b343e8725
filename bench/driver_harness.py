"""The C driver, compiled with sanitizers into a program that runs it on a simulated machine (`driver_harness.c`)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.compiler.artifact import Artifact
from intaglio.sim.simulator.harness import MEMORY_LATENCY_CYCLES
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

HERE = Path(__file__).parent
DRIVER = HERE.parent / "driver"
SOURCES = sorted(DRIVER.glob("*.c"))
STRICT = (
    "-std=c99", "-ffreestanding", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror",
)  # fmt: skip
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
STATUSES = {
    name: int(number) for name, number in re.findall(r"X\((\w+), (\d+),", (DRIVER / "intaglio.h").read_text())
}
NAMES = {number: name for name, number in STATUSES.items()}
TIMEOUT = 50_000_000
"""Cycles of the simulated clock."""


def compilers() -> list[str]:
    return [name for name in ("gcc", "clang") if shutil.which(name)]


def build(folder: Path) -> Path:
    """The program, in this folder. Needs gcc."""
    objects = []
    for source in SOURCES:
        objects.append(folder / f"{source.stem}.o")
        command = ["gcc", *STRICT, *SANITIZED, "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True, capture_output=True, text=True)
    program = folder / "driver_harness"
    command = [
        "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *SANITIZED, f"-I{DRIVER}",
        str(HERE / "driver_harness.c"), *map(str, objects), "-ldl", "-o", str(program),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


class Driver:
    """The program at work. A context manager, which sees that it ended well: a sanitizer's find ends it otherwise."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        said = self._process.communicate()[1]
        if kind is None:
            assert self._process.returncode == 0, said

    def ask(self, *words: object) -> str:
        """What it answers to a line of these words."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(" ".join(str(int(word) if isinstance(word, int) else word) for word in words) + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.kill()
            raise AssertionError(f"{words}: {self._process.communicate()[1]}")
        return answer.strip()

    def status(self, *words: object) -> str:
        """The status that it answers, by name."""
        return NAMES[int(self.ask(*words))]

    def numbers(self, *words: object) -> list[int]:
        return [int(number) for number in self.ask(*words).split()]

    def machine(self, library: Path, config: AcceleratorConfig, latency: int = MEMORY_LATENCY_CYCLES) -> str:
        """A simulated machine, and whether it opens."""
        self.ask(
            "machine", library, latency, config.scratchpad_elements, config.vector_lanes,
            config.element_bits,
        )  # fmt: skip
        return self.status("open")

    def registers(self, fingerprint: int) -> str:
        """Instead: a machine's registers, which hold what is written."""
        self.ask("registers", fingerprint)
        return self.status("open")

    def load(self, content: bytes, offset: int = 0) -> str:
        """The status of an artifact that lies so many bytes behind where words do."""
        return self.status("load", self._file("artifact", content), offset)

    def load_each(self, contents: Iterable[bytes]) -> list[str]:
        whole = b"".join(len(content).to_bytes(4, "little") + content for content in contents)
        return [NAMES[number] for number in self.numbers("loads", self._file("artifacts", whole))]

    def bind_all(self, artifact: Artifact, places: Mapping[Region, int]) -> None:
        """Each region that the program uses to its place, where memory of its size answers."""
        for region, size in artifact.program.region_bytes.items():
            if size:
                self.ask("memory", places[region], size)
                status = self.status("bind", region, places[region], size)
                assert status == "OK", f"{region.name}: {status}"

    def fault(self, bytes: int = 512) -> str:
        """The last fault in words, in a text of so many bytes, and what it means."""
        return self.ask("fault", bytes).split(" ", 1)[1]

    def dump(self, base: int) -> bytes:
        """What the stretch of the machine's memory holds that begins there."""
        path = self._folder / "dump"
        self.ask("dump", base, path)
        return path.read_bytes()

    def convert(self, what: str, tensor: int, values: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
        """One of the conversions, from values to values."""
        status, found = self.try_convert(what, tensor, values, kind)
        assert status == "OK"
        return found

    def try_convert(
        self, what: str, tensor: int, values: npt.NDArray[Any], kind: Any
    ) -> tuple[str, npt.NDArray[Any]]:
        target = self._folder / "converted"
        status = self.status(what, tensor, self._file("values", values.tobytes()), target)
        return status, np.frombuffer(target.read_bytes(), kind)

    def _file(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


def one_behind_the_other(artifact: Artifact, base: int = 0) -> dict[Region, int]:
    """Places for all regions, from an address on."""
    places = {}
    for region in Region:
        places[region] = base
        base += artifact.program.region_bytes.get(region, 0)
    return places
