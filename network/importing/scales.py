"""Real scales as integers: a multiplier and an exponent, a range to clamp to, a rescale for each output channel.

Ref: Jacob et al., 2017 [jacob2017: eq. 5, 6]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intaglio.network.graph import AffineRescale, FixedPointScale, Integers, TensorType
from intaglio.network.importing.refusals import Refusal

ONE = FixedPointScale(1 << 30, 1)
"""A factor of 1."""


def quantized_multiplier(real: float) -> FixedPointScale:
    """``real`` as ``multiplier * 2**(exponent - 31)``, the multiplier of 31 bits; 0 where it is below 2**-32.

    The multiplier is rounded half up, as TFLite's `QuantizeMultiplier` does [jacob2017: eq. 6].

    Raises
    ------
    Refusal
        Where `real` is 2**30 or more, which no exponent of the graph holds.
    """
    fraction, exponent = math.frexp(abs(real))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    if exponent < -31 or not multiplier:
        return FixedPointScale(0, 0)
    if exponent > 30:
        raise Refusal(f"its scales ask for a factor of {real:.3g}, beyond 2**30")
    return FixedPointScale(-multiplier if real < 0 else multiplier, exponent)


def affine_rescale(
    bias: Integers, factors: Sequence[float], low: int, high: int, *, real: bool = False
) -> AffineRescale:
    """The rescale of sums by ``factors``, one an output channel or one for all [jacob2017: eq. 5].

    Parameters
    ----------
    bias
        int64, one an output channel, the input's zero point folded in.
    factors
        ``input scale * weight scale / output scale`` [jacob2017: eq. 5].
    low, high
        What the output is clamped to.
    real
        The runtime multiplies by the real factor itself and rounds once; see `AffineRescale`.
    """
    channels = len(bias)
    parts = [quantized_multiplier(factor) for factor in factors] * (channels if len(factors) == 1 else 1)
    return AffineRescale(
        bias,
        np.array([part.multiplier for part in parts], np.int64),
        np.array([part.exponent for part in parts], np.int64),
        double_rounding=not real,
        low=low,
        high=high,
        real=np.broadcast_to(np.array(factors), (channels,)).copy() if real else None,
    )


def clamp_range(
    low: float | None, high: float | None, scale: float, zero_point: int, kind: TensorType
) -> tuple[int, int]:
    """The real range `low`...`high` (None: no end) as integers of a tensor of type `kind`; quotients are float32's."""
    least = kind.min if low is None else max(kind.min, zero_point + _rounded_quotient(low, scale))
    greatest = kind.max if high is None else min(kind.max, zero_point + _rounded_quotient(high, scale))
    return least, greatest


def in_float32(a: float, b: float, divisor: float) -> float:
    """``a * b / divisor`` as float32 computes it; a Refusal where that is not finite."""
    with np.errstate(over="ignore"):
        result = float(np.float32(a) * np.float32(b) / np.float32(divisor))
    if not math.isfinite(result):
        raise Refusal("its scales leave the range of float32")
    return result


def _rounded_quotient(real: float, scale: float) -> int:
    """``real / scale`` in float32, rounded half away from zero."""
    with np.errstate(over="ignore"):
        quotient = float(np.float32(real) / np.float32(scale))
    if abs(quotient) > 2**31:
        raise Refusal(f"{real} is {quotient:.3g} steps of its output's scale")
    return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))
