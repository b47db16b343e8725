# amaranth: UnusedElaboratable=no
"""Bench of `hdl/engines/line_buffer.py`: what each vector meets, whatever came between, and that nothing is lost."""

from collections import deque
from functools import partial
from typing import Any

from amaranth.hdl import Shape

from intaglio.hdl.engines.line_buffer import LineBuffer
from intaglio.hdl.units.array import MacArray
from intaglio.sim.engines.agents import Sink, Source
from intaglio.sim.engines.bench import Configuration
from intaglio.sim.engines.layouts import Packed
from intaglio.sim.engines.machines import machine
from intaglio.sim.lockstep import Agent, Stand
from intaglio.spec.config import AcceleratorConfig

__all__ = ["configurations"]

LATENCY = 2
BINS = (
    "a vector without lines",
    "a vector without lines between two rows",
    "the least lanes",
    "the most lanes",
    "lanes that leave the array",
    "a column that the vector before has written",
    "the same, after a stall",
    "the last column",
    "lines that are not known",
    "lines that are not known, where others were kept",
    "two vectors a cycle apart, with lines",
    "a vector that waits, with lines",
    "a reset with a vector held",
)


def configurations() -> list[Configuration]:
    int8: dict[str, Any] = {
        "activation_types": ("int8",), "weight_type": "int8", "accumulator_bits": 32, "line_buffer_columns": 16,
    }  # fmt: skip
    machines = [
        machine(rows=6, columns=3, depthwise_taps=2, line_buffer_rows=2, **int8),
        # More columns than rows, and one line.
        machine(rows=3, columns=5, depthwise_taps=1, line_buffer_rows=1, **int8),
        # No depthwise mapping, and operands of five bits.
        machine(
            rows=7, columns=2, activation_types=("uint4", "int4"), line_buffer_rows=3, line_buffer_columns=16
        ),
    ]
    return [
        Configuration(
            f"line_buffer_{config.rows}x{config.columns}_{config.line_buffer_rows}",
            partial(LineBuffer, config, _vector(config)),
            partial(_check, config),
            _bins(config),
            mutants=config.rows in (6, 7),
        )
        for config in machines
    ]


def _vector(config: AcceleratorConfig) -> Any:
    """Of what the array takes."""
    lines = config.line_buffer_rows if config.depthwise_taps else 0
    array = MacArray(
        config.rows, config.columns, config.operand, config.weight, tag_bits=5,
        depthwise_taps=config.depthwise_taps, depthwise_lines=lines,
    )  # fmt: skip
    return array.i.payload.shape()


def _bins(config: AcceleratorConfig) -> list[str]:
    kinds = ["side by side", *(["depthwise"] if config.depthwise_taps else [])]
    return [
        *BINS,
        *(["a line that is known, before one that is not"] if config.line_buffer_rows > 1 else []),
        *(f"{lines} lines, {kind}" for lines in range(1, config.line_buffer_rows + 1) for kind in kinds),
    ]


class _Model(Agent):
    """What the vectors of each column were, the last first.

    A column that no vector was kept for since the reset holds nothing that is known.
    """

    def __init__(self, stand: Stand, config: AcceleratorConfig, inner: Packed, entry: Packed) -> None:
        self._stand = stand
        self._config = config
        self._inner, self._entry = inner, entry
        self._lanes = config.operand_lanes
        self._bits = config.operand.bits
        self.restart()

    def restart(self) -> None:
        self._columns: dict[int, list[list[int]]] = {}
        self._due: deque[tuple[dict[str, Any], int]] = deque()
        self._last: tuple[int, int, int] | None = None

    @property
    def held(self) -> bool:
        return bool(self._due)

    def _split(self, word: int, lanes: int) -> list[int]:
        return [word >> lane * self._bits & ((1 << self._bits) - 1) for lane in range(lanes)]

    def taken_in(self, word: int) -> None:
        given = self._entry.unpack(word)
        vector, place = given["vector"], given["place"]
        lines, column, own = place["lines"], place["column"], place["lanes"]
        row = self._split(vector["activations"], self._lanes)
        expected = dict(vector)
        kept: list[list[int]] = self._columns.get(column, [])
        pad = given["pad"] & ((1 << self._bits) - 1)
        none = [[pad] * self._lanes] * (self._config.line_buffer_rows - place["known"])
        # Those above what is known hold the pad; of what is known and was never kept nothing is said.
        before = [*kept[: place["known"]], *none] if len(kept) >= place["known"] else kept
        if lines:
            self._columns[column] = [row, *before][: self._config.line_buffer_rows]
            bins = self._stand.bins
            bins["lines that are not known"] += place["known"] == 0
            bins["a line that is known, before one that is not"] += 0 < place["known"] < lines
            bins["lines that are not known, where others were kept"] += len(kept) > place["known"]
            if not vector.get("depthwise"):
                # The oldest line's other lanes stand behind it, but where weights have no zero for them.
                last = own if self._config.weight.is_binary else self._lanes
                parts = [
                    *((line, own) for line in (row, *before[: lines - 1])),
                    *((line, last) for line in before[lines - 1 : lines]),
                ]
                side = [lane for line, most in parts for lane in line[:most]]
                known = len(before) >= lines
                expected["activations"] = (side + [0] * self._lanes)[: self._lanes] if known else None
        if expected["activations"] is not None and not isinstance(expected["activations"], list):
            expected["activations"] = row
        expected["above"] = before if lines else []
        self._due.append((expected, self._stand.cycle))
        self._cover(vector, place, lines, column, own)

    def _cover(
        self, vector: dict[str, Any], place: dict[str, int], lines: int, column: int, own: int
    ) -> None:
        bins, cycle = self._stand.bins, self._stand.cycle
        bins["a vector without lines"] += not lines
        bins["a vector without lines between two rows"] += not lines and bool(self._columns)
        if not lines:
            self._last = None
            return
        depthwise = bool(vector.get("depthwise"))
        bins[f"{lines} lines, {'depthwise' if depthwise else 'side by side'}"] += 1
        bins["the least lanes"] += own == 1 and not depthwise
        bins["the most lanes"] += own == self._config.rows and not depthwise
        bins["lanes that leave the array"] += own * (lines + 1) > self._lanes and not depthwise
        bins["the last column"] += column == self._config.line_buffer_columns - 1
        if self._last is not None:
            last_column, _, last_cycle = self._last
            bins["a column that the vector before has written"] += column == last_column
            bins["the same, after a stall"] += column == last_column and cycle - last_cycle > 1
            bins["two vectors a cycle apart, with lines"] += cycle - last_cycle == 1
        self._last = column, lines, cycle

    def taken_out(self, word: int) -> None:
        assert self._due, "a vector that nobody put in"
        expected, since = self._due.popleft()
        assert self._stand.cycle >= since + LATENCY, "a vector is early"
        found = self._inner.unpack(word)
        for name in ("swap", "tag", "depthwise"):
            assert found.get(name) == expected.get(name), f"`{name}` is {found.get(name)}"
        row = self._split(found["activations"], self._lanes)
        assert expected["activations"] in (None, row), f"{row} came out, not {expected['activations']}"
        width = self._config.columns * self._bits
        for line, earlier in enumerate(expected["above"]):
            if "above" in found:
                above = self._split(found["above"] >> line * width, self._config.columns)
                assert above == earlier[: self._config.columns], f"line {line} is {above}, not {earlier}"

    def sample(self) -> None:
        due = bool(self._due) and self._due[0][1] + LATENCY <= self._stand.cycle
        assert bool(self._stand.read("o__valid")) == due, f"a vector is {'late' if due else 'there twice'}"
        waits = due and not self._stand.read("o__ready")
        self._stand.bins["a vector that waits, with lines"] += waits and bool(self._due[0][0]["above"])


async def _check(config: AcceleratorConfig, stand: Stand, quick: bool) -> None:
    component = LineBuffer(config, _vector(config))
    entry, inner = (Packed(port.payload.shape()) for port in (component.i, component.o))
    shape = component.i.payload.shape()
    bits = Shape.cast(shape["vector"].shape).width
    model = _Model(stand, config, inner, entry)
    source = Source(stand, "i", model.taken_in)
    sink = Sink(stand, "o", model.taken_out)
    for agent in (model, source, sink):
        stand.add(agent)
    await stand.start()
    numbers = stand.random
    for turn in range(80 if quick else 300):
        source.pace.full = sink.pace.full = turn % 4 == 3
        for place in _places(config, numbers):
            vector = inner.unpack(numbers.getrandbits(bits))
            if "depthwise" in vector:
                vector["depthwise"] = place.pop("depthwise")
            else:
                place.pop("depthwise")
            pad = numbers.randint(config.operand.min, config.operand.max)
            source.queue.append(entry.pack({"vector": vector, "place": place, "pad": pad}))
        if turn % 10 == 9:
            await stand.until(lambda: model.held, 4000)
            stand.bins["a reset with a vector held"] += model.held
            await stand.reset()
            continue
        await stand.until(lambda: not source.queue and not model.held, 40000)
    assert source.sent > 500 or quick
    assert source.sent >= sink.received > 100


def _places(config: AcceleratorConfig, numbers: Any) -> list[dict[str, int]]:
    """Some rows of vectors, alike in all but their column; or vectors that have no lines."""
    lines = numbers.randint(0, config.line_buffer_rows)
    size = config.line_buffer_columns
    width = numbers.choice((1, 1, 1, 2, numbers.randint(1, size), size))
    first = numbers.randrange(size)
    common = {
        "lines": lines,
        "known": numbers.choice((config.line_buffer_rows, numbers.randint(0, config.line_buffer_rows))),
        "lanes": numbers.choice((1, config.rows, numbers.randint(1, config.rows))),
        "depthwise": numbers.randint(0, 1),
    }
    return [
        common | {"column": (first + column) % size}
        for _ in range(numbers.randint(1, 4 if width > 1 else 12))
        for column in range(width)
    ]
