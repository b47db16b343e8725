"""Writes memory through one AXI4 port, any range of bytes."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import (
    ADDRESS_BITS,
    DATA_BITS,
    LENGTH_BITS,
    MAX_BURST_BEATS,
    AXI4WriteSignature,
    BurstType,
    FaultSignature,
    Response,
)
from intaglio.hdl.bus.bursts import (
    BurstSplitter,
    beat_address_bits,
    beat_offset_bits,
    check_outstanding,
    connect_regions,
    region_members,
)
from intaglio.hdl.checks import check_integer
from intaglio.hdl.storage.fifo import Fifo
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_OFFSET_BITS, TRANSFER_BITS
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import BUS_CACHE_BITS, BUS_PROTECTION_BITS, Cause

__all__ = ["WRITABLE", "WRITE_TRANSFER", "WriteMaster"]

WRITE_TRANSFER = data.StructLayout(
    {
        "offset": MEMORY_OFFSET_BITS,
        "bytes": TRANSFER_BITS,
        "command": COMMAND_INDEX_BITS,
        "region": REGION_BITS,
    }
)
WRITABLE = tuple(region for region in Region if region.writable)


def _write_beat(data_bits: int) -> data.StructLayout:
    return data.StructLayout({"data": data_bits})


def _promised_layout(data_bits: int) -> data.StructLayout:
    """The data of a burst that follow: beats less one, strobes of the first beat and of the last."""
    lanes = data_bits // 8
    return data.StructLayout({"length": LENGTH_BITS, "first_strobes": lanes, "last_strobes": lanes})


class WriteMaster(wiring.Component):
    """Cuts transfers into bursts, strobes the bytes that they hold, and says when each has been written.

    Addresses are announced as soon as a transfer is known; data may come later. One ID: responses come in order.
    Signals to the bus come from registers. W may be valid before AW is accepted, as AXI wants it [AXI: A3.3.1].

    Latency: 4 cycles from a transfer taken to its address on the bus; 1 from data taken to the bus. Throughput: a
    burst in 2 cycles on AW, a transfer in 3, a beat a cycle on W.

    Parameters
    ----------
    max_burst_beats : int
        1...256.
    outstanding : int
        Bursts without a response, a power of two, 2...64.
    address_bits, data_bits : int
        Of the bus; data bits are 8 times a power of two.

    Members
    -------
    transfer : In(stream)
        ``region``; ``offset``: of the first byte; ``bytes``: 1 or more; ``command``: the index that a fault reports.
    data : In(stream)
        ``data``, for each beat that a transfer touches, in order: lane j is written to the beat's
        address + j, if that byte belongs to the transfer.
    done : Out(1)
        A pulse for each transfer whose last response has come, in order; none for one that failed.
    bus : Out(AXI4WriteSignature)
        Nothing is valid while reset is asserted [AXI: A3.1.2]. A response is taken once the data of its burst have
        gone out.
    ... : In
        `region_members` of the regions that may be written. Every beat that is touched lies in the region that its
        transfer names: a transfer of which one does not is dropped with the fault WRITE_REGION at its first beat. They
        must not change while anything is pending.
    protection, cache : In
        AWPROT and AWCACHE. They must not change while anything is pending.
    fault : Out(FaultSignature)
        WRITE_REGION; or with the address of the burst, a cycle after the response, WRITE_ERROR (any response but OKAY),
        BUS_PROTOCOL (another ID, or a response before its data, which lasts). Silent during `flush`.
    flush : In(1)
        While high, no burst is issued but the one whose address is on the bus already; data that were promised go out
        without strobes; offered transfers and data are dropped. When `idle` has been high in such a cycle, all is as
        after reset.
    idle : Out(1)
        Nothing is in flight or about to be issued. Transfers may still be pending while `flush` is low.
    progress : Out(1)
        A handshake on AW, W or B.
    beat : Out(1)
        A handshake on W.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(
        self,
        max_burst_beats: int = 16,
        outstanding: int = 8,
        address_bits: int = ADDRESS_BITS,
        data_bits: int = DATA_BITS,
    ) -> None:
        self.outstanding = check_outstanding(outstanding)
        self.max_burst_beats = check_integer("max_burst_beats", max_burst_beats, 1, MAX_BURST_BEATS)
        bus = AXI4WriteSignature(address_bits, data_bits)
        self._lanes = data_bits // 8
        self._offset_bits = beat_offset_bits(data_bits)
        super().__init__(
            {
                "transfer": In(stream.Signature(WRITE_TRANSFER)),
                "data": In(stream.Signature(_write_beat(data_bits))),
                "done": Out(1),
                "bus": Out(bus),
                **region_members(WRITABLE, address_bits),
                "protection": In(BUS_PROTECTION_BITS),
                "cache": In(BUS_CACHE_BITS),
                "fault": Out(FaultSignature(address_bits)),
                "flush": In(1),
                "idle": Out(1),
                "progress": Out(1),
                "beat": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        bits, address_bits = self.bus.signature.data_bits, self.bus.signature.address_bits
        # Lanes of the first byte of a transfer's first beat and of the last byte of its last.
        ends = data.StructLayout({"first_byte": self._offset_bits, "last_byte": self._offset_bits})
        m.submodules.splitter = splitter = BurstSplitter(
            self.max_burst_beats, Cause.WRITE_REGION, WRITABLE, ends, address_bits, bits
        )
        m.submodules.promised = promised = Fifo(_promised_layout(bits), self.outstanding)
        m.submodules.flight = flight = Fifo(
            data.StructLayout(
                {"beat": beat_address_bits(address_bits, bits), "last": 1, "command": COMMAND_INDEX_BITS}
            ),
            self.outstanding,
        )
        m.submodules.filler = filler = _DataFiller(bits)
        wiring.connect(m, promised.o, filler.promised)
        wiring.connect(m, wiring.flipped(self.data), filler.i)
        self._take(m, splitter)
        announcing = self._announce(m, splitter.burst, promised.i, flight.i)
        self._answers(m, splitter.fault, flight.o)
        bus = self.bus
        m.d.comb += [
            bus.wdata.eq(filler.data),
            bus.wstrb.eq(filler.strobes),
            bus.wlast.eq(filler.last),
            bus.wvalid.eq(filler.valid & ~ResetSignal()),
            filler.ready.eq(bus.wready),
            filler.flush.eq(self.flush),
            self.beat.eq(filler.valid & bus.wready),
            self.progress.eq(self.beat | (announcing & bus.awready) | (bus.bvalid & bus.bready)),
            self.idle.eq(flight.space == self.outstanding),
        ]
        return m

    def _answers(self, m: Module, refused, flight) -> None:
        """Responses, and the faults: the bus's, and what was `refused`."""
        bus = self.bus
        owed = Signal(range(self.outstanding + 1))
        """Bursts whose data have gone out and whose response has not come."""
        sent, answered, early, failed = Signal(), Signal(), Signal(), Signal()
        late = Signal()
        found = Signal(self.fault.payload.shape(), reset_less=True)
        broken = early | bus.bid.any()
        m.d.comb += [
            sent.eq(self.beat & bus.wlast),
            # What nobody asked for is dropped in a flush.
            bus.bready.eq((owed != 0) | (self.flush & self.idle)),
            answered.eq(bus.bvalid & (owed != 0)),
            early.eq(bus.bvalid & (owed == 0) & ~sent),
            failed.eq(early | (answered & ((bus.bresp != Response.OKAY) | bus.bid.any()))),
            flight.ready.eq(answered),
            self.done.eq(answered & flight.payload.last & ~failed & ~self.flush),
            self.fault.valid.eq((late | refused.valid) & ~self.flush),
            self.fault.payload.eq(Mux(late, found, Value.cast(refused.payload))),
        ]
        # Past a register: what stops the machine comes at the end of long paths.
        m.d.sync += [
            owed.eq(owed + sent - answered),
            late.eq(failed & ~self.flush),
            found.cause.eq(Mux(broken, Cause.BUS_PROTOCOL, Cause.WRITE_ERROR)),
            found.command.eq(flight.payload.command),
            found.address.eq(Cat(Const(0, self._offset_bits), flight.payload.beat)),
        ]

    def _take(self, m: Module, splitter: BurstSplitter) -> None:
        """Transfers of bytes as transfers of beats."""
        transfer = self.transfer.payload
        offset = transfer.offset[: self._offset_bits]
        past = Signal(TRANSFER_BITS + 1)
        """Where the byte after the last lies, counted from the first beat."""
        m.d.comb += [
            past.eq(offset + transfer.bytes),
            splitter.transfer.valid.eq(self.transfer.valid),
            splitter.transfer.payload.region.eq(transfer.region),
            splitter.transfer.payload.beat.eq(transfer.offset[self._offset_bits :]),
            splitter.transfer.payload.beats.eq((past + (self._lanes - 1))[self._offset_bits :]),
            splitter.transfer.payload.command.eq(transfer.command),
            splitter.transfer.payload.tag.first_byte.eq(offset),
            splitter.transfer.payload.tag.last_byte.eq(past - 1),
            self.transfer.ready.eq(splitter.transfer.ready),
            splitter.flush.eq(self.flush),
        ]
        connect_regions(m, WRITABLE, splitter, self)

    def _announce(self, m: Module, burst, promised, flight) -> Signal:
        """Bursts to AW, and what must follow to the queues; whether one is on AW."""
        bus = self.bus
        payload = burst.payload
        valid = Signal()
        free = Signal()
        issue = Signal()
        all_bytes = Const(1, 1).replicate(self._lanes)
        m.d.comb += [
            bus.awid.eq(0),
            bus.awsize.eq(self._offset_bits),
            bus.awburst.eq(BurstType.INCR),
            bus.awcache.eq(self.cache),
            bus.awprot.eq(self.protection),
            bus.awvalid.eq(valid & ~ResetSignal()),
            # A burst leaves `promised` before its response is taken: where `flight` has room, `promised` has.
            free.eq((~valid | bus.awready) & flight.ready & ~self.flush),
            burst.ready.eq(free),
            issue.eq(free & burst.valid),
            promised.valid.eq(issue),
            flight.valid.eq(issue),
            promised.payload.length.eq(payload.length),
            promised.payload.first_strobes.eq(
                Mux(payload.first, all_bytes << payload.tag.first_byte, all_bytes)
            ),
            promised.payload.last_strobes.eq(
                Mux(payload.last, all_bytes >> ~payload.tag.last_byte, all_bytes)
            ),
            flight.payload.eq(Cat(payload.beat, payload.last, payload.command)),
        ]
        with m.If(bus.awready):
            m.d.sync += valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                bus.awaddr.eq(Cat(Const(0, self._offset_bits), payload.beat)),
                bus.awlen.eq(payload.length),
                valid.eq(1),
            ]
        return valid


class _DataFiller(wiring.Component):
    """Sends the data of the bursts that were announced; in a flush, beats without strobes in place of them."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(
            {
                "promised": In(stream.Signature(_promised_layout(data_bits))),
                "i": In(stream.Signature(_write_beat(data_bits))),
                "data": Out(data_bits),
                "strobes": Out(data_bits // 8),
                "last": Out(1),
                "valid": Out(1),
                "ready": In(1),
                "flush": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        sent = Signal(LENGTH_BITS)
        """Beats of the oldest burst that are sent."""
        burst = self.promised.payload
        all_bytes = Const(1, 1).replicate(len(self.strobes))
        first = Signal()
        last = Signal()
        free = Signal()
        move = Signal()
        m.d.comb += [
            first.eq(sent == 0),
            last.eq(sent == burst.length),
            free.eq(self.promised.valid & (~self.valid | self.ready)),
            move.eq(free & (self.i.valid | self.flush)),
            self.i.ready.eq(free | self.flush),
            self.promised.ready.eq(move & last),
        ]
        with m.If(self.ready):
            m.d.sync += self.valid.eq(0)
        with m.If(move):
            m.d.sync += [
                sent.eq(Mux(last, 0, sent + 1)),
                self.data.eq(self.i.payload.data),
                self.strobes.eq(
                    Mux(first, burst.first_strobes, all_bytes)
                    & Mux(last, burst.last_strobes, all_bytes)
                    & ~self.flush.replicate(len(self.strobes))
                ),
                self.last.eq(last),
                self.valid.eq(1),
            ]
        return m
