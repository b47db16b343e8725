"""int8 networks from TensorFlow Lite's .tflite files, with the arithmetic of the runtime that the user names.

`file` says what is in a file, its bytes checked by `flatbuffer`; `importer` goes through it. `supported` is the table
of operators: which function makes layers of each, how its operands are read (`operands`), what else must hold
(`constraints`). The functions are in `operators`, a file a family, and work on the `context`.

Ref: LiteRT 2.3.0's reference kernels, and TensorFlow Lite Micro's
"""

from __future__ import annotations

import os
from pathlib import Path

from intaglio.network.errors import NetworkError
from intaglio.network.files import read_bytes, shown
from intaglio.network.formats.tflite.file import read, recognised
from intaglio.network.formats.tflite.importer import FORMAT, RUNTIMES, import_file
from intaglio.network.graph import Network

__all__ = ["FORMAT", "RUNTIMES", "load", "loads", "recognised"]


def load(path: str | os.PathLike[str], runtime: str = "litert") -> Network:
    """Read the file `path`; see `loads`."""
    return loads(read_bytes(path), runtime, name=Path(path).stem, where=shown(path))


def loads(
    content: bytes, runtime: str = "litert", *, name: str = "tflite", where: str = "<bytes>"
) -> Network:
    """The network that `content`, a .tflite file, describes.

    Parameters
    ----------
    content
        The file.
    runtime
        Whose arithmetic it means: ``litert`` (LiteRT's reference kernels) or ``tflm`` (TensorFlow Lite Micro).
    name
        The network's name.
    where
        The path that error messages show.

    Raises
    ------
    NetworkError
        One line: `where`, and what is damaged, or every operator that is not supported and why.
    """
    if runtime not in RUNTIMES:
        raise NetworkError(f"unknown runtime {runtime!r}; give one of {', '.join(RUNTIMES)}")
    file = read(content, where)
    try:
        return import_file(file, runtime, name)
    except NetworkError as error:
        raise NetworkError(f"{where}: {error}") from error
