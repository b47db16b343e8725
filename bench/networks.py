"""Networks of depthwise-separable layers as .tflite files, with seeded random weights.

Weights are int8 with a scale for each output channel; that scale and the bias are chosen as batch normalization
would: so that each channel's sums, on calibration images, have a mean and a spread that its activation leaves
mostly alone. The scale and zero point of each output come from its range on the same images, as a converter's do.
Calibration runs in integers, so that the same seed gives the same file on every machine.

Ref: Howard et al., MobileNets, 2017, table 1 [howard2017]; the VWW network of MLPerf Tiny is its 0.25 at 96×96
Ref: Sandler et al., MobileNetV2, 2018, table 2 [sandler2018]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.tflite_builder import ACTIVATIONS, SAME, VALID, Builder

CALIBRATION_IMAGES = 4
_V1_LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels at width 1, and stride, of each depthwise-separable layer [howard2017: table 1]."""
_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels at width 1, blocks and the first one's stride, of each stage [sandler2018: table 2]."""

Integers = npt.NDArray[np.int64]


def images(count: int, shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.int8]:
    """(count, *shape), shape (height, width, channels): patches of colour with noise upon them, over all of int8."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    coarse = rng.integers(-96, 96, (count, -(-height // 8), -(-width // 8), channels))
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return (smooth + rng.integers(-32, 32, smooth.shape)).astype(np.int8)


@dataclass(frozen=True)
class _Value:
    """A tensor of the file, and what it holds for the calibration images."""

    index: int
    integers: Integers
    scale: float
    zero_point: int


class Writer:
    """A network layer by layer; `bytes` is the file. A method takes the value that it reads and gives what it writes.

    Parameters
    ----------
    shape : (height, width, channels) of the input
    scale, zero_point : of the input
    seed : of the weights and of the calibration images
    """

    def __init__(self, shape: Sequence[int], scale: float, zero_point: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._builder = Builder()
        held = images(CALIBRATION_IMAGES, shape, seed).astype(np.int64)
        scale = float(np.float32(scale))
        index = self._builder.input((1, *shape), scale, zero_point, name="input", signature=(-1, *shape))
        self.input = _Value(index, held, scale, zero_point)

    def bytes(self, output: _Value) -> bytes:
        """The file of the network that ends with `output`."""
        self._builder.outputs = [output.index]
        return self._builder.bytes()

    def conv(
        self,
        source: _Value,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        activation: str = "RELU6",
        padding: int = SAME,
    ) -> _Value:
        """CONV_2D with a square kernel."""
        weights = self._draw((channels, kernel, kernel, source.integers.shape[3]))
        sums = _sums(source, weights, stride, padding, lambda part, tap: part @ tap.T)
        options = (padding, stride, stride, ACTIVATIONS[activation], 1, 1)
        return self._products("CONV_2D", source, weights, sums, options, activation, 0)

    def depthwise(
        self, source: _Value, stride: int = 1, *, activation: str = "RELU6", padding: int = SAME
    ) -> _Value:
        """DEPTHWISE_CONV_2D of 3×3 with a channel multiplier of 1."""
        weights = self._draw((1, 3, 3, source.integers.shape[3]))
        sums = _sums(source, weights, stride, padding, lambda part, tap: part * tap[0])
        options = (padding, stride, stride, 1, ACTIVATIONS[activation], 1, 1)
        return self._products("DEPTHWISE_CONV_2D", source, weights, sums, options, activation, 3)

    def fully_connected(self, source: _Value, units: int) -> _Value:
        """FULLY_CONNECTED, one scale for all weights."""
        weights = self._draw((units, source.integers.shape[-1]))
        sums = (source.integers - source.zero_point) @ weights.T
        return self._products("FULLY_CONNECTED", source, weights, sums, (0, 0, False), "NONE", None)

    def pad_before_stride(self, source: _Value) -> _Value:
        """PAD as Keras puts before a 3×3 window of stride 2 and no padding of its own."""
        height, width = source.integers.shape[1:3]
        pairs = ((0, 0), (height % 2, 1), (width % 2, 1), (0, 0))
        held = np.pad(source.integers, pairs, constant_values=source.zero_point)
        numbers = self._builder.constant(np.array(pairs, np.int32))
        return self._write("PAD", [source.index, numbers], held, source.scale, source.zero_point, ())

    def add(self, first: _Value, second: _Value) -> _Value:
        """ADD without an activation."""
        reals = [(value.integers - value.zero_point) * value.scale for value in (first, second)]
        return self._quantized("ADD", [first.index, second.index], reals[0] + reals[1], "NONE", (0,))

    def average_pool(self, source: _Value, size: int) -> _Value:
        """AVERAGE_POOL_2D of `size` × `size`, as far apart."""
        count, height, width, channels = source.integers.shape
        blocks = source.integers.reshape(count, height // size, size, width // size, size, channels)
        held = np.rint(blocks.mean(axis=(2, 4))).astype(np.int64)
        options = (VALID, size, size, size, size, 0)
        return self._write("AVERAGE_POOL_2D", [source.index], held, source.scale, source.zero_point, options)

    def mean(self, source: _Value) -> _Value:
        """MEAN over rows and columns, which go."""
        totals = (source.integers - source.zero_point).sum(axis=(1, 2))
        real = totals * source.scale / (source.integers.shape[1] * source.integers.shape[2])
        axes = self._builder.constant(np.array([1, 2], np.int32))
        return self._quantized("MEAN", [source.index, axes], real, "NONE", (False,))

    def flatten(self, source: _Value) -> _Value:
        """RESHAPE to one axis beside the batch."""
        held = source.integers.reshape(len(source.integers), -1)
        shape = self._builder.constant(np.array([-1, held.shape[1]], np.int32))
        return self._write(
            "RESHAPE",
            [source.index, shape],
            held,
            source.scale,
            source.zero_point,
            ((-1, held.shape[1]),),
        )

    def softmax(self, source: _Value) -> _Value:
        """SOFTMAX; what comes out of it is not calibrated further: nothing may read on."""
        return self._write("SOFTMAX", [source.index], source.integers, 1 / 256, -128, (1.0,))

    def _draw(self, shape: tuple[int, ...]) -> Integers:
        return np.clip(np.rint(self._rng.normal(0, 42, shape)), -127, 127).astype(np.int64)

    def _products(
        self,
        op: str,
        source: _Value,
        weights: Integers,
        sums: Integers,
        options: Sequence[int | bool],
        activation: str,
        channels_axis: int | None,
    ) -> _Value:
        """A layer with weights: their scales and the bias so that its outputs spread as they should."""
        flat = sums.reshape(-1, sums.shape[-1])
        # Exact sums: what NumPy or a BLAS adds in which order does not show in the file.
        mean = flat.sum(axis=0) / len(flat)
        spread = np.sqrt(np.maximum((flat * flat).sum(axis=0) / len(flat) - mean * mean, 1.0))
        if channels_axis is None:
            spread[:] = spread.max()
        wanted = self._rng.uniform(1.0, 2.5, spread.shape if channels_axis is not None else ())
        offset = self._rng.normal(0.5, 1.0, spread.shape)
        scales = (wanted / (spread * source.scale)).astype(np.float32).astype(np.float64)
        bias = np.rint(offset / (source.scale * scales) - mean).astype(np.int64)
        real = (sums + bias) * (source.scale * scales)
        scales = np.atleast_1d(scales) if channels_axis is not None else scales.reshape(-1)[:1]
        inputs = [
            source.index,
            self._builder.constant(weights.astype(np.int8), scales, dimension=channels_axis or 0),
            self._builder.constant(bias.astype(np.int32), source.scale * scales),
        ]
        return self._quantized(op, inputs, real, activation, options)

    def _quantized(
        self,
        op: str,
        inputs: Sequence[int],
        real: npt.NDArray[np.float64],
        activation: str,
        options: Sequence[int | bool],
    ) -> _Value:
        if activation == "RELU6":
            real = np.clip(real, 0.0, 6.0)
        least, greatest = min(0.0, float(real.min())), max(0.0, float(real.max()))
        scale = float(np.float32((greatest - least) / 255 or 1.0))
        zero_point = int(np.clip(np.rint(-128 - least / scale), -128, 127))
        held = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.int64)
        return self._write(op, inputs, held, scale, zero_point, options)

    def _write(
        self,
        op: str,
        inputs: Sequence[int],
        held: Integers,
        scale: float,
        zero_point: int,
        options: Sequence[object],
    ) -> _Value:
        shape = held.shape[1:]
        name = f"{op.lower()}_{len(self._builder.operators)}"
        index = self._builder.tensor((1, *shape), scale, zero_point, name=name, signature=(-1, *shape))
        self._builder.operator(op, inputs, [index], options)
        return _Value(index, held, scale, zero_point)


def mobilenet_v1(width: float = 0.25, size: int = 96, classes: int = 2, seed: int = 1) -> bytes:
    """A network laid out as MobileNet-v1 [howard2017: table 1], with the end of MLPerf Tiny's VWW network.

    Parameters
    ----------
    width : multiplier of every layer's channels
    size : rows and columns of the input, of 3 channels; a multiple of 32
    classes : outputs
    seed : of the weights

    Raises
    ------
    ValueError
        Where `size` is not a positive multiple of 32, or `width` leaves a layer no channel.
    """
    _check_size(size)
    writer = Writer((size, size, 3), 1 / 255, -128, seed)
    value = writer.conv(writer.input, _scaled(32, width), 3, 2)
    for channels, stride in _V1_LAYERS:
        value = writer.depthwise(value, stride)
        value = writer.conv(value, _scaled(channels, width))
    value = writer.flatten(writer.average_pool(value, size // 32))
    return writer.bytes(writer.softmax(writer.fully_connected(value, classes)))


def mobilenet_v2(width: float = 0.35, size: int = 96, classes: int = 10, seed: int = 2) -> bytes:
    """A network laid out as MobileNet-v2 [sandler2018: table 2]: inverted residuals, a PAD before each stride of 2.

    Parameters as `mobilenet_v1`'s; channels are multiples of 8, as Keras rounds them.
    """
    _check_size(size)
    writer = Writer((size, size, 3), 1 / 127.5, -1, seed)
    value = writer.conv(writer.input, _rounded(32, width), 3, 2)
    for expansion, channels, blocks, first_stride in _V2_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            entry, inside = value, value
            if expansion > 1:
                inside = writer.conv(inside, expansion * entry.integers.shape[3])
            if stride == 2:
                inside = writer.depthwise(writer.pad_before_stride(inside), 2, padding=VALID)
            else:
                inside = writer.depthwise(inside)
            value = writer.conv(inside, _rounded(channels, width), activation="NONE")
            if stride == 1 and value.integers.shape == entry.integers.shape:
                value = writer.add(entry, value)
    value = writer.mean(writer.conv(value, 1280))
    return writer.bytes(writer.softmax(writer.fully_connected(value, classes)))


def wide(size: int = 224, channels: int = 1280, classes: int = 10, seed: int = 3) -> bytes:
    """A few layers whose activations fit few scratchpads: a large image, and many channels at the end.

    Parameters
    ----------
    size : rows and columns of the input, of 3 channels; a multiple of 16
    channels : of the last 1×1 convolution
    classes, seed : as `mobilenet_v1`'s
    """
    if size < 16 or size % 16:
        raise ValueError(f"`size` must be a positive multiple of 16, not {size}")
    writer = Writer((size, size, 3), 1 / 255, -128, seed)
    value = writer.conv(writer.input, 8, 3, 2)
    value = writer.conv(writer.depthwise(value), 16)
    value = writer.conv(writer.depthwise(value, 2), 24)
    value = writer.conv(writer.average_pool(value, 4), channels)
    return writer.bytes(writer.softmax(writer.fully_connected(writer.mean(value), classes)))


NETWORKS: dict[str, Callable[[], bytes]] = {
    "mobilenet_v1_025_96": mobilenet_v1,
    "mobilenet_v2_like": mobilenet_v2,
    "wide224": wide,
}
"""By file name, without its ending."""


def write(name: str, folder: Path) -> Path:
    """Write the network `name` of `NETWORKS` to ``folder/NAME.tflite``, making the folder; the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tflite"
    path.write_bytes(NETWORKS[name]())
    return path


def _sums(
    source: _Value,
    weights: Integers,
    stride: int,
    padding: int,
    product: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Integers:
    """A window's exact sums, tap by tap, `product` of a tap's inputs and its weights (outputs, inputs).

    In float64, which is exact: a sum stays below 2**53, as 2**16 products of 2**15 would.
    """
    values = (source.integers - source.zero_point).astype(np.float64)
    kernel, total, outputs = weights.shape[1], [0, 0], []
    for axis, size in enumerate(values.shape[1:3]):
        outputs.append(-(-size // stride) if padding == SAME else (size - kernel) // stride + 1)
        total[axis] = max((outputs[axis] - 1) * stride + kernel - size, 0)
    values = np.pad(values, ((0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)))
    height, width = outputs
    result: npt.NDArray[np.float64] | None = None
    for row in range(kernel):
        for column in range(kernel):
            part = values[
                :,
                row : row + (height - 1) * stride + 1 : stride,
                column : column + (width - 1) * stride + 1 : stride,
            ]
            term = product(part, weights[:, row, column].astype(np.float64))
            result = term if result is None else result + term
    if result is None:
        raise ValueError("a window has at least one tap")
    return result.astype(np.int64)


def _check_size(size: int) -> None:
    if size < 32 or size % 32:
        raise ValueError(f"`size` must be a positive multiple of 32, not {size}")


def _scaled(channels: int, width: float) -> int:
    if int(channels * width) < 1:
        raise ValueError(f"`width` must leave at least one channel of {channels}, not {width}")
    return int(channels * width)


def _rounded(channels: int, width: float) -> int:
    """The nearest multiple of 8, at least 8, and not below nine tenths."""
    nearest = max(8, int(channels * width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels * width else nearest
