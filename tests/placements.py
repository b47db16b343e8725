"""Where a host may put a program's regions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from intaglio.compiler import Program
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

START = 0x1_2FC0
"""Of regions that touch: a multiple of 64 not far below a 4 KiB boundary."""


def used(program: Program) -> list[Region]:
    return [region for region, size in program.region_bytes.items() if size]


def placements(program: Program, config: AcceleratorConfig) -> Iterator[MemoryMap]:
    """The usual one; regions that touch; each region in turn at the top of the address space."""
    yield MemoryMap.of(program, config)
    yield touching(program, config, reversed(used(program)))
    for region in used(program):
        yield on_top(program, config, region)


def touching(program: Program, config: AcceleratorConfig, order: Iterable[Region]) -> MemoryMap:
    """One region at the end of the other."""
    bases, end = {}, START
    for region in order:
        bases[region] = end
        end += program.region_bytes[region]
    return MemoryMap.of(program, config, bases)


def on_top(program: Program, config: AcceleratorConfig, region: Region) -> MemoryMap:
    """The last byte of a region is the last of the address space."""
    others = touching(program, config, [other for other in used(program) if other is not region] + [region])
    top = (1 << config.address_bits) - program.region_bytes[region]
    return MemoryMap.of(program, config, {**others.bases, region: top})
