import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.golden import clamp, rounding_right_shift, saturate, sqrdmulh, wrap
from intaglio.network import Rounding
from tests import golden_definitions as definitions

MODES = list(Rounding)
INT64 = st.integers(-(2**63), 2**63 - 1)
INT64_CORNERS = [
    s * (2**k) + d for k in range(64) for s in (1, -1) for d in (-1, 0, 1) if -(2**63) <= s * 2**k + d < 2**63
]


@pytest.mark.parametrize("mode", MODES)
def test_every_10_bit_number_by_every_shift(mode):
    x, n = np.meshgrid(np.arange(-512, 512), np.arange(63), indexing="ij")
    expected = [definitions.divide(int(a), int(b), mode) for a, b in zip(x.flat, n.flat, strict=True)]
    result = rounding_right_shift(x, n, mode)
    assert result.dtype == np.int64
    assert result.ravel().tolist() == expected


@pytest.mark.parametrize("mode", MODES)
def test_corners_of_int64_by_every_shift(mode):
    for n in range(63):
        expected = [definitions.divide(x, n, mode) for x in INT64_CORNERS]
        assert rounding_right_shift(INT64_CORNERS, n, mode).tolist() == expected, n


@pytest.mark.parametrize("mode", MODES)
@given(x=INT64, n=st.integers(0, 62))
def test_any_number(mode, x, n):
    assert rounding_right_shift(x, n, mode) == definitions.divide(x, n, mode)


@pytest.mark.parametrize("mode", MODES)
@given(quotient=st.integers(-(2**31), 2**31 - 1), n=st.integers(1, 30), off=st.integers(-1, 1))
def test_ties_and_their_neighbours(mode, quotient, n, off):
    x = quotient * 2**n + 2 ** (n - 1) + off
    assert rounding_right_shift(x, n, mode) == definitions.divide(x, n, mode)


@pytest.mark.parametrize(
    ("mode", "of_minus_12"),
    [(Rounding.FLOOR, -2), (Rounding.HALF_UP, -1), (Rounding.HALF_AWAY, -2), (Rounding.HALF_EVEN, -2)],
)
def test_minus_12_by_8(mode, of_minus_12):
    """Jacob et al., appendix B: RSHL makes -1 of -12 / 2**3, to nearest it is -2."""
    assert rounding_right_shift(-12, 3, mode) == of_minus_12


def test_each_mode_is_told_from_each():
    x = [-3, -1, 1, 3]  # halves: -1.5, -0.5, 0.5, 1.5
    assert [rounding_right_shift(x, 1, mode).tolist() for mode in MODES] == [
        [-2, -1, 0, 1],
        [-1, 0, 1, 2],
        [-2, -1, 1, 2],
        [-2, 0, 0, 2],
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_narrow_dtypes_shifted_beyond_their_width(mode, dtype):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        for n in (0, 1, *(n for n in (limits.bits - 1, limits.bits) if n < 62), 62):
            result = rounding_right_shift(np.array([value], dtype), np.uint8(n), mode)
            assert result.tolist() == [definitions.divide(int(value), n, mode)]


def test_shapes_broadcast():
    result = rounding_right_shift(np.zeros((2, 3, 1), int), np.zeros(4, int), Rounding.HALF_UP)
    assert result.shape == (2, 3, 4)
    assert np.ndim(rounding_right_shift(5, 1, Rounding.HALF_UP)) == 0
    assert rounding_right_shift([], 1, Rounding.HALF_EVEN).shape == (0,)


@pytest.mark.parametrize("n", [-1, 63, 64, 2**62])
def test_shift_out_of_range(n):
    with pytest.raises(ValueError, match=f"^`n` must be 0...62, not {n}$"):
        rounding_right_shift(1, [0, n], Rounding.FLOOR)


@pytest.mark.parametrize("x", [2**63, -(2**63) - 1, [0, 2**70], np.array([2**63], np.uint64)])
def test_number_out_of_64_bits(x):
    with pytest.raises(ValueError, match="^`x` must be "):
        rounding_right_shift(x, 1, Rounding.FLOOR)


@pytest.mark.parametrize("x", [1.0, True, "1", None, [2**70, 0.5]])
def test_not_integers(x):
    with pytest.raises(TypeError, match="^`x` must be integers, not "):
        rounding_right_shift(x, 1, Rounding.FLOOR)


def test_mode_that_is_none():
    with pytest.raises(TypeError, match="^`mode` must be a Rounding, not 'floor'$"):
        rounding_right_shift(1, 1, "floor")


@pytest.mark.parametrize("bits", range(2, 9))
def test_sqrdmulh_every_pair(bits):
    numbers = range(-(2 ** (bits - 1)), 2 ** (bits - 1))
    column = np.array(numbers)
    expected = [[definitions.sqrdmulh(a, b, bits) for b in numbers] for a in numbers]
    assert sqrdmulh(column[:, None], column[None, :], bits).tolist() == expected


def test_sqrdmulh_saturates_in_one_case_alone():
    low, high = -(2**31), 2**31 - 1
    assert sqrdmulh(low, low) == high
    assert sqrdmulh([low, low, high, high, low + 1], [high, low + 1, high, low, low + 1]).tolist() == [
        -high,
        high,
        high - 1,
        -high,
        high - 1,
    ]


CORNERS_32 = [
    s * 2**k + d for k in range(32) for s in (1, -1) for d in (-1, 0, 1) if -(2**31) <= s * 2**k + d < 2**31
]


def test_sqrdmulh_corners():
    a = np.array(CORNERS_32)
    expected = [[definitions.sqrdmulh(x, y) for y in CORNERS_32] for x in CORNERS_32]
    assert sqrdmulh(a[:, None], a[None, :]).tolist() == expected


@given(a=st.integers(-(2**31), 2**31 - 1), b=st.integers(-(2**31), 2**31 - 1))
def test_sqrdmulh_any_pair(a, b):
    assert sqrdmulh(a, b) == definitions.sqrdmulh(a, b)


@pytest.mark.parametrize(("a", "b", "name"), [(2**31, 0, "a"), (0, -(2**31) - 1, "b")])
def test_sqrdmulh_out_of_range(a, b, name):
    with pytest.raises(ValueError, match=f"^`{name}` must be -2147483648...2147483647, not "):
        sqrdmulh(a, b)


@pytest.mark.parametrize("bits", [1, 33])
def test_sqrdmulh_bad_width(bits):
    with pytest.raises(ValueError, match=f"^`bits` must be 2...32, not {bits}$"):
        sqrdmulh(0, 0, bits)


@pytest.mark.parametrize("bits", range(1, 64))
def test_wrap_corners_at_every_width(bits):
    assert wrap(INT64_CORNERS, bits).tolist() == [definitions.wrap(x, bits) for x in INT64_CORNERS]


def test_wrap_every_10_bit_number_to_4_bits():
    x = range(-512, 512)
    assert wrap(list(x), 4).tolist() == [definitions.wrap(v, 4) for v in x]


@pytest.mark.parametrize("bits", [0, 64])
def test_wrap_bad_width(bits):
    with pytest.raises(ValueError, match=f"^`bits` must be 1...63, not {bits}$"):
        wrap(0, bits)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 32, 62])
def test_saturate(bits, signed):
    low, high = definitions.integer_range(bits, signed)
    x = [*INT64_CORNERS, low - 1, low, low + 1, high - 1, high, high + 1]
    assert saturate(x, bits, signed).tolist() == [definitions.clamp(v, low, high) for v in x]


@pytest.mark.parametrize("bits", [0, 63])
def test_saturate_bad_width(bits):
    with pytest.raises(ValueError, match=f"^`bits` must be 1...62, not {bits}$"):
        saturate(0, bits)


def test_clamp():
    assert clamp([-5, -4, 0, 3, 4], -4, 3).tolist() == [-4, -4, 0, 3, 3]
    with pytest.raises(ValueError, match="^`low` must be at most `high`, not 1 over 0$"):
        clamp([0], 1, 0)
