"""The units that are emitted by themselves, each with the parameters it is emitted with."""

from collections.abc import Callable

from amaranth.lib import wiring

from intaglio.hdl.units.affine_rescale import AffineRescale
from intaglio.hdl.units.array import MacArray
from intaglio.hdl.units.llsq import LLSQ
from intaglio.hdl.units.mac import MAC
from intaglio.hdl.units.power_of_two import PowerOfTwo
from intaglio.hdl.units.rounding import Rounding
from intaglio.hdl.units.rounding_shift import RoundingShift
from intaglio.hdl.units.saturate import Clamp, Saturate
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.hdl.units.sqrdmulh import SQRDMULH

__all__ = ["units"]


def units() -> dict[str, Callable[[], wiring.Component]]:
    """Name of the Verilog module → what makes the component. Each has a ``latency``."""
    return {
        "rounding_shift": lambda: RoundingShift(32),
        "rounding_shift_floor": lambda: RoundingShift(32, Rounding.FLOOR),
        "rounding_shift_half_up": lambda: RoundingShift(32, Rounding.HALF_UP),
        "rounding_shift_half_away": lambda: RoundingShift(32, Rounding.HALF_AWAY),
        "rounding_shift_half_even": lambda: RoundingShift(32, Rounding.HALF_EVEN),
        "clamp": lambda: Clamp(32, 8),
        "saturate_signed": lambda: Saturate(32, 8, True),
        "saturate_unsigned": lambda: Saturate(32, 8, False),
        "sqrdmulh": lambda: SQRDMULH(32, 3),
        "sbnq": lambda: SBNQ(16, 4),
        "llsq_16_to_2": lambda: LLSQ(16, 2),
        "llsq_16_to_4": lambda: LLSQ(16, 4),
        "llsq_16_to_8": lambda: LLSQ(16, 8),
        "llsq_32_to_8": lambda: LLSQ(32, 8),
        "power_of_two": lambda: PowerOfTwo(24, 8, mode=None),
        "power_of_two_half_even": lambda: PowerOfTwo(24, 8),
        "affine_rescale": lambda: AffineRescale(32, 8, None),
        "affine_rescale_double": lambda: AffineRescale(32, 8, "double"),
        "affine_rescale_single": lambda: AffineRescale(32, 8, "single"),
        "mac_int8_int8": lambda: MAC("int8", "int8", 32),
        "mac_uint8_int8": lambda: MAC("uint8", "int8", 32),
        "mac_uint4_int4": lambda: MAC("uint4", "int4", 16),
        "mac_int8_ternary": lambda: MAC("int8", "ternary", 24),
        "mac_int8_binary": lambda: MAC("int8", "binary", 24),
        "mac_array_8x8_int8": lambda: MacArray(8, 8, "int8", "int8", 32),
        "mac_array_8x8_int8_depthwise": lambda: MacArray(8, 8, "int8", "int8", 32, depthwise_taps=5),
        "mac_array_32x7_int4": lambda: MacArray(32, 7, "uint4", "int4", 16),
    }
