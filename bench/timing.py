"""Static timing of a machine that is synthesized for ECP5, before anything is placed: the longest path of every pair
of modules, in minutes where placement and routing take twenty.

A path runs from a register, a block RAM's output among them, through cells and nets to the next register. Cells have
the delays of `CELLS`, nets one that depends on their fan-out alone (`WIRE_NS`, `FANOUT`). Against nextpnr, routed, the
longest path of `affine8x8` came within 6 %: two thirds of its delay are nets, and those are what a placer evens out.

The rule that `bar_ns` puts into nanoseconds: no more than `LEVELS` levels between two registers, a level being a LUT
with the net in front of it. What is no LUT counts by its delay: a multiplier is nearly four levels, a block RAM's
output nearly five.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from bench.ecp5 import HARNESS, signal_of

LEVELS = 10
"""The most levels between two registers; `docs/architecture.md` says the same."""
LUT_NS, CLOCK_TO_OUTPUT_NS, SETUP_NS = 0.24, 0.52, 0.05
WIRE_NS = 0.85
"""Of a net to up to `FANOUT`'s first number of inputs, routed: the mean over the long paths of a machine that fills a
third of the device."""
FANOUT = ((8, 1.0), (32, 1.3), (128, 1.8))
"""Inputs up to which a net's delay is so many times `WIRE_NS`; beyond them `_LARGEST` times."""
_LARGEST = 2.4
_ROUNDING_NS = 1e-6
"""Of sums that are added up in different orders."""


@dataclass(frozen=True)
class Arc:
    """From each input port to each output port of a cell, whose names are regular expressions, in nanoseconds.

    `wired`: whether general routing leads to the inputs; a carry, or a LUT to the multiplexer beside it, needs none.
    """

    inputs: str
    outputs: str
    ns: float
    wired: bool = True


@dataclass(frozen=True)
class Delays:
    """What is known of a type of cell.

    Attributes
    ----------
    arcs : through it
    starts : outputs that a clock edge moves, and how long after it
    ends : inputs that a clock edge samples, and how long before it they must be stable
    """

    arcs: tuple[Arc, ...] = ()
    starts: tuple[tuple[str, float], ...] = ()
    ends: tuple[tuple[str, float], ...] = ()


# Ref: Project Trellis' timing database, speed grade 6, slow corner, as nextpnr-ecp5 reports it cell by cell on a
#      routed path. A block RAM's is that of an output without a register, a multiplier's of one without any: Yosys uses
#      no others.
_CARRY = (
    Arc("[ABCD]0", "S0", LUT_NS),
    Arc("[ABCD]0", "S1", 0.60),
    Arc("[ABCD]1", "S1", LUT_NS),
    Arc("[ABCD][01]", "COUT", 0.45),
    Arc("CIN", "S0", 0.44, wired=False),
    Arc("CIN", "S1", 0.47, wired=False),
    Arc("CIN", "COUT", 0.07, wired=False),
)
CELLS: Mapping[str, Delays] = {
    "LUT4": Delays(arcs=(Arc("[ABCD]", "Z", LUT_NS),)),
    "PFUMX": Delays(arcs=(Arc("[AB]LUT", "Z", 0.20, wired=False), Arc("C0", "Z", 0.20))),
    "L6MUX21": Delays(arcs=(Arc("D[01]", "Z", 0.20, wired=False), Arc("SD", "Z", 0.20))),
    "CCU2C": Delays(arcs=_CARRY),
    "MULT18X18D": Delays(arcs=(Arc(r"[AB]\d+", r"P\d+", 3.9),)),
    "TRELLIS_FF": Delays(starts=(("Q", CLOCK_TO_OUTPUT_NS),), ends=(("DI|M|CE|LSR", SETUP_NS),)),
    "TRELLIS_DPR16X4": Delays(arcs=(Arc("RAD", "DO", LUT_NS),), ends=(("DI|WAD|WRE", 0.10),)),
    "DP16KD": Delays(
        starts=((r"DO[AB]\d+", 5.7),),
        ends=((r"(DI|AD)[AB]\d+|(CE|OCE|WE|CS|RST)[AB]\d*", 0.30),),
    ),
}
_CLOCKS = "CLK|WCK|CLK[AB]|CLK[0-3]"
# In names that synthesis made: a signal's own name is preferred to them.
_MADE = re.compile(r"\$|_(LUT4|TRELLIS_FF|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD|DPR16X4)_")


class TimingError(RuntimeError):
    """One line: what in the netlist cannot be timed, and what to do."""


@dataclass(frozen=True)
class Path:
    """The longest path to an input of a register.

    Attributes
    ----------
    start, end : the registers' signals
    ns : from clock edge to clock edge, the setup time included
    levels : cells on it that nets lead to
    modules : that it goes through, in order
    """

    start: str
    end: str
    ns: float
    levels: int
    modules: tuple[str, ...]


@dataclass
class Group:
    """All longest paths from the registers of one module to those of another: the worst of them, their number, and how
    many are above the bar."""

    worst: Path
    ends: int = 0
    above: int = 0


@dataclass(frozen=True)
class Report:
    """The groups, the worst first; ends in all, and those that are reached after the bar."""

    groups: tuple[Group, ...]
    ends: int
    above: int


def bar_ns(levels: int = LEVELS) -> float:
    """What a path of so many levels of small fan-out takes from clock edge to clock edge."""
    return CLOCK_TO_OUTPUT_NS + levels * (WIRE_NS + LUT_NS) + WIRE_NS + SETUP_NS


def wire_ns(fanout: int) -> float:
    """The delay of a net to so many inputs."""
    return WIRE_NS * next((factor for most, factor in FANOUT if fanout <= most), _LARGEST)


@dataclass
class Graph:
    """The graph of a netlist: what each net comes from, where paths start and end.

    Attributes
    ----------
    drivers : by net, the nets that it follows from, the cell's delay, and whether a routed net leads there
    starts : by net, when a clock edge moves it
    ends : net, setup time, signal of the register
    fanout : inputs at each net
    names : of nets
    cells : by net, the cell that drives it
    wires : whether nets have delays; without, cells alone have
    """

    drivers: dict[int, list[tuple[int, float, bool]]] = field(default_factory=dict)
    starts: dict[int, float] = field(default_factory=dict)
    ends: list[tuple[int, float, str]] = field(default_factory=list)
    fanout: Counter[int] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)
    cells: dict[int, str] = field(default_factory=dict)
    wires: bool = True

    def net_ns(self, net: int) -> float:
        """The delay of a net."""
        return wire_ns(self.fanout[net]) if self.wires else 0.0


def analyse(netlist: Mapping[str, Any], top: str = HARNESS, bar: float | None = None) -> Report:
    """Times every register's inputs in a flat netlist as Yosys' ``write_json`` gives it.

    Parameters
    ----------
    netlist : the parsed JSON
    top : the module
    bar : ns above which ends are counted; `bar_ns` if None

    Raises
    ------
    TimingError
        Where a cell has no delays, or signals form a loop without a register.
    """
    return report(_read(netlist["modules"][top]), bar_ns() if bar is None else bar)


def report(graph: Graph, bar: float) -> Report:
    """Times every end of a graph; `bar` in ns. Raises TimingError where signals form a loop without a register."""
    arrival = _arrivals(graph)
    groups: dict[tuple[str, str], Group] = {}
    ends, above = 0, 0
    reached = sorted(
        ((arrival[bit][0] + graph.net_ns(bit) + setup, bit, end) for bit, setup, end in graph.ends),
        key=lambda found: -found[0],
    )
    for ns, bit, end in reached:
        first = bit
        while (before := arrival[first][1]) is not None:
            first = before
        key = (_module(_name(graph, first)), _module(end))
        if key not in groups:
            groups[key] = Group(_path(graph, arrival, bit, end, ns))
        groups[key].ends += 1
        groups[key].above += ns > bar + _ROUNDING_NS
        ends, above = ends + 1, above + (ns > bar + _ROUNDING_NS)
    return Report(tuple(groups.values()), ends, above)


def table(report: Report, title: str, limit: int, bar: float | None = None) -> Table:
    """The worst `limit` groups."""
    bar = bar_ns() if bar is None else bar
    worst = report.groups[0].worst.ns if report.groups else 0.0
    shown = Table(
        title=f"{title}: {worst:.2f} ns before placement, {1000 / worst if worst else 0:.0f} MHz; bar {bar:.2f} ns",
        title_justify="left",
    )
    shown.add_column("from, to", overflow="fold")
    for heading in ("ns", "levels", "ends", "above the bar"):
        shown.add_column(heading, justify="right")
    shown.add_column("through", overflow="fold")
    for group in report.groups[:limit]:
        path = group.worst
        shown.add_row(
            f"{path.start}\n{path.end}",
            f"{path.ns:.2f}",
            f"{path.levels}",
            f"{group.ends:,}",
            f"{group.above:,}",
            " > ".join(path.modules),
        )
    shown.caption = f"{report.above:,} of {report.ends:,} registers' inputs above the bar"
    return shown


def _read(module: Mapping[str, Any]) -> Graph:
    graph = Graph(names=names_of(module["netnames"]))
    for name, cell in module["cells"].items():
        kind = cell["type"]
        if kind not in CELLS:
            raise TimingError(
                f"cell {name} is a {kind}, of unknown delay; add it to CELLS in bench/timing.py"
            )
        delays, pins = CELLS[kind], cell["connections"]
        for port, bits in pins.items():
            if cell["port_directions"][port] == "input" and not re.fullmatch(_CLOCKS, port):
                graph.fanout.update(bit for bit in bits if isinstance(bit, int))
        for arc in delays.arcs:
            given = list(_bits(pins, arc.inputs))
            for bit in _bits(pins, arc.outputs):
                graph.cells[bit] = name
                graph.drivers.setdefault(bit, []).extend((source, arc.ns, arc.wired) for source in given)
        for ports, ns in delays.starts:
            for bit in _bits(pins, ports):
                graph.starts[bit] = ns
                graph.cells[bit] = name
        if delays.ends:
            output = next(_bits(pins, "Q"), None)
            signal = graph.names.get(output) if output is not None else None
            signal = signal or said(name)
            for ports, ns in delays.ends:
                graph.ends += [(bit, ns, signal) for bit in _bits(pins, ports)]
    return graph


def _bits(pins: Mapping[str, Sequence[int | str]], ports: str) -> Iterator[int]:
    """The nets at the ports of a cell whose names match."""
    for port, bits in pins.items():
        if re.fullmatch(ports, port):
            yield from (bit for bit in bits if isinstance(bit, int))


def names_of(nets: Mapping[str, Any]) -> dict[int, str]:
    """A name for each net that has one of its own: one that no tool made, the shortest."""
    best: dict[int, tuple[bool, int, str]] = {}
    for name, net in nets.items():
        if net.get("hide_name"):
            continue
        made = bool(_MADE.search(name))
        for place, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                shown = said(name) + (f"[{place}]" if len(net["bits"]) > 1 else "")
                best[bit] = min(best.get(bit, (True, 1 << 30, "")), (made, len(shown), shown))
    return {bit: name for bit, (_, _, name) in best.items()}


def said(name: str) -> str:
    """A name as a reader knows it, without what synthesis made of it."""
    return signal_of(name).removeprefix("core.")


def _name(graph: Graph, bit: int) -> str:
    return graph.names.get(bit) or said(graph.cells.get(bit, f"net {bit}"))


def _module(signal: str) -> str:
    """The module that a signal lies in."""
    return re.sub(r"\[\d+\]$", "", signal).rpartition(".")[0] or "machine"


def _arrivals(graph: Graph) -> dict[int, tuple[float, int | None, int]]:
    """By net: when it is stable at the latest, the net before it on that path, and the path's levels.

    A depth-first walk from the ends, so that a net is timed after all that it follows from.
    """
    arrival: dict[int, tuple[float, int | None, int]] = {}
    open_: dict[int, None] = {}
    pending = [bit for bit, _, _ in graph.ends]
    while pending:
        bit = pending[-1]
        if bit in arrival:
            pending.pop()
            continue
        sources = graph.drivers.get(bit, []) if bit not in graph.starts else []
        waiting = [source for source, _, _ in sources if source not in arrival]
        if waiting:
            open_[bit] = None
            if looped := [source for source in waiting if source in open_]:
                raise TimingError(_loop(graph, list(open_), looped[0]))
            pending += waiting
            continue
        open_.pop(bit, None)
        latest: tuple[float, int | None, int] = (graph.starts.get(bit, 0.0), None, 0)
        for source, ns, wired in sources:
            at, _, levels = arrival[source]
            at += ns + (graph.net_ns(source) if wired else 0.0)
            if at > latest[0]:
                latest = (at, source, levels + wired)
        arrival[bit] = latest
        pending.pop()
    return arrival


def _loop(graph: Graph, walked: list[int], again: int) -> str:
    names = [_name(graph, bit) for bit in reversed(walked[walked.index(again) :])]
    shown = " > ".join([*dict.fromkeys(names[:6]), names[0]])
    return f"signals form a loop without a register: {shown}; break it with a register"


def _path(graph: Graph, arrival: Mapping[int, Any], bit: int, end: str, ns: float) -> Path:
    levels = arrival[bit][2]
    modules = [_module(end)]
    at: int | None = bit
    first = bit
    while at is not None:
        if at in graph.names and modules[-1] != (module := _module(graph.names[at])):
            modules.append(module)
        first, at = at, arrival[at][1]
    return Path(_name(graph, first), end, ns, levels, tuple(reversed(modules)))
