"""Writes memory through one AXI4 port, any range of bytes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import (
    CACHE_NORMAL_BUFFERABLE,
    LENGTH_BITS,
    MAX_BURST_BEATS,
    AXI4WriteSignature,
    BurstType,
    FaultSignature,
    Response,
)
from intaglio.hdl.bus.bursts import BEAT_ADDRESS_BITS, BEAT_OFFSET_BITS, BurstSplitter, check_outstanding
from intaglio.hdl.checks import check_integer
from intaglio.hdl.storage.fifo import Fifo
from intaglio.spec.limits import BEAT_BYTES, COMMAND_INDEX_BITS, MEMORY_ADDRESS_BITS, TRANSFER_BITS
from intaglio.spec.registers import CAUSE_BITS, Cause

__all__ = ["WRITE_BEAT", "WRITE_TRANSFER", "WriteMaster"]

WRITE_TRANSFER = data.StructLayout(
    {"address": MEMORY_ADDRESS_BITS, "bytes": TRANSFER_BITS, "command": COMMAND_INDEX_BITS}
)
WRITE_BEAT = data.StructLayout({"data": 8 * BEAT_BYTES})
_ALL_BYTES = (1 << BEAT_BYTES) - 1

_ENDS = data.StructLayout({"first_byte": BEAT_OFFSET_BITS, "last_byte": BEAT_OFFSET_BITS})
"""Lanes of the first byte of a transfer's first beat and of the last byte of its last."""
_PROMISED = data.StructLayout(
    {"length": LENGTH_BITS, "first_strobes": BEAT_BYTES, "last_strobes": BEAT_BYTES}
)
"""The data of a burst that follow: beats less one, strobes of the first beat and of the last."""
_FLIGHT = data.StructLayout({"beat": BEAT_ADDRESS_BITS, "last": 1, "command": COMMAND_INDEX_BITS})


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

    Members
    -------
    transfer : In(stream)
        ``address``: of the first byte; ``bytes``: 1 or more; ``command``: the index that a fault reports.
    data : In(stream)
        ``data``, for each beat of 8 bytes that a transfer touches, in order: lane j is written to the beat's
        address + j, if that byte belongs to the transfer.
    done : Out(1)
        A pulse for each transfer whose last response has come, in order; none for one that failed.
    bus : Out(AXI4WriteSignature)
    region_base, region_limit : In(MEMORY_ADDRESS_BITS)
        Every beat that is touched lies in ``[region_base, region_limit)``: a transfer of which one does not is dropped
        with the fault WRITE_REGION at its first beat. They must not change while anything is pending.
    fault : Out(FaultSignature)
        A pulse: WRITE_REGION, or WRITE_ERROR (any response but OKAY, or another ID) with the address of the burst.
        Silent during `flush`.
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

    def __init__(self, max_burst_beats: int = 16, outstanding: int = 8) -> None:
        self.outstanding = check_outstanding(outstanding)
        self.max_burst_beats = check_integer("max_burst_beats", max_burst_beats, 1, MAX_BURST_BEATS)
        super().__init__(
            {
                "transfer": In(stream.Signature(WRITE_TRANSFER)),
                "data": In(stream.Signature(WRITE_BEAT)),
                "done": Out(1),
                "bus": Out(AXI4WriteSignature()),
                "region_base": In(MEMORY_ADDRESS_BITS),
                "region_limit": In(MEMORY_ADDRESS_BITS),
                "fault": Out(FaultSignature()),
                "flush": In(1),
                "idle": Out(1),
                "progress": Out(1),
                "beat": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self.max_burst_beats, Cause.WRITE_REGION, _ENDS)
        m.submodules.promised = promised = Fifo(_PROMISED, self.outstanding)
        m.submodules.flight = flight = Fifo(_FLIGHT, self.outstanding)
        m.submodules.filler = filler = _DataFiller()
        wiring.connect(m, promised.o, filler.promised)
        wiring.connect(m, wiring.flipped(self.data), filler.i)
        self._take(m, splitter)
        self._announce(m, splitter.burst, promised.i, flight.i)
        bus = self.bus
        failed = Signal()
        m.d.comb += [
            bus.wdata.eq(filler.data),
            bus.wstrb.eq(filler.strobes),
            bus.wlast.eq(filler.last),
            bus.wvalid.eq(filler.valid),
            filler.ready.eq(bus.wready),
            filler.flush.eq(self.flush),
            bus.bready.eq(flight.o.valid),
            flight.o.ready.eq(bus.bvalid),
            failed.eq(bus.bvalid & bus.bready & ((bus.bresp != Response.OKAY) | bus.bid.any())),
            self.done.eq(bus.bvalid & bus.bready & flight.o.payload.last & ~failed & ~self.flush),
            self.fault.valid.eq((failed | splitter.fault.valid) & ~self.flush),
            self.fault.payload.eq(splitter.fault.payload),
            self.beat.eq(bus.wvalid & bus.wready),
            self.progress.eq(self.beat | (bus.awvalid & bus.awready) | (bus.bvalid & bus.bready)),
            self.idle.eq(flight.space == self.outstanding),
        ]
        with m.If(failed):
            m.d.comb += self.fault.payload.eq(
                Cat(
                    Const(Cause.WRITE_ERROR, CAUSE_BITS),
                    flight.o.payload.command,
                    Const(0, BEAT_OFFSET_BITS),
                    flight.o.payload.beat,
                )
            )
        return m

    def _take(self, m: Module, splitter: BurstSplitter) -> None:
        """Transfers of bytes as transfers of beats."""
        transfer = self.transfer.payload
        offset = transfer.address[:BEAT_OFFSET_BITS]
        past = Signal(TRANSFER_BITS + 1)
        """Where the byte after the last lies, counted from the first beat."""
        m.d.comb += [
            past.eq(offset + transfer.bytes),
            splitter.transfer.valid.eq(self.transfer.valid),
            splitter.transfer.payload.beat.eq(transfer.address[BEAT_OFFSET_BITS:]),
            splitter.transfer.payload.beats.eq((past + (BEAT_BYTES - 1))[BEAT_OFFSET_BITS:]),
            splitter.transfer.payload.command.eq(transfer.command),
            splitter.transfer.payload.tag.first_byte.eq(offset),
            splitter.transfer.payload.tag.last_byte.eq(past - 1),
            self.transfer.ready.eq(splitter.transfer.ready),
            splitter.region_base.eq(self.region_base),
            splitter.region_limit.eq(self.region_limit),
            splitter.flush.eq(self.flush),
        ]

    def _announce(self, m: Module, burst, promised, flight) -> None:
        """Bursts to AW, and what must follow to the queues."""
        bus = self.bus
        payload = burst.payload
        free = Signal()
        issue = Signal()
        m.d.comb += [
            bus.awid.eq(0),
            bus.awsize.eq(BEAT_OFFSET_BITS),
            bus.awburst.eq(BurstType.INCR),
            bus.awcache.eq(CACHE_NORMAL_BUFFERABLE),
            bus.awprot.eq(0),
            # A burst leaves `promised` before its response comes: where `flight` has room, `promised` has.
            free.eq((~bus.awvalid | bus.awready) & flight.ready & ~self.flush),
            burst.ready.eq(free),
            issue.eq(free & burst.valid),
            promised.valid.eq(issue),
            flight.valid.eq(issue),
            promised.payload.length.eq(payload.length),
            promised.payload.first_strobes.eq(
                Mux(payload.first, Const(_ALL_BYTES, BEAT_BYTES) << payload.tag.first_byte, _ALL_BYTES)
            ),
            promised.payload.last_strobes.eq(
                Mux(payload.last, Const(_ALL_BYTES, BEAT_BYTES) >> ~payload.tag.last_byte, _ALL_BYTES)
            ),
            flight.payload.eq(Cat(payload.beat, payload.last, payload.command)),
        ]
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(issue):
            m.d.sync += [
                bus.awaddr.eq(Cat(Const(0, BEAT_OFFSET_BITS), payload.beat)),
                bus.awlen.eq(payload.length),
                bus.awvalid.eq(1),
            ]


class _DataFiller(wiring.Component):
    """Sends the data of the bursts that were announced; in a flush, beats without strobes in place of them."""

    def __init__(self) -> None:
        super().__init__(
            {
                "promised": In(stream.Signature(_PROMISED)),
                "i": In(stream.Signature(WRITE_BEAT)),
                "data": Out(8 * BEAT_BYTES),
                "strobes": Out(BEAT_BYTES),
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
                    Mux(first, burst.first_strobes, _ALL_BYTES)
                    & Mux(last, burst.last_strobes, _ALL_BYTES)
                    & ~self.flush.replicate(BEAT_BYTES)
                ),
                self.last.eq(last),
                self.valid.eq(1),
            ]
        return m
