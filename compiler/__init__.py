"""Network + configuration -> `Program`: the command list and memory image that the machine runs."""

from compiler.lower import compile_network
from compiler.program import Binding, LayerInfo, Program, Tap, Window

__all__ = ["Binding", "LayerInfo", "Program", "Tap", "Window", "compile_network"]
