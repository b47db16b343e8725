"""The generated networks: what they are, the same bytes for the same seed, equal to LiteRT."""

import hashlib

import numpy as np
import pytest

from bench.networks import NETWORKS, images, mobilenet_v1, mobilenet_v2, wide, write
from intaglio import golden
from intaglio.network import Add, AveragePool2D, Conv2D, DepthwiseConv2D, FullyConnected, Mean, Pad, Softmax
from intaglio.network.formats.tflite import loads

MEASURED = "8ea37d81322bc315e977c8bca453c4e4c7d463179bc7eaae12cb47b47de22ae4"
SMALL = {
    "v1": lambda: mobilenet_v1(0.25, 32),
    "v2": lambda: mobilenet_v2(0.35, 32),
    "wide": lambda: wide(64, 96),
}


def of_type(network, kind):
    return [layer for layer in network.layers if isinstance(layer, kind)]


def spread(values):
    """Of a tensor's channels, how many vary; of its elements, how many are neither the least nor the greatest."""
    inside = np.mean((values > values.min()) & (values < values.max()))
    return float(np.mean(values.reshape(-1, values.shape[-1]).std(axis=0) > 0)), float(inside)


def test_mobilenet_v1_is_laid_out_as_published():
    network = loads(mobilenet_v1())
    assert network.tensors["input"].shape == (96, 96, 3)
    depthwise, convolutions = of_type(network, DepthwiseConv2D), of_type(network, Conv2D)
    assert [layer.stride[0] for layer in depthwise] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    channels = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    assert [len(layer.weights) for layer in convolutions] == channels
    # A stride of 2 on an even size pads at the end alone, as SAME says.
    assert convolutions[0].padding == depthwise[1].padding == (0, 1, 0, 1)
    (pool,), (last,) = of_type(network, AveragePool2D), of_type(network, FullyConnected)
    assert pool.kernel == (3, 3)
    assert last.weights.shape == (2, 256)
    assert isinstance(network.layers[-1], Softmax)


def test_mobilenet_v2_is_laid_out_as_published():
    network = loads(mobilenet_v2())
    assert len(of_type(network, DepthwiseConv2D)) == 17
    assert len(of_type(network, Add)) == 10
    pads = of_type(network, Pad)
    assert [pad.padding for pad in pads] == [((0, 1), (0, 1), (0, 0))] * 4
    padded = {pad.output for pad in pads}
    readers = [layer for layer in of_type(network, DepthwiseConv2D) if layer.inputs[0] in padded]
    assert len(readers) == 4
    assert all(layer.stride == (2, 2) and layer.padding == (0, 0, 0, 0) for layer in readers)
    assert len(of_type(network, Mean)) == 1
    assert len(of_type(network, Conv2D)[-1].weights) == 1280


def test_wide_exceeds_a_small_scratchpad():
    network = loads(wide())
    assert network.tensors["input"].shape == (224, 224, 3)
    sizes = [int(np.prod(tensor.shape)) for tensor in network.tensors.values()]
    assert sum(size > 128 * 1024 for size in sizes) >= 3
    assert len(of_type(network, Conv2D)[-1].weights) == 1280


@pytest.mark.parametrize("name", SMALL)
def test_layers_neither_die_nor_saturate(name):
    network = loads(SMALL[name]())
    result = golden.run(network, images(8, network.tensors["input"].shape, seed=9))
    assert not any(result.overflows.values())
    for layer in of_type(network, Conv2D) + of_type(network, DepthwiseConv2D):
        varying, inside = spread(result.tensors[layer.output])
        assert varying > 0.8, layer.name
        assert inside > 0.2, layer.name


@pytest.mark.parametrize("name", SMALL)
def test_one_seed_gives_one_file(name):
    assert SMALL[name]() == SMALL[name]()


def test_seeds_differ():
    assert mobilenet_v1(size=32, seed=1) != mobilenet_v1(size=32, seed=2)


def test_the_measured_network_stays_as_it_is():
    # What was measured is measured again: a change of the generator changes the figures of docs/.
    assert hashlib.sha256(mobilenet_v1()).hexdigest() == MEASURED


def test_write(tmp_path):
    path = write("wide224", tmp_path / "made")
    assert path == tmp_path / "made" / "wide224.tflite"
    assert path.read_bytes() == NETWORKS["wide224"]()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mobilenet_v1(size=100), "`size` must be a positive multiple of 32, not 100"),
        (lambda: mobilenet_v1(width=0.01), "`width` must leave at least one channel of 32, not 0.01"),
        (lambda: mobilenet_v2(size=0), "`size` must be a positive multiple of 32, not 0"),
        (lambda: wide(size=100), "`size` must be a positive multiple of 16, not 100"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", SMALL)
def test_equal_to_litert(name):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra `oracles` is not installed")
    content = SMALL[name]()
    network = loads(content)
    batch = images(2, network.tensors["input"].shape, seed=5)
    result = golden.run(network, batch)
    interpreter = litert.Interpreter(
        model_content=content,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    indices = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    for inference in range(len(batch)):
        interpreter.set_tensor(indices["input"], batch[inference : inference + 1])
        interpreter.invoke()
        for tensor, values in result.tensors.items():
            np.testing.assert_array_equal(
                interpreter.get_tensor(indices[tensor]).reshape(values[inference].shape), values[inference]
            )
