"""What each layer computes, in numpy integers: the model that the hardware is proven equal to."""

from intaglio.golden.bounds import accumulator_bounds, channel_bounds
from intaglio.golden.elementwise import unary_table
from intaglio.golden.fixed_point import clamp, saturate, sqrdmulh, wrap
from intaglio.golden.layers import average_pool2d, conv2d, depthwise_conv2d, fully_connected, max_pool2d
from intaglio.golden.model import Result, run, run_batches
from intaglio.golden.rescale import affine, affine_real, llsq, power_of_two, sbnq
from intaglio.golden.rounding import rounding_right_shift

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
