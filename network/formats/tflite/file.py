"""What a .tflite file says, as plain values: tensors, operators, their options. What it means is for the others.

Ref: TensorFlow Lite's schema, version 3; the `tflite` package's accessors
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from intaglio.network.errors import NetworkError
from intaglio.network.formats.tflite.flatbuffer import DamagedError, Table, Vector, verify
from intaglio.network.importing.limits import MAX_AXES, MAX_ELEMENTS
from intaglio.network.importing.naming import Names, printable

_NUMBERS = Vector(4)
_QUANTIZATION = Table({2: _NUMBERS, 3: Vector(8), 6: 4})
_TENSOR = Table({0: _NUMBERS, 1: 1, 2: 4, 3: Vector(1), 4: _QUANTIZATION, 5: 1, 6: Table(), 7: _NUMBERS})
_OPERATOR = Table({0: 4, 1: _NUMBERS, 2: _NUMBERS, 3: 1, 4: Table()})
_SUBGRAPH = Table({0: Vector(_TENSOR), 1: _NUMBERS, 2: _NUMBERS, 3: Vector(_OPERATOR)})
_BUILTIN_CODE_SLOT = 3
_CODE = Table({0: 1, 1: Vector(1), 2: 4, 3: 4})
_MODEL = Table({0: 4, 1: Vector(_CODE), 2: Vector(_SUBGRAPH), 4: Vector(Table({0: Vector(1)}))})

_TYPES = {number: name for name, number in vars(tflite.TensorType).items() if isinstance(number, int)}
_OPERATORS = {
    number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)
}
_DTYPES = {"INT8": "<i1", "UINT8": "<u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FLOAT32": "<f4"}


@dataclass(frozen=True)
class FileTensor:
    """One tensor, its shape with the batch. `data` is None where it is computed."""

    name: str
    shape: tuple[int, ...]
    type: str
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    dimension: int
    data: npt.NDArray[Any] | None
    dynamic: tuple[bool, ...]
    odd: str
    """Why it cannot be used, where that is so."""


@dataclass(frozen=True)
class FileOperator:
    """One operator; an input of -1 is absent."""

    index: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] | None
    """Those that count, by name; None where the file has none and should."""

    def option(self, name: str) -> Any:
        """A number, or a tuple of them."""
        return (self.options or {})[name]


@dataclass(frozen=True)
class File:
    """All of it; tensors are referred to by their index."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def readers(self, index: int) -> list[FileOperator]:
        """The operators that read the tensor `index`."""
        return [operator for operator in self.operators if index in operator.inputs]


_PADDED = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATED = (*_PADDED, "DilationHFactor", "DilationWFactor")
_POOL = ("Pool2DOptions", (*_PADDED, "FilterHeight", "FilterWidth"))
# Of each operator, its options' table and the fields of it that count.
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _DILATED),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_DILATED, "DepthMultiplier")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims")),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "SPLIT": ("SplitOptions", ("NumSplits",)),
    "RESHAPE": ("ReshapeOptions", ("NewShape",)),
    "SQUEEZE": ("SqueezeOptions", ("SqueezeDims",)),
    "PACK": ("PackOptions", ("Axis", "ValuesCount")),
}
_VECTORS = ("NewShape", "SqueezeDims")


def recognised(content: bytes) -> bool:
    """Whether `content` has the mark of a .tflite file."""
    return content[4:8] == b"TFL3"


def read(content: bytes, where: str) -> File:
    """What `content` says.

    Raises
    ------
    NetworkError
        One line, `where` first, where it is damaged.
    """
    try:
        verify(content, _MODEL)
        return _read(tflite.Model.GetRootAs(content, 0), len(content))
    except DamagedError as error:
        raise NetworkError(f"{where}: the file is damaged or cut short: {error}; export it again") from error
    except NetworkError as error:
        raise NetworkError(f"{where}: {error}") from error
    except Exception as error:  # whatever else the accessors raise on bytes that pass for a flatbuffer
        raise NetworkError(
            f"{where}: the file is damaged ({type(error).__name__}); export it again"
        ) from error


def _read(model: Any, size: int) -> File:
    if model.Version() != 3:
        raise NetworkError(f"version {model.Version()} of the format; version 3 is known")
    if model.SubgraphsLength() != 1:
        raise NetworkError(
            f"{model.SubgraphsLength()} subgraphs; give a network of one, without control flow"
        )
    graph = model.Subgraphs(0)
    names = Names()
    tensors = tuple(_tensor(model, graph.Tensors(i), i, names, size) for i in range(graph.TensorsLength()))
    operators = tuple(_operator(model, graph.Operators(i), i) for i in range(graph.OperatorsLength()))
    inputs, outputs = (
        _integers(graph.Inputs, graph.InputsLength()),
        _integers(graph.Outputs, graph.OutputsLength()),
    )
    for what, used, lowest in [
        ("the network's inputs", inputs, 0),
        ("the network's outputs", outputs, 0),
        *((f"operator {o.index} {o.op}", o.inputs, -1) for o in operators),
        *((f"operator {o.index} {o.op}", o.outputs, 0) for o in operators),
    ]:
        for index in used:
            if not lowest <= index < len(tensors):
                raise DamagedError(f"{what}: there is no tensor {index}")
    return File(tensors, operators, inputs, outputs)


def _integers(get: Callable[[int], Any], count: int) -> tuple[int, ...]:
    return tuple(int(get(i)) for i in range(count))


def _text(content: bytes | None) -> str:
    return printable((content or b"").decode("utf-8", "replace"))


def _tensor(model: Any, tensor: Any, index: int, names: Names, size: int) -> FileTensor:
    """Tensor `index` of a file of `size` bytes, beside those called `names`."""
    name = names.take(_text(tensor.Name()) or f"tensor{index}", index)
    shape = _integers(tensor.Shape, tensor.ShapeLength())
    signature = _integers(tensor.ShapeSignature, tensor.ShapeSignatureLength())
    kind = _TYPES.get(tensor.Type(), f"type {tensor.Type()}")
    odd = ""
    elements = 1
    for extent in shape:
        elements *= max(extent, 0)
    if len(shape) > MAX_AXES or min(shape, default=1) < 1:
        odd = f"its shape is {shape if len(shape) <= MAX_AXES else f'of {len(shape)} axes'}"
    elif elements > MAX_ELEMENTS and elements > size:
        odd = f"its shape is {shape}, beyond {MAX_ELEMENTS} elements"
    elif signature and len(signature) != len(shape):
        odd = f"its shape is {shape}, its signature {signature}"
    elif tensor.IsVariable():
        odd = "it is a variable, and keeps a state"
    elif tensor.Sparsity() is not None:
        odd = "it is sparse"

    if not 0 <= tensor.Buffer() < model.BuffersLength():
        raise DamagedError(f"tensor {name}: there is no buffer {tensor.Buffer()}")
    data = None
    buffer = model.Buffers(tensor.Buffer())
    if buffer.DataLength() and not odd:
        if kind not in _DTYPES:
            odd = f"it is of {kind}"
        elif buffer.DataLength() != elements * np.dtype(_DTYPES[kind]).itemsize:
            odd = f"its shape is {shape} of {kind}, its data {buffer.DataLength()} bytes"
        else:
            data = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[kind]).reshape(shape)

    scales, zero_points, dimension = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    quantization = tensor.Quantization()
    if quantization is not None:
        if quantization.ScaleLength():
            scales = np.array(quantization.ScaleAsNumpy(), np.float32)
        if quantization.ZeroPointLength():
            zero_points = np.array(quantization.ZeroPointAsNumpy(), np.int64)
        dimension = quantization.QuantizedDimension()
    if len(scales) != len(zero_points) and not odd:
        odd = f"it has {len(scales)} scales and {len(zero_points)} zero points"
    dynamic = tuple(extent < 0 for extent in signature) or (False,) * len(shape)
    return FileTensor(name, shape, kind, scales, zero_points, dimension, data, dynamic, odd)


def _operator(model: Any, operator: Any, index: int) -> FileOperator:
    if not operator.OpcodeIndex() < model.OperatorCodesLength():
        raise DamagedError(
            f"operator {index} is of kind {operator.OpcodeIndex()}, which the file does not define"
        )
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Files older than the 128th operator have their number in the deprecated field alone; newer ones in both, or, from
    # some writers, in the new one alone, which the package's accessor then does not look at.
    number = max(_int32(code, _BUILTIN_CODE_SLOT), code.DeprecatedBuiltinCode())
    op = _OPERATORS.get(number, f"operator number {number}")
    if op == "CUSTOM":
        op = f"custom operator {_text(code.CustomCode())!r}"
    return FileOperator(
        index,
        op,
        _integers(operator.Inputs, operator.InputsLength()),
        _integers(operator.Outputs, operator.OutputsLength()),
        _options(op, operator),
    )


def _int32(table: Any, slot: int) -> int:
    """A field of a table by its place in the schema; 0 where it is absent. `verify` has seen that it is inside."""
    content, at = table._tab.Bytes, table._tab.Pos
    vtable = at - struct.unpack_from("<i", content, at)[0]
    entry = 4 + 2 * slot
    if entry >= struct.unpack_from("<H", content, vtable)[0]:
        return 0
    place = struct.unpack_from("<H", content, vtable + entry)[0]
    return int(struct.unpack_from("<i", content, at + place)[0]) if place else 0


def _options(op: str, operator: Any) -> Mapping[str, Any] | None:
    if op not in _OPTIONS:
        return {}
    kind, fields = _OPTIONS[op]
    table = operator.BuiltinOptions()
    if table is None or operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
        # Its shape may be an operand instead.
        return {"NewShape": ()} if op == "RESHAPE" else None
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    return {name: _option(options, name) for name in fields}


def _option(options: Any, name: str) -> Any:
    """The field `name`: a number, or where it is a vector, a tuple of them."""
    if name not in _VECTORS:
        return getattr(options, name)()
    count = getattr(options, f"{name}Length")()
    if count > MAX_AXES:
        raise DamagedError(f"an operator's {name} has {count} elements")
    return _integers(getattr(options, name), count)
