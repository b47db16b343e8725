"""MATMUL: the passes of the array over a window, into an accumulator bank."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.functional.arithmetic import Integers, wrap
from intaglio.sim.simulator.functional.storage import State, elements_of, numbers
from intaglio.sim.simulator.functional.windows import (
    Values,
    kept_vectors,
    positions_of,
    window_addresses,
)
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.operand import OperandType

Floats = npt.NDArray[np.floating]

_SLAB = 1 << 20
"""Operands that are gathered at a time: what bounds the memory of a command with many passes."""
_EXACT_FLOAT32, _EXACT_FLOAT64 = 1 << 24, 1 << 53
"""Below these, sums of integers in floating point are exact, in whatever order they are made."""


def stream_bytes(values: Values, config: AcceleratorConfig) -> int:
    """Of the weight stream, what a command takes."""
    tiles = 1 if values["one_tile"] else _passes(values)
    return (tiles * config.tile_beats + config.parameter_beats) * config.bus_bytes


def matmul(state: State, values: Values, stream: bytes) -> None:
    """Runs the command with its part of the weight stream."""
    config, bank = state.config, values["bank"]
    tile, parameters = config.tile_beats * config.bus_bytes, config.parameter_beats * config.bus_bytes
    state.parameters[bank] = stream[tile : tile + parameters]
    weights = _weights(values, stream[:tile] + stream[tile + parameters :], config)
    state.set_outside(values["pad"])
    passes = _Passes(state, values, weights)
    positions = positions_of(values)
    bound = passes.bound()
    if bound < 1 << (config.accumulator_bits - 1) and bound < _EXACT_FLOAT64:
        kind = np.float32 if bound < _EXACT_FLOAT32 else np.float64
        state.banks[bank][:, :positions] = passes.sum_without_overflow(kind)
    else:
        state.banks[bank][:, :positions] = passes.sum_pass_by_pass()
    state.touch_bank(bank, positions, written=True)


def _passes(values: Values) -> int:
    return values["digits"] * values["kernel_rows"] * values["kernel_columns"] * values["chunks"]


def _weights(values: Values, stream: bytes, config: AcceleratorConfig) -> Integers:
    """What each pass multiplies by, (digits, passes of a digit, rows, columns)."""
    kind, count = config.weight, config.rows * config.columns
    tiles = np.frombuffer(stream, np.uint8).reshape(-1, config.tile_beats * config.bus_bytes)
    weights = _decoded(kind)[elements_of(tiles, kind.bits)[:, :count]]
    shape = (values["digits"], _passes(values) // values["digits"], config.rows, config.columns)
    if values["one_tile"]:
        weights = np.broadcast_to(weights.reshape(config.rows, config.columns), shape)
    weights = weights.reshape(shape)
    if kind.is_binary and values["weight_digits"]:
        # A bit of a weight in two's complement instead of 1 or -1, the first digit's that of the sign.
        weights = (weights < 0).astype(np.int64)
        weights[0] = -weights[0]
    return weights


@cache
def _decoded(kind: OperandType) -> Integers:
    """The weight of each pattern."""
    return np.array([kind.decode(pattern) for pattern in range(1 << kind.bits)], np.int64)


class _Passes:
    """A command's passes over what the scratchpad holds."""

    def __init__(self, state: State, values: Values, weights: Integers) -> None:
        self._state, self._values, self._weights = state, values, weights
        config = state.config
        self._digit_bits = config.weight_digit_bits if values["weight_digits"] else config.element_bits
        shape = (values["kernel_rows"], values["kernel_columns"], values["chunks"])
        self._kernel_row, self._kernel_column, self._chunk = np.indices(shape).reshape(3, -1)

    def bound(self) -> int:
        """No sum of any of the passes is larger, whatever the elements are."""
        of_digits = np.abs(self._weights).sum(axis=(1, 2)).max(axis=-1)
        shifted = sum(int(size) << self._above(digit) for digit, size in enumerate(of_digits))
        return shifted << self._state.config.element_bits

    def _above(self, digit: int) -> int:
        """How far a digit's sums move up until the last digit."""
        return self._digit_bits * (len(self._weights) - 1 - digit)

    def sum_without_overflow(self, kind: type[np.floating]) -> Floats:
        """(inferences, positions, columns); many passes at once, as no partial sum can leave the range."""
        state, config = self._state, self._state.config
        positions = positions_of(self._values)
        total = np.zeros((state.count, positions, config.columns), kind)
        at_once = max(1, _SLAB // max(1, state.count * positions * config.rows))
        for digit, weights in enumerate(self._weights):
            scaled = (weights << self._above(digit)).astype(kind)
            for first in range(0, len(scaled), at_once):
                total += self._sums(digit, slice(first, first + at_once), scaled)
        return total

    def sum_pass_by_pass(self) -> Integers:
        """As the machine adds, with its overflows counted: (inferences, positions, columns)."""
        state = self._state
        bits = state.config.accumulator_bits
        total = np.zeros((state.count, positions_of(self._values), state.config.columns), np.int64)
        for digit, weights in enumerate(self._weights):
            exact_weights = weights.astype(np.float64)
            for number in range(len(weights)):
                if digit and not number:
                    total = total << self._digit_bits
                sums = self._sums(digit, slice(number, number + 1), exact_weights)
                exact = total + sums.astype(np.int64)
                total = wrap(exact, bits)
                state.overflows += np.count_nonzero(total != exact, axis=(1, 2))
        return total

    def _sums(self, digit: int, part: slice, weights: Floats) -> Floats:
        """Of some passes of a digit, with `weights` of that digit's passes: (inferences, positions, columns)."""
        by_channel = self._depthwise if self._values["depthwise"] else self._dense
        return by_channel(self._signed(digit), part, weights[part])

    def _signed(self, digit: int) -> bool:
        config = self._state.config
        if config.signed_activations and config.unsigned_activations:
            return bool(self._values["signed"] and (digit == 0 or self._values["weight_digits"]))
        return config.signed_activations

    def _operands(
        self, signed: bool, part: slice, vectors: Integers, lanes: int, kind: Any
    ) -> tuple[Integers, Floats]:
        """Addresses, (vectors, passes, lanes), and for each inference what lies there."""
        state, values = self._state, self._values
        taps = self._kernel_row[part], self._kernel_column[part]
        start = self._chunk[part] * state.config.rows
        addresses = window_addresses(state, values, vectors, taps, start, lanes)
        if state.config.weight.is_binary and values["last_lanes"]:
            # Binary weights have no zero: lanes past the run's end do not count.
            last = self._chunk[part] == values["chunks"] - 1
            past = last[:, None] & (np.arange(lanes) >= values["last_lanes"])
            addresses = np.where(past, state.nothing, addresses)
        operands = numbers(state.patterns(addresses), state.config.element_bits, signed)
        return addresses, operands.astype(kind)

    def _dense(self, signed: bool, part: slice, weights: Floats) -> Floats:
        state, config = self._state, self._state.config
        positions = np.arange(positions_of(self._values))
        addresses, operands = self._operands(signed, part, positions, config.rows, weights.dtype)
        if state.watch is not None:
            state.touch(addresses[:, weights.any(axis=2)])
        sums = operands.reshape(state.count * len(positions), -1) @ weights.reshape(-1, config.columns)
        return sums.reshape(state.count, len(positions), config.columns)

    def _depthwise(self, signed: bool, part: slice, weights: Floats) -> Floats:
        """Column c takes element c of a vector; row r of the array sees the vector read r steps before."""
        state, values, config = self._state, self._values, self._state.config
        rows, columns = values["output_rows"], values["output_columns"]
        kept = kept_vectors(values)
        vectors = np.arange(rows * columns)
        addresses, operands = self._operands(signed, part, vectors, config.columns, weights.dtype)
        addresses = addresses.reshape(rows, columns, -1, config.columns)
        operands = operands.reshape(state.count, rows, columns, -1, config.columns)
        total = np.zeros((state.count, rows, len(kept), config.columns), weights.dtype)
        for number, tile in enumerate(weights):
            for row, of_row in enumerate(tile[: config.depthwise_taps]):
                use = kept >= row
                if not of_row.any():
                    continue
                seen = kept[use] - row
                total[:, :, use] += operands[:, :, seen, number] * of_row
                if state.watch is not None:
                    state.touch(addresses[:, seen, number][..., of_row != 0])
        return total.reshape(state.count, rows * len(kept), config.columns)
