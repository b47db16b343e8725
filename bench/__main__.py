"""Measures golden and simulated hardware, and says on what machine; golden beside LiteRT too.

`python -m bench [--model M --inputs X [--config C]]`: speed, of the embedded networks if none is named.
`python -m bench vela [MODEL ...]`: cycles beside Arm's Ethos-U55.
`python -m bench ecp5 [--config C]`: what a machine takes of an FPGA, and its clock.
`python -m bench mapping [CONFIG ...]`: what machines take of FPGAs, unplaced, and docs/fpga.md.
`python -m bench timing [--config C]`: a machine's longest paths on an FPGA, before it is placed.
`python -m bench area [CONFIG ...]`: what machines are made of, in estimated transistors.
`python -m bench silicon [CONFIG ...] [--liberty L]`: area by part and longest paths on a chip, and docs/silicon.md.
`python -m bench compare --data DIR`: every trained network on its machine, and docs/schemes.md from that.
`python -m bench driver`: the C driver's size, and every network run by it.
`python -m bench against REV`: whether the machines are those of another revision, but for names.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import (
    against,
    area,
    compare,
    cycles,
    driver,
    ecp5,
    emission,
    litert,
    mapping,
    networks,
    paths,
    schemes_page,
    silicon,
    timing,
    vela,
)
from bench.liberty import LibertyError
from bench.page import DOCS, fill
from bench.synthesis import CACHE, SynthesisError
from intaglio import golden, session
from intaglio.console import Bar, say, say_building
from intaglio.demo import embedded
from intaglio.network import NetworkError
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator.build import BuildError, build
from intaglio.sim.simulator.machine import MachineStopped
from intaglio.spec.config import AcceleratorConfig

_SHARED = Path(__file__).resolve().parents[2] / "shared"
SHARED = _SHARED / "models" / "mlperf_tiny"
LIBERTY = _SHARED / "data" / "liberty" / "sky130hd_tt.lib.gz"
GENERATED = Path("build") / "networks"
_CHIP_ERRORS = (NetworkError, SynthesisError, LibertyError, timing.TimingError, cycles.AgainstError)
COMPARED = Path("build") / "compare"

app = typer.Typer(add_completion=False)


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
    compiled = session.compile(network, config)
    config = compiled.config
    began = time.perf_counter()
    build(config)
    build_seconds = time.perf_counter() - began
    began = time.perf_counter()
    result = session.run(compiled, batch, jobs=jobs)
    seconds = time.perf_counter() - began
    table.add_row(
        network.name,
        config.name,
        f"{count:,}",
        f"{count / golden_seconds:,.0f}",
        f"{result.counted_cycles:,.0f}",
        f"{session.estimate(compiled).cycles:,}",
        f"{network.macs / (result.counted_cycles * config.rows * config.columns):.1%}",
        f"{result.simulated_cycles / result.seconds:,.0f}",
        f"{seconds:,.1f}",
        f"{build_seconds:,.1f}",
        f"{result.mismatches:,}",
    )


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 160)


@app.callback(invoke_without_command=True)
def speed(
    context: typer.Context,
    model: Annotated[Path | None, typer.Option(help="A network; the embedded ones if none is named.")] = None,
    inputs: Annotated[Path | None, typer.Option(help="Its inputs.")] = None,
    config: Annotated[
        str | None, typer.Option(help="A configuration; the smallest that fits if none is named.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
) -> None:
    """Golden's and the simulated hardware's speed, and the hardware's cycles."""
    if context.invoked_subcommand is not None:
        return
    if (model is None) != (inputs is None):
        raise typer.BadParameter("--model and --inputs go together")
    table = Table(title=f"on {_machine()}", title_justify="left")
    for heading in (
        "network",
        "config",
        "images",
        "golden, images/s",
        "cycles",
        "predicted",
        "use of the array",
        "simulated cycles/s a core",
        "run, s",
        "build, s",
        "mismatches",
    ):
        table.add_column(heading, justify="left" if heading in ("network", "config") else "right")
    chosen = session.load_config(config) if config else None
    pairs = [(model, inputs)] if model is not None and inputs is not None else list(embedded())
    for network, images in pairs:
        _measure(table, network, images, chosen, jobs)
    _console().print(table)
    if model is None:
        litert.show(_console())


@app.command("vela")
def beside_vela(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="int8 .tflite files; MLPerf Tiny's where present and a MobileNet if none is named."
        ),
    ] = None,
    layers: Annotated[bool, typer.Option(help="Print where the NPU's cycles go, too.")] = False,
) -> None:
    """Cycles beside Arm's Ethos-U55 of the same number of multipliers, which Vela estimates."""
    chosen = models or _compared()
    try:
        table, problems = vela.compare(chosen)
        _console().print(table)
        for accelerator in dict.fromkeys(pair[0] for pair in vela.PAIRS if layers):
            for model in chosen:
                _console().print(vela.layers_table(model, accelerator, vela.estimate(model, accelerator)))
    except (vela.VelaError, NetworkError, MachineStopped) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    for problem in problems:
        say(f"bench: {problem}")
    if problems:
        raise typer.Exit(1)


def _compared() -> list[Path]:
    """MLPerf Tiny's networks beside the repository, and a generated one."""
    found = sorted(SHARED.glob("*.tflite"))
    if not found:
        say("bench: MLPerf Tiny's networks, ../shared beside the repository, are absent: left out")
    return [*found, networks.write("mobilenet_v1_025_96", GENERATED)]


@app.command("networks")
def write_networks(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = GENERATED,
) -> None:
    """Write the generated networks as .tflite files."""
    for name in networks.NETWORKS:
        print(networks.write(name, folder))


@app.command("ecp5")
def on_ecp5(
    config: Annotated[str, typer.Option(help="A configuration that ships, or a TOML file.")] = "affine8x8",
    frequency: Annotated[
        float, typer.Option(min=1.0, help="MHz that the placer is asked for.")
    ] = ecp5.FREQUENCY_MHZ,
    seed: Annotated[int, typer.Option(min=1, help="Of the placer.")] = 1,
) -> None:
    """What a machine takes of an ECP5 LFE5U-85F, its clock, and the path that limits it. Takes minutes."""
    try:
        chosen = session.load_config(config)
        say(f"bench: {config}: synthesis, placement and routing take some ten minutes")
        result = ecp5.implement(chosen, frequency_mhz=frequency, seed=seed)
    except (NetworkError, ecp5.FlowError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    for table in ecp5.tables(chosen, result):
        _console().print(table)


@app.command("mapping")
def on_families(
    configs: Annotated[
        list[str] | None,
        typer.Argument(help="Configurations; all that ship, and the page, if none is named."),
    ] = None,
) -> None:
    """What machines take of ECP5, 7-series and Gowin, unplaced, and which board takes them. Minutes each."""
    try:
        chosen = [session.load_config(name) for name in configs or AcceleratorConfig.names()]
        mapped = []
        for config in chosen:
            for family in mapping.FAMILIES:
                say(f"bench: {config.name} for {mapping.FAMILIES[family].name}")
                mapped.append(mapping.measure(config, family))
        if not configs:
            page = DOCS / mapping.PAGE
            page.write_text(fill(page.read_text(encoding="utf-8"), mapping.blocks(mapped)), encoding="utf-8")
    except (NetworkError, SynthesisError, OSError, ValueError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    for family, of in mapping.FAMILIES.items():
        _console().print(mapping.grid(family, mapped).table(of.name))
    _console().print(mapping.boards(mapped).table("the scarcest resource of each board, and how much of it"))


@app.command("silicon")
def on_chip(
    configs: Annotated[
        list[str] | None,
        typer.Argument(help="Configurations; all that ship, and the page, if none is named."),
    ] = None,
    liberty: Annotated[Path, typer.Option(help="A cell library, .lib or .lib.gz.")] = LIBERTY,
    booth: Annotated[bool, typer.Option(help="Make multipliers Booth's.")] = False,
    before: Annotated[str | None, typer.Option(help="A revision whose longest paths are shown, too.")] = None,
) -> None:
    """What machines take of a chip, by part, and their longest paths, with a cell library. Minutes each."""
    found, timed = [], []
    try:
        with against.worktree(before) if before else nullcontext() as old:
            for name in configs or AcceleratorConfig.names():
                say(f"bench: {name} with {liberty.name}")
                found.append(silicon.measure(session.load_config(name), liberty, booth))
                timed.append(paths.timed(name, liberty, against.ROOT, old))
        if not configs:
            page = DOCS / silicon.PAGE
            page.write_text(
                fill(page.read_text("utf-8"), silicon.blocks(found) | paths.blocks(timed)), "utf-8"
            )
    except (*_CHIP_ERRORS, OSError, ValueError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    _console().print(silicon.grid(found).table(f"area by part, {liberty.name}"))
    _console().print(paths.grid(timed).table("longest paths, without wires"))


@app.command("timing")
def before_placement(
    config: Annotated[str, typer.Option(help="A configuration that ships, or a TOML file.")] = "affine8x8",
    limit: Annotated[int, typer.Option(min=1, help="Groups of paths to print.")] = 20,
) -> None:
    """The longest paths of a machine synthesized for ECP5, by the modules that they begin and end in. Takes minutes.

    Exit code 1 where a path has more levels than docs/architecture.md allows.
    """
    try:
        chosen = session.load_config(config)
        say(f"bench: {config}: synthesis takes some four minutes")
        folder = ecp5.FOLDER / chosen.name
        ecp5.synthesize(chosen, folder)
        report = timing.analyse(json.loads((folder / "netlist.json").read_text()))
    except (NetworkError, ecp5.FlowError, timing.TimingError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    _console().print(timing.table(report, chosen.name, limit))
    if report.above:
        say(f"bench: {report.above:,} paths are above the bar; put a register on them")
        raise typer.Exit(1)


@app.command("area")
def areas(
    configs: Annotated[
        list[str] | None, typer.Argument(help="Configurations; all that ship if none is named.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Syntheses at a time.")] = os.cpu_count() or 1,
) -> None:
    """What machines are made of, in transistors that Yosys estimates without a library. Takes minutes, once."""
    try:
        chosen = [session.load_config(name) for name in configs or AcceleratorConfig.names()]
        found = _areas(chosen, jobs)
    except (NetworkError, SynthesisError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    _console().print(schemes_page.areas(found).table("estimated transistors"))
    _console().print(schemes_page.rescales(found).table("the rescale"))


def _areas(configs: list[AcceleratorConfig], jobs: int) -> list[area.Area]:
    say(f"bench: synthesis of {len(configs)} machines, kept in {CACHE}")
    bar = Bar("synthesis", 0)
    with bar.shown():
        return area.measure(configs, jobs, bar.of)


@app.command("compare")
def compare_schemes(
    models: Annotated[Path, typer.Option(help="Folder of the trained networks.")] = compare.MODELS,
    data: Annotated[Path | None, typer.Option(help="Folder of MNIST's IDX files.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test images to take; then the page goes to --output alone.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the page and the plots go; docs, with --limit build/compare.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
) -> None:
    """Every trained network on its machine, each element compared, beside what the machine is made of."""
    folder = output or (DOCS if limit is None else COMPARED)
    try:
        page = (DOCS / schemes_page.PAGE).read_text(encoding="utf-8")
        comparison = _compare(compare.candidates(models, data), compare.floating(models), limit, jobs)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / schemes_page.PAGE).write_text(fill(page, schemes_page.blocks(comparison)), encoding="utf-8")
        plots = schemes_page.plot(comparison, folder)
    except (NetworkError, SynthesisError, MachineStopped, BuildError, OSError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    for table in schemes_page.show(comparison).values():
        _console().print(table)
    COMPARED.mkdir(parents=True, exist_ok=True)
    (COMPARED / "results.json").write_text(json.dumps(schemes_page.results(comparison, _machine()), indent=2))
    speeds = ", ".join(f"{row.name} {row.cycles_per_second:,.0f}" for row in comparison.rows)
    say(f"bench: simulated cycles/s of a core, on {_machine()}: {speeds}")
    written = [folder / schemes_page.PAGE, *plots, COMPARED / "results.json"]
    say(f"bench: wrote {', '.join(map(str, written))}")
    if wrong := [row.name for row in comparison.rows if row.mismatches]:
        say(f"bench: hardware and golden differ: {', '.join(wrong)}")
        raise typer.Exit(1)


def _compare(
    candidates: list[compare.Candidate], floating: dict[str, float], limit: int | None, jobs: int
) -> compare.Comparison:
    simulate = partial(session.run, jobs=jobs, building=say_building)
    rows = []
    for candidate in candidates:
        say(f"bench: {candidate.path.stem}")
        rows.append(compare.run_network(candidate, simulate, limit))
    configs = list({row.config.name: row.config for row in rows}.values())
    found = _areas([*configs, *area.same_array()], jobs)
    bar = Bar("synthesis of the paper's arrays", 0)
    with bar.shown():
        arrays = area.measure_paper_arrays(jobs, bar.of)
    by_name = {config.name: entry for config, entry in zip(configs, found, strict=False)}
    planes = area.measure_planes(jobs)
    return compare.Comparison(rows, floating, by_name, found[len(configs) :], arrays, planes)


@app.command("against", cls=against.Spread)
def against_revision(
    revision: Annotated[str, typer.Argument(metavar="REV", help="What this tree is compared with.")],
    configs: Annotated[
        list[str] | None, typer.Option(help="Configurations; all that ship if none is named.")
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of networks, .tflite and model.txt, beside the embedded ones."),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Names of nets, a regular expression, whose drivers may differ.")
    ] = None,
    netlists: Annotated[bool, typer.Option(help="Compare the machines' netlists.")] = True,
    cycles_too: Annotated[
        bool, typer.Option("--cycles/--no-cycles", help="Compare networks' cycles.")
    ] = True,
    limit: Annotated[int, typer.Option(min=1, help="Inferences of each network.")] = cycles.INFERENCES,
) -> None:
    """Whether the machines are those of another revision: netlists but for names, and cycles. Takes minutes."""
    equal, root = True, against.ROOT
    try:
        allowed = against.patterns(allow or [])
        with against.worktree(revision) as old:
            for verdict in against.every_netlist(old, root, configs, allowed, _step) if netlists else ():
                print("\n".join([verdict.line, *verdict.more]), flush=True)
                equal &= verdict.equal
            if cycles_too:
                table, problems = cycles.table(*against.every_cycle(old, root, models or [], limit, _step))
                _console().print(table)
                print("\n".join(problems) or "cycles: equal, and so are the outputs")
                equal &= not problems
    except cycles.AgainstError as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    if not equal:
        say(f"bench: differs from {revision}")
        raise typer.Exit(1)


@app.command("driver")
def with_driver(
    networks_too: Annotated[
        bool, typer.Option("--networks/--no-networks", help="Run the networks; builds their machines.")
    ] = True,
    write: Annotated[bool, typer.Option("--write", help="Write the page, too.")] = False,
) -> None:
    """The C driver: its size for RV32IMC, and the embedded networks and MLPerf Tiny's run by it, layer by layer."""
    if not SHARED.is_dir():
        say("bench: MLPerf Tiny's networks, ../shared beside the repository, are absent: left out")
    rows = []
    try:
        size = driver.sizes()
        _console().print(size.table(f"the driver for RV32IMC, -Os; bar of the core: {driver.CORE_BYTES:,}"))
        with tempfile.TemporaryDirectory() as folder:
            for row in driver.networks(SHARED, Path(folder)) if networks_too else ():
                say(f"bench: {row.network}: {row.equal} of {row.wanted} tensors equal")
                rows.append(row)
        if write:
            page = DOCS / driver.PAGE
            page.write_text(fill(page.read_text("utf-8"), driver.blocks(size, rows)), "utf-8")
    except (driver.SizeError, NetworkError, BuildError, OSError, ValueError) as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    _console().print(driver.grid(rows).table("networks run by the driver"))
    if wrong := [row.network for row in rows if row.equal != row.wanted]:
        say(f"bench: tensors differ in {', '.join(wrong)}")
        raise typer.Exit(1)


@app.command("emission")
def emission_seconds(
    revision: Annotated[
        str | None, typer.Argument(metavar="[REV]", help="What this tree is shown beside.")
    ] = None,
    configs: Annotated[
        list[str] | None,
        typer.Option(help="A configuration, more than once; all that ship if none is named."),
    ] = None,
) -> None:
    """Processor seconds that a machine's Verilog takes, beside another revision's."""
    table = Table(title=f"seconds, on {_machine()}", title_justify="left")
    for heading in ("config", *([revision] if revision else []), "this tree"):
        table.add_column(heading, justify="left" if heading == "config" else "right")
    try:
        with against.worktree(revision) if revision else nullcontext() as old:
            for config in configs or AcceleratorConfig.names():
                table.add_row(*emission.row(config, [*([old] if old else []), against.ROOT]))
    except cycles.AgainstError as error:
        say(f"bench: {error}")
        raise typer.Exit(1) from error
    _console().print(table)


def _step(said: str) -> None:
    say(f"bench: {said}")


if __name__ == "__main__":
    app()
