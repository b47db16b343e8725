"""MATMUL: the passes of the array over a window, into an accumulator bank."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.functional.arithmetic import Integers, wrap
from intaglio.sim.simulator.functional.storage import State, elements_of, numbers
from intaglio.sim.simulator.functional.windows import (
    Values,
    beside_row,
    kept_vectors,
    positions_of,
    rows_of,
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
    return tiles * _tile_bytes(values, config) + config.parameter_beats * config.bus_bytes


def _tile_bytes(values: Values, config: AcceleratorConfig) -> int:
    return values["tile_words"] * config.weight_bits // 8


def matmul(state: State, values: Values, stream: bytes) -> None:
    """Runs the command with its part of the weight stream."""
    config, bank = state.config, values["bank"]
    tile, parameters = _tile_bytes(values, config), config.parameter_beats * config.bus_bytes
    state.parameters[bank] = stream[tile : tile + parameters]
    weights = _weights(values, stream[:tile] + stream[tile + parameters :], config)
    if state.watch is not None and values["depthwise"]:
        _check_taps(state, values, weights)
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


def _check_taps(state: State, values: Values, weights: Integers) -> None:
    """Tells the watch of weights, (digits, passes, rows, columns), for vectors that there are none of."""
    each, lines = state.config.depthwise_taps, values["lines"] + 1
    beyond = np.ones(weights.shape[2], bool)
    for line in range(lines):
        taps = each if values["row_overlap"] else min(each, values["first_output"] + 1)
        beyond[line * each : line * each + taps] = False
    if state.watch is not None and weights[:, :, beyond].any():
        state.watch.undefined(state.command, "a tile has weights beyond the taps of the first output")


def _passes(values: Values) -> int:
    return values["digits"] * values["kernel_rows"] * values["kernel_columns"] * values["chunks"]


def _weights(values: Values, stream: bytes, config: AcceleratorConfig) -> Integers:
    """What each pass multiplies by, (digits, passes of a digit or one that serves all, rows, columns)."""
    kind, digits, size = config.weight, values["digits"], config.rows * config.columns
    tiles = np.frombuffer(stream, np.uint8).reshape(-1, _tile_bytes(values, config))
    codes = elements_of(tiles, kind.bits)[:, :size]
    # The bits of what a short tile does not hold are 0.
    codes = np.pad(codes, [(0, 0), (0, size - codes.shape[1])])
    if values["one_tile"]:
        codes = np.repeat(codes, digits, axis=0)
    weights = _decoded(kind)[codes].reshape(digits, -1, config.columns, config.rows).swapaxes(2, 3)
    # Of digits side by side the higher count more.
    digit = np.arange(config.rows) % (1 << values["lane_digits"])
    weights = weights << (config.element_bits * digit)[:, None]
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
        self._positions = positions_of(values)
        self._of_a_digit = _passes(values) // values["digits"]
        self._digit_bits = (
            state.config.weight_digit_bits if values["weight_digits"] else state.config.element_bits
        )

    def bound(self) -> int:
        """No sum of any of the passes is larger, whatever the elements are."""
        of_digits = np.abs(self._weights).sum(axis=(1, 2)).max(axis=-1)
        shifted = sum(int(size) << self._above(digit) for digit, size in enumerate(of_digits))
        times = self._of_a_digit if self._values["one_tile"] else 1
        return shifted * times << self._state.config.element_bits

    def _above(self, digit: int) -> int:
        """How far a digit's sums move up until the last digit."""
        return self._digit_bits * (len(self._weights) - 1 - digit)

    def sum_without_overflow(self, kind: type[np.floating]) -> Floats:
        """(inferences, positions, columns); many passes in one product, as no partial sum can leave the range."""
        total = np.zeros((self._state.count, self._positions, self._state.config.columns), kind)
        for digit in range(len(self._weights)):
            for part in self._parts():
                weights = (self._tiles(digit, part) << self._above(digit)).astype(kind)
                total += self._sums(digit, part, weights, apart=False)[0]
        return total

    def sum_pass_by_pass(self) -> Integers:
        """As the machine adds, with its overflows counted: (inferences, positions, columns)."""
        state, bits = self._state, self._state.config.accumulator_bits
        total = np.zeros((state.count, self._positions, state.config.columns), np.int64)
        for digit in range(len(self._weights)):
            total = total << self._digit_bits if digit else total
            for part in self._parts():
                weights = self._tiles(digit, part).astype(np.float64)
                sums = self._sums(digit, part, weights, apart=True).astype(np.int64)
                # Each pass adds its sums to what the pass before left, which has been wrapped.
                after = wrap(total + np.cumsum(sums, axis=0), bits)
                exact = np.concatenate([total[None], after[:-1]]) + sums
                state.overflows += np.count_nonzero(after != exact, axis=(0, 2, 3))
                total = after[-1]
        return total

    def _parts(self) -> Iterator[Integers]:
        """A digit's passes, so many at a time that what is gathered for them makes a slab."""
        config = self._state.config
        each = self._state.count * self._positions * max(config.rows, config.columns)
        at_once = max(1, _SLAB // max(1, each))
        for first in range(0, self._of_a_digit, at_once):
            yield np.arange(first, min(first + at_once, self._of_a_digit))

    def _tiles(self, digit: int, part: Integers) -> Integers:
        """(passes, rows, columns)"""
        return self._weights[digit, np.zeros_like(part) if self._values["one_tile"] else part]

    def _sums(self, digit: int, part: Integers, weights: Floats, apart: bool) -> Floats:
        """Of some passes of a digit with their weights: (passes, inferences, positions, columns); all passes in one
        unless `apart`.
        """
        if self._values["lines"]:
            sums = np.stack(
                [self._lined(digit, part[[index]], of_pass) for index, of_pass in enumerate(weights)]
            )
            return sums if apart else sums.sum(axis=0, keepdims=True)
        return (self._depthwise if self._values["depthwise"] else self._dense)(
            self._signed(digit), part, weights, apart
        )

    def _signed(self, digit: int) -> bool:
        config = self._state.config
        if config.signed_activations and config.unsigned_activations:
            return bool(self._values["signed"] and (digit == 0 or self._values["weight_digits"]))
        return config.signed_activations

    def _addresses(self, part: Integers, vectors: Integers, lanes: int) -> Integers:
        """Of the vectors' lanes, (vectors, passes, lanes)."""
        state, values = self._state, self._values
        kernel, chunk = np.divmod(part, values["chunks"])
        taps = np.divmod(kernel, values["kernel_columns"])
        addresses = window_addresses(state, values, vectors, taps, chunk * state.config.rows, lanes)
        if state.config.weight.is_binary and values["last_lanes"]:
            # Binary weights have no zero: lanes past the run's end do not count.
            past = (chunk == values["chunks"] - 1)[:, None] & (np.arange(lanes) >= values["last_lanes"])
            addresses = np.where(past, state.nothing, addresses)
        return addresses

    def _operands(self, addresses: Integers, signed: bool, kind: npt.DTypeLike) -> Floats:
        """What each inference has there, (inferences, vectors, passes, lanes)."""
        patterns = self._state.patterns(addresses)
        return numbers(patterns, self._state.config.element_bits, signed).astype(kind)

    def _lined(self, digit: int, part: Integers, weights: Floats) -> Floats:
        """Of one pass, in which each vector meets those of its column in the rows before it: (inferences, positions,
        columns). The rows that the next pass meets stay in the line buffer."""
        state, values, config = self._state, self._values, self._state.config
        (rows, ragged), width = rows_of(values), values["output_columns"]
        number, lanes = digit * self._of_a_digit + int(part[0]), config.operand_lanes
        own = values["line_lanes"] + number * values["line_lanes_step"]
        signed = self._signed(digit)
        addresses = self._addresses(part, np.arange(rows * width), lanes)
        operands = self._operands(addresses, signed, np.int16).reshape(state.count, rows, width, lanes)
        # The rows that were there, and those that came: row r of this pass is row `above` + r.
        above = config.line_buffer_rows
        columns = self._line_columns(number)
        pad = self._operands(np.full((above, width, lanes), state.outside), signed, np.int16)
        before = state.lines[:, ::-1, columns] if values["goes_on"] else pad
        seen = np.concatenate([before, operands], axis=1)
        state.lines[:, :, columns] = seen[:, : -above - 1 : -1]
        if state.watch is not None:
            self._watch_lines(addresses, weights, columns, own)
        if values["depthwise"]:
            behind = pad[:, :1].repeat(-(-ragged // width), axis=1)
            flat = np.concatenate([seen, behind], axis=1).reshape(state.count, -1, lanes)
            return self._taps_of_lines(flat[..., : config.columns], weights, above * width, int(pad.flat[0]))
        first = min(values["first_output_row"], rows)
        total = np.zeros((state.count, rows - first, width, config.columns), weights.dtype)
        for line in range(values["lines"] + 1):
            lines = seen[:, above + first - line : above + rows - line].astype(weights.dtype)
            # Behind the oldest line's lanes are its others, but where weights have no zero for them.
            oldest = line == values["lines"] and not config.weight.is_binary
            of_line = weights[line * own : None if oldest else (line + 1) * own]
            total += lines[..., : len(of_line)] @ of_line
        return total.reshape(state.count, self._positions, config.columns)

    def _taps_of_lines(self, seen: Floats, weights: Floats, start: int, pad: int) -> Floats:
        """Depthwise sums of vectors row by row, those of the lines above included: the pass's first is at `start`."""
        values, config = self._values, self._state.config
        kept, each = kept_vectors(values), config.depthwise_taps
        total = np.zeros((len(seen), len(kept), config.columns), weights.dtype)
        for line in range(values["lines"] + 1):
            for tap, of_row in enumerate(weights[line * each : (line + 1) * each]):
                there = seen[:, start + kept - tap - line * values["output_columns"]].astype(weights.dtype)
                beside = beside_row(values, kept, tap)[:, None]
                # Before a row's first vector there is none.
                none = (
                    ~beside
                    & ((kept % values["output_columns"] < tap) & (values["row_overlap"] == 0))[:, None]
                )
                total += np.where(none, 0, np.where(beside, pad, there)) * of_row
        return total

    def _line_columns(self, number: int) -> Integers:
        """Where the pass of that number finds its lines: behind those of the pass before it."""
        width = self._values["output_columns"]
        start = number * width
        return np.arange(start, start + width) % self._state.config.line_buffer_columns

    def _watch_lines(self, addresses: Integers, weights: Floats, columns: Integers, own: int) -> None:
        """Tells the watch of what a pass with lines reads, and of lines that nobody wrote."""
        state, values, config = self._state, self._values, self._state.config
        assert state.watch is not None
        rows, depthwise = rows_of(values)[0], values["depthwise"]
        first = values["first_output_row"]
        if values["row_overlap"] and depthwise:
            first = values["first_output"] // values["output_columns"]
        each = config.depthwise_taps if depthwise else own
        oldest = None if depthwise or config.weight.is_binary else values["lines"]
        by_row = addresses.reshape(rows, -1, addresses.shape[-1])
        deepest = 0
        for line in range(values["lines"] + 1):
            of_line = weights[line * each : None if line == oldest else (line + 1) * each]
            if of_line.any():
                # Of the lines that this pass reads itself, those that a kept row meets.
                used = np.flatnonzero(of_line.any(axis=0 if depthwise else 1))
                state.touch(by_row[max(first - line, 0) : max(rows - line, 0), :, used])
                deepest = line
        if values["goes_on"] and (state.line_rows[columns] < deepest - first).any():
            state.watch.undefined(state.command, "lines that no row of vectors was kept in")
        state.line_rows[columns] = (state.line_rows[columns] if values["goes_on"] else deepest) + rows

    def _dense(self, signed: bool, part: Integers, weights: Floats, apart: bool) -> Floats:
        state, config = self._state, self._state.config
        addresses = self._addresses(part, kept_vectors(self._values), config.rows)
        if state.watch is not None:
            state.touch(addresses[:, weights.any(axis=2)])
        operands = self._operands(addresses, signed, weights.dtype)
        operands = operands.reshape(state.count * self._positions, len(part), config.rows)
        if apart:
            sums = np.matmul(operands.transpose(1, 0, 2), weights)
        else:
            sums = operands.reshape(len(operands), len(part) * config.rows) @ weights.reshape(
                -1, config.columns
            )
        return sums.reshape(len(part) if apart else 1, state.count, self._positions, config.columns)

    def _depthwise(self, signed: bool, part: Integers, weights: Floats, apart: bool) -> Floats:
        """Column c takes element c of a vector; row r of the array sees the vector read r steps before."""
        state, values, config = self._state, self._values, self._state.config
        kept = kept_vectors(values)
        shape = (len(part) if apart else 1, state.count, self._positions, config.columns)
        total = np.zeros(shape, weights.dtype)
        for row in range(config.depthwise_taps):
            of_row = weights[:, row]
            if not of_row.any():
                continue
            addresses = self._addresses(part, kept - row, config.columns)
            beside = beside_row(values, kept, row)
            # Before a row's first vector there is none.
            none = (kept % values["output_columns"] < row) & (values["row_overlap"] == 0)
            addresses = np.where(none[:, None, None], state.nothing, addresses)
            addresses = np.where(beside[:, None, None], state.outside, addresses)
            if state.watch is not None:
                state.touch(addresses[:, of_row != 0])
            products = self._operands(addresses, signed, weights.dtype) * of_row
            total += np.moveaxis(products, 2, 0) if apart else products.sum(axis=2)
        return total
