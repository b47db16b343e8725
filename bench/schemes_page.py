"""What `bench/compare.py` measured, for people: docs/schemes.md's tables, what they answer, and its plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import area
from bench.area import MULTIPLIERS, Area
from bench.compare import Comparison
from bench.page import Grid
from bench.synthesis import Size

PAGE = "schemes.md"
FIGURES = {
    "area": "transistors of the machine's logic (filled: plain multipliers, hollow: Booth)",
    "cycles": "cycles an inference",
}
"""The plots of accuracy, by what they are against; each ``schemes_NAME.png`` and ``.svg``."""


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
