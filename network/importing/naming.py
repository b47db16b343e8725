"""Names from a file: printable, so that an error stays one line, and each given once."""

from __future__ import annotations

from collections.abc import Iterable

from intaglio.network.files import shown

MAX_NAME = 200
"""Characters of a name, which errors and tables repeat; the rest is cut off."""


def printable(text: str) -> str:
    """`text` as an error line shows it: control characters escaped, cut off where it is long."""
    line = shown(text)
    return line if len(line) <= MAX_NAME else f"{line[:MAX_NAME]}..."


class Names:
    """The names that one graph uses, of tensors or of layers."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def take(self, name: str, number: int = 2) -> str:
        """`name`, or where it is taken `name#number`, with the next number that is free."""
        given = name
        while given in self._taken:
            given, number = f"{name}#{number}", number + 1
        self._taken.add(given)
        return given
