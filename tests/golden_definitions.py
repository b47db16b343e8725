"""What golden is tested against: the definitions, one number at a time, in Python's integers and fractions.

Written for the eye, from the papers; shares nothing with golden.
"""

import math
from fractions import Fraction

from intaglio.network import Rounding

Factor = tuple[int, int]
"""M0 and e: ``M0 * 2**(e - 31)``."""


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


# int8 operators as both TFLite runtimes define them.


def affine_real(x: int, real: float, zero_point: int, low: int, high: int) -> int:
    """LiteRT's fully connected layers: float64's product of a sum and a factor, to nearest, ties away from zero."""
    exact = Fraction(float(x) * real)  # Python's float is float64
    magnitude = math.floor(abs(exact) + Fraction(1, 2))
    return clamp((magnitude if exact >= 0 else -magnitude) + zero_point, low, high)


def depthwise_conv2d(image, weights, stride, padding, dilation, padding_value) -> list:
    """One image [y][x][c], weights [o][i][j]; output channel o reads input channel o // (outputs / inputs)."""
    channels = len(image[0][0])
    multiplier = len(weights) // channels
    planes = [[[[pixel[c]] for pixel in row] for row in image] for c in range(channels)]
    sums = [
        conv2d(plane, [[[[w] for w in row] for row in kernel]], stride, padding, dilation, padding_value)
        for plane, kernel in zip((planes[o // multiplier] for o in range(len(weights))), weights, strict=True)
    ]
    return [[[plane[y][x][0] for plane in sums] for x in range(len(sums[0][0]))] for y in range(len(sums[0]))]


def average_pool2d(image, kernel, stride, padding) -> list:
    """To nearest, ties away from zero; what is outside the image takes no part."""
    height, width, channels = len(image), len(image[0]), len(image[0][0])
    top, bottom, left, right = padding

    def mean(ys, xs, c):
        inside = [image[y][x][c] for y in ys if 0 <= y < height for x in xs if 0 <= x < width]
        exact = Fraction(sum(inside), len(inside))
        magnitude = math.floor(abs(exact) + Fraction(1, 2))
        return magnitude if exact >= 0 else -magnitude

    return [
        [
            [mean(ys, xs, c) for c in range(channels)]
            for xs in window(width, kernel[1], stride[1], left, right, 1)
        ]
        for ys in window(height, kernel[0], stride[0], top, bottom, 1)
    ]


def add(a: int, b: int, first: Factor, second: Factor, total: Factor, left_shift: int, sign: int = 1) -> int:
    """A.2 of Jacob et al.: both operands, less their zero points, on a common scale."""
    ends = (-(2**31), 2**31 - 1)
    left = affine(a << left_shift, *first, 0, *ends, True)
    right = affine(b << left_shift, *second, 0, *ends, True)
    return affine(wrap(left + sign * right, 32), *total, 0, *ends, True)


class Fixed:
    """A fixed-point number of 32 bits: `raw` in units of ``2**(integer_bits - 31)`` [jacob2017: A.1; gemmlowp]."""

    def __init__(self, raw: int, integer_bits: int):
        assert -(2**31) <= raw < 2**31
        self.raw, self.integer_bits = raw, integer_bits

    @staticmethod
    def of(value: Fraction | float, integer_bits: int) -> "Fixed":
        """The nearest one; 1 has none in Q0.31, which ends just below."""
        raw = math.floor(Fraction(value) * Fraction(2) ** (31 - integer_bits) + Fraction(1, 2))
        return Fixed(min(raw, 2**31 - 1), integer_bits)

    def __add__(self, other: "Fixed") -> "Fixed":
        assert self.integer_bits == other.integer_bits
        return Fixed(self.raw + other.raw, self.integer_bits)

    def __sub__(self, other: "Fixed") -> "Fixed":
        assert self.integer_bits == other.integer_bits
        return Fixed(self.raw - other.raw, self.integer_bits)

    def __mul__(self, other: "Fixed") -> "Fixed":
        return Fixed(sqrdmulh(self.raw, other.raw), self.integer_bits + other.integer_bits)

    def times_power(self, exponent: int) -> "Fixed":
        """Times 2**exponent, in the same format: saturated to the left, rounded to the right."""
        if exponent < 0:
            return Fixed(divide(self.raw, -exponent, Rounding.HALF_AWAY), self.integer_bits)
        return Fixed(clamp(self.raw << exponent, -(2**31), 2**31 - 1), self.integer_bits)

    def rescaled(self, integer_bits: int) -> "Fixed":
        return Fixed(self.times_power(self.integer_bits - integer_bits).raw, integer_bits)


def exp_on_negative_values(x: Fixed) -> Fixed:
    """exp(x), x <= 0, in Q0.31: a polynomial on [-1/4, 0), and a factor exp(-2**k) for each bit of the rest."""
    if x.raw == 0:
        return Fixed(2**31 - 1, 0)
    fraction_bits = 31 - x.integer_bits
    quarter = 2 ** (fraction_bits - 2)
    rest = x.raw % quarter - quarter
    remainder = rest - x.raw
    a = Fixed(rest, x.integer_bits).rescaled(0)
    y = a + Fixed(2**28, 0)
    y2 = y * y
    y3, y4 = y2 * y, y2 * y2
    tail = (((y4.times_power(-2) + y3) * Fixed.of(Fraction(1, 3), 0)) + y2).times_power(-1)
    eighth = Fixed.of(math.exp(-1 / 8), 0)
    result = eighth + eighth * (y + tail)
    for k in range(-2, x.integer_bits):
        if remainder & 2 ** (fraction_bits + k):
            result = result * Fixed.of(math.exp(-(2.0**k)), 0)
    return result


def _two_over_one_plus(a: Fixed) -> Fixed:
    """2 / (1 + a) in Q2.29 for a in [0, 1] in Q0.31: Newton's steps from 48/17 - 32/17 d on."""
    denominator = Fixed(divide(a.raw + 2**31 - 1, 1, Rounding.HALF_AWAY), 0)
    x = Fixed.of(Fraction(48, 17), 2) + denominator * Fixed.of(Fraction(-32, 17), 2)
    for _ in range(3):
        error = Fixed(2**29, 2) - denominator * x
        x = x + (x * error).rescaled(2)
    return x


def one_over_one_plus(a: Fixed) -> Fixed:
    twice = _two_over_one_plus(a)
    return Fixed(twice.raw, twice.integer_bits - 1).rescaled(
        0
    )  # the same bits of half the unit: nothing is rounded


def logistic(x: Fixed) -> Fixed:
    if x.raw == 0:
        return Fixed(2**30, 0)
    positive = one_over_one_plus(exp_on_negative_values(Fixed(-abs(x.raw), x.integer_bits)))
    return positive if x.raw > 0 else Fixed(2**31 - 1 - positive.raw, 0)


def tanh(x: Fixed) -> Fixed:
    if x.raw == 0:
        return Fixed(0, 0)
    e = exp_on_negative_values(Fixed(-abs(x.raw), x.integer_bits + 1))
    magnitude = (_two_over_one_plus(e) - Fixed(2**29, 2)).rescaled(0)
    return magnitude if x.raw > 0 else Fixed(-magnitude.raw, 0)


def softmax(row: list[int], factor: Factor, least: int) -> list[int]:
    """A row of int8, in units of 1/256 from -128 on; `factor` takes a difference to Q5.26."""
    top = max(row)

    def exponential(value: int) -> Fixed:
        return exp_on_negative_values(Fixed(affine(value - top, *factor, 0, -(2**31), 2**31 - 1, True), 5))

    total = sum(exponential(v).rescaled(12).raw for v in row if v - top >= least)
    headroom = 32 - total.bit_length()
    reciprocal = one_over_one_plus(Fixed((total << headroom) - 2**31, 0))
    result = []
    for value in row:
        if value - top < least:
            result.append(-128)
            continue
        product = (reciprocal * exponential(value)).raw
        result.append(clamp(divide(product, 12 - headroom + 31 - 8, Rounding.HALF_AWAY) - 128, -128, 127))
    return result
