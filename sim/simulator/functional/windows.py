"""The window reader: which elements a MATMUL or a MAX_POOL reads (`docs/architecture.md`, "The window reader")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from intaglio.sim.simulator.functional.arithmetic import Integers, wrap
from intaglio.sim.simulator.functional.storage import State
from intaglio.spec.limits import WINDOW_ELEMENT_BITS, WINDOW_ROW_BITS

Values = Mapping[str, int]


def window_addresses(
    state: State,
    values: Values,
    positions: Integers,
    taps: tuple[Integers | int, Integers | int],
    start: Integers | int,
    lanes: int,
) -> Integers:
    """Where in the scratchpad each lane of each vector lies; `state.outside` for a lane outside the tensor.

    Parameters
    ----------
    positions : (positions,) numbers of output positions, row by row
    taps : the kernel's row and column, of so many passes or of one
    start : the passes' first element behind that of the kernel's column: chunks times lanes

    Returns
    -------
    (positions, passes, lanes)
    """
    kernel_row, kernel_column = taps
    # MAX_POOL's columns do not go down.
    down = kernel_row * values["kernel_row_step"] + kernel_column * values.get("kernel_column_row_step", 0)
    row: Integers
    column: Integers
    row, column = np.divmod(positions[:, None], values["output_columns"])
    y = wrap(values["first_row"] + row * values["row_stride"] + down, WINDOW_ROW_BITS)
    first = values["first_element"] + column * values["column_stride"]
    first = wrap(first + kernel_column * values["kernel_column_step"] + start, WINDOW_ELEMENT_BITS)
    place = first[..., None] + np.arange(lanes)
    inside = (
        ((y >= 0) & (y < values["height"]))[..., None] & (place >= 0) & (place < values["width_elements"])
    )
    address = (values["source"] + y * values["row_pitch"])[..., None] + place
    # The scratchpad's size is a power of two.
    return np.where(inside, address & (state.config.scratchpad_elements - 1), state.outside)


def kept_vectors(values: Values) -> Integers:
    """Of a depthwise row's vectors, those of which a sum is kept."""
    vectors = np.arange(values["first_output"], values["output_columns"])
    # An 8-bit step of 0 is none that a row of 16-bit length comes to.
    return vectors[:: values["output_step"] or 1 << 16]


def positions_of(values: Values) -> int:
    """Positions that a MATMUL fills of its bank."""
    columns = len(kept_vectors(values)) if values["depthwise"] else values["output_columns"]
    return max(values["output_rows"] - values["first_output_row"], 0) * columns
