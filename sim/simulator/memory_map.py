"""Where a host puts the regions of a program in memory, and how much of each it grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intaglio.compiler.program import Program
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

PAGE_BYTES = 4096
"""Regions begin at multiples of it where nothing else is said: no burst crosses one."""


@dataclass(frozen=True)
class MemoryMap:
    """The base of each region and the bytes that are granted from there on; none of one that is not named."""

    bases: Mapping[Region, int]
    limits: Mapping[Region, int]

    @classmethod
    def of(
        cls, program: Program, config: AcceleratorConfig, bases: Mapping[Region, int] | None = None
    ) -> MemoryMap:
        """Grants a program what it needs, at these addresses; where they are not said, one behind the other from 0.

        Raises
        ------
        ValueError
            Where the program was compiled for another machine; where a region begins within a beat of the bus, ends
            beyond the machine's addresses, or meets another.
        """
        if program.fingerprint != config.fingerprint:
            raise ValueError(f"the program was compiled for another machine than {config.name}")
        sizes = {region: size for region, size in program.region_bytes.items() if size}
        if bases is None:
            bases, top = {}, 0
            for region, size in sizes.items():
                bases[region] = top
                top += -(-size // PAGE_BYTES) * PAGE_BYTES
        ends = [(bases[region], bases[region] + size, region) for region, size in sizes.items()]
        for base, end, region in ends:
            if base % config.bus_bytes or base < 0:
                raise ValueError(
                    f"the base of {region.name} must be a multiple of {config.bus_bytes}, not {base:#x}"
                )
            if end > 1 << config.address_bits:
                raise ValueError(
                    f"{region.name} ends at {end:#x}, beyond the machine's addresses of {config.address_bits} bits"
                )
        for (_, end, region), (base, _, other) in zip(sorted(ends), sorted(ends)[1:], strict=False):
            if base < end:
                raise ValueError(f"{region.name} ends at {end:#x}, behind {other.name}'s base {base:#x}")
        return cls({region: bases[region] for region in sizes}, sizes)
