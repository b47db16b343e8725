# amaranth: UnusedElaboratable=no
"""Bench of `hdl/engines/window.py`: where each vector of a window lies and which of its lanes are inside the tensor."""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from intaglio.hdl.engines.window import MATMUL_ORDER, POOL_ORDER, Window
from intaglio.hdl.storage.fifo import FIFO_LATENCY
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.lockstep import Stand
from intaglio.spec.commands import FORMATS, Opcode

__all__ = ["configurations", "drawn", "walk"]

LATENCY = {Opcode.MATMUL: 3, Opcode.MAX_POOL: 3 + FIFO_LATENCY}
FARTHEST_ELEMENT = (1 << 23) - 1
FARTHEST_ROW = (1 << 17) - 1
"""How far from the tensor a machine's walk may go."""

CARRIED = {
    Opcode.MATMUL: ("pad", "signed", "digits", "bank", "first_output"),
    Opcode.MAX_POOL: (),
}
LOOPS = ("output_rows", "output_columns", "kernel_rows", "kernel_columns", "chunks", "digits")
BINS = (
    "a row before the first",
    "row -1",
    "the first row",
    "the last row",
    "the row behind the last",
    "a row far behind the last",
    "a vector that begins before the row",
    "a vector that ends where the row does",
    "a vector that ends behind the row",
    "a vector that begins where the row ends",
    "a vector that ends where the row begins",
    "a vector inside of which is a whole row",
    "all lanes inside",
    "a row of one element",
    "a tensor of one row",
    "the address wraps",
    "the least first_row",
    "the least first_element",
    "the greatest row_stride",
    "the greatest column_stride",
    "the greatest kernel_row_step",
    "the greatest kernel_column_step",
    "the greatest width",
    "the greatest height",
    "the greatest row_pitch",
    "the greatest source",
    "as far before the row as may be",
    "as far behind the row as may be",
    "a command of one vector",
    "a command at the heels of another",
    "a vector a cycle, and none lost between commands",
    "a loop of 300 turns",
    "a reset in the middle of a command",
)

RAGGED = (
    "a last row of one vector",
    "a last row of fewer vectors",
    "a last row of more vectors",
    "one row, of a length of its own",
    "columns of the kernel that go down",
    "rows of the kernel that go back",
    "rows of the kernel that go on",
)


def configurations() -> list[Configuration]:
    # opcode, lanes, chunk, address bits
    parameters = [
        (Opcode.MATMUL, 4, 4, 10),
        (Opcode.MATMUL, 9, 5, 17),
        (Opcode.MAX_POOL, 16, 16, 12),
        (Opcode.MAX_POOL, 1, 1, 20),
    ]
    return [
        Configuration(
            f"window_{opcode.name.lower()}_{lanes}",
            partial(_window, opcode, lanes, chunk, bits),
            partial(_check, opcode, lanes, chunk, bits),
            _bins(opcode, lanes),
            mutants=lanes in (9, 16),
        )
        for opcode, lanes, chunk, bits in parameters
    ]


def _window(opcode: Opcode, lanes: int, chunk: int, bits: int) -> Window:
    return Window(
        opcode,
        order(opcode),
        lanes,
        chunk,
        bits,
        CARRIED[opcode],
        slanted=_ragged(opcode, lanes),
        ragged=_ragged(opcode, lanes),
        holds=_holds(opcode),
    )


def _ragged(opcode: Opcode, lanes: int) -> bool:
    """Whether the last row may have a length of its own and the kernel is slanted: of one of the two windows of
    MATMUL."""
    return opcode is Opcode.MATMUL and lanes > 4


def _holds(opcode: Opcode) -> bool:
    """Whether a command stands until its last vector is taken."""
    return opcode is Opcode.MAX_POOL


def order(opcode: Opcode) -> tuple[str, ...]:
    return MATMUL_ORDER if opcode is Opcode.MATMUL else POOL_ORDER


def _bins(opcode: Opcode, lanes: int) -> list[str]:
    loops = [loop for loop in LOOPS if loop in order(opcode)]
    bins = [*BINS, *(f"several {loop}" for loop in loops), f"all of {len(loops)} loops turn"]
    bins += RAGGED if _ragged(opcode, lanes) else ()
    # One lane is inside or it is not.
    apart = (
        "a vector that begins before the row",
        "a vector that ends behind the row",
        "a vector inside of which",
    )
    return [bin_ for bin_ in bins if lanes > 1 or not bin_.startswith(apart)]


def walk(
    opcode: Opcode, fields: Mapping[str, int], chunk: int, slanted: bool = False
) -> Iterator[tuple[dict[str, int], int, int]]:
    """The turns of the loops, the row and the first element of each vector, in order [docs/architecture.md: The
    window reader, MATMUL, MAX_POOL]; the kernel's columns go down and its rows along if `slanted`."""

    def turns(name: str) -> range:
        return range(fields[name])

    def at(oy: int, ox: int, ky: int, kx: int, g: int, digit: int) -> tuple[dict[str, int], int, int]:
        y = fields["first_row"] + oy * fields["row_stride"] + ky * fields["kernel_row_step"]
        pos = (
            fields["first_element"]
            + ox * fields["column_stride"]
            + kx * fields["kernel_column_step"]
            + g * chunk
        )
        if slanted:
            y += kx * fields["kernel_column_row_step"]
            pos += ky * fields["kernel_row_column_step"]
        where = dict(zip(LOOPS, (oy, ox, ky, kx, g, digit), strict=True))
        return where, y, pos

    if opcode is Opcode.MATMUL:
        for digit in turns("digits"):
            for ky in turns("kernel_rows"):
                for kx in turns("kernel_columns"):
                    for g in turns("chunks"):
                        for oy in turns("output_rows"):
                            for ox in range(columns_of(fields, oy)):
                                yield at(oy, ox, ky, kx, g, digit)
        return
    for oy in turns("output_rows"):
        for ox in turns("output_columns"):
            for g in turns("chunks"):
                for ky in turns("kernel_rows"):
                    for kx in turns("kernel_columns"):
                        yield at(oy, ox, ky, kx, g, 0)


def columns_of(fields: Mapping[str, int], row: int) -> int:
    """Vectors of a row: the last may have its own number."""
    ragged = fields["last_row_columns"] if row == fields["output_rows"] - 1 else 0
    return ragged or fields["output_columns"]


def drawn(
    numbers: random.Random, opcode: Opcode, lanes: int, chunk: int, most: int = 40, ragged: bool = False
) -> dict[str, int]:
    """The fields of a command of at most about `most` vectors that begins, ends and lies anywhere; its last row may
    have a length of its own if `ragged`."""
    limits = {field.name: field for field in FORMATS[opcode].fields}
    while True:
        fields = {field.name: numbers.randint(field.min, field.max) for field in limits.values()}
        fields |= _turns(numbers, opcode, most)
        if opcode is Opcode.MATMUL:
            columns = fields["output_columns"]
            lengths = (0, 0, 1, min(columns, 63), numbers.randint(1, min(columns, 63)), min(columns + 1, 63))
            fields["last_row_columns"] = numbers.choice(lengths) if ragged else 0
        _place(numbers, fields, limits, lanes, chunk)
        if _fits(fields, chunk, ragged):
            return fields


def _turns(numbers: random.Random, opcode: Opcode, most: int) -> dict[str, int]:
    loops = [loop for loop in LOOPS if loop in order(opcode)]
    if numbers.random() < 0.1:
        return dict.fromkeys(loops, 2)
    turns = dict.fromkeys(loops, 1)
    left = numbers.choice((1, 3, most, most))
    for loop in numbers.sample(loops, len(loops)):
        highest = min(left, 15 if loop == "digits" else left)
        turns[loop] = numbers.choice((1, 1, 2, numbers.randint(1, max(highest, 1)))) if highest > 1 else 1
        left //= turns[loop]
    return turns


def _place(
    numbers: random.Random, fields: dict[str, int], limits: Mapping[str, Any], lanes: int, chunk: int
) -> None:
    """Settles sizes and steps such that the walk meets the tensor's ends, or goes as far as it can."""
    draw = numbers.choice
    near = (0, 1, -1, lanes, -lanes, 1 - lanes, numbers.randint(-3 * lanes, 3 * lanes))
    widths = (1, lanes, lanes + 1, 3 * lanes, max(lanes - 1, 1), limits["width_elements"].max)
    fields["width_elements"] = draw((*widths, numbers.randint(1, 5 * lanes)))
    fields["height"] = draw((1, 2, 3, 7, limits["height"].max, numbers.randint(1, 300)))
    fields["first_row"] = draw((0, -1, -2, fields["height"] - 1, fields["height"], limits["first_row"].min))
    ends = (0, fields["width_elements"], fields["width_elements"] - lanes, limits["first_element"].min)
    fields["first_element"] = draw(ends) + draw(near)
    for name, small in (("row_stride", 3), ("kernel_row_step", 3)):
        fields[name] = draw((1, 1, numbers.randint(0, small), limits[name].max))
    for name in ("column_stride", "kernel_column_step"):
        fields[name] = draw((1, lanes, numbers.randint(0, 3 * lanes), limits[name].max))
    if draw((False, False, True)):
        _go_far(numbers, fields, chunk)
    elif lanes > 2 and draw((False, False, False, True)):
        # A row that is shorter than a vector, in the middle of one.
        fields["width_elements"] = numbers.randint(1, lanes - 2)
        fields["first_element"] = -numbers.randint(1, lanes - 1 - fields["width_elements"])
    for name in ("row_pitch", "source"):
        fields[name] = draw((0, limits[name].max, fields[name], numbers.randint(0, 100)))
    for name in ("first_row", "first_element"):
        fields[name] = min(max(fields[name], limits[name].min), limits[name].max)
    fields["row_pitch"] = draw((fields["row_pitch"], fields["width_elements"]))


def _go_far(numbers: random.Random, fields: dict[str, int], chunk: int) -> None:
    """Steps along the row so far that the last vector is at the end of what a walk may reach."""
    loop, step = numbers.choice(
        (("output_columns", "column_stride"), ("kernel_columns", "kernel_column_step"))
    )
    other = "kernel_column_step" if step == "column_stride" else "column_stride"
    fields |= {loop: 9, other: 1, "output_rows": 1, "chunks": 1, "first_row": 0}
    rest = FARTHEST_ELEMENT - (fields["kernel_columns" if loop == "output_columns" else "output_columns"] - 1)
    fields[step] = min(rest // 8, (1 << 20) - 1)
    fields["first_element"] = min(rest - 8 * fields[step], (1 << 19) - 1)


def _fits(fields: Mapping[str, int], chunk: int, slanted: bool) -> bool:
    def reach(*parts: tuple[str, int]) -> int:
        return sum((fields[loop] - 1) * distance for loop, distance in parts)

    rows = reach(("output_rows", fields["row_stride"]), ("kernel_rows", fields["kernel_row_step"]))
    longest = max(fields["output_columns"], fields.get("last_row_columns", 0))
    elements = (longest - 1) * fields["column_stride"] + reach(
        ("kernel_columns", fields["kernel_column_step"]),
        ("chunks", chunk),
    )
    if slanted:
        rows += reach(("kernel_columns", fields["kernel_column_row_step"]))
        elements += reach(("kernel_rows", max(fields["kernel_row_column_step"], 0)))
    return (
        fields["first_row"] + rows <= FARTHEST_ROW and fields["first_element"] + elements <= FARTHEST_ELEMENT
    )


class _Bench:
    """What is to come out, in order."""

    def __init__(
        self, stand: Stand, opcode: Opcode, lanes: int, chunk: int, address_bits: int, layout: Packed
    ) -> None:
        self.stand = stand
        self._opcode, self._lanes, self._chunk = opcode, lanes, chunk
        self._size = 1 << address_bits
        self._layout = layout
        self.expected: deque[dict[str, Any]] = deque()
        self.counts: list[int] = []
        """Vectors of each command of this turn."""
        self.moved: list[int] = []
        """Cycles of the vectors."""

    def ask(self, fields: Mapping[str, int], index: int, mark: int) -> None:
        bins = self.stand.bins
        loops = order(self._opcode)
        turned = [loop for loop in loops if fields[loop] > 1]
        for loop in turned:
            bins[f"several {loop}"] += 1
            bins["a loop of 300 turns"] += fields[loop] >= 300
        bins[f"all of {len(loops)} loops turn"] += len(turned) == len(loops)
        bins["a command of one vector"] += not turned
        bins["a command at the heels of another"] += bool(self.expected)
        ragged = fields.get("last_row_columns", 0)
        bins["a last row of one vector"] += ragged == 1 < fields["output_columns"]
        bins["a last row of fewer vectors"] += 1 < ragged < fields["output_columns"]
        bins["a last row of more vectors"] += ragged > fields["output_columns"]
        bins["one row, of a length of its own"] += bool(ragged) and fields["output_rows"] == 1
        down, along = fields.get("kernel_column_row_step", 0), fields.get("kernel_row_column_step", 0)
        bins["columns of the kernel that go down"] += fields["kernel_columns"] > 1 and down > 0
        bins["rows of the kernel that go back"] += fields["kernel_rows"] > 1 and along < 0
        bins["rows of the kernel that go on"] += fields["kernel_rows"] > 1 and along > 0
        for where, y, pos in walk(self._opcode, fields, self._chunk, _ragged(self._opcode, self._lanes)):
            ends = fields
            if self._opcode is Opcode.MATMUL:
                ends = {**fields, "output_columns": columns_of(fields, where["output_rows"])}
            self._cover(fields, y, pos)
            lanes = range(pos, pos + self._lanes)
            inside = [0 <= y < fields["height"] and 0 <= place < fields["width_elements"] for place in lanes]
            self.expected.append(
                {
                    "address": (fields["source"] + y * fields["row_pitch"] + pos) % self._size,
                    "inside": sum(bit << lane for lane, bit in enumerate(inside)),
                    "first": {loop: int(where[loop] == 0) for loop in loops},
                    "last": {loop: int(where[loop] == ends[loop] - 1) for loop in loops},
                    **{name: fields[name] for name in CARRIED[self._opcode]},
                    **({} if _holds(self._opcode) else {"index": index, "mark": mark}),
                }
            )
        self.counts.append(len(self.expected) - sum(self.counts))

    def _cover(self, fields: Mapping[str, int], y: int, pos: int) -> None:
        bins, lanes = self.stand.bins, self._lanes
        height, width = fields["height"], fields["width_elements"]
        bins["a row before the first"] += y < -1
        bins["row -1"] += y == -1
        bins["the first row"] += y == 0
        bins["the last row"] += y == height - 1
        bins["the row behind the last"] += y == height
        bins["a row far behind the last"] += y > height + 100
        bins["a tensor of one row"] += height == 1 and y == 0
        bins["as far before the row as may be"] += pos == -(1 << 19)
        bins["as far behind the row as may be"] += pos >= FARTHEST_ELEMENT - 8
        for field, name in (
            ("row_stride", "row_stride"),
            ("column_stride", "column_stride"),
            ("kernel_row_step", "kernel_row_step"),
            ("kernel_column_step", "kernel_column_step"),
            ("width_elements", "width"),
            ("height", "height"),
            ("row_pitch", "row_pitch"),
            ("source", "source"),
        ):
            greatest = next(entry.max for entry in FORMATS[self._opcode].fields if entry.name == field)
            bins[f"the greatest {name}"] += fields[field] == greatest
        bins["the least first_row"] += fields["first_row"] == -(1 << 15)
        bins["the least first_element"] += fields["first_element"] == -(1 << 19)
        bins["the address wraps"] += not 0 <= fields["source"] + y * fields["row_pitch"] + pos < self._size
        if not 0 <= y < height:
            return
        end = pos + lanes
        bins["a vector that begins before the row"] += pos < 0 < end
        bins["a vector that ends where the row does"] += end == width
        bins["a vector that ends behind the row"] += pos < width < end
        bins["a vector that begins where the row ends"] += pos == width
        bins["a vector that ends where the row begins"] += end == 0
        bins["a vector inside of which is a whole row"] += pos < 0 and width < end
        bins["all lanes inside"] += pos >= 0 and end <= width
        bins["a row of one element"] += width == 1 and pos <= 0 < end

    def taken(self, word: int) -> None:
        assert self.expected, "a vector that no command has"
        expected, given = self.expected.popleft(), self._layout.unpack(word)
        differs = [
            f"{name} is {given[name]}, not {value}"
            for name, value in expected.items()
            if given[name] != value
        ]
        assert not differs, "; ".join(differs)
        self.moved.append(self.stand.cycle)


async def _check(opcode: Opcode, lanes: int, chunk: int, bits: int, stand: Stand, quick: bool) -> None:
    window = _window(opcode, lanes, chunk, bits)
    commands = Packed(window.signature.members["command"].signature.members["payload"].shape)
    layout = Packed(window.signature.members["o"].signature.members["payload"].shape)
    bench = _Bench(stand, opcode, lanes, chunk, bits, layout)
    source, sink = Source(stand, "command", ahead=True), Sink(stand, "o", bench.taken)
    draw = stand.random

    def ask(fields: Mapping[str, int]) -> None:
        index, mark = draw.getrandbits(32), draw.randrange(2)
        source.queue.append(commands.pack({"body": fields, "index": index, "mark": mark}))
        bench.ask(fields, index, mark)

    for agent in (source, sink):
        stand.add(agent)
    await stand.start()
    for turn in range(60 if quick else 600):
        full = turn % 6 == 0
        source.pace.full = sink.pace.full = full
        bench.counts = []
        for _ in range(5):
            ask(drawn(draw, opcode, lanes, chunk, ragged=_ragged(opcode, lanes)))
        if turn % 10 == 1:
            ask(_long(draw, opcode, lanes, chunk))
        if turn % 5 == 4:
            await stand.tick(draw.randrange(60))
            stand.bins["a reset in the middle of a command"] += source.offers and bool(bench.moved)
            bench.expected.clear()
            await stand.reset()
            continue
        began, bench.moved = stand.cycle + 1, []
        vectors = len(bench.expected)
        await stand.until(lambda: not bench.expected, 40 * vectors + 4000)
        assert not source.queue
        if full:
            # A command stands in the first cycle after `began`, or after the one before was taken, and is offered in
            # the next; that one is taken with its last step, or its last vector.
            wanted, latency = list[int](), LATENCY[opcode]
            soonest = began + 1 + latency
            for count in bench.counts:
                wanted += range(soonest, soonest + count)
                soonest = wanted[-1] + 2 + (latency if _holds(opcode) else 0)
            assert bench.moved == wanted, (
                f"{vectors} vectors from {began} on come in cycles {bench.moved[:8]}…"
            )
            stand.bins["a vector a cycle, and none lost between commands"] += 1
        await stand.tick(draw.randrange(6))


def _long(numbers: random.Random, opcode: Opcode, lanes: int, chunk: int) -> dict[str, int]:
    """A command with one loop of hundreds of turns."""
    while True:
        fields = drawn(numbers, opcode, lanes, chunk)
        loop = numbers.choice([loop for loop in order(opcode) if loop != "digits"])
        fields |= dict.fromkeys([each for each in order(opcode)], 1) | {loop: 300 + numbers.randrange(20)}
        if _fits(fields, chunk, _ragged(opcode, lanes)):
            return fields
