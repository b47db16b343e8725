"""What a machine is made of: estimated transistors of its array, its buffers' logic, its rescale and the rest.

Each part is synthesized by itself (`bench.synthesis` has the recipe), the rest with the parts as black boxes, so that
all of them add up to the machine; what optimization across their borders would save is not in it (a test says how
little).

==============  =========================================================================================
array           ``MacArray``: products, adder trees, their registers, both copies of the weights, and the
                operands' registers
accumulators    adders, the bypasses of the two banks, the count of overflows
scratchpad      arbitration, and the two shifters that place a vector at any element
weight stream   words of the weight buffer and of the rescale parameters, made of beats and parted
rescale engine  the walk over positions and channels, operands chosen, the units of the schemes that have a
                unit a lane of their own
rescale lanes   the affine rescale's units, which the elementwise engine shares
elementwise     the elementwise engine, of machines that rescale affine networks
control         all else: registers, bus masters, dispatcher and queues, window readers, loads, stores, pooling
==============  =========================================================================================

Accumulators, scratchpad and weight stream together are the buffers' logic; rescale engine and lanes are the rescale.
The memories themselves (all go through `hdl/storage/memory.py`, small FIFOs too) are stated in bits, by the part that
they lie in. Taps, which a simulation reads, are left out.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from bench.synthesis import Netlist, Size, SynthesisError, Task, synthesize
from intaglio.spec.config import RESCALES, AcceleratorConfig

_CORE = ("inner", "core")
_PATHS: dict[str, tuple[str, ...]] = {
    "array": (*_CORE, "matmul", "array"),
    "accumulators": (*_CORE, "matmul", "accumulators"),
    "scratchpad": (*_CORE, "scratchpad"),
    "weight stream": (*_CORE, "weight_stream"),
    "rescale engine": (*_CORE, "rescale"),
    "rescale lanes": (*_CORE, "lanes"),
    "elementwise": (*_CORE, "elementwise"),
}
_ONLY_AFFINE = ("rescale lanes", "elementwise")
REST = "control"
GROUPS: dict[str, tuple[str, ...]] = {
    "array": ("array",),
    "buffers": ("accumulators", "scratchpad", "weight stream"),
    "rescale": ("rescale engine", "rescale lanes"),
    "elementwise": ("elementwise",),
    "control": (REST,),
}
"""The parts that are reported as one."""
MULTIPLIERS = {False: "plain", True: "Booth"}
"""What a multiplier becomes, by ``synth -booth``."""

Progress = Callable[[int, int], None]
"""Called with how many netlists are synthesized, and of how many."""


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Area:
    """A machine's parts.

    Attributes
    ----------
    sizes : by ``booth``, then by part; a part that the machine has not is absent
    memory_bits : of the memories in each part
    lanes : by ``booth``, one unit of each rescale scheme that the machine carries, its multipliers told apart
    """

    config: AcceleratorConfig
    sizes: Mapping[bool, Mapping[str, Size]]
    memory_bits: Mapping[str, int]
    lanes: Mapping[bool, Mapping[str, Size]]

    def group(self, name: str, booth: bool) -> int:
        """Transistors of one of `GROUPS`."""
        sizes = self.sizes[booth]
        return sum(sizes[part].transistors for part in GROUPS[name] if part in sizes)

    def total(self, booth: bool) -> int:
        """Transistors of all logic."""
        return sum(size.transistors for size in self.sizes[booth].values())

    @property
    def memory_bytes(self) -> int:
        return -(-sum(self.memory_bits.values()) // 8)


def netlist_of(config: AcceleratorConfig) -> Netlist:
    """The machine as the generator makes it, in its hierarchy."""
    from amaranth.back import rtlil

    from intaglio.hdl.bus.axi import BusPorts
    from intaglio.hdl.machine import Machine

    return Netlist(rtlil.convert(BusPorts(Machine(config)), name="machine", emit_src=False), "machine")


def parts_of(netlist: Netlist, config: AcceleratorConfig) -> dict[str, str]:
    """The module that each part is, by part; the rest is not among them.

    Raises
    ------
    SynthesisError
        Where the machine lacks a part that it should have.
    """
    wanted = {part: path for part, path in _PATHS.items() if config.affine or part not in _ONLY_AFFINE}
    found = {part: netlist.find(path) for part, path in wanted.items()}
    if missing := [".".join(wanted[part]) for part, module in found.items() if module is None]:
        raise SynthesisError(f"the machine has no {', '.join(missing)}; correct the paths in bench/area.py")
    return {part: module for part, module in found.items() if module is not None}


def lanes_of(netlist: Netlist, config: AcceleratorConfig) -> dict[str, str]:
    """The module of one rescale unit, by scheme."""
    found = {}
    for scheme in config.rescales:
        path = ("lanes", "lane_0") if scheme == "affine" else ("rescale", f"{scheme}_0")
        module = netlist.find((*_CORE, *path))
        if module is None:
            raise SynthesisError(
                f"the machine has no {'.'.join(path)}; correct where `lanes_of` in bench/area.py looks for {scheme}"
            )
        found[scheme] = module
    return found


def measure(configs: Sequence[AcceleratorConfig], jobs: int = 1, progress: Progress = _silent) -> list[Area]:
    """The parts of each configuration's machine, in order.

    Raises
    ------
    SynthesisError
        Where a tool is missing or fails, or a machine is not built as this file supposes.
    """
    netlists = _emit(configs, jobs)
    tasks: list[Task] = []
    for config, netlist in zip(configs, netlists, strict=True):
        parts = parts_of(netlist, config)
        lanes = lanes_of(netlist, config)
        for booth in MULTIPLIERS:
            for part, module in parts.items():
                tasks.append(Task(f"{config.name}'s {part}", netlist.text(module), module, booth))
            rest = netlist.text(netlist.top, parts.values())
            tasks.append(Task(f"{config.name}'s {REST}", rest, netlist.top, booth))
            for scheme, module in lanes.items():
                text = netlist.text(module)
                tasks.append(Task(f"{config.name}'s {scheme} lane", text, module, booth, split=True))
    sizes = iter(synthesize(tasks, jobs, lambda done: progress(done, len(tasks))))
    areas = []
    for config, netlist in zip(configs, netlists, strict=True):
        parts = parts_of(netlist, config)
        lanes = lanes_of(netlist, config)
        found, units = {}, {}
        for booth in MULTIPLIERS:
            found[booth] = {part: next(sizes) for part in (*parts, REST)}
            units[booth] = {scheme: next(sizes) for scheme in lanes}
        bits = {part: netlist.memory_bits(module) for part, module in parts.items()}
        bits[REST] = netlist.memory_bits(netlist.top, parts.values())
        areas.append(Area(config, found, bits, units))
    return areas


def _emit(configs: Sequence[AcceleratorConfig], jobs: int) -> list[Netlist]:
    if jobs == 1 or len(configs) == 1:
        return [netlist_of(config) for config in configs]
    with ProcessPoolExecutor(
        min(jobs, len(configs)), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        return list(pool.map(netlist_of, configs))


SAME_ARRAY = "affine16x16"
"""The configuration that is built once with each rescale scheme."""


def same_array() -> list[AcceleratorConfig]:
    """One machine, with each rescale scheme in turn and with as many lanes."""
    base = AcceleratorConfig.load(SAME_ARRAY)
    return [dataclasses.replace(base, name=scheme, rescales=(scheme,)) for scheme in RESCALES]


@dataclass(frozen=True)
class PaperArray:
    """An array of the LLSQ paper, and the processor around it [llsq: table 5].

    Attributes
    ----------
    bits : of weights and activations
    activation, weight, accumulator_bits : what its processing elements take
    processor_mm2 : of the whole processor, in 40 nm
    """

    bits: int
    activation: str
    weight: str
    accumulator_bits: int
    processor_mm2: float


PAPER_ROWS, PAPER_COLUMNS = 32, 7
PAPER_ROUNDING_MM2 = 0.005
"""Its areas have two decimals."""
PAPER = (
    PaperArray(8, "int8", "int8", 32, 4.71),
    PaperArray(4, "uint4", "int4", 16, 2.80),
    PaperArray(2, "uint2", "int2", 16, 1.84),
)


def measure_paper_arrays(jobs: int = 1, progress: Progress = _silent) -> dict[bool, list[Size]]:
    """The LLSQ paper's arrays, each of ``MacArray`` alone, by ``booth``, in the order of `PAPER`; the multipliers told
    apart.

    Raises
    ------
    SynthesisError
        Where a tool is missing or fails.
    """
    from amaranth.back import rtlil

    from intaglio.hdl.units.array import MacArray

    netlists = []
    for array in PAPER:
        unit = MacArray(PAPER_ROWS, PAPER_COLUMNS, array.activation, array.weight, array.accumulator_bits)
        netlists.append(Netlist(rtlil.convert(unit, name="array", emit_src=False), "array"))
    tasks = [
        Task(f"the {array.bits}-bit array", netlist.text("array"), "array", booth, split=True)
        for booth in MULTIPLIERS
        for array, netlist in zip(PAPER, netlists, strict=True)
    ]
    sizes = synthesize(tasks, jobs, lambda done: progress(done, len(tasks)))
    return {booth: sizes[index * len(PAPER) :][: len(PAPER)] for index, booth in enumerate(MULTIPLIERS)}


PLANES_CONFIG = "binary16x16"


def measure_planes(jobs: int = 1) -> list[Size]:
    """The array of `PLANES_CONFIG` alone, without and with the planes of bits that wider weights run in.

    Raises
    ------
    SynthesisError
        Where a tool is missing or fails.
    """
    from amaranth.back import rtlil

    from intaglio.hdl.units.array import MacArray

    config = AcceleratorConfig.load(PLANES_CONFIG)
    tasks = []
    for planes in (False, True):
        unit = MacArray(config.rows, config.columns, config.operand, config.weight, bit_planes=planes)
        netlist = Netlist(rtlil.convert(unit, name="array", emit_src=False), "array")
        tasks.append(Task(f"planes: {planes}", netlist.text("array"), "array", booth=False))
    return synthesize(tasks, jobs)


@dataclass(frozen=True)
class Fit:
    """``constant + slope * bits``, in mm², by least squares; `residual` is the greatest deviation."""

    constant: float
    slope: float
    residual: float


def fit_processors() -> Fit:
    """A line through the paper's three processors."""
    bits = np.array([array.bits for array in PAPER], np.float64)
    areas = np.array([array.processor_mm2 for array in PAPER])
    slope, constant = np.polyfit(bits, areas, 1)
    return Fit(float(constant), float(slope), float(np.abs(constant + slope * bits - areas).max()))


def array_share(sizes: Sequence[Size]) -> tuple[float, float]:
    """What of the paper's 8-bit processor is array, as a share of its area, and how far its rounding may move that.

    Areas are taken as ``constant + slope * bits + scale * array``, with the arrays as big as `sizes` says to each
    other: three processors, three unknowns. Below 0 where the paper's areas grow less with the bits than a line does.
    """
    transistors = np.array([size.transistors for size in sizes], np.float64)
    known = np.array([array.processor_mm2 for array in PAPER])
    terms = np.stack(
        [np.ones(len(PAPER)), [array.bits for array in PAPER], transistors / transistors[0]], axis=1
    )
    scale = np.linalg.inv(terms)[2]
    return float(scale @ known / known[0]), float(np.abs(scale).sum() * PAPER_ROUNDING_MM2 / known[0])
