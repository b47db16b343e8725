"""The scratchpad: activations on chip, read and written as vectors at any element address."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.storage.memory import SyncMemory
from intaglio.spec.config import AcceleratorConfig

__all__ = ["READ_LATENCY", "Scratchpad", "read_signature", "write_signature"]

READ_LATENCY = 3
"""Cycles from an address taken to its vector on `data`."""


def address_bits(config: AcceleratorConfig) -> int:
    """Bits of an element address."""
    return exact_log2(config.scratchpad_elements)


def read_signature(config: AcceleratorConfig) -> stream.Signature:
    """A stream of element addresses to read a vector at."""
    return stream.Signature(address_bits(config))


def write_signature(config: AcceleratorConfig) -> stream.Signature:
    """A stream of vectors to write: lanes with their `mask` bit set."""
    lanes = config.vector_lanes
    return stream.Signature(
        data.StructLayout(
            {"address": address_bits(config), "mask": lanes, "data": lanes * config.element_bits}
        )
    )


class Scratchpad(wiring.Component):
    """Two banks of words of V = ``vector_lanes`` elements; even words in one, odd in the other, so that the two words
    in which any V consecutive elements lie can be read, and written, at once. Addresses wrap at the size.

    Readers share the read port in turn, one vector a cycle. Whose turn it is stands a cycle ahead: it passes to the
    next reader that waits, and stays where no other does. The vector of an address taken is on `data` READ_LATENCY
    cycles later, in that cycle alone, as it was before what is written from the cycle of the address on. Writers have
    priority by index; writer 0 never waits.

    Parameters
    ----------
    config : AcceleratorConfig
    readers, writers : int
        Number of each.

    Members
    -------
    read : In(read_signature) array of `readers`
    data : Out(vector_lanes * element_bits)
        Lane 0 in the low bits.
    write : In(write_signature) array of `writers`
    """

    def __init__(self, config: AcceleratorConfig, readers: int, writers: int) -> None:
        self._config = config
        super().__init__(
            {
                "read": In(read_signature(config)).array(readers),
                "data": Out(config.vector_lanes * config.element_bits),
                "write": In(write_signature(config)).array(writers),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes, bits = config.vector_lanes, config.element_bits
        lane_bits = exact_log2(lanes)
        depth = config.scratchpad_elements // lanes // 2
        banks = [SyncMemory(lanes * bits, depth, granularity=bits) for _ in range(2)]
        m.submodules.even, m.submodules.odd = banks

        # Read: the even bank's row is one further where the first word is odd.
        address = Signal(address_bits(config))
        reading = Signal()
        m.d.sync += Cat(address, reading).eq(self._choose_reader(m))
        word = address[lane_bits:]
        m.d.comb += [banks[0].read_address.eq((word + 1) >> 1), banks[1].read_address.eq(word >> 1)]
        for bank in banks:
            m.d.comb += bank.read_enable.eq(reading)
        offset = Signal(lane_bits)
        swapped = Signal()
        m.d.sync += [offset.eq(address[:lane_bits]), swapped.eq(word[0])]
        low = Mux(swapped, banks[1].read_data, banks[0].read_data)
        high = Mux(swapped, banks[0].read_data, banks[1].read_data)
        m.d.sync += self.data.eq(Cat(low, high) >> Cat(Const(0, exact_log2(bits)), offset))

        # Write: the same turned round.
        chosen = Signal(self.write[0].payload.shape())
        m.d.sync += chosen.eq(self._choose_writer(m))
        place = Signal(lane_bits)
        to = Signal.like(word)
        masks = Signal(2 * lanes)
        spread = Signal(2 * lanes * bits)
        m.d.comb += [
            Cat(place, to).eq(chosen.address),
            masks.eq(chosen.mask << place),
            spread.eq(chosen.data << Cat(Const(0, exact_log2(bits)), place)),
            banks[0].write_address.eq((to + 1) >> 1),
            banks[1].write_address.eq(to >> 1),
        ]
        for index, bank in enumerate(banks):
            other = to[0] if index == 0 else ~to[0]
            m.d.comb += [
                bank.write_data.eq(Mux(other, spread[lanes * bits :], spread[: lanes * bits])),
                bank.write_enable.eq(Mux(other, masks[lanes:], masks[:lanes])),
            ]
        return m

    def _choose_reader(self, m: Module) -> Value:
        """The address of the reader whose turn it is, and whether it has one. Its bit of `turn` is set."""
        count = len(self.read)
        turn = Signal(count, init=1)
        valid = Cat(port.valid for port in self.read)
        with m.Switch(turn):
            for previous in range(count):
                with m.Case(1 << previous):
                    # The last assignment that applies wins: the nearest after `previous` comes last.
                    for distance in range(count - 1, 0, -1):
                        index = (previous + distance) % count
                        with m.If(valid[index]):
                            m.d.sync += turn.eq(1 << index)
        address = Signal(address_bits(self._config))
        for index, port in enumerate(self.read):
            m.d.comb += port.ready.eq(turn[index])
            with m.If(turn[index]):
                m.d.comb += address.eq(port.payload)
        return Cat(address, (valid & turn).any())

    def _choose_writer(self, m: Module) -> data.View:
        """What the first valid writer writes; with an empty mask where none is valid."""
        chosen = Signal(self.write[0].payload.shape())
        for port in reversed(list(self.write)):
            with m.If(port.valid):
                m.d.comb += chosen.eq(port.payload)
        before = Const(0, 1)
        for port in self.write:
            m.d.comb += port.ready.eq(~before)
            before = before | port.valid
        return chosen
