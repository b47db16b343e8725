"""Transfers of any length, cut into the bursts of an AXI4 bus, inside the regions that the host granted."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.bus.axi import (
    ADDRESS_BITS,
    BOUNDARY_BYTES,
    DATA_BITS,
    LENGTH_BITS,
    MAX_BURST_BEATS,
    FaultSignature,
    fault_layout,
)
from intaglio.hdl.checks import check_integer
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_OFFSET_BITS, TRANSFER_BITS
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import CAUSE_BITS, Cause

__all__ = [
    "BurstSplitter",
    "beat_address_bits",
    "beat_offset_bits",
    "check_outstanding",
    "connect_regions",
    "region_members",
]


def beat_offset_bits(data_bits: int) -> int:
    """Bits of a byte's address within a beat of a bus of `data_bits`."""
    return exact_log2(data_bits // 8)


def beat_address_bits(address_bits: int, data_bits: int) -> int:
    """Bits of a beat's address, in beats."""
    return address_bits - beat_offset_bits(data_bits)


def region_members(regions: Sequence[Region], address_bits: int) -> dict[str, wiring.Member]:
    """Inputs of each region: ``NAME_base``, an address, and ``NAME_limit``, bytes from there on; both whole beats."""
    return {
        f"{region.name.lower()}_{word}": In(bits)
        for region in regions
        for word, bits in (("base", address_bits), ("limit", MEMORY_OFFSET_BITS))
    }


def connect_regions(m: Module, regions: Sequence[Region], inner: object, outer: object) -> None:
    """Drive the `region_members` of a part from values of the same names."""
    for region in regions:
        for word in ("base", "limit"):
            name = f"{region.name.lower()}_{word}"
            m.d.comb += getattr(inner, name).eq(getattr(outer, name))


def check_outstanding(value: object) -> int:
    """``value`` if it is a power of two from 2 to 64."""
    outstanding = check_integer("outstanding", value, 2, 64)
    if outstanding & (outstanding - 1):
        raise ValueError(f"`outstanding` must be a power of two, not {outstanding}")
    return outstanding


class BurstSplitter(wiring.Component):
    """Cuts transfers into bursts: as long as `max_burst_beats`, the 4 KiB boundaries and what is left allow.

    A transfer names a region and an offset in it. One of which a beat lies at the region's limit or behind it, or whose
    region is none of `regions`, is dropped whole, with a fault. A transfer of 0 beats is dropped.

    The check is of offsets alone; the base is added beside it, so that it takes no time, and no burst of what turns
    out to be refused is offered.

    Latency: 3 cycles from a transfer taken to its first burst offered. Throughput: a burst in 2 cycles: in one what is
    left is measured, in the other it moves on; the next transfer's first in 3.

    Parameters
    ----------
    max_burst_beats : int
        1...256.
    cause : Cause
        Of the fault.
    regions : sequence of Region
        Those that a transfer may name.
    tag_shape : ShapeLike
        Of what every burst of a transfer carries along.
    address_bits, data_bits : int
        Of the bus; data bits are 8 times a power of two.

    Members
    -------
    transfer : In(stream)
        Payload: ``region``; ``beat``, the offset of the first beat, in beats; ``beats``, ``command``, ``tag``.
    burst : Out(stream)
        Payload: ``beat`` (its address in beats), ``length`` (beats less one), ``first`` and ``last`` of its transfer,
        ``command``, ``tag``.
    ... : In
        `region_members` of `regions`. They must not change while anything is pending.
    fault : Out(FaultSignature)
        A pulse, with the address of the transfer's first beat, or 0 where its region is none of `regions`. Latency: 3
        cycles from the transfer taken.
    flush : In(1)
        While high, transfers and bursts are dropped; the cycle after, all is as after reset.
    """

    def __init__(
        self,
        max_burst_beats: int,
        cause: Cause,
        regions: Sequence[Region],
        tag_shape: ShapeLike,
        address_bits: int = ADDRESS_BITS,
        data_bits: int = DATA_BITS,
    ) -> None:
        self.max_burst_beats = check_integer("max_burst_beats", max_burst_beats, 1, MAX_BURST_BEATS)
        self._cause = cause
        self._regions = tuple(regions)
        self._offset_bits = beat_offset_bits(data_bits)
        self._beat_bits = beat_address_bits(address_bits, data_bits)
        self._transfer = data.StructLayout(
            {
                "region": REGION_BITS,
                "beat": MEMORY_OFFSET_BITS - self._offset_bits,
                "beats": TRANSFER_BITS,
                "command": COMMAND_INDEX_BITS,
                "tag": tag_shape,
            }
        )
        self._burst = data.StructLayout(
            {
                "beat": self._beat_bits,
                "length": LENGTH_BITS,
                "first": 1,
                "last": 1,
                "command": COMMAND_INDEX_BITS,
                "tag": tag_shape,
            }
        )
        self._fault = fault_layout(address_bits)
        super().__init__(
            {
                "transfer": In(stream.Signature(self._transfer)),
                "burst": Out(stream.Signature(self._burst)),
                **region_members(self._regions, address_bits),
                "fault": Out(FaultSignature(address_bits)),
                "flush": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal(self._transfer)
        """What of the transfer is not yet cut: `beats` moves on, `beat` stays where the transfer begins."""
        address = Signal(self._beat_bits)
        """Of what is left, in beats."""
        busy = Signal()
        measured = Signal()
        """`beats`, `last` and `inside` are of what is left now."""
        first = Signal()
        beats = Signal(range(MAX_BURST_BEATS + 1))
        last = Signal()
        inside = Signal()
        move = Signal()
        fault = Signal(self._fault, reset_less=True)
        self._measure(m, address, left.beats, beats, last)
        may = self._check(m, left, inside)
        m.d.comb += [
            move.eq(measured & (~self.burst.valid | self.burst.ready)),
            self.transfer.ready.eq(~busy | self.flush),
            self.fault.payload.eq(fault),
        ]
        m.d.sync += measured.eq(busy & ~move)
        with m.If(self.burst.ready):
            m.d.sync += self.burst.valid.eq(0)
        m.d.sync += self.fault.valid.eq(move & ~inside & ~self.flush)
        with m.If(move):
            m.d.sync += [
                address.eq(address + beats),
                left.beats.eq(left.beats - beats),
                busy.eq(inside & ~last),
                first.eq(0),
                self.burst.valid.eq(inside),
                self.burst.payload.eq(
                    Cat(address, (beats - 1)[:LENGTH_BITS], first, last, left.command, left.tag)
                ),
                fault.eq(
                    Cat(Const(self._cause, CAUSE_BITS), left.command, Const(0, self._offset_bits), address)
                ),
            ]
        with m.If(~may):
            m.d.sync += fault.address.eq(0)
        taken = self.transfer.payload
        base = self._of_region(taken.region, "base")
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.sync += [
                left.eq(taken),
                address.eq(base + taken.beat),
                busy.eq(taken.beats != 0),
                first.eq(1),
            ]
        with m.If(self.flush):
            m.d.sync += [busy.eq(0), measured.eq(0), self.burst.valid.eq(0)]
        return m

    def _of_region(self, region: Value, word: str) -> Value:
        """A region's base or limit, in beats; any of them for what is none of `regions`."""
        *others, last = self._regions
        value = getattr(self, f"{last.name.lower()}_{word}")
        for other in others:
            value = Mux(region == other, getattr(self, f"{other.name.lower()}_{word}"), value)
        return value[self._offset_bits :]

    def _measure(self, m: Module, address: Signal, left: Value, beats: Signal, last: Signal) -> None:
        """How many beats the next burst has, and whether it is the last."""
        boundary_beats = BOUNDARY_BYTES >> self._offset_bits
        to_boundary = Signal(range(boundary_beats + 1))
        longest = Signal(range(MAX_BURST_BEATS + 1))
        m.d.comb += [
            to_boundary.eq(boundary_beats - address[: boundary_beats.bit_length() - 1]),
            longest.eq(Mux(to_boundary < self.max_burst_beats, to_boundary, self.max_burst_beats)),
        ]
        m.d.sync += [
            last.eq(left <= longest),
            beats.eq(Mux(left <= longest, left, longest)),
        ]

    def _check(self, m: Module, left: data.View, inside: Signal) -> Value:
        """Whether all that is left is inside; returned at once is whether the region may be used at all. What is left
        only shrinks: what was found inside stays so."""
        end = Signal(MEMORY_OFFSET_BITS - self._offset_bits + 1)
        may = Cat(left.region == region for region in self._regions).any()
        m.d.comb += end.eq(left.beat + left.beats)
        m.d.sync += inside.eq(may & (end <= self._of_region(left.region, "limit")))
        return may
