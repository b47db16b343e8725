"""What a run found or the cost model predicts, as numbers: rows for a data frame, ``--report``, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.compiler import Estimate, LayerInfo
from intaglio.errors import ArgumentError
from intaglio.network import Network
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.config import AcceleratorConfig


class Figures:
    """Cycles by layer of a network on a machine, measured or predicted; None and nothing where none were counted."""

    network: Network
    config: AcceleratorConfig
    layers: tuple[LayerInfo, ...]
    cycles: float | None
    layer_cycles: tuple[float, ...]

    def utilisation(self, macs: int, cycles: float | None) -> float | None:
        """The share of the array's multiply-accumulates in `cycles` that were the network's `macs`; None where cycles
        were not counted."""
        if cycles is None:
            return None
        return macs / (cycles * self.config.rows * self.config.columns) if cycles else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """A row a layer, as ``pandas.DataFrame`` takes them: layer, op, cycles, macs, utilisation.

        Cycles are those of one inference; they and the utilisation are None where they were not counted.
        """
        counted: tuple[float | None, ...] = self.layer_cycles or (None,) * len(self.layers)
        return [
            {
                "layer": layer.name,
                "op": layer.op,
                "cycles": _number(cycles),
                "macs": layer.macs,
                "utilisation": self.utilisation(layer.macs, cycles),
            }
            for layer, cycles in zip(self.layers, counted, strict=True)
        ]

    def layers_reported(self) -> list[dict[str, Any]]:
        """The layers as reports hold them."""
        return [
            {
                "name": row["layer"],
                "op": row["op"],
                "macs": row["macs"],
                "cycles": row["cycles"],
                "utilisation": row["utilisation"],
            }
            for row in self.rows()
        ]


@dataclass(frozen=True, kw_only=True)
class Outcome(RunResult, Figures):
    """What a run found, and of what it was.

    Attributes
    ----------
    network, config : what ran, and on which machine
    labels : the class of each inference, where they are known
    """

    network: Network
    config: AcceleratorConfig
    labels: npt.NDArray[np.integer] | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of inferences whose greatest output is the label; None without labels."""
        return accuracy_of(self.outputs, self.labels)

    def report(self, model: str) -> dict[str, Any]:
        """The content of ``--report``, of the network in the file `model`; what was not counted is None."""
        return {
            "model": model,
            "config": self.config.name,
            "inferences": self.inferences,
            "cycles": _number(self.cycles),
            "macs": self.network.macs,
            "utilisation": self.utilisation(self.network.macs, self.cycles),
            "mismatches": self.mismatches,
            "accuracy": self.accuracy,
            "simulated_cycles_per_second": None if self.cycles is None else self.cycles_per_second,
            "layers": self.layers_reported(),
            "counters": {name: _number(value) for name, value in self.counters.items()},
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class Prediction(Estimate, Figures):
    """What the cost model says of one inference.

    Attributes
    ----------
    network, config : what is to run, and on which machine
    """

    network: Network
    config: AcceleratorConfig

    def report(self, model: str) -> dict[str, Any]:
        """The content of ``--report``, of the network in the file `model`."""
        return {
            "model": model,
            "config": self.config.name,
            "cycles": self.cycles,
            "macs": self.network.macs,
            "utilisation": self.utilisation(self.network.macs, self.cycles),
            "layers": self.layers_reported(),
            "on_chip_bytes": self.config.on_chip_bytes,
            "memory_bytes": self.memory_bytes,
            "read_bytes": self.read_bytes,
            "write_bytes": self.write_bytes,
            "warnings": list(self.warnings),
        }


def accuracy_of(outputs: Mapping[str, npt.NDArray], labels: npt.NDArray[np.integer] | None) -> float | None:
    """The share of inferences whose greatest output (the first of equals) is the label; None without labels."""
    if labels is None:
        return None
    scores = next(iter(outputs.values()))
    return float(np.mean(scores.reshape(len(scores), -1).argmax(axis=1) == labels))


def check_labels(network: Network, labels: npt.NDArray[np.integer]) -> None:
    """Raise NetworkError where labels cannot be what the network's output says."""
    if len(network.outputs) != 1:
        raise ArgumentError(
            "labels", f"network {network.name} has {len(network.outputs)} outputs: leave them out"
        )
    classes = network.tensors[network.outputs[0]].size
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        index = int(((labels < 0) | (labels >= classes)).argmax())
        raise ArgumentError(
            "labels",
            f"number {index} is {int(labels[index])}, the network tells {classes} classes apart (0...{classes - 1})",
        )


def _number(value: float | None) -> float | None:
    """A whole number as an integer, as JSON and people want it."""
    return int(value) if value is not None and value == round(value) else value
