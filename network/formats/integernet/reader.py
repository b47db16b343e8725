"""Reads an IntegerNet text; every error says in which line."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.network.errors import NetworkError
from intaglio.network.files import read_bytes, shown
from intaglio.network.graph import (
    AnyLayer,
    Conv2D,
    FullyConnected,
    Integers,
    MaxPool2D,
    Network,
    SbnqRescale,
    Tensor,
    TensorType,
)
from intaglio.network.importing.limits import MAX_ELEMENTS

FORMAT = "IntegerNet text"

ACCUMULATOR_BITS = 32
"""The paper's: "addition of 8 bit and 32 bit integer, producing 32 bit integer" [sbnq: section IV]."""

MAX_EXTENT = 1 << 16
"""Channels, features, height or width; a number above is a damaged file, and must not become an allocation."""
MAX_TEXT_BYTES = 64 << 20
"""Some 25 million weights; as words a text takes twenty times its size in memory."""

_PIXEL = TensorType(8, signed=False)
_KEYS = {
    "CONV": ("CO", "CI", "H", "W"),
    "FC": ("CI", "CO"),
    "UNSIGNEDQUAN": ("C", "H", "W"),
    "SIGNEDQUAN": ("C", "H", "W"),
    "POOL": ("C", "H", "W"),
}
_INTEGER = re.compile(r"-?[0-9]{1,10}")


def recognised(content: bytes) -> bool:
    """Whether `content` begins like this format: its first word names a block."""
    words = content[:64].split(maxsplit=1)
    return bool(words) and words[0].decode("latin-1") in _KEYS


def load(path: str | os.PathLike[str], bits: int = 4) -> Network:
    """Read the file `path`; see `loads`.

    Raises
    ------
    NetworkError
        One line, ``path:line: what, and what to do``.
    """
    return loads(read_bytes(path), bits, name=Path(path).stem, where=shown(path))


def loads(content: bytes, bits: int = 4, *, name: str = "integernet", where: str = "<bytes>") -> Network:
    """The network that `content` describes; the input tensor is ``input``, uint8 pixels (H, W, C).

    A CONV or FC and the quantizer after it are one layer (``conv1``, ``fc1``), a POOL is one (``pool1``); each
    writes the tensor of its own name. A network that begins with FC reads a vector of uint8 features (CI,).

    A file cut short is refused wherever that shows. Every line that the authors write ends in a newline, so a cut
    inside the last number, where ``-34`` would read ``-3``, shows. A cut between two whole blocks does not show
    where what is left is a network: its last weights have their quantizer.

    Parameters
    ----------
    content
        The text, as ASCII.
    bits
        N, 2 to 8: weights are intN, what a quantizer writes is uintN or intN. The file does not state it.
    name
        The network's name.
    where
        The path that error messages show.

    Raises
    ------
    NetworkError
        One line, ``where:line: what, and what to do``.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise NetworkError(f"{where}: an IntegerNet network has 2 to 8 bits, not {bits}")
    return _Builder(_Lines(content, where), bits).build(name)


@dataclass(frozen=True)
class _Line:
    number: int
    words: tuple[str, ...]


class _Lines:
    """The lines that are not empty, with their numbers; the source of every error message's position."""

    def __init__(self, content: bytes, where: str) -> None:
        self._where = where
        if len(content) > MAX_TEXT_BYTES:
            raise self.error(1, f"the text is larger than {MAX_TEXT_BYTES >> 20} MiB; is it the right file?")
        if not content.strip():
            raise self.error(1, "the file is empty; export the network again")
        try:
            text = content.decode("ascii")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self.error(line, "this is not text; an IntegerNet export is plain ASCII") from error
        raw = text.split("\n")
        if raw[-1].strip():
            raise self.error(
                len(raw),
                "the last line does not end in a newline, so the file may be cut short; export it again",
            )
        lines = (_Line(number, tuple(line.split())) for number, line in enumerate(raw, 1))
        self._lines = [line for line in lines if line.words]
        self._position = 0

    def error(self, number: int, message: str) -> NetworkError:
        return NetworkError(f"{self._where}:{number}: {message}")

    @property
    def last_number(self) -> int:
        return self._lines[-1].number

    def __iter__(self) -> Iterator[_Line]:
        while self._position < len(self._lines):
            self._position += 1
            yield self._lines[self._position - 1]

    def following(self, block: _Line, what: str) -> _Line:
        """The line after the current one, which must be there."""
        if self._position == len(self._lines):
            raise self.error(
                self.last_number,
                f"the file ends before the {what} of {block.words[0]}; it is cut short, export it again",
            )
        self._position += 1
        return self._lines[self._position - 1]

    def integers(
        self, line: _Line, words: Iterable[str], what: str, low: int, high: int, hint: str
    ) -> Integers:
        """`words` as integers in low...high, each refused by its position otherwise."""
        values = []
        for index, word in enumerate(words):
            if not _INTEGER.fullmatch(word):
                raise self.error(line.number, f"{what} {index} is {_quoted(word)}, not an integer; {hint}")
            value = int(word)
            if not low <= value <= high:
                raise self.error(line.number, f"{what} {index} is {value}, outside {low}...{high}; {hint}")
            values.append(value)
        return np.array(values, dtype=np.int64)


def _quoted(word: str) -> str:
    return repr(word if len(word) <= 24 else word[:21] + "...")


@dataclass(frozen=True)
class _Weights:
    """A CONV or FC that waits for its quantizer; `weights` is already in the graph's order."""

    line: _Line
    name: str
    weights: Integers
    shape: tuple[int, ...]


class _Builder:
    def __init__(self, lines: _Lines, bits: int) -> None:
        self._lines = lines
        self._bits = bits
        self._weight_type = TensorType(bits, signed=True)
        self._tensors: dict[str, Tensor] = {}
        self._layers: list[AnyLayer] = []
        self._current: Tensor | None = None
        self._counts: dict[str, int] = {}

    def build(self, name: str) -> Network:
        pending: _Weights | None = None
        for line in self._lines:
            keyword = line.words[0]
            sizes = self._header(line)
            quantizer = keyword in ("UNSIGNEDQUAN", "SIGNEDQUAN")
            if quantizer and pending is None:
                raise self._lines.error(
                    line.number,
                    f"{keyword} without a CONV or FC directly before it; each quantizes the sums of one",
                )
            if not quantizer and pending is not None:
                raise self._lines.error(
                    line.number,
                    f"{keyword} where {pending.name} (line {pending.line.number}) needs its quantizer; "
                    "put its UNSIGNEDQUAN or SIGNEDQUAN before this line",
                )
            if pending is not None:
                self._quantize(line, sizes, pending)
                pending = None
            elif keyword == "CONV":
                pending = self._convolution(line, sizes)
            elif keyword == "FC":
                pending = self._fully_connected(line, sizes)
            else:
                self._pool(line, sizes)
        last = self._lines.last_number
        if pending is not None:
            raise self._lines.error(
                last,
                f"the file ends before the quantizer of {pending.name}; it is cut short, export it again",
            )
        if all(isinstance(layer, MaxPool2D) for layer in self._layers):
            raise self._lines.error(last, "the network has no CONV or FC; it is cut short, export it again")
        return Network(
            name=name,
            tensors=self._tensors,
            layers=tuple(self._layers),
            inputs=("input",),
            outputs=(self._layers[-1].output,),
            source_format=FORMAT,
        )

    def _header(self, line: _Line) -> dict[str, int]:
        """The sizes that a block's first line states, by key."""
        keyword, rest = line.words[0], line.words[1:]
        if keyword not in _KEYS:
            found = "numbers" if _INTEGER.fullmatch(keyword) else _quoted(keyword)
            raise self._lines.error(line.number, f"{found} where a block must begin with {', '.join(_KEYS)}")
        keys = _KEYS[keyword]
        form = " ".join([keyword, *(f"{key} n" for key in keys)])
        if rest[::2] != keys or len(rest) != 2 * len(keys):
            raise self._lines.error(
                line.number, f"{keyword} must read '{form}'; correct the line or export it again"
            )
        values = [
            int(
                self._lines.integers(line, [word], f"{key} of {keyword}", 1, MAX_EXTENT, f"write '{form}'")[0]
            )
            for key, word in zip(keys, rest[1::2], strict=True)
        ]
        return dict(zip(keys, values, strict=True))

    def _name(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}{self._counts[kind]}"

    def _input(self, line: _Line, shape: tuple[int, ...]) -> Tensor:
        """What flows into the block; the first block's own statement is what the network reads."""
        if self._current is None:
            self._check_size(line, shape)
            self._current = self._tensors["input"] = Tensor("input", shape, _PIXEL)
        return self._current

    def _image(self, line: _Line, sizes: dict[str, int], channels: str) -> Tensor:
        """What flows into the block, which must be an image of the sizes that the block states."""
        stated = (sizes["H"], sizes["W"], sizes[channels])
        source = self._input(line, stated)
        if len(source.shape) != 3:
            raise self._lines.error(
                line.number,
                f"{line.words[0]} takes an image, {source.name} before it is a vector; only FC can follow FC",
            )
        if source.shape != stated:
            raise self._lines.error(
                line.number,
                f"{line.words[0]} states {_image_text(stated)}, "
                f"{source.name} before it is {_image_text(source.shape)}; correct the wrong one",
            )
        return source

    def _check_size(self, line: _Line, shape: tuple[int, ...]) -> None:
        if math.prod(shape) > MAX_ELEMENTS:
            raise self._lines.error(
                line.number,
                f"a tensor of {math.prod(shape)} elements; the most is {MAX_ELEMENTS}, give smaller sizes",
            )

    def _weights(self, block: _Line) -> tuple[_Line, Integers]:
        line = self._lines.following(block, "weights")
        low, high = self._weight_type.min, self._weight_type.max
        hint = f"weights are integers of {self._bits} bits (the argument `bits` says how many)"
        return line, self._lines.integers(line, line.words, "weight", low, high, hint)

    def _convolution(self, line: _Line, sizes: dict[str, int]) -> _Weights:
        source = self._image(line, sizes, "CI")
        outputs, inputs = sizes["CO"], sizes["CI"]
        shape = (*source.shape[:2], outputs)
        self._check_size(line, shape)
        row, weights = self._weights(line)
        kernel = math.isqrt(weights.size // (outputs * inputs))
        if kernel % 2 == 0 or weights.size != outputs * inputs * kernel * kernel:
            raise self._lines.error(
                row.number,
                f"{weights.size} weights for CO {outputs} CI {inputs}; a k×k kernel, k odd, "
                f"has {outputs * inputs}·k² (k = 3: {outputs * inputs * 9})",
            )
        ohwi = weights.reshape(outputs, inputs, kernel, kernel).transpose(0, 2, 3, 1)
        return _Weights(line, self._name("conv"), np.ascontiguousarray(ohwi), shape)

    def _fully_connected(self, line: _Line, sizes: dict[str, int]) -> _Weights:
        source = self._input(line, (sizes["CI"],))
        outputs, inputs = sizes["CO"], sizes["CI"]
        if source.size != inputs:
            raise self._lines.error(
                line.number,
                f"FC states CI {inputs}, {source.name} before it has {source.size} elements; correct the wrong one",
            )
        row, weights = self._weights(line)
        if weights.size != inputs * outputs:
            raise self._lines.error(
                row.number, f"{weights.size} weights; CI {inputs} times CO {outputs} are {inputs * outputs}"
            )
        # The file's rows are the input in C,H,W order; the graph flattens in H,W,C order.
        height, width, channels = source.shape if len(source.shape) == 3 else (1, 1, inputs)
        ohwi = weights.reshape(channels, height, width, outputs).transpose(3, 1, 2, 0)
        return _Weights(line, self._name("fc"), ohwi.reshape(outputs, inputs), (outputs,))

    def _quantize(self, line: _Line, sizes: dict[str, int], pending: _Weights) -> None:
        keyword, channels = line.words[0], pending.shape[-1]
        expected = pending.shape if len(pending.shape) == 3 else (1, 1, channels)
        stated = (sizes["H"], sizes["W"], sizes["C"])
        if stated != expected:
            raise self._lines.error(
                line.number,
                f"{keyword} states {_image_text(stated)}, {pending.name} before it is {_image_text(expected)}; "
                "correct the wrong one",
            )
        bias = self._parameters(line, "BIAS", channels, -(2**31), 2**31 - 1)
        shift = self._parameters(line, "SHIFT", channels, -31, 31)
        relu = keyword == "UNSIGNEDQUAN"
        self._append(pending, SbnqRescale(bias, shift, relu), TensorType(self._bits, signed=not relu))

    def _parameters(self, block: _Line, keyword: str, channels: int, low: int, high: int) -> Integers:
        line = self._lines.following(block, keyword)
        if line.words[0] != keyword:
            raise self._lines.error(
                line.number,
                f"{_quoted(line.words[0])} where {block.words[0]} needs its {keyword} line; add it",
            )
        if len(line.words) - 1 != channels:
            raise self._lines.error(
                line.number,
                f"{len(line.words) - 1} numbers after {keyword}; {block.words[0]} has {channels} channels",
            )
        return self._lines.integers(
            line, line.words[1:], keyword, low, high, f"write an integer in {low}...{high}"
        )

    def _append(self, pending: _Weights, rescale: SbnqRescale, type_: TensorType) -> None:
        if self._current is None:
            raise ValueError("a layer is appended after its input is known")
        name, source = pending.name, self._current.name
        self._current = self._tensors[name] = Tensor(name, pending.shape, type_)
        if pending.weights.ndim == 2:
            self._layers.append(
                FullyConnected(
                    name, (source,), name, pending.weights, self._weight_type, rescale, ACCUMULATOR_BITS
                )
            )
            return
        reach = (pending.weights.shape[1] - 1) // 2
        self._layers.append(
            Conv2D(
                name,
                (source,),
                name,
                pending.weights,
                self._weight_type,
                rescale,
                ACCUMULATOR_BITS,
                padding=(reach, reach, reach, reach),
            )
        )

    def _pool(self, line: _Line, sizes: dict[str, int]) -> None:
        source = self._image(line, sizes, "C")
        height, width, channels = source.shape
        if min(height, width) < 2:
            raise self._lines.error(
                line.number,
                f"POOL of H {height} W {width} leaves nothing; it needs at least 2 of each, remove it",
            )
        name = self._name("pool")
        self._current = self._tensors[name] = Tensor(name, (height // 2, width // 2, channels), source.type)
        self._layers.append(MaxPool2D(name, (source.name,), name, kernel=(2, 2), stride=(2, 2)))


def _image_text(shape: tuple[int, ...]) -> str:
    return f"C {shape[2]} H {shape[0]} W {shape[1]}"
