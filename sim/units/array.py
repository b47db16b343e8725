# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/array.py`: random tiles of weights that change while the array works, and sums at their extremes.

An array with a depthwise mapping is given vectors of both mappings, mixed at random, and lines with them where it takes
any; one with bit planes, vectors that take its bits for weights of -1 and 1, for 0 and 1, and for 0 and -1; one that
takes digits side by side, vectors of one, of two and so on.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from intaglio.golden.fixed_point import wrap
from intaglio.hdl.units.array import MacArray
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count
from intaglio.sim.units.mac import values_of
from intaglio.spec.operand import OperandType

__all__ = ["configurations"]

Flags = npt.NDArray[np.bool_]

_EXTREMES = range(100, 104)
_DEPTHWISE_EXTREMES = range(104, 108)


def configurations() -> list[Configuration]:
    # rows, columns, activation, weight, accumulator bits (None: exact), tag bits, beat bits, depthwise taps,
    # bit planes, depthwise lines, lane digits, bits of a digit
    parameters: list[tuple] = [
        (1, 1, "int8", "int8", None, 0, 8, 0),
        (5, 3, "uint8", "int8", None, 4, 32, 0),
        (8, 8, "int8", "int8", 32, 0, 64, 0),
        (8, 8, "int8", "int8", 16, 8, 128, 0),
        (32, 7, "uint4", "int4", 16, 0, 64, 0),
        (9, 4, "int8", "ternary", 24, 0, 64, 0),
        (16, 5, "int8", "binary", None, 0, 16, 0),
        (3, 2, "int3", "int5", 8, 1, 8, 0),
        (8, 8, "int8", "int8", 32, 0, 64, 5),
        (6, 3, "int8", "int5", 12, 2, 16, 2),
        (3, 7, "uint4", "int4", None, 1, 32, 3),  # more columns than rows, and a tap of every row
        (4, 4, "int8", "ternary", None, 0, 8, 1),
        (16, 5, "int8", "binary", None, 0, 64, 0, True),
        (5, 2, "uint4", "binary", 8, 3, 8, 0, True),
        (8, 4, "int8", "int8", 32, 0, 64, 3, False, 1),
        (7, 3, "uint4", "int4", 12, 2, 16, 2, False, 2),
        (4, 5, "int3", "ternary", None, 0, 8, 1, False, 3),
        (32, 3, "uint2", "int2", None, 0, 64, 0, False, 0, 4, 2),
        (6, 3, "uint4", "int4", 16, 2, 16, 0, False, 0, 2, 4),
        (8, 3, "int5", "int4", None, 0, 32, 2, False, 0, 2, 4),
    ]
    found = []
    for rows, columns, activation, weight, bits, tag_bits, beat_bits, taps, *more in parameters:
        make = partial(MacArray, rows, columns, activation, weight, bits, tag_bits, beat_bits, taps, *more)
        component = make()
        lines = f"_lines{component.depthwise_lines}" if component.depthwise_lines else ""
        mapping = f"_depthwise{taps}{lines}" if taps else "_planes" if component.bit_planes else ""
        mapping += f"_digits{component.lane_digits}" if component.lane_digits > 1 else ""
        found.append(
            Configuration(
                f"array_{rows}x{columns}_{activation}_{weight}_{component.sum_bits}{mapping}",
                make,
                partial(_cases, component),
                mutants=(rows, columns) in ((5, 3), (3, 2), (6, 3), (5, 2), (7, 3)),
                tiles=True,
            )
        )
    return found


def _cases(array: MacArray, random: np.random.Generator, quick: bool) -> Cases:
    taps, lines = array.depthwise_taps, array.depthwise_lines
    held = _columns(array, 500 if quick else 3_000, random)
    uses = _uses(array, held, random)
    tile_of = np.repeat(np.arange(len(uses)), uses)
    swap = np.zeros(len(tile_of), np.int64)
    swap[np.cumsum(uses) - uses] = 1
    weights, inputs = _operands(array, tile_of, random)
    weights[np.broadcast_to(np.arange(array.columns) >= held[:, None, None], weights.shape)] = 0
    chances, depthwise = _mapping(array, tile_of, weights, random)
    above = _patterns(array.activation, (len(tile_of), lines, array.columns), random)
    for tile, least in zip(_DEPTHWISE_EXTREMES, (1, 0, 1, 0), strict=True):
        above[tile_of == tile] = _extreme(array.activation, least)
    # What each column multiplies in the depthwise mapping: the vector itself, then its lines.
    columns = np.concatenate([inputs[:, None, : array.columns], above], axis=1) if taps else None
    beside = (
        random.integers(0, 1 << taps, len(tile_of)) * (random.random(len(tile_of)) < 0.5) if taps else None
    )
    pads = values_of(array.activation)[_patterns(array.activation, (len(tile_of), 1), random)[:, 0]]
    values = values_of(array.weight)[weights]
    activations = values_of(array.activation)[inputs]
    multiplied = values[tile_of]
    plane, negative = np.zeros((2, len(tile_of)), np.int64)
    if array.bit_planes:
        plane[:], negative[:] = random.integers(0, 2, (2, len(tile_of)))
        plane[np.isin(tile_of, _EXTREMES)] = 0
        bits_of = np.where(negative[:, None, None] == 1, -weights[tile_of], weights[tile_of])
        multiplied = np.where(plane[:, None, None] == 1, bits_of, multiplied)
    digits = random.integers(0, array.lane_digits.bit_length(), len(tile_of))
    digits[np.isin(tile_of, [*_EXTREMES, *_DEPTHWISE_EXTREMES])] = array.lane_digits.bit_length() - 1
    scales = 1 << array.digit_bits * (np.arange(array.rows) % (1 << digits)[:, None])
    multiplied = multiplied * scales[..., None]
    exact = np.einsum("vr,vrc->vc", activations[:, : array.rows], multiplied)
    if columns is not None and beside is not None:
        beside[np.isin(tile_of, _DEPTHWISE_EXTREMES)] = 0
        which = np.flatnonzero(depthwise)
        seen = values_of(array.activation)[columns]
        exact[which] = _depthwise(which, taps, seen, beside, pads, multiplied)

    stop = random.integers(0, 2, len(tile_of)) * (tile_of >= 61)
    given: dict[str, Integers] = {"activations": activations, "swap": swap, "stop": stop}
    expected: dict[str, Integers] = {"sums": wrap(exact, array.sum_bits)}
    if array.tag_bits:
        given["tag"] = expected["tag"] = random.integers(0, 1 << array.tag_bits, len(tile_of))
    given |= {"digits": digits} if array.lane_digits > 1 else {}
    bins = _bins(array, uses, held, weights, inputs, exact)
    bins |= count(
        {"a swap with a stop": (swap & stop) == 1, "a swap without a stop": (swap & ~stop & 1) == 1}
    )
    bins |= count({f"digits of {1 << k}": digits == k for k in range(array.lane_digits.bit_length())})
    if array.bit_planes:
        given |= {"plane": plane, "negative": negative}
        bins |= _plane_bins(plane == 1, negative == 1, swap == 1)
    if beside is not None:
        given |= {"depthwise": depthwise, "beside": beside, "pad": pads}
        given |= {"above": values_of(array.activation)[above]} if lines else {}
        bins |= _depthwise_bins(array, depthwise == 1, swap == 1, chances, exact)
        bins |= _beside_bins(taps, depthwise == 1, beside)
    side = _beats(array, weights, held)
    return Cases(given, expected, bins, side=side, back_to_back=60)


def _columns(array: MacArray, tiles: int, random: np.random.Generator) -> Integers:
    """Columns whose weights each tile holds: all, or fewer."""
    held = np.where(random.random(tiles) < 0.5, array.columns, random.integers(1, array.columns + 1, tiles))
    held[[*_EXTREMES, *_DEPTHWISE_EXTREMES]] = array.columns
    return held


def _tile_beats(array: MacArray, held: Integers) -> Integers:
    """Words of tiles of so many columns."""
    return -(-held * array.rows * array.weight.bits // array.beat_bits)


def _uses(array: MacArray, held: Integers, random: np.random.Generator) -> Integers:
    """Vectors of each tile: as many as its successor takes to load, so that no cycle is lost; later fewer or more."""
    beats = np.append(_tile_beats(array, held)[1:], 1)
    uses = np.where(np.arange(len(held)) < 61, beats, random.integers(1, 2 * array.tile_beats + 3, len(held)))
    uses[61::5] = 1
    uses[_DEPTHWISE_EXTREMES] += array.depthwise_taps
    return uses


def _operands(array: MacArray, tile_of: Integers, random: np.random.Generator) -> tuple[Integers, Integers]:
    """Bits of the tiles and of the vectors. Four tiles together with their vectors make the sums' extremes; four more
    those of the depthwise mapping."""
    weights = _patterns(array.weight, (int(tile_of[-1]) + 1, array.rows, array.columns), random)
    inputs = _patterns(array.activation, (len(tile_of), array.lanes), random)
    for extremes in (_EXTREMES, _DEPTHWISE_EXTREMES)[: 2 if array.depthwise_taps else 1]:
        for tile, least_weight, least_input in zip(extremes, (1, 1, 0, 0), (1, 0, 1, 0), strict=True):
            weights[tile] = _extreme(array.weight, least_weight)
            inputs[tile_of == tile] = _extreme(array.activation, least_input)
    return weights, inputs


def _mapping(
    array: MacArray, tile_of: Integers, weights: Integers, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], Integers]:
    """Which vectors are depthwise, and each tile's chance of it: tiles of the first mapping alone, tiles of both, and
    tiles of the depthwise mapping alone. Rows of a depthwise tile past the taps are made zero."""
    taps, tiles = array.depthwise_taps, len(weights)
    depthwise = np.zeros(len(tile_of), np.int64)
    chances = random.choice([0, 0.3, 0.5, 0.8, 1], tiles) if taps else np.zeros(tiles)
    if taps:
        chances[_EXTREMES], chances[_DEPTHWISE_EXTREMES] = 0, 1
        depthwise[:] = random.random(len(tile_of)) < chances[tile_of]
        depthwise[: taps - 1] = 0  # after reset nothing is before
        zero = np.flatnonzero(values_of(array.weight) == 0)[0]
        weights[np.unique(tile_of[depthwise == 1]), (array.depthwise_lines + 1) * taps :] = zero
    return chances, depthwise


def _depthwise(
    which: Integers,
    taps: int,
    columns: Integers,
    beside: Integers,
    pads: Integers,
    multiplied: Integers,
) -> list[list[int]]:
    """The sums of the vectors `which` in the depthwise mapping: of each line `taps` rows of what they are `multiplied`
    with, the line's of this vector first, then those of the vectors before; the pad where those lie beside the row."""
    lines, tiles, outside, pad = columns.tolist(), multiplied.tolist(), beside.tolist(), pads.tolist()
    sums = []
    for t in which.tolist():
        w = tiles[t]
        products = []
        for line in range(len(lines[t])):
            for r in range(taps):
                of_row = [pad[t]] * len(w[0]) if outside[t] >> r & 1 else lines[t - r][line]
                products.append([of_row[c] * w[line * taps + r][c] for c in range(len(w[0]))])
        sums.append([sum(of_column) for of_column in zip(*products, strict=True)])
    return sums


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


def _beats(array: MacArray, weights: Integers, held: Integers) -> Integers:
    """The words of `w`: tile after tile, each packed column by column from bit 0 up; their top bit is a tile's last."""
    tiles, beats = len(weights), array.tile_beats
    flat = weights.transpose(0, 2, 1).reshape(tiles, -1, 1)
    stream = (flat >> np.arange(array.weight.bits) & 1).reshape(tiles, -1)
    words = np.zeros((tiles, beats * array.beat_bits), np.int64)
    words[:, : stream.shape[1]] = stream
    last = _tile_beats(array, held)[:, None] - 1
    numbers = np.arange(beats)
    words = np.concatenate(
        [words.reshape(tiles, beats, -1), (numbers == last)[..., None].astype(np.int64)], axis=2
    )
    return words[numbers <= last]


def _bins(
    array: MacArray, uses: Integers, held: Integers, weights: Integers, inputs: Integers, exact: Integers
) -> dict[str, int]:
    beats = _tile_beats(array, held)
    operand = values_of(array.activation), values_of(array.weight)
    products = operand[0][:, None] * operand[1][None, :]
    rows = int((1 << array.digit_bits * (np.arange(array.rows) % array.lane_digits)).sum())
    low, high = -(1 << (array.sum_bits - 1)), (1 << (array.sum_bits - 1)) - 1
    found = {
        "greatest sum": (exact == products.max() * rows).any(axis=1),
        "least sum": (exact == products.min() * rows).any(axis=1),
        "a tile used for one vector": uses == 1,
        "a tile used as long as the next takes to load": uses[:-1] == beats[1:],
        "a tile used for longer": uses[:-1] > beats[1:],
        "every weight's every pattern, first element": np.isin(
            np.arange(1 << array.weight.bits), weights[:, 0, 0]
        ),
        "every weight's every pattern, last element": np.isin(
            np.arange(1 << array.weight.bits), weights[:, -1, -1]
        ),
    }
    if array.tile_beats > 1:
        found["a short tile after a whole one"] = (beats[1:] < array.tile_beats) & (
            beats[:-1] == array.tile_beats
        )
        found["a whole tile after a short one"] = (beats[:-1] < array.tile_beats) & (
            beats[1:] == array.tile_beats
        )
    if products.max() * rows > high:
        found["wraps above"] = (exact > high).any(axis=1)
    if products.min() * rows < low:
        found["wraps below"] = (exact < low).any(axis=1)
    return count(found)


def _plane_bins(plane: Flags, negative: Flags, swap: Flags) -> dict[str, int]:
    found: dict[str, Flags] = {}
    kinds = {"weights": ~plane, "bits": plane & ~negative, "the sign's bits": plane & negative}
    for name, these in kinds.items():
        for before, those in kinds.items():
            follows = these & np.concatenate([[False], those[:-1]])
            found |= {
                f"{name} after {before}, with a swap": follows & swap,
                f"{name} after {before}, of the same tile": follows & ~swap,
            }
    return count(found)


def _beside_bins(taps: int, depthwise: Flags, beside: Integers) -> dict[str, int]:
    return count(
        {
            **{f"vector {tap} beside the row": depthwise & (beside >> tap & 1 == 1) for tap in range(taps)},
            "no vector beside the row": depthwise & (beside == 0),
            "all vectors beside the row": depthwise & (beside == (1 << taps) - 1),
            "vectors beside the row in the first mapping": ~depthwise & (beside != 0),
        }
    )


def _depthwise_bins(
    array: MacArray, depthwise: Flags, swap: Flags, chances: npt.NDArray[np.float64], exact: Integers
) -> dict[str, int]:
    taps = array.depthwise_taps
    busy = int(
        (1 << array.digit_bits * (np.arange((array.depthwise_lines + 1) * taps) % array.lane_digits)).sum()
    )
    products = values_of(array.activation)[:, None] * values_of(array.weight)[None, :]
    after = np.concatenate([depthwise[:1], depthwise[:-1]])
    found = {
        "a vector of the first mapping": ~depthwise,
        "a depthwise vector": depthwise,
        "depthwise after the first mapping": depthwise & ~after,
        "the first mapping after depthwise": ~depthwise & after,
        "depthwise after the first mapping, with a swap": depthwise & ~after & swap,
        "the first mapping after depthwise, with a swap": ~depthwise & after & swap,
        "depthwise after the first mapping, of the same tile": depthwise & ~after & ~swap,
        "the first mapping after depthwise, of the same tile": ~depthwise & after & ~swap,
        "a tile of the first mapping alone": chances == 0,
        "a tile of the depthwise mapping alone": chances == 1,
        "greatest depthwise sum": depthwise & (exact == products.max() * busy).any(axis=1),
        "least depthwise sum": depthwise & (exact == products.min() * busy).any(axis=1),
    }
    if taps > 1:
        # A row for each vector from taps - 1 on: the vectors that it multiplies, itself last.
        history = np.lib.stride_tricks.sliding_window_view(depthwise, taps)
        swaps = np.lib.stride_tricks.sliding_window_view(swap, taps)
        here, before = history[:, -1], history[:, :-1]
        found |= {
            "depthwise, all before too": here & before.all(axis=1),
            "depthwise, none before": here & ~before.any(axis=1),
            "depthwise, what is before of another tile": here & swaps[:, 1:].any(axis=1),
            "depthwise, what is before of the same tile": here & ~swaps[:, 1:].any(axis=1),
        }
    if taps > 2:
        found["depthwise, some before"] = here & before.any(axis=1) & ~before.all(axis=1)
    return count(found)
