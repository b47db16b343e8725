# amaranth: UnusedElaboratable=no
"""Bench of `hdl.array`: random tiles of weights that change while the array works, and sums at their extremes."""

from functools import partial

import numpy as np

from golden.fixed_point import wrap
from hdl.array import MacArray
from hdl.operand import OperandType
from sim.bench.bench import Configuration
from sim.bench.cases import Cases, Integers, count
from sim.bench.mac import values_of

__all__ = ["configurations"]


def configurations() -> list[Configuration]:
    # rows, columns, activation, weight, accumulator bits (None: exact), tag bits, beat bits
    parameters = [
        (1, 1, "int8", "int8", None, 0, 8),
        (5, 3, "uint8", "int8", None, 4, 32),
        (8, 8, "int8", "int8", 32, 0, 64),
        (8, 8, "int8", "int8", 16, 8, 128),
        (32, 7, "uint4", "int4", 16, 0, 64),
        (9, 4, "int8", "ternary", 24, 0, 64),
        (16, 5, "int8", "binary", None, 0, 16),
        (3, 2, "int3", "int5", 8, 1, 8),
    ]
    found = []
    for rows, columns, activation, weight, bits, tag_bits, beat_bits in parameters:
        component = MacArray(rows, columns, activation, weight, bits, tag_bits, beat_bits)
        found.append(
            Configuration(
                f"array_{rows}x{columns}_{activation}_{weight}_{component.sum_bits}",
                partial(MacArray, rows, columns, activation, weight, bits, tag_bits, beat_bits),
                partial(_cases, component),
                mutants=(rows, columns) in ((5, 3), (3, 2)),
                tile_beats=component.tile_beats,
            )
        )
    return found


def _cases(array: MacArray, random: np.random.Generator, quick: bool) -> Cases:
    rows, columns, beats = array.rows, array.columns, array.tile_beats
    tiles = 500 if quick else 3_000
    # A tile is used for as many vectors as its successor takes to load, so that no cycle is lost; later for fewer
    # or more.
    uses = np.where(np.arange(tiles) < 61, beats, random.integers(1, 2 * beats + 3, tiles))
    uses[61::5] = 1
    tile_of = np.repeat(np.arange(tiles), uses)
    swap = np.zeros(len(tile_of), np.int64)
    swap[np.cumsum(uses) - uses] = 1

    weights = _patterns(array.weight, (tiles, rows, columns), random)
    inputs = _patterns(array.activation, (len(tile_of), rows), random)
    # Four tiles together with vectors that make the sums' extremes.
    for tile, (least_weight, least_input) in enumerate(((1, 1), (1, 0), (0, 1), (0, 0)), start=100):
        weights[tile] = _extreme(array.weight, least_weight)
        inputs[tile_of == tile] = _extreme(array.activation, least_input)
    values = values_of(array.weight)[weights]
    activations = values_of(array.activation)[inputs]
    exact = np.einsum("vr,vrc->vc", activations, values[tile_of])
    sums = wrap(exact, array.sum_bits)

    given: dict[str, Integers] = {"activations": activations, "swap": swap}
    expected: dict[str, Integers] = {"sums": sums}
    if array.tag_bits:
        given["tag"] = expected["tag"] = random.integers(0, 1 << array.tag_bits, len(tile_of))
    return Cases(
        given,
        expected,
        _bins(array, uses, weights, inputs, exact),
        side=_beats(weights, array.weight.bits, array.beat_bits, beats),
        back_to_back=60,
    )


def _patterns(operand: OperandType, shape: tuple[int, ...], random: np.random.Generator) -> Integers:
    """Bits of operands: random, but a twelfth of the vectors or tiles each all at the least and the greatest."""
    patterns = random.integers(0, len(values_of(operand)), shape)
    extreme = random.random(shape[0])
    patterns[extreme < 1 / 12] = _extreme(operand, True)
    patterns[extreme > 11 / 12] = _extreme(operand, False)
    return patterns


def _extreme(operand: OperandType, least: bool | int) -> int:
    """The pattern of an operand's least or greatest value."""
    values = values_of(operand)
    return int(values.argmin() if least else values.argmax())


def _beats(weights: Integers, bits: int, beat_bits: int, beats: int) -> Integers:
    """The words of `w`: tile after tile, each packed from bit 0 up."""
    tiles = len(weights)
    flat = weights.reshape(tiles, -1, 1)
    stream = (flat >> np.arange(bits) & 1).reshape(tiles, -1)
    padded = np.zeros((tiles, beats * beat_bits), np.int64)
    padded[:, : stream.shape[1]] = stream
    return padded.reshape(tiles * beats, beat_bits)


def _bins(
    array: MacArray, uses: Integers, weights: Integers, inputs: Integers, exact: Integers
) -> dict[str, int]:
    operand = values_of(array.activation), values_of(array.weight)
    products = operand[0][:, None] * operand[1][None, :]
    low, high = -(1 << (array.sum_bits - 1)), (1 << (array.sum_bits - 1)) - 1
    found = {
        "greatest sum": (exact == products.max() * array.rows).any(axis=1),
        "least sum": (exact == products.min() * array.rows).any(axis=1),
        "a tile used for one vector": uses == 1,
        "a tile used as long as the next takes to load": uses == array.tile_beats,
        "a tile used for longer": uses > array.tile_beats,
        "every weight's every pattern, first element": np.isin(
            np.arange(1 << array.weight.bits), weights[:, 0, 0]
        ),
        "every weight's every pattern, last element": np.isin(
            np.arange(1 << array.weight.bits), weights[:, -1, -1]
        ),
    }
    if products.max() * array.rows > high:
        found["wraps above"] = (exact > high).any(axis=1)
    if products.min() * array.rows < low:
        found["wraps below"] = (exact < low).any(axis=1)
    return count(found)
