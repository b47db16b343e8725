"""Pages of docs/ that a command writes: tables, and the blocks that they stand in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

DOCS = Path("docs")
_BLOCK = re.compile(r"(<!-- \w+: (\w+) -->\n).*?(<!-- end -->)", re.S)


@dataclass(frozen=True)
class Grid:
    """A table for people: `headings`, of which the first `left` are of words, and rows of as many texts."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def table(self, title: str) -> Table:
        """For a terminal."""
        table = Table(title=title, title_justify="left")
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if index < self.left else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        rule = ["---" if index < self.left else "---:" for index in range(len(self.headings))]
        return "".join(f"| {' | '.join(row)} |\n" for row in (self.headings, rule, *self.rows))


def fill(page: str, content: Mapping[str, str]) -> str:
    """The page with each block, ``<!-- COMMAND: NAME -->`` to ``<!-- end -->``, replaced by its content.

    Raises
    ------
    ValueError
        Where the page's blocks are not those of `content`.
    """
    names = [match[2] for match in _BLOCK.finditer(page)]
    if sorted(names) != sorted(content):
        raise ValueError(
            f"the page must have the blocks {', '.join(content)}, not {', '.join(names) or 'none'}"
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{content[match[2]]}{match[3]}", page)
