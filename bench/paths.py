"""The longest paths of a machine mapped with a cell library, without wires, in this tree and in another revision's.

The recipe: the machine's Verilog flat, ``synth``, memories of `silicon`'s sizes as macros, ``dfflibmap``, and ABC with
its own buffering and sizing for speed; then `bench.cell_timing`. Nothing of a tree is imported, its command line writes
the Verilog, so that another revision's machine goes the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cell_timing import Cells, graph_of
from bench.cycles import AgainstError, last_line, python
from bench.liberty import parse, text_of
from bench.page import Grid
from bench.silicon import LIBRARY, SRAM, UNUSED, to_macros
from bench.synthesis import yosys
from bench.timing import Report, report

FOLDER = Path("build") / "paths"
_TOP = "machine"
_NETLIST = "timed.json"
_SCRIPT = """\
read_verilog machine.v
synth -flatten -top {top} -run begin:fine
{srams}
synth -flatten -top {top} -run fine:check
dfflibmap -liberty {library}
abc -liberty {library} {unused} -script +strash;&get,-n;&st;&dch;&nf;&put;buffer,-c;topo;upsize;dnsize
opt_clean -purge
setundef -zero
write_json {netlist}
"""
_MEMORY = re.compile(r"^  reg (?:\[(\d+):0\] )?\S+ +\[(\d+):0\];$", re.M)


@dataclass(frozen=True)
class Timed:
    """A machine's longest paths; `before_ns` is another revision's longest."""

    config: str
    report: Report
    before_ns: float | None = None

    @property
    def ns(self) -> float:
        return self.report.groups[0].worst.ns


def measure(tree: Path, config: str, liberty: Path, folder: Path | None = None) -> Report:
    """Map and time the machine of `config` as `tree` writes it, which takes minutes; files stay in `folder`.

    Raises
    ------
    AgainstError
        Where the tree does not write the machine.
    SynthesisError
        Where Yosys is missing or fails.
    LibertyError, TimingError
        Where the library, or a cell of it, is not as it should be.
    """
    folder = (FOLDER / config if folder is None else folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    library = text_of(liberty)
    (folder / LIBRARY).write_text(library)
    run = python(
        tree, "-m", "intaglio", "generate", "--config", config, "--name", _TOP, "--output", str(folder)
    )
    if run.returncode:
        raise AgainstError(f"{tree} does not write {config}: {last_line(run)}")
    yosys(f"{config} with {liberty.name}", script((folder / f"{_TOP}.v").read_text()), folder)
    netlist = json.loads((folder / _NETLIST).read_text())
    return report(graph_of(netlist, _TOP, Cells(parse(library)), SRAM), float("inf"))


def timed(config: str, liberty: Path, tree: Path, before: Path | None = None) -> Timed:
    """`measure` of a tree and, if there is one, of the tree that it is shown beside."""
    old = None if before is None else measure(before, config, liberty, FOLDER / f"{config}-before")
    return Timed(config, measure(tree, config, liberty), old.groups[0].worst.ns if old else None)


def blocks(found: Sequence[Timed]) -> dict[str, str]:
    """The page's table in Markdown, by name."""
    return {"paths": grid(found).markdown()}


def script(verilog: str) -> str:
    """For Yosys, the machine in ``machine.v`` and the library in `LIBRARY`."""
    words = {int(last) + 1 for _, last in _MEMORY.findall(verilog)}
    return _SCRIPT.format(top=_TOP, srams=to_macros(words), library=LIBRARY, unused=UNUSED, netlist=_NETLIST)


def grid(found: Sequence[Timed]) -> Grid:
    """The longest path of each machine, and another revision's where it is known."""
    rows = []
    for timed in found:
        path = timed.report.groups[0].worst
        before = (
            ("", "")
            if timed.before_ns is None
            else (f"{timed.before_ns:.2f}", f"{timed.ns / timed.before_ns:.2f}")
        )
        rows.append(
            (
                f"`{timed.config}`",
                f"`{path.start}`",
                f"`{path.end}`",
                f"{path.levels}",
                f"{timed.ns:.2f}",
                *before,
            )
        )
    return Grid(("", "from", "to", "levels", "ns", "before, ns", "÷ before"), rows, left=3)
