"""Where tensors lie: on chip for as long as they are read, in memory where they do not fit, one in another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from intaglio.compiler.allocation import Request, live_elements, place
from intaglio.compiler.operators import AliasPlan, ArrayPlan, JoinPlan, PartPlan, Plan, TablePlan
from intaglio.compiler.plan import Plans
from intaglio.compiler.tiling import Tiling, aligned, smallest_part, stages, tiling_of
from intaglio.compiler.windows import Everything
from intaglio.network import NetworkError
from intaglio.spec.config import AcceleratorConfig

SHRINK = 0.8
"""Tiles are made smaller by this where what they leave free is in pieces."""
LEAST_SHARE = 0.3
"""Of what is free, that tiles are tried in before more tensors go to memory."""


@dataclass(frozen=True)
class Home:
    """The storage that holds a tensor: the name of the tensor that it was made for, from which element on, and how far
    its pixels are apart (None: dense)."""

    storage: str
    offset: int = 0
    pitch: int | None = None


@dataclass(frozen=True)
class Table:
    """A place on chip: a layer's tables."""

    layer: str


@dataclass(frozen=True)
class Stage:
    """A place on chip: parts of a layer's operand, from memory; with -1, of its output, on their way there."""

    layer: str
    operand: int


@dataclass(frozen=True)
class Segment:
    """A layer, and those whose parts are sent between its blocks, as soon as they can run."""

    head: Plan
    followers: list[PartPlan | AliasPlan] = field(default_factory=list)

    @property
    def plans(self) -> list[Plan]:
        return [self.head, *self.followers]


Segments = Sequence[Segment]


@dataclass(frozen=True)
class Placement:
    """Segments of layers whose blocks are sent interleaved, and where everything is.

    Attributes
    ----------
    homes : of every tensor
    addresses : of storages by name, of tables and stages
    spilled : storages that lie in memory
    tilings : of each layer with a tensor in memory, the parts in which it is computed
    """

    segments: Segments
    homes: Mapping[str, Home]
    addresses: Mapping[Hashable, int]
    spilled: frozenset[str]
    tilings: Mapping[str, Tiling] = field(default_factory=dict)

    def in_memory(self, tensor: str) -> bool:
        return self.homes[tensor].storage in self.spilled


def place_tensors(plans: Plans, config: AcceleratorConfig) -> Placement:
    """Raises NetworkError, naming a layer, where not even parts of tensors fit.

    Tried in this order: layers interleaved and joined in place; each by itself; then with tensors in memory, of
    the layer that wants most, the largest first.
    """
    placer = _Placer(plans, config)
    for interleaved in (True, False):
        homes = _homes(plans, joined=interleaved)
        if placement := placer.on_chip(homes, interleaved):
            return placement
    return placer.spill(_homes(plans, joined=False))


class _Placer:
    """Finds addresses for the tensors of a network."""

    def __init__(self, plans: Plans, config: AcceleratorConfig) -> None:
        self._plans, self._config = plans, config
        self._alignment = 8 // config.element_bits
        self._capacity = config.scratchpad_elements

    def on_chip(self, homes: Mapping[str, Home], interleaved: bool) -> Placement | None:
        """With every tensor on chip, if they fit."""
        segments = self._segments(homes, frozenset(), interleaved)
        requests = self._requests(segments, homes, frozenset(), {})
        addresses, top = place(requests, self._alignment)
        return Placement(segments, homes, addresses, frozenset()) if top <= self._capacity else None

    def spill(self, homes: Mapping[str, Home]) -> Placement:
        """With as few tensors in memory as must be."""
        spilled: frozenset[str] = frozenset()
        while True:
            segments = self._segments(homes, spilled, interleaved=True)
            share, placed = 1.0, None
            while share > LEAST_SHARE and placed is None:
                placed, worst = self._try(segments, homes, spilled, share)
                share *= SHRINK
            if placed is not None:
                return placed
            candidates = self._candidates(segments, homes, spilled, worst)
            if not candidates:
                requests = self._requests(segments, homes, spilled, {})
                self._refuse(segments[worst].head, live_elements(requests, self._alignment).get(worst, 0))
            spilled |= {candidates[0]}

    def _try(
        self, segments: Segments, homes: Mapping[str, Home], spilled: frozenset[str], share: float
    ) -> tuple[Placement | None, int]:
        """A placement with these storages in memory, or the step at which most is wanting."""
        resident = self._requests(segments, homes, spilled, {})
        live = live_elements(resident, self._alignment)
        worst = max(range(len(segments)), key=lambda step: live.get(step, 0))
        if live.get(worst, 0) > self._capacity:
            return None, worst
        tilings: dict[str, Tiling] = {}
        for step, segment in enumerate(segments):
            for plan in segment.plans:
                if _touches(plan, homes, spilled):
                    free = int((self._capacity - live.get(step, 0)) * share)
                    outside = _outside(plan, homes, spilled)
                    if (found := tiling_of(plan, outside, free, self._config)) is None:
                        return None, step
                    tilings[plan.name] = found
        requests = self._requests(segments, homes, spilled, tilings)
        addresses, top = place(requests, self._alignment)
        if top <= self._capacity:
            return Placement(segments, homes, addresses, spilled, tilings), worst
        return None, worst

    def _candidates(
        self, segments: Segments, homes: Mapping[str, Home], spilled: frozenset[str], step: int
    ) -> list[str]:
        """Storages alive at a step that could go to memory, the largest first."""
        # What is given and is an output, be it in another shape, goes through the chip.
        given = {*self._plans.inputs, *self._plans.constants}
        through = given & {homes[name].storage for name in self._plans.outputs}
        alive = [
            (request.elements, request.what)
            for request in self._requests(segments, homes, spilled, {})
            if request.first <= step <= request.last
            and isinstance(request.what, str)
            and request.what not in through
        ]
        return [name for _, name in sorted(alive, key=lambda pair: -pair[0])]

    def _refuse(self, plan: Plan, staying: int) -> None:
        smallest = smallest_part(plan, self._config)
        raise NetworkError(
            f"layer {plan.name}: the smallest part of it needs {smallest:,} elements of scratchpad beside {staying:,} "
            f"of tables and what must stay, {self._config.name} has {self._capacity:,}"
        )

    def _segments(
        self, homes: Mapping[str, Home], spilled: frozenset[str], interleaved: bool
    ) -> list[Segment]:
        """A layer that the array runs, and those right behind it that it does not, each reading one of the segment."""
        segments: list[Segment] = []
        apart = True
        for plan in self._plans.layers:
            alone = _touches(plan, homes, spilled)
            written = {before.output.name for before in segments[-1].plans} if segments else set()
            follows = interleaved and any(source.name in written for source in plan.inputs)
            if follows and not alone and not apart and not isinstance(plan, ArrayPlan):
                segments[-1].followers.append(plan)
            else:
                segments.append(Segment(plan))
            apart = alone
        return segments

    def _requests(
        self,
        segments: Segments,
        homes: Mapping[str, Home],
        spilled: frozenset[str],
        tilings: Mapping[str, Tiling],
    ) -> list[Request]:
        """What is wanted on chip, and from which segment to which."""
        requests = [
            Request(name, aligned(self._plans.tensors[name].elements, self._config), first, last)
            for name, (first, last) in self._spans(segments, homes).items()
            if name not in spilled
        ]
        for step, segment in enumerate(segments):
            for plan in segment.plans:
                if isinstance(plan, TablePlan):
                    # Loaded while the segment before runs.
                    requests.append(Request(Table(plan.name), len(plan.tables), max(step - 1, 0), step))
                if plan.name in tilings:
                    outside = _outside(plan, homes, spilled)
                    sizes = stages(plan, tilings[plan.name], outside, self._config)
                    requests += [
                        Request(Stage(plan.name, operand), size, step, step)
                        for operand, size in sizes.items()
                    ]
        return requests

    def _spans(self, segments: Segments, homes: Mapping[str, Home]) -> dict[str, tuple[int, int]]:
        """The first and the last segment that each storage is used in."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        # An input that is an output as well is loaded and stored at once.
        for name in self._plans.inputs:
            if name in self._plans.outputs:
                first[name] = last[name] = 0
        for step, segment in enumerate(segments):
            for plan in segment.plans:
                for name in plan.names:
                    storage = homes[name].storage
                    first.setdefault(storage, step)
                    last[storage] = step
        for name in self._plans.outputs:
            # Stored as it grows, the last of it right after the segment that computes it.
            last.setdefault(homes[name].storage, 0)
        return {name: (first.get(name, 0), step) for name, step in last.items()}


def _outside(plan: Plan, homes: Mapping[str, Home], spilled: frozenset[str]) -> list[bool]:
    """Of each operand and the output, whether it lies in memory."""
    return [homes[name].storage in spilled for name in plan.names]


def _touches(plan: Plan, homes: Mapping[str, Home], spilled: frozenset[str]) -> bool:
    """Whether a layer moves anything to or from memory."""
    return not isinstance(plan, AliasPlan) and any(_outside(plan, homes, spilled))


def _homes(plans: Plans, joined: bool) -> dict[str, Home]:
    """A reshaped tensor is the same storage. With `joined`, so are tensors that nobody but a Concatenation reads
    and that are computed into its output."""
    homes = {name: Home(name) for name in plans.tensors}
    for plan in plans.layers:
        if isinstance(plan, AliasPlan):
            homes[plan.output.name] = homes[plan.inputs[0].name]
    if joined:
        for plan in plans.layers:
            if isinstance(plan, JoinPlan) and plan.along_pixels:
                _join(plan, plans, homes)
    return homes


def _join(joining: JoinPlan, plans: Plans, homes: dict[str, Home]) -> None:
    """Channels of one pixel after the other: each operand is a stretch of the output's pixels."""
    writers = {plan.output.name: plan for plan in plans.layers if not isinstance(plan, AliasPlan)}
    reads = [source.name for plan in plans.layers for source in plan.inputs]
    offset = 0
    for source, seen in zip(joining.inputs, joining.sources, strict=True):
        name = source.name
        alone = reads.count(name) == 1 and name in writers and name not in plans.outputs
        holds_others = any(home.storage == name for other, home in homes.items() if other != name)
        if alone and homes[name] == Home(name) and not holds_others:
            # What is copied as a whole is written dense.
            writer = writers[name]
            if not isinstance(writer.reach, Everything) and writer.target.pixel == seen.pixel:
                homes[name] = Home(joining.output.name, offset, joining.target.pixel)
        offset += seen.pixel
