# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import floor

import pytest

from intaglio.hdl.units.affine_rescale import AffineRescale, AffineRounding
from tests.hdl_bench import check_stream, corners


def half_away(exact):
    """The nearest integer; of two as near, the one farther from zero."""
    nearest = floor(abs(exact) + Fraction(1, 2))
    return nearest if exact >= 0 else -nearest


def rescale(accumulator, multiplier, exponent, zero_point, low, high, rounding):
    scale = Fraction(2) ** exponent
    if AffineRounding(rounding) is AffineRounding.SINGLE:
        scaled = half_away(Fraction(accumulator * multiplier, 2**31) * scale)
    else:
        wrapped = accumulator * 2 ** max(exponent, 0)
        wrapped = (wrapped + 2**31) % 2**32 - 2**31
        first = floor(Fraction(wrapped * multiplier, 2**31) + Fraction(1, 2))
        scaled = half_away(min(first, 2**31 - 1) * min(scale, 1))
    return min(max(scaled + zero_point, low), high)


def cases(accumulator_bits, output_bits, count=1500):
    rng = random.Random(7)
    sums, multipliers, outputs = corners(accumulator_bits), corners(32), corners(output_bits)
    for index in range(count):
        usual = index % 2
        size = rng.randrange(1, accumulator_bits)
        yield {
            "accumulator": rng.randrange(-(1 << size), 1 << size) if usual else rng.choice(sums),
            "multiplier": rng.randrange(1 << 30, 1 << 31) if usual else rng.choice(multipliers),
            "exponent": rng.randrange(-32, 32),
            "zero_point": rng.choice(outputs),
            "low": outputs[0] if usual else rng.choice(outputs),
            "high": outputs[-1] if usual else rng.choice(outputs),
        }


@pytest.mark.parametrize("rounding", AffineRounding)
@pytest.mark.parametrize(("accumulator_bits", "output_bits"), [(32, 8), (16, 9), (32, 32), (24, 2)])
def test_fixed_rounding(accumulator_bits, output_bits, rounding):
    unit = AffineRescale(accumulator_bits, output_bits, rounding.name.lower())
    check_stream(
        unit, list(cases(accumulator_bits, output_bits)), lambda **x: rescale(**x, rounding=rounding)
    )


def test_rounding_at_run_time():
    rng = random.Random(8)
    inputs = [{**x, "rounding": rng.choice(list(AffineRounding))} for x in cases(32, 32)]
    check_stream(AffineRescale(32, 32, None), inputs, rescale)


@pytest.mark.parametrize("exponent", range(-32, 32))
def test_ties_at_every_exponent(exponent):
    """Sums beside the threshold between quotients, of both signs, for a scale of a power of two."""
    # HALF_AWAY of `quotient + 1/2` exactly, where the exponent leaves a half to round.
    inputs = []
    for multiplier in (1 << 30, 3 << 29, -(1 << 31), 1):
        for quotient in (-3, -2, -1, 0, 1, 2):
            near = Fraction(2 * quotient + 1, 2) * 2**31 / multiplier / Fraction(2) ** exponent
            for offset in (-1, 0, 1):
                accumulator = min(max(floor(near) + offset, -(1 << 31)), (1 << 31) - 1)
                shared = {"accumulator": accumulator, "multiplier": multiplier, "exponent": exponent}
                for rounding in AffineRounding:
                    inputs.append({**shared, "zero_point": 1, "low": -128, "high": 127, "rounding": rounding})
    check_stream(AffineRescale(32, 8, None), inputs, rescale)


def test_defaults():
    unit = AffineRescale()
    assert (unit.accumulator_bits, unit.output_bits, unit.rounding, unit.latency) == (32, 8, "double", 8)
    assert len(unit.i.payload.as_value()) == 32 + 32 + 6 + 3 * 8
    assert len(AffineRescale(16, 9, None).i.payload.as_value()) == 16 + 32 + 6 + 3 * 9 + 1


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((7,), ValueError, "`accumulator_bits` must be an integer from 8 to 32, not 7"),
        ((33,), ValueError, "`accumulator_bits` must be an integer from 8 to 32, not 33"),
        ((None,), TypeError, "`accumulator_bits` must be an integer from 8 to 32, not None"),
        ((32, 1), ValueError, "`output_bits` must be an integer from 2 to 32, not 1"),
        ((32, 8.0), TypeError, "`output_bits` must be an integer from 2 to 32, not 8.0"),
        ((32, 8, "triple"), ValueError, '`rounding` must be "double", "single" or None, not \'triple\''),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        AffineRescale(*parameters)
