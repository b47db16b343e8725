"""What is where while steps are scheduled: how far each tensor is there, and the steps that bring and take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from intaglio.compiler.addresses import address_of
from intaglio.compiler.memory import Layout
from intaglio.compiler.operators import Plan, TablePlan
from intaglio.compiler.operators.layer import Stored
from intaglio.compiler.placement import Placement, Stage, Table
from intaglio.compiler.steps import AnyStep, Load, Step, Store, in_memory, on_chip
from intaglio.compiler.views import Block, Extents, Interval, View
from intaglio.spec.config import AcceleratorConfig

AnyStepT = TypeVar("AnyStepT", bound=AnyStep)

FIRST_LOAD_BYTES, MOST_LOAD_BYTES = 256, 2048
"""An input is loaded in pieces that double from the one size to the other, so that work begins when its first rows are
there."""
LOADS_AHEAD = 2
"""Pieces that are loaded ahead of the block at hand; more would fill the queue, and hold up what comes behind them."""
STORE_BYTES = 256
"""An output is stored as it grows, in pieces of at least this size."""


class Residence:
    """Sends loads and stores, and knows what the steps so far make of each tensor.

    Attributes
    ----------
    steps : all so far, this class's and others'
    written : by tensor, how many of its elements, from the first, steps so far make or load
    last_writer : by tensor, the step that does the last of it
    last_store : of an output or a tensor in memory
    """

    def __init__(self, placement: Placement, layout: Layout, config: AcceleratorConfig) -> None:
        self.steps: list[AnyStep] = []
        self.written: dict[str, int] = {}
        self.last_writer: dict[str, Step] = {}
        self.last_store: Step | None = None
        self._placement = placement
        self._places = layout.places
        self._given = {binding.tensor: binding for binding in (*layout.inputs, *layout.constants)}
        self._outputs = {binding.tensor: binding for binding in layout.outputs}
        self._bits, self._beat = config.element_bits, config.bus_bytes
        self._loaded: dict[str, int] = {}
        self._pieces: dict[str, list[int]] = {}
        """Of what is given, the first byte of each piece that is loaded."""
        self._stored: dict[str, int] = {}
        self._tables: set[str] = set()

    def add(self, step: AnyStepT) -> AnyStepT:
        """The step, as the last so far."""
        step.number = len(self.steps)
        self.steps.append(step)
        return step

    # Places.

    def storage(self, tensor: Stored) -> str:
        return self._placement.homes[tensor.name].storage

    def in_memory(self, tensor: Stored) -> bool:
        return self._placement.in_memory(tensor.name)

    def joined(self, tensor: Stored) -> bool:
        """Whether it is a stretch of another tensor's pixels."""
        return self._placement.homes[tensor.name].pitch is not None

    def places(self, tensor: Stored) -> Sequence[int]:
        """Where a tensor in memory lies: the first is read back, all are written."""
        return self._places[self.storage(tensor)]

    def stage(self, plan: Plan, operand: int) -> int:
        """Where parts of an operand in memory come to lie on chip; with -1, of the output."""
        return self._placement.addresses[Stage(plan.name, operand)]

    def table(self, plan: TablePlan) -> int:
        return self._placement.addresses[Table(plan.name)]

    def view(self, tensor: Stored, extents: Extents) -> View:
        """Where a tensor lies whole on chip."""
        home = self._placement.homes[tensor.name]
        address = self._placement.addresses[home.storage] + home.offset
        if home.pitch is None:
            return View.dense(address, extents.whole, extents.pixel)
        return View(address, extents.whole, extents.columns * home.pitch, home.pitch)

    def sources(self, plan: Plan) -> list[View]:
        return [self.view(source, seen) for source, seen in zip(plan.inputs, plan.sources, strict=True)]

    def target(self, plan: Plan, tile: Block | None = None) -> View:
        """Where the output, or a tile of it if it lies in memory, is written."""
        if tile is None or not self.in_memory(plan.output):
            return self.view(plan.output, plan.target)
        return View.dense(self.stage(plan, -1), tile, plan.target.pixel)

    # What comes from memory.

    def load_table(self, plan: Plan) -> None:
        """A layer's tables, once."""
        if not isinstance(plan, TablePlan) or plan.name in self._tables:
            return
        self._tables.add(plan.name)
        self._load(f"the table of layer {plan.name}", plan.tables, self.table(plan), len(plan.tables))

    def load_for(self, plan: Plan, block: Block) -> None:
        """What a block needs of tensors that are given."""
        for source, seen, need in zip(plan.inputs, plan.sources, plan.needs(block), strict=True):
            self.load_given(source.name, (need.row + need.rows) * seen.columns * seen.pixel)

    def load_given(self, name: str, elements: int | None = None) -> None:
        """Of a network's input, or of a constant, so many elements and a few pieces ahead of them, or all; nothing of
        any other tensor."""
        if name not in self._given:
            return
        binding = self._given[name]
        whole = binding.size * binding.digits
        if self._placement.in_memory(name):
            self.written[name] = whole
            return
        address = self._placement.addresses[name]
        wanted = binding.bytes if elements is None else -(-elements * self._bits // 8)
        pieces = self._pieces.setdefault(name, [])
        ahead = sum(start >= wanted for start in pieces)
        while (done := self._loaded.get(name, 0)) < binding.bytes and (done < wanted or ahead < LOADS_AHEAD):
            ahead += done >= wanted
            pieces.append(done)
            count = min(max(FIRST_LOAD_BYTES, min(done, MOST_LOAD_BYTES)), binding.bytes - done)
            place = address + done * 8 // self._bits
            step = self._load(
                f"input {name}",
                address_of(binding.region, binding.offset) + done,
                place,
                count,
                opens=not done,
            )
            self.last_writer[name] = step
            self._loaded[name] = done + count
        self.written[name] = min(self._loaded[name] * 8 // self._bits, whole)
        if self._loaded[name] == binding.bytes:
            self.store_output(name, whole, complete=True)

    def _load(self, owner: str, memory: int | bytes, address: int, count: int, opens: bool = False) -> Load:
        """Bytes in a row, from an address or from the image."""
        place = Interval(address, address + count * 8 // self._bits)
        step = Load(
            owner=owner,
            memory=memory,
            scratchpad=address,
            row_bytes=count,
            opens=opens,
            writes=on_chip(place),
        )
        if not isinstance(memory, bytes):  # nobody writes the image
            step.reads = in_memory(memory, count)
        return self.add(step)

    def load_part(self, plan: Plan, operand: int, need: Block) -> View:
        """What a tile needs of an operand: on chip as it is, or loaded."""
        source, seen = plan.inputs[operand], plan.sources[operand]
        if not self.in_memory(source):
            return self.view(source, seen)
        view = View.dense(self.stage(plan, operand), need, seen.pixel)
        if need.positions:
            self._move(Load, plan, self.places(source)[0], seen, view)
        return view

    # What goes to memory.

    def store_output(self, name: str, elements: int, complete: bool) -> None:
        """Store what of an output's first `elements` elements has not been: whole beats until it is complete. Nothing
        of any other tensor."""
        if name not in self._outputs:
            return
        binding, done = self._outputs[name], self._stored.get(name, 0)
        home = self._placement.homes[name]
        address = self._placement.addresses[home.storage] + home.offset
        ready = binding.bytes if complete else elements * self._bits // 8 // self._beat * self._beat
        if ready - done < (1 if complete else STORE_BYTES):
            return
        per_byte = 8 // self._bits
        chip = Interval(address + done * per_byte, address + ready * per_byte)
        memory = address_of(binding.region, binding.offset) + done
        self.last_store = self.add(
            Store(
                owner=f"output {name}",
                memory=memory,
                scratchpad=chip.start,
                row_bytes=ready - done,
                reads=on_chip(chip),
                writes=in_memory(memory, ready - done),
            )
        )
        self._stored[name] = ready

    def store_tile(self, plan: Plan, view: View) -> Step:
        """A tile of an output that lies in memory, to all its places there."""
        for place in self.places(plan.output):
            self.last_store = step = self._move(Store, plan, place, plan.target, view)
        return step

    def _move(
        self, transfer: type[Load | Store], plan: Plan, place: int, extents: Extents, view: View
    ) -> Load | Store:
        """A block between its place in a tensor in memory and the scratchpad."""
        block = view.block
        row_bytes, pitch = extents.columns * extents.pixel * self._bits // 8, 0
        start = place + (block.row * extents.columns + block.column) * extents.pixel * self._bits // 8
        rows, count = block.rows, block.columns * extents.pixel
        if block.columns == extents.columns:
            rows, count = 1, block.rows * count
        else:
            pitch = row_bytes
        count_bytes = -(-count * self._bits // 8)
        memory = in_memory(start, (rows - 1) * pitch + count_bytes)
        chip = on_chip(view.interval(block, extents.pixel))
        loads = transfer is Load
        return self.add(
            transfer(
                owner=plan.owner,
                memory=start,
                scratchpad=view.address,
                row_bytes=count_bytes,
                rows=rows,
                memory_pitch=pitch,
                scratchpad_pitch=view.row_pitch,
                reads=memory if loads else chip,
                writes=chip if loads else memory,
            )
        )
