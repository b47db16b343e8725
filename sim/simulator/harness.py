"""The harness's library (`harness.cpp`) seen from Python: a clock, a memory, registers, probes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio.sim.simulator.build import BuildError
from intaglio.spec.commands import Engine

MEMORY_LATENCY_CYCLES = 32
"""Of the memory that figures are measured with."""

_HANDLE, _U64, _U32, _INT = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
_FUNCTIONS = {
    "beat_bytes": (_U32, ()),
    "create": (_HANDLE, (_U32, _U32, _U32, _U32)),
    "destroy": (None, (_HANDLE,)),
    "add_memory": (ctypes.POINTER(ctypes.c_uint8), (_HANDLE, _U64, _U64)),
    "cycles": (_U64, (_HANDLE,)),
    "reset": (None, (_HANDLE, _INT)),
    "write_register": (_INT, (_HANDLE, _U32, _U32)),
    "read_register": (_INT, (_HANDLE, _U32, ctypes.POINTER(_U32))),
    "add_probe": (None, (_HANDLE, _INT, _U64, _U32, _U32, _U64)),
    "arm": (None, (_HANDLE, _HANDLE)),
    "run": (_INT, (_HANDLE, _U64)),
    "cycles_since_write": (_U64, (_HANDLE,)),
    "probes_taken": (_U64, (_HANDLE,)),
    "completed": (_U64, (_HANDLE, _INT)),
    "bus_error": (ctypes.c_char_p, (_HANDLE,)),
    "trace": (_INT, (_HANDLE, ctypes.c_char_p)),
    "close_trace": (None, (_HANDLE,)),
}


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{error}; remove the folder {path.parent}, so that it is built anew") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class Harness:
    """One Verilated top with its memory, just after reset. Owns what it holds: `close` it.

    Parameters
    ----------
    library : of `intaglio.sim.simulator.build`
    memory : stretches of memory, by whatever their user calls them: the address that each begins at and its bytes, a
        multiple of the bus's width; addresses elsewhere answer with an error
    elements, lanes, element_bits : of the scratchpad that the top's probes tell of
    latency : cycles from an address to its first data, and from the last data to the response

    Raises
    ------
    ValueError
        Where an argument is out of range, or more than the top's probes carry.
    BuildError
        Where the library cannot be loaded.

    Members
    -------
    memory : the bytes of each stretch, shared with the simulation
    """

    def __init__(
        self,
        library: Path,
        memory: Mapping[int, tuple[int, int]],
        elements: int,
        lanes: int,
        element_bits: int,
        latency: int = MEMORY_LATENCY_CYCLES,
    ) -> None:
        self._library = _load(library)
        beat = self._library.harness_beat_bytes()
        for _, size in memory.values():
            if size <= 0 or size % beat:
                raise ValueError(f"`memory` must have positive multiples of {beat} bytes, not {size}")
        if elements <= 0 or elements & (elements - 1):
            raise ValueError(f"`elements` must be a power of two, not {elements}")
        if lanes < 1 or not 1 <= element_bits <= 8:
            raise ValueError(f"`lanes` must be at least 1 of 1 to 8 bits, not {lanes} of {element_bits}")
        if latency < 1:
            raise ValueError(f"`latency` must be at least 1, not {latency}")
        self._handle = ctypes.c_void_p(self._library.harness_create(latency, elements, lanes, element_bits))
        if not self._handle:
            raise ValueError(
                f"`lanes`: {lanes} of {element_bits} bits are more than the machine's probes carry"
            )
        self.memory: dict[int, npt.NDArray[np.uint8]] = {
            name: np.ctypeslib.as_array(
                self._library.harness_add_memory(self._handle, base, size), shape=(size,)
            )
            for name, (base, size) in memory.items()
        }
        self._probed = np.zeros(0, np.uint8)

    def close(self) -> None:
        """Ends the simulation; `memory` is gone then."""
        if self._handle:
            self.close_trace()
            self.memory = {}
            self._library.harness_destroy(self._handle)
            self._handle = ctypes.c_void_p()

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far, resets and register accesses too."""
        return int(self._library.harness_cycles(self._handle))

    def reset(self, cycles: int) -> None:
        """Holds `rst` for some cycles; the memory forgets what is in flight."""
        self._library.harness_reset(self._handle, cycles)

    def write(self, register: int, value: int) -> bool:
        """Writes over AXI4-Lite; whether an answer came."""
        return bool(self._library.harness_write_register(self._handle, register, value))

    def read(self, register: int) -> int | None:
        """Reads over AXI4-Lite; None where no answer came."""
        value = ctypes.c_uint32()
        answered = self._library.harness_read_register(self._handle, register, ctypes.byref(value))
        return value.value if answered else None

    def add_probe(self, engine: Engine, sequence: int, address: int, elements: int) -> slice:
        """Takes `elements` from element `address` on when `engine` completes its `sequence`-th command since `arm`;
        returns their place in `probed`. Takes nothing until the next `arm`."""
        offset = len(self._probed)
        self._library.harness_add_probe(self._handle, engine, sequence, address, elements, offset)
        self._probed = np.zeros(offset + elements, np.uint8)
        return slice(offset, offset + elements)

    @property
    def probed(self) -> npt.NDArray[np.uint8]:
        """What the probes took since `arm`, one element a byte; meaningless where `probes_taken` lacks some."""
        return self._probed

    @property
    def probes_taken(self) -> int:
        return int(self._library.harness_probes_taken(self._handle))

    def completed(self, engine: Engine) -> int:
        """Commands whose completion `engine` has reported since `arm`, one a cycle at most."""
        return int(self._library.harness_completed(self._handle, engine))

    def arm(self) -> None:
        """Before a start: nothing is on chip, no command is complete, no rule of the bus is broken."""
        self._library.harness_arm(self._handle, self._probed.ctypes.data)

    def run(self, limit: int) -> bool:
        """Runs until `irq`, `limit` cycles at most; whether it is up."""
        return bool(self._library.harness_run(self._handle, limit))

    @property
    def cycles_since_write(self) -> int:
        """Since the top took the last write of a register."""
        return int(self._library.harness_cycles_since_write(self._handle))

    @property
    def bus_error(self) -> str:
        """Which rule of AXI the top broke since `arm`; empty if none."""
        return bytes(self._library.harness_bus_error(self._handle)).decode()

    def trace(self, path: Path) -> bool:
        """Writes waves from here on to an FST file; False where the library was not built for it, or cannot."""
        return bool(self._library.harness_trace(self._handle, os.fsencode(path)))

    def close_trace(self) -> None:
        self._library.harness_close_trace(self._handle)
