"""One number for every byte of memory, whatever its region: the stages before `encode.py` reason about places alone.

Regions are as far apart as an offset can reach, so that stretches of two never meet.
"""

from __future__ import annotations

from intaglio.spec.limits import MEMORY_OFFSET_BITS
from intaglio.spec.regions import Region

REGION_BYTES = 1 << MEMORY_OFFSET_BITS
"""What a region has room for."""


def address_of(region: Region, offset: int) -> int:
    """The number of the byte at an offset of a region."""
    return region * REGION_BYTES + offset


def region_of(address: int) -> tuple[Region, int]:
    """The region and the offset of a byte; the inverse of `address_of`."""
    return Region(address // REGION_BYTES), address % REGION_BYTES
