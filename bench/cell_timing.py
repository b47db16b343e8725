"""Static timing of a machine mapped with a cell library, no wires: the longest path of every pair of modules.

The graph and the report are `bench.timing`'s; here its delays are made, of the library's tables. What a table is asked:

* the load of a net is the capacitance of the inputs at it; where those are more than `FANOUT`, of as many buffers, the
  first level of a tree of the library's quickest ones;
* the transition at a net is the slowest of its driver's, rising or falling, where the driver's inputs move in
  `TRANSITION_NS`, and then once more with those for its inputs; at the end of a tree it is a buffer's;
* a delay is the longer of the rising and the falling one, so that paths are longer than where edges alternate.

The clock is ideal. The library has no memories: their outputs follow the clock, and their inputs are sampled, as those
of the library's smallest flip-flop.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.liberty import Group, LibertyError, registers
from bench.timing import Graph, TimingError, names_of, said

TRANSITION_NS = 0.05
"""Of the clock, of what comes from outside, and to begin with."""
FANOUT = 16
"""The most inputs that a cell drives: synthesis leaves nets of thousands, which a placer buffers."""
_PASSES = 2
_TRANSITIONS = ("input_net_transition", "input_transition_time")
_LOAD = "total_output_net_capacitance"
_SAMPLED = ("setup_rising", "setup_falling", "recovery_rising", "recovery_falling")
_CLOCKED = ("rising_edge", "falling_edge")
_MACRO_OUTPUT, _MACRO_CLOCK = "RD_DATA", re.compile("(RD|WR)_CLK")


@dataclass(frozen=True)
class Table:
    """Values over one or two variables, linear in between and, from the nearest two, beyond."""

    variables: tuple[str, ...]
    axes: tuple[tuple[float, ...], ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, **where: float) -> float:
        """The value where the variables have these values; others than the table's are passed over."""
        rows = self.values
        if len(self.axes) == 2:
            rows = (tuple(_between(self.axes[1], row, where[self.variables[1]]) for row in rows),)
        return _between(self.axes[0], rows[0], where[self.variables[0]]) if self.axes else rows[0][0]


def _between(axis: Sequence[float], values: Sequence[float], at: float) -> float:
    if len(axis) == 1:
        return values[0]
    high = min(max(bisect_right(axis, at), 1), len(axis) - 1)
    share = (at - axis[high - 1]) / (axis[high] - axis[high - 1])
    return values[high - 1] + share * (values[high] - values[high - 1])


@dataclass(frozen=True)
class CellArc:
    """From an input pin to an output pin; from a clock pin where `clocked`."""

    source: str
    output: str
    delays: tuple[Table, ...]
    transitions: tuple[Table, ...]
    clocked: bool


@dataclass(frozen=True)
class Cell:
    """What is known of a type of cell: capacitances of its inputs, arcs, and by sampled pin its constraints."""

    capacitances: Mapping[str, float]
    arcs: tuple[CellArc, ...]
    samples: Mapping[str, tuple[Table, ...]]


@dataclass(frozen=True)
class Buffer:
    """A buffer that drives `FANOUT` of its own: its delay, the transition that it makes, its load."""

    ns: float
    transition: float
    load: float


class Cells:
    """The cells of a library.

    Parameters
    ----------
    library : Group
        As `bench.liberty.parse` gives it; its unit of time is 1 ns.

    Raises
    ------
    LibertyError
        Where it has no flip-flop, or another unit.
    """

    def __init__(self, library: Group) -> None:
        if (unit := library.one("time_unit")) != "1ns":
            raise LibertyError(f"the library's time_unit is {unit or 'missing'}; name one of 1ns")
        if not (areas := registers(library)):
            raise LibertyError("the library has no flip-flop; name another one")
        self._groups = {cell.values[0]: cell for cell in library.of("cell")}
        self._templates = {group.values[0]: group for group in library.of("lu_table_template")}
        self._known: dict[str, Cell] = {}
        self.register = self.of(min(areas, key=lambda name: areas[name]))
        self.buffer = min(self._buffers(), key=lambda buffer: buffer.ns)

    def _buffers(self) -> Iterator[Buffer]:
        for name, group in self._groups.items():
            outputs = [pin for pin in group.of("pin") if pin.one("direction") == "output"]
            cell = self.of(name)
            if len(outputs) == len(cell.capacitances) == len(cell.arcs) == 1:
                ((source, capacitance),) = cell.capacitances.items()
                if outputs[0].one("function").strip("() ") == source:
                    load = FANOUT * capacitance
                    moves = _slowest(cell.arcs[0].transitions, None, load)
                    yield Buffer(_slowest(cell.arcs[0].delays, moves, load), moves, load)

    def of(self, kind: str) -> Cell:
        """Raises TimingError where the library has no such cell."""
        if kind not in self._known:
            if kind not in self._groups:
                raise TimingError(
                    f"the netlist has a {kind}, which the library has not; map it with that library"
                )
            self._known[kind] = self._read(self._groups[kind])
        return self._known[kind]

    def _read(self, group: Group) -> Cell:
        capacitances, arcs, samples = {}, [], {}
        for pin in group.of("pin"):
            name = pin.values[0]
            if pin.one("direction") == "input":
                capacitances[name] = pin.number("capacitance")
                samples[name] = tuple(
                    table
                    for timing in pin.of("timing")
                    if timing.one("timing_type") in _SAMPLED
                    for table in self._tables(timing, "rise_constraint", "fall_constraint")
                )
                continue
            for timing in pin.of("timing"):
                kind = timing.one("timing_type", "combinational")
                delays = self._tables(timing, "cell_rise", "cell_fall")
                if delays and (kind.startswith("combinational") or kind in _CLOCKED):
                    transitions = self._tables(timing, "rise_transition", "fall_transition")
                    for source in timing.one("related_pin").split():
                        arcs.append(CellArc(source, name, delays, transitions, kind in _CLOCKED))
        return Cell(capacitances, tuple(arcs), {pin: tables for pin, tables in samples.items() if tables})

    def _tables(self, timing: Group, *kinds: str) -> tuple[Table, ...]:
        return tuple(self._table(group) for kind in kinds for group in timing.of(kind))

    def _table(self, group: Group) -> Table:
        template = self._templates.get(group.values[0], group)
        places = [place for place in (1, 2) if template.one(f"variable_{place}")]
        axes = []
        for place in places:
            index = f"index_{place}"
            axes.append(_numbers((group if group.one(index) else template).one(index)))
        return Table(
            tuple(template.one(f"variable_{place}") for place in places),
            tuple(axes),
            tuple(_numbers(row) for row in group.attributes["values"]),
        )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


@dataclass(frozen=True)
class _Instance:
    """A cell of the netlist: its pins' nets, one net a pin, and what is known of its type."""

    name: str
    cell: Cell
    pins: Mapping[str, int]


def graph_of(netlist: Mapping[str, Any], top: str, cells: Cells, macro: str) -> Graph:
    """The graph of a flat netlist, as Yosys' ``write_json`` gives it, for `bench.timing.report`.

    Parameters
    ----------
    netlist : the parsed JSON
    top : the module
    cells : the library's
    macro : the type of the memories

    Raises
    ------
    TimingError
        Where the library lacks a cell.
    """
    module = netlist["modules"][top]
    found = list(_instances(module, cells, macro))
    graph = Graph(names=names_of(module["netnames"]), wires=False)
    loads: dict[int, float] = defaultdict(float)
    for instance in found:
        for pin, capacitance in instance.cell.capacitances.items():
            if pin in instance.pins:
                loads[instance.pins[pin]] += capacitance
                graph.fanout[instance.pins[pin]] += 1
    trees = {net: cells.buffer for net, inputs in graph.fanout.items() if inputs > FANOUT}
    loads.update({net: buffer.load for net, buffer in trees.items()})
    transitions: dict[int, float] = {}
    for _ in range(_PASSES):
        before, transitions = transitions, {}
        for instance in found:
            for arc, output in _driven(instance):
                slowest = _slowest(
                    arc.transitions, before.get(instance.pins.get(arc.source, -1)), loads[output]
                )
                transitions[output] = max(transitions.get(output, 0.0), slowest)
        transitions.update({net: buffer.transition for net, buffer in trees.items()})
    for instance in found:
        _add(graph, instance, loads, transitions)
    for net, buffer in trees.items():
        levels = math.ceil(round(math.log(graph.fanout[net], FANOUT), 9)) - 1
        if net in graph.starts:
            graph.starts[net] += levels * buffer.ns
        graph.drivers[net] = [
            (source, ns + levels * buffer.ns, wired) for source, ns, wired in graph.drivers.get(net, [])
        ]
    return graph


def _instances(module: Mapping[str, Any], cells: Cells, macro: str) -> Iterator[_Instance]:
    for name, cell in module["cells"].items():
        nets = cell["connections"]
        if cell["type"] == macro:
            yield from _of_macro(name, nets, cells.register)
        elif not cell["type"].startswith("$"):
            pins = {pin: bits[0] for pin, bits in nets.items() if bits and isinstance(bits[0], int)}
            yield _Instance(name, cells.of(cell["type"]), pins)


def _of_macro(name: str, nets: Mapping[str, Sequence[Any]], register: Cell) -> Iterator[_Instance]:
    """A memory as flip-flops: one for each bit read, and one for each that goes in."""
    (output,) = {arc.output for arc in register.arcs[:1]}
    (data, *_) = register.samples
    for pin, bits in nets.items():
        if not _MACRO_CLOCK.fullmatch(pin):
            for bit in bits:
                if isinstance(bit, int):
                    yield _Instance(name, register, {output if pin == _MACRO_OUTPUT else data: bit})


def _driven(instance: _Instance) -> Iterator[tuple[CellArc, int]]:
    for arc in instance.cell.arcs:
        if arc.output in instance.pins:
            yield arc, instance.pins[arc.output]


def _slowest(tables: Sequence[Table], transition: float | None, load: float) -> float:
    moved = TRANSITION_NS if transition is None else transition
    return max(table.at(**dict.fromkeys(_TRANSITIONS, moved), **{_LOAD: load}) for table in tables)


def _add(
    graph: Graph, instance: _Instance, loads: Mapping[int, float], transitions: Mapping[int, float]
) -> None:
    pins = instance.pins
    for arc, output in _driven(instance):
        graph.cells[output] = instance.name
        source = pins.get(arc.source)
        if arc.clocked:
            delay = _slowest(arc.delays, None, loads[output])
            graph.starts[output] = max(graph.starts.get(output, 0.0), delay)
        elif source is not None:
            delay = _slowest(arc.delays, transitions.get(source), loads[output])
            graph.drivers.setdefault(output, []).append((source, delay, True))
    outputs = [pins[arc.output] for arc in instance.cell.arcs if arc.output in pins]
    signal = graph.names.get(outputs[0]) if outputs else None
    for pin, tables in instance.cell.samples.items():
        if pin in pins:
            moved = transitions.get(pins[pin], TRANSITION_NS)
            setup = max(
                table.at(related_pin_transition=TRANSITION_NS, constrained_pin_transition=moved)
                for table in tables
            )
            graph.ends.append((pins[pin], setup, signal or said(instance.name)))
