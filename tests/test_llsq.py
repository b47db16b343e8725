# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import ceil, floor

import pytest

from intaglio.hdl.units.llsq import LLSQ
from tests.hdl_bench import check_stream, corners


def limits(bits, signed):
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def rescale(accumulator_bits, output_bits, accumulator, bias, mantissa, shift, low, high):
    modulus = 2**accumulator_bits
    total = (accumulator + bias + modulus // 2) % modulus - modulus // 2
    rounded = floor(Fraction(total * mantissa, 2**shift) + (Fraction(1, 2) if shift else 0))
    return min(max(rounded, low), high) % 2**output_bits


def check(accumulator_bits, output_bits, bias_bits, inputs):
    unit = LLSQ(accumulator_bits, output_bits, bias_bits)
    check_stream(unit, inputs, lambda **x: rescale(accumulator_bits, output_bits, **x))


@pytest.mark.parametrize(
    ("accumulator_bits", "output_bits", "bias_bits"),
    [(16, 4, None), (16, 2, 8), (16, 8, None), (32, 8, 32), (2, 16, 2), (48, 16, 48), (9, 2, 5)],
)
def test_every_shift(accumulator_bits, output_bits, bias_bits):
    rng = random.Random(9)
    sums, biases = corners(accumulator_bits), corners(bias_bits or accumulator_bits)
    inputs = []
    for _ in range(3000):
        low, high = limits(rng.randint(1, output_bits), rng.random() < 0.5)
        inputs.append(
            {
                "accumulator": rng.choice(sums),
                "bias": rng.choice(biases) if rng.random() < 0.7 else 0,
                "mantissa": rng.choice((0, 1, 127, 128, 255, rng.randrange(256))),
                "shift": rng.randrange(32),
                "low": low,
                "high": high,
            }
        )
    check(accumulator_bits, output_bits, bias_bits, inputs)


@pytest.mark.parametrize("mantissa", [1, 128, 171, 255])
def test_thresholds_at_every_shift(mantissa):
    """The sums on both sides of each step of a 4-bit result, those past its ends too."""
    inputs = []
    for signed in (False, True):
        low, high = limits(4, signed)
        for shift in range(32):
            for result in range(low, high + 2):
                step = ceil((result - (Fraction(1, 2) if shift else 0)) * 2**shift / mantissa)
                for total in (step - 1, step):
                    if -(2**23) <= total < 2**23:
                        shared = {"bias": 0, "mantissa": mantissa, "shift": shift, "low": low, "high": high}
                        inputs.append({"accumulator": total, **shared})
    check(24, 4, None, inputs)


def test_every_mantissa_of_eight_bit_sums():
    inputs = [
        {"accumulator": total, "bias": 0, "mantissa": mantissa, "shift": 9, "low": -8, "high": 7}
        for total in range(-128, 128, 3)
        for mantissa in range(256)
    ]
    check(8, 4, None, inputs)


def test_the_sum_wraps():
    shared = {"mantissa": 1, "shift": 12, "low": -8, "high": 7}
    inputs = [
        {"accumulator": 32767, "bias": 1, **shared},
        {"accumulator": -32768, "bias": -1, **shared},
        {"accumulator": 32767, "bias": 32767, **shared},
        {"accumulator": -32768, "bias": -32768, **shared},
    ]
    # -32768 / 4096, 32767 / 4096 (half up: 8, clamped), -2 / 4096, 0.
    assert [rescale(16, 4, **x) for x in inputs] == [8, 7, 0, 0]
    check(16, 4, 16, inputs * 20)


def test_ties_go_up():
    shared = {"bias": 0, "mantissa": 128, "shift": 8, "low": -8, "high": 7}
    inputs = [{"accumulator": total, **shared} for total in (-5, -3, -1, 1, 3, 5, 13, 15, -15, -17)]
    assert [rescale(16, 4, **x) for x in inputs] == [-2 % 16, -1 % 16, 0, 1, 2, 3, 7, 7, -7 % 16, -8 % 16]
    check(16, 4, 16, inputs * 20)


def test_defaults():
    unit = LLSQ()
    assert (unit.accumulator_bits, unit.output_bits, unit.bias_bits, unit.latency) == (16, 4, 16, 4)
    assert len(unit.i.payload.as_value()) == 16 + 16 + 8 + 5 + 5 + 5


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((1,), ValueError, "`accumulator_bits` must be an integer from 2 to 48, not 1"),
        ((49,), ValueError, "`accumulator_bits` must be an integer from 2 to 48, not 49"),
        (("16",), TypeError, "`accumulator_bits` must be an integer from 2 to 48, not '16'"),
        ((16, 1), ValueError, "`output_bits` must be an integer from 2 to 16, not 1"),
        ((16, 17), ValueError, "`output_bits` must be an integer from 2 to 16, not 17"),
        ((16, 4, 1), ValueError, "`bias_bits` must be an integer from 2 to 16, not 1"),
        ((16, 4, 17), ValueError, "`bias_bits` must be an integer from 2 to 16, not 17"),
        ((16, 4, 8.0), TypeError, "`bias_bits` must be an integer from 2 to 16, not 8.0"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        LLSQ(*parameters)
