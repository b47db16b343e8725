"""The data sets: images as the network reads them, and which part of them chooses, trains and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError
from intaglio.network.inputs import read_array

SPLIT_SEED = 0
"""Of the one split that every run shares, so that no run trains on what another tests with."""


@dataclass(frozen=True)
class Part:
    """`images`: (count, height, width, channels), uint8; `labels`: (count,), int64 classes."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Augmentation:
    """By how much a training image may be changed: moved along each axis by whole `pixels`, turned by `degrees`,
    scaled by ``1 +- scaling``. The same for every scheme."""

    pixels: int = 1
    degrees: float = 0.0
    scaling: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """`held_out` images of the training set choose the epoch; `test` is looked at once, at the end."""

    train: Part
    held_out: Part
    test: Part
    augmentation: Augmentation = Augmentation()


def _part(images: npt.NDArray, labels: npt.NDArray, which: npt.NDArray | slice) -> Part:
    return Part(images[which].astype(np.uint8)[..., None], labels[which].astype(np.int64))


def digits() -> Dataset:
    """scikit-learn's copy of the UCI optical digits: 1,797 images of 8×8 pixels 0..16.

    Shuffled once, then 400 to test with, 200 held out, 1,197 to train with. The shuffle mixes writers.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images, bunch.target
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    return Dataset(
        train=_part(images, labels, order[600:]),
        held_out=_part(images, labels, order[400:600]),
        test=_part(images, labels, order[:400]),
    )


def mnist(folder: Path) -> Dataset:
    """MNIST from its four IDX files in `folder`, gzipped or not; 5,000 of the 60,000 are held out.

    Raises
    ------
    NetworkError
        Where a file is missing or damaged.
    """

    def read(stem: str) -> npt.NDArray:
        for name in (f"{stem}.gz", stem):
            if (folder / name).is_file():
                return read_array(folder / name)
        raise NetworkError(f"{folder}: has no {stem}.gz; give the folder of MNIST's IDX files as --data")

    images, labels = read("train-images-idx3-ubyte"), read("train-labels-idx1-ubyte")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    return Dataset(
        train=_part(images, labels, order[5000:]),
        held_out=_part(images, labels, order[:5000]),
        test=_part(read("t10k-images-idx3-ubyte"), read("t10k-labels-idx1-ubyte"), slice(None)),
        augmentation=Augmentation(degrees=10.0, scaling=0.1),
    )


def load(name: str, folder: Path | None) -> Dataset:
    """The data set `name`, ``digits`` or ``mnist``; the latter needs `folder`."""
    if name == "digits":
        return digits()
    if folder is None:
        raise NetworkError(f"the data set {name} is read from its files; give their folder as --data")
    return mnist(folder)
