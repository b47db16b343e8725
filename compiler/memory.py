"""The layout of the machine's memory: where tensors lie there, and the image that the host writes once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from intaglio.compiler.operators.layer import Stored
from intaglio.compiler.placement import Placement
from intaglio.compiler.plan import Plans
from intaglio.compiler.program import Binding, Bytes, Region
from intaglio.compiler.steps import Step, Transfer, Weights
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MEMORY_ADDRESS_BITS

MEMORY_BYTES = 1 << MEMORY_ADDRESS_BITS
ALIGNMENT = 64
"""Of all that lies in memory, in bytes: a multiple of the bus, and a burst's addresses look tidy in a trace."""


class Memory:
    """Stretches of memory, one after the other; the host writes those of the image before the first start."""

    def __init__(self, base: int) -> None:
        self.base = self.top = self.image_base = base
        self._image: dict[bytes, int] = {}

    def reserve(self, size: int) -> int:
        address = self.top
        self.top += -(-size // ALIGNMENT) * ALIGNMENT
        return address

    def begin_image(self) -> None:
        """All that comes from here on is the image's."""
        self.image_base = self.top

    def place(self, data: bytes) -> int:
        """The address of these bytes in the image; equal ones are stored once."""
        if data not in self._image:
            self._image[data] = self.reserve(len(data))
        return self._image[data]

    def image(self) -> Bytes:
        whole = np.zeros(self.top - self.image_base, np.uint8)
        for data, address in self._image.items():
            start = address - self.image_base
            whole[start : start + len(data)] = np.frombuffer(data, np.uint8)
        return whole


@dataclass(frozen=True)
class Layout:
    """Where tensors lie in memory.

    Attributes
    ----------
    inputs, outputs : a binding each
    constants : values in the image, a binding each
    spills : the tensors of layers that are in memory after the run and nowhere whole before
    regions : of the storages that lie in memory, and of outputs: the first address is read back, all are written
    read_base : from where on the machine reads
    write_region : where it writes
    """

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    constants: tuple[Binding, ...]
    spills: tuple[Binding, ...]
    regions: Mapping[str, list[int]]
    read_base: int
    write_region: Region


def lay_out(plans: Plans, placement: Placement, memory: Memory, config: AcceleratorConfig) -> Layout:
    """From the memory's base on: outputs, what is spilled, inputs, the image, which begins with the constants."""
    base = memory.top
    outputs = [_reserve(plans.tensors[name], memory, config) for name in dict.fromkeys(plans.outputs)]
    regions: dict[str, list[int]] = {}
    for binding in outputs:
        regions.setdefault(placement.homes[binding.tensor].storage, []).append(binding.address)
    given = {*plans.inputs, *plans.constants}
    for name in sorted(placement.spilled):
        if name not in regions and name not in given:
            regions[name] = [_reserve(plans.tensors[name], memory, config).address]
    write_region = Region(base, memory.top)
    # What is spilled is read again, whether it is an output or not.
    read_base = base if placement.spilled else memory.top
    inputs = [_reserve(plans.tensors[name], memory, config) for name in plans.inputs]
    memory.begin_image()
    constants = []
    for name, values in plans.constants.items():
        unplaced = _binding(plans.tensors[name], 0, config)
        address = memory.place(unplaced.pack(values[np.newaxis])[0].tobytes())
        constants.append(_binding(plans.tensors[name], address, config))
    for binding in (*inputs, *constants):
        if binding.tensor in placement.spilled:
            regions.setdefault(binding.tensor, []).insert(0, binding.address)
    spills = [
        _binding(plan.output, regions[placement.homes[plan.output.name].storage][0], config)
        for plan in plans.layers
        if placement.in_memory(plan.output.name)
    ]
    return Layout(
        tuple(inputs), tuple(outputs), tuple(constants), tuple(spills), regions, read_base, write_region
    )


def _reserve(tensor: Stored, memory: Memory, config: AcceleratorConfig) -> Binding:
    binding = _binding(tensor, memory.top, config)
    memory.reserve(binding.bytes)
    return binding


def _binding(tensor: Stored, address: int, config: AcceleratorConfig) -> Binding:
    size = -(-tensor.elements * config.element_bits // 8)
    return Binding(tensor.name, tensor.shape, tensor.type, address, size, tensor.digits, config.element_bits)


def place_steps(steps: Iterable[Step], memory: Memory) -> dict[Step, int]:
    """Where each step reads or writes memory, if it does. What the image is to hold is placed there, in the steps'
    order."""
    addresses: dict[Step, int] = {}
    for step in steps:
        if isinstance(step, Weights):
            addresses[step] = memory.place(b"".join(step.stretches))
        elif isinstance(step, Transfer):
            addresses[step] = memory.place(step.memory) if isinstance(step.memory, bytes) else step.memory
    return addresses
