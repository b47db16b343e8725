"""What no fault reports and no definition covers: fields with which a command's result is left open."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from intaglio.sim.simulator.functional.arithmetic import Integers
from intaglio.sim.simulator.functional.windows import kept_vectors, positions_of, rows_of
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
    if not positions_of(values):
        return "no sum that is kept"
    ends = values["row_overlap"] if values["depthwise"] else 0
    if values["lines"] and values["last_row_columns"] > ends:
        return "lines of a last row of vectors that ends more than sums of the row before"
    if values["depthwise"]:
        return _left_open_by_channel(values, config)
    passes = values["digits"] * values["kernel_rows"] * values["kernel_columns"] * values["chunks"]
    if values["lines"] and values["line_lanes"] + (passes - 1) * values["line_lanes_step"] > config.rows:
        return "a pass whose vectors take more lanes than the array has"
    return ""


def _left_open_by_channel(values: Mapping[str, int], config: AcceleratorConfig) -> str:
    if values["chunks"] != 1 or (values["digits"] != 1 and not values["weight_digits"]):
        return "a depthwise command of several chunks, or of digits of activations"
    if values["row_overlap"] >= config.depthwise_taps:
        return "rows that share as many vectors as a row of the array has taps, or more"
    if values["row_overlap"] and values["first_output"] < values["row_overlap"]:
        return "sums of a row before the first"
    kept = kept_vectors(values)
    rows, ragged = rows_of(values)
    width = values["output_columns"]
    ends = rows * width + ragged - 1
    if (
        not values["output_step"]
        or kept[-1] != ends
        or (not values["row_overlap"] and _lacks_ends(values, kept))
    ):
        return "a depthwise row whose last vector is not kept"
    return ""


def _lacks_ends(values: Mapping[str, int], kept: Integers) -> bool:
    """Whether a row that has sums has none with its last vector."""
    (rows, _), width = rows_of(values), values["output_columns"]
    last = np.arange(values["first_output_row"], rows) * width + width - 1
    return not np.isin(last, kept).all()
