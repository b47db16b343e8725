"""A cell library in the Liberty format: the cells' area, pins, delays and energies."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Ref: Liberty User Guide, vol. 1, ch. 1: a group is `name ( values ) { … }`, an attribute `name : value ;` or
#      `name ( values ) ;`. A semicolon may be missing before the end of a line.
_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"([^"]*)"|([{}();:,])|([^\s{}();:,"\\]+)', re.S)


class LibertyError(RuntimeError):
    """One line: what in the library is not as it should be, and what to do."""


@dataclass
class Group:
    """A group: `kind` and its values, its attributes, the groups in it."""

    kind: str
    values: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def of(self, kind: str) -> Iterator[Group]:
        return (group for group in self.groups if group.kind == kind)

    def one(self, name: str, default: str = "") -> str:
        """The value of an attribute that has one."""
        return self.attributes.get(name, (default,))[0]

    def number(self, name: str, default: float = 0.0) -> float:
        """Raises LibertyError where it is none."""
        text = self.one(name, str(default))
        try:
            return float(text)
        except ValueError:
            raise LibertyError(
                f"the library has {name} {text!r} in {self.kind} {self.values}: no number"
            ) from None


def text_of(path: Path) -> str:
    """What is in a file ``.lib`` or ``.lib.gz``.

    Raises
    ------
    LibertyError
        Where it cannot be read.
    """
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode(errors="replace")
    except (OSError, EOFError) as error:
        raise LibertyError(f"{path} cannot be read ({error}); name a .lib or .lib.gz by --liberty") from error


def parse(text: str) -> Group:
    """The outermost group of the text, ``library``.

    Raises
    ------
    LibertyError
        Where it is no such text.
    """
    root = Group("")
    open_ = [root]
    words: list[str] = []
    values: list[str] | None = None
    given: tuple[str, ...] = ()
    colon = False

    def finish() -> None:
        """An attribute, if there is one."""
        nonlocal words, given, colon
        if colon and len(words) > 1:
            open_[-1].attributes[words[0]] = (" ".join(words[1:]),)
        elif given and words:
            open_[-1].attributes[words[0]] = (*open_[-1].attributes.get(words[0], ()), *given)
        words, given, colon = [], (), False

    for quoted, mark, word in _TOKEN.findall(text.replace("\\\n", " ")):
        if not (quoted or mark or word):  # a comment
            continue
        if values is not None:
            if mark == ")":
                given, values = tuple(values), None
            elif not mark:
                values.append(quoted or word)
        elif mark == "(":
            if colon or given:  # the line before ended without a semicolon
                last = words.pop() if words and (given or len(words) > 2) else None
                finish()
                words = [last] if last else []
            values = []
        elif mark == "{":
            group = Group(words[0] if words else "", given)
            open_[-1].groups.append(group)
            open_.append(group)
            words, given = [], ()
        elif mark == "}":
            finish()
            if len(open_) == 1:
                raise LibertyError(
                    "the library closes a group that is not open; name a file in the Liberty format"
                )
            open_.pop()
        elif mark == ";":
            finish()
        elif mark == ":":
            colon = True
        elif quoted or word:
            if given:
                finish()
            words.append(quoted or word)
    if len(open_) != 1 or len(root.groups) != 1 or root.groups[0].kind != "library":
        raise LibertyError("the library is not one group `library`; name a file in the Liberty format")
    return root.groups[0]


def registers(library: Group) -> dict[str, float]:
    """Area of each cell that a clock edge loads, by name."""
    return {
        cell.values[0]: cell.number("area")
        for cell in library.of("cell")
        if next(cell.of("ff"), None) is not None
    }
