"""Every embedded network on simulated hardware: what `make run` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from intaglio import session
from intaglio.console import Bar, out, say_building
from intaglio.network import NetworkError
from intaglio.outcome import accuracy_of
from intaglio.report import counted, scheme_of, table_of, verdict

MODELS = Path(__file__).parent / "models"


def embedded() -> Iterator[tuple[Path, Path]]:
    """Each network's file and that of its test images: DATASET_SCHEME.txt or .npz has DATASET_test.npz."""
    files = sorted(path for path in MODELS.iterdir() if path.suffix in (".txt", ".npz"))
    for model in (path for path in files if not path.stem.endswith("_test")):
        images = model.with_name(f"{model.stem.split('_')[0]}_test.npz")
        if not images.is_file():
            raise NetworkError(f"{model.name}: its test images, {images.name}, are not beside it")
        yield model, images


def show(jobs: int | None = None, backend: str = "rtl") -> int:
    """Prints a table and a verdict; returns how many elements differ, over all networks.

    `jobs` and `backend` are as in `session.run`.
    """
    table = table_of("embedded networks on simulated hardware")
    for heading in ("network", "scheme", "config"):
        table.add_column(heading, no_wrap=True)
    for heading in ("images", "golden", "hardware", "cycles", "mismatches"):
        table.add_column(heading, justify="right")
    mismatches, verdicts = 0, []
    compiled = [(session.compile(model), images) for model, images in embedded()]
    if backend == "rtl":
        session.prepare([machine.config for machine, _ in compiled], say_building)
    for machine, images in compiled:
        network, name = machine.network, machine.config.name
        inputs, count = session.inputs_of(images, network)
        bar = Bar(f"{network.name} on {name}", count)
        with bar.shown():
            outcome = session.run(machine, inputs, labels=images, jobs=jobs, backend=backend, progress=bar)
        expected = session.run_golden(network, inputs, outputs_only=True).tensors
        mismatches += outcome.mismatches or 0
        verdicts.append(f"{network.name}: {verdict(outcome)}")
        table.add_row(
            network.name,
            scheme_of(network),
            name,
            counted(count),
            f"{accuracy_of(expected, outcome.labels):.2%}",
            f"{outcome.accuracy:.2%}",
            counted(outcome.cycles),
            counted(outcome.mismatches or 0),
        )
    console = out()
    table.caption = "golden, hardware: the share of the images that each tells right; cycles: of one image"
    table.caption_justify = "left"
    console.print(table)
    for line in verdicts:
        console.print(line, markup=False, soft_wrap=True)
    return mismatches
