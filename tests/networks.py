"""Networks of random weights and geometry, and machines of odd sizes to run them on."""

import dataclasses
from typing import Any

import numpy as np

from intaglio.network import (
    Conv2D,
    FullyConnected,
    LlsqRescale,
    MaxPool2D,
    Network,
    SbnqRescale,
    Tensor,
    TensorType,
)
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.records import record_layout


def draw(rng, kind, shape):
    return rng.integers(kind.min, kind.max + 1, shape).astype(kind.dtype)


def machine_of(name="test", **changes):
    fields: dict[str, Any] = {
        "rows": 16, "columns": 16, "activation_types": ("uint4", "int4"), "weight_type": "int4",
        "accumulator_bits": 24, "accumulator_depth": 64, "rescales": ("sbnq",), "rescale_lanes": None,
        "scratchpad_bytes": 32768, "weight_buffer_bytes": None,
    } | changes  # fmt: skip
    if fields["rescale_lanes"] is None:
        fields["rescale_lanes"] = fields["columns"]
    if fields["weight_buffer_bytes"] is None:
        tile = (
            fields["rows"]
            * fields["columns"]
            * {"int8": 8, "int4": 4, "binary": 1}.get(fields["weight_type"], 2)
        )
        fields["weight_buffer_bytes"] = max(512, 1 << (2 * (-(-tile // 64) * 8) - 1).bit_length())
    return AcceleratorConfig(name=name, **fields)


class Builder:
    """A network of random weights, layer by layer."""

    def __init__(self, seed, config, shape, kind=None):
        self.rng, self.config = np.random.default_rng(seed), config
        bits = config.element_bits
        self.signed = config.signed_activations and not config.unsigned_activations
        kind = kind or TensorType(bits, self.signed)
        self.tensors = {"input": Tensor("input", shape, kind)}
        self.layers, self.last = [], "input"

    def _add(self, layer_type, source, kind, **fields):
        source = self.last if source is None else source
        name = f"layer{len(self.layers)}"
        layer = layer_type(name, (source,), f"{name}_out", **fields)
        shape = layer.output_shape(self.tensors[source].shape)
        assert min(shape) > 0
        like = self.tensors[source] if kind is None else Tensor("", (), kind)
        self.tensors[layer.output] = dataclasses.replace(like, name=layer.output, shape=shape)
        self.layers.append(layer)
        self.last = layer.output
        return self

    def _products(self, shape, source, signed):
        config, rng = self.config, self.rng
        low, high = config.weight.min, config.weight.max
        digits = -(-self.tensors[source or self.last].type.bits // config.element_bits)
        if config.weight_digits and digits == 1 and rng.random() < 0.3:  # wider than the array's
            high = int(rng.integers(high, 128))
            low = -high - 1
            weights = rng.integers(low, high + 1, shape)
        else:
            weights = rng.integers(low, high + 1, shape)
            if config.weight.is_binary:
                weights = np.where(weights >= 0, 1, -1)
        bits = int(
            rng.choice([config.element_bits, config.element_bits, rng.integers(2, config.element_bits + 1)])
        )
        kind = TensorType(bits, self.signed if signed is None else signed)
        spread = np.sqrt(np.prod(shape[1:])) * high * 2.0 ** self.tensors[source or self.last].type.bits / 2
        shift = max(0, int(np.log2(spread / 2.0**kind.bits) + 1))
        if "llsq" in config.rescales:
            if rng.random() < 0.3:  # results wider than an element; 7 bits are read as int8
                kind = TensorType(8 if self.config.unsigned_activations else 7, False)
            return kind, self._llsq(weights, spread, kind)
        rescale = SbnqRescale(
            rng.integers(-int(spread), int(spread) + 1, shape[0]),
            np.clip(rng.integers(shift - 2, shift + 2, shape[0]), -31, 31),
            bool(rng.integers(2)) or not kind.signed,
        )
        return kind, {
            "weights": weights.astype(np.int64), "weight_type": TensorType(8, True),
            "rescale": rescale, "accumulator_bits": config.accumulator_bits,
        }  # fmt: skip

    def _llsq(self, weights, spread, kind):
        rng, outputs = self.rng, len(weights)
        mantissa = np.where(rng.random(outputs) < 0.3, 1, rng.integers(128, 256, outputs))
        shift = np.log2(spread * mantissa / 2.0**kind.bits) + rng.integers(-1, 3, outputs)
        rescale = LlsqRescale(
            rng.integers(-128, 128, outputs), mantissa, np.clip(shift, 0, 31).astype(np.int64)
        )
        return {
            "weights": weights.astype(np.int64), "weight_type": TensorType(8, True),
            "rescale": rescale, "accumulator_bits": self.config.accumulator_bits,
        }  # fmt: skip

    def conv(
        self, outputs, kernel, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), source=None, signed=None
    ):
        channels = self.tensors[source or self.last].shape[2]
        kind, fields = self._products((outputs, *kernel, channels), source, signed)
        return self._add(Conv2D, source, kind, stride=stride, padding=padding, dilation=dilation, **fields)

    def fc(self, outputs, source=None, signed=None):
        features = self.tensors[source or self.last].size
        kind, fields = self._products((outputs, features), source, signed)
        return self._add(FullyConnected, source, kind, **fields)

    def pool(self, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0), source=None):
        return self._add(MaxPool2D, source, None, kernel=kernel, stride=stride, padding=padding)

    def build(self, outputs=None, inputs=("input",)):
        return Network("random", self.tensors, tuple(self.layers), inputs, tuple(outputs or (self.last,)))


def random_network(seed, config):
    """A chain of a few layers with every kind of geometry."""
    rng = np.random.default_rng(seed)
    bits = config.element_bits
    signed_only = not config.unsigned_activations
    kind = TensorType(int(rng.choice([bits, bits, 8, max(1, bits - 1)])), signed_only)
    if not signed_only and config.signed_activations and rng.integers(2):
        kind = TensorType(kind.bits, True)
    if signed_only:
        kind = TensorType(bits, True)
    shape = (int(rng.integers(1, 12)), int(rng.integers(1, 16)), int(rng.choice([1, 2, 3, 5, 8, 17, 24, 40])))
    if kind.bits >= 4 * bits:  # four passes and more of each layer: an interpreter takes long
        shape = (min(shape[0], 6), min(shape[1], 6), min(shape[2], 6))
    builder = Builder(seed, config, shape, kind)
    for _ in range(int(rng.integers(1, 5))):
        height, width, _ = builder.tensors[builder.last].shape
        digits = -(-builder.tensors[builder.last].type.bits // bits)
        signed = bool(rng.integers(2)) if config.signed_activations and config.unsigned_activations else None
        kernel = tuple(int(v) for v in rng.integers(1, 8, 2))
        dilation = tuple(int(v) for v in rng.choice([1, 1, 1, 2, 3], 2))
        stride = tuple(int(v) for v in rng.integers(1, 4, 2))
        if rng.random() < 0.3 and digits == 1 and min(height, width) > 1:
            window = tuple(min(size, int(rng.integers(1, 4))) for size in (height, width))
            edges = tuple(int(rng.integers(0, window[i // 2])) for i in range(4))
            builder.pool(window, stride, edges)
            continue
        padding = [int(v) for v in rng.integers(0, 4, 4)]
        for axis, size in enumerate((height, width)):
            need = (kernel[axis] - 1) * dilation[axis] + 1 - size - sum(padding[2 * axis : 2 * axis + 2])
            padding[2 * axis] += max(0, need)
        outputs = int(rng.choice([1, 3, 7, 16, 20, 33]))
        builder.conv(outputs, kernel, stride, tuple(padding), dilation, signed=signed)
    if rng.integers(2):
        builder.fc(int(rng.integers(1, 40)))
        if rng.integers(2):
            builder.fc(int(rng.integers(1, 20)))
    return builder.build()


EXTREME_SHIFTS = (-31, -8, -1, 0, 1, 2, 5, 8, 15, 30, 31)


class WildBuilder(Builder):
    """Biases at both ends of what the machine takes, shifts of -31...31, weights that are all least or greatest, and
    accumulators that wrap: half of the time; else as `Builder`."""

    def _products(self, shape, source, signed):
        rng, config = self.rng, self.config
        kind, fields = super()._products(shape, source, signed)
        limit = 1 << (
            min(record_layout("sbnq", config.accumulator_bits)["bias"].bits, 48) - 1
        )  # golden's are as wide as the widest accumulator
        rescale, weights = fields["rescale"], fields["weights"]
        if rng.random() < 0.2:
            weights = np.full(shape, rng.choice([weights.min(), weights.max()]))
        if isinstance(rescale, LlsqRescale):
            limit = 1 << (config.accumulator_bits - 1)
            if rng.random() < 0.4:
                bias = rng.choice([-limit, -limit + 1, -129, 0, limit - 1], shape[0])
                rescale = dataclasses.replace(rescale, bias=np.where(rng.random(shape[0]) < 0.5, bias, 0))
            if rng.random() < 0.4:
                ends = rng.choice([0, 1, 15, 16, 30, 31], shape[0])
                shift = np.where(rng.random(shape[0]) < 0.5, ends, rescale.shift)
                rescale = dataclasses.replace(rescale, shift=shift)
            return kind, fields | {"weights": weights, "rescale": rescale}
        bias, shift = np.clip(rescale.bias, -limit, limit - 1), rescale.shift
        if rng.random() < 0.4:
            ends = rng.choice([-limit, -limit + 1, -1, 0, 1, limit - 2, limit - 1], shape[0])
            bias = np.where(rng.random(shape[0]) < 0.5, ends, bias)
        if rng.random() < 0.4:
            shift = np.where(rng.random(shape[0]) < 0.5, rng.choice(EXTREME_SHIFTS, shape[0]), shift)
        relu = rescale.relu if rng.integers(2) else not rescale.relu
        return kind, fields | {"weights": weights, "rescale": SbnqRescale(bias, shift, bool(relu))}


def wild_network(seed, config):
    """Any network that the graph allows within the machine's types: single pixels and channels, strides beyond the
    kernel, padding beyond the image, dilation, branches, pools of pools, vectors alone, outputs in the middle.

    It may be too large for the machine's scratchpad.
    """
    rng = np.random.default_rng(seed)
    room = config.scratchpad_elements // 3
    builder = WildBuilder(seed, config, _wild_shape(rng, config, room), _wild_type(rng, config))
    source = builder.tensors["input"]
    if -(-source.type.bits // config.element_bits) == 1 and rng.integers(2):
        zero_point = int(rng.integers(source.type.min, source.type.max + 1))
        builder.tensors["input"] = Tensor("input", source.shape, source.type, None, zero_point)
    for _ in range(int(rng.integers(1, 6))):
        names = list(builder.tensors)
        name = names[int(rng.integers(len(names)))] if rng.random() < 0.2 else builder.last
        _add_wild_layer(builder, rng, name, room)
    written = [layer.output for layer in builder.layers]
    outputs = [name for name in written if rng.random() < 0.2 or name == builder.last]
    return builder.build(outputs)


def _wild_type(rng, config):
    bits = config.element_bits
    if config.weight.is_binary:  # whose weights have no zeros for the lanes of other digits
        return TensorType(int(rng.integers(1, bits + 1)), not config.unsigned_activations)
    if config.signed_activations and config.unsigned_activations:
        return TensorType(int(rng.choice([bits, bits, rng.integers(1, 9)])), bool(rng.integers(2)))
    if config.unsigned_activations:
        return TensorType(int(rng.choice([bits, bits, rng.integers(1, max(2 * bits, 8) + 1)])), False)
    if rng.random() < 0.3:
        return TensorType(int(rng.integers(1, bits)), False)  # its top bit is free: it reads as signed
    return TensorType(int(rng.choice([bits, bits, rng.integers(1, bits + 1)])), True)


def _wild_shape(rng, config, room):
    if rng.random() < 0.15:
        return (int(rng.integers(1, max(2, min(150, room // 4)))),)
    channels = int(rng.choice([1, 1, 2, 3, 5, 8, 9, 17, 40]))
    extents = [int(rng.choice([1, 2, 3, 5, 7, 12, 19])) for _ in range(2)]
    while np.prod(extents) * channels * 4 > room and max(extents) > 1:
        extents[int(np.argmax(extents))] -= 1
    return (*extents, min(channels, max(1, room // 4)))


def _add_wild_layer(builder, rng, name, room):
    """One more layer that reads the tensor `name`; none where nothing that was drawn fits."""
    config, tensor = builder.config, builder.tensors[name]
    both = config.signed_activations and config.unsigned_activations
    signed = bool(rng.integers(2)) if both else None
    outputs = int(rng.choice([1, 2, 3, 4, 7, 11, 16, 29, 40]))
    if len(tensor.shape) == 1 or rng.random() < 0.15:
        builder.fc(outputs, name, signed)
        return
    size, channels = tensor.shape[:2], tensor.shape[2]
    digits = -(-tensor.type.bits // config.element_bits)
    for _ in range(20):
        kernel = tuple(int(k) for k in rng.choice([1, 1, 2, 3, 3, 5, 7], 2))
        stride = tuple(int(s) for s in rng.choice([1, 1, 2, 3, 5], 2))
        pooled = digits == 1 and rng.random() < 0.35
        if pooled:
            edges = tuple(int(rng.integers(0, kernel[i // 2])) for i in range(4))
            dilation = 1, 1
            outputs = channels
        else:
            edges = tuple(int(e) for e in rng.choice([0, 0, 1, 2, max(size) + 1, 9], 4))
            vertical, horizontal = rng.choice([1, 1, 1, 2, 3], 2)
            dilation = int(vertical), int(horizontal)
        extents = [
            (size[axis] + edges[2 * axis] + edges[2 * axis + 1] - (kernel[axis] - 1) * dilation[axis] - 1)
            // stride[axis]
            + 1
            for axis in range(2)
        ]
        if min(extents) < 1 or np.prod(extents) * outputs > room:
            continue
        if pooled:
            builder.pool(kernel, stride, edges, name)
        else:
            builder.conv(outputs, kernel, stride, edges, dilation, name, signed)
        return
