"""The Python API: what it takes, what it gives, and how it names what is wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio import NetworkError, session
from intaglio.errors import ArgumentError
from intaglio.network import Add, FullyConnected, Network, PowerOfTwoRescale, Rounding, Tensor, TensorType
from intaglio.sim.simulator import run as simulator
from tests.networks_int8 import INT8, Int8Builder, fixed_point

MODELS = Path(__file__).parent.parent / "intaglio" / "models"
MODEL, IMAGES = MODELS / "digits_sbnq4.txt", MODELS / "digits_test.npz"
TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture
def no_build(monkeypatch):
    """Whoever asks for a machine fails."""
    for module, name in ((session, "cached"), (session, "build_all"), (simulator, "build")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a machine was asked for"))


def test_dir_shows_what_there_is() -> None:
    shown = dir(intaglio)
    assert set(intaglio.__all__) | {"__version__", "golden", "hdl", "spec"} <= set(shown)
    for name in shown:
        getattr(intaglio, name)
    assert set(intaglio._HOMES) == set(intaglio.__all__)
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        intaglio.frobnicate  # noqa: B018


def test_a_run_from_files_and_from_what_is_loaded() -> None:
    images = np.load(IMAGES)["input"][:3]
    from_files = intaglio.run(MODEL, IMAGES, config=TINY, labels=IMAGES, limit=3)
    assert (from_files.inferences, from_files.mismatches) == (3, 0)
    network, config = intaglio.load(MODEL), intaglio.AcceleratorConfig.load(TINY)
    compiled = intaglio.compile(network, config)
    for model, machine in ((network, config), (compiled, None), (compiled, TINY)):
        result = intaglio.run(model, images, config=machine, labels=np.load(IMAGES)["labels"])
        assert (result.cycles, result.mismatches, result.accuracy) == (
            from_files.cycles,
            0,
            from_files.accuracy,
        )
        assert result.network is network
    for source in (MODEL, network, compiled):
        expected = intaglio.run_golden(source, images, outputs_only=True).tensors
        for name, values in expected.items():
            assert (result.outputs[name] == values).all()


def test_an_estimate_takes_what_compile_takes(no_build) -> None:
    compiled = intaglio.compile(MODEL, TINY)
    predicted = intaglio.estimate(MODEL, TINY)
    for model, config in ((compiled, None), (compiled, TINY), (compiled.network, compiled.config)):
        assert intaglio.estimate(model, config).rows() == predicted.rows()
    assert [row["layer"] for row in predicted.rows()] == [layer.name for layer in compiled.network.layers]
    assert intaglio.estimate(MODEL).config == intaglio.compile(MODEL).config
    with pytest.raises(ArgumentError, match="compiled for tiny"):
        intaglio.estimate(compiled, "sbnq8x8")


def test_rows_are_what_pandas_takes() -> None:
    result = intaglio.run(MODEL, IMAGES, config=TINY, limit=1)
    rows = result.rows()
    assert [list(row) for row in rows] == [["layer", "op", "cycles", "macs", "utilisation"]] * 5
    assert [row["layer"] for row in rows] == [layer.name for layer in result.network.layers]
    assert sum(row["cycles"] for row in rows) == result.cycles
    assert sum(row["macs"] for row in rows) == result.network.macs
    for row in rows:
        assert type(row["cycles"]) is type(row["macs"]) is int
        assert row["utilisation"] == row["macs"] / (row["cycles"] * 16)


def test_the_same_result_without_a_build(no_build) -> None:
    """The functional backend: every element, no cycles, and no word of what was not counted."""
    result = intaglio.run(MODEL, IMAGES, config=TINY, limit=7, labels=IMAGES, backend="functional")
    assert (result.inferences, result.mismatches, result.tensors) == (7, 0, 5)
    assert result.cycles is None
    for row in result.rows():
        assert row["cycles"] is row["utilisation"] is None
    report = result.report("name")
    assert report["cycles"] is report["utilisation"] is report["simulated_cycles_per_second"] is None
    expected = intaglio.run_golden(MODEL, IMAGES, limit=7, outputs_only=True).tensors
    for name, values in expected.items():
        assert (result.outputs[name] == values).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"config": "nowhere"}, "`config`: no configuration nowhere"),
        ({"config": 3}, "`config`: "),
        ({"jobs": 0}, "`jobs`: must be 1 or more, not 0"),
        ({"limit": 0}, "`limit`: must be 1 or more, not 0"),
        ({"bits": 9}, "`bits`: an IntegerNet network has 2 to 8, not 9"),
        ({"backend": "magic"}, "`backend`: there is no magic; give one of rtl, functional"),
        ({"trace": "no/where.fst"}, "`trace`: no/where.fst: there is no directory no"),
        ({"labels": [1, 2]}, "`labels`: must be 3 integers"),
        ({"labels": [1, 2, 10]}, "`labels`: number 2 is 10, the network tells 10 classes apart"),
        ({"labels": [1, -2, 1]}, "`labels`: number 1 is -2"),
        ({"inputs": {"frobnicate": np.zeros((3, 8, 8, 1), np.uint8)}}, "`inputs`: .*frobnicate"),
        ({"inputs": {}}, "`inputs`: .*input"),
        ({"inputs": np.zeros((3, 9, 8, 1), np.uint8)}, "`inputs`: .*9"),
        ({"inputs": np.zeros((0, 8, 8, 1), np.uint8)}, "`inputs`: "),
        ({"inputs": np.full((3, 8, 8, 1), 256)}, r"`inputs`: input\[0, 0, 0, 0\] is 256"),
        ({"inputs": np.uint8(3)}, "`inputs`: "),
    ],
)
def test_what_is_refused_names_pythons_argument_and_builds_nothing(no_build, arguments, words) -> None:
    given = {"inputs": np.zeros((3, 8, 8, 1), np.uint8), "config": TINY} | arguments
    with pytest.raises(ArgumentError, match=f"^{words}") as error:
        intaglio.run(MODEL, given.pop("inputs"), **given)
    assert "--" not in str(error.value)
    assert "\n" not in str(error.value)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.as_option) == (str(error.value), error.value.as_option)
    assert str(error.value).replace("`", "--", 1).replace("`", "", 1) == error.value.as_option


def test_a_compiled_network_stays_on_its_machine(no_build) -> None:
    compiled = intaglio.compile(MODEL, TINY)
    with pytest.raises(NetworkError, match="^`config`: the network is compiled for tiny"):
        intaglio.run(compiled, IMAGES, config="sbnq8x8")


def test_inputs_of_two_are_named_and_of_one_count(no_build) -> None:
    """Before, a wrong name was a KeyError after the build, and the longer of two was cut without a word."""
    builder = Int8Builder(1)
    first, second = builder.input((4, 4, 2)), builder.input((4, 4, 2))
    scale = fixed_point(0.5)
    builder.add_layer(Add, (first, second), first=scale, second=scale, total=scale, low=-128, high=127)
    network = builder.build()
    five, six = (np.zeros((count, 4, 4, 2), np.int8) for count in (5, 6))
    for inputs, words in (
        (five, f"`inputs`: .*{first}, {second}"),
        ({first: five}, f"`inputs`: .*{second}"),
        ({first: five, "frobnicate": five}, "`inputs`: .*frobnicate"),
        ({first: five, second: five, "frobnicate": five}, "`inputs`: .*frobnicate"),
        ({first: five, second: six}, "`inputs`: .*5.*6"),
    ):
        for of in (intaglio.run, intaglio.run_golden):
            with pytest.raises(NetworkError, match=f"^{words}"):
                of(network, inputs)
    assert len(intaglio.run_golden(network, {first: five, second: five}).tensors[first]) == 5


def test_a_network_that_fits_nothing_asks_for_a_configuration(no_build) -> None:
    rescale = PowerOfTwoRescale(np.zeros(2, np.int64), np.zeros(2, np.int64), Rounding.HALF_EVEN)
    layer = FullyConnected(
        "sum", ("input",), "output", np.ones((2, 3), np.int64), TensorType(8, True), rescale, 32
    )
    tensors = {name: Tensor(name, shape, INT8) for name, shape in (("input", (3,)), ("output", (2,)))}
    network = Network("shifted", tensors, (layer,), ("input",), ("output",))
    with pytest.raises(NetworkError, match="^`config`: network shifted fits none that ships") as error:
        intaglio.run(network, np.zeros((1, 3), np.int8))
    assert "affine8x8: layer sum" in str(error.value)
