"""Verilator's own runtime, compiled once for all machines: it takes longer to compile than a small one's model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from intaglio.sim.simulator import cache

_OBJECTS = "verilated*.[od]"
"""Objects, and what make knows of their sources."""


def place_of(home: Path, made_with: Mapping[str, object]) -> Path:
    """Where, below `home`, the objects of a runtime are kept that was compiled with these tools and options."""
    return home / hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]


def lend(place: Path, objects: Path) -> list[str]:
    """Puts a kept runtime into a build's folder; the options that let make take it as it is, though Verilator writes
    a makefile that is newer. None where none is kept whole."""
    if not cache.is_whole(place):
        return []
    for kept in place.glob(_OBJECTS):
        shutil.copyfile(kept, objects / kept.name)
    return [word for kept in sorted(place.glob("*.o")) for word in ("-MAKEFLAGS", f"-o {kept.name}")]


def keep(objects: Path, place: Path) -> None:
    """Keeps the runtime that a build has compiled, unless one is kept whole."""
    if cache.is_whole(place):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with cache.alone(place):
        if not cache.is_whole(place):
            with cache.work_on(place) as work:
                kept = work / "kept"
                kept.mkdir()
                for made in objects.glob(_OBJECTS):
                    shutil.copyfile(made, kept / made.name)
                cache.seal(kept, {})
                shutil.rmtree(place, ignore_errors=True)
                kept.rename(place)
