"""Network -> program: the compiler's stages, one after the other (`docs/architecture.md`, "The compiler's stages")."""

from __future__ import annotations

from intaglio.compiler.encode import encode
from intaglio.compiler.memory import ALIGNMENT, MEMORY_BYTES, Memory, lay_out
from intaglio.compiler.placement import place_tensors
from intaglio.compiler.plan import plan_network
from intaglio.compiler.program import LayerInfo, Probe, Program, Region
from intaglio.compiler.schedule import Whole, schedule_steps
from intaglio.compiler.waits import Waits
from intaglio.network import Network, NetworkError
from intaglio.spec.config import AcceleratorConfig


def compile_network(network: Network, config: AcceleratorConfig, base_address: int = 0) -> Program:
    """Compile a network for a machine; everything in memory starts at `base_address`, a multiple of 64.

    Raises NetworkError, in one line, saying what of which layer the machine cannot run or hold, and by how much.
    """
    if base_address % ALIGNMENT or not 0 <= base_address < MEMORY_BYTES:
        raise ValueError(
            f"`base_address` must be a multiple of {ALIGNMENT} below {MEMORY_BYTES:,}, not {base_address}"
        )
    plans = plan_network(network, config)
    placement = place_tensors(plans, config)
    memory = Memory(base_address)
    layout = lay_out(plans, placement, memory, config)
    schedule = schedule_steps(plans, placement, layout, config)
    waits = Waits(plans.name, schedule.steps, [(whole.step, whole.interval) for whole in schedule.whole])
    commands = encode(schedule.steps, waits, memory.place, config)
    command_address = memory.place(commands)
    if memory.top > MEMORY_BYTES:
        raise NetworkError(
            f"network {plans.name}: it needs {memory.top:,} bytes of a memory of {MEMORY_BYTES:,}"
        )
    return Program(
        network=plans.name,
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
        probes=tuple(_probe(whole, waits, config) for whole in schedule.whole),
        spills=layout.spills,
        layers=tuple(
            LayerInfo(plan.name, plan.facts.op, plan.facts.macs, schedule.marks[plan.name])
            for plan in plans.layers
        ),
        warnings=plans.warnings,
    )


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
