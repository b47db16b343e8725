# amaranth: UnusedElaboratable=no
"""Bench of WEIGHTS, of `hdl/engines/transfer.py`: transfers far ahead of their beats, and what is refused."""

from collections import deque
from functools import partial
from typing import Any

from intaglio.hdl.engines.transfer import Weights
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.limits import WEIGHTS_QUEUE_DEPTH
from intaglio.spec.regions import Region

__all__ = ["configurations"]

SOONEST = 2
"""No bus answers in fewer cycles from the cycle in which a transfer is asked for."""

BINS = (
    "a transfer is asked for before the data of the one before",
    f"{WEIGHTS_QUEUE_DEPTH} transfers asked for and none complete",
    "a stretch of one beat",
    "a stretch of many beats",
    "a stretch several times",
    "several stretches",
    "several stretches, each several times",
    "a stretch more than 256 times",
    "more than 256 stretches",
    "a marked command",
    "a command that is not marked",
    "the stream makes a beat wait",
    "a beat a cycle, through several commands",
    "the greatest count",
    "the highest offset",
    "an offset between beats, while commands are under way",
    "a reset with data on their way",
)


def configurations() -> list[Configuration]:
    return [
        Configuration(
            f"weights_{bits}",
            partial(Weights, bits),
            partial(_check, bits),
            [*BINS, *(f"an offset {offset} bytes behind a beat" for offset in range(1, bits // 8))],
            mutants=bits == 64,
        )
        for bits in (64, 128)
    ]


class _Bench(Agent):
    def __init__(self, stand: Stand, bits: int, beats: Source, transfers: Packed) -> None:
        self._stand = stand
        self._bits = bits
        self._beats = beats
        self._transfers = transfers
        beats.allowed = lambda: self._stand.cycle + 1 >= self._under_way[0]["asked"] + SOONEST
        self.restart()

    def restart(self) -> None:
        self.asked: deque[dict[str, Any]] = deque()
        """Transfers that are to come."""
        self._under_way: deque[dict[str, Any]] = deque()
        self._due: deque[int] = deque()
        self.refused: int | None = None
        """The command at hand that is to be refused."""

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def finished(self) -> bool:
        return not self.asked and not self._under_way

    def transfer(self, word: int) -> None:
        assert self.asked, "a transfer that no command has"
        given, transfer = self._transfers.unpack(word), self.asked.popleft()
        expected = {name: transfer[name] for name in ("offset", "beats", "command", "region")}
        assert given == expected, f"asked for is {given}, not {expected}"
        bins = self._stand.bins
        bins["a transfer is asked for before the data of the one before"] += bool(self._under_way)
        self._under_way.append(transfer | {"asked": self._stand.cycle})
        bins[BINS[1]] += len(self._under_way) == WEIGHTS_QUEUE_DEPTH
        assert len(self._under_way) <= WEIGHTS_QUEUE_DEPTH, "more transfers asked for than are kept"
        # So many that no bench can bring them.
        for beat in range(min(given["beats"], 60)):
            data = self._stand.random.getrandbits(self._bits)
            self._due.append(data)
            self._beats.queue.append(data | (beat == given["beats"] - 1) << self._bits)

    def beat(self, word: int) -> None:
        assert self._due, "a beat that nobody sent"
        expected = self._due.popleft()
        assert word == expected, f"a beat is {word:#x}, not {expected:#x}"

    def sample(self) -> None:
        """Before anything of the cycle moves."""
        read, bins = self._stand.read, self._stand.bins
        asked = self._under_way and self._stand.cycle - self._under_way[0]["asked"]
        assert read("busy") or asked in (0, 1) or not self._under_way, "not busy with transfers under way"
        moves = self._beats.moves
        ends = moves and self._beats.queue[0] >> self._bits
        bins["the stream makes a beat wait"] += self._beats.offers and not moves
        transfer = self._under_way.popleft() if ends else {"ends": False}
        assert read("done") == transfer["ends"], "a command's end is not with its last beat"
        if transfer["ends"]:
            assert read("done_mark") == transfer["mark"], "the mark of another command"
        fault = read("fault")
        wrong = self.refused is not None and not self.asked and read("command__valid")
        assert fault == wrong, "a legal command is refused, or one that is not legal is not"
        if fault:
            assert read("fault_command") == self.refused, "another command is refused"
            assert not read("transfer__valid"), "a transfer of a command that is refused"
            assert not read("command__ready"), "a command that is refused is taken"
            bins["an offset between beats, while commands are under way"] += bool(self._under_way)


async def _check(bits: int, stand: Stand, quick: bool) -> None:
    size = bits // 8
    members = Weights(bits).signature.members
    shapes = {
        name: Packed(members[name].signature.members["payload"].shape) for name in ("command", "transfer")
    }
    source, beats = Source(stand, "command", ahead=True), Source(stand, "beats")
    bench = _Bench(stand, bits, beats, shapes["transfer"])
    asks, out = Sink(stand, "transfer", bench.transfer), Sink(stand, "o", bench.beat)
    draw, bins = stand.random, stand.bins

    def ask(address: int, count: int, times: int = 1, stretches: int = 1) -> None:
        index, mark = draw.getrandbits(32), draw.randrange(2)
        region = stand.random.choice(list(Region))
        body = {
            "region": region,
            "memory_offset": address,
            "beats": count,
            "times": times,
            "stretches": stretches,
        }
        source.queue.append(shapes["command"].pack({"body": body, "index": index, "mark": mark}))
        if address % size:
            bench.refused = index
            bins[f"an offset {address % size} bytes behind a beat"] += 1
            return
        places = [
            (address + size * count * stretch) % 2**32 for stretch in range(stretches) for _ in range(times)
        ]
        bench.asked.extend(
            {"offset": place, "region": region, "beats": count, "command": index, "mark": mark, "ends": False}
            for place in places
        )
        bench.asked[-1]["ends"] = True
        bins["a stretch of one beat"] += count == 1
        bins["a stretch of many beats"] += count > 20
        bins["a stretch several times"] += times > 1 and stretches == 1
        bins["several stretches"] += stretches > 1 and times == 1
        bins["several stretches, each several times"] += stretches > 1 and times > 1
        bins["a stretch more than 256 times"] += times > 256
        bins["more than 256 stretches"] += stretches > 256
        bins["a marked command"] += mark
        bins["a command that is not marked"] += not mark
        bins["the greatest count"] += count == (1 << 24) - 1
        bins["the highest offset"] += address == 2**32 - size

    # The bench looks first: the command at hand is still there.
    for agent in (bench, source, asks, beats, out):
        stand.add(agent)
    await stand.start()
    for turn in range((8 if quick else 75) * size):
        full = turn % 6 == 0
        for agent in (source, asks, beats, out):
            agent.pace.full = full
        counts = [draw.choice((1, 2, draw.randint(1, 50))) for _ in range(12)]
        for index, count in enumerate(counts):
            times, stretches = (1, 1) if draw.randrange(2) else (draw.randint(1, 4), draw.randint(1, 4))
            if index == turn == 0:
                count, times = 1, 300
            if index == turn - 1 == 0:
                count, stretches = 1, 300
            counts[index] = count * times * stretches
            ask(draw.choice((2**32 - size, draw.getrandbits(32) & -size)), count, times, stretches)
        if turn % 6 == 1:
            out.allowed = lambda: False
            await stand.tick(60)
            out.allowed = lambda: True
        if turn % 6 == 5:
            await _end_badly(stand, size, bench, beats, source, ask, turn // 6)
            continue
        start = stand.cycle
        await stand.until(lambda: bench.finished, 20_000)
        took = stand.cycle - start
        assert not full or took <= sum(counts) + 12, f"{sum(counts)} beats in {took} cycles"
        bins["a beat a cycle, through several commands"] += full
        await stand.tick(6)
        assert not stand.read("busy"), "busy with nothing"


async def _end_badly(
    stand: Stand, size: int, bench: _Bench, beats: Source, source: Source, ask: Any, turn: int
) -> None:
    """With a command that is refused, or one without an end; then with a reset."""
    if turn % 5 == 4:
        ask(64, (1 << 24) - 1)
        await stand.until(lambda: not bench.asked, 20_000)
        await stand.tick(100)
    else:
        ask(size * stand.random.getrandbits(10) + 1 + (turn - turn // 5) % (size - 1), 3)
        await stand.until(lambda: not bench.asked and source.offers, 20_000)
        await stand.tick(stand.random.randint(1, 30))
        assert stand.read("fault")
    stand.bins["a reset with data on their way"] += bool(beats.queue)
    await stand.reset()
