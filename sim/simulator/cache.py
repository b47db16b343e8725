"""Where simulators that were built are kept, and whether one is whole.

Nothing is written beside the package, which may be read-only or another user's. A folder that is kept holds a record
of its files' SHA-256, since what a full disk or a broken copy left of a library ends in a crash where it is loaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ELSEWHERE = "set INTAGLIO_CACHE to a folder elsewhere"
"""What a user can do about a cache that does not serve."""
RECORD = "built.json"
LOCK, WORK, LOG = ".lock", ".building", ".log"
"""What stands beside a kept folder, by its name and this."""


def folder() -> Path:
    """`$INTAGLIO_CACHE`, else `$XDG_CACHE_HOME/intaglio`, else `~/.cache/intaglio`; it may not exist yet.

    Raises
    ------
    RuntimeError
        Where none of the variables is set and this user has no home.
    """
    if named := os.environ.get("INTAGLIO_CACHE"):
        return Path(named).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one is invalid and to be ignored. # Ref: XDG Base Directory Specification 0.8, "Basics"
    base = Path(caches) if os.path.isabs(caches) else Path.home() / ".cache"
    return base / "intaglio"


def seal(place: Path, facts: Mapping[str, object]) -> None:
    """Writes the record of the files in `place`, with `facts` of how they were made for whoever reads it."""
    files = {path.name: _digest(path) for path in sorted(place.iterdir())}
    (place / RECORD).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n")


def is_whole(place: Path) -> bool:
    """Whether `place` is there with all files that it was sealed with, each as it was."""
    try:
        files = json.loads((place / RECORD).read_bytes())["files"]
        return bool(files) and all(_digest(place / name) == digest for name, digest in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


@contextmanager
def alone(place: Path) -> Iterator[int]:
    """One process at a time makes `place`, the others wait; a descriptor of the lock, which children may hold on to."""
    with _beside(place, LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


@contextmanager
def work_on(place: Path) -> Iterator[Path]:
    """A folder to make `place` in, empty at first and gone at the end; for whoever is `alone` with it.

    What builds that were killed have left goes first, here and beside.
    """
    for left in place.parent.glob(f"*{WORK}"):
        if left.stem == place.name or _is_free(left.with_suffix(LOCK)):
            shutil.rmtree(left, ignore_errors=True)
    work = _beside(place, WORK)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def log_of(place: Path) -> Path:
    """Where the log of a build of `place` that failed is kept."""
    return _beside(place, LOG)


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(place.name + ending)


def _is_free(lock: Path) -> bool:
    """Whether nobody holds it: no build, and no compiler that a killed one has left."""
    try:
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
