"""The cycles of a tree's machines: every network of some folders, run through the command line of that tree.

Nothing of a tree is imported: `python -m intaglio inspect` says a network's inputs, random integers are made for them,
and `python -m intaglio run` runs them. Two trees get the same files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

INFERENCES = 2
LARGEST = "affine16x16"
"""The configuration that .tflite files run on beside the one that their tree picks."""
BRIEF = 120
"""Characters of a refusal that are shown."""
_INPUT = re.compile(r"^input (.+): ([0-9x]*) ?(u?)int(\d+)\b", re.M)
_STEM = re.compile(r"[^A-Za-z0-9_-]")


class AgainstError(RuntimeError):
    """One line: what cannot be compared, and why."""


@dataclass(frozen=True)
class Case:
    """A network's file, how it is called in tables, and a configuration; the tree's choice where None."""

    path: Path
    shown: str
    config: str | None = None

    @property
    def key(self) -> str:
        """What tells it from other cases: for tables and files."""
        return self.shown if self.config is None else f"{self.shown} on {self.config}"


@dataclass(frozen=True)
class Outcome:
    """How a tree ran a case: its exit code, what it said where that is not 0, and what it counted.

    `layers` are pairs of a name and cycles, in order; `outputs` says which bytes came out.
    """

    code: int
    said: str = ""
    config: str = ""
    cycles: float | None = None
    layers: tuple[tuple[str, float], ...] = ()
    outputs: str = ""


def intaglio(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m intaglio`` of a tree: it lies first on the path, since it is where the process works."""
    return python(tree, "-m", "intaglio", *arguments)


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this interpreter in a tree, whatever the environment says of paths and of widths of terminals."""
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**environment, "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        errors="replace",
    )


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    """What a command said last: of the command line, why it failed."""
    lines = [line.strip() for line in (run.stderr or run.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def cases(tree: Path, folders: Sequence[Path]) -> list[Case]:
    """The embedded networks of a tree, and those in folders: .tflite files, and IntegerNet's ``model.txt``."""
    found = [
        Case(path, path.stem)
        for path in sorted((tree / "intaglio").rglob("models/*"))
        if path.suffix in (".txt", ".npz", ".tflite") and not path.stem.endswith("_test")
    ]
    for folder in folders:
        if not folder.is_dir():
            raise AgainstError(f"--models {folder}: there is no such folder")
        files = sorted([*folder.rglob("*.tflite"), *folder.rglob("model.txt")])
        if not files:
            raise AgainstError(f"--models {folder}: holds no .tflite file and no model.txt")
        for path in (file.resolve() for file in files):
            shown = path.relative_to(folder.resolve()).as_posix()
            found += [Case(path, shown)] + [Case(path, shown, LARGEST)] * (path.suffix == ".tflite")
    return found


def write_inputs(said: str, path: Path, count: int, seed: int = 1) -> bool:
    """Random integers for the inputs that ``intaglio inspect`` lists, as an .npz; whether it lists any."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape, unsigned, bits in _INPUT.findall(said):
        lowest = 0 if unsigned else -(1 << (int(bits) - 1))
        kind = f"{unsigned}int{max(8, 1 << (int(bits) - 1).bit_length())}"
        extents = [int(extent) for extent in shape.split("x") if extent]
        arrays[name] = random.integers(lowest, lowest + (1 << int(bits)), (count, *extents), dtype=kind)
    if arrays:
        # A network of one input reads an array of any name; `file` would be savez's own.
        np.savez(path, **(arrays if len(arrays) > 1 else {"input": next(iter(arrays.values()))}))
    return bool(arrays)


def run(
    tree: Path, chosen: Sequence[Case], folder: Path, count: int, progress: Callable[[str], None]
) -> dict[str, Outcome]:
    """How a tree runs cases, by their keys. Inputs that lie in a folder from an earlier tree are taken, else made."""
    outcomes = {}
    for case in chosen:
        progress(case.key)
        inputs = folder / f"{_STEM.sub('_', case.shown)}.npz"
        said = intaglio(tree, "inspect", str(case.path))
        if said.returncode:
            outcomes[case.key] = Outcome(said.returncode, _without_folder(last_line(said), case))
        elif not inputs.is_file() and not write_inputs(said.stdout, inputs, count):
            raise AgainstError(f"{case.shown}: `intaglio inspect` lists no input that is known here")
        else:
            outcomes[case.key] = _run(tree, case, inputs, folder, count)
    return outcomes


def _run(tree: Path, case: Case, inputs: Path, folder: Path, count: int) -> Outcome:
    report, outputs = folder / "report.json", folder / "outputs.npz"
    for path in (report, outputs):
        path.unlink(missing_ok=True)
    said = intaglio(
        tree,
        *("run", str(case.path), "--inputs", str(inputs), "--limit", str(count), "--no-check"),
        *("--report", str(report), "--outputs", str(outputs), "--jobs", "1"),
        *(("--config", case.config) if case.config else ()),
    )
    if said.returncode:
        return Outcome(said.returncode, _without_folder(last_line(said), case))
    content = json.loads(report.read_text())
    layers = tuple((layer["name"], layer["cycles"]) for layer in content["layers"])
    return Outcome(0, "", content["config"], content["cycles"], layers, _outputs(outputs))


def _without_folder(said: str, case: Case) -> str:
    return said.replace(f"{case.path.parent}{os.sep}", "")


def _outputs(path: Path) -> str:
    """A digest of the arrays in an .npz: names, types, shapes, elements."""
    import hashlib

    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
            digest.update(arrays[name].tobytes())
    return digest.hexdigest()[:16]


def differences(old: Outcome, new: Outcome) -> Iterator[str]:
    """How two outcomes of a case differ, a line each."""
    if old.code != new.code:
        yield f"exit code {old.code} -> {new.code} ({_brief(old)} -> {_brief(new)})"
        return
    if old.config != new.config:
        yield f"picks {old.config} -> {new.config}"
    if old.cycles != new.cycles:
        yield f"{_counted(old.cycles)} -> {_counted(new.cycles)} cycles"
    if len(old.layers) != len(new.layers):
        yield f"{len(old.layers)} -> {len(new.layers)} layers"
    for (name, before), (renamed, after) in zip(old.layers, new.layers, strict=False):
        if before != after:
            called = name if name == renamed else f"{name} -> {renamed}"
            yield f"layer {called}: {_counted(before)} -> {_counted(after)} cycles"
    if old.outputs != new.outputs:
        yield "the outputs' elements differ"


def table(old: Mapping[str, Outcome], new: Mapping[str, Outcome]) -> tuple[Table, list[str]]:
    """A row a case, and what differs, a line each, the case first."""
    rows = Table(title="cycles of an inference", title_justify="left")
    rows.add_column("network")
    rows.add_column("config")
    for heading in ("layers", "before", "now"):
        rows.add_column(heading, justify="right")
    rows.add_column("")
    problems = []
    for key, before in old.items():
        after = new[key]
        found = [f"{key}: {line}" for line in differences(before, after)]
        problems += found
        verdict = "differs" if found else "equal"
        if not found and before.code:
            verdict = f"refused by both, exit code {before.code}: {_brief(before)}"
        cycles = [_counted(outcome.cycles) for outcome in (before, after)]
        called = key if before.code or after.code else key.removesuffix(f" on {after.config}")
        rows.add_row(escape(called), after.config, str(len(after.layers) or ""), *cycles, escape(verdict))
    if not any(outcome.cycles is not None for outcome in old.values()):
        problems.append("no network ran at all: nothing was compared")
    return rows, problems


def _brief(outcome: Outcome) -> str:
    """What was said, of which a network that fits no configuration says a page."""
    said = outcome.said.removeprefix("intaglio: ") or "it ran"
    return textwrap.shorten(said, BRIEF, placeholder=" ...")


def _counted(cycles: float | None) -> str:
    return "" if cycles is None else f"{cycles:,.0f}" if cycles == round(cycles) else f"{cycles:,.1f}"


def dumped(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """For a JSON file."""
    return {key: asdict(outcome) for key, outcome in outcomes.items()}
