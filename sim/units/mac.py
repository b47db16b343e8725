# amaranth: UnusedElaboratable=no
"""Bench of `hdl/units/mac.py`: every pair of operands, sums of every length, and accumulators that wrap both ways."""

from functools import partial

import numpy as np

from intaglio.golden.fixed_point import wrap
from intaglio.hdl.units.mac import MAC
from intaglio.sim.units.bench import Configuration
from intaglio.sim.units.cases import Cases, Integers, count, grid
from intaglio.spec.operand import OperandType

__all__ = ["configurations", "values_of"]

RANDOM_CASES = 100_000


def configurations() -> list[Configuration]:
    parameters = [
        ("int8", "int8", 32),
        ("int8", "int8", 8),
        ("int8", "int8", 16),
        ("int8", "int8", 48),
        ("uint8", "int8", 16),
        ("uint8", "int8", 32),
        ("uint8", "uint8", 32),
        ("uint4", "int4", 16),
        ("uint4", "int4", 8),
        ("int4", "uint2", 8),
        ("int8", "ternary", 16),
        ("int8", "ternary", 24),
        ("uint8", "ternary", 32),
        ("int8", "binary", 16),
        ("int8", "binary", 24),
        ("uint4", "binary", 8),
    ]
    return [
        Configuration(
            f"mac_{activation}_{weight}_{bits}",
            partial(MAC, activation, weight, bits),
            partial(_cases, OperandType(activation), OperandType(weight), bits),
            mutants=(activation, weight, bits)
            in (("int8", "int8", 16), ("int8", "ternary", 16), ("int8", "binary", 16)),
        )
        for activation, weight, bits in parameters
    ]


def values_of(operand: OperandType) -> Integers:
    """What each pattern of bits of an operand means."""
    if operand.is_ternary:
        return np.array([0, 1, 0, -1])
    if operand.is_binary:
        return np.array([1, -1])
    patterns = np.arange(1 << operand.bits)
    return wrap(patterns, operand.bits) if operand.signed else patterns


def _cases(
    activation: OperandType, weight: OperandType, bits: int, random: np.random.Generator, quick: bool
) -> Cases:
    activations, weights = values_of(activation), values_of(weight)
    # A port of plain bits takes a pattern, a port of numbers its value.
    w_port = weights if weight.is_integer else np.arange(len(weights))
    pair_a, pair_w = grid(np.arange(len(activations)), np.arange(len(weights)))
    pairs = random.permutation(len(pair_a))
    singles = _as_sums(pair_a[pairs], pair_w[pairs], 1, 1)
    size = 10_000 if quick else RANDOM_CASES
    parts = [
        # The first sum goes on from 0, which the reset left.
        _as_sums(np.array([1, 1]), np.array([1, 1]), np.array([0, 0]), np.array([0, 1])),
        _random(len(activations), len(weights), size, random),
        singles,
        *_long_sums(activations, weights, bits, random),
        # All ways to begin and end sums of one and two values, one after the other.
        _random(len(activations), len(weights), 2_000, random, 0.5, 0.5),
    ]
    a, w, first, last = (np.concatenate(column) for column in zip(*parts, strict=True))
    sums, unwrapped = _sums(activations[a] * weights[w], first, bits)
    bins = _bins(activations, weights, (a, w), first, last, sums, unwrapped, bits)
    brings = last == 1
    inputs = {"activation": activations[a], "weight": w_port[w], "first": first, "last": last}
    return Cases(inputs, {"": sums[brings]}, bins, brings=brings)


def _as_sums(a: Integers, w: Integers, first, last) -> list[Integers]:
    return [a, w, np.broadcast_to(first, a.shape), np.broadcast_to(last, a.shape)]


def _random(
    activations: int,
    weights: int,
    size: int,
    random: np.random.Generator,
    begins: float = 0.1,
    ends: float = 0.2,
) -> list[Integers]:
    """Sums of random lengths; some go on from the one before, some are dropped."""
    return [
        random.integers(0, activations, size),
        random.integers(0, weights, size),
        (random.random(size) < begins).astype(np.int64),
        (random.random(size) < ends).astype(np.int64),
    ]


def _long_sums(
    activations: Integers, weights: Integers, bits: int, random: np.random.Generator
) -> list[list[Integers]]:
    """Sums of the most positive and of the most negative products, as long as wraps take, up to 32 bits."""
    products = activations[:, None] * weights[None, :]
    parts = []
    for extreme in (products.max(), products.min()):
        a, w = (int(index[0]) for index in np.nonzero(products == extreme))
        steps = 300
        if extreme and bits <= 32:
            steps = min(-(-(1 << (bits - 1)) // abs(int(extreme))) + 20, 140_000)
        last = (random.random(steps) < 0.05).astype(np.int64)
        last[-30:] = 1
        first = np.zeros(steps, np.int64)
        first[0] = 1
        parts.append([np.full(steps, a), np.full(steps, w), first, last])
    return parts


def _sums(products: Integers, first: Integers, bits: int) -> tuple[Integers, Integers]:
    """The sum after each value, wrapped and exact; sums before the first `first` begin at 0."""
    running = np.cumsum(products)
    starts = np.flatnonzero(first)
    before = np.concatenate([[0], (running - products)[starts]])
    exact = running - before[np.cumsum(first)]
    return wrap(exact, bits), exact


def _bins(activations, weights, pair, first, last, sums, exact, bits: int) -> dict[str, int]:
    a, w = activations[pair[0]], weights[pair[1]]
    products = a * w
    first, last = first == 1, last == 1
    previous = np.concatenate([[0], sums[:-1]])
    previous = np.where(first, 0, previous)
    step = previous + products
    after_last = np.concatenate([[False], last[:-1]])
    found = {
        "weight at its least": w == weights.min(),
        "weight at its greatest": w == weights.max(),
        "activation at its least": a == activations.min(),
        "activation at its greatest": a == activations.max(),
        "greatest product": products == (activations[:, None] * weights[None, :]).max(),
        "least product": products == (activations[:, None] * weights[None, :]).min(),
        "a sum of one value": first & last,
        "a sum that begins while another is not emitted": first & ~after_last,
        "a sum that goes on after it was emitted": ~first & after_last,
        "two sums in successive cycles": last & after_last,
        "the sum begins at 0 after reset": (np.cumsum(first) == 0) & last & (exact != 0),
        "a positive sum becomes negative": (previous > 0) & (sums < 0),
    }
    if weights.min() < 0 or activations.min() < 0:
        found["a negative sum becomes positive"] = (previous < 0) & (sums > 0)
    if bits <= 32 and (bits < 32 or np.abs(products).max() > 255):
        found["wraps above"] = step > (1 << (bits - 1)) - 1
        if products.min() < 0:
            found["wraps below"] = step < -(1 << (bits - 1))
    elif products.min() == 0:
        del found["a positive sum becomes negative"]
    bins = count(found)
    pairs = np.unique(pair[0] * len(weights) + pair[1])
    bins["every pair of operands"] = int(len(pairs) == len(activations) * len(weights))
    return bins
