"""Rescales as the machine takes them: a record for each channel, and what one command says of all channels.

A network's rescale is typed here, once; what comes after sees its scheme, its records and its limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from intaglio.compiler.steps import Conversion
from intaglio.network import (
    AffineRescale,
    LlsqRescale,
    NetworkError,
    PowerOfTwoRescale,
    SbnqRescale,
    Tensor,
)
from intaglio.network.graph import FixedPointScale, Integers, Rescale
from intaglio.spec.commands import Scheme
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import RESULT_BITS
from intaglio.spec.records import record_layout

WIDEST_SBNQ_BIAS_BITS = 48
"""Golden's sums and biases have no more."""


@dataclass(frozen=True)
class Rescaling:
    """`records`: an integer an output channel for each field of the scheme's record (`spec.records`)."""

    records: Mapping[str, Integers]
    conversion: Conversion

    @property
    def scheme(self) -> str:
        """As a configuration names it."""
        return self.conversion.scheme.name.lower()

    def with_records(self, **records: Integers) -> Rescaling:
        return replace(self, records={**self.records, **records})


def rescaling_of(rescale: Rescale, target: Tensor, config: AcceleratorConfig) -> Rescaling:
    """Raises NetworkError for a scheme that no machine carries."""
    kind = target.type
    match rescale:
        case SbnqRescale():
            # What SBNQ saturates to, which is symmetric for a signed type [sbnq: eq. 16].
            conversion = Conversion(
                Scheme.SBNQ, -kind.max if kind.signed else 0, kind.max, relu=rescale.relu, signed=kind.signed
            )
            return Rescaling({"bias": rescale.bias, "shift": rescale.shift}, conversion)
        case LlsqRescale():
            conversion = Conversion(Scheme.LLSQ, kind.min, kind.max, wide=kind.bits > config.element_bits)
            records = {"bias": rescale.bias, "mantissa": rescale.mantissa, "shift": rescale.shift}
            return Rescaling(records, conversion)
        case AffineRescale():
            return affine(
                target,
                rescale.bias,
                (rescale.multiplier, rescale.exponent),
                rescale.double_rounding,
                target.zero_point,
                (rescale.low, rescale.high),
            )
        case PowerOfTwoRescale():
            raise NetworkError(f"its rescale is {type(rescale).__name__}, which no machine implements")


def affine(
    target: Tensor,
    bias: Integers,
    factor: tuple[Integers, Integers],
    double: bool,
    zero_point: int,
    limits: tuple[int, int],
) -> Rescaling:
    """``clamp(zero_point + rescale(acc + bias, *factor), *limits)`` [jacob2017: eq. 5, 6]; a factor is a multiplier and
    an exponent."""
    conversion = Conversion(
        Scheme.AFFINE, *limits, zero_point=zero_point, double=double, signed=target.type.signed
    )
    return Rescaling({"bias": bias, "multiplier": factor[0], "exponent": factor[1]}, conversion)


def constant_factor(scale: FixedPointScale, channels: int) -> tuple[Integers, Integers]:
    """The same multiplier and exponent for each channel."""
    ones = np.ones(channels, np.int64)
    return scale.multiplier * ones, scale.exponent * ones


def rescale_problems(rescaling: Rescaling, target: Tensor, config: AcceleratorConfig) -> Iterator[str]:
    """Why a machine cannot rescale so."""
    scheme = rescaling.scheme
    if scheme not in config.rescales:
        yield f"its rescale is {scheme}, {config.name} has {', '.join(config.rescales)}"
        return
    most = RESULT_BITS if scheme == "llsq" else config.element_bits
    if target.type.bits > most:
        yield f"its output is {target.type}, {config.name}'s rescale writes at most {most} bits"
    if scheme == "llsq":  # any bias is taken modulo the accumulator's width, as the sum is
        return
    bits = record_layout(scheme, config.accumulator_bits)["bias"].bits
    limit = 1 << (min(bits, WIDEST_SBNQ_BIAS_BITS) - 1)
    bias = rescaling.records["bias"]
    outside = np.flatnonzero((bias < -limit) | (bias >= limit))
    if len(outside):
        channel = int(outside[0])
        yield (
            f"the bias of channel {channel} is {int(bias[channel]):,}, {config.name} takes {-limit:,}...{limit - 1:,}"
            + (f" (and {len(outside) - 1} more)" * (len(outside) > 1))
        )
