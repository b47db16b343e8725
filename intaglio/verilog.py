"""Writes the Verilog of a machine, under a name of the user's, and that of the units that can be used alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from intaglio.errors import ArgumentError
from intaglio.network.files import shown
from intaglio.outputs import check_writable, reason
from intaglio.session import Config, load_config

DEFAULT_CONFIG = "sbnq8x8"
DEFAULT_FOLDER = Path("build/verilog")

_RESERVED = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
    binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
    constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
    else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
    endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
    export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global
    highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input
    inside instance int integer interconnect interface intersect join join_any join_none large let liblist library
    local localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
    noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
    property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
    rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1
    sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1
    tri tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var
    vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
"""
RESERVED = frozenset(_RESERVED.split())
"""Words that name nothing else in Verilog and SystemVerilog: IEEE 1800-2017, table B.1."""


def generate(
    config: Config = DEFAULT_CONFIG,
    output: str | os.PathLike[str] = DEFAULT_FOLDER,
    *,
    name: str | None = None,
    units: bool = False,
    probes: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write the Verilog of a machine, as module `name` in ``NAME.v``; the files, the machine's first.

    Parameters
    ----------
    config : a configuration that ships, a TOML file, or a loaded configuration
    output : a folder, made if needed
    name : a Verilog identifier; ``intaglio_<config>`` where None
    units : write each unit of `intaglio.hdl.catalogue`, too, as ``UNIT.v``
    probes : keep the ports by which a simulation sees what is written on chip
    progress : called with the number of files that are written

    Raises
    ------
    NetworkError
        The configuration, the name or the folder is not usable.
    """
    accelerator, folder = load_config(config), Path(output)
    if name is None:
        name = f"intaglio_{re.sub(r'[^A-Za-z0-9_]', '_', accelerator.name)}"
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None or name in RESERVED:
        raise ArgumentError(
            "name",
            f"{shown(name)}: is no Verilog identifier (a letter or _, then letters, digits and _; no word of the "
            "language); give another",
        )
    # Amaranth is slow to import, and is not wanted where an argument is refused.
    from intaglio.hdl import catalogue
    from intaglio.hdl.verilog import emit, emit_machine

    chosen = catalogue.units() if units else {}
    if name in chosen:
        raise ArgumentError("name", f"{name} is the name of a unit, which is written beside; give another")
    with _errors_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable("output", folder / f"{name}.v")

    files: list[Path] = []

    def write(text: str, module: str) -> None:
        path = folder / f"{module}.v"
        with _errors_of(path):
            path.write_text(text)
        files.append(path)
        progress(len(files))

    write(emit_machine(accelerator, name, probes=probes), name)
    for unit, make in chosen.items():
        write(emit(make(), unit), unit)
    return files


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ArgumentError(
            "output", f"{shown(path)}: cannot be written ({reason(error)}); name another folder"
        ) from error
