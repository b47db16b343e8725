"""Integer tensors: their types, and what an element means.

Ref: ITBWN [itbwn: eq. 3], for weights of one bit
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TensorType:
    """A two's complement or unsigned integer of `bits` bits."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise NetworkError(f"a tensor's type must have 1 to 32 bits, not {self.bits}")

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype:
        """The narrowest numpy integer that holds the type."""
        width = next(w for w in (8, 16, 32) if self.bits <= w)
        return np.dtype(f"{'' if self.signed else 'u'}int{width}")

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"


@dataclass(frozen=True)
class BinaryType:
    """Weights of -1 and 1, one bit each; 0 is none of them [itbwn: eq. 3]."""

    bits = 1
    min = -1
    max = 1

    def __str__(self) -> str:
        return "binary"


WeightType = TensorType | BinaryType


@dataclass(frozen=True)
class Tensor:
    """One value that flows through the graph: `shape` without the batch, real value ``scale * (q - zero_point)``.

    `scale` is None where the format states none (integers mean themselves).
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    scale: float | None = None
    zero_point: int = 0

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))
