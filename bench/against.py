"""Whether the machines of this tree are those of another revision: the same netlists but for names, the same cycles.

For a change that moves and renames and is to change nothing else. Of either tree nothing is taken but its command line
(`python -m intaglio`, run where that tree lies), the names of its configurations, and their fingerprints.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from bench import cycles, netlists
from bench.cycles import AgainstError, intaglio, last_line, python
from bench.flattened import Flattened, FlattenError, flatten

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("build") / "against"
"""Where the Verilog of both sides stays, for looking into what differs."""
_FINGERPRINTS = """\
import importlib, json, sys
kinds = vars(importlib.import_module(sys.argv[1])).values()
kind = next(kind for kind in kinds if isinstance(kind, type) and {"fingerprint", "load"} <= set(dir(kind)))
print(json.dumps({name: kind.load(name).fingerprint for name in sys.argv[2:]}))
"""
_MASTER = re.compile(r"\bm_axi_\w+")


@dataclass(frozen=True)
class Verdict:
    """A line that says it, whether the sides are equal, and what there is to add."""

    line: str
    equal: bool
    more: tuple[str, ...] = field(default=())


class Spread(TyperCommand):
    """A command whose list options take several values each: ``--configs A B`` is ``--configs A --configs B``."""

    LISTS = ("--configs", "--models", "--allow")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.spread(args))

    @classmethod
    def spread(cls, arguments: Sequence[str]) -> list[str]:
        """The arguments with the option's name before each value that follows a value."""
        found: list[str] = []
        option = None
        for argument in arguments:
            if argument.startswith("-"):
                option = argument if argument in cls.LISTS else None
            elif option and found[-1] != option:
                found.append(option)
            found.append(argument)
        return found


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision of this repository, which goes again, also where the process is ended."""
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="intaglio-against-") as place:
        tree = Path(place) / "tree"
        made = _git("worktree", "add", "--detach", str(tree), revision)
        if made.returncode:
            raise AgainstError(f"no worktree of {revision}: {last_line(made).removeprefix('fatal: ')}")
        try:
            # What the revision builds lasts: its simulated machines take minutes, and are known by their content.
            (tree / "build").symlink_to(_made(FOLDER / "built").resolve())
            for side in (tree, ROOT):
                check(side)
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM unwinds what was begun, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError as error:
        raise AgainstError(f"git does not run: {error.strerror}") from error


def check(tree: Path) -> None:
    """Raises AgainstError where a tree's own package is not the one that runs there: an installed one would hide it."""
    said = python(tree, "-c", "import intaglio; print(intaglio.__file__)")
    if said.returncode:
        raise AgainstError(f"a tree's package does not import: {last_line(said)}")
    if not Path(said.stdout.strip()).resolve().is_relative_to(tree.resolve()):
        raise AgainstError("another package `intaglio` than the tree's own is imported there")


def patterns(allowed: Sequence[str]) -> list[re.Pattern[str]]:
    """The regular expressions of ``--allow``."""
    try:
        return [re.compile(pattern) for pattern in allowed]
    except re.error as error:
        raise AgainstError(f"--allow: {error}; give a regular expression of names of nets") from error


def _rooms(tree: Path) -> list[Path]:
    """The packages of a tree: its own folders, not those that tools make."""
    return sorted(
        folder
        for folder in tree.iterdir()
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in ("build", "tests")
    )


def configurations(tree: Path) -> list[str]:
    """The names of the configurations that a tree ships."""
    found = {path.stem for room in _rooms(tree) for path in room.rglob("configs/*.toml")}
    if not found:
        raise AgainstError("a tree ships no configuration: no folder `configs` holds a .toml file")
    return sorted(found)


def fingerprints(tree: Path, configs: Sequence[str]) -> dict[str, int]:
    """The fingerprint of each configuration, from whichever module of the tree defines it."""
    modules = [
        path.relative_to(tree).with_suffix("").parts
        for room in _rooms(tree)
        for path in sorted(room.rglob("*.py"))
        if "def fingerprint(" in path.read_text(encoding="utf-8")
    ]
    for parts in modules:
        said = python(tree, "-c", _FINGERPRINTS, ".".join(parts), *configs)
        if said.returncode == 0:
            return {name: int(value) for name, value in json.loads(said.stdout).items()}
    raise AgainstError(
        "a tree does not say its configurations' fingerprints: no module with `def fingerprint` does"
    )


def emit(tree: Path, config: str, folder: Path) -> str:
    """The Verilog of a tree's machine."""
    for path in folder.glob("*.v"):
        path.unlink()
    said = intaglio(tree, "generate", "--config", config, "--output", str(folder.resolve()))
    if said.returncode:
        raise AgainstError(f"{config}: no Verilog, exit code {said.returncode}: {last_line(said)}")
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.v"))}
    machines = [name for name, text in texts.items() if _MASTER.search(text)]
    chosen = "machine.v" if "machine.v" in texts else machines[0] if len(machines) == 1 else None
    if chosen is None:
        raise AgainstError(
            f"{config}: {len(machines)} of the {len(texts)} files of Verilog are a machine's, not one"
        )
    return texts[chosen]


def compare_netlists(
    config: str, texts: Sequence[str], marks: Sequence[int], allowed: Sequence[re.Pattern[str]]
) -> Verdict:
    """Whether two machines' Verilog is the same but for names and fingerprints.

    Parameters
    ----------
    config : what they are called
    texts, marks : Verilog and fingerprints, the older first
    allowed : regular expressions of names of nets, whose drivers may differ
    """
    same = texts[0] == texts[1] and marks[0] == marks[1]
    first = flatten(texts[0], marks[0])
    sides = [first, first if same else flatten(texts[1], marks[1])]
    graphs = [side.netlist for side in sides]
    more = []
    for pattern in allowed:
        for place, called in enumerate(("before", "now")):
            graphs[place], gone = netlists.without(graphs[place], pattern)
            more.append(
                f"  allowed by {pattern.pattern}, {called}: {len(gone):,} cells{'' if not gone else ':'}"
            )
            more += [f"    {said}" for said in gone]
    result = netlists.compare(*graphs)
    kinds = Counter(cell.type for cell in graphs[1].cells if not cell.type.startswith("port "))
    said = f"{config}: {sum(kinds.values()):,} cells of {len(kinds)} types"
    ports = sum(cell.type.startswith("port ") for cell in graphs[1].cells)
    if result.equal:
        choices = f", {result.chosen:,} ties chosen" if result.chosen else ""
        said += (
            f"; equal, renamed by a map of {len(result.cells) - ports:,} cells, {ports} ports and"
            f" {len(result.bits):,} bits{choices}{', from the same bytes' if same else ''}"
        )
        if result.exchanged:
            said += f"; operands that commute exchanged in {', '.join(result.exchanged)}"
    else:
        said += f"; DIFFERS in {len(result.differences):,} things"
        more += [f"  {line}" for line in result.differences[:12]]
    return Verdict(f"{said}; {_excepted(sides, marks)}", result.equal, tuple(more))


def _excepted(sides: Sequence[Flattened], marks: Sequence[int]) -> str:
    """What was not compared."""
    masked = _change(*(", ".join(side.masked) or "nowhere" for side in sides))
    probes = _change(*(", ".join(side.probes) or "none" for side in sides))
    return f"masked: fingerprint 0x{marks[0]:08x} -> 0x{marks[1]:08x} in {masked}; probes left out: {probes}"


def _change(before: str, now: str) -> str:
    return now if before == now else f"{before} -> {now}"


def every_netlist(
    old: Path,
    new: Path,
    configs: Sequence[str] | None,
    allowed: Sequence[re.Pattern[str]],
    progress: Callable[[str], None],
) -> Iterator[Verdict]:
    """A verdict of each configuration; of all that either tree ships, if none is named."""
    known = [configurations(tree) for tree in (old, new)]
    chosen = list(configs or sorted({*known[0], *known[1]}))
    both = [name for name in chosen if all(name in names for names in known)]
    for name in chosen:
        if name not in both:
            where = (
                "before alone" if name in known[0] else "now alone" if name in known[1] else "on neither side"
            )
            yield Verdict(f"{name}: DIFFERS: a configuration that ships {where}", False)
    marks = [fingerprints(tree, both) for tree in (old, new)] if both else [{}, {}]
    for name in both:
        texts = []
        for called, tree in (("before", old), ("now", new)):
            progress(f"{name}: Verilog {called}")
            texts.append(emit(tree, name, _made(FOLDER / called / name)))
        progress(f"{name}: netlists")
        try:
            yield compare_netlists(name, texts, [mark[name] for mark in marks], allowed)
        except (FlattenError, netlists.Undecided) as error:
            yield Verdict(f"{name}: DIFFERS, or cannot be compared: {error}", False)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def every_cycle(
    old: Path, new: Path, models: Sequence[Path], count: int, progress: Callable[[str], None]
) -> tuple[dict[str, cycles.Outcome], dict[str, cycles.Outcome]]:
    """How both trees run every network that this tree embeds and that folders hold, on the same inputs."""
    chosen = cycles.cases(new, models)
    with tempfile.TemporaryDirectory(prefix="intaglio-cycles-") as place:
        inputs = Path(place)
        after = cycles.run(new, chosen, inputs, count, lambda said: progress(f"{said}: now"))
        before = cycles.run(old, chosen, inputs, count, lambda said: progress(f"{said}: before"))
    kept = {"before": cycles.dumped(before), "now": cycles.dumped(after)}
    (_made(FOLDER) / "cycles.json").write_text(json.dumps(kept, indent=1))
    return before, after
