"""Payloads of the engines' ports: integers on the wires, values by name in the models."""

from collections.abc import Iterator, Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["Packed"]


class Packed:
    """Packs and unpacks the values of a structure; structures in it are mappings in the mapping.

    Parameters
    ----------
    shape : data.StructLayout
    """

    def __init__(self, shape: data.StructLayout) -> None:
        self.bits = Shape.cast(shape).width
        self._leaves = tuple(_leaves(shape, 0, ()))

    def pack(self, values: Mapping[str, Any]) -> int:
        """The bits of all fields.

        Raises
        ------
        KeyError
            If a field has no value.
        ValueError
            If a value does not fit its field.
        """
        word = 0
        for path, offset, bits, signed in self._leaves:
            value: Any = values
            for name in path:
                value = value[name]
            low = -(1 << (bits - 1)) if signed else 0
            if not low <= value < low + (1 << bits):
                raise ValueError(f"`{'.'.join(path)}` has {bits} bits, which cannot hold {value}")
            word |= (value & ((1 << bits) - 1)) << offset
        return word

    def unpack(self, word: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path, offset, bits, signed in self._leaves:
            value = word >> offset & ((1 << bits) - 1)
            if signed and value >> (bits - 1):
                value -= 1 << bits
            inner = values
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = value
        return values


def _leaves(
    shape: Any, offset: int, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int, int, bool]]:
    """Path, first bit, bits and signedness of the fields that are no structures, those of no bits left out."""
    for name, field in shape:
        inner, start = (*path, str(name)), offset + field.offset
        if isinstance(field.shape, data.StructLayout):
            yield from _leaves(field.shape, start, inner)
        elif bits := Shape.cast(field.shape).width:
            yield inner, start, bits, Shape.cast(field.shape).signed
