"""The elementwise engine's tables, each read by some of its lanes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.checks import check_integer
from intaglio.spec.commands import TABLE_ENTRIES

__all__ = ["Tables"]

_ENTRY_BITS = 8


class Tables(wiring.Component):
    """`count` memories of TABLE_ENTRIES bytes: written `lanes` entries at a time, read an entry by each reader.

    Latency: entries of a read follow in the next cycle, and stay until the next read. Throughput: one read and one
    write a cycle. Contents are undefined before they are written.

    Parameters
    ----------
    count : int
        Tables, 1…256.
    readers : int
        Reader k reads table k modulo `count`. A chip has the table once, and a multiplexer a reader; an FPGA
        makes a copy for each.
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
        All readers read.
    indices : In(8) array
        The entry read, a reader.
    entries : Out(8) array
        What it reads.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(self, count: int, readers: int, lanes: int) -> None:
        self._count = check_integer("count", count, 1, 256)
        self._readers = check_integer("readers", readers, 1, 256)
        self._lanes = check_integer("lanes", lanes, 2, TABLE_ENTRIES // 2)
        if lanes & (lanes - 1):
            raise ValueError(f"`lanes` must be a power of two, not {lanes}")
        super().__init__(
            {
                "write_enable": In(count),
                "write_word": In(range(TABLE_ENTRIES // lanes)),
                "write_data": In(lanes * _ENTRY_BITS),
                "read_enable": In(1),
                "indices": In(exact_log2(TABLE_ENTRIES)).array(readers),
                "entries": Out(_ENTRY_BITS).array(readers),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lane_bits = exact_log2(self._lanes)
        tables = [
            memory.Memory(shape=self._lanes * _ENTRY_BITS, depth=TABLE_ENTRIES // self._lanes, init=[])
            for _ in range(self._count)
        ]
        for table, storage in enumerate(tables):
            m.submodules[f"table_{table}"] = storage
            write = storage.write_port()
            m.d.comb += [
                write.en.eq(self.write_enable[table]),
                write.addr.eq(self.write_word),
                write.data.eq(self.write_data),
            ]
        for reader, (index, entry) in enumerate(zip(self.indices, self.entries, strict=True)):
            read = tables[reader % self._count].read_port()
            lane = Signal(lane_bits, name=f"lane_{reader}")
            with m.If(self.read_enable):
                m.d.sync += lane.eq(index[:lane_bits])
            m.d.comb += [
                read.en.eq(self.read_enable),
                read.addr.eq(index[lane_bits:]),
                entry.eq(read.data.word_select(lane, _ENTRY_BITS)),
            ]
        return m
