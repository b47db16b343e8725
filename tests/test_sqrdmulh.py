# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction
from math import floor

import pytest

from intaglio.hdl.units.sqrdmulh import SQRDMULH
from tests.hdl_bench import check_stream, corners


def multiply(a, b, width):
    """The product of two fractions, rounded half up to a fraction, at most the greatest one."""
    exact = Fraction(a * b, 1 << (width - 1))
    return min(floor(exact + Fraction(1, 2)), (1 << (width - 1)) - 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8])
def test_corners(depth):
    rng = random.Random(5)
    low = -(1 << 31)
    values = corners(32)
    inputs = [{"a": low, "b": low}, {"a": low, "b": low + 1}, {"a": low, "b": -low - 1}]
    inputs += [{"a": rng.choice(values), "b": rng.choice(values)} for _ in range(700)]
    inputs += [{"a": rng.randrange(low, -low), "b": rng.randrange(low, -low)} for _ in range(700)]
    check_stream(SQRDMULH(32, depth), inputs, lambda a, b: multiply(a, b, 32))


@pytest.mark.parametrize("width", [2, 5])
def test_every_pair(width):
    values = range(-(1 << (width - 1)), 1 << (width - 1))
    inputs = [{"a": a, "b": b} for a in values for b in values]
    check_stream(SQRDMULH(width, 2), inputs, lambda a, b: multiply(a, b, width))


def test_defaults():
    unit = SQRDMULH()
    assert (unit.width, unit.depth, unit.latency) == (32, 3, 3)
    assert [SQRDMULH(8, depth).latency for depth in (1, 2, 8)] == [1, 2, 8]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((1, 3), ValueError, "`width` must be an integer from 2 to 64, not 1"),
        ((65, 3), ValueError, "`width` must be an integer from 2 to 64, not 65"),
        (("w", 3), TypeError, "`width` must be an integer from 2 to 64, not 'w'"),
        ((8, 0), ValueError, "`depth` must be an integer from 1 to 8, not 0"),
        ((8, 9), ValueError, "`depth` must be an integer from 1 to 8, not 9"),
        ((8, 1.0), TypeError, "`depth` must be an integer from 1 to 8, not 1.0"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        SQRDMULH(*parameters)
