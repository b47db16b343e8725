# amaranth: UnusedElaboratable=no
import random

import pytest

from intaglio.hdl.units.saturate import Clamp, Saturate
from tests.hdl_bench import check_stream, corners


@pytest.mark.parametrize(("width", "output_bits"), [(32, 8), (9, 9), (20, 2)])
def test_clamp(width, output_bits):
    rng = random.Random(4)
    values, limits = corners(width) + corners(output_bits), corners(output_bits)
    inputs = [
        {"value": rng.choice(values), "low": rng.choice(limits), "high": rng.choice(limits)}
        for _ in range(2000)
    ]
    assert any(x["low"] > x["high"] for x in inputs)
    check_stream(Clamp(width, output_bits), inputs, lambda value, low, high: min(max(value, low), high))


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize(("width", "output_bits"), [(32, 8), (9, 9), (9, 1), (12, 11)])
def test_saturate(width, output_bits, is_signed):
    low = -(1 << (output_bits - 1)) if is_signed else 0
    high = low + (1 << output_bits) - 1
    values = range(-(1 << (width - 1)), 1 << (width - 1)) if width <= 12 else corners(width)
    inputs = [{"value": value} for value in values]
    check_stream(
        Saturate(width, output_bits, is_signed), inputs, lambda value: min(max(value, low), high), bare=True
    )


def test_defaults():
    clamp, saturate = Clamp(), Saturate()
    assert (clamp.width, clamp.output_bits, clamp.latency) == (32, 8, 1)
    assert (saturate.width, saturate.output_bits, saturate.is_signed, saturate.latency) == (32, 8, True, 1)
    assert len(clamp.i.payload.as_value()) == 32 + 8 + 8


@pytest.mark.parametrize("unit", [Clamp, Saturate])
def test_bad_parameters(unit):
    with pytest.raises(ValueError, match="^`width` must be an integer from 2 to 128, not 1$"):
        unit(1)
    with pytest.raises(TypeError, match="^`width` must be an integer from 2 to 128, not '8'$"):
        unit("8")
    with pytest.raises(ValueError, match="^`output_bits` must be an integer from . to 16, not 17$"):
        unit(16, 17)
    with pytest.raises(TypeError, match="^`output_bits` must be an integer from . to 16, not None$"):
        unit(16, None)


def test_bad_sign():
    with pytest.raises(TypeError, match="^`is_signed` must be a bool, not 1$"):
        Saturate(8, 4, 1)
