"""Each trained network beside the others: accuracy, what it moves, how long it takes, what its machine is made of.

A folder holds networks, each in a file that `intaglio.load` reads, DATASET_SCHEME.*, and beside it DATASET_SCHEME.json
of what training measured. machines.json names the machine of a network, by its file's name without suffix; of the
others it is the smallest that ships and fits. DATASET_float.json has no network: its accuracy is what the others are
compared with. Test images are DATASET_test.npz in the folder, else the IDX files of ``--data``. No network and no
scheme is named here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rich.table import Table

from bench import area
from bench.area import MULTIPLIERS, Area
from bench.synthesis import Size
from intaglio import golden, session
from intaglio.compiler import Program
from intaglio.compiler.digits import weight_digits
from intaglio.network import Network, NetworkError
from intaglio.network.files import shown
from intaglio.network.graph import WeightLayer
from intaglio.network.inputs import load_inputs, load_labels
from intaglio.network.load import load
from intaglio.outcome import accuracy_of, check_labels
from intaglio.report import scheme_of
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

MODELS = Path("bench") / "models"
DOCS = Path("docs")
PAGE = "schemes.md"
FIGURES = {
    "area": "transistors of the machine's logic (filled: plain multipliers, hollow: Booth)",
    "cycles": "cycles an inference",
}
"""The plots of accuracy, by what they are against; each ``schemes_NAME.png`` and ``.svg``."""
_FLOAT = "float"
_MACHINES = "machines.json"
_NETWORKS = (".npz", ".tflite", ".txt")
_TEST_IMAGES, _TEST_LABELS = "t10k-images*idx3-ubyte*", "t10k-labels*idx1-ubyte*"
_BLOCK = re.compile(r"(<!-- compare: (\w+) -->\n).*?(<!-- end -->)", re.S)

Simulate = Callable[..., RunResult]


@dataclass(frozen=True)
class Candidate:
    """A network to measure.

    Attributes
    ----------
    path : of the network
    measured : what training measured, as its json has it
    config : its machine; None: the smallest that ships and fits
    images, labels : files of the test set
    """

    path: Path
    measured: Mapping[str, Any]
    config: str | None
    images: Path
    labels: Path

    @property
    def dataset(self) -> str:
        return _dataset(self.path)


@dataclass(frozen=True)
class InDigits:
    """A layer whose activations or weights are wider than its machine's: `passes` over the array for one, `cycles`."""

    layer: str
    operand: str
    machine: str
    passes: int
    cycles: float


@dataclass(frozen=True)
class Row:
    """What was measured of a network.

    Attributes
    ----------
    name, scheme, dataset : the network's
    config : its machine
    images : inferences run
    golden, hardware : how many of them the numpy model, and the simulated machine, tell right
    mismatches : elements in which the two differ
    overflows : sums that did not fit their accumulator, by golden, over all inferences
    elements : of all layers' outputs, over all inferences: what was compared
    macs : multiply-accumulates an inference
    weight_bits : of the weights as numbers of their type
    weight_bytes : of the weight stream in memory: tiles with their padding, and rescale parameters; what is streamed
        again counts once
    bus_bytes : read and written an inference, whole beats
    cycles : an inference
    in_digits : layers whose operands are wider than the array's
    cycles_per_second : that one core simulated: of the computer, not of the network
    """

    name: str
    scheme: str
    dataset: str
    config: AcceleratorConfig
    images: int
    golden: int
    hardware: int
    mismatches: int
    elements: int
    overflows: int
    macs: int
    weight_bits: int
    weight_bytes: int
    bus_bytes: float
    cycles: float
    in_digits: Sequence[InDigits]
    cycles_per_second: float


@dataclass(frozen=True)
class Comparison:
    """All that the tables say.

    Attributes
    ----------
    rows : the networks
    floating : accuracy of the float network, by data set
    areas : by configuration's name
    same_array : the machine of `bench.area.SAME_ARRAY` with each rescale scheme
    arrays : of `bench.area.measure_paper_arrays`
    planes : of `bench.area.measure_planes`
    """

    rows: Sequence[Row]
    floating: Mapping[str, float]
    areas: Mapping[str, Area]
    same_array: Sequence[Area]
    arrays: Mapping[bool, Sequence[Size]]
    planes: Sequence[Size]


def candidates(folder: Path, data: Path | None) -> list[Candidate]:
    """The networks in `folder`, by name, with their test sets.

    Raises
    ------
    NetworkError
        Where there is none, or one lacks its json or its test set.
    """
    found = []
    machines = _json(folder / _MACHINES) if (folder / _MACHINES).is_file() else {}
    for path in sorted(path for path in folder.glob("*_*") if path.suffix in _NETWORKS):
        if path.stem.endswith("_test"):
            continue
        images, labels = _test_set(path, data)
        measured = _json(path.with_suffix(".json"))
        found.append(Candidate(path, measured, machines.get(path.stem), images, labels))
    if not found:
        raise NetworkError(
            f"{shown(folder)}: holds no network, DATASET_SCHEME.npz; train some, or give --models"
        )
    return found


def floating(folder: Path) -> dict[str, float]:
    """The float networks' accuracies on the test images, 0…1, by data set."""
    found = {}
    for path in sorted(folder.glob(f"*_{_FLOAT}.json")):
        measured = _json(path)
        try:
            found[_dataset(path)] = float(measured["test_accuracy_simulated"])
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"{shown(path)}: has no test_accuracy_simulated; train again") from error
    return found


def _dataset(path: Path) -> str:
    return path.stem.split("_")[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NetworkError(
            f"{shown(path)}: cannot be read as json ({error}); train again, or correct it"
        ) from error
    if not isinstance(content, dict):
        raise NetworkError(f"{shown(path)}: is no json object; train again, or correct it")
    return content


def _test_set(path: Path, data: Path | None) -> tuple[Path, Path]:
    beside = path.with_name(f"{_dataset(path)}_test.npz")
    if beside.is_file():
        return beside, beside
    if data is None:
        raise NetworkError(
            f"{shown(path)}: its test images, {beside.name}, are not beside it; name MNIST's folder with --data"
        )
    found = []
    for pattern in (_TEST_IMAGES, _TEST_LABELS):
        files = sorted(data.glob(pattern))
        if not files:
            raise NetworkError(f"{shown(data)}: has no {pattern}; name the folder of MNIST's IDX files")
        found.append(files[0])
    return found[0], found[1]


def run_network(candidate: Candidate, simulate: Simulate, limit: int | None = None) -> Row:
    """Run a network in golden and on its simulated machine, every element of every layer compared.

    Parameters
    ----------
    candidate : Candidate
    simulate : as `intaglio.session.run`, of a compiled network and its inputs
    limit : test images to take from the front

    Raises
    ------
    NetworkError
        Where a file is unusable or the network fits no machine.
    sim.machine.MachineStopped
    """
    bits = candidate.measured.get("bits", 4)
    network = load(candidate.path, bits=bits if isinstance(bits, int) else 4)
    inputs = load_inputs(candidate.images, network, limit)
    count = len(next(iter(inputs.values())))
    labels = load_labels(candidate.labels, count)
    check_labels(network, labels)
    compiled = session.compile(network, candidate.config)
    config, program = compiled.config, compiled.program
    expected = golden.run(network, inputs, outputs_only=True)
    result = simulate(compiled, inputs)
    if result.mismatches is None:
        raise ValueError("`simulate` must compare with golden")
    weights = [layer for layer in network.layers if isinstance(layer, WeightLayer)]
    beats = result.counters["read_beats"] + result.counters["write_beats"]
    return Row(
        name=network.name,
        scheme=scheme_of(network),
        dataset=candidate.dataset,
        config=config,
        images=count,
        golden=_right(expected.tensors, labels),
        hardware=_right(result.outputs, labels),
        mismatches=result.mismatches,
        elements=count * sum(network.tensors[layer.output].size for layer in network.layers),
        overflows=sum(expected.overflows.values()),
        macs=network.macs,
        weight_bits=sum(layer.weights.size * layer.weight_type.bits for layer in weights),
        weight_bytes=weight_stream_bytes(program, config.bus_bytes),
        bus_bytes=beats * config.bus_bytes,
        cycles=result.counted_cycles,
        in_digits=_in_digits(network, config, result),
        cycles_per_second=result.cycles_per_second,
    )


def _in_digits(network: Network, config: AcceleratorConfig, result: RunResult) -> list[InDigits]:
    found = []
    for layer, cycles in zip(network.layers, result.layer_cycles, strict=True):
        if isinstance(layer, WeightLayer):
            kind = network.tensors[layer.inputs[0]].type
            digits, of_weights = -(-kind.bits // config.element_bits), weight_digits(layer.weights, config)
            activations = ", ".join(config.activation_types)
            if digits > 1:
                found.append(InDigits(layer.name, f"{kind} activations", activations, digits, cycles))
            if of_weights > 1:
                wide = f"{layer.weight_type} weights"
                found.append(InDigits(layer.name, wide, str(config.weight), of_weights, cycles))
    return found


def _right(outputs: Mapping[str, npt.NDArray], labels: npt.NDArray) -> int:
    accuracy = accuracy_of(outputs, labels)
    return 0 if accuracy is None else round(accuracy * len(labels))


def weight_stream_bytes(program: Program, beat_bytes: int) -> int:
    """Bytes of memory that the program's WEIGHTS commands read, each byte once."""
    commands = [program.command(index) for index in range(program.command_count)]
    stretches = sorted(
        (fields["memory_address"], fields["memory_address"] + fields["beats"] * beat_bytes)
        for opcode, fields in commands
        if opcode is Opcode.WEIGHTS
    )
    total, reached = 0, 0
    for begin, end in stretches:
        total += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return total


@dataclass(frozen=True)
class Grid:
    """A table for people: `headings`, of which the first `left` are of words, and rows of as many texts."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def table(self, title: str) -> Table:
        """For a terminal."""
        table = Table(title=title, title_justify="left")
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if index < self.left else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        rule = ["---" if index < self.left else "---:" for index in range(len(self.headings))]
        return "".join(f"| {' | '.join(row)} |\n" for row in (self.headings, rule, *self.rows))


def accuracies(comparison: Comparison) -> Grid:
    """What each network tells right, in float, in integers and in hardware."""
    rows = []
    for row in comparison.rows:
        reference = comparison.floating.get(row.dataset)
        rows.append(
            (
                row.name,
                row.scheme,
                row.config.name,
                f"{row.images:,}",
                "not measured" if reference is None else f"{reference:.2%}",
                f"{row.golden / row.images:.2%}",
                f"{row.hardware / row.images:.2%}",
                "" if reference is None else f"{100 * (row.hardware / row.images - reference):+.2f}",
                f"{row.mismatches:,} of {row.elements:,}",
                f"{row.overflows:,}",
            )
        )
    headings = ("network", "scheme", "machine", "images", "float", "integers", "hardware", "points to float")
    return Grid((*headings, "elements that differ", "sums that overflowed"), rows, left=3)


def costs(comparison: Comparison) -> Grid:
    """What each network moves and how long it takes."""
    rows = [
        (
            row.name,
            row.config.name,
            f"{row.config.rows} × {row.config.columns}",
            f"{row.macs:,}",
            f"{row.weight_bits / 8:,.0f}",
            f"{row.weight_bytes:,}",
            f"{row.bus_bytes:,.0f}",
            f"{row.cycles:,.0f}",
            f"{row.macs / (row.cycles * row.config.rows * row.config.columns):.1%}",
            f"{comparison.areas[row.config.name].total(False):,}",
            f"{comparison.areas[row.config.name].total(True):,}",
        )
        for row in comparison.rows
    ]
    headings = ("network", "machine", "array", "MACs", "weights, bytes", "weight stream, bytes", "bus, bytes")
    more = ("cycles", "use of the array", "logic, transistors", "logic, Booth")
    return Grid((*headings, *more), rows, left=3)


def digits(comparison: Comparison) -> Grid:
    """The layers that an array takes in several passes."""
    rows = [
        (
            row.name,
            entry.layer,
            entry.operand,
            row.config.name,
            entry.machine,
            f"{entry.passes}",
            f"{entry.cycles:,.0f}",
            f"{entry.cycles / row.cycles:.1%}",
        )
        for row in comparison.rows
        for entry in row.in_digits
    ]
    headings = (
        "network",
        "layer",
        "operands",
        "machine",
        "takes",
        "passes for one",
        "cycles",
        "of the inference",
    )
    return Grid(headings, rows, left=5)


def planes_answer(sizes: Sequence[Size]) -> str:
    """What it costs an array of binary weights to take planes of bits, too."""
    without, with_planes = (size.transistors for size in sizes)
    return (
        "Digits of activations cost the accumulators a multiplexer, and those of weights of two bits or more another; "
        f"an array of binary weights, which have no zero, takes planes of bits: {with_planes:,} transistors for "
        f"{area.PLANES_CONFIG}'s array, {without:,} without ({with_planes / without - 1:+.1%}).\n"
    )


def areas(found: Sequence[Area]) -> Grid:
    """Each machine's parts, with plain multipliers and with Booth's."""
    rows = []
    for entry in found:
        for booth, kind in MULTIPLIERS.items():
            total = entry.total(booth)
            rows.append(
                (
                    entry.config.name,
                    kind,
                    *(f"{entry.group(group, booth):,}" for group in area.GROUPS),
                    f"{total:,}",
                    f"{entry.group('rescale', booth) / total:.1%}",
                    f"{entry.memory_bytes:,}",
                )
            )
    headings = ("machine", "multipliers", *area.GROUPS, "logic", "rescale's share", "memories, bytes")
    return Grid(headings, rows, left=2)


def rescales(found: Sequence[Area]) -> Grid:
    """Each machine's rescale, and one lane of it."""
    rows = []
    for entry in found:
        config = entry.config
        for booth, kind in MULTIPLIERS.items():
            for scheme, lane in entry.lanes[booth].items():
                rescale, total = entry.group("rescale", booth), entry.total(booth)
                rows.append(
                    (
                        scheme,
                        f"{config.rows} × {config.columns}",
                        f"{', '.join(config.activation_types)} × {config.weight_type}",
                        kind,
                        f"{config.rescale_lanes}",
                        f"{rescale:,}",
                        f"{rescale / total:.1%}",
                        f"{rescale / entry.group('array', booth):.2f}",
                        f"{lane.transistors:,}",
                        f"{lane.multipliers or 0:,}",
                        f"{lane.transistors / mac(entry, booth):.1f}",
                    )
                )
    headings = (
        "scheme",
        "array",
        "operands",
        "multipliers",
        "lanes",
        "rescale",
        "of the logic",
        "of the array",
    )
    return Grid((*headings, "a lane", "its multipliers", "a lane, in MACs"), rows, left=4)


def mac(entry: Area, booth: bool) -> float:
    """Transistors of the array a multiply-accumulate."""
    return entry.group("array", booth) / (entry.config.rows * entry.config.columns)


def rescale_answer(found: Sequence[Area]) -> str:
    """Of one array with each scheme: what the rescale is of the logic, and its multipliers alone."""
    sentences = []
    for entry in found:
        shares, alone, elementwise = [], [], []
        for booth in MULTIPLIERS:
            total = entry.total(booth)
            multipliers = sum(lane.multipliers or 0 for lane in entry.lanes[booth].values())
            shares.append(f"{entry.group('rescale', booth) / total:.1%}")
            alone.append(f"{entry.config.rescale_lanes * multipliers / total:.1%}")
            elementwise.append(f"{entry.group('elementwise', booth) / total:.1%}")
        sentence = (
            f"- **{entry.config.name}**: the rescale is {shares[0]} of the logic ({shares[1]} with Booth multipliers), "
            f"its multipliers alone {alone[0]} ({alone[1]})"
        )
        if entry.group("elementwise", False):
            sentence += f"; the elementwise engine, which comes with it, is another {elementwise[0]} ({elementwise[1]})"
        sentences.append(sentence + ".\n")
    return "".join(sentences)


def arrays(sizes: Mapping[bool, Sequence[Size]]) -> Grid:
    """The LLSQ paper's arrays, in transistors to each other, beside the paper's processors."""
    rows = []
    smallest = area.PAPER[-1].processor_mm2
    for index, array in enumerate(area.PAPER):
        cells = []
        for booth in MULTIPLIERS:
            size, last = sizes[booth][index], sizes[booth][-1]
            cells += [
                f"{size.transistors:,}",
                f"{size.transistors / last.transistors:.2f}",
                f"{(size.multipliers or 0) / size.transistors:.0%}",
            ]
        operands = f"{array.activation} × {array.weight}, {array.accumulator_bits}-bit sums"
        paper = (f"{array.processor_mm2:.2f}", f"{array.processor_mm2 / smallest:.2f}")
        rows.append((f"{array.bits}", operands, *cells, *paper))
    kinds = [
        f"{what}, {kind}" for kind in MULTIPLIERS.values() for what in ("transistors", "ratio", "multipliers")
    ]
    return Grid(("bits", "operands", *kinds, "paper's processor, mm²", "ratio"), rows, left=2)


def array_answer(sizes: Mapping[bool, Sequence[Size]]) -> str:
    """Why the measured ratio is not the paper's."""
    fit = area.fit_processors()
    shares = []
    for booth in MULTIPLIERS:
        share, either_way = area.array_share(sizes[booth])
        shares.append(f"{100 * share:.1f} ± {100 * either_way:.1f} %")
    return (
        f"The paper's three areas lie on a line, {fit.constant:.3f} + {fit.slope:.3f}·k mm² for k bits, to within "
        f"{fit.residual:.3f} mm². An array does not grow like that: its products go with the square of the bits, its "
        "adders and registers with the bits. Taken as a constant, a part that goes with the bits and an array as big "
        f"as measured here, the three areas leave {shares[0]} of the 8-bit processor to the array ({shares[1]} with "
        "Booth multipliers; ±: the paper's two decimals). What grows by a constant and a line is memory of a fixed "
        "number of words, each as wide as an operand, with its control and its bus: the processors are mostly that. "
        "It hides the array, whose own ratio is steeper.\n"
    )


def show(comparison: Comparison) -> dict[str, Table]:
    """The tables for a terminal, by block of the page."""
    return {
        "accuracies": accuracies(comparison).table("accuracy"),
        "costs": costs(comparison).table("an inference"),
        "digits": digits(comparison).table("operands wider than the array's"),
        "areas": areas(list(comparison.areas.values())).table("estimated transistors"),
        "rescales": rescales([*comparison.same_array, *comparison.areas.values()]).table("the rescale"),
        "arrays": arrays(comparison.arrays).table(f"{area.PAPER_ROWS} × {area.PAPER_COLUMNS} array alone"),
    }


def blocks(comparison: Comparison) -> dict[str, str]:
    """What the page's blocks hold, by name. No time, no path and no computer: the same for the same networks."""
    same = comparison.same_array
    base = same[0].config
    return {
        "accuracies": accuracies(comparison).markdown(),
        "costs": costs(comparison).markdown(),
        "digits": digits(comparison).markdown() + "\n" + planes_answer(comparison.planes),
        "areas": areas(list(comparison.areas.values())).markdown(),
        "same": f"Of a machine of {base.rows} × {base.columns} multiply-accumulates, {base.activation_types[0]} by "
        f"{base.weight_type}, with each scheme's rescale in turn, of {base.rescale_lanes} lanes:\n\n"
        + rescale_answer(same)
        + "\n"
        + rescales(same).markdown(),
        "rescales": rescales(list(comparison.areas.values())).markdown(),
        "arrays": arrays(comparison.arrays).markdown() + "\n" + array_answer(comparison.arrays),
    }


def fill(page: str, content: Mapping[str, str]) -> str:
    """The page with each block, ``<!-- compare: NAME -->`` to ``<!-- end -->``, replaced by its content.

    Raises
    ------
    ValueError
        Where the page's blocks are not those of `content`.
    """
    names = [match[2] for match in _BLOCK.finditer(page)]
    if sorted(names) != sorted(content):
        raise ValueError(
            f"the page must have the blocks {', '.join(content)}, not {', '.join(names) or 'none'}"
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{content[match[2]]}{match[3]}", page)


def results(comparison: Comparison, computer: str) -> dict[str, Any]:
    """Everything measured, for programs; the speed of simulation and on what computer, too."""

    def machine(entry: Area) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(entry.config),
            "memory_bits": dict(entry.memory_bits),
            "transistors": {
                kind: {
                    "parts": {part: dataclasses.asdict(size) for part, size in entry.sizes[booth].items()},
                    "lanes": {
                        scheme: dataclasses.asdict(size) for scheme, size in entry.lanes[booth].items()
                    },
                }
                for booth, kind in MULTIPLIERS.items()
            },
        }

    return {
        "computer": computer,
        "float_accuracy": dict(comparison.floating),
        "networks": [dataclasses.asdict(row) | {"config": row.config.name} for row in comparison.rows],
        "machines": {name: machine(entry) for name, entry in comparison.areas.items()},
        "same_array": {entry.config.name: machine(entry) for entry in comparison.same_array},
        "arrays": {
            kind: [dataclasses.asdict(size) for size in comparison.arrays[booth]]
            for booth, kind in MULTIPLIERS.items()
        },
    }


def plot(comparison: Comparison, folder: Path) -> list[Path]:
    """Accuracy against area and against cycles, as PNG and SVG: the same bytes for the same figures."""
    import matplotlib

    files = []
    # Names in an SVG are random but for a salt.
    with matplotlib.rc_context({"svg.hashsalt": "intaglio", "font.size": 9.0}):
        for name, label in FIGURES.items():
            figure = _figure(comparison, name, label)
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = folder / f"schemes_{name}.{suffix}"
                figure.savefig(path, metadata=metadata, dpi=120)
                files.append(path)
    return files


def _figure(comparison: Comparison, name: str, label: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for row in sorted(comparison.rows, key=lambda row: row.name):
        accuracy = 100 * row.hardware / row.images
        if name == "area":
            entry = comparison.areas[row.config.name]
            x, other = float(entry.total(False)), float(entry.total(True))
        else:
            x = other = row.cycles
        (line,) = axes.plot([x, other], [accuracy, accuracy], linewidth=0.8)
        axes.plot([other], [accuracy], "o", color=line.get_color(), markerfacecolor="white")
        axes.plot([x], [accuracy], "o", color=line.get_color())
        axes.annotate(
            row.name,
            (x, accuracy),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    for dataset, accuracy in comparison.floating.items():
        if any(row.dataset == dataset for row in comparison.rows):
            axes.axhline(100 * accuracy, color="grey", linestyle="--", linewidth=0.8)
            axes.annotate(
                f"{dataset}, float",
                (1.0, 100 * accuracy),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                color="grey",
            )
    axes.margins(x=0.12, y=0.15)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(label)
    axes.set_ylabel("test images told right by the hardware, %")
    return figure
