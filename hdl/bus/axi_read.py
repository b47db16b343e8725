"""Reads memory for several clients through one AXI4 port."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetSignal, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import (
    ADDRESS_BITS,
    DATA_BITS,
    LENGTH_BITS,
    MAX_BURST_BEATS,
    AXI4ReadSignature,
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
from intaglio.hdl.storage.register_slice import RegisterSlice
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_OFFSET_BITS, TRANSFER_BITS
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import BUS_CACHE_BITS, BUS_PROTECTION_BITS, Cause

__all__ = ["READABLE", "READ_TRANSFER", "UNBOUNDED_SPACE", "ReadClientSignature", "ReadMaster", "read_beat"]

READ_TRANSFER = data.StructLayout(
    {
        "offset": MEMORY_OFFSET_BITS,
        "beats": TRANSFER_BITS,
        "command": COMMAND_INDEX_BITS,
        "region": REGION_BITS,
    }
)
READABLE = tuple(region for region in Region if region.readable)
_SPACE_BITS = 16
UNBOUNDED_SPACE = (1 << _SPACE_BITS) - 1
"""The space of a client that takes every beat as it comes."""


def read_beat(data_bits: int) -> data.StructLayout:
    """A beat that a client gets."""
    return data.StructLayout({"data": data_bits, "last": 1})


class ReadClientSignature(wiring.Signature):
    """What a client of `ReadMaster` talks to, seen by the client.

    Members
    -------
    transfer : Out(stream)
        ``region``; ``offset``: in bytes, rounded down to a beat; ``beats``: 1 or more; ``command``: the index that a
        fault reports. Served in order.
    space : Out
        Beats that the client can take now. It may fall only by the beats that were delivered, in the cycle after each
        at the latest, and must reach the longest burst again and again.
    data : In(stream)
        ``data``; ``last``: the last beat of its transfer.
    """

    def __init__(self, data_bits: int = DATA_BITS) -> None:
        super().__init__(
            {
                "transfer": Out(stream.Signature(READ_TRANSFER)),
                "space": Out(_SPACE_BITS),
                "data": In(stream.Signature(read_beat(data_bits))),
            }
        )


class ReadMaster(wiring.Component):
    """Cuts its clients' transfers into bursts and hands each client its data.

    A burst is issued when its client has room for all of it beside what is already on its way, so that no client ever
    blocks another for longer than it lowers ``ready`` by itself. Of the clients that have one to be issued the first
    goes first. One ID: data come back in order. Signals to the bus come from registers.

    Latency: 5 cycles from a transfer taken to its address on the bus, 1 from a beat on the bus to the client.
    Throughput: of a client a burst in 2 cycles on AR, a transfer in 3, of several clients a burst a cycle; a beat a
    cycle on R.

    Parameters
    ----------
    clients : int
        1...16.
    max_burst_beats : int or tuple of int
        1...256, for all clients or one for each.
    outstanding : int
        Bursts in flight, a power of two, 2...64.
    address_bits, data_bits : int
        Of the bus; data bits are 8 times a power of two.

    Members
    -------
    clients : In(ReadClientSignature) array
    bus : Out(AXI4ReadSignature)
        Nothing is valid while reset is asserted [AXI: A3.1.2].
    ... : In
        `region_members` of the regions that may be read. Every beat that is read lies in the region that its transfer
        names: a transfer of which one does not is dropped with the fault READ_REGION at its first beat. They must not
        change while anything is pending.
    protection, cache : In
        ARPROT and ARCACHE. They must not change while anything is pending.
    fault : Out(FaultSignature)
        READ_REGION is a pulse; others last as long as the client is offered such a beat, a cycle later, with the
        address of its burst: READ_ERROR (any response but OKAY), BUS_PROTOCOL (another ID, or the last beat too early
        or too late). A beat that nobody asked for is BUS_PROTOCOL as well. Silent during `flush`.
    flush : In(1)
        While high, no burst is issued but the one whose address is on the bus already, arriving data and offered
        transfers are dropped. When `idle` has been high in such a cycle, all is as after reset.
    idle : Out(1)
        Nothing is in flight or about to be issued. Transfers may still be pending while `flush` is low.
    progress : Out(1)
        A handshake on AR or R.
    beat : Out(1)
        A handshake on R.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(
        self,
        clients: int,
        max_burst_beats: int | tuple[int, ...] = 16,
        outstanding: int = 8,
        address_bits: int = ADDRESS_BITS,
        data_bits: int = DATA_BITS,
    ) -> None:
        count = check_integer("clients", clients, 1, 16)
        if not isinstance(max_burst_beats, tuple):
            max_burst_beats = (max_burst_beats,) * count
        if len(max_burst_beats) != count:
            raise ValueError(
                f"`max_burst_beats` must have {count} values, one a client, not {len(max_burst_beats)}"
            )
        self.outstanding = check_outstanding(outstanding)
        self.max_burst_beats = tuple(
            check_integer("max_burst_beats", beats, 1, MAX_BURST_BEATS) for beats in max_burst_beats
        )
        bus = AXI4ReadSignature(address_bits, data_bits)
        super().__init__(
            {
                "clients": In(ReadClientSignature(data_bits)).array(count),
                "bus": Out(bus),
                **region_members(READABLE, address_bits),
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
        count, bits = len(self.max_burst_beats), self.bus.signature.data_bits
        address_bits = self.bus.signature.address_bits
        offset_bits = beat_offset_bits(bits)
        splitters = [
            BurstSplitter(beats, Cause.READ_REGION, READABLE, unsigned(0), address_bits, bits)
            for beats in self.max_burst_beats
        ]
        m.submodules.issuer = issuer = _Issuer(splitters, self.outstanding, address_bits, bits)
        m.submodules.returner = returner = _Returner(count, address_bits, bits)
        wiring.connect(m, issuer.issued, returner.issued)
        faults = [returner.fault]
        for index, (client, splitter) in enumerate(zip(self.clients, splitters, strict=True)):
            m.submodules[f"splitter_{index}"] = splitter
            transfer = client.transfer
            m.d.comb += [
                splitter.transfer.valid.eq(transfer.valid),
                splitter.transfer.payload.region.eq(transfer.payload.region),
                splitter.transfer.payload.beat.eq(transfer.payload.offset[offset_bits:]),
                splitter.transfer.payload.beats.eq(transfer.payload.beats),
                splitter.transfer.payload.command.eq(transfer.payload.command),
                transfer.ready.eq(splitter.transfer.ready),
                splitter.flush.eq(self.flush),
                issuer.space[index].eq(client.space),
                issuer.delivered[index].eq(returner.delivered[index]),
            ]
            connect_regions(m, READABLE, splitter, self)
            wiring.connect(m, splitter.burst, issuer.bursts[index])
            wiring.connect(m, returner.data[index], wiring.flipped(client.data))
            faults.append(splitter.fault)
        bus = self.bus
        m.d.comb += [
            bus.arid.eq(0),
            bus.araddr.eq(issuer.address),
            bus.arlen.eq(issuer.length),
            bus.arsize.eq(offset_bits),
            bus.arburst.eq(BurstType.INCR),
            bus.arcache.eq(self.cache),
            bus.arprot.eq(self.protection),
            bus.arvalid.eq(issuer.valid & ~ResetSignal()),
            issuer.ready.eq(bus.arready),
            bus.rready.eq(returner.i.ready),
            returner.i.valid.eq(bus.rvalid),
            returner.i.payload.eq(Cat(bus.rdata, bus.rresp != Response.OKAY, bus.rid.any(), bus.rlast)),
            returner.nothing_issued.eq(issuer.idle),
            issuer.flush.eq(self.flush),
            returner.flush.eq(self.flush),
            self.beat.eq(bus.rvalid & bus.rready),
            self.progress.eq(self.beat | (issuer.valid & bus.arready)),
            self.idle.eq(issuer.idle),
            self.fault.valid.eq(Cat(fault.valid for fault in faults).any() & ~self.flush),
        ]
        # The first that is valid: of several faults in one cycle, any stops the machine.
        with m.If(returner.fault.valid):
            m.d.comb += self.fault.payload.eq(returner.fault.payload)
        for fault in faults[1:]:
            with m.Elif(fault.valid):
                m.d.comb += self.fault.payload.eq(fault.payload)
        return m


def _issued_layout(clients: int, address_bits: int, data_bits: int) -> data.StructLayout:
    """What is remembered of a burst until its data have come; the client by a bit each, so that it is found at once."""
    return data.StructLayout(
        {
            "client": clients,
            "beat": beat_address_bits(address_bits, data_bits),
            "length": LENGTH_BITS,
            "last": 1,
            "command": COMMAND_INDEX_BITS,
        }
    )


class _Issuer(wiring.Component):
    """Picks the next burst, counts what is promised to each client, and holds the address on the bus."""

    def __init__(
        self, splitters: list[BurstSplitter], outstanding: int, address_bits: int, data_bits: int
    ) -> None:
        self._outstanding = outstanding
        self._offset_bits = beat_offset_bits(data_bits)
        self._issued = _issued_layout(len(splitters), address_bits, data_bits)
        self._longest = [splitter.max_burst_beats for splitter in splitters]
        count = len(splitters)
        burst = splitters[0].burst.signature
        super().__init__(
            {
                "bursts": In(burst).array(count),
                "space": In(_SPACE_BITS).array(count),
                "delivered": In(1).array(count),
                "address": Out(address_bits),
                "length": Out(LENGTH_BITS),
                "valid": Out(1),
                "ready": In(1),
                "issued": Out(stream.Signature(self._issued)),
                "flush": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        count = len(self._longest)
        m.submodules.flight = flight = Fifo(self._issued, self._outstanding)
        request = Signal(count)
        grant = Signal(count)
        free = Signal()
        m.d.comb += [
            free.eq((~self.valid | self.ready) & flight.i.ready & ~self.flush),
            flight.i.valid.eq(free & request.any()),
            *(grant[index].eq(request[index] & ~request[:index].any()) for index in range(count)),
            self.idle.eq(flight.space == self._outstanding),
        ]
        wiring.connect(m, flight.o, wiring.flipped(self.issued))
        with m.If(self.ready):
            m.d.sync += self.valid.eq(0)
        for index, (burst, longest) in enumerate(zip(self.bursts, self._longest, strict=True)):
            promised = Signal(range(self._outstanding * longest + 1), name=f"promised_{index}")
            chosen = Signal(name=f"chosen_{index}")
            # A burst that has room keeps it until it is issued: what is delivered takes of both alike.
            fits = Signal(name=f"fits_{index}")
            room = promised + burst.payload.length < self.space[index]
            m.d.sync += fits.eq(burst.valid & ~chosen & room & ~self.flush)
            m.d.comb += [
                request[index].eq(fits),
                chosen.eq(free & grant[index]),
                burst.ready.eq(chosen),
            ]
            m.d.sync += promised.eq(
                promised + Mux(chosen, burst.payload.length + 1, 0) - self.delivered[index]
            )
            with m.If(chosen):
                m.d.sync += [
                    self.address.eq(Cat(Const(0, self._offset_bits), burst.payload.beat)),
                    self.length.eq(burst.payload.length),
                    self.valid.eq(1),
                ]
                m.d.comb += flight.i.payload.eq(
                    Cat(
                        Const(1 << index, count),
                        burst.payload.beat,
                        burst.payload.length,
                        burst.payload.last,
                        burst.payload.command,
                    )
                )
            # A burst that ended too early did not deliver all that was promised.
            with m.If(self.flush & self.idle):
                m.d.sync += promised.eq(0)
        return m


class _Returner(wiring.Component):
    """Hands each beat to the client that the oldest burst in flight belongs to."""

    def __init__(self, clients: int, address_bits: int, data_bits: int) -> None:
        self._beat = data.StructLayout({"data": data_bits, "error": 1, "foreign": 1, "last": 1})
        self._offset_bits = beat_offset_bits(data_bits)
        super().__init__(
            {
                "i": In(stream.Signature(self._beat)),
                "issued": In(stream.Signature(_issued_layout(clients, address_bits, data_bits))),
                "nothing_issued": In(1),
                "data": Out(stream.Signature(read_beat(data_bits))).array(clients),
                "delivered": Out(1).array(clients),
                "fault": Out(FaultSignature(address_bits)),
                "flush": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.slice = register = RegisterSlice(self._beat)
        wiring.connect(m, wiring.flipped(self.i), register.i)
        beat = register.o.payload
        burst = self.issued.payload
        offered = Signal()
        number = Signal(LENGTH_BITS)
        """Of the beat in its burst."""
        unasked = Signal()
        broken = Signal()
        m.d.comb += [
            offered.eq(register.o.valid & self.issued.valid),
            self.issued.ready.eq(register.o.valid & register.o.ready & beat.last),
            unasked.eq(register.o.valid & self.nothing_issued),
            broken.eq(beat.foreign | (beat.last != (number == burst.length))),
            register.o.ready.eq(unasked & self.flush),
        ]
        m.d.sync += [
            self.fault.valid.eq(((offered & (beat.error | broken)) | unasked) & ~self.flush),
            self.fault.payload.cause.eq(Mux(broken | unasked, Cause.BUS_PROTOCOL, Cause.READ_ERROR)),
            self.fault.payload.command.eq(burst.command),
            self.fault.payload.address.eq(Cat(Const(0, self._offset_bits), burst.beat)),
        ]
        with m.If(offered & register.o.ready):
            m.d.sync += number.eq(Mux(beat.last, 0, number + 1))
        for index, (client, delivered) in enumerate(zip(self.data, self.delivered, strict=True)):
            m.d.comb += [
                client.payload.data.eq(beat.data),
                client.payload.last.eq(beat.last & burst.last),
            ]
            with m.If(self.issued.valid & burst.client[index]):
                m.d.comb += [
                    client.valid.eq(offered & ~self.flush),
                    register.o.ready.eq(client.ready | self.flush),
                    delivered.eq(offered & register.o.ready),
                ]
        return m
