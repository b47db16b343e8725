"""Whether two flat netlists are the same but for names: a map from the cells and bits of one to those of the other.

Cells and bits are the nodes of a graph, and every pin an edge. Nodes get colours from what is fixed, that is a cell's
type, parameters and constants, a port's name, a bit's initial value; then, round by round, each node's colour takes
in those of its neighbours (Weisfeiler and Lehman's refinement), until no class of equal colours falls apart any more.
A round in which the two netlists hold unequal numbers of a colour shows that they differ, and where. What is still
tied is told apart by choice, one pair at a time, with a way back. Colours only propose: `verify` then goes through the
map cell by cell, port by port, bit by bit, and that is the proof.

Ref: B. Weisfeiler, A. Lehman, "The reduction of a graph to canonical form and the algebra which appears therein",
1968; B. D. McKay, A. Piperno, "Practical graph isomorphism, II", 2014, for the individualisation.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Bit = int | str
"""A net's number, or a constant: 0, 1, x, z, or what a constant is masked by."""
Pins = tuple[tuple[str, tuple[Bit, ...]], ...]
Colours = npt.NDArray[np.uint64]

SHOWN = 4
"""How many cells of a kind a message names."""
MAX_CHOICES = 2_000
"""Pairs that may be chosen among ties before the search gives up."""


class Undecided(RuntimeError):
    """One line: the search ended without a map and without a difference."""


@dataclass(frozen=True)
class Cell:
    """A cell, or a port of the top module, whose type then begins with ``port``.

    Attributes
    ----------
    name : where it is, for messages
    type : as Yosys names it
    parameters : by name
    pins : by port, the lowest bit first
    """

    name: str
    type: str
    parameters: tuple[tuple[str, Hashable], ...]
    pins: Pins

    def bits(self) -> Iterator[tuple[str, int, Bit]]:
        """Each pin: its port, its place there, and what it is connected to."""
        for port, bits in self.pins:
            for place, bit in enumerate(bits):
                yield port, place, bit

    @property
    def commutes(self) -> bool:
        """Whether A and B may be exchanged: the same function of operands that are declared alike."""
        given = dict(self.parameters)
        alike = (given.get(f"A_{name}") == given.get(f"B_{name}") for name in ("WIDTH", "SIGNED"))
        return self.type in COMMUTATIVE and all(alike)

    @property
    def exchanged(self) -> Pins:
        """The pins with A and B exchanged."""
        pins = dict(self.pins)
        return tuple(sorted({**pins, "A": pins["B"], "B": pins["A"]}.items()))

    def key(self, bare: bool) -> tuple[Hashable, ...]:
        """Type, parameters and ports; `bare` of the contents of a memory."""
        kept = tuple(pair for pair in self.parameters if not (bare and isinstance(pair[1], tuple)))
        return (self.type, kept, tuple((port, len(bits)) for port, bits in self.pins))

    @property
    def kind(self) -> str:
        """Type and widths, for counts."""
        widths = [f"{name}={value}" for name, value in self.parameters if isinstance(value, int)]
        return " ".join([self.type, *widths])


@dataclass(frozen=True)
class Netlist:
    """Cells and ports, the initial value of each bit that has one, a name of each bit for messages."""

    cells: tuple[Cell, ...]
    initial: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    cut: frozenset[int] = frozenset()

    def described(self, cell: Cell) -> str:
        """Type, the name of what it drives, and where it stands in the Verilog."""
        driven = [bit for port, _, bit in cell.bits() if port in OUTPUTS and isinstance(bit, int)]
        named = next((self.names[bit] for bit in driven if not self.names.get(bit, "$").startswith("$")), "")
        return f"{cell.type} {named} ({cell.name})" if named else f"{cell.type} ({cell.name})"

    def said(self, bit: int) -> str:
        """A bit's name."""
        return self.names.get(bit, f"net {bit}")


OUTPUTS = frozenset({"Y", "Q", "RD_DATA", "X", "CO", "O"})
"""Ports of Yosys' own cells that drive nets."""
COMMUTATIVE = frozenset(
    {"$add", "$mul", "$and", "$or", "$xor", "$xnor", "$eq", "$ne", "$eqx", "$nex", "$logic_and", "$logic_or"}
)
"""Cells whose operands Yosys itself takes for exchangeable: of two that are equal so, it keeps the first it meets."""


@dataclass(frozen=True)
class Comparison:
    """What was found: maps where the netlists are equal, else lines that say how they differ.

    `chosen` counts choices among ties, `exchanged` lists the cells that commute and whose operands changed places.
    """

    cells: Mapping[int, int] = field(default_factory=dict)
    bits: Mapping[int, int] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    chosen: int = 0
    exchanged: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return not self.differences


def compare(old: Netlist, new: Netlist) -> Comparison:
    """A map that is verified, or the first things that differ.

    Raises
    ------
    Undecided
        Where there are too many ties to try.
    """
    if found := tuple(_counts(old, new)):
        return Comparison(differences=found)
    search = _Search(old, new)
    colours = search.settle(search.first())
    if colours is None:
        return Comparison(differences=_constants(old, new) or search.differences)
    decided, chosen = search.decide(colours)
    if decided is None:
        return Comparison(
            differences=("no map between their symmetric parts: every choice leads to a difference",)
        )
    cells, bits = search.maps(decided)
    if wrong := next(verify(old, new, cells, bits), None):
        raise Undecided(f"the map that was found is none: {wrong}")
    swapped = tuple(
        new.described(new.cells[fellow])
        for index, fellow in cells.items()
        if _mapped(old.cells[index].pins, bits) != new.cells[fellow].pins
    )
    return Comparison(cells, bits, chosen=chosen, exchanged=swapped)


def _mapped(pins: Pins, bits: Mapping[int, int]) -> Pins:
    return tuple(
        (port, tuple(bits[bit] if isinstance(bit, int) else bit for bit in connected))
        for port, connected in pins
    )


def _constants(old: Netlist, new: Netlist) -> tuple[str, ...]:
    """What differs, where the netlists are equal but for constants, initial values and contents; else nothing."""
    search = _Search(old, new, bare=True)
    colours = search.settle(search.first())
    try:
        decided = search.decide(colours)[0] if colours is not None else None
    except Undecided:
        decided = None
    return tuple(verify(old, new, *search.maps(decided))) if decided is not None else ()


def verify(old: Netlist, new: Netlist, cells: Mapping[int, int], bits: Mapping[int, int]) -> Iterator[str]:
    """Whether maps take one netlist to the other, by looking at all of it: what is wrong, a line each.

    Independent of how the maps were found: both are one to one and onto; a cell's fellow has its type, parameters,
    ports and constants, and is connected, bit by bit, to the fellows of its bits, which have their initial values. The
    operands of a cell that commutes may be exchanged, as wholes.
    """
    if sorted(cells) != list(range(len(old.cells))) or sorted(cells.values()) != list(range(len(new.cells))):
        yield "not every cell has one fellow"
        return
    if (
        set(bits) != _bits_of(old)
        or set(bits.values()) != _bits_of(new)
        or len(set(bits.values())) != len(bits)
    ):
        yield "not every bit has one fellow"
        return
    for index, cell in enumerate(old.cells):
        fellow = new.cells[cells[index]]
        mapped = _mapped(cell.pins, bits)
        alike = (cell.type, cell.parameters) == (fellow.type, fellow.parameters)
        if not alike or (mapped != fellow.pins and not (fellow.commutes and mapped == fellow.exchanged)):
            yield f"{old.described(cell)} -> {new.described(fellow)}: {_unlike(cell, fellow)}"
    for bit, other in bits.items():
        if old.initial.get(bit) != new.initial.get(other):
            before, now = (value or "undefined" for value in (old.initial.get(bit), new.initial.get(other)))
            yield f"{old.said(bit)} -> {new.said(other)}: is {before} -> {now} at first"
        if (bit in old.cut) != (other in new.cut):
            yield f"{old.said(bit)} -> {new.said(other)}: cut on one side alone"


def _unlike(cell: Cell, fellow: Cell) -> str:
    """In what a cell differs from its fellow."""
    if cell.type != fellow.type:
        return f"type {cell.type} -> {fellow.type}"
    if cell.parameters != fellow.parameters:
        old, new = dict(cell.parameters), dict(fellow.parameters)
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        return ", ".join(_parameter(name, old.get(name), new.get(name)) for name in names)
    for (port, place, bit), (_, _, other) in zip(cell.bits(), fellow.bits(), strict=False):
        if bit != other and (isinstance(bit, str) or isinstance(other, str)):
            before, now = (value if isinstance(value, str) else "a net" for value in (bit, other))
            return f"{port}[{place}] is {before} -> {now}"
    return "connected otherwise"


def _parameter(name: str, before: Hashable, now: Hashable) -> str:
    if isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        places = [place for place in range(len(before)) if before[place] != now[place]]
        first = places[0]
        return f"{name} in {len(places):,} words, the first {first}: {before[first]} -> {now[first]}"
    return f"{name} {before} -> {now}"


def _bits_of(netlist: Netlist) -> set[int]:
    return {bit for cell in netlist.cells for _, _, bit in cell.bits() if isinstance(bit, int)}


def _counts(old: Netlist, new: Netlist) -> Iterator[str]:
    """Types, with their widths, of which there are not equally many; where they are few, which they are."""
    kinds: list[dict[str, list[Cell]]] = [{}, {}]
    for netlist, found in zip((old, new), kinds, strict=True):
        for cell in netlist.cells:
            found.setdefault(cell.kind, []).append(cell)
    for kind in sorted(kinds[0].keys() | kinds[1].keys()):
        before, now = (found.get(kind, []) for found in kinds)
        if len(before) != len(now):
            line = f"{len(before):,} -> {len(now):,} cells {kind}"
            for called, netlist, cells in (("before", old, before), ("now", new, now)):
                if 0 < len(cells) <= SHOWN:
                    line += f"; {called}: {', '.join(map(netlist.described, cells))}"
            yield line


def without(netlist: Netlist, pattern: re.Pattern[str]) -> tuple[Netlist, list[str]]:
    """The netlist without the cells that drive nets of such a name and without what these alone keep.

    The nets of the cells that go, where others read them, stay as nets that are cut: alike, and driven by nothing.
    Also what went, described.
    """
    driven = [
        {bit for port, _, bit in cell.bits() if port in OUTPUTS and isinstance(bit, int)}
        for cell in netlist.cells
    ]
    gone = {
        index
        for index, bits in enumerate(driven)
        if any(pattern.search(netlist.names.get(bit, "")) for bit in bits)
    }
    readers: dict[int, set[int]] = {}
    for index, cell in enumerate(netlist.cells):
        for port, _, bit in cell.bits():
            if isinstance(bit, int) and port not in OUTPUTS:
                readers.setdefault(bit, set()).add(index)
    while True:
        more = {
            index
            for index, bits in enumerate(driven)
            if index not in gone and bits and all(readers.get(bit) and readers[bit] <= gone for bit in bits)
        }
        if not more:
            break
        gone |= more
    left = tuple(cell for index, cell in enumerate(netlist.cells) if index not in gone)
    cut = frozenset(bit for index in gone for bit in driven[index])
    initial = {bit: value for bit, value in netlist.initial.items() if bit not in cut}
    said = sorted(netlist.described(netlist.cells[index]) for index in gone)
    return replace(netlist, cells=left, initial=initial, cut=netlist.cut | cut), said


def _mixed(values: Colours) -> Colours:
    """SplitMix64's finish: each bit of the result hangs on all of a value's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class _Numbers:
    """The same number for the same thing, counted up."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def of(self, thing: Hashable) -> int:
        return self._known.setdefault(thing, len(self._known) + 1)


class _Search:
    """Both netlists as one graph: nodes are the cells, ports' parts and bits of the old one, then those of the new one.

    A cell's node leads to a node for each of its ports, and that to its bits by their place, so that two operands that
    commute are alike as wholes.
    """

    def __init__(self, old: Netlist, new: Netlist, bare: bool = False) -> None:
        self._netlists = (old, new)
        self.differences: tuple[str, ...] = ()
        self._things: list[int | Cell | None] = []
        numbers = _Numbers()
        seeds: list[int] = []
        edges: list[tuple[int, int, int]] = []
        borders = []
        for netlist in self._netlists:
            borders.append(len(self._things))
            bits = sorted(_bits_of(netlist))
            self._things += [*netlist.cells, *bits]
            seeds += [numbers.of(cell.key(bare)) for cell in netlist.cells]
            seeds += [numbers.of((bare or netlist.initial.get(bit), bit in netlist.cut)) for bit in bits]
            node = {bit: at for at, bit in enumerate(bits, borders[-1] + len(netlist.cells))}
            for index, cell in enumerate(netlist.cells, borders[-1]):
                commutes = cell.commutes
                for port, connected in cell.pins:
                    here = len(self._things)
                    self._things.append(None)
                    fixed = tuple((bare or bit) if isinstance(bit, str) else None for bit in connected)
                    seeds.append(numbers.of(("port", fixed)))
                    called = "operand" if commutes and port in ("A", "B") else port
                    edges.append((index, here, numbers.of(("of", called))))
                    edges += [
                        (here, node[bit], numbers.of(("at", place)))
                        for place, bit in enumerate(connected)
                        if isinstance(bit, int)
                    ]
        self._border = borders[1]
        self._side = np.zeros(len(self._things), dtype=np.int64)
        self._side[self._border :] = 1
        self._seeds = _mixed(np.array(seeds, dtype=np.uint64))
        self._connect(np.array(edges, dtype=np.int64).reshape(-1, 3))

    def _connect(self, edges: npt.NDArray[np.int64]) -> None:
        """What a round adds up: for each node that is reached, in order, the nodes it is reached from, and labels."""
        labels = _mixed(edges[:, 2].astype(np.uint64) << np.uint64(32))
        reached = np.concatenate([edges[:, 0], edges[:, 1]])
        order = np.argsort(reached, kind="stable")
        self._from = np.concatenate([edges[:, 1], edges[:, 0]])[order]
        self._labels = np.concatenate([labels, labels + np.uint64(1)])[order]
        self._reached, self._starts = np.unique(reached[order], return_index=True)

    def first(self) -> Colours:
        """Colours of what is fixed."""
        return self._seeds.copy()

    def settle(self, colours: Colours) -> Colours | None:
        """Refined until nothing falls apart; None where the sides come to differ, which `differences` then tells."""
        classes = 0
        while True:
            unequal, count = self._balance(colours)
            if unequal is not None:
                self.differences = tuple(self._told(self._cells_around(colours, unequal)))
                return None
            if count == classes:
                return colours
            classes = count
            colours = self._refined(colours)

    def _cells_around(self, colours: Colours, unequal: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The first nodes to differ that are cells: where it is bits and ports alone, a few rounds on."""
        for _ in range(4):
            if any(isinstance(self._things[node], Cell) for node in unequal.tolist()):
                break
            colours = self._refined(colours)
            found = self._balance(colours)[0]
            unequal = unequal if found is None else found
        return unequal

    def _refined(self, colours: Colours) -> Colours:
        """A round: what a colour was, and the sum of its neighbours' by the pins that lead there."""
        sums = np.add.reduceat(_mixed(self._labels + colours[self._from]), self._starts)
        colours = colours * np.uint64(0x9E3779B97F4A7C15)
        colours[self._reached] += sums
        return _mixed(colours)

    def _balance(self, colours: Colours) -> tuple[npt.NDArray[np.int64] | None, int]:
        """The nodes of a colour of which the sides have not equally many, None if there is none; how many colours.

        The nodes of rare colours first, which are the nearest to what differs.
        """
        distinct, members, sizes = np.unique(colours, return_inverse=True, return_counts=True)
        weights = np.bincount(members, weights=1.0 - 2.0 * self._side)
        if not weights.any():
            return None, len(distinct)
        nodes = np.flatnonzero(weights[members])
        return nodes[np.argsort(sizes[members[nodes]], kind="stable")], len(distinct)

    def _told(self, nodes: npt.NDArray[np.int64]) -> Iterator[str]:
        """The cells that have no fellow, those first that the other side names otherwise."""
        sides = [self._said(nodes[self._side[nodes] == side], side) for side in (0, 1)]
        for said, others, called in zip(sides, reversed(sides), ("before", "now"), strict=True):
            ordered = sorted(said, key=lambda pair: pair in others)
            listed = "; ".join(" ".join(filter(None, pair)) for pair in ordered[:SHOWN])
            if said:
                more = f" and {len(said) - SHOWN:,} more" if len(said) > SHOWN else ""
                yield f"without a fellow, {called}: {listed}{more}"

    def _said(self, nodes: npt.NDArray[np.int64], side: int) -> dict[tuple[str, str], None]:
        """Names of cells among nodes, or of bits where there is none, and where they are."""
        netlist = self._netlists[side]
        things = [self._things[node] for node in nodes.tolist()]
        cells = [netlist.described(thing) for thing in things if isinstance(thing, Cell)]
        if cells:
            return {(said.rpartition(" (")[0], f"({said.rpartition(' (')[2]}"): None for said in cells}
        return {(netlist.said(thing), ""): None for thing in things if isinstance(thing, int)}

    def decide(self, colours: Colours) -> tuple[Colours | None, int]:
        """Colours that tell all nodes of a side apart, by choices among ties where it takes them; how many choices."""
        stack: list[tuple[Colours, int, Iterator[int]]] = []
        current: Colours | None = colours
        chosen = 0
        while True:
            if current is not None:
                tied = self._tie(current)
                if tied is None:
                    return current, len(stack)
                stack.append((current, *tied))
            if not stack:
                return None, 0
            before, node, fellows = stack[-1]
            fellow = next(fellows, None)
            if fellow is None:
                stack.pop()
                current = None
                continue
            chosen += 1
            if chosen > MAX_CHOICES:
                raise Undecided(f"more than {MAX_CHOICES:,} choices among symmetric parts were tried")
            trial = before.copy()
            trial[[node, fellow]] = _mixed(trial[node : node + 1] + np.uint64(1))[0]
            current = self.settle(trial)

    def _tie(self, colours: Colours) -> tuple[int, Iterator[int]] | None:
        """A node of the old netlist that has more than one fellow, and these; of the least class."""
        _, members, counts = np.unique(colours, return_inverse=True, return_counts=True)
        sizes = counts[members]
        if sizes.max(initial=2) == 2:
            return None
        sizes[sizes == 2] = len(sizes) + 1
        node = int(np.argmin(sizes))
        fellows = np.flatnonzero((colours == colours[node]) & (self._side == 1))
        return node, iter(map(int, fellows))

    def maps(self, colours: Colours) -> tuple[dict[int, int], dict[int, int]]:
        """From the old netlist's cells and bits to the new one's of the same colour."""
        border = self._border
        old, new = np.argsort(colours[:border]), np.argsort(colours[border:]) + border
        cells, bits = {}, {}
        for node, fellow in zip(old.tolist(), new.tolist(), strict=True):
            thing, other = self._things[node], self._things[fellow]
            if isinstance(thing, int) and isinstance(other, int):
                bits[thing] = other
            elif isinstance(thing, Cell):
                cells[node] = fellow - border
        return cells, bits
