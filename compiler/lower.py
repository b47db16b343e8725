"""Network -> program: the compiler's stages, one after the other (`docs/architecture.md`, "The compiler's stages")."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from intaglio.compiler.addresses import REGION_BYTES
from intaglio.compiler.cost import cost_of
from intaglio.compiler.encode import encode
from intaglio.compiler.estimate import Estimate
from intaglio.compiler.memory import Layout, Memory, lay_out, place_steps
from intaglio.compiler.order import sums_follow_the_longer
from intaglio.compiler.placement import Placement, place_tensors
from intaglio.compiler.plan import Plans, plan_network
from intaglio.compiler.program import LayerInfo, Probe, Program, cycles_by_layer
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


def compile_network(network: Network, config: AcceleratorConfig) -> Program:
    """Compile a network for a machine.

    Raises NetworkError, in one line, saying what of which layer the machine cannot run or hold, and by how much.
    """
    lowered = _lower(network, config)
    memory, layout, waits = lowered.memory, lowered.layout, lowered.waits
    commands = encode(lowered.schedule.steps, waits, lowered.addresses, config)
    command_offset = _place_commands(lowered, commands)
    return Program(
        network=lowered.plans.name,
        config=config.name,
        fingerprint=config.fingerprint,
        commands=commands,
        command_offset=command_offset,
        region_bytes=memory.region_bytes,
        image=memory.image(),
        inputs=layout.inputs,
        outputs=layout.outputs,
        probes=tuple(_probe(whole, waits, config) for whole in lowered.schedule.whole),
        spills=layout.spills,
        layers=lowered.layers,
        warnings=lowered.plans.warnings,
        owners=tuple(step.owner for step in lowered.schedule.steps),
    )


def estimate_network(network: Network, config: AcceleratorConfig) -> Estimate:
    """What `compile_network` makes of a network will take of a machine, by the cost model.

    Raises NetworkError as it does.
    """
    lowered = _lower(network, config)
    steps = lowered.schedule.steps
    _place_commands(lowered, bytes(COMMAND_BYTES * len(steps)))
    cost = cost_of(steps, lowered.waits, lowered.addresses, config)
    return Estimate(
        cycles=cost.cycles,
        layers=lowered.layers,
        layer_cycles=cycles_by_layer(lowered.layers, dict(enumerate(cost.stamps)), cost.cycles),
        read_bytes=cost.read_beats * config.bus_bytes,
        write_bytes=cost.write_beats * config.bus_bytes,
        memory_bytes=sum(lowered.memory.region_bytes.values()),
        warnings=lowered.plans.warnings,
    )


def _lower(network: Network, config: AcceleratorConfig) -> Lowered:
    planned = plan_network(network, config)
    plans, placement = _place(planned, config)
    memory = Memory()
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
    """The list's offset, the last in the image. Raises NetworkError where a region has no room for all it needs."""
    offset = lowered.memory.place(commands)
    for region, size in lowered.memory.region_bytes.items():
        if size >= REGION_BYTES:
            raise NetworkError(
                f"network {lowered.plans.name}: it needs {size:,} bytes of {region.name}, a region of memory "
                f"has fewer than {REGION_BYTES:,}"
            )
    return offset


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
