"""The affine scheme against the equations it cites, and against golden's integers."""

from pathlib import Path

import numpy as np
import pytest

from intaglio import golden
from intaglio.network import AffineRescale, Conv2D, FullyConnected, MaxPool2D

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="the extra `train` is not installed")

from intaglio.train import affine, data, loop  # noqa: E402
from intaglio.train.chain import Place, accumulate  # noqa: E402
from intaglio.train.definition import DEFINITIONS  # noqa: E402
from tests.train_runs import small_data, torch_as_it_was, trained  # noqa: E402 - they need torch


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A network of the digits, trained for a few seconds."""
    parts = data.digits()
    with torch_as_it_was():
        loop.begin(1)
        model = affine.build(DEFINITIONS["digits"], (8, 8, 1), 8)
        settings = loop.Settings("affine", "digits", 8, 8, 1)
        loop.train(affine, model, parts, settings, tmp_path_factory.mktemp("digits"), False)
    return model, parts.test


def test_average_begins_with_the_first_value_and_decays_exponentially():
    average = affine.Average(torch.tensor([0.0, 1.0]), 0.25)
    values = [torch.tensor([3.0, -5.0]), torch.tensor([7.0, 2.0]), torch.tensor([-1.0, 4.0])]
    for value in values:
        average.update(value)
    expected = 0.75 * (0.75 * values[0] + 0.25 * values[1]) + 0.25 * values[2]
    assert average.value.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 1.0), (0.0, 6.0), (-0.3, 17.9), (-255.0, 0.0), (2.0, 5.0), (-9.0, -4.0), (0.0, 0.0)],
)
def test_a_nudged_range_holds_zero_exactly(low, high):
    scale, zero_point = affine.nudged(torch.tensor(low), torch.tensor(high))
    assert -128 <= zero_point <= 127
    assert torch.fake_quantize_per_tensor_affine(torch.zeros(1), scale, zero_point, -128, 127).item() == 0.0
    a, b = min(low, 0.0), max(high, 0.0)
    if b > a:
        assert scale.item() == pytest.approx((b - a) / 255)  # [jacob2017: eq. 12]
        ends = [scale.item() * (q - zero_point.item()) for q in (-128, 127)]
        assert ends == pytest.approx([a, b], abs=scale.item() / 2 + 1e-6)


def test_relu_needs_no_clamp_of_its_own():
    """A range that begins at 0 has the zero point -128: ReLU is the clamp to int8 [jacob2017: 2.4]."""
    for high in (0.01, 1.0, 37.5):
        assert affine.nudged(torch.tensor(0.0), torch.tensor(high))[1] == -128


def test_activations_are_quantized_by_equation_12():
    activations = affine.Activations().eval()
    activations.ends.update(torch.tensor([-1.0, 3.0]))
    scale, zero_point = (float(end) for end in activations.parameters_of_range())
    x = torch.linspace(-2, 4, 1001)
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    expected = ((x.double().clamp(low, high) - low) / scale).round() * scale + low
    off = (activations(x).double() - expected).abs() / scale
    assert off.max() < 1.001  # a value on the border of two steps, in float32
    assert (off > 0.5).sum() <= 5


def test_activations_are_delayed_but_observed():
    activations = affine.Activations().train()
    x = torch.tensor([-1.0, 0.123456, 3.0])
    assert torch.equal(activations(x), x)
    assert activations.ends.value.tolist() == [-1.0, 3.0]
    activations.final = True
    assert not torch.equal(activations(x), x)
    activations.eval()
    activations(10 * x)
    assert activations.ends.value.tolist() == [-1.0, 3.0]


def test_gradient_passes_the_rounding_and_stops_outside_the_range():
    activations = affine.Activations().eval()
    activations.ends.update(torch.tensor([0.0, 1.0]))
    x = torch.tensor([-0.5, 0.0, 0.3, 0.99, 1.5], requires_grad=True)
    activations(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_weights_are_symmetric_by_channel_and_never_the_lowest():
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1e-3, 1.0, 300.0, 0.0, 1.0]).view(-1, 1, 1, 1)
    scale = affine.weight_scale(weight)
    steps = (affine.fake_quantized_weight(weight, scale) / scale.view(-1, 1, 1, 1)).round()
    assert steps.abs().flatten(1).amax(1).tolist() == [127, 127, 127, 0, 127]
    assert (weight - steps * scale.view(-1, 1, 1, 1)).abs().flatten(1).amax(1).le(scale * 0.501).all()


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (6, 50)])
def test_folding_is_batch_normalisation(shape):
    """[jacob2017: eq. 14]: with the averages in torch's own batch normalisation, the same output."""
    torch.manual_seed(1)
    layer = affine.AffineLayer(Place(shape, last=False, pools=0))
    channels = shape[0]
    with torch.no_grad():
        layer.gamma.uniform_(-2, 2)
        layer.beta.uniform_(-1, 1)
        layer.mean.value.uniform_(-1, 1)
        layer.variance.value.uniform_(0.1, 3)
        x = torch.randn(7, 3, 5, 5) if len(shape) == 4 else torch.randn(7, 50)
        acc = accumulate(x, layer.weight)
        expected = torch.nn.functional.batch_norm(
            acc, layer.mean.value, layer.variance.value, layer.gamma, layer.beta, eps=affine.EPSILON
        )
        weight, bias = layer.inference_parameters()
        assert torch.allclose(accumulate(x, weight, bias), expected, atol=1e-4)
        assert len(bias) == channels


def test_the_averages_move_by_the_moments_of_the_convolution():
    torch.manual_seed(2)
    layer = affine.AffineLayer(Place((4, 2, 3, 3), last=False, pools=0)).train()
    batches = [torch.rand(5, 2, 6, 6), torch.rand(5, 2, 6, 6)]
    sums = [accumulate(x, layer.weight).detach().transpose(0, 1).flatten(1) for x in batches]
    for x in batches:
        layer(x)
    share = affine.MOMENT_MOMENTUM
    for average, moments in (
        (layer.mean, [acc.mean(1) for acc in sums]),
        (layer.variance, [acc.var(1, correction=0) for acc in sums]),
    ):
        expected = (1 - share) * moments[0] + share * moments[1]
        assert average.value.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_what_is_final_trains_as_it_infers():
    """The forward pass in training, its averages held still, is that of evaluation."""
    torch.manual_seed(3)
    model = affine.build(DEFINITIONS["digits"], (8, 8, 1), 8)
    images = torch.from_numpy(small_data((8, 8, 1)).test.images).float()
    for done in (0.0, 0.3, affine.SETTLED_FROM):
        model.begin_epoch(done)
        assert model.final == (done == affine.SETTLED_FROM)
        model.train()
        model(images)
    for module in model.modules():
        if isinstance(module, affine.Average):
            module.momentum = 0.0
    simulated = model(images)
    model.eval()
    assert torch.equal(model(images), simulated)


def test_multiplier_and_exponent():
    rng = np.random.default_rng(4)
    factors = np.concatenate([2.0 ** rng.uniform(-25, 5, 500), [1.0, 0.5, 1 - 2.0**-40]])
    for factor, multiplier, exponent in zip(factors, *affine.fixed_point(factors), strict=True):
        assert 2**30 <= multiplier < 2**31
        assert multiplier * 2.0 ** (exponent - 31) == pytest.approx(factor, rel=2.0**-31)
    assert [part.tolist() for part in affine.fixed_point(np.array([0.75, 1 - 2.0**-40]))] == [
        [3 * 2**29, 2**30],
        [0, 1],
    ]


def test_each_layer_is_at_most_a_step_from_the_integers(digits):
    """Each simulated layer, given golden's integers, against golden's output: the integers round biases, too."""
    model, test = digits
    integers = affine.to_network(model, "digits_affine")
    assert [layer.name for layer in integers.layers] == ["conv1", "pool1", "conv2", "pool2", "fc1"]
    tensors = golden.run(integers, test.images.astype(np.int64) - 128).tensors
    of = iter(model.layers)
    followed = (*integers.layers[1:], None)
    differing = compared = 0
    for layer, after in zip(integers.layers, followed, strict=True):
        if isinstance(layer, MaxPool2D):
            continue
        source = integers.tensors[layer.inputs[0]]
        target = integers.tensors[after.output if isinstance(after, MaxPool2D) else layer.output]
        assert source.scale is not None
        assert target.scale is not None
        real = source.scale * (tensors[source.name].astype(np.float64) - source.zero_point)
        x = torch.from_numpy(real).float()
        with torch.no_grad():
            y = next(of)(x.permute(0, 3, 1, 2) if x.ndim == 4 else x)
        y = y.permute(0, 2, 3, 1) if y.ndim == 4 else y
        simulated = np.rint(y.double().numpy() / target.scale) + target.zero_point
        off = np.abs(simulated - tensors[target.name])
        assert off.max() <= 1, layer.name
        differing, compared = differing + int(np.count_nonzero(off)), compared + off.size
        assert len(np.unique(tensors[target.name])) > 50
    assert differing < compared / 30


def test_golden_agrees_with_the_simulation_on_the_digits(digits):
    model, test = digits
    integers = affine.to_network(model, "digits_affine")
    result = golden.run(integers, test.images.astype(np.int64) - 128)
    assert not any(result.overflows.values())
    with torch.no_grad():
        simulated = model(torch.from_numpy(test.images).float()).numpy().argmax(1)
    classes = result.tensors[integers.outputs[0]].argmax(1)
    assert np.mean(simulated == classes) >= 0.99
    assert np.mean(classes == test.labels) > 0.9


def test_the_exported_network_is_int8_throughout(digits):
    integers = affine.to_network(digits[0], "digits_affine")
    source = integers.tensors["input"]
    assert (source.zero_point, source.scale) == (-128, 1 / 16)
    for tensor in integers.tensors.values():
        assert str(tensor.type) == "int8"
    for layer in integers.layers:
        if isinstance(layer, Conv2D | FullyConnected):
            assert np.abs(layer.weights).max() == 127
            assert isinstance(layer.rescale, AffineRescale)
            assert layer.rescale.double_rounding
            target = integers.tensors[layer.output]
            last = layer.output in integers.outputs
            assert layer.rescale.low == (-128 if last else target.zero_point)
            assert layer.accumulator_bits == 32


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_is_the_unbroken_one(stop_after, tmp_path):
    unbroken = trained(affine, tmp_path / "unbroken")
    trained(affine, tmp_path / "resumed", stop_after=stop_after)
    resumed = trained(affine, tmp_path / "resumed", resume=True)
    for key, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    curves = [(Path(tmp_path) / name / "curves.csv").read_text() for name in ("unbroken", "resumed")]
    assert curves[0] == curves[1]


def test_other_bits_are_refused():
    with pytest.raises(ValueError, match="`bits` of the affine scheme must be 8, not 4"):
        affine.build(DEFINITIONS["digits"], (8, 8, 1), 4)
