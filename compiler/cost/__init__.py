"""Cycles of a schedule, predicted without a simulation.

The machine's engines are followed from event to event (a pass, a burst, a command), not from cycle to cycle. Where
several use a port of the scratchpad at once, each goes on at the rate that its share allows, until one of them ends.
"""

from intaglio.compiler.cost.machine import Cost, cost_of
from intaglio.compiler.cost.timing import Timing

__all__ = ["Cost", "Timing", "cost_of"]
