"""Network + configuration -> `Program`: the command list and memory image that the machine runs."""

from intaglio.compiler.estimate import Estimate
from intaglio.compiler.lower import compile_network, estimate_network
from intaglio.compiler.program import Binding, LayerInfo, Probe, Program

__all__ = [
    "Binding",
    "Estimate",
    "LayerInfo",
    "Probe",
    "Program",
    "compile_network",
    "estimate_network",
]
