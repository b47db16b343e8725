"""Training runs of a second, of any scheme."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intaglio.train import data, loop
from intaglio.train.definition import Conv, Dense, Pool

LAYERS = (Conv(3), Pool(), Conv(4, kernel=1), Dense(6), Dense(5))
SHAPE = (6, 5, 1)


@contextmanager
def torch_as_it_was():
    """What `loop.begin` sets holds for the whole process; this takes it back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def small_data(shape: tuple[int, int, int] = SHAPE) -> data.Dataset:
    """Noise, of five classes that follow from it."""
    rng = np.random.default_rng(5)

    def part(count: int) -> data.Part:
        images = rng.integers(0, 17, (count, *shape), dtype=np.uint8)
        return data.Part(images, images.reshape(count, -1).argmax(1).astype(np.int64) % 5)

    return data.Dataset(part(96), part(40), part(20))


def trained(
    module: Any,
    folder: Path,
    epochs: int = 4,
    seed: int = 3,
    bits: int = 8,
    resume: bool = False,
    stop_after: int | None = None,
):
    """A model of the scheme's `module`; None where it is interrupted, in the epoch after `stop_after` whole ones."""
    settings = loop.Settings(module.__name__, "small", bits, epochs, seed)
    folder.mkdir(exist_ok=True)
    with torch_as_it_was():
        loop.begin(seed)
        model = module.build(LAYERS, SHAPE, bits)
        if stop_after is None:
            loop.train(module, model, small_data(), settings, folder, resume)
            return model
        real, left = loop.accuracy, stop_after

        def stopping(*arguments):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "accuracy", stopping)
            with pytest.raises(KeyboardInterrupt):
                loop.train(module, model, small_data(), settings, folder, resume)
        return None
