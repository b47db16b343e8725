# amaranth: UnusedElaboratable=no
"""Bench of LOAD, of `hdl/engines/transfer.py`: which transfers it asks for, and which elements it writes with what."""

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from intaglio.hdl.engines.transfer import Load
from intaglio.sim.engines import rows
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]

BINS = (
    "a transfer is asked for before the data of the one before",
    "the scratchpad makes a beat wait",
    "a beat a cycle",
    "a command at the heels of another",
    "a reset with data on their way",
)


def configurations() -> list[Configuration]:
    machines = [
        machine(activation_types=("int8",)),
        machine(activation_types=("uint4",), rows=17, scratchpad_bytes=2048),
        machine(activation_types=("uint2",), bus_bits=128),
    ]
    return [
        Configuration(
            f"load_{config.vector_lanes}x{config.element_bits}",
            partial(Load, config),
            partial(_check, config),
            [*rows.bins(config), *BINS],
            mutants=config.element_bits != 2,
        )
        for config in machines
    ]


class _Bench(Agent):
    """Memory on one side, the scratchpad on the other, and both as they should come to be."""

    def __init__(self, stand: Stand, config: AcceleratorConfig, beats: Source, transfers: Packed) -> None:
        self._stand = stand
        self._config = config
        self._beats = beats
        self._transfers = transfers
        self._bits, self._lanes = config.element_bits, config.vector_lanes
        self.beat_count = 0
        self.restart()

    def restart(self) -> None:
        self.asked: deque[dict[str, int]] = deque()
        """Transfers that are to come."""
        self.elements: dict[int, int] = {}
        self._commands: deque[tuple[dict[int, int], int]] = deque()
        """What each command writes, and its mark."""

    @property
    def finished(self) -> bool:
        return not self._commands

    def ask(self, fields: Mapping[str, int], index: int, mark: int) -> None:
        written: dict[int, int] = {}
        for row in range(fields["rows"]):
            first = rows.memory_of(fields, row)
            beats = rows.beats_of(self._config, first, fields["row_bytes"])
            region = fields["region"]
            self.asked.append({"offset": first, "beats": beats, "command": index, "region": region})
            self.beat_count += beats
            for byte in range(fields["row_bytes"]):
                value = rows.byte(rows.memory_of(fields, row, byte))
                element = rows.element_of(fields, self._config, row, byte)
                for part in range(8 // self._bits):
                    place = (element + part) % self._config.scratchpad_elements
                    written[place] = value >> part * self._bits & ((1 << self._bits) - 1)
        self._commands.append((written, mark))

    def transfer(self, word: int) -> None:
        assert self.asked, "a transfer that no command has"
        given, expected = self._transfers.unpack(word), self.asked.popleft()
        assert given == expected, f"asked for is {given}, not {expected}"
        self._stand.bins["a transfer is asked for before the data of the one before"] += bool(
            self._beats.queue
        )
        size = self._config.bus_bytes
        start = given["offset"] & -size
        for beat in range(given["beats"]):
            places = range(start + size * beat, start + size * (beat + 1))
            data = int.from_bytes(bytes(rows.byte(place % 2**32) for place in places), "little")
            self._beats.queue.append(data | (beat == given["beats"] - 1) << 8 * size)

    def written(self, values: Mapping[str, Any]) -> None:
        for lane in range(self._lanes):
            if values["mask"] >> lane & 1:
                place = (values["address"] + lane) % self._config.scratchpad_elements
                self.elements[place] = values["data"] >> lane * self._bits & ((1 << self._bits) - 1)

    def sample(self) -> None:
        """After the write of the cycle."""
        read = self._stand.read
        assert read("busy") == read("command__valid"), "busy, or not, with another than the command at hand"
        self._stand.bins["the scratchpad makes a beat wait"] += read("write__valid") and not read(
            "write__ready"
        )
        if not read("done"):
            return
        assert self._commands, "a command ends that nobody began"
        expected, mark = self._commands.popleft()
        assert self.elements == expected, _difference(self.elements, expected)
        assert read("done_mark") == mark, "the mark of another command"
        self.elements = {}


def _difference(given: Mapping[int, int], expected: Mapping[int, int]) -> str:
    place = min(place for place in {*given, *expected} if given.get(place) != expected.get(place))
    return f"element {place} is {given.get(place)}, not {expected.get(place)}, when the command ends"


async def _check(config: AcceleratorConfig, stand: Stand, quick: bool) -> None:
    members = Load(config).signature.members
    shapes = {
        name: Packed(members[name].signature.members["payload"].shape)
        for name in ("command", "transfer", "write")
    }
    source, beats = Source(stand, "command", ahead=True), Source(stand, "beats")
    bench = _Bench(stand, config, beats, shapes["transfer"])
    asks = Sink(stand, "transfer", bench.transfer)
    writes = Sink(stand, "write", lambda word: bench.written(shapes["write"].unpack(word)))
    draw = stand.random
    # Writes before the bench, which looks at what is there when a command ends; the beats' source last.
    for agent in (source, asks, writes, bench, beats):
        stand.add(agent)
    await stand.start()
    for turn in range(50 if quick else 500):
        full = turn % 5 == 0
        for agent in (source, asks, beats, writes):
            agent.pace.full = full
        bench.beat_count = 0
        place = 0
        # At full speed enough beats to tell a beat a cycle from the commands' own latency.
        while place < 4 or (full and bench.beat_count <= 40):
            fields, index, mark = rows.drawn(draw, config), draw.getrandbits(32), draw.randrange(2)
            source.queue.append(shapes["command"].pack({"body": fields, "index": index, "mark": mark}))
            bench.ask(fields, index, mark)
            rows.cover(stand, config, fields, mark)
            stand.bins["a command at the heels of another"] += place > 0
            place += 1
        if turn % 5 == 4:
            await stand.tick(draw.randrange(60))
            stand.bins["a reset with data on their way"] += bool(beats.queue)
            await stand.reset()
            continue
        start, writes.received = stand.cycle, 0
        await stand.until(lambda: bench.finished, 100 * bench.beat_count + 4000)
        assert writes.received == bench.beat_count, "more writes than beats"
        assert not bench.asked
        assert not beats.queue, "beats that nobody took"
        if full:
            took = stand.cycle - start
            assert took <= bench.beat_count + place * 6, f"{bench.beat_count} beats in {took} cycles"
            stand.bins["a beat a cycle"] += 1
        await stand.tick(draw.randrange(4))
