import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import golden
from intaglio.golden import run, run_batches
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
from intaglio.network.formats import integernet
from tests import golden_definitions as definitions

UINT8, UINT4, INT8, INT4 = (
    TensorType(8, False),
    TensorType(4, False),
    TensorType(8, True),
    TensorType(4, True),
)


def _values(seed, low, high, *shape):
    return np.random.default_rng(seed).integers(low, high + 1, shape)


def _network(accumulator_bits=32, bias_scale=1):
    """All schemes one after the other: uint8 -> SBNQ -> pool -> affine (zero points) -> LLSQ -> power of two."""
    tensors = [
        Tensor("image", (6, 5, 2), UINT8),
        Tensor("sbnq", (6, 5, 3), UINT4),
        Tensor("pooled", (3, 2, 3), UINT4),
        Tensor("affine", (3, 2, 4), INT8, zero_point=-7),
        Tensor("llsq", (2, 1, 3), UINT4),
        Tensor("out", (5,), INT8),
    ]
    layers = (
        Conv2D(
            "a",
            ("image",),
            "sbnq",
            weights=_values(1, -8, 7, 3, 3, 3, 2),
            weight_type=INT4,
            rescale=SbnqRescale(np.array([-300, 0, 150]), np.array([9, 8, 7]), True),
            accumulator_bits=accumulator_bits,
            padding=(1, 1, 1, 1),
        ),
        MaxPool2D("b", ("sbnq",), "pooled", (2, 2), (2, 2)),
        Conv2D(
            "c",
            ("pooled",),
            "affine",
            weights=_values(2, -128, 127, 4, 1, 1, 3),
            weight_type=INT8,
            rescale=AffineRescale(
                bias_scale * np.array([100, -200, 300, 5]),
                _values(3, 2**30, 2**31 - 1, 4),
                np.array([-3, -4, -2, -5]),
                True,
                -100,
                127,
            ),
            accumulator_bits=accumulator_bits,
        ),
        Conv2D(
            "d",
            ("affine",),
            "llsq",
            weights=_values(4, -8, 7, 3, 3, 3, 4),
            weight_type=INT4,
            rescale=LlsqRescale(np.array([5, -6, 7]), np.array([1, 129, 255]), np.array([6, 14, 15])),
            accumulator_bits=accumulator_bits,
            stride=(1, 2),
            padding=(0, 1, 1, 0),
        ),
        FullyConnected(
            "e",
            ("llsq",),
            "out",
            weights=_values(5, -1, 1, 5, 6),
            weight_type=TensorType(2, True),
            rescale=PowerOfTwoRescale(
                np.array([0, 1, 2, 3, 4]), np.array([-1, 0, 1, 2, 1]), Rounding.HALF_EVEN
            ),
            accumulator_bits=accumulator_bits,
        ),
    )
    return Network("net", {tensor.name: tensor for tensor in tensors}, layers, ("image",), ("out",))


def _expected(network, image):
    """One inference by the definitions: the tensors as nested lists, and the overflows, by layer."""
    tensors, overflows = {"image": image.tolist()}, {}
    for layer in network.layers:
        source, target = network.tensors[layer.inputs[0]], network.tensors[layer.output]
        values, overflows[layer.name] = tensors[source.name], 0
        if isinstance(layer, MaxPool2D):
            tensors[target.name] = definitions.max_pool2d(values, layer.kernel, layer.stride, layer.padding)
            continue
        if isinstance(layer, Conv2D):
            geometry = (layer.stride, layer.padding, layer.dilation, source.zero_point)
            sums = definitions.conv2d(values, layer.weights.tolist(), *geometry)
        else:
            flat = np.array(values).ravel().tolist()
            sums = [sum(a * w for a, w in zip(flat, row, strict=True)) for row in layer.weights.tolist()]
        array = np.array(sums, object)
        for at in np.ndindex(array.shape):
            array[at], overflowed = _finish(layer, int(array[at]), at[-1], target)
            overflows[layer.name] += overflowed
        tensors[target.name] = array.tolist()
    return tensors, overflows


def _finish(layer, total, channel, target):
    rescale, bits, kind = layer.rescale, layer.accumulator_bits, (target.type.bits, target.type.signed)
    parameter = {k: int(v[channel]) for k, v in vars(rescale).items() if isinstance(v, np.ndarray)}
    if not isinstance(rescale, SbnqRescale):
        total += parameter["bias"]
    x = definitions.wrap(total, bits)
    overflowed = x != total
    if isinstance(rescale, SbnqRescale):
        return definitions.sbnq(x, parameter["bias"], parameter["shift"], *kind, rescale.relu), overflowed
    if isinstance(rescale, AffineRescale):
        m0, e, double = parameter["multiplier"], parameter["exponent"], rescale.double_rounding
        return definitions.affine(x, m0, e, target.zero_point, rescale.low, rescale.high, double), overflowed
    if isinstance(rescale, LlsqRescale):
        return definitions.llsq(x, parameter["mantissa"], parameter["shift"], *kind), overflowed
    return definitions.power_of_two(x, parameter["shift"], rescale.rounding, *kind), overflowed


@pytest.mark.parametrize("bits", [32, 48, 16, 12, 10, 8])
def test_every_tensor_and_every_overflow(bits):
    network = _network(bits)
    images = _values(6, 0, 255, 4, 6, 5, 2)
    images[0], images[1] = 0, 255
    result = run(network, images)
    assert list(result.tensors) == ["image", "sbnq", "pooled", "affine", "llsq", "out"]
    each = [_expected(network, image) for image in images]
    for name, values in result.tensors.items():
        assert values.dtype == network.tensors[name].type.dtype
        assert values.tolist() == [tensors[name] for tensors, _ in each], name
    totals = {layer.name: sum(overflows[layer.name] for _, overflows in each) for layer in network.layers}
    assert result.overflows == totals
    assert (sum(totals.values()) > 0) == (bits <= 12)
    # Not all the same: a network that saturates everywhere would prove little.
    assert bits < 12 or all(len(np.unique(values)) > 3 for values in result.tensors.values())


def test_overflows_of_all_blocks_count(monkeypatch):
    network, images = _network(10), _values(6, 0, 255, 4, 6, 5, 2)
    expected = run(network, images)
    monkeypatch.setattr("intaglio.golden.layers._BLOCK_ELEMENTS", 100)
    monkeypatch.setattr("intaglio.golden.layers._SUM_ELEMENTS", 100)
    assert run(network, images).overflows == expected.overflows
    assert max(expected.overflows.values()) > 10


def test_padding_alone_may_overflow():
    """Nine taps, five or more of them in the padding: every corner is -640 or further from 0, the input is 0."""
    source = Tensor("x", (2, 2, 1), INT8, zero_point=-128)
    layer = Conv2D(
        "conv",
        ("x",),
        "y",
        weights=np.ones((1, 3, 3, 1), int),
        weight_type=INT4,
        rescale=SbnqRescale(np.array([0]), np.array([0]), False),
        accumulator_bits=10,
        padding=(1, 1, 1, 1),
    )
    network = Network("n", {"x": source, "y": Tensor("y", (2, 2, 1), INT8)}, (layer,), ("x",), ("y",))
    result = run(network, np.zeros((1, 2, 2, 1), int))
    assert result.tensors["y"].ravel().tolist() == [127] * 4  # -640 modulo 2**10 is 384
    assert result.overflows == {"conv": 4}


def test_bounds_hold_for_every_layer():
    network = _network()
    for layer in network.layers:
        if isinstance(layer, MaxPool2D):
            continue
        low, high = golden.accumulator_bounds(layer, network)
        bits = max((-low - 1).bit_length(), high.bit_length()) + 1
        assert run(_network(max(8, bits)), _values(7, 0, 255, 50, 6, 5, 2)).overflows[layer.name] == 0


def test_bias_is_inside_the_accumulator_that_wraps():
    """2**31 - 1 + 16129 comes out as -128, as in both TFLite runtimes."""
    layer = FullyConnected(
        "fc",
        ("x",),
        "y",
        weights=np.array([[127]]),
        weight_type=INT8,
        rescale=AffineRescale(np.array([2**31 - 1]), np.array([2**30]), np.array([0]), True, -128, 127),
        accumulator_bits=32,
    )
    tensors = {"x": Tensor("x", (1,), INT8), "y": Tensor("y", (1,), INT8)}
    network = Network("n", tensors, (layer,), ("x",), ("y",))
    result = run(network, [[127], [0], [-1]])
    assert result.tensors["y"].ravel().tolist() == [-128, 127, 127]
    assert result.overflows == {"fc": 1}


@settings(max_examples=20)
@given(count=st.integers(1, 9), batch=st.integers(1, 10))
def test_batches_do_not_matter(count, batch):
    network, images = _network(10), _values(8, 0, 255, 9, 6, 5, 2)[:count]
    whole = run(network, images, batch=100)
    parts = run(network, images, batch=batch)
    assert parts.overflows == whole.overflows
    for name, values in whole.tensors.items():
        assert np.array_equal(parts.tensors[name], values)
        assert parts.tensors[name].shape == (count, *network.tensors[name].shape)
    each = list(run_batches(network, images, batch=batch))
    assert [len(result.tensors["out"]) for result in each] == [
        min(batch, count - first) for first in range(0, count, batch)
    ]
    for name in whole.tensors:
        assert all(
            np.array_equal(result.tensors[name], whole.tensors[name][i * batch : (i + 1) * batch])
            for i, result in enumerate(each)
        )


def test_outputs_only():
    network, images = _network(), _values(8, 0, 255, 9, 6, 5, 2)
    whole, outputs = run(network, images), run(network, images, outputs_only=True, batch=4)
    assert list(outputs.tensors) == ["out"]
    assert np.array_equal(outputs.tensors["out"], whole.tensors["out"])
    assert [list(result.tensors) for result in run_batches(network, images, outputs_only=True, batch=5)] == [
        ["out"]
    ] * 2


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_inputs_of_any_integer_dtype(dtype):
    network, images = _network(), _values(8, 0, 255, 3, 6, 5, 2)
    expected = run(network, images).tensors
    result = run(network, {"image": images.astype(dtype)})
    assert all(np.array_equal(result.tensors[name], expected[name]) for name in expected)


def test_the_result_does_not_share_memory_with_the_input():
    network, images = _network(), _values(8, 0, 255, 3, 6, 5, 2).astype(np.uint8)
    before = images.copy()
    run(network, images).tensors["image"][...] = 0
    assert np.array_equal(images, before)


IMAGES = np.zeros((2, 6, 5, 2), np.int64)


def _with(value, dtype=np.int64):
    images = IMAGES.astype(dtype)
    images[1, 0, 4, 1] = value
    return images


NEEDED = "for the input image, which needs (N, 6, 5, 2); the first axis counts inferences"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (_with(256), r"input image: 256 at [1, 0, 4, 1] is outside 0...255 (uint8)"),
        (_with(-1), r"input image: -1 at [1, 0, 4, 1] is outside 0...255 (uint8)"),
        (_with(-1, np.int8), r"input image: -1 at [1, 0, 4, 1] is outside 0...255 (uint8)"),
        (
            _with(2**63, np.uint64),
            r"input image: 9223372036854775808 at [1, 0, 4, 1] is outside 0...255 (uint8)",
        ),
        (IMAGES.astype(np.float32), "input image: golden takes integers, not float32"),
        (IMAGES.astype(bool), "input image: golden takes integers, not bool"),
        (
            IMAGES[0],
            f"network net: an array of shape (6, 5, 2) {NEEDED}",
        ),
        (
            IMAGES[:, :, :, 0],
            f"network net: an array of shape (2, 6, 5) {NEEDED}",
        ),
        (
            3,
            f"network net: an array of shape () {NEEDED}",
        ),
        ({"picture": IMAGES}, "network net: the inputs are image, not picture; name each of them"),
        ({}, "network net: the inputs are image, not nothing; name each of them"),
        (
            {"image": IMAGES, "other": IMAGES},
            "network net: the inputs are image, not image, other; name each of them",
        ),
        (IMAGES[:0], "network net: image holds no inference; give at least one"),
    ],
)
def test_inputs_that_are_refused(inputs, message):
    for call in (run, run_batches):  # both before the first result
        with pytest.raises(NetworkError) as caught:
            call(_network(), inputs)
        assert str(caught.value) == message


def test_the_second_of_two_inputs():
    layers = tuple(MaxPool2D(f"pool {n}", (f"in{n}",), f"out{n}", (1, 2), (1, 1)) for n in "12")
    tensors = {f"in{n}": Tensor(f"in{n}", (1, 3, 1), INT4) for n in "12"} | {
        f"out{n}": Tensor(f"out{n}", (1, 2, 1), INT4) for n in "12"
    }
    network = Network("two", tensors, layers, ("in1", "in2"), ("out2", "out1"))
    feeds = {f"in{n}": _values(int(n), -8, 7, 4, 1, 3, 1) for n in "12"}
    result = run(network, feeds, outputs_only=True)
    assert list(result.tensors) == ["out2", "out1"]
    for n in "12":
        pairs = feeds[f"in{n}"][:, 0, :, 0]
        assert np.array_equal(result.tensors[f"out{n}"][:, 0, :, 0], np.maximum(pairs[:, :2], pairs[:, 1:]))
    with pytest.raises(NetworkError, match="^network two has 2 inputs; name each: in1, in2$"):
        run(network, feeds["in1"])
    with pytest.raises(
        NetworkError, match="^network two: inputs of different counts .in1 4, in2 3.; the first"
    ):
        run(network, feeds | {"in2": feeds["in2"][:3]})
    with pytest.raises(NetworkError, match="^input in2: [0-9]+ at .* is outside -8...7 "):
        run(network, feeds | {"in2": feeds["in2"] + 15})


def test_batch_must_be_positive():
    with pytest.raises(ValueError, match="^`batch` must be at least 1, not 0$"):
        run(_network(), IMAGES, batch=0)
    with pytest.raises(ValueError, match="^`batch` must be at least 1, not -1$"):
        run_batches(_network(), IMAGES, batch=-1)


def _single(source, rescale, weights=((1,),), bits=32, **geometry):
    layer = Conv2D(
        "only",
        ("x",),
        "y",
        weights=np.array(weights)[:, None, None, :],
        weight_type=TensorType(32, True),
        rescale=rescale,
        accumulator_bits=bits,
        **geometry,
    )
    shape = layer.output_shape(source.shape)
    return Network("n", {"x": source, "y": Tensor("y", shape, INT8)}, (layer,), ("x",), ("y",))


ONE = np.array([1])


@pytest.mark.parametrize(
    ("network", "value", "message"),
    [
        (
            _single(
                Tensor("x", (1, 1, 1), INT8, zero_point=200),
                SbnqRescale(ONE, ONE, False),
                padding=(1, 1, 1, 1),
            ),
            0,
            "layer only: its padding is the zero point of x, 200, which is no int8",
        ),
        (
            _single(Tensor("x", (1, 1, 1), INT8), AffineRescale(ONE, ONE, ONE, True, -129, 0)),
            0,
            "layer only: tensor y: a clamp to -129...0 does not fit its type int8",
        ),
        (
            _single(Tensor("x", (1, 1, 1), INT8), LlsqRescale(np.array([2**63 - 100]), ONE, ONE)),
            -128,
            "layer only: its sums may reach 9223372036854775836, beyond the 64 bits in which golden is exact",
        ),
        (
            _single(
                Tensor("x", (1, 1, 2), TensorType(32, False)),
                SbnqRescale(ONE, ONE, False),
                ((-(2**31),) * 2,),
            ),
            2**32 - 1,
            "layer only: its sums may reach 18446744069414584320, beyond the 64 bits in which golden is exact",
        ),
        (
            _single(Tensor("x", (1, 1, 1), INT8), SbnqRescale(np.array([2**60]), ONE, False)),
            0,
            "layer only: `bias` must be -140737488355328...140737488355327, not 1152921504606846976",
        ),
    ],
)
def test_what_golden_cannot_compute_is_named(network, value, message):
    with pytest.raises(NetworkError) as caught:
        run(network, np.full((1, *network.tensors["x"].shape), value))
    assert str(caught.value) == message


def test_the_sbnq_authors_network_on_mnist(shared):
    """9,939 of 10,000: table I's 99.39 % [sbnq: table I]; no sum leaves 16 bits."""
    network = integernet.load(shared / "models/integernet_mnist_4bit/model.txt", bits=4)
    with gzip.open(shared / "data/mnist/t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 28, 28, 1)
    with gzip.open(shared / "data/mnist/t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    result = run(network, images)
    assert int((result.tensors[network.outputs[0]].argmax(axis=1) == labels).sum()) == 9_939
    assert not any(result.overflows.values())
