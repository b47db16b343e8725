"""Transistors of a netlist, estimated by Yosys without a library: NAND, NOR and NOT gates, and flip-flops.

The recipe, of each netlist flattened: ``synth``, with or without ``-booth`` (radix-4 Booth multipliers), every
flip-flop made one without enable or reset (``dfflegalize``, else it is not counted), ``abc -g cmos2``, and ``stat -tech
cmos``, which counts 4 transistors for a NAND or a NOR, 2 for a NOT and 16 for a flip-flop. No wire, no sizing, no
timing: figures to compare with each other alone.

Memories are no transistors here: their contents would be a library's or a compiler's. What a netlist calls a memory
stays one, and its bits are counted apart (`Netlist.memory_bits`); the logic around it is counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("build") / "area"
_OPAQUE = "OPAQUE_"
"""How what is not counted is called: memories, and parts that are counted elsewhere."""
_MULTIPLIERS = f"{_OPAQUE}multipliers"
_SYNTHESIS = """\
read_rtlil netlist.il
delete -port {top}/o:probe_*
{split}
synth {flatten} -top {top} {booth} -run begin:fine
chtype -set \\{opaque}memory t:$mem_v2
synth {flatten} -top {top} {booth} -run fine:check
dfflegalize -cell $_DFF_P_ 01
abc -g cmos2
opt_clean -purge
delete t:{opaque}*
tee -q -o statistics.json stat -tech cmos -json
"""
# As `synth` begins, so that widths are what it finds; then all multipliers in a module of their own.
_SPLIT = """\
hierarchy -check -top {top}
proc
flatten
opt_expr
opt_clean
opt -nodffe -nosdff
wreduce
peepopt
opt_clean
submod -name {multipliers} t:$mul
"""
LEAD_FPGA = """\
proc
wreduce
techmap -map fpga.v
"""
"""Between reading a machine and Yosys' ``synth_…`` for an FPGA: narrow multiplications become gates, where each would
take a whole DSP, and sums chains of carries. (In the Verilog they stay what they are, which a simulator runs fastest.)
`lend_fpga` puts what it names into the folder."""
# A tool that ends its process where a netlist is wrong gets one of its own. Ctrl-C ends it, whatever it is at.
_CHILD = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
from pyosys import libyosys
libyosys.run_pass("script synthesis.ys", libyosys.Design())
"""
_MODULE = re.compile(r"^module (\S+)\n(.*?)^end$", re.M | re.S)
_INSTANCE = re.compile(r"^  cell (\\\S+) \\(\S+)$", re.M)
_PORT = re.compile(r"^  wire .*\b(?:input|output) \d+ .*\n", re.M)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) ", re.M)
_MULTIPLIER = re.compile(r"^  cell \$mul ", re.M)


class SynthesisError(RuntimeError):
    """One line: what is missing or failed, and what to do."""


@dataclass(frozen=True)
class Size:
    """What a netlist takes.

    Attributes
    ----------
    transistors : of gates and flip-flops
    flip_flops : how many of them
    multipliers : transistors of its multipliers, their registers excluded, which are among `transistors`; None where
        they were not told apart
    """

    transistors: int
    flip_flops: int
    multipliers: int | None = None


class Netlist:
    """A design in Yosys' RTLIL: modules that instantiate each other.

    Parameters
    ----------
    text : str
        As ``amaranth.back.rtlil.convert`` writes it.
    top : str
        Its top module, without the backslash.
    """

    def __init__(self, text: str, top: str) -> None:
        self._bodies = {name.removeprefix("\\"): body for name, body in _MODULE.findall(text)}
        self.top = top
        if top not in self._bodies:
            raise SynthesisError(f"the netlist has no module {top}; generate it again")

    def instances(self, module: str) -> dict[str, str]:
        """The modules that a module instantiates, by the instance's name."""
        return {
            name: kind.removeprefix("\\")
            for kind, name in _INSTANCE.findall(self._bodies[module])
            if kind.removeprefix("\\") in self._bodies
        }

    def find(self, path: Sequence[str]) -> str | None:
        """The module at the end of a path of instance names from the top; None where there is none."""
        module: str | None = self.top
        for name in path:
            module = self.instances(module).get(name) if module else None
        return module

    def below(self, module: str, without: Iterable[str] = ()) -> Iterator[str]:
        """`module` and all below it, once each; those `without` and what is below them alone are left out."""
        seen = set(without)
        pending = [module]
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                yield name
                pending += self.instances(name).values()

    def memory_bits(self, module: str, without: Iterable[str] = ()) -> int:
        """Bits of all memories in what `below` says."""
        return sum(
            int(width) * int(size)
            for name in self.below(module, without)
            for width, size in _MEMORY.findall(self._bodies[name])
        )

    def text(self, module: str, without: Iterable[str] = ()) -> str:
        """RTLIL of what `below` says; modules `without` are there as black boxes, of which only the ports are left."""
        boxes = {name: f"{_OPAQUE}part_{index}" for index, name in enumerate(without)}
        parts = []
        for name in self.below(module, boxes):
            body = self._bodies[name]
            for instance, kind in self.instances(name).items():
                if kind in boxes:
                    body = body.replace(
                        f"  cell \\{kind} \\{instance}\n", f"  cell \\{boxes[kind]} \\{instance}\n"
                    )
            parts.append(f"module \\{name}\n{body}end\n")
        for name, box in boxes.items():
            ports = "".join(_PORT.findall(self._bodies[name]))
            parts.append(f"attribute \\blackbox 1\nmodule \\{box}\n{ports}end\n")
        return "\n".join(parts)


@dataclass(frozen=True)
class Task:
    """A netlist to synthesize.

    Parameters
    ----------
    name : of what is synthesized, for messages
    text, top : RTLIL, and its top module without the backslash
    booth : whether multipliers are Booth's
    split : whether multipliers are counted apart; then nothing is optimized across their borders
    """

    name: str
    text: str
    top: str
    booth: bool
    split: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether there is a multiplier: where there is none, `booth` and `split` change nothing."""
        return _MULTIPLIER.search(self.text) is not None

    @property
    def script(self) -> str:
        """For Yosys, the netlist in ``netlist.il``."""
        top = f"\\{self.top}"
        split = self.split and self.multiplies
        return _SYNTHESIS.format(
            top=top,
            opaque=_OPAQUE,
            split=_SPLIT.format(top=top, multipliers=_MULTIPLIERS) if split else "",
            flatten="" if split else "-flatten",
            booth="-booth" if self.booth and self.multiplies else "",
        )

    @property
    def digest(self) -> str:
        """Of all that the result follows from."""
        content = hashlib.sha256(_yosys_version().encode())
        for part in (self.script, self.text):
            content.update(hashlib.sha256(part.encode()).digest())
        return content.hexdigest()[:32]


def synthesize(
    tasks: Sequence[Task], jobs: int = 1, progress: Callable[[int], None] = lambda done: None
) -> list[Size]:
    """The size of each, in order; equal ones are synthesized once, and those in `build/area` not at all.

    Parameters
    ----------
    tasks : sequence of Task
    jobs : processes at a time; one takes up to a gigabyte
    progress : called with the number of tasks that are done

    Raises
    ------
    SynthesisError
        Where Yosys is not installed, or fails.
    """
    sizes: dict[str, Size] = {}
    missing: dict[str, Task] = {}
    digests = [task.digest for task in tasks]
    for digest, task in zip(digests, tasks, strict=True):
        kept = _read(CACHE / f"{digest}.json")
        if kept is None:
            missing[digest] = task
        else:
            sizes[digest] = kept
    progress(sum(digest in sizes for digest in digests))
    # The longest first, so that none of them is begun last.
    ordered = sorted(missing.items(), key=lambda item: -len(item[1].text))
    running: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_synthesize, task, running): digest for digest, task in ordered}
        try:
            for future in as_completed(futures):
                digest = futures[future]
                sizes[digest] = future.result()
                _write(CACHE / f"{digest}.json", sizes[digest])
                progress(sum(digest in sizes for digest in digests))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.kill()
            raise
    return [sizes[digest] for digest in digests]


def lend_fpga(folder: Path) -> None:
    """Puts what `LEAD_FPGA` maps by beside a script: a Yosys in a sandbox sees no other folder for sure."""
    shutil.copyfile(Path(__file__).with_name("fpga.v"), folder / "fpga.v")


def yosys(name: str, script: str, folder: Path, running: list[subprocess.Popen[str]] | None = None) -> None:
    """Run a script in a folder, where it stays as ``synthesis.ys``; the process is in `running` meanwhile.

    Raises
    ------
    SynthesisError
        Where Yosys is not installed or fails: `name` is what it could not synthesize.
    """
    _yosys_version()
    (folder / "synthesis.ys").write_text(script)
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    running = [] if running is None else running
    running.append(process)
    said, _ = process.communicate()
    running.remove(process)
    if process.returncode:
        raise SynthesisError(f"Yosys could not synthesize {name}: {_reason(said)}")


def _synthesize(task: Task, running: list[subprocess.Popen[str]]) -> Size:
    with tempfile.TemporaryDirectory(prefix="intaglio-area-") as place:
        folder = Path(place)
        (folder / "netlist.il").write_text(task.text)
        yosys(task.name, task.script, folder, running)
        return parse((folder / "statistics.json").read_text(), task.top)


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "Error" in line]
    return (errors or lines or ["it says nothing"])[-1]


def parse(statistics: str, top: str) -> Size:
    """What Yosys' ``stat -tech cmos -json`` says of the module `top`, and of its multipliers where they are apart.

    Raises
    ------
    SynthesisError
        Where it is not as known, or some cell has no count of transistors (the count ends in ``+``, then).
    """
    try:
        modules = json.loads(statistics)["modules"]
        counted = {
            name: _counted(modules[name]) for name in (f"\\{top}", f"\\{_MULTIPLIERS}") if name in modules
        }
        transistors, flip_flops = counted[f"\\{top}"]
    except (KeyError, TypeError, ValueError) as error:
        raise SynthesisError(
            f"the statistics of {top} are not as known ({error}); use the pinned pyosys"
        ) from error
    multipliers, registers = counted.get(f"\\{_MULTIPLIERS}", (0, 0))
    return Size(transistors + multipliers, flip_flops + registers, multipliers if len(counted) > 1 else None)


def _counted(module: Mapping[str, object]) -> tuple[int, int]:
    """Transistors and flip-flops."""
    cells = module["num_cells_by_type"]
    transistors = str(module["estimated_num_transistors"])
    if not isinstance(cells, Mapping):
        raise TypeError(f"cells by type are {cells!r}")
    if not transistors.isdecimal():
        known = ("$_DFF_P_", "$_NAND_", "$_NOR_", "$_NOT_")
        others = ", ".join(sorted(set(cells) - set(known))) or "some cell"
        raise ValueError(f"{transistors} transistors, without those of {others}")
    return int(transistors), int(cells.get("$_DFF_P_", 0))


def _yosys_version() -> str:
    try:
        return importlib.metadata.version("pyosys")
    except importlib.metadata.PackageNotFoundError:
        raise SynthesisError("pyosys is not installed; make compare installs it") from None


def _read(path: Path) -> Size | None:
    try:
        return Size(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, size: Size) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(dataclasses.asdict(size)))
    new.replace(path)
