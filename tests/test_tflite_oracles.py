"""Golden against LiteRT's reference kernels and TensorFlow Lite Micro: every element of every tensor."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from intaglio import golden
from intaglio.network import Network, NetworkError
from intaglio.network.formats import tflite
from intaglio.network.formats.tflite import file as tflite_file
from intaglio.network.inputs import load_inputs
from tests import fuzz_tflite, tflite_cases, tflite_oracles
from tests.tflite_oracles import Job, answers

RUNTIMES = ("litert", "tflm")
INPUTS, CHUNKS = 200, 4

NO_BIAS = "has_bias was not true"  # LiteRT's int8 convolutions want a bias, TFLM's do not
CLAMPS = "tflm's RELU6 only clamps"  # it keeps the input's scale, whatever the output's
FINE = "the scales of its input and output are too far apart"  # a hard swish below 4e-7 a step
DROPPED: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {
    ("litert", "conv"): (8, (NO_BIAS,)),
    ("litert", "unary"): (1, (FINE,)),
    ("tflm", "unary"): (16, (CLAMPS, FINE)),
}
"""Of each runtime and kind of case: how many either side refuses, and what it says. All others are compared."""


@pytest.fixture(autouse=True)
def oracle(request: pytest.FixtureRequest) -> None:
    """The runtime is there. Without it there is nothing to compare with, which must not pass unseen where CI is set."""
    parameters = getattr(request.node, "callspec", None)
    runtime = parameters.params.get("runtime", "litert") if parameters else "litert"
    if runtime in tflite_oracles.missing():
        reason = f"{runtime} is not installed: pip install 'intaglio[oracles]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def compare(content: bytes, network: Network, job: Job, answer: tflite_oracles.Answer) -> int:
    """Assert that golden has what the runtime has; how many elements were compared."""
    inputs = {
        name: values.reshape(-1, *network.tensors[name].shape)
        for name, values in zip(network.inputs, job.inputs, strict=True)
    }
    ours = golden.run(network, inputs).tensors
    compared = 0
    for index, theirs in answer.tensors.items():
        name = tflite_file.read(content, "file").tensors[index].name
        assert name in ours
        assert ours[name].dtype == theirs.dtype == np.int8
        expected = theirs.reshape(ours[name].shape)
        differing = np.argwhere(ours[name] != expected)
        if len(differing):
            at = tuple(int(i) for i in differing[0])
            pytest.fail(
                f"{name}: {len(differing)} of {expected.size} differ, first {list(at)}:"
                f" golden {ours[name][at]}, runtime {expected[at]}"
            )
        compared += expected.size
    return compared


# The benchmark's networks.


def cifar(shared: Path) -> npt.NDArray[np.int8]:
    images = np.load(shared / "data" / "cifar10" / "test_200.npz")
    (pixels,) = (images[name] for name in images.files if images[name].ndim == 4)
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def random_int8(shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    return np.random.default_rng(2017).integers(-128, 128, (INPUTS, *shape)).astype(np.int8)


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("file", ["pretrainedResnet_quant", "kws_ref_model"])
def test_a_published_network(shared: Path, file: str, runtime: str, chunk: int) -> None:
    content = (shared / "models" / "mlperf_tiny" / f"{file}.tflite").read_bytes()
    network = tflite.loads(content, runtime)
    (name,) = network.inputs
    shape = network.tensors[name].shape
    values = cifar(shared) if file.startswith("pretrained") else random_int8(shape)
    assert values.shape == (INPUTS, *shape)
    size = INPUTS // CHUNKS
    part = values[chunk * size : (chunk + 1) * size]
    job = Job(content, (part.reshape(size, *tflite_file.read(content, file).tensors[0].shape),))
    (answer,) = answers(runtime, [job])
    assert not answer.refused
    written = {index for operator in tflite_file.read(content, file).operators for index in operator.outputs}
    assert set(answer.tensors) == written
    elements = sum(network.tensors[layer.output].size for layer in network.layers)
    assert compare(content, network, job, answer) == size * elements


# Single operators.


def imported(content: bytes, runtime: str) -> tuple[Network | None, str]:
    """The network, or why there is none."""
    try:
        return tflite.loads(content, runtime), ""
    except NetworkError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", tflite_cases.CASES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_single_operators(runtime: str, kind: str) -> None:
    made = list(tflite_cases.cases(kind))
    jobs = [Job(case.content, case.inputs) for case in made]
    dropped, reasons = DROPPED.get((runtime, kind), (0, ()))
    refused = 0
    for case, job, answer in zip(made, jobs, answers(runtime, jobs), strict=True):
        network, why = imported(case.content, runtime)
        why = why or answer.refused
        if network is None or why:
            assert any(reason in why for reason in reasons), f"{case.name}: {why}"
            refused += 1
            continue
        try:
            assert compare(case.content, network, job, answer)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{case.name}: {failure}")
    assert refused == dropped
    assert len(made) == tflite_cases.CASES[kind]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_enough_single_operators_are_compared(runtime: str) -> None:
    dropped = sum(count for (which, _), (count, _) in DROPPED.items() if which == runtime)
    assert sum(tflite_cases.CASES.values()) - dropped >= 1000


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_damaged_files_that_run_are_no_other_network(runtime: str) -> None:
    """What is not refused means what the runtime takes it for, where that takes it."""
    kept: list[tuple[str, Network, Job]] = []
    for what, content in fuzz_tflite.mutants(2017, 1500):
        network, _ = imported(content, runtime)
        if network is None or sum(tensor.size for tensor in network.tensors.values()) > 1 << 20:
            continue
        file = tflite_file.read(content, what)
        rng = np.random.default_rng(len(kept))
        shapes = [file.tensors[index].shape for index in file.inputs]
        if all(file.tensors[index].type == "INT8" for index in file.inputs):
            inputs = tuple(rng.integers(-128, 128, (2, *shape)).astype(np.int8) for shape in shapes)
            kept.append((what, network, Job(content, inputs)))
    compared = 0
    for (what, network, job), answer in zip(kept, answers(runtime, [job for *_, job in kept]), strict=True):
        if answer.refused or len(job.inputs) != len(network.inputs):
            continue
        try:
            assert compare(job.content, network, job, answer)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{what}: {failure}")
        compared += 1
    assert compared >= 150


# What a file may say beside.


@pytest.mark.parametrize("signature", [False, True], ids=["stated", "open"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_batch_is_the_users(runtime: str, batch: int, signature: bool) -> None:
    content = tflite_cases.small_network(batch, signature).bytes()
    network = tflite.loads(content, runtime)
    assert network.tensors[network.inputs[0]].shape == (6, 5, 3)
    values = np.random.default_rng(9).integers(-128, 128, (8, batch, 6, 5, 3)).astype(np.int8)
    job = Job(content, (values,))
    (answer,) = answers(runtime, [job])
    assert not answer.refused
    assert compare(content, network, job, answer) == 8 * batch * (3 * 3 * 4 + 4 + 5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_edges(runtime: str, tmp_path: Path) -> None:
    """Floats in, quantized by the host as the runtime's QUANTIZE does; the stored integers out."""
    b = tflite_cases.float_edges()
    x, y, out = 1, 2, 3
    content = b.bytes()
    network = tflite.loads(content, runtime)
    rng = np.random.default_rng(3)
    # Quotients next to and at ties, of both signs, and some beyond the range.
    values = np.float32(0.1) * (rng.integers(-400, 400, (50, 4, 4, 2)) / 2).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    (answer,) = answers(runtime, [Job(content, (values.reshape(50, 1, 4, 4, 2),))])
    assert not answer.refused
    ours = golden.run(network, load_inputs(tmp_path / "x.npy", network)).tensors
    assert set(network.outputs) == {"t2"}
    assert np.array_equal(ours["t1"], answer.tensors[x].reshape(ours["t1"].shape))
    assert np.array_equal(ours["t2"], answer.tensors[y].reshape(ours["t2"].shape))
    scale, zero_point = np.float32(0.1), -5
    assert np.array_equal(
        (ours["t2"] - np.float32(zero_point)) * scale, answer.tensors[out].reshape(-1, 2, 2, 2)
    )


def test_a_file_that_a_runtime_refuses_leaves_the_others() -> None:
    good = next(tflite_cases.cases("pool"))
    bad = Job(b"not a file", good.inputs)
    first, second = answers("litert", [bad, Job(good.content, good.inputs)])
    assert first.refused
    assert not second.refused
