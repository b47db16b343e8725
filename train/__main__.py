"""``python -m train --scheme sbnq --dataset digits --epochs 200 --out build/train/digits``: from data to integers."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

import golden
import network
from network import integernet

# Read when torch is loaded: its threads sleep when they wait; spinning, a busy machine takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
try:
    import sklearn  # noqa: F401 - train.data imports it when it is asked for the digits

    from train import data, loop, sbnq
except ModuleNotFoundError as error:
    sys.exit(f"training needs {error.name}, which is not installed; pip install '.[train]'")
from train.definition import DEFINITIONS

SCHEMES: dict[str, ModuleType] = {"sbnq": sbnq}
"""A scheme is a module with ``build(layers, input_shape, bits)`` and ``to_network(model, name)``."""


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--scheme", choices=SCHEMES, required=True)
    parser.add_argument("--dataset", choices=DEFINITIONS, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the checkpoint, the curves and the network"
    )
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bits", type=int, default=4, choices=range(2, 9), help="of weights and activations")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    arguments = parser.parse_args(words)
    if arguments.epochs < 1:
        parser.error(f"--epochs must be 1 or more, not {arguments.epochs}")
    if arguments.seed < 0:
        parser.error(f"--seed must be 0 or more, not {arguments.seed}")
    return arguments


def _integer_accuracy(exported: network.Network, part: data.Part) -> float:
    scores = golden.run(exported, part.images, outputs_only=True).tensors[exported.outputs[0]]
    return float((scores.argmax(1) == part.labels).mean())


def main(words: list[str] | None = None) -> int:
    """Train, export, and say how accurate the exported integers are; the exit status."""
    arguments = _arguments(words)
    scheme = SCHEMES[arguments.scheme]
    settings = loop.Settings(
        arguments.scheme, arguments.dataset, arguments.bits, arguments.epochs, arguments.seed
    )
    try:
        dataset = data.load(arguments.dataset, arguments.data)
        arguments.out.mkdir(parents=True, exist_ok=True)
        loop.begin(settings.seed)
        height, width, channels = dataset.train.images.shape[1:]
        model = scheme.build(DEFINITIONS[arguments.dataset], (height, width, channels), settings.bits)
        held_out = loop.train(model, dataset, settings, arguments.out, arguments.resume)
        name = f"{arguments.dataset}_{arguments.scheme}{settings.bits}"
        exported = scheme.to_network(model, name)
        path = arguments.out / f"{name}.txt"
        integernet.dump(exported, path)
        np.savez_compressed(
            arguments.out / f"{arguments.dataset}_test.npz",
            input=dataset.test.images,
            labels=dataset.test.labels,
        )
        print(f"held-out images   {held_out:.4f} simulated")
        print(f"test images       {loop.accuracy(model, dataset.test):.4f} simulated")
        print(
            f"test images       {_integer_accuracy(integernet.load(path, settings.bits), dataset.test):.4f} in integers"
        )
        print(f"wrote {path}")
    except (network.NetworkError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
