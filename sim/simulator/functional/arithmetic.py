"""The roundings and rescales of `docs/arithmetic.md`, on int64 of any shapes that broadcast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_INT32 = -(1 << 31), (1 << 31) - 1
_Q0_31_HALF = 1 << 31
_48_17, _MINUS_32_17 = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29
_Q2_29_ONE = 1 << 29
_NEWTON_STEPS = 3


def wrap(x: Integers, bits: int) -> Integers:
    """The number of `bits` bits in two's complement that equals x modulo ``2**bits``."""
    half = 1 << (bits - 1)
    return ((x + half) & ((1 << bits) - 1)) - half


def half_away(x: Integers, n: Integers | int) -> Integers:
    """``x / 2**n`` to nearest, ties away from zero; n is 0...63, x more than ``-2**63``."""
    shift = np.asarray(n, np.uint64)
    half = np.left_shift(np.uint64(1), shift) >> np.uint64(1)
    magnitude = ((np.abs(x).view(np.uint64) + half) >> shift).view(np.int64)
    return np.where(x < 0, -magnitude, magnitude)


def sqrdmulh(a: Integers, b: Integers | int) -> Integers:
    """[jacob2017: eq. 6; app. B] of numbers of 32 bits."""
    return np.minimum((a * b + (1 << 30)) >> 31, _INT32[1])


def affine(x: Integers, multiplier: Integers | int, exponent: Integers | int, double: bool) -> Integers:
    """`x`, int32, by ``multiplier * 2**(exponent - 31)`` [jacob2017: eq. 5, 6]; in double rounding or single."""
    exponent = np.asarray(exponent, np.int64)
    if not double:
        return half_away(x * multiplier, 31 - exponent)
    left = np.maximum(exponent, 0)
    if left.any():
        x = wrap(x << left, 32)
    return half_away(sqrdmulh(x, multiplier), np.maximum(-exponent, 0))


def sbnq(sums: Integers, bias: Integers, shift: Integers, bits: int, relu: bool, signed: bool) -> Integers:
    """[sbnq: eq. 16, 19] with results of `bits` bits; a negative shift is one to the left, which saturates."""
    difference = sums - bias
    if relu:
        difference = np.maximum(difference, 0)
    # To the left, what is beyond the result's type stays beyond it; cut before, no shift leaves 64 bits.
    beyond = 1 << bits
    left = np.clip(difference, -beyond, beyond) << np.maximum(-shift, 0)
    shifted = np.where(shift < 0, left, difference >> np.maximum(shift, 0))
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    return np.clip(shifted, -high if signed else 0, high)


def llsq(sums: Integers, mantissa: Integers, shift: Integers) -> Integers:
    """[llsq: eq. 6] of sums with their bias: ``HALF_UP(sums * mantissa, shift)``."""
    half = (np.int64(1) << shift) >> 1
    return (sums * mantissa + half) >> shift


def softmax(x: Integers, table: Integers) -> Integers:
    """Of each run along the last axis of `x`, int8; `table` has exp(-d) in Q0.31 for d = 0...255 along its last axis,
    and for the first axis of `x` one row, or one each.
    """
    difference = (x.max(axis=-1, keepdims=True) - x).reshape(len(x), -1)
    exponential = np.take_along_axis(table, difference, axis=-1).reshape(x.shape)
    total = half_away(exponential, 12).sum(axis=-1, keepdims=True) & 0xFFFFFFFF
    zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    half = ((total << zeros) - _Q0_31_HALF + (1 << 31)) >> 1
    y = _48_17 + sqrdmulh(half, _MINUS_32_17)
    for _ in range(_NEWTON_STEPS):
        y = y + np.clip(sqrdmulh(y, _Q2_29_ONE - sqrdmulh(half, y)) << 2, *_INT32)
    scale = np.clip(y << 1, *_INT32)
    return np.clip(-128 + half_away(sqrdmulh(scale, exponential), 35 - zeros), -128, 127)
