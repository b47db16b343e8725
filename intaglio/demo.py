"""Every embedded network on simulated hardware: what `make run` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import intaglio.golden as golden_model
from intaglio import cli
from intaglio.api import compile_for
from intaglio.console import out
from intaglio.network import NetworkError
from intaglio.network.inputs import load_inputs, load_labels
from intaglio.network.load import load
from intaglio.report import accuracy_of, counted, scheme_of, table_of, verdict
from intaglio.sim.simulator.build import build_all, cached

MODELS = Path(__file__).parent / "models"


def embedded() -> Iterator[tuple[Path, Path]]:
    """Each network's file and that of its test images: DATASET_SCHEME.txt or .npz has DATASET_test.npz."""
    files = sorted(path for path in MODELS.iterdir() if path.suffix in (".txt", ".npz"))
    for model in (path for path in files if not path.stem.endswith("_test")):
        images = model.with_name(f"{model.stem.split('_')[0]}_test.npz")
        if not images.is_file():
            raise NetworkError(f"{model.name}: its test images, {images.name}, are not beside it")
        yield model, images


def show(jobs: int | None = None) -> int:
    """Prints a table and a verdict; returns how many elements differ, over all networks."""
    table = table_of("embedded networks on simulated hardware")
    for heading in ("network", "scheme", "config"):
        table.add_column(heading, no_wrap=True)
    for heading in ("images", "golden", "hardware", "cycles", "mismatches"):
        table.add_column(heading, justify="right")
    mismatches, verdicts = 0, []
    compiled = [
        (network, images, *compile_for(network, None))
        for network, images in ((load(model), images) for model, images in embedded())
    ]
    configs = {config.name: config for _, _, config, _ in compiled if not cached(config)}
    if configs:
        cli.say(f"building the simulated machines {', '.join(configs)}, once ...")
        build_all(configs.values())
    for network, images, config, program in compiled:
        inputs = load_inputs(images, network)
        count = len(next(iter(inputs.values())))
        labels = load_labels(images, count)
        expected = golden_model.run(network, inputs, outputs_only=True).tensors
        result = cli.simulate(network, program, config, inputs, jobs=jobs, check=True, trace=None)
        mismatches += result.mismatches
        verdicts.append(f"{network.name}: {verdict(result)}")
        table.add_row(
            network.name,
            scheme_of(network),
            config.name,
            counted(count),
            f"{accuracy_of(expected, labels):.2%}",
            f"{accuracy_of(result.outputs, labels):.2%}",
            counted(result.cycles),
            counted(result.mismatches),
        )
    console = out()
    table.caption = "golden, hardware: the share of the images that each tells right; cycles: of one image"
    table.caption_justify = "left"
    console.print(table)
    for line in verdicts:
        console.print(line, markup=False, soft_wrap=True)
    return mismatches
