# amaranth: UnusedElaboratable=no
"""Bench of `hdl/storage/memory.py`: what a read gives of a word that is written before, with and after it."""

from functools import partial

from intaglio.hdl.storage.memory import SyncMemory
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.lockstep import Agent, Stand

__all__ = ["configurations"]

BINS = (
    "a read of the word that is written in the same cycle",
    "a read of the word that was written in the cycle before",
    "a read with a write of another word",
    "the word that was read is written while it is held",
    "what was read is held for five cycles",
    "a write without a read, then a read of another word",
    "the same word is read twice, written in between",
    "the same word is read with a write of it in two cycles one after the other",
)


def configurations() -> list[Configuration]:
    # width, depth, granularity, bypass
    parameters = [
        (1, 1, None, False),
        (1, 1, None, True),
        (9, 2, None, True),
        (37, 13, None, True),
        (24, 16, 8, False),
        (10, 5, 1, False),
    ]
    return [
        Configuration(
            f"memory_{width}x{depth}_{'bypass' if bypass else granularity or 'whole'}",
            partial(SyncMemory, width, depth, granularity, bypass),
            partial(_check, depth, granularity or width, bypass),
            _bins(width, depth, granularity or width),
            mutants=(width, depth) in ((37, 13), (24, 16)),
        )
        for width, depth, granularity, bypass in parameters
    ]


def _bins(width: int, depth: int, granularity: int) -> list[str]:
    parts = range(width // granularity)
    bins = [bin_ for bin_ in BINS if depth > 1 or "another word" not in bin_]
    bins += [f"a read of word {word}" for word in range(depth)]
    bins += [f"part {part} of a word alone is written" for part in parts] if len(parts) > 1 else []
    return bins


class _Model(Agent):
    """Words, each bit of which is known once it was written, and what the last read gave."""

    def __init__(self, stand: Stand, depth: int, granularity: int, bypass: bool) -> None:
        self._stand = stand
        self._depth = depth
        self._granularity = granularity
        self._bypass = bypass
        self._width = len(stand.pin("write_data"))
        self._words = [(0, 0)] * depth
        self._recent = list(range(depth))
        self.restart()

    def restart(self) -> None:
        """The words stay; what was read need not."""
        self._expected = (0, 0)
        self._held: int | None = None
        self._held_for = 0
        self._written: int | None = None
        self._since_read: set[int] = set()
        self._met = False

    def sample(self) -> None:
        read = self._stand.read
        value, known = self._expected
        given = read("read_data")
        assert (given ^ value) & known == 0, f"{given:#x} was read, not {value:#x}"
        reading = read("read_address") if read("read_enable") else None
        mask = self._mask(read("write_enable"))
        writing = read("write_address") if mask else None
        self._cover(reading, writing, read("write_enable"))
        old = self._words[reading] if reading is not None else (0, 0)
        if writing is not None:
            data, written = self._words[writing]
            self._words[writing] = (data & ~mask | read("write_data") & mask, written | mask)
        if reading is not None:
            self._expected = self._words[reading] if self._bypass else old
        self._written = writing

    def _mask(self, enables: int) -> int:
        one = (1 << self._granularity) - 1
        parts = range(self._width // self._granularity)
        return sum(one << part * self._granularity for part in parts if enables >> part & 1)

    def _cover(self, reading: int | None, writing: int | None, enables: int) -> None:
        bins = self._stand.bins
        met = reading is not None and reading == writing
        bins[BINS[0]] += met
        bins[BINS[1]] += reading is not None and reading == self._written
        bins[BINS[2]] += reading is not None and writing not in (None, reading)
        bins[BINS[3]] += reading is None and writing is not None and writing == self._held
        bins[BINS[5]] += reading is not None and self._written not in (None, reading) and self._held_for > 0
        bins[BINS[6]] += reading is not None and reading == self._held and reading in self._since_read
        bins[BINS[7]] += met and self._met and reading == self._held
        self._met = met
        if writing is not None:
            self._since_read.add(writing)
            if enables.bit_count() == 1:
                bins[f"part {enables.bit_length() - 1} of a word alone is written"] += 1
        self._held_for = 0 if reading is not None else self._held_for + 1
        bins[BINS[4]] += self._held is not None and self._held_for == 5
        if reading is not None:
            bins[f"a read of word {reading}"] += 1
            self._held = reading
            self._since_read.clear()

    def drive(self) -> None:
        draw, write = self._stand.random, self._stand.write
        # Addresses that were used of late come again, so that reads and writes meet.
        near = self._recent[: draw.choice((1, 1, 1 + self._depth // 4))]
        for port in ("read", "write"):
            address = draw.choice(near) if draw.random() < 0.6 else draw.randrange(self._depth)
            self._recent.remove(address)
            self._recent.insert(0, address)
            write(f"{port}_address", address)
        write("read_enable", int(draw.random() < 0.5))
        parts = self._width // self._granularity
        enables = draw.choice((0, draw.getrandbits(parts), (1 << parts) - 1, 1 << draw.randrange(parts)))
        write("write_enable", enables)
        write("write_data", draw.getrandbits(self._width))


async def _check(depth: int, granularity: int, bypass: bool, stand: Stand, quick: bool) -> None:
    stand.add(_Model(stand, depth, granularity, bypass))
    await stand.start()
    for _ in range(10 if quick else 100):
        await stand.tick(100)
        await stand.reset()
