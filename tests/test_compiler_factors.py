"""Multipliers that round as a product with a float64 does: against both roundings' definitions, in rationals."""

import dataclasses
import math
import time
from fractions import Fraction

import numpy as np
import pytest

from intaglio.compiler import compile_network
from intaglio.compiler.factors import equal_multipliers
from intaglio.golden import channel_bounds
from intaglio.golden.rescale import affine, affine_real
from intaglio.network import AffineRescale, FullyConnected, TensorType
from intaglio.spec.config import AcceleratorConfig
from tests.networks_int8 import Int8Builder

INT32 = (-(1 << 31), (1 << 31) - 1)


def first_sum(factor, k):
    """The least sum that the runtime rounds to k: in rationals, then by what its product rounds to."""
    t = math.ceil(Fraction(2 * k - 1, 2) / Fraction(factor))
    return t - 1 if t > 1 and float(t - 1) * factor >= k - 0.5 else t


def multiplier_of(factor, exponent, reach, highest):
    """By the definition: M must reach k at `first_sum` and not before, for each k."""
    least, greatest = 0, (1 << 31) - 1
    for k in range(1, highest + 1):
        tie = Fraction(2 * k - 1, 2) * (1 << (31 - exponent))
        t = first_sum(factor, k)
        if t <= reach:
            least = max(least, math.ceil(tie / t))
        if before := min(t - 1, reach):
            greatest = min(greatest, math.ceil(tie / before) - 1)
        if t > reach:
            break
    wished = round(Fraction(factor) * (1 << (31 - exponent)))
    return min(max(wished, least), greatest) if least <= greatest else None


def drawn(rng):
    """A factor and its exponent: ordinary ones, powers of two, ties and their neighbours, the ends of float64."""
    kind = int(rng.integers(5))
    if kind == 0:
        factor = 2.0 ** int(rng.integers(-32, 31))
    elif kind == 1:
        factor = float(np.exp(rng.uniform(-20, 2)))
    elif kind == 2:
        factor = float(np.exp(rng.uniform(-700, 21)))
    else:
        factor = (2 * int(rng.integers(1, 129)) - 1) / 2 / int(rng.integers(1, 1 << int(rng.integers(1, 32))))
        factor = float(np.nextafter(factor, rng.choice([0.0, 1.0, factor])))
    return factor, min(max(math.frexp(factor)[1], -31), 31)


@pytest.mark.parametrize("highest", [0, 1, 127, 255])
def test_multipliers_are_the_definitions(highest):
    rng = np.random.default_rng(highest)
    factors, exponents = zip(*(drawn(rng) for _ in range(400)), strict=True)
    ends = [0, 1, 2, 100, 1 << 16, (1 << 31) - 1, 1 << 31]
    reach = np.where(rng.random(400) < 0.5, rng.choice(ends, 400), rng.integers(0, 1 << 20, 400))
    found, none = equal_multipliers(np.array(factors), np.array(exponents), reach, highest)
    expected = [
        multiplier_of(f, e, int(r), highest) for f, e, r in zip(factors, exponents, reach, strict=True)
    ]
    assert none == [i for i, multiplier in enumerate(expected) if multiplier is None]
    assert found.tolist() == [multiplier or 0 for multiplier in expected]
    assert highest < 127 or len(none) > 5


def test_every_sum_rounds_alike():
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.001, 0.02, 40)
    exponents = np.frexp(factors)[1].astype(np.int64)
    reach = np.full(40, 30_000)
    found, none = equal_multipliers(factors, exponents, reach, 200)
    sums = np.arange(-30_000, 30_001)
    for channel in sorted({*range(40)} - {*none}):
        real = np.full(sums.shape, factors[channel])
        np.testing.assert_array_equal(
            affine(sums, int(found[channel]), int(exponents[channel]), 0, -200, 200, double_rounding=False),
            affine_real(sums, real, 0, -200, 200),
        )
    assert len(none) < 20


def test_the_least_int32_is_a_sum_too():
    """-2**31 times 2**-32 is a tie, which no positive int32 reaches."""
    found, none = equal_multipliers(np.array([2.0**-32]), np.array([-31]), np.array([1 << 31]), 127)
    assert not none
    least = np.array([INT32[0]])
    assert affine_real(least, np.array([2.0**-32]), 0, *INT32).tolist() == [-1]
    assert affine(least, int(found[0]), -31, 0, *INT32, double_rounding=False).tolist() == [-1]


def fully_connected(outputs, features):
    builder = Int8Builder(0)
    source = builder.input((features,))
    rng = np.random.default_rng(0)
    real = np.exp(rng.uniform(-9, -7, outputs))
    fraction, exponent = np.frexp(real)
    rescale = AffineRescale(
        rng.integers(-5000, 5000, outputs), np.rint(fraction * 2**31).astype(np.int64), exponent.astype(np.int64),
        False, -128, 127, real=real,
    )  # fmt: skip
    weights = rng.integers(-128, 128, (outputs, features))
    builder.add_layer(
        FullyConnected, (source,), 5, weights=weights, weight_type=TensorType(8, True), rescale=rescale,
        accumulator_bits=32,
    )  # fmt: skip
    return builder.build()


def test_a_large_layer_compiles_in_a_blink():
    network = fully_connected(1000, 1024)
    start = time.perf_counter()
    program = compile_network(network, AcceleratorConfig.load("affine16x16"))
    assert time.perf_counter() - start < 2
    assert not program.warnings


def test_channels_without_a_multiplier_are_named():
    """Factors a hair below ties: the product rounds up to them, and 31 bits cannot tell."""
    network = fully_connected(50, 200)
    (layer,) = network.layers
    real = np.nextafter((2 * np.arange(50) + 1) / 2 / 9_999, 0.0)
    exponent = np.frexp(real)[1].astype(np.int64)
    rescale = dataclasses.replace(layer.rescale, real=real, exponent=exponent)
    network = dataclasses.replace(network, layers=(dataclasses.replace(layer, rescale=rescale),))
    lows, highs = channel_bounds(layer, network)
    reach = [max(-low, high, 0) for low, high in zip(lows, highs, strict=True)]
    without = [
        channel
        for channel in range(50)
        if multiplier_of(real[channel], int(exponent[channel]), reach[channel], 133) is None
    ]
    assert 0 < len(without) < 50
    (warning,) = compile_network(network, AcceleratorConfig.load("affine16x16")).warnings
    assert warning.startswith(f"layer {layer.name}: the rounding of {len(without)} of 50 channels ")
    assert f"(the first is {without[0]}) may differ by one" in warning
