"""Components seen from inside."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

__all__ = ["Opened"]


class Opened:
    """A component elaborated before its turn: a harness reads its inner signals, and may plant a fault by a last
    assignment to one. Nothing else about its netlist changes.

    Attributes that are not those below are `signal`.

    Attributes
    ----------
    component : wiring.Component
    module : Module
        What it consists of; parts that are not opened are still to be elaborated.
    """

    def __init__(self, component: wiring.Component) -> None:
        self.component = component
        self.module: Module = component.elaborate(None)
        component.elaborate = lambda platform: self.module

    def part(self, name: str) -> "Opened":
        """The submodule of this name, opened too."""
        return Opened(getattr(self.module.submodules, name))

    def signal(self, name: str) -> Signal:
        """The signal of this name that the component drives.

        Raises LookupError if there is not exactly one.
        """
        # Amaranth has no public way to a module's own signals.
        found = [signal for signal in self.module._driving if signal.name == name]
        if len(found) != 1:
            raise LookupError(
                f"{type(self.component).__name__} drives {len(found)} signals `{name}`, not one"
            )
        return found[0]

    def __getattr__(self, name: str) -> Signal:
        return self.signal(name)
