"""What bounds every machine, whatever its configuration: widths of addresses, of queues and counts."""

from __future__ import annotations

__all__ = [
    "COMMAND_INDEX_BITS",
    "LIMITS",
    "LONG_QUEUE_DEPTH",
    "MARKS",
    "MEMORY_OFFSET_BITS",
    "QUEUE_DEPTH",
    "REGISTER_BITS",
    "RESULT_BITS",
    "SCRATCHPAD_ADDRESS_BITS",
    "SEQUENCE_BITS",
    "SOFTMAX_ELEMENTS",
    "SOFTMAX_SUM_BITS",
    "TRANSFER_BITS",
    "WEIGHTS_QUEUE_DEPTH",
    "WINDOW_ELEMENT_BITS",
    "WINDOW_HEIGHT_BITS",
    "WINDOW_ROW_BITS",
]

MEMORY_OFFSET_BITS = 32
SCRATCHPAD_ADDRESS_BITS = 24
WINDOW_HEIGHT_BITS = 16
WINDOW_ROW_BITS = WINDOW_HEIGHT_BITS + 2  # as much again past the end, and a sign
WINDOW_ELEMENT_BITS = SCRATCHPAD_ADDRESS_BITS
TRANSFER_BITS = 24
REGISTER_BITS = 32
COMMAND_INDEX_BITS = REGISTER_BITS
SEQUENCE_BITS = 16
QUEUE_DEPTH = 2
LONG_QUEUE_DEPTH = 4
WEIGHTS_QUEUE_DEPTH = 8
MARKS = 256
RESULT_BITS = 8
SOFTMAX_SUM_BITS = 12
SOFTMAX_ELEMENTS = (1 << SOFTMAX_SUM_BITS) - 1

LIMITS = (
    ("MEMORY_OFFSET_BITS", MEMORY_OFFSET_BITS, "bits of a byte's offset in its region of memory"),
    ("SCRATCHPAD_ADDRESS_BITS", SCRATCHPAD_ADDRESS_BITS, "bits of an element's address in the scratchpad"),
    ("WINDOW_HEIGHT_BITS", WINDOW_HEIGHT_BITS, "bits of the rows of a tensor that a window walks over"),
    ("WINDOW_ROW_BITS", WINDOW_ROW_BITS, "bits, sign included, of the row that a window is at"),
    (
        "WINDOW_ELEMENT_BITS",
        WINDOW_ELEMENT_BITS,
        "bits, sign included, of the element of the row that a window is at",
    ),
    ("TRANSFER_BITS", TRANSFER_BITS, "bits of the length of a transfer between memory and the chip"),
    ("REGISTER_BITS", REGISTER_BITS, "bits of a register"),
    ("COMMAND_INDEX_BITS", COMMAND_INDEX_BITS, "bits of a command's place in the list"),
    ("SEQUENCE_BITS", SEQUENCE_BITS, "bits of the number of commands that an engine has completed"),
    ("QUEUE_DEPTH", QUEUE_DEPTH, "commands that wait in front of an engine, besides those at work in it"),
    (
        "LONG_QUEUE_DEPTH",
        LONG_QUEUE_DEPTH,
        "the same for LOAD, MATMUL and RESCALE, of which a block of a layer has one or more",
    ),
    (
        "WEIGHTS_QUEUE_DEPTH",
        WEIGHTS_QUEUE_DEPTH,
        "the same for WEIGHTS, which never waits and is sent ahead",
    ),
    ("MARKS", MARKS, "time stamps that the machine keeps of commands with `mark` set"),
    (
        "RESULT_BITS",
        RESULT_BITS,
        "bits of the widest result of a rescale, and of the widest weight of a network",
    ),
    ("SOFTMAX_SUM_BITS", SOFTMAX_SUM_BITS, "integer bits of softmax's sum of exponentials, which is Q12.19"),
    (
        "SOFTMAX_ELEMENTS",
        SOFTMAX_ELEMENTS,
        "elements of a run of softmax: so many exponentials of 1 fit the sum",
    ),
)
"""Name, value and meaning of each."""
