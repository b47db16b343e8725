# amaranth: UnusedElaboratable=no
"""Bench of `hdl/engines/pool.py`: the greatest element of each window, written where it belongs."""

from collections import deque
from collections.abc import Mapping
from functools import partial

from intaglio.hdl.engines.pool import Pool
from intaglio.sim.engines.agents import ReadPort, Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.engines.machines import machine
from intaglio.sim.engines.window import drawn, walk
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]

PAUSE = 6
"""Cycles from the last read of a command to the first of the next, besides the one that any two have between them."""

OPCODE = Opcode.MAX_POOL
BINS = (
    "a window of one element",
    "a window of several rows and columns",
    "a window partly outside",
    "a window wholly outside",
    "the pad is the greatest",
    "signed, the greatest is negative",
    "signed, elements of both signs",
    "unsigned, elements of both halves",
    "the greatest comes first",
    "the greatest comes last",
    "all channels of a chunk",
    "some channels of a chunk",
    "one channel",
    "a chunk behind the last channel",
    "several chunks",
    "several rows of the output",
    "several columns of the output",
    "a destination that wraps",
    "the greatest destination_pitch",
    "the greatest pixel_pitch",
    "a marked command",
    "a command that is not marked",
    "nothing written for 20 cycles while vectors wait",
    "a window element a cycle, through several commands",
    "a reset in the middle of a command",
)


def configurations() -> list[Configuration]:
    machines = [
        machine(activation_types=("int8",)),
        machine(activation_types=("uint4", "int4"), rows=5, scratchpad_bytes=4096),
        machine(activation_types=("uint2",), rows=40),
    ]
    return [
        Configuration(
            f"pool_{config.vector_lanes}x{config.element_bits}",
            partial(Pool, config),
            partial(_check, config),
            BINS,
            mutants=config.element_bits != 2,
        )
        for config in machines
    ]


class _Bench(Agent):
    """The vectors that are to be written, and which of them ends a command."""

    def __init__(self, stand: Stand, config: AcceleratorConfig) -> None:
        self._stand = stand
        self._lanes, self._bits = config.vector_lanes, config.element_bits
        self._size = config.scratchpad_elements
        self.elements = [stand.random.getrandbits(self._bits) for _ in range(self._size)]
        self._expected: deque[tuple[int, dict[int, int]]] = deque()
        """Command and elements by place, of each vector that writes some."""
        self._marks: deque[int] = deque()
        self.vectors = 0
        self._paused = 0
        self.restart()

    def restart(self) -> None:
        self._expected.clear()
        self._marks.clear()
        self._begun = self._ended = 0

    @property
    def finished(self) -> bool:
        return not self._marks

    def vector(self, address: int) -> int:
        places = ((address + lane) % self._size for lane in range(self._lanes))
        return sum(self.elements[place] << lane * self._bits for lane, place in enumerate(places))

    def ask(self, fields: Mapping[str, int], mark: int) -> None:
        """Expects a command's writes [docs/architecture.md: MAX_POOL]."""
        kernel = fields["kernel_rows"] * fields["kernel_columns"]
        steps = list(walk(OPCODE, fields, self._lanes))
        self.vectors += len(steps)
        for start in range(0, len(steps), kernel):
            window = steps[start : start + kernel]
            where, _, _ = window[0]
            greatest = [self._greatest(fields, window, lane) for lane in range(self._lanes)]
            first = where["chunks"] * self._lanes
            corner = fields["destination"] + where["output_rows"] * fields["destination_pitch"]
            corner += where["output_columns"] * fields["pixel_pitch"] + first
            channels = min(self._lanes, max(fields["channels"] - first, 0))
            written = {(corner + lane) % self._size: greatest[lane] for lane in range(channels)}
            self._stand.bins["a destination that wraps"] += corner % self._size + channels > self._size
            self._cover_channels(channels)
            if written:
                self._expected.append((self._begun, written))
        self._begun += 1
        self._marks.append(mark)
        self._cover(fields, mark)

    def _greatest(
        self, fields: Mapping[str, int], window: list[tuple[dict[str, int], int, int]], lane: int
    ) -> int:
        """Of a window, in one lane, as bits."""
        bins, half = self._stand.bins, 1 << (self._bits - 1)

        def value(bits: int) -> int:
            return bits - 2 * half if fields["signed"] and bits >= half else bits

        pad = fields["pad"] & (2 * half - 1)
        found = []
        for _, y, pos in window:
            inside = 0 <= y < fields["height"] and 0 <= pos + lane < fields["width_elements"]
            place = fields["source"] + y * fields["row_pitch"] + pos + lane
            found.append((value(self.elements[place % self._size] if inside else pad), inside))
        values = [element for element, _ in found]
        greatest, insides = max(values), {inside for _, inside in found}
        bins["a window of one element"] += len(found) == 1
        bins["a window partly outside"] += len(insides) == 2
        bins["a window wholly outside"] += insides == {False}
        bins["the pad is the greatest"] += len(insides) == 2 and (greatest, True) not in found
        bins["signed, the greatest is negative"] += bool(fields["signed"]) and greatest < 0
        bins["signed, elements of both signs"] += min(values) < 0 <= greatest
        bins["unsigned, elements of both halves"] += not fields["signed"] and min(values) < half <= greatest
        alone = values.count(greatest) == 1 and len(values) > 1
        bins["the greatest comes first"] += alone and values[0] == greatest
        bins["the greatest comes last"] += alone and values[-1] == greatest
        return greatest & (2 * half - 1)

    def _cover_channels(self, channels: int) -> None:
        bins = self._stand.bins
        bins["all channels of a chunk"] += channels == self._lanes
        bins["some channels of a chunk"] += 1 < channels < self._lanes
        bins["one channel"] += channels == 1
        bins["a chunk behind the last channel"] += channels == 0

    def _cover(self, fields: Mapping[str, int], mark: int) -> None:
        bins = self._stand.bins
        bins["a window of several rows and columns"] += (
            fields["kernel_rows"] > 1 and fields["kernel_columns"] > 1
        )
        bins["several chunks"] += fields["chunks"] > 1
        bins["several rows of the output"] += fields["output_rows"] > 1
        bins["several columns of the output"] += fields["output_columns"] > 1
        bins["the greatest destination_pitch"] += fields["destination_pitch"] == (1 << 24) - 1
        bins["the greatest pixel_pitch"] += fields["pixel_pitch"] == (1 << 24) - 1
        bins["a marked command"] += mark
        bins["a command that is not marked"] += not mark

    def written(self, address: int, mask: int, data: int) -> None:
        given = {}
        for lane in range(self._lanes):
            if mask >> lane & 1:
                given[(address + lane) % self._size] = data >> lane * self._bits & ((1 << self._bits) - 1)
        if not given:
            return
        assert self._expected, "a vector that no command has"
        command, expected = self._expected.popleft()
        assert command == self._ended, "a command's vector comes after its end"
        assert given == expected, f"written are {given}, not {expected}"

    def sample(self) -> None:
        """After the writes of the cycle."""
        read = self._stand.read
        writes = read("write__valid") and read("write__ready")
        if read("done"):
            assert self._marks, "a command ends that nobody began"
            assert writes, "a command ends where nothing is written"
            assert read("done_mark") == self._marks.popleft(), "the mark of another command"
            self._ended += 1
            left = [command for command, _ in self._expected if command < self._ended]
            assert not left, "a command ends before all of it is written"
        waits = read("write__valid") and not writes
        self._paused = self._paused + 1 if waits else 0
        self._stand.bins["nothing written for 20 cycles while vectors wait"] += self._paused == 20


def _command(stand: Stand, config: AcceleratorConfig) -> dict[str, int]:
    """Mostly of windows that meet the tensor, and of channels that end in the chunks."""
    draw, lanes = stand.random, config.vector_lanes
    fields = drawn(draw, OPCODE, lanes, lanes, 24)
    if draw.random() < 0.6:
        fields |= {"first_row": draw.randint(-1, 1), "first_element": draw.randint(-2, 2)}
        fields |= {"row_stride": 1, "kernel_row_step": 1, "height": draw.randint(1, 4)}
        fields |= {"kernel_column_step": draw.randint(1, lanes), "column_stride": draw.randint(1, lanes)}
        fields["width_elements"] = draw.randint(1, 6 * lanes)
    chunks = fields["chunks"]
    behind = draw.randint(1, chunks * lanes)
    fields["channels"] = draw.choice((1, chunks * lanes, chunks * lanes - 1 or 1, behind, (1 << 16) - 1))
    fields["destination"] = draw.choice((fields["destination"], (1 << 24) - draw.randint(1, lanes)))
    for name in ("destination_pitch", "pixel_pitch"):
        fields[name] = draw.choice((fields[name], (1 << 24) - 1, fields["channels"], 0))
    return fields


async def _check(config: AcceleratorConfig, stand: Stand, quick: bool) -> None:
    commands = Packed(Pool(config).signature.members["command"].signature.members["payload"].shape)
    bench = _Bench(stand, config)
    write = Packed(Pool(config).signature.members["write"].signature.members["payload"].shape)
    source, port = Source(stand, "command", ahead=True), ReadPort(stand, bench.vector)
    sink = Sink(stand, "write", lambda word: bench.written(*write.unpack(word).values()))
    draw = stand.random
    for agent in (source, port, sink, bench):
        stand.add(agent)
    await stand.start()
    for turn in range(40 if quick else 400):
        full = turn % 5 == 0
        source.pace.full = port.pace.full = sink.pace.full = full
        bench.vectors = 0
        for _ in range(5):
            fields, mark = _command(stand, config), draw.randrange(2)
            word = {"body": fields, "index": draw.getrandbits(32), "mark": mark}
            source.queue.append(commands.pack(word))
            bench.ask(fields, mark)
        if turn % 5 == 4:
            await stand.tick(draw.randrange(60))
            stand.bins["a reset in the middle of a command"] += source.offers and stand.read("busy")
            await stand.reset()
            continue
        port.asked_in.clear()
        if turn % 5 == 3:
            # The scratchpad takes nothing until all the room there is has gone.
            sink.allowed = lambda: False
            await stand.tick(60)
            sink.allowed = lambda: True
        await stand.until(lambda: bench.finished, 60 * bench.vectors + 4000)
        await stand.tick(2)
        assert not source.queue
        assert not stand.read("busy"), "busy with nothing"
        assert len(port.asked_in) == bench.vectors, (
            f"{len(port.asked_in)} vectors are read, not {bench.vectors}"
        )
        if full:
            took = port.asked_in[-1] - port.asked_in[0] + 1
            assert took == bench.vectors + 4 * PAUSE, f"{bench.vectors} vectors are read in {took} cycles"
            stand.bins["a window element a cycle, through several commands"] += 1
