"""The weight stream on chip: beats are prefetched, and parted into tiles and rescale parameters."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.storage.fifo import Fifo
from intaglio.hdl.storage.memory import SyncMemory
from intaglio.spec.config import AcceleratorConfig

__all__ = ["WeightStream"]


class WeightStream(wiring.Component):
    """A buffer of beats, which leave it several at once (`weight_bits`). Those after the first tile of each MATMUL
    command are the parameters of its channels; they go to one of two slots, by the command's bank; all others go to the
    array.

    The first tile of a command has come into use before its parameters leave the buffer, so the bank is free, and
    its slot with it.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream)
        Beats from memory.
    space : Out
        Beats that can be taken.
    tiles : Out(stream)
        Tiles, `weight_bits` at a time.
    started, started_bank : In(1)
        The first tile of a command has come into use.
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
                "tiles": Out(stream.Signature(config.weight_bits)),
                "started": In(1),
                "started_bank": In(1),
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
        # In the very cycle of `started`, the beat at the head is already the first of the parameters.
        parameters_next = due | self.started
        m.d.comb += [
            self.tiles.payload.eq(fifo.o.payload),
            self.tiles.valid.eq(fifo.o.valid & ~parameters_next),
            fifo.o.ready.eq(parameters_next & due | ~parameters_next & self.tiles.ready),
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

    def _collect(self, m: Module, fifo: Fifo) -> None:
        """Beats until they fill a word of the buffer."""
        held = [Signal(self._config.bus_bits, name=f"held_{index}") for index in range(self._beats - 1)]
        count = Signal(range(self._beats))
        full = count == self._beats - 1
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            fifo.i.valid.eq(self.i.valid & full),
            fifo.i.payload.eq(Cat(*held, self.i.payload)),
            self.i.ready.eq(fifo.i.ready | ~full),
            self.space.eq(fifo.space * self._beats - count),
        ]
        with m.If(taken):
            m.d.sync += count.eq(Mux(full, 0, count + 1))
            for index, beat in enumerate(held):
                with m.If(count == index):
                    m.d.sync += beat.eq(self.i.payload)
