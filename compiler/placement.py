"""Where tensors lie: on chip for as long as they are read, in memory where they do not fit, one in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from intaglio.compiler.allocation import Request, live_elements, place
from intaglio.compiler.plans import Plan
from intaglio.compiler.views import Block, Extents, digits_of
from intaglio.network import Concatenation, Network, NetworkError, Reshape
from intaglio.spec.config import AcceleratorConfig

JOIN_ELEMENTS = 4096
"""Of a Concatenation's operand, on their way from memory to memory."""
SHRINK = 0.8
"""Tiles are made smaller by this where what they leave free is in pieces."""


@dataclass(frozen=True)
class Home:
    """The storage that holds a tensor: the name of the tensor that it was made for, from which element on, and how far
    its pixels are apart (None: dense)."""

    storage: str
    offset: int = 0
    pitch: int | None = None


@dataclass(frozen=True)
class Placement:
    """Segments of layers whose blocks are sent interleaved, and where everything is.

    Attributes
    ----------
    homes : of every tensor
    addresses : of storages, of tables (``table NAME``) and of staged parts (``operand I of NAME``, ``output of NAME``)
    spilled : storages that lie in memory
    tiles : parts in which a layer with a spilled tensor is computed
    channels : of layers by channel whose windows do not fit: how many channels are loaded at a time
    """

    segments: list[list[Plan]]
    homes: Mapping[str, Home]
    addresses: Mapping[str, int]
    spilled: frozenset[str]
    tiles: Mapping[str, list[Block]] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)


def table_name(plan: Plan) -> str:
    return f"table {plan.name}"


def stage_name(plan: Plan, operand: int | None) -> str:
    return f"output of {plan.name}" if operand is None else f"operand {operand} of {plan.name}"


class Placer:
    """Finds a placement for the plans of a network."""

    def __init__(self, network: Network, plans: list[Plan], config: AcceleratorConfig) -> None:
        self._network, self._plans, self._config = network, plans, config
        self._alignment = 8 // config.element_bits
        self._capacity = config.scratchpad_elements
        self._channels: dict[str, int] = {}

    def place(self) -> Placement:
        """Raises NetworkError, naming layers, where not even parts of tensors fit.

        Tried in this order: layers interleaved and joined in place; each by itself; then with tensors in memory, of
        the layer that wants most, the largest first.
        """
        for interleaved in (True, False):
            homes = self._homes(joined=interleaved)
            segments = self._segments(frozenset(), homes, interleaved)
            requests = self._requests(segments, homes, frozenset(), {})
            addresses, top = place(requests, self._alignment)
            if top <= self._capacity:
                return Placement(segments, homes, addresses, frozenset())
        return self._spill()

    def _spill(self) -> Placement:
        homes = self._homes(joined=False)
        spilled: frozenset[str] = frozenset()
        while True:
            segments = self._segments(spilled, homes, interleaved=True)
            share, placed = 1.0, None
            while share > 0.3 and placed is None:
                placed, worst = self._try(segments, homes, spilled, share)
                share *= SHRINK
            if placed is not None:
                return placed
            candidates = self._candidates(segments, homes, spilled, worst)
            if not candidates:
                requests = self._requests(segments, homes, spilled, {})
                self._refuse(segments[worst][0], live_elements(requests, self._alignment).get(worst, 0))
            spilled |= {candidates[0]}

    def _try(
        self, segments: list[list[Plan]], homes: Mapping[str, Home], spilled: frozenset[str], share: float
    ) -> tuple[Placement | None, int]:
        """A placement with these storages in memory, or the step at which most is wanting."""
        resident = self._requests(segments, homes, spilled, {})
        live = live_elements(resident, self._alignment)
        worst = max(range(len(segments)), key=lambda step: live.get(step, 0))
        if live.get(worst, 0) > self._capacity:
            return None, worst
        tiles: dict[str, list[Block]] = {}
        self._channels = {}
        for step, segment in enumerate(segments):
            for plan in segment:
                if self._touches(plan, homes, spilled):
                    free = int((self._capacity - live.get(step, 0)) * share)
                    found = self._tiles(plan, homes, spilled, free)
                    if not found:
                        return None, step
                    tiles[plan.name] = found
        requests = self._requests(segments, homes, spilled, tiles)
        addresses, top = place(requests, self._alignment)
        if top <= self._capacity:
            return Placement(segments, homes, addresses, spilled, tiles, self._channels), worst
        return None, worst

    def _candidates(
        self, segments: list[list[Plan]], homes: Mapping[str, Home], spilled: frozenset[str], step: int
    ) -> list[str]:
        """Storages alive at a step that could go to memory, the largest first."""
        # What is given and is an output, be it in another shape, goes through the chip.
        given = {*self._network.inputs, *self._network.constants}
        through = given & {homes[name].storage for name in self._network.outputs}
        alive = [
            request
            for request in self._requests(segments, homes, spilled, {})
            if request.first <= step <= request.last
            and request.tensor in self._network.tensors
            and request.tensor not in through
        ]
        return [request.tensor for request in sorted(alive, key=lambda request: -request.elements)]

    def _refuse(self, plan: Plan, staying: int) -> None:
        parts = [plan.target.whole] if plan.geometry is None else [plan.target.whole, *_parts(plan.target)]
        smallest = min(sum(self._staged(plan, part)) for part in parts)
        raise NetworkError(
            f"layer {plan.name}: the smallest part of it needs {smallest:,} elements of scratchpad beside {staying:,} "
            f"of tables and what must stay, {self._config.name} has {self._capacity:,}"
        )

    def _staged(self, plan: Plan, tile: Block) -> list[int]:
        """Elements of all operands and the output of a tile, as if all were in memory."""
        extents = (*plan.sources, plan.target)
        blocks = (*plan.needs(tile), tile)
        return [self._aligned(b.positions * e.pixel) for b, e in zip(blocks, extents, strict=True)]

    def _aligned(self, elements: int) -> int:
        return -(-elements // self._alignment) * self._alignment

    def _tiles(
        self, plan: Plan, homes: Mapping[str, Home], spilled: frozenset[str], free: int
    ) -> list[Block]:
        """The largest parts that fit into so many free elements; none if there are none."""
        names = (*plan.layer.inputs, plan.layer.output)
        outside = [homes[name].storage in spilled for name in names]

        def fits(tile: Block) -> bool:
            return (
                sum(n for n, staged in zip(self._staged(plan, tile), outside, strict=True) if staged) <= free
            )

        if isinstance(plan.layer, Concatenation) and self._config.element_bits == 8:
            return [plan.target.whole] if free >= JOIN_ELEMENTS else []
        if fits(plan.target.whole):
            return [plan.target.whole]
        if plan.geometry is None:
            return []
        extents = [e for e, staged in zip((*plan.sources, plan.target), outside, strict=True) if staged]
        bits = self._config.element_bits
        if any(e.columns * e.pixel * bits % 8 for e in extents):
            return []  # rows that begin within a byte
        by_columns = not any(e.pixel * bits % 8 for e in extents)
        target = plan.target
        for rows in range(target.rows - 1, 0, -1):
            tiles = list(_cut(target, rows, target.columns))
            if all(fits(tile) for tile in tiles):
                return tiles
        for columns in range(target.columns - 1, 0, -1) if by_columns else ():
            tiles = list(_cut(target, 1, columns))
            if all(fits(tile) for tile in tiles):
                return tiles
        return self._by_channels(plan, outside, free)

    def _by_channels(self, plan: Plan, outside: list[bool], free: int) -> list[Block]:
        """The whole of a layer by channel, whose windows are loaded some channels at a time."""
        source = plan.sources[0]
        by_itself = plan.window is not None and plan.window.by_channel and plan.window.outputs == source.pixel
        if not by_itself or not outside[0] or self._config.element_bits != 8:
            return []
        whole = plan.target.whole
        left = free - (plan.target.elements if outside[-1] else 0)
        channels = left // plan.needs(whole)[0].positions // self._config.columns * self._config.columns
        if channels < 1:
            return []
        self._channels[plan.name] = min(channels, source.pixel)
        return [whole]

    def _touches(self, plan: Plan, homes: Mapping[str, Home], spilled: frozenset[str]) -> bool:
        names = (*plan.layer.inputs, plan.layer.output)
        return not plan.moves_nothing and any(homes[name].storage in spilled for name in names)

    def _homes(self, joined: bool) -> dict[str, Home]:
        """A reshaped tensor is the same storage. With `joined`, so are tensors that nobody but a Concatenation reads
        and that are computed into its output."""
        network = self._network
        homes = {name: Home(name) for name in network.tensors}
        readers: dict[str, int] = {}
        for layer in network.layers:
            for name in layer.inputs:
                readers[name] = readers.get(name, 0) + 1
        for plan in self._plans:
            if isinstance(plan.layer, Reshape):
                homes[plan.layer.output] = homes[plan.layer.inputs[0]]
        if joined:
            written = {plan.layer.output: plan for plan in self._plans if not plan.moves_nothing}
            for plan in self._plans:
                layer = plan.layer
                if (
                    isinstance(layer, Concatenation)
                    and layer.axis == len(network.tensors[layer.output].shape) - 1
                ):
                    self._join(layer, homes, readers, written)
        return homes

    def _join(
        self,
        layer: Concatenation,
        homes: dict[str, Home],
        readers: Mapping[str, int],
        written: Mapping[str, Plan],
    ) -> None:
        """Channels of one pixel after the other: each operand is a stretch of the output's pixels."""
        target = self._network.tensors[layer.output]
        pitch = target.shape[-1] * digits_of(target, self._config)
        offset = 0
        for name in layer.inputs:
            source = self._network.tensors[name]
            pixel = source.shape[-1] * digits_of(source, self._config)
            alone = readers[name] == 1 and name in written and name not in self._network.outputs
            holds_others = any(home.storage == name for other, home in homes.items() if other != name)
            if alone and homes[name] == Home(name) and not holds_others:
                # What is copied as a whole is written dense.
                plan = written[name]
                by_pixels = plan.runs_on_array or plan.geometry is not None
                if by_pixels and plan.target.pixel == pixel:
                    homes[name] = Home(layer.output, offset, pitch)
            offset += pixel

    def _segments(
        self, spilled: frozenset[str], homes: Mapping[str, Home], interleaved: bool
    ) -> list[list[Plan]]:
        """A layer that the array runs, and those right behind it that it does not, each reading one of the segment."""
        segments: list[list[Plan]] = []
        apart = True
        for plan in self._plans:
            alone = self._touches(plan, homes, spilled)
            written = {before.layer.output for before in segments[-1]} if segments else set()
            follows = interleaved and not plan.runs_on_array and not written.isdisjoint(plan.layer.inputs)
            if follows and not alone and not apart:
                segments[-1].append(plan)
            else:
                segments.append([plan])
            apart = alone
        return segments

    def _requests(
        self,
        segments: list[list[Plan]],
        homes: Mapping[str, Home],
        spilled: frozenset[str],
        tiles: Mapping[str, list[Block]],
    ) -> list[Request]:
        network, config = self._network, self._config
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        # An input that is an output as well is loaded and stored at once.
        for name in network.inputs:
            if name in network.outputs:
                first[name] = last[name] = 0
        for step, segment in enumerate(segments):
            for plan in segment:
                for name in (*plan.layer.inputs, plan.layer.output):
                    storage = homes[name].storage
                    first.setdefault(storage, step)
                    last[storage] = step
        for name in network.outputs:
            # Stored as it grows, the last of it right after the segment that computes it.
            last.setdefault(homes[name].storage, 0)
        requests = []
        for name, step in last.items():
            if name in spilled:
                continue
            tensor = network.tensors[name]
            # Loads and stores move whole bytes.
            elements = self._aligned(tensor.size * digits_of(tensor, config))
            requests.append(Request(name, elements, first.get(name, 0), step))
        for step, segment in enumerate(segments):
            for plan in segment:
                if plan.tables:
                    requests.append(Request(table_name(plan), len(plan.tables), max(step - 1, 0), step))
                if plan.name in tiles:
                    requests += self._stages(plan, homes, spilled, tiles[plan.name], step)
        return requests

    def _stages(
        self, plan: Plan, homes: Mapping[str, Home], spilled: frozenset[str], tiles: list[Block], step: int
    ) -> Iterator[Request]:
        names = (*plan.layer.inputs, plan.layer.output)
        if isinstance(plan.layer, Concatenation) and self._config.element_bits == 8:
            yield Request(stage_name(plan, 0), JOIN_ELEMENTS, step, step)
            return
        staged = [self._staged(plan, tile) for tile in tiles]
        if plan.name in self._channels:
            pixels = plan.needs(plan.target.whole)[0].positions
            staged = [[pixels * self._channels[plan.name], *sizes[1:]] for sizes in staged]
        for index, name in enumerate(names):
            if homes[name].storage in spilled:
                operand = index if index < len(plan.layer.inputs) else None
                most = max(sizes[index] for sizes in staged)
                yield Request(stage_name(plan, operand), most, step, step)


def _cut(target: Extents, rows: int, columns: int) -> Iterator[Block]:
    for row in range(0, target.rows, rows):
        for column in range(0, target.columns, columns):
            yield Block(row, min(rows, target.rows - row), column, min(columns, target.columns - column))


def _parts(target: Extents) -> Iterator[Block]:
    """Single pixels at the corners and in the middle: the smallest parts."""
    for row in {0, target.rows // 2, target.rows - 1}:
        for column in {0, target.columns // 2, target.columns - 1}:
            yield Block(row, 1, column, 1)
