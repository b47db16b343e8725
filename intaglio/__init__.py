"""The front door: `run`, `run_golden`, `estimate`, `load`, `compile` and `generate`, and the command line
(`python -m intaglio`).

import intaglio

result = intaglio.run("model.txt", "images.npy", config="sbnq8x8")
print(result.cycles, result.mismatches, result.outputs)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.device import Device
    from intaglio.network import Network, NetworkError
    from intaglio.outcome import Outcome, Prediction
    from intaglio.session import Compiled, compile, estimate, load, run, run_golden
    from intaglio.sim.simulator.machine import MachineStopped
    from intaglio.spec.config import AcceleratorConfig
    from intaglio.verilog import generate

    __version__: str

_HOMES = {
    "AcceleratorConfig": "spec.config",
    "Compiled": "session",
    "Device": "device",
    "MachineStopped": "sim.simulator.machine",
    "Network": "network",
    "NetworkError": "network",
    "Outcome": "outcome",
    "Prediction": "outcome",
    "compile": "session",
    "estimate": "session",
    "generate": "verilog",
    "load": "session",
    "run": "session",
    "run_golden": "session",
}
_ROOMS = ("compiler", "golden", "hdl", "network", "sim", "spec", "train")

__all__ = [
    "AcceleratorConfig",
    "Compiled",
    "Device",
    "MachineStopped",
    "Network",
    "NetworkError",
    "Outcome",
    "Prediction",
    "compile",
    "estimate",
    "generate",
    "load",
    "run",
    "run_golden",
]


def __getattr__(name: str) -> Any:
    # numpy and all the rooms are imported when they are wanted, not for `intaglio --help`.
    if name in _HOMES:
        return getattr(importlib.import_module(f"intaglio.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"intaglio.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("intaglio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS, "__doc__", "__name__", "__path__", "__version__"])
