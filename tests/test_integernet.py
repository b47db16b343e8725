"""The IntegerNet text: what is read from it, what is refused and where, and that writing is its inverse."""

import random

import numpy as np
import pytest

from intaglio.network import Conv2D, FullyConnected, MaxPool2D, Network, NetworkError, SbnqRescale, TensorType
from intaglio.network.formats.integernet import dump, dumps, load, loads
from intaglio.network.graph import PowerOfTwoRescale, Rounding
from intaglio.network.load import load as load_any


def authors_spacing(text: str) -> bytes:
    """The authors' writer puts a space after every number of a row, the last too."""
    headers = ("CONV", "FC", "UNSIGNEDQUAN", "SIGNEDQUAN", "POOL")
    rows = (row if not row or row.startswith(headers) else f"{row} " for row in text.split("\n"))
    return "\n".join(rows).encode()


SMALL = authors_spacing("""\
CONV CO 2 CI 1 H 5 W 4
1 2 3 4 5 6 7 -8 -7 -6 -5 -4 -3 -2 -1 0 1 2

UNSIGNEDQUAN C 2 H 5 W 4
BIAS -343 62
SHIFT 7 -1

POOL C 2 H 5 W 4

CONV CO 3 CI 2 H 2 W 2
1 -1 2 -2 3 -3

SIGNEDQUAN C 3 H 2 W 2
BIAS 0 10 -10
SHIFT 0 1 2

FC CI 12 CO 2
0 1 2 3 4 5 6 7 -8 -7 -6 -5 -4 -3 -2 -1 0 1 2 3 4 5 6 7

SIGNEDQUAN C 2 H 1 W 1
BIAS 59 -34
SHIFT 6 31

""")
VECTOR = b"FC CI 3 CO 1\n1 2 3 \n\nUNSIGNEDQUAN C 1 H 1 W 1\nBIAS 5 \nSHIFT 2 \n\n"


def same(left: Network, right: Network) -> bool:
    """Equality of two graphs, arrays by value."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return (value.shape, str(value.dtype), value.tolist())
        if hasattr(value, "__dataclass_fields__"):
            return (
                type(value).__name__,
                {key: plain(getattr(value, key)) for key in value.__dataclass_fields__},
            )
        if isinstance(value, tuple):
            return tuple(plain(item) for item in value)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    return plain(left) == plain(right)


def test_graph_of_a_small_file():
    network = loads(SMALL, name="small")
    assert [(layer.name, layer.op, layer.inputs, layer.output) for layer in network.layers] == [
        ("conv1", "Conv2D", ("input",), "conv1"),
        ("pool1", "MaxPool2D", ("conv1",), "pool1"),
        ("conv2", "Conv2D", ("pool1",), "conv2"),
        ("fc1", "FullyConnected", ("conv2",), "fc1"),
    ]
    assert network.inputs == ("input",)
    assert network.outputs == ("fc1",)
    assert {tensor.name: (tensor.shape, str(tensor.type)) for tensor in network.tensors.values()} == {
        "input": ((5, 4, 1), "uint8"),
        "conv1": ((5, 4, 2), "uint4"),
        "pool1": ((2, 2, 2), "uint4"),
        "conv2": ((2, 2, 3), "int4"),
        "fc1": ((2,), "int4"),
    }
    conv1, pool1, conv2, fc1 = network.layers
    assert isinstance(conv1, Conv2D)
    assert conv1.weights.shape == (2, 3, 3, 1)
    assert conv1.weights[0, :, :, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, -8, -7]]
    assert (conv1.padding, conv1.stride, conv1.accumulator_bits) == ((1, 1, 1, 1), (1, 1), 32)
    assert conv1.weight_type == TensorType(4, signed=True)
    assert isinstance(conv1.rescale, SbnqRescale)
    assert (conv1.rescale.bias.tolist(), conv1.rescale.shift.tolist(), conv1.rescale.relu) == (
        [-343, 62],
        [7, -1],
        True,
    )
    assert isinstance(pool1, MaxPool2D)
    assert (pool1.kernel, pool1.stride) == ((2, 2), (2, 2))
    assert isinstance(conv2, Conv2D)
    assert conv2.weights.tolist() == [[[[1, -1]]], [[[2, -2]]], [[[3, -3]]]]
    assert conv2.padding == (0, 0, 0, 0)
    assert isinstance(fc1, FullyConnected)
    assert isinstance(fc1.rescale, SbnqRescale)
    assert not fc1.rescale.relu


def test_fully_connected_weights_follow_the_flattening_of_the_graph():
    fc1 = loads(SMALL).layers[-1]
    assert isinstance(fc1, FullyConnected)
    for output in range(2):
        for channel in range(3):
            for y in range(2):
                for x in range(2):
                    in_file = ((channel * 2 + y) * 2 + x) * 2 + output
                    in_graph = (y * 2 + x) * 3 + channel
                    written = [*range(8), *range(-8, 8)][in_file]
                    assert fc1.weights[output, in_graph] == written


def test_a_network_may_begin_with_fc():
    network = loads(VECTOR)
    assert network.tensors["input"].shape == (3,)
    assert network.tensors["fc1"].type == TensorType(4, signed=False)


@pytest.mark.parametrize("content", [SMALL, VECTOR])
def test_round_trip(content, tmp_path):
    network = loads(content, name="copy")
    assert dumps(network).encode() == content
    dump(network, tmp_path / "copy.txt")
    assert same(load(tmp_path / "copy.txt"), network)
    assert same(load_any(tmp_path / "copy.txt"), network)


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits_set_every_type_but_the_input(bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    content = f"FC CI 2 CO 1\n{low} {high} \n\nSIGNEDQUAN C 1 H 1 W 1\nBIAS 0 \nSHIFT 0 \n\n"
    network = loads(content.encode(), bits)
    assert str(network.tensors["fc1"].type) == f"int{bits}"
    assert str(network.tensors["input"].type) == "uint8"
    for word, beyond in ((low, low - 1), (high, high + 1)):
        with pytest.raises(NetworkError, match=f":2: weight . is {beyond}, outside {low}...{high}"):
            loads(content.replace(f"{word} ", f"{beyond} ", 1).encode(), bits)


@pytest.mark.parametrize("bits", [1, 9, -4, True, 4.0, "4"])
def test_bits_out_of_range(bits):
    with pytest.raises(NetworkError, match="2 to 8 bits"):
        loads(SMALL, bits)


BIG = "9" * 5000
REFUSED = [
    ("CONV CO 2", "CONV CO two", 1, "CO of CONV 0 is 'two'"),
    ("CONV CO 2", "CONV CO 0", 1, "outside 1...65536"),
    ("CONV CO 2", "CONV CO -2", 1, "outside 1...65536"),
    ("CONV CO 2", "CONV CO 4000000000", 1, "outside 1...65536"),
    ("CONV CO 2", f"CONV CO {BIG}", 1, "not an integer"),
    ("CONV CO 2", "CONV CO 3", 2, "18 weights for CO 3 CI 1"),
    ("H 5 W 4\n1", "H 65536 W 65536\n1", 1, "the most is"),
    ("CONV CO 2 CI 1", "CONV CI 1 CO 2", 1, "must read"),
    ("CONV CO 2 CI 1 H 5 W 4", "CONV CO 2 CI 1 H 5", 1, "must read"),
    ("CONV CO 2 CI 1 H 5 W 4", "CONV CO 2 CI 1 H 5 W", 1, "must read"),
    ("1 2 3 4 5 6 7 -8", "1 2 3 4 5 6 7", 2, "17 weights"),
    ("1 2 3 4 5 6 7 -8", "1 2 3 4 5 6 7 8", 2, "weight 7 is 8, outside -8...7"),
    ("1 2 3 4 5 6 7 -8", "1 2 3 4 5 6 7 -9", 2, "weight 7 is -9, outside -8...7"),
    ("1 2 3 4 5 6 7 -8", "1 2 nan 4 5 6 7 -8", 2, "weight 2 is 'nan'"),
    ("1 2 3 4 5 6 7 -8", "1 2 1.5 4 5 6 7 -8", 2, "weight 2 is '1.5'"),
    ("1 2 3 4 5 6 7 -8", "1 2 1_0 4 5 6 7 -8", 2, "weight 2 is '1_0'"),
    ("1 2 3 4 5 6 7 -8", "1 2 -- 4 5 6 7 -8", 2, "weight 2 is '--'"),
    ("1 2 3 4 5 6 7 -8", f"1 2 {BIG} 4 5 6 7 -8", 2, "weight 2 is '999"),
    ("1 2 3 4 5 6 7 -8 -7", "1 2 3 4 5 6 7 -8\n-7", 2, "8 weights"),
    ("C 2 H 5 W 4\nB", "C 3 H 5 W 4\nB", 4, "states C 3 H 5 W 4, conv1 before it is C 2 H 5 W 4"),
    ("BIAS -343", "BIAS -2147483649", 5, "outside -2147483648...2147483647"),
    ("BIAS -343", "BIAS 2147483648", 5, "outside -2147483648...2147483647"),
    ("BIAS -343 62", "BIAS -343", 5, "1 numbers after BIAS"),
    ("BIAS -343 62", "BIAS -343 62 1", 5, "3 numbers after BIAS"),
    ("BIAS -343", "BIAS Infinity", 5, "'Infinity'"),
    ("BIAS -343 62 \nSHIFT 7 -1 ", "SHIFT 7 -1 \nBIAS -343 62 ", 5, "'SHIFT' where"),
    ("SHIFT 7", "SHIFT 32", 6, "outside -31...31"),
    ("SHIFT 7", "SHIFT -32", 6, "outside -31...31"),
    ("SHIFT 7 -1 \n", "", 7, "'POOL' where UNSIGNEDQUAN needs its SHIFT"),
    (
        "UNSIGNEDQUAN C 2 H 5 W 4\nBIAS -343 62 \nSHIFT 7 -1 \n\n",
        "",
        4,
        "POOL where conv1 (line 1) needs its quantizer",
    ),
    ("POOL C 2 H 5 W 4", "POOL C 2 H 4 W 4", 8, "states C 2 H 4 W 4, conv1 before it is C 2 H 5 W 4"),
    ("POOL C 2 H 5 W 4", "POOL C 2 H 5 W 4\n\nPOOL C 2 H 2 W 2\n\nPOOL C 2 H 1 W 1", 12, "leaves nothing"),
    (
        "POOL C 2 H 5 W 4",
        "SIGNEDQUAN C 2 H 5 W 4\nBIAS 0 0 \nSHIFT 0 0 ",
        8,
        "without a CONV or FC directly before",
    ),
    ("POOL C 2 H 5 W 4", "AVGPOOL C 2 H 5 W 4", 8, "'AVGPOOL' where a block must begin"),
    ("POOL C 2 H 5 W 4", "1 2 3", 8, "numbers where a block must begin"),
    (
        "CONV CO 3 CI 2 H 2 W 2",
        "CONV CO 3 CI 1 H 2 W 2",
        10,
        "states C 1 H 2 W 2, pool1 before it is C 2 H 2 W 2",
    ),
    ("FC CI 12", "FC CI 11", 17, "states CI 11, conv2 before it has 12"),
    ("FC CI 12 CO 2\n0 1", "FC CI 12 CO 2\n0", 18, "23 weights; CI 12 times CO 2 are 24"),
    ("SHIFT 6 31 \n", "SHIFT 6 31 \n\nPOOL C 2 H 1 W 1\n", 24, "fc1 before it is a vector"),
    ("SHIFT 6 31 \n\n", "SHIFT 6 31 ", 22, "does not end in a newline"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), REFUSED)
def test_malformed_file_is_refused_by_its_line(old, new, line, message, tmp_path):
    text = SMALL.decode()
    assert old in text
    path = tmp_path / "bad.txt"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(NetworkError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    "content", [b"", b" \n\n", b"\x00\xff\xfe" * 99, "CONV é\n".encode(), b"POOL C 1 H 2 W 2\n\n"]
)
@pytest.mark.parametrize("reader", [load, load_any])
def test_what_is_no_network_is_refused(reader, content, tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(NetworkError) as caught:
        reader(path)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [load, load_any])
def test_a_directory_and_a_missing_file(reader, tmp_path):
    with pytest.raises(NetworkError, match="is a directory; "):
        reader(tmp_path)
    with pytest.raises(NetworkError, match="cannot be read .No such file"):
        reader(tmp_path / "absent.txt")
    with pytest.raises(NetworkError, match="cannot be read"):
        reader("a\0b")
    with pytest.raises(NetworkError, match=r"line\\nbreak"):
        reader(tmp_path / "line\nbreak")


def test_a_text_too_large_to_hold_is_refused_at_once():
    with pytest.raises(NetworkError, match=":1: the text is larger than 64 MiB"):
        loads(SMALL + bytes(64 << 20))


def test_an_unknown_format_and_runtime(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x08\x07\x12")
    with pytest.raises(NetworkError, match="no known format; known are: IntegerNet text"):
        load_any(path)
    with pytest.raises(NetworkError, match="litert, tflm"):
        load_any(path, runtime="onnx")


def loaded_or_refused(content: bytes) -> Network | None:
    """None where it is refused, in one line; any other exception fails the test."""
    try:
        return loads(content)
    except NetworkError as error:
        message = str(error)
    assert "\n" not in message
    return None


@pytest.mark.parametrize("content", [SMALL, VECTOR])
def test_every_prefix_is_refused_or_a_shorter_network(content):
    """A prefix loads only where it is whole blocks, the last one a quantizer or a pool."""
    whole = [position + 2 for position in range(len(content)) if content[position : position + 2] == b"\n\n"]
    loaded = []
    for end in range(len(content)):
        network = loaded_or_refused(content[:end])
        if network is not None:
            assert end in whole or end + 1 in whole
            assert content.startswith(dumps(network).encode()[:-1])
            loaded.append(end)
    shorter = [end for end in whole if loaded_or_refused(content[:end])]
    assert loaded == sorted({*shorter, *(end - 1 for end in shorter)} - {len(content)})
    assert len(shorter) == (4 if content == SMALL else 1)


def test_mutations_raise_nothing_else():
    draw = random.Random(20)
    pieces = [
        b"0",
        b"-",
        b"9999999999",
        b"\n",
        b" ",
        b"CONV",
        b"FC",
        b"CO",
        b"\xff",
        b"1e3",
        b"\x00",
        b"\r",
        b"65536",
    ]
    words = SMALL.split(b" ")
    refused = 0
    for _ in range(4000):
        content = bytearray(SMALL)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            kind = draw.randrange(4)
            if kind == 0:
                content[at] = draw.randrange(256)
            elif kind == 1:
                del content[at : at + draw.randint(1, 40)]
            elif kind == 2:
                content[at:at] = draw.choice(pieces)
            else:
                content[at:at] = draw.choice(words) + b" "
        network = loaded_or_refused(bytes(content))
        if network is None:
            refused += 1
        else:
            assert same(loads(dumps(network).encode()), network)
    assert 3000 < refused < 4000


def test_what_the_format_cannot_say_is_not_written(tmp_path):
    network = loads(SMALL)
    conv1, pool1, *rest = network.layers
    assert isinstance(conv1, Conv2D)
    assert isinstance(pool1, MaxPool2D)

    def unsayable(*layers):
        changed = Network("changed", network.tensors, (*layers, *rest), network.inputs, network.outputs)
        with pytest.raises(NetworkError, match="cannot express"):
            dumps(changed)

    fields = {**vars(conv1)}
    rescale = PowerOfTwoRescale(conv1.rescale.bias, np.array([0, 0]), Rounding.FLOOR)
    unsayable(Conv2D(**{**fields, "rescale": rescale}), pool1)
    unsayable(Conv2D(**{**fields, "padding": (2, 0, 1, 1)}), pool1)
    unsayable(conv1, MaxPool2D(**{**vars(pool1), "kernel": (3, 2)}))
    with pytest.raises(NetworkError, match="cannot be written"):
        dump(network, tmp_path / "absent" / "x.txt")


def test_the_authors_own_file(shared):
    path = shared / "models" / "integernet_mnist_4bit" / "model.txt"
    network = load(path)
    assert [(layer.name, network.tensors[layer.output].shape) for layer in network.layers] == [
        ("conv1", (28, 28, 16)),
        ("pool1", (14, 14, 16)),
        ("conv2", (14, 14, 16)),
        ("pool2", (7, 7, 16)),
        ("conv3", (7, 7, 16)),
        ("pool3", (3, 3, 16)),
        ("fc1", (128,)),
        ("fc2", (10,)),
    ]
    assert [
        layer.weights.shape for layer in network.layers if isinstance(layer, Conv2D | FullyConnected)
    ] == [
        (16, 3, 3, 1),
        (16, 3, 3, 16),
        (16, 3, 3, 16),
        (128, 144),
        (10, 128),
    ]
    assert network.tensors["fc2"].type == TensorType(4, signed=True)
    assert dumps(network) == path.read_text()
