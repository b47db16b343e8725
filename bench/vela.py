"""Arm's Ethos-U55 beside the machine: cycles by Arm's own compiler's estimate, and measured on simulated hardware.

Vela (`ethos-u-vela`) compiles a .tflite file for an NPU and estimates what it takes; `cycles_npu` of its summary are
the cycles in which the NPU works, memory waits excluded. The machine's are measured on its RTL from start to
interrupt, memory waits included. Vela is run without a system configuration or a memory mode of the user's: it then
takes those that its summary names.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from intaglio import session
from intaglio.network import Network, NetworkError
from intaglio.network.load import load
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.config import AcceleratorConfig

FOLDER = Path("build") / "vela"
PAIRS = (
    ("ethos-u55-64", "affine8x8"),
    ("ethos-u55-256", "affine16x16"),
    ("ethos-u55-256", "affine16x16_wide"),
)
"""NPUs, and the configurations with as many multipliers."""

Run = Callable[..., RunResult]


class VelaError(RuntimeError):
    """One line: Vela is missing, refuses a network, or writes what is not known."""


@dataclass(frozen=True)
class LayerEstimate:
    """One operator by Vela's estimate; one of the file may become several.

    `cycles_npu` as in `Estimate`; `utilisation` is of the NPU's multipliers, 0...1.
    """

    operator: str
    name: str
    macs: int
    cycles_npu: int
    utilisation: float


@dataclass(frozen=True)
class Estimate:
    """A network on an NPU by Vela's estimate.

    Attributes
    ----------
    accelerator, system_config, memory_mode : as the summary names them
    cycles_npu : memory waits excluded
    cycles_total : memory waits included
    macs : multiply-accumulates, those of poolings and reductions too
    sram_bytes : of activations
    layers : those that run on the NPU; their cycles add up to `cycles_npu`
    """

    accelerator: str
    system_config: str
    memory_mode: str
    cycles_npu: int
    cycles_total: int
    macs: int
    sram_bytes: int
    layers: tuple[LayerEstimate, ...]


def estimate(model: Path, accelerator: str, folder: Path = FOLDER) -> Estimate:
    """Run Vela on the file `model` for `accelerator`, ``ethos-u55-64`` and the like; its files stay in `folder`.

    Raises
    ------
    VelaError
        Where Vela is not installed, fails, leaves an operator to a CPU or writes what is not known.
    """
    program = shutil.which("vela", path=str(Path(sys.executable).parent)) or shutil.which("vela")
    if program is None:
        raise VelaError("vela is not installed; make bench installs it")
    written = folder / f"{model.stem}-{accelerator}"
    shutil.rmtree(written, ignore_errors=True)
    command = [program, "--accelerator-config", accelerator, "--verbose-performance"]
    done = subprocess.run(
        [*command, "--output-dir", str(written), str(model)], capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()
        raise VelaError(f"vela refuses {model.name} for {accelerator}: {said[-1]}")
    summaries, layers = sorted(written.glob("*_summary_*.csv")), sorted(written.glob("*_per-layer.csv"))
    if len(summaries) != 1 or len(layers) != 1:
        raise VelaError(f"vela wrote no summary of {model.name}; use the pinned version")
    return parse(summaries[0].read_text(), layers[0].read_text())


def parse(summary: str, layers: str) -> Estimate:
    """What Vela's summary and its list of layers, both CSV, say.

    Raises
    ------
    VelaError
        Where a column is missing or no number, or the NPU does not run the whole network.
    """
    try:
        (row,) = csv.DictReader(summary.splitlines())
        operators = list(csv.DictReader(layers.splitlines()))
        if left := sorted(
            {operator["NNG Operator"] for operator in operators if operator["Target"] != "NPU"}
        ):
            raise VelaError(
                f"vela leaves operators to a CPU, whose cycles it does not know: {', '.join(left)}"
            )
        result = Estimate(
            row["accelerator_configuration"],
            row["system_config"],
            row["memory_mode"],
            round(float(row["cycles_npu"])),
            round(float(row["cycles_total"])),
            round(float(row["nn_macs"])),
            round(float(row["sram_memory_used"]) * 1024),
            tuple(
                LayerEstimate(
                    operator["NNG Operator"],
                    operator["Name"],
                    int(operator["MAC Count"]),
                    int(operator["NPU"]),
                    float(operator["Util% (MAC)"]) / 100,
                )
                for operator in operators
                if int(operator["NPU"])
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VelaError(f"vela's summary is not as known ({error!r}); use the pinned version") from error
    total = sum(layer.cycles_npu for layer in result.layers)
    if total != result.cycles_npu:
        raise VelaError(f"vela's layers take {total} cycles, its summary says {result.cycles_npu}")
    return result


def drawn_inputs(network: Network, seed: int = 0) -> Mapping[str, npt.NDArray]:
    """One inference of random inputs, by name: the machine's cycles do not depend on them."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(tensor.type.min, tensor.type.max + 1, (1, *tensor.shape))
        for name, tensor in ((name, network.tensors[name]) for name in network.inputs)
    }


def compare(
    models: Sequence[Path],
    pairs: Sequence[tuple[str, str]] = PAIRS,
    *,
    run: Run = session.run,
    folder: Path = FOLDER,
) -> tuple[Table, list[str]]:
    """Each of `models` on each NPU and on the machine of the same size.

    Parameters
    ----------
    models : .tflite files
    pairs : what Vela calls the NPU, and a configuration that ships or a TOML file
    run : as `intaglio.session.run`
    folder : for Vela's files

    Returns
    -------
    table : a row for each network and pair
    problems : one line for each row that lacks the machine's figures or whose tensors differ from golden's

    Raises
    ------
    VelaError, NetworkError
        Where Vela has no figures for a network, or a file is no network.
    """
    table = _headed()
    problems: list[str] = []
    chosen: set[tuple[str, str]] = set()
    for model in models:
        network = load(model)
        for accelerator, name in pairs:
            npu = estimate(model, accelerator, folder)
            chosen.add((npu.system_config, npu.memory_mode))
            ours = ["", "", "", "", "", "", ""]
            try:
                config = session.load_config(name)
                ours[4:6] = f"{config.rescale_lanes}", f"{sum(config.on_chip_bytes.values()):,}"
                result = run(model, drawn_inputs(network), config=name)
            except NetworkError as error:
                problems.append(f"{network.name} on {name}: {error}")
            else:
                ours = _measured(network, config, result, npu, session.estimate(network, config).cycles)
                if result.mismatches:
                    problems.append(
                        f"{network.name} on {name}: {result.mismatches} elements differ from golden"
                    )
            table.add_row(network.name, accelerator, name, f"{network.macs:,}", f"{npu.cycles_npu:,}", *ours)
    table.caption = "; ".join(
        f"Vela's system configuration {system}, memory mode {mode}" for system, mode in sorted(chosen)
    )
    return table, problems


def _headed() -> Table:
    table = Table(title="the machine beside Arm's Ethos-U55", title_justify="left")
    # Names keep to one line; headings of figures may take several.
    for heading in ("network", "Ethos-U55", "config"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "MACs",
        "its cycles, estimated",
        "cycles, measured",
        "predicted",
        "ratio",
        "use of the array",
        "rescale lanes",
        "on chip, bytes",
        "mismatches",
    ):
        table.add_column(heading, justify="right")
    return table


def layers_table(model: Path, accelerator: str, result: Estimate) -> Table:
    """Where an NPU's cycles go, operator by operator."""
    table = Table(title=f"{model.stem} on {accelerator}, by Vela's estimate", title_justify="left")
    table.add_column("operator")
    for heading in ("MACs", "cycles", "use of the multipliers"):
        table.add_column(heading, justify="right")
    for layer in result.layers:
        use = f"{layer.utilisation:.1%}" if layer.macs else ""
        table.add_row(layer.operator, f"{layer.macs:,}", f"{layer.cycles_npu:,}", use)
    table.add_row("all", f"{result.macs:,}", f"{result.cycles_npu:,}", "", style="bold")
    return table


def _measured(
    network: Network, config: AcceleratorConfig, result: RunResult, npu: Estimate, predicted: int
) -> list[str]:
    return [
        f"{result.counted_cycles:,.0f}",
        f"{predicted:,}",
        f"{result.counted_cycles / npu.cycles_npu:.2f}",
        f"{network.macs / (result.counted_cycles * config.rows * config.columns):.1%}",
        f"{config.rescale_lanes}",
        f"{sum(config.on_chip_bytes.values()):,}",
        "unchecked" if result.mismatches is None else f"{result.mismatches:,}",
    ]
