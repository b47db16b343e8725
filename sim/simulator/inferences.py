"""What a backend found of several inferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.machine import Inference


@dataclass(frozen=True)
class Inferences:
    """Several runs of a program.

    Attributes
    ----------
    outputs, tensors : as an `Inference` has them, batch first
    counters : of each inference, those of the machine's that the backend has
    cycles, layer_cycles : of each inference; none from a backend that counts no cycles
    """

    outputs: Mapping[str, npt.NDArray]
    tensors: Mapping[str, npt.NDArray]
    counters: Sequence[Mapping[str, int]]
    cycles: Sequence[int] = field(default=())
    layer_cycles: Sequence[tuple[int, ...]] = field(default=())

    @classmethod
    def of(cls, runs: Sequence[Inference]) -> Inferences:
        """Of inferences that were run one after the other."""
        return cls(
            outputs={name: np.stack([run.outputs[name] for run in runs]) for name in runs[0].outputs},
            tensors={name: np.stack([run.tensors[name] for run in runs]) for name in runs[0].tensors},
            counters=[run.counters for run in runs],
            cycles=[run.cycles for run in runs],
            layer_cycles=[run.layer_cycles for run in runs],
        )

    @classmethod
    def joined(cls, parts: Sequence[Inferences]) -> Inferences:
        """Of batches, one after the other."""
        return cls(
            outputs={
                name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs
            },
            tensors={
                name: np.concatenate([part.tensors[name] for part in parts]) for name in parts[0].tensors
            },
            counters=[counter for part in parts for counter in part.counters],
            cycles=[cycles for part in parts for cycles in part.cycles],
            layer_cycles=[cycles for part in parts for cycles in part.layer_cycles],
        )
