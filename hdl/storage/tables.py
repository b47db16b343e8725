"""The elementwise engine's tables, one a lane."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.checks import check_integer
from intaglio.hdl.storage.memory import SyncMemory
from intaglio.spec.commands import TABLE_ENTRIES

__all__ = ["Tables"]

_ENTRY_BITS = 8


class Tables(wiring.Component):
    """`count` memories of TABLE_ENTRIES bytes: written `lanes` entries at a time, read one entry each.

    Latency: entries of a read follow in the next cycle, and stay until the next read. Throughput: one read and one
    write a cycle. Contents are undefined before they are written.

    Parameters
    ----------
    count : int
        Tables, 1…256.
    lanes : int
        Entries written at a time, a power of two, 2…128.

    Members
    -------
    write_enable : In(count)
        A bit a table.
    write_word : In(range(TABLE_ENTRIES // lanes))
        The first entry written, divided by `lanes`.
    write_data : In(lanes * 8)
    read_enable : In(1)
        All tables are read.
    indices : In(8) array
        The entry read, a table.
    entries : Out(8) array

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(self, count: int, lanes: int) -> None:
        self._count = check_integer("count", count, 1, 256)
        self._lanes = check_integer("lanes", lanes, 2, TABLE_ENTRIES // 2)
        if lanes & (lanes - 1):
            raise ValueError(f"`lanes` must be a power of two, not {lanes}")
        super().__init__(
            {
                "write_enable": In(count),
                "write_word": In(range(TABLE_ENTRIES // lanes)),
                "write_data": In(lanes * _ENTRY_BITS),
                "read_enable": In(1),
                "indices": In(exact_log2(TABLE_ENTRIES)).array(count),
                "entries": Out(_ENTRY_BITS).array(count),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lane_bits = exact_log2(self._lanes)
        for table in range(self._count):
            memory = SyncMemory(self._lanes * _ENTRY_BITS, TABLE_ENTRIES // self._lanes)
            m.submodules[f"table_{table}"] = memory
            lane = Signal(lane_bits, name=f"lane_{table}")
            with m.If(self.read_enable):
                m.d.sync += lane.eq(self.indices[table][:lane_bits])
            m.d.comb += [
                memory.write_enable.eq(self.write_enable[table]),
                memory.write_address.eq(self.write_word),
                memory.write_data.eq(self.write_data),
                memory.read_enable.eq(self.read_enable),
                memory.read_address.eq(self.indices[table][lane_bits:]),
                self.entries[table].eq(memory.read_data.word_select(lane, _ENTRY_BITS)),
            ]
        return m
