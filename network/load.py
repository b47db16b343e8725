"""A network from a file in whichever format it is; the content says which, not the file's name."""

from __future__ import annotations

import os
from pathlib import Path

from intaglio.network.errors import NetworkError
from intaglio.network.files import read_bytes, shown
from intaglio.network.formats import exchange, integernet
from intaglio.network.graph import Network

RUNTIMES = ("litert", "tflm")
KNOWN_FORMATS = (integernet.FORMAT, "TensorFlow Lite", exchange.FORMAT)


def load(path: str | os.PathLike[str], bits: int = 4, runtime: str = "litert") -> Network:
    """The network in the file `path`.

    Parameters
    ----------
    path
        An IntegerNet text export, a .tflite file, or an .npz of `intaglio.network.formats.exchange`.
    bits
        N of an IntegerNet network, 2 to 8; that format does not state it, others do and ignore this.
    runtime
        Whose rounding a TFLite file means, ``litert`` or ``tflm``; other formats state their arithmetic.

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do: no such file, an unknown format, a malformed file.
    """
    if runtime not in RUNTIMES:
        raise NetworkError(f"unknown runtime {runtime!r}; give one of {', '.join(RUNTIMES)}")
    content, where = read_bytes(path), shown(path)
    if not content:
        raise NetworkError(
            f"{where}:1: the file is empty; give a network in a known format: {', '.join(KNOWN_FORMATS)}"
        )
    if integernet.recognised(content):
        return integernet.loads(content, bits, name=Path(path).stem, where=where)
    if content[4:8] == b"TFL3":
        # The schema's accessors are many modules, which take longer to import than most networks to read.
        from intaglio.network.formats import tflite

        return tflite.loads(content, runtime, name=Path(path).stem, where=where)
    if exchange.recognised(content):
        return exchange.loads(content, where=where)
    raise NetworkError(f"{where}:1: this is in no known format; known are: {', '.join(KNOWN_FORMATS)}")
