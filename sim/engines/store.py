# amaranth: UnusedElaboratable=no
"""Bench of STORE, of `hdl/engines/transfer.py`: what comes to lie in memory, and when a command is complete."""

from collections import deque
from collections.abc import Mapping
from functools import partial

from intaglio.hdl.engines.transfer import Store
from intaglio.sim.engines import rows
from intaglio.sim.engines.agents import ReadPort, Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]

BINS = (
    "data before the transfer is known",
    "a transfer before its data",
    "memory makes a beat wait",
    "memory takes nothing for 30 cycles",
    "a row is written in the cycle after another",
    "a row is written long after its last beat",
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
            f"store_{config.vector_lanes}x{config.element_bits}",
            partial(Store, config),
            partial(_check, config),
            [*rows.bins(config), *BINS],
            mutants=config.element_bits != 2,
        )
        for config in machines
    ]


class _Bench(Agent):
    """Memory: takes transfers and beats each at its own pace, and tells each transfer complete some time later."""

    def __init__(self, stand: Stand, config: AcceleratorConfig, transfers: Packed) -> None:
        self._stand = stand
        self._config = config
        self._transfers = transfers
        self._bits, self._size = config.element_bits, config.scratchpad_elements
        self.elements = [stand.random.getrandbits(self._bits) for _ in range(self._size)]
        self.at_once = False
        self.beat_count = 0
        self.restart()

    def restart(self) -> None:
        self.asked: deque[dict[str, int]] = deque()
        """Transfers that are to come."""
        self._open: deque[dict[str, int]] = deque()
        """Transfers whose beats are to come."""
        self._beats: deque[int] = deque()
        self._whole: deque[int] = deque()
        """When each transfer that is whole is told complete."""
        self._commands: deque[tuple[int, int]] = deque()
        """Rows of each command, and its mark."""
        self._rows: deque[dict[int, int]] = deque()
        """Bytes by address of each row that is to come."""
        self._complete = 0
        self._told_before = False
        self._stand.write("written", 0)

    @property
    def finished(self) -> bool:
        return not self._commands

    @property
    def on_the_way(self) -> bool:
        return bool(self._beats or self._open)

    def vector(self, address: int) -> int:
        places = ((address + lane) % self._size for lane in range(self._config.vector_lanes))
        return sum(self.elements[place] << lane * self._bits for lane, place in enumerate(places))

    def ask(self, fields: Mapping[str, int], index: int, mark: int) -> None:
        count = fields["row_bytes"]
        for row in range(fields["rows"]):
            first = rows.memory_of(fields, row)
            region = fields["region"]
            self.asked.append({"offset": first, "bytes": count, "command": index, "region": region})
            self.beat_count += rows.beats_of(self._config, first, count)
            expected = {}
            for byte in range(count):
                element = rows.element_of(fields, self._config, row, byte)
                parts = range(8 // self._bits)
                expected[rows.memory_of(fields, row, byte)] = sum(
                    self.elements[(element + part) % self._size] << part * self._bits for part in parts
                )
            self._rows.append(expected)
        self._commands.append((fields["rows"], mark))

    def transfer(self, word: int) -> None:
        assert self.asked, "a transfer that no command has"
        given, expected = self._transfers.unpack(word), self.asked.popleft()
        assert given == expected, f"asked for is {given}, not {expected}"
        self._open.append(given)
        self._stand.bins["data before the transfer is known"] += bool(self._beats)
        self._stand.bins["a transfer before its data"] += not self._beats
        self._match()

    def beat(self, word: int) -> None:
        self._beats.append(word)
        self._match()

    def _match(self) -> None:
        """Beats go to the oldest transfer, whose bytes alone are written."""
        while self._open:
            address, count = self._open[0]["offset"], self._open[0]["bytes"]
            beats, size = rows.beats_of(self._config, address, count), self._config.bus_bytes
            if len(self._beats) < beats:
                return
            self._open.popleft()
            data = b"".join(self._beats.popleft().to_bytes(size, "little") for _ in range(beats))
            given = {(address + byte) % 2**32: data[address % size + byte] for byte in range(count)}
            expected = self._rows.popleft()
            wrong = [byte for byte in expected if given[byte] != expected[byte]]
            assert not wrong, f"byte {wrong[0]:#x} is {given[wrong[0]]:#x}, not {expected[wrong[0]]:#x}"
            delay = 1 if self.at_once else self._stand.random.choice((1, 1, 2, 7, 40))
            last = self._whole[-1] if self._whole else 0
            self._whole.append(max(self._stand.cycle + delay, last + 1))
            self._stand.bins["a row is written long after its last beat"] += delay == 40

    def sample(self) -> None:
        """After the transfer and the beat of the cycle."""
        read = self._stand.read
        told = read("written")
        self._complete += told
        self._stand.bins["a row is written in the cycle after another"] += told and self._told_before
        self._told_before = bool(told)
        assert read("busy") == read("command__valid"), "busy, or not, with another than the command at hand"
        due = bool(self._commands) and self._complete == self._commands[0][0]
        assert read("done") == due, "a command ends early" if not due else "a command's end is not told"
        if due:
            _, mark = self._commands.popleft()
            assert read("done_mark") == mark, "the mark of another command"
            self._complete = 0
        self._stand.bins["memory makes a beat wait"] += read("beats__valid") and not read("beats__ready")

    def drive(self) -> None:
        due = bool(self._whole) and self._whole[0] <= self._stand.cycle + 1
        if due:
            self._whole.popleft()
        self._stand.write("written", int(due))


async def _check(config: AcceleratorConfig, stand: Stand, quick: bool) -> None:
    members = Store(config).signature.members
    shapes = {
        name: Packed(members[name].signature.members["payload"].shape) for name in ("command", "transfer")
    }
    source, bench = Source(stand, "command", ahead=True), _Bench(stand, config, shapes["transfer"])
    asks, beats = Sink(stand, "transfer", bench.transfer), Sink(stand, "beats", bench.beat)
    port = ReadPort(stand, bench.vector)
    draw = stand.random
    for agent in (source, asks, beats, port, bench):
        stand.add(agent)
    await stand.start()
    for turn in range(50 if quick else 500):
        full = turn % 5 == 0
        for agent in (source, asks, beats, port):
            agent.pace.full = full
        bench.at_once = full
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
            stand.bins["a reset with data on their way"] += bench.on_the_way
            await stand.reset()
            continue
        if turn % 5 == 3:
            await _stop(stand, beats)
        start, port.asked_in = stand.cycle, []
        beats_before = beats.received
        await stand.until(lambda: bench.finished, 100 * bench.beat_count + 6000)
        await stand.tick(2)
        assert not bench.asked
        assert not bench.on_the_way, "beats that no row has"
        if full:
            took = stand.cycle - start
            assert took <= bench.beat_count + place * 14, f"{bench.beat_count} beats in {took} cycles"
            assert beats.received - beats_before == bench.beat_count
            stand.bins["a beat a cycle"] += 1


async def _stop(stand: Stand, beats: Sink) -> None:
    """Memory takes no beat until all the room there is has gone."""
    beats.allowed = lambda: False
    await stand.tick(40)
    stand.bins["memory takes nothing for 30 cycles"] += beats.offered
    beats.allowed = lambda: True
