"""Plans and placement -> commands: what each layer sends, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from intaglio.compiler.accumulate import parameter_fields
from intaglio.compiler.check import reads_signed
from intaglio.compiler.copies import MOVING, Moving, copies_of
from intaglio.compiler.elementwise import binary_fields, operand_interval, runs_of
from intaglio.compiler.hazards import CommandList, Places, Ticket
from intaglio.compiler.placement import JOIN_ELEMENTS, Home, Placement, stage_name, table_name
from intaglio.compiler.plans import ArrayBlock, Plan
from intaglio.compiler.program import Binding, Probe
from intaglio.compiler.views import Block, Extents, Interval, View, digits_of
from intaglio.compiler.windows import matmul_fields
from intaglio.network import Add, Concatenation, Mul, Network, NetworkError, Softmax
from intaglio.spec.commands import TABLE_ENTRIES, Opcode, Operation
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS, WEIGHTS_QUEUE_DEPTH

FIRST_LOAD_BYTES, MOST_LOAD_BYTES = 256, 2048
"""An input is loaded in pieces that double from the one size to the other, so that work begins when its first rows are
there."""
LOADS_AHEAD = 2
"""Pieces that are loaded ahead of the block at hand; more would fill the queue, and hold up what comes behind them."""
STORE_BYTES = 256
"""An output is stored as it grows, in pieces of at least this size."""
WEIGHTS_AHEAD = 6
"""Blocks whose WEIGHTS command is sent before the MATMULs of the block at hand.

No deadlock: consider the earliest command in the list, but for WEIGHTS, that never completes. All before it are
complete, so its waits are over and it is the first of its engine. If it has been dispatched it runs: what it takes of
the weight stream was sent by WEIGHTS before it in the list, and their beats find room, because all that the buffer
holds is for it (earlier MATMULs are complete and have taken theirs) and it takes them a tile at a time, of which the
buffer holds two. If it has not been dispatched, the dispatcher is held up by a full queue; all commands before it
but WEIGHTS are complete, so it is the queue of WEIGHTS; but no more than WEIGHTS_AHEAD of those can be incomplete
before another is sent, one being the stretch of the very MATMULs at hand, and their queue takes WEIGHTS_QUEUE_DEPTH.
"""
if WEIGHTS_AHEAD >= WEIGHTS_QUEUE_DEPTH:
    raise ValueError("`WEIGHTS_AHEAD` must be less than WEIGHTS_QUEUE_DEPTH, or the dispatcher can deadlock")
ALONE_PARTS = 4
"""Parts of a layer that runs by itself and not on the array, so that what follows need not wait for its end."""

MOST_TRANSFER_ROWS = (1 << 16) - 1
"""Rows of one LOAD or STORE."""

Regions = dict[str, list[int]]
"""Where storages lie in memory: the first is read back, all are written."""


class Emission:
    """Sends the commands of one segment after the other.

    Attributes
    ----------
    commands : the list so far
    probes : of tensors that are whole on chip
    marks : by layer, the time stamp of its completion
    """

    def __init__(
        self,
        network: Network,
        config: AcceleratorConfig,
        placement: Placement,
        store_in_image: Callable[[bytes], int],
        given: Sequence[Binding],
        outputs: Sequence[Binding],
        regions: Regions,
    ) -> None:
        self.commands = CommandList()
        self.probes: list[Probe] = []
        self.marks: dict[str, int] = {}
        self._network = network
        self._config = config
        self._placement = placement
        self._given = {binding.tensor: binding for binding in given}
        self._outputs = {binding.tensor: binding for binding in outputs}
        self._regions = regions
        self._in_image = store_in_image
        self._stretches = [
            block.stream
            for segment in placement.segments
            for plan in segment
            for part in self._parts(plan)
            for block in plan.array_blocks(part)
        ]
        self._stretches_sent = 0
        self._blocks_begun = 0
        self._matmuls = 0
        self._drained: list[Ticket | None] = [None, None]
        self._table_loaded = ""
        self._written: dict[str, int] = {}
        self._last_writer: dict[str, Ticket] = {}
        self._stored: dict[str, int] = dict.fromkeys(self._outputs, 0)
        self._last_store: Ticket | None = None
        self._rows_done: dict[str, int] = {}
        self._filled: dict[str, list[int]] = {}
        self._last_marked = -1
        self._prepared: set[str] = set()
        self._loaded: dict[str, int] = {}

    def run(self) -> None:
        """All commands of the network."""
        segments = self._placement.segments
        for step, segment in enumerate(segments):
            if not step:
                for name in self._network.inputs:
                    if name in self._network.outputs:
                        self._load_given(name)
            self._prepare(segment)
            for plan in segments[step + 1] if step + 1 < len(segments) else ():
                self._prepare_tables(plan)
            if segment[0].name in self._placement.tiles:
                self._run_in_tiles(segment[0])
            else:
                self._run_interleaved(segment)
            for plan in segment:
                self._finish(plan, last=plan.layer is self._network.layers[-1])

    # Segments.

    def _parts(self, plan: Plan) -> list[Block]:
        return self._placement.tiles.get(plan.name, [plan.target.whole])

    def _run_interleaved(self, segment: list[Plan]) -> None:
        """As soon as a block of the first layer is on its way, what of the others needs no more than is on its way."""
        head, followers = segment[0], segment[1:]
        if head.runs_on_array:
            sources, target = self._sources(head), self._target(head)
            for block in head.array_blocks(head.target.whole):
                self._array_block(head, block, sources, target)
                self._follow(followers)
        else:
            for stop in _stops(head, ALONE_PARTS):
                self._advance(head, stop)
                self._follow(followers)

    def _follow(self, followers: list[Plan]) -> None:
        progress = True
        while progress:
            progress = False
            for plan in followers:
                start = self._rows_done.get(plan.name, 0)
                available = [self._available(name) for name in plan.layer.inputs]
                ready = plan.rows_ready(available, start)
                complete = all(
                    have == source.elements for have, source in zip(available, plan.sources, strict=True)
                )
                # The last row waits for the end of the operands even if it needs no more of them: layers end in order.
                if not complete:
                    ready = min(ready, plan.target.rows - 1) if plan.geometry is not None else start
                if ready > start:
                    self._advance(plan, ready)
                    progress = True

    def _advance(self, plan: Plan, stop: int) -> None:
        """Rows up to `stop` of a layer that the array does not run."""
        start = self._rows_done.get(plan.name, 0)
        if stop <= start:
            return
        self._rows_done[plan.name] = stop
        if plan.moves_nothing:
            ticket = self._last_writer.get(plan.layer.inputs[0])
        else:
            part = Block(start, stop - start, 0, plan.target.columns)
            ticket = self._part(plan, part, self._sources(plan), self._target(plan))
        self._note(plan, stop * plan.target.columns * plan.target.pixel, ticket)

    def _run_in_tiles(self, plan: Plan) -> None:
        """A layer with tensors in memory: parts of them are loaded, computed, stored."""
        ticket = None
        if isinstance(plan.layer, Concatenation):
            ticket = self._join_in_memory(plan, plan.layer)
        elif plan.name in self._placement.channels:
            ticket = self._run_by_channels(plan, self._placement.channels[plan.name])
        for tile in self._placement.tiles[plan.name] if ticket is None else ():
            sources = [self._staged_source(plan, index, need) for index, need in enumerate(plan.needs(tile))]
            target = self._target(plan, tile)
            if plan.runs_on_array:
                for block in plan.array_blocks(tile):
                    ticket = self._array_block(plan, block, sources, target, note=False)
            else:
                ticket = self._part(plan, tile, sources, target)
            if ticket is not None and self._home(plan.layer.output).storage in self._placement.spilled:
                ticket = self._store_tile(plan, tile, target)
            if ticket is not None and tile.columns == plan.target.columns:
                self._note(plan, (tile.row + tile.rows) * tile.columns * plan.target.pixel, ticket)
        if ticket is not None:
            self._note(plan, plan.target.elements, ticket)

    def _run_by_channels(self, plan: Plan, channels: int) -> Ticket | None:
        """A layer by channel whose windows do not fit: so many channels of them are loaded at a time."""
        ticket, source = None, plan.sources[0]
        region = self._regions[self._home(plan.layer.inputs[0]).storage][0]
        stage = self._placement.addresses[stage_name(plan, 0)]
        target = self._target(plan, plan.target.whole)
        for block in plan.array_blocks(plan.target.whole):
            (need,) = plan.needs(block.block)
            self._begin_block()
            for first in range(0, source.pixel, channels):
                view = View.dense(stage, need, min(channels, source.pixel - first))
                count = view.pixel_pitch
                for row in range(need.row, need.row + need.rows):
                    start = region + (row * source.columns + need.column) * source.pixel + first
                    place = view.at(row, need.column)
                    self._runs(Opcode.LOAD, plan, (start, source.pixel), (place, count), need.columns, count)
                for channel in range(first, first + count, self._config.columns):
                    ticket = self._matmul(plan, block, channel, view, target, channel - first)
        if ticket is not None and self._home(plan.layer.output).storage in self._placement.spilled:
            ticket = self._store_tile(plan, plan.target.whole, target)
        return ticket

    def _join_in_memory(self, plan: Plan, layer: Concatenation) -> Ticket:
        """A Concatenation of which a part is in memory: runs of each operand go to their places in the output."""
        shape = self._network.tensors[layer.output].shape
        inner = math.prod(shape[layer.axis + 1 :])
        pitch, offset = shape[layer.axis] * inner, 0
        home, spilled = self._home(layer.output).storage, self._placement.spilled
        tickets: list[Ticket] = []
        for index, name in enumerate(layer.inputs):
            source = self._network.tensors[name].shape
            count, lead = source[layer.axis] * inner, math.prod(source[: layer.axis])
            storage = self._home(name).storage
            if home not in spilled:
                into = self._view(layer.output, plan.target).address + offset
                if storage in spilled:
                    region = self._regions[storage][0]
                    tickets.append(self._runs(Opcode.LOAD, plan, (region, count), (into, pitch), lead, count))
                else:
                    chip = self._view(name, plan.sources[index])
                    whole = self._view(layer.output, plan.target)
                    tickets += self._copies_of_operand(plan, layer, index, chip, whole)
            for region in self._regions[home] if home in spilled else ():
                into = region + offset
                if storage not in spilled:
                    place = self._view(name, plan.sources[index]).address
                    tickets.append(self._runs(Opcode.STORE, plan, (into, pitch), (place, count), lead, count))
                else:
                    tickets.append(
                        self._memory_runs(
                            plan, (self._regions[storage][0], count), (into, pitch), lead, count
                        )
                    )
            offset += count
        ticket = max(tickets, key=lambda t: t.index)
        self.commands.after(ticket, tickets)
        if home in spilled:
            self._last_store = ticket
        return ticket

    def _memory_runs(
        self, plan: Plan, source: tuple[int, int], target: tuple[int, int], rows: int, count: int
    ) -> Ticket:
        """Runs of bytes from memory to memory, through the scratchpad; places and pitches."""
        stage = self._placement.addresses[stage_name(plan, 0)]
        many, piece = max(1, JOIN_ELEMENTS // count), min(count, JOIN_ELEMENTS)
        for row in range(0, rows, many):
            here = min(many, rows - row)
            for start in range(0, count, piece):
                size = min(piece, count - start)
                place = source[0] + row * source[1] + start
                self._runs(Opcode.LOAD, plan, (place, source[1]), (stage, size), here, size)
                place = target[0] + row * target[1] + start
                ticket = self._runs(Opcode.STORE, plan, (place, target[1]), (stage, size), here, size)
        return ticket

    def _runs(
        self,
        opcode: Opcode,
        plan: Plan,
        memory: tuple[int, int],
        chip: tuple[int, int],
        rows: int,
        count: int,
    ) -> Ticket:
        """Runs of `count` int8 between places in memory and on chip, (first, pitch), in one command or more."""
        loads = opcode is Opcode.LOAD
        for row in range(0, rows, MOST_TRANSFER_ROWS):
            here = min(MOST_TRANSFER_ROWS, rows - row)
            there, place = memory[0] + row * memory[1], chip[0] + row * chip[1]
            outside = Places(memory=(Interval(there, there + (here - 1) * memory[1] + count),))
            inside = Places((Interval(place, place + (here - 1) * chip[1] + count),))
            ticket = self.commands.add(
                f"layer {plan.name}",
                opcode,
                {
                    "memory_address": there,
                    "scratchpad_address": place,
                    "row_bytes": count,
                    "rows": here,
                    "memory_pitch": memory[1],
                    "scratchpad_pitch": chip[1],
                },
                reads=outside if loads else inside,
                writes=inside if loads else outside,
            )
        return ticket

    def _part(self, plan: Plan, part: Block, sources: list[View], target: View) -> Ticket | None:
        """A part of a layer that the array does not run; its last command."""
        layer = plan.layer
        if plan.sweep is not None:
            return self._pool(plan, part, sources[0], target)
        if isinstance(layer, MOVING):
            return self._copies(plan, sources, target)
        if plan.tables:
            return self._by_table(plan, part, sources[0], target)
        return self._binary(plan, part, sources, target)

    # Places.

    def _home(self, name: str) -> Home:
        return self._placement.homes[name]

    def _view(self, name: str, extents: Extents) -> View:
        """Where a tensor lies whole on chip."""
        home = self._home(name)
        address = self._placement.addresses[home.storage] + home.offset
        if home.pitch is None:
            return View.dense(address, extents.whole, extents.pixel)
        return View(address, extents.whole, extents.columns * home.pitch, home.pitch)

    def _sources(self, plan: Plan) -> list[View]:
        return [
            self._view(name, extents) for name, extents in zip(plan.layer.inputs, plan.sources, strict=True)
        ]

    def _target(self, plan: Plan, tile: Block | None = None) -> View:
        if tile is None or self._home(plan.layer.output).storage not in self._placement.spilled:
            return self._view(plan.layer.output, plan.target)
        return View.dense(self._placement.addresses[stage_name(plan, None)], tile, plan.target.pixel)

    def _available(self, name: str) -> int:
        """Elements of a tensor, from its first, that commands sent so far make or load."""
        return self._written.get(name, 0)

    # What is there before a layer can run.

    def _prepare(self, segment: list[Plan]) -> None:
        for plan in segment:
            for name in plan.layer.inputs:
                # The first layer loads what it needs, block by block.
                if name in self._given and not (plan is segment[0] and plan.runs_on_array):
                    self._load_given(name)
            self._prepare_tables(plan)

    def _prepare_tables(self, plan: Plan) -> None:
        if not plan.tables or plan.name in self._prepared:
            return
        self._prepared.add(plan.name)
        address = self._placement.addresses[table_name(plan)]
        self._load(f"the table of layer {plan.name}", self._in_image(plan.tables), address, len(plan.tables))

    def _load_for(self, plan: Plan, block: Block) -> None:
        """What a block needs of tensors that are given."""
        for name, extents, need in zip(plan.layer.inputs, plan.sources, plan.needs(block), strict=True):
            if name in self._given:
                self._load_given(name, (need.row + need.rows) * extents.columns * extents.pixel)

    def _load_given(self, name: str, elements: int | None = None) -> None:
        """A network's input, or a constant: all of it, or so many elements and a few pieces ahead of them."""
        binding = self._given[name]
        whole = binding.size * binding.digits
        if self._home(name).storage in self._placement.spilled:
            self._written[name] = whole
            return
        address, bits = self._placement.addresses[name], self._config.element_bits
        wanted = binding.bytes if elements is None else -(-elements * bits // 8)
        ahead = LOADS_AHEAD
        while (done := self._loaded.get(name, 0)) < binding.bytes and (done < wanted or ahead):
            ahead -= done >= wanted
            count = min(max(FIRST_LOAD_BYTES, min(done, MOST_LOAD_BYTES)), binding.bytes - done)
            ticket = self._load(f"input {name}", binding.address + done, address + done * 8 // bits, count)
            self._last_writer[name] = ticket
            if not done:
                self._send_weights(self._blocks_begun)
            self._loaded[name] = done + count
        self._written[name] = min(self._loaded[name] * 8 // bits, whole)
        if self._loaded[name] == binding.bytes and name in self._stored:
            self._store_output(name, whole, complete=True)

    def _load(self, owner: str, memory: int, address: int, count: int) -> Ticket:
        """Bytes in a row."""
        return self.commands.add(
            owner,
            Opcode.LOAD,
            {"memory_address": memory, "scratchpad_address": address, "row_bytes": count, "rows": 1},
            reads=Places(memory=(Interval(memory, memory + count),)),
            writes=Places((Interval(address, address + count * 8 // self._config.element_bits),)),
        )

    def _staged_source(self, plan: Plan, index: int, need: Block) -> View:
        """What a tile needs of an operand: on chip as it is, or loaded."""
        name, extents = plan.layer.inputs[index], plan.sources[index]
        storage = self._home(name).storage
        if storage not in self._placement.spilled:
            return self._view(name, extents)
        view = View.dense(self._placement.addresses[stage_name(plan, index)], need, extents.pixel)
        if need.positions:
            self._transfer(Opcode.LOAD, plan, self._regions[storage][0], extents, view)
        return view

    def _store_tile(self, plan: Plan, tile: Block, view: View) -> Ticket:
        ticket = None
        for region in self._regions[self._home(plan.layer.output).storage]:
            ticket = self._transfer(Opcode.STORE, plan, region, plan.target, view)
        assert ticket is not None
        self._last_store = ticket
        return ticket

    def _transfer(self, opcode: Opcode, plan: Plan, region: int, extents: Extents, view: View) -> Ticket:
        """A block between its place in a tensor in memory and the scratchpad."""
        block, bits = view.block, self._config.element_bits
        row_bytes, pitch = extents.columns * extents.pixel * bits // 8, 0
        start = region + (block.row * extents.columns + block.column) * extents.pixel * bits // 8
        rows, count = block.rows, block.columns * extents.pixel
        if block.columns == extents.columns:
            rows, count = 1, block.rows * count
        else:
            pitch = row_bytes
        count_bytes = -(-count * bits // 8)
        memory = Places(memory=(Interval(start, start + (rows - 1) * pitch + count_bytes),))
        chip = Places((view.interval(block, extents.pixel),))
        loads = opcode is Opcode.LOAD
        return self.commands.add(
            f"layer {plan.name}",
            opcode,
            {
                "memory_address": start,
                "scratchpad_address": view.address,
                "row_bytes": count_bytes,
                "rows": rows,
                "memory_pitch": pitch,
                "scratchpad_pitch": view.row_pitch,
            },
            reads=memory if loads else chip,
            writes=chip if loads else memory,
        )

    def _send_weights(self, block: int) -> None:
        """WEIGHTS of the network's block number `block`, and ahead of it."""
        while self._stretches_sent < min(block + 1 + WEIGHTS_AHEAD, len(self._stretches)):
            stream = self._stretches[self._stretches_sent]
            address = self._in_image(stream)
            self.commands.add(
                f"the weights of block {self._stretches_sent}",
                Opcode.WEIGHTS,
                {"memory_address": address, "beats": len(stream) // self._config.bus_bytes},
            )
            self._stretches_sent += 1

    # What a layer sends.

    def _array_block(
        self, plan: Plan, block: ArrayBlock, sources: list[View], target: View, note: bool = True
    ) -> Ticket | None:
        """One block of all output channels, a group after the other."""
        assert plan.window is not None
        self._load_for(plan, block.block)
        self._begin_block()
        ticket = None
        for channel in range(0, plan.window.outputs, self._config.columns):
            ticket = self._matmul(plan, block, channel, sources[0], target)
        place = block.block
        if note and ticket is not None:
            # Blocks side by side: the rows are there with the last of them.
            filled = self._filled.setdefault(plan.name, [0] * plan.target.rows)
            for row in range(place.row, place.row + place.rows):
                filled[row] += place.columns
            lacking = (row for row, columns in enumerate(filled) if columns < plan.target.columns)
            rows = next(lacking, plan.target.rows)
            self._note(plan, rows * plan.target.columns * plan.target.pixel, ticket)
        return ticket

    def _begin_block(self) -> None:
        self._send_weights(self._blocks_begun)
        self._blocks_begun += 1

    def _matmul(
        self,
        plan: Plan,
        block: ArrayBlock,
        channel: int,
        source: View,
        target: View,
        first_element: int | None = None,
    ) -> Ticket:
        """One block of one group of output channels: MATMUL fills a bank, RESCALE drains it.

        `first_element` of each pixel of `source` is the group's first input channel, where that is not all there are.
        """
        assert plan.window is not None
        assert plan.sweep is not None
        config, window, sweep, place = self._config, plan.window, plan.sweep, block.block
        tensor = self._network.tensors[plan.layer.inputs[0]]
        bank = self._matmuls % 2
        self._matmuls += 1
        drained = self._drained[bank]
        if first_element is None:
            first_element = 0
            if window.by_channel:
                multiplier = window.outputs * sweep.digits // sweep.source.pixel
                first_element = channel // multiplier * sweep.digits
        matmul = self.commands.add(
            f"layer {plan.name}",
            Opcode.MATMUL,
            sweep.fields(source, place, first_element)
            | matmul_fields(sweep)
            | {
                "pad": window.pad & ((1 << config.element_bits) - 1),
                "signed": int(reads_signed(tensor, config)),
                "bank": bank,
                "one_tile": int(block.one_tile),
            },
            reads=Places((sweep.reads(source, place),)),
            after=[drained] if drained else [],
        )
        channels = min(config.columns, window.outputs - channel)
        output = self._network.tensors[plan.layer.output]
        digits = digits_of(output, config)
        destination = target.at(place.row, place.column) + channel * digits
        rescale = self.commands.add(
            f"layer {plan.name}",
            Opcode.RESCALE,
            parameter_fields(block.rescale, output, config)
            | {
                "bank": bank,
                "positions": place.positions,
                "columns": place.columns,
                "channels": channels,
                "destination": destination,
                "destination_pitch": target.row_pitch,
                "pixel_pitch": target.pixel_pitch,
            },
            writes=Places((_shifted(target.interval(place, channels * digits), channel * digits),)),
            after=[matmul],
        )
        self._drained[bank] = rescale
        return rescale

    def _pool(self, plan: Plan, part: Block, source: View, target: View) -> Ticket:
        assert plan.sweep is not None
        kind = self._network.tensors[plan.layer.inputs[0]].type
        channels = plan.target.pixel
        return self.commands.add(
            f"layer {plan.name}",
            Opcode.MAX_POOL,
            plan.sweep.fields(source, part, plan.first_element)
            | {
                "pad": plan.pad & ((1 << self._config.element_bits) - 1),
                "signed": int(kind.signed),
                "channels": channels,
                "destination": target.at(part.row, part.column),
                "destination_pitch": target.row_pitch,
                "pixel_pitch": target.pixel_pitch,
            },
            reads=Places((plan.sweep.reads(source, part),)),
            writes=Places((target.interval(part, channels),)),
        )

    def _copies(self, plan: Plan, sources: list[View], target: View) -> Ticket | None:
        """A layer that moves elements, and more than a window can."""
        layer = plan.layer
        assert isinstance(layer, MOVING)
        tickets = [
            ticket
            for operand in range(len(sources))
            # What is computed in its place is there.
            if self._home(layer.inputs[operand]).pitch is None
            for ticket in self._copies_of_operand(plan, layer, operand, sources[operand], target)
        ]
        if not isinstance(layer, Concatenation):
            return tickets[-1]
        # Complete when all parts are, whoever makes them.
        tickets += [self._last_writer[name] for name in layer.inputs if name in self._last_writer]
        ticket = max(tickets, key=lambda t: t.index)
        self.commands.after(ticket, tickets)
        return ticket

    def _copies_of_operand(
        self, plan: Plan, layer: Moving, operand: int, source: View, target: View
    ) -> list[Ticket]:
        shapes = [self._network.tensors[name].shape for name in layer.inputs]
        tickets = []
        for copy in copies_of(layer, shapes, self._network.tensors[layer.output].shape, self._config):
            if copy.operand == operand:
                fields = dict(copy.fields)
                fields["source"] = (fields["source"] + source.address) % self._config.scratchpad_elements
                fields["destination"] += target.address
                tickets.append(
                    self.commands.add(
                        f"layer {plan.name}",
                        Opcode.MAX_POOL,
                        fields,
                        reads=Places((_shifted(copy.reads, source.address),)),
                        writes=Places((_shifted(copy.writes, target.address),)),
                    )
                )
        return tickets

    def _by_table(self, plan: Plan, part: Block, source: View, target: View) -> Ticket:
        """A function of each element, or softmax of each pixel."""
        layer = plan.layer
        if self._table_loaded != plan.name:
            self._table_loaded = plan.name
            address = self._placement.addresses[table_name(plan)]
            self.commands.add(
                f"layer {plan.name}",
                Opcode.ELEMENTWISE,
                {
                    "operation": Operation.LOAD_TABLE,
                    "pixels": len(plan.tables) // TABLE_ENTRIES,
                    "channels": TABLE_ENTRIES,
                    "a_source": address,
                    "a_pitch": TABLE_ENTRIES,
                },
                reads=Places((Interval(address, address + len(plan.tables)),)),
            )
        pixel = plan.target.pixel
        softmax = isinstance(layer, Softmax)
        fields = {"operation": int(Operation.SOFTMAX if softmax else Operation.LOOKUP)}
        pixels, channels = (part.positions, pixel) if softmax else (1, part.positions * pixel)
        return self._elementwise(plan, part, fields, [source], target, pixels, channels)

    def _binary(self, plan: Plan, part: Block, sources: list[View], target: View) -> Ticket | None:
        layer = plan.layer
        if not isinstance(layer, Add | Mul):
            raise NetworkError(f"layer {layer.name}: there is no command for {layer.op}")
        fields = binary_fields(layer, self._network)
        if plan.geometry is not None and not plan.geometry.broadcasts:
            channels = part.positions * plan.target.pixel
            return self._elementwise(plan, part, fields, sources, target, 1, channels)
        shapes = tuple(self._network.tensors[name].shape for name in layer.inputs)
        whole = part == plan.target.whole and all(
            view.block == extents.whole for view, extents in zip(sources, plan.sources, strict=True)
        )
        dense = target.pixel_pitch == plan.target.pixel
        ticket = None
        if not (whole and dense):
            for row in range(part.row, part.row + part.rows):
                ticket = self._broadcast_row(
                    plan, Block(row, 1, part.column, part.columns), fields, sources, target
                )
            return ticket
        for operands, offset, pitch, pixels, channels in runs_of(
            self._network.tensors[layer.output].shape, shapes
        ):
            moved: dict[str, int] = {}
            reads = []
            for letter, operand, view in zip("ab", operands, sources, strict=True):
                reads.append(operand_interval(operand, pixels, channels, view.address))
                moved |= {f"{letter}_{key}": value for key, value in operand.items()}
                moved[f"{letter}_source"] += view.address
            start = target.address + offset
            ticket = self.commands.add(
                f"layer {layer.name}",
                Opcode.ELEMENTWISE,
                fields
                | moved
                | {"pixels": pixels, "channels": channels, "destination": start, "pitch": pitch},
                reads=Places(tuple(reads)),
                writes=Places((Interval(start, start + pixels * channels),)),
            )
        return ticket

    def _broadcast_row(
        self, plan: Plan, row: Block, fields: dict[str, int], sources: list[View], target: View
    ) -> Ticket:
        """A row of an output whose operands may have one row, column or channel that stands for all."""
        assert plan.geometry is not None
        pixel = plan.target.pixel
        reads = []
        for letter, view, extents in zip("ab", sources, plan.sources, strict=True):
            need = plan.geometry.needs(row, extents)
            reads.append(view.interval(need, extents.pixel))
            fields = fields | {
                f"{letter}_source": view.at(need.row, need.column),
                f"{letter}_pitch": view.pixel_pitch if extents.columns > 1 else 0,
                f"{letter}_splat": int(extents.pixel == 1 < pixel),
            }
        return self.commands.add(
            f"layer {plan.name}",
            Opcode.ELEMENTWISE,
            fields
            | {
                "pixels": row.columns,
                "channels": pixel,
                "destination": target.at(row.row, row.column),
                "pitch": target.pixel_pitch,
            },
            reads=Places(tuple(reads)),
            writes=Places((target.interval(row, pixel),)),
        )

    def _elementwise(
        self,
        plan: Plan,
        part: Block,
        fields: dict[str, int],
        sources: list[View],
        target: View,
        pixels: int,
        channels: int,
    ) -> Ticket:
        """Operands of the output's shape, all dense where a part has several rows; a pitched output goes by pixels."""
        pixel = plan.target.pixel
        if target.pixel_pitch != pixel:
            pixels, channels = part.positions, pixel
        for letter, view in zip("ab", sources, strict=False):
            fields = fields | {
                f"{letter}_source": view.at(part.row, part.column),
                f"{letter}_pitch": channels,
            }
        return self.commands.add(
            f"layer {plan.name}",
            Opcode.ELEMENTWISE,
            fields
            | {
                "pixels": pixels,
                "channels": channels,
                "destination": target.at(part.row, part.column),
                "pitch": target.pixel_pitch if target.pixel_pitch != pixel else channels,
            },
            reads=Places(tuple(view.interval(part, pixel) for view in sources)),
            writes=Places((target.interval(part, pixel),)),
        )

    # What follows from what has been sent.

    def _note(self, plan: Plan, elements: int, ticket: Ticket | None) -> None:
        """`ticket` writes the last of a layer's first `elements` elements: send what can go on from there."""
        name = plan.layer.output
        complete = elements == plan.target.elements
        before = self._written.get(name, 0)
        if elements <= before:
            return
        self._written[name] = elements
        if ticket is None:
            # A given tensor under another name, in memory.
            return
        self._last_writer[name] = ticket
        spilled = self._home(name).storage in self._placement.spilled
        if spilled:
            return
        if complete:
            self._probe(plan, ticket)
        if name in self._stored:
            self._store_output(name, elements, complete)

    def _probe(self, plan: Plan, ticket: Ticket) -> None:
        name = plan.layer.output
        tensor, view = self._network.tensors[name], self._view(name, plan.target)
        interval = view.interval(plan.target.whole, plan.target.pixel)
        self.commands.guard(interval, ticket)
        self.probes.append(
            Probe(
                ticket.engine,
                ticket.sequence,
                name,
                interval.start,
                interval.stop - interval.start,
                tensor.shape,
                tensor.type,
                digits_of(tensor, self._config),
                self._config.element_bits,
                view.pixel_pitch - plan.target.pixel,
            )
        )

    def _store_output(self, name: str, elements: int, complete: bool) -> None:
        """Store what of an output's first `elements` elements has not been: whole beats until it is complete."""
        binding, done = self._outputs[name], self._stored[name]
        home, beat = self._home(name), self._config.bus_bytes
        address = self._placement.addresses[home.storage] + home.offset
        ready = binding.bytes if complete else elements * self._config.element_bits // 8 // beat * beat
        if ready - done < (1 if complete else STORE_BYTES):
            return
        per_byte = 8 // self._config.element_bits
        chip = Interval(address + done * per_byte, address + ready * per_byte)
        memory = binding.address + done
        self._last_store = self.commands.add(
            f"output {name}",
            Opcode.STORE,
            {
                "memory_address": memory,
                "scratchpad_address": chip.start,
                "row_bytes": ready - done,
                "rows": 1,
            },
            reads=Places((chip,)),
            writes=Places(memory=(Interval(memory, memory + ready - done),)),
        )
        self._stored[name] = ready

    def _finish(self, plan: Plan, last: bool) -> None:
        """Mark a layer's last command. The last layer ends with the store of what it computed."""
        ticket = self._last_writer.get(plan.layer.output)
        if (
            last
            and self._last_store is not None
            and (ticket is None or self._last_store.index > ticket.index)
        ):
            ticket = self._last_store
        number = self._last_marked + 1
        if number >= MARKS - 1 and not last:
            self.marks[plan.name] = MARKS - 1
            return
        if ticket is not None and self.commands.mark(ticket):
            self._last_marked = number
        self.marks[plan.name] = self._last_marked


def _shifted(interval: Interval, distance: int) -> Interval:
    return Interval(interval.start + distance, interval.stop + distance)


def _stops(plan: Plan, parts: int) -> list[int]:
    """Where the parts of a layer's rows end."""
    if plan.geometry is None:
        return [plan.target.rows]
    return [plan.target.rows * part // parts for part in range(1, parts + 1)]
