"""From data to integers: ``python -m intaglio.train --scheme sbnq --dataset digits --out build/train/digits``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import golden, network
from intaglio.network.formats import exchange, integernet
from intaglio.network.inputs import conform

MISSING = "training needs {}, which is not installed: pip install 'intaglio[train]', in a checkout '.[train]'"
# Read when torch is loaded: its threads sleep when they wait; spinning, a busy machine takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
try:
    import sklearn  # noqa: F401 - train.data imports it when it is asked for the digits
    import torch

    from intaglio.train import data, loop
    from intaglio.train.definition import DEFINITIONS
    from intaglio.train.schemes import SCHEMES, exported
except ModuleNotFoundError as error:
    sys.exit(MISSING.format(error.name))


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m intaglio.train", description=__doc__)
    parser.add_argument("--scheme", choices=SCHEMES, required=True)
    parser.add_argument("--dataset", choices=DEFINITIONS, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the checkpoint, the curves and the network"
    )
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bits", type=int, help="of weights and activations, where the scheme has a choice")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    arguments = parser.parse_args(words)
    if arguments.epochs < 1:
        parser.error(f"--epochs must be 1 or more, not {arguments.epochs}")
    if arguments.seed < 0:
        parser.error(f"--seed must be 0 or more, not {arguments.seed}")
    choices = SCHEMES[arguments.scheme].bits
    if arguments.bits is None:
        arguments.bits = choices[0]
    if arguments.bits not in choices:
        known = ", ".join(map(str, sorted(choices)))
        parser.error(f"--bits of the scheme {arguments.scheme} must be {known}, not {arguments.bits}")
    return arguments


def integer_accuracy(integers: network.Network, part: data.Part) -> float:
    """The share of `part` that golden, reading the pixels as the network's input, classifies rightly."""
    pixels = conform(part.images, integers.tensors[integers.inputs[0]], "images")
    scores = golden.run(integers, pixels, outputs_only=True).tensors[integers.outputs[0]]
    return float((scores.argmax(1) == part.labels).mean())


def _export(integers: network.Network, folder: Path) -> list[Path]:
    """The network's files: the exchange format, and what else its scheme is known by."""
    paths = []
    if any(isinstance(getattr(layer, "rescale", None), network.SbnqRescale) for layer in integers.layers):
        paths.append(folder / f"{integers.name}.txt")
        integernet.dump(integers, paths[-1])
    paths.append(folder / f"{integers.name}.npz")
    exchange.dump(integers, paths[-1])
    return paths


def main(words: list[str] | None = None) -> int:
    """Train, export, and say how accurate the exported integers are; the exit status."""
    arguments = _arguments(words)
    scheme = SCHEMES[arguments.scheme]
    settings = loop.Settings(
        arguments.scheme, arguments.dataset, arguments.bits, arguments.epochs, arguments.seed
    )
    name = scheme.file_stem(settings.dataset, settings.scheme, settings.bits)
    try:
        module = scheme.load()
    except ModuleNotFoundError as error:
        print(MISSING.format(error.name), file=sys.stderr)
        return 2
    try:
        dataset = data.load(arguments.dataset, arguments.data)
        arguments.out.mkdir(parents=True, exist_ok=True)
        loop.begin(settings.seed)
        height, width, channels = dataset.train.images.shape[1:]
        model = module.build(DEFINITIONS[settings.dataset], (height, width, channels), settings.bits)
        outcome = loop.train(module, model, dataset, settings, arguments.out, arguments.resume)
        integers = exported(module, model, name)
        paths = _export(integers, arguments.out) if integers else []
        measured: dict[str, Any] = {
            "scheme": settings.scheme,
            "dataset": settings.dataset,
            "bits": settings.bits,
            "epochs": settings.epochs,
            "seed": settings.seed,
            "kept_epoch": outcome.epoch,
            "training_seconds": round(outcome.seconds, 1),
            "held_out_accuracy": outcome.held_out,
            "test_accuracy_simulated": loop.accuracy(model, dataset.test),
            "test_accuracy_integers": integer_accuracy(integers, dataset.test) if integers else None,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "torch": torch.__version__,
        }
        paths += [arguments.out / f"{name}.json", arguments.out / f"{settings.dataset}_test.npz"]
        paths[-2].write_text(json.dumps(measured, indent=2) + "\n")
        np.savez_compressed(paths[-1], input=dataset.test.images, labels=dataset.test.labels)
        for key, value in measured.items():
            print(f"{key.replace('_', ' '):24} {value}")
        print(f"wrote {', '.join(map(str, paths))}")
    except (network.NetworkError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
