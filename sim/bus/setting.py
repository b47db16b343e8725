"""What the tests of the masters share."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from intaglio.hdl.bus.axi_read import READABLE
from intaglio.hdl.bus.axi_write import WRITABLE
from intaglio.sim.bus.clients import ReadClient, ReadTransfer, WriteClient, WriteTransfer
from intaglio.sim.bus.memory import Habits, Memory
from intaglio.sim.bus.top import ADDRESS_BITS, INPUTS, READERS, REGIONS, WRITERS
from intaglio.sim.bus.watch import CACHE, PROTECTION, Watch
from intaglio.sim.lockstep import Stand
from intaglio.spec.regions import Region

__all__ = [
    "CACHE",
    "PROTECTION",
    "WHOLE",
    "begin",
    "drawn_reads",
    "drawn_writes",
    "finished",
    "grant",
    "pauses",
    "read_parts",
    "stand_of",
    "write_parts",
]

WHOLE = 0xFFFF_FFF0
"""The highest limit, in whole beats of either bus: the last beat of a region as large as can be is never granted."""


async def begin(dut: Any, name: str) -> Stand:
    """The stand of a test, after a reset."""
    stand = stand_of(dut, name)
    await stand.start()
    return stand


def stand_of(dut: Any, name: str) -> Stand:
    return Stand(dut, name, inputs=INPUTS)


def read_parts(stand: Stand, part: str, memory: Memory, habits: Habits) -> tuple[Watch, list[ReadClient]]:
    bursts, flying = READERS[part]
    watch = stand.add(Watch(stand.dut, part, max(bursts), flying))
    clients = [
        stand.add(ReadClient(stand, part, index, memory, 2 * longest, habits))
        for index, longest in enumerate(bursts)
    ]
    return watch, clients


def write_parts(stand: Stand, part: str, memory: Memory, habits: Habits) -> tuple[Watch, WriteClient]:
    watch = stand.add(Watch(stand.dut, part, *WRITERS[part]))
    return watch, stand.add(WriteClient(stand, part, memory, habits))


def grant(dut: Any, part: str, bases: Mapping[Region, int] | None = None, limit: int = WHOLE) -> None:
    """All of the part's regions up to a limit. Where bases are not said the first is 0, and no two are at one place."""
    for number, region in enumerate(REGIONS[part]):
        base = (number << ADDRESS_BITS[part] - 3) + 0xF50 * number if bases is None else bases.get(region, 0)
        getattr(dut, f"{part}_{region.name.lower()}_base").value = base
        getattr(dut, f"{part}_{region.name.lower()}_limit").value = limit
    getattr(dut, f"{part}_protection").value = PROTECTION
    getattr(dut, f"{part}_cache").value = CACHE


def finished(*clients: ReadClient | WriteClient) -> Callable[[], bool]:
    return lambda: all(client.finished for client in clients)


def drawn_reads(
    stand: Stand, count: int, longest: int = 700, regions: Sequence[Region] = READABLE
) -> list[ReadTransfer]:
    draw = stand.random
    transfers = []
    for _ in range(count):
        beats = draw.choice((1, 2, draw.randint(1, 40), draw.randint(1, longest)))
        page = draw.choice((0, 0x1000, draw.randrange(1 << 19) << 12))
        near = draw.choice((0, draw.randrange(4096), 4096 - draw.randrange(1, 200)))
        transfers.append(ReadTransfer(page + near, beats, draw.getrandbits(32), draw.choice(regions)))
    return transfers


def drawn_writes(stand: Stand, count: int, longest: int = 3000) -> list[WriteTransfer]:
    draw = stand.random
    lengths = (1, draw.randint(1, 17), draw.randint(1, 200), draw.randint(1, longest))
    return [
        WriteTransfer(transfer.offset, draw.choice(lengths), transfer.command, transfer.region)
        for transfer in drawn_reads(stand, count, regions=WRITABLE)
    ]


def pauses(stand: Stand) -> Iterator[bool]:
    """For cocotbext-axi: whether a channel is paused in a cycle."""
    for share in itertools.cycle((0.0, 0.3, 0.8, 0.5)):
        for _ in range(50):
            yield stand.random.random() < share
