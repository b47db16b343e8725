"""Network -> program: the compiler's stages, one after the other (`docs/architecture.md`, "The compiler's stages")."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from intaglio.compiler.cost import cost_of
from intaglio.compiler.encode import encode
from intaglio.compiler.estimate import Estimate
from intaglio.compiler.memory import ALIGNMENT, MEMORY_BYTES, Layout, Memory, lay_out, place_steps
from intaglio.compiler.order import sums_follow_the_longer
from intaglio.compiler.placement import Placement, place_tensors
from intaglio.compiler.plan import Plans, plan_network
from intaglio.compiler.program import LayerInfo, Probe, Program, Region, cycles_by_layer
from intaglio.compiler.schedule import Schedule, Whole, schedule_steps
from intaglio.compiler.steps import Step
from intaglio.compiler.waits import Waits
from intaglio.network import Network, NetworkError
from intaglio.spec.commands import COMMAND_BYTES
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Lowered:
    """What the stages make of a network before it is bits.

    Attributes
    ----------
    names : of the layers, as the network has them; the plans may be in another order
    addresses : in memory, of the steps that read or write there
    """

    names: tuple[str, ...]
    plans: Plans
    memory: Memory
    layout: Layout
    schedule: Schedule
    waits: Waits
    addresses: Mapping[Step, int]

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        marks = self.schedule.marks
        facts = {plan.name: plan.facts for plan in self.plans.layers}
        return tuple(LayerInfo(name, facts[name].op, facts[name].macs, marks[name]) for name in self.names)


def compile_network(network: Network, config: AcceleratorConfig, base_address: int = 0) -> Program:
    """Compile a network for a machine; everything in memory starts at `base_address`, a multiple of 64.

    Raises NetworkError, in one line, saying what of which layer the machine cannot run or hold, and by how much.
    """
    lowered = _lower(network, config, base_address)
    memory, layout, waits = lowered.memory, lowered.layout, lowered.waits
    commands = encode(lowered.schedule.steps, waits, lowered.addresses, config)
    command_address = _place_commands(lowered, commands)
    return Program(
        network=lowered.plans.name,
        config=config.name,
        fingerprint=config.fingerprint,
        commands=commands,
        command_address=command_address,
        base_address=base_address,
        memory_bytes=memory.top - base_address,
        image=memory.image(),
        image_address=memory.image_base,
        inputs=layout.inputs,
        outputs=layout.outputs,
        read_region=Region(layout.read_base, memory.top),
        write_region=layout.write_region,
        probes=tuple(_probe(whole, waits, config) for whole in lowered.schedule.whole),
        spills=layout.spills,
        layers=lowered.layers,
        warnings=lowered.plans.warnings,
    )


def estimate_network(network: Network, config: AcceleratorConfig) -> Estimate:
    """What `compile_network` makes of a network will take of a machine, by the cost model.

    Raises NetworkError as it does.
    """
    lowered = _lower(network, config, 0)
    steps = lowered.schedule.steps
    _place_commands(lowered, bytes(COMMAND_BYTES * len(steps)))
    cost = cost_of(steps, lowered.waits, lowered.addresses, config)
    return Estimate(
        cycles=cost.cycles,
        layers=lowered.layers,
        layer_cycles=cycles_by_layer(lowered.layers, dict(enumerate(cost.stamps)), cost.cycles),
        read_bytes=cost.read_beats * config.bus_bytes,
        write_bytes=cost.write_beats * config.bus_bytes,
        memory_bytes=lowered.memory.top,
        warnings=lowered.plans.warnings,
    )


def _lower(network: Network, config: AcceleratorConfig, base_address: int) -> Lowered:
    if base_address % ALIGNMENT or not 0 <= base_address < MEMORY_BYTES:
        raise ValueError(
            f"`base_address` must be a multiple of {ALIGNMENT} below {MEMORY_BYTES:,}, not {base_address}"
        )
    planned = plan_network(network, config)
    plans, placement = _place(planned, config)
    memory = Memory(base_address)
    layout = lay_out(plans, placement, memory, config)
    schedule = schedule_steps(plans, placement, layout, config)
    waits = Waits(plans.name, schedule.steps, [(whole.step, whole.interval) for whole in schedule.whole])
    names = tuple(plan.name for plan in planned.layers)
    return Lowered(names, plans, memory, layout, schedule, waits, place_steps(schedule.steps, memory))


def _place(planned: Plans, config: AcceleratorConfig) -> tuple[Plans, Placement]:
    """Layers in the order that is quickest, if all tensors fit on chip so; else as they are."""
    plans = sums_follow_the_longer(planned)
    if plans is not planned:
        with suppress(NetworkError):
            placement = place_tensors(plans, config)
            if not placement.spilled:
                return plans, placement
    return planned, place_tensors(planned, config)


def _place_commands(lowered: Lowered, commands: bytes) -> int:
    """The list's address, the last in memory. Raises NetworkError where it has no room."""
    address = lowered.memory.place(commands)
    if lowered.memory.top > MEMORY_BYTES:
        raise NetworkError(
            f"network {lowered.plans.name}: it needs {lowered.memory.top:,} bytes of a memory of {MEMORY_BYTES:,}"
        )
    return address


def _probe(whole: Whole, waits: Waits, config: AcceleratorConfig) -> Probe:
    ticket, tensor = waits.ticket(whole.step), whole.tensor
    start, stop = whole.interval.start, whole.interval.stop
    return Probe(
        ticket.engine,
        ticket.sequence,
        tensor.name,
        start,
        stop - start,
        tensor.shape,
        tensor.type,
        tensor.digits,
        config.element_bits,
        whole.gap,
    )
