"""LLSQ's training does what the paper's equations say, and ends with the very integers that it exports."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intaglio import golden
from intaglio.network import NetworkError, TensorType

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from intaglio.train import data, llsq, loop  # noqa: E402
from intaglio.train.chain import Place  # noqa: E402
from intaglio.train.definition import DEFINITIONS, Dense  # noqa: E402
from tests.train_runs import LAYERS, SHAPE, small_data, torch_as_it_was, trained  # noqa: E402 - needs torch

NAMES = ["conv1", "pool1", "conv2", "fc1", "fc2"]


def clamp(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def integer_rescale(acc: int, mantissa: int, shift: int, low: int, high: int) -> int:
    """[llsq: eq. 6] as SEMANTICS has it, in Python's own integers."""
    product = acc * mantissa
    return clamp((product + (1 << (shift - 1))) >> shift if shift else product, low, high)


def integer_forward(network, pixels: np.ndarray) -> list[list]:
    """What each layer writes for one image, one multiplication after the other; shares no code with golden."""
    x = pixels.astype(int) + network.tensors["input"].zero_point
    pad, outputs = network.tensors["input"].zero_point, []
    for layer in network.layers:
        height, width = (x.shape if x.ndim == 3 else (1, 1))[:2]
        if layer.op == "MaxPool2D":
            rows = range(height // 2), range(width // 2)
            x = np.array(
                [[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in rows[1]] for i in rows[0]]
            )
            outputs.append(x.tolist())
            continue
        kind, r = network.tensors[layer.output].type, layer.rescale
        half = 1 << (layer.accumulator_bits - 1)

        def rescaled(sums, kind=kind, r=r, half=half):
            terms = zip(sums, r.bias.tolist(), r.mantissa.tolist(), r.shift.tolist(), strict=True)
            return [
                integer_rescale((int(a) + b + half) % (2 * half) - half, m, s, kind.min, kind.max)
                for a, b, m, s in terms
            ]

        if layer.op == "FullyConnected":
            x = np.array(rescaled(layer.weights @ x.ravel()))
        else:
            reach = layer.weights.shape[1] // 2
            padded = np.pad(x, ((reach,) * 2, (reach,) * 2, (0, 0)), constant_values=pad)
            kernel = 2 * reach + 1
            x = np.array(
                [
                    [
                        rescaled((padded[i : i + kernel, j : j + kernel] * w).sum() for w in layer.weights)
                        for j in range(width)
                    ]
                    for i in range(height)
                ]
            )
        pad = 0
        outputs.append(x.tolist())
    return outputs


def simulated_tensors(model, images: np.ndarray) -> list[np.ndarray]:
    """What each layer writes, pools after the quantizers: (batch, height, width, channels) or (batch, features)."""
    assert model.final
    x, outputs = torch.from_numpy(images).float().permute(0, 3, 1, 2), []
    with torch.no_grad():
        for layer in copy.deepcopy(model).layers:
            pools, layer.place = layer.place.pools, replace(layer.place, pools=0)
            x = layer(x, llsq.Stage.INTEGER)
            outputs.append(x)
            for _ in range(pools):
                x = torch.nn.functional.max_pool2d(x, 2)
                outputs.append(x)
    return [(x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy() for x in outputs]


def assert_golden_agrees(model, network, images: np.ndarray) -> golden.Result:
    """Element by element; returns golden's result."""
    source = network.tensors["input"]
    pixels = (images.astype(np.int64) + source.zero_point).astype(source.type.dtype)
    result = golden.run(network, pixels)
    simulated = simulated_tensors(model, images)
    assert len(simulated) == len(network.layers)
    for layer, values in zip(network.layers, simulated, strict=True):
        assert np.array_equal(result.tensors[layer.output], values), layer.name
    # Pooling before the quantizer, as training does, is the same.
    with torch.no_grad():
        logits = model(torch.from_numpy(images).float()) / model.layers[-1].output_alpha
    assert np.array_equal(logits.round().numpy(), simulated[-1])
    return result


def exported(model):
    return llsq.to_network(model, "small")


def bright_data() -> data.Dataset:
    """`small_data` with pixels up to 240: few steps do not get from moments of 1 to those of dark images."""
    small = small_data()
    return data.Dataset(
        *(data.Part(part.images * 15, part.labels) for part in (small.train, small.held_out, small.test))
    )


def run(folder: Path, bits=4, mantissa=True, epochs=6, dataset=None, layers=LAYERS):
    """A trained model; of `bright_data` where nothing else is given."""
    dataset = dataset or bright_data()
    height, width, channels = dataset.train.images.shape[1:]
    with torch_as_it_was():
        loop.begin(3)
        model = llsq.build(layers, (height, width, channels), bits, mantissa)
        settings = loop.Settings("llsq", "small", bits, epochs, 3)
        loop.train(llsq, model, dataset, settings, folder, resume=False)
    return model


@pytest.mark.parametrize("bits", range(2, 9))
def test_quantizer_is_equation_1(bits):
    limit, alpha = 2 ** (bits - 1), 0.25
    steps = torch.tensor([-1e6, -limit - 0.6, -limit + 0.4, -0.6, -0.4, 0.0, 0.4, 0.6, limit - 0.6, 1e6])
    expected = [-limit, -limit, -limit, -1, 0, 0, 0, 1, limit - 1, limit - 1]
    assert llsq.integer_weight(steps * alpha, torch.tensor(alpha), bits).tolist() == expected
    dequantized = llsq.quantize_weight(steps * alpha, torch.tensor(alpha), bits)
    assert (dequantized / alpha).tolist() == expected
    activations = llsq.quantize_activation(
        steps * alpha, torch.tensor(alpha), 0, llsq.activation_type(bits).max
    )
    assert activations.div(alpha).tolist() == [
        *[0] * 7,
        1,
        min(limit - 1, llsq.activation_type(bits).max),
        llsq.activation_type(bits).max,
    ]


def test_activations_have_the_bits_of_the_scheme():
    assert [llsq.activation_type(bits).max for bits in range(2, 9)] == [3, 7, 15, 31, 63, 127, 127]


def test_gradient_of_weights_passes_everywhere():
    """[llsq: eq. 7]."""
    weight = torch.tensor([-9.0, -0.3, 0.2, 9.0], requires_grad=True)
    llsq.quantize_weight(weight, torch.tensor(0.5), 2).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1, 1, 1]
    weight.grad = None
    llsq.integer_weight(weight, torch.tensor(0.5), 2).sum().backward()
    assert weight.grad.tolist() == [2, 2, 2, 2]


def test_gradient_of_activations_passes_between_the_ends():
    """[llsq: eq. 8]: from 0 to (2**k - 1) alpha, both included."""
    x = torch.tensor([-0.1, 0.0, 0.7, 1.5, 1.51], requires_grad=True)
    llsq.quantize_activation(x, torch.tensor(0.5), 0, 3).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    acc = torch.tensor([[-1.0], [0.0], [5.0], [6.0], [7.0]], requires_grad=True)
    llsq.rescale(acc, torch.ones(1), torch.ones(1), 0, 3).sum().backward()
    assert acc.grad is not None
    assert acc.grad.ravel().tolist() == [0, 0.5, 0.5, 0.5, 0]


@pytest.mark.parametrize(("low", "high"), [(-2, 1), (-8, 7), (0, 3), (0, 15), (-128, 127)])
def test_first_alpha_has_the_least_error_of_a_fine_search(low, high):
    """[llsq: eq. 2] in numpy: no alpha is better by more than what lies between two candidates."""
    rng = np.random.default_rng(high)
    rows = rng.normal(0, [[1.0], [1e-3]], (2, 3000)).astype(np.float32)
    rows = np.abs(rows) if low == 0 else rows

    def error(row, alpha):
        q = np.clip(np.round(row / alpha), low, high)
        return float(np.square(alpha * q - row, dtype=np.float64).sum())

    found = llsq.best_alpha(torch.from_numpy(rows), low, high).tolist()
    for row, alpha in zip(rows, found, strict=True):
        best = min(error(row, a) for a in np.abs(row).max() * np.geomspace(2e-3, 2, 2000))
        assert error(row, alpha) <= 1.05 * best


def test_a_row_of_zeros_has_an_alpha():
    assert llsq.best_alpha(torch.zeros(1, 9), -8, 7).tolist() == pytest.approx([llsq.SMALLEST_ALPHA])


def test_simulated_gradient_leads_to_the_better_alpha():
    """[llsq: section 3.3]: alpha**2 * d, so that descent moves towards the better of alpha / 2 and 2 alpha."""
    torch.manual_seed(1)
    rows = torch.randn(1, 4000)
    best = llsq.best_alpha(rows, -8, 7)
    for factor, direction in ((4.0, 1), (1.0, 0), (0.25, -1)):
        alpha = best * factor
        gradient = llsq.simulated_gradient(rows, alpha, -8, 7)
        assert gradient.tolist() == pytest.approx([float(alpha.square()) * direction])


def test_a_step_goes_no_further_than_the_search():
    alpha = torch.tensor([0.1, 0.1, 1e3, 1e3])
    llsq.descend(alpha, alpha.square() * torch.tensor([1.0, 0.0, 1.0, -1.0]))
    rate = llsq.ALPHA_LEARNING_RATE
    assert alpha.tolist() == pytest.approx([0.1 - rate * 0.01, 0.1, 500, 2000])


def test_training_moves_alphas_with_their_weights():
    layer = llsq.LlsqLayer(Place((2, 1, 3, 3), False, 1), 4, True, 255).train()
    layer.begin_quantizing()
    first = layer.weight_alpha.clone()
    with torch.no_grad():
        layer.weight[1] *= 8
    for _ in range(5):
        layer(torch.rand(4, 1, 6, 6), llsq.Stage.QUANTIZED)
    assert layer.weight_alpha[0] == first[0]
    assert layer.weight_alpha[1] > first[1]


@pytest.mark.parametrize("mantissa", [True, False])
def test_scales_become_the_nearest_integers(mantissa):
    rng = np.random.default_rng(0)
    ends = [1e-30, 2.0**-31, 2.0**-24, 0.99999, 1.0, 255.4 / 256, 255.6 / 256, 100.0, 255.0, 255.9, 1e9]
    scale = np.concatenate([ends, 2.0 ** rng.uniform(-31, 8, 500)]).astype(np.float32)
    m, s = llsq.scale_integers(torch.from_numpy(scale), mantissa)
    assert set(s.tolist()) <= set(range(32))
    choices = [(i, j) for i in (range(128, 256) if mantissa else [1]) for j in range(32)]
    for real, pair in zip(scale.tolist(), zip(m.tolist(), s.tolist(), strict=True), strict=True):
        assert pair in choices

        def distance(pair, real=real):
            value = pair[0] * 2.0 ** -pair[1]
            return abs(value - real) if mantissa else abs(math.log2(value / real))

        assert distance(pair) == pytest.approx(min(map(distance, choices)), abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "bits"), [(torch.float32, 16), (torch.float64, 24)], ids=["float32", "float64"]
)
@pytest.mark.parametrize(("low", "high"), [(0, 3), (0, 15), (-128, 127)])
def test_rescale_is_the_integer_arithmetic(kind, bits, low, high):
    rng = np.random.default_rng(high)
    for shift in range(32):
        for mantissa in (1, 128, 255, int(rng.integers(129, 255))):
            half = (1 << shift) / 2 / mantissa  # ties, where there are any
            ties = [int(k * 2 * half + half) + d for k in range(-3, 4) for d in (-1, 0, 1)]
            free = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 100).tolist()
            acc = [clamp(a, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for a in [*range(-9, 10), *ties, *free]]
            simulated = llsq.rescale(
                torch.tensor(acc, dtype=kind)[:, None],
                torch.tensor([float(mantissa)]),
                torch.tensor([float(shift)]),
                low,
                high,
            )
            assert simulated.ravel().tolist() == [integer_rescale(a, mantissa, shift, low, high) for a in acc]


@pytest.mark.parametrize("mantissa", [True, False])
def test_fusion_keeps_what_the_layer_computes(mantissa):
    """[llsq: eq. 5]: but for the rounding of bias and of weights, whose step carries what the scale loses."""
    torch.manual_seed(4)
    layer = llsq.LlsqLayer(Place((6, 20), True, 0), 8, mantissa, 127)
    with torch.no_grad():
        layer.gamma.uniform_(-2, 2)
        layer.beta.uniform_(-0.01, 0.01)
        layer.mean.uniform_(-0.01, 0.01)
        layer.variance.uniform_(0.5, 2)
        layer.output_alpha.fill_(0.05)
    layer.eval().begin_quantizing()
    layer.weight_alpha.mul_(2)  # or weights saturate where r is below 1
    alpha = torch.tensor(0.01)
    q = torch.randint(0, 128, (50, 20)).float()
    with torch.no_grad():
        before = layer(q * alpha, llsq.Stage.QUANTIZED)
        layer.fuse(alpha)
        after = layer(q, llsq.Stage.INTEGER)
    real = layer.output_alpha * layer.mantissa * torch.exp2(-layer.shift)
    zeta = layer.gamma.abs() / (layer.variance + llsq.EPSILON).sqrt()
    assert torch.allclose(real, alpha * zeta * layer.weight_alpha)
    assert layer.integer_bias().abs().max() > 1
    assert (layer.output_alpha * after - before).abs().max() < 2 * layer.output_alpha


def test_a_scale_above_the_greatest_makes_the_output_coarser():
    for mantissa, greatest in ((True, 255), (False, 1)):
        layer = llsq.LlsqLayer(Place((2, 4), True, 0), 4, mantissa, 15)
        layer.begin_quantizing()
        layer.output_alpha.fill_(1e-9)
        layer.fuse(torch.tensor(0.3))
        assert (layer.mantissa * torch.exp2(-layer.shift)).max() == greatest


@pytest.mark.parametrize(("bits", "mantissa"), [(4, True), (4, False), (2, True), (2, False), (8, True)])
def test_export_is_what_was_simulated(bits, mantissa, tmp_path):
    model = run(tmp_path, bits=bits, mantissa=mantissa, epochs=15)
    network = exported(model)
    assert [layer.name for layer in network.layers] == NAMES
    images = bright_data().test.images
    for image, *values in zip(images, *simulated_tensors(model, images), strict=True):
        assert integer_forward(network, image) == [value.tolist() for value in values]
    scores = simulated_tensors(model, images)[-1]
    assert len({tuple(row) for row in scores.tolist()}) > 5


@pytest.mark.parametrize("mantissa", [True, False])
@pytest.mark.parametrize("bits", [4, 2])
def test_digits_in_golden_are_what_was_simulated(bits, mantissa, tmp_path):
    pytest.importorskip("sklearn", reason="the extra `train` is not installed")
    digits = data.digits()
    model = run(tmp_path, bits, mantissa, 9, digits, DEFINITIONS["digits"])
    network = exported(model)
    result = assert_golden_agrees(model, network, digits.test.images)
    scores = result.tensors[network.outputs[0]]
    assert (scores.argmax(1) == digits.test.labels).mean() > 0.8
    for layer in network.layers:
        if layer.op == "MaxPool2D":
            continue
        last = layer is network.layers[-1]
        assert network.tensors[layer.output].type == (
            TensorType(8, True) if last else TensorType(bits, False)
        )
        assert layer.weight_type == TensorType(bits, True)
        assert np.abs(layer.rescale.bias).max() <= 128
        assert (layer.rescale.mantissa.min() == 1) is not mantissa
        assert layer.accumulator_bits == 16
        low, high = golden.accumulator_bounds(layer, network)
        assert -(2**15) <= low <= high < 2**15
    assert sum(result.overflows.values()) == 0


def test_eight_bits_multiply_int8(tmp_path):
    model = run(tmp_path, bits=8)
    network = exported(model)
    assert_golden_agrees(model, network, bright_data().test.images)
    assert (network.tensors["input"].type, network.tensors["input"].zero_point) == (TensorType(8, True), -128)
    assert network.tensors["conv1"].type == TensorType(7, False)
    assert {layer.accumulator_bits for layer in network.layers if layer.op != "MaxPool2D"} == {32}


def test_a_sum_beyond_16_bits_is_simulated_as_it_wraps():
    torch.manual_seed(2)
    model = llsq.build((Dense(400), Dense(3)), (2, 2, 1), 4)
    assert [layer.may_wrap for layer in model.layers] == [False, True]
    model.begin_epoch(0.4)
    model.train()(torch.rand(8, 2, 2, 1) * 255)
    model.begin_epoch(0.7)
    model.eval()
    with torch.no_grad():
        model.layers[0].bias.fill_(100.0)
        model.layers[0].shift.fill_(0)  # every activation saturates: 400 of them times 15 times 7
        model.layers[1].weight.fill_(1e3)
    result = assert_golden_agrees(model, llsq.to_network(model, "wide"), np.zeros((1, 2, 2, 1), np.uint8))
    assert result.overflows["fc2"] == 3


def test_stages_follow_the_epochs():
    model = llsq.build(LAYERS, SHAPE, 4)
    seen = []
    for epoch in range(10):
        model.begin_epoch(epoch / 10)
        model.train()(torch.rand(8, *SHAPE) * 255)
        seen.append(int(model.stage))
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


def test_without_the_last_stage_there_are_no_integers(tmp_path):
    with pytest.raises(NetworkError, match="train for 3 epochs or more"):
        llsq.to_network(run(tmp_path, epochs=2), "short")
    assert llsq.to_network(run(tmp_path, epochs=3), "long").layers


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_resumed_run_is_the_unbroken_one(stop_after, tmp_path):
    """Broken off in each of the stages: what they hold beside parameters is in the checkpoint."""
    unbroken = trained(llsq, tmp_path / "unbroken", epochs=6, bits=4)
    trained(llsq, tmp_path / "resumed", epochs=6, bits=4, stop_after=stop_after)
    resumed = trained(llsq, tmp_path / "resumed", epochs=6, bits=4, resume=True)
    for key, value in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
