"""What takes a layer's sums to its output's integers: one rescale a scheme, each with its rounding named.

Ref: Jacob et al., 2017, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
[jacob2017]
Ref: Guo et al., "Integer-Only Neural Network Quantization Scheme Based on Shift-Batch-Normalization" [sbnq]
Ref: "Linear Symmetric Quantization of Neural Networks for Low-Precision Integer Hardware" [llsq]
Ref: Fuengfusin and Tamukoh, "INT8 Activation Ternary or Binary Weights Networks" [itbwn]
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from intaglio.network.graph.tensors import Floats, Integers


class Rounding(enum.Enum):
    """How a signed ``x`` is divided by ``2**n``; in every mode ``n = 0`` returns ``x``."""

    FLOOR = "floor"
    """``x >> n``, towards minus infinity."""
    HALF_UP = "half_up"
    """``(x + 2**(n-1)) >> n``: to nearest, ties up (ARM's RSHL)."""
    HALF_AWAY = "half_away"
    """To nearest, ties away from zero (gemmlowp's ``RoundingDivideByPOT``)."""
    HALF_EVEN = "half_even"
    """To nearest, ties to even (``torch.round``, ONNX ``QuantizeLinear``)."""


@dataclass(frozen=True)
class SbnqRescale:
    """``clamp((acc - bias) >> shift)``, with ReLU before the shift if `relu` [sbnq: eq. 16, 19].

    `bias`, `shift`: one integer an output channel; a negative shift is a left shift. The clamp is to
    ``[-2**(N-1)+1, 2**(N-1)-1]`` for a signed output of N bits, to ``[0, 2**N-1]`` for an unsigned one.
    """

    bias: Integers
    shift: Integers
    relu: bool


@dataclass(frozen=True)
class AffineRescale:
    """``clamp(zero_point + rescale(acc + bias, multiplier, exponent), low, high)`` [jacob2017: eq. 4-7, app. B].

    `multiplier` (int32 M0) and `exponent` (e, positive = left) an output channel, ``M = M0 * 2**(e - 31)``.
    `double_rounding`: SQRDMULH, then HALF_AWAY shift (TFLM, gemmlowp); else one HALF_AWAY of the exact product.
    The output zero point is the output tensor's; `low`, `high` is the fused activation's range.
    `real`: float64 an output channel, where the runtime multiplies by that instead of `multiplier` and `exponent`: the
    product is rounded to float64, then half away from zero (LiteRT's fully connected layers). It is then single
    rounding, and `multiplier`, `exponent` are what hardware takes for it.
    """

    bias: Integers
    multiplier: Integers
    exponent: Integers
    double_rounding: bool
    low: int
    high: int
    real: Floats | None = None


@dataclass(frozen=True)
class LlsqRescale:
    """``clamp(HALF_UP((acc + bias) * mantissa, shift))``, mantissa 1 or 128...255, shift 0...31 [llsq: eq. 6]."""

    bias: Integers
    mantissa: Integers
    shift: Integers


@dataclass(frozen=True)
class PowerOfTwoRescale:
    """``clamp(round((acc + bias) / 2**shift))`` in a named rounding; a negative shift is a left shift [itbwn]."""

    bias: Integers
    shift: Integers
    rounding: Rounding


Rescale = SbnqRescale | AffineRescale | LlsqRescale | PowerOfTwoRescale


@dataclass(frozen=True)
class FixedPointScale:
    """A real factor ``multiplier * 2**(exponent - 31)`` of a whole layer, rounded as in AffineRescale."""

    multiplier: int
    exponent: int
    double_rounding: bool = True
