"""The exchange format: what is written is read again, and damaged files end in one line."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import golden
from network import (
    AffineRescale,
    LlsqRescale,
    NetworkError,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    TensorType,
    exchange,
)
from network.load import load
from tests.networks import Builder, draw, machine_of, random_network
from tests.networks_int8 import random_int8_network

UINT4 = TensorType(4, False)
DIGITS = Path(__file__).parent.parent / "intaglio" / "models" / "digits_sbnq4.txt"


def rescaled(rescale, kind=UINT4):
    builder = Builder(1, machine_of(), (4, 5, 3)).conv(4, (3, 3))
    builder.layers[0] = dataclasses.replace(builder.layers[0], rescale=rescale)
    builder.tensors["layer0_out"] = dataclasses.replace(builder.tensors["layer0_out"], type=kind)
    return builder.build()


def networks():
    four = np.array([1, -2, 300, -70000])
    yield load(DIGITS)
    for seed in range(6):
        yield random_network(seed, machine_of(scratchpad_bytes=1 << 18))
        yield random_int8_network(seed)
    yield rescaled(SbnqRescale(four, np.array([0, -3, 7, 31]), True))
    yield rescaled(LlsqRescale(four, np.array([1, 128, 255, 200]), np.array([0, 1, 8, 31])))
    for rounding in Rounding:
        yield rescaled(PowerOfTwoRescale(four, np.array([0, -3, 7, 31]), rounding), TensorType(8, True))
    multiplier, exponent = np.array([1 << 30, (1 << 31) - 1, 5, 0]), np.array([-31, 0, 1, 31])
    yield rescaled(AffineRescale(four, multiplier, exponent, True, -5, 7), TensorType(8, True))
    real = np.array([0.1, 1 / 3, 2.0**-40, 1.5])
    yield rescaled(AffineRescale(four, multiplier, exponent, False, -128, 127, real), TensorType(8, True))


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype or {one.dtype.kind, other.dtype.kind} <= set("iu")
        np.testing.assert_array_equal(one, other)
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            if field.name != "source_format":
                same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, tuple):
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == other


def test_what_is_written_is_read_again(tmp_path):
    for network in networks():
        content = exchange.dumps(network)
        assert exchange.recognised(content)
        assert content == exchange.dumps(network)
        exchange.dump(network, tmp_path / "net.npz")
        found = load(tmp_path / "net.npz")
        same(network, found)
        rng = np.random.default_rng(0)
        inputs = {
            name: draw(rng, network.tensors[name].type, (2, *network.tensors[name].shape))
            for name in network.inputs
        }
        expected, results = golden.run(network, inputs), golden.run(found, inputs)
        for name, values in expected.tensors.items():
            np.testing.assert_array_equal(values, results.tensors[name])


def test_the_file_holds_integers_that_numpy_alone_loads():
    with np.load(io.BytesIO(exchange.dumps(load(DIGITS))), allow_pickle=False) as file:
        assert all(array.dtype.kind in "iu" for array in file.values())
        assert file["layer0/weights"].dtype == np.int8
        assert json.loads(file["network"].tobytes())["version"] == 1


def edited(change, members=None):
    """A file whose JSON text is changed, and its arrays."""
    network = load(DIGITS)
    with np.load(io.BytesIO(exchange.dumps(network))) as file:
        arrays = dict(file)
    body = json.loads(arrays.pop("network").tobytes())
    change(body, arrays)
    file = io.BytesIO()
    np.savez(file, network=np.frombuffer(json.dumps(body).encode(), np.uint8), **arrays)
    return file.getvalue()


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(body, arrays):
        for step in path:
            body = body[step]
        body[last] = value

    return change


def test_a_file_that_numpy_writes_is_read():
    same(load(DIGITS), exchange.loads(edited(lambda body, arrays: None), "net.npz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("version", 2), "net.npz: it is of version 2 of the format, this program reads 1; export"),
        (put("format", "x"), "does not say that the format is intaglio"),
        (put("layers", 0, "op", "Conv3D"), "layer 0 is a 'Conv3D', which is no layer of version 1"),
        (put("layers", 0, "stride", [1]), "layer 0: `stride` is .1., not a list of 2"),
        (put("layers", 0, "stride", [1, 0.5]), "layer 0: `stride` is 0.5, not an integer"),
        (put("layers", 0, "stride", [1, True]), "layer 0: `stride` is true, not an integer"),
        (put("layers", 0, "colour", 3), "layer 0 has a field 'colour', which Conv2D has not"),
        (put("layers", 0, "weights", {"array": "no"}), "layer 0: `weights` names no array of the file"),
        (put("layers", 0, "weight_type", "int99"), "a tensor's type must have 1 to 32 bits, not 99"),
        (put("layers", 0, "weight_type", "float8"), "`weight_type` is \"float8\", not a type"),
        (put("layers", 0, "rescale", "kind", "X"), "`rescale` is a 'X', which is no rescale"),
        (put("layers", 0, "inputs", ["nowhere"]), "the tensor 'nowhere' is named but not described"),
        (put("tensors", 0, "scale", "nan"), "has the scale nan"),
        (put("tensors", 0, "shape", [0, 8, 1]), "has the shape"),
        (put("tensors", {}), "`tensors` is missing or not a list"),
        (lambda body, arrays: body["layers"][0].pop("weights"), "layer 0 lacks the field `weights` of Conv2D"),
        (lambda body, arrays: arrays.update(more=np.zeros(3, np.int8)), "the member 'more' belongs to nothing"),
        (lambda body, arrays: arrays.update({"layer0/weights": np.zeros(3)}), "holds float64, not integers"),
        (lambda body, arrays: arrays.update({"layer0/weights": arrays["layer0/weights"] + 100}),
         "layer conv1: weight: .* is outside -8...7"),
        (lambda body, arrays: arrays.update({"layer0/weights": np.array([None])}), "holds object, not integers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(NetworkError, match=message) as caught:
        exchange.loads(edited(change), "net.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", [b"(9,)", b"(9**", b"(-3)"])
def test_an_array_that_is_not_what_its_header_announces(header):
    file, member = io.BytesIO(exchange.dumps(load(DIGITS))), io.BytesIO()
    np.save(member, np.zeros(3, np.int8))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("extra.npy", member.getvalue().replace(b"(3,)", header))
    with pytest.raises(NetworkError, match="net.npz: the member 'extra' has no"):
        exchange.loads(file.getvalue(), "net.npz")


def attempt(content):
    """The network and "", or None and the message."""
    try:
        return exchange.loads(content, "net.npz"), ""
    except NetworkError as error:
        return None, str(error)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_end_in_one_line(seed):
    rng = np.random.default_rng(seed)
    content = exchange.dumps([load(DIGITS), *(random_int8_network(n) for n in range(3))][seed])
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.3:
            del damaged[int(rng.integers(len(damaged))) :]
        network, message = attempt(bytes(damaged))
        refused += network is None
        assert "\n" not in message
        # What is read all the same differs in a bit that nothing depends on, such as a date.
        assert network is None or exchange.dumps(network) == content
    assert refused > 200


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "exchange.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})
    found = golden.run(load(tmp_path / "example.npz"), {"x": np.array([[1, 2, 3]], np.uint8)})
    # 1 * (1 - 4 + 9 + 1); (200 * (-4 + 10 - 18 - 1) + 128) >> 8
    assert found.tensors["y"].tolist() == [[7, -10]]
