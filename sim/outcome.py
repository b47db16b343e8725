"""What became of the benches, and the table that says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

__all__ = ["Outcome", "table"]


@dataclass
class Outcome:
    """What became of one configuration of a bench; of a whole room where it has no configurations."""

    bench: str
    name: str
    seed: int
    cases: int = 0
    transfers: int = 0
    cycles: int = 0
    bins: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""

    @property
    def hit(self) -> int:
        return sum(count > 0 for count in self.bins.values())


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each outcome, in their order."""
    found = Table(caption="cases: of a unit, or tests that ran; s: build and run of the whole bench")
    for column in ("bench", "configuration"):
        found.add_column(column, no_wrap=True)
    for column in ("cases", "cycles", "bins", "seed", "s"):
        found.add_column(column, justify="right", no_wrap=True)
    found.add_column("result", no_wrap=True)
    last = ""
    for outcome in outcomes:
        new = outcome.bench != last
        last = outcome.bench
        found.add_row(
            outcome.bench if new else "",
            outcome.name.removeprefix(f"{outcome.bench}_"),
            f"{outcome.cases:,}" if outcome.cases else "",
            f"{outcome.cycles:,}" if outcome.cycles else "",
            f"{outcome.hit}/{len(outcome.bins)}" if outcome.bins else "",
            str(outcome.seed) if new else "",
            f"{outcome.seconds:.1f}" if new else "",
            "[red]wrong[/red]" if outcome.failure else "[green]right[/green]",
        )
    return found
