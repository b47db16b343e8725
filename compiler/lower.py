"""Network -> commands: layers in segments, segments in blocks, and the order in which the blocks are sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.allocation import Request, live_elements, place
from compiler.check import check_network, digits_of, pad_of, reads_signed
from compiler.hazards import CommandList, Interval, Ticket
from compiler.program import Binding, LayerInfo, Program, Tap, Window
from compiler.weights import block_stream
from compiler.windows import Block, Sweep, matmul_blocks, matmul_sweep, pool_sweep
from hdl import isa
from hdl.config import AcceleratorConfig
from network import Conv2D, FullyConnected, MaxPool2D, Network, NetworkError, SbnqRescale, Tensor, TensorType
from network.graph import AnyLayer

ALIGNMENT = 64
"""Of every region in memory, in bytes: a multiple of the bus, and a burst's addresses look tidy in a trace."""
FIRST_LOAD_BYTES = 256
"""An input is loaded in pieces that double from this size on, so that work begins when its first rows are there."""
STORE_BYTES = 256
"""An output is stored as it grows, in pieces of at least this size."""
WEIGHTS_AHEAD = 2
"""Blocks whose WEIGHTS command is sent before the MATMULs of the block at hand.

No deadlock: consider the earliest command in the list, but for WEIGHTS, that never completes. All before it are
complete, so its waits are over and it is the first of its engine. If it has been dispatched it runs: what it takes of
the weight stream was sent by WEIGHTS before it in the list, and their beats find room, because all that the buffer
holds is for it (earlier MATMULs are complete and have taken theirs) and it takes them a tile at a time, of which the
buffer holds two. If it has not been dispatched, the dispatcher is held up by a full queue; all commands before it
but WEIGHTS are complete, so it is the queue of WEIGHTS; but no more than WEIGHTS_AHEAD of those can be incomplete
before another is sent, one being the stretch of the very MATMULs at hand, and a queue takes QUEUE_DEPTH.
"""
if WEIGHTS_AHEAD >= isa.QUEUE_DEPTH:
    raise ValueError("`WEIGHTS_AHEAD` must be less than QUEUE_DEPTH, or the dispatcher can deadlock")


@dataclass(frozen=True)
class _Stretch:
    """Beats of the weight stream that one block consumes, by where they lie in memory."""

    address: int
    beats: int


@dataclass(frozen=True)
class _Plan:
    """What is known of a layer before the first command is emitted."""

    sweep: Sweep
    blocks: list[Block]
    stream: bytes


def compile_network(network: Network, config: AcceleratorConfig, base_address: int = 0) -> Program:
    """Compile a network for a machine; everything in memory starts at `base_address`, a multiple of 64.

    Raises NetworkError, in one line, saying what of which layer the machine cannot run or hold, and by how much.
    """
    if base_address % ALIGNMENT or not 0 <= base_address < 1 << 32:
        raise ValueError(f"`base_address` must be a multiple of {ALIGNMENT} below 2**32, not {base_address}")
    warnings = check_network(network, config)
    segments, addresses = _place(network, config)
    plans = {layer.name: _plan(layer, network, config) for layer in network.layers}

    memory = _Memory(base_address)
    outputs = [memory.bind(network.tensors[name], config) for name in dict.fromkeys(network.outputs)]
    write_window = memory.window(base_address)
    read_base = memory.top
    inputs = [memory.bind(network.tensors[name], config) for name in network.inputs]
    image_address = memory.top
    stretches: dict[bytes, _Stretch] = {}
    stored: list[bytes] = []
    for plan in plans.values():
        if plan.stream and plan.stream not in stretches:
            stretches[plan.stream] = _Stretch(
                memory.reserve(len(plan.stream)), len(plan.stream) // config.bus_bytes
            )
            stored.append(plan.stream)

    emission = _Emission(network, config, plans, addresses, inputs, outputs)
    emission.stretches = [
        stretches[plan.stream] for plan in plans.values() if plan.stream for _ in plan.blocks
    ]
    for segment in segments:
        emission.segment(segment)
    commands = emission.commands.encode(network.name)

    command_address = memory.reserve(len(commands))
    image = np.zeros(memory.top - image_address, np.uint8)
    for stream in stored:
        _write(image, stretches[stream].address - image_address, stream)
    _write(image, command_address - image_address, commands)
    if memory.top > 1 << 32:
        raise NetworkError(
            f"network {network.name}: it needs {memory.top:,} bytes of a memory of {1 << 32:,}"
        )
    return Program(
        network=network.name,
        config=config.name,
        fingerprint=config.fingerprint,
        commands=commands,
        command_address=command_address,
        base_address=base_address,
        memory_bytes=memory.top - base_address,
        image=image,
        image_address=image_address,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        read_window=memory.window(read_base),
        write_window=write_window,
        taps=tuple(emission.taps),
        layers=tuple(
            LayerInfo(layer.name, layer.op, layer.macs(network.tensors[layer.output].shape), _mark(index))
            for index, layer in enumerate(network.layers)
        ),
        warnings=tuple(warnings),
    )


def _write(image: np.ndarray, offset: int, data: bytes) -> None:
    image[offset : offset + len(data)] = np.frombuffer(data, np.uint8)


def _mark(index: int) -> int:
    """The time stamp of a layer; the layers beyond the machine's last share it."""
    return min(index, isa.MARKS - 1)


def _plan(layer: AnyLayer, network: Network, config: AcceleratorConfig) -> _Plan:
    source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
    if isinstance(layer, MaxPool2D):
        return _Plan(pool_sweep(layer, source, target, config), [], b"")
    if not isinstance(layer, Conv2D | FullyConnected):
        raise NetworkError(f"layer {layer.name}: there is no command for {layer.op}")
    sweep = matmul_sweep(layer, source, target, digits_of(source, config), config)
    return _Plan(sweep, matmul_blocks(sweep, config), block_stream(layer, sweep, config))


class _Memory:
    """Regions of memory, one after the other."""

    def __init__(self, base: int) -> None:
        self.top = base

    def reserve(self, size: int) -> int:
        address = self.top
        self.top += -(-size // ALIGNMENT) * ALIGNMENT
        return address

    def bind(self, tensor: Tensor, config: AcceleratorConfig) -> Binding:
        digits = digits_of(tensor, config)
        size = -(-tensor.size * digits * config.element_bits // 8)
        return Binding(
            tensor.name, tensor.shape, tensor.type, self.reserve(size), size, digits, config.element_bits
        )

    def window(self, base: int) -> Window:
        return Window(base, self.top)


def _segments(layers: tuple[AnyLayer, ...]) -> list[list[AnyLayer]]:
    """Layers whose blocks are sent interleaved: one, and the poolings right behind it, each of the one before."""
    segments: list[list[AnyLayer]] = []
    for layer in layers:
        if segments and isinstance(layer, MaxPool2D) and layer.inputs[0] == segments[-1][-1].output:
            segments[-1].append(layer)
        else:
            segments.append([layer])
    return segments


def _place(network: Network, config: AcceleratorConfig) -> tuple[list[list[AnyLayer]], dict[str, int]]:
    """Segments, and the scratchpad address of every tensor. What is interleaved is alive at once; where the
    scratchpad is too small for that, each layer is run by itself."""
    alignment = 8 // config.element_bits
    capacity = config.scratchpad_elements
    for segments in (_segments(network.layers), [[layer] for layer in network.layers]):
        requests = _lifetimes(network, segments, config, alignment)
        addresses, top = place(requests, alignment)
        if top <= capacity:
            return segments, addresses
    needed = live_elements(requests, alignment)
    problems = [
        f"layer {layer.name}: its tensors need {needed[step]:,} elements of scratchpad, "
        f"{config.name} has {capacity:,} ({needed[step] - capacity:,} too many)"
        for step, layer in enumerate(network.layers)
        if needed.get(step, 0) > capacity
    ]
    if not problems:
        step = max(needed, key=lambda step: needed[step])
        problems = [
            f"layer {network.layers[step].name}: the tensors alive with it leave gaps in the scratchpad and end at "
            f"element {top:,}, {config.name} has {capacity:,} ({top - capacity:,} too many)"
        ]
    raise NetworkError("; ".join(problems))


def _lifetimes(
    network: Network, segments: list[list[AnyLayer]], config: AcceleratorConfig, alignment: int
) -> list[Request]:
    first: dict[str, int] = {}
    # An input that is an output as well is loaded and stored at once.
    last = dict.fromkeys((name for name in network.inputs if name in network.outputs), 0)
    first |= last
    for step, segment in enumerate(segments):
        for layer in segment:
            for name in (*layer.inputs, layer.output):
                first.setdefault(name, step)
                last[name] = step
    requests = []
    for name, step in last.items():
        tensor = network.tensors[name]
        # Loads and stores move whole bytes.
        elements = -(-tensor.size * digits_of(tensor, config) // alignment) * alignment
        requests.append(Request(name, elements, first[name], step))
    return requests


class _Emission:
    """Sends the commands of one segment after the other."""

    def __init__(
        self,
        network: Network,
        config: AcceleratorConfig,
        plans: dict[str, _Plan],
        addresses: dict[str, int],
        inputs: list[Binding],
        outputs: list[Binding],
    ) -> None:
        self.commands = CommandList()
        self.taps: list[Tap] = []
        self.stretches: list[_Stretch] = []
        self._network = network
        self._config = config
        self._plans = plans
        self._addresses = addresses
        self._inputs = {binding.tensor: binding for binding in inputs}
        self._outputs = {binding.tensor: binding for binding in outputs}
        self._loaded: set[str] = set()
        self._stored: dict[str, int] = dict.fromkeys(network.outputs, 0)
        self._last_store: dict[str, Ticket] = {}
        self._followers: dict[str, MaxPool2D] = {}
        self._rows_pooled: dict[str, int] = {}
        self._last_writer: dict[str, Ticket] = {}
        self._drained: list[Ticket | None] = [None, None]
        self._matmuls = 0
        self._blocks_begun = 0
        self._stretches_sent = 0
        self._layers_done = 0

    def segment(self, layers: list[AnyLayer]) -> None:
        """The commands of layers that run interleaved: as soon as a block of the first is on its way, the blocks of
        the poolings behind it that need no more than is on its way by then."""
        self._load_inputs(layers)
        head = layers[0]
        self._followers = {layer.inputs[0]: layer for layer in layers[1:] if isinstance(layer, MaxPool2D)}
        if isinstance(head, MaxPool2D):
            self._pool_in_quarters(head)
        elif isinstance(head, Conv2D | FullyConnected):
            self._matmul_layer(head)
        else:
            raise NetworkError(f"layer {head.name}: there is no command for {head.op}")
        for layer in layers:
            self._finish(layer)

    def _finish(self, layer: AnyLayer) -> None:
        """Mark a layer's last command. The last layer ends with the store of what it computed."""
        self._layers_done += 1
        final = self._layers_done == len(self._network.layers)
        ticket = self._last_writer[layer.output]
        if final:
            ticket = self._last_store.get(layer.output, ticket)
        if final or self._layers_done < isa.MARKS:
            self.commands.mark(ticket)

    def _load_inputs(self, layers: list[AnyLayer]) -> None:
        wanted = {name for layer in layers for name in layer.inputs}
        if not self._layers_done:
            wanted |= set(self._network.outputs)
        for name in self._network.inputs:
            if name in wanted and name not in self._loaded:
                self._loaded.add(name)
                self._load(name)

    def _load(self, name: str) -> None:
        binding, address = self._inputs[name], self._addresses[name]
        done, size = 0, FIRST_LOAD_BYTES
        while done < binding.bytes:
            count = min(size, binding.bytes - done)
            interval = self._bytes_interval(address, done, count)
            self.commands.add(
                f"input {name}", isa.Opcode.LOAD, self._transfer(binding.address + done, interval.start, count),
                writes=interval,
            )  # fmt: skip
            if not done:
                self._send_weights(self._blocks_begun)
            done += count
            size *= 2
        if name in self._stored:
            self._store(name, self._tensor_elements(name), complete=True)

    def _store(self, name: str, elements: int, complete: bool) -> None:
        """Store what of an output's first `elements` elements has not been: whole beats until it is complete."""
        binding, address, done = self._outputs[name], self._addresses[name], self._stored[name]
        beat = self._config.bus_bytes
        ready = binding.bytes if complete else elements * self._config.element_bits // 8 // beat * beat
        if ready - done < (1 if complete else STORE_BYTES):
            return
        interval = self._bytes_interval(address, done, ready - done)
        self._last_store[name] = self.commands.add(
            f"output {name}", isa.Opcode.STORE, self._transfer(binding.address + done, interval.start, ready - done),
            reads=interval,
        )  # fmt: skip
        self._stored[name] = ready

    def _bytes_interval(self, address: int, start: int, count: int) -> Interval:
        per_byte = 8 // self._config.element_bits
        return Interval(address + start * per_byte, address + (start + count) * per_byte)

    @staticmethod
    def _transfer(memory_address: int, scratchpad_address: int, count: int) -> dict[str, int]:
        return {
            "memory_address": memory_address,
            "scratchpad_address": scratchpad_address,
            "row_bytes": count,
            "rows": 1,
        }

    def _send_weights(self, block: int) -> None:
        """WEIGHTS of the network's block number `block`, and ahead of it."""
        while self._stretches_sent < min(block + 1 + WEIGHTS_AHEAD, len(self.stretches)):
            stretch = self.stretches[self._stretches_sent]
            self.commands.add(
                f"the weights of block {self._stretches_sent}",
                isa.Opcode.WEIGHTS,
                {"memory_address": stretch.address, "beats": stretch.beats},
            )
            self._stretches_sent += 1

    def _matmul_layer(self, layer: Conv2D | FullyConnected) -> None:
        for block in self._plans[layer.name].blocks:
            self._send_weights(self._blocks_begun)
            self._blocks_begun += 1
            for channel in range(0, layer.weights.shape[0], self._config.columns):
                ticket = self._matmul(layer, block, channel)
            width = self._plans[layer.name].sweep.output_columns
            positions = block.row * width + block.column + block.positions
            self._written(layer.output, positions * layer.weights.shape[0], ticket)

    def _matmul(self, layer: Conv2D | FullyConnected, block: Block, channel: int) -> Ticket:
        """One block of one group of output channels: MATMUL fills a bank, RESCALE drains it."""
        source, target = self._network.tensors[layer.inputs[0]], self._network.tensors[layer.output]
        sweep = self._plans[layer.name].sweep
        address = self._addresses[source.name]
        bank = self._matmuls % 2
        self._matmuls += 1
        drained = self._drained[bank]
        matmul = self.commands.add(
            f"layer {layer.name}",
            isa.Opcode.MATMUL,
            sweep.fields(address, block)
            | {
                "pad": pad_of(source, self._config),
                "signed": int(reads_signed(source, self._config)),
                "digits": sweep.digits,
                "bank": bank,
            },
            reads=sweep.reads(address, block),
            after=[drained] if drained else [],
        )
        opcode, parameters = _rescale_command(layer, target)
        outputs = layer.weights.shape[0]
        channels = min(self._config.columns, outputs - channel)
        position = block.row * sweep.output_columns + block.column
        destination = self._addresses[target.name] + position * outputs + channel
        rescale = self.commands.add(
            f"layer {layer.name}",
            opcode,
            parameters
            | {
                "bank": bank,
                "positions": block.positions,
                "channels": channels,
                "destination": destination,
                "pixel_pitch": outputs,
                "signed": int(target.type.signed),
            },
            writes=Interval(destination, destination + (block.positions - 1) * outputs + channels),
            after=[matmul],
        )
        self._drained[bank] = rescale
        return rescale

    def _written(self, name: str, elements: int, ticket: Ticket) -> None:
        """`ticket` writes the last of a tensor's first `elements` elements: send what can go on from there."""
        tensor = self._network.tensors[name]
        complete = elements == self._tensor_elements(name)
        self._last_writer[name] = ticket
        if complete:
            address = self._addresses[name]
            self.commands.guard(Interval(address, address + elements), ticket)
            self.taps.append(
                Tap(
                    ticket.engine,
                    ticket.sequence,
                    name,
                    address,
                    elements,
                    tensor.shape,
                    tensor.type,
                    digits_of(tensor, self._config),
                    self._config.element_bits,
                )
            )
        if name in self._stored:
            self._store(name, elements, complete)
        follower = self._followers.get(name)
        if follower is not None:
            sweep = self._plans[follower.name].sweep
            ready = sweep.rows_ready(elements // (self._tensor_elements(name) // tensor.shape[0]))
            # The last row waits for the end of this layer even if it needs no more of it: layers end in their order.
            self._pool_rows(follower, ready if complete else min(ready, sweep.output_rows - 1))

    def _pool_in_quarters(self, layer: MaxPool2D) -> None:
        """A pooling layer by itself, in a few blocks, so that what follows need not wait for its end."""
        rows = self._plans[layer.name].sweep.output_rows
        for quarter in range(1, 5):
            self._pool_rows(layer, rows * quarter // 4)

    def _pool_rows(self, layer: MaxPool2D, stop: int) -> None:
        """Pool the output rows up to `stop` that have not been."""
        start = self._rows_pooled.get(layer.name, 0)
        if stop <= start:
            return
        self._rows_pooled[layer.name] = stop
        source = self._network.tensors[layer.inputs[0]]
        sweep = self._plans[layer.name].sweep
        block = Block(start, stop - start, 0, sweep.output_columns)
        address = self._addresses[source.name]
        row_elements = sweep.output_columns * sweep.pixel
        destination = self._addresses[layer.output] + start * row_elements
        bits = self._config.element_bits
        ticket = self.commands.add(
            f"layer {layer.name}",
            isa.Opcode.MAX_POOL,
            sweep.fields(address, block)
            | {
                "pad": 1 << (bits - 1) if source.type.signed else 0,
                "signed": int(source.type.signed),
                "channels": sweep.pixel,
                "destination": destination,
                "pixel_pitch": sweep.pixel,
            },
            reads=sweep.reads(address, block),
            writes=Interval(destination, destination + block.rows * row_elements),
        )
        self._written(layer.output, stop * row_elements, ticket)

    def _tensor_elements(self, name: str) -> int:
        tensor = self._network.tensors[name]
        return tensor.size * digits_of(tensor, self._config)


def _sbnq_range(kind: TensorType) -> dict[str, int]:
    """What SBNQ saturates to, which is symmetric for a signed type."""
    return {"low": -kind.max if kind.signed else 0, "high": kind.max}


def _rescale_command(layer: Conv2D | FullyConnected, target: Tensor) -> tuple[isa.Opcode, dict[str, int]]:
    """The opcode that drains a layer's accumulators, and the fields that its scheme alone has."""
    if isinstance(layer.rescale, SbnqRescale):
        return isa.Opcode.RESCALE_SBNQ, {"relu": int(layer.rescale.relu), **_sbnq_range(target.type)}
    raise NetworkError(f"layer {layer.name}: no command rescales by {type(layer.rescale).__name__}")
