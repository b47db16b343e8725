"""A file while its operators become layers: what they may ask of its tensors, and how they add to the graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.network.formats.tflite.file import File, FileOperator, FileTensor
from intaglio.network.graph import AnyLayer, FixedPointScale, Tensor, TensorType
from intaglio.network.importing.builder import GraphBuilder, Value
from intaglio.network.importing.folding import constant_shape
from intaglio.network.importing.refusals import Refusal
from intaglio.network.importing.scales import clamp_range, in_float32, quantized_multiplier

INT8 = TensorType(8, signed=True)
ACCUMULATOR_BITS = 32
"""Both runtimes sum in int32, and wrap."""

_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    0: (None, None),  # NONE
    1: (0.0, None),  # RELU
    2: (-1.0, 1.0),  # RELU_N1_TO_1
    3: (0.0, 6.0),  # RELU6
}
RELU, RELU6 = 1, 3


class Context:
    """The tensors of `file` as far as they are computed, and the layers that compute them.

    Attributes
    ----------
    file : the file
    litert : it means what LiteRT makes of it; else what TFLM does
    batch : the first axis of the network's inputs
    builder : the graph so far
    values : the tensors that are computed so far, by their index in the file
    folded : shapes that the file computes from static shapes, and which are constants, by their index
    """

    def __init__(self, file: File, runtime: str) -> None:
        self.file = file
        self.litert = runtime == "litert"
        self.batch = 1
        self.builder = GraphBuilder([tensor.name for tensor in file.tensors])
        self.values: dict[int, Value] = {}
        self.folded: dict[int, npt.NDArray[Any]] = {}
        self._operator: FileOperator | None = None

    def begin(self, operator: FileOperator) -> None:
        """The layers to come are those of `operator`."""
        self._operator = operator

    # What the file has.

    def tensor(self, index: int) -> FileTensor:
        if index < 0:
            raise Refusal("an input is missing")
        tensor = self.file.tensors[index]
        if tensor.odd:
            raise Refusal(f"{tensor.name}: {tensor.odd}")
        return tensor

    def value(self, index: int) -> Value:
        """A tensor that is computed before the operator."""
        tensor = self.tensor(index)
        if index not in self.values:
            what = "a constant" if tensor.data is not None else "not computed before it"
            raise Refusal(f"its input {tensor.name} is {what}")
        return self.values[index]

    def numbers(self, index: int) -> npt.NDArray[np.int64]:
        """The integers of a constant that says how, not what: axes, shapes, paddings; flat."""
        if index in self.folded:
            return self.folded[index].astype(np.int64).reshape(-1)
        tensor = self.tensor(index)
        if tensor.data is None or tensor.type not in ("INT32", "INT64"):
            raise Refusal(f"{tensor.name} must be a constant of integers")
        return tensor.data.astype(np.int64).reshape(-1)

    def quantization(self, index: int) -> tuple[float, int]:
        """Scale and zero point of an int8 tensor that has one of each."""
        tensor = self.tensor(index)
        if tensor.type != "INT8":
            raise Refusal(f"{tensor.name} is {tensor.type.lower()}; int8 is supported")
        return quantization(tensor)

    def clamp(self, activation: int, index: int) -> tuple[int, int]:
        """The range of the fused activation of that number, on the scale of the output `index`."""
        if activation not in _ACTIVATIONS:
            raise Refusal(f"its fused activation, number {activation}, is not supported")
        return clamp_range(*_ACTIVATIONS[activation], *self.quantization(index), INT8)

    def factor(self, a: float, b: float, divisor: float) -> FixedPointScale:
        """``a * b / divisor``, which LiteRT's kernels of single elements take in float32, TFLM's in float64."""
        return quantized_multiplier(in_float32(a, b, divisor) if self.litert else a * b / divisor)

    # What the graph gets.

    def operand(self, index: int, rank: int, batched: bool) -> str:
        """The name of a tensor that may be a constant, then of as many axes beside the batch at most as the other."""
        tensor = self.tensor(index)
        if tensor.data is None:
            return self.value(index).name
        if not self.builder.is_constant(tensor.name):
            scale, zero_point = self.quantization(index)
            shape = constant_shape(tensor.shape, rank, batched, tensor.name)
            constant = Tensor(tensor.name, shape, INT8, scale, zero_point)
            self.builder.constant(constant, tensor.data.reshape(shape).astype(np.int64))
        return tensor.name

    def declare(self, index: int, shape: tuple[int, ...]) -> Value:
        """A computed tensor of the file, which must state `shape`, with the batch before it or without."""
        tensor = self.tensor(index)
        if any(tensor.dynamic[1:]) or (any(tensor.dynamic) and tensor.shape[:1] != (self.batch,)):
            raise Refusal(f"the shape of {tensor.name} is unknown beyond its batch")
        batched = tensor.shape == (self.batch, *shape)
        if not batched and not (self.batch == 1 and tensor.shape == shape):
            raise Refusal(f"{tensor.name} is stated as {tensor.shape}, computed as {(self.batch, *shape)}")
        scale, zero_point = self.quantization(index)
        self.builder.tensor(Tensor(tensor.name, shape, INT8, scale, zero_point))
        return Value(tensor.name, shape, batched)

    def between(self, name: str, shape: tuple[int, ...], index: int) -> str:
        """A tensor that the file does not have, with the scale and zero point of one that it has."""
        scale, zero_point = self.quantization(index)
        return self.builder.between(Tensor(name, shape, INT8, scale, zero_point))

    def add(self, index: int, shape: tuple[int, ...], make: Callable[[str, str], AnyLayer]) -> None:
        """The layer that `make`, given its own name and its output's, writes the file's tensor `index` with."""
        value = self.declare(index, shape)
        self.layer(make(self.layer_name(), value.name))
        self.values[index] = value

    def layer(self, layer: AnyLayer) -> None:
        self.builder.layer(layer)

    def layer_name(self, suffix: str = "") -> str:
        operator = self._operator
        if operator is None:
            raise ValueError("a layer is made of an operator")
        return f"{operator.op.lower()}_{operator.index}{suffix}"

    def leave(self, operator: FileOperator) -> None:
        """The end of the network, where the host takes over: nothing may read on."""
        index = operator.outputs[0]
        if self.file.readers(index) or index not in self.file.outputs:
            raise Refusal("it is not at the network's end; between its ends a network must be int8")
        self.values[index] = self.values[operator.inputs[0]]


def quantization(tensor: FileTensor, kind: TensorType = INT8) -> tuple[float, int]:
    """Scale and zero point of a tensor of type `kind` that has one of each, or a Refusal."""
    if not len(tensor.scales):
        raise Refusal(f"{tensor.name} has no scale; quantize the whole network to int8")
    if len(tensor.scales) != 1:
        raise Refusal(f"{tensor.name} has {len(tensor.scales)} scales, not one")
    scale = float(tensor.scales[0])
    if not (math.isfinite(scale) and scale >= float(np.finfo(np.float32).tiny)):
        raise Refusal(f"{tensor.name} has a scale of {scale}, not a positive number")
    zero_point = int(tensor.zero_points[0])
    if not kind.min <= zero_point <= kind.max:
        raise Refusal(f"{tensor.name} has a zero point of {zero_point}, outside {kind.min}...{kind.max}")
    return scale, zero_point
