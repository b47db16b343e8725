"""One file an operator family: what the machine cannot run of it, its plan, and the steps that it becomes.

A new family is a file here whose plan type joins `PartPlan`, and a case in `plan.py`, which decides a layer's family.
"""

from __future__ import annotations

from intaglio.compiler.operators.alias import AliasPlan
from intaglio.compiler.operators.array import ArrayPlan
from intaglio.compiler.operators.copy import CopyPlan
from intaglio.compiler.operators.elementwise import ElementwisePlan
from intaglio.compiler.operators.join import JoinPlan
from intaglio.compiler.operators.pool import PoolPlan
from intaglio.compiler.operators.table import TablePlan

PartPlan = PoolPlan | CopyPlan | JoinPlan | TablePlan | ElementwisePlan
"""What runs part by part, or as a whole."""
Plan = ArrayPlan | PartPlan | AliasPlan
"""ArrayPlan runs block by block, AliasPlan not at all."""

__all__ = [
    "AliasPlan",
    "ArrayPlan",
    "CopyPlan",
    "ElementwisePlan",
    "JoinPlan",
    "PartPlan",
    "Plan",
    "PoolPlan",
    "TablePlan",
]
