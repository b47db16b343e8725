"""What the reader and the writer of the exchange format must agree on (`docs/exchange.md`)."""

from __future__ import annotations

import json
import typing
import zipfile
from collections.abc import Iterable
from typing import Any

from intaglio.network import graph

FORMAT = "Intaglio exchange (.npz)"
VERSION = 2
"""The newest; version 1 has no binary weights. A file is of the oldest version that can say it."""
GRAPH = "network"
"""The member that holds the JSON text."""

LAYERS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.AnyLayer)}
RESCALES: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(graph.Rescale)}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. LZMA takes the memory that its header asks for."""

MAX_BYTES = 1 << 27
"""Of all members, unpacked; an array of bytes takes eight times that as the graph's int64."""
MAX_TEXT_BYTES = 1 << 24
"""Of the JSON text, which as Python's objects takes some twenty times that."""
MAX_NAME = 256
"""Characters of a name, which error lines repeat."""
A_NAME = f"a printable string of 1 to {MAX_NAME} characters"


def version_of(layers: Iterable[graph.AnyLayer]) -> int:
    """The oldest version of the format that can say `layers`."""
    binary = any(
        isinstance(layer.weight_type, graph.BinaryType)
        for layer in layers
        if isinstance(layer, graph.WeightLayer)
    )
    return 2 if binary else 1


def is_name(text: str) -> bool:
    """Whether error lines and tables can show it."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def short(value: Any) -> str:
    """As JSON has it, in ASCII, cut where it is long."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return "a list in lists"
    return text if len(text) <= 40 else f"{text[:37]}..."
