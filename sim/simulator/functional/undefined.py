"""What no fault reports and no definition covers: fields with which a command's result is left open."""

from __future__ import annotations

from collections.abc import Mapping

from intaglio.sim.simulator.functional.windows import kept_vectors
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

__all__ = ["left_open"]


def left_open(opcode: Opcode, values: Mapping[str, int], config: AcceleratorConfig) -> str:
    """What of a command that the machine takes is not defined by its fields; empty where all is."""
    if opcode is Opcode.RESCALE and values["low"] > values["high"]:
        return "limits in the wrong order"
    if opcode is not Opcode.MATMUL:
        return ""
    low_digits = values["digits"] > 1 and not values["weight_digits"]
    if (low_digits or not values["signed"]) and not config.unsigned_activations:
        return "unsigned elements on a machine that has none"
    if values["signed"] and not config.signed_activations:
        return "signed elements on a machine that has none"
    if values["first_output_row"] >= values["output_rows"]:
        return "no row of sums that is kept"
    return _left_open_by_channel(values) if values["depthwise"] else ""


def _left_open_by_channel(values: Mapping[str, int]) -> str:
    if values["chunks"] != 1 or (values["digits"] != 1 and not values["weight_digits"]):
        return "a depthwise command of several chunks, or of digits of activations"
    kept = kept_vectors(values)
    if not values["output_step"] or not len(kept) or kept[-1] != values["output_columns"] - 1:
        return "a depthwise row whose last vector is not kept"
    return ""
