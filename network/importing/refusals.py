"""All that a file is refused for, in one message: its user mends or exports it once, not once a fault."""

from __future__ import annotations

from intaglio.network.errors import NetworkError


class Refusal(Exception):
    """Why an operator, or an input, of a file cannot be imported: a clause that says "it" and "its" of that part."""


class Refusals:
    """The refusals of one file, in order."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, what: str, why: Refusal | str) -> None:
        """`what` is the part that is refused, as its user knows it; nothing where it is the whole network."""
        self._lines.append(f"{what}: {why}" if what else str(why))

    def raise_if_any(self) -> None:
        """Raise NetworkError with all of them, in one line, where there is one."""
        if self._lines:
            raise NetworkError("; ".join(self._lines))
