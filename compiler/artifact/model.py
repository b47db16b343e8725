"""What an artifact holds, before it is bytes or after."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intaglio.compiler.operators.layer import Stored
from intaglio.compiler.program import Binding, Bytes, Program
from intaglio.network import Network, Tensor, TensorType
from intaglio.spec.artifact import Kind, Role
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

Values = Mapping[str, npt.NDArray[np.integer]]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that the host reads or writes.

    Attributes
    ----------
    binding : where it lies, and how
    role : what it is to the host
    scales : (scale, zero point): none where values mean themselves, one, or one a channel
    axis : which dimension of the shape counts channels, where there are several scales; else 0
    edge : what the model's file takes or gives here: which kind of number, of how many bits
    """

    binding: Binding
    role: Role
    scales: tuple[tuple[float, int], ...] = ()
    axis: int = 0
    edge: tuple[Kind, int] = (Kind.SIGNED, 8)

    @property
    def name(self) -> str:
        return self.binding.tensor

    def values(self, stored: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """What stored integers, of the tensor's shape behind any axes, mean: scale * (value - zero point), each in
        single precision. Raises ValueError where the tensor states no scale.
        """
        if not self.scales:
            raise ValueError(f"tensor {self.name} states no scale")
        shape = [1] * len(self.binding.shape)
        if len(self.scales) > 1:
            shape[self.axis] = len(self.scales)
        scale = np.array([scale for scale, _ in self.scales], np.float32).reshape(shape)
        zero = np.array([zero for _, zero in self.scales], np.int64).reshape(shape)
        return scale * (np.asarray(stored, np.int64) - zero).astype(np.float32)


@dataclass(frozen=True)
class SelfTest:
    """The bytes of each input, in their order, and the CRC-32 of each output, then of each layer's output."""

    inputs: tuple[bytes, ...]
    crcs: tuple[int, ...]


@dataclass(frozen=True)
class Artifact:
    """A compiled network with all that a host needs to run it.

    Attributes
    ----------
    program : what runs; its outputs are all tensors that it stores, those of layers too
    address_bits : of the machine
    stored : inputs, outputs, and with `store_layers` the outputs of layers that are none of the network's
    layer_tensors : of each of the program's layers, the number in `stored` of its output; None: it is not stored
    contents : of regions besides PROGRAM, what they hold before the first start
    producer : what wrote it
    """

    program: Program
    address_bits: int
    stored: tuple[StoredTensor, ...]
    layer_tensors: tuple[int | None, ...]
    store_layers: bool
    contents: Mapping[Region, bytes]
    tests: tuple[SelfTest, ...]
    producer: str

    @property
    def name(self) -> str:
        return self.program.network

    def of_role(self, role: Role) -> tuple[StoredTensor, ...]:
        return tuple(tensor for tensor in self.stored if tensor.role is role)

    # What the reader of a user's inputs asks of a network.

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.of_role(Role.INPUT))

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The inputs by name."""
        found = {}
        for tensor in self.of_role(Role.INPUT):
            scale, zero_point = tensor.scales[0] if len(tensor.scales) == 1 else (None, 0)
            binding = tensor.binding
            found[tensor.name] = Tensor(tensor.name, binding.shape, binding.type, scale, zero_point)
        return found


def storing_layers(network: Network) -> Network:
    """The network whose outputs are joined by the outputs of all its layers."""
    names = (*network.outputs, *(layer.output for layer in network.layers))
    return replace(network, outputs=tuple(dict.fromkeys(names)))


def artifact_of(
    program: Program,
    network: Network,
    config: AcceleratorConfig,
    tests: tuple[SelfTest, ...] = (),
    producer: str = "intaglio",
) -> Artifact:
    """The artifact of a network's program.

    Parameters
    ----------
    program : of `network`, whose outputs may be joined by the outputs of its layers, as `store_layers` says
    tests : of `self_tests`
    """
    inputs = [_stored(binding, Role.INPUT, network) for binding in program.inputs]
    # In the order of the network, in which its self-tests are.
    bindings = {binding.tensor: binding for binding in program.outputs}
    outputs = [_stored(bindings.pop(name), Role.OUTPUT, network) for name in dict.fromkeys(network.outputs)]
    layers = [_stored(binding, Role.LAYER, network) for binding in bindings.values()]
    stored = (*inputs, *outputs, *layers)
    places = {tensor.name: place for place, tensor in enumerate(stored) if tensor.role is not Role.INPUT}
    layer_tensors = tuple(places.get(layer.output) for layer in network.layers)
    return Artifact(
        program=program,
        address_bits=config.address_bits,
        stored=stored,
        layer_tensors=layer_tensors,
        store_layers=None not in layer_tensors,
        contents={},
        tests=tests,
        producer=producer,
    )


def _stored(binding: Binding, role: Role, network: Network) -> StoredTensor:
    tensor = network.tensors[binding.tensor]
    scales = () if tensor.scale is None else ((float(np.float32(tensor.scale)), tensor.zero_point),)
    return StoredTensor(binding, role, scales, edge=(kind_of(tensor.type), tensor.type.bits))


def kind_of(kind: TensorType) -> Kind:
    return Kind.SIGNED if kind.signed else Kind.UNSIGNED


def self_tests(
    network: Network, config: AcceleratorConfig, inputs: Values, tensors: Values
) -> tuple[SelfTest, ...]:
    """A self-test of each inference of a batch: `inputs`, and every tensor's values as the golden model has them."""

    def packed(name: str, values: npt.NDArray[np.integer]) -> Bytes:
        return packing_of(network.tensors[name], config).pack(values)

    given = [packed(name, inputs[name]) for name in network.inputs]
    names = (*dict.fromkeys(network.outputs), *(layer.output for layer in network.layers))
    wanted = {name: packed(name, tensors[name]) for name in dict.fromkeys(names)}
    return tuple(
        SelfTest(
            tuple(rows[test].tobytes() for rows in given),
            tuple(zlib.crc32(wanted[name][test].tobytes()) for name in names),
        )
        for test in range(len(given[0]))
    )


def packing_of(tensor: Tensor, config: AcceleratorConfig) -> Binding:
    """How a tensor lies in memory, wherever that is."""
    stored = Stored.of(tensor, config)
    size = -(-stored.elements * config.element_bits // 8)
    return Binding(
        tensor.name, tensor.shape, tensor.type, Region.OUTPUT, 0, size, stored.digits, config.element_bits
    )


def crc_of(binding: Binding, values: npt.NDArray[np.integer]) -> int:
    """CRC-32 of one inference's values as they lie in memory; bits that no element takes count as zeros."""
    return zlib.crc32(binding.pack(values[np.newaxis])[0].tobytes())


def compared_with_tests(artifact: Artifact, stored: Values) -> tuple[int, str | None]:
    """How many of the tensors that the program stored in its self-tests (by name, batch first) have the CRC that these
    say, up to the first that has not, and which that is: of each test layers in their order, then outputs."""
    outputs = artifact.of_role(Role.OUTPUT)
    compared = 0
    count = len(next(iter(stored.values())))
    for number, test in enumerate(artifact.tests[:count]):
        wanted = [
            (f"layer {layer.name}", artifact.stored[place], crc)
            for layer, place, crc in zip(
                artifact.program.layers, artifact.layer_tensors, test.crcs[len(outputs) :], strict=True
            )
            if place is not None
        ]
        wanted += [
            (f"output {tensor.name}", tensor, crc)
            for tensor, crc in zip(outputs, test.crcs[: len(outputs)], strict=True)
        ]
        for what, tensor, crc in wanted:
            if crc_of(tensor.binding, stored[tensor.name][number]) != crc:
                return compared, f"self-test {number}: {what} differs"
            compared += 1
    return compared, None
