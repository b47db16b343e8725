"""Harnesses of the bus masters: as the machine has them, between any clients and any memory, with `flush` and reset in
any cycle.

Each property is said of the signals of the bus, beside what the clients asked for. What an induction has to know of a
master's registers besides is asserted too, so that it is proven and not believed.
"""

from collections.abc import Iterable, Sequence

from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    Cat,
    ClockDomain,
    Const,
    Cover,
    Elaboratable,
    Module,
    Mux,
    Signal,
    Value,
)
from amaranth.lib import data, stream, wiring

from formal.opened import Opened
from intaglio.hdl.bus.axi import BOUNDARY_BYTES, LENGTH_BITS
from intaglio.hdl.bus.axi_read import READABLE, ReadMaster
from intaglio.hdl.bus.axi_write import WRITABLE, WriteMaster
from intaglio.hdl.bus.bursts import beat_address_bits, beat_offset_bits
from intaglio.spec.limits import MEMORY_OFFSET_BITS, TRANSFER_BITS
from intaglio.spec.regions import REGION_BITS, Region

__all__ = ["INDUCTION_DEPTH", "MUTE", "REACH", "ReadBus", "WriteBus"]

INDUCTION_DEPTH = 3
"""Cycles that the inductions take."""
REACH = 12
"""Cycles from reset in which all of what is covered, or planted, shows."""
MUTE = "no burst at all"
"""A fault that breaks no property: only that what they speak of happens."""
_BEHIND = "a beat behind the limit"
_NO_RIGHT = "a region without the right"
_ACROSS = "a burst across 4 KiB"
_REPLACED = "an address that another replaces"
_IN_RESET = "an address during reset"
_LAST_EARLY = "WLAST too early"
_DATA_REPLACED = "data that others replace"
_DATA_IN_RESET = "data during reset"


def _all(*conditions: Value) -> Value:
    return Cat(condition.bool() for condition in conditions).all()


def _implies(premise: Value, conclusion: Value) -> Value:
    return ~premise.bool() | conclusion.bool()


class _Bus(Elaboratable):
    """What both masters' harnesses share: inputs that are free, regions, and the properties of an address channel.

    Parameters
    ----------
    regions : sequence of Region
        Those that the master has the right to.
    planted : str
        One of `faults`, to be put into the master, to see that the proof fails; empty for none.
    depth : int
        Cycles to unroll.
    """

    faults: tuple[str, ...] = (_BEHIND, _NO_RIGHT, _ACROSS, _REPLACED, _IN_RESET)

    def __init__(
        self, master: ReadMaster | WriteMaster, regions: Sequence[Region], planted: str, depth: int
    ) -> None:
        self.master, self.regions, self.planted, self.depth = master, regions, planted, depth
        self.domain = ClockDomain("sync")
        signature = master.bus.signature
        self.offset_bits = beat_offset_bits(signature.data_bits)
        self.beat_bits = beat_address_bits(signature.address_bits, signature.data_bits)
        first_bits = MEMORY_OFFSET_BITS - self.offset_bits
        # A transfer: its region, as it is when it is taken; its first beat there, how many it has, and the beat behind
        # the last; the beat at which it has arrived.
        self.transfer = data.StructLayout(
            {
                "region": REGION_BITS,
                "base": self.beat_bits,
                "limit": first_bits,
                "first": first_bits,
                "total": TRANSFER_BITS,
                "end": first_bits + 1,
                "position": first_bits + 1,
            }
        )

    @property
    def ports(self) -> list[Value]:
        """Clock, reset, and whatever goes into the master: free in every cycle."""
        inputs = [
            Value.cast(signal)
            for _, member, signal in self.master.signature.flatten(self.master)
            if member.flow == wiring.In
        ]
        return [self.domain.clk, self.domain.rst, *inputs]

    def _environment(self, m: Module, asked: Value) -> None:
        """What the machine promises its masters: regions begin at a beat, and change only in a flush or a reset; what
        is said beside an address changes only while a flushed master is idle, if the memory has answered only what it
        was `asked`."""
        master = self.master
        bases, limits = (
            [getattr(master, f"{region.name.lower()}_{word}") for region in self.regions]
            for word in ("base", "limit")
        )
        m.d.comb += [Assume(base[: self.offset_bits] == 0) for base in bases]
        for values, may_change in (
            (bases + limits, master.flush),
            ([master.protection, master.cache], master.flush & master.idle & asked),
        ):
            free = Signal(init=1, reset_less=True)
            before = Signal(len(Cat(values)), reset_less=True)
            m.d.sync += [free.eq(may_change | self.domain.rst), before.eq(Cat(values))]
            m.d.comb += Assume(free | (Cat(values) == before))

    def _only_asked(self, m: Module, now: Value) -> Value:
        """Whether the memory has answered only what it was asked since reset, if it does `now`."""
        before, asked = Signal(init=1), Signal()
        m.d.comb += asked.eq(before & now)
        m.d.sync += before.eq(asked)
        return asked

    def _asked_for(self, m: Module, region: Value, first: Value, total: Value) -> data.View:
        transfer = Signal(self.transfer)
        m.d.comb += [
            transfer.region.eq(region),
            transfer.base.eq(self._of_region(region, "base")),
            transfer.limit.eq(self._of_region(region, "limit")),
            transfer.first.eq(first),
            transfer.total.eq(total),
            transfer.end.eq(transfer.first + transfer.total),
            transfer.position.eq(first),
        ]
        return transfer

    def _has_right(self, region: Value) -> Value:
        return Cat(region == known for known in self.regions).any()

    def _of_region(self, region: Value, word: str) -> Value:
        """A region's base or limit, in beats; any without the right."""
        *others, last = (
            (known, getattr(self.master, f"{known.name.lower()}_{word}")) for known in self.regions
        )
        value = last[1]
        for known, mine in others:
            value = Mux(region == known, mine, value)
        return value[self.offset_bits :]

    def _granted(self, transfer: data.View) -> Value:
        """Whether the master has the right to all of a transfer."""
        return _all(
            self._has_right(transfer.region),
            transfer.base == self._of_region(transfer.region, "base"),
            transfer.limit == self._of_region(transfer.region, "limit"),
            transfer.end <= transfer.limit,
        )

    def _lawful(self, beat: Value, length: Value, transfer: data.View) -> Value:
        """Whether a burst lies within a granted transfer, and in one page."""
        page_beats = BOUNDARY_BYTES >> self.offset_bits
        return _all(
            self._granted(transfer),
            beat == (transfer.base + transfer.position)[: self.beat_bits],
            transfer.position >= transfer.first,
            transfer.position + length < transfer.end,
            beat % page_beats + length < page_beats,
        )

    def _cut(self, m: Module, splitter: Opened, asked: data.View, client: stream.Interface) -> data.View:
        """What a splitter's registers hold of the transfer `asked` by `client`. Returns the transfer of the burst that
        it offers."""
        part = splitter.component
        left = data.View(part.transfer.payload.shape(), splitter.left)
        transfer, offered = Signal(self.transfer), Signal(self.transfer)
        with m.If(client.valid & client.ready & ~self.master.flush):
            m.d.sync += transfer.eq(asked)
        with m.If(splitter.move):
            m.d.sync += [offered.eq(transfer), transfer.position.eq(transfer.position + splitter.beats)]

        page_beats = BOUNDARY_BYTES >> self.offset_bits
        longest, to_boundary = Signal(range(page_beats + 1)), Signal(range(page_beats + 1))
        m.d.comb += [
            to_boundary.eq(page_beats - splitter.address % page_beats),
            longest.eq(Mux(to_boundary < part.max_burst_beats, to_boundary, part.max_burst_beats)),
        ]
        granted = self._granted(transfer)
        address = (transfer.base + transfer.position)[: self.beat_bits]
        with m.If(splitter.busy):
            m.d.comb += [
                Assert(_all(left.region == transfer.region, left.beat == transfer.first)),
                Assert(transfer.base == self._of_region(transfer.region, "base")),
                Assert(transfer.limit == self._of_region(transfer.region, "limit")),
                Assert(transfer.end == transfer.first + transfer.total),
                Assert(transfer.end == transfer.position + left.beats),
                Assert(_all(left.beats != 0, left.beats <= transfer.total)),
                Assert(splitter.first == (left.beats == transfer.total)),
                Assert(_implies(splitter.first, transfer.position == transfer.first)),
                Assert(splitter.first | granted),
                Assert(splitter.address == address),
            ]
        with m.If(splitter.measured):
            m.d.comb += [
                Assert(splitter.busy),
                Assert(splitter.last == (left.beats <= longest)),
                Assert(splitter.beats == Mux(splitter.last, left.beats, longest)),
                Assert(_implies(splitter.inside, granted)),
            ]
        burst = part.burst
        with m.If(burst.valid):
            m.d.comb += Assert(self._lawful(burst.payload.beat, burst.payload.length, offered))
        self._plant_cut(splitter, left)
        return offered

    def _plant_cut(self, splitter: Opened, left: data.View) -> None:
        """Faults of a splitter: its last word on what it decides."""
        has_right = self._has_right(left.region)
        if self.planted == _BEHIND:
            limit = self._of_region(left.region, "limit")
            splitter.module.d.sync += splitter.inside.eq(has_right & (splitter.end <= limit + 1))
        if self.planted == _NO_RIGHT:
            with splitter.module.If(~has_right):
                splitter.module.d.sync += splitter.inside.eq(1)
        if self.planted == _ACROSS:
            most = splitter.component.max_burst_beats
            splitter.module.d.sync += splitter.beats.eq(Mux(left.beats < most, left.beats, most))

    def _channel(self, m: Module, valid: Value, ready: Value, payload: Iterable[Value]) -> Value:
        """A channel's handshake [AXI: A3.1.2, A3.2.1]. Returns whether something new is offered."""
        stalled, now = Signal(), Cat(payload)
        before = Signal(len(now))
        m.d.sync += [stalled.eq(valid & ~ready), before.eq(now)]
        m.d.comb += [
            Assert(~(valid & self.domain.rst)),
            Assert(_implies(stalled & ~self.domain.rst, valid & (now == before))),
            Cover(valid & ~ready & self.master.flush),
        ]
        return valid & ~stalled

    def _address(self, m: Module, channel: str, named: data.View, issued: Value, ours: Value) -> Value:
        """The address channel, where a burst is new in the cycle after `issued`: one of the transfer `named`, if it is
        `ours`. Returns whether one is new."""
        names = ("valid", "ready", "addr", "len", "id", "size", "burst", "cache", "prot")
        valid, ready, address, length, *others = (
            Value.cast(getattr(self.master.bus, channel + name)) for name in names
        )
        new = self._channel(m, valid, ready, (address, length, *others))
        due = Signal()
        m.d.sync += due.eq(issued)
        m.d.comb += [Assert(_implies(~self.domain.rst, new == due)), Cover(self.master.fault.valid)]
        with m.If(new & ours):
            m.d.comb += [
                Assert(address[: self.offset_bits] == 0),
                Assert(self._lawful(address[self.offset_bits :], length, named)),
            ]
        return new

    def _queue(self, m: Module, queue: Opened) -> None:
        """What holds of a queue's counters: it does not overflow, and what waits is offered after a cycle."""
        m.d.comb += [
            Assert(queue.stored <= self.master.outstanding),
            Assert(Mux(queue.offered, queue.stored != 0, queue.stored <= 1)),
        ]

    def _plant_address(self, master: Opened, issuer: Opened, shown: Signal, valid: Signal) -> None:
        """Faults on the way of an address from the `issuer`'s register, `valid`, to the bus, where it is `shown`."""
        if self.planted == _REPLACED:
            issuer.module.d.comb += issuer.free.eq(~self.master.flush)
        if self.planted == _IN_RESET:
            master.module.d.comb += shown.eq(valid)
        if self.planted == MUTE:
            issuer.module.d.comb += issuer.free.eq(0)


class ReadBus(_Bus):
    """A read master: every burst of the client `client` on AR lies within its transfer, which lies within the region
    that it names, which may be read; and in one page. An address stays until it is taken; none is offered during reset.
    With a memory that answers only what it was asked, the master is not idle meanwhile. Other clients do what they
    like: a proof for each is a proof for all, and is found sooner.

    Parameters, but for `client`, `planted` and `depth`, are the master's.
    """

    def __init__(
        self,
        max_burst_beats: tuple[int, ...],
        outstanding: int,
        address_bits: int,
        data_bits: int,
        *,
        client: int,
        planted: str = "",
        depth: int = INDUCTION_DEPTH,
    ) -> None:
        self.master = ReadMaster(len(max_burst_beats), max_burst_beats, outstanding, address_bits, data_bits)
        self.client = client
        super().__init__(self.master, READABLE, planted, depth)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains += self.domain
        m.submodules.master = master = self.master
        opened = Opened(master)
        issuer = opened.part("issuer")
        self._environment(m, self._pending(m, opened, issuer))
        client = master.clients[self.client]
        transfer = client.transfer.payload
        asked = self._asked_for(m, transfer.region, transfer.offset >> self.offset_bits, transfer.beats)
        offered = self._cut(m, opened.part(f"splitter_{self.client}"), asked, client.transfer)
        chosen = Cat(issuer.signal(f"chosen_{index}") for index in range(len(master.clients)))
        named, ours = Signal(self.transfer), Signal()
        """Of the burst that was issued last."""
        m.d.sync += ours.eq(chosen[self.client])
        with m.If(chosen[self.client]):
            m.d.sync += named.eq(offered)
        new = self._address(m, "ar", named, chosen.any(), ours)
        m.d.comb += Cover(new & ours)
        self._plant_address(opened, issuer, master.bus.arvalid, issuer.component.valid)
        return m

    def _pending(self, m: Module, master: Opened, issuer: Opened) -> Value:
        """Bursts in flight are those on AR, those whose data the memory owes, and those whose last beat is not yet
        handed on. Returns whether the memory has answered only what it was asked."""
        bus, valid = self.master.bus, issuer.component.valid
        owed = Signal(range(self.master.outstanding + 1))
        asked = self._only_asked(m, _implies(bus.rvalid, owed != 0))
        m.d.sync += owed.eq(owed + (bus.arvalid & bus.arready) - (bus.rvalid & bus.rready & bus.rlast))

        register = master.part("returner").part("slice")
        layout = register.component.i.payload.shape()
        first, second = (data.View(layout, register.signal(name)) for name in ("first", "second"))
        ended = (register.first_valid & first.last) + (register.second_valid & second.last)
        within_burst = Mux(register.second_valid, ~second.last, register.first_valid & ~first.last)
        flight = issuer.part("flight")
        self._queue(m, flight)
        with m.If(asked):
            m.d.comb += [
                Assert(flight.stored == valid + owed + ended),
                Assert(_implies(register.second_valid, register.first_valid)),
                Assert(_implies(within_burst, owed != 0)),
                Assert(~(valid & self.master.idle)),
            ]
        return asked


class WriteBus(_Bus):
    """A write master: of bursts on AW what `ReadBus` says of those on AR; W brings as many beats as the burst's AWLEN
    says, the last of them with WLAST and no other, none before its address is offered; a beat stays until it is taken;
    none is offered during reset.

    Parameters, but for `planted` and `depth`, are the master's.
    """

    faults = (*_Bus.faults, _LAST_EARLY, _DATA_REPLACED, _DATA_IN_RESET)

    def __init__(
        self,
        max_burst_beats: int,
        outstanding: int,
        address_bits: int,
        data_bits: int,
        *,
        planted: str = "",
        depth: int = INDUCTION_DEPTH,
    ) -> None:
        self.master = WriteMaster(max_burst_beats, outstanding, address_bits, data_bits)
        super().__init__(self.master, WRITABLE, planted, depth)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains += self.domain
        m.submodules.master = master = self.master
        opened = Opened(master)
        bus = master.bus
        flight = opened.part("flight")
        self._environment(m, self._pending(m, opened, flight))
        transfer = master.transfer.payload
        lanes = 1 << self.offset_bits
        beats = (transfer.offset % lanes + transfer.bytes + lanes - 1) >> self.offset_bits
        asked = self._asked_for(m, transfer.region, transfer.offset >> self.offset_bits, beats)
        splitter = opened.part("splitter")
        offered = self._cut(m, splitter, asked, master.transfer)
        named = Signal(self.transfer)
        with m.If(opened.issue):
            m.d.sync += named.eq(offered)
        new = self._address(m, "aw", named, opened.issue, Const(1, 1))
        self._plant_address(opened, opened, bus.awvalid, opened.valid)

        self._channel(m, bus.wvalid, bus.wready, (bus.wdata, bus.wstrb, bus.wlast))
        self._data(m, opened, new, splitter.component.burst.payload.length)
        self._plant_data(opened)
        return m

    def _pending(self, m: Module, master: Opened, flight: Opened) -> Value:
        """Bursts in flight are those on AW and those whose response the memory owes. Returns whether it has answered
        only what it was asked."""
        bus = self.master.bus
        owed = Signal(range(self.master.outstanding + 1))
        asked = self._only_asked(m, _implies(bus.bvalid, owed != 0))
        m.d.sync += owed.eq(owed + (bus.awvalid & bus.awready) - (bus.bvalid & bus.bready))
        with m.If(asked):
            m.d.comb += Assert(flight.stored == master.valid + owed)
            m.d.comb += Assert(~(master.valid & self.master.idle))
        return asked

    def _data(self, m: Module, master: Opened, new: Value, length: Value) -> None:
        """W against the lengths on AW, which are kept here as they are issued."""
        bus, depth = self.master.bus, self.master.outstanding
        lengths = Array(Signal(LENGTH_BITS, name=f"length_{place}") for place in range(depth))
        newest, oldest = Signal(range(depth)), Signal(range(depth))
        """Where the next length goes to, and that of the burst whose data are next."""
        due, gone = Signal(range(depth + 1)), Signal(LENGTH_BITS)
        """Bursts whose last beat has not gone out, and beats of the oldest that have."""
        beat, last = bus.wvalid & bus.wready, Signal()
        m.d.comb += last.eq(gone == lengths[oldest])
        with m.If(master.issue):
            m.d.sync += [lengths[newest].eq(length), newest.eq(newest + 1)]
        with m.If(beat):
            m.d.sync += [gone.eq(Mux(last, 0, gone + 1)), oldest.eq(oldest + last)]
        m.d.sync += due.eq(due + master.issue - (beat & last))
        m.d.comb += [
            Assert(_implies(new, bus.awlen == lengths[(newest - 1)[: len(newest)]])),
            Assert(_implies(bus.wvalid, (due != 0) & (bus.wlast == last))),
            Cover(beat & bus.wlast & (gone != 0)),
        ]
        self._queues(m, master, due)
        self._filled(m, master, lengths, newest, oldest, gone, due)

    def _queues(self, m: Module, master: Opened, due: Signal) -> None:
        """How full the queues are, so that none overflows and no response finds `flight` empty."""
        flight, promised = master.part("flight"), master.part("promised")
        filler = master.part("filler").component
        out = filler.valid & filler.last
        self._queue(m, flight)
        self._queue(m, promised)
        m.d.comb += [
            Assert(due == promised.stored + out),
            Assert(flight.stored == due + master.owed),
            Assert(
                _implies((flight.stored != 0) & ~flight.offered, (promised.stored == 1) & ~promised.offered)
            ),
        ]

    def _filled(
        self, m: Module, master: Opened, lengths: Array, newest: Value, oldest: Value, gone: Value, due: Value
    ) -> None:
        """What waits in `promised`, and how far the filler has come in it."""
        promised, filler = master.part("promised"), master.part("filler")
        layout, output = promised.component.o.payload.shape(), filler.component
        stored = promised.stored - promised.offered
        storage = promised.part("memory").module.submodules.storage
        m.d.comb += [
            Assert(promised.head == newest),
            Assert(promised.tail == (newest - stored)[: len(newest)]),
            Assert(oldest == (newest - due)[: len(newest)]),
        ]
        for place in range(self.master.outstanding):
            row = storage.read_port(domain="comb")
            waits = (place - promised.tail)[: len(newest)] < stored
            m.d.comb += [
                row.addr.eq(place),
                Assert(_implies(waits, data.View(layout, row.data).length == lengths[place])),
            ]
        taken = lengths[(promised.tail - 1)[: len(newest)]]
        with m.If(promised.offered):
            m.d.comb += Assert(_all(promised.component.o.payload.length == taken, filler.sent <= taken))
        with m.Else():
            m.d.comb += Assert(filler.sent == 0)
        with m.If(~output.valid):
            m.d.comb += Assert(filler.sent == gone)
        with m.Elif(output.last):
            m.d.comb += Assert(_all(filler.sent == 0, gone == lengths[oldest]))
        with m.Else():
            m.d.comb += Assert(_all(filler.sent == gone + 1, gone < lengths[oldest]))

    def _plant_data(self, master: Opened) -> None:
        """Faults on W."""
        filler = master.part("filler")
        output, length = filler.component, filler.component.promised.payload.length
        if self.planted == _LAST_EARLY:
            with filler.module.If(filler.move):
                filler.module.d.sync += output.last.eq(filler.sent == length >> 1)
        if self.planted == _DATA_REPLACED:
            filler.module.d.comb += filler.free.eq(output.promised.valid)
        if self.planted == _DATA_IN_RESET:
            master.module.d.comb += self.master.bus.wvalid.eq(output.valid)
