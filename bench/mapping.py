"""What machines take of FPGAs: mapped by Yosys for ECP5, 7-series and Gowin, neither placed nor timed, and which board
takes which.

A mapping says what is used, not whether it routes: beyond some 85 % of a device's LUTs placement is slow or fails, and
what the clock is `bench.ecp5` says for ECP5 alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.page import Grid
from bench.synthesis import LEAD_FPGA, SynthesisError, lend_fpga, yosys
from intaglio.spec.config import AcceleratorConfig

FOLDER = Path("build") / "mapping"
PAGE = "fpga.md"
RESOURCES = ("LUTs", "flip-flops", "DSPs", "block RAMs")
_SCRIPT = """\
read_verilog machine.v
{lead}{synthesis} -top machine
tee -q -o {family}.json stat -json
"""


@dataclass(frozen=True)
class Family:
    """A family of devices: how Yosys maps for it, and what its cells take of a device.

    Attributes
    ----------
    synthesis : Yosys' command, without the top module
    cells : by cell, of which of `RESOURCES` it takes how many; what is not among them takes none
    lut_inputs, block_kbit : of one LUT, of one block RAM
    """

    name: str
    synthesis: str
    cells: Mapping[str, tuple[str, float]]
    lut_inputs: int
    block_kbit: int


def _cells(**counts: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    titles = {"luts": "LUTs", "registers": "flip-flops", "multipliers": "DSPs", "memories": "block RAMs"}
    return {cell: (titles[kind], each) for kind, cells in counts.items() for cell, each in cells.items()}


# Ref: what a cell takes of its kind of slice: nextpnr-ecp5 packs a CCU2C as two LUTs, a TRELLIS_DPR16X4 as four and
#      two more that write; Xilinx UG474, table 2-3, for RAM32M and RAM64M; Gowin UG288 for ALU and RAM16SDP4, which
#      take the LUTs that lie under them.
FAMILIES = {
    "ecp5": Family(
        "ECP5",
        "synth_ecp5",
        _cells(
            luts={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
            registers={"TRELLIS_FF": 1},
            multipliers={"MULT18X18D": 1},
            memories={"DP16KD": 1, "PDPW16KD": 1},
        ),
        4,
        18,
    ),
    "xc7": Family(
        "7-series",
        "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
        _cells(
            luts={
                **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
                **{"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "SRL16E": 1, "SRLC32E": 1},
            },
            registers={"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
            multipliers={"DSP48E1": 1},
            memories={"RAMB36E1": 1, "RAMB18E1": 0.5},
        ),
        6,
        36,
    ),
    "gowin": Family(
        "Gowin GW2A",
        "synth_gowin -noiopads -family gw2a",
        _cells(
            luts={**{f"LUT{inputs}": 1 for inputs in range(1, 5)}, "ALU": 1, "RAM16SDP4": 4},
            registers={
                **{f"DFF{kind}": 1 for kind in ("", "E", "R", "RE", "S", "SE", "C", "CE", "P", "PE")},
            },
            multipliers={"MULT9X9": 0.5, "MULT18X18": 1, "MULT36X36": 4},
            memories={cell: 1 for cell in ("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9")},
        ),
        4,
        18,
    ),
}


# Cells that lie in every slice beside the LUTs, are absorbed by them, or take nothing.
_FREE = ("PFUMX", "L6MUX21", "CARRY4", "MUXF", "MUX2_LUT", "INV", "GND", "VCC", "GSR")


@dataclass(frozen=True)
class Board:
    """A board, its device, and what that has: in the order of `RESOURCES`."""

    name: str
    device: str
    family: str
    has: tuple[int, int, int, int]


# Ref: Lattice FPGA-DS-02012 (ECP5 and ECP5-5G family), table 1.1, LUTs as in Project Trellis' database; Xilinx DS180,
#      table 4 (Artix-7), and DS190, table 1 (Zynq-7000); Gowin DS102 (GW2A), table 1-1, 18 × 18 multipliers.
BOARDS = (
    Board("Colorlight i5, OrangeCrab 25F", "LFE5U-25F", "ecp5", (24_288, 24_288, 28, 56)),
    Board("ULX3S 45F", "LFE5U-45F", "ecp5", (43_848, 43_848, 72, 108)),
    Board("ULX3S 85F, ECP5 evaluation board", "LFE5U-85F", "ecp5", (83_640, 83_640, 156, 208)),
    Board("Arty A7-35T", "XC7A35T", "xc7", (20_800, 41_600, 90, 50)),
    Board("Arty A7-100T", "XC7A100T", "xc7", (63_400, 126_800, 240, 135)),
    Board("Nexys Video", "XC7A200T", "xc7", (134_600, 269_200, 740, 365)),
    Board("Zybo Z7-10", "XC7Z010", "xc7", (17_600, 35_200, 80, 60)),
    Board("PYNQ-Z2, Zybo Z7-20", "XC7Z020", "xc7", (53_200, 106_400, 220, 140)),
    Board("Tang Primer 20K, Tang Nano 20K", "GW2A-18", "gowin", (20_736, 15_552, 48, 46)),
)


@dataclass(frozen=True)
class Mapped:
    """A machine mapped for a family: what it takes, in the order of `RESOURCES`."""

    config: str
    family: str
    takes: tuple[float, ...]

    def scarcest(self, board: Board) -> tuple[str, float]:
        """Of the board's resources the one of which the greatest share is taken, and that share."""
        shares = zip(
            RESOURCES, (used / there for used, there in zip(self.takes, board.has, strict=True)), strict=True
        )
        return max(shares, key=lambda share: share[1])


def measure(config: AcceleratorConfig, family: str, folder: Path | None = None) -> Mapped:
    """Emit the machine of `config` and map it for one of `FAMILIES`, which takes minutes; files stay in `folder`.

    Raises
    ------
    SynthesisError
        Where Yosys is missing or fails.
    """
    from intaglio.hdl.verilog import emit_machine, write

    folder = FOLDER / config.name if folder is None else folder
    write(emit_machine(config, "machine"), "machine", folder)
    script = _SCRIPT.format(lead=LEAD_FPGA, synthesis=FAMILIES[family].synthesis, family=family)
    lend_fpga(folder)
    yosys(f"{config.name} for {family}", script, folder)
    return parse(config.name, family, (folder / f"{family}.json").read_text())


def parse(config: str, family: str, statistics: str) -> Mapped:
    """What Yosys' ``stat -json`` says.

    Raises
    ------
    SynthesisError
        Where it is not as known, or a cell that holds logic or state is none of the family's.
    """
    try:
        cells = json.loads(statistics)["modules"]["\\machine"]["num_cells_by_type"]
    except (KeyError, TypeError, ValueError) as error:
        raise SynthesisError(
            f"the statistics of {config} for {family} are not as known ({error!r}); use the pinned pyosys"
        ) from error
    known = FAMILIES[family].cells
    if unknown := sorted(cell for cell in set(cells) - set(known) if not cell.startswith(_FREE)):
        raise SynthesisError(
            f"{config} for {family} has cells of unknown size, {', '.join(unknown)}; add them to bench/mapping.py"
        )
    totals = dict.fromkeys(RESOURCES, 0.0)
    for cell, count in cells.items():
        if cell in known:
            resource, each = known[cell]
            totals[resource] += each * count
    return Mapped(config, family, tuple(totals.values()))


def grid(family: str, mapped: Sequence[Mapped]) -> Grid:
    """What machines take, a configuration a row."""
    of = FAMILIES[family]
    luts, registers, multipliers, memories = RESOURCES
    headings = (
        of.name,
        f"{luts} of {of.lut_inputs} inputs",
        registers,
        multipliers,
        f"{memories} of {of.block_kbit} kbit",
    )
    return Grid(
        headings,
        [(f"`{entry.config}`", *map(_counted, entry.takes)) for entry in mapped if entry.family == family],
    )


def boards(mapped: Sequence[Mapped]) -> Grid:
    """Which board takes which machine: of each the scarcest resource and its share."""
    found = {(entry.config, entry.family): entry for entry in mapped}
    configs = list(dict.fromkeys(entry.config for entry in mapped))
    rows = [
        (board.name, board.device, *(_fit(found[config, board.family], board) for config in configs))
        for board in BOARDS
    ]
    return Grid(("board", "device", *(f"`{config}`" for config in configs)), rows, left=2)


def _fit(mapped: Mapped, board: Board) -> str:
    resource, share = mapped.scarcest(board)
    return f"{'no: ' if share > 1 else ''}{share:.0%} of {resource}"


def _counted(amount: float) -> str:
    return f"{amount:,.1f}" if amount % 1 else f"{amount:,.0f}"


def blocks(mapped: Sequence[Mapped]) -> dict[str, str]:
    """The page's tables in Markdown, by name."""
    return {
        **{family: grid(family, mapped).markdown() for family in FAMILIES},
        "boards": boards(mapped).markdown(),
    }
