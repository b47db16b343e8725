"""What cocotb's benches of whole designs share: agents at a design's ports that work in lockstep.

At the end of each cycle all agents look, then all drive what the next cycle sees, so that a seed repeats a run.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

__all__ = ["Agent", "Stand"]

PERIOD_NS = 10

AgentType = TypeVar("AgentType", bound="Agent")


class Agent:
    """Something at the ports of the design."""

    def sample(self) -> None:
        """Look at the cycle that ends, and check it."""

    def drive(self) -> None:
        """Set what the next cycle sees."""

    def restart(self) -> None:
        """Forget what was under way: the design is reset."""


class Stand:
    """The clock, the reset, the random numbers and the agents of a test.

    Parameters
    ----------
    dut : the simulated top
    name : of the test; the random numbers are the seed's and the name's
    part : of the ports' names, before the port's own
    inputs : ports that are 0 until an agent drives them, by their names without `part`
    clocked : whether the clock runs already

    Members
    -------
    bins : how often each bin of functional coverage was hit
    cycle : that is under way
    """

    def __init__(
        self, dut: Any, name: str, part: str = "", inputs: Iterable[str] = (), clocked: bool = False
    ) -> None:
        self.dut = dut
        self.random = random.Random(f"{cocotb.RANDOM_SEED} {name}")
        self.agents: list[Agent] = []
        self.bins: Counter[str] = Counter()
        self.cycle = 0
        self._part = part
        self._inputs = tuple(inputs)
        self._clocked = clocked
        self._pins: dict[str, Any] = {}
        self.clk = self.pin("clk")

    def pin(self, name: str) -> Any:
        """The port of that name."""
        if name not in self._pins:
            self._pins[name] = getattr(self.dut, self._part + name)
        return self._pins[name]

    def read(self, name: str) -> int:
        return int(self.pin(name).value)

    def write(self, name: str, value: int) -> None:
        self.pin(name).value = value

    async def start(self) -> None:
        if not self._clocked:
            Clock(self.clk, PERIOD_NS, unit="ns").start()
        await self.reset()

    async def reset(self) -> None:
        """Two cycles of it; the agents forget what was under way."""
        for name in self._inputs:
            self.write(name, 0)
        self.write("rst", 1)
        for agent in self.agents:
            agent.restart()
        await ClockCycles(self.clk, 2)
        self.write("rst", 0)
        self.cycle += 2

    def add(self, agent: AgentType) -> AgentType:
        self.agents.append(agent)
        return agent

    async def tick(self, cycles: int = 1) -> None:
        edge = RisingEdge(self.clk)
        for _ in range(cycles):
            await edge
            for agent in self.agents:
                agent.sample()
            for agent in self.agents:
                agent.drive()
            self.cycle += 1

    async def until(self, condition: Callable[[], bool], limit: int = 20000) -> int:
        """Cycles that passed until the condition held. Raises AssertionError after `limit` of them."""
        start = self.cycle
        while not condition():
            assert self.cycle - start < limit, f"still not so after {limit} cycles"
            await self.tick()
        return self.cycle - start
