"""The operators that are supported: what makes layers of each, how its operands are read, what else it must be like.

A new operator is a row here, and a function in the file of its family in `operators`. What must hold of every operator
is in `importer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from intaglio.network.formats.tflite import constraints as must
from intaglio.network.formats.tflite.context import Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.formats.tflite.operands import (
    bias,
    depthwise_weights,
    image,
    numbers,
    value,
    value_or_constant,
    weights,
)
from intaglio.network.formats.tflite.operators import arithmetic, functions, movement, windows
from intaglio.network.formats.tflite.operators import weights as products
from intaglio.network.importing.refusals import Refusal

Reader = Callable[[Context, int], Any]
Constraint = Callable[[Context, FileOperator], None]


@dataclass(frozen=True)
class Supported:
    """One operator.

    Attributes
    ----------
    convert : makes its layers of the context, the operator, and its operands as they were read
    operands : how each is read; a reader's docstring says what the operand must be
    constraints : what else must hold, once the operands are read; a constraint's docstring says it
    least : operands that must be there, all unless said; None is read of one that is absent
    repeated : the last reader reads any number of operands
    several_outputs : it may write more than one tensor
    """

    convert: Callable[..., None]
    operands: tuple[Reader, ...]
    constraints: tuple[Constraint, ...] = ()
    least: int | None = None
    repeated: bool = False
    several_outputs: bool = False

    def read(self, context: Context, inputs: tuple[int, ...]) -> list[Any]:
        """The operands of these indices, or a Refusal; an index of -1 is an absent one."""
        least = len(self.operands) if self.least is None else self.least
        if len(inputs) < least or (len(inputs) > len(self.operands) and not self.repeated):
            raise Refusal(f"it has {len(inputs)} inputs")
        readers = [*self.operands, *[self.operands[-1]] * (len(inputs) - len(self.operands))]
        return [
            None if position >= len(inputs) or (inputs[position] < 0 and position >= least)
            else read(context, inputs[position])
            for position, read in enumerate(readers)
        ]  # fmt: skip


SUPPORTED: dict[str, Supported] = {
    # With weights.
    "CONV_2D": Supported(products.conv_2d, (image, weights, bias), (must.conv_weights,), least=2),
    "DEPTHWISE_CONV_2D": Supported(
        products.depthwise_conv_2d,
        (image, depthwise_weights, bias),
        (must.depthwise_weights, must.stated_multiplier),
        least=2,
    ),
    "FULLY_CONNECTED": Supported(
        products.fully_connected,
        (value, weights, bias),
        (must.plain_weights, must.matrix_weights, must.bias_on_scale),
        least=2,
    ),
    # Windows without weights.
    "AVERAGE_POOL_2D": Supported(windows.average_pool_2d, (image,), (must.one_scale,)),
    "MAX_POOL_2D": Supported(windows.max_pool_2d, (image,), (must.one_scale,)),
    # Sums, products, changes of scale.
    "ADD": Supported(arithmetic.add, (value_or_constant, value_or_constant)),
    "SUB": Supported(arithmetic.add, (value_or_constant, value_or_constant)),
    "MUL": Supported(arithmetic.mul, (value_or_constant, value_or_constant)),
    "MEAN": Supported(arithmetic.mean, (value, numbers)),
    "RELU": Supported(arithmetic.relu, (value,)),
    "RELU6": Supported(arithmetic.relu, (value,), (must.relu6_clamps_alone,)),
    "QUANTIZE": Supported(arithmetic.quantize, (value,)),
    "DEQUANTIZE": Supported(arithmetic.dequantize, (value,), (must.to_float,)),
    # Functions.
    "LEAKY_RELU": Supported(functions.leaky_relu, (value,), (must.finite_alpha,)),
    "HARD_SWISH": Supported(functions.hard_swish, (value,)),
    "LOGISTIC": Supported(functions.sigmoidal, (value,), (must.logistic_scale, must.sigmoidal_input)),
    "TANH": Supported(functions.sigmoidal, (value,), (must.tanh_scale, must.sigmoidal_input)),
    "SOFTMAX": Supported(functions.softmax, (value,), (must.softmax_scale, must.softmax_rows)),
    # What moves elements.
    "PAD": Supported(movement.pad, (value, numbers), (must.one_scale,)),
    "CONCATENATION": Supported(
        movement.concatenation, (value_or_constant,), (must.no_activation, must.one_scale), repeated=True
    ),
    "RESHAPE": Supported(movement.reshape, (value, numbers), (must.one_scale,), least=1),
    "SQUEEZE": Supported(movement.squeeze, (value,), (must.one_scale,)),
    "EXPAND_DIMS": Supported(movement.expand_dims, (value, numbers), (must.one_scale,)),
    "STRIDED_SLICE": Supported(
        movement.strided_slice, (value, numbers, numbers, numbers), (must.plain_slice, must.one_scale)
    ),
    "SPLIT": Supported(movement.split, (numbers, value), (must.one_scale,), several_outputs=True),
    "TRANSPOSE": Supported(movement.transpose, (value, numbers), (must.one_scale,)),
}
