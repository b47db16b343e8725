"""Measures golden and simulated hardware, and says on what machine; golden beside LiteRT too.

`python -m bench [--model M --inputs X [--config C]]`: the embedded network if none is named.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import golden
from bench import litert
from compiler import compile_network
from hdl.config import AcceleratorConfig
from intaglio.api import compile_for, load_config
from intaglio.demo import embedded
from network.inputs import load_inputs
from network.load import load
from sim.build import build
from sim.run import run


def _machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _measure(table: Table, model: Path, inputs: Path, config: AcceleratorConfig | None, jobs: int) -> None:
    network = load(model)
    batch = load_inputs(inputs, network)
    count = len(next(iter(batch.values())))
    began = time.perf_counter()
    golden.run(network, batch, outputs_only=True)
    golden_seconds = time.perf_counter() - began
    if config is None:
        config, program = compile_for(network, None)
    else:
        program = compile_network(network, config)
    began = time.perf_counter()
    build(config)
    build_seconds = time.perf_counter() - began
    began = time.perf_counter()
    result = run(network, program, config, batch, jobs=jobs)
    seconds = time.perf_counter() - began
    table.add_row(
        network.name,
        config.name,
        f"{count:,}",
        f"{count / golden_seconds:,.0f}",
        f"{result.cycles:,.0f}",
        f"{network.macs / (result.cycles * config.rows * config.columns):.1%}",
        f"{result.simulated_cycles / result.seconds:,.0f}",
        f"{seconds:,.1f}",
        f"{build_seconds:,.1f}",
        f"{result.mismatches:,}",
    )


def main(
    model: Annotated[Path | None, typer.Option(help="A network; the embedded ones if none is named.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="Its inputs.")] = None,
    config: Annotated[
        str | None, typer.Option(help="A configuration; the smallest that fits if none is named.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
) -> None:
    """Golden's and the simulated hardware's speed, and the hardware's cycles."""
    if (model is None) != (inputs is None):
        raise typer.BadParameter("--model and --inputs go together")
    table = Table(title=f"on {_machine()}", title_justify="left")
    for heading in (
        "network",
        "config",
        "images",
        "golden, images/s",
        "cycles",
        "use of the array",
        "simulated cycles/s a core",
        "run, s",
        "build, s",
        "mismatches",
    ):
        table.add_column(heading, justify="left" if heading in ("network", "config") else "right")
    chosen = load_config(config) if config else None
    pairs = [(model, inputs)] if model is not None and inputs is not None else list(embedded())
    for network, images in pairs:
        _measure(table, network, images, chosen, jobs)
    console = Console(width=None if os.isatty(1) else 160)
    console.print(table)
    if model is None:
        litert.show(console)


if __name__ == "__main__":
    typer.run(main)
