"""One training run: seeded, resumable to the bit, its curves in CSV."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from intaglio.network.errors import NetworkError
from intaglio.train.data import Augmentation, Dataset, Part

THREADS = 1
"""Fixed, because the order of a sum, and so its last bit, follows the number of threads."""
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Settings:
    """What a run depends on beside code and data; a checkpoint resumes under the same alone."""

    scheme: str
    dataset: str
    bits: int
    epochs: int
    seed: int
    batch_size: int = 64


def begin(seed: int) -> None:
    """Make what follows deterministic on one machine."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it; a tenth of the time


def _tensors(part: Part) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.images).float(), torch.from_numpy(part.labels)


def accuracy(model: nn.Module, part: Part) -> float:
    """The share of `part` that the simulated network classifies rightly; the first maximum wins a tie."""
    images, labels = _tensors(part)
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            # numpy's argmax, since torch leaves open which of several maxima it returns.
            right += int((model(x).numpy().argmax(1) == y.numpy()).sum())
    return right / len(labels)


def augmented(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Each image turned, scaled and moved by random amounts up to those of `how`, zeros moving in; whole pixels."""
    count, height, width, channels = images.shape
    if how.degrees or how.scaling:
        turns, scalings = torch.empty(2, count).uniform_(-1, 1, generator=generator)
        angles, factors = turns * math.radians(how.degrees), 1 + scalings * how.scaling
        cosines, sines = angles.cos() * factors, angles.sin() * factors
        nothing = torch.zeros(count)
        rows = [torch.stack([cosines, -sines, nothing], 1), torch.stack([sines, cosines, nothing], 1)]
        grid = functional.affine_grid(
            torch.stack(rows, 1), [count, channels, height, width], align_corners=False
        )
        channels_first = images.permute(0, 3, 1, 2)
        images = functional.grid_sample(channels_first, grid, align_corners=False).round().permute(0, 2, 3, 1)
    reach = how.pixels
    padded = functional.pad(images, (0, 0, reach, reach, reach, reach))
    offsets = torch.randint(0, 2 * reach + 1, (count, 2), generator=generator)
    rows_of, columns_of = (
        offsets[:, axis, None] + torch.arange(size) for axis, size in enumerate((height, width))
    )
    return padded[torch.arange(count)[:, None, None], rows_of[:, :, None], columns_of[:, None, :]]


@dataclass(frozen=True)
class Outcome:
    """`epoch`: the one whose network was kept, from 1; `held_out`: its accuracy; `seconds`: of all training."""

    epoch: int
    held_out: float
    seconds: float


def _optimizer(scheme: Any, model: nn.Module) -> tuple[torch.optim.Adam, list[float]]:
    """Adam over the scheme's parameter groups, and the learning rate that each begins with."""
    groups = [{"params": list(model.parameters())}]
    if hasattr(scheme, "parameter_groups"):
        groups = scheme.parameter_groups(model)
    optimizer = torch.optim.Adam(groups, lr=scheme.LEARNING_RATE, fused=True)
    return optimizer, [group["lr"] for group in optimizer.param_groups]


def train(
    scheme: Any, model: nn.Module, data: Dataset, settings: Settings, folder: Path, resume: bool
) -> Outcome:
    """Train `model` and leave it as it was after the epoch that did best on the held-out images.

    `scheme` is the module that built `model` (`schemes.SchemeModule`). Epochs in which the model trains as it
    infers (``model.final``) go before those in which it does not; of equals the later is kept.

    Writes ``checkpoint.pt`` and ``curves.csv`` into `folder` after every epoch.

    Raises
    ------
    NetworkError
        Where `resume` is set and the checkpoint in `folder` is absent, damaged or another run's.
    """
    images, labels = _tensors(data.train)
    optimizer, learning_rates = _optimizer(scheme, model)
    state: dict[str, Any] = {
        "epoch": 0,
        "rows": [],
        "best": (False, -1.0, 0),
        "best_model": None,
        "seconds": 0.0,
    }
    if resume:
        state = _read_checkpoint(folder / "checkpoint.pt", settings)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    batches = math.ceil(len(images) / settings.batch_size)
    with Progress() as progress:
        task = progress.add_task(
            "training", total=settings.epochs * batches, completed=state["epoch"] * batches
        )
        for epoch in range(state["epoch"], settings.epochs):
            started = time.monotonic()
            model.begin_epoch(epoch / settings.epochs)
            total = 0.0
            for chosen, share, generator in _batches(len(images), settings, epoch):
                for group, rate in zip(optimizer.param_groups, learning_rates, strict=True):
                    group["lr"] = rate * share
                inputs = augmented(images[chosen], data.augmentation, generator)
                total += _step(model, optimizer, inputs, labels[chosen]) * len(chosen)
                progress.advance(task)
            loss, held_out = total / len(images), accuracy(model, data.held_out)
            progress.update(task, description=f"loss {loss:.3f}, held out {held_out:.4f}")
            state["rows"].append({"epoch": epoch + 1, "loss": loss, "held_out_accuracy": held_out})
            if (bool(model.final), held_out, epoch + 1) > tuple(state["best"]):
                state["best"] = (bool(model.final), held_out, epoch + 1)
                state["best_model"] = {key: value.clone() for key, value in model.state_dict().items()}
            state |= {"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state["seconds"] += time.monotonic() - started
            _write(folder, state, settings)
    model.load_state_dict(state["best_model"])
    model.eval()
    return Outcome(state["best"][2], state["best"][1], state["seconds"])


def _batches(count: int, settings: Settings, epoch: int) -> Iterator[tuple[Tensor, float, torch.Generator]]:
    """An epoch's batches in random order: indices of images, the share of the learning rates, which fall as half a
    cosine over the run, and where the batch's random numbers come from.

    Each epoch has random numbers of its own, so that a resumed run draws what an unbroken one draws.
    """
    torch.manual_seed(settings.seed * 1_000_003 + epoch)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    batches = torch.randperm(count, generator=generator).split(settings.batch_size)
    for step, chosen in enumerate(batches):
        done = (epoch * len(batches) + step) / (settings.epochs * len(batches))
        yield chosen, (1 + math.cos(math.pi * done)) / 2, generator


def _step(model: nn.Module, optimizer: torch.optim.Adam, inputs: Tensor, labels: Tensor) -> float:
    """One step of the optimizer; the batch's loss before it."""
    model.train()
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
    return float(loss.item())


def _write(folder: Path, state: dict[str, Any], settings: Settings) -> None:
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(state["rows"][0]))
        writer.writeheader()
        writer.writerows(state["rows"])
    torch.save(state | {"settings": asdict(settings)}, folder / "checkpoint.new")
    os.replace(folder / "checkpoint.new", folder / "checkpoint.pt")


def _read_checkpoint(path: Path, settings: Settings) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True)
        stored = state.pop("settings")
    except FileNotFoundError as error:
        raise NetworkError(f"{path}: there is no checkpoint; start without --resume") from error
    except Exception as error:  # torch.load raises whatever unpickling damaged bytes leads to
        raise NetworkError(f"{path}: the checkpoint is damaged; start without --resume") from error
    if stored != asdict(settings):
        differing = ", ".join(key for key, value in asdict(settings).items() if stored.get(key) != value)
        raise NetworkError(
            f"{path}: the checkpoint is of a run with another {differing}; give the same options"
        )
    return state
