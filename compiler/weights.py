"""The weight stream of a layer: tiles and rescale parameters in the order in which the MATMULs of a block use them."""

from __future__ import annotations

import numpy as np

from compiler.program import Bytes, pack_codes
from compiler.windows import Sweep
from hdl.config import AcceleratorConfig
from network import Conv2D, FullyConnected, NetworkError, SbnqRescale
from network.graph import Integers

SHIFT_BITS = 6


def block_stream(layer: Conv2D | FullyConnected, sweep: Sweep, config: AcceleratorConfig) -> bytes:
    """What one block of a layer consumes: for each group of `columns` output channels the first pass's tile, the
    group's parameters, the tiles of the other passes. Every block of the layer consumes the same."""
    tiles = _tiles(layer, sweep, config)
    parameters = _parameters(layer, len(tiles), config)
    stream = np.concatenate(
        [tiles[:, :1].reshape(len(tiles), -1), parameters, tiles[:, 1:].reshape(len(tiles), -1)], axis=1
    )
    return stream.tobytes()


def _tiles(layer: Conv2D | FullyConnected, sweep: Sweep, config: AcceleratorConfig) -> Bytes:
    """Bytes of the tiles, (groups, passes, bytes of a tile)."""
    codes = _encode(layer, config)
    outputs = len(codes)
    if isinstance(layer, FullyConnected):
        codes = codes.reshape(outputs, 1, 1, -1)
    # A run is what one kernel row, or one kernel column of it, reads; `sweep` says which.
    runs = codes.reshape(outputs, sweep.kernel_rows, sweep.kernel_columns, -1)
    length = runs.shape[-1] * sweep.digits
    lanes = sweep.chunks * config.rows
    if config.weight.is_binary and (sweep.digits > 1 or length != lanes):
        raise NetworkError(
            f"layer {layer.name}: binary weights have no zero for {lanes * sweep.digits - runs.shape[-1]:,} unused "
            f"lanes; a run of {length:,} elements must fill the array's {config.rows} rows"
        )
    # The high digit goes first and lies last in its value; the other digits' lanes keep weight zero.
    passes = np.zeros((sweep.digits, *runs.shape, sweep.digits), np.uint8)
    for digit in range(sweep.digits):
        passes[digit, ..., sweep.digits - 1 - digit] = runs
    passes = passes.reshape(*passes.shape[:4], length)
    passes = np.pad(passes, [(0, 0)] * 4 + [(0, lanes - length)])
    by_output = np.moveaxis(passes, 1, 0).reshape(outputs, sweep.passes, config.rows)
    groups = -(-outputs // config.columns)
    by_output = np.pad(by_output, [(0, groups * config.columns - outputs), (0, 0), (0, 0)])
    by_group = by_output.reshape(groups, config.columns, sweep.passes, config.rows).transpose(0, 2, 3, 1)
    packed = pack_codes(by_group.reshape(groups, sweep.passes, -1), config.weight.bits)
    return np.pad(packed, [(0, 0), (0, 0), (0, config.tile_beats * config.bus_bytes - packed.shape[-1])])


def _encode(layer: Conv2D | FullyConnected, config: AcceleratorConfig) -> Bytes:
    """Every weight's bits. `check.py` has seen that all are values of the machine's weight type."""
    operand = config.weight
    values = [v for v in range(operand.min, operand.max + 1) if v or not operand.is_binary]
    table = np.zeros(operand.max - operand.min + 1, np.uint8)
    table[np.array(values) - operand.min] = [operand.encode(value) for value in values]
    return table[layer.weights - operand.min]


def _parameters(layer: Conv2D | FullyConnected, groups: int, config: AcceleratorConfig) -> Bytes:
    """Bytes of the groups' parameter records, (groups, bytes)."""
    rescale = layer.rescale
    if not isinstance(rescale, SbnqRescale):
        raise NetworkError(f"layer {layer.name}: {type(rescale).__name__} has no parameter records yet")
    channels = groups * config.columns
    bias, shift = _padded(rescale.bias, channels), _padded(rescale.shift, channels)
    # Two's complement in int64 holds any record of 32 or 64 bits; its low bytes are the record.
    records = (bias & ((1 << config.bias_bits) - 1)) | (shift & ((1 << SHIFT_BITS) - 1)) << config.bias_bits
    data = (
        records.astype("<i8")
        .view(np.uint8)
        .reshape(groups, config.columns, 8)[..., : config.record_bits // 8]
    )
    data = data.reshape(groups, -1)
    return np.pad(data, [(0, 0), (0, config.parameter_beats * config.bus_bytes - data.shape[-1])])


def _padded(values: Integers, size: int) -> Integers:
    return np.pad(values.astype(np.int64), (0, size - len(values)))
