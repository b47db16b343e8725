import pytest

from intaglio.spec.operand import OperandType

RANGES = {
    "int8": (8, -128, 127),
    "uint8": (8, 0, 255),
    "int4": (4, -8, 7),
    "uint4": (4, 0, 15),
    "int2": (2, -2, 1),
    "uint2": (2, 0, 3),
    "int16": (16, -32768, 32767),
    "ternary": (2, -1, 1),
    "binary": (1, -1, 1),
}


@pytest.mark.parametrize("name", RANGES)
def test_range(name):
    operand = OperandType(name)
    assert (operand.bits, operand.min, operand.max) == RANGES[name]
    assert operand.signed == (operand.min < 0)
    assert str(operand) == name


@pytest.mark.parametrize("name", RANGES)
def test_every_value_survives_the_encoding(name):
    operand = OperandType(name)
    values = [v for v in range(operand.min, operand.max + 1) if name != "binary" or v]
    assert [operand.decode(operand.encode(v)) for v in values] == values


def test_ternary_and_binary_encodings():
    assert [OperandType("ternary").decode(p) for p in range(4)] == [0, 1, 0, -1]
    assert [OperandType("binary").decode(p) for p in range(2)] == [1, -1]


@pytest.mark.parametrize("name", ["int1", "int17", "float8", "int08", "", "uternary"])
def test_bad_name(name):
    with pytest.raises(ValueError, match=f"^`name` must be int2 .*, not '{name}'$"):
        OperandType(name)


def test_bad_type():
    with pytest.raises(TypeError, match="^`name` must be a string, not 8$"):
        OperandType(8)


def test_bad_value():
    with pytest.raises(ValueError, match="^`value` must be a value of int4, not 8$"):
        OperandType("int4").encode(8)
    with pytest.raises(ValueError, match="^`value` must be a value of binary, not 0$"):
        OperandType("binary").encode(0)
    with pytest.raises(ValueError, match="^`pattern` must be 4 bits, not 16$"):
        OperandType("int4").decode(16)
