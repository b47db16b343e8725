"""Tables of 256 bytes: functions of one int8, and the four bytes of softmax's exponentials."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hdl import isa
from hdl.config import AcceleratorConfig
from hdl.memory import SyncMemory

__all__ = ["Tables"]


class Tables(wiring.Component):
    """``config.tables`` tables side by side, each read at an entry of its own.

    Latency: entries follow a read in the next cycle, and stay until the next. Throughput: one read of all a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write_enable : In(tables)
        A bit a table.
    write_word, write_data : In
        Which ``vector_lanes`` entries, and their bytes.
    read_enable : In(1)
    read_entries : In(tables of 8 bits)
    read_data : Out(tables of 8 bits)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lanes = config.vector_lanes
        self._words = isa.TABLE_ENTRIES // config.vector_lanes
        entries = data.ArrayLayout(8, config.tables)
        super().__init__(
            {
                "write_enable": In(config.tables),
                "write_word": In(range(self._words)),
                "write_data": In(8 * config.vector_lanes),
                "read_enable": In(1),
                "read_entries": In(entries),
                "read_data": Out(entries),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lane_bits = exact_log2(self._lanes)
        for index in range(len(self.write_enable)):
            m.submodules[f"table_{index}"] = table = SyncMemory(8 * self._lanes, self._words)
            place = Signal(lane_bits, name=f"place_{index}")
            m.d.comb += [
                table.write_enable.eq(self.write_enable[index]),
                table.write_address.eq(self.write_word),
                table.write_data.eq(self.write_data),
                table.read_enable.eq(self.read_enable),
                table.read_address.eq(self.read_entries[index][lane_bits:]),
                self.read_data[index].eq(table.read_data.word_select(place, 8)),
            ]
            with m.If(self.read_enable):
                m.d.sync += place.eq(self.read_entries[index][:lane_bits])
        return m
