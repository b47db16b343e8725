"""The window reader: which elements a MATMUL or a MAX_POOL reads (`docs/architecture.md`, "The window reader")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

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
    # MAX_POOL's columns do not go down, nor its rows along.
    down = kernel_row * values["kernel_row_step"] + kernel_column * values.get("kernel_column_row_step", 0)
    row: Integers
    column: Integers
    row, column = np.divmod(positions[:, None], values["output_columns"])
    y = wrap(values["first_row"] + row * values["row_stride"] + down, WINDOW_ROW_BITS)
    first = values["first_element"] + column * values["column_stride"]
    along = kernel_row * values.get("kernel_row_column_step", 0)
    first = wrap(first + kernel_column * values["kernel_column_step"] + along + start, WINDOW_ELEMENT_BITS)
    place = first[..., None] + np.arange(lanes)
    inside = (
        ((y >= 0) & (y < values["height"]))[..., None] & (place >= 0) & (place < values["width_elements"])
    )
    address = (values["source"] + y * values["row_pitch"])[..., None] + place
    # The scratchpad's size is a power of two.
    return np.where(inside, address & (state.config.scratchpad_elements - 1), state.outside)


def rows_of(values: Values) -> tuple[int, int]:
    """Rows of a MATMUL's vectors that have `output_columns`, and the vectors of one behind them that has its own."""
    ragged = values["last_row_columns"]
    return (values["output_rows"] - 1, ragged) if ragged else (values["output_rows"], 0)


def _kept(values: Values) -> tuple[range, range, int]:
    """Of the vectors with which sums are kept: the rows and the columns of those in whole rows, or all as columns of
    one row; and how many there are in the row that has a length of its own."""
    rows, ragged = rows_of(values)
    width = values["output_columns"]
    # An 8-bit step of 0 is none that a row of 16-bit length comes to.
    step = (values["output_step"] or 1 << 16) if values["depthwise"] else 1
    if values["depthwise"] and values["row_overlap"]:
        return range(1), range(values["first_output"], rows * width + ragged, step), 0
    first = values["first_output"] if values["depthwise"] else 0
    first_row = values["first_output_row"]
    behind = len(range(first, ragged, step)) if rows >= first_row else 0
    return range(first_row, rows), range(first, width, step), behind


def kept_vectors(values: Values) -> Integers:
    """Of a pass's vectors, row by row, the numbers of those with which a sum is kept, in order."""
    rows, columns, behind = _kept(values)
    whole = np.array(rows, np.int64)[:, None] * values["output_columns"] + np.array(columns, np.int64)
    step = columns.step
    start = rows_of(values)[0] * values["output_columns"] + columns.start
    return np.concatenate([whole.ravel(), start + step * np.arange(behind)])


def positions_of(values: Values) -> int:
    """Positions that a MATMUL fills of its bank."""
    rows, columns, behind = _kept(values)
    return len(rows) * len(columns) + behind


def beside_row(values: Values, vectors: Integers, before: int) -> npt.NDArray[np.bool_]:
    """Of depthwise sums that are kept with some vectors, whether the one so many `before` lies beside the sum's row."""
    overlap = values["row_overlap"]
    column = vectors % values["output_columns"]
    # A sum of this row, or of the row before.
    beside = np.where(column >= overlap, column < before, column >= before)
    return beside & (overlap != 0)
