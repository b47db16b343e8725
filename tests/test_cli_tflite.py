""".tflite files through the command line and the Python API: both runtimes, every kind of input, the stored outputs."""

from pathlib import Path

import numpy as np
import pytest

import intaglio
from bench.tflite_builder import VALID, Builder
from intaglio import golden
from intaglio.network import NetworkError
from intaglio.network.formats import tflite
from tests import tflite_cases


@pytest.fixture
def write(tmp_path):
    def write(b: Builder, name: str = "model.tflite") -> Path:
        path = tmp_path / name
        path.write_bytes(b.bytes())
        return path

    return write


def image(zero_point: int = -128) -> Builder:
    """A scale of 1/2, so that floats and integers are easily told apart."""
    b = Builder()
    x = b.input((1, 2, 2, 1), 0.5, zero_point)
    y = b.tensor((1, 1, 1, 1), 0.5, zero_point, name="greatest")
    b.operator("MAX_POOL_2D", [x], [y], [VALID, 2, 2, 2, 2, 0])
    z = b.tensor((1, 1, 1, 1), 0.5, zero_point, name="mean")
    b.operator("AVERAGE_POOL_2D", [x], [z], [VALID, 2, 2, 2, 2, 0])
    b.outputs = [y]
    return b


def test_inspect(call, write) -> None:
    path = write(tflite_cases.small_network(1, False))
    code, out, err = call("inspect", path)
    assert (code, err) == (0, "")
    assert out.startswith("input t0: 6x5x3 int8, scale 0.05, zero point -3\n")
    rows = {line.split()[0]: line for line in out.splitlines()[1:] if line.strip()}
    for row, words in {
        "conv_2d_0": [
            "Conv2D 3x3 stride 2x2",
            "6x5x3 int8",
            "3x3x4 int8",
            "4x3x3x3 int8",
            "affine",
            "972",
        ],
        "mean_1": ["Mean", "3x3x4 int8", "4 int8"],
        "fully_connected_2": ["FullyConnected", "5 int8", "5x4 int8", "20"],
    }.items():
        for word in words:
            assert word in rows[row]
    assert "0,1,1,1" in out  # its padding; long cells go on in the line below
    assert out.count("once") == 1
    code, out, _ = call("inspect", path, "--runtime", "tflm")
    assert code == 0
    assert "once" not in out


def test_inspect_shows_both_operands_and_depthwise_weights(call, write) -> None:
    _, out, _ = call("inspect", write(tflite_cases.residual_network()))
    rows = {line.split()[0]: line for line in out.splitlines()[1:] if line.strip()}
    for word in ("DepthwiseConv2D 3x3", "4x3x3 int8", "affine"):
        assert word in rows["depthwise_conv_2d_0"]
    assert "5x4x4 int8, 5x4x4" in rows["add_1"]


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_golden_writes_the_stored_integers(call, write, tmp_path, runtime: str) -> None:
    b = tflite_cases.small_network(1, True)
    values = np.random.default_rng(1).integers(-128, 128, (70, 6, 5, 3)).astype(np.int8)
    np.save(tmp_path / "x.npy", values)
    path, written = write(b), tmp_path / "y.npy"
    code, out, err = call(
        "golden", path, "--inputs", tmp_path / "x.npy", "--runtime", runtime, "--outputs", written
    )
    assert (code, err) == (0, "")
    assert out.startswith("model: 70 inferences in ")
    expected = golden.run(tflite.loads(b.bytes(), runtime), values).tensors["t8"]
    result = np.load(written)
    assert result.dtype == np.int8
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("zero_point", "given", "greatest"),
    [
        pytest.param(-128, np.array([-7, 3, 100, -128], np.int8), 100, id="int8"),
        pytest.param(5, np.array([-7, 3, 100, -128], np.int64), 100, id="int64"),
        pytest.param(-128, np.array([0, 128, 255, 7], np.uint8), 127, id="uint8 of a zero point of -128"),
        pytest.param(0, np.array([0, 100, 127, 7], np.uint8), 127, id="uint8 as it is"),
        pytest.param(5, np.array([0.0, 1.25, -2.0, 1.0], np.float32), 8, id="float, a tie away from zero"),
        pytest.param(5, np.array([-1.25, -2.0, -3.0, -7.5]), 2, id="float64"),
        pytest.param(5, np.array([0.0, 1e9, -1e9, 1.0], np.float32), 127, id="floats are clamped"),
    ],
)
def test_inputs_of_every_kind(
    call, write, tmp_path, zero_point: int, given: np.ndarray, greatest: int
) -> None:
    path, inputs = write(image(zero_point)), given.reshape(1, 2, 2, 1)
    np.save(tmp_path / "x.npy", inputs)
    np.savez(tmp_path / "x.npz", t0=inputs, labels=np.zeros(1, np.int64))
    for name in ("x.npy", "x.npz"):
        assert call("golden", path, "--inputs", tmp_path / name, "--outputs", tmp_path / "y.npy")[0] == 0
        assert np.load(tmp_path / "y.npy").ravel().tolist() == [greatest]
    assert intaglio.run_golden(path, inputs).tensors["greatest"].ravel().tolist() == [greatest]


def test_several_outputs_are_written_by_name(call, write, tmp_path) -> None:
    b = image()
    b.outputs = [1, 2]
    np.save(tmp_path / "x.npy", np.array([1, 2, 3, 5], np.int8).reshape(1, 2, 2, 1))
    arguments = ("golden", write(b), "--inputs", tmp_path / "x.npy", "--outputs")
    assert call(*arguments, tmp_path / "y.npz")[0] == 0
    with np.load(tmp_path / "y.npz") as written:
        assert {name: written[name].ravel().tolist() for name in written.files} == {
            "greatest": [5],
            "mean": [3],
        }
    code, _, err = call(*arguments, tmp_path / "y.npy")
    assert code == 2
    assert "2 outputs must end in .npz" in err


def test_what_is_refused(call, write, tmp_path) -> None:
    path = write(image(0))
    np.save(tmp_path / "x.npy", np.array([0, 200, 0, 0], np.uint8).reshape(1, 2, 2, 1))
    np.save(tmp_path / "nan.npy", np.array([0, np.nan, 0, 0]).reshape(1, 2, 2, 1))
    unsupported = image()
    unsupported.operators[1] = ("CUMSUM", [0], [2], None)
    for arguments, words in {
        ("golden", path, "--inputs", tmp_path / "x.npy"): ["t0[0, 0, 1, 0] is 200", "outside -128...127"],
        ("golden", path, "--inputs", tmp_path / "nan.npy"): ["t0[0, 0, 1, 0] is nan", "not a finite number"],
        ("inspect", path, "--runtime", "cmsis"): ["unknown runtime 'cmsis'", "litert, tflm"],
        ("inspect", write(unsupported, "other.tflite")): [
            "other.tflite: operator 1 CUMSUM (mean): it is not supported"
        ],
    }.items():
        code, out, err = call(*arguments)
        assert code == 2
        assert out == ""
        assert err.startswith("intaglio: ")
        assert err.count("\n") == 1
        for word in words:
            assert word in err
    for inputs, said in [
        (np.array([0, 200, 0, 0], np.uint8), "is 200, outside"),
        (np.array(["a"] * 4), "an array of <U1"),
        (np.zeros(4, bool), "truth values"),
    ]:
        with pytest.raises(NetworkError, match=said):
            intaglio.run_golden(path, inputs.reshape(1, 2, 2, 1))


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_the_published_networks(call, shared, tmp_path, runtime: str) -> None:
    """CIFAR's bytes as they come; the other's inputs as integers."""
    models, images = shared / "models" / "mlperf_tiny", shared / "data" / "cifar10" / "test_200.npz"
    arguments = ("--runtime", runtime, "--outputs", tmp_path / "y.npy")
    resnet = models / "pretrainedResnet_quant.tflite"
    code, out, _ = call("golden", resnet, "--inputs", images, "--labels", images, *arguments)
    assert code == 0
    assert "200 inferences" in out
    right = int(out.split("accuracy ")[1].split(": ")[1].split(" ")[0])
    assert 130 <= right <= 150
    with np.load(images) as arrays:
        classes = np.load(tmp_path / "y.npy").reshape(200, -1).argmax(axis=1)
        assert int((classes == arrays["labels"]).sum()) == right
    spotter = models / "kws_ref_model.tflite"
    values = np.random.default_rng(4).integers(-128, 128, (20, 49, 10, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", values)
    assert call("golden", spotter, "--inputs", tmp_path / "x.npy", *arguments)[0] == 0
    network = tflite.load(spotter, runtime)
    (name,) = network.outputs
    assert np.array_equal(np.load(tmp_path / "y.npy"), golden.run(network, values).tensors[name])
    for path in (resnet, spotter):
        code, out, _ = call("inspect", path, "--runtime", runtime)
        assert code == 0
        assert "Softmax" in out
