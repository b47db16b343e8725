"""A simulated machine that runs programs: the harness's library seen from Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio.compiler.program import Binding, LayerInfo, Program, cycles_by_layer
from intaglio.sim.simulator.harness import MEMORY_LATENCY_CYCLES, Harness
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.spec.commands import FORMATS, Engine, Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import REGISTER_BITS
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    CONTROL_START,
    COUNTERS,
    REGION_REGISTERS,
    STATUS_DONE,
    WATCHDOG_RESET,
    Cause,
    Register,
)

RESET_CYCLES = 2
SLICE_CYCLES = 200_000
"""Cycles that the harness runs at a time: Ctrl-C waits for no more."""
START_TO_INTERRUPT_SLACK_CYCLES = 8
"""The harness sees a start and an interrupt at the ports, the machine counts inside: they differ by this at most."""
SLOWEST_ELEMENT_CYCLES = 16
"""Of the elementwise engine: softmax's."""
SLOWEST_RUN_CYCLES = 200
"""Of the elementwise engine, for a run of one element: softmax's reciprocal."""
UNSET = 0xA5
"""Bytes that nobody wrote before a start, so that a store that does not come is seen, or a count on zeros."""


class MachineStopped(RuntimeError):
    """The machine stopped itself or did not come to an end; one line says why and at which command."""


def fault_text(cause: int, command: int, address: int) -> str:
    """What is said of a machine that stopped itself: why, at which place in the list, at which address (0: none)."""
    if cause not in list(Cause):
        return f"the machine stopped itself at command {command} for the unknown cause {cause}"
    where = f", address {address:#010x}" if address else ""
    return (
        f"the machine stopped itself at command {command}: {Cause(cause).name}{where}: {Cause(cause).meaning}"
    )


@dataclass(frozen=True)
class Inference:
    """One run of a program.

    Attributes
    ----------
    outputs : by tensor name, of the tensor's shape
    tensors : every tensor that a layer wrote, as it went by on chip
    cycles : from start to interrupt
    layer_cycles : by layer, from the completion of the one before; they add up to `cycles`
    counters : the machine's, by register name in lower case
    """

    outputs: Mapping[str, npt.NDArray]
    tensors: Mapping[str, npt.NDArray]
    cycles: int
    layer_cycles: tuple[int, ...]
    counters: Mapping[str, int]


class Simulator:
    """Holds one simulated machine with one program in its memory. A context manager.

    Parameters
    ----------
    library : what `intaglio.sim.simulator.build.build` made for `config`
    config : the machine
    program : compiled for it
    trace : where to write an FST trace of the first inference; the library must have been built for it
    latency : cycles from an address to its first data, and from the last data to the response
    memory_map : where the program's regions lie and what is granted of them; as `MemoryMap.of` says where None

    Raises
    ------
    ValueError
        Where the program was compiled for another machine, or the library cannot trace.
    """

    def __init__(
        self,
        library: Path,
        config: AcceleratorConfig,
        program: Program,
        trace: Path | None = None,
        latency: int = MEMORY_LATENCY_CYCLES,
        memory_map: MemoryMap | None = None,
    ) -> None:
        self._program = program
        self._map = memory_map or MemoryMap.of(program, config)
        self._harness = Harness(
            library,
            {
                region: (self._map.bases[region], size)
                for region, size in program.region_bytes.items()
                if size
            },
            config.scratchpad_elements,
            config.vector_lanes,
            config.element_bits,
            latency,
        )
        self._taps = [
            (probe, self._harness.add_probe(probe.engine, probe.sequence, probe.address, probe.elements))
            for probe in program.probes
        ]
        self._commands = Counter(
            FORMATS[program.command(index)[0]].engine for index in range(program.command_count)
        )
        self._limit = cycle_limit(program, config) + 4 * latency * (1 + program.command_count)
        if self._read(Register.FINGERPRINT) != program.fingerprint:
            self.close()
            raise ValueError(f"the program was compiled for another machine than {config.name}")
        if trace is not None and not self._harness.trace(trace):
            self.close()
            raise ValueError(f"no trace can be written to {trace}")

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the simulation; a trace is whole afterwards."""
        self._harness.close()

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far, resets and register accesses too."""
        return self._harness.cycles

    def infer(self, inputs: Mapping[str, npt.NDArray]) -> Inference:
        """Resets the machine, runs the program on one inference, without a batch axis, and reads the results.

        Raises
        ------
        MachineStopped
            The machine stopped itself, did not come to an end, or ended with work undone.
        NetworkError
            An input is of another shape or range.
        """
        self.start(inputs)
        return self.finish()

    def start(self, inputs: Mapping[str, npt.NDArray], cycles: int = 0) -> None:
        """The first part of `infer`: resets, starts, and runs for some cycles."""
        program = self._program
        for region, memory in self._harness.memory.items():
            memory[:] = program.image if region is Region.PROGRAM else UNSET
        for binding in program.inputs:
            packed = binding.pack(np.asarray(inputs[binding.tensor])[None])[0]
            self._harness.memory[binding.region][binding.place] = packed
        self._harness.reset(RESET_CYCLES)
        self._harness.arm()
        for register, value in (
            (Register.COMMAND_OFFSET, program.command_offset),
            (Register.COMMAND_COUNT, program.command_count),
            *grants(self._map),
            (Register.CONTROL, CONTROL_START),
        ):
            self._write(register, value)
        self._harness.run(cycles)

    def finish(self) -> Inference:
        """The second part: runs to the end and reads the results."""
        program = self._program
        cycles = self._wait()
        if violation := self._harness.bus_error:
            raise MachineStopped(f"the machine broke the bus's rules: {violation}")
        if self._read(Register.STATUS) != STATUS_DONE:
            self._raise_fault()
        self._harness.close_trace()
        counted = self._read(Register.CYCLES)
        if abs(counted - cycles) > START_TO_INTERRUPT_SLACK_CYCLES:
            raise MachineStopped(
                f"the machine counted {counted:,} cycles to its interrupt, there were {cycles:,}"
            )
        for engine in Engine:
            if (completed := self._harness.completed(engine)) != (given := self._commands[engine]):
                raise MachineStopped(
                    f"the machine reported the completion of {completed:,} commands of {engine.name}, and has {given:,}"
                )
        if (taken := self._harness.probes_taken) != len(program.probes):
            raise MachineStopped(f"the machine ended with {taken} of {len(program.probes)} tensors computed")
        return self._collect()

    def _wait(self) -> int:
        """Cycles from the start to the interrupt."""
        waited = 0
        while not self._harness.run(SLICE_CYCLES):
            waited += SLICE_CYCLES
            if waited >= self._limit:
                raise MachineStopped(f"the machine hangs: no interrupt in {waited:,} cycles")
        return self._harness.cycles_since_write

    def _collect(self) -> Inference:
        program = self._program
        counters = {register.name.lower(): self._read(register) for register in COUNTERS}
        cycles = counters["cycles"]
        marks = {layer.mark for layer in program.layers if layer.mark >= 0}
        stamps = {mark: self._read(Register.MARKS + 4 * mark) for mark in marks}
        spent = layer_cycles(program.layers, stamps, cycles)
        outputs = {binding.tensor: self._stored(binding) for binding in program.outputs}
        tensors = {probe.tensor: probe.values_of(self._harness.probed[place]) for probe, place in self._taps}
        tensors |= {binding.tensor: self._stored(binding) for binding in program.spills}
        return Inference(outputs, tensors, cycles, spent, counters)

    def _stored(self, binding: Binding) -> npt.NDArray:
        return binding.unpack(self._harness.memory[binding.region][binding.place])[0]

    def _raise_fault(self) -> None:
        cause = self._read(Register.FAULT_CAUSE)
        index = self._read(Register.FAULT_COMMAND)
        high = self._read(Register.FAULT_ADDRESS_HIGH)
        address = high << REGISTER_BITS | self._read(Register.FAULT_ADDRESS)
        raise MachineStopped(fault_text(cause, index, address))

    def _write(self, register: int, value: int) -> None:
        if not self._harness.write(int(register), value):
            raise MachineStopped(f"the machine does not answer a write of register {int(register):#x}")

    def _read(self, register: int) -> int:
        value = self._harness.read(int(register))
        if value is None:
            raise MachineStopped(f"the machine does not answer a read of register {int(register):#x}")
        return value


def grants(memory_map: MemoryMap) -> list[tuple[Register, int]]:
    """What a host writes to grant a machine its regions: registers and their values."""
    written = []
    for region, registers in REGION_REGISTERS.items():
        base = memory_map.bases.get(region, 0)
        written += [
            (registers.base, base & ((1 << REGISTER_BITS) - 1)),
            (registers.base_high, base >> REGISTER_BITS),
            (registers.limit, memory_map.limits.get(region, 0)),
        ]
    return written


def layer_cycles(layers: Iterable[LayerInfo], stamps: Mapping[int, int], cycles: int) -> tuple[int, ...]:
    """Cycles of each layer, from the completion of the one before, in a run of `cycles` with these time stamps.

    What follows the last stamp (the interrupt, an earlier layer's output on its way to memory) is the last layer's.

    Raises MachineStopped where the stamps are not in the order of their numbers, or not within the run: then one was
    not taken.
    """
    before = 0
    for number, stamp in sorted(stamps.items()):
        if not before < stamp <= cycles:
            raise MachineStopped(
                f"the machine's time stamp {number} is {stamp:,}, after {before:,} and in a run of {cycles:,} cycles"
            )
        before = stamp
    return cycles_by_layer(layers, stamps, cycles)


def cycle_limit(program: Program, config: AcceleratorConfig) -> int:
    """Cycles that no run needs: those of all commands, one after the other, four times, and the watchdog's twice."""
    cycles = 0
    for index in range(program.command_count):
        opcode, fields = program.command(index)
        if opcode in (Opcode.MATMUL, Opcode.MAX_POOL):
            positions = fields["output_rows"] * fields["output_columns"]
            passes = (
                fields["kernel_rows"] * fields["kernel_columns"] * fields["chunks"] * fields.get("digits", 1)
            )
            cycles += passes * (positions + config.tile_beats)
        elif opcode in (Opcode.LOAD, Opcode.STORE):
            cycles += fields["rows"] * (fields["row_bytes"] + config.bus_bytes)
        elif opcode == Opcode.WEIGHTS:
            cycles += fields["beats"] * fields["times"] * fields["stretches"]
        elif opcode == Opcode.RESCALE:
            cycles += fields["positions"] * config.columns
        else:
            cycles += fields["pixels"] * (SLOWEST_ELEMENT_CYCLES * fields["channels"] + SLOWEST_RUN_CYCLES)
        cycles += MEMORY_LATENCY_CYCLES
    return 4 * cycles + 2 * WATCHDOG_RESET
