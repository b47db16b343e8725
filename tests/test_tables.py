"""The machine's tables against golden's functions: two derivations, over all 256 patterns."""

import itertools
import math

import numpy as np
import pytest

from intaglio.compiler.tables import tables_of
from intaglio.golden.elementwise import unary_table
from intaglio.golden.transcendental import softmax_table
from intaglio.network import (
    FixedPointScale,
    HardSwish,
    LeakyRelu,
    Logistic,
    NetworkError,
    Requantize,
    Softmax,
    Tanh,
    Tensor,
    TensorType,
)

INT8 = TensorType(8, signed=True)
NAMES = {"name": "layer", "inputs": ("x",), "output": "y"}
ENDS = (-128, -127, -1, 0, 1, 126, 127)
MULTIPLIERS = (1 << 30, (1 << 30) + 1, 1_518_500_250, (1 << 31) - 1)


def tensor(name, zero_point):
    return Tensor(name, (4,), INT8, 0.1, zero_point)


def scales(rng, count, low, high, double=None):
    """Exponents from `low` to `high`; the first at the edges."""
    edges = itertools.product(MULTIPLIERS, (low, high), (True, False))
    for _ in range(count):
        edge = next(edges, None)
        multiplier, exponent, rounded = edge or (
            int(rng.integers(1 << 30, 1 << 31)),
            int(rng.integers(low, high + 1)),
            bool(rng.integers(2)),
        )
        yield FixedPointScale(multiplier, exponent, rounded if double is None else double)


def zero_points(rng):
    yield from itertools.product(ENDS, ENDS)
    while True:
        yield tuple(int(value) for value in rng.integers(-128, 128, 2))


def requantizes(rng, count):
    for index, scale in enumerate(scales(rng, count, -20, 12)):
        low, high = (-128, 127) if index % 2 else sorted(int(value) for value in rng.integers(-128, 128, 2))
        yield Requantize(**NAMES, scale=scale, low=low, high=high)


def leaky_relus(rng, count):
    positive, negative = scales(rng, count, -20, 12), scales(rng, count, -20, 12)
    for index, (above, below) in enumerate(zip(positive, negative, strict=True)):
        multiplier = (below.multiplier, -below.multiplier, 0)[index % 3]
        slope = FixedPointScale(multiplier, below.exponent, below.double_rounding)
        yield LeakyRelu(**NAMES, positive=above, negative=slope)


def hard_swishes(rng, count):
    for _ in range(count):
        output, relu = (int(value) for value in rng.integers(1 << 14, 1 << 15, 2))
        exponents = int(rng.integers(-14, 1)), int(rng.integers(-12, 10))
        yield HardSwish(**NAMES, output_multiplier=output, output_exponent=exponents[0], relu_multiplier=relu,
                        relu_exponent=exponents[1])  # fmt: skip


def curves(kind):
    def layers(rng, count):
        for scale in scales(rng, count, 0, 30, double=True):
            yield kind(**NAMES, scale=scale, radius=math.floor(15 * 2.0**27 / 2.0**scale.exponent))
        for radius in (0, 1, 127, 128, 255, 256):
            yield kind(**NAMES, scale=FixedPointScale(1 << 30, 1), radius=radius)

    return layers


def float32_curves(kind):
    def layers(rng, count):
        edges = (0.0, 2.0**-149, 2.0**-26, 1 / 256, 1 / 3, 1.0, 8.0, 88.7228, 103.97, 2.0**31, 3.4e38)
        for real in (*edges, *(2.0 ** rng.uniform(-26, 6, count))):
            yield kind(**NAMES, scale=FixedPointScale(1 << 30, 1), radius=0, real=float(real))

    return layers


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        (requantizes, 2000),
        (leaky_relus, 1000),
        (hard_swishes, 1000),
        (curves(Logistic), 2750),
        (curves(Tanh), 2750),
        (float32_curves(Logistic), 250),
        (float32_curves(Tanh), 250),
    ],
    ids=[
        "requantize",
        "leaky relu",
        "hard swish",
        "logistic",
        "tanh",
        "logistic in float32",
        "tanh in float32",
    ],
)
def test_lookup(layers, count):
    """10,000 scales in all, and the edges."""
    rng = np.random.default_rng(count)
    tried = 0
    for layer, (given, made) in zip(layers(rng, count), zero_points(rng), strict=False):
        if isinstance(layer, Logistic | Tanh):
            made = -128 if isinstance(layer, Logistic) else 0
        source, target = tensor("x", given), tensor("y", made)
        values = unary_table(layer, source, target)
        (table,) = tables_of(layer, source, target)
        for value, expected in zip(range(-128, 128), values.tolist(), strict=True):
            found = int(table[value % 256].astype(np.int8))
            assert found == expected, (layer, source.zero_point, target.zero_point, value)
        tried += 1
    assert tried >= count


def test_softmax():
    rng = np.random.default_rng(1)
    tried = 0
    for scale in scales(rng, 10_000, 0, 30, double=True):
        least = int(rng.choice([-255, -256, 0, -1, int(rng.integers(-255, 1))]))
        planes = tables_of(Softmax(**NAMES, scale=scale, least=least), tensor("x", 3), tensor("y", -128))
        assert planes.shape == (4, 256)
        entries = sum(planes[byte].astype(np.int64) << (8 * byte) for byte in range(4))
        np.testing.assert_array_equal(entries, softmax_table(scale, least), str((scale, least)))
        tried += 1
    assert tried == 10_000


def test_an_operand_of_another_type_is_refused():
    wide = Tensor("x", (4,), TensorType(16, signed=True), 0.1, 0)
    layer = Requantize(**NAMES, scale=FixedPointScale(1 << 30, 1), low=-128, high=127)
    with pytest.raises(NetworkError, match="no table of int16; it takes int8"):
        tables_of(layer, wide, tensor("y", 0))
