"""int8 networks from TensorFlow Lite's .tflite files, with the arithmetic of the runtime that the user names.

Zero points are folded into biases, ``bias - Z_in * sum(w)`` [jacob2017: eq. 7], so that sums are of plain int8
products; real scales become a multiplier and an exponent as each runtime makes them, some in float64, some in float32
(docs/arithmetic.md has which). QUANTIZE and DEQUANTIZE between float and int8 at the very edges are the host's: the
network's inputs and outputs are the integer tensors, which keep their scale and zero point. The batch, the first axis
of every tensor in the file, is left out; an operator that would mix inferences is refused.

Ref: Jacob et al., 2017 [jacob2017]
Ref: LiteRT 2.3.0's reference kernels, and TensorFlow Lite Micro's
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network.errors import NetworkError
from intaglio.network.files import read_bytes, shown
from intaglio.network.graph import (
    Add,
    AffineRescale,
    AnyLayer,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FixedPointScale,
    FullyConnected,
    HardSwish,
    Integers,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
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
from intaglio.network.tflite_file import MAX_ELEMENTS, File, FileOperator, FileTensor, read, recognised

__all__ = ["FORMAT", "load", "loads", "recognised"]

FORMAT = "TensorFlow Lite"
INT8 = TensorType(8, signed=True)
ACCUMULATOR_BITS = 32
"""Both runtimes sum in int32, and wrap."""
MAX_STEP = (1 << 15) - 1
"""Strides and dilations are int16 in both runtimes' kernels."""
SOFTMAX_ELEMENTS = 4095
"""Above, the sum of exponentials leaves its 12 integer bits."""

_ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}
_IDENTITY = FixedPointScale(1 << 30, 1)
_SHAPE_OPERATORS = ("SHAPE", "PACK", "STRIDED_SLICE", "CONCATENATION")


class _Unusable(Exception):
    """Why an operator cannot be imported."""


@dataclass(frozen=True)
class _Value:
    """A computed tensor: its name in the graph, its shape without the batch, whether its file's shape has one."""

    name: str
    shape: tuple[int, ...]
    batched: bool


def load(path: str | os.PathLike[str], runtime: str = "litert") -> Network:
    """Read the file `path`; see `loads`."""
    return loads(read_bytes(path), runtime, name=Path(path).stem, where=shown(path))


def loads(
    content: bytes, runtime: str = "litert", *, name: str = "tflite", where: str = "<bytes>"
) -> Network:
    """The network that `content`, a .tflite file, describes.

    Parameters
    ----------
    content
        The file.
    runtime
        Whose arithmetic it means: ``litert`` (LiteRT's reference kernels) or ``tflm`` (TensorFlow Lite Micro).
    name
        The network's name.
    where
        The path that error messages show.

    Raises
    ------
    NetworkError
        One line: `where`, and what is damaged, or every operator that is not supported and why.
    """
    if runtime not in ("litert", "tflm"):
        raise NetworkError(f"there is no runtime {runtime!r}; give one of litert, tflm")
    file = read(content, where)
    try:
        return _Importer(file, runtime).network(name)
    except NetworkError as error:
        raise NetworkError(f"{where}: {error}") from error


def quantized_multiplier(real: float) -> FixedPointScale:
    """``real`` as ``multiplier * 2**(exponent - 31)``, the multiplier of 31 bits; 0 where it is below 2**-32."""
    fraction, exponent = math.frexp(abs(real))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    if exponent < -31 or not multiplier:
        return FixedPointScale(0, 0)
    if exponent > 30:
        raise _Unusable(f"its scales ask for a factor of {real:.3g}, beyond 2**30")
    return FixedPointScale(-multiplier if real < 0 else multiplier, exponent)


class _Importer:
    def __init__(self, file: File, runtime: str) -> None:
        self._file = file
        self._litert = runtime == "litert"
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, Integers] = {}
        self._layers: list[AnyLayer] = []
        self._values: dict[int, _Value] = {}
        self._folded: dict[int, npt.NDArray[Any]] = {}
        """Shapes computed by the file itself, which static shapes make constants."""
        self._lost: set[int] = set()
        """Outputs of operators that were refused: what reads them is not refused again."""
        self._batch = 1
        self._current: FileOperator | None = None

    def network(self, name: str) -> Network:
        problems: list[str] = []
        inputs, edges = self._edges_in(problems)
        for operator in self._file.operators:
            if operator.index in edges:
                continue
            self._current = operator
            try:
                self._convert(operator)
            except _Unusable as error:
                problems.append(f"{self._title(operator)}: {error}")
                self._lost.update(operator.outputs)
        outputs = self._outputs(problems)
        if problems:
            raise NetworkError("; ".join(problems))
        if not outputs:
            raise NetworkError("the network has no outputs")
        return Network(
            name=name,
            tensors=self._tensors,
            layers=tuple(self._layers),
            inputs=tuple(inputs),
            outputs=outputs,
            source_format=FORMAT,
            constants=self._constants,
        )

    # The edges.

    def _edges_in(self, problems: list[str]) -> tuple[list[str], set[int]]:
        """The network's inputs, and the operators at its edge that are the host's."""
        if not self._file.inputs:
            problems.append("the network has no inputs")
        inputs: list[str] = []
        edges: set[int] = set()
        batches = {self._file.tensors[i].shape[:1] for i in self._file.inputs}
        if len(batches) > 1 or batches == {()}:
            problems.append(f"its inputs' first axes, the batch, differ: {sorted(batches)}")
        elif batches:
            (self._batch,) = next(iter(batches))
        for index in dict.fromkeys(self._file.inputs):
            try:
                inside, operator = self._behind_quantize(index)
                edges |= operator
                self._values[inside] = self._declare(inside, self._file.tensors[inside].shape[1:])
                inputs.append(self._values[inside].name)
            except _Unusable as error:
                problems.append(f"input {self._file.tensors[index].name}: {error}")
                self._lost.add(index)
        return inputs, edges

    def _behind_quantize(self, index: int) -> tuple[int, set[int]]:
        """The integer tensor that an input of the file becomes, and the operator that makes it."""
        tensor = self._file.tensors[index]
        if tensor.type == "INT8":
            return index, set()
        if tensor.type not in ("FLOAT32", "UINT8"):
            raise _Unusable(f"it is {tensor.type.lower()}; int8 networks are supported")
        readers = [operator for operator in self._file.operators if index in operator.inputs]
        first = readers[0] if readers else None
        if len(readers) != 1 or first is None or first.op != "QUANTIZE" or len(first.outputs) != 1:
            raise _Unusable(
                f"it is {tensor.type.lower()} and no QUANTIZE alone reads it; quantize the network to int8"
            )
        inside = self._file.tensors[first.outputs[0]]
        if inside.type != "INT8":
            raise _Unusable(f"it is quantized to {inside.type.lower()}; int8 networks are supported")
        if tensor.type == "UINT8":
            self._require_flip(tensor, inside)
        if inside.shape != tensor.shape:
            raise _Unusable(f"its shape is {tensor.shape}, that of {inside.name} behind it {inside.shape}")
        return first.outputs[0], {first.index}

    def _require_flip(self, unsigned: FileTensor, signed: FileTensor) -> None:
        """uint8 and int8 of the same meaning, 128 apart."""
        scale, zero_point = _parameters(signed)
        other, offset = _parameters(unsigned, 0, 255)
        if scale != other or offset - zero_point != 128:
            raise _Unusable(f"uint8 {unsigned.name} and int8 {signed.name} differ by more than 128")

    def _outputs(self, problems: list[str]) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for index in self._file.outputs:
            if index in self._lost:
                continue
            if index not in self._values:
                problems.append(f"output {self._file.tensors[index].name}: nothing computes it")
            else:
                names[self._values[index].name] = None
        return tuple(names)

    # Operators.

    def _title(self, operator: FileOperator) -> str:
        outputs = [self._file.tensors[index].name for index in operator.outputs[:1]]
        return f"operator {operator.index} {operator.op}" + "".join(f" ({name})" for name in outputs)

    def _convert(self, operator: FileOperator) -> None:
        if operator.op in _SHAPE_OPERATORS and self._fold(operator):
            return
        convert = _CONVERTERS.get(operator.op)
        if convert is None:
            raise _Unusable("it is not supported")
        if self._lost.intersection(operator.inputs):
            self._lost.update(operator.outputs)
            return
        if operator.options is None:
            raise _Unusable("its options are missing; export the file again")
        if not operator.outputs or (len(operator.outputs) > 1 and operator.op != "SPLIT"):
            raise _Unusable(f"it has {len(operator.outputs)} outputs")
        for index in operator.outputs:
            if index in self._values or index in self._folded or self._file.tensors[index].data is not None:
                raise _Unusable(f"its output {self._file.tensors[index].name} is already written")
        convert(self, operator)

    def _fold(self, operator: FileOperator) -> bool:
        """Shape arithmetic on integers, done here: every shape is static but for the batch, which is the file's."""
        tensors, folded = self._file.tensors, self._folded
        one = len(operator.inputs) == len(operator.outputs) == 1
        if operator.op == "SHAPE" and one and operator.inputs[0] in {*self._values, *self._lost}:
            folded[operator.outputs[0]] = np.array(tensors[operator.inputs[0]].shape, np.int64)
            return True
        if operator.op == "SHAPE" or not operator.inputs or len(operator.outputs) != 1:
            return False
        if not any(index in folded for index in operator.inputs) or operator.options is None:
            return False
        numbers = [self._numbers(index) for index in operator.inputs]
        options = operator.options
        if operator.op == "STRIDED_SLICE" and len(numbers) == 4 and all(len(n) == 1 for n in numbers[1:]):
            begin, end, step = (int(number[0]) for number in numbers[1:])
            if step and not options["EllipsisMask"] and not options["NewAxisMask"]:
                part = slice(
                    None if options["BeginMask"] & 1 else begin, None if options["EndMask"] & 1 else end, step
                )
                shrunk = slice(begin, begin + 1 or None)
                folded[operator.outputs[0]] = numbers[0][shrunk if options["ShrinkAxisMask"] & 1 else part]
                return True
        elif operator.op in ("PACK", "CONCATENATION"):
            folded[operator.outputs[0]] = np.concatenate(numbers)
            return True
        return False

    def _numbers(self, index: int) -> npt.NDArray[np.int64]:
        """The integers of a constant that says how, not what: axes, shapes, paddings; flat."""
        if index in self._folded:
            return self._folded[index].astype(np.int64).reshape(-1)
        tensor = self._tensor(index)
        if tensor.data is None or tensor.type not in ("INT32", "INT64"):
            raise _Unusable(f"{tensor.name} must be a constant of integers")
        return tensor.data.astype(np.int64).reshape(-1)

    def _arity(self, operator: FileOperator, least: int, most: int | None = None) -> tuple[int, ...]:
        if not least <= len(operator.inputs) <= (most or least):
            raise _Unusable(f"it has {len(operator.inputs)} inputs")
        return operator.inputs

    # Tensors.

    def _tensor(self, index: int) -> FileTensor:
        if index < 0:
            raise _Unusable("an input is missing")
        tensor = self._file.tensors[index]
        if tensor.odd:
            raise _Unusable(f"{tensor.name}: {tensor.odd}")
        return tensor

    def _value(self, index: int) -> _Value:
        tensor = self._tensor(index)
        if index not in self._values:
            what = "a constant" if tensor.data is not None else "not computed before it"
            raise _Unusable(f"its input {tensor.name} is {what}")
        return self._values[index]

    def _operand(self, index: int, rank: int, batched: bool) -> str:
        """The name of a tensor that may be a constant, then of as many axes beside the batch at most as the other."""
        tensor = self._tensor(index)
        if tensor.data is None:
            return self._value(index).name
        if tensor.name in self._constants:
            return tensor.name
        scale, zero_point = self._int8(tensor)
        shape = tensor.shape
        if batched and len(shape) == rank + 1:
            if shape[0] != 1:
                raise _Unusable(f"its constant {tensor.name} has a batch of {shape[0]}")
            shape = shape[1:]
        if len(shape) > rank:
            raise _Unusable(f"its constant {tensor.name} has more axes than its input")
        self._tensors[tensor.name] = Tensor(tensor.name, shape, INT8, scale, zero_point)
        self._constants[tensor.name] = tensor.data.reshape(shape).astype(np.int64)
        return tensor.name

    def _int8(self, tensor: FileTensor) -> tuple[float, int]:
        if tensor.type != "INT8":
            raise _Unusable(f"{tensor.name} is {tensor.type.lower()}; int8 is supported")
        return _parameters(tensor)

    def _of(self, index: int) -> tuple[float, int]:
        """Scale and zero point of an int8 tensor."""
        return self._int8(self._tensor(index))

    def _declare(self, index: int, shape: tuple[int, ...]) -> _Value:
        """A computed tensor of the file, which must state `shape`, with the batch before it or without."""
        tensor = self._tensor(index)
        if any(tensor.dynamic[1:]) or (any(tensor.dynamic) and tensor.shape[:1] != (self._batch,)):
            raise _Unusable(f"the shape of {tensor.name} is unknown beyond its batch")
        batched = tensor.shape == (self._batch, *shape)
        if not batched and not (self._batch == 1 and tensor.shape == shape):
            raise _Unusable(f"{tensor.name} is stated as {tensor.shape}, computed as {(self._batch, *shape)}")
        scale, zero_point = self._int8(tensor)
        self._tensors[tensor.name] = Tensor(tensor.name, shape, INT8, scale, zero_point)
        return _Value(tensor.name, shape, batched)

    def _between(self, name: str, shape: tuple[int, ...], index: int) -> str:
        """A tensor that the file does not have, with the parameters of one that it has."""
        scale, zero_point = self._of(index)
        self._tensors[name] = Tensor(name, shape, INT8, scale, zero_point)
        return name

    def _add(self, index: int, shape: tuple[int, ...], make: Callable[[str, str], AnyLayer]) -> None:
        """The layer that `make`, given its own name and its output's, writes the file's tensor `index` with."""
        value = self._declare(index, shape)
        self._layers.append(make(self._layer_name(), value.name))
        self._values[index] = value

    def _layer_name(self, suffix: str = "") -> str:
        operator = self._current
        if operator is None:
            raise ValueError("a layer is made of an operator")
        return f"{operator.op.lower()}_{operator.index}{suffix}"

    def _image(self, index: int) -> _Value:
        value = self._value(index)
        if not value.batched or len(value.shape) != 3:
            raise _Unusable(f"its input is {self._file.tensors[index].shape}, no batch of images")
        return value

    def _clamp(self, activation: int, index: int) -> tuple[int, int]:
        """The range of a fused activation on the scale of the output `index`: quotients are float32's."""
        scale, zero_point = self._of(index)
        if activation not in _ACTIVATIONS:
            raise _Unusable(f"its fused activation, number {activation}, is not supported")
        ends = {"NONE": (None, None), "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
        low, high = ends[_ACTIVATIONS[activation]]
        least = INT8.min if low is None else max(INT8.min, zero_point + _rounded_quotient(low, scale))
        greatest = INT8.max if high is None else min(INT8.max, zero_point + _rounded_quotient(high, scale))
        return least, greatest

    # Convolutions and fully connected layers.

    def _weights(self, index: int, channels_axis: int) -> tuple[Integers, npt.NDArray[np.float64]]:
        """int8 weights, and their scale for each output channel (one alone where they share it)."""
        tensor = self._tensor(index)
        if tensor.data is None:
            raise _Unusable(f"its weights {tensor.name} are not a constant")
        if tensor.type != "INT8":
            raise _Unusable(f"its weights {tensor.name} are {tensor.type.lower()}; int8 is supported")
        if len(tensor.shape) <= channels_axis:
            raise _Unusable(f"its weights {tensor.name} are {tensor.shape}")
        channels = tensor.shape[channels_axis]
        scales = tensor.scales
        if len(scales) not in (1, channels):
            raise _Unusable(
                f"its weights {tensor.name} have {len(scales)} scales for {channels} output channels"
            )
        if len(scales) > 1 and tensor.dimension != channels_axis:
            raise _Unusable(
                f"its weights {tensor.name} have their scales along axis {tensor.dimension}, not {channels_axis}"
            )
        if not bool(np.all(np.isfinite(scales) & (scales > 0))):
            raise _Unusable(f"a scale of its weights {tensor.name} is not a positive number")
        if bool(np.any(tensor.zero_points)):
            raise _Unusable(f"its weights {tensor.name} have a zero point other than 0")
        return tensor.data.astype(np.int64), scales.astype(np.float64)

    def _bias(self, operator: FileOperator, channels: int) -> Integers:
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(channels, np.int64)
        tensor = self._tensor(operator.inputs[2])
        if tensor.data is None or tensor.type != "INT32":
            raise _Unusable(f"its bias {tensor.name} is no constant of int32")
        if tensor.data.size != channels:
            raise _Unusable(f"its bias {tensor.name} has {tensor.data.size} elements for {channels} channels")
        return tensor.data.astype(np.int64).reshape(-1)

    def _rescale(
        self,
        operator: FileOperator,
        weights: Integers,
        scales: npt.NDArray[np.float64],
        *,
        real: bool = False,
    ) -> AffineRescale:
        """Of `weights`, output channels first. `real`: see AffineRescale."""
        channels = len(weights)
        (scale, zero_point), (output_scale, _) = self._of(operator.inputs[0]), self._of(operator.outputs[0])
        bias = self._bias(operator, channels) - zero_point * weights.reshape(channels, -1).sum(axis=1)
        factors = [float(factor) for factor in scale * scales / output_scale]
        parts = [quantized_multiplier(factor) for factor in factors] * (channels if len(factors) == 1 else 1)
        low, high = self._clamp(_option(operator, "FusedActivationFunction"), operator.outputs[0])
        return AffineRescale(
            bias,
            np.array([part.multiplier for part in parts], np.int64),
            np.array([part.exponent for part in parts], np.int64),
            not real,
            low,
            high,
            np.broadcast_to(np.array(factors), (channels,)).copy() if real else None,
        )

    def _window(
        self, operator: FileOperator, image: _Value, kernel: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
        """Stride, padding and dilation of an operator with a window."""
        options = operator.options or {}
        stride = (options["StrideH"], options["StrideW"])
        dilation = (options.get("DilationHFactor", 1), options.get("DilationWFactor", 1))
        if min(*stride, *dilation, *kernel) < 1 or max(*stride, *dilation) > MAX_STEP:
            raise _Unusable(f"its kernel is {kernel}, its stride {stride}, its dilation {dilation}")
        if options["Padding"] not in (0, 1):
            raise _Unusable(f"its padding is number {options['Padding']}, neither SAME nor VALID")
        padding: list[int] = []
        for size, extent, step, apart in zip(image.shape[:2], kernel, stride, dilation, strict=True):
            reach = (extent - 1) * apart + 1
            total = max((-(-size // step) - 1) * step + reach - size, 0) if options["Padding"] == 0 else 0
            if reach > size + total:
                raise _Unusable(f"its window of {reach} does not fit its input of {size}")
            padding += [total // 2, total - total // 2]
        padded = (image.shape[0] + sum(padding[:2])) * (image.shape[1] + sum(padding[2:])) * image.shape[2]
        if padded > MAX_ELEMENTS:
            raise _Unusable(
                f"its input has {padded} elements with its padding; at most {MAX_ELEMENTS} are supported"
            )
        return stride, (padding[0], padding[1], padding[2], padding[3]), dilation

    def _conv_2d(self, operator: FileOperator) -> None:
        self._arity(operator, 2, 3)
        image = self._image(operator.inputs[0])
        weights, scales = self._weights(operator.inputs[1], 0)
        if weights.ndim != 4 or weights.shape[3] != image.shape[2]:
            raise _Unusable(f"its weights are {weights.shape}, its input has {image.shape[2]} channels")
        stride, padding, dilation = self._window(operator, image, weights.shape[1:3])
        rescale = self._rescale(operator, weights, scales)

        def make(name: str, output: str) -> AnyLayer:
            return Conv2D(
                name,
                (image.name,),
                output,
                weights,
                INT8,
                rescale,
                ACCUMULATOR_BITS,
                stride,
                padding,
                dilation,
            )

        self._add(operator.outputs[0], make("", "").output_shape(image.shape), make)

    def _depthwise_conv_2d(self, operator: FileOperator) -> None:
        self._arity(operator, 2, 3)
        image = self._image(operator.inputs[0])
        weights, scales = self._weights(operator.inputs[1], 3)
        channels = image.shape[2]
        if weights.ndim != 4 or weights.shape[0] != 1 or weights.shape[3] % channels:
            raise _Unusable(f"its weights are {weights.shape}, its input has {channels} channels")
        stated = _option(operator, "DepthMultiplier")
        # LiteRT finds out by itself; 0 is what it then may be.
        if stated != weights.shape[3] // channels and (stated or not self._litert):
            raise _Unusable(
                f"its channel multiplier is {stated}, its weights are {weights.shape} for {channels} channels"
            )
        taps = np.ascontiguousarray(weights[0].transpose(2, 0, 1))
        stride, padding, dilation = self._window(operator, image, weights.shape[1:3])
        rescale = self._rescale(operator, taps, scales)

        def make(name: str, output: str) -> AnyLayer:
            return DepthwiseConv2D(
                name, (image.name,), output, taps, INT8, rescale, ACCUMULATOR_BITS, stride, padding, dilation
            )

        self._add(operator.outputs[0], make("", "").output_shape(image.shape), make)

    def _fully_connected(self, operator: FileOperator) -> None:
        self._arity(operator, 2, 3)
        source = self._value(operator.inputs[0])
        weights, scales = self._weights(operator.inputs[1], 0)
        if _option(operator, "WeightsFormat"):
            raise _Unusable("its weights are shuffled")
        if weights.ndim != 2 or math.prod(source.shape) % weights.shape[1]:
            raise _Unusable(
                f"its weights are {weights.shape}, its input has {math.prod(source.shape)} elements"
            )
        units, features = weights.shape
        positions = math.prod(source.shape) // features
        if len(scales) == 1:
            self._require_bias_scale(operator, float(scales[0]))
        rescale = self._rescale(operator, weights, scales, real=self._litert)
        if rescale.real is not None and float(rescale.real.max()) >= 2.0**31:
            raise _Unusable("its scales ask for a factor of 2**31 or more")
        kept = _option(operator, "KeepNumDims")
        if kept and source.shape[-1:] != (features,):
            raise _Unusable(f"it keeps the axes of {source.shape}, whose last is not {features}")
        index = operator.outputs[0]
        shape = (*source.shape[:-1], units) if kept else (units,) if positions == 1 else (positions, units)
        if shape == (units,):
            self._add(
                index,
                shape,
                lambda name, output: FullyConnected(
                    name, (source.name,), output, weights, INT8, rescale, ACCUMULATOR_BITS
                ),
            )
            return
        # At each of several positions the same: a convolution of 1x1 along them.
        target = self._declare(index, shape)
        row = self._between(f"{target.name}/row", (positions, 1, features), operator.inputs[0])
        sums = self._between(f"{target.name}/sums", (positions, 1, units), index)
        self._layers.append(Reshape(self._layer_name("/row"), (source.name,), row, (positions, 1, features)))
        kernels = weights.reshape(units, 1, 1, features)
        name = self._layer_name()
        self._layers.append(Conv2D(name, (row,), sums, kernels, INT8, rescale, ACCUMULATOR_BITS))
        self._layers.append(Reshape(self._layer_name("/shape"), (sums,), target.name, shape))
        self._values[index] = target

    def _require_bias_scale(self, operator: FileOperator, scale: float) -> None:
        """Both runtimes refuse a fully connected layer whose bias is on another scale than its products."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return
        stated = self._tensor(operator.inputs[2]).scales
        product, output = self._of(operator.inputs[0])[0] * scale, self._of(operator.outputs[0])[0]
        bias = float(stated[0]) if len(stated) else 0.0
        if not abs(product - bias) / output <= 0.02:
            raise _Unusable(f"its bias has a scale of {bias:.6g}, its products {product:.6g}")

    # Pooling and means.

    def _pool(self, operator: FileOperator) -> None:
        (source,) = self._arity(operator, 1)
        image, index = self._image(source), operator.outputs[0]
        kernel = (_option(operator, "FilterHeight"), _option(operator, "FilterWidth"))
        stride, padding, _ = self._window(operator, image, kernel)
        low, high = self._clamp(_option(operator, "FusedActivationFunction"), index)
        self._require_same(source, index)

        def average(name: str, output: str) -> AnyLayer:
            return AveragePool2D(name, (image.name,), output, kernel, stride, padding, low, high)

        def greatest(name: str, output: str) -> AnyLayer:
            return MaxPool2D(name, (image.name,), output, kernel, stride, padding)

        make = average if operator.op == "AVERAGE_POOL_2D" else greatest
        shape = make("", "").output_shape(image.shape)
        if make is average or (low, high) == (INT8.min, INT8.max):
            self._add(index, shape, make)
            return
        self._declare(index, shape)
        pooled = self._between(f"{self._file.tensors[index].name}/pooled", shape, index)
        self._layers.append(make(self._layer_name("/pool"), pooled))
        self._add(
            index, shape, lambda name, output: Requantize(name, (pooled,), output, _IDENTITY, low, high)
        )

    def _require_same(self, *indices: int) -> None:
        first = self._of(indices[0])
        for index in indices[1:]:
            if self._of(index) != first:
                raise _Unusable("its inputs and outputs differ in scale or zero point")

    def _axes(self, numbers: npt.NDArray[np.int64], value: _Value) -> tuple[int, ...]:
        """Axes as the file counts them, as axes of the shape without the batch."""
        rank = len(value.shape) + value.batched
        axes = []
        for number in numbers.tolist():
            if not -rank <= number < rank:
                raise _Unusable(f"there is no axis {number} of {rank}")
            axis = number % rank - value.batched
            if axis < 0:
                raise _Unusable("it works along the batch")
            axes.append(axis)
        return tuple(sorted(set(axes)))

    def _mean(self, operator: FileOperator) -> None:
        source, axes_index = self._arity(operator, 2)
        value = self._value(source)
        axes = self._axes(self._numbers(axes_index), value)
        if not axes:
            raise _Unusable("it takes the mean over no axis")
        count = math.prod(value.shape[axis] for axis in axes)
        scale = quantized_multiplier(self._of(source)[0] / self._of(operator.outputs[0])[0])
        shift = min(count.bit_length() - 1, 32, 31 + scale.exponent)
        divided = FixedPointScale((scale.multiplier << shift) // count, scale.exponent - shift)
        kept = bool(_option(operator, "KeepDims"))
        shape = tuple(
            1 if axis in axes else extent
            for axis, extent in enumerate(value.shape)
            if kept or axis not in axes
        )
        self._add(
            operator.outputs[0],
            shape,
            lambda name, output: Mean(name, (value.name,), output, axes, kept, divided),
        )

    def _factor(self, a: float, b: float, divisor: float) -> FixedPointScale:
        """``a * b / divisor``, which LiteRT's kernels of single elements take in float32, TFLM's in float64."""
        return quantized_multiplier(_in_float32(a, b, divisor) if self._litert else a * b / divisor)

    # Two operands.

    def _operands(self, operator: FileOperator) -> tuple[tuple[str, str], tuple[int, ...]]:
        indices = self._arity(operator, 2)
        computed = [self._value(index) for index in indices if self._tensor(index).data is None]
        if not computed:
            raise _Unusable("it combines constants alone")
        if self._batch != 1 and len({len(value.shape) for value in computed}) > 1:
            raise _Unusable("its inputs have different numbers of axes, and batches of more than 1")
        if len({value.batched for value in computed}) > 1:
            raise _Unusable("of its inputs one alone has a batch")
        rank = max(len(value.shape) for value in computed)
        first, second = (self._operand(index, rank, computed[0].batched) for index in indices)
        try:
            shape = np.broadcast_shapes(self._tensors[first].shape, self._tensors[second].shape)
        except ValueError:
            raise _Unusable(
                f"its inputs are {self._tensors[first].shape} and {self._tensors[second].shape}"
            ) from None
        return (first, second), shape

    def _sum(self, operator: FileOperator) -> None:
        names, shape = self._operands(operator)
        index = operator.outputs[0]
        scales = [self._of(i)[0] for i in (*operator.inputs, index)]
        a, b, out = scales
        twice = 2 * max(a, b)
        reals = [a / twice, b / twice, twice / ((1 << 20) * out)]
        first, second, total = (quantized_multiplier(real) for real in reals)
        if total.exponent > 0:
            raise _Unusable("its output's scale is so much finer than its inputs' that the runtimes stop")
        low, high = self._clamp(_option(operator, "FusedActivationFunction"), index)
        layer = Add if operator.op == "ADD" else Sub
        self._add(
            index, shape, lambda name, output: layer(name, names, output, first, second, total, low, high)
        )

    def _mul(self, operator: FileOperator) -> None:
        names, shape = self._operands(operator)
        index = operator.outputs[0]
        a, b, out = (self._of(i)[0] for i in (*operator.inputs, index))
        scale = self._factor(a, b, out)
        low, high = self._clamp(_option(operator, "FusedActivationFunction"), index)
        self._add(index, shape, lambda name, output: Mul(name, names, output, scale, low, high))

    # One operand.

    def _requantize(self, operator: FileOperator) -> None:
        """QUANTIZE of int8, RELU and RELU6; a QUANTIZE to uint8 at the network's end is the host's."""
        (source,) = self._arity(operator, 1)
        value, index = self._value(source), operator.outputs[0]
        scale, low, high = self._of(source)[0], INT8.min, INT8.max
        if operator.op == "QUANTIZE":
            target = self._tensor(index)
            if target.type == "UINT8":
                self._require_flip(target, self._tensor(source))
                self._leave(operator, value)
                return
            factor = quantized_multiplier(scale / self._of(index)[0])
        else:
            low, high = self._clamp(1 if operator.op == "RELU" else 3, index)
            factor = self._factor(scale, 1.0, self._of(index)[0])
            if operator.op == "RELU6" and not self._litert:
                if self._of(source) != self._of(index):
                    raise _Unusable("tflm's RELU6 clamps alone: its input and output must have one scale")
                factor = _IDENTITY
        self._add(
            index,
            value.shape,
            lambda name, output: Requantize(name, (value.name,), output, factor, low, high),
        )

    def _dequantize(self, operator: FileOperator) -> None:
        (source,) = self._arity(operator, 1)
        value = self._value(source)
        if self._tensor(operator.outputs[0]).type != "FLOAT32":
            raise _Unusable(f"it writes {self._tensor(operator.outputs[0]).type.lower()}")
        self._leave(operator, value)

    def _leave(self, operator: FileOperator, value: _Value) -> None:
        """The end of the network, where the host takes over: nothing may read on."""
        index = operator.outputs[0]
        readers = [other for other in self._file.operators if index in other.inputs]
        if readers or index not in self._file.outputs:
            raise _Unusable("it is not at the network's end; int8 is supported throughout")
        self._values[index] = value

    def _leaky_relu(self, operator: FileOperator) -> None:
        (source,) = self._arity(operator, 1)
        value, index = self._value(source), operator.outputs[0]
        scale, target = self._of(source)[0], self._of(index)[0]
        alpha = float(_option(operator, "Alpha"))
        if not math.isfinite(alpha):
            raise _Unusable(f"its alpha is {alpha}")
        positive, negative = self._factor(scale, 1.0, target), self._factor(scale, alpha, target)
        self._add(
            index,
            value.shape,
            lambda name, output: LeakyRelu(name, (value.name,), output, positive, negative),
        )

    def _hard_swish(self, operator: FileOperator) -> None:
        (source,) = self._arity(operator, 1)
        value, index = self._value(source), operator.outputs[0]
        raised = self._of(source)[0] / 128
        output, relu = self._factor(raised, 1.0, self._of(index)[0]), self._factor(raised, 1.0, 3 / 32768)
        if not -15 <= output.exponent <= 0 or relu.exponent < -15:
            raise _Unusable("the scales of its input and output are too far apart")
        self._add(
            index,
            value.shape,
            lambda name, written: HardSwish(
                name,
                (value.name,),
                written,
                _int16_multiplier(output.multiplier),
                output.exponent,
                _int16_multiplier(relu.multiplier),
                relu.exponent,
            ),
        )

    def _sigmoidal(self, operator: FileOperator) -> None:
        """LOGISTIC and TANH."""
        (source,) = self._arity(operator, 1)
        value, index = self._value(source), operator.outputs[0]
        wanted = (1 / 256, -128) if operator.op == "LOGISTIC" else (1 / 128, 0)
        if self._of(index) != wanted:
            raise _Unusable(f"its output must have the scale and zero point {wanted}, not {self._of(index)}")
        real = self._of(source)[0]
        if not 2.0**-26 <= real < 2.0**31:
            raise _Unusable(f"its input has a scale of {real:.3g}; 2**-26 to 2**31 is supported")
        # From a scale of 8 on the radius is 0: every input saturates, whatever the multiplier.
        scale = quantized_multiplier(real * 2.0**27) if real < 8 else _IDENTITY
        radius = math.floor(15 * 2.0**27 / 2.0**scale.exponent) if real < 8 else 0
        layer = Logistic if operator.op == "LOGISTIC" else Tanh
        self._add(
            index,
            value.shape,
            lambda name, output: layer(
                name, (value.name,), output, scale, radius, real if self._litert else None
            ),
        )

    def _softmax(self, operator: FileOperator) -> None:
        (source,) = self._arity(operator, 1)
        value, index = self._value(source), operator.outputs[0]
        scale, zero_point = self._of(index)
        off = abs(scale - 1 / 256) > (0.001 / 256 if self._litert else 0)
        if off or zero_point != -128:
            raise _Unusable(
                f"its output must have the scale 1/256 and zero point -128, not {(scale, zero_point)}"
            )
        if not value.shape or value.shape[-1] > SOFTMAX_ELEMENTS:
            raise _Unusable(
                f"its rows are of {value.shape[-1:]} elements; at most {SOFTMAX_ELEMENTS} fit its sum"
            )
        beta = float(_option(operator, "Beta"))
        real = min(beta * self._of(source)[0] * 2.0**26, 2.0**31 - 1)
        if not real > 1:
            raise _Unusable(f"its beta of {beta} and its input's scale are too small")
        # At its greatest, 2**31 - 1, the multiplier takes all 31 bits and the exponent is 31.
        fraction, exponent = math.frexp(real)
        multiplier = math.floor(fraction * 2**31 + 0.5)
        if multiplier == 1 << 31:
            multiplier, exponent = multiplier // 2, exponent + 1
        factor, least = FixedPointScale(multiplier, exponent), -math.floor(31 * 2.0**26 / 2.0**exponent)
        self._add(
            index, value.shape, lambda name, output: Softmax(name, (value.name,), output, factor, least)
        )

    # What moves elements.

    def _pad(self, operator: FileOperator) -> None:
        source, numbers = self._arity(operator, 2)
        value, index = self._value(source), operator.outputs[0]
        pairs = self._numbers(numbers)
        rank = len(value.shape) + value.batched
        if len(pairs) != 2 * rank or bool(np.any(pairs < 0)):
            raise _Unusable(f"its paddings are {pairs.tolist()[:16]} for {rank} axes")
        if value.batched and bool(np.any(pairs[:2])):
            raise _Unusable("it pads the batch")
        self._require_same(source, index)
        inner = pairs[2 * value.batched :].reshape(-1, 2).tolist()
        padding = tuple((int(before), int(after)) for before, after in inner)
        shape = tuple(n + a + b for n, (a, b) in zip(value.shape, padding, strict=True))
        fill = self._of(index)[1]
        self._add(index, shape, lambda name, output: Pad(name, (value.name,), output, padding, fill))

    def _concatenation(self, operator: FileOperator) -> None:
        if not operator.inputs:
            raise _Unusable("it has no inputs")
        index = operator.outputs[0]
        computed = [self._value(i) for i in operator.inputs if self._tensor(i).data is None]
        if not computed:
            raise _Unusable("it combines constants alone")
        if len({(value.batched, len(value.shape)) for value in computed}) > 1:
            raise _Unusable("its inputs differ in their number of axes")
        if _option(operator, "FusedActivationFunction"):
            raise _Unusable("it has a fused activation")
        self._require_same(*operator.inputs, index)
        (axis,) = self._axes(np.array([_option(operator, "Axis")]), computed[0])
        names = tuple(self._operand(i, len(computed[0].shape), computed[0].batched) for i in operator.inputs)

        def make(name: str, output: str) -> AnyLayer:
            return Concatenation(name, names, output, axis)

        try:
            shape = make("", "").output_shape(*(self._tensors[name].shape for name in names))
        except NetworkError:
            shapes = ", ".join(str(self._tensors[name].shape) for name in names)
            raise _Unusable(f"it joins {shapes} along axis {axis}") from None
        self._add(index, shape, make)

    def _reshape(self, operator: FileOperator) -> None:
        """RESHAPE, SQUEEZE and EXPAND_DIMS: the file states what comes out."""
        indices = self._arity(operator, 1, 2)
        value, index = self._value(indices[0]), operator.outputs[0]
        stated = self._tensor(index).shape
        if operator.op == "RESHAPE":
            operand = len(indices) == 2 and indices[1] >= 0
            wanted = self._numbers(indices[1]).tolist() if operand else list(_option(operator, "NewShape"))
            known = math.prod(extent for extent in wanted if extent != -1)
            whole = self._batch * math.prod(value.shape)
            if wanted.count(-1) == 1 and known > 0:
                wanted[wanted.index(-1)] = whole // known
            if tuple(wanted) != stated:
                raise _Unusable(f"its shape is {tuple(wanted)}, its output {stated}")
        else:
            given = self._tensor(indices[0]).shape
            make = self._squeezed if operator.op == "SQUEEZE" else self._expanded
            if make(operator, given) != stated:
                raise _Unusable(f"it makes {make(operator, given)} of {given}, its output is {stated}")
        self._require_same(indices[0], index)
        shape = stated[1:] if stated[:1] == (self._batch,) else stated
        if math.prod(shape) != math.prod(value.shape):
            raise _Unusable(f"it makes {stated} of {self._tensor(indices[0]).shape}")
        self._add(index, shape, lambda name, output: Reshape(name, (value.name,), output, shape))

    def _squeezed(self, operator: FileOperator, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` without the axes of one element that the operator names, without all where it names none."""
        rank, axes = len(shape), _option(operator, "SqueezeDims")
        gone = {axis + rank if axis < 0 else axis for axis in axes}
        if not all(0 <= axis < rank and shape[axis] == 1 for axis in gone):
            raise _Unusable(f"it squeezes axes {axes} of {shape}")
        if not axes:
            gone = {axis for axis in range(rank) if shape[axis] == 1}
        return tuple(extent for axis, extent in enumerate(shape) if axis not in gone)

    def _expanded(self, operator: FileOperator, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with an axis of one element more."""
        if len(operator.inputs) != 2:
            raise _Unusable(f"it has {len(operator.inputs)} inputs")
        numbers = self._numbers(operator.inputs[1]).tolist()
        if len(numbers) != 1 or not -len(shape) - 1 <= numbers[0] <= len(shape):
            raise _Unusable(f"it puts axes at {numbers[:4]} of {shape}")
        axis = numbers[0] + len(shape) + 1 if numbers[0] < 0 else numbers[0]
        return (*shape[:axis], 1, *shape[axis:])

    def _strided_slice(self, operator: FileOperator) -> None:
        source, *parameters = self._arity(operator, 4)
        value, index = self._value(source), operator.outputs[0]
        begins, ends, steps = (self._numbers(i).tolist() for i in parameters)
        full = ((self._batch,) if value.batched else ()) + value.shape
        if not len(begins) == len(ends) == len(steps) <= len(full) or 0 in steps:
            raise _Unusable(f"it slices {len(begins)} axes of {full}, {steps} apart")
        for mask in ("EllipsisMask", "NewAxisMask", "Offset"):
            if _option(operator, mask):
                raise _Unusable(f"its {mask} is set, which is not supported")
        masks = [_option(operator, mask) for mask in ("BeginMask", "EndMask", "ShrinkAxisMask")]
        starts, extents, strides, kept = [], [], [], []
        for axis, size in enumerate(full):
            begin, end, step, shrunk = None, None, 1, False
            if axis < len(begins):
                begin, end, step, shrunk = begins[axis], ends[axis], steps[axis], bool(masks[2] >> axis & 1)
                if shrunk:
                    begin = 0 if masks[0] >> axis & 1 else begin + size if begin < 0 else begin
                    if not 0 <= begin < size or step < 0:
                        raise _Unusable(f"it takes element {begins[axis]} of {size}")
                    end, step = begin + 1, 1
                else:
                    begin = None if masks[0] >> axis & 1 else begin
                    end = None if masks[1] >> axis & 1 else end
            chosen = range(size)[slice(begin, end, step)]
            if not chosen:
                raise _Unusable(f"it leaves nothing of axis {axis}")
            starts.append(chosen[0])
            extents.append(len(chosen))
            strides.append(step)
            kept.append(not shrunk)
        if value.batched:
            if (starts[0], extents[0], strides[0], kept[0]) != (0, self._batch, 1, True):
                raise _Unusable("it slices the batch")
            starts, extents, strides, kept = starts[1:], extents[1:], strides[1:], kept[1:]
        self._require_same(source, index)
        self._slice(
            value, index, starts, extents, strides, [n for n, keep in zip(extents, kept, strict=True) if keep]
        )

    def _slice(
        self,
        value: _Value,
        index: int,
        begin: Sequence[int],
        extent: Sequence[int],
        stride: Sequence[int],
        shape: Sequence[int],
        suffix: str = "",
    ) -> None:
        """A StridedSlice, and a Reshape behind it where axes go."""
        target = self._declare(index, tuple(shape))
        whole = tuple(shape) == tuple(extent)
        cut = target.name if whole else self._between(f"{target.name}/cut", tuple(extent), index)
        name = self._layer_name(suffix if whole else f"{suffix}/cut")
        self._layers.append(
            StridedSlice(name, (value.name,), cut, tuple(begin), tuple(extent), tuple(stride))
        )
        if not whole:
            self._layers.append(Reshape(self._layer_name(suffix), (cut,), target.name, tuple(shape)))
        self._values[index] = target

    def _split(self, operator: FileOperator) -> None:
        axis_index, source = self._arity(operator, 2)
        value, count = self._value(source), len(operator.outputs)
        (axis,) = self._axes(self._numbers(axis_index)[:1], value) or (0,)
        if _option(operator, "NumSplits") != count or axis >= len(value.shape) or value.shape[axis] % count:
            raise _Unusable(f"it makes {count} parts of {value.shape} along axis {axis}")
        self._require_same(source, *operator.outputs)
        extent = [*value.shape[:axis], value.shape[axis] // count, *value.shape[axis + 1 :]]
        for part, index in enumerate(operator.outputs):
            begin = [0] * len(extent)
            begin[axis] = part * extent[axis]
            self._slice(value, index, begin, extent, [1] * len(extent), extent, f"/{part}")

    def _transpose(self, operator: FileOperator) -> None:
        source, order = self._arity(operator, 2)
        value, index = self._value(source), operator.outputs[0]
        permutation = self._numbers(order).tolist()
        rank = len(value.shape) + value.batched
        permutation = [axis + rank if axis < 0 else axis for axis in permutation]
        if sorted(permutation) != list(range(rank)):
            raise _Unusable(f"its permutation is {permutation[:8]} of {rank} axes")
        if value.batched:
            if permutation[0] != 0:
                raise _Unusable("it moves the batch")
            permutation = [axis - 1 for axis in permutation[1:]]
        self._require_same(source, index)
        shape = tuple(value.shape[axis] for axis in permutation)
        self._add(
            index, shape, lambda name, output: Transpose(name, (value.name,), output, tuple(permutation))
        )


_CONVERTERS: dict[str, Callable[[_Importer, FileOperator], None]] = {
    "CONV_2D": _Importer._conv_2d,
    "DEPTHWISE_CONV_2D": _Importer._depthwise_conv_2d,
    "FULLY_CONNECTED": _Importer._fully_connected,
    "AVERAGE_POOL_2D": _Importer._pool,
    "MAX_POOL_2D": _Importer._pool,
    "MEAN": _Importer._mean,
    "ADD": _Importer._sum,
    "SUB": _Importer._sum,
    "MUL": _Importer._mul,
    "QUANTIZE": _Importer._requantize,
    "RELU": _Importer._requantize,
    "RELU6": _Importer._requantize,
    "DEQUANTIZE": _Importer._dequantize,
    "LEAKY_RELU": _Importer._leaky_relu,
    "HARD_SWISH": _Importer._hard_swish,
    "LOGISTIC": _Importer._sigmoidal,
    "TANH": _Importer._sigmoidal,
    "SOFTMAX": _Importer._softmax,
    "PAD": _Importer._pad,
    "CONCATENATION": _Importer._concatenation,
    "RESHAPE": _Importer._reshape,
    "SQUEEZE": _Importer._reshape,
    "EXPAND_DIMS": _Importer._reshape,
    "STRIDED_SLICE": _Importer._strided_slice,
    "SPLIT": _Importer._split,
    "TRANSPOSE": _Importer._transpose,
}


def _option(operator: FileOperator, name: str) -> Any:
    return (operator.options or {})[name]


def _parameters(tensor: FileTensor, low: int = INT8.min, high: int = INT8.max) -> tuple[float, int]:
    """Scale and zero point of a tensor that has one of each, or why it has not."""
    if not len(tensor.scales):
        raise _Unusable(f"{tensor.name} has no scale; quantize the whole network to int8")
    if len(tensor.scales) != 1:
        raise _Unusable(f"{tensor.name} has {len(tensor.scales)} scales, not one")
    scale = float(tensor.scales[0])
    if not (math.isfinite(scale) and scale >= float(np.finfo(np.float32).tiny)):
        raise _Unusable(f"{tensor.name} has a scale of {scale}, not a positive number")
    zero_point = int(tensor.zero_points[0])
    if not low <= zero_point <= high:
        raise _Unusable(f"{tensor.name} has a zero point of {zero_point}, outside {low}...{high}")
    return scale, zero_point


def _in_float32(a: float, b: float, divisor: float) -> float:
    """``a * b / divisor`` as float32 computes it."""
    with np.errstate(over="ignore"):
        result = float(np.float32(a) * np.float32(b) / np.float32(divisor))
    if not math.isfinite(result):
        raise _Unusable("its scales leave the range of float32")
    return result


def _rounded_quotient(real: float, scale: float) -> int:
    """``real / scale`` in float32, rounded half away from zero."""
    with np.errstate(over="ignore"):
        quotient = float(np.float32(real) / np.float32(scale))
    if abs(quotient) > 2**31:
        raise _Unusable(f"{real} is {quotient:.3g} steps of its output's scale")
    return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))


def _int16_multiplier(multiplier: int) -> int:
    """31 bits rounded to 15; the greatest saturate."""
    if multiplier >= 2**31 - 1 - (1 << 15):
        return 2**15 - 1
    return (multiplier + (1 << 15)) >> 16
