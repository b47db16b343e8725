# amaranth: UnusedElaboratable=no
"""What a bench is made of, and the Verilog that its units stand in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Shape
from amaranth.lib import wiring

from intaglio.sim.units.cases import Cases, fields_of

__all__ = ["STAND", "Bench", "Configuration", "stalls", "top"]

STAND = Path(__file__).with_name("stand.v")

PATTERN = 65536


@dataclass(frozen=True)
class Configuration:
    """A unit with its parameters, and its cases.

    Members
    -------
    name : of the Verilog module, unlike any other in the bench
    make : makes the component
    make_cases : from a generator of random numbers, and whether few random cases will do
    lanes : how many copies share the work, where the cases are many
    mutants : whether `intaglio.sim.units.mutate` tries this configuration
    tiles : whether the unit waits for weights: an input with `swap` for the last word of a tile on its stream `w`
    """

    name: str
    make: Callable[[], wiring.Component]
    make_cases: Callable[[np.random.Generator, bool], Cases]
    lanes: int = 1
    mutants: bool = False
    tiles: bool = False

    @cached_property
    def component(self) -> wiring.Component:
        return self.make()

    def cases(self, seed: int, quick: bool) -> Cases:
        return self.make_cases(self.random(seed), quick)

    def random(self, seed: int) -> np.random.Generator:
        """Random numbers of this configuration alone, so that a run of some repeats what a run of all did."""
        return np.random.default_rng([seed, crc32(self.name.encode())])

    @property
    def in_shape(self):
        return self.component.i.payload.shape()

    @property
    def out_shape(self):
        return self.component.o.payload.shape()

    @property
    def latency(self) -> int:
        return self.component.latency


@dataclass(frozen=True)
class Bench:
    """The configurations of one unit that are simulated together."""

    name: str
    configurations: Sequence[Configuration]


def stalls(random: np.random.Generator, latency: int) -> npt.NDArray[np.uint8]:
    """A byte a cycle for `stand.v`: stretches of different habits on both sides, 60 cycles at full speed first."""
    chances = [
        (1.0, 1.0),
        (0.5, 0.5),
        (1.0, 0.15),
        (0.15, 1.0),
        (0.9, 0.9),
        (1.0, 0.5),
        (0.5, 1.0),
        (1.0, 1.0),
    ]
    pattern = np.zeros((PATTERN, 3), bool)
    pattern[:60] = True
    start = 60
    while start < PATTERN:
        length = int(random.integers(20, 200))
        offer, ready = chances[random.integers(len(chances))]
        part = pattern[start : start + length]
        part[:, 0] = random.random(len(part)) < offer
        part[:, 1] = random.random(len(part)) < ready
        part[:, 2] = random.random(len(part)) < random.choice([1.0, 0.5])
        # Long enough a stall to fill the pipeline, with gaps to close on the way.
        part[: 3 * latency + 3, 1] &= random.random() < 0.7
        start += length
    return (pattern * np.array([1, 2, 4], np.uint8)).sum(axis=1, dtype=np.uint8)


def bits_of(shape) -> int:
    return Shape.cast(shape).width


def top(configurations: Sequence[Configuration], selectors: Mapping[str, int] | None = None) -> str:
    """Verilog of a module `top` in which the configurations stand side by side.

    `selectors`: for modules with an input `mutsel`, its bits; a register `mutsel` drives it.
    """
    selectors = selectors or {}
    text = ["module top (input clk);", "    reg [15:0] mutsel = 0;"]
    for index, configuration in enumerate(configurations):
        text += _stand(index, configuration, selectors.get(configuration.name, 0))
    return "\n".join([*text, "endmodule", ""])


def _stand(index: int, configuration: Configuration, selector: int) -> list[str]:
    s, lanes = f"s{index}", configuration.lanes
    in_bits, out_bits = bits_of(configuration.in_shape), bits_of(configuration.out_shape)
    text = [
        "",
        f"    wire {s}_rst, {s}_iv, {s}_or, {s}_rewind, {s}_manual;",
        f"    wire [2:0] {s}_go;",
        f"    wire [{lanes - 1}:0] {s}_ir, {s}_ov;",
        f"    wire [{lanes * in_bits - 1}:0] {s}_ip;",
        f"    wire [{lanes * out_bits - 1}:0] {s}_op;",
    ]
    side, blocked, error = "", "1'b0", "1'b0"
    if configuration.tiles:
        beat = bits_of(configuration.component.w.payload.shape())
        swap, stop = (
            sum(bits * count for _, count, bits, _ in _before(configuration.in_shape, name))
            for name in ("swap", "stop")
        )
        side = f", .w__valid({s}_wv), .w__payload({s}_wp), .w__ready({s}_wr)"
        blocked, error = f"{s}_blocked", f"{s}_w_error"
        text += [
            f"    wire {s}_wv, {s}_wr, {s}_blocked, {s}_w_error;",
            f"    wire [{beat - 1}:0] {s}_wp;",
            f"    feeder #(.INDEX({index}), .BITS({beat})) {s}_w (.clk(clk), .go({s}_go[2]), .rewind({s}_rewind),",
            f"        .drive_manually({s}_manual), .unit_valid({s}_wv), .unit_payload({s}_wp), .unit_ready({s}_wr));",
            f"    tile_gate {s}_gate (.clk(clk), .rst({s}_rst), .w_valid({s}_wv), .w_ready({s}_wr),",
            f"        .w_last({s}_wp[{beat - 1}]), .i_valid({s}_iv), .i_ready({s}_ir[0]), .swap({s}_ip[{swap}]),",
            f"        .stop({s}_ip[{stop}]), .blocked({blocked}), .error({error}));",
        ]
    text += [
        f"    stand #(.INDEX({index}), .LANES({lanes}), .IN_BITS({in_bits}), .OUT_BITS({out_bits}),",
        f"        .LATENCY({configuration.latency})) {s} (.clk(clk), .unit_rst({s}_rst), .unit_i_valid({s}_iv),",
        f"        .unit_i_payload({s}_ip), .unit_i_ready({s}_ir), .unit_o_valid({s}_ov), .unit_o_payload({s}_op),",
        f"        .unit_o_ready({s}_or), .blocked({blocked}), .side_error({error}), .go({s}_go),",
        f"        .rewind({s}_rewind), .drive_manually({s}_manual));",
    ]
    select = f", .mutsel(mutsel[{selector - 1}:0])" if selector else ""
    for lane in range(lanes):
        text += [
            f"    {configuration.name} {s}_unit{lane} (.clk(clk), .rst({s}_rst), .i__valid({s}_iv),",
            f"        .i__payload({s}_ip[{lane * in_bits} +: {in_bits}]), .i__ready({s}_ir[{lane}]),",
            f"        .o__valid({s}_ov[{lane}]), .o__payload({s}_op[{lane * out_bits} +: {out_bits}]),",
            f"        .o__ready({s}_or){side}{select});",
        ]
    return text


def _before(shape, name: str):
    """The fields of a payload below the field `name`."""
    for field in fields_of(shape):
        if field[0] == name:
            return
        yield field
