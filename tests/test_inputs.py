"""Inputs and labels: every format, what is conformed, and what is refused in one line."""

import gzip
import io
import random
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio.network import MaxPool2D, Network, NetworkError, Tensor, TensorType, arrays
from intaglio.network.inputs import check_batch, load_inputs, load_labels, read_array

UINT8 = TensorType(8, signed=False)
INT8 = TensorType(8, signed=True)


def reads(*tensors: Tensor) -> Network:
    """A network whose inputs are `tensors`; what it computes does not matter here."""
    outputs = {
        f"{t.name}_out": Tensor(f"{t.name}_out", t.shape, t.type, t.scale, t.zero_point) for t in tensors
    }
    layers = tuple(MaxPool2D(f"{t.name}_pool", (t.name,), f"{t.name}_out", (1, 1), (1, 1)) for t in tensors)
    return Network(
        "n", {t.name: t for t in tensors} | outputs, layers, tuple(t.name for t in tensors), tuple(outputs)
    )


def image(type_: TensorType = UINT8, shape=(2, 3, 1), name="input", scale=None, zero_point=0) -> Network:
    return reads(Tensor(name, shape, type_, scale, zero_point))


PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1)
IDX = struct.pack(">HBB3I", 0, 8, 3, 4, 2, 3) + PIXELS.tobytes()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(compress=True, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes):
        path = tmp_path / "data"
        path.write_bytes(content)
        return path

    return write_file


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(NetworkError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        npy(PIXELS),
        npy(np.asfortranarray(PIXELS)),
        npy(PIXELS[..., 0].astype(">i4")),
        npz(input=PIXELS),
        npz(compress=False, input=PIXELS, labels=np.arange(4)),
        npz(whatever=PIXELS),
        IDX,
        gzip.compress(IDX, mtime=0),
        gzip.compress(npy(PIXELS), mtime=0),
    ],
)
def test_every_format_gives_the_same_input(content, write):
    inputs = load_inputs(write(content), image())
    assert list(inputs) == ["input"]
    assert inputs["input"].dtype == np.uint8
    assert np.array_equal(inputs["input"], PIXELS)
    assert np.array_equal(load_inputs(write(content), image(), limit=3)["input"], PIXELS[:3])
    assert len(load_inputs(write(content), image(), limit=99)["input"]) == 4


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_every_type_of_idx(code, dtype, write):
    values = np.array([[1, 2], [3, 100]], dtype)
    content = struct.pack(">HBB2I", 0, code, 2, 2, 2) + values.tobytes()
    assert np.array_equal(read_array(write(content)), values)


def test_several_inputs_go_by_name(write):
    network = reads(Tensor("a", (1, 1, 2), UINT8), Tensor("b", (1, 1, 1), INT8))
    a, b = np.array([[[[1, 2]]]]), np.array([[[[-3]]]])
    inputs = load_inputs(write(npz(b=b, a=a)), network)
    assert list(inputs) == ["a", "b"]
    assert inputs["b"].dtype == np.int8
    assert inputs["b"].item() == -3
    assert "has no input b" in refusal(load_inputs, write(npz(a=a)), network)
    assert "has no input a" in refusal(load_inputs, write(npy(a)), network)
    assert "holds c, no input" in refusal(load_inputs, write(npz(a=a, b=b, c=b)), network)
    assert "different counts (a 1, b 2)" in refusal(
        load_inputs, write(npz(a=a, b=np.repeat(b, 2, 0))), network
    )


def test_uint8_pixels_into_int8_with_zero_point_minus_128(write):
    pixels = np.array([0, 1, 128, 255, 7, 9], np.uint8).reshape(1, 2, 3, 1)
    inputs = load_inputs(write(npy(pixels)), image(INT8, scale=1 / 255, zero_point=-128))
    assert inputs["input"].dtype == np.int8
    assert inputs["input"].ravel().tolist() == [-128, -127, 0, 127, -121, -119]
    message = refusal(load_inputs, write(npy(pixels)), image(INT8, scale=1 / 255))
    assert "input[0, 0, 2, 0] is 128, outside -128...127 of int8" in message
    wide = refusal(load_inputs, write(npy(pixels.astype(np.int16))), image(INT8, zero_point=-128))
    assert "input[0, 0, 2, 0] is 128" in wide


@pytest.mark.parametrize(("bits", "signed"), [(b, s) for b in (1, 2, 4, 8, 16, 32) for s in (False, True)])
def test_integers_are_bounded_by_the_type(bits, signed, write):
    type_ = TensorType(bits, signed)
    network = image(type_, (1, 1, 2))
    ends = np.array([[[[type_.min, type_.max]]]], np.int64)
    assert load_inputs(write(npy(ends)), network)["input"].ravel().tolist() == [type_.min, type_.max]
    for offset, index in ((np.array([-1, 0]), 0), (np.array([0, 1]), 1)):
        bad = ends + offset
        message = refusal(load_inputs, write(npy(bad)), network)
        assert (
            f"input[0, 0, 0, {index}] is {bad.ravel()[index]}, outside {type_.min}...{type_.max}" in message
        )
    huge = np.array([[[[0, 2**64 - 1]]]], np.uint64)
    assert "is 18446744073709551615, outside" in refusal(load_inputs, write(npy(huge)), network)


def test_floats_go_through_the_scale(write):
    network = image(INT8, (1, 1, 6), scale=0.5, zero_point=10)
    real = np.array([0.0, 0.25, -0.25, -1.0, 1e30, -1e30]).reshape(1, 1, 1, 6)
    for dtype in (np.float32, np.float64):
        quantized = load_inputs(write(npy(real.astype(dtype))), network)["input"]
        assert quantized.ravel().tolist() == [10, 11, 9, 8, 127, -128]  # ties go away from zero
    assert "states no scale; give integers of type uint8" in refusal(
        load_inputs, write(npy(PIXELS.astype(np.float32))), image()
    )
    for value in (np.nan, np.inf, -np.inf):
        real[0, 0, 0, 3] = value
        assert f"input[0, 0, 0, 3] is {value}, not a finite" in refusal(
            load_inputs, write(npy(real)), network
        )


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 6), (24,), (), (4, 2, 3, 2), (2, 3), (4, 2, 3, 1, 1)])
def test_another_shape_is_refused_naming_both(shape, write):
    message = refusal(load_inputs, write(npy(np.zeros(shape, np.uint8))), image())
    assert f"an array of shape {shape} for the input input, which needs (N, 2, 3, 1)" in message


def test_an_image_of_several_channels_needs_them(write):
    assert "(N, 2, 3, 3)" in refusal(load_inputs, write(npy(PIXELS[..., 0])), image(shape=(2, 3, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not an array file"),
        (b"\x00\x00", "is not an array file"),
        (b"\x00\x00\x07\x01" + bytes(8), "is not an array file"),
        (b"\x00\x00\x08\x00", "is not an array file"),
        (IDX[:9], "header is cut short"),
        (IDX[:-1], "states 24 bytes of data, there are 23"),
        (IDX + b"\0", "states 24 bytes of data, there are 25"),
        (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "bytes of data, there are 0"),
        (gzip.compress(IDX, mtime=0)[:-9], "gzip data is damaged"),
        (
            gzip.compress(IDX, mtime=0)[:20] + b"\xff" + gzip.compress(IDX, mtime=0)[21:],
            "gzip data is damaged",
        ),
        (npy(PIXELS)[:-1], ".npy data is damaged"),
        (npy(PIXELS)[:30], ".npy data is damaged"),
        (npy(PIXELS).replace(b"(4, 2, 3, 1)", b"(4,2,9999,1)"), ".npy data is damaged"),
        (npy(PIXELS).replace(b"(4, 2, 3, 1)", b"(-4,-2, 3,1)"), ".npy data is damaged"),
        (npz(input=PIXELS)[:-30], ".npz archive is damaged"),
        (npz(), "holds no array"),
        (npy(PIXELS.astype(str)), "an array of <U"),
        (npy(PIXELS == 0), "truth values"),
        (npy(PIXELS.astype(complex)), "an array of complex128"),
        (npy(PIXELS[:0]), "holds no inference"),
    ],
)
def test_damage_is_refused(content, message, write):
    path = write(content)
    refused = refusal(load_inputs, path, image())
    assert refused.startswith(f"{path}: ")
    assert message in refused


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">HBB3I", 0, 8, 3, 0, *[2**32 - 1] * 2),
        struct.pack(">HBB255I", 0, 8, 255, *[1] * 255) + b"\0",
    ],
)
def test_a_shape_that_no_array_has(content, write):
    assert "its header states the shape (" in refusal(read_array, write(content))


class Unpacked:
    """How many bytes came out of gzip and zip streams."""

    def __init__(self, monkeypatch) -> None:
        self.count = 0
        for kind in (gzip.GzipFile, zipfile.ZipExtFile):
            monkeypatch.setattr(kind, "read", self._counting(kind.read))

    def _counting(self, read):
        def counted(stream, *arguments):
            data = read(stream, *arguments)
            self.count += len(data)
            return data

        return counted


@pytest.fixture
def unpacked(monkeypatch):
    return Unpacked(monkeypatch)


def zeros(head: bytes, size: int) -> bytes:
    """`head` and `size` zeros, gzipped: a few thousandths of that."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(head)
        for first in range(0, size, 1 << 20):
            stream.write(bytes(min(1 << 20, size - first)))
    return file.getvalue()


def npy_head(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def idx_head(*shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


BOMB = 1 << 27
"""Bytes: packed less than a hundredth of `PACKED_FLOOR`, so that the floor is what it may unpack to."""


@pytest.mark.parametrize("head", [npy_head((BOMB // 6, 2, 3)), idx_head(BOMB // 6, 2, 3)], ids=["npy", "idx"])
def test_a_packed_file_unpacks_to_no_more_than_its_bytes_make_likely(head, write, unpacked):
    path = write(zeros(head, BOMB // 6 * 6))
    message = refusal(load_inputs, path, image())
    assert message.startswith(f"{path}: states {BOMB // 6 * 6:,} bytes of data in ")
    assert message.endswith("; take fewer inferences, or store them unpacked")
    assert unpacked.count <= arrays.HEAD_BYTES
    # What is wanted of it is not much.
    assert load_inputs(path, image(), limit=5)["input"].shape == (5, 2, 3, 1)
    assert unpacked.count <= 3 * arrays.HEAD_BYTES


@pytest.mark.parametrize("head", [npy_head((4, 2, 3, 1)), idx_head(4, 2, 3)], ids=["npy", "idx"])
def test_a_stream_is_not_read_beyond_what_its_header_states(head, write, unpacked):
    message = refusal(load_inputs, write(zeros(head, BOMB)), image())
    assert "its header states 24 bytes of data, there are more" in message
    assert unpacked.count <= arrays.HEAD_BYTES


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (npy_head((1 << 40, 2, 3)), "more than this program unpacks"),
        (npy_head((1 << 20, 28, 28)), "which needs (N, 2, 3, 1)"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB), ".npy data is damaged"),
        (b"\x00\x00\x08\xff", "its header states|which needs"),
        (b"", "is not an array file"),
        (b"PK\x03\x04", "is not an array file"),
    ],
)
def test_a_header_decides_before_any_element_is_unpacked(head, said, write, unpacked):
    message = refusal(load_inputs, write(zeros(head, BOMB)), image())
    assert re.search(re.escape(said).replace(r"\|", "|"), message), message
    assert unpacked.count <= arrays.HEAD_BYTES


def test_members_of_an_archive_are_read_where_they_are_wanted(write, unpacked):
    def archive(*heads: tuple[str, bytes], size=BOMB, method=zipfile.ZIP_DEFLATED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method, compresslevel=1) as made:
            for name, head in heads:
                with made.open(f"{name}.npy", "w") as entry:
                    entry.write(head)
                    for _ in range(size >> 20):
                        entry.write(bytes(1 << 20))
        return file.getvalue()

    honest, short = npy_head((BOMB // 8, 2, 4)), npy_head((4, 2, 4))
    network = image(shape=(2, 4, 1))
    path = write(archive(("input", honest)))
    assert "more than this program unpacks" in refusal(load_inputs, path, network)
    assert unpacked.count <= arrays.HEAD_BYTES
    assert len(load_inputs(path, network, limit=9)["input"]) == 9
    # Labels of another file's size are never opened.
    unpacked.count = 0
    assert (
        len(load_inputs(write(archive(("input", honest), ("labels", honest))), network, limit=9)["input"])
        == 9
    )
    assert unpacked.count <= arrays.HEAD_BYTES
    message = refusal(load_inputs, write(archive(("input", short))), network)
    assert f"its header states 32 bytes of data, there are {BOMB}" in message
    # Together they may unpack to as much as one alone.
    half = npy_head((BOMB // 16, 2, 4))
    two = reads(Tensor("a", (2, 4, 1), UINT8), Tensor("b", (2, 4, 1), UINT8))
    path = write(archive(("a", half), ("b", half), size=BOMB // 2))
    assert "more than this program unpacks" in refusal(load_inputs, path, two)
    lzma = write(archive(("input", short), size=0, method=zipfile.ZIP_LZMA))
    assert "packed otherwise than numpy packs" in refusal(load_inputs, lzma, network)


def test_what_is_large_and_no_bomb_is_read(write):
    """Noise takes its own size packed; zeros up to the floor are a blank data set."""
    noise = np.random.default_rng(0).integers(0, 256, (1 << 18, 2, 3), np.uint8)
    assert np.array_equal(load_inputs(write(gzip.compress(npy(noise), 1)), image())["input"][..., 0], noise)
    blank = zeros(idx_head(arrays.PACKED_FLOOR // 6, 2, 3), arrays.PACKED_FLOOR // 6 * 6)
    assert len(load_inputs(write(blank), image())["input"]) == arrays.PACKED_FLOOR // 6


def test_a_limit_takes_the_front_in_either_order(write):
    for content in (
        npy(PIXELS),
        npy(np.asfortranarray(PIXELS)),
        gzip.compress(npy(np.asfortranarray(PIXELS))),
    ):
        for limit in (1, 3, 4, 5):
            found = load_inputs(write(content), image(), limit)["input"]
            assert np.array_equal(found, PIXELS[:limit])


def test_inputs_by_name_are_checked_before_anything_is_built(monkeypatch):
    network = reads(Tensor("a", (1, 1, 2), UINT8), Tensor("b", (1, 1, 1), INT8))
    a, b = np.zeros((3, 1, 1, 2), np.uint8), np.zeros((3, 1, 1, 1), np.int8)
    assert check_batch(network, {"a": a, "b": b}) == 3
    for given, message in [
        ({"a": a}, "network n: the inputs are a, b, not a; name each of them"),
        ({}, "network n: the inputs are a, b, not nothing; name each of them"),
        ({"a": a, "b": b, "c\n": b}, r"network n: the inputs are a, b, not a, b, c\n; name each of them"),
        (
            {"a": a, "b": b[:2]},
            "network n: inputs of different counts (a 3, b 2); the first axis counts inferences",
        ),
        ({"a": a[:0], "b": b[:0]}, "network n: a holds no inference; give at least one"),
        ({"a": a, "b": a}, "an array of shape (3, 1, 1, 2) for the input b, which needs (N, 1, 1, 1)"),
        ({"a": a, "b": np.int8(3)}, "an array of shape () for the input b"),
    ]:
        assert message in refusal(check_batch, network, given)
    assert refusal(check_batch, network, {}, "here").startswith("here: ")

    def built(*_: object) -> None:
        raise AssertionError("the machine was built before its inputs were checked")

    monkeypatch.setattr("intaglio.sim.simulator.run.build", built)
    digits = Path(intaglio.__file__).parent / "models" / "digits_sbnq4.txt"
    images = np.zeros((2, 8, 8, 1), np.uint8)
    for inputs in (
        {"image": images},
        {"input": images, "other": images},
        {"input": images[:0]},
        images[..., 0],
    ):
        refusal(intaglio.run, digits, inputs, config="sbnq8x8")
        refusal(intaglio.run_golden, digits, inputs)


def test_pickles_are_not_opened(write):
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    assert "an array of object" in refusal(load_inputs, write(file.getvalue()), image())


def test_an_archive_of_other_things(write):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "its entry readme.txt is not a numpy array" in refusal(
        load_inputs, write(file.getvalue()), image()
    )


def test_a_directory_a_missing_file_and_a_bad_limit(tmp_path, write):
    assert "is a directory" in refusal(load_inputs, tmp_path, image())
    assert "cannot be read" in refusal(load_inputs, tmp_path / "absent.npy", image())
    assert "must be 1 or more, not 0" in refusal(load_inputs, write(IDX), image(), limit=0)


@pytest.mark.parametrize("content", [npy(PIXELS), npz(input=PIXELS), IDX, gzip.compress(IDX, mtime=0)])
def test_prefixes_and_mutations_raise_nothing_else(content, write):
    draw = random.Random(20)
    refused = 0
    damaged = [content[:end] for end in range(len(content))]
    for _ in range(500):
        changed = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        damaged.append(bytes(changed))
    for number, variant in enumerate(damaged):
        try:
            load_inputs(write(variant), image())
        except NetworkError as error:
            refused += 1
            message = str(error)
        else:
            assert number >= len(content), "a prefix was taken for the whole"
            continue
        assert "\n" not in message
    assert refused > len(content)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.arange(9)),
        npz(input=PIXELS, labels=np.arange(9)),
        npz(classes=np.arange(9, dtype=np.uint8)),
        npy(np.arange(9)[:, None]),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(range(9)), mtime=0),
    ],
)
def test_labels(content, write):
    labels = load_labels(write(content), 7)
    assert labels.dtype == np.int64
    assert labels.tolist() == list(range(7))
    assert "9 labels for 10 inferences" in refusal(load_labels, write(content), 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([0, 3, -1])), "label 2 is -1"),
        (npy(np.array([0, 2**63, 1], np.uint64)), "label 1 is 9223372036854775808"),
        (npy(np.zeros(3)), "not float64 of shape (3,)"),
        (npy(np.eye(3, dtype=int)), "not int64 of shape (3, 3)"),
        (npy(np.array(3)), "not int64 of shape ()"),
        (npz(a=PIXELS, b=PIXELS), "has no labels among its arrays (a, b)"),
        (b"", "is empty"),
    ],
)
def test_bad_labels(content, message, write):
    assert message in refusal(load_labels, write(content), 3)


def test_one_array_is_one_array(write):
    assert "holds 2 arrays (a, b) where one is wanted" in refusal(read_array, write(npz(a=PIXELS, b=PIXELS)))


def test_mnist(shared):
    network = image(shape=(28, 28, 1))
    folder = shared / "data" / "mnist"
    inputs = load_inputs(folder / "t10k-images-idx3-ubyte.gz", network, limit=5)
    assert inputs["input"].shape == (5, 28, 28, 1)
    assert load_labels(folder / "t10k-labels-idx1-ubyte.gz", 5).tolist() == [7, 2, 1, 0, 4]
