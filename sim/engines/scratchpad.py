# amaranth: UnusedElaboratable=no
"""Bench of `hdl/storage/scratchpad.py`: vectors at any element, round the end, and who is served."""

from collections import deque
from functools import partial

from intaglio.hdl.storage.scratchpad import READ_LATENCY, Scratchpad
from intaglio.sim.engines.agents import Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]


def configurations() -> list[Configuration]:
    parameters = [
        (machine(activation_types=("int8",), scratchpad_bytes=1024), 4, 4),
        (machine(activation_types=("uint4",), scratchpad_bytes=2048), 3, 3),
        (machine(activation_types=("uint2",), rows=40, scratchpad_bytes=1024), 2, 2),
        (machine(activation_types=("int8",), rows=9, scratchpad_bytes=1024), 1, 1),
    ]
    return [
        Configuration(
            f"scratchpad_{config.scratchpad_elements}x{config.element_bits}_{readers}r{writers}w",
            partial(Scratchpad, config, readers, writers),
            partial(_check, config, readers, writers),
            _bins(config, readers, writers),
            mutants=readers == 4 or config.element_bits == 2,
        )
        for config, readers, writers in parameters
    ]


def _bins(config: AcceleratorConfig, readers: int, writers: int) -> list[str]:
    bins = [
        f"a {what} from lane {lane} of an {word} word on"
        for what in ("read", "write")
        for lane in range(config.vector_lanes)
        for word in ("even", "odd")
    ]
    bins += [
        "a read that goes round the end",
        "a write that goes round the end",
        "a read of an element that is written in the same cycle",
        "a read of an element that was written in the cycle before",
        "a write of every lane",
        "a write of no lane",
        "a write of the first lane alone",
        "a write of the last lane alone",
        "twenty reads in twenty cycles",
        "a reset between a read and its vector",
    ]
    bins += [f"reader {index} alone" for index in range(readers)]
    bins += [f"writer {index} alone" for index in range(writers)]
    if readers > 1:
        bins += ["all readers at once", *(f"reader {index} waits" for index in range(readers))]
    if writers > 1:
        bins += ["all writers at once", *(f"writer {index} waits" for index in range(1, writers))]
    return bins


class _Model(Agent):
    """The elements, what is on its way out, and whose turn it is."""

    def __init__(
        self, stand: Stand, config: AcceleratorConfig, readers: list[Source], writers: list[Source]
    ) -> None:
        self._stand = stand
        self._readers = readers
        self._writers = writers
        self._lanes = config.vector_lanes
        self._bits = config.element_bits
        self._size = config.scratchpad_elements
        self._address_bits = self._size.bit_length() - 1
        self.elements: list[int | None] = [None] * self._size
        self.restart()

    def restart(self) -> None:
        """The elements stay."""
        self._due: deque[tuple[int, list[int | None], int]] = deque()
        self._turn = 0
        self._written: set[int] = set()
        self._run = 0

    @property
    def on_the_way(self) -> bool:
        return bool(self._due)

    def sample(self) -> None:
        if self._due and self._due[0][0] == self._stand.cycle:
            _, vector, address = self._due.popleft()
            self._compare(vector, address)
        read = self._serve_readers()
        written = self._serve_writers()
        bins, overlap = self._stand.bins, set(read)
        bins["a read of an element that is written in the same cycle"] += bool(overlap & written)
        bins["a read of an element that was written in the cycle before"] += bool(overlap & self._written)
        self._written = written

    def _compare(self, vector: list[int | None], address: int) -> None:
        word = self._stand.read("data")
        for lane, expected in enumerate(vector):
            given = word >> lane * self._bits & ((1 << self._bits) - 1)
            assert expected in (None, given), (
                f"lane {lane} of the vector at {address} is {given}, not {expected}"
            )

    def _serve_readers(self) -> list[int]:
        """Takes the address of the reader whose turn it is; the elements that it reads."""
        bins = self._stand.bins
        asking = [index for index, reader in enumerate(self._readers) if reader.offers]
        served = [index for index in asking if self._readers[index].moves]
        self._run = self._run + 1 if asking else 0
        bins["twenty reads in twenty cycles"] += self._run >= 20
        if not asking:
            return []
        index, count = self._turn, len(self._readers)
        assert served == [each for each in asking if each == index], (
            f"it is {index}'s turn, served are {served}"
        )
        for waits in asking:
            bins[f"reader {waits} waits"] += waits != index
        nearest = [(index + step) % count for step in range(1, count)]
        self._turn = next((turn for turn in nearest if turn in asking), index)
        if not served:
            return []
        bins["all readers at once"] += len(asking) == count
        bins[f"reader {index} alone"] += asking == [index]
        address = self._readers[index].queue[0]
        places = [(address + lane) % self._size for lane in range(self._lanes)]
        self._due.append(
            (self._stand.cycle + READ_LATENCY, [self.elements[place] for place in places], address)
        )
        self._cover("read", address)
        return places

    def _serve_writers(self) -> set[int]:
        """Writes the vector of the first writer; the elements that it writes."""
        bins = self._stand.bins
        asking = [index for index, writer in enumerate(self._writers) if writer.offers]
        served = [index for index in asking if self._writers[index].moves]
        assert served == asking[:1], f"of writers {asking} are served {served}"
        if not asking:
            return set()
        bins["all writers at once"] += len(asking) == len(self._writers)
        bins[f"writer {asking[0]} alone"] += len(asking) == 1
        for waits in asking[1:]:
            bins[f"writer {waits} waits"] += 1
        address, mask, data = self.fields(self._writers[asking[0]].queue[0])
        written = set()
        for lane in range(self._lanes):
            if mask >> lane & 1:
                place = (address + lane) % self._size
                self.elements[place] = data >> lane * self._bits & ((1 << self._bits) - 1)
                written.add(place)
        self._cover("write", address)
        bins["a write of every lane"] += len(written) == self._lanes
        bins["a write of no lane"] += not mask
        bins["a write of the first lane alone"] += mask == 1
        bins["a write of the last lane alone"] += mask == 1 << (self._lanes - 1)
        return written

    def _cover(self, what: str, address: int) -> None:
        word, lane = divmod(address, self._lanes)
        self._stand.bins[f"a {what} from lane {lane} of an {('even', 'odd')[word % 2]} word on"] += 1
        self._stand.bins[f"a {what} that goes round the end"] += address + self._lanes > self._size

    def fields(self, word: int) -> tuple[int, int, int]:
        """Address, mask and data of a write."""
        address = word & (self._size - 1)
        mask = word >> self._address_bits & ((1 << self._lanes) - 1)
        return address, mask, word >> (self._address_bits + self._lanes)

    def write(self, address: int, mask: int, data: int) -> int:
        return address | mask << self._address_bits | data << (self._address_bits + self._lanes)


async def _check(config: AcceleratorConfig, readers: int, writers: int, stand: Stand, quick: bool) -> None:
    sources = [Source(stand, f"read__{index}") for index in range(readers)]
    sinks = [Source(stand, f"write__{index}") for index in range(writers)]
    model = stand.add(_Model(stand, config, sources, sinks))
    for agent in (*sources, *sinks):
        stand.add(agent)
    await stand.start()
    draw, lanes, size = stand.random, config.vector_lanes, config.scratchpad_elements
    for address in range(0, size, lanes):
        sinks[-1].queue.append(
            model.write(address, (1 << lanes) - 1, draw.getrandbits(lanes * config.element_bits))
        )
    await stand.until(lambda: not sinks[-1].queue)
    assert None not in model.elements
    for turn in range(24 if quick else 240):
        around = draw.choice((draw.randrange(size), size - lanes))
        for source in sources:
            source.queue.extend((around + draw.randrange(3 * lanes)) % size for _ in range(40))
        for sink in sinks:
            for _ in range(40):
                some = draw.getrandbits(lanes)
                mask = draw.choice((some, some, (1 << lanes) - 1, 1, 1 << (lanes - 1), 0))
                address = (around + draw.randrange(3 * lanes)) % size
                sink.queue.append(model.write(address, mask, draw.getrandbits(lanes * config.element_bits)))
        if turn % 6 == 5:
            await stand.tick(draw.randrange(60))
            stand.bins["a reset between a read and its vector"] += model.on_the_way
            await stand.reset()
            continue
        await stand.until(lambda: not any(agent.queue for agent in (*sources, *sinks)), 40_000)
        await stand.tick(READ_LATENCY + 1)
        assert not model.on_the_way
