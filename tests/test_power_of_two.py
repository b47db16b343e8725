# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import floor

import pytest

from intaglio.hdl.units.power_of_two import PowerOfTwo
from intaglio.hdl.units.rounding import Rounding
from tests.hdl_bench import check_stream, corners


def rounded(exact, mode):
    if mode is Rounding.FLOOR:
        return floor(exact)
    if mode is Rounding.HALF_UP:
        return floor(exact + Fraction(1, 2))
    if mode is Rounding.HALF_AWAY:
        nearest = floor(abs(exact) + Fraction(1, 2))
        return nearest if exact >= 0 else -nearest
    return round(exact)  # Python's own: ties to even


def rescale(accumulator_bits, output_bits, accumulator, bias, shift, low, high, mode):
    modulus = 2**accumulator_bits
    total = (accumulator + bias + modulus // 2) % modulus - modulus // 2
    return min(max(rounded(total / Fraction(2) ** shift, Rounding(mode)), low), high) % 2**output_bits


def check(accumulator_bits, output_bits, bias_bits, mode, inputs):
    unit = PowerOfTwo(accumulator_bits, output_bits, bias_bits, mode)
    fixed = {} if mode is None else {"mode": mode}
    check_stream(unit, inputs, lambda **x: rescale(accumulator_bits, output_bits, **x, **fixed))


def cases(accumulator_bits, output_bits, bias_bits, count=2500):
    rng = random.Random(10)
    sums, biases = corners(accumulator_bits), corners(bias_bits)
    for _ in range(count):
        k = rng.randint(1, output_bits)
        signed = rng.random() < 0.5
        yield {
            "accumulator": rng.choice(sums),
            "bias": rng.choice(biases) if rng.random() < 0.7 else 0,
            "shift": rng.randrange(-32, 32),
            "low": -(2 ** (k - 1)) if signed else 0,
            "high": 2 ** (k - 1) - 1 if signed else 2**k - 1,
        }


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize(
    ("accumulator_bits", "output_bits", "bias_bits"), [(24, 8, 24), (2, 16, 2), (9, 2, 5)]
)
def test_fixed_rounding(accumulator_bits, output_bits, bias_bits, mode):
    inputs = list(cases(accumulator_bits, output_bits, bias_bits))
    check(accumulator_bits, output_bits, bias_bits, mode, inputs)


@pytest.mark.parametrize(("accumulator_bits", "output_bits", "bias_bits"), [(32, 8, 32), (48, 16, 48)])
def test_rounding_at_run_time(accumulator_bits, output_bits, bias_bits):
    rng = random.Random(11)
    inputs = [
        {**x, "mode": rng.choice(list(Rounding))} for x in cases(accumulator_bits, output_bits, bias_bits)
    ]
    check(accumulator_bits, output_bits, bias_bits, None, inputs)


@pytest.mark.parametrize("mode", Rounding)
def test_every_sum_of_eight_bits(mode):
    inputs = [
        {"accumulator": total, "bias": 0, "shift": shift, "low": -8, "high": 7}
        for total in range(-128, 128)
        for shift in (-4, -3, -1, 0, 1, 2, 3, 5, 7, 8, 9)
    ]
    check(8, 4, None, mode, inputs)


def test_ties_go_to_even():
    shared = {"bias": 0, "shift": 1, "low": -8, "high": 7}
    inputs = [{"accumulator": total, **shared} for total in (-5, -3, -1, 1, 3, 5, 15)]
    results = [rescale(16, 4, **x, mode=Rounding.HALF_EVEN) for x in inputs]
    assert results == [-2 % 16, -2 % 16, 0, 0, 2, 2, 7]
    check(16, 4, 16, Rounding.HALF_EVEN, inputs * 20)


def test_defaults():
    unit = PowerOfTwo()
    assert (unit.accumulator_bits, unit.output_bits, unit.bias_bits, unit.latency) == (24, 8, 24, 4)
    assert unit.mode is Rounding.HALF_EVEN
    assert len(unit.i.payload.as_value()) == 24 + 24 + 6 + 9 + 9
    assert len(PowerOfTwo(mode=None).i.payload.as_value()) == 24 + 24 + 6 + 9 + 9 + 2


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((49,), ValueError, "`accumulator_bits` must be an integer from 2 to 48, not 49"),
        (("16",), TypeError, "`accumulator_bits` must be an integer from 2 to 48, not '16'"),
        ((16, 17), ValueError, "`output_bits` must be an integer from 2 to 16, not 17"),
        ((16, 4, 17), ValueError, "`bias_bits` must be an integer from 2 to 16, not 17"),
        ((16, 4, 8, "HALF_UP"), TypeError, "`mode` must be a Rounding or None, not 'HALF_UP'"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        PowerOfTwo(*parameters)
