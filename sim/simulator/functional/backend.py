"""A program on the functional machine: batches of inferences, compared like those of the simulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from intaglio.compiler.program import Binding, Program
from intaglio.sim.simulator.functional.interpreter import Interpreter, ListOrder, Order, Stopped
from intaglio.sim.simulator.functional.legality import Grant
from intaglio.sim.simulator.functional.storage import InferencesDiffer, Memory, State, Watch, region_starts
from intaglio.sim.simulator.inferences import Inferences
from intaglio.sim.simulator.machine import UNSET, MachineStopped
from intaglio.sim.simulator.memory_map import MemoryMap
from intaglio.spec.commands import COMMAND_BYTES, Engine
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region

_MEMORY_BYTES = 256 << 20
"""What a batch may take."""
_TENSOR_COPIES = 6
"""Of each tensor while a batch is compared: read, golden's, and what tells where they differ."""
_SUM_BYTES = 32
"""Of each of a bank's sums while it is rescaled, and of what it is made of: a few numbers of 8 bytes."""
_MOST_INFERENCES = 512


def batch_size(program: Program, config: AcceleratorConfig) -> int:
    """Inferences that are run together: each command costs Python's time once for all of them, and they must fit a
    fixed amount of memory."""
    tensors = sum(probe.elements for probe in program.probes)
    tensors += sum(binding.size * binding.digits for binding in (*program.spills, *program.outputs))
    each = (
        config.scratchpad_elements
        + config.accumulator_depth * (2 * 8 * config.columns + _SUM_BYTES * max(config.rows, config.columns))
        + len(_own(program))
        + _TENSOR_COPIES * tensors
    )
    return max(1, min(_MEMORY_BYTES // each, _MOST_INFERENCES))


def _own(program: Program) -> range:
    """Of the regions one behind the other, what may differ between inferences: all but the image."""
    return range(program.region_bytes[Region.PROGRAM], program.memory_bytes)


class FunctionalMachine:
    """Runs one program on batches of inferences, its commands in the order of the list.

    Whatever a run does not write holds `UNSET` bytes before it.

    Parameters
    ----------
    program : compiled for the machine
    config : the machine
    memory_map : where its regions lie and what is granted; as `MemoryMap.of` says where None

    Raises
    ------
    ValueError
        Where the program was compiled for another machine.
    """

    def __init__(
        self, program: Program, config: AcceleratorConfig, memory_map: MemoryMap | None = None
    ) -> None:
        memory_map = memory_map or MemoryMap.of(program, config)
        self._program, self._config = program, config
        self._starts = region_starts(program.region_bytes)
        self._content = np.full(program.memory_bytes, UNSET, np.uint8)
        self._content[self._starts[Region.PROGRAM] :][: len(program.image)] = program.image
        self._reads = Grant.reads(memory_map, program.region_bytes, config)
        self._writes = Grant.writes(memory_map, program.region_bytes, config)

    def infer(self, inputs: Mapping[str, npt.NDArray]) -> Inferences:
        """Runs the program on inferences, batch first.

        Raises
        ------
        MachineStopped
            The machine stopped itself, or ended with work undone. The fault is a `Stopped`.
        NetworkError
            An input is of another shape or range.
        """
        count = len(next(iter(inputs.values())))
        try:
            return self._infer(inputs, count)
        except InferencesDiffer:
            each = [
                self._infer({name: values[i : i + 1] for name, values in inputs.items()}, 1)
                for i in range(count)
            ]
            return Inferences.joined(each)

    def _infer(self, inputs: Mapping[str, npt.NDArray], count: int) -> Inferences:
        program = self._program
        state = self.state(inputs, count)
        tensors: dict[str, npt.NDArray] = {}

        def completed(engine: Engine, sequence: int) -> None:
            for probe in program.probes:
                if (probe.engine, probe.sequence) == (engine, sequence):
                    elements = state.scratchpad[:, probe.address : probe.address + probe.elements]
                    tensors[probe.tensor] = probe.values_of(elements)

        self.interpreter(state, ListOrder(), completed).run()
        if len(tensors) != len(program.probes):
            raise MachineStopped(
                f"the machine ended with {len(tensors)} of {len(program.probes)} tensors computed"
            )
        counters = [
            {"overflows": int(lost), "read_beats": state.read_beats, "write_beats": state.write_beats}
            for lost in state.overflows
        ]
        return Inferences(
            outputs={binding.tensor: stored(state, binding) for binding in program.outputs},
            tensors=tensors | {binding.tensor: stored(state, binding) for binding in program.spills},
            counters=counters,
        )

    def state(self, inputs: Mapping[str, npt.NDArray], count: int, watch: Watch | None = None) -> State:
        """The machine before a start, with inputs in memory."""
        memory = Memory(self._content, self._starts, _own(self._program), count)
        for binding in self._program.inputs:
            memory.write(_places(memory, binding), binding.pack(inputs[binding.tensor]))
        return State(self._config, memory, count, watch)

    def interpreter(
        self, state: State, order: Order, completed: Callable[[Engine, int], None]
    ) -> Interpreter:
        """What runs the program on a state."""
        return Interpreter(
            partial(self._fetch, state),
            self._program.command_count,
            state,
            self._reads,
            self._writes,
            order,
            completed,
        )

    def _fetch(self, state: State, index: int) -> bytes:
        """A command, as it lies in memory. Raises Stopped where that may not be read."""
        offset = self._program.command_offset + index * COMMAND_BYTES
        starts = np.array([offset])
        if refused := self._reads.refused(Region.PROGRAM, starts, COMMAND_BYTES):
            raise Stopped(refused[0], index, refused[1])
        state.read_beats += self._reads.beats(starts, COMMAND_BYTES)
        first = self._starts[Region.PROGRAM] + offset
        return state.memory.common(first, first + COMMAND_BYTES).tobytes()


def stored(state: State, binding: Binding) -> npt.NDArray:
    """A tensor in memory, batch first."""
    return binding.unpack(state.memory.read(_places(state.memory, binding)))


def _places(memory: Memory, binding: Binding) -> npt.NDArray:
    first = memory.starts[binding.region] + binding.offset
    return np.arange(first, first + binding.bytes)
