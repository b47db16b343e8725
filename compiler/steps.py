"""What the schedule is made of: one step is one command of the machine, typed, before it is bits.

A step says what the machine is to do, which places it reads and writes, and which earlier steps it waits for besides
those whose places it meets. `encode.py` turns it into fields, `waits.py` into counts of commands to wait for.
Addresses on chip are in elements, those in memory in bytes, counted as `addresses.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from intaglio.compiler.views import Interval
from intaglio.spec.commands import Opcode, Operation, Scheme


@dataclass(frozen=True)
class Places:
    """What a step touches: stretches of the scratchpad, and of the memory."""

    scratchpad: tuple[Interval, ...] = ()
    memory: tuple[Interval, ...] = ()

    def meets(self, other: Places) -> bool:
        pairs = ((self.scratchpad, other.scratchpad), (self.memory, other.memory))
        return any(a.meets(b) for ours, theirs in pairs for a in ours for b in theirs)


NOTHING = Places()


def on_chip(*intervals: Interval) -> Places:
    return Places(scratchpad=intervals)


def in_memory(start: int, size: int) -> Places:
    return Places(memory=(Interval(start, start + size),))


@dataclass(eq=False, kw_only=True)
class Step:
    """What all steps have. Two steps are equal only if they are the same step.

    Attributes
    ----------
    opcode : of the command that it becomes
    owner : whom an error message names
    reads, writes : places on chip and in memory
    after : earlier steps that must be complete before this one starts, besides those whose places it meets
    mark : whether the machine takes a time stamp when it is complete
    number : its place in the order in which steps were scheduled; set by the schedule
    """

    opcode: ClassVar[Opcode]
    owner: str
    reads: Places = NOTHING
    writes: Places = NOTHING
    after: list[Step] = field(default_factory=list)
    mark: bool = False
    number: int = -1


@dataclass(eq=False, kw_only=True)
class Transfer(Step):
    """Rows of bytes between memory and the scratchpad; pitches from a row to the next, 0 where there is but one.

    `memory` is an address, or what the image is to hold, wherever it comes to lie.
    """

    memory: int | bytes
    scratchpad: int
    row_bytes: int
    rows: int = 1
    memory_pitch: int = 0
    scratchpad_pitch: int = 0


@dataclass(eq=False, kw_only=True)
class Load(Transfer):
    """Memory to scratchpad. `opens`: the first piece of a network's input or of a constant."""

    opcode = Opcode.LOAD
    opens: bool = False


@dataclass(eq=False, kw_only=True)
class Store(Transfer):
    opcode = Opcode.STORE


@dataclass(eq=False, kw_only=True)
class Weights(Step):
    """What the MATMULs of blocks take of the weight stream: stretches of as many bytes, one behind the other in memory,
    each for so many blocks."""

    opcode = Opcode.WEIGHTS
    stretches: tuple[bytes, ...]
    times: int = 1


@dataclass(frozen=True)
class Walk:
    """The window reader's way through a tensor on chip (`docs/architecture.md`, "The window reader"): what it reads for
    output position (row, column), kernel position and chunk. Outside of `height` x `width` elements it finds `pad`.

    A pitch may be negative: rows backwards.
    """

    source: int
    width: int
    height: int
    first_row: int
    first_element: int
    row_pitch: int
    row_stride: int
    column_stride: int
    output_rows: int
    output_columns: int
    kernel_rows: int
    kernel_row_step: int
    kernel_columns: int
    kernel_column_step: int
    chunks: int
    kernel_column_row_step: int = 0
    kernel_row_column_step: int = 0
    last_row_columns: int = 0
    pad: int = 0
    signed: bool = False

    @property
    def vectors(self) -> int:
        """Of a pass. The last row may have `last_row_columns`."""
        lacking = self.output_columns - self.last_row_columns if self.last_row_columns else 0
        return self.output_rows * self.output_columns - lacking


@dataclass(frozen=True)
class Destination:
    """Where results go: channels of a pixel side by side, pixels and rows so many elements apart."""

    address: int
    row_pitch: int
    pixel_pitch: int


@dataclass(frozen=True)
class DepthwiseMode:
    """The vectors of a row for which a depthwise MATMUL keeps sums: from `first_output` on every `output_step`-th. With
    `row_overlap` those of a pass; sums of a row end with the first vectors of the next, so many of them."""

    first_output: int
    output_step: int
    row_overlap: int = 0


@dataclass(eq=False, kw_only=True)
class Matmul(Step):
    """A block of one group of output channels into an accumulator bank. `digits` are the weights' if
    `weight_digits`, else the activations', of which `lane_digits` lie side by side in a pass. With `lines` its
    first rows of vectors are read for those after them alone, and unless it `goes_on` with the lines of the one
    before, lines above them are outside the tensor."""

    opcode = Opcode.MATMUL
    walk: Walk
    depthwise: DepthwiseMode | None
    digits: int
    weight_digits: bool
    last_lanes: int
    bank: int
    one_tile: bool
    tile_words: int
    lane_digits: int = 1
    lines: int = 0
    line_lanes: int = 0
    line_lanes_step: int = 0
    first_output_row: int = 0
    goes_on: bool = False


@dataclass(frozen=True)
class Conversion:
    """What RESCALE says of all channels at once."""

    scheme: Scheme
    low: int
    high: int
    zero_point: int = 0
    relu: bool = False
    double: bool = False
    signed: bool = False
    wide: bool = False


@dataclass(eq=False, kw_only=True)
class Rescale(Step):
    """An accumulator bank into the scratchpad: `positions` in rows of `columns`, of each the channels from
    `first_channel` up to `channels`."""

    opcode = Opcode.RESCALE
    conversion: Conversion
    bank: int
    positions: int
    columns: int
    channels: int
    destination: Destination
    first_channel: int = 0


@dataclass(eq=False, kw_only=True)
class Pool(Step):
    """The maximum of each window; of windows of one element, a copy."""

    opcode = Opcode.MAX_POOL
    walk: Walk
    channels: int
    destination: Destination


@dataclass(frozen=True)
class Run:
    """An operand of ELEMENTWISE: `pitch` elements from run to run; with `splat` one element stands for its run."""

    source: int
    pitch: int
    splat: bool = False


@dataclass(frozen=True)
class Runs:
    """`pixels` runs of `channels` elements of each operand; results' runs go `pitch` apart, from `destination` on."""

    operands: tuple[Run, ...]
    pixels: int
    channels: int
    destination: int
    pitch: int

    def reads(self) -> tuple[Interval, ...]:
        """What each operand touches."""
        ends = ((run.pitch * (self.pixels - 1), 1 if run.splat else self.channels) for run in self.operands)
        starts = [run.source for run in self.operands]
        return tuple(Interval(at, at + last + size) for at, (last, size) in zip(starts, ends, strict=True))


@dataclass(eq=False, kw_only=True)
class Elementwise(Step):
    opcode = Opcode.ELEMENTWISE
    runs: Runs


@dataclass(frozen=True)
class OperandNumbers:
    zero_point: int
    multiplier: int = 0
    shift: int = 0


@dataclass(frozen=True)
class ArithmeticNumbers:
    """What ADD, SUBTRACT and MULTIPLY compute with, of each operand and of the result."""

    operation: Operation
    operands: tuple[OperandNumbers, OperandNumbers]
    multiplier: int
    exponent: int
    double: bool
    zero_point: int
    low: int
    high: int


@dataclass(eq=False, kw_only=True)
class Arithmetic(Elementwise):
    """A sum, a difference or a product of two operands."""

    numbers: ArithmeticNumbers


@dataclass(eq=False, kw_only=True)
class Lookup(Elementwise):
    """Each element's entry of the table that was loaded last."""


@dataclass(eq=False, kw_only=True)
class SoftmaxRuns(Elementwise):
    """Softmax of each run, by the tables that were loaded last."""


@dataclass(eq=False, kw_only=True)
class LoadTable(Step):
    """Tables from the scratchpad, `planes` of them one behind the other."""

    opcode = Opcode.ELEMENTWISE
    source: int
    planes: int


AnyStep = Load | Store | Weights | Matmul | Rescale | Pool | Arithmetic | Lookup | SoftmaxRuns | LoadTable
