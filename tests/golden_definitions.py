"""What golden is tested against: the definitions, one number at a time, in Python's integers and fractions.

Written for the eye, from the papers; shares nothing with golden.
"""

import math
from fractions import Fraction

from network import Rounding


def divide(x: int, n: int, mode: Rounding) -> int:
    """``x / 2**n``, rounded."""
    exact = Fraction(x, 2**n)
    if mode is Rounding.FLOOR:
        return math.floor(exact)
    if mode is Rounding.HALF_UP:
        return math.floor(exact + Fraction(1, 2))
    if mode is Rounding.HALF_AWAY:
        magnitude = math.floor(abs(exact) + Fraction(1, 2))
        return magnitude if exact >= 0 else -magnitude
    return round(exact)  # Python's own: to nearest, ties to even


def clamp(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def integer_range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def wrap(x: int, bits: int) -> int:
    low = x % 2**bits
    return low - 2**bits if low >= 2 ** (bits - 1) else low


def sqrdmulh(a: int, b: int, bits: int = 32) -> int:
    """Twice the product's high half, to nearest, ties up, saturated."""
    return min(math.floor(Fraction(2 * a * b, 2**bits) + Fraction(1, 2)), 2 ** (bits - 1) - 1)


def sbnq(accumulator: int, bias: int, shift: int, bits: int, signed: bool, relu: bool) -> int:
    """Eq. 16 and 19 of the SBNQ paper; the signed range lacks its least number."""
    x = accumulator - bias
    if relu:
        x = max(x, 0)
    low, high = integer_range(bits, signed)
    return clamp(math.floor(x / Fraction(2) ** shift), low + 1 if signed else low, high)


def affine(x: int, m0: int, e: int, zero_point: int, low: int, high: int, double: bool) -> int:
    """Eq. 4 to 7 and appendix B of Jacob et al."""
    if double:
        product = sqrdmulh(wrap(x * 2 ** max(e, 0), 32), m0)
        return clamp(zero_point + divide(product, max(-e, 0), Rounding.HALF_AWAY), low, high)
    return clamp(zero_point + divide(x * m0, 31 - e, Rounding.HALF_AWAY), low, high)


def llsq(x: int, mantissa: int, shift: int, bits: int, signed: bool) -> int:
    """Eq. 6 of the LLSQ paper, rounded half up."""
    return clamp(divide(x * mantissa, shift, Rounding.HALF_UP), *integer_range(bits, signed))


def power_of_two(x: int, shift: int, mode: Rounding, bits: int, signed: bool) -> int:
    scaled = divide(x, shift, mode) if shift >= 0 else x * 2**-shift
    return clamp(scaled, *integer_range(bits, signed))


def window(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> list[list[int]]:
    """For each output position along an axis the input positions that it reads; those outside are padding."""
    positions = []
    start = -before
    while start + (kernel - 1) * dilation <= size - 1 + after:
        positions.append([start + k * dilation for k in range(kernel)])
        start += stride
    return positions


def conv2d(image, weights, stride, padding, dilation, padding_value) -> list:
    """One image as nested lists [y][x][c], weights [o][i][j][c]; the sums, [y][x][o]."""
    height, width = len(image), len(image[0])
    top, bottom, left, right = padding
    kernel_height, kernel_width = len(weights[0]), len(weights[0][0])

    def at(y, x, c):
        return image[y][x][c] if 0 <= y < height and 0 <= x < width else padding_value

    return [
        [
            [
                sum(
                    at(y, x, c) * weight
                    for y, kernel_row in zip(ys, kernel, strict=True)
                    for x, taps in zip(xs, kernel_row, strict=True)
                    for c, weight in enumerate(taps)
                )
                for kernel in weights
            ]
            for xs in window(width, kernel_width, stride[1], left, right, dilation[1])
        ]
        for ys in window(height, kernel_height, stride[0], top, bottom, dilation[0])
    ]


def max_pool2d(image, kernel, stride, padding) -> list:
    height, width, channels = len(image), len(image[0]), len(image[0][0])
    top, bottom, left, right = padding
    return [
        [
            [
                max(image[y][x][c] for y in ys if 0 <= y < height for x in xs if 0 <= x < width)
                for c in range(channels)
            ]
            for xs in window(width, kernel[1], stride[1], left, right, 1)
        ]
        for ys in window(height, kernel[0], stride[0], top, bottom, 1)
    ]
