"""What a scheme is: one module that builds, trains and exports a network its way; and the list of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import nn

from intaglio import network
from intaglio.train.definition import Layers


class SchemeModule(Protocol):
    """A module of `train/`. Where it has ``parameter_groups(model)``, that returns Adam's parameter groups (lists of
    dicts; a group without ``lr`` takes `LEARNING_RATE`); else all parameters are one group. It has a ``to_network``
    (below), but for the float scheme.

    Attributes
    ----------
    LEARNING_RATE : of Adam, at the first step; it falls to 0 along half a cosine
    """

    LEARNING_RATE: float

    def build(self, layers: Layers, input_shape: tuple[int, int, int], bits: int) -> nn.Module:
        """A network to train, its parameters drawn from torch's global generator.

        Its forward takes raw pixels in float, (batch, height, width, channels), and returns (batch, classes). It has:

        ``begin_epoch(done: float)``
            is called before each epoch with the share of the epochs that are done, 0 <= done < 1. What is delayed or
            frozen in training follows from `done` and from what ``state_dict`` holds, so that a resumed run is an
            unbroken one.
        ``final: bool``
            whether it now trains as it infers. The best epoch is chosen among those alone (among all, where there is
            none).
        """
        ...


@dataclass(frozen=True)
class Scheme:
    """The module `train.MODULE` at a number of `bits`; with a choice, the first is the default and names have it."""

    module: str
    bits: tuple[int, ...]

    def load(self) -> Any:
        """The module, a `SchemeModule`: imported when asked for, since each needs libraries of its own."""
        return import_module(f"intaglio.train.{self.module}")

    def file_stem(self, dataset: str, name: str, bits: int) -> str:
        """What a run's network is called: DATASET_SCHEME, and the bits where there is a choice."""
        return f"{dataset}_{name}{bits if len(self.bits) > 1 else ''}"


SCHEMES = {
    "float": Scheme("floating", (32,)),
    "affine": Scheme("affine", (8,)),
    "sbnq": Scheme("sbnq", (4, 2, 3, 5, 6, 7, 8)),
    "llsq": Scheme("llsq", (4, 2, 8)),
    "ternary": Scheme("itbwn", (2,)),
    "binary": Scheme("itbwn", (1,)),
}
"""By the name that ``--scheme`` takes. `bits` are of weights and activations, for ternary and binary of weights."""


def exported(module: Any, model: nn.Module, name: str) -> network.Network | None:
    """The integer network that `model` simulates in evaluation; None where the scheme has none."""
    return module.to_network(model, name) if hasattr(module, "to_network") else None
