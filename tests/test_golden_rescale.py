import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.golden import affine, llsq, power_of_two, sbnq
from intaglio.golden.rescale import accumulator_bias, apply
from intaglio.network import (
    AffineRescale,
    LlsqRescale,
    NetworkError,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    Tensor,
    TensorType,
)
from tests import golden_definitions as definitions

MODES = list(Rounding)
ACCUMULATOR = st.integers(-(2**47), 2**47 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
WIDE = [
    s * 2**k + d for k in range(48) for s in (1, -1) for d in (-1, 0, 1) if -(2**47) <= s * 2**k + d < 2**47
]
NARROW = [x for x in WIDE if -(2**31) <= x < 2**31]
SIGNED = pytest.mark.parametrize("signed", [True, False])


@SIGNED
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_sbnq_every_10_bit_accumulator(bits, signed, relu):
    x, shift = np.meshgrid(np.arange(-512, 512), np.arange(-12, 13), indexing="ij")
    for bias in (-37, 0, 5):
        expected = [
            definitions.sbnq(int(a), bias, int(s), bits, signed, relu)
            for a, s in zip(x.flat, shift.flat, strict=True)
        ]
        assert sbnq(x, bias, shift, bits, signed, relu).ravel().tolist() == expected


@SIGNED
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32])
def test_sbnq_corners_of_48_bits_by_every_shift(bits, signed, relu):
    for shift in range(-62, 63):
        for bias in (0, 2**47 - 1, -(2**47)):
            expected = [definitions.sbnq(x, bias, shift, bits, signed, relu) for x in WIDE]
            assert sbnq(WIDE, bias, shift, bits, signed, relu).tolist() == expected, (shift, bias)


@given(
    x=ACCUMULATOR, bias=ACCUMULATOR, shift=st.integers(-62, 62), bits=st.integers(1, 32), signed=st.booleans()
)
def test_sbnq_any(x, bias, shift, bits, signed):
    for relu in (True, False):
        assert sbnq(x, bias, shift, bits, signed, relu) == definitions.sbnq(
            x, bias, shift, bits, signed, relu
        )


def test_sbnq_ranges():
    """The signed range lacks its least number; both saturate (SBNQ paper, section II.A and II.G)."""
    assert sbnq([-(2**40), 2**40], 0, 3, 4, True, False).tolist() == [-7, 7]
    assert sbnq([-(2**40), 2**40], 0, 3, 4, False, True).tolist() == [0, 15]


def test_sbnq_floors_and_shifts_left():
    assert sbnq([-1, -8, -9, 7, 8], 0, 3, 8, True, False).tolist() == [-1, -1, -2, 0, 1]
    assert sbnq([-3, 3, 100], 0, -2, 8, True, False).tolist() == [-12, 12, 127]
    assert sbnq(2**47 - 1, -(2**47), -32, 8, True, False) == 127


@pytest.mark.parametrize("double", [True, False])
def test_affine_corners(double):
    x = np.array(NARROW)
    for e in range(-31, 32):
        for m0 in (0, 1, 2**30, 2**30 + 1, 1518500250, 2**31 - 1, -(2**31), -1):
            expected = [definitions.affine(v, m0, e, 3, -128, 127, double) for v in NARROW]
            assert affine(x, m0, e, 3, -128, 127, double).tolist() == expected, (e, m0)


@pytest.mark.parametrize("double", [True, False])
@given(x=INT32, m0=st.integers(0, 2**31 - 1), e=st.integers(-31, 31), zero_point=st.integers(-128, 127))
def test_affine_any(double, x, m0, e, zero_point):
    # Clamped to 33 bits, so that a wrong high bit shows, and to int8, as networks do.
    for low, high in ((-(2**32), 2**32), (-128, 127)):
        assert affine(x, m0, e, zero_point, low, high, double) == definitions.affine(
            x, m0, e, zero_point, low, high, double
        )


@pytest.mark.parametrize("double", [True, False])
@given(
    quotient=st.integers(-130, 130),
    e=st.integers(-20, 0),
    off=st.integers(-2, 2),
    m0=st.integers(2**30, 2**31 - 1),
)
def test_affine_at_thresholds(double, quotient, e, off, m0):
    """Accumulators about half way between two outputs, where one rounding and two part."""
    x = (2 * quotient + 1) * 2 ** (30 - e) // m0 + off
    if -(2**31) <= x < 2**31:
        assert affine(x, m0, e, -1, -128, 127, double) == definitions.affine(x, m0, e, -1, -128, 127, double)


def test_affine_roundings_differ():
    """0.75 * 0.5 / 2: 3 * 2**30 / 2**31 is 1.5, which SQRDMULH makes 2 and the shift 1; exactly it is 0.375."""
    x, m0, e = 1, 3 * 2**29, -1
    assert affine(x, m0, e, 0, -128, 127, True) == 1
    assert affine(x, m0, e, 0, -128, 127, False) == 0


def test_affine_left_shift_wraps_at_32_bits():
    """2**30 << 1 is -2**31 in int32 (both TFLite runtimes); the single rounding has the exact product."""
    assert affine(2**30, 2**30, 1, 0, -128, 127, True) == -128
    assert affine(2**30, 2**30, 1, 0, -128, 127, False) == 127
    assert affine(2**30, 2**30, 2, 5, -128, 127, True) == 5


def test_affine_as_published():
    """Jacob et al., appendix B, through the whole rescale: M0 = 2**30 is a half, so -24 * 0.5 / 2**3 has a tie."""
    assert affine(-24, 2**30, -3, 0, -128, 127, True) == -2
    assert affine(-24, 2**30, -3, 0, -128, 127, False) == -2
    assert affine(24, 2**30, -3, 0, -128, 127, True) == 2


@SIGNED
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("mantissa", [1, 128, 129, 200, 255])
def test_llsq_every_10_bit_accumulator(bits, signed, mantissa):
    x, shift = np.meshgrid(np.arange(-512, 512), np.arange(32), indexing="ij")
    expected = [
        definitions.llsq(int(a), mantissa, int(s), bits, signed)
        for a, s in zip(x.flat, shift.flat, strict=True)
    ]
    assert llsq(x, mantissa, shift, bits, signed).ravel().tolist() == expected


@given(
    x=ACCUMULATOR,
    mantissa=st.one_of(st.just(1), st.integers(128, 255)),
    shift=st.integers(0, 31),
    bits=st.integers(1, 32),
    signed=st.booleans(),
)
def test_llsq_any(x, mantissa, shift, bits, signed):
    assert llsq(x, mantissa, shift, bits, signed) == definitions.llsq(x, mantissa, shift, bits, signed)


def test_llsq_uses_the_whole_signed_range_and_rounds_up():
    assert llsq([-1000, 1000, -12, -4, 4], 1, 3, 4, True).tolist() == [-8, 7, -1, 0, 1]


@SIGNED
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 8])
def test_power_of_two_every_10_bit_accumulator(bits, mode, signed):
    x, shift = np.meshgrid(np.arange(-512, 512), np.arange(-12, 13), indexing="ij")
    expected = [
        definitions.power_of_two(int(a), int(s), mode, bits, signed)
        for a, s in zip(x.flat, shift.flat, strict=True)
    ]
    assert power_of_two(x, shift, mode, bits, signed).ravel().tolist() == expected


@given(
    x=ACCUMULATOR,
    shift=st.integers(-62, 62),
    mode=st.sampled_from(MODES),
    bits=st.integers(1, 32),
    signed=st.booleans(),
)
def test_power_of_two_any(x, shift, mode, bits, signed):
    assert power_of_two(x, shift, mode, bits, signed) == definitions.power_of_two(
        x, shift, mode, bits, signed
    )


X = np.arange(-6000, 6000, 8).reshape(-1, 3)
"""Accumulators of three channels."""
PER_CHANNEL = [
    (
        SbnqRescale(bias=np.array([-343, 62, 0]), shift=np.array([7, 0, -3]), relu=False),
        TensorType(4, True),
        lambda x, c, r: definitions.sbnq(x, int(r.bias[c]), int(r.shift[c]), 4, True, False),
    ),
    (
        SbnqRescale(bias=np.array([-343, 62, 0]), shift=np.array([7, 0, -3]), relu=True),
        TensorType(8, False),
        lambda x, c, r: definitions.sbnq(x, int(r.bias[c]), int(r.shift[c]), 8, False, True),
    ),
    *(
        (
            AffineRescale(
                bias=np.array([1, 2, 3]),
                multiplier=np.array([2**30, 1518500250, 2**31 - 1]),
                exponent=np.array([-6, 1, -5]),
                double_rounding=double,
                low=-100,
                high=100,
            ),
            TensorType(8, True),
            lambda x, c, r: definitions.affine(
                x, int(r.multiplier[c]), int(r.exponent[c]), 9, -100, 100, r.double_rounding
            ),
        )
        for double in (True, False)
    ),
    (
        LlsqRescale(bias=np.array([1, 2, 3]), mantissa=np.array([1, 128, 255]), shift=np.array([0, 12, 14])),
        TensorType(4, False),
        lambda x, c, r: definitions.llsq(x, int(r.mantissa[c]), int(r.shift[c]), 4, False),
    ),
    *(
        (
            PowerOfTwoRescale(bias=np.array([1, 2, 3]), shift=np.array([-2, 0, 9]), rounding=mode),
            TensorType(16, True),
            lambda x, c, r: definitions.power_of_two(x, int(r.shift[c]), r.rounding, 16, True),
        )
        for mode in MODES
    ),
]


@pytest.mark.parametrize(("rescale", "kind", "expected"), PER_CHANNEL)
def test_apply_takes_each_channel_its_own_parameters(rescale, kind, expected):
    zero_point = 9 if isinstance(rescale, AffineRescale) else 0
    result = apply(rescale, X, Tensor("t", (3,), kind, zero_point=zero_point))
    assert result.dtype == kind.dtype
    assert result.tolist() == [[expected(int(x), c, rescale) for c, x in enumerate(row)] for row in X]


@pytest.mark.parametrize(("rescale", "kind", "expected"), PER_CHANNEL)
def test_bias_that_is_part_of_the_accumulator(rescale, kind, expected):
    bias = accumulator_bias(rescale)
    assert (bias is None) == isinstance(rescale, SbnqRescale)
    assert bias is None or bias.tolist() == [1, 2, 3]


def test_apply_refuses_what_the_output_cannot_hold():
    one = np.array([1])
    wide = AffineRescale(one, one, one, True, -128, 128)
    with pytest.raises(NetworkError, match=r"^tensor t: a clamp to -128...128 does not fit its type int8$"):
        apply(wide, [[0]], Tensor("t", (1,), TensorType(8, True)))
    for rescale in (
        SbnqRescale(one, one, True),
        LlsqRescale(one, one, one),
        PowerOfTwoRescale(one, one, MODES[0]),
    ):
        with pytest.raises(NetworkError, match="^tensor t: only the affine rescale has a zero point, not "):
            apply(rescale, [[0]], Tensor("t", (1,), TensorType(8, True), zero_point=1))
    with pytest.raises(TypeError, match="^`rescale` must be a rescale of the graph, not int$"):
        apply(3, [[0]], Tensor("t", (1,), TensorType(8, True)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sbnq(2**47, 0, 0, 8, True, True), "`accumulator` must be "),
        (lambda: sbnq(0, -(2**47) - 1, 0, 8, True, True), "`bias` must be "),
        (lambda: sbnq(0, 0, 63, 8, True, True), "`shift` must be -62...62, not 63"),
        (lambda: sbnq(0, 0, -63, 8, True, True), "`shift` must be -62...62, not -63"),
        (lambda: sbnq(0, 0, 0, 33, True, True), "`bits` must be 1...32, not 33"),
        (lambda: sbnq(0, 0, 0, 0, True, True), "`bits` must be 1...32, not 0"),
        (lambda: affine(2**31, 0, 0, 0, 0, 1, True), "`accumulator` must be "),
        (lambda: affine(0, 2**31, 0, 0, 0, 1, False), "`multiplier` must be "),
        (lambda: affine(0, 0, 32, 0, 0, 1, False), "`exponent` must be -31...31, not 32"),
        (lambda: affine(0, 0, 0, 2**33, 0, 1, False), "`zero_point` must be "),
        (lambda: affine(0, 0, 0, 0, 2, 1, False), "`low` must be at most `high`, not 2 over 1"),
        (lambda: llsq(-(2**47) - 1, 1, 0, 8, True), "`accumulator` must be "),
        (lambda: llsq(0, 127, 0, 8, True), "`mantissa` must be 1 or 128...255, not 127"),
        (lambda: llsq([0, 0], [1, 256], 0, 8, True), "`mantissa` must be 1 or 128...255, not 256"),
        (lambda: llsq(0, 1, 32, 8, True), "`shift` must be 0...31, not 32"),
        (lambda: llsq(0, 1, -1, 8, True), "`shift` must be 0...31, not -1"),
        (lambda: power_of_two(2**47, 0, Rounding.FLOOR, 8, True), "`accumulator` must be "),
        (lambda: power_of_two(0, 63, Rounding.FLOOR, 8, True), "`shift` must be -62...62, not 63"),
    ],
)
def test_out_of_range(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


@pytest.mark.parametrize("bad", [0.5, np.float32(1), None])
def test_not_integers(bad):
    for call in (
        lambda: sbnq(bad, 0, 0, 8, True, True),
        lambda: sbnq(0, bad, 0, 8, True, True),
        lambda: affine(bad, 0, 0, 0, 0, 1, True),
        lambda: llsq(0, bad, 0, 8, True),
        lambda: power_of_two(0, bad, Rounding.FLOOR, 8, True),
    ):
        with pytest.raises(TypeError, match="must be integers, not "):
            call()


@pytest.mark.parametrize("zero_point", [0, -128, 2**31, -(2**31), 2**32])
@pytest.mark.parametrize(
    ("low", "high"), [(-128, 127), (-(2**31), 2**31 - 1), (-(2**32), 2**32), (2**31, 2**32)]
)
def test_affine_in_either_width_of_words(zero_point, low, high):
    """Corners of what is clamped and added in 32 bits where that fits, in 64 where it does not."""
    corners = [-(2**31), -(2**31) + 1, -(2**30), -3, -1, 0, 1, 2, 2**30, 2**31 - 1]
    for multiplier in (0, 1 << 30, 2**31 - 1):
        for exponent in (0, -1, -2, -31):
            for accumulators in [corners, corners[3:8]]:
                result = affine(np.array(accumulators), multiplier, exponent, zero_point, low, high, True)
                assert result.tolist() == [
                    definitions.affine(x, multiplier, exponent, zero_point, low, high, True)
                    for x in accumulators
                ]


def test_affine_in_parts_of_any_shape(monkeypatch):
    monkeypatch.setattr("intaglio.golden.rescale._BLOCK_ELEMENTS", 7)
    rng = np.random.default_rng(1)
    multiplier, exponent = rng.integers(2**30, 2**31, 3), -rng.integers(0, 9, 3)
    for shape in [(3,), (5, 3), (2, 4, 3), (1, 1), (0, 3), (4, 1)]:
        x = rng.integers(-(2**20), 2**20, shape)
        whole = np.broadcast_arrays(x, multiplier, exponent)
        expected = [
            definitions.affine(value, m, e, -5, -128, 127, True)
            for value, m, e in zip(*(a.ravel().tolist() for a in whole), strict=True)
        ]
        result = affine(x, multiplier, exponent, -5, -128, 127, True)
        assert result.shape == whole[0].shape
        assert result.ravel().tolist() == expected
    per_element = rng.integers(2**30, 2**31, (6, 3))
    x = rng.integers(-(2**20), 2**20, (6, 3))
    assert affine(x, per_element, -4, 0, -128, 127, True).tolist() == [
        [definitions.affine(int(v), int(m), -4, 0, -128, 127, True) for v, m in zip(*rows, strict=True)]
        for rows in zip(x, per_element, strict=True)
    ]
