"""Numbers in: what golden takes as an integer, and the range checks before numpy can lose a bit in silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

ACCUMULATOR_BITS = 48
"""The widest accumulator of a graph: what the rescales take."""


def as_int64(what: str, values: npt.ArrayLike) -> Integers:
    """`values` as int64, unchanged.

    Raises
    ------
    TypeError
        Where `values` are not integers (a bool or a float is none).
    ValueError
        Where one does not fit 64 bits.
    """
    array = np.asarray(values)
    if array.dtype == np.int64:
        return array
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype == object and all(isinstance(value, int) for value in array.flat):
        limits = np.iinfo(np.int64)
        require_range(what, array, limits.min, limits.max)
    elif array.dtype.kind not in "iu":
        raise TypeError(f"`{what}` must be integers, not {array.dtype}")
    elif array.dtype == np.uint64:
        require_range(what, array, 0, int(np.iinfo(np.int64).max))
    return array.astype(np.int64)


def require_range(what: str, values: npt.NDArray, low: int, high: int) -> None:
    """Raise ValueError, with the value, where one of `values` is outside `low`...`high`."""
    if values.size:
        least, greatest = int(values.min()), int(values.max())
        if least < low or greatest > high:
            raise ValueError(f"`{what}` must be {low}...{high}, not {least if least < low else greatest}")
