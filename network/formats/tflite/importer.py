"""A .tflite file as a network: its edges, its operators in order, and one message of all that is refused.

Zero points are folded into biases [jacob2017: eq. 7], so that sums are of plain int8 products; real scales become a
multiplier and an exponent as each runtime makes them, some in float64, some in float32 (docs/arithmetic.md has which).
QUANTIZE and DEQUANTIZE between float and int8 at the very edges are the host's. The batch, the first axis of every
tensor in the file, is left out; an operator that would mix inferences is refused.

Ref: Jacob et al., 2017 [jacob2017]
"""

from __future__ import annotations

import numpy as np

from intaglio.network.errors import NetworkError
from intaglio.network.formats.tflite.context import Context, quantization
from intaglio.network.formats.tflite.file import File, FileOperator
from intaglio.network.formats.tflite.supported import SUPPORTED
from intaglio.network.graph import Network, TensorType
from intaglio.network.importing.edges import quantizer_of, require_same_meaning
from intaglio.network.importing.folding import fold_slice
from intaglio.network.importing.refusals import Refusal, Refusals

FORMAT = "TensorFlow Lite"
RUNTIMES = ("litert", "tflm")

_UINT8 = TensorType(8, signed=False)
_SHAPE_OPERATORS = ("SHAPE", "PACK", "STRIDED_SLICE", "CONCATENATION")


def import_file(file: File, runtime: str, name: str) -> Network:
    """The network `name` of `file`, with the arithmetic of `runtime`.

    Raises
    ------
    NetworkError
        One line of everything that is refused and why.
    """
    return _Importer(file, runtime).network(name)


class _Importer:
    def __init__(self, file: File, runtime: str) -> None:
        self._file = file
        self._context = Context(file, runtime)
        self._refusals = Refusals()
        self._lost: set[int] = set()
        """Outputs of operators that were refused: what reads them is not refused again."""

    def network(self, name: str) -> Network:
        inputs, edges = self._inputs()
        for operator in self._file.operators:
            if operator.index in edges:
                continue
            self._context.begin(operator)
            try:
                self._convert(operator)
            except Refusal as why:
                self._refusals.add(self._title(operator), why)
                self._lost.update(operator.outputs)
        outputs = self._outputs()
        self._refusals.raise_if_any()
        if not outputs:
            raise NetworkError("the network has no outputs")
        return self._context.builder.network(name, inputs, outputs, FORMAT)

    def _title(self, operator: FileOperator) -> str:
        outputs = [self._file.tensors[index].name for index in operator.outputs[:1]]
        return f"operator {operator.index} {operator.op}" + "".join(f" ({name})" for name in outputs)

    # The edges.

    def _inputs(self) -> tuple[list[str], set[int]]:
        """The network's inputs, and the operators at its edge that are the host's, by their index."""
        tensors, context = self._file.tensors, self._context
        if not self._file.inputs:
            self._refusals.add("", "the network has no inputs")
        batches = {tensors[i].shape[:1] for i in self._file.inputs}
        if len(batches) > 1 or batches == {()}:
            self._refusals.add("", f"its inputs' first axes, the batch, differ: {sorted(batches)}")
        elif batches:
            (context.batch,) = next(iter(batches))
        inputs: list[str] = []
        edges: set[int] = set()
        for index in dict.fromkeys(self._file.inputs):
            try:
                inside, operators = self._behind_quantizer(index)
                edges |= operators
                context.values[inside] = context.declare(inside, tensors[inside].shape[1:])
                inputs.append(context.values[inside].name)
            except Refusal as why:
                self._refusals.add(f"input {tensors[index].name}", why)
                self._lost.add(index)
        return inputs, edges

    def _behind_quantizer(self, index: int) -> tuple[int, set[int]]:
        """The integer tensor that an input of the file becomes, and the operator that makes it, by its index."""
        tensor = self._file.tensors[index]
        if tensor.type == "INT8":
            return index, set()
        if tensor.type not in ("FLOAT32", "UINT8"):
            raise Refusal(f"it is {tensor.type.lower()}; int8 networks are supported")
        quantizer = quantizer_of(self._file.readers(index), "QUANTIZE", tensor.type.lower())
        inside = self._file.tensors[quantizer.outputs[0]]
        if inside.type != "INT8":
            raise Refusal(f"it is quantized to {inside.type.lower()}; int8 networks are supported")
        if tensor.type == "UINT8":
            meanings = quantization(tensor, _UINT8), quantization(inside)
            require_same_meaning(*meanings, (tensor.name, inside.name))
        if inside.shape != tensor.shape:
            raise Refusal(f"its shape is {tensor.shape}, that of {inside.name} behind it {inside.shape}")
        return quantizer.outputs[0], {quantizer.index}

    def _outputs(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for index in self._file.outputs:
            if index in self._lost:
                continue
            if index not in self._context.values:
                self._refusals.add(f"output {self._file.tensors[index].name}", "nothing computes it")
            else:
                names[self._context.values[index].name] = None
        return tuple(names)

    # Operators.

    def _convert(self, operator: FileOperator) -> None:
        context = self._context
        if operator.op in _SHAPE_OPERATORS and self._fold(operator):
            return
        supported = SUPPORTED.get(operator.op)
        if supported is None:
            raise Refusal("it is not supported")
        if self._lost.intersection(operator.inputs):
            self._lost.update(operator.outputs)
            return
        if operator.options is None:
            raise Refusal("its options are missing; export the file again")
        if not operator.outputs or (len(operator.outputs) > 1 and not supported.several_outputs):
            raise Refusal(f"it has {len(operator.outputs)} outputs")
        for index in operator.outputs:
            tensor = self._file.tensors[index]
            if index in context.values or index in context.folded or tensor.data is not None:
                raise Refusal(f"its output {tensor.name} is already written")
        operands = supported.read(context, operator.inputs)
        for constraint in supported.constraints:
            constraint(context, operator)
        supported.convert(context, operator, *operands)

    def _fold(self, operator: FileOperator) -> bool:
        """Whether it is arithmetic on shapes, which is done here: all are static, but for the batch, the file's."""
        context, folded = self._context, self._context.folded
        one = len(operator.inputs) == len(operator.outputs) == 1
        if operator.op == "SHAPE" and one and operator.inputs[0] in {*context.values, *self._lost}:
            folded[operator.outputs[0]] = np.array(self._file.tensors[operator.inputs[0]].shape, np.int64)
            return True
        if operator.op == "SHAPE" or not operator.inputs or len(operator.outputs) != 1:
            return False
        if not any(index in folded for index in operator.inputs) or operator.options is None:
            return False
        numbers = [context.numbers(index) for index in operator.inputs]
        if operator.op in ("PACK", "CONCATENATION"):
            folded[operator.outputs[0]] = np.concatenate(numbers)
            return True
        one_axis = (
            operator.op == "STRIDED_SLICE" and len(numbers) == 4 and all(len(n) == 1 for n in numbers[1:])
        )
        if not one_axis or operator.option("EllipsisMask") or operator.option("NewAxisMask"):
            return False
        begin, end, step = (int(number[0]) for number in numbers[1:])
        if not step:
            return False
        shrinks = bool(operator.option("ShrinkAxisMask") & 1)
        first = None if operator.option("BeginMask") & 1 and not shrinks else begin
        last = None if operator.option("EndMask") & 1 else end
        folded[operator.outputs[0]] = fold_slice(numbers[0], first, last, step, shrinks)
        return True
