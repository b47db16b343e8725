"""Parts that a design has many times: one module of its Verilog, elaborated and converted once."""

import re
from collections.abc import Hashable
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Instance, Module, Value
from amaranth.lib import wiring

__all__ = ["Emission", "place"]

_RESET = re.compile(r"^  wire width 1 input \d+ +\\rst\n", re.M)


class Emission:
    """The platform with which a design is elaborated that becomes Verilog with a module for each repeated part.

    Parameters
    ----------
    top : str
        The design's own module. The others' names begin with it, so that two designs may live in one.

    Attributes
    ----------
    texts : dict
        Name of a module → its RTLIL, and that of all below it, in the order in which they were met.
    """

    def __init__(self, top: str) -> None:
        self.texts: dict[str, str] = {}
        self._top = top
        self._parts: dict[tuple[type[wiring.Component], Hashable], tuple[str, wiring.Signature]] = {}

    def part(
        self, kind: type[wiring.Component], parameters: tuple[Hashable, ...]
    ) -> tuple[str, wiring.Signature]:
        """The name of the module of ``kind(*parameters)``, and its ports.

        Raises RuntimeError where it has registers that are reset: resets that are inserted around it do not reach it.
        """
        key = kind, parameters
        if key not in self._parts:
            component = kind(*parameters)
            alike = sum(other is kind for other, _ in self._parts)
            called = re.sub(r"\B(?=[A-Z])", "_", kind.__name__).lower()
            name = f"{self._top}_{called}" + (f"_{alike}" if alike else "")
            text = _RESET.sub("", rtlil.convert(component, name=name, platform=self, emit_src=False))
            if re.search(r"\\rst\b", text):
                raise RuntimeError(f"`{kind.__name__}` has registers that are reset, and cannot be repeated")
            self.texts[name] = text.replace("attribute \\top 1\n", "attribute \\keep_hierarchy 1\n", 1)
            self._parts[key] = name, component.signature
        return self._parts[key]


def place(m: Module, platform, name: str, kind: type[wiring.Component], *parameters: Hashable) -> Any:
    """Makes ``kind(*parameters)`` a submodule of `m`, which is there many times; what has its ports is returned.

    Where the platform is an `Emission`, it is an instance of a module that the others share, and no component.
    """
    if not isinstance(platform, Emission):
        m.submodules[name] = component = kind(*parameters)
        return component
    module, signature = platform.part(kind, parameters)
    ports = signature.create(path=(name,))
    connected: dict[str, Value] = {"i_clk": ClockSignal()}
    for path, member, value in signature.flatten(ports):
        direction = "i" if member.flow == wiring.In else "o"
        connected[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
    m.submodules[name] = Instance(module, **connected)
    return ports
