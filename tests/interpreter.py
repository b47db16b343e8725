"""An interpreter of `docs/architecture.md`, written from that page alone, and a proof of a program's order.

The interpreter runs a program's commands in an order drawn at random from all that waits and queues permit, over
garbage in memory, scratchpad, accumulators and tables. Besides, the order is proved: of every two commands that touch
one element, one of them writing, the later one in the list waits for the earlier one.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from intaglio.compiler import Probe, Program
from intaglio.spec.commands import (
    FORMATS,
    SOFTMAX_PLANES,
    TABLE_ENTRIES,
    WAITED,
    Engine,
    Opcode,
    Operation,
    Scheme,
)
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import QUEUE_DEPTH, WEIGHTS_QUEUE_DEPTH

Integers = npt.NDArray[np.int64]
Values = dict[str, int]
Clock = dict[Engine, int]

PIPELINED = 16
"""Commands that an engine is taken to have at work at most, besides its queue."""
QUEUES = dict.fromkeys(Engine, QUEUE_DEPTH) | {Engine.WEIGHTS: WEIGHTS_QUEUE_DEPTH}
WAITS = {engine: f"wait_{engine.name.lower()}" for engine in WAITED}


class Space(enum.Enum):
    """What commands read and write, each numbered from 0."""

    SCRATCHPAD = "scratchpad"
    """By elements."""
    MEMORY = "memory"
    """By bytes."""
    BANKS = "accumulators"
    """By positions, bank 1 behind bank 0; then the parameters of each bank."""


# The arithmetic.


def wrap(x: Integers, bits: int) -> Integers:
    half = 1 << (bits - 1)
    return ((x + half) & ((1 << bits) - 1)) - half


def half_away(x: Integers, n: Integers | int) -> Integers:
    mask = (np.int64(1) << np.asarray(n, np.int64)) - 1
    return (x >> n) + ((x & mask) > (mask >> 1) + (x < 0))


def sqrdmulh(a: Integers, b: Integers | int) -> Integers:
    return np.minimum((a * b + (1 << 30)) >> 31, (1 << 31) - 1)


def saturate(x: Integers) -> Integers:
    return np.clip(x, -(1 << 31), (1 << 31) - 1)


def affine(x: Integers, multiplier: Integers | int, exponent: Integers | int, double: int) -> Integers:
    """`x`, int32, by ``multiplier * 2**(exponent - 31)``; all of int64, of shapes that broadcast."""
    exponent = np.asarray(exponent, np.int64)
    assert np.all(np.abs(exponent) <= 31)
    if double:
        return half_away(
            sqrdmulh(wrap(x << np.maximum(exponent, 0), 32), multiplier), np.maximum(-exponent, 0)
        )
    return half_away(x * multiplier, 31 - exponent)


def softmax(x: Integers, table: Integers) -> Integers:
    """Of each row of `x`; `table` has exp(-d) in Q0.31 for d = 0...255."""
    difference = x.max(axis=-1, keepdims=True) - x
    total = half_away(table[difference], 12).sum(axis=-1, keepdims=True)
    assert np.all((total > 0) & (total < 1 << 32))
    zeros = np.array([32 - int(value).bit_length() for value in total.ravel()], np.int64).reshape(total.shape)
    half = ((total << zeros) - (1 << 31) + (1 << 31)) >> 1
    y = 1515870810 + sqrdmulh(half, -1010580540)
    for _ in range(3):
        y = y + saturate(sqrdmulh(y, (1 << 29) - sqrdmulh(half, y)) << 2)
    scale = saturate(y << 1)
    return np.clip(-128 + half_away(sqrdmulh(scale, table[difference]), 35 - zeros), -128, 127)


class Machine:
    """Runs a program, one whole command at a time but for the weight stream, which moves by beats.

    Attributes
    ----------
    memory, scratchpad : what they hold; elements are unsigned patterns
    probes : by tensor, its values when the program says that it is whole
    completed : indices of commands in the order in which they completed
    reads, writes : what each command touched, by command index and space; wanted by `check_order`
    """

    def __init__(
        self,
        program: Program,
        config: AcceleratorConfig,
        inputs: Mapping[str, npt.NDArray],
        rng: np.random.Generator,
        ignore_waits: bool = False,
    ) -> None:
        self.program, self.config, self.rng, self.ignore_waits = program, config, rng, ignore_waits
        top = program.base_address + program.memory_bytes
        self.memory = rng.integers(0, 256, top, np.uint8)
        self.memory[program.image_address :][: len(program.image)] = program.image
        for binding in program.inputs:
            self.memory[binding.address :][: binding.bytes] = binding.pack(inputs[binding.tensor][None])[0]
        self.scratchpad = rng.integers(0, 1 << config.element_bits, config.scratchpad_elements, np.int64)
        self.banks = [rng.integers(-99, 99, (config.accumulator_depth, config.columns)) for _ in range(2)]
        self.parameters = [rng.bytes(config.parameter_beats * config.bus_bytes) for _ in range(2)]
        self.tables = rng.integers(0, 128, (SOFTMAX_PLANES, TABLE_ENTRIES), np.int64)
        held = int(rng.choice([0, 1, 2, PIPELINED]))
        self.queued = {engine: depth + held for engine, depth in QUEUES.items()}
        self.stream: list[bytes] = []
        self.stream_room = config.weight_buffer_bytes // config.bus_bytes
        self.own_stream: list[bytes] = []
        self.moved = 0
        self.done = dict.fromkeys(Engine, 0)
        self.completed: list[int] = []
        self.probes: dict[str, npt.NDArray] = {}
        self.index = 0
        self.reads: dict[int, dict[Space, Integers]] = {}
        self.writes: dict[int, dict[Space, Integers]] = {}

    def run(self) -> Machine:
        commands = [self.program.command(index) for index in range(self.program.command_count)]
        queues: dict[Engine, list[int]] = {engine: [] for engine in Engine}
        probes: dict[tuple[Engine, int], list[Probe]] = {}
        for probe in self.program.probes:
            probes.setdefault((probe.engine, probe.sequence), []).append(probe)
        speed = {engine: self.rng.exponential() + 0.01 for engine in Engine}
        dispatched = 0
        while len(self.completed) < len(commands):
            ready = [engine for engine, queue in queues.items() if queue and self._can_go(commands[queue[0]])]
            if dispatched < len(commands):
                target = FORMATS[commands[dispatched][0]].engine
                if len(queues[target]) < self.queued[target] and (not ready or self.rng.random() < 0.7):
                    queues[target].append(dispatched)
                    dispatched += 1
                    continue
            assert ready, f"deadlock with {dispatched} of {len(commands)} dispatched"
            weights = np.array([speed[engine] for engine in ready])
            engine = ready[self.rng.choice(len(ready), p=weights / weights.sum())]
            self.index = queues[engine][0]
            opcode, values = commands[self.index]
            self._check_legal(opcode, values)
            if getattr(self, opcode.name.lower())(values):
                queues[engine].pop(0)
                self.done[engine] += 1
                self.completed.append(self.index)
                for probe in probes.get((engine, self.done[engine]), ()):
                    self.probes[probe.tensor] = probe.values_of(
                        self.scratchpad[probe.address :][: probe.elements]
                    )
        assert not self.stream, "weights were left over"
        return self

    def _can_go(self, command: tuple[Opcode, Values]) -> bool:
        opcode, values = command
        if opcode is Opcode.WEIGHTS and len(self.stream) >= self.stream_room:
            return False
        if opcode is Opcode.MATMUL and not self.stream:
            return False
        if self.ignore_waits:
            return True
        return all(
            ((self.done[e] - values[name] + 2**15) % 2**16) >= 2**15
            for e, name in WAITS.items()
            if values[name]
        )

    def _check_legal(self, opcode: Opcode, values: Values) -> None:
        assert all(values[name] for name in FORMATS[opcode].nonzero), (opcode, values)
        assert not any(value for name, value in values.items() if "reserved" in name)
        assert values["mark"] in (0, 1)

    # What commands touch.

    def _read(self, elements: npt.ArrayLike, space: Space = Space.SCRATCHPAD) -> None:
        _touch(self.reads.setdefault(self.index, {}), space, elements)

    def _write(self, elements: npt.ArrayLike, space: Space = Space.SCRATCHPAD) -> None:
        _touch(self.writes.setdefault(self.index, {}), space, elements)

    def _use_bank(self, values: Values, positions: int, *, write: bool) -> None:
        depth, bank = self.config.accumulator_depth, values["bank"]
        touched = np.append(np.arange(positions) + bank * depth, 2 * depth + bank)
        (self._write if write else self._read)(touched, Space.BANKS)

    def _put(self, addresses: Integers, elements: Integers) -> None:
        """What a command writes to the scratchpad: one value an element, none that the command itself reads."""
        addresses = addresses.ravel() % len(self.scratchpad)
        assert len(np.unique(addresses)) == len(addresses), "a command writes an element twice"
        own_reads = self.reads.get(self.index, {}).get(Space.SCRATCHPAD)
        assert own_reads is None or not np.isin(addresses, own_reads).any(), "a command writes what it reads"
        self.scratchpad[addresses] = elements.ravel() & ((1 << self.config.element_bits) - 1)
        self._write(addresses)

    # LOAD, STORE, WEIGHTS.

    def _unpack(self, data: bytes, bits: int) -> Integers:
        """Unsigned codes, from bit 0 on."""
        octets = np.frombuffer(data, np.uint8)
        if bits == 8:
            return octets.astype(np.int64)
        unpacked = np.unpackbits(octets, bitorder="little").astype(np.int64)
        return unpacked[: len(unpacked) // bits * bits].reshape(-1, bits) @ (1 << np.arange(bits))

    def _transfer(self, values: Values) -> Iterator[tuple[Integers, Integers]]:
        """Addresses in memory and elements of each row."""
        for row in range(values["rows"]):
            memory = values["memory_address"] + row * values["memory_pitch"]
            start = values["scratchpad_address"] + row * values["scratchpad_pitch"]
            count = values["row_bytes"] * 8 // self.config.element_bits
            places = np.arange(start, start + count) % len(self.scratchpad)
            yield np.arange(memory, memory + values["row_bytes"]), places

    def _inside(self, window, address: int, count: int) -> None:
        assert window.base % 8 == window.limit % 8 == 0
        first, last = address // 8 * 8, -(-(address + count) // 8) * 8
        assert window.base <= first <= last <= window.limit, f"{address} is outside the window"

    def load(self, values: Values) -> bool:
        rows = list(self._transfer(values))
        for memory, _ in rows:
            self._inside(self.program.read_region, int(memory[0]), len(memory))
        octets, elements = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        self._read(octets, Space.MEMORY)
        self._put(elements, self._unpack(self.memory[octets].tobytes(), self.config.element_bits))
        return True

    def store(self, values: Values) -> bool:
        rows = list(self._transfer(values))
        for memory, _ in rows:
            self._inside(self.program.write_region, int(memory[0]), len(memory))
        octets, elements = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        assert len(np.unique(octets)) == len(octets), "a STORE writes a byte twice"
        bits = (self.scratchpad[elements][:, None] >> np.arange(self.config.element_bits)) & 1
        self.memory[octets] = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little")
        self._read(elements)
        self._write(octets, Space.MEMORY)
        return True

    def weights(self, values: Values) -> bool:
        """Some of the beats; whether the last has been moved."""
        room = self.stream_room - len(self.stream)
        count = min(room, values["beats"] - self.moved, int(self.rng.integers(1, 200)))
        assert values["memory_address"] % 8 == 0
        first = values["memory_address"] + 8 * self.moved
        self._inside(self.program.read_region, first, 8 * count)
        self._read(np.arange(first, first + 8 * count), Space.MEMORY)
        data = self.memory[first : first + 8 * count].tobytes()
        self.stream += [data[start : start + 8] for start in range(0, len(data), 8)]
        self.moved = (self.moved + count) % values["beats"]
        return self.moved == 0

    # The window reader.

    def _window(
        self, values: Values, lanes: int, pitch: int, ky: int, kx: int, chunk: int
    ) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Element addresses, and which lanes are inside, of every position: (rows, columns, lanes)."""
        oy, ox = np.arange(values["output_rows"])[:, None, None], np.arange(values["output_columns"])[:, None]
        y = values["first_row"] + oy * values["row_stride"] + ky * values["kernel_row_step"]
        pos = values["first_element"] + ox * values["column_stride"] + kx * values["kernel_column_step"]
        pos = pos + chunk * pitch + np.arange(lanes)
        inside = (y >= 0) & (y < values["height"]) & (pos >= 0) & (pos < values["width_elements"])
        return (values["source"] + y * values["row_pitch"] + pos) % len(self.scratchpad), inside

    def _elements(
        self, values: Values, addresses: Integers, inside: npt.NDArray[np.bool_], signed: bool
    ) -> Integers:
        bits = self.config.element_bits
        data = np.where(inside, self.scratchpad[addresses], values["pad"] & ((1 << bits) - 1))
        return wrap(data, bits) if signed else data

    # MATMUL.

    def _passes(self, values: Values) -> list[tuple[int, ...]]:
        names = ("digits", "kernel_rows", "kernel_columns", "chunks")
        return list(itertools.product(*(range(values[name]) for name in names)))

    def _beats(self, values: Values) -> int:
        tiles = 1 if values["one_tile"] else len(self._passes(values))
        return tiles * self.config.tile_beats + self.config.parameter_beats

    def matmul(self, values: Values) -> bool:
        """Takes what has arrived of its weights; computes when all of them have. Whether it has."""
        wanted = self._beats(values) - len(self.own_stream)
        self.own_stream += self.stream[:wanted]
        del self.stream[:wanted]
        if len(self.own_stream) < self._beats(values):
            return False
        config, stream, self.own_stream = self.config, self.own_stream, []
        tile_beats, parameter_beats = config.tile_beats, config.parameter_beats
        self.parameters[values["bank"]] = b"".join(stream[tile_beats : tile_beats + parameter_beats])
        del stream[tile_beats : tile_beats + parameter_beats]
        tiles = [
            self._tile(stream[start : start + tile_beats]) for start in range(0, len(stream), tile_beats)
        ]
        total = self._depthwise(values, tiles) if values["depthwise"] else self._dense(values, tiles)
        assert len(total) <= config.accumulator_depth, "more positions than the accumulators hold"
        self.banks[values["bank"]][: len(total)] = wrap(total, config.accumulator_bits)
        self._use_bank(values, len(total), write=True)
        return True

    def _tile(self, beats: list[bytes]) -> Integers:
        config = self.config
        codes = self._unpack(b"".join(beats), config.weight.bits)[: config.rows * config.columns]
        decoded = np.array([config.weight.decode(code) for code in range(1 << config.weight.bits)], np.int64)
        return decoded[codes].reshape(config.rows, config.columns)

    def _operand_signed(self, values: Values, digit: int) -> bool:
        signed = bool(values["signed"] and (digit == 0 or values["weight_digits"]))
        assert self.config.signed_activations if signed else self.config.unsigned_activations
        return signed

    def _digit_bits(self, values: Values) -> int:
        """How far the sums so far move up between two digits."""
        config = self.config
        if values["weight_digits"]:
            assert config.weight.bits < 8, "weights of 8 bits have no digits"
            return max(config.weight.bits - 1, 1)
        assert values["digits"] == 1 or config.unsigned_activations, "low digits are unsigned"
        return config.element_bits

    def _weights(self, values: Values, tile: Integers, digit: int, chunk: int) -> Integers:
        """What a pass multiplies by: a tile, or of binary weights bits of wider ones and the lanes that count."""
        if not self.config.weight.is_binary:
            return tile
        if values["weight_digits"]:
            bits = (tile < 0).astype(np.int64)
            tile = -bits if digit == 0 else bits
        if values["last_lanes"] and chunk == values["chunks"] - 1:
            tile = np.where(np.arange(self.config.rows)[:, None] < values["last_lanes"], tile, 0)
        return tile

    def _dense(self, values: Values, tiles: list[Integers]) -> Integers:
        rows, columns = self.config.rows, self.config.columns
        positions = values["output_rows"] * values["output_columns"]
        total = np.zeros((positions, columns), np.int64)
        digit_bits = self._digit_bits(values)
        for number, (digit, ky, kx, chunk) in enumerate(self._passes(values)):
            tile = self._weights(values, tiles[0 if values["one_tile"] else number], digit, chunk)
            addresses, inside = self._window(values, rows, rows, ky, kx, chunk)
            self._read(addresses[inside & tile.any(axis=1)])
            data = self._elements(values, addresses, inside, self._operand_signed(values, digit))
            if digit and (ky, kx, chunk) == (0, 0, 0):
                total = total << digit_bits
            total = total + data.reshape(positions, rows) @ tile
        return total

    def _depthwise(self, values: Values, tiles: list[Integers]) -> Integers:
        config = self.config
        assert config.depthwise_taps, "the machine multiplies no channel by itself"
        assert values["chunks"] == 1
        assert values["digits"] == 1 or values["weight_digits"]
        vectors = np.arange(values["output_columns"])
        first, step = values["first_output"], values["output_step"]
        assert step >= 1
        kept = vectors[(vectors >= first) & ((vectors - first) % step == 0)]
        assert len(kept), "no vector is kept"
        assert kept[-1] == vectors[-1], "the last vector of a row is not kept"
        total = np.zeros((values["output_rows"], len(kept), config.columns), np.int64)
        digit_bits = self._digit_bits(values)
        for number, (digit, ky, kx, chunk) in enumerate(self._passes(values)):
            tile = self._weights(values, tiles[0 if values["one_tile"] else number], digit, chunk)
            if digit and (ky, kx) == (0, 0):
                total = total << digit_bits
            assert not tile[min(config.depthwise_taps, first + 1) :].any(), "a probe beyond the first output"
            addresses, inside = self._window(values, config.columns, 0, ky, kx, 0)
            data = self._elements(values, addresses, inside, self._operand_signed(values, 0))
            for row in range(min(config.depthwise_taps, first + 1)):
                seen = addresses[:, kept - row]
                self._read(seen[inside[:, kept - row] & (tile[row] != 0)])
                total += data[:, kept - row] * tile[row]
        return total.reshape(-1, config.columns)

    # RESCALE.

    def rescale(self, values: Values) -> bool:
        channels, positions = values["channels"], values["positions"]
        assert channels <= self.config.columns
        self._use_bank(values, positions, write=False)
        sums = self.banks[values["bank"]][:positions, :channels]
        size, packed = (
            self.config.record_bits,
            int.from_bytes(self.parameters[values["bank"]], "little"),
        )
        records = [packed >> (size * channel) & ((1 << size) - 1) for channel in range(channels)]
        scheme = Scheme(values["scheme"])
        assert scheme.name.lower() in self.config.rescales, "a scheme that the machine has not"
        rescale = {Scheme.SBNQ: self._sbnq, Scheme.AFFINE: self._affine, Scheme.LLSQ: self._llsq}[scheme]
        results = rescale(values, sums, records)
        bits = self.config.element_bits
        if values["wide"]:
            assert scheme is Scheme.LLSQ, "only LLSQ's results are wide"
            assert bits < 8, "elements of 8 bits hold all results"
            digits = [results >> start & ((1 << bits) - 1) for start in range(0, 8, bits)]
            results = np.stack(digits, axis=-1).reshape(positions, -1)
        row, column = np.divmod(np.arange(positions)[:, None], values["columns"])
        places = values["destination"] + row * values["destination_pitch"] + column * values["pixel_pitch"]
        self._put(places + np.arange(results.shape[-1]), results)
        return True

    def _llsq(self, values: Values, sums: Integers, records: list[int]) -> Integers:
        accumulator = self.config.accumulator_bits
        start = 16 if accumulator <= 16 else 48
        bias = self._field(records, 0, start)
        mantissa, shift = (
            np.array([record >> first & ((1 << bits) - 1) for record in records], np.int64)
            for first, bits in ((start, 8), (start + 8, 5))
        )
        product = wrap(sums + bias, accumulator) * mantissa
        half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
        return np.clip((product + half) >> shift, values["low"], values["high"])

    def _field(self, records: list[int], start: int, bits: int) -> Integers:
        """A field of two's complement of each record."""
        return np.array([_signed(record >> start, bits) for record in records], np.int64)

    def _sbnq(self, values: Values, sums: Integers, records: list[int]) -> Integers:
        bits = self.config.element_bits
        bias_bits = 24 if self.config.accumulator_bits <= 24 else 56
        bias = self._field(records, 0, bias_bits)
        shift = self._field(records, bias_bits, 6)
        sums = sums - bias
        if values["relu"]:
            sums = np.maximum(sums, 0)
        # A left shift of what is beyond the output's type leaves it there.
        left = np.clip(sums, -(1 << 16), 1 << 16) << np.maximum(-shift, 0)
        result = np.where(shift < 0, left, sums >> np.maximum(shift, 0))
        low, high = (
            (1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1) if values["signed"] else (0, (1 << bits) - 1)
        )
        return np.clip(np.clip(result, low, high), values["low"], values["high"])

    def _affine(self, values: Values, sums: Integers, records: list[int]) -> Integers:
        bias, multiplier, exponent = (
            self._field(records, start, bits) for start, bits in ((0, 32), (32, 32), (64, 6))
        )
        scaled = affine(wrap(sums + bias, 32), multiplier, exponent, values["double"])
        return np.clip(values["zero_point"] + scaled, values["low"], values["high"])

    # MAX_POOL.

    def max_pool(self, values: Values) -> bool:
        lanes, channels = self.config.vector_lanes, values["channels"]
        shape = values["output_rows"], values["output_columns"]
        results, places = [], []
        oy, ox = np.arange(shape[0])[:, None, None], np.arange(shape[1])[:, None]
        pixels = values["destination"] + oy * values["destination_pitch"] + ox * values["pixel_pitch"]
        for chunk in range(values["chunks"]):
            use = min(lanes, channels - chunk * lanes)
            if use <= 0:
                continue
            greatest = np.full((*shape, use), -(1 << 31), np.int64)
            for ky, kx in itertools.product(range(values["kernel_rows"]), range(values["kernel_columns"])):
                addresses, inside = self._window(values, use, lanes, ky, kx, chunk)
                self._read(addresses[inside])
                data = self._elements(values, addresses, inside, bool(values["signed"]))
                greatest = np.maximum(greatest, data)
            results.append(greatest.ravel())
            places.append((pixels + chunk * lanes + np.arange(use)).ravel())
        self._put(np.concatenate(places), np.concatenate(results))
        return True

    # ELEMENTWISE.

    def elementwise(self, values: Values) -> bool:
        assert self.config.affine, "the machine has no elementwise engine"
        operation = Operation(values["operation"])
        if operation is Operation.LOAD_TABLE:
            self._load_table(values)
            return True
        a = self._operand(values, "a")
        if operation is Operation.LOOKUP:
            result = self.tables[0][a % TABLE_ENTRIES]
        elif operation is Operation.SOFTMAX:
            assert values["channels"] <= 4095
            octets = self.tables[:SOFTMAX_PLANES] << (8 * np.arange(SOFTMAX_PLANES)[:, None])
            result = softmax(a, wrap(octets.sum(axis=0), 32))
        else:
            result = self._combined(values, operation, a, self._operand(values, "b"))
        pixels = values["destination"] + np.arange(values["pixels"])[:, None] * values["pitch"]
        self._put(pixels + np.arange(values["channels"]), result)
        return True

    def _operand(self, values: Values, name: str) -> Integers:
        """The int8 of an operand: (pixels, channels)."""
        runs = values[f"{name}_source"] + np.arange(values["pixels"])[:, None] * values[f"{name}_pitch"]
        step = np.arange(values["channels"]) * (1 - values[f"{name}_splat"])
        places = (runs + step) % len(self.scratchpad)
        self._read(places)
        return wrap(self.scratchpad[places], 8)

    def _load_table(self, values: Values) -> None:
        assert values["pixels"] in (1, SOFTMAX_PLANES)
        assert values["channels"] == TABLE_ENTRIES
        places = values["a_source"] + np.arange(values["pixels"])[:, None] * values["a_pitch"]
        places = (places + np.arange(TABLE_ENTRIES)) % len(self.scratchpad)
        self._read(places)
        self.tables[:] = self.scratchpad[places]  # one plane goes to all

    def _combined(self, values: Values, operation: Operation, a: Integers, b: Integers) -> Integers:
        a, b = a - values["a_zero_point"], b - values["b_zero_point"]
        if operation is Operation.MULTIPLY:
            total = a * b
        else:
            a, b = (
                half_away(sqrdmulh(x << 20, values[f"{name}_multiplier"]), values[f"{name}_shift"])
                for name, x in (("a", a), ("b", b))
            )
            total = wrap(a + b if operation is Operation.ADD else a - b, 32)
        scaled = affine(total, values["multiplier"], values["exponent"], values["double"])
        return np.clip(values["zero_point"] + scaled, values["low"], values["high"])


def _signed(pattern: int, bits: int) -> int:
    pattern &= (1 << bits) - 1
    return pattern - (pattern >> (bits - 1) << bits)


def _touch(log: dict[Space, Integers], space: Space, elements: npt.ArrayLike) -> None:
    touched = np.unique(np.asarray(elements, np.int64))
    log[space] = np.union1d(log[space], touched) if space in log else touched


# The order of commands.


def clocks(program: Program) -> list[Clock]:
    """For each command, how many commands of each engine are surely complete when it starts.

    By its waits, and those of whatever it waits for; by those of its own engine's commands before it, which have
    started; and because it has been dispatched, with all before it in the list, of which no more than so many are in
    each engine and its queue.
    """
    starts: list[Clock] = []
    of_engine: dict[Engine, list[int]] = {engine: [] for engine in Engine}
    for index in range(program.command_count):
        opcode, values = program.command(index)
        own = of_engine[FORMATS[opcode].engine]
        clock = dict(starts[own[-1]]) if own else dict.fromkeys(Engine, 0)
        for engine, earlier in of_engine.items():
            known = max(0, len(earlier) - QUEUES[engine] - PIPELINED)
            if engine in WAITS:
                assert values[WAITS[engine]] <= len(earlier), "a wait for a later command"
                known = max(known, values[WAITS[engine]])
            if known > clock[engine]:
                _join(clock, starts[earlier[known - 1]])
                clock[engine] = known
        starts.append(clock)
        own.append(index)
    return starts


def _join(clock: Clock, other: Clock) -> None:
    for engine, count in other.items():
        clock[engine] = max(clock[engine], count)


class Touched:
    """The last command of each engine that has read, and that has written, each element of a space."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: dict[tuple[str, Engine], npt.NDArray[np.int32]] = {}

    def record(self, how: str, engine: Engine, elements: Integers, sequence: int) -> None:
        last = self._last.setdefault((how, engine), np.zeros(self._size, np.int32))
        last[elements] = np.maximum(last[elements], sequence)

    def unordered(
        self, how: str, elements: Integers, clock: Clock, besides: Engine | None = None
    ) -> Iterator[tuple[Engine, int, int]]:
        """Engine, sequence number and element of what may not be complete; not of engine `besides`."""
        for (kind, engine), last in self._last.items():
            if kind == how and engine is not besides:
                late = elements[last[elements] > clock[engine]]
                if len(late):
                    yield engine, int(last[late[0]]), int(late[0])


def check_order(program: Program, machine: Machine) -> None:
    """Whatever a command reads has been written, and whatever it writes has been read and written, by commands that it
    surely comes after. A tensor of a probe is whole when its command completes.

    One engine's own order settles its own writes, but not its reads of what it has itself written.
    """
    config = machine.config
    sizes = {
        Space.SCRATCHPAD: config.scratchpad_elements,
        Space.MEMORY: len(machine.memory),
        Space.BANKS: 2 * config.accumulator_depth + 2,
    }
    spaces = {space: Touched(size) for space, size in sizes.items()}
    probes: dict[tuple[Engine, int], list[Probe]] = {}
    for probe in program.probes:
        probes.setdefault((probe.engine, probe.sequence), []).append(probe)
    counts = dict.fromkeys(Engine, 0)
    for index, clock in enumerate(clocks(program)):
        engine = FORMATS[program.command(index)[0]].engine
        counts[engine] += 1
        reads, writes = machine.reads.get(index, {}), machine.writes.get(index, {})
        conflicts = [
            *(("reads", "written", s, t, None) for s, t in reads.items()),
            *(("writes", "read", s, t, engine) for s, t in writes.items()),
            *(("writes", "written", s, t, engine) for s, t in writes.items()),
        ]
        for does, how, space, touched, besides in conflicts:
            for other, sequence, element in spaces[space].unordered(how, touched, clock, besides):
                raise AssertionError(
                    f"command {index} ({engine.name}#{counts[engine]}) {does} {space.value} {element}, "
                    f"{how} by {other.name}#{sequence}, unordered"
                )
        for how, touches in (("read", reads), ("written", writes)):
            for space, touched in touches.items():
                spaces[space].record(how, engine, touched, counts[engine])
        complete = clock | {engine: counts[engine]}
        for probe in probes.get((engine, counts[engine]), ()):
            whole = _elements_of(probe)
            for other, sequence, _ in spaces[Space.SCRATCHPAD].unordered("written", whole, complete):
                raise AssertionError(
                    f"{probe.tensor} may not be whole at {engine.name}#{probe.sequence}: {other.name}#{sequence}"
                )
            spaces[Space.SCRATCHPAD].record("read", engine, whole, probe.sequence)


def _elements_of(probe: Probe) -> Integers:
    elements = np.arange(probe.address, probe.address + probe.elements)
    if not probe.gap:
        return elements
    pixel = probe.shape[-1] * probe.digits
    return elements[np.arange(probe.elements) % (pixel + probe.gap) < pixel]
