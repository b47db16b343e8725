"""The one wrapper of a synchronous-read memory: every storage above 1 kbit of the machine goes through it,
but tables, which have several readers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.hdl.checks import check_integer

__all__ = ["SyncMemory"]


class SyncMemory(wiring.Component):
    """A memory with one read and one write port, so that an FPGA's block RAM or a chip's SRAM macro can take its place.

    Latency: data of a read follow in the next cycle, and stay until the next read. A read of the word that is
    written in the same cycle gives the old word, or, with `bypass`, the new one (the bypass is outside the memory).
    Contents are undefined before they are written.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words.
    granularity : int or None
        Bits that one bit of ``write_enable`` stands for, a divisor of `width`; None: the whole word.
    bypass : bool
        Whether a read sees a write of the same cycle. Only for whole words.

    Members
    -------
    read_enable : In(1)
    read_address : In(range(depth))
    read_data : Out(width)
    write_enable : In(width // granularity)
    write_address : In(range(depth))
    write_data : In(width)

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(self, width: int, depth: int, granularity: int | None = None, bypass: bool = False) -> None:
        self.width = check_integer("width", width, 1, 1 << 16)
        self.depth = check_integer("depth", depth, 1, 1 << 24)
        self.granularity = check_integer(
            "granularity", width if granularity is None else granularity, 1, width
        )
        if self.width % self.granularity:
            raise ValueError(f"`granularity` must be a divisor of `width` ({width}), not {granularity}")
        if bypass and self.granularity != self.width:
            raise ValueError("`bypass` must be False where parts of a word are written")
        self.bypass = bypass
        address_bits = max(ceil_log2(depth), 1)
        super().__init__(
            {
                "read_enable": In(1),
                "read_address": In(address_bits),
                "read_data": Out(width),
                "write_enable": In(width // self.granularity),
                "write_address": In(address_bits),
                "write_data": In(width),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write = storage.write_port(granularity=None if self.granularity == self.width else self.granularity)
        read = storage.read_port()
        m.d.comb += [
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            self.read_data.eq(read.data),
        ]
        if self.bypass:
            taken = Signal()
            newest = Signal(self.width, reset_less=True)
            with m.If(self.read_enable):
                m.d.sync += taken.eq(Cat(self.write_enable, self.read_address == self.write_address).all())
                m.d.sync += newest.eq(self.write_data)
            m.d.comb += self.read_data.eq(Mux(taken, newest, read.data))
        return m
