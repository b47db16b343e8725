"""The weight stream on chip: beats are prefetched, and parted into tiles and rescale parameters."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.storage.fifo import Fifo
from intaglio.hdl.storage.memory import SyncMemory
from intaglio.spec.config import AcceleratorConfig

__all__ = ["WeightStream", "length_shape", "tile_layout"]


def tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A word of a tile, and whether it is the tile's last."""
    return data.StructLayout({"bits": config.weight_bits, "last": 1})


def length_shape(config: AcceleratorConfig) -> range:
    """Of the number of words of a tile, less one."""
    return range(max(config.tile_words(config.columns), 2))


class WeightStream(wiring.Component):
    """A buffer of beats, which leave it several at once, as a word of `weight_bits`. Those after the first tile of each
    MATMUL command are the parameters of its channels; they go to one of two slots, by the command's bank; all others go
    to the array, as tiles of so many words as the command says.

    The first tile of a command has come into use before its parameters leave the buffer, so the bank is free, and
    its slot with it. No word of a command's first tile leaves before the last tile of the command before is in use, and
    the length is known.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream)
        Beats from memory.
    space : Out
        Beats that can be taken.
    lengths : In(stream)
        Of each command, words of its tiles less one.
    tiles : Out(stream)
        Tiles, as the array takes them, `weight_bits` at a time.
    started, started_bank : In(1)
        The first tile of a command has come into use. No word of a tile is taken in that cycle, nor in that of `ended`.
    ended : In(1)
        Its last tile has come into use.
    loaded : Out(1)
        The parameters of a command are whole.
    read_enable, read_slot, read_group : In
        A read of the parameters of one group of ``rescale_lanes`` channels.
    parameters : Out(rescale_lanes * record_bits)
        One cycle after it.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._groups = config.columns // config.rescale_lanes
        self._beats = config.weight_bits // config.bus_bits
        self._fifo = Fifo(config.weight_bits, config.weight_buffer_bytes * 8 // config.weight_bits)
        super().__init__(
            {
                "i": In(stream.Signature(config.bus_bits)),
                "space": Out(range(config.weight_buffer_bytes // config.bus_bytes + 1)),
                "lengths": In(stream.Signature(length_shape(config))),
                "tiles": Out(stream.Signature(tile_layout(config))),
                "started": In(1),
                "started_bank": In(1),
                "ended": In(1),
                "loaded": Out(1),
                "read_enable": In(1),
                "read_slot": In(1),
                "read_group": In(range(max(self._groups, 2))),
                "parameters": Out(config.rescale_lanes * config.record_bits),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.fifo = fifo = self._fifo
        self._collect(m, fifo)

        # A word of the slots holds the records of one group, in whole words of the buffer.
        words = config.slot_beats // self._beats
        m.submodules.slots = slots = SyncMemory(
            words * config.weight_bits, 2 * self._groups, granularity=config.weight_bits
        )
        due = Signal()
        slot = Signal()
        group = Signal(range(max(self._groups, 2)))
        beat = Signal(range(words))
        word_full = beat == words - 1
        taking = Signal()
        # In the cycles of `started` and `ended` the array takes no word.
        tiles_next = self._tiles_next(m) & ~due
        m.d.comb += [
            self.tiles.payload.bits.eq(fifo.o.payload),
            self.tiles.valid.eq(fifo.o.valid & tiles_next),
            fifo.o.ready.eq(due | tiles_next & self.tiles.ready),
            taking.eq(fifo.o.valid & due),
            slots.write_enable.eq(Mux(taking, 1 << beat, 0)),
            slots.write_address.eq(slot * self._groups + group),
            slots.write_data.eq(fifo.o.payload.replicate(words)),
            self.loaded.eq(taking & word_full & (group == self._groups - 1)),
        ]
        with m.If(self.started):
            m.d.sync += [due.eq(1), slot.eq(self.started_bank)]
        with m.If(taking):
            m.d.sync += beat.eq(Mux(word_full, 0, beat + 1))
            with m.If(word_full):
                m.d.sync += group.eq(Mux(group == self._groups - 1, 0, group + 1))
        with m.If(self.loaded):
            m.d.sync += due.eq(0)

        m.d.comb += [
            slots.read_enable.eq(self.read_enable),
            slots.read_address.eq(self.read_slot * self._groups + self.read_group),
            self.parameters.eq(slots.read_data),
        ]
        return m

    def _tiles_next(self, m: Module) -> Signal:
        """Whether it is known of which command the next tile is, and so how long it is; tells the array where it
        ends."""
        known = Signal()
        length = Signal.like(self.lengths.payload)
        word = Signal.like(self.lengths.payload)
        m.d.comb += [self.lengths.ready.eq(~known), self.tiles.payload.last.eq(word == length)]
        with m.If(~known):
            m.d.sync += [known.eq(self.lengths.valid), length.eq(self.lengths.payload)]
        with m.Elif(self.ended):
            m.d.sync += known.eq(0)
        with m.If(self.tiles.valid & self.tiles.ready):
            m.d.sync += word.eq(Mux(self.tiles.payload.last, 0, word + 1))
        return known

    def _collect(self, m: Module, fifo: Fifo) -> None:
        """Beats until they fill a word of the buffer."""
        held = [Signal(self._config.bus_bits, name=f"held_{index}") for index in range(self._beats - 1)]
        count = Signal(range(self._beats))
        full = count == self._beats - 1
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            fifo.i.valid.eq(self.i.valid & full),
            fifo.i.payload.eq(Cat(*held, self.i.payload)),
            # A burst is on its way only where there is room for all of it: no path runs back to the bus.
            self.i.ready.eq(1),
            # A word is a power of two of beats.
            self.space.eq(fifo.depth * self._beats - Cat(count, fifo.stored)),
        ]
        with m.If(taken):
            m.d.sync += count.eq(Mux(full, 0, count + 1))
            for index, beat in enumerate(held):
                with m.If(count == index):
                    m.d.sync += beat.eq(self.i.payload)
