"""Network -> program: checks, plans, placement, the memory's layout, the commands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from intaglio.compiler.check import check_network
from intaglio.compiler.emission import Emission, Regions
from intaglio.compiler.placement import Placer
from intaglio.compiler.plans import plan_layer
from intaglio.compiler.program import Binding, Bytes, LayerInfo, Program, Region
from intaglio.compiler.views import digits_of
from intaglio.network import Network, NetworkError, Tensor
from intaglio.spec.config import AcceleratorConfig

ALIGNMENT = 64
"""Of every region in memory, in bytes: a multiple of the bus, and a burst's addresses look tidy in a trace."""


def compile_network(network: Network, config: AcceleratorConfig, base_address: int = 0) -> Program:
    """Compile a network for a machine; everything in memory starts at `base_address`, a multiple of 64.

    Raises NetworkError, in one line, saying what of which layer the machine cannot run or hold, and by how much.
    """
    if base_address % ALIGNMENT or not 0 <= base_address < 1 << 32:
        raise ValueError(f"`base_address` must be a multiple of {ALIGNMENT} below 2**32, not {base_address}")
    windows, warnings = check_network(network, config)
    plans = [plan_layer(layer, windows, network, config) for layer in network.layers]
    placement = Placer(network, plans, config).place()

    memory = _Memory(base_address)
    outputs = [memory.bind(network.tensors[name], config) for name in dict.fromkeys(network.outputs)]
    regions: Regions = {}
    for binding in outputs:
        regions.setdefault(placement.homes[binding.tensor].storage, []).append(binding.address)
    given = {*network.inputs, *network.constants}
    for name in sorted(placement.spilled):
        if name not in regions and name not in given:
            regions[name] = [memory.bind(network.tensors[name], config).address]
    write_region = memory.region(base_address)
    # What is spilled is read again, whether it is an output or not.
    read_base = base_address if placement.spilled else memory.top
    inputs = [memory.bind(network.tensors[name], config) for name in network.inputs]
    image_address = memory.top
    image = _Image(memory)
    constants = [
        image.bind(network.tensors[name], values, config) for name, values in network.constants.items()
    ]
    for binding in (*inputs, *constants):
        if binding.tensor in placement.spilled:
            regions.setdefault(binding.tensor, []).insert(0, binding.address)

    emission = Emission(network, config, placement, image.place, [*inputs, *constants], outputs, regions)
    emission.run()
    commands = emission.commands.encode(network.name)
    command_address = image.place(commands)
    if memory.top > 1 << 32:
        raise NetworkError(
            f"network {network.name}: it needs {memory.top:,} bytes of a memory of {1 << 32:,}"
        )
    return Program(
        network=network.name,
        config=config.name,
        fingerprint=config.fingerprint,
        commands=commands,
        command_address=command_address,
        base_address=base_address,
        memory_bytes=memory.top - base_address,
        image=image.bytes(image_address),
        image_address=image_address,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        read_region=memory.region(read_base),
        write_region=write_region,
        probes=tuple(emission.probes),
        spills=tuple(_spills(network, config, placement.homes, regions, placement.spilled)),
        layers=tuple(
            LayerInfo(
                layer.name,
                layer.op,
                layer.macs(network.tensors[layer.output].shape),
                emission.marks[layer.name],
            )
            for layer in network.layers
        ),
        warnings=tuple(warnings),
    )


def _spills(network, config, homes, regions: Regions, spilled: frozenset[str]) -> Iterable[Binding]:
    """The tensors of layers that are in memory after the run and nowhere whole before."""
    for layer in network.layers:
        home = homes[layer.output]
        if home.storage in spilled:
            yield _binding(network.tensors[layer.output], config, regions[home.storage][0])


def _binding(tensor: Tensor, config: AcceleratorConfig, address: int) -> Binding:
    digits = digits_of(tensor, config)
    size = -(-tensor.size * digits * config.element_bits // 8)
    return Binding(tensor.name, tensor.shape, tensor.type, address, size, digits, config.element_bits)


class _Memory:
    """Regions of memory, one after the other."""

    def __init__(self, base: int) -> None:
        self.top = base

    def reserve(self, size: int) -> int:
        address = self.top
        self.top += -(-size // ALIGNMENT) * ALIGNMENT
        return address

    def bind(self, tensor: Tensor, config: AcceleratorConfig) -> Binding:
        binding = _binding(tensor, config, self.top)
        self.reserve(binding.bytes)
        return binding

    def region(self, base: int) -> Region:
        return Region(base, self.top)


class _Image:
    """What the host writes to memory once; equal stretches are stored once."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory
        self._places: dict[bytes, int] = {}

    def place(self, data: bytes) -> int:
        if data not in self._places:
            self._places[data] = self._memory.reserve(len(data))
        return self._places[data]

    def bind(self, tensor: Tensor, values: np.ndarray, config: AcceleratorConfig) -> Binding:
        unplaced = _binding(tensor, config, 0)
        address = self.place(unplaced.pack(values[np.newaxis])[0].tobytes())
        return _binding(tensor, config, address)

    def bytes(self, base: int) -> Bytes:
        whole = np.zeros(self._memory.top - base, np.uint8)
        for data, address in self._places.items():
            whole[address - base : address - base + len(data)] = np.frombuffer(data, np.uint8)
        return whole
