# amaranth: UnusedElaboratable=no
"""Bench of `hdl/storage/fifo.py`: order, room and latency, cycle by cycle."""

from collections import deque
from functools import partial

from intaglio.hdl.storage.fifo import Fifo
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.lockstep import Agent, Stand

__all__ = ["configurations"]

LATENCY = 2

BINS = (
    "empty, and asked for a value",
    "one value passes through alone",
    "one in and one out with one held",
    "one in and one out with all but one held",
    "full",
    "full, with one offered and one taken out",
    "full, then not full, then full",
    "a value waits at the output",
    "the last value is taken and the next is not there yet",
    "two rounds of the memory without a pause",
    "a reset while full",
    "a reset while one value is held",
    "a reset in the cycle in which a value is taken in",
)


def configurations() -> list[Configuration]:
    return [
        Configuration(
            f"fifo_{bits}x{depth}",
            partial(Fifo, bits, depth),
            partial(_check, depth),
            # A value stays for three cycles at least, so that two places are not enough for one a cycle.
            [bin_ for bin_ in BINS if depth > LATENCY or "without a pause" not in bin_],
            mutants=depth in (2, 8),
        )
        for bits, depth in ((1, 2), (7, 4), (64, 8), (129, 32))
    ]


class _Model(Agent):
    """A queue of so many values, each to be offered from `LATENCY` cycles after it was taken on."""

    def __init__(self, stand: Stand, depth: int, source: Source, sink: Sink) -> None:
        self._stand = stand
        self._depth = depth
        self._source = source
        self._sink = sink
        self.restart()

    def restart(self) -> None:
        self._held: deque[tuple[int, int]] = deque()
        self._was_full = self._left_full = False
        self._run = 0
        self._waiting: int | None = None

    @property
    def held(self) -> int:
        return len(self._held)

    def taken_in(self, value: int) -> None:
        self._held.append((value, self._stand.cycle))

    def taken_out(self, value: int) -> None:
        assert self._held, "a value that nobody put in"
        expected, _ = self._held.popleft()
        assert value == expected, f"{value:#x} came out, not {expected:#x}"

    def sample(self) -> None:
        """Before source and sink look, so that what is held is that of the cycle's beginning."""
        read, cycle = self._stand.read, self._stand.cycle
        held = len(self._held)
        assert read("space") == self._depth - held, "room that is not there, or is not told"
        assert read("i__ready") == (held < self._depth), "`ready` and the room differ"
        offered = held > 0 and self._held[0][1] <= cycle - LATENCY
        assert read("o__valid") == offered, f"a value is {'late' if offered else 'early'}"
        self._cover(held, bool(offered))

    def _cover(self, held: int, offered: bool) -> None:
        bins = self._stand.bins
        takes = self._stand.read("o__ready")
        moves_in, moves_out = self._source.moves, bool(offered and takes)
        full = held == self._depth
        bins["empty, and asked for a value"] += held == 0 and takes
        bins["one in and one out with one held"] += moves_in and moves_out and held == 1
        bins["one in and one out with all but one held"] += moves_in and moves_out and held == self._depth - 1
        bins["full"] += full
        bins["full, with one offered and one taken out"] += full and moves_out and self._source.offers
        bins["full, then not full, then full"] += full and self._left_full
        self._left_full = (self._left_full or self._was_full) and not full
        self._was_full = full
        bins["a value waits at the output"] += offered and not takes
        bins["one value passes through alone"] += moves_out and held == 1
        bins["the last value is taken and the next is not there yet"] += not offered and held > 0
        self._run = self._run + 1 if moves_in and moves_out else 0
        bins["two rounds of the memory without a pause"] += self._run >= 2 * self._depth


async def _check(depth: int, stand: Stand, quick: bool) -> None:
    source = Source(stand, "i", lambda value: model.taken_in(value))
    sink = Sink(stand, "o", lambda value: model.taken_out(value))
    model = _Model(stand, depth, source, sink)
    bits = len(stand.pin("i__payload"))
    for agent in (model, source, sink):
        stand.add(agent)
    await stand.start()
    for turn in range(40 if quick else 400):
        stream = turn % 8 == 7
        source.pace.full = sink.pace.full = stream
        for _ in range(5 * depth if stream else stand.random.randint(2, 12 * depth)):
            source.queue.append(stand.random.getrandbits(bits))
        if turn % 4 == 3:
            await stand.tick(stand.random.randint(1, 4 * depth))
            await _reset_at_its_worst(stand, turn // 4 % 4, depth, model, source)
            continue
        await stand.until(lambda: not source.queue and not model.held, 4000 * depth)
        await stand.tick(stand.random.randint(0, 4))
    assert source.sent == sink.received or source.sent > 100


async def _reset_at_its_worst(stand: Stand, kind: int, depth: int, model: _Model, source: Source) -> None:
    """When the buffer is full, holds one value, takes one, or whenever it is."""
    if kind == 1:
        await stand.until(lambda: not source.queue and not model.held, 4000 * depth)
    wanted = {0: lambda: model.held == depth, 1: lambda: model.held == 1, 2: lambda: source.moves}
    for _ in range(200):
        if wanted.get(kind, lambda: True)():
            break
        source.queue.append(stand.random.getrandbits(len(stand.pin("i__payload"))))
        await stand.tick()
    stand.bins["a reset while full"] += model.held == depth
    stand.bins["a reset while one value is held"] += model.held == 1
    stand.bins["a reset in the cycle in which a value is taken in"] += source.moves
    await stand.reset()
