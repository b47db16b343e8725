"""What is said of a network and of a run to people: tables, and one line whether the hardware is right."""

from __future__ import annotations

from rich import box
from rich.table import Table

from intaglio.network import (
    AffineRescale,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    LlsqRescale,
    MaxPool2D,
    Network,
    PowerOfTwoRescale,
    SbnqRescale,
)
from intaglio.network.graph import AnyLayer, WeightLayer
from intaglio.outcome import Figures, Outcome, Prediction
from intaglio.sim.simulator.run import RunResult

SCHEMES = {
    SbnqRescale: "SBNQ",
    AffineRescale: "affine",
    LlsqRescale: "LLSQ",
    PowerOfTwoRescale: "power of two",
}


def table_of(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def run_table(outcome: Figures) -> Table:
    """A row a layer: cycles, MACs, use of the array; MACs alone where cycles were not counted."""
    network, config, timed = outcome.network, outcome.config, outcome.cycles is not None
    table = table_of(f"{network.name} on {config.name}, {config.rows} x {config.columns} MACs")
    table.add_column("layer", no_wrap=True)
    table.add_column("op")
    for heading in ("cycles", "MACs", "use of the array") if timed else ("MACs",):
        table.add_column(heading, justify="right")

    def add(layer: str, op: str, cycles: float | None, macs: int, utilisation: float | None) -> None:
        use = f"{utilisation:.1%}" if utilisation is not None and macs else ""
        table.add_row(
            layer, op, *((counted(macs),) if cycles is None else (counted(cycles), counted(macs), use))
        )

    for row in outcome.rows():
        add(**row)
    table.add_section()
    add("one inference", "", outcome.cycles, network.macs, outcome.utilisation(network.macs, outcome.cycles))
    if timed:
        table.caption = (
            "a layer's cycles: from the end of the one before to its own; it may have begun earlier"
        )
        table.caption_justify = "left"
    return table


def network_table(network: Network) -> Table:
    """A row a layer: shapes, types, rescale, MACs."""
    table = table_of(f"{network.name}: {network.source_format}".rstrip(": "))
    table.add_column("layer", no_wrap=True)
    table.add_column("op")
    table.add_column("input")
    table.add_column("output")
    table.add_column("weights")
    table.add_column("rescale")
    table.add_column("MACs", justify="right")
    for layer in network.layers:
        target = network.tensors[layer.output]
        sources = [network.tensors[name] for name in layer.inputs]
        table.add_row(
            layer.name,
            _operation(layer),
            ", ".join(f"{_shape(source.shape)} {source.type}" for source in sources),
            f"{_shape(target.shape)} {target.type}",
            f"{_shape(layer.weights.shape)} {layer.weight_type}" if isinstance(layer, WeightLayer) else "",
            _rescale(layer),
            counted(layer.macs(target.shape)),
        )
    table.add_section()
    table.add_row(f"{len(network.layers)} layers", "", "", "", "", "", counted(network.macs))
    return table


def scheme_of(network: Network) -> str:
    """The rescale schemes and the widths of weights and activations, as people call them."""
    weighted = [layer for layer in network.layers if isinstance(layer, WeightLayer)]
    schemes = dict.fromkeys(SCHEMES[type(layer.rescale)] for layer in weighted)
    weights = dict.fromkeys(str(layer.weight_type) for layer in weighted)
    return f"{', '.join(schemes)} {', '.join(weights)}"


def verdict(result: RunResult) -> str:
    """Whether the hardware is right: one line."""
    if result.mismatches is None:
        return "not compared with the golden model (--no-check)"
    inferences = f"{result.inferences:,} inference{'s' * (result.inferences != 1)}"
    if not result.mismatches:
        return (
            f"bit-exact: every element of {result.tensors} tensors of {inferences} equals the golden model's"
        )
    first = result.difference
    if first is None:
        raise ValueError("mismatches without a first one")
    index = ", ".join(map(str, first.index))
    return (
        f"differs: {result.mismatches:,} elements of {inferences}; the first: inference {first.inference}, "
        f"layer {first.layer}, index [{index}]: hardware {first.hardware}, golden {first.golden}"
    )


def remarks(outcome: Outcome) -> list[str]:
    """What is to be said below the table, a line each: accuracy, speed, warnings, and at last the verdict."""
    lines = accuracy_line(outcome.accuracy, outcome.inferences)
    if outcome.cycles is None:
        lines.append(f"by the {outcome.backend} backend: cycles are not counted")
    else:
        lines.append(
            f"simulated {outcome.simulated_cycles:,} cycles at {outcome.cycles_per_second:,.0f} cycles/s a core"
        )
    return [*lines, *(f"warning: {warning}" for warning in outcome.warnings), verdict(outcome)]


def forecast(prediction: Prediction) -> list[str]:
    """What is to be said below the table of a prediction, a line each: memories, what the bus moves, warnings."""
    on_chip = prediction.config.on_chip_bytes
    parts = ", ".join(f"{name} {counted(size)}" for name, size in on_chip.items())
    moved = prediction.read_bytes + prediction.write_bytes
    return [
        f"on chip: {counted(sum(on_chip.values()))} bytes: {parts}",
        f"in memory: {counted(prediction.memory_bytes)} bytes",
        f"on the bus, an inference: {counted(moved)} bytes: {counted(prediction.read_bytes)} read, "
        f"{counted(prediction.write_bytes)} written",
        *(f"warning: {warning}" for warning in prediction.warnings),
        "predicted, not simulated",
    ]


def accuracy_line(accuracy: float | None, count: int) -> list[str]:
    """How many of `count` are right; nothing where that is not known."""
    if accuracy is None:
        return []
    return [f"accuracy {accuracy:.2%}: {round(accuracy * count):,} of {count:,} right"]


def counted(value: float | None) -> str:
    """A count for people, a mean of unequal ones with its fraction; nothing for what was not counted."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _operation(layer: AnyLayer) -> str:
    """The op with its kernel, stride and padding where they are not the plain ones."""
    if isinstance(layer, Conv2D | DepthwiseConv2D):
        kernel = layer.weights.shape[1:3]
    elif isinstance(layer, MaxPool2D | AveragePool2D):
        kernel = layer.kernel
    else:
        return layer.op
    text = f"{layer.op} {_shape(kernel)}"
    if layer.stride != (1, 1):
        text += f" stride {_shape(layer.stride)}"
    if isinstance(layer, Conv2D | DepthwiseConv2D) and layer.dilation != (1, 1):
        text += f" dilation {_shape(layer.dilation)}"
    if any(layer.padding):
        text += f" pad {','.join(map(str, layer.padding))}"
    return text


def _rescale(layer: AnyLayer) -> str:
    """The scheme with the range of its run-time amounts."""
    if not isinstance(layer, WeightLayer):
        return ""
    rescale = layer.rescale
    text = SCHEMES[type(rescale)]
    shift = rescale.exponent if isinstance(rescale, AffineRescale) else rescale.shift
    low, high = int(shift.min()), int(shift.max())
    text += f" shift {low}" if low == high else f" shift {low}...{high}"
    if isinstance(rescale, SbnqRescale) and rescale.relu:
        text += ", ReLU"
    if isinstance(rescale, AffineRescale) and not rescale.double_rounding:
        text += ", rounded once"
    return text
