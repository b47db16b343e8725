"""What the compiler hands to whoever runs the machine: commands, memory image, bindings, windows, probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intaglio.network import NetworkError, TensorType
from intaglio.spec.commands import COMMAND_BYTES, FORMATS, Engine, Opcode, decode
from intaglio.spec.regions import Region

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Binding:
    """Where a tensor lies in memory (in `region`, `offset` bytes from its base), and how: dense NHWC, `digits` elements
    a value, the low one first.

    Element 0 is in the low bits of byte 0. An 8-bit value on a 4-bit machine is therefore just its byte.
    """

    tensor: str
    shape: tuple[int, ...]
    type: TensorType
    region: Region
    offset: int
    bytes: int
    digits: int
    element_bits: int

    @property
    def place(self) -> slice:
        """Its bytes in its region."""
        return slice(self.offset, self.offset + self.bytes)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def pack(self, batch: npt.ArrayLike) -> Bytes:
        """The bytes of a batch, one row of `bytes` an inference. Raises NetworkError for another shape or range."""
        values = np.asarray(batch)
        if values.dtype.kind not in "iu":
            raise NetworkError(f"input {self.tensor}: integers are wanted, not {values.dtype}")
        if values.shape[1:] != self.shape:
            wanted = ", ".join(map(str, ("N", *self.shape)))
            raise NetworkError(
                f"input {self.tensor}: shape {values.shape} given, a batch of shape ({wanted}) is wanted"
            )
        if values.size and not self.type.min <= int(values.min()) <= int(values.max()) <= self.type.max:
            raise NetworkError(f"input {self.tensor}: {values.min()}...{values.max()} is outside {self.type}")
        values = values.reshape(len(values), self.size)
        if self.element_bits == 8 and self.digits == 1:
            return values.astype(np.uint8)
        # An arithmetic shift of the signed value extends the sign into the elements that the type does not fill.
        shifts = np.arange(self.digits, dtype=np.int64) * self.element_bits
        mask = (1 << self.element_bits) - 1
        elements = ((values.astype(np.int64)[:, :, None] >> shifts) & mask).astype(np.uint8)
        return pack_codes(elements.reshape(len(values), -1), self.element_bits)

    def unpack(self, data: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The batch whose rows `pack` made, in the type's narrowest numpy integer; the inverse of `pack`."""
        rows = np.asarray(data, np.uint8)
        if rows.shape[-1] != self.bytes:
            raise ValueError(f"tensor {self.tensor} has {self.bytes} bytes, not {rows.shape[-1]}")
        rows = rows.reshape(-1, self.bytes)
        elements = unpack_codes(rows, self.element_bits)[:, : self.size * self.digits]
        return self.values_of(elements).reshape(-1, *self.shape)

    def values_of(self, elements: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The values of elements as they lie in the scratchpad (unsigned patterns), `digits` a value."""
        return values_of(elements, self.type, self.digits, self.element_bits)


@dataclass(frozen=True)
class Probe:
    """Right after `engine` has completed `sequence` commands, the whole of `tensor` lies in the scratchpad.

    No later command overwrites any of it before that completion. `elements` counts scratchpad elements from
    element `address` on; `digits` of them make a value of `type`. A pixel's last `gap` of them are not the tensor's: it
    is a part of another, pixel by pixel.
    """

    engine: Engine
    sequence: int
    tensor: str
    address: int
    elements: int
    shape: tuple[int, ...]
    type: TensorType
    digits: int
    element_bits: int
    gap: int = 0

    def values_of(self, elements: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The tensor, from its elements (unsigned patterns) along the last axis; axes before it stay."""
        patterns = np.asarray(elements)
        before = patterns.shape[:-1]
        if self.gap:
            pixel = self.shape[-1] * self.digits
            behind = np.zeros((*before, self.gap), patterns.dtype)
            patterns = np.concatenate([patterns, behind], axis=-1).reshape(*before, -1, pixel + self.gap)
            patterns = patterns[..., :pixel].reshape(*before, -1)
        return values_of(patterns, self.type, self.digits, self.element_bits).reshape(*before, *self.shape)


@dataclass(frozen=True)
class LayerInfo:
    """A layer of the network as the program runs it. Time stamp number `mark` is taken when it is complete; -1: it is
    complete from the start. Layers that are no work of their own share the one before, and where layers outnumber time
    stamps, the last ones share theirs."""

    name: str
    op: str
    macs: int
    mark: int


@dataclass(frozen=True)
class Program:
    """A network compiled for one machine.

    It is independent of where the regions lie. `image` (commands, weights, tables and constants) is all of PROGRAM and
    is only read; inputs go to their bindings before each start. `region_bytes` are to be granted of each region, whole
    multiples of 64, 0 of one that the program does not use.

    Every tensor that a layer writes is whole on chip at some time (`probes`), or else in memory after it (`spills`).
    `owners` say for whom each command works, if they are there: the layer, the input, the output.
    """

    network: str
    config: str
    fingerprint: int
    commands: bytes
    command_offset: int
    region_bytes: Mapping[Region, int]
    image: Bytes
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    probes: tuple[Probe, ...]
    spills: tuple[Binding, ...]
    layers: tuple[LayerInfo, ...]
    warnings: tuple[str, ...]
    owners: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """Of all regions."""
        return sum(self.region_bytes.values())

    @property
    def command_count(self) -> int:
        return len(self.commands) // COMMAND_BYTES

    def command(self, index: int) -> tuple[Opcode, dict[str, int]]:
        """The opcode and the fields of the command at `index` of the list."""
        return decode(self.commands[index * COMMAND_BYTES : (index + 1) * COMMAND_BYTES])

    def listing(self) -> list[str]:
        """One line a command: its opcode, its sequence number on its engine, the fields that are not zero."""
        lines = []
        counts = dict.fromkeys(Engine, 0)
        for index in range(self.command_count):
            opcode, values = self.command(index)
            engine = FORMATS[opcode].engine
            counts[engine] += 1
            fields = " ".join(f"{name}={value}" for name, value in values.items() if value)
            lines.append(f"{index:4} {opcode.name}#{counts[engine]} {fields}")
        return lines


def cycles_by_layer(layers: Iterable[LayerInfo], stamps: Mapping[int, int], cycles: int) -> tuple[int, ...]:
    """Cycles of each layer, from the completion of the one that was run before it, in a run of `cycles` with these time
    stamps.

    What follows the last stamp (the interrupt, an earlier layer's output on its way to memory) is the last layer's.
    """
    ends = {**stamps, -1: 0, max(stamps, default=-1): cycles}
    marks = [layer.mark for layer in layers]
    spent, before = [0] * len(marks), 0
    for place in sorted(range(len(marks)), key=marks.__getitem__):
        spent[place] = ends[marks[place]] - before
        before = ends[marks[place]]
    return tuple(spent)


def pack_codes(codes: Bytes, bits: int) -> Bytes:
    """Codes of 1, 2, 4 or 8 bits along the last axis, packed from bit 0 of byte 0 up, padded with zeros to a byte."""
    per_byte = 8 // bits
    if per_byte == 1:
        return codes
    if pad := -codes.shape[-1] % per_byte:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], pad), np.uint8)], axis=-1)
    packed = codes[..., 0::per_byte].copy()
    for position in range(1, per_byte):
        packed |= codes[..., position::per_byte] << np.uint8(position * bits)
    return packed


def unpack_codes(data: Bytes, bits: int) -> Bytes:
    """The inverse of `pack_codes`, padding included."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(*data.shape[:-1], -1)


def values_of(
    elements: npt.ArrayLike, kind: TensorType, digits: int, element_bits: int
) -> npt.NDArray[np.generic]:
    """Values from elements (unsigned patterns, `digits` a value along the last axis, the low one first)."""
    patterns = np.asarray(elements)
    patterns = patterns.reshape(*patterns.shape[:-1], -1, digits).astype(np.int64)
    values = (patterns << (np.arange(digits, dtype=np.int64) * element_bits)).sum(axis=-1)
    if kind.signed:
        sign = 1 << (digits * element_bits - 1)
        values = (values ^ sign) - sign
    return values.astype(kind.dtype)
