"""A simulated machine that runs programs: the harness's library seen from Python."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compiler.program import Program
from hdl import isa
from hdl.config import AcceleratorConfig
from hdl.isa import Register

MEMORY_LATENCY_CYCLES = 32
RESET_CYCLES = 2
_COUNTERS = tuple(register for register in Register if Register.CYCLES <= register <= Register.BUSY_STORE)


class MachineStopped(RuntimeError):
    """The machine stopped itself or did not come to an end; one line says why and at which command."""


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
    library : what `sim.build.build` made for `config`
    config : the machine
    program : compiled for it
    trace : where to write an FST trace; the library must have been built for it

    Raises
    ------
    ValueError
        Where the program was compiled for another machine.
    """

    def __init__(
        self, library: Path, config: AcceleratorConfig, program: Program, trace: Path | None = None
    ) -> None:
        self._program = program
        self._library = _load(library)
        elements = config.scratchpad_elements
        memory_bytes = program.base_address + program.memory_bytes
        memory_bytes += -memory_bytes % config.bus_bytes
        self._handle = ctypes.c_void_p(
            self._library.harness_create(
                memory_bytes, MEMORY_LATENCY_CYCLES, elements, config.vector_lanes, config.element_bits
            )
        )
        memory = self._library.harness_memory(self._handle)
        self._memory = np.ctypeslib.as_array(memory, shape=(memory_bytes,))
        image = program.image_address
        self._memory[image : image + len(program.image)] = program.image
        self._taps = np.zeros(sum(tap.elements for tap in program.taps), np.uint8)
        offset = 0
        for tap in program.taps:
            self._library.harness_add_tap(
                self._handle, int(tap.engine), tap.sequence, tap.address, tap.elements, offset
            )
            offset += tap.elements
        # Each weight beat, each command and each position of each sweep many times over: no run is that long.
        self._limit = 10_000_000 + 1_000 * (memory_bytes + program.command_count) + 16 * sum(
            layer.macs for layer in program.layers
        )
        if self._read(Register.FINGERPRINT) != program.fingerprint:
            self.close()
            raise ValueError(f"the program was compiled for another machine than {config.name}")
        if trace is not None:
            self._library.harness_trace(self._handle, str(trace).encode())

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the simulation; a trace is whole afterwards."""
        if self._handle:
            self._library.harness_close_trace(self._handle)
            self._library.harness_destroy(self._handle)
            self._handle = ctypes.c_void_p()

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far, resets and register accesses too."""
        return int(self._library.harness_cycles(self._handle))

    def infer(self, inputs: Mapping[str, npt.NDArray]) -> Inference:
        """Resets the machine, runs the program on one inference, without a batch axis, and reads the results.

        Raises MachineStopped, or NetworkError for inputs of another shape or range.
        """
        program = self._program
        for binding in program.inputs:
            self._memory[binding.address : binding.address + binding.bytes] = binding.pack(
                inputs[binding.tensor][None]
            )[0]
        self._library.harness_reset(self._handle, RESET_CYCLES)
        for register, value in (
            (Register.COMMAND_ADDRESS, program.command_address),
            (Register.COMMAND_COUNT, program.command_count),
            (Register.READ_BASE, program.read_window.base),
            (Register.READ_LIMIT, program.read_window.limit),
            (Register.WRITE_BASE, program.write_window.base),
            (Register.WRITE_LIMIT, program.write_window.limit),
            (Register.CONTROL, isa.CONTROL_START),
        ):
            self._write(register, value)
        waited = self._library.harness_run(self._handle, self._limit, self._taps.ctypes.data)
        if waited < 0:
            raise MachineStopped(f"the machine raised no interrupt in {self._limit:,} cycles")
        if self._read(Register.STATUS) != isa.STATUS_DONE:
            self._raise_fault()
        return self._collect()

    def _collect(self) -> Inference:
        program = self._program
        counters = {register.name.lower(): self._read(register) for register in _COUNTERS}
        cycles = counters["cycles"]
        marks = {layer.mark for layer in program.layers}
        stamps = {mark: self._read(Register.MARKS + 4 * mark) for mark in marks}
        # What follows the last layer's completion (the interrupt itself) is the last layer's.
        stamps[max(marks)] = cycles
        layer_cycles, before = [], 0
        for layer in program.layers:
            layer_cycles.append(stamps[layer.mark] - before)
            before = stamps[layer.mark]
        outputs = {
            binding.tensor: binding.unpack(self._memory[binding.address : binding.address + binding.bytes])[0]
            for binding in program.outputs
        }
        tensors, offset = {}, 0
        for tap in program.taps:
            tensors[tap.tensor] = tap.values_of(self._taps[offset : offset + tap.elements])
            offset += tap.elements
        return Inference(outputs, tensors, cycles, tuple(layer_cycles), counters)

    def _raise_fault(self) -> None:
        cause = self._read(Register.FAULT_CAUSE)
        index = self._read(Register.FAULT_COMMAND)
        address = self._read(Register.FAULT_ADDRESS)
        name = isa.Cause(cause).name if cause in isa.Cause else f"cause {cause}"
        where = f", address {address:#010x}" if address else ""
        raise MachineStopped(f"the machine stopped itself at command {index}: {name}{where}")

    def _write(self, register: int, value: int) -> None:
        if not self._library.harness_write_register(self._handle, int(register), value):
            raise MachineStopped(f"the machine does not answer a write of register {int(register):#x}")

    def _read(self, register: int) -> int:
        value = ctypes.c_uint32()
        if not self._library.harness_read_register(self._handle, int(register), ctypes.byref(value)):
            raise MachineStopped(f"the machine does not answer a read of register {int(register):#x}")
        return value.value


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, u64, u32, i = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
    for name, result, arguments in (
        ("create", handle, (u64, u32, u32, u32, u32)),
        ("destroy", None, (handle,)),
        ("memory", ctypes.POINTER(ctypes.c_uint8), (handle,)),
        ("cycles", u64, (handle,)),
        ("reset", None, (handle, i)),
        ("write_register", i, (handle, u32, u32)),
        ("read_register", i, (handle, u32, ctypes.POINTER(u32))),
        ("add_tap", None, (handle, i, u64, u32, u32, u64)),
        ("run", ctypes.c_int64, (handle, u64, handle)),
        ("trace", None, (handle, ctypes.c_char_p)),
        ("close_trace", None, (handle,)),
    ):
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    return library
