"""Steps, their waits and their addresses in memory -> the command list's bytes.

The only file of the compiler that knows how `spec.commands` names a command's fields, but for the limits that follow
from their widths (`limits.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from intaglio.compiler.addresses import region_of
from intaglio.compiler.steps import (
    AnyStep,
    Arithmetic,
    Destination,
    Elementwise,
    Load,
    LoadTable,
    Lookup,
    Matmul,
    Pool,
    Rescale,
    SoftmaxRuns,
    Step,
    Store,
    Transfer,
    Walk,
    Weights,
)
from intaglio.compiler.waits import Waits
from intaglio.network import NetworkError
from intaglio.spec.commands import TABLE_ENTRIES, Operation, command_layout
from intaglio.spec.commands import encode as command_bytes
from intaglio.spec.config import AcceleratorConfig


def encode(
    steps: Iterable[AnyStep], waits: Waits, addresses: Mapping[Step, int], config: AcceleratorConfig
) -> bytes:
    """The bytes of the list; `addresses` of what each step reads or writes in memory.

    Raises NetworkError, naming the owner of a command, where one has a field out of range.
    """
    commands = []
    for step in steps:
        fields = _fields(step, addresses, config)
        counts = {f"wait_{engine.name.lower()}": count for engine, count in waits.of(step).items()}
        try:
            commands.append(command_bytes(step.opcode, fields | {"mark": int(step.mark)} | counts))
        except ValueError as error:
            raise NetworkError(f"{step.owner}: too large for a command: {error}") from None
    return b"".join(commands)


def _fields(step: AnyStep, addresses: Mapping[Step, int], config: AcceleratorConfig) -> dict[str, int]:
    match step:
        case Load() | Store():
            return _transfer(step, addresses[step])
        case Weights():
            return {
                **_memory(addresses[step]),
                "beats": len(step.stretches[0]) // config.bus_bytes,
                "times": step.times,
                "stretches": len(step.stretches),
            }
        case Matmul():
            return _matmul(step)
        case Rescale():
            return _rescale(step)
        case Pool():
            return _walk(step, step.walk) | {"channels": step.channels} | _destination(step.destination)
        case Arithmetic():
            return _arithmetic(step) | _elementwise(step)
        case Lookup():
            return {"operation": Operation.LOOKUP} | _elementwise(step)
        case SoftmaxRuns():
            return {"operation": Operation.SOFTMAX} | _elementwise(step)
        case LoadTable():
            return {
                "operation": Operation.LOAD_TABLE,
                "pixels": step.planes,
                "channels": TABLE_ENTRIES,
                "a_source": step.source,
                "a_pitch": TABLE_ENTRIES,
            }
        case _:
            assert_never(step)


def _memory(address: int) -> dict[str, int]:
    region, offset = region_of(address)
    return {"region": region, "memory_offset": offset}


def _transfer(step: Transfer, address: int) -> dict[str, int]:
    return {
        **_memory(address),
        "scratchpad_address": step.scratchpad,
        "row_bytes": step.row_bytes,
        "rows": step.rows,
        "memory_pitch": step.memory_pitch,
        "scratchpad_pitch": step.scratchpad_pitch,
    }


def _walk(step: Step, walk: Walk) -> dict[str, int]:
    pitch = walk.row_pitch
    if pitch < 0:
        # Addresses of the scratchpad wrap, at a power of two that the field holds: backwards is far ahead.
        pitch += 1 << command_layout(step.opcode)["row_pitch"][1].bits
    return {
        "source": walk.source,
        "width_elements": walk.width,
        "height": walk.height,
        "first_row": walk.first_row,
        "first_element": walk.first_element,
        "row_pitch": pitch,
        "row_stride": walk.row_stride,
        "column_stride": walk.column_stride,
        "output_rows": walk.output_rows,
        "output_columns": walk.output_columns,
        "kernel_rows": walk.kernel_rows,
        "kernel_row_step": walk.kernel_row_step,
        "kernel_columns": walk.kernel_columns,
        "kernel_column_step": walk.kernel_column_step,
        "chunks": walk.chunks,
        "pad": walk.pad,
        "signed": int(walk.signed),
    }


def _destination(destination: Destination) -> dict[str, int]:
    return {
        "destination": destination.address,
        "destination_pitch": destination.row_pitch,
        "pixel_pitch": destination.pixel_pitch,
    }


def _matmul(step: Matmul) -> dict[str, int]:
    fields = _walk(step, step.walk) | {
        "digits": step.digits,
        "weight_digits": int(step.weight_digits),
        "lane_digits": step.lane_digits.bit_length() - 1,
        "last_lanes": step.last_lanes,
        "bank": step.bank,
        "one_tile": int(step.one_tile),
        "tile_words": step.tile_words,
        "lines": step.lines,
        "line_lanes": step.line_lanes,
        "line_lanes_step": step.line_lanes_step,
        "first_output_row": step.first_output_row,
        "goes_on": int(step.goes_on),
        "kernel_column_row_step": step.walk.kernel_column_row_step,
        "kernel_row_column_step": step.walk.kernel_row_column_step,
        "last_row_columns": step.walk.last_row_columns,
    }
    if step.depthwise is not None:
        fields |= {
            "depthwise": 1,
            "first_output": step.depthwise.first_output,
            "output_step": step.depthwise.output_step,
            "row_overlap": step.depthwise.row_overlap,
        }
    return fields


def _rescale(step: Rescale) -> dict[str, int]:
    conversion = step.conversion
    return {
        "scheme": conversion.scheme,
        "relu": int(conversion.relu),
        "double": int(conversion.double),
        "signed": int(conversion.signed),
        "wide": int(conversion.wide),
        "zero_point": conversion.zero_point,
        "low": conversion.low,
        "high": conversion.high,
        "bank": step.bank,
        "positions": step.positions,
        "columns": step.columns,
        "channels": step.channels,
        "first_channel": step.first_channel,
    } | _destination(step.destination)


def _elementwise(step: Elementwise) -> dict[str, int]:
    runs, fields = step.runs, dict[str, int]()
    for letter, run in zip("ab", runs.operands, strict=False):
        fields[f"{letter}_source"] = run.source
        fields[f"{letter}_pitch"] = run.pitch
        fields[f"{letter}_splat"] = int(run.splat)
    return fields | {
        "pixels": runs.pixels,
        "channels": runs.channels,
        "destination": runs.destination,
        "pitch": runs.pitch,
    }


def _arithmetic(step: Arithmetic) -> dict[str, int]:
    numbers = step.numbers
    fields = {
        "operation": int(numbers.operation),
        "multiplier": numbers.multiplier,
        "exponent": numbers.exponent,
        "double": int(numbers.double),
        "zero_point": numbers.zero_point,
        "low": numbers.low,
        "high": numbers.high,
    }
    for letter, operand in zip("ab", numbers.operands, strict=True):
        fields |= {
            f"{letter}_zero_point": operand.zero_point,
            f"{letter}_multiplier": operand.multiplier,
            f"{letter}_shift": operand.shift,
        }
    return fields
