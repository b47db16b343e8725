"""Writes the Verilog of a machine, under a name of the user's, with what tools want beside it, and that of the units
that can be used alone.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from intaglio.companions import companions, file_names
from intaglio.companions.constraints import CLOCK_MHZ
from intaglio.errors import ArgumentError
from intaglio.network.files import shown
from intaglio.outputs import check_writable, reason
from intaglio.session import Config, load_config


def generate(
    config: Config = "sbnq8x8",
    output: str | os.PathLike[str] = "build/verilog",
    *,
    name: str | None = None,
    units: bool = False,
    probes: bool = False,
    clock_mhz: float = CLOCK_MHZ,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write the Verilog of a machine, as module `name` in ``NAME.v``, and beside it the files of
    `intaglio.companions.file_names`; the files, the machine's first, then those, then the units'.

    Parameters
    ----------
    config : a configuration that ships, a TOML file, or a loaded configuration
    output : a folder, made if needed
    name : a Verilog identifier; ``intaglio_<config>`` where None
    units : write each unit of `intaglio.hdl.catalogue`, too, as ``UNIT.v``
    probes : keep the ports by which a simulation sees what is written on chip
    clock_mhz : the clock that the constraints ask for
    progress : called with the number of files that are written

    Raises
    ------
    NetworkError
        The configuration, the name, the clock or the folder is not usable.
    """
    accelerator, folder = load_config(config), Path(output)
    if name is not None and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ArgumentError(
            "name", f"{shown(name)}: must be a Verilog identifier: a letter or _, then letters, digits and _"
        )
    if not (math.isfinite(clock_mhz) and clock_mhz > 0):
        raise ArgumentError("clock_mhz", f"{clock_mhz:g}: must be above 0")
    # Amaranth is slow to import, and is not wanted where an argument is refused.
    from intaglio.hdl import catalogue
    from intaglio.hdl.verilog import emit, emit_machine, machine_name

    if name is None:
        name = machine_name(accelerator)
    chosen = catalogue.units() if units else {}
    if name in chosen:
        raise ArgumentError("name", f"{name} is the name of a unit, which is written beside; give another")
    with _errors_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (f"{name}.v", *file_names(name)):
        check_writable("output", folder / file)

    files: list[Path] = []

    def write(text: str, file: str) -> None:
        path = folder / file
        with _errors_of(path):
            path.write_text(text, encoding="utf-8")
        files.append(path)
        progress(len(files))

    try:
        text = emit_machine(accelerator, name, probes=probes)
    except ValueError as error:  # a word of the language, which Yosys knows
        raise ArgumentError("name", f"{name}: {error}") from error
    write(text, f"{name}.v")
    for file, companion in companions(text, name, accelerator, clock_mhz).items():
        write(companion, file)
    for unit, make in chosen.items():
        write(emit(make(), unit), f"{unit}.v")
    return files


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ArgumentError(
            "output", f"{shown(path)}: cannot be written ({reason(error)}); name another folder"
        ) from error
