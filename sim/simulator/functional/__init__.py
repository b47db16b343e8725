"""The machine's commands in numpy, for many inferences at once: what they mean, without a cycle.

Written from `docs/architecture.md` and `docs/arithmetic.md`; it shares layouts (`spec`) with golden and the hardware's
description, and no computation.
"""

from intaglio.sim.simulator.functional.backend import FunctionalMachine

__all__ = ["FunctionalMachine"]
