"""The weight stream of a layer: tiles and rescale parameters in the order in which the MATMULs of a block use them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.compiler.accumulate import Accumulation
from intaglio.compiler.digits import digits_of_weights
from intaglio.compiler.program import Bytes, pack_codes
from intaglio.compiler.rescales import Rescaling
from intaglio.compiler.windows import Sweep
from intaglio.network.graph import Integers
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.records import record_layout


def block_stream(
    window: Accumulation, rescale: Rescaling, sweep: Sweep, config: AcceleratorConfig
) -> tuple[bytes, bool]:
    """What one block of a layer consumes: for each group of `columns` output channels the first pass's tile, the
    group's parameters, the tiles of the other passes; and whether there is only one tile, which serves all passes.
    The tiles of the last group have the columns that it needs.
    """
    tiles = _tiles(window, sweep, config)
    parameters = _parameters(rescale, len(tiles), config)
    one_tile = bool(np.all(tiles == tiles[:, :1]))
    if one_tile:
        tiles = tiles[:, :1]
    last = window.outputs - (len(tiles) - 1) * config.columns
    sizes = [tiles.shape[-1]] * (len(tiles) - 1) + [tile_bytes(last, config)]
    stream = b"".join(
        of_group[0, :size].tobytes() + records.tobytes() + of_group[1:, :size].tobytes()
        for of_group, records, size in zip(tiles, parameters, sizes, strict=True)
    )
    return stream, one_tile


def tile_bytes(columns: int, config: AcceleratorConfig) -> int:
    """Of a tile of so many columns."""
    return config.tile_words(columns) * config.weight_bits // 8


def group_bytes(sweep: Sweep, columns: int, one_tile: bool, config: AcceleratorConfig) -> int:
    """What a group of so many output channels takes of the stream."""
    tiles = 1 if one_tile else sweep.passes
    return tiles * tile_bytes(columns, config) + config.parameter_beats * config.bus_bytes


def _tiles(window: Accumulation, sweep: Sweep, config: AcceleratorConfig) -> Bytes:
    """Bytes of the tiles, (groups, passes, bytes of a tile)."""
    if sweep.weight_digits > 1:
        parts = digits_of_weights(window.weights, sweep.weight_digits, config)
    else:
        parts = [window.weights]
    by_group = np.concatenate(
        [_digit(replace(window, weights=part), sweep, config) for part in parts], axis=1
    )
    if config.weight.is_binary:
        # Lanes and columns that are not used: the machine leaves them out, or they are bits that are not set.
        by_group = np.where(by_group == 0, 1, by_group)
    by_column = _encode(by_group, config).swapaxes(2, 3)
    packed = pack_codes(by_column.reshape(*by_group.shape[:2], -1), config.weight.bits)
    return np.pad(packed, [(0, 0), (0, 0), (0, config.tile_beats * config.bus_bytes - packed.shape[-1])])


def _digit(window: Accumulation, sweep: Sweep, config: AcceleratorConfig) -> Integers:
    """(groups, passes of a digit of the weights, rows, columns); 0 in lanes and columns that are not used."""
    if not window.by_channel:
        return _dense(window.weights, sweep, config)
    return (_depthwise if sweep.depthwise else _local)(window, sweep, config)


def _dense(weights: Integers, sweep: Sweep, config: AcceleratorConfig) -> Integers:
    """(groups, passes, rows, columns) of a layer whose outputs read all channels."""
    outputs = len(weights)
    groups = -(-outputs // config.columns)
    if sweep.overlap:
        tiles = np.zeros((groups * config.columns, sweep.digit_passes, config.rows), np.int64)
        elements = weights.reshape(outputs, weights.shape[1], -1)
        for number, taken in enumerate(sweep.overlap.passes()):
            for lane, row, element in taken:
                tiles[:outputs, number, lane] = elements[:, row, element]
        return tiles.reshape(groups, config.columns, -1, config.rows).transpose(0, 2, 3, 1)
    by_row = _of_lines(weights, sweep)
    by_row = by_row.reshape(*by_row.shape[:4], -1)
    # The high digit goes first and lies last in its value; the other digits' lanes keep weight zero.
    runs = np.zeros((sweep.digit_turns, *by_row.shape, sweep.digits), np.int64)
    for digit in range(sweep.digits):
        runs[0 if sweep.together else digit, ..., sweep.digits - 1 - digit] = by_row
    # Each pass has its columns' elements of each line, side by side.
    passes = _of_columns(runs.reshape(*runs.shape[:5], -1), sweep)
    passes = passes.reshape(*passes.shape[:4], -1)
    lanes = sweep.chunks * config.rows
    passes = np.pad(passes, [(0, 0)] * 4 + [(0, lanes - passes.shape[-1])])
    by_output = np.moveaxis(passes, 1, 0).reshape(outputs, sweep.digit_passes, config.rows)
    by_output = np.pad(by_output, [(0, groups * config.columns - outputs), (0, 0), (0, 0)])
    return by_output.reshape(groups, config.columns, sweep.digit_passes, config.rows).transpose(0, 2, 3, 1)


def _of_lines(weights: Integers, sweep: Sweep) -> Integers:
    """Weights (outputs, kernel rows, ...) as a sweep's passes take them, with their lines: (outputs, its kernel rows,
    its kernel columns, lines + 1, ...), 0 for rows that the kernel does not have."""
    none = np.zeros_like(weights[:, :1])
    rows = np.where(sweep.line_rows < 0, weights.shape[1], sweep.line_rows)
    return np.concatenate([weights, none], axis=1)[:, rows]


def _of_columns(runs: Integers, sweep: Sweep) -> Integers:
    """Of rows of the kernel (..., its kernel columns, lines + 1, elements) what each of the sweep's columns takes."""
    if sweep.kernel_columns == 1 or sweep.kernel_column_row_step:
        return runs
    columns, length = sweep.kernel_columns, runs.shape[-1]
    width = sweep.taps if sweep.depthwise else sweep.line_lanes or length // columns
    runs = np.pad(runs, [(0, 0)] * (runs.ndim - 1) + [(0, columns * width - length)])
    parts = [runs[..., column, :, column * width : (column + 1) * width] for column in range(columns)]
    return np.stack(parts, axis=-3)


def _depthwise(window: Accumulation, sweep: Sweep, config: AcceleratorConfig) -> Integers:
    """(groups, passes, rows, columns) of a depthwise sweep: of pass j, row ``l * depthwise_taps + r`` holds tap
    ``j * taps + taps - 1 - r`` of its line l."""
    outputs, _, kernel_width = window.weights.shape
    groups = -(-outputs // config.columns)
    taps = _of_lines(window.weights, sweep)
    if sweep.taps > 1:
        dilation = window.dilation[1]
        spread = np.zeros((*taps.shape[:-1], (kernel_width - 1) * dilation + 1), np.int64)
        spread[..., ::dilation] = taps
        taps = spread
    taps = _of_columns(taps, sweep)
    taps = np.pad(taps, [(0, 0)] * 4 + [(0, sweep.taps - taps.shape[-1])])[..., ::-1]
    taps = taps.reshape(outputs, sweep.digit_passes, sweep.lines + 1, sweep.taps)
    tiles = np.zeros((groups * config.columns, sweep.digit_passes, config.rows), np.int64)
    for line in range(sweep.lines + 1):
        first = line * config.depthwise_taps
        tiles[:outputs, :, first : first + sweep.taps] = taps[:, :, line]
    return tiles.reshape(groups, config.columns, -1, config.rows).transpose(0, 2, 3, 1)


def _local(window: Accumulation, sweep: Sweep, config: AcceleratorConfig) -> Integers:
    """(groups, passes, rows, columns) of a layer by channel on the array's dense mapping: lane l of a group's run is
    its l-th input channel."""
    outputs, kernel_rows, kernel_width = window.weights.shape
    multiplier = outputs * sweep.digits // sweep.source.pixel
    groups = -(-outputs // config.columns)
    shape = (groups, sweep.digit_turns, kernel_rows, kernel_width, sweep.chunks * config.rows, config.columns)
    tiles = np.zeros(shape, np.int64)
    for output in range(outputs):
        group, column = divmod(output, config.columns)
        channel = output // multiplier - group * config.columns // multiplier
        for digit in range(sweep.digits):
            lane = channel * sweep.digits + sweep.digits - 1 - digit
            tiles[group, 0 if sweep.together else digit, :, :, lane, column] = window.weights[output]
    return tiles.reshape(groups, sweep.digit_passes, config.rows, config.columns)


def _encode(weights: Integers, config: AcceleratorConfig) -> Bytes:
    """Every weight's bits. `operators/array.py` refuses a layer whose weights are not values of the machine's type."""
    operand = config.weight
    values = [v for v in range(operand.min, operand.max + 1) if v or not operand.is_binary]
    table = np.zeros(operand.max - operand.min + 1, np.uint8)
    table[np.array(values) - operand.min] = [operand.encode(value) for value in values]
    return table[weights - operand.min]


def _parameters(rescale: Rescaling, groups: int, config: AcceleratorConfig) -> Bytes:
    """Bytes of the groups' parameter records, (groups, bytes)."""
    channels = groups * config.columns
    records = np.zeros((channels, config.record_bits // 8), np.uint8)
    for name, field in record_layout(rescale.scheme, config.accumulator_bits).items():
        first, size = field.start // 8, -(-field.bits // 8)
        values = rescale.records[name].astype(np.int64)
        padded = np.pad(values, (0, channels - len(values))) & ((1 << field.bits) - 1)
        records[:, first : first + size] = padded.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :size]
    data = records.reshape(groups, -1)
    return np.pad(data, [(0, 0), (0, config.parameter_beats * config.bus_bytes - data.shape[-1])])
