"""What the array runs: convolutions, fully connected and depthwise layers, averages and means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from intaglio.compiler.accumulate import Accumulation, accumulation, averaging, side_by_side
from intaglio.compiler.digits import weight_digits
from intaglio.compiler.factors import MOST_REACH, equal_multipliers
from intaglio.compiler.limits import MOST_DIGITS
from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, Stored, refuse
from intaglio.compiler.rescales import Rescaling, rescale_problems
from intaglio.compiler.steps import Destination, Matmul, Rescale, on_chip
from intaglio.compiler.views import Block, Extents, View
from intaglio.compiler.weights import block_stream, group_bytes
from intaglio.compiler.windows import Sweep, geometry_of, matmul_blocks, matmul_sweep, pass_cycles
from intaglio.network import AffineRescale, AveragePool2D, Mean
from intaglio.network.graph import Floats, WeightLayer
from intaglio.spec.config import AcceleratorConfig

Bounds = tuple[list[int], list[int]]
"""The least and the greatest sum of each output channel, as `golden.bounds.channel_bounds` has them."""


@dataclass(frozen=True)
class Fold:
    """The last output channels of a layer where they are few: `count` neighbouring positions of a row as one, with so
    many times the channels, in columns of the array that would idle. `stream` and `one_tile` as in `ArrayBlock`."""

    window: Accumulation
    sweep: Sweep
    count: int
    stream: bytes = b""
    one_tile: bool = False

    def fits(self, block: Block) -> bool:
        return not block.column % self.count and not block.columns % self.count

    def place(self, block: Block) -> Block:
        """A block of the layer's output in positions of the fold."""
        return Block(block.row, block.rows, block.column // self.count, block.columns // self.count)


@dataclass(frozen=True)
class ArrayBlock:
    """A block of a layer's output, what its MATMULs take of the weight stream, and what rescales it.

    With `goes_on` its lines are in the line buffer, where the block above it left them. With `fold` it is the last
    group's channels alone.
    """

    block: Block
    rescale: Rescaling
    stream: bytes
    one_tile: bool
    goes_on: bool = False
    fold: Fold | None = None


@dataclass(frozen=True)
class ArrayPlan(LayerPlan):
    """`signed`: how the array reads the first (highest) digit of an activation."""

    config: AcceleratorConfig
    window: Accumulation
    sweep: Sweep
    signed: bool
    fold: Fold | None = None
    _streams: dict[int, tuple[Rescaling, bytes, bool]] = field(default_factory=dict, compare=False)
    """By how many elements a window holds (0: all alike)."""

    @property
    def by_channel(self) -> bool:
        """Whether each output channel reads the input channel of its own number, and no other."""
        return self.window.by_channel and self.window.outputs == self.sources[0].pixel

    def blocks(self, part: Block) -> Iterator[ArrayBlock]:
        """A part of the output in the blocks in which the array runs it."""
        for region, count in self._regions(part):
            if count not in self._streams:
                rescale = averaging(self.window, count) if self.window.averages else self.window.rescale
                stream = block_stream(self.window, rescale, self.sweep, self.config)
                self._streams[count] = rescale, *stream
            for block in matmul_blocks(self.sweep, region, len(self.groups), self.config):
                yield ArrayBlock(block, *self._streams[count])

    @property
    def groups(self) -> range:
        """The first output channel of each group that the array works on at a time."""
        return range(0, self.window.outputs, self.config.columns)

    def turns(self, part: Block) -> Iterator[tuple[ArrayBlock, range]]:
        """A part of the output in blocks, each with the groups of channels for which it is the array's turn: all groups
        of a block after the other, or, where blocks go on with the lines of the one above, all blocks of a group."""
        blocks = list(self.blocks(part))
        fold = self.fold if all(self.fold and self.fold.fits(block.block) for block in blocks) else None
        groups = self.groups[:-1] if fold else self.groups
        whole = all(block.block.columns == part.columns for block in blocks)
        if not whole or not self.sweep.goes_on(part.columns, self.config):
            for block in blocks:
                # Weights of a block are one stretch, whoever uses them.
                stream = self._stream(block, groups) + (fold.stream if fold else b"")
                yield replace(block, stream=stream), groups
                if fold:
                    yield self._folded(block, fold, b"", goes_on=False), self.groups[-1:]
            return
        for channel in groups:
            turn = range(channel, channel + 1)
            for block in blocks:
                goes_on = block.block.row > part.row
                yield replace(block, stream=self._stream(block, turn), goes_on=goes_on), turn
        if fold:
            kept = fold.sweep.goes_on(part.columns // fold.count, self.config)
            for block in blocks:
                goes_on = kept and block.block.row > part.row
                yield self._folded(block, fold, fold.stream, goes_on), self.groups[-1:]

    def _stream(self, block: ArrayBlock, groups: range) -> bytes:
        """What some groups of a block take of the weight stream, of which the last may have fewer columns."""
        size = group_bytes(self.sweep, self.config.columns, block.one_tile, self.config)
        first = groups.start // self.config.columns
        return block.stream[first * size : (first + len(groups)) * size]

    def _folded(self, block: ArrayBlock, fold: Fold, stream: bytes, goes_on: bool) -> ArrayBlock:
        """The last group of a block, several positions as one."""
        return ArrayBlock(block.block, fold.window.rescale, stream, fold.one_tile, goes_on, fold)

    def group(
        self,
        block: ArrayBlock,
        channel: int,
        source: View,
        target: View,
        bank: int,
        first_element: int | None = None,
    ) -> tuple[Matmul, list[Rescale]]:
        """One block of the group of output channels from `channel` on: MATMUL fills a bank, RESCALE drains it, of a
        fold one for each of its positions.

        `first_element` of each pixel of `source` is the group's first input channel, where that is not all there are.
        """
        config, fold = self.config, block.fold
        window, sweep = (fold.window, fold.sweep) if fold else (self.window, self.sweep)
        place = fold.place(block.block) if fold else block.block
        if first_element is None:
            first_element = self._first_element(channel)
        pad = self.window.pad & ((1 << config.element_bits) - 1)
        lines = 0 if block.goes_on else sweep.lines_before(place.row)
        overlaps = sweep.row_overlap(place.columns) > 0
        matmul = Matmul(
            owner=self.owner,
            walk=sweep.walk(source, place, first_element, pad, self.signed, lines),
            depthwise=sweep.mode(place.columns, lines),
            digits=sweep.digit_turns * sweep.weight_digits,
            lane_digits=sweep.digits // sweep.digit_turns,
            weight_digits=sweep.weight_digits > 1,
            last_lanes=sweep.last_lanes,
            bank=bank,
            one_tile=block.one_tile,
            tile_words=config.tile_words(min(window.outputs - (0 if fold else channel), config.columns)),
            lines=sweep.lines,
            first_output_row=0 if overlaps else lines,
            line_lanes=sweep.line_lanes,
            line_lanes_step=sweep.overlap.more if sweep.overlap else 0,
            goes_on=block.goes_on,
            reads=on_chip(sweep.reads(source, place)),
        )
        return matmul, list(self._rescales(block, place, channel, target, matmul))

    def _rescales(
        self, block: ArrayBlock, place: Block, channel: int, target: View, matmul: Matmul
    ) -> Iterator[Rescale]:
        """What drains the bank that a MATMUL fills: the channels of each of the positions that are one."""
        count = block.fold.count if block.fold else 1
        digits = self.output.digits
        channels = min(self.config.columns, self.window.outputs - channel)
        for position in range(count):
            first = position * channels
            start = target.at(block.block.row, block.block.column + position) + (channel - first) * digits
            yield Rescale(
                owner=self.owner,
                conversion=block.rescale.conversion,
                bank=matmul.bank,
                positions=place.positions,
                columns=place.columns,
                first_channel=first,
                channels=first + channels,
                destination=Destination(
                    start % self.config.scratchpad_elements, target.row_pitch, count * target.pixel_pitch
                ),
                writes=on_chip(target.interval(block.block, channels * digits).shifted(channel * digits)),
                after=[matmul],
            )

    def _first_element(self, channel: int) -> int:
        """Of a pixel, the first that the group of output channels from `channel` on reads."""
        if not self.window.by_channel:
            return 0
        multiplier = self.window.outputs * self.sweep.digits // self.sweep.source.pixel
        return channel // multiplier * self.sweep.digits

    def _regions(self, part: Block) -> list[tuple[Block, int]]:
        """An average's windows hold fewer elements at the edges: rectangles, and how many their windows hold."""
        if not self.window.averages:
            return [(part, 0)]
        source = self.sources[0]
        rows = self._inside(0, source.rows, part.row, part.rows)
        columns = self._inside(1, source.columns, part.column, part.columns)
        return [
            (Block(row, high, column, wide), down * across)
            for row, high, down in rows
            for column, wide, across in columns
        ]

    def _inside(self, axis: int, size: int, first: int, count: int) -> list[tuple[int, int, int]]:
        """Stretches of output places along an axis, and how many elements of theirs windows lie inside."""
        geometry, stretches = self.sweep.geometry, list[tuple[int, int, int]]()
        for place in range(first, first + count):
            start = place * geometry.stride[axis] - geometry.before[axis]
            inside = min(start + geometry.kernel[axis], size) - max(start, 0)
            if stretches and stretches[-1][2] == inside:
                stretches[-1] = (stretches[-1][0], stretches[-1][1] + 1, inside)
            else:
                stretches.append((place, 1, inside))
        return stretches


def plan_weighted(
    layer: WeightLayer, facts: LayerFacts, bounds: Bounds, joined: bool, config: AcceleratorConfig
) -> ArrayPlan:
    """The plan of a layer with weights, whose sums lie within `bounds`, and whose output a Concatenation may have
    `joined`, under its own name or another. Raises NetworkError with what the machine cannot run."""
    window = accumulation(layer, facts.inputs[0].tensor, facts.output.tensor, config)
    machine, graph = config.accumulator_bits, layer.accumulator_bits
    wraps = list(_beyond(bounds, min(machine, graph)))
    refuse(
        [
            *_problems(window, facts, config),
            *(
                f"{reach}; the network wraps them at {graph} bits, {config.name} at {machine}"
                for reach in wraps
                if machine != graph
            ),
        ]
    )
    warnings = [f"{reach}: they wrap where they do" for reach in wraps]
    if isinstance(layer.rescale, AffineRescale) and layer.rescale.real is not None:
        window, differs = _rounding_alike(window, layer.rescale.real, bounds)
        warnings = differs + warnings
    if not joined:
        window = _widened(window, facts, config)
    plan = _plan(window, facts, tuple(warnings), config)
    return replace(plan, fold=_fold(plan, config))


def plan_average(layer: AveragePool2D | Mean, facts: LayerFacts, config: AcceleratorConfig) -> ArrayPlan:
    """The plan of a layer whose weights are one. Raises NetworkError with what the machine cannot run."""
    window = accumulation(layer, facts.inputs[0].tensor, facts.output.tensor, config)
    problems = list(_problems(window, facts, config))
    # The sum of what one window holds of int8 fits any accumulator.
    if facts.output.type.bits > 8 or not config.affine:
        problems.append(f"{config.name} averages only int8, by the affine rescale")
    refuse(problems)
    return _plan(window, facts, (), config)


def _can_widen(window: Accumulation, config: AcceleratorConfig) -> bool:
    """Whether positions of a layer can be side by side. An array without a zero has no weight for what a position's
    kernel leaves of the common one."""
    return not (window.flat or window.by_channel or window.dilation[1] > 1 or config.weight.is_binary)


def _widened(window: Accumulation, facts: LayerFacts, config: AcceleratorConfig) -> Accumulation:
    """A layer of few output channels with as many positions side by side, in columns of the array that would idle, as
    make it quickest; as it is where none do."""
    source = facts.inputs[0]
    if not _can_widen(window, config):
        return window
    _, across = window.output_extents(source.extents.rows, source.extents.columns)
    counts = (n for n in range(2, config.columns // window.outputs + 1) if across % n == 0)
    widened = [window, *(side_by_side(window, source.extents.columns, count) for count in counts)]

    def cycles(window: Accumulation) -> int:
        sweep = _sweep(window, source.extents, source, config)
        return pass_cycles(sweep, window, config)

    return min(widened, key=cycles)


def _fold(plan: ArrayPlan, config: AcceleratorConfig) -> Fold | None:
    """The last group of output channels with as many positions side by side as make it quickest; None where that is as
    it is, or there is no other group: then the whole layer may be so (`_widened`)."""
    window, source = plan.window, plan.inputs[0]
    few = window.outputs % config.columns
    if not few or window.outputs < config.columns or not _can_widen(window, config):
        return None
    records = {name: values[-few:] for name, values in window.rescale.records.items()}
    last = replace(window, weights=window.weights[-few:], rescale=window.rescale.with_records(**records))
    extents = source.extents
    _, across = window.output_extents(extents.rows, extents.columns)
    folds = []
    for count in range(2, config.columns // few + 1):
        if across % count == 0:
            wide = side_by_side(last, extents.columns, count)
            folds.append(Fold(wide, _sweep(wide, extents, source, config), count))

    def cycles(fold: Fold) -> int:
        return pass_cycles(fold.sweep, fold.window, config)

    best = min(folds, key=cycles, default=None)
    if best is None or cycles(best) >= pass_cycles(plan.sweep, window, config):
        return None
    stream, one_tile = block_stream(best.window, best.window.rescale, best.sweep, config)
    return replace(best, stream=stream, one_tile=one_tile)


def _sweep(window: Accumulation, seen: Extents, source: Stored, config: AcceleratorConfig) -> Sweep:
    """The passes over a layer's input."""
    together = config.digits_together(source.digits, source.type.signed)
    return matmul_sweep(window, seen, source.digits, together, config)


def _plan(
    window: Accumulation, facts: LayerFacts, warnings: tuple[str, ...], config: AcceleratorConfig
) -> ArrayPlan:
    source = facts.inputs[0]
    seen = Extents(1, 1, source.elements) if window.flat else source.extents
    return ArrayPlan(
        facts,
        (seen,),
        _target(window, facts, seen),
        geometry_of(window),
        config,
        window,
        _sweep(window, seen, source, config),
        _reads_signed(source, config),
        warnings=warnings,
    )


def _target(window: Accumulation, facts: LayerFacts, source: Extents) -> Extents:
    """The output as the window makes it: a mean's has the axes that it was taken over."""
    rows, columns = window.output_extents(source.rows, source.columns)
    return Extents(rows, columns, window.outputs * facts.output.digits)


def _reads_signed(source: Stored, config: AcceleratorConfig) -> bool:
    """How the array reads the first (highest) digit of a value. Unsigned ones that leave their top bit free can be read
    as signed, by a machine that knows no other."""
    return source.type.signed or not config.unsigned_activations


def _problems(window: Accumulation, facts: LayerFacts, config: AcceleratorConfig) -> Iterator[str]:
    """What a machine cannot run, whatever the sums."""
    source = facts.inputs[0]
    yield from _activation_problems(window, facts, config)
    kind = source.type
    if not kind.min <= source.tensor.zero_point <= kind.max:
        yield f"its input's zero point {source.tensor.zero_point} is outside {kind}"
    elif any(window.padding) and source.digits > 1:
        mask = (1 << config.element_bits) - 1
        shifts = range(0, source.digits * config.element_bits, config.element_bits)
        if len({window.pad >> shift & mask for shift in shifts}) > 1:
            yield f"it pads with {window.pad}, whose {source.digits} digits on {config.name} differ"
    yield from _weight_problems(window, source.digits, config)
    yield from rescale_problems(window.rescale, facts.output.tensor, config)


def _activation_problems(window: Accumulation, facts: LayerFacts, config: AcceleratorConfig) -> Iterator[str]:
    source = facts.inputs[0]
    kind, digits = source.type, source.digits
    is_of, has = (
        f"its input {source.name} is {kind}",
        f"{config.name} has {', '.join(config.activation_types)}",
    )
    spare_bit = kind.bits < digits * config.element_bits
    if digits > MOST_DIGITS:
        yield f"an input of {kind} takes {digits} digits, at most {MOST_DIGITS} are possible"
    elif kind.signed and not config.signed_activations:
        yield f"{is_of}, {has}"
    elif digits > 1 and not config.unsigned_activations:
        yield f"{is_of} and its low digits are unsigned, {has}"
    elif digits > 1 and window.by_channel and config.depthwise_taps and window.outputs == source.shape[-1]:
        yield f"{is_of}; {facts.op} on {config.name} takes {config.element_bits} bits"
    elif not kind.signed and not config.unsigned_activations and not spare_bit:
        yield f"{is_of}, {has}"


def _weight_problems(window: Accumulation, digits: int, config: AcceleratorConfig) -> Iterator[str]:
    weights = weight_digits(window.weights, config)
    worst = max(int(window.weights.min()), int(window.weights.max()), key=abs)
    if weights > 1 and not config.weight_digits:
        kind = config.weight
        yield f"a weight is {worst}, {config.name} has {kind} weights ({kind.min}...{kind.max})"
    elif weights > MOST_DIGITS:
        yield f"a weight is {worst}, which takes {weights} passes on {config.name}, at most {MOST_DIGITS} are possible"
    elif digits > 1 and (weights > 1 or config.weight.is_binary):
        yield (
            f"its input takes {digits} digits on {config.name}, which then takes neither weights in digits "
            "nor binary ones"
        )


def _beyond(bounds: Bounds, bits: int) -> Iterator[str]:
    """How far sums may get beyond so many bits, if they may. A sum is taken modulo `2**bits`: machine and graph agree
    if their bits do, or if the sum fits both."""
    low, high = min(bounds[0]), max(bounds[1])
    limit = 1 << (bits - 1)
    excess = max(-limit - low, high - limit + 1)
    if excess > 0:
        yield f"its sums may reach {low:,}...{high:,}, {excess:,} beyond {bits} bits"


def _rounding_alike(window: Accumulation, real: Floats, bounds: Bounds) -> tuple[Accumulation, list[str]]:
    """Multipliers whose rounding of every sum that a channel can reach is that of the product with `real` in float64,
    and a warning for the channels that have none."""
    rescale = window.rescale
    reach = [min(max(-low, high, 0), MOST_REACH) for low, high in zip(*bounds, strict=True)]
    conversion = rescale.conversion
    limits = (conversion.low - conversion.zero_point, conversion.high - conversion.zero_point)
    multiplier, moved = equal_multipliers(
        real, rescale.records["exponent"], np.array(reach), max(map(abs, limits))
    )
    multiplier[moved] = rescale.records["multiplier"][moved]
    window = replace(window, rescale=rescale.with_records(multiplier=multiplier))
    if not moved:
        return window, []
    return window, [
        f"the rounding of {len(moved)} of {len(real)} channels (the first is {moved[0]}) may differ by one from "
        "the runtime's float64 product at some sums"
    ]
