"""SBNQ's training simulates the very integers it exports, and one seed gives one network."""

import math
from pathlib import Path

import numpy as np
import pytest

from intaglio.network.formats.integernet import dumps, load

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from intaglio.train import data, sbnq  # noqa: E402
from intaglio.train.chain import Place  # noqa: E402
from tests.train_runs import small_data, trained  # noqa: E402 - they need torch

MODELS = Path(__file__).parents[1] / "intaglio" / "models"


def integer_quantizer(acc: int, bias: int, shift: int, bits: int, relu: bool) -> int:
    """[sbnq: eq. 16, 19] in Python's own integers."""
    x = acc - bias
    if relu:
        x = max(x, 0)
    x = x >> shift if shift >= 0 else x << -shift
    low, high = (0, 2**bits - 1) if relu else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return min(max(x, low), high)


def integer_forward(network, pixels: np.ndarray) -> list[int]:
    """One image through a chain, one multiplication after the other; shares no code with golden."""
    x = pixels.astype(int)
    for layer in network.layers:
        height, width = (x.shape if x.ndim == 3 else (1, 1))[:2]
        if layer.op == "MaxPool2D":
            rows = range(height // 2), range(width // 2)
            x = np.array(
                [[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in rows[1]] for i in rows[0]]
            )
            continue
        rescale, bits = layer.rescale, network.tensors[layer.output].type.bits

        def quantized(sums, rescale=rescale, bits=bits):
            terms = zip(sums, rescale.bias.tolist(), rescale.shift.tolist(), strict=True)
            return [integer_quantizer(int(a), b, s, bits, rescale.relu) for a, b, s in terms]

        if layer.op == "FullyConnected":
            flat = [int(v) for v in x.ravel()]
            x = np.array(
                quantized(
                    sum(w * v for w, v in zip(row, flat, strict=True)) for row in layer.weights.tolist()
                )
            )
            continue
        kernel = layer.weights.shape[1]
        padded = np.pad(x, ((kernel // 2,) * 2, (kernel // 2,) * 2, (0, 0)))
        x = np.array(
            [
                [
                    quantized((padded[i : i + kernel, j : j + kernel] * w).sum() for w in layer.weights)
                    for j in range(width)
                ]
                for i in range(height)
            ]
        )
    return x.tolist()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("relu", [False, True])
def test_quantizer_is_the_integer_arithmetic(bits, relu):
    rng = np.random.default_rng(bits)
    for shift in range(-4, 16):
        near = np.concatenate([np.arange(-40, 41), rng.integers(-(2**15), 2**15, 200)])
        bias = int(rng.integers(-500, 500))
        acc = near + bias
        simulated = sbnq.quantize_activation(
            torch.from_numpy(acc).float()[:, None],
            torch.tensor([float(bias)]),
            torch.tensor([float(shift)]),
            bits,
            relu,
        )
        assert simulated[:, 0].tolist() == [integer_quantizer(int(a), bias, shift, bits, relu) for a in acc]


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_rounded_and_clipped_symmetrically(bits):
    limit = 2 ** (bits - 1) - 1
    weights = torch.tensor([-1e9, -limit - 0.4, -0.6, -0.4, 0.4, 0.6, limit + 0.4, 1e9])
    assert sbnq.quantize_weight(weights, bits).tolist() == [-limit, -limit, -1, 0, 0, 1, limit, limit]


@pytest.mark.parametrize(
    ("sigma", "exponent"), [(1.0, 0), (1.4, 0), (1.5, 1), (100.0, 7), (0.3, -2), (0.0, -4)]
)
def test_ap2(sigma, exponent):
    assert sbnq.ap2(torch.tensor(sigma)).item() == exponent


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("exponent", [0, 3, 8])
def test_shift_divides_by_sigma_times_s(bits, exponent):
    """The erratum: 4 deviations above the mean is just beyond the range, half of that is in its middle."""
    sigma = torch.tensor(2.0**exponent)
    for relu in (False, True):
        shift = sbnq.shift_amount(sigma, bits, relu).item()
        steps = 2**bits if relu else 2 ** (bits - 1)
        assert 4 * 2**exponent / 2**shift == steps
        assert shift == math.log2(2**exponent) + (2 if relu else 3) - bits


def test_gradient_passes_roundings_and_stops_at_saturation():
    acc = torch.tensor([[-100.0], [-1.0], [0.0], [15.0], [63.9], [64.0], [999.0]], requires_grad=True)
    sbnq.quantize_activation(acc, torch.zeros(1), torch.tensor([2.0]), 4, relu=True).sum().backward()
    assert acc.grad is not None
    assert acc.grad.ravel().tolist() == [0, 0, 0.25, 0.25, 0.25, 0, 0]


def test_weights_begin_with_the_deviation_of_equation_20():
    torch.manual_seed(0)
    for bits in (3, 4, 8):
        assert sbnq.SbnqLayer(
            Place((200, 200), last=False, pools=0), bits
        ).weight.std().item() == pytest.approx(2 ** (bits - 3), rel=0.02)


def test_export_is_what_was_simulated(tmp_path):
    model = trained(sbnq, tmp_path, epochs=12, bits=4)
    network = sbnq.to_network(model, "small")
    assert [layer.name for layer in network.layers] == ["conv1", "pool1", "conv2", "fc1", "fc2"]
    images = small_data().test.images
    with torch.no_grad():
        simulated = model(torch.from_numpy(images).float()).tolist()
    (tmp_path / "small.txt").write_text(dumps(network))
    loaded = load(tmp_path / "small.txt")
    assert [integer_forward(loaded, image) for image in images] == simulated
    assert len({tuple(scores) for scores in simulated}) > 3


def test_freezing_leaves_what_a_channel_computes():
    """Before it the deviation itself divides, after it AP2's power of two; only weights are rounded elsewhere."""
    torch.manual_seed(0)
    layer = sbnq.SbnqLayer(Place((24, 300), last=False, pools=0), 8).train()
    x = torch.randint(0, 256, (4000, 300)).float()
    for _ in range(60):
        before = layer(x)
    layer.freeze()
    exponents = torch.log2(layer.sigma)
    assert torch.allclose(exponents, exponents.round(), atol=1e-4)
    after = layer(x)
    assert (after - before).abs().mean() < 1 < before.mean() / 20
    weight = layer.weight.detach().clone()
    layer.freeze()
    assert torch.equal(layer.weight, weight)


def test_the_offset_is_in_deviations():
    layer = sbnq.SbnqLayer(Place((3, 5), last=False, pools=0), 4)
    with torch.no_grad():
        layer.offset.copy_(torch.tensor([0.0, 1.0, -0.5]))
        layer.mean.copy_(torch.tensor([10.4, 10.0, -7.0]))
        layer.sigma.copy_(torch.tensor([4.0, 8.0, 16.0]))
    bias, shift = layer.inference_parameters()
    assert bias.tolist() == [10, 18, -15]
    assert shift.tolist() == [0, 1, 2]


def test_one_seed_one_network(tmp_path):
    first, again, other = (
        dumps(sbnq.to_network(trained(sbnq, tmp_path / name, seed=seed, bits=4), "n"))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first != other
    assert (tmp_path / "first" / "curves.csv").read_text() == (tmp_path / "again" / "curves.csv").read_text()


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_is_the_unbroken_one(stop_after, tmp_path):
    unbroken = dumps(sbnq.to_network(trained(sbnq, tmp_path / "unbroken", bits=4), "n"))
    trained(sbnq, tmp_path / "resumed", stop_after=stop_after, bits=4)
    assert dumps(sbnq.to_network(trained(sbnq, tmp_path / "resumed", resume=True, bits=4), "n")) == unbroken
    curves = (tmp_path / "resumed" / "curves.csv").read_text()
    assert curves == (tmp_path / "unbroken" / "curves.csv").read_text()
    assert len(curves.splitlines()) == 5


def test_the_embedded_test_images_are_the_split():
    pytest.importorskip("sklearn", reason="the extra `train` is not installed")
    test = data.digits().test
    with np.load(MODELS / "digits_test.npz") as archive:
        assert np.array_equal(archive["input"], test.images)
        assert np.array_equal(archive["labels"], test.labels)
