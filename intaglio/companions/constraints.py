"""Constraints of a machine that is a design by itself: its clock, and no timing of its reset.

Of a machine within a design the clock is the design's.
"""

from __future__ import annotations

from intaglio.companions.ports import CLOCK, RESET

__all__ = ["CLOCK_MHZ", "lpf", "xdc"]

CLOCK_MHZ = 50.0
"""Asked for where nobody says another: an ECP5 of the slowest grade reaches it with room (docs/performance.md)."""

_NS_OF_MHZ = 1000


def xdc(name: str, clock_mhz: float) -> str:
    """Vivado's."""
    return f"""# {name} as a design by itself, {clock_mhz:g} MHz. In a larger design the clock is that design's.
create_clock -name {CLOCK} -period {_NS_OF_MHZ / clock_mhz:.3f} [get_ports {CLOCK}]
# After reset nothing moves before the first access of a register (docs/integration.md).
set_false_path -from [get_ports {RESET}]
"""


def lpf(name: str, clock_mhz: float) -> str:
    """nextpnr's for an ECP5; for other families it has no such file but its option ``--freq``."""
    return f"""# {name} as a design by itself, {clock_mhz:g} MHz. In a larger design the clock is that design's.
# nextpnr for other families: --freq {clock_mhz:g}
FREQUENCY PORT "{CLOCK}" {clock_mhz:g} MHZ;
# After reset nothing moves before the first access of a register (docs/integration.md).
BLOCK RESETPATHS;
"""
