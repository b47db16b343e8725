"""What ELEMENTWISE looks up: functions of one element, and softmax, whose exponentials are a table."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.compiler.operators.elementwise import elementwise_problems, part_runs
from intaglio.compiler.operators.layer import LayerFacts, LayerPlan, refuse
from intaglio.compiler.steps import LoadTable, Lookup, SoftmaxRuns, on_chip
from intaglio.compiler.tables import Tabled, tables_of
from intaglio.compiler.views import Block, Interval, View
from intaglio.compiler.windows import Geometry
from intaglio.network import Softmax
from intaglio.spec.commands import TABLE_ENTRIES
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import SOFTMAX_ELEMENTS


@dataclass(frozen=True)
class TablePlan(LayerPlan):
    """`tables`: planes of 256 bytes, one behind the other; `softmax`: of each pixel, by them."""

    tables: bytes
    softmax: bool

    def load(self, address: int) -> LoadTable:
        """The engine's tables from where they lie on chip."""
        return LoadTable(
            owner=self.owner,
            source=address,
            planes=len(self.tables) // TABLE_ENTRIES,
            reads=on_chip(Interval(address, address + len(self.tables))),
        )

    def steps(self, part: Block, sources: list[View], target: View) -> list[Lookup | SoftmaxRuns]:
        """A part of the output, of an operand on chip, once the tables are loaded."""
        pixel = self.target.pixel
        runs = part_runs(self, part, sources, target, by_pixels=self.softmax)
        return [
            (SoftmaxRuns if self.softmax else Lookup)(
                owner=self.owner,
                runs=runs,
                reads=on_chip(*(view.interval(part, pixel) for view in sources)),
                writes=on_chip(target.interval(part, pixel)),
            )
        ]


def plan(layer: Tabled, facts: LayerFacts, config: AcceleratorConfig) -> TablePlan:
    """Raises NetworkError with what the machine cannot run."""
    problems = list(elementwise_problems(facts, config))
    softmax, elements = isinstance(layer, Softmax), facts.inputs[0].shape[-1]
    if config.affine and softmax and elements > SOFTMAX_ELEMENTS:
        problems.append(f"softmax of {elements:,} elements, at most {SOFTMAX_ELEMENTS:,} are possible")
    refuse(problems)
    sources, target = facts.extents
    return TablePlan(
        facts,
        sources,
        target,
        Geometry(),
        tables_of(layer, facts.inputs[0].tensor, facts.output.tensor).tobytes(),
        softmax,
    )
