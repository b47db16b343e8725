"""The command line. Exit codes: 0 right, 1 differs, 2 the user's input is bad, 3 the machine stopped itself,
70 a defect of intaglio (with a traceback), 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from intaglio.companions.constraints import CLOCK_MHZ
from intaglio.console import WIDTH_WITHOUT_TERMINAL, Bar, ClosableStream, out, say, say_building

RIGHT, DIFFERS, BAD_INPUT, STOPPED, DEFECT, INTERRUPTED = 0, 1, 2, 3, 70, 130

app = typer.Typer(
    name="intaglio",
    help="Integer-only neural networks turned into verified hardware.",
    rich_markup_mode=None,
    context_settings={"max_content_width": WIDTH_WITHOUT_TERMINAL},
)

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The network's file: .tflite, IntegerNet text or exchange .npz; of run, what compile made, too.",
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
OwnInputs = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=".npy, .npz or IDX (.gz too); the first axis counts inferences. An artifact may have its own.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The class of each inference, to show the accuracy.")
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Take only the first N inferences.")]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, metavar="J", help="Worker processes; by default one a core.", show_default=False),
]
BackendName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="rtl simulates the machine's Verilog; functional interprets its commands: no Verilator, no cycles.",
    ),
]
Bits = Annotated[
    int, typer.Option(metavar="N", help="Width of an IntegerNet network, 2 to 8; its file does not state it.")
]
Runtime = Annotated[
    str, typer.Option(metavar="NAME", help="Whose rounding a TFLite file asks for: litert or tflm.")
]
Outputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the stored integers: .npy, or .npz by tensor name."),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A configuration that ships, or a TOML file; by default the smallest that fits.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"intaglio {version('intaglio')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    model: Model,
    inputs: OwnInputs = None,
    labels: Labels = None,
    limit: Limit = None,
    jobs: Jobs = None,
    config: Config = None,
    runtime: Runtime = "litert",
    bits: Bits = 4,
    backend: BackendName = "rtl",
    outputs: Outputs = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write waves of the first inference as FST.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every tensor with the golden model.")
    ] = True,
) -> int:
    """Run a network on the machine and compare it with the golden model."""
    from intaglio import artifacts, session
    from intaglio import outputs as files
    from intaglio import report as reports
    from intaglio.errors import ArgumentError

    _check_outputs({"outputs": outputs, "report": report, "trace": trace}, (model, inputs, labels))
    if artifacts.is_artifact(model):
        _check_alone({"labels": labels, "report": report, "trace": trace})
        return _run_artifact(model, inputs, config, backend, limit, outputs)
    if inputs is None:
        raise ArgumentError("inputs", "a network is run on a file of inputs; name it")
    network = session.load(model, bits=bits, runtime=runtime)
    if outputs is not None:
        files.check_array_path(outputs, network.outputs)
    batch, count = session.inputs_of(inputs, network, limit)
    classes = session.labels_of(labels, network, count)
    compiled = session.compile(network, config)
    bar = Bar(f"{network.name} on {compiled.config.name}", count)
    with bar.shown():
        outcome = session.run(
            compiled,
            batch,
            labels=classes,
            jobs=jobs,
            check=check,
            backend=backend,
            trace=trace,
            building=say_building,
            progress=bar,
        )

    if outputs is not None:
        files.write_arrays(outputs, outcome.outputs)
    if report is not None:
        files.write_json(report, outcome.report(str(model)))
    console = out()
    console.print(reports.run_table(outcome))
    for line in reports.remarks(outcome):
        console.print(line, markup=False, soft_wrap=True)
    return DIFFERS if outcome.mismatches else RIGHT


def _run_artifact(
    path: Path,
    inputs: Path | None,
    config: str | None,
    backend: str,
    limit: int | None,
    outputs: Path | None,
) -> int:
    from intaglio import artifacts
    from intaglio import outputs as files

    found = artifacts.run(path, inputs, config=config, backend=backend, limit=limit, building=say_building)
    if outputs is not None:
        files.check_array_path(outputs, found.outputs)
        files.write_arrays(outputs, found.outputs)
    for line in found.lines():
        out().print(line, markup=False, soft_wrap=True)
    return RIGHT if found.difference is None else DIFFERS


@app.command("compile")
def compile_(
    model: Model,
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to; made if needed.")],
    config: Config = None,
    runtime: Runtime = "litert",
    bits: Bits = 4,
    self_test: Annotated[
        int, typer.Option(min=0, metavar="N", help="Put N inputs, and what they lead to, into the artifact.")
    ] = 0,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The self-tests' inputs, as those of run; by default at random."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Store each layer's output, too.", show_default=False)
    ] = False,
) -> int:
    """Write a network as files for the driver: NAME.bin, and the same as JSON and as C."""
    from intaglio import artifacts

    written = artifacts.write(
        model, output, config, bits=bits, runtime=runtime, tests=self_test, inputs=inputs, layers=layers
    )
    for line in written.lines():
        out().print(line, markup=False, soft_wrap=True)
    return RIGHT


@app.command()
def estimate(
    model: Model,
    config: Config = None,
    runtime: Runtime = "litert",
    bits: Bits = 4,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")] = None,
) -> int:
    """Predict cycles, memory and bus traffic of an inference, without a simulation."""
    from intaglio import outputs as files
    from intaglio import report as reports
    from intaglio import session

    _check_outputs({"report": report}, (model,))
    prediction = session.estimate(model, config, bits=bits, runtime=runtime)
    if report is not None:
        files.write_json(report, prediction.report(str(model)))
    console = out()
    console.print(reports.run_table(prediction))
    for line in reports.forecast(prediction):
        console.print(line, markup=False, soft_wrap=True)
    return RIGHT


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

    from intaglio import outputs as files
    from intaglio import report as reports
    from intaglio import session
    from intaglio.outcome import accuracy_of

    _check_outputs({"outputs": outputs}, (model, inputs, labels))
    network = session.load(model, bits=bits, runtime=runtime)
    if outputs is not None:
        files.check_array_path(outputs, network.outputs)
    batch, count = session.inputs_of(inputs, network, limit)
    classes = session.labels_of(labels, network, count)
    began = time.perf_counter()
    bar = Bar("golden model", count)
    with bar.shown():
        result = session.run_golden(network, batch, outputs_only=True, progress=bar)
    seconds = time.perf_counter() - began

    if outputs is not None:
        files.write_arrays(outputs, result.tensors)
    console = out()
    lines = [
        f"{network.name}: {count:,} inference{'s' * (count != 1)} in {seconds:.2f} s, {count / seconds:,.0f} a second"
    ]
    lines += [
        f"warning: layer {name}: {number:,} sums left the accumulator and wrapped"
        for name, number in result.overflows.items()
        if number
    ]
    lines += reports.accuracy_line(accuracy_of(result.tensors, classes), count)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return RIGHT


@app.command()
def generate(
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A configuration that ships, or a TOML file.")
    ] = "sbnq8x8",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The machine's module, and its file NAME.v; by default intaglio_ and the configuration's name.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        bool, typer.Option("--units", help="Write the units that can be used alone, too.", show_default=False)
    ] = False,
    probes: Annotated[
        bool,
        typer.Option(
            "--probes", help="Keep the ports through which simulations look inside.", show_default=False
        ),
    ] = False,
    clock_mhz: Annotated[
        float, typer.Option(metavar="MHZ", help="The clock that the constraints ask for.")
    ] = CLOCK_MHZ,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to write to; made if needed.")
    ] = Path("build/verilog"),
) -> int:
    """Write the Verilog of a machine, and beside it what other tools want: FuseSoC, IP-XACT, SVD, C, constraints."""
    from intaglio import session, verilog
    from intaglio.companions import file_names
    from intaglio.hdl import catalogue

    accelerator = session.load_config(config)
    bar = Bar("Verilog", 1 + len(file_names("")) + len(catalogue.units()) * units)
    with bar.shown():
        machine, *others = verilog.generate(
            accelerator,
            output,
            name=name,
            units=units,
            probes=probes,
            clock_mhz=clock_mhz,
            progress=bar,
        )
    beside = file_names(machine.stem)
    lines = [
        f"{machine}: the machine {accelerator.name}, {accelerator.rows} x {accelerator.columns} MACs",
        *(f"{output / file}: {what}" for file, what in beside.items()),
    ]
    if units:
        lines.append(f"{output}: {len(others) - len(beside)} units, each a module of its file's name")
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)
    return RIGHT


@app.command()
def inspect(model: Model, runtime: Runtime = "litert", bits: Bits = 4) -> int:
    """Show a network's layers: shapes, types, rescales, MACs."""
    from intaglio import session
    from intaglio.report import network_table

    network = session.load(model, bits=bits, runtime=runtime)
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
def demo(jobs: Jobs = None, backend: BackendName = "rtl") -> int:
    """Run every embedded network on the machine."""
    from intaglio.demo import show

    return DIFFERS if show(jobs, backend) else RIGHT


def _check_alone(given: dict[str, Path | None]) -> None:
    """Raise NetworkError where an option is given that an artifact is run without."""
    from intaglio.errors import ArgumentError

    for name, value in given.items():
        if value is not None:
            raise ArgumentError(name, "an artifact is run without; leave it out, or run the network")


def _check_outputs(written: dict[str, Path | None], read: Sequence[Path | None]) -> None:
    from intaglio.outputs import check_distinct, check_writable

    for argument, path in written.items():
        if path is not None:
            check_writable(argument, path)
    check_distinct(written, read)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    if sys.stdout is not None and not isinstance(sys.stdout, ClosableStream):
        sys.stdout = ClosableStream(sys.stdout, "standard output")
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = _run(given or ["--help"])
    if sys.stdout is not None:
        sys.stdout.give_up()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="intaglio", standalone_mode=False) or RIGHT)
        if sys.stdout is not None:
            sys.stdout.flush()
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
        return _failed(_text_of(error), code)


def _text_of(error: Exception) -> str:
    from intaglio.errors import ArgumentError

    if isinstance(error, ArgumentError):
        return error.as_option
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
