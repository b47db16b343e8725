"""The bytes of a user's file, or one line that says why there are none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from intaglio.network.errors import NetworkError

MAX_FILE_BYTES = 1 << 30
"""More than any network or data set of this project; an endless device would fill the memory."""


def shown(path: str | os.PathLike[str]) -> str:
    """The path as an error line shows it: control characters escaped, so that the line stays one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in os.fspath(path)
    )


def reason(error: Exception) -> str:
    """Why a file could not be read or written, in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole content of the file `path`.

    Raises
    ------
    NetworkError
        Where the file is missing, a directory, not readable or over 1 GiB.
    """
    try:
        if Path(path).is_dir():
            raise NetworkError(f"{shown(path)}: is a directory; name the file in it")
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"{shown(path)}: cannot be read ({reason(error)}); check the path") from error
    if len(content) > MAX_FILE_BYTES:
        raise NetworkError(f"{shown(path)}: is larger than {MAX_FILE_BYTES >> 20} MiB; is it the right file?")
    return content
