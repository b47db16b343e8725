"""ITBWN: Brevitas' quantizers mean what the paper says, and training simulates the integers that are exported."""

from types import SimpleNamespace

import numpy as np
import pytest

from intaglio import golden
from intaglio.network import AffineRescale, Conv2D, FullyConnected

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="the extra `train` is not installed")
qnn = pytest.importorskip("brevitas.nn", reason="the extra `train` is not installed")

from brevitas.core.quant import TernaryQuant  # noqa: E402 - they need torch and brevitas
from brevitas.quant.binary import SignedBinaryWeightPerTensorConst  # noqa: E402
from brevitas.quant.ternary import SignedTernaryWeightPerTensorConst  # noqa: E402

from intaglio.train import data, itbwn, loop  # noqa: E402
from intaglio.train.chain import Place  # noqa: E402
from intaglio.train.definition import DEFINITIONS  # noqa: E402
from tests.train_runs import LAYERS, SHAPE, small_data, torch_as_it_was, trained  # noqa: E402

BITS = {"ternary": 2, "binary": 1}


def linear(weights, quantizer):
    layer = qnn.QuantLinear(len(weights), 1, bias=False, weight_quant=quantizer)
    layer.weight.data.copy_(torch.tensor([weights]))
    return layer


def gradient(weights, quantizer):
    """Of the weights, where that of what they are quantized to is 1, 2, 3, ..."""
    layer = linear(weights, quantizer)
    (layer.quant_weight().value * torch.arange(1.0, len(weights) + 1)).sum().backward()
    return layer.weight.grad[0].tolist()


@pytest.mark.parametrize(
    "weights", [[0.1, -0.2, 0.3, -0.4, 0.5, 0.0], [1e-3, -5.0, 7.0, 2.0], [1.0, -1.0], [0.0, 0.0]]
)
def test_ternary_weights_are_those_of_equations_5_and_6(weights):
    layer = linear(weights, itbwn.TernaryWeight)
    delta = 0.7 * sum(map(abs, weights)) / len(weights)
    quantized = layer.quant_weight()
    assert quantized.value.tolist() == [[(w > delta) - (w < -delta) for w in weights]]
    assert quantized.scale.item() == 1  # "we did not use any scaling factors S"


def test_a_magnitude_of_delta_is_zero():
    """[itbwn: eq. 5]: with a threshold of half the mean, which floats hold, weights at it on either side."""
    quantizer = linear([0.0], itbwn.TernaryWeight).weight_quant.tensor_quant
    quantizer.threshold = 0.5
    assert quantizer(torch.tensor([1.0, -1.0, 2.0, -4.0]))[0].tolist() == [0, 0, 1, -1]


def test_binary_weights_are_those_of_equation_3():
    quantized = linear([0.3, -0.3, 0.0, -0.0, 9.0, -9.0, 1e-30], itbwn.BinaryWeight).quant_weight()
    assert quantized.value.tolist() == [[1, -1, 1, 1, 1, -1, 1]]
    assert quantized.scale.item() == 1


@pytest.mark.parametrize("quantizer", [itbwn.TernaryWeight, itbwn.BinaryWeight])
def test_gradients_pass_unchanged(quantizer):
    """[itbwn: eq. 4], of weights that are 0, at the threshold and far beyond 1 too."""
    assert gradient([0.0, 0.1, -0.2, 1.0, -50.0], quantizer) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("quantizer", [itbwn.TernaryWeight, itbwn.BinaryWeight])
def test_weights_are_not_clipped(quantizer):
    """ "We do not use clip functions"."""
    layer = linear([0.0, 0.1, -50.0], quantizer)
    before = layer.weight.tolist()
    layer.quant_weight()
    assert layer.weight.tolist() == before


def test_why_not_brevitas_own():
    """What its quantizers mean beside: where this fails, they have come to mean more of the paper."""
    ternary = linear([0.01, -0.06, 5.0], SignedTernaryWeightPerTensorConst).quant_weight()
    assert ternary.value[0].tolist() == pytest.approx([0.0, -0.1, 0.1])
    binary = linear([0.01, -0.06, 5.0], SignedBinaryWeightPerTensorConst)
    assert binary.quant_weight().value[0].tolist() == pytest.approx([0.1, -0.1, 0.1])
    assert binary.weight.max().item() == pytest.approx(0.1)
    weights = torch.tensor([0.1, 2.0], requires_grad=True)
    TernaryQuant(lambda x: x.detach().abs().mean(), 0.7)(weights)[0].sum().backward()
    assert weights.grad is not None
    assert weights.grad[0] == 0


@pytest.mark.parametrize("factor", [0.3123, 0.1313, 0.01017, 0.9999, 1.0, 1.7123, 5.2123])
def test_a_block_rounds_as_the_rescale(factor):
    """Every sum from one that ReLU clamps to one that saturates, against golden's affine rescale."""
    block = itbwn.Block(Place((1, 1), last=False, pools=0), itbwn.BinaryWeight).eval()
    scale = block.activation.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl
    with torch.no_grad():
        block.norm.gamma.fill_(factor)
        block.norm.beta.fill_(3.3)
        block.norm.variance.fill_(1 - itbwn.EPSILON)
        scale.buffer.fill_(255.0)  # of the steps of 1 there are 255
        sums = torch.arange(-round(20 / factor), round(300 / factor)).float()[:, None]
        normed = block.norm(sums, torch.tensor(1.0))
        simulated = block.activation(block._rounded(normed, torch.tensor(1.0))).value[:, 0].numpy()
    multiplier, exponent = itbwn.fixed_point(np.array([factor]))
    biased = sums[:, 0].numpy().astype(np.int64) + round(3.3 / factor)
    expected = golden.rescale.affine(biased, multiplier, exponent, 0, 0, 255, double_rounding=True)
    assert np.array_equal(simulated, expected)
    assert {0, 255} < set(expected.tolist())


@pytest.fixture(scope="module", params=BITS)
def digits(request, tmp_path_factory):
    """A network of the digits, trained for a few seconds."""
    parts, bits = data.digits(), BITS[request.param]
    with torch_as_it_was():
        loop.begin(1)
        model = itbwn.build(DEFINITIONS["digits"], (8, 8, 1), bits)
        settings = loop.Settings(request.param, "digits", bits, 8, 1)
        loop.train(itbwn, model, parts, settings, tmp_path_factory.mktemp(request.param), False)
    return model, parts.test


def simulated(model, images):
    """What each block's quantizer gives, and the last, in integers as the exported network stores them."""
    seen: list = []
    stages = [(block.activation, itbwn.ZERO_POINT) for block in model.blocks] + [(model.logits, 0)]
    hooks = [
        stage.register_forward_hook(
            lambda _, __, output, zero_point=zero_point: seen.append(
                (output.value / output.scale).round() + zero_point
            )
        )
        for stage, zero_point in stages
    ]
    model.eval()
    with torch.no_grad():
        model(torch.from_numpy(images).float())
    for hook in hooks:
        hook.remove()
    return [(each.permute(0, 2, 3, 1) if each.ndim == 4 else each).numpy() for each in seen]


def quantized_outputs(model, integers):
    """The names of the tensors that `simulated` has, in its order: behind each layer with weights and its poolings."""
    names, layers = [], iter(integers.layers)
    for place in [*(block.place for block in model.blocks), model.place]:
        names.append([next(layers) for _ in range(1 + place.pools)][-1].output)
    return names


def off_by(model, integers, images):
    """By how much each element of each quantized tensor is off golden's."""
    result = golden.run(integers, images.astype(np.int64) - 128)
    assert not any(result.overflows.values())
    names = quantized_outputs(model, integers)
    pairs = zip(simulated(model, images), names, strict=True)
    return {name: np.abs(values - result.tensors[name].astype(np.int64)) for values, name in pairs}


def test_golden_agrees_with_the_simulation_on_the_digits(digits):
    model, test = digits
    integers = itbwn.to_network(model, "digits")
    assert [layer.name for layer in integers.layers] == ["conv1", "pool1", "conv2", "pool2", "fc1"]
    for name, off in off_by(model, integers, test.images).items():
        assert off.max() <= 1, name
        assert np.mean(off) < 0.002, name
    scores = golden.run(integers, test.images.astype(np.int64) - 128).tensors["fc1"]
    assert np.mean(scores.argmax(1) == simulated(model, test.images)[-1].argmax(1)) >= 0.99
    assert np.mean(scores.argmax(1) == test.labels) > 0.8


@pytest.mark.parametrize("scheme", BITS)
def test_turned_vanishing_and_constant_channels(scheme):
    """Batch normalisation may have turned a channel, or left next to nothing or nothing of it."""
    torch.manual_seed(2)
    images = small_data().train.images
    model = itbwn.build(LAYERS, SHAPE, BITS[scheme])
    with torch.no_grad():
        for _ in range(20):
            model.train()
            model(torch.from_numpy(images).float())
        for block in model.blocks:
            channels = len(block.norm.gamma)
            values = [-1.0, 0.0, 1e-9, -1e-5, 2e4, -1e-25]
            block.norm.gamma.copy_(torch.tensor([values[i % 6] for i in range(channels)]))
            block.norm.beta.copy_(torch.linspace(-0.2, 1.5, channels))
    integers = itbwn.to_network(model, "turned")
    for name, off in off_by(model, integers, images).items():
        assert off.max() <= 1, name
    for layer in integers.layers:
        if isinstance(layer, Conv2D | FullyConnected):
            assert isinstance(layer.rescale, AffineRescale)
            assert np.abs(layer.rescale.bias).max() < 2**31
            assert layer.rescale.multiplier.min() >= 2**30


def test_the_exported_network(digits):
    model, _ = digits
    integers = itbwn.to_network(model, "digits")
    source, output = integers.tensors["input"], integers.tensors[integers.outputs[0]]
    assert (source.zero_point, source.scale) == (-128, 1 / 255)
    assert output.zero_point == 0
    *narrow, last = (layer for layer in integers.layers if isinstance(layer, Conv2D | FullyConnected))
    binary = isinstance(model.blocks[0].weights.weight_quant.tensor_quant, itbwn.BinaryQuant)
    for layer in narrow:
        assert str(layer.weight_type) == ("binary" if binary else "int2")
        assert np.unique(layer.weights).tolist() == ([-1, 1] if binary else [-1, 0, 1])
        assert integers.tensors[layer.output].zero_point == -128
    assert str(last.weight_type) == "int8"
    assert np.abs(last.weights).max() == 127
    for layer in (*narrow, last):
        assert isinstance(layer.rescale, AffineRescale)
        assert layer.rescale.double_rounding
        assert (layer.rescale.low, layer.rescale.high) == (-128, 127)
        assert layer.accumulator_bits == 32
    assert {str(tensor.type) for tensor in integers.tensors.values()} == {"int8"}


def test_what_is_final_trains_as_it_infers():
    torch.manual_seed(3)
    images = torch.from_numpy(small_data().train.images).float()
    model = itbwn.build(LAYERS, SHAPE, 2)
    scalings = model.scalings()
    for scaling in scalings:
        scaling.collect_stats_steps = 3
    for done in (0.0, 0.2, 0.5, 0.79, itbwn.FROZEN_FROM):
        model.begin_epoch(done)
        assert model.final == (done == itbwn.FROZEN_FROM)
        model.train()
        model(images)
    assert all(scaling.counter > 3 for scaling in scalings)
    in_training = model(images)
    model.eval()
    assert torch.equal(model(images), in_training)


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize(("scheme", "collected"), [("ternary", 300), ("ternary", 3), ("binary", 3)])
def test_a_resumed_run_is_the_unbroken_one(scheme, collected, stop_after, tmp_path):
    """Within the `collected` batches over which Brevitas collects a scale, and after them: an epoch has two."""

    def build(layers, shape, bits):
        model = itbwn.build(layers, shape, bits)
        for scaling in model.scalings():
            scaling.collect_stats_steps = collected
        return model

    module = SimpleNamespace(__name__="itbwn", LEARNING_RATE=itbwn.LEARNING_RATE, build=build)
    options = {"epochs": 5, "bits": BITS[scheme]}
    unbroken = trained(module, tmp_path / "unbroken", **options)
    trained(module, tmp_path / "resumed", stop_after=stop_after, **options)
    resumed = trained(module, tmp_path / "resumed", resume=True, **options)
    assert unbroken.state_dict().keys() == resumed.state_dict().keys()
    for key, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    curves = [(tmp_path / name / "curves.csv").read_text() for name in ("unbroken", "resumed")]
    assert curves[0] == curves[1]
    with torch.no_grad():
        images = torch.from_numpy(small_data().test.images).float()
        assert torch.equal(unbroken(images), resumed(images))


def test_other_bits_are_refused():
    with pytest.raises(ValueError, match=r"must be 2 \(ternary\) or 1 \(binary\), not 8"):
        itbwn.build(DEFINITIONS["digits"], (8, 8, 1), 8)
