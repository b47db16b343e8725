"""What an engine's bench is made of, and the Verilog in which its configurations stand side by side."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from amaranth.lib import wiring

from intaglio.sim.lockstep import Stand
from intaglio.sim.ports import ports_of

__all__ = ["Bench", "Configuration", "top"]


@dataclass(frozen=True)
class Configuration:
    """An engine or a storage with its parameters, and its test.

    Members
    -------
    name : of the Verilog module, unlike any other's
    make : makes the component
    check : drives it for a while, briefly if the second argument is true; raises AssertionError where it is wrong
    bins : of functional coverage, all of which `check` must hit
    mutants : whether `intaglio.sim.mutate` tries this configuration
    """

    name: str
    make: Callable[[], wiring.Component]
    check: Callable[[Stand, bool], Awaitable[None]]
    bins: Collection[str]
    mutants: bool = False

    @cached_property
    def component(self) -> wiring.Component:
        return self.make()

    @property
    def ports(self) -> dict[str, tuple[bool, int]]:
        """By name: whether it is an input, and bits."""
        return ports_of(self.component)

    @property
    def inputs(self) -> list[str]:
        return [name for name, (is_input, _) in self.ports.items() if is_input]


@dataclass(frozen=True)
class Bench:
    """The configurations of one engine that are simulated together."""

    name: str
    configurations: Sequence[Configuration]


def top(configurations: Sequence[Configuration], selectors: Mapping[str, int] | None = None) -> str:
    """Verilog of a module `top` that holds the configurations, each behind ports of its own named after it.

    `selectors`: for modules with an input `mutsel`, its bits.
    """
    ports, instances = [], []
    for configuration in configurations:
        name, given = configuration.name, dict(configuration.ports)
        given |= {"clk": (True, 1), "rst": (True, 1)}
        if bits := (selectors or {}).get(name, 0):
            given["mutsel"] = (True, bits)
        for port, (is_input, width) in given.items():
            ports.append(f"    {'input' if is_input else 'output'} [{width - 1}:0] {name}__{port}")
        connections = ", ".join(f".{port}({name}__{port})" for port in given)
        instances.append(f"    {name} {name}_unit ({connections});")
    return "\n".join(["module top (", ",\n".join(ports), ");", *instances, "endmodule", ""])
