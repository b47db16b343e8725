# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import floor

import pytest

from intaglio.hdl.units.sbnq import SBNQ
from tests.hdl_bench import check_stream, corners


def rescale(bits, accumulator, bias, shift, relu, signed):
    difference = accumulator - bias
    if relu:
        difference = max(difference, 0)
    quotient = floor(Fraction(difference) / Fraction(2) ** shift)
    if signed:
        greatest = 2 ** (bits - 1) - 1
        return min(max(quotient, -greatest), greatest) % 2**bits
    return min(max(quotient, 0), 2**bits - 1)


@pytest.mark.parametrize(
    ("accumulator_bits", "output_bits", "bias_bits"),
    [(16, 4, None), (32, 8, 16), (8, 2, 24), (2, 16, 2), (48, 5, 48), (20, 2, None)],
)
def test_every_shift(accumulator_bits, output_bits, bias_bits):
    rng = random.Random(6)
    sums, biases = corners(accumulator_bits), corners(bias_bits or accumulator_bits)
    inputs = [
        {
            "accumulator": rng.choice(sums),
            "bias": rng.choice(biases) if rng.random() < 0.7 else 0,
            "shift": rng.randrange(-32, 32),
            "relu": rng.randrange(2),
            "signed": rng.randrange(2),
        }
        for _ in range(3000)
    ]
    check_stream(
        SBNQ(accumulator_bits, output_bits, bias_bits), inputs, lambda **x: rescale(output_bits, **x)
    )


def test_every_accumulator_of_eight_bits():
    inputs = [
        {"accumulator": accumulator, "bias": 3, "shift": shift, "relu": flags & 1, "signed": flags >> 1}
        for accumulator in range(-128, 128)
        for shift in (-5, -2, -1, 0, 1, 3, 8)
        for flags in range(4)
    ]
    check_stream(SBNQ(8, 4), inputs, lambda **x: rescale(4, **x))


def test_defaults():
    unit = SBNQ()
    assert (unit.accumulator_bits, unit.output_bits, unit.bias_bits, unit.latency) == (16, 4, 16, 3)
    assert len(unit.i.payload.as_value()) == 16 + 16 + 6 + 1 + 1


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((1,), ValueError, "`accumulator_bits` must be an integer from 2 to 64, not 1"),
        (("16",), TypeError, "`accumulator_bits` must be an integer from 2 to 64, not '16'"),
        ((16, 1), ValueError, "`output_bits` must be an integer from 2 to 16, not 1"),
        ((16, 17), ValueError, "`output_bits` must be an integer from 2 to 16, not 17"),
        ((16, 4, 65), ValueError, "`bias_bits` must be an integer from 2 to 64, not 65"),
        ((16, 4, 8.0), TypeError, "`bias_bits` must be an integer from 2 to 64, not 8.0"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        SBNQ(*parameters)
