"""Where a network's integers begin and end: what quantizes and dequantizes at its very edges is the host's.

A network's inputs and outputs are its integer tensors, which keep their scale and zero point, so that the host can do
what the file's operators there say (`intaglio.network.inputs` quantizes a user's numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from intaglio.network.importing.refusals import Refusal

UINT8_OFFSET = 128
"""Between the zero points of uint8 and int8 tensors of the same meaning."""


class _Operator(Protocol):
    @property
    def op(self) -> str: ...
    @property
    def outputs(self) -> Sequence[object]: ...


_Any = TypeVar("_Any", bound=_Operator)


def quantizer_of(readers: Sequence[_Any], quantize: str, kind: str) -> _Any:
    """The operator `quantize` that alone reads an input of the type `kind`, which is not the network's own."""
    first = readers[0] if readers else None
    if len(readers) != 1 or first is None or first.op != quantize or len(first.outputs) != 1:
        raise Refusal(f"it is {kind} and no {quantize} alone reads it; quantize the network to int8")
    return first


def require_same_meaning(
    unsigned: tuple[float, int], signed: tuple[float, int], names: tuple[str, str]
) -> None:
    """A Refusal unless uint8 and int8 tensors of these (scale, zero point) hold the same numbers, 128 apart."""
    if unsigned[0] != signed[0] or unsigned[1] - signed[1] != UINT8_OFFSET:
        raise Refusal(f"uint8 {names[0]} and int8 {names[1]} differ by more than {UINT8_OFFSET}")
