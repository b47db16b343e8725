"""The layout of the machine's memory: where tensors lie there, and the image that the host writes once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from intaglio.compiler.addresses import address_of, region_of
from intaglio.compiler.operators.layer import Stored
from intaglio.compiler.placement import Placement
from intaglio.compiler.plan import Plans
from intaglio.compiler.program import Binding, Bytes
from intaglio.compiler.steps import Step, Transfer, Weights
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

ALIGNMENT = 64
"""Of all that lies in memory, in bytes: a multiple of the bus, and a burst's addresses look tidy in a trace."""


class Memory:
    """Stretches of memory, in each region one after the other; PROGRAM is the image, which the host writes once."""

    def __init__(self) -> None:
        self.region_bytes = dict.fromkeys(Region, 0)
        self._image: dict[bytes, int] = {}

    def reserve(self, region: Region, size: int) -> int:
        """The offset of so many bytes more."""
        offset = self.region_bytes[region]
        self.region_bytes[region] += -(-size // ALIGNMENT) * ALIGNMENT
        return offset

    def place(self, data: bytes) -> int:
        """The offset of these bytes in the image; equal ones are stored once."""
        if data not in self._image:
            self._image[data] = self.reserve(Region.PROGRAM, len(data))
        return self._image[data]

    def image(self) -> Bytes:
        whole = np.zeros(self.region_bytes[Region.PROGRAM], np.uint8)
        for data, start in self._image.items():
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
    places : addresses of the storages that lie in memory, and of outputs: the first is read back, and all that may be
        written are
    """

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    constants: tuple[Binding, ...]
    spills: tuple[Binding, ...]
    places: Mapping[str, list[int]]


def lay_out(plans: Plans, placement: Placement, memory: Memory, config: AcceleratorConfig) -> Layout:
    """Each kind of tensor in its region; the image begins with the constants.

    An output that a later layer reads from memory lies in SCRATCH as well: the machine never reads OUTPUT.
    """
    outputs = [
        _reserve(plans.tensors[name], Region.OUTPUT, memory, config) for name in dict.fromkeys(plans.outputs)
    ]
    places: dict[str, list[int]] = {}
    for binding in outputs:
        places.setdefault(placement.homes[binding.tensor].storage, []).append(_address(binding))
    given = {*plans.inputs, *plans.constants}
    read = {placement.homes[source.name].storage for plan in plans.layers for source in plan.inputs}
    for name in sorted(placement.spilled):
        if name not in given and (name in read or name not in places):
            binding = _reserve(plans.tensors[name], Region.SCRATCH, memory, config)
            places.setdefault(name, []).insert(0, _address(binding))
    inputs = [_reserve(plans.tensors[name], Region.INPUT, memory, config) for name in plans.inputs]
    constants = []
    for name, values in plans.constants.items():
        unplaced = _binding(plans.tensors[name], Region.PROGRAM, 0, config)
        offset = memory.place(unplaced.pack(values[np.newaxis])[0].tobytes())
        constants.append(replace(unplaced, offset=offset))
    for binding in (*inputs, *constants):
        if binding.tensor in placement.spilled:
            places.setdefault(binding.tensor, []).insert(0, _address(binding))
    spills = [
        _binding(plan.output, *region_of(places[placement.homes[plan.output.name].storage][0]), config)
        for plan in plans.layers
        if placement.in_memory(plan.output.name)
    ]
    return Layout(tuple(inputs), tuple(outputs), tuple(constants), tuple(spills), places)


def _reserve(tensor: Stored, region: Region, memory: Memory, config: AcceleratorConfig) -> Binding:
    binding = _binding(tensor, region, 0, config)
    return replace(binding, offset=memory.reserve(region, binding.bytes))


def _binding(tensor: Stored, region: Region, offset: int, config: AcceleratorConfig) -> Binding:
    size = -(-tensor.elements * config.element_bits // 8)
    return Binding(
        tensor.name, tensor.shape, tensor.type, region, offset, size, tensor.digits, config.element_bits
    )


def _address(binding: Binding) -> int:
    return address_of(binding.region, binding.offset)


def place_steps(steps: Iterable[Step], memory: Memory) -> dict[Step, int]:
    """Where each step reads or writes memory, if it does. What the image is to hold is placed there, in the steps'
    order."""
    addresses: dict[Step, int] = {}
    for step in steps:
        if isinstance(step, Weights):
            addresses[step] = address_of(Region.PROGRAM, memory.place(b"".join(step.stretches)))
        elif isinstance(step, Transfer):
            addresses[step] = (
                address_of(Region.PROGRAM, memory.place(step.memory))
                if isinstance(step.memory, bytes)
                else step.memory
            )
    return addresses
