"""The exchange format: what is written is read again, and damaged files end in one line."""

import contextlib
import dataclasses
import functools
import io
import json
import re
import sys
import tracemalloc
import typing
import zipfile
from pathlib import Path

import numpy as np
import pytest

from intaglio import cli, demo, golden
from intaglio.network import (
    AffineRescale,
    LlsqRescale,
    NetworkError,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    TensorType,
    graph,
)
from intaglio.network.formats import exchange
from intaglio.network.importing import limits
from intaglio.network.load import load
from tests.networks import Builder, draw, machine_of, random_network
from tests.networks_int8 import random_int8_network

UINT4 = TensorType(4, False)
PAGE = Path(__file__).parent.parent / "docs" / "exchange.md"
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
    for seed in range(16):
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


def test_the_networks_have_layers_and_rescales_of_every_kind():
    drawn = list(networks())
    layers = [layer for network in drawn for layer in network.layers]
    assert {type(layer) for layer in layers} == set(typing.get_args(graph.AnyLayer))
    rescales = [layer.rescale for layer in layers if isinstance(layer, graph.WeightLayer)]
    assert {type(rescale) for rescale in rescales} == set(typing.get_args(graph.Rescale))
    assert {isinstance(layer.real, float) for layer in layers if isinstance(layer, graph.Logistic)} == {
        True,
        False,
    }
    assert any(network.constants for network in drawn)


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


def binary():
    """Two layers, the first of weights of -1 and 1, as int2."""
    builder = Builder(3, machine_of(weight_type="binary", activation_types=("int8",)), (4, 5, 3))
    network = builder.conv(4, (3, 3)).conv(2, (1, 1)).build()
    first, second = network.layers
    first = dataclasses.replace(
        first, weights=np.where(first.weights < 0, -1, 1), weight_type=TensorType(2, True)
    )
    return dataclasses.replace(
        network, layers=(first, dataclasses.replace(second, weight_type=TensorType(8, True)))
    )


def retyped(network, kind):
    first, *others = network.layers
    return dataclasses.replace(network, layers=(dataclasses.replace(first, weight_type=kind), *others))


def test_binary_weights_are_a_type_of_one_bit():
    network = retyped(binary(), graph.BinaryType())
    (first, _), kind = network.layers, graph.BinaryType()
    assert isinstance(first, graph.WeightLayer)
    assert (kind.bits, kind.min, kind.max, str(kind)) == (1, -1, 1, "binary")
    content = exchange.dumps(network)
    found = exchange.loads(content, "net.npz")
    same(network, found)
    for other, version in ((network, 2), (binary(), 1)):
        with np.load(io.BytesIO(exchange.dumps(other))) as file:
            assert json.loads(file["network"].tobytes())["version"] == version
    weights = first.weights
    for value, message in (
        (0, "a weight is 0, where binary weights are -1 or 1"),
        (2, "2 is outside -1...1"),
    ):
        changed = weights.copy()
        changed[0, 0, 0, 0] = value
        with pytest.raises(NetworkError, match=message):
            dataclasses.replace(
                network, layers=(dataclasses.replace(network.layers[0], weights=changed), network.layers[1])
            )
    with pytest.raises(NetworkError, match="it is of version 1, which has no binary weights; export"):
        exchange.loads(edited(put("version", 1), network), "net.npz")
    with pytest.raises(NetworkError, match='`type` is "binary", not a type such as int8'):
        exchange.loads(edited(put("tensors", 0, "type", "binary")), "net.npz")


def test_the_documentation_makes_old_files_binary(tmp_path, monkeypatch):
    (tmp_path / "old.npz").write_bytes(exchange.dumps(binary()))
    exchange.dump(load(DIGITS), tmp_path / "other.npz")
    other = (tmp_path / "other.npz").read_bytes()
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "old.npz"), str(tmp_path / "other.npz")])
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], {})
    found = load(tmp_path / "old.npz")
    same(found, retyped(binary(), graph.BinaryType()))
    assert (tmp_path / "other.npz").read_bytes() == other


def edited(change, network=None):
    """The file of `network` (the digits) as NumPy writes it, changed by `change(body, arrays)`."""
    with np.load(io.BytesIO(exchange.dumps(network or load(DIGITS)))) as file:
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


def test_the_text_need_not_be_the_first_member(tmp_path):
    with np.load(io.BytesIO(exchange.dumps(load(DIGITS)))) as file:
        np.savez(tmp_path / "net.npz", **dict(reversed(list(file.items()))))
    same(load(DIGITS), load(tmp_path / "net.npz"))


def test_arrays_in_any_order_and_integer():
    def change(body, arrays):
        for name, values in arrays.items():
            arrays[name] = np.asfortranarray(values.astype(">i4"))

    same(load(DIGITS), exchange.loads(edited(change), "net.npz"))


def pads(body, arrays):
    body["layers"][0] |= {"padding": [1 << 40] * 4, "stride": [1 << 41, 1 << 41]}


def double(kind, index):
    """An item of a list, there twice."""

    def change(body, arrays):
        body[kind].append(dict(body[kind][index]))

    return change


def constant(name):
    def change(body, arrays):
        body["constants"] = {name: {"array": "more"}}
        arrays["more"] = np.zeros((8, 8, 1), np.int8)

    return change


def array(member, make):
    def change(body, arrays):
        arrays[member] = make(arrays.get(member))

    return change


def array_twice(body, arrays):
    rescale = body["layers"][0]["rescale"]
    rescale["shift"] = rescale["bias"]
    del arrays["layer0/rescale/shift"]


WEIGHTS = "layer0/weights"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("version", 3), "net.npz: it is of version 3 of the format, this program reads up to 2; install a newer"),
        (put("version", True), "its version is true, not an integer from 1 on; export the network again"),
        (put("version", 0), "its version is 0, not"),
        (put("format", "x"), "does not say that the format is intaglio"),
        (put("constant", {}), 'its JSON text has the key "constant", which version 2 does not define'),
        (put("name", None), "`name` is null, not a printable string"),
        (put("name", "a" * 257), "`name` is .*, not a printable string of 1 to 256 characters"),
        (put("inputs", []), "`inputs` is .., not names of at least one tensor, each once"),
        (put("outputs", ["fc1", "fc1"]), "`outputs` is .*, not names of"),
        (put("inputs", ["nowhere"]), 'the tensor "nowhere" is named but not described'),
        (constant("input"), "the tensor input is an input and a constant"),
        (constant("nowhere"), 'the tensor "nowhere" is named but not described'),
        (put("constants", []), "`constants` is not an object"),
        (put("layers", 0, "op", "Conv3D"), 'layer 0 is a "Conv3D", which is not a layer of version 2'),
        (put("layers", 0, "op", [[9] * 99] * 99), "layer 0 is a .{40}, which is not a layer"),
        (put("layers", 0, 3), "layer 0 is a null, which is not a layer"),
        (put("layers", 0, "stride", [1]), "layer 0: `stride` is .1., not a list of 2"),
        (put("layers", 0, "stride", [1, 0.5]), "layer 0: `stride` is 0.5, not an integer"),
        (put("layers", 0, "stride", [1, True]), "layer 0: `stride` is true, not an integer"),
        (put("layers", 0, "stride", [1, 1 << 63]), "layer 0: `stride` is 9223372036854775808, not an integer of 64"),
        (put("layers", 0, "colour", 3), 'layer 0 has a field "colour", which Conv2D does not have'),
        (put("layers", 0, "name", "a\nb"), r'layer 0: `name` is "a.nb", not a printable string'),
        (put("layers", 0, "name", "\ud800"), r'layer 0: `name` is ".ud800", not a printable string'),
        (put("layers", 0, "output", "input"), "its output input is already written"),
        (put("layers", 0, "inputs", ["pool1"]), "layer conv1: its input pool1 is not computed before it"),
        (put("layers", 0, "weights", {"array": "no"}), "layer 0: `weights` does not name an unused array of the file"),
        (put("layers", 0, "weights", [1, 2]), "layer 0: `weights` does not name an unused array of the file"),
        (array_twice, "`shift` does not name an unused array of the file"),
        (put("layers", 0, "weight_type", "int99"), "a tensor's type must have 1 to 32 bits, not 99"),
        (put("layers", 0, "weight_type", "float8"), "`weight_type` is \"float8\", not a type"),
        (put("layers", 0, "rescale", "kind", "X"), '`rescale` is a "X", which is not a rescale'),
        (put("layers", 0, "rescale", "relu", 1), "`relu` is 1, not true or false"),
        (pads, "layer conv1: its input has .* elements with its padding; at most 16,777,216"),
        (put("tensors", {}), "`tensors` is missing or not a list"),
        (put("tensors", 0, "scale", "nan"), '`scale` is "nan", not a hexadecimal number'),
        (put("tensors", 0, "scale", 0.1), "`scale` is 0.1, not a hexadecimal number"),
        (put("tensors", 0, "scale", "0.1"), '`scale` is "0.1", not a hexadecimal number'),
        (put("tensors", 0, "scale", "0x1p99999"), '`scale` is "0x1p99999", not a hexadecimal number'),
        (put("tensors", 0, "scale", "-0x1p0"), "has the scale -1.0"),
        (put("tensors", 0, "scale", float("nan")), "its JSON text holds NaN, which is not JSON"),
        (put("tensors", 0, "zero_point", 256), "the tensor input has the zero point 256, which is not of type uint8"),
        (put("tensors", 0, "shape", [0, 8, 1]), "has the shape .0, 8, 1.; the most is 8 axes of at least 1"),
        (put("tensors", 0, "shape", [1 << 13, 1 << 13, 1]), "has the shape .*; the most is .* 16,777,216 elements"),
        (put("tensors", 0, "shape", [1] * 9), "has the shape .*; the most is 8 axes"),
        (double("tensors", 0), "the tensor input appears twice"),
        (double("layers", 1), "the layer pool1 appears twice"),
        (lambda body, arrays: body["layers"][0].pop("weights"), "layer 0 lacks the field `weights` of Conv2D"),
        (lambda body, arrays: arrays.pop(WEIGHTS), "layer 0: `weights` does not name an unused array of the file"),
        (array("more", lambda old: np.zeros(3, np.int8)), 'the member "more" is used by nothing'),
        (array(WEIGHTS, lambda old: old.astype(float)), 'member "layer0/weights" holds float64, not integers'),
        (array(WEIGHTS, lambda old: old > 0), "holds bool, not integers"),
        (array(WEIGHTS, lambda old: np.array([None])), "holds object, not integers"),
        (array(WEIGHTS, lambda old: np.full(3, 1 << 63, np.uint64)), "holds a number beyond 63 bits"),
        (array(WEIGHTS, lambda old: old + 100), "layer conv1: weight: .* is outside -8...7"),
        (array(WEIGHTS, lambda old: old[0]), "layer conv1: its weights have the shape .*, Conv2D takes 4 axes"),
        (array(WEIGHTS, lambda old: old[:, :0]), "its weights have the shape .*, Conv2D takes 4 axes of at least 1"),
        (array(WEIGHTS, lambda old: old[:, :2]), "layer conv1: its output is .*, its tensor conv1"),
        (array("layer0/rescale/bias", lambda old: old[1:]), "layer conv1: 15 of bias for 16 output channels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(NetworkError, match=message) as caught:
        exchange.loads(edited(change), "net.npz")
    line = str(caught.value)
    assert line.startswith("net.npz: ")
    assert line.isprintable()
    assert len(line) < 600


def zipped(text, method=zipfile.ZIP_DEFLATED):
    """An archive of a graph's text alone: bytes, or an array."""
    file, member = io.BytesIO(), io.BytesIO()
    np.save(member, np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text)
    with zipfile.ZipFile(file, "w", method) as archive:
        # Dated 1980: it is part of a test's name, which all workers have to agree on.
        archive.writestr(zipfile.ZipInfo("network.npy"), member.getvalue(), method)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(b"{"), "network.npy does not hold JSON .Expecting property name .*, line 1 column 2."),
        (zipped(b"\xff"), "network.npy does not hold readable JSON in UTF-8"),
        (zipped(b"[" * 100_000), "network.npy does not hold readable JSON"),
        (zipped(b"[" + b"9" * 5000 + b"]"), "network.npy does not hold readable JSON"),
        (zipped(b"[]"), "does not say that the format is intaglio"),
        (zipped(b'{"version": 1, "version": 1}'), 'an object of its JSON text has the key "version" twice'),
        (zipped(np.array([123, 300])), "network.npy is not a list of bytes"),
        (zipped(np.array("{}")), 'the member "network" holds <U2, not integers'),
        (
            zipped(b"{}", zipfile.ZIP_LZMA),
            'the member "network" is compressed by another method than deflate',
        ),
        (zipped(b"{}")[:-9], "this is not a whole .npz archive"),
        (zipped(b"{}")[:60], "this is not a whole .npz archive"),
    ],
)
def test_what_is_no_archive_of_a_graph(content, message):
    assert exchange.recognised(content)
    with pytest.raises(NetworkError, match=message) as caught:
        exchange.loads(content, "net.npz")
    assert str(caught.value).isprintable()


def test_lists_as_deep_as_json_reads_them():
    """Each depth ends in a line, too, where Python's limit is reached between reading and showing."""
    for depth in range(900, 1020):
        text = b'{"format": "intaglio", "version": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(NetworkError, match="its version is|does not hold readable JSON"):
            exchange.loads(zipped(text), "net.npz")


@pytest.mark.parametrize("member", ["network.npy", "weights.npy"])
def test_what_would_fill_the_memory_is_not_unpacked(member):
    """A few hundred KB that announce more than the limit, and some that announce little and hold much."""
    size = (exchange.MAX_TEXT_BYTES if member == "network.npy" else exchange.MAX_BYTES) + 1
    contents = []
    for announced in (size, 200):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(member, "w") as entry:
                np.lib.format.write_array_header_1_0(
                    entry, {"descr": "|u1", "fortran_order": False, "shape": (size,)}
                )
                for first in range(0, size, 1 << 20):
                    entry.write(bytes(min(1 << 20, size - first)))
            archive.getinfo(member).file_size = announced
        contents.append(file.getvalue())
    tracemalloc.start()
    try:
        with pytest.raises(NetworkError, match="takes? more than (16|128) MiB"):
            exchange.loads(contents[0], "net.npz")
        with pytest.raises(NetworkError, match="not a whole .npz archive|does not hold the"):
            exchange.loads(contents[1], "net.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", [b"(9,)", b"(9**", b"(-3)", b"(3L,", b"(-3,-1)"])
def test_an_array_that_is_not_what_its_header_announces(header):
    file, member = io.BytesIO(exchange.dumps(load(DIGITS))), io.BytesIO()
    np.save(member, np.zeros(3, np.int8))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("extra.npy", member.getvalue().replace(b"(3,)", header))
    with pytest.raises(NetworkError, match='net.npz: the member "extra" does not (begin|hold)'):
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


NASTY: tuple = (
    None, True, 0, -1, 1 << 31, 1 << 62, 1 << 64, 0.5, "", "a\nb", "x", "0x1p0", "inf", "int8", "uint32",
    [], [1], [[]], [-1], [1 << 40] * 2, {}, {"array": "layer0/weights"},
)  # fmt: skip


def places(value, path=()):
    """The path of every value in a JSON text but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def spoil(rng, body, arrays):
    """Another value, one less, or an array of another shape or other numbers."""
    if rng.random() < 0.3:
        name = sorted(arrays)[rng.integers(len(arrays))]
        old = np.atleast_1d(arrays[name])
        other = (old.reshape(-1), old[np.newaxis], old[:0], old[..., :0], old[0], np.full_like(old, 99))
        arrays[name] = other[rng.integers(len(other))]
        return
    paths = list(places(body))
    *path, last = paths[rng.integers(len(paths))]
    for step in path:
        body = body[step]
    if rng.random() < 0.2:
        del body[last]
    elif type(body[last]) is int and rng.random() < 0.5:
        body[last] += int(rng.choice([-100, -1, 1, 100]))
    else:
        body[last] = NASTY[rng.integers(len(NASTY))]


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_values_end_in_one_line_or_in_a_network(seed):
    """Whole archives, so that what is wrong reaches the reader: flipped bits of a file hardly pass the checksums."""
    rng = np.random.default_rng(seed)
    network = [load(DIGITS), *(random_int8_network(n) for n in range(3))][seed]
    refused = 0
    for _ in range(150):
        content = edited(functools.partial(spoil, rng), network)
        found, message = attempt(content)
        refused += found is None
        assert message.isprintable()
        assert len(message) < 600
        if found is None:
            continue
        same(found, exchange.loads(exchange.dumps(found), "net.npz"))
        inputs = {
            name: draw(rng, found.tensors[name].type, (1, *found.tensors[name].shape))
            for name in found.inputs
        }
        with contextlib.suppress(NetworkError):
            golden.run(found, inputs)
    assert 60 < refused < 150


def test_numbers_of_numpy_are_written_as_python_has_them():
    network = load(DIGITS)
    layer, tensor = network.layers[0], network.tensors["input"]
    odd = dataclasses.replace(
        network,
        layers=(dataclasses.replace(layer, stride=(np.int64(1), np.int8(1))), *network.layers[1:]),
        tensors={**network.tensors, "input": dataclasses.replace(tensor, scale=np.float32(0.1))},
    )
    found = exchange.loads(exchange.dumps(odd), "net.npz")
    same(found.layers[0], layer)
    assert found.tensors["input"].scale == float(np.float32(0.1))


def test_a_name_that_could_not_be_read_again_is_not_written():
    network = dataclasses.replace(load(DIGITS), name="a\nb")
    with pytest.raises(
        NetworkError, match=r'the name "a.nb" is not a printable string of 1 to 256 characters'
    ):
        exchange.dumps(network)


def test_images_are_no_network():
    with pytest.raises(NetworkError, match="this is in no known format; known are: .* Intaglio exchange"):
        load(DIGITS.with_name("digits_test.npz"))


def test_the_command_line_takes_a_file(tmp_path, monkeypatch):
    exchange.dump(load(DIGITS), tmp_path / "net.npz")
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main puts another in its place
    for model in (DIGITS, tmp_path / "net.npz"):
        arguments = [
            "golden",
            model,
            "--inputs",
            DIGITS.with_name("digits_test.npz"),
            "--limit",
            9,
            "--outputs",
        ]
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in (*arguments, tmp_path / f"{model.suffix}.npy")])
        assert ended.value.code == 0
    np.testing.assert_array_equal(np.load(tmp_path / ".txt.npy"), np.load(tmp_path / ".npz.npy"))


def test_embedded_networks_of_both_formats_share_their_images(tmp_path, monkeypatch):
    for name in (
        "digits_sbnq4.txt",
        "digits_llsq.npz",
        "digits_test.npz",
        "other_affine.npz",
        "other_test.npz",
    ):
        (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(demo, "MODELS", tmp_path)
    assert [(model.name, images.name) for model, images in demo.embedded()] == [
        ("digits_llsq.npz", "digits_test.npz"),
        ("digits_sbnq4.txt", "digits_test.npz"),
        ("other_affine.npz", "other_test.npz"),
    ]


def test_every_field_is_documented():
    """The page's tables name each class and its fields, in their order; those with a default in brackets."""
    text = PAGE.read_text()
    kinds = (
        *typing.get_args(graph.AnyLayer),
        *typing.get_args(graph.Rescale),
        graph.FixedPointScale,
        graph.Tensor,
    )
    common = [field.name for field in dataclasses.fields(graph.Layer)]
    for kind in kinds:
        (row,) = re.findall(rf"^\| `{kind.__name__}` \| ([^|]*) \|", text, re.M)
        assert re.findall(r"\[?`\w+`\]?", row) == [
            f"`{field.name}`" if field.default is dataclasses.MISSING else f"[`{field.name}`]"
            for field in dataclasses.fields(kind)
            if field.name not in common or not issubclass(kind, graph.Layer)
        ], kind


def test_the_limits_are_documented():
    text = PAGE.read_text()
    for limit in (
        f"{exchange.MAX_BYTES >> 20} MiB", f"{exchange.MAX_TEXT_BYTES >> 20} MiB", f"{limits.MAX_ELEMENTS:,}",
        f"{limits.MAX_AXES} axes", f"{exchange.MAX_NAME} printable",
    ):  # fmt: skip
        assert limit in text, limit


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    text = PAGE.read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[2].split("```")[0], {})
    found = golden.run(load(tmp_path / "example.npz"), {"x": np.array([[1, 2, 3]], np.uint8)})
    # 1 * (1 - 4 + 9 + 1); (200 * (-4 + 10 - 18 - 1) + 128) >> 8
    assert found.tensors["y"].tolist() == [[7, -10]]
