"""Pooling, and the window of every operator that has one."""

from __future__ import annotations

from intaglio.network.formats.tflite.context import INT8, Context
from intaglio.network.formats.tflite.file import FileOperator
from intaglio.network.graph import AnyLayer, AveragePool2D, MaxPool2D, Requantize
from intaglio.network.importing.builder import Value
from intaglio.network.importing.refusals import Refusal
from intaglio.network.importing.scales import ONE
from intaglio.network.importing.windows import Padding, Window

_SAME, _VALID = 0, 1


def window_of(operator: FileOperator, image: Value, kernel: tuple[int, int]) -> tuple[Window, Padding]:
    """The window of `operator` over `image`, and the padding that its padding rule comes to."""
    options = operator.options or {}
    stride = (options["StrideH"], options["StrideW"])
    dilation = (options.get("DilationHFactor", 1), options.get("DilationWFactor", 1))
    window, rule = Window(kernel, stride, dilation), options["Padding"]
    if rule not in (_SAME, _VALID):
        raise Refusal(f"its padding is number {rule}, neither SAME nor VALID")
    padding = window.same_padding(*image.shape[:2]) if rule == _SAME else (0, 0, 0, 0)
    window.check(image.shape, padding)
    return window, padding


def average_pool_2d(context: Context, operator: FileOperator, image: Value) -> None:
    kernel = (operator.option("FilterHeight"), operator.option("FilterWidth"))
    window, padding = window_of(operator, image, kernel)
    low, high = context.clamp(operator.option("FusedActivationFunction"), operator.outputs[0])

    def make(name: str, output: str) -> AnyLayer:
        return AveragePool2D(name, (image.name,), output, kernel, window.stride, padding, low, high)

    context.add(operator.outputs[0], make("", "").output_shape(image.shape), make)


def max_pool_2d(context: Context, operator: FileOperator, image: Value) -> None:
    """With a fused activation it is two layers."""
    index = operator.outputs[0]
    kernel = (operator.option("FilterHeight"), operator.option("FilterWidth"))
    window, padding = window_of(operator, image, kernel)
    low, high = context.clamp(operator.option("FusedActivationFunction"), index)

    def make(name: str, output: str) -> AnyLayer:
        return MaxPool2D(name, (image.name,), output, kernel, window.stride, padding)

    shape = make("", "").output_shape(image.shape)
    if (low, high) == (INT8.min, INT8.max):
        context.add(index, shape, make)
        return
    context.declare(index, shape)
    pooled = context.between(f"{context.tensor(index).name}/pooled", shape, index)
    context.layer(make(context.layer_name("/pool"), pooled))
    context.add(index, shape, lambda name, output: Requantize(name, (pooled,), output, ONE, low, high))
