"""What a machine takes of a chip, with a cell library that the user names: area by part, as Yosys maps it.

The recipe: the hierarchy of `PARTS` is kept, everything below is flattened and optimized by itself; ``synth``, with
or without ``-booth`` (radix-4 Booth multipliers); small memories as flip-flops; ``dfflibmap`` and ``abc -liberty``,
without wires, sizing or a target period. Probes, which a simulation reads, are left out.

Memories of at least `SRAM_WORDS` words and `SRAM_BITS` bits are macros that no cell library has. Their area is a model:
so much a macro and a bit (`SRAM_FIXED`, `SRAM_BIT`) in flip-flops of the library, so that it holds for any; the two
numbers are the line through the two macros that come with SkyWater's 130 nm process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.area import netlist_of
from bench.liberty import parse as parse_library
from bench.liberty import registers, text_of
from bench.page import Grid
from bench.synthesis import SynthesisError, yosys
from intaglio.spec.config import AcceleratorConfig

FOLDER = Path("build") / "silicon"
PAGE = "silicon.md"
LIBRARY = "library.lib"
SRAM_WORDS, SRAM_BITS = 64, 4096
# Ref: github.com/VLSIDA/sky130_sram_macros: sky130_sram_1kbyte_1rw1r_32x256_8 is 479.78 × 397.5 µm,
#      sky130_sram_2kbyte_1rw1r_32x512_8 683.1 × 416.54 µm; sky130_fd_sc_hd__dfxtp_1 is 20.02 µm².
_MACROS = ((256 * 32, 479.78 * 397.5), (512 * 32, 683.1 * 416.54))
_FLIP_FLOP_UM2 = 20.02
SRAM_BIT = (_MACROS[1][1] - _MACROS[0][1]) / (_MACROS[1][0] - _MACROS[0][0]) / _FLIP_FLOP_UM2
SRAM_FIXED = _MACROS[0][1] / _FLIP_FLOP_UM2 - SRAM_BIT * _MACROS[0][0]
"""A macro's area in flip-flops: of a bit, and of the rest."""
SRAM = "SRAM"
_TOP = "machine"
_CORE = f"{_TOP}.inner.core"
PARTS: Mapping[str, tuple[str, ...]] = {
    "array": (f"{_CORE}.matmul.array",),
    "buffers": (f"{_CORE}.matmul.accumulators", f"{_CORE}.scratchpad", f"{_CORE}.weight_stream"),
    "line buffer": (f"{_CORE}.matmul.line_buffer",),
    "windows and pool": (f"{_CORE}.matmul.vectors", f"{_CORE}.pool", f"{_CORE}.matmul"),
    "rescale": (f"{_CORE}.rescale",),
    "lanes": (f"{_CORE}.lanes",),
    "elementwise": (f"{_CORE}.elementwise",),
    "tables": (f"{_CORE}.elementwise.tables",),
    "commands": (f"{_CORE}.dispatcher",),
    "load, store, weights": (f"{_CORE}.load", f"{_CORE}.store", f"{_CORE}.weights"),
    "bus": (f"{_TOP}.inner.reader", f"{_TOP}.inner.writer"),
    "registers": (f"{_TOP}.inner.registers", _TOP),
}
"""The modules whose hierarchy is kept, by what the report calls them; the top module holds what is in no other."""
_SCRIPT = """\
read_rtlil netlist.il
delete -port {top}/o:probe_*
{keep}
synth -flatten -top {top} {booth} -run begin:fine
{srams}
synth -flatten -top {top} {booth} -run fine:check
dfflibmap -liberty {library}
abc -liberty {library} {unused}
opt_clean -purge
setundef -zero
tee -q -o statistics.json stat -json -liberty {library}
setattr -mod -unset keep_hierarchy *
flatten
opt_clean -purge
write_json mapped.json
"""
UNUSED = "-dont_use *lpflow_* -dont_use *probe*"
"""Of ABC: cells that are not for logic: SkyWater's library does not say so of its isolation cells and probes."""
_MODULE = re.compile(r"^module \\(\S+)$", re.M)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) ", re.M)


@dataclass(frozen=True)
class Macro:
    """A memory that is no flip-flops."""

    name: str
    words: int
    width: int

    @property
    def bits(self) -> int:
        return self.words * self.width


@dataclass(frozen=True)
class Silicon:
    """A machine, mapped.

    Attributes
    ----------
    areas : of cells by part, in the library's unit of area, flip-flops of small memories among them
    flip_flops : by part
    macros : the others, which `areas` leaves out
    flip_flop_area : of the library's smallest
    small_bits : of memories that became flip-flops
    """

    config: AcceleratorConfig
    areas: Mapping[str, float]
    flip_flops: Mapping[str, int]
    macros: tuple[Macro, ...]
    flip_flop_area: float
    small_bits: int

    @property
    def logic(self) -> float:
        """Area of all cells."""
        return sum(self.areas.values())

    @property
    def memories(self) -> float:
        """Area of the macros, by the model."""
        bits = sum(macro.bits for macro in self.macros)
        return self.flip_flop_area * (SRAM_FIXED * len(self.macros) + SRAM_BIT * bits)


def measure(
    config: AcceleratorConfig, liberty: Path, booth: bool = False, folder: Path | None = None
) -> Silicon:
    """Map the machine of `config`, which takes minutes; the netlist and what Yosys says of it stay in `folder`.

    Parameters
    ----------
    config : AcceleratorConfig
    liberty : a library in the Liberty format, ``.lib`` or ``.lib.gz``
    booth : whether multipliers are Booth's
    folder : ``build/silicon/NAME`` if None

    Raises
    ------
    SynthesisError
        Where Yosys is missing or fails.
    LibertyError
        Where the library cannot be read.
    """
    folder = FOLDER / config.name if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    library = text_of(liberty)
    (folder / LIBRARY).write_text(library)
    text = netlist_of(config).text(_TOP)
    (folder / "netlist.il").write_text(text)
    yosys(f"{config.name} with {liberty.name}", script(text, booth), folder)
    statistics, mapped = (
        json.loads((folder / name).read_text()) for name in ("statistics.json", "mapped.json")
    )
    return parse(config, statistics, mapped, registers(parse_library(library)), memory_bits(text))


def memory_bits(netlist: str) -> int:
    """Of all memories."""
    return sum(int(width) * int(size) for width, size in _MEMORY.findall(netlist))


def script(netlist: str, booth: bool) -> str:
    """For Yosys, the netlist in ``netlist.il`` and the library in `LIBRARY`."""
    there = set(_MODULE.findall(netlist))
    kept = [module for modules in PARTS.values() for module in modules if module in there and module != _TOP]
    return _SCRIPT.format(
        top=_TOP,
        keep="\n".join(f"setattr -mod -set keep_hierarchy 1 {module}" for module in kept),
        booth="-booth" if booth else "",
        srams=to_macros({int(size) for _, size in _MEMORY.findall(netlist)}),
        library=LIBRARY,
        unused=UNUSED,
    )


def to_macros(words: Collection[int]) -> str:
    """For Yosys, between memories collected and mapped: those that are macros, of memories of so many `words`."""
    return "\n".join(
        f"chtype -set \\{SRAM} t:$mem_v2 r:SIZE={depth} %i r:WIDTH>={-(-SRAM_BITS // depth)} %i"
        for depth in sorted(words)
        if depth >= SRAM_WORDS
    )


def parse(
    config: AcceleratorConfig,
    statistics: Mapping[str, Any],
    mapped: Mapping[str, Any],
    registers: Mapping[str, float],
    memory_bits: int,
) -> Silicon:
    """What Yosys says of a machine.

    Parameters
    ----------
    config : AcceleratorConfig
    statistics : of ``stat -json -liberty``, the hierarchy kept; an area includes the modules below
    mapped : of ``write_json``, flat
    registers : areas of the library's flip-flops
    memory_bits : of all memories before

    Raises
    ------
    SynthesisError
        Where it is not as known.
    """
    try:
        modules = {name.removeprefix("\\"): module for name, module in statistics["modules"].items()}
        areas, flip_flops = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0)
        for part, names in PARTS.items():
            for name in names:
                if name in modules:
                    areas[part] += _own_area(modules, name)
                    cells = modules[name]["num_cells_by_type"]
                    flip_flops[part] += sum(count for cell, count in cells.items() if cell in registers)
        macros = tuple(
            Macro(name, int(cell["parameters"]["SIZE"], 2), int(cell["parameters"]["WIDTH"], 2))
            for name, cell in mapped["modules"][_TOP]["cells"].items()
            if cell["type"] == SRAM
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SynthesisError(
            f"the statistics of {config.name} are not as known ({error!r}); use the pinned pyosys"
        ) from error
    small = memory_bits - sum(macro.bits for macro in macros)
    return Silicon(config, areas, flip_flops, macros, min(registers.values()), small)


def _own_area(modules: Mapping[str, Any], name: str) -> float:
    """A module's area without that of the modules below."""
    below = modules[name]["num_cells_by_type"]
    inside = sum(count * modules[cell].get("area", 0.0) for cell, count in below.items() if cell in modules)
    return float(modules[name].get("area", 0.0) - inside)


def grid(found: Sequence[Silicon]) -> Grid:
    """Area by part, in array's areas of the same machine and in all in square millimetres."""
    rows = []
    for part in PARTS:
        rows.append((part, *(f"{one.areas[part] / 1e3:,.0f}" for one in found)))
    rows.append(("**logic**", *(f"**{one.logic / 1e3:,.0f}**" for one in found)))
    rows.append(("logic ÷ array", *(f"{one.logic / one.areas['array']:.2f}" for one in found)))
    rows.append(("flip-flops", *(f"{sum(one.flip_flops.values()):,}" for one in found)))
    rows.append(("of small memories, bits", *(f"{one.small_bits:,}" for one in found)))
    rows.append(("macros", *(f"{len(one.macros)}" for one in found)))
    rows.append(("their bits", *(f"{sum(macro.bits for macro in one.macros):,}" for one in found)))
    rows.append(("their area, by the model", *(f"{one.memories / 1e3:,.0f}" for one in found)))
    rows.append(("**all, mm²**", *(f"**{(one.logic + one.memories) / 1e6:.2f}**" for one in found)))
    return Grid(("thousands of µm²", *(f"`{one.config.name}`" for one in found)), rows)


def blocks(found: Sequence[Silicon]) -> dict[str, str]:
    """The page's tables in Markdown, by name."""
    return {"areas": grid(found).markdown()}
