"""The latencies of the machine, in cycles: what cannot be read from its configuration.

What is stated here is stated in `hdl` as well, which the compiler does not import: a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.spec.config import AcceleratorConfig

MEMORY_LATENCY = 32
"""From an address to its first data, and from the last data to the response, of the memory that figures are measured
with."""
OUTSTANDING = 8
"""Bursts under way at a time."""
WEIGHT_BEATS_IN_FLIGHT = 64
"""Beats of weights under way, at most."""
BURST_BEATS = 32
"""Beats of the longest burst."""
FETCH_COMMANDS = 4
"""Commands that are fetched ahead."""

READ = 3
"""From an address of the scratchpad to its vector."""
FIFO = 2
"""From a value taken by a buffer to the value offered."""
WINDOW = 3
"""From a command to the window reader's first vector."""
LINES = 2
"""From a vector at the line buffer to the array, where there is one."""
CREDITS = 8
"""Vectors that are read ahead of their use."""
ADDER_LEVELS = 3
"""Levels of the array's adder tree between two registers."""
LANES = 8
"""From what the affine lanes take to their results."""
RESCALES = {"sbnq": 4, "affine": 2 + LANES, "llsq": 4}
"""From a total to its result."""
OPERANDS = 6
"""From elements of two operands to what the rescale's lanes take."""
BURST = 2
"""From one burst of a client's to its next."""
RECIPROCAL = 44 + 7 * LANES
"""Of a run of softmax, besides three cycles an element: seven products, each after the one before."""


@dataclass(frozen=True)
class Timing:
    """The latencies of one machine; what is counted from and to says each.

    Attributes
    ----------
    split : from a transfer to its first burst asked for
    data : from a burst asked for to its first beat at whoever asked
    assembled : from a command's last beat to the verdict on the whole command
    start : from there, or from the completion of the last that it waits for, to where its engine sees it
    leave : from a command taken until the one behind it stands there
    write : from LOAD's last beat to its write, with which it is complete
    shadow : from the last beat of a tile to the tile usable
    fill : from MATMUL's command to its first vector in the array
    sums : from a MATMUL's last vector past the array's input to its completion
    rescale : from a RESCALE's last read to its completion; its writes are as late
    lanes : from a RESCALE's read to the affine lanes
    pool_fill, pool_drain : from MAX_POOL's command to its first read; from its last read to its completion
    store_drain : from STORE's last read to its completion
    operands_fill, results_drain : from a sum's command to its first elements in the lanes; from its last there to its
        completion
    lookup_fill, lookup_drain : from LOOKUP's command to its first elements at the tables, where LOAD_TABLE's first
        vector is as soon; from its last there to its completion
    mark : from a completion to the time stamp
    end : from the last completion to the interrupt
    """

    sums: int
    rescale: int
    fill: int
    split: int = 4
    data: int = MEMORY_LATENCY + 2
    assembled: int = 4
    start: int = 1
    leave: int = 1
    write: int = 1
    shadow: int = 2
    lanes: int = 3
    pool_fill: int = WINDOW + FIFO
    pool_drain: int = READ + FIFO
    store_drain: int = MEMORY_LATENCY + READ + 3
    operands_fill: int = READ + FIFO + 1 + OPERANDS
    results_drain: int = LANES + FIFO + 1
    lookup_fill: int = READ + FIFO
    lookup_drain: int = 1 + FIFO + 1
    mark: int = 1
    end: int = 4

    @classmethod
    def of(cls, config: AcceleratorConfig) -> Timing:
        """Those of a configuration's machine."""
        levels = (config.rows - 1).bit_length()
        array = 2 + max(-(-levels // ADDER_LEVELS), 1)
        return cls(
            sums=array + 2,
            rescale=1 + max(RESCALES[scheme] for scheme in config.rescales),
            fill=WINDOW + READ + FIFO + (LINES if config.line_buffer_rows else 0),
        )
