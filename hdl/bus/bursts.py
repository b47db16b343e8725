"""Transfers of any length, cut into the bursts of an AXI4 bus, inside the region that the host granted."""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from intaglio.hdl.bus.axi import (
    BOUNDARY_BYTES,
    DATA_BITS,
    FAULT_LAYOUT,
    LENGTH_BITS,
    MAX_BURST_BEATS,
    FaultSignature,
)
from intaglio.hdl.checks import check_integer
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_ADDRESS_BITS, TRANSFER_BITS
from intaglio.spec.registers import CAUSE_BITS, Cause

__all__ = ["BurstSplitter", "beat_address_bits", "beat_offset_bits", "check_outstanding"]


def beat_offset_bits(data_bits: int) -> int:
    """Bits of a byte's address within a beat of a bus of `data_bits`."""
    return exact_log2(data_bits // 8)


def beat_address_bits(data_bits: int) -> int:
    """Bits of a beat's address, in beats."""
    return MEMORY_ADDRESS_BITS - beat_offset_bits(data_bits)


def check_outstanding(value: object) -> int:
    """``value`` if it is a power of two from 2 to 64."""
    outstanding = check_integer("outstanding", value, 2, 64)
    if outstanding & (outstanding - 1):
        raise ValueError(f"`outstanding` must be a power of two, not {outstanding}")
    return outstanding


class BurstSplitter(wiring.Component):
    """Cuts transfers into bursts: as long as `max_burst_beats`, the 4 KiB boundaries and what is left allow.

    A transfer of which a beat lies outside ``[region_base, region_limit)`` is dropped whole, with a fault; one that
    runs past the top of the address space is outside as well. A transfer of 0 beats is dropped.

    Latency: 3 cycles from a transfer taken to its first burst offered. Throughput: a burst in 2 cycles: in one what is
    left is measured, in the other it moves on; the next transfer's first in 3.

    Parameters
    ----------
    max_burst_beats : int
        1...256.
    cause : Cause
        Of the fault.
    tag_shape : ShapeLike
        Of what every burst of a transfer carries along.
    data_bits : int
        Of the bus: 8 times a power of two.

    Members
    -------
    transfer : In(stream)
        Payload: ``beat`` (address of the first beat, in beats), ``beats``, ``command``, ``tag``.
    burst : Out(stream)
        Payload: ``beat``, ``length`` (beats less one), ``first`` and ``last`` of its transfer, ``command``, ``tag``.
    region_base, region_limit : In(MEMORY_ADDRESS_BITS)
    fault : Out(FaultSignature)
        A pulse, with the address of the transfer's first beat. Latency: 3 cycles from the transfer taken.
    flush : In(1)
        While high, transfers and bursts are dropped; the cycle after, all is as after reset.
    """

    def __init__(
        self, max_burst_beats: int, cause: Cause, tag_shape: ShapeLike, data_bits: int = DATA_BITS
    ) -> None:
        self.max_burst_beats = check_integer("max_burst_beats", max_burst_beats, 1, MAX_BURST_BEATS)
        self._cause = cause
        self._offset_bits = beat_offset_bits(data_bits)
        self._beat_bits = beat_address_bits(data_bits)
        self._transfer = data.StructLayout(
            {
                "beat": self._beat_bits,
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
        super().__init__(
            {
                "transfer": In(stream.Signature(self._transfer)),
                "burst": Out(stream.Signature(self._burst)),
                "region_base": In(MEMORY_ADDRESS_BITS),
                "region_limit": In(MEMORY_ADDRESS_BITS),
                "fault": Out(FaultSignature()),
                "flush": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal(self._transfer)
        """What of the transfer is not yet cut: `beat` and `beats` move on."""
        busy = Signal()
        measured = Signal()
        """`beats`, `last` and `inside` are of what is left now."""
        first = Signal()
        beats = Signal(range(MAX_BURST_BEATS + 1))
        last = Signal()
        inside = Signal()
        move = Signal()
        ends = Signal()
        fault = Signal(FAULT_LAYOUT, reset_less=True)
        self._measure(m, left, beats, last, inside)
        m.d.comb += [
            move.eq(measured & (~self.burst.valid | self.burst.ready)),
            ends.eq(last | ~inside),
            self.transfer.ready.eq(~busy | self.flush),
            self.fault.payload.eq(fault),
        ]
        m.d.sync += measured.eq(busy & ~move)
        with m.If(self.burst.ready):
            m.d.sync += self.burst.valid.eq(0)
        m.d.sync += self.fault.valid.eq(move & ~inside & ~self.flush)
        with m.If(move):
            m.d.sync += [
                left.beat.eq(left.beat + beats),
                left.beats.eq(left.beats - beats),
                busy.eq(~ends),
                first.eq(0),
                self.burst.valid.eq(inside),
                self.burst.payload.eq(
                    Cat(left.beat, (beats - 1)[:LENGTH_BITS], first, last, left.command, left.tag)
                ),
                fault.eq(
                    Cat(Const(self._cause, CAUSE_BITS), left.command, Const(0, self._offset_bits), left.beat)
                ),
            ]
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.sync += [
                left.eq(self.transfer.payload),
                busy.eq(self.transfer.payload.beats != 0),
                first.eq(1),
            ]
        with m.If(self.flush):
            m.d.sync += [busy.eq(0), measured.eq(0), self.burst.valid.eq(0)]
        return m

    def _measure(self, m: Module, left: data.View, beats: Signal, last: Signal, inside: Signal) -> None:
        """How many beats the next burst has, whether it is the last, and whether what is left lies in the region."""
        boundary_beats = BOUNDARY_BYTES >> self._offset_bits
        to_boundary = Signal(range(boundary_beats + 1))
        longest = Signal(range(MAX_BURST_BEATS + 1))
        end = Signal(self._beat_bits + 1)
        m.d.comb += [
            to_boundary.eq(boundary_beats - left.beat[: boundary_beats.bit_length() - 1]),
            longest.eq(Mux(to_boundary < self.max_burst_beats, to_boundary, self.max_burst_beats)),
            end.eq(left.beat + left.beats),
        ]
        m.d.sync += [
            last.eq(left.beats <= longest),
            beats.eq(Mux(left.beats <= longest, left.beats, longest)),
            # While bursts are cut off, the end stays and the beginning only grows: each finds the same answer.
            inside.eq(
                (Cat(Const(0, self._offset_bits), left.beat) >= self.region_base)
                & (end <= self.region_limit[self._offset_bits :])
            ),
        ]
