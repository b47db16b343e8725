import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.golden import accumulator_bounds, channel_bounds, conv2d, fully_connected, max_pool2d
from intaglio.golden.layers import exact_dtype, sum_bound
from intaglio.network import (
    AffineRescale,
    Conv2D,
    FullyConnected,
    LlsqRescale,
    MaxPool2D,
    Network,
    NetworkError,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    Tensor,
    TensorType,
)
from tests import golden_definitions as definitions


@st.composite
def geometries(draw):
    """Kernel, stride, padding, dilation, input extent: anything in which the window fits at least once."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    extent = tuple(
        draw(st.integers(max(1, (k - 1) * d + 1 - before - after), 10))
        for k, d, before, after in zip(kernel, dilation, padding[::2], padding[1::2], strict=True)
    )
    return kernel, stride, padding, dilation, extent


@given(
    geometry=geometries(),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    outputs=st.integers(1, 4),
    padding_value=st.integers(-128, 127),
    bits=st.sampled_from([2, 4, 8, 12, 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_conv2d(geometry, batch, channels, outputs, padding_value, bits, seed):
    kernel, stride, padding, dilation, extent = geometry
    rng = np.random.default_rng(seed)
    inputs = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (batch, *extent, channels))
    weights = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, *kernel, channels))
    sums = conv2d(inputs, weights, stride, padding, dilation, padding_value)
    assert sums.dtype == np.int64
    assert sums.tolist() == [
        definitions.conv2d(image, weights.tolist(), stride, padding, dilation, padding_value)
        for image in inputs.tolist()
    ]


def test_conv2d_in_blocks_of_rows(monkeypatch):
    """An image larger than a block, and a batch of many blocks, give what one block gives."""
    rng = np.random.default_rng(1)
    inputs, weights = rng.integers(0, 16, (5, 13, 11, 3), np.uint8), rng.integers(-8, 8, (4, 3, 2, 3))
    geometry = ((2, 1), (1, 2, 0, 1), (2, 1), 7)
    expected = conv2d(inputs, weights, *geometry)
    assert expected[3].tolist() == definitions.conv2d(inputs[3].tolist(), weights.tolist(), *geometry)
    for elements, sums in [(1, 1), (200, 200), (200, 5000), (700, 100), (2000, 2000)]:
        monkeypatch.setattr("intaglio.golden.layers._BLOCK_ELEMENTS", elements)
        monkeypatch.setattr("intaglio.golden.layers._SUM_ELEMENTS", sums)
        monkeypatch.setattr("intaglio.golden.layers._GEMM_MACS", elements)
        assert np.array_equal(conv2d(inputs, weights, *geometry), expected)
        flat = weights.reshape(4, -1)
        assert np.array_equal(
            fully_connected(inputs[:, :3, :2], flat),
            inputs[:, :3, :2].reshape(5, -1).astype(int) @ flat.T,
        )


@pytest.mark.parametrize("bits", [4, 8, 9, 10, 16, 23, 24, 28])
def test_sums_that_reach_their_bound_are_exact(bits):
    """All ones in magnitude, and an odd rest: the largest sums in each of the three types, to the last bit."""
    magnitude = 2**bits - 1
    inputs = np.full((2, 64), magnitude)
    weights = np.full((3, 64), magnitude)
    weights[1] *= -1
    weights[2, ::2] *= -1
    weights[2, 0] = 1
    exact = [sum(magnitude * int(w) for w in row) for row in weights]
    assert max(map(abs, exact)) == sum_bound(inputs, weights)
    assert fully_connected(inputs, weights).tolist() == [exact, exact]
    image = inputs.reshape(2, 8, 8, 1)
    assert conv2d(image, weights.reshape(3, 8, 8, 1)).reshape(2, 3).tolist() == [exact, exact]


def test_one_more_than_float32_holds():
    """2**24 + 1 is the first integer that float32 lacks, 2**53 + 1 the first that float64 lacks."""
    for large in (2**24, 2**53):
        factor = 2**24 if large == 2**24 else 2**28
        inputs, weights = np.array([[factor, 1]]), np.array([[large // factor, 1]])
        assert fully_connected(inputs, weights).tolist() == [[large + 1]]


def test_a_large_padding_value_counts_in_the_bound():
    sums = conv2d(
        np.ones((1, 1, 1, 1), int), np.ones((1, 1, 2, 1), int), padding=(0, 0, 1, 1), padding_value=2**24
    )
    assert sums.ravel().tolist() == [2**24 + 1, 2**24 + 1]


def test_exact_dtype():
    assert [exact_dtype(b).name for b in (0, 2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1)] == [
        "float32",
        "float32",
        "float64",
        "float64",
        "int64",
        "int64",
    ]
    with pytest.raises(ValueError, match="^sums may reach 9223372036854775808, beyond the 64 bits "):
        exact_dtype(2**63)


def test_sum_bound_sees_the_least_int8():
    assert sum_bound(np.array([-128, 127], np.int8), np.array([[-128, 1], [2, 3]], np.int8)) == 128 * 129
    assert sum_bound(np.zeros((0, 2), np.int8), np.ones((1, 2), int)) == 0


@given(
    batch=st.integers(0, 3),
    features=st.integers(1, 40),
    outputs=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_fully_connected(batch, features, outputs, seed):
    rng = np.random.default_rng(seed)
    inputs, weights = (
        rng.integers(0, 256, (batch, features), np.uint8),
        rng.integers(-128, 128, (outputs, features)),
    )
    assert fully_connected(inputs, weights).tolist() == [
        [sum(int(a) * int(w) for a, w in zip(row, weight, strict=True)) for weight in weights]
        for row in inputs
    ]


def test_fully_connected_flattens_in_the_order_of_memory():
    inputs = np.arange(24).reshape(1, 2, 3, 4)
    assert fully_connected(inputs, np.eye(24, dtype=int)).tolist() == [list(range(24))]


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
    dtype=st.sampled_from(["int8", "uint8", "int16", "int32"]),
)
def test_max_pool2d(kernel, stride, data, dtype):
    vertical = [data.draw(st.integers(0, kernel[0] - 1)) for _ in range(2)]
    horizontal = [data.draw(st.integers(0, kernel[1] - 1)) for _ in range(2)]
    padding = (*vertical, *horizontal)
    extent = [
        data.draw(st.integers(max(1, k - sum(pads)), 9))
        for k, pads in zip(kernel, (vertical, horizontal), strict=True)
    ]
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Many at the least value: padding must not win over them.
    inputs = rng.integers(limits.min, limits.min + 3, (2, *extent, 3), dtype)
    result = max_pool2d(inputs, kernel, stride, padding)
    assert result.dtype == dtype
    assert result.tolist() == [
        definitions.max_pool2d(image, kernel, stride, padding) for image in inputs.tolist()
    ]


def test_max_pool2d_leaves_its_input_alone():
    inputs = np.arange(16).reshape(1, 4, 4, 1)
    for kernel in ((1, 1), (2, 2)):
        max_pool2d(inputs, kernel, (1, 1))[...] = 99
    assert np.array_equal(inputs.ravel(), np.arange(16))


def test_windows_that_do_not_fit():
    image, kernel = np.zeros((1, 3, 3, 1), int), np.ones((1, 2, 2, 1), int)
    with pytest.raises(ValueError, match="^a window of 2 elements 3 apart does not fit 3 and 0 of padding$"):
        conv2d(image, kernel, dilation=(1, 3))
    with pytest.raises(ValueError, match="^a window of 4 elements 1 apart does not fit 3 and 0 of padding$"):
        max_pool2d(image, (4, 1), (1, 1))
    with pytest.raises(
        ValueError, match=r"^padding \(2, 0, 0, 0\) leaves windows of \(2, 2\) without any element$"
    ):
        max_pool2d(image, (2, 2), (1, 1), (2, 0, 0, 0))
    with pytest.raises(ValueError, match="^weights .* do not fit the input "):
        conv2d(np.zeros((1, 3, 3, 2), int), kernel)
    with pytest.raises(ValueError, match="^weights take 4 features, the input is "):
        fully_connected(np.zeros((1, 3), int), np.ones((1, 4), int))


def _one_layer(layer, source):
    shape = layer.output_shape(source.shape)
    return Network("n", {"x": source, "y": Tensor("y", shape, TensorType(8, True))}, (layer,), ("x",), ("y",))


def _conv(weights, rescale=None, **geometry):
    weights = np.asarray(weights)
    one = np.zeros(len(weights), np.int64)
    rescale = rescale or SbnqRescale(one, one, False)
    return Conv2D(
        "conv",
        ("x",),
        "y",
        weights=weights,
        weight_type=TensorType(8, True),
        rescale=rescale,
        accumulator_bits=32,
        **geometry,
    )


@settings(max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    kind=st.sampled_from([TensorType(1, False), TensorType(2, True), TensorType(8, True)]),
    data=st.data(),
)
def test_bounds_are_the_ends_that_inputs_reach(kernel, padding, stride, dilation, kind, data):
    """The ends of a convolution's sums, as the input that drives each output to its end gives them."""
    extent = [
        data.draw(st.integers(max(1, (k - 1) * d + 1 - before - after), 5))
        for k, d, before, after in zip(kernel, dilation, padding[::2], padding[1::2], strict=True)
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    zero_point = data.draw(st.integers(kind.min, kind.max))
    weights = rng.integers(-4, 5, (2, *kernel, 2))
    layer = _conv(weights, padding=padding, stride=stride, dilation=dilation)
    source = Tensor("x", (*extent, 2), kind, zero_point=zero_point)
    low, high = channel_bounds(layer, _one_layer(layer, source))

    # Sums are linear in the input: the response to each element alone says which way to push it.
    size = source.size
    base = conv2d(np.zeros((1, *source.shape), int), weights, stride, padding, dilation, zero_point)[0]
    alone = conv2d(
        np.eye(size, dtype=int).reshape(size, *source.shape), weights, stride, padding, dilation, zero_point
    )
    gain = alone - base
    least = base + np.where(gain > 0, gain * kind.min, gain * kind.max).sum(axis=0)
    greatest = base + np.where(gain > 0, gain * kind.max, gain * kind.min).sum(axis=0)
    assert low == least.min(axis=(0, 1)).tolist()
    assert high == greatest.max(axis=(0, 1)).tolist()
    assert accumulator_bounds(layer, _one_layer(layer, source)) == (min(low), max(high))


ONE = np.array([1, 1])
BIAS = np.array([1000, -2000])


@pytest.mark.parametrize(
    ("rescale", "added"),
    [
        (SbnqRescale(BIAS, ONE, False), (0, 0)),
        (AffineRescale(BIAS, ONE, ONE, True, -128, 127), (1000, -2000)),
        (LlsqRescale(BIAS, ONE, ONE), (1000, -2000)),
        (PowerOfTwoRescale(BIAS, ONE, Rounding.HALF_EVEN), (1000, -2000)),
    ],
)
def test_bounds_of_a_fully_connected_layer_with_bias(rescale, added):
    layer = FullyConnected(
        "fc",
        ("x",),
        "y",
        weights=np.array([[3, -5, 0], [-8, -8, -8]]),
        weight_type=TensorType(4, True),
        rescale=rescale,
        accumulator_bits=32,
    )
    network = _one_layer(layer, Tensor("x", (3,), TensorType(8, True)))
    low, high = channel_bounds(layer, network)
    assert low == [-128 * 3 - 127 * 5 + added[0], -127 * 24 + added[1]]
    assert high == [127 * 3 + 128 * 5 + added[0], 128 * 24 + added[1]]
    assert accumulator_bounds(layer, network) == (min(low), max(high))


def test_bounds_beyond_64_bits():
    layer = FullyConnected(
        "fc",
        ("x",),
        "y",
        weights=np.array([[-(2**31), -(2**31)]]),
        weight_type=TensorType(32, True),
        rescale=SbnqRescale(ONE[:1], ONE[:1], False),
        accumulator_bits=48,
    )
    network = _one_layer(layer, Tensor("x", (2,), TensorType(32, False)))
    assert accumulator_bounds(layer, network) == (-(2**32) * (2**32 - 1), 0)


def test_pooling_has_no_accumulator():
    layer = MaxPool2D("pool", ("x",), "y", (1, 1), (1, 1))
    network = _one_layer(layer, Tensor("x", (1, 1, 1), TensorType(8, True)))
    with pytest.raises(NetworkError, match="^layer pool: MaxPool2D has no accumulator$"):
        accumulator_bounds(layer, network)
