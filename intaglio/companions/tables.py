"""The tables of docs/integration.md: ports, what they carry, the fields of a configuration; the contract's too."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping

from amaranth.hdl import Shape
from amaranth.lib.wiring import In, Signature

from intaglio.companions.ports import CLOCK, INTERRUPT, RESET
from intaglio.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from intaglio.spec import tables as contract
from intaglio.spec.config import AcceleratorConfig

__all__ = ["BURST_BEATS", "COSTS", "OUTSTANDING", "TABLES", "configuration_fields"]

BURST_BEATS, OUTSTANDING = 32, 8
"""Of the machine's bursts: the beats of the longest, and how many may be unanswered each way."""
_ADDRESS = "a multiple of a beat, inside a region that the host granted"
_LENGTH = f"beats less one: 0…{BURST_BEATS - 1}; no burst crosses a multiple of 4 KiB"
_SIZE = "a whole beat: log2 of its bytes"
_CACHE, _PROTECTION = "bits 7:4 of BUS_ATTRIBUTES", "bits 2:0 of BUS_ATTRIBUTES"
_ID = "0: all bursts have one ID, so that their answers come in order"
_SENT, _TAKEN = "held until taken", "may wait for valid, or not"
_RESPONSE = "OKAY, 0; any other stops the run with {}"
_MEMORY = {
    "awid": _ID,
    "awaddr": _ADDRESS,
    "awlen": _LENGTH,
    "awsize": _SIZE,
    "awburst": "1: INCR",
    "awcache": _CACHE,
    "awprot": _PROTECTION,
    "awvalid": f"{_SENT}; at most {OUTSTANDING} bursts without a response",
    "awready": _TAKEN,
    "wdata": "byte lane i is the byte at the beat's address + i",
    "wstrb": "the bytes that are written, all but in a row's first and last beat; none where a run was stopped",
    "wlast": "high with the burst's last beat",
    "wvalid": f"{_SENT}; may come before its address is taken",
    "wready": _TAKEN,
    "bid": "0; else the run stops with BUS_PROTOCOL",
    "bresp": _RESPONSE.format("WRITE_ERROR"),
    "bvalid": "after the burst's last beat; not taken before",
    "bready": "the machine waits for valid where the data have not gone out",
    "arid": _ID,
    "araddr": _ADDRESS,
    "arlen": _LENGTH,
    "arsize": _SIZE,
    "arburst": "1: INCR",
    "arcache": _CACHE,
    "arprot": _PROTECTION,
    "arvalid": f"{_SENT}; at most {OUTSTANDING} bursts without their last beat",
    "arready": _TAKEN,
    "rid": "0; else the run stops with BUS_PROTOCOL",
    "rdata": "byte lane i is the byte at the beat's address + i",
    "rresp": _RESPONSE.format("READ_ERROR"),
    "rlast": "high with the burst's last beat and no other; else the run stops with BUS_PROTOCOL",
    "rvalid": "beats of all bursts in the order of their addresses",
    "rready": "low where the machine has no room yet",
}
"""What each signal of memory's bus carries."""
_REGISTERS = {
    "awaddr": "byte address of a register; the design decodes what is above",
    "awvalid": "address and data in any order",
    "awready": "high unless an address waits for its data",
    "wdata": "",
    "wstrb": "the bytes that are written",
    "wvalid": "",
    "wready": "high unless data wait for their address",
    "bresp": "always OKAY, 0: what does not exist is not written",
    "bvalid": "2 cycles after address and data are taken; one write at a time",
    "bready": "",
    "araddr": "byte address of a register",
    "arvalid": "",
    "arready": "high unless a read is under way",
    "rdata": "0 where no register is",
    "rresp": "always OKAY, 0",
    "rvalid": "2 cycles after the address is taken; one read at a time",
    "rready": "",
}
"""What each signal of the registers' bus carries."""
COSTS = {
    "name": "nothing; it is no part of the hardware",
    "rows": "a multiplier, and a place of an adder tree, a column",
    "columns": "a multiplier a row, an adder tree, an accumulator",
    "activation_types": "multipliers of this width, one bit more where both signs are there; width of the scratchpad",
    "weight_type": "multipliers of this width; binary and ternary weights have none",
    "accumulator_bits": "memory: two banks of `accumulator_depth` sums a column; the width of the rescale",
    "accumulator_depth": "memory, as above; fewer positions a block, so more reads of weights",
    "rescales": "a path in each lane; affine multiplies 32 bits by 32, and brings ELEMENTWISE and softmax",
    "rescale_lanes": "a lane: of affine, the largest unit after the array. Few lanes slow layers of few inputs",
    "scratchpad_bytes": "block RAM; what does not fit is kept in memory, and moved",
    "weight_buffer_bytes": "block RAM; how far weights are fetched ahead, so that a slow memory is hidden",
    "depthwise_taps": "registers of vectors beside the array; 0: depthwise layers run as convolutions, if at all",
    "line_buffer_rows": "block RAM, `line_buffer_columns` vectors a row; saves reads of the scratchpad",
    "line_buffer_columns": "block RAM, as above; rows that do not fit are read anew by each block",
    "lane_digits": "an adder tree's root for each digit",
    "bus_bits": "width of the masters' queues; layers that wait for memory take half the cycles at best",
    "scratchpad_lanes": "width of the scratchpad, and of its shifters; fewer reads for sums of two tensors",
    "address_bits": "flip-flops of bases, addresses and queues of bursts",
}
"""What a configuration pays for each field."""


def _width(signal: str, make: Callable[[int, int], Signature]) -> str:
    """Bits of a signal, as a formula of the configuration's fields, found by comparing buses."""
    several = ((32, 64), (40, 64), (64, 128))
    found = [Shape.cast(make(*bits).members[signal].shape).width for bits in several]
    formulas = {
        str(found[0]): [found[0]] * len(several),
        "`address_bits`": [address for address, _ in several],
        "`bus_bits`": [data for _, data in several],
        "`bus_bits` / 8": [data // 8 for _, data in several],
    }
    return next(formula for formula, widths in formulas.items() if widths == found)


def _signals(
    bus: str, make: Callable[[int, int], Signature], meanings: Mapping[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    for signal, member in make(32, 64).members.items():
        way = "in" if member.flow == In else "out"
        yield f"`{bus}_{signal}`", way, _width(signal, make), meanings[signal]


def _plain() -> str:
    return contract.table(
        ("port", "way", "bits", "what it is"),
        (
            (f"`{CLOCK}`", "in", 1, "the one clock; all is at its rising edge"),
            (f"`{RESET}`", "in", 1, "high: reset, taken at the clock's rising edge"),
            (
                f"`{INTERRUPT}`",
                "out",
                1,
                "high from the end of a run until INTERRUPT is cleared or a run started",
            ),
        ),
    )


def _memory() -> str:
    return contract.table(("port", "way", "bits", "values"), _signals("m_axi", AXI4Signature, _MEMORY))


def _registers() -> str:
    return contract.table(
        ("port", "way", "bits", "values"),
        _signals("s_axil", lambda address_bits, data_bits: AXI4LiteSignature(), _REGISTERS),
    )


def configuration_fields() -> dict[str, str]:
    """What `AcceleratorConfig` says of each of its fields, limits among it."""
    text = inspect.getdoc(AcceleratorConfig) or ""
    parts = re.findall(r"^(\w+) : [^\n]*\n((?:    [^\n]*\n?)+)", text, re.M)
    return {name: " ".join(meaning.split()).replace("``", "`") for name, meaning in parts}


def _configuration() -> str:
    meanings = configuration_fields()
    rows = []
    for field in dataclasses.fields(AcceleratorConfig):
        default = "" if field.default is dataclasses.MISSING else field.default
        rows.append((f"`{field.name}`", default, meanings[field.name], COSTS[field.name]))
    return contract.table(("field", "default", "what it is, and its limits", "what it costs"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "ports": _plain,
    "memory signals": _memory,
    "register signals": _registers,
    "registers": contract.TABLES["registers"],
    "counters": contract.TABLES["counters"],
    "causes": contract.TABLES["causes"],
    "regions": contract.TABLES["regions"],
    "configuration": _configuration,
}
"""What makes each table, by its name in the page."""
