"""Random int8 networks are what they claim: the same for a seed, legal, alive, with every kind of layer."""

import collections
import dataclasses

import numpy as np
import pytest

from intaglio.golden import model
from intaglio.network import AffineRescale, Network
from intaglio.network.graph import AnyLayer
from tests.networks_int8 import random_int8_network

SEEDS = range(250)


@pytest.fixture(scope="module")
def networks():
    return [random_int8_network(seed) for seed in SEEDS]


def test_golden_runs_them_all(networks):
    """And most tensors take more than a few values."""
    poor = total = overflows = 0
    rng = np.random.default_rng(0)
    for network in networks:
        feeds = {name: rng.integers(-128, 128, (2, *network.tensors[name].shape)) for name in network.inputs}
        result = model.run(network, feeds)
        overflows += sum(map(bool, result.overflows.values()))
        for layer in network.layers:
            values = result.tensors[layer.output]
            if values.size >= 40:
                total += 1
                poor += len(np.unique(values)) < 5
    assert overflows > 20
    assert poor < 0.25 * total


def test_all_kinds_of_layers(networks):
    seen = collections.Counter(layer.op for network in networks for layer in network.layers)
    assert set(seen) == {kind.__name__ for kind in AnyLayer.__args__}
    assert min(seen.values()) >= 15


def test_all_kinds_of_graphs(networks):
    assert {len(network.inputs) for network in networks} == {1, 2, 3}
    assert any(set(network.inputs) & set(network.outputs) for network in networks)
    assert max(len(network.outputs) for network in networks) > 3
    assert {len(t.shape) for network in networks for t in network.tensors.values()} == {0, 1, 2, 3, 4}
    rescales = [layer.rescale for n in networks for layer in n.layers if hasattr(layer, "rescale")]
    assert all(isinstance(rescale, AffineRescale) for rescale in rescales)
    assert {(rescale.double_rounding, rescale.real is not None) for rescale in rescales} == {
        (True, False), (False, False), (False, True),
    }  # fmt: skip
    assert {-128, 0, 127} <= {t.zero_point for network in networks for t in network.tensors.values()}
    slices = [layer for n in networks for layer in n.layers if layer.op == "StridedSlice"]
    assert any(min(layer.stride) < 0 for layer in slices)
    assert {layer.axis for n in networks for layer in n.layers if layer.op == "Concatenation"} >= {0, 1, 2}


def test_a_seed_is_a_network():
    for seed in range(5):
        first, second = random_int8_network(seed), random_int8_network(seed)
        assert first.tensors == second.tensors
        assert _plain(first) == _plain(second)
    assert _plain(random_int8_network(0)) != _plain(random_int8_network(1))


def _plain(network: Network):
    return [
        {f.name: repr(getattr(layer, f.name)) for f in dataclasses.fields(layer)} for layer in network.layers
    ]


def test_size():
    network = random_int8_network(3, elements=200, layers=20)
    assert len(network.layers) >= 20
    assert max(tensor.size for tensor in network.tensors.values()) <= 200
    only = random_int8_network(3, kinds=("conv", "concatenate"), layers=5)
    assert {layer.op for layer in only.layers} <= {"Conv2D", "Concatenation", "Requantize"}
