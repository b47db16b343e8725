"""What is trained, whatever the scheme: the layers of each data set's network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """Convolution of stride 1 that keeps height and width: odd `kernel`, padding ``(kernel - 1) / 2``."""

    channels: int
    kernel: int = 3


@dataclass(frozen=True)
class Pool:
    """Max pooling 2×2, stride 2, floor."""


@dataclass(frozen=True)
class Dense:
    """Fully connected, of the flattened input."""

    features: int


Layers = tuple[Conv | Pool | Dense, ...]

DEFINITIONS: dict[str, Layers] = {
    "digits": (Conv(16), Pool(), Conv(32), Pool(), Dense(10)),
    # The SBNQ authors' own MNIST network [sbnq: table I].
    "mnist": (Conv(16), Pool(), Conv(16), Pool(), Conv(16), Pool(), Dense(128), Dense(10)),
}
"""Every layer but a Pool is followed by its scheme's quantizer; the last one's output is signed."""
