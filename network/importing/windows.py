"""Strides, padding and dilation of what slides a window over an image."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.network.importing.limits import MAX_ELEMENTS
from intaglio.network.importing.refusals import Refusal

MAX_STEP = (1 << 15) - 1
"""Strides and dilations are int16 in the runtimes' kernels."""

Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """`kernel`, `stride`, `dilation`: (vertical, horizontal) in elements; refused where they are not in 1...32767."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        least, most = min(*self.kernel, *self.stride, *self.dilation), max(*self.stride, *self.dilation)
        if least < 1 or most > MAX_STEP:
            raise Refusal(
                f"its kernel is {self.kernel}, its stride {self.stride}, its dilation {self.dilation}"
            )

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        height, width = (
            (size - 1) * apart + 1 for size, apart in zip(self.kernel, self.dilation, strict=True)
        )
        return height, width

    def same_padding(self, height: int, width: int) -> Padding:
        """(top, bottom, left, right) for an output of ``ceil(input / stride)``; of an odd total, more comes after."""
        padding: list[int] = []
        for size, reach, step in zip((height, width), self.reach, self.stride, strict=True):
            total = max((-(-size // step) - 1) * step + reach - size, 0)
            padding += [total // 2, total - total // 2]
        return padding[0], padding[1], padding[2], padding[3]

    def check(self, shape: tuple[int, ...], padding: Padding) -> None:
        """A Refusal where the window does not fit the padded image (height, width, channels), or that is too large."""
        top, bottom, left, right = padding
        for size, added, reach in zip(shape[:2], (top + bottom, left + right), self.reach, strict=True):
            if reach > size + added:
                raise Refusal(f"its window of {reach} does not fit its input of {size}")
        if (padded := padded_elements(shape, padding)) > MAX_ELEMENTS:
            raise Refusal(
                f"its input has {padded:,} elements with its padding; at most {MAX_ELEMENTS:,} are supported"
            )


def padded_elements(shape: tuple[int, ...], padding: Padding) -> int:
    """Of an image (height, width, channels) with `padding` around."""
    top, bottom, left, right = padding
    return (shape[0] + top + bottom) * (shape[1] + left + right) * shape[2]
