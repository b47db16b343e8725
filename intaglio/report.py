"""What is said of a network and of a run: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

from intaglio.compiler import LayerInfo
from intaglio.network import (
    AffineRescale,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    LlsqRescale,
    MaxPool2D,
    Network,
    NetworkError,
    PowerOfTwoRescale,
    SbnqRescale,
)
from intaglio.network.graph import AnyLayer, WeightLayer
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.config import AcceleratorConfig

SCHEMES = {
    SbnqRescale: "SBNQ",
    AffineRescale: "affine",
    LlsqRescale: "LLSQ",
    PowerOfTwoRescale: "power of two",
}


def accuracy_of(outputs: Mapping[str, npt.NDArray], labels: npt.NDArray | None) -> float | None:
    """The share of inferences whose greatest output (the first of equals) is the label; None without labels."""
    if labels is None:
        return None
    scores = next(iter(outputs.values()))
    return float(np.mean(scores.reshape(len(scores), -1).argmax(axis=1) == labels))


def check_labels(network: Network, labels: npt.NDArray | None) -> None:
    """Raise NetworkError where labels cannot be what the network's output says."""
    if labels is None:
        return
    if len(network.outputs) != 1:
        raise NetworkError(f"network {network.name} has {len(network.outputs)} outputs: leave --labels out")
    classes = network.tensors[network.outputs[0]].size
    if labels.size and int(labels.max()) >= classes:
        index = int(labels.argmax())
        raise NetworkError(
            f"label {index} is {int(labels[index])}, the network tells {classes} classes apart (0...{classes - 1})"
        )


def utilisation(macs: int, cycles: float | None, config: AcceleratorConfig) -> float | None:
    """The share of the array's multiply-accumulates in these cycles that were the network's; None where they were not
    counted."""
    if cycles is None:
        return None
    return macs / (cycles * config.rows * config.columns) if cycles else 0.0


def report(
    model: str, network: Network, config: AcceleratorConfig, result: RunResult, labels: npt.NDArray | None
) -> dict[str, Any]:
    """The content of ``--report``."""
    return {
        "model": model,
        "config": config.name,
        "inferences": result.inferences,
        "cycles": _number(result.cycles),
        "macs": network.macs,
        "utilisation": utilisation(network.macs, result.cycles, config),
        "mismatches": result.mismatches,
        "accuracy": accuracy_of(result.outputs, labels),
        "simulated_cycles_per_second": result.cycles_per_second,
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs,
                "cycles": _number(cycles),
                "utilisation": utilisation(layer.macs, cycles, config),
            }
            for layer, cycles in _layers(result)
        ],
        "counters": {name: _number(value) for name, value in result.counters.items()},
        "warnings": list(result.warnings),
    }


def table_of(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def run_table(network: Network, config: AcceleratorConfig, result: RunResult) -> Table:
    """A row a layer: cycles, MACs, use of the array."""
    table = table_of(f"{network.name} on {config.name}, {config.rows} x {config.columns} MACs")
    table.add_column("layer", no_wrap=True)
    table.add_column("op")
    for heading in ("cycles", "MACs", "use of the array"):
        table.add_column(heading, justify="right")
    for layer, cycles in _layers(result):
        use = _share(utilisation(layer.macs, cycles, config)) if layer.macs else ""
        table.add_row(layer.name, layer.op, counted(cycles), counted(layer.macs), use)
    table.add_section()
    use = _share(utilisation(network.macs, result.cycles, config))
    table.add_row("one inference", "", counted(result.cycles), counted(network.macs), use)
    table.caption = "a layer's cycles: from the end of the one before to its own; it may have begun earlier"
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


def _layers(result: RunResult) -> list[tuple[LayerInfo, float | None]]:
    """Each layer with its cycles, None where they were not counted."""
    cycles = result.layer_cycles or (None,) * len(result.layers)
    return list(zip(result.layers, cycles, strict=True))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def counted(value: float | None) -> str:
    """A count for people, a mean of unequal ones with its fraction; nothing for what was not counted."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _number(value: float | None) -> int | float | None:
    return int(value) if value is not None and value == round(value) else value


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
