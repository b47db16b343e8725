# amaranth: UnusedElaboratable=no
"""Bench of `hdl/storage/accumulators.py`: sums modulo the accumulator's range, position after position and again."""

from collections import deque
from functools import partial

from intaglio.hdl.storage.accumulators import Accumulators, tag_layout
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]

SETTLED_CYCLES = 4
"""After so many without a vector, every overflow has been told."""


def configurations() -> list[Configuration]:
    # The machine, bits of a sum.
    parameters = [
        # Digits of activations and of weights.
        (machine(columns=3, accumulator_bits=12), 12),
        # Of neither.
        (machine(columns=1, activation_types=("int8",), weight_type="int8", accumulator_bits=8), 8),
        (machine(columns=7, activation_types=("uint2",), weight_type="ternary", accumulator_bits=24), 20),
        # Digits of weights alone, of one bit.
        (machine(columns=2, activation_types=("int8",), weight_type="binary", accumulator_bits=16), 16),
        # Of activations alone; banks of more positions.
        (
            machine(columns=4, activation_types=("uint8",), weight_type="int8", accumulator_bits=48,
                    accumulator_depth=64),
            48,
        ),
    ]  # fmt: skip
    return [
        Configuration(
            f"accumulators_{config.columns}x{config.accumulator_bits}_{sum_bits}",
            partial(Accumulators, config, sum_bits),
            partial(_check, config, sum_bits),
            _bins(config, sum_bits),
            mutants=config.columns in (3, 7),
        )
        for config, sum_bits in parameters
    ]


def _shifts(config: AcceleratorConfig) -> dict[str, tuple[int, int]]:
    """By what they are for: the tag's `weight_digits`, and bits [docs/architecture.md: MATMUL]."""
    found = {}
    if config.activation_digits:
        found["activations"] = (0, config.element_bits)
    if config.weight_digits:
        found["weights"] = (1, config.weight_digit_bits)
    return found


def _bins(config: AcceleratorConfig, sum_bits: int) -> list[str]:
    bins = [
        "a sum at the position of the cycle before",
        "a sum at the position of two cycles before",
        "a sum begins at the position of the cycle before",
        "the other bank in the next cycle",
        "a read in the cycle after a total was stored",
        "a read of one bank while the other fills",
        "the last vector, marked",
        "the last vector, not marked",
        "the greatest total, just so",
        "the least total, just so",
        "no vector for three cycles",
        "a reset with a total on its way",
        *(
            f"bank {bank}, position {position}"
            for bank in (0, 1)
            for position in (0, config.accumulator_depth - 1)
        ),
    ]
    for column in range(config.columns):
        bins += [f"column {column} wraps above", f"column {column} wraps below"]
    if config.columns > 1:
        bins.append("every column wraps at once")
    for what, (_, bits) in _shifts(config).items():
        bins += [f"a digit of {what}", f"a digit of {what} at the position of the cycle before"]
        bins.append(f"a total that {bits} bits of {what} take out of range")
        if bits > 1:
            bins.append(f"a total that shifts {bits} bits of {what} out and in again")
    return bins


class _Model(Agent):
    """Both banks as numbers; adds a vector in the cycle in which it is given."""

    def __init__(self, stand: Stand, config: AcceleratorConfig, sum_bits: int) -> None:
        self._stand = stand
        self._config = config
        self._sum_bits = sum_bits
        self._tag = Packed(tag_layout(config))
        self._totals: dict[tuple[int, int], list[int]] = {}
        self.fills = True
        self.restart()

    def restart(self) -> None:
        """The totals stay, but for one on its way."""
        self._due: list[int] | None = None
        self._done: tuple[bool, bool | None] = (False, None)
        self._overflows = self._told = 0
        self._last: deque[tuple[int, int] | None] = deque([None] * 3, 3)
        self._bank = 0
        self._next: tuple[dict[str, int], list[int]] | None = None
        self.idle = 0

    @property
    def on_the_way(self) -> tuple[int, int] | None:
        """Where a total is being stored."""
        return self._last[-1]

    def forget(self, place: tuple[int, int] | None) -> None:
        """A total that a reset met."""
        if place is not None:
            self._totals.pop(place, None)

    def sample(self) -> None:
        read = self._stand.read
        done, mark = self._done
        assert read("done") == done, "`done` is not where the last vector is"
        assert mark is None or read("done_mark") == mark, "the mark of another vector"
        if self._due is not None:
            self._compare(read("read_data"), self._due)
        self._told += read("overflows")
        assert self._told <= self._overflows, f"{self._told} overflows are told of {self._overflows}"
        if self.idle >= SETTLED_CYCLES:
            assert self._told == self._overflows, f"{self._told} overflows are told, not {self._overflows}"
        self._due = self._read()
        self._fill()

    def _compare(self, word: int, expected: list[int]) -> None:
        bits = self._config.accumulator_bits
        for column, total in enumerate(expected):
            given = self._wrap(word >> column * bits)
            assert given == total, f"the total of column {column} is {given}, not {total}"

    def _wrap(self, value: int) -> int:
        half = 1 << (self._config.accumulator_bits - 1)
        return (value + half) % (2 * half) - half

    def _read(self) -> list[int] | None:
        if not self._stand.read("read_enable"):
            return None
        place = self._stand.read("read_bank"), self._stand.read("read_address")
        bins = self._stand.bins
        bins["a read in the cycle after a total was stored"] += place == self._last[-2] != self._last[-1]
        bins["a read of one bank while the other fills"] += self._next is not None
        return self._totals.get(place)

    def _fill(self) -> None:
        if self._next is None:
            self._last.append(None)
            self._done = (False, None)
            self.idle += 1
            self._stand.bins["no vector for three cycles"] += self.idle == 3
            return
        tag, sums = self._next
        self.idle = 0
        place = (tag["bank"], tag["position"])
        totals = [self._add(place, column, value, tag) for column, value in enumerate(sums)]
        lost = [total != self._wrap(total) for total in totals]
        self._overflows += sum(lost)
        self._totals[place] = [self._wrap(total) for total in totals]
        self._done = (bool(tag["last"]), bool(tag["mark"]) if tag["last"] else None)
        self._cover(place, tag, totals)
        self._last.append(place)

    def _add(self, place: tuple[int, int], column: int, value: int, tag: dict[str, int]) -> int:
        if tag["first"]:
            return value
        total = self._totals[place][column]
        if tag["shift"]:
            ((what, bits),) = (
                (what, bits)
                for what, (of, bits) in _shifts(self._config).items()
                if of == tag["weight_digits"]
            )
            bins, moved = self._stand.bins, total << bits
            away = moved != self._wrap(moved)
            bins[f"a total that {bits} bits of {what} take out of range"] += away
            bins[f"a total that shifts {bits} bits of {what} out and in again"] += away and (moved < 0) == (
                self._wrap(moved) < 0
            )
            total = moved
        return total + value

    def _cover(self, place: tuple[int, int], tag: dict[str, int], totals: list[int]) -> None:
        bins, config = self._stand.bins, self._config
        half = 1 << (config.accumulator_bits - 1)
        again = place == self._last[-1]
        bins["a sum at the position of the cycle before"] += again and not tag["first"]
        bins["a sum at the position of two cycles before"] += place == self._last[-2] and not again
        bins["a sum begins at the position of the cycle before"] += again and tag["first"]
        bins["the other bank in the next cycle"] += (
            self._last[-1] is not None and self._last[-1][0] != place[0]
        )
        bins["the last vector, marked"] += tag["last"] and tag["mark"]
        bins["the last vector, not marked"] += tag["last"] and not tag["mark"]
        bins["the greatest total, just so"] += half - 1 in totals
        bins["the least total, just so"] += -half in totals
        bins[f"bank {place[0]}, position {place[1]}"] += 1
        above, below = [total >= half for total in totals], [total < -half for total in totals]
        for column in range(config.columns):
            bins[f"column {column} wraps above"] += above[column]
            bins[f"column {column} wraps below"] += below[column]
        bins["every column wraps at once"] += all(a or b for a, b in zip(above, below, strict=True))
        if tag["shift"] and not tag["first"]:
            what = next(what for what, (of, _) in _shifts(config).items() if of == tag["weight_digits"])
            bins[f"a digit of {what}"] += 1
            bins[f"a digit of {what} at the position of the cycle before"] += again

    def drive(self) -> None:
        draw, write = self._stand.random, self._stand.write
        if draw.random() < 0.05:
            self._bank ^= 1
        self._next = self._drawn() if self.fills and draw.random() < 0.9 else None
        write("valid", int(self._next is not None))
        if self._next:
            tag, sums = self._next
            mask = (1 << self._sum_bits) - 1
            write("tag", self._tag.pack(tag))
            write("sums", sum((value & mask) << column * self._sum_bits for column, value in enumerate(sums)))
        else:
            write("tag", draw.getrandbits(self._tag.bits))
            write("sums", draw.getrandbits(self._sum_bits * self._config.columns))
        # The bank that fills in this cycle may not be read.
        bank = 1 - self._next[0]["bank"] if self._next else draw.randrange(2)
        storing = self._last[-1]
        near = [place[1] for place in self._last if place not in (None, storing) and place[0] == bank]
        write("read_bank", bank)
        any_position = draw.randrange(self._config.accumulator_depth)
        position = draw.choice(near) if near and draw.random() < 0.7 else any_position
        write("read_address", position)
        # Nor may a position whose total is being stored.
        write("read_enable", int(draw.random() < 0.7 and (bank, position) != storing))

    def _drawn(self) -> tuple[dict[str, int], list[int]]:
        draw, config = self._stand.random, self._config
        bank = self._bank if draw.random() < 0.9 else 1 - self._bank
        near = [place[1] for place in self._last if place is not None and place[0] == bank]
        position = draw.choice((0, config.accumulator_depth - 1, draw.randrange(config.accumulator_depth)))
        if near and draw.random() < 0.7:
            position = draw.choice(near)
        known = self._totals.get((bank, position))
        shifts = [of for of, _ in _shifts(config).values()]
        tag = {
            "keep": 1,
            "position": position,
            "bank": bank,
            "first": int(known is None or draw.random() < 0.1),
            "shift": int(bool(shifts) and draw.random() < 0.3),
            "weight_digits": draw.choice(shifts) if shifts else draw.randrange(2),
            "last_tile": draw.randrange(2),
            "last": int(draw.random() < 0.1),
            "mark": draw.randrange(2),
        }
        return tag, [self._sum(known[column] if known else 0, tag) for column in range(config.columns)]

    def _sum(self, total: int, tag: dict[str, int]) -> int:
        """Of any size, or such that the total comes to an end of its range."""
        draw = self._stand.random
        low, high = -(1 << (self._sum_bits - 1)), (1 << (self._sum_bits - 1)) - 1
        half = 1 << (self._config.accumulator_bits - 1)
        any_size = draw.randint(low, high) >> draw.randrange(self._sum_bits)
        wanted = [low, high, any_size, any_size]
        if not tag["first"] and not tag["shift"]:
            wanted += [half - 1 - total, -half - total, half - total, -half - 1 - total]
        return draw.choice([value for value in wanted if low <= value <= high])


async def _check(config: AcceleratorConfig, sum_bits: int, stand: Stand, quick: bool) -> None:
    model = stand.add(_Model(stand, config, sum_bits))
    await stand.start()
    for turn in range(20 if quick else 250):
        model.fills = True
        await stand.tick(stand.random.randint(100, 250))
        if turn % 3 == 2:
            place = model.on_the_way
            stand.bins["a reset with a total on its way"] += place is not None
            await stand.reset()
            model.forget(place)
            continue
        model.fills = False
        await stand.tick(SETTLED_CYCLES + 3)
