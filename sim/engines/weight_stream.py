# amaranth: UnusedElaboratable=no
"""Bench of `hdl/storage/weight_stream.py`: tiles to the array, each command's parameters to the slot of its bank."""

from collections import deque
from dataclasses import dataclass
from functools import partial

from intaglio.hdl.storage.weight_stream import WeightStream
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]


def configurations() -> list[Configuration]:
    machines = [
        # One beat a word; a group of all channels.
        machine(rows=5, columns=3, weight_buffer_bytes=512),
        # Two beats a word; four groups.
        machine(rows=8, columns=16, weight_type="int8", accumulator_bits=28, rescale_lanes=4, weight_buffer_bytes=512),
        # Four beats a word, the whole bus; two groups.
        machine(
            rows=16, columns=16, activation_types=("int8",), weight_type="int8", accumulator_bits=32,
            rescales=("affine",), rescale_lanes=8, weight_buffer_bytes=1024,
        ),
        # Records of odd sizes, in one group.
        machine(rows=3, columns=7, activation_types=("uint2",), weight_type="ternary", rescales=("llsq",)),
    ]  # fmt: skip
    return [
        Configuration(
            f"weight_stream_{config.rows}x{config.columns}_{config.weight_bits}",
            partial(WeightStream, config),
            partial(_check, config),
            _bins(config),
            mutants=config.rows in (8, 5),
        )
        for config in machines
    ]


def _bins(config: AcceleratorConfig) -> list[str]:
    groups = range(config.columns // config.rescale_lanes)
    bins = [
        "the buffer is full",
        "the buffer is empty, and a tile is wanted",
        "the parameters are there before the tile is in use",
        "some of the parameters come after the tile is in use",
        "a command of one tile",
        "a command of two tiles",
        "tiles of all words",
        "a length that is known in time",
        "a length that comes late",
        "the same bank twice",
        "a tile in as many cycles as it has words",
        "a reset while the parameters are taken",
        *(f"group {group} of slot {slot} is read" for slot in (0, 1) for group in groups),
        "the other slot is read while parameters arrive",
        "what was read stays for two cycles",
    ]
    if config.tile_words(config.columns) > 1:
        bins.append("short tiles")
    if config.weight_bits > config.bus_bits:
        bins.append("a reset with a word half collected")
    return bins


@dataclass
class _Command:
    bank: int
    tiles: list[list[int]]
    """Words of each tile."""
    records: list[int]
    """Bits of each group's records."""
    beats: list[int]


class _Array(Agent):
    """What takes the tiles: the first and the last of a command come into use some time after they are whole, and until
    then no more is taken."""

    def __init__(self, stand: Stand, config: AcceleratorConfig) -> None:
        self._stand = stand
        self._config = config
        self.sink = Sink(stand, "tiles", self._taken)
        self.stopped = False
        self.sink.allowed = lambda: not self.stopped and not self._whole
        # What is offered behind a command's first or last tile is known for what it is once the tile is in use.
        self.sink.withdrawn = lambda: self._swapped
        self.commands: deque[_Command] = deque()
        self.words_taken = 0
        self.restart()

    def restart(self) -> None:
        self.sink.restart()
        self.commands.clear()
        self.slots: dict[int, list[int]] = {}
        self._expected: deque[tuple[int, bool]] = deque()
        """Words of the command at hand that are still to come, and whether each ends a tile; its first tile's first."""
        self._of_first = 0
        self._whole = False
        self._starts = False
        self._ends = False
        self._swapped = False
        self._first_is_next = True
        self.arriving: _Command | None = None
        self._tile_words = 0
        self._since = 0
        self.words_taken = 0
        self.parameters_taken = 0

    @property
    def finished(self) -> bool:
        return not self.commands and not self._expected and self.arriving is None and not self._whole

    @property
    def idle(self) -> bool:
        """Whether it waits for a command's first word."""
        return not self._expected and not self._whole and bool(self.commands)

    @property
    def _swaps(self) -> bool:
        return self._starts or self._ends

    def _taken(self, payload: int) -> None:
        if not self._expected:
            assert self.commands, "a word that is no tile's"
            command = self.commands[0]
            self._of_first = len(command.tiles[0])
            self._expected.extend(
                (word, word_index == len(tile) - 1)
                for tile in command.tiles
                for word_index, word in enumerate(tile)
            )
            self._since = self._stand.cycle
        expected, last = self._expected.popleft()
        ends, word = divmod(payload, 1 << self._config.weight_bits)
        assert word == expected, f"a word of a tile is {word:#x}, not {expected:#x}"
        assert ends == last, f"a tile {'ends' if ends else 'goes on'} with word {word:#x}"
        self.words_taken += 1
        self._whole = self._of_first == 1 or not self._expected
        if self._of_first == 1:
            words = len(self.commands[0].tiles[0])
            took = self._stand.cycle - self._since + 1
            self._stand.bins["a tile in as many cycles as it has words"] += took == words
        self._of_first = max(self._of_first - 1, 0)

    def sample(self) -> None:
        read = self._stand.read
        loaded = bool(read("loaded"))
        # Before the parameters are whole nothing but their own beats may leave.
        assert not loaded or self.arriving is not None, "parameters that are no command's"
        if self.arriving is not None and not self._starts:
            assert not self.sink.offered, "a tile is offered while parameters arrive"
        self.sink.sample()
        if loaded:
            assert self.arriving is not None
            self.slots[self.arriving.bank] = self.arriving.records
            self.parameters_taken += self._config.slot_beats * len(self.arriving.records)
            self.arriving = None

    def drive(self) -> None:
        swaps = self._whole and not self._swaps and self._stand.random.random() < 0.5
        self._swapped = self._swaps
        if self._swapped:
            self._whole = False
        starts = swaps and self._first_is_next
        self._starts, self._ends = starts, swaps and not self._expected
        self._first_is_next = self._ends or (self._first_is_next and not starts)
        if starts:
            self.arriving = self.commands.popleft()
            self.slots.pop(self.arriving.bank, None)
        self._stand.write("started", int(starts))
        self._stand.write("ended", int(self._ends))
        bank = self.arriving.bank if starts and self.arriving else self._stand.random.randrange(2)
        self._stand.write("started_bank", bank)
        self.sink.drive()


class _Rescale(Agent):
    """Reads the slots that are whole."""

    def __init__(self, stand: Stand, config: AcceleratorConfig, array: _Array) -> None:
        self._stand = stand
        self._array = array
        self._groups = config.columns // config.rescale_lanes
        self.restart()

    def restart(self) -> None:
        self._next: int | None = None
        self._due: int | None = None
        self._held = 0

    def sample(self) -> None:
        if self._due is not None:
            given = self._stand.read("parameters")
            assert given == self._due, f"the parameters read are {given:#x}, not {self._due:#x}"
            self._held += 1
            self._stand.bins["what was read stays for two cycles"] += self._held == 2
        if self._stand.read("read_enable"):
            self._due, self._held = self._next, 0

    def drive(self) -> None:
        draw, slots = self._stand.random, self._array.slots
        slot, group = draw.randrange(2), draw.randrange(self._groups)
        self._next = slots[slot][group] if slot in slots else None
        reads = draw.random() < 0.4
        self._stand.write("read_enable", int(reads))
        self._stand.write("read_slot", slot)
        self._stand.write("read_group", group)
        if reads and slot in slots:
            bins = self._stand.bins
            bins[f"group {group} of slot {slot} is read"] += 1
            bins["the other slot is read while parameters arrive"] += self._array.arriving is not None


class _Room(Agent):
    """Beats that can be taken: as many as the buffer has, less those that are in it."""

    def __init__(self, stand: Stand, config: AcceleratorConfig, source: Source, array: _Array) -> None:
        self._stand = stand
        self._config = config
        self._source = source
        self._array = array
        self._capacity = config.weight_buffer_bytes // config.bus_bytes
        # Who brings the beats looks at the room, as the bus's master does.
        source.allowed = lambda: self.held < self._capacity
        self.restart()

    def restart(self) -> None:
        self.taken = 0
        self._was_full = False

    @property
    def held(self) -> int:
        """Beats in the buffer, those of the parameters that are being taken included."""
        a_word = self._config.weight_bits // self._config.bus_bits
        return self.taken - self._array.words_taken * a_word - self._array.parameters_taken

    def sample(self) -> None:
        array, bins, held = self._array, self._stand.bins, self.held
        space = self._stand.read("space")
        least = self._capacity - held
        leaving = self._config.parameter_beats if array.arriving else 0
        assert least <= space <= min(least + leaving, self._capacity), (
            f"room for {space} beats where {held} are held"
        )
        assert not space or self._stand.read("i__ready"), "no beat is taken though there is room"
        if self._source.moves:
            assert space, "a beat is taken without room"
            self.taken += 1
        known = self._stand.read("lengths__ready") == 0
        bins["a length that is known in time"] += known and array.idle
        bins["a length that comes late"] += not known and array.idle and held > 0
        bins["the buffer is full"] += space == 0
        bins["the buffer is empty, and a tile is wanted"] += held == 0 and self._stand.read("tiles__ready")
        if self._stand.read("started"):
            there = held >= self._config.parameter_beats
            bins["the parameters are there before the tile is in use"] += there
            bins["some of the parameters come after the tile is in use"] += not there


def _drawn(stand: Stand, config: AcceleratorConfig) -> _Command:
    """A command's beats: its first tile, its records, its other tiles [docs/architecture.md: the weight stream]."""
    draw = stand.random
    a_word = config.weight_bits // config.bus_bits

    def part(beats: int) -> list[int]:
        return [draw.getrandbits(config.bus_bits) for _ in range(beats)]

    whole = config.tile_words(config.columns)
    tile_beats = draw.choice((whole, draw.randint(1, whole))) * a_word
    tiles = [part(tile_beats) for _ in range(draw.choice((1, 1, 2, 3)))]
    parameters = part(config.parameter_beats)
    # Records are packed without gaps; a group is `rescale_lanes` of them.
    packed = sum(beat << config.bus_bits * index for index, beat in enumerate(parameters))
    bits = config.rescale_lanes * config.record_bits
    groups = config.columns // config.rescale_lanes
    records = [packed >> group * bits & ((1 << bits) - 1) for group in range(groups)]
    beats = [*tiles[0], *parameters, *(beat for tile in tiles[1:] for beat in tile)]
    words = [
        [
            sum(beat << config.bus_bits * index for index, beat in enumerate(tile[at : at + a_word]))
            for at in range(0, len(tile), a_word)
        ]
        for tile in tiles
    ]
    return _Command(draw.randrange(2), words, records, beats)


async def _check(config: AcceleratorConfig, stand: Stand, quick: bool) -> None:
    source = Source(stand, "i")
    array = _Array(stand, config)
    lengths = Source(stand, "lengths")
    room = _Room(stand, config, source, array)
    a_word = config.weight_bits // config.bus_bits
    capacity = config.weight_buffer_bytes // config.bus_bytes
    for agent in (room, source, lengths, _Rescale(stand, config, array), array):
        stand.add(agent)
    await stand.start()
    bins, bank = stand.bins, None
    for turn in range(24 if quick else 160):
        source.pace.full, array.sink.pace.full = turn % 3 == 0, turn % 4 < 2
        lengths.pace.full = turn % 4 != 2
        array.stopped = turn % 4 == 1
        while len(array.commands) < 6 or (array.stopped and len(source.queue) <= capacity):
            command = _drawn(stand, config)
            bins["the same bank twice"] += command.bank == bank
            bins["a command of one tile"] += len(command.tiles) == 1
            bins["a command of two tiles"] += len(command.tiles) == 2
            words = len(command.tiles[0])
            kind = "tiles of all words" if words == config.tile_words(config.columns) else "short tiles"
            bins[kind] += 1
            bank = command.bank
            array.commands.append(command)
            lengths.queue.append(words - 1)
            source.queue.extend(command.beats)
        if array.stopped:
            await stand.until(lambda: stand.read("space") == 0)
            await stand.tick(20)
            array.stopped = False
        if turn % 4 == 3:
            await stand.tick(stand.random.randrange(40 * config.tile_beats // a_word))
            if turn % 8 == 7:
                await stand.until(lambda: array.arriving is not None or array.finished)
            bins["a reset while the parameters are taken"] += array.arriving is not None
            bins["a reset with a word half collected"] += room.taken % a_word != 0
            await stand.reset()
            continue
        await stand.until(lambda: array.finished and not source.queue, 100_000)
        await stand.tick(5)
        assert stand.read("space") == capacity
