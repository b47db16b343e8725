"""Where each tensor lies in the scratchpad: first fit, over the span of steps in which the tensor is alive."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """`elements` that something (a tensor, a table, a part of a tensor) needs from step `first` to step `last`, both
    included."""

    what: Hashable
    elements: int
    first: int
    last: int

    def alive_with(self, other: Request) -> bool:
        return self.first <= other.last and other.first <= self.last


def place(requests: Iterable[Request], alignment: int) -> tuple[dict[Hashable, int], int]:
    """Element addresses, multiples of `alignment`, and the end of the highest.

    First fit in order of size, or in order of time, whichever ends lower: by size packs tighter as a rule; by time
    is perfect for a chain.
    """
    pending = list(requests)
    orders = (
        sorted(pending, key=lambda request: (-request.elements, request.first)),
        sorted(pending, key=lambda request: (request.first, -request.elements)),
    )
    return min((_first_fit(order, alignment) for order in orders), key=lambda result: result[1])


def _first_fit(requests: Iterable[Request], alignment: int) -> tuple[dict[Hashable, int], int]:
    placed: list[tuple[Request, int]] = []
    top = 0
    for request in requests:
        address = 0
        neighbours = [(at, at + other.elements) for other, at in placed if other.alive_with(request)]
        for start, stop in sorted(neighbours):
            if address + request.elements <= start:
                break
            address = max(address, -(-stop // alignment) * alignment)
        placed.append((request, address))
        top = max(top, address + request.elements)
    return {request.what: address for request, address in placed}, top


def live_elements(requests: Iterable[Request], alignment: int) -> Mapping[int, int]:
    """Elements alive at each step: what a placement needs at least."""
    needed: dict[int, int] = {}
    for request in requests:
        for step in range(request.first, request.last + 1):
            needed[step] = needed.get(step, 0) + -(-request.elements // alignment) * alignment
    return needed
