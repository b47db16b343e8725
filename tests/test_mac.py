# amaranth: UnusedElaboratable=no
import random

import pytest
from amaranth.back import rtlil

from intaglio.hdl.units.mac import MAC
from intaglio.spec.operand import OperandType
from tests.hdl_bench import run_stream

PAIRS = [
    ("int8", "int8"),
    ("uint8", "int8"),
    ("uint4", "int4"),
    ("int4", "int4"),
    ("uint8", "int4"),
    ("int4", "uint8"),
    ("uint2", "uint3"),
    ("uint2", "int2"),
    ("int8", "ternary"),
    ("uint8", "ternary"),
    ("int8", "binary"),
    ("uint4", "binary"),
]


def wrap(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def operand(value, of):
    """As the port wants it: integers as they are, the others as bits."""
    return value if of.is_integer else of.encode(value)


def sums(inputs, weight_type, bits):
    total, wanted = 0, []
    for value in inputs:
        weight = value["weight"] if weight_type.is_integer else weight_type.decode(value["weight"])
        total = wrap((0 if value["first"] else total) + value["activation"] * weight, bits)
        if value["last"]:
            wanted.append(total)
    return wanted


def stream(activation, weight, count=1500):
    rng = random.Random(9)
    values = [w for w in range(weight.min, weight.max + 1) if weight.is_integer or w or weight.is_ternary]
    extremes = [activation.min, activation.max]
    for _ in range(count):
        chosen = rng.choice(extremes) if rng.random() < 0.3 else rng.randint(*extremes)
        yield {
            "activation": chosen,
            "weight": operand(rng.choice([values[0], values[-1], rng.choice(values)]), weight),
            "first": rng.random() < 0.1,
            "last": rng.random() < 0.2,
        }


@pytest.mark.parametrize("accumulator_bits", [8, 16, 32, 48])
@pytest.mark.parametrize(("activation", "weight"), PAIRS)
def test_sums(activation, weight, accumulator_bits):
    weight_type = OperandType(weight)
    inputs = list(stream(OperandType(activation), weight_type, 400))
    inputs[-1]["last"] = True
    wanted = sums(inputs, weight_type, accumulator_bits)
    for stalls in (0.0, 0.4):
        unit = MAC(activation, weight, accumulator_bits)
        outputs, _, cycles = run_stream(unit, inputs, expected=len(wanted), stalls=stalls)
        assert outputs == wanted
        if not stalls:
            assert cycles <= len(inputs) + unit.latency


@pytest.mark.parametrize(("activation", "weight"), PAIRS)
def test_every_product(activation, weight):
    a, w = OperandType(activation), OperandType(weight)
    inputs = [
        {"activation": x, "weight": w.decode(y) if w.is_integer else y, "first": 1, "last": 1}
        for x in range(a.min, a.max + 1)
        for y in range(1 << w.bits)
    ]
    inputs = inputs if len(inputs) <= 4096 else random.Random(10).sample(inputs, 4096)
    outputs, latency, cycles = run_stream(MAC(a, w, 32), inputs, expected=len(inputs))
    assert outputs == sums(inputs, w, 32)
    assert latency == MAC().latency == 2
    assert cycles == len(inputs) + latency


@pytest.mark.parametrize("weight", ["ternary", "binary"])
@pytest.mark.parametrize("activation", ["int8", "uint8", "uint4"])
def test_no_multiplier(activation, weight):
    text = rtlil.convert(MAC(activation, weight, 24), name="mac")
    assert "$mul" not in text
    assert "$mul" in rtlil.convert(MAC(activation, "int8", 24), name="mac")


def test_defaults():
    unit = MAC()
    assert (unit.activation, unit.weight) == (OperandType("int8"), OperandType("int8"))
    assert (unit.accumulator_bits, unit.latency) == (32, 2)
    assert len(unit.i.payload.as_value()) == 8 + 8 + 2
    assert len(MAC("uint4", "binary").i.payload.as_value()) == 4 + 1 + 2


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (("int9",), ValueError, "`activation` must be of at most 8 bits, not int9"),
        (("int8", "uint16"), ValueError, "`weight` must be of at most 8 bits, not uint16"),
        (("ternary",), ValueError, "`activation` must be an integer type, not ternary"),
        ((8,), TypeError, "`activation` must be an OperandType or its name, not 8"),
        (("int8", None), TypeError, "`weight` must be an OperandType or its name, not None"),
        (("int8", "int8", 7), ValueError, "`accumulator_bits` must be an integer from 8 to 48, not 7"),
        (("int8", "int8", 49), ValueError, "`accumulator_bits` must be an integer from 8 to 48, not 49"),
        (("int8", "int8", "32"), TypeError, "`accumulator_bits` must be an integer from 8 to 48, not '32'"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        MAC(*parameters)
