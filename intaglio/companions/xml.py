"""XML as nested calls."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

__all__ = ["Element", "element", "text_of"]

Element = ElementTree.Element


def element(
    tag: str, *content: Element | str | int, attributes: Mapping[str, str | int] | None = None
) -> Element:
    """An element of a text or a number, or of further elements."""
    made = ElementTree.Element(tag, {name: str(value) for name, value in (attributes or {}).items()})
    for part in content:
        if isinstance(part, ElementTree.Element):
            made.append(part)
        else:
            made.text = str(part)
    return made


def text_of(root: Element) -> str:
    """The whole file."""
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"
