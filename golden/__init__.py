"""What each layer computes, in numpy integers: the model that the hardware is proven equal to."""

from golden.bounds import accumulator_bounds, channel_bounds
from golden.elementwise import unary_table
from golden.fixed_point import clamp, saturate, sqrdmulh, wrap
from golden.layers import average_pool2d, conv2d, depthwise_conv2d, fully_connected, max_pool2d
from golden.model import Result, run, run_batches
from golden.rescale import affine, affine_real, llsq, power_of_two, sbnq
from golden.rounding import rounding_right_shift

__all__ = [
    "Result",
    "accumulator_bounds",
    "affine",
    "affine_real",
    "average_pool2d",
    "channel_bounds",
    "clamp",
    "conv2d",
    "depthwise_conv2d",
    "fully_connected",
    "llsq",
    "max_pool2d",
    "power_of_two",
    "rounding_right_shift",
    "run",
    "run_batches",
    "saturate",
    "sbnq",
    "sqrdmulh",
    "unary_table",
    "wrap",
]
