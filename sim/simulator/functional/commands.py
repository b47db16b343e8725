"""What each command but MATMUL does to the machine's state: LOAD, STORE, RESCALE, MAX_POOL, ELEMENTWISE."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.functional.arithmetic import (
    Integers,
    affine,
    half_away,
    llsq,
    sbnq,
    softmax,
    sqrdmulh,
    wrap,
)
from intaglio.sim.simulator.functional.storage import Bytes, Space, State, bytes_of, elements_of, numbers
from intaglio.sim.simulator.functional.windows import Values, window_addresses
from intaglio.spec.commands import OPERAND_SHIFT, SOFTMAX_PLANES, TABLE_ENTRIES, Operation, Scheme
from intaglio.spec.limits import MEMORY_OFFSET_BITS, RESULT_BITS
from intaglio.spec.records import record_layout
from intaglio.spec.regions import Region

_SLAB = 1 << 20
"""Elements of an inference that a command works on at a time."""


def _parts(count: int, each: int) -> Iterator[Integers]:
    """Numbers below `count`, so many at a time that those with `each` elements make a slab."""
    step = max(1, _SLAB // max(1, each))
    for first in range(0, count, step):
        yield np.arange(first, min(first + step, count))


# LOAD, STORE.


def row_offsets(values: Values) -> Integers:
    """Where each row of a LOAD or a STORE begins in its region."""
    rows = np.arange(values["rows"]) * values["memory_pitch"]
    return (values["memory_offset"] + rows) % (1 << MEMORY_OFFSET_BITS)


def _rows(state: State, values: Values) -> Iterator[tuple[Integers, Integers]]:
    """Bytes in memory, (rows, bytes), and their elements, (rows, elements), a few rows at a time."""
    size = state.config.scratchpad_elements
    count = values["row_bytes"] * 8 // state.config.element_bits
    starts = state.memory.starts[Region(values["region"])] + row_offsets(values)
    for rows in _parts(values["rows"], count):
        elements = values["scratchpad_address"] + rows * values["scratchpad_pitch"]
        yield (
            starts[rows][:, None] + np.arange(values["row_bytes"]),
            (elements[:, None] + np.arange(count)) % size,
        )


def load(state: State, values: Values) -> None:
    for octets, elements in _rows(state, values):
        state.touch(octets, Space.MEMORY)
        state.put(elements, elements_of(state.memory.read(octets), state.config.element_bits))


def store(state: State, values: Values) -> None:
    for octets, elements in _rows(state, values):
        state.memory.write(octets, bytes_of(state.patterns(elements), state.config.element_bits))
        state.touch(elements)
        state.touch(octets, Space.MEMORY, written=True)


# RESCALE.


def rescale(state: State, values: Values) -> None:
    channels = range(values["first_channel"], values["channels"])
    positions, bits = values["positions"], state.config.element_bits
    state.touch_bank(values["bank"], positions, written=False)
    sums = state.banks[values["bank"]][:, :positions, channels.start : channels.stop]
    scheme = Scheme(values["scheme"])
    by_scheme = {Scheme.SBNQ: _by_sbnq, Scheme.AFFINE: _by_affine, Scheme.LLSQ: _by_llsq}[scheme]
    records = _records(state, values["bank"], scheme, channels)
    results = np.clip(by_scheme(state, values, sums, records), values["low"], values["high"])
    apart = 1
    if values["wide"]:
        apart = RESULT_BITS // bits
        results = (results[..., None] >> np.arange(0, RESULT_BITS, bits)).reshape(state.count, positions, -1)
    row, column = np.divmod(np.arange(positions), values["columns"])
    places = values["destination"] + row * values["destination_pitch"] + column * values["pixel_pitch"]
    state.put(places[:, None] + channels.start * apart + np.arange(results.shape[-1]), results)


def _records(state: State, bank: int, scheme: Scheme, channels: range) -> dict[str, Integers]:
    """The fields of the channels' rescale records, each (channels,)."""
    size = state.config.record_bits
    packed = int.from_bytes(state.parameters[bank], "little")
    fields = {}
    for field in record_layout(scheme.name.lower(), state.config.accumulator_bits).values():
        mask = (1 << field.bits) - 1
        patterns = [packed >> (size * channel + field.start) & mask for channel in channels]
        values = np.array(patterns, np.int64)
        fields[field.name] = wrap(values, field.bits) if field.signed else values
    return fields


def _by_sbnq(state: State, values: Values, sums: Integers, records: dict[str, Integers]) -> Integers:
    bits, relu, signed = state.config.element_bits, bool(values["relu"]), bool(values["signed"])
    return sbnq(sums, records["bias"], records["shift"], bits, relu, signed)


def _by_affine(state: State, values: Values, sums: Integers, records: dict[str, Integers]) -> Integers:
    biased = wrap(sums + records["bias"], 32)
    scaled = affine(biased, records["multiplier"], records["exponent"], bool(values["double"]))
    return values["zero_point"] + scaled


def _by_llsq(state: State, values: Values, sums: Integers, records: dict[str, Integers]) -> Integers:
    bits = state.config.accumulator_bits
    exact = sums + wrap(records["bias"], bits)
    biased = wrap(exact, bits)
    state.overflows += np.count_nonzero(biased != exact, axis=(1, 2))
    return llsq(biased, records["mantissa"], records["shift"])


# MAX_POOL.


def max_pool(state: State, values: Values) -> None:
    bits = state.config.element_bits
    channels = min(values["channels"], values["chunks"] * state.config.vector_lanes)
    state.set_outside(values["pad"])
    # Patterns compare as unsigned numbers once signed ones have their sign turned round.
    turned = np.uint8(values["signed"] << (bits - 1))
    for positions in _parts(values["output_rows"] * values["output_columns"], channels):
        greatest = np.zeros((state.count, len(positions), channels), np.uint8)
        for tap in np.ndindex(values["kernel_rows"], values["kernel_columns"]):
            addresses = window_addresses(state, values, positions, tap, 0, channels)[:, 0]
            state.touch(addresses)
            np.maximum(greatest, state.patterns(addresses) ^ turned, out=greatest)
        row, column = np.divmod(positions, values["output_columns"])
        places = values["destination"] + row * values["destination_pitch"] + column * values["pixel_pitch"]
        state.put(places[:, None] + np.arange(channels), greatest ^ turned)


# ELEMENTWISE.


def elementwise(state: State, values: Values) -> None:
    operation = Operation(values["operation"])
    if operation is Operation.LOAD_TABLE:
        _load_table(state, values)
        return
    for pixels in _parts(values["pixels"], values["channels"]):
        a = _operand(state, values, "a", pixels)
        if operation is Operation.LOOKUP:
            result: npt.NDArray = np.take_along_axis(
                state.tables[:, 0], a.reshape(state.count, -1).astype(np.intp), axis=1
            )
        elif operation is Operation.SOFTMAX:
            result = softmax(_int8(a), _exponentials(state))
        else:
            result = _combined(values, operation, a, _operand(state, values, "b", pixels))
        places = values["destination"] + pixels * values["pitch"]
        state.put(places[:, None] + np.arange(values["channels"]), result)


def _int8(patterns: Bytes) -> Integers:
    return numbers(patterns, 8, True).astype(np.int64)


def _operand(state: State, values: Values, name: str, pixels: Integers) -> Bytes:
    """The patterns of an operand: (inferences, pixels, channels)."""
    along = np.arange(values["channels"]) * (1 - values[f"{name}_splat"])
    places = values[f"{name}_source"] + (pixels * values[f"{name}_pitch"])[:, None] + along
    places %= state.config.scratchpad_elements
    state.touch(places)
    return state.patterns(places)


def _load_table(state: State, values: Values) -> None:
    starts = values["a_source"] + np.arange(values["pixels"]) * values["a_pitch"]
    places = (starts[:, None] + np.arange(TABLE_ENTRIES)) % state.config.scratchpad_elements
    state.touch(places)
    state.tables[:] = state.patterns(places)  # one plane goes to all


def _exponentials(state: State) -> Integers:
    """Softmax's table, (inferences, entries): byte k of an entry from table k."""
    shifts = 8 * np.arange(SOFTMAX_PLANES)[:, None]
    return wrap((state.tables.astype(np.int64) << shifts).sum(axis=1), 32)


def _combined(values: Values, operation: Operation, a: Bytes, b: Bytes) -> Integers:
    if operation is Operation.MULTIPLY:
        total = (_int8(a) - values["a_zero_point"]) * (_int8(b) - values["b_zero_point"])
    else:
        first, second = _summand(values, "a")[a], _summand(values, "b")[b]
        total = wrap(first + second if operation is Operation.ADD else first - second, 32)
    scaled = affine(total, values["multiplier"], values["exponent"], bool(values["double"]))
    return np.clip(values["zero_point"] + scaled, values["low"], values["high"])


def _summand(values: Values, name: str) -> Integers:
    """What ADD and SUBTRACT make of an operand's element before they add, for all 256 patterns [jacob2017: A.2]."""
    element = _int8(np.arange(TABLE_ENTRIES, dtype=np.uint8)) - values[f"{name}_zero_point"]
    high = sqrdmulh(element << OPERAND_SHIFT, values[f"{name}_multiplier"])
    return half_away(high, values[f"{name}_shift"])
