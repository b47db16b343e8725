"""The int8 operators, element by element, against their definitions in Python's integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import golden
from intaglio.golden import elementwise, layers, transcendental
from intaglio.network import (
    Add,
    FixedPointScale,
    LeakyRelu,
    Mean,
    Mul,
    Network,
    NetworkError,
    Requantize,
    Rounding,
    Softmax,
    Sub,
    Tensor,
    TensorType,
)
from tests import golden_definitions as definitions
from tests.golden_definitions import Factor, Fixed

INT8 = TensorType(8, True)
EVERY = np.arange(-128, 128)
ENDS = (-(2**31), 2**31 - 1)

scales = st.tuples(st.integers(2**30, 2**31 - 1), st.integers(-12, 2))
zero_points = st.integers(-128, 127)


def tensor(name: str, shape: tuple[int, ...], zero_point: int = 0) -> Tensor:
    return Tensor(name, shape, INT8, 0.1, zero_point)


def computed(
    layer, *operands: np.ndarray, zero_points: tuple[int, ...], output: int, shape=None
) -> np.ndarray:
    """What golden has for one layer alone; the last of `zero_points` may be left to `output`."""
    tensors = [tensor(n, v.shape[1:], z) for n, v, z in zip("ab", operands, zero_points, strict=False)]
    shape = shape or np.broadcast_shapes(*(t.shape for t in tensors))
    names = tuple(t.name for t in tensors)
    network = Network(
        "n", {t.name: t for t in (*tensors, tensor("y", shape, output))}, (layer,), names, ("y",)
    )
    return golden.run(network, dict(zip(names, operands, strict=True))).tensors["y"].astype(int)


# Roundings: each is told from each, by inputs on which only the right one gives the right number.


SWAPS = {
    # SQRDMULH's tie: -1/2 goes up, to 0; away from zero it would be -1.
    "inside": ((-1, 1 << 30, 0), 0, lambda x, m, e: definitions.divide(x * m, 31, Rounding.HALF_AWAY)),
    # The shift's tie: -1/2 goes away, to -1; up it would be 0.
    "outside": ((-2, 1 << 30, -1), -1, lambda x, m, e: definitions.divide(x * m >> 31, -e, Rounding.HALF_UP)),
    # Twice: 1.5/4 -> 2/4 -> 1; once it would be 0.
    "twice": ((3, 1 << 30, -2), 1, lambda x, m, e: definitions.divide(x * m, 31 - e, Rounding.HALF_AWAY)),
}


@pytest.mark.parametrize("which", SWAPS)
def test_roundings_are_told_apart(which: str) -> None:
    (x, multiplier, exponent), expected, swapped = SWAPS[which]
    assert swapped(x, multiplier, exponent) != expected
    assert golden.affine(x, multiplier, exponent, 0, -128, 127, True) == expected
    layer = Requantize("r", ("a",), "y", FixedPointScale(multiplier, exponent), -128, 127)
    assert computed(layer, np.array([[x]]), zero_points=(0,), output=0).tolist() == [[expected]]


def test_once_is_told_from_twice() -> None:
    once = golden.affine(3, 1 << 30, -2, 0, -128, 127, False)
    assert once == 0 == definitions.affine(3, 1 << 30, -2, 0, -128, 127, False)
    # And by a factor in float64: the tie of the product, not that of the multiplier.
    assert golden.affine_real(3, 0.5, 0, -128, 127) == 2
    assert golden.affine_real(-3, 0.5, 0, -128, 127) == -2


@given(
    x=st.integers(*ENDS),
    real=st.floats(2.0**-40, 2.0**20),
    zero_point=zero_points,
)
def test_a_real_factor(x: int, real: float, zero_point: int) -> None:
    expected = definitions.affine_real(x, real, zero_point, -(2**30), 2**30)
    assert golden.affine_real(x, real, zero_point, -(2**30), 2**30) == expected


@given(k=st.integers(-(2**20), 2**20), real=st.floats(2.0**-20, 1.0))
def test_a_real_factor_at_ties(k: int, real: float) -> None:
    """Sums next to where the result steps, most of which round to the tie in float64 alone."""
    for x in range(math.floor((k + 0.5) / real) - 1, math.floor((k + 0.5) / real) + 3):
        if ENDS[0] <= x <= ENDS[1]:
            expected = definitions.affine_real(x, real, 0, *ENDS)
            assert golden.affine_real(x, real, 0, *ENDS) == expected


# Windows.


@settings(max_examples=60)
@given(st.data())
def test_depthwise(data) -> None:
    draw = data.draw
    channels, multiplier = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, 3)] * 2)) for _ in range(3))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    sizes = [
        max(1, n - before - after) + draw(st.integers(0, 4))
        for n, before, after in ((reach[0], *padding[:2]), (reach[1], *padding[2:]))
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = rng.integers(-128, 128, (2, *sizes, channels))
    weights = rng.integers(-128, 128, (channels * multiplier, *kernel))
    zero_point = draw(zero_points)
    sums = layers.depthwise_conv2d(image, weights, stride, padding, dilation, zero_point)
    for one, expected in zip(image.tolist(), sums.tolist(), strict=True):
        assert expected == definitions.depthwise_conv2d(
            one, weights.tolist(), stride, padding, dilation, zero_point
        )


@settings(max_examples=60)
@given(st.data())
def test_average_pool(data) -> None:
    draw = data.draw
    kernel, stride = (draw(st.tuples(*[st.integers(1, 4)] * 2)) for _ in range(2))
    padding = tuple(draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    sizes = [kernel[0] + draw(st.integers(0, 4)), kernel[1] + draw(st.integers(0, 4))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = (
        rng.integers(-4, 4, (2, *sizes, 3))
        if draw(st.booleans())
        else rng.integers(-128, 128, (2, *sizes, 3))
    )
    pooled = layers.average_pool2d(image, kernel, stride, padding)
    for one, expected in zip(image.tolist(), pooled.tolist(), strict=True):
        assert expected == definitions.average_pool2d(one, kernel, stride, padding)


def test_average_pool_ties_go_away_from_zero() -> None:
    image = np.array([[1, 2], [-1, -2]], np.int8).reshape(2, 1, 2, 1)
    assert layers.average_pool2d(image, (1, 2), (1, 1)).ravel().tolist() == [2, -2]


# Two operands.


@settings(max_examples=30)
@given(
    first=scales,
    second=scales,
    total=scales,
    zeros=st.tuples(*[zero_points] * 3),
    sign=st.sampled_from([1, -1]),
)
def test_sums(first: Factor, second: Factor, total: Factor, zeros, sign) -> None:
    first, second, total = ((m, min(e, 0)) for m, e in (first, second, total))
    kind = Add if sign == 1 else Sub
    factors = [FixedPointScale(*each) for each in (first, second, total)]
    layer = kind("s", ("a", "b"), "y", factors[0], factors[1], factors[2], -100, 120)
    a, b = EVERY[::5, None].reshape(1, -1, 1), EVERY[::7].reshape(1, 1, -1)
    result = computed(layer, a, b, zero_points=zeros[:2], output=zeros[2])[0]
    for i, x in enumerate(a.ravel().tolist()):
        for j, y in enumerate(b.ravel().tolist()):
            exact = definitions.add(x - zeros[0], y - zeros[1], first, second, total, 20, sign)
            assert result[i, j] == definitions.clamp(exact + zeros[2], -100, 120)


@settings(max_examples=30)
@given(scale=scales, zeros=st.tuples(*[zero_points] * 3))
def test_products(scale: Factor, zeros) -> None:
    layer = Mul("m", ("a", "b"), "y", FixedPointScale(*scale), -120, 100)
    a, b = EVERY[::5, None].reshape(1, -1, 1), EVERY[::7].reshape(1, 1, -1)
    result = computed(layer, a, b, zero_points=zeros[:2], output=zeros[2])[0]
    for i, x in enumerate(a.ravel().tolist()):
        for j, y in enumerate(b.ravel().tolist()):
            product = (x - zeros[0]) * (y - zeros[1])
            assert result[i, j] == definitions.affine(product, *scale, zeros[2], -120, 100, True)


@pytest.mark.parametrize("kind", [Add, Sub, Mul])
def test_many_pairs_are_looked_up_as_few_are_computed(kind) -> None:
    factors = [FixedPointScale(m, e) for m, e in ((1 << 30, 0), (1288490189, -1), (1717986918, -19))]
    if kind is Mul:
        factors = [FixedPointScale(1717986918, -6)]
    layer = kind("s", ("a", "b"), "y", *factors, -100, 120)
    a, b = (np.repeat(EVERY.reshape(shape), 2, axis=0) for shape in ((1, -1, 1), (1, 1, -1)))
    many = computed(layer, a, b, zero_points=(-7, 9), output=3)
    few = [
        computed(layer, a[:1, i : i + 64], b[:1], zero_points=(-7, 9), output=3) for i in range(0, 256, 64)
    ]
    assert many.shape == (2, 256, 256)
    assert np.array_equal(many[0], np.concatenate(few, axis=1)[0])
    assert np.array_equal(many[1], many[0])
    assert not np.array_equal(many[0], many[0].T)


def test_a_constant_operand_broadcasts_over_the_batch() -> None:
    scale = FixedPointScale(1 << 30, 1)
    tensors = {name: tensor(name, (2,)) for name in "aby"}
    layer = Mul("m", ("a", "b"), "y", scale, -128, 127)
    network = Network("n", tensors, (layer,), ("a",), ("y",), constants={"b": np.array([2, -3])})
    assert golden.run(network, np.array([[1, 2], [3, 4], [5, 6]])).tensors["y"].tolist() == [
        [2, -6],
        [6, -12],
        [10, -18],
    ]


# One operand.


@given(scale=scales, zeros=st.tuples(zero_points, zero_points))
def test_requantize(scale: Factor, zeros) -> None:
    layer = Requantize("r", ("a",), "y", FixedPointScale(*scale), -90, 90)
    result = computed(layer, EVERY[None], zero_points=zeros[:1], output=zeros[1])[0]
    for x, y in zip(EVERY.tolist(), result.tolist(), strict=True):
        assert y == definitions.affine(x - zeros[0], *scale, zeros[1], -90, 90, True)


@given(
    positive=scales, negative=scales, sign=st.sampled_from([1, -1]), zeros=st.tuples(zero_points, zero_points)
)
def test_leaky_relu(positive: Factor, negative: Factor, sign, zeros) -> None:
    below = FixedPointScale(sign * negative[0], negative[1])
    layer = LeakyRelu("l", ("a",), "y", FixedPointScale(*positive), below)
    result = computed(layer, EVERY[None], zero_points=zeros[:1], output=zeros[1])[0]
    for x, y in zip(EVERY.tolist(), result.tolist(), strict=True):
        if x >= zeros[0]:
            exact = definitions.affine(x - zeros[0], *positive, 0, *ENDS, True)
        else:
            exact = sign * definitions.affine(x - zeros[0], *negative, 0, *ENDS, True)
        assert y == definitions.clamp(exact + zeros[1], -128, 127)


@given(
    scale=scales, zeros=st.tuples(zero_points, zero_points), keep=st.booleans(), seed=st.integers(0, 2**32)
)
def test_mean(scale: Factor, zeros, keep, seed) -> None:
    values = np.random.default_rng(seed).integers(-128, 128, (2, 3, 4, 5))
    layer = Mean("m", ("a",), "y", (0, 1), keep, FixedPointScale(*scale))
    shape = (1, 1, 5) if keep else (5,)
    result = computed(layer, values, zero_points=zeros[:1], output=zeros[1], shape=shape)
    for i in range(2):
        for c in range(5):
            total = sum(v - zeros[0] for row in values[i].tolist() for v in (pixel[c] for pixel in row))
            assert result[i].ravel()[c] == definitions.affine(total, *scale, zeros[1], -128, 127, True)


# Fixed point.

FRACTIONS = st.integers(-(2**31), 0)


@given(raw=FRACTIONS, integer_bits=st.integers(0, 5))
def test_exp(raw: int, integer_bits: int) -> None:
    x = Fixed(max(raw, -(2**31) + 1), integer_bits)
    result = int(transcendental.exp_on_negative_values(x.raw, integer_bits))
    assert result == definitions.exp_on_negative_values(x).raw
    assert abs(Fraction(result, 2**31) - Fraction(math.exp(x.raw / 2.0 ** (31 - integer_bits)))) < Fraction(
        1, 10**6
    )


@given(raw=st.integers(0, 2**31 - 1))
def test_reciprocal(raw: int) -> None:
    result = int(transcendental.one_over_one_plus(raw))
    assert result == definitions.one_over_one_plus(Fixed(raw, 0)).raw
    assert abs(Fraction(result, 2**31) - 1 / (1 + Fraction(raw, 2**31))) < Fraction(1, 10**7)


@given(raw=st.integers(-(2**31) + 1, 2**31 - 1))
def test_tanh_and_logistic(raw: int) -> None:
    x = Fixed(raw, 4)
    real = raw / 2.0**27
    for ours, theirs, exact in [
        (transcendental.tanh(raw), definitions.tanh(x), math.tanh(real)),
        (transcendental.logistic(raw), definitions.logistic(x), 1 / (1 + math.exp(-real))),
    ]:
        assert int(ours) == theirs.raw
        assert abs(int(ours) / 2**31 - exact) < 1e-6


@settings(max_examples=50)
@given(
    rows=st.lists(st.lists(st.integers(-128, 127), min_size=7, max_size=7), min_size=1, max_size=3),
    scale=st.tuples(st.integers(2**30, 2**31 - 1), st.integers(15, 28)),
)
def test_softmax(rows, scale) -> None:
    least = -math.floor(31 * 2.0**26 / 2.0 ** scale[1])
    layer = Softmax("s", ("a",), "y", FixedPointScale(*scale), least)
    result = computed(layer, np.array(rows), zero_points=(0,), output=-128)
    assert result.tolist() == [definitions.softmax(row, scale, least) for row in rows]


def test_a_row_of_softmax_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="softmax of 4096 elements"):
        transcendental.softmax(np.zeros((1, 4096), np.int8), FixedPointScale(1 << 30, 20), -100)


def test_tables_are_of_int8() -> None:
    wide = Tensor("a", (1,), TensorType(17, True))
    layer = Requantize("r", ("a",), "y", FixedPointScale(1 << 30, 0), -128, 127)
    with pytest.raises(ValueError, match="a table of int17 would be too large"):
        elementwise.unary_table(layer, wide, tensor("y", (1,)))


def test_a_clamp_that_does_not_fit_is_refused() -> None:
    layer = Requantize("r", ("a",), "y", FixedPointScale(1 << 30, 0), -129, 127)
    with pytest.raises(NetworkError, match=r"layer r: a clamp to -129\.\.\.127 does not fit int8"):
        computed(layer, EVERY[None], zero_points=(0,), output=0)
