# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import floor

import pytest

from intaglio.hdl.units.rounding import Rounding
from intaglio.hdl.units.rounding_shift import RoundingShift
from tests.hdl_bench import check_stream, corners


def divide(value, shift, mode):
    """By the quotient itself: the nearest integer, and where two are as near, which of them."""
    exact = Fraction(value, 1 << shift)
    below = floor(exact)
    if mode is Rounding.FLOOR or exact - below < Fraction(1, 2):
        return below
    if exact - below > Fraction(1, 2):
        return below + 1
    return {
        Rounding.HALF_UP: below + 1,
        Rounding.HALF_AWAY: below + 1 if value > 0 else below,
        Rounding.HALF_EVEN: below if below % 2 == 0 else below + 1,
    }[mode]


def cases(width, count=1500):
    rng = random.Random(2)
    values = corners(width)
    chosen = [(rng.choice(values), rng.randrange(32)) for _ in range(count)]
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    for shift in range(32):
        for quotient in (-2, -1, 0, 1, 2):
            for offset in (-1, 0, 1):
                tie = (quotient << shift) + ((1 << shift) >> 1) + offset
                chosen.append((min(max(tie, low), high), shift))
        chosen += [(low, shift), (high, shift)]
    return chosen


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("width", [5, 32])
def test_fixed_mode(width, mode):
    inputs = [{"value": v, "shift": n} for v, n in cases(width)]
    check_stream(RoundingShift(width, mode), inputs, lambda value, shift: divide(value, shift, mode))


@pytest.mark.parametrize("width", [2, 32, 40])
def test_mode_at_run_time(width):
    rng = random.Random(3)
    inputs = [{"value": v, "shift": n, "mode": rng.choice(list(Rounding))} for v, n in cases(width)]
    check_stream(RoundingShift(width), inputs, divide)


def test_defaults():
    unit = RoundingShift()
    assert (unit.width, unit.mode, unit.latency) == (32, None, 2)
    assert len(unit.i.payload.as_value()) == 32 + 5 + 2
    assert len(RoundingShift(8, Rounding.FLOOR).i.payload.as_value()) == 8 + 5


@pytest.mark.parametrize("width", [1, 129, -3])
def test_bad_width(width):
    with pytest.raises(ValueError, match=f"^`width` must be an integer from 2 to 128, not {width}$"):
        RoundingShift(width)


@pytest.mark.parametrize("width", ["8", 8.0, None, True])
def test_width_of_bad_type(width):
    with pytest.raises(TypeError, match="^`width` must be an integer from 2 to 128, not "):
        RoundingShift(width)


def test_bad_mode():
    with pytest.raises(TypeError, match="^`mode` must be a Rounding or None, not 2$"):
        RoundingShift(8, 2)
