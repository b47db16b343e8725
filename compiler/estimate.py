"""What the cost model says of a network on a machine."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.compiler.program import LayerInfo


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one inference takes, without a simulation.

    Attributes
    ----------
    cycles : from start to interrupt, weights read from memory, with the memory that figures are measured with
    layer_cycles : by layer, from the completion of the one before; they add up to `cycles`
    read_bytes, write_bytes : on the bus, whole beats
    memory_bytes : of memory, for the program, inputs, outputs and what does not fit on chip
    warnings : as `Program` has them
    """

    cycles: int
    layers: tuple[LayerInfo, ...]
    layer_cycles: tuple[int, ...]
    read_bytes: int
    write_bytes: int
    memory_bytes: int
    warnings: tuple[str, ...]
