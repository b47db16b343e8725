"""What the machine refuses, and as which fault (`docs/architecture.md`, "The command set" and "Faults")."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from intaglio.sim.simulator.functional.arithmetic import Integers
from intaglio.sim.simulator.functional.commands import row_offsets
from intaglio.sim.simulator.functional.windows import positions_of
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.spec.commands import (
    COMMAND_BITS,
    FORMATS,
    SOFTMAX_PLANES,
    TABLE_ENTRIES,
    Opcode,
    Operation,
    Scheme,
    command_layout,
)
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MEMORY_OFFSET_BITS, SOFTMAX_ELEMENTS
from intaglio.spec.regions import Region
from intaglio.spec.registers import Cause

__all__ = ["Grant", "refused_at_dispatch", "refused_by_engine"]


def refused_at_dispatch(command: bytes, config: AcceleratorConfig) -> Cause:
    """Why a command gets into no engine's queue: an opcode that the machine does not have, a reserved bit, a count of
    0, a region that there is not; NONE where it does.
    """
    word = int.from_bytes(command, "little")
    opcodes = [int(opcode) for opcode in FORMATS if opcode is not Opcode.ELEMENTWISE or config.affine]
    if word & 0xFF not in opcodes:
        return Cause.ILLEGAL_OPCODE
    opcode = Opcode(word & 0xFF)
    end = 0
    for name, (start, field) in command_layout(opcode).items():
        value = word >> start & ((1 << field.bits) - 1)
        end = max(end, start + field.bits)
        if ("reserved" in name and value) or (name in FORMATS[opcode].nonzero and not value):
            return Cause.ILLEGAL_FIELD
        if field.choices and value >= field.choices:
            return Cause.ILLEGAL_FIELD
    return Cause.ILLEGAL_FIELD if word >> end and end < COMMAND_BITS else Cause.NONE


def refused_by_engine(opcode: Opcode, values: Mapping[str, int], config: AcceleratorConfig) -> bool:
    """Whether the engine finds a field that this machine cannot run (ILLEGAL_FIELD)."""
    if opcode is Opcode.WEIGHTS:
        return bool(values["memory_offset"] % config.bus_bytes)
    if opcode is Opcode.MATMUL:
        return _matmul_refused(values, config)
    if opcode is Opcode.RESCALE:
        return _rescale_refused(values, config)
    if opcode is Opcode.ELEMENTWISE:
        return _elementwise_refused(values)
    return False


def _matmul_refused(values: Mapping[str, int], config: AcceleratorConfig) -> bool:
    if values["depthwise"] and not config.depthwise_taps:
        return True
    if values["weight_digits"] and not config.weight_digits:
        return True
    if not config.depthwise_taps and (values["row_overlap"] or values["last_row_columns"]):
        return True
    if _lines_refused(values, config):
        return True
    if values["digits"] != 1 and not values["weight_digits"] and not config.activation_digits:
        return True
    return positions_of(values) > config.accumulator_depth


def _lines_refused(values: Mapping[str, int], config: AcceleratorConfig) -> bool:
    if not config.line_buffer_rows:
        fields = ("lines", "line_lanes", "first_output_row", "goes_on", "kernel_column_row_step")
        return any(values[name] for name in fields)
    if not values["lines"]:
        return False
    return (
        values["lines"] > config.line_buffer_rows
        or values["line_lanes"] > config.rows
        or values["output_columns"] > config.line_buffer_columns
    )


def _rescale_refused(values: Mapping[str, int], config: AcceleratorConfig) -> bool:
    carried = [Scheme[name.upper()] for name in config.rescales]
    if values["scheme"] not in carried:
        return True
    if values["wide"] and (values["scheme"] != Scheme.LLSQ or config.element_bits == 8):
        return True
    return values["positions"] > config.accumulator_depth or values["channels"] > config.columns


def _elementwise_refused(values: Mapping[str, int]) -> bool:
    if values["operation"] not in list(Operation):
        return True
    if values["operation"] == Operation.LOAD_TABLE:
        return values["pixels"] not in (1, SOFTMAX_PLANES) or values["channels"] != TABLE_ENTRIES
    return values["operation"] == Operation.SOFTMAX and values["channels"] > SOFTMAX_ELEMENTS


@dataclass(frozen=True)
class Grant:
    """What the host granted for reading, or for writing, and the memory that is there.

    Parameters
    ----------
    memory_map : where regions lie, and their limits
    there : bytes of each region that a memory answers
    regions : those that the machine may read, or write
    outside, missing : causes of a transfer that leaves its region or has no right there, and of one that no memory
        answers
    """

    memory_map: MemoryMap
    there: Mapping[Region, int]
    regions: Collection[Region]
    config: AcceleratorConfig
    outside: Cause
    missing: Cause

    @classmethod
    def reads(cls, memory_map: MemoryMap, there: Mapping[Region, int], config: AcceleratorConfig) -> Grant:
        may = [region for region in Region if region.readable]
        return cls(memory_map, there, may, config, Cause.READ_REGION, Cause.READ_ERROR)

    @classmethod
    def writes(cls, memory_map: MemoryMap, there: Mapping[Region, int], config: AcceleratorConfig) -> Grant:
        may = [region for region in Region if region.writable]
        return cls(memory_map, there, may, config, Cause.WRITE_REGION, Cause.WRITE_ERROR)

    def refused(self, region: Region, starts: Integers, size: int) -> tuple[Cause, int] | None:
        """Of transfers of `size` bytes from each of the offsets `starts`, the first that cannot be, and the address
        that the fault names: the transfer's first beat, or the first beat that no memory answers (a machine names its
        burst's); 0 where the region may not be used.
        """
        if region not in self.regions:
            return self.outside, 0
        beat, there = self.config.bus_bytes, self.there.get(region, 0)
        limit = self.memory_map.limits.get(region, 0)
        first, end = starts // beat * beat, -(-(starts + size) // beat) * beat
        outside, missing = end > limit, end > there
        if not (outside | missing).any():
            return None
        place = int(np.argmax(outside | missing))
        if outside[place]:
            return self.outside, self._address(region, int(first[place]))
        return self.missing, self._address(region, max(int(first[place]), there))

    def _address(self, region: Region, offset: int) -> int:
        return (self.memory_map.bases.get(region, 0) + offset) % (1 << self.config.address_bits)

    def beats(self, starts: Integers, size: int) -> int:
        """Beats on the bus of such transfers."""
        beat = self.config.bus_bytes
        first, end = starts // beat, -(-(starts + size) // beat)
        return int((end - first).sum())


def transfer_of(
    opcode: Opcode, values: Mapping[str, int], config: AcceleratorConfig
) -> tuple[Region, Integers, int]:
    """The transfers of a LOAD, STORE or WEIGHTS: their region, the offset of each, once, and the bytes of each."""
    region = Region(values["region"])
    if opcode is Opcode.WEIGHTS:
        size = values["beats"] * config.bus_bytes
        starts = values["memory_offset"] + size * np.arange(values["stretches"])
        return region, starts % (1 << MEMORY_OFFSET_BITS), size
    return region, row_offsets(values), values["row_bytes"]
