"""What the machine runs in the bench: a tiny configuration and small networks, compiled by the compiler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from intaglio import golden
from intaglio.compiler import Program, compile_network
from intaglio.network import Conv2D, FullyConnected, MaxPool2D, Network, SbnqRescale, Tensor, TensorType
from intaglio.spec.commands import COMMAND_BYTES, Opcode, decode, encode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import REGION_REGISTERS, Register

__all__ = ["CONFIG", "UNSET", "Job", "at", "bare", "job", "network", "overflowing"]

# Sums of 12 bits: the networks below keep to them, but for the one that is made not to.
CONFIG = AcceleratorConfig(
    name="tiny",
    rows=4,
    columns=3,
    activation_types=("uint4", "int4"),
    weight_type="int4",
    accumulator_bits=12,
    accumulator_depth=16,
    rescales=("sbnq",),
    rescale_lanes=3,
    scratchpad_bytes=1024,
    weight_buffer_bytes=512,
    address_bits=40,
)
UNSET = 0xA5
BASE = 0x9A_0001_0F80
"""Where programs lie: not far below a 4 KiB boundary."""
ORDER = (Region.OUTPUT, Region.SCRATCH, Region.INPUT, Region.STATE, Region.PROGRAM)
"""In which regions lie there, one at the end of the other."""
AROUND = 256
"""Bytes on either side of a program that must stay as they were."""
UINT4 = TensorType(4, False)
INT4 = TensorType(4, True)


def at(region: int, offset: int = 0) -> dict[str, int]:
    """The fields of a command that name memory."""
    return {"region": region, "memory_offset": offset}


@dataclass(frozen=True)
class Job:
    """A command list with the memory around it, and what memory must hold in the end."""

    commands: bytes
    command_offset: int
    """Of the list in PROGRAM."""
    count: int
    grants: Mapping[Region, tuple[int, int]]
    """Base and limit of each region; the others are not granted."""
    base: int
    memory: bytes
    """From `base` on, before a start."""
    expected: bytes
    """The same after the run."""
    known: bytes
    """The bits of it that are: the last byte of an output of an odd number of elements is half anything."""
    program: Program | None
    """That it was made from, if it was compiled."""
    overflows: int
    """Exact sums that golden found out of range."""

    def address(self, region: int, offset: int = 0) -> int:
        """Of a byte in memory."""
        return self.grants[Region(region)][0] + offset

    def place(self, index: int) -> int:
        """The address that the command at `index` names."""
        values = self.command(index)[1]
        return self.address(values["region"], values["memory_offset"])

    @property
    def command_address(self) -> int:
        return self.address(Region.PROGRAM, self.command_offset)

    @property
    def written(self) -> slice:
        """Of `memory`: what may change."""
        base, limit = self.grants[Region.OUTPUT]
        return slice(base - self.base, base - self.base + limit)

    @property
    def outputs(self) -> bytes:
        """What OUTPUT must hold in the end."""
        return self.expected[self.written]

    def granting(self, region: Region, base: int | None = None, limit: int | None = None) -> Job:
        """With another base or limit of a region."""
        before = self.grants.get(region, (0, 0))
        grant = (before[0] if base is None else base, before[1] if limit is None else limit)
        return self.having(grants={**self.grants, region: grant})

    def settings(self) -> dict[Register, int]:
        """What the host writes before a start."""
        values = {Register.COMMAND_OFFSET: self.command_offset, Register.COMMAND_COUNT: self.count}
        for region, registers in REGION_REGISTERS.items():
            base, limit = self.grants.get(region, (0, 0))
            values |= {
                registers.base: base & 0xFFFF_FFFF,
                registers.base_high: base >> 32,
                registers.limit: limit,
            }
        return values

    def command(self, index: int) -> tuple[Opcode, dict[str, int]]:
        return decode(self.commands[index * COMMAND_BYTES :][:COMMAND_BYTES])

    def replaced(self, index: int, command: bytes) -> Job:
        """With another command at `index`."""
        start = index * COMMAND_BYTES
        commands = self.commands[:start] + command + self.commands[start + COMMAND_BYTES :]
        return self.having(commands=commands)

    def changed(self, index: int, **fields: int) -> Job:
        """With some fields of the command at `index` changed."""
        opcode, values = self.command(index)
        return self.replaced(index, encode(opcode, values | fields))

    def having(self, **fields: Any) -> Job:
        return dataclasses.replace(self, **fields)

    @property
    def compiled(self) -> Program:
        if self.program is None:
            raise ValueError("this job was made by hand")
        return self.program

    def of(self, opcode: Opcode) -> list[int]:
        """Where in the list commands of an opcode are."""
        places = range(0, len(self.commands), COMMAND_BYTES)
        return [place // COMMAND_BYTES for place in places if self.commands[place] == opcode]


def job(net: Network, seed: int) -> Job:
    """A network with random inputs, compiled; golden says what comes out."""
    rng = np.random.default_rng(seed)
    program = compile_network(net, CONFIG)
    inputs = {}
    for name in net.inputs:
        tensor = net.tensors[name]
        inputs[name] = rng.integers(tensor.type.min, tensor.type.max + 1, (1, *tensor.shape))
    result = golden.run(net, inputs)
    grants, top = {}, BASE
    for region in ORDER:
        if size := program.region_bytes[region]:
            grants[region] = (top, size)
            top += size
    start = BASE - AROUND
    memory = np.full(top + AROUND - start, UNSET, np.uint8)
    image = grants[Region.PROGRAM][0] - start
    memory[image : image + len(program.image)] = program.image
    for binding in program.inputs:
        place = grants[binding.region][0] + binding.offset - start
        memory[place : place + binding.bytes] = binding.pack(inputs[binding.tensor])[0]
    expected = memory.copy()
    known = np.full_like(memory, 0xFF)
    for binding in program.outputs:
        place = grants[binding.region][0] + binding.offset - start
        expected[place : place + binding.bytes] = binding.pack(result.tensors[binding.tensor])[0]
        if binding.size * binding.digits % 2:
            known[place + binding.bytes - 1] = 0x0F
    return Job(
        program.commands,
        program.command_offset,
        program.command_count,
        grants,
        start,
        memory.tobytes(),
        expected.tobytes(),
        known.tobytes(),
        program,
        sum(result.overflows.values()),
    )


OUTPUTS, SOURCE, LIST = 0x1_FF80, 0x2_0F80, 0x2_1FA0
"""The bases of OUTPUT, INPUT and PROGRAM of a list made by hand: each region reaches across a 4 KiB boundary."""
REGION_BYTES = 256


def bare(
    *commands: tuple[Opcode, dict[str, int]], source: bytes = b"", outputs: bytes = b"", first: int = 0
) -> Job:
    """Commands made by hand, which find `source` in INPUT. `outputs` is what OUTPUT holds in the end, from its byte
    `first` on."""
    base = OUTPUTS - AROUND
    words = b"".join(encode(opcode, fields) for opcode, fields in commands)
    memory = np.full(LIST - base + len(words) + AROUND, UNSET, np.uint8)
    memory[SOURCE - base :][: len(source)] = np.frombuffer(source, np.uint8)
    memory[LIST - base :][: len(words)] = np.frombuffer(words, np.uint8)
    expected = memory.copy()
    expected[OUTPUTS - base + first :][: len(outputs)] = np.frombuffer(outputs, np.uint8)
    return Job(
        words,
        0,
        len(commands),
        {
            Region.OUTPUT: (OUTPUTS, REGION_BYTES),
            Region.INPUT: (SOURCE, LIST - SOURCE),
            Region.PROGRAM: (LIST, len(words)),
        },
        base,
        memory.tobytes(),
        expected.tobytes(),
        bytes([0xFF]) * len(memory),
        None,
        0,
    )


class _Layers:
    def __init__(self, seed: int, shape: tuple[int, int, int], kind: TensorType) -> None:
        self._rng = np.random.default_rng(seed)
        self.tensors = {"input": Tensor("input", shape, kind)}
        self.layers: list[Any] = []

    def add(self, layer_type: type, kind: TensorType, **fields: Any) -> None:
        source = list(self.tensors)[-1]
        name = f"layer{len(self.layers)}"
        layer = layer_type(name, (source,), f"{name}_out", **fields)
        shape = layer.output_shape(self.tensors[source].shape)
        self.tensors[layer.output] = Tensor(layer.output, shape, kind)
        self.layers.append(layer)

    def products(self, shape: tuple[int, ...], signed: bool) -> dict[str, Any]:
        rng = self._rng
        return {
            "weights": rng.integers(-8, 8, shape),
            "weight_type": INT4,
            "accumulator_bits": CONFIG.accumulator_bits,
            "rescale": SbnqRescale(rng.integers(-60, 61, shape[0]), rng.integers(3, 7, shape[0]), not signed),
        }

    def network(self, outputs: tuple[str, ...] = ()) -> Network:
        names = list(self.tensors)
        return Network("bench", self.tensors, tuple(self.layers), ("input",), outputs or (names[-1],))


@cache
def network(seed: int, small: bool = False) -> Network:
    """A convolution, a pooling and a fully connected layer; `small` takes some 300 cycles, else some 1,000."""
    layers = _Layers(seed, (4, 4, 1) if small else (7, 6, 2), UINT4)
    kernel, channels = ((2, 2), 3) if small else ((3, 3), 4)
    fields = layers.products((channels, *kernel, 1 if small else 2), signed=seed % 2 == 1)
    kind = INT4 if seed % 2 else UINT4
    layers.add(Conv2D, kind, stride=(1, 1), padding=(1, 0, 1, 0), dilation=(1, 1), **fields)
    layers.add(MaxPool2D, kind, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    features = layers.tensors["layer1_out"].size
    layers.add(FullyConnected, UINT4, **layers.products((3 if small else 7, features), signed=False))
    return layers.network(("layer2_out",) if small else ("layer0_out", "layer2_out"))


@cache
def overflowing(seed: int) -> Network:
    """A fully connected layer whose sums leave 12 bits: weights and inputs are large and of few signs."""
    layers = _Layers(seed, (1, 1, 96), UINT4)
    fields = layers.products((7, 96), signed=False)
    rng = np.random.default_rng(seed)
    fields["weights"] = np.where(rng.random((7, 96)) < 0.8, 7, -8) * np.where(rng.random((7, 1)) < 0.5, 1, -1)
    fields["weights"] = np.clip(fields["weights"], -8, 7)
    layers.add(FullyConnected, UINT4, **fields)
    return layers.network()
