"""Networks of int8 with layers of every kind, random parameters and geometry, and machines to run them on.

Parameters are drawn so that values stay alive: each layer is run on a few inferences as it is added, and its scale
chosen for what comes out of it. Most outputs then spread over int8, some saturate, some hardly move.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.golden import conv2d, depthwise_conv2d, fully_connected, model
from intaglio.network import (
    Add,
    AffineRescale,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FixedPointScale,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    NetworkError,
    Pad,
    Requantize,
    Reshape,
    Softmax,
    StridedSlice,
    Sub,
    Tanh,
    Tensor,
    TensorType,
    Transpose,
)
from tests.networks import machine_of

Shape = tuple[int, ...]
Pair = tuple[int, int]
Edges = tuple[int, int, int, int]

INT8 = TensorType(8, True)
SAMPLES = 3
"""Inferences by which scales are chosen."""
SPREADS = (3, 25, 45, 70, 200)
"""Standard deviations that outputs are scaled to; of the last, most saturate."""


def int8_machine(**changes: Any):
    return machine_of(
        **{
            "rows": 8, "columns": 8, "activation_types": ("int8",), "weight_type": "int8", "accumulator_bits": 32,
            "rescales": ("affine",), "depthwise_taps": 3, "scratchpad_bytes": 65536,
        }
        | changes
    )  # fmt: skip


def fixed_point(real: float, double: bool = True) -> FixedPointScale:
    """The nearest scale, as importers find it; what is too large or too small for one becomes the greatest or 0."""
    fraction, exponent = math.frexp(real)
    multiplier = round(fraction * 2**31)
    if multiplier == 2**31:
        multiplier, exponent = multiplier // 2, exponent + 1
    if exponent > 31:
        return FixedPointScale(2**31 - 1, 31, double)
    return FixedPointScale(multiplier, exponent, double) if exponent >= -31 else FixedPointScale(0, 0, double)


class Int8Builder:
    """A network, layer by layer; each method adds one and returns the name of what it writes. It raises NetworkError
    where that has no element, or more than `most_elements`.

    Attributes
    ----------
    tensors, layers, constants, inputs : of the network so far
    samples : of each tensor, what a few inferences make of it; of constants one
    """

    def __init__(self, seed: int, most_elements: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self._most_elements = most_elements
        self.tensors: dict[str, Tensor] = {}
        self.layers: list[Any] = []
        self.constants: dict[str, npt.NDArray[np.int64]] = {}
        self.inputs: list[str] = []
        self.samples: dict[str, npt.NDArray] = {}

    def build(self, outputs: Sequence[str] | None = None) -> Network:
        outputs = outputs or (self.layers[-1].output,)
        return Network(
            "random", self.tensors, tuple(self.layers), tuple(self.inputs), tuple(outputs),
            constants=self.constants,
        )  # fmt: skip

    # What layers read.

    def input(self, shape: Shape, zero_point: int | None = None) -> str:
        name = f"input{len(self.inputs)}"
        self.tensors[name] = self._tensor(name, shape, zero_point)
        self.inputs.append(name)
        # A sum of uniform numbers, of which all int8 occur.
        drawn = self.rng.integers(-128, 128, (SAMPLES, *shape))
        self.samples[name] = drawn.astype(np.int8)
        return name

    def constant(self, shape: Shape, zero_point: int | None = None) -> str:
        name = f"constant{len(self.constants)}"
        self.tensors[name] = self._tensor(name, shape, zero_point)
        self.constants[name] = self.rng.integers(-128, 128, shape).astype(np.int64)
        self.samples[name] = self.constants[name][np.newaxis].astype(np.int8)
        return name

    def shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def _tensor(self, name: str, shape: Shape, zero_point: int | None) -> Tensor:
        return Tensor(name, shape, INT8, None, self._zero_point() if zero_point is None else zero_point)

    def _zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, self.rng.integers(-127, 127)]))

    def _zero_point_near(self, mean: float) -> int:
        """Mostly one that brings results around `mean` within int8."""
        drawn = [self._zero_point() for _ in range(4)]
        near = [point for point in drawn if abs(point + mean) < 100] or [round(min(max(-mean, -128), 127))]
        return near[0] if self.rng.integers(8) else drawn[0]

    def _pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def add_layer(
        self, layer_type: Any, sources: Sequence[str], zero_point: int | None = None, **fields: Any
    ) -> str:
        """Adds a layer whose output has this zero point, and runs it on the samples."""
        name = f"layer{len(self.layers)}"
        layer = layer_type(name, tuple(sources), f"{name}_out", **fields)
        shape = layer.output_shape(*(self.shape(source) for source in sources))
        if min(shape, default=1) < 1 or math.prod(shape) > (self._most_elements or math.inf):
            raise NetworkError(f"layer {name}: its output is {shape}")
        target = self._tensor(layer.output, shape, zero_point)
        given = [source for source in dict.fromkeys(sources) if source not in self.constants]
        alone = Network(
            "one layer",
            {source: self.tensors[source] for source in sources} | {target.name: target},
            (layer,), tuple(given), (target.name,),
            constants={source: self.constants[source] for source in sources if source in self.constants},
        )  # fmt: skip
        result = model.run(alone, {source: self.samples[source] for source in given})
        self.tensors[target.name], self.samples[target.name] = target, result.tensors[target.name]
        self.layers.append(layer)
        return target.name

    def _limits(self, zero_point: int) -> Pair:
        """Of a fused activation: none, ReLU, ReLU6 or its like, any."""
        low, high = sorted(int(v) for v in self.rng.integers(-128, 128, 2))
        ceiling = int(self.rng.integers(zero_point, 128))
        whole = -128, 127
        chosen = self._pick(whole, whole, whole, (zero_point, 127), (zero_point, ceiling), (low, high))
        narrow = chosen[1] - chosen[0] < 30
        return whole if narrow and self.rng.integers(8) else chosen

    # Layers with weights.

    def _weights(self, shape: Shape) -> npt.NDArray[np.int64]:
        uniform = self.rng.integers(-128, 128, shape)
        bell = np.clip(np.rint(self.rng.normal(0, 30, shape)), -128, 127).astype(np.int64)
        sparse = np.where(self.rng.random(shape) < 0.8, 0, uniform)
        least = np.where(self.rng.random(shape) < 0.5, -128, uniform)
        return self._pick(uniform, uniform, bell, bell, sparse, least, np.full(shape, -128))

    def _rescale(
        self,
        sums: npt.NDArray[np.int64],
        zero_point: int,
        double: bool | None,
        wild: bool,
        real: bool = False,
    ) -> AffineRescale:
        """For sums whose last axis are the channels."""
        rng, channels = self.rng, sums.shape[-1]
        columns = sums.reshape(-1, channels)
        center, spread = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1.0)
        shift = rng.normal(0, 1, channels) * spread * self._pick(0, 0.3, 1)
        bias = np.clip(np.rint(shift - center), -(2**31), 2**31 - 1).astype(np.int64)
        wanted = self._pick(*SPREADS) * rng.uniform(0.7, 1.4, channels)
        scales = [fixed_point(value) for value in wanted / (spread if rng.integers(2) else spread.max())]
        multiplier = np.array([scale.multiplier for scale in scales], np.int64)
        exponent = np.array([scale.exponent for scale in scales], np.int64)
        if wild:
            some = rng.random(channels) < 0.3
            ends = rng.choice([-(2**31), 2**31 - 1, 2**31 - 20_000, -(2**31) + 5_000], channels)
            bias = np.where(some, ends, bias)
            some = rng.random(channels) < 0.3
            exponent = np.where(some, rng.choice([-31, -30, -8, -1, 0, 1, 2, 9, 31], channels), exponent)
            some = rng.random(channels) < 0.3
            multiplier = np.where(
                some, rng.choice([0, 1, 2**30, 2**30 + 1, 3 << 29, 2**31 - 1], channels), multiplier
            )
        if double is None:
            double = not real and bool(rng.integers(2))
        factors = None
        if real:
            multiplier = np.maximum(multiplier, 1)
            factors = (multiplier + rng.uniform(-0.49, 0.49, channels)) * 2.0 ** (exponent - 31)
        return AffineRescale(bias, multiplier, exponent, double, *self._limits(zero_point), real=factors)

    def _weighted(
        self, layer_type: Any, source: str, weights: Any, sums: Any, double: Any, wild: bool, real: bool = False,
        **geometry: Any,
    ) -> str:  # fmt: skip
        zero_point = self._zero_point()
        return self.add_layer(
            layer_type, (source,), zero_point, weights=weights, weight_type=INT8, accumulator_bits=32,
            rescale=self._rescale(sums, zero_point, double, wild, real), **geometry,
        )  # fmt: skip

    def conv(
        self, source: str, outputs: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), padding: Edges = (0, 0, 0, 0),
        dilation: Pair = (1, 1), double: bool | None = None, wild: bool = False,
    ) -> str:  # fmt: skip
        weights = self._weights((outputs, *kernel, self.shape(source)[2]))
        pad = self.tensors[source].zero_point
        sums = conv2d(self.samples[source], weights, stride, padding, dilation, pad)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        return self._weighted(Conv2D, source, weights, sums, double, wild, **geometry)

    def depthwise(
        self, source: str, multiplier: int = 1, kernel: Pair = (3, 3), stride: Pair = (1, 1),
        padding: Edges = (0, 0, 0, 0), dilation: Pair = (1, 1), double: bool | None = None, wild: bool = False,
    ) -> str:  # fmt: skip
        weights = self._weights((multiplier * self.shape(source)[2], *kernel))
        pad = self.tensors[source].zero_point
        sums = depthwise_conv2d(self.samples[source], weights, stride, padding, dilation, pad)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        return self._weighted(DepthwiseConv2D, source, weights, sums, double, wild, **geometry)

    def fc(
        self, source: str, outputs: int, double: bool | None = None, wild: bool = False, real: bool = False
    ) -> str:
        weights = self._weights((outputs, math.prod(self.shape(source))))
        sums = fully_connected(self.samples[source], weights)
        return self._weighted(FullyConnected, source, weights, sums, double, wild, real)

    # Pooling and means.

    def _like(self, source: str) -> int:
        return self.tensors[source].zero_point

    def max_pool(self, source: str, kernel: Pair, stride: Pair, padding: Edges = (0, 0, 0, 0)) -> str:
        geometry = {"kernel": kernel, "stride": stride, "padding": padding}
        return self.add_layer(MaxPool2D, (source,), self._like(source), **geometry)

    def average_pool(self, source: str, kernel: Pair, stride: Pair, padding: Edges = (0, 0, 0, 0)) -> str:
        low, high = self._limits(self._like(source))
        geometry = {"kernel": kernel, "stride": stride, "padding": padding, "low": low, "high": high}
        return self.add_layer(AveragePool2D, (source,), self._like(source), **geometry)

    def mean(self, source: str, axes: tuple[int, ...], keep_dims: bool = False) -> str:
        count = math.prod(self.shape(source)[axis] for axis in axes)
        real = self._pick(0.5, 1, 1.7, 4)
        scale = fixed_point(real / count, bool(self.rng.integers(4)))
        zero_point = self._zero_point_near(real * float(self._centered(source).mean()))
        return self.add_layer(Mean, (source,), zero_point, axes=axes, keep_dims=keep_dims, scale=scale)

    # Sums, products, functions.

    def _deviation(self, values: npt.NDArray) -> float:
        return max(1.0, float(np.std(values.astype(np.float64))))

    def _combined(self, values: npt.NDArray) -> float:
        """A factor that makes a good int8 of the values."""
        return self._pick(*SPREADS) / self._deviation(values)

    def _centered(self, name: str) -> npt.NDArray[np.float64]:
        """Its samples less the zero point, as they broadcast with another's."""
        return _aligned(self.samples[name].astype(np.float64)) - self.tensors[name].zero_point

    def add(self, first: str, second: str, subtract: bool = False) -> str:
        """Both scales at most 1/2, as importers have them; the total's is any."""
        a, b = (self._pick(0.5, self.rng.uniform(0.01, 0.5)) for _ in range(2))
        left, right = self._centered(first) * a, self._centered(second) * b
        real = self._combined(sums := left - right if subtract else left + right)
        zero_point = self._zero_point_near(real * float(sums.mean()))
        low, high = self._limits(zero_point)
        return self.add_layer(
            Sub if subtract else Add, (first, second), zero_point, first=fixed_point(a), second=fixed_point(b),
            total=fixed_point(real / 2**20, bool(self.rng.integers(4))), low=low, high=high,
        )  # fmt: skip

    def mul(self, first: str, second: str) -> str:
        products = self._centered(first) * self._centered(second)
        real = self._combined(products)
        zero_point = self._zero_point_near(real * float(products.mean()))
        low, high = self._limits(zero_point)
        scale = fixed_point(real, bool(self.rng.integers(4)))
        return self.add_layer(Mul, (first, second), zero_point, scale=scale, low=low, high=high)

    def requantize(self, source: str, zero_point: int | None = None, scale: float | None = None) -> str:
        scale = self._combined(self.samples[source]) if scale is None else scale
        if zero_point is None:
            zero_point = self._zero_point_near(scale * float(self._centered(source).mean()))
        low, high = self._limits(zero_point)
        factor = fixed_point(scale, bool(self.rng.integers(4)))
        return self.add_layer(Requantize, (source,), zero_point, scale=factor, low=low, high=high)

    def leaky_relu(self, source: str) -> str:
        positive = self._combined(self.samples[source])
        negative = fixed_point(positive * float(self.rng.uniform(0.01, 1.2)))
        if not self.rng.integers(4):
            negative = dataclasses.replace(negative, multiplier=-negative.multiplier)
        zero_point = self._zero_point_near(positive * float(np.maximum(self._centered(source), 0).mean()))
        return self.add_layer(
            LeakyRelu, (source,), zero_point, positive=fixed_point(positive), negative=negative
        )

    def hard_swish(self, source: str) -> str:
        """Inputs of up to 1...20 in magnitude, outputs of nearly as much."""
        real = float(self.rng.uniform(1, 20)) / 128
        target = real * float(self.rng.uniform(0.3, 1.5))
        output, relu = fixed_point(real / 128 / target), fixed_point(real / 128 / (3 / 32768))
        multipliers = [min((scale.multiplier + (1 << 15)) >> 16, 2**15 - 1) for scale in (output, relu)]
        return self.add_layer(
            HardSwish, (source,), self._zero_point_near(60),
            output_multiplier=multipliers[0], output_exponent=output.exponent,
            relu_multiplier=multipliers[1], relu_exponent=relu.exponent,
        )  # fmt: skip

    def logistic(self, source: str) -> str:
        return self.add_layer(Logistic, (source,), -128, **self._sigmoidal())

    def tanh(self, source: str) -> str:
        return self.add_layer(Tanh, (source,), 0, **self._sigmoidal())

    def _sigmoidal(self) -> dict[str, Any]:
        """Of an input's scale; the parameters as importers find them."""
        real = float(self.rng.uniform(0.5, 12)) / 128
        scale = fixed_point(real * 2**27)
        radius = math.floor(15 * 2.0**27 / 2.0**scale.exponent)
        return {"scale": scale, "radius": radius, "real": self._pick(None, real)}

    def softmax(self, source: str) -> str:
        scale = fixed_point(float(self.rng.uniform(0.3, 20)) / 128 * 2**26)
        least = -math.floor(31 * 2.0**26 / 2.0**scale.exponent)
        return self.add_layer(Softmax, (source,), -128, scale=scale, least=least)

    # What moves elements.

    def pad(self, source: str, padding: tuple[Pair, ...], value: int | None = None) -> str:
        value = self._pick(self._like(source), -128, 127, 5) if value is None else value
        return self.add_layer(Pad, (source,), self._like(source), padding=padding, value=value)

    def concatenate(self, sources: Sequence[str], axis: int) -> str:
        return self.add_layer(Concatenation, sources, self._like(sources[0]), axis=axis)

    def reshape(self, source: str, shape: Shape) -> str:
        return self.add_layer(Reshape, (source,), self._like(source), shape=shape)

    def slice(self, source: str, begin: Shape, extent: Shape, stride: Shape) -> str:
        return self.add_layer(
            StridedSlice, (source,), self._like(source), begin=begin, extent=extent, stride=stride
        )

    def transpose(self, source: str, permutation: Shape) -> str:
        return self.add_layer(Transpose, (source,), self._like(source), permutation=permutation)


def _aligned(values: npt.NDArray) -> npt.NDArray:
    """With axes of one element behind the batch, five in all."""
    return values.reshape(len(values), *(1,) * (5 - values.ndim), *values.shape[1:])


class _Drawer:
    """Adds layers at random to a network. A method adds one that reads `source`, or none where it cannot."""

    def __init__(self, seed: int, elements: int, large: bool) -> None:
        self.builder = Int8Builder(seed, elements)
        self.rng, self.elements, self.large = self.builder.rng, elements, large

    def _shape(self, name: str) -> Shape:
        return self.builder.shape(name)

    def _pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def _image(self, source: str) -> bool:
        return len(self._shape(source)) == 3

    def input(self) -> str:
        if self.large:
            channels = int(self.rng.choice([3, 8, 12, 16, 24]))
            height = int(self.rng.integers(7, 21))
            width = max(1, int(self.elements * self.rng.uniform(0.4, 1)) // channels // height)
            return self.builder.input((height, width, channels))
        rank = int(self.rng.choice([1, 2, 3, 3, 3, 3, 3, 4]))
        shape = [int(self.rng.choice([1, 2, 3, 4, 5, 7, 8, 11])) for _ in range(rank - 1)]
        shape.append(int(self.rng.choice([1, 2, 3, 4, 7, 8, 9, 16, 21, 40])))
        while math.prod(shape) > self.elements:
            shape[shape.index(max(shape))] -= 1
        return self.builder.input(tuple(shape))

    def _window(self, source: str, most: int) -> tuple[Pair, Pair, Edges] | None:
        """Kernel, stride and padding below the kernel of a window that fits."""
        size = self._shape(source)[:2]
        most = 3 if self.large else most
        kernel = int(self.rng.integers(1, most + 1)), int(self.rng.integers(1, most + 1))
        if not self.large and not self.rng.integers(6):
            kernel = size[0], size[1]
        stride = int(self.rng.choice([1, 1, 2, 3])), int(self.rng.choice([1, 1, 2, 3]))
        edges = [int(self.rng.integers(0, kernel[i // 2])) if self.rng.integers(2) else 0 for i in range(4)]
        for axis in range(2):
            if size[axis] + edges[2 * axis] + edges[2 * axis + 1] < kernel[axis]:
                return None
        return kernel, stride, (edges[0], edges[1], edges[2], edges[3])

    def _fits(self, *shape: int) -> bool:
        return 0 < math.prod(shape) <= self.elements

    def _geometry(self, source: str) -> dict[str, Any] | None:
        size = self._shape(source)[:2]
        if self.large:
            height, width = (int(k) for k in self.rng.choice([1, 3, 3, 5], 2))
            same = (height - 1) // 2, height // 2, (width - 1) // 2, width // 2
            apart = self._pick((1, 1), (1, 1), (2, 2))
            return {"kernel": (height, width), "stride": apart, "padding": same, "dilation": (1, 1)}
        kernel = tuple(int(k) for k in self.rng.choice([1, 1, 2, 3, 3, 4, 5, 7], 2))
        dilation = tuple(int(d) for d in self.rng.choice([1, 1, 1, 1, 2, 3], 2))
        stride = tuple(int(s) for s in self.rng.choice([1, 1, 1, 2, 3], 2))
        edges = [int(e) for e in self.rng.choice([0, 0, 1, 2, 3], 4)]
        for axis in range(2):
            reach = (kernel[axis] - 1) * dilation[axis] + 1
            edges[2 * axis] += max(0, reach - size[axis] - edges[2 * axis] - edges[2 * axis + 1])
        return {"kernel": kernel, "stride": stride, "padding": tuple(edges), "dilation": dilation}

    def _wild(self) -> bool:
        return self.rng.random() < 0.15

    def conv(self, source: str) -> str | None:
        if not self._image(source):
            return None
        outputs = int(self.rng.choice([8, 9, 16, 20, 24] if self.large else [1, 2, 3, 5, 8, 9, 16, 20]))
        if not self._fits(*self._shape(source)[:2], outputs):
            return None
        return self.builder.conv(source, outputs, **self._geometry(source), wild=self._wild())

    def depthwise(self, source: str) -> str | None:
        if not self._image(source):
            return None
        multiplier = int(self.rng.choice([1, 1, 1, 2, 3]))
        if not self._fits(*self._shape(source), multiplier):
            return None
        return self.builder.depthwise(source, multiplier, **self._geometry(source), wild=self._wild())

    def fc(self, source: str) -> str:
        outputs = int(self.rng.choice([1, 3, 8, 10, 17, 30]))
        return self.builder.fc(source, outputs, wild=self._wild(), real=bool(self.rng.integers(2)))

    def max_pool(self, source: str) -> str | None:
        window = self._window(source, 4) if self._image(source) else None
        return self.builder.max_pool(source, *window) if window else None

    def average_pool(self, source: str) -> str | None:
        window = self._window(source, 5) if self._image(source) else None
        return self.builder.average_pool(source, *window) if window else None

    def mean(self, source: str) -> str | None:
        rank = len(self._shape(source))
        if rank > 3:
            return None
        axes = self.rng.permutation(rank)[: int(self.rng.integers(1, rank + 1))]
        if rank == 3 and self.rng.integers(2):
            axes = np.array([0, 1])
        return self.builder.mean(source, tuple(int(axis) for axis in axes), bool(self.rng.integers(2)))

    def binary(self, source: str) -> str | None:
        """With a constant or a mean of itself that broadcasts, or as `residual`."""
        builder, shape = self.builder, self._shape(source)
        axes = self.rng.random(len(shape)) < 0.5
        part = tuple(1 if alone else extent for alone, extent in zip(axes, shape, strict=True))
        choice = int(self.rng.integers(3))
        if choice == 0:
            constant = self._pick(
                shape, shape[-1:], part, part[len(part) // 2 :], (), (1,), (1,) * len(shape)
            )
            return self._combined(source, builder.constant(constant))
        if choice == 1 and len(shape) == 3 and max(shape[:2]) > 1:
            # A squeeze: (1, 1, C), (H, 1, C), (H, W, 1) from the tensor itself.
            axes = self._pick((0, 1), (0, 1), (1,), (2,))
            other = builder.mean(source, axes, True)
            if axes == (0, 1) and self.rng.integers(2):
                other = builder.logistic(other)
            return self._combined(source, other)
        return self.residual(source)

    def residual(self, source: str) -> str:
        """With itself or another tensor, of its shape or one that broadcasts."""
        others = [name for name in self.builder.tensors if self._broadcasts(source, name)]
        return self._combined(source, others[int(self.rng.integers(len(others)))])

    def _combined(self, source: str, other: str) -> str:
        pair = (source, other) if self.rng.integers(2) else (other, source)
        operation = int(self.rng.integers(3))
        if operation == 2:
            return self.builder.mul(*pair)
        return self.builder.add(*pair, subtract=operation == 1)

    def _broadcasts(self, source: str, other: str) -> bool:
        try:
            shape = np.broadcast_shapes(self._shape(source), self._shape(other))
        except ValueError:
            return False
        return self._fits(*shape) and other not in self.builder.constants

    def unary(self, source: str) -> str:
        builder = self.builder
        kinds = (builder.requantize, builder.leaky_relu, builder.hard_swish, builder.logistic, builder.tanh)
        return self._pick(*kinds)(source)

    def softmax(self, source: str) -> str:
        return self.builder.softmax(source)

    def pad(self, source: str) -> str | None:
        shape = self._shape(source)
        edges = [(int(a), int(b)) for a, b in self.rng.choice([0, 0, 1, 2], (len(shape), 2))]
        if self.rng.integers(2):
            edges[-1] = 0, 0
        if not self._fits(*(extent + sum(pair) for extent, pair in zip(shape, edges, strict=True))):
            return None
        return self.builder.pad(source, tuple(edges))

    def concatenate(self, source: str) -> str | None:
        """What has its shape but for the axis and its zero point: other tensors, made for it, constants, itself."""
        builder, shape = self.builder, self._shape(source)
        axis = self._pick(len(shape) - 1, int(self.rng.integers(len(shape))))
        zero_point = builder.tensors[source].zero_point
        parts = [source]
        for _ in range(int(self.rng.integers(1, 4))):
            extent = int(self.rng.integers(1, shape[axis] + 4))
            kind = int(self.rng.integers(5))
            if kind == 0:
                parts.append(source)
            elif kind == 1:
                parts.append(builder.constant((*shape[:axis], extent, *shape[axis + 1 :]), zero_point))
            elif kind == 2:
                same = [
                    name
                    for name, tensor in builder.tensors.items()
                    if tensor.zero_point == zero_point
                    and len(tensor.shape) == len(shape)
                    and all(
                        a == b for i, (a, b) in enumerate(zip(tensor.shape, shape, strict=True)) if i != axis
                    )
                ]
                parts.append(same[int(self.rng.integers(len(same)))])
            else:
                parts.append(
                    builder.requantize(
                        parts[-1] if parts[-1] not in builder.constants else source, zero_point
                    )
                )
        self.rng.shuffle(parts)
        total = sum(self._shape(part)[axis] for part in parts)
        if not self._fits(*shape[:axis], total, *shape[axis + 1 :]) or all(
            p in builder.constants for p in parts
        ):
            return None
        return builder.concatenate(parts, axis)

    def reshape(self, source: str) -> str:
        rest, shape = math.prod(self._shape(source)), []
        for _ in range(int(self.rng.integers(0, 4))):
            divisors = [d for d in range(1, rest + 1) if rest % d == 0]
            shape.append(divisors[int(self.rng.integers(len(divisors)))])
            rest //= shape[-1]
        shape.append(rest)
        return self.builder.reshape(source, tuple(int(extent) for extent in self.rng.permutation(shape)))

    def slice(self, source: str) -> str:
        begin, extent, stride = [], [], []
        for size in self._shape(source):
            first, last = (int(v) for v in self.rng.integers(0, size, 2))
            if self.rng.integers(3) == 0:
                first, last = 0, size - 1
            step = int(self.rng.choice([1, 1, 1, 2, 3])) * (1 if last >= first else -1)
            begin.append(first)
            extent.append((last - first) // step + 1)
            stride.append(step)
        return self.builder.slice(source, tuple(begin), tuple(extent), tuple(stride))

    def transpose(self, source: str) -> str | None:
        rank = len(self._shape(source))
        if rank == 1:
            return None
        return self.builder.transpose(source, tuple(int(axis) for axis in self.rng.permutation(rank)))


_KINDS = {
    "conv": 4, "depthwise": 3, "fc": 1, "max_pool": 1, "average_pool": 2, "mean": 1, "binary": 4, "residual": 1,
    "unary": 3, "softmax": 1, "pad": 1, "concatenate": 2, "reshape": 1, "slice": 1, "transpose": 1,
}  # fmt: skip
_LAYERS = (4, 13)
_ATTEMPTS = 60


def random_int8_network(
    seed: int,
    elements: int = 1500,
    kinds: Sequence[str] = (),
    layers: int | None = None,
    large: bool = False,
) -> Network:
    """A graph of some layers, drawn by `seed` alone: branches, tensors that several layers read, or none, several
    inputs and outputs.

    Parameters
    ----------
    elements : that no tensor has more of
    kinds : of `_KINDS`, those that are drawn; all, if none is named
    layers : how many at least; a few, if none is said
    large : whether tensors come near to `elements`, by images for inputs and layers that keep their size
    """
    drawer = _Drawer(seed, elements, large)
    builder, rng = drawer.builder, drawer.rng
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        last = drawer.input()
    names = list(kinds or _KINDS)
    weights = np.array([_KINDS[name] for name in names], float)
    count = layers if layers is not None else int(rng.integers(*_LAYERS))
    for _ in range(_ATTEMPTS * count):
        if len(builder.layers) >= count:
            break
        known = [name for name in builder.tensors if name not in builder.constants]
        source = last if rng.random() < 0.7 else known[int(rng.integers(len(known)))]
        kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        try:
            last = getattr(drawer, kind)(source) or last
        except NetworkError:  # too large
            continue
    written = [layer.output for layer in builder.layers]
    outputs = [name for name in (*builder.inputs, *written) if rng.random() < 0.15 and name != written[-1]]
    return builder.build([*outputs, written[-1]])
