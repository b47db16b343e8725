"""The command line. Exit codes: 0 right, 1 differs, 2 the user's input is bad, 3 the machine stopped itself,
70 a defect of intaglio (with a traceback), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from intaglio.console import Bar, ClosableStream, out, say

RIGHT, DIFFERS, BAD_INPUT, STOPPED, DEFECT, INTERRUPTED = 0, 1, 2, 3, 70, 130

DEFAULT_VERILOG_CONFIG = "sbnq8x8"
DEFAULT_VERILOG_FOLDER = Path("build/verilog")

app = typer.Typer(
    name="intaglio",
    help="Integer-only neural networks turned into verified hardware.",
    add_completion=False,
    rich_markup_mode=None,
)

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The network's file: .tflite, IntegerNet text or exchange .npz.",
        show_default=False,
    ),
]
Inputs = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help=".npy, .npz or IDX (.gz too); the first axis counts inferences.",
        show_default=False,
    ),
]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Classes, for the accuracy.")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Take the first N inferences alone.")]
Bits = Annotated[
    int, typer.Option(metavar="N", help="N of an IntegerNet network, which its file does not state.")
]
Runtime = Annotated[
    str, typer.Option(metavar="NAME", help="Whose rounding a TFLite file means: litert or tflm.")
]
Outputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the stored integers: .npy, or .npz by tensor name."),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A configuration that ships or a TOML file; by default the smallest that fits.",
    ),
]


@app.command()
def run(
    model: Model,
    inputs: Inputs,
    labels: Labels = None,
    limit: Limit = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="J", help="Worker processes; by default one a core.", show_default=False),
    ] = None,
    config: Config = None,
    runtime: Runtime = "litert",
    bits: Bits = 4,
    outputs: Outputs = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write waves of the first inference as FST.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every tensor with the golden model.")
    ] = True,
) -> int:
    """Run a network on simulated hardware, every tensor compared with the golden model."""
    from intaglio import outputs as files
    from intaglio import report as reports
    from intaglio.api import compile_for
    from intaglio.network.inputs import load_inputs
    from intaglio.network.load import load

    written = {"--outputs": outputs, "--report": report, "--trace": trace}
    _check_outputs(written, (model, inputs, labels))
    network = load(model, bits=bits, runtime=runtime)
    if outputs is not None:
        files.check_array_path(outputs, network.outputs)
    batch = load_inputs(inputs, network, limit)
    classes = _labels(labels, batch, network)
    accelerator, program = compile_for(network, config)
    result = simulate(network, program, accelerator, batch, jobs=jobs, check=check, trace=trace)

    if outputs is not None:
        files.write_arrays(outputs, result.outputs)
    if report is not None:
        files.write_json(report, reports.report(str(model), network, accelerator, result, classes))
    console = out()
    console.print(reports.run_table(network, accelerator, result))
    accuracy = reports.accuracy_of(result.outputs, classes)
    if accuracy is not None:
        right = round(accuracy * result.inferences)
        console.print(f"accuracy {accuracy:.2%}: {right:,} of {result.inferences:,} right", soft_wrap=True)
    console.print(
        f"simulated {result.simulated_cycles:,} cycles at {result.cycles_per_second:,.0f} cycles/s a core",
        soft_wrap=True,
    )
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print(reports.verdict(result), markup=False, soft_wrap=True)
    return DIFFERS if result.mismatches else RIGHT


@app.command()
def golden(
    model: Model,
    inputs: Inputs,
    labels: Labels = None,
    limit: Limit = None,
    runtime: Runtime = "litert",
    bits: Bits = 4,
    outputs: Outputs = None,
) -> int:
    """Run the numpy integer model alone."""
    import time

    import numpy as np

    import intaglio.golden as golden_model
    from intaglio import outputs as files
    from intaglio import report as reports
    from intaglio.network.inputs import load_inputs
    from intaglio.network.load import load

    _check_outputs({"--outputs": outputs}, (model, inputs, labels))
    network = load(model, bits=bits, runtime=runtime)
    if outputs is not None:
        files.check_array_path(outputs, network.outputs)
    batch = load_inputs(inputs, network, limit)
    classes = _labels(labels, batch, network)
    count = len(next(iter(batch.values())))

    began = time.perf_counter()
    parts, overflows = [], dict.fromkeys((layer.name for layer in network.layers), 0)
    bar = Bar("golden model", count)
    with bar.shown():
        for part in golden_model.run_batches(network, batch, outputs_only=True):
            parts.append(part.tensors)
            for name, number in part.overflows.items():
                overflows[name] += number
            bar(sum(len(next(iter(tensors.values()))) for tensors in parts))
    seconds = time.perf_counter() - began
    results = {name: np.concatenate([tensors[name] for tensors in parts]) for name in network.outputs}

    if outputs is not None:
        files.write_arrays(outputs, results)
    console = out()
    console.print(
        f"{network.name}: {count:,} inference{'s' * (count != 1)} in {seconds:.2f} s, {count / seconds:,.0f} a second",
        markup=False,
        soft_wrap=True,
    )
    for name, number in overflows.items():
        if number:
            console.print(
                f"warning: layer {name}: {number:,} sums left the accumulator and wrapped", markup=False
            )
    accuracy = reports.accuracy_of(results, classes)
    if accuracy is not None:
        console.print(f"accuracy {accuracy:.2%}: {round(accuracy * count):,} of {count:,} right")
    return RIGHT


@app.command()
def generate(
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A configuration that ships or a TOML file.")
    ] = DEFAULT_VERILOG_CONFIG,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to, made if needed.")
    ] = DEFAULT_VERILOG_FOLDER,
) -> int:
    """Write the Verilog of every unit and of a machine."""
    from intaglio import api
    from intaglio.hdl.catalogue import units

    bar = Bar("Verilog", len(units()) + 1)
    with bar.shown():
        accelerator, made = api.generate(config, output, bar)
    out().print(
        f"{output}: {len(made) - 1} units, and the machine {accelerator.name}"
        f" ({accelerator.rows} x {accelerator.columns} MACs) as machine.v",
        markup=False,
        soft_wrap=True,
    )
    return RIGHT


@app.command()
def inspect(model: Model, runtime: Runtime = "litert", bits: Bits = 4) -> int:
    """Show a network's layers: shapes, types, rescales, MACs."""
    from intaglio.network.load import load
    from intaglio.report import network_table

    network = load(model, bits=bits, runtime=runtime)
    console = out()
    for name in network.inputs:
        tensor = network.tensors[name]
        meaning = (
            "" if tensor.scale is None else f", scale {tensor.scale:.6g}, zero point {tensor.zero_point}"
        )
        console.print(
            f"input {name}: {'x'.join(map(str, tensor.shape))} {tensor.type}{meaning}",
            markup=False,
            soft_wrap=True,
        )
    console.print(network_table(network))
    return RIGHT


@app.command()
def demo(
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="J", help="Worker processes; by default one a core.", show_default=False),
    ] = None,
) -> int:
    """Run every embedded network on simulated hardware."""
    from intaglio.demo import show

    return DIFFERS if show(jobs) else RIGHT


def simulate(
    network: Any, program: Any, config: Any, batch: Any, *, jobs: int | None, check: bool, trace: Path | None
):
    """`intaglio.sim.simulator.run.run`, with what is going on said on standard error."""
    from intaglio.sim.simulator.build import cached
    from intaglio.sim.simulator.run import run as run_program

    count = len(next(iter(batch.values())))
    if not cached(config, trace is not None):
        say(f"building the simulated machine {config.name}, once ...")
    bar = Bar(f"{network.name} on {config.name}", count)
    with bar.shown():
        return run_program(
            network,
            program,
            config,
            batch,
            jobs=jobs or len(os.sched_getaffinity(0)),
            check=check,
            trace=trace,
            progress=bar,
        )


def _check_outputs(written: dict[str, Path | None], read: Sequence[Path | None]) -> None:
    from intaglio.outputs import check_distinct, check_writable

    for option, path in written.items():
        if path is not None:
            check_writable(option, path)
    check_distinct(written, read)


def _labels(path: Path | None, batch: Any, network: Any) -> Any:
    from intaglio.network.inputs import load_labels
    from intaglio.report import check_labels

    if path is None:
        return None
    labels = load_labels(path, len(next(iter(batch.values()))))
    check_labels(network, labels)
    return labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    if sys.stdout is not None and not isinstance(sys.stdout, ClosableStream):
        sys.stdout = ClosableStream(sys.stdout)
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = _run(given or ["--help"])
    if sys.stdout is not None:
        sys.stdout.flush()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="intaglio", standalone_mode=False) or RIGHT)
        return _failed("interrupted", code) if code == INTERRUPTED else code
    except TyperException as error:
        return _failed(f"{error.format_message().rstrip('.')}; see intaglio --help", BAD_INPUT)
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    except Exception as error:
        code = _code_of(error)
        if code == DEFECT:
            traceback.print_exc()
            return _failed("this is a defect of intaglio; please report it", code)
        if isinstance(error, OSError) and error.strerror:
            return _failed(f"{error.filename or 'standard output'}: {error.strerror}", code)
        return _failed(str(error), code)


def _code_of(error: Exception) -> int:
    """Which exceptions say in their text what a user can do, and what they mean."""
    from intaglio.network import NetworkError
    from intaglio.sim.simulator.build import BuildError
    from intaglio.sim.simulator.machine import MachineStopped
    from intaglio.sim.simulator.run import WorkerLost
    from intaglio.sim.simulator.verilator import VerilatorNotFound

    if isinstance(error, MachineStopped):
        return STOPPED
    known = isinstance(
        error, NetworkError | BuildError | VerilatorNotFound | WorkerLost | OSError | MemoryError
    )
    return BAD_INPUT if known else DEFECT


def _failed(message: str, code: int) -> int:
    say(f"intaglio: {' '.join(message.split()) or 'failed'}")
    return code
