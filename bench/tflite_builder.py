"""Writes .tflite files for tests and measurements: what a converter writes, and what none would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

TYPES: dict[str, int] = {
    name: getattr(tflite.TensorType, name.upper())
    for name in ("int8", "uint8", "int16", "int32", "int64", "float32")
}
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID

# Of each operator its options' table: the kind of each field, in the schema's order.
_PADDED_STRIDES = ("byte", "int", "int")
OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", (*_PADDED_STRIDES, "byte", "int", "int")),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_PADDED_STRIDES, "int", "byte", "int", "int")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("byte", "byte", "bool")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_PADDED_STRIDES, "int", "int", "byte")),
    "MAX_POOL_2D": ("Pool2DOptions", (*_PADDED_STRIDES, "int", "int", "byte")),
    "ADD": ("AddOptions", ("byte",)),
    "SUB": ("SubOptions", ("byte",)),
    "MUL": ("MulOptions", ("byte",)),
    "MEAN": ("ReducerOptions", ("bool",)),
    "SOFTMAX": ("SoftmaxOptions", ("float",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("float",)),
    "CONCATENATION": ("ConcatenationOptions", ("int", "byte")),
    "RESHAPE": ("ReshapeOptions", ("ints",)),
    "SQUEEZE": ("SqueezeOptions", ("ints",)),
    "STRIDED_SLICE": ("StridedSliceOptions", ("int", "int", "int", "int", "int")),
    "SPLIT": ("SplitOptions", ("int",)),
    "EXPAND_DIMS": ("ExpandDimsOptions", ()),
    "TRANSPOSE": ("TransposeOptions", ()),
    "PAD": ("PadOptions", ()),
    "HARD_SWISH": ("HardSwishOptions", ()),
    "QUANTIZE": ("QuantizeOptions", ()),
    "DEQUANTIZE": ("DequantizeOptions", ()),
    "PACK": ("PackOptions", ("int", "int")),
}


@dataclass
class _Tensor:
    name: str | bytes
    shape: Sequence[int]
    kind: int
    scales: Sequence[float] | None
    zero_points: Sequence[int]
    dimension: int
    data: npt.NDArray | None
    signature: Sequence[int] | None


@dataclass
class Builder:
    """One subgraph, built tensor by tensor and operator by operator; `bytes` is the file."""

    tensors: list[_Tensor] = field(default_factory=list)
    operators: list[tuple[str, Sequence[int], Sequence[int], Sequence[Any] | None]] = field(
        default_factory=list
    )
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    deprecated_codes: bool = True
    """Whether an operator's number is in the old field too, a byte."""

    def tensor(
        self,
        shape: Sequence[int],
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        *,
        dtype: npt.DTypeLike = np.int8,
        dimension: int = 0,
        data: npt.NDArray | None = None,
        name: str | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        scales = None if scale is None else [float(s) for s in np.atleast_1d(np.asarray(scale, np.float64))]
        zero_points = [int(z) for z in np.atleast_1d(zero_point)]
        if scales is not None and len(zero_points) == 1:
            zero_points *= len(scales)
        kind = TYPES[np.dtype(dtype).name]
        name = f"t{len(self.tensors)}" if name is None else name
        self.tensors.append(_Tensor(name, shape, kind, scales, zero_points, dimension, data, signature))
        return len(self.tensors) - 1

    def input(self, shape: Sequence[int], *arguments: Any, **keywords: Any) -> int:
        index = self.tensor(shape, *arguments, **keywords)
        self.inputs.append(index)
        return index

    def constant(self, data: npt.NDArray, *arguments: Any, **keywords: Any) -> int:
        return self.tensor(data.shape, *arguments, dtype=data.dtype, data=data, **keywords)

    def operator(
        self, op: str, inputs: Sequence[int], outputs: Sequence[int], options: Sequence[Any] | None = None
    ) -> None:
        self.operators.append((op, inputs, outputs, options))

    def bytes(self) -> bytes:
        b = flatbuffers.Builder(4096)
        codes = list(dict.fromkeys(op for op, *_ in self.operators))
        buffers = [_table(b, [])]
        tensors = [_tensor_table(b, tensor, buffers) for tensor in self.tensors]
        operators = []
        for op, inputs, outputs, options in self.operators:
            fields = [("uint", codes.index(op)), ("offset", _ints(b, inputs)), ("offset", _ints(b, outputs))]
            if options is not None:
                kind, kinds = OPTIONS[op]
                values = [
                    ("offset", _ints(b, value)) if what == "ints" else (what, value)
                    for what, value in zip(kinds, options, strict=False)
                ]
                fields += [("byte", getattr(tflite.BuiltinOptions, kind)), ("offset", _table(b, values))]
            operators.append(_table(b, fields))
        subgraph = [_tables(b, tensors), _ints(b, self.inputs), _ints(b, self.outputs), _tables(b, operators)]
        graphs = _tables(b, [_table(b, [("offset", part) for part in subgraph])])
        numbers = [getattr(tflite.BuiltinOperator, op) for op in codes]
        versions = {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}
        # Those without a version for int8.
        versions |= dict.fromkeys(("EXPAND_DIMS", "HARD_SWISH", "RESHAPE", "SHAPE", "SQUEEZE"), 1)
        codes_table = _tables(
            b,
            [
                _table(
                    b,
                    [
                        ("byte", min(number, 127)) if self.deprecated_codes else None,
                        None,
                        ("int", versions.get(op, 2)),
                        ("int", number),
                    ],
                )
                for op, number in zip(codes, numbers, strict=True)
            ],
        )
        buffer_table = _tables(b, buffers)
        model = [("uint", 3), ("offset", codes_table), ("offset", graphs), None, ("offset", buffer_table)]
        b.Finish(_table(b, model), file_identifier=b"TFL3")
        return bytes(b.Output())


def _tensor_table(b: flatbuffers.Builder, tensor: _Tensor, buffers: list[int]) -> int:
    """A tensor's table; what it holds is one more of `buffers`."""
    slot = 0
    if tensor.data is not None:
        slot = len(buffers)
        data = b.CreateNumpyVector(np.frombuffer(tensor.data.tobytes(), np.uint8))
        buffers.append(_table(b, [("offset", data)]))
    quantization = None
    if tensor.scales is not None:
        scales = b.CreateNumpyVector(np.array(tensor.scales, np.float32))
        zeros = b.CreateNumpyVector(np.array(tensor.zero_points, np.int64))
        dimension = ("int", tensor.dimension)
        fields = [None, None, ("offset", scales), ("offset", zeros), None, None, dimension]
        quantization = ("offset", _table(b, fields))
    signature = None if tensor.signature is None else ("offset", _ints(b, tensor.signature))
    shape, name = ("offset", _ints(b, tensor.shape)), ("offset", b.CreateString(tensor.name))
    fields = [shape, ("byte", tensor.kind), ("uint", slot), name, quantization, None, None, signature]
    return _table(b, fields)


def _table(b: flatbuffers.Builder, fields: Sequence[tuple[str, Any] | None]) -> int:
    prepend = {
        "offset": b.PrependUOffsetTRelativeSlot,
        "byte": b.PrependInt8Slot,
        "bool": b.PrependBoolSlot,
        "int": b.PrependInt32Slot,
        "uint": b.PrependUint32Slot,
        "float": b.PrependFloat32Slot,
    }
    b.StartObject(len(fields))
    for slot, entry in enumerate(fields):
        if entry is not None:
            # No default of the schema's is left out: a field that is there reads the same whatever the default.
            b.ForceDefaults(True)
            prepend[entry[0]](slot, entry[1], 0)
    return b.EndObject()


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return b.CreateNumpyVector(np.array(values, np.int32))


def _tables(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
