"""A machine on this board, run from Python: the C driver over UIO, with the simulated machine's way of being called.

device = intaglio.Device("model.bin")
print(device.run("images.npy").outputs)
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio import session
from intaglio.compiler.artifact import Artifact, compared_with_tests, decode
from intaglio.errors import ArgumentError
from intaglio.network import NetworkError
from intaglio.network.files import read_bytes, reason, shown
from intaglio.sim.simulator import cache as kept
from intaglio.sim.simulator.machine import MachineStopped
from intaglio.spec.artifact import Role
from intaglio.spec.registers import COUNTERS

SOURCES = Path(__file__).resolve().parents[1] / "driver"
UIO, BUFFER = "/dev/uio0", "/dev/udmabuf0"
BUFFER_FACTS = Path("/sys/class/u-dma-buf")
"""Where u-dma-buf says what a buffer's address and size are."""
TIMEOUT_SECONDS = 10.0
_OK, _FAULT = 0, 4
"""Of the driver's statuses."""
_HANDLE, _U32, _STATUS = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
_FUNCTIONS = {
    "linux_open": (
        _HANDLE,
        (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64, _U32, ctypes.POINTER(_STATUS)),
    ),
    "linux_close": (None, (_HANDLE,)),
    "linux_load": (_STATUS, (_HANDLE, ctypes.c_char_p, _U32)),
    "linux_write": (_STATUS, (_HANDLE, _U32, ctypes.c_char_p)),
    "linux_read": (_STATUS, (_HANDLE, _U32, ctypes.c_char_p)),
    "linux_start": (_STATUS, (_HANDLE,)),
    "linux_wait": (_STATUS, (_HANDLE, _U32)),
    "linux_abort": (None, (_HANDLE,)),
    "linux_result": (None, (_HANDLE, ctypes.POINTER(_U32))),
    "linux_layer_cycles": (_STATUS, (_HANDLE, _U32, ctypes.POINTER(_U32))),
    "linux_fault_text": (ctypes.c_size_t, (_HANDLE, ctypes.c_char_p, ctypes.c_size_t)),
    "status_text": (ctypes.c_char_p, (_STATUS,)),
}


@dataclass(frozen=True)
class DeviceRun:
    """What `Device.run` found: the network's outputs by tensor name, batch first; cycles, cycles by layer and counters
    of each inference."""

    outputs: Mapping[str, npt.NDArray]
    cycles: tuple[int, ...]
    layer_cycles: tuple[tuple[int, ...], ...]
    counters: tuple[Mapping[str, int], ...]


class Device:
    """A machine with one artifact. Owns what it opens: `close` it, or use it as a context manager.

    Parameters
    ----------
    artifact : NAME.bin, of `intaglio compile`
    uio : the machine's registers and its interrupt
    memory : what the regions lie in: a u-dma-buf, whose address and size are looked up; or, with `address` and `size`,
        any file to map, /dev/mem from its byte `address` on unless `offset` says where
    timeout : seconds for an inference
    library : the driver as a shared library; compiled by `cc`, once, where None

    Raises
    ------
    NetworkError
        One line: the artifact, a file, or the machine is not usable, or they do not fit together.
    """

    def __init__(
        self,
        artifact: session.Source,
        *,
        uio: session.Source = UIO,
        memory: session.Source = BUFFER,
        address: int | None = None,
        size: int | None = None,
        offset: int | None = None,
        timeout: float = TIMEOUT_SECONDS,
        library: Path | None = None,
    ) -> None:
        self._handle = ctypes.c_void_p()
        # Both stay as long as the driver reads them.
        self._content = read_bytes(artifact)
        self.artifact: Artifact = decode(self._content, shown(artifact))
        self._timeout = max(1, round(timeout * 1000))
        self._library = _load(library or build())
        if address is None:
            address, size = _buffer(Path(memory))
            offset = 0
        elif size is None:
            raise ArgumentError("size", "say how many bytes there are at the address")
        elif offset is None:
            offset = address
        status = _STATUS()
        self._handle = ctypes.c_void_p(
            self._library.intaglio_linux_open(
                os.fsencode(uio), os.fsencode(memory), offset, address, size, ctypes.byref(status)
            )
        )
        if not self._handle:
            raise NetworkError(
                f"{shown(uio)}, {shown(memory)}: cannot be opened ({os.strerror(ctypes.get_errno())})"
            )
        try:
            self._require(status.value, shown(uio))
            load = self._library.intaglio_linux_load(self._handle, self._content, len(self._content))
            self._require(load, f"{shown(artifact)} on {shown(uio)}")
        except NetworkError:
            self.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._handle:
            self._library.intaglio_linux_close(self._handle)
            self._handle = ctypes.c_void_p()

    def run(self, inputs: session.Inputs, *, limit: int | None = None) -> DeviceRun:
        """Run each inference of the inputs, which are as `intaglio.run` takes them.

        Raises
        ------
        NetworkError
            The inputs are not usable.
        MachineStopped
            The machine stopped itself, or did not come to its end in time.
        """
        batch, count = session.inputs_of(inputs, self.artifact, limit)
        rows = [tensor.binding.pack(batch[tensor.name]) for tensor in self.artifact.of_role(Role.INPUT)]
        return self._infer_each(
            [[row[number].tobytes() for row in rows] for number in range(count)], (Role.OUTPUT,)
        )

    def self_test(self) -> int:
        """Run the artifact's own tests; how many tensors were compared, 0 where it has no tests.

        Raises MachineStopped where one differs, naming the first, and as `run`.
        """
        tests = self.artifact.tests
        if not tests:
            return 0
        found = self._infer_each([test.inputs for test in tests], (Role.OUTPUT, Role.LAYER))
        compared, difference = compared_with_tests(self.artifact, found.outputs)
        if difference is not None:
            raise MachineStopped(f"{difference}; {compared} tensors before it are equal")
        return compared

    def _infer_each(self, inputs: Sequence[Sequence[bytes]], roles: tuple[Role, ...]) -> DeviceRun:
        """Of each inference the bytes of its inputs; the tensors of these roles are read."""
        wanted = [
            (place, tensor) for place, tensor in enumerate(self.artifact.stored) if tensor.role in roles
        ]
        stored: dict[str, list[npt.NDArray]] = {tensor.name: [] for _, tensor in wanted}
        counters, layers = [], []
        for number, given in enumerate(inputs):
            self._infer(number, given)
            for place, tensor in wanted:
                content = ctypes.create_string_buffer(tensor.binding.bytes)
                self._require(self._library.intaglio_linux_read(self._handle, place, content), tensor.name)
                stored[tensor.name].append(tensor.binding.unpack(np.frombuffer(content.raw, np.uint8)))
            counters.append(self._counters())
            layers.append(tuple(map(self._cycles, range(len(self.artifact.program.layers)))))
        return DeviceRun(
            outputs={name: np.concatenate(values) for name, values in stored.items()},
            cycles=tuple(counted["cycles"] for counted in counters),
            layer_cycles=tuple(layers),
            counters=tuple(counters),
        )

    def _infer(self, number: int, inputs: Sequence[bytes]) -> None:
        for tensor, content in enumerate(inputs):
            self._require(self._library.intaglio_linux_write(self._handle, tensor, content), "an input")
        self._require(self._library.intaglio_linux_start(self._handle), "a start")
        self._wait(number)

    def _counters(self) -> Mapping[str, int]:
        counters = (_U32 * len(COUNTERS))()
        self._library.intaglio_linux_result(self._handle, counters)
        return dict(zip([register.name.lower() for register in COUNTERS], counters, strict=True))

    def _wait(self, number: int) -> None:
        library, handle = self._library, self._handle
        status = library.intaglio_linux_wait(handle, self._timeout)
        if status == _FAULT:
            text = ctypes.create_string_buffer(512)
            library.intaglio_linux_fault_text(handle, text, len(text))
            said = text.value.decode(errors="replace")
            raise MachineStopped(f"inference {number}: the machine stopped itself: {said}")
        if status != _OK:
            # Whatever comes next finds a machine at rest.
            library.intaglio_linux_abort(handle)
            library.intaglio_linux_wait(handle, self._timeout)
            raise MachineStopped(f"inference {number}: {self._text(status)}")

    def _cycles(self, layer: int) -> int:
        cycles = _U32()
        self._require(
            self._library.intaglio_linux_layer_cycles(self._handle, layer, ctypes.byref(cycles)), "a layer"
        )
        return cycles.value

    def _text(self, status: int) -> str:
        return str(self._library.intaglio_status_text(status).decode())

    def _require(self, status: int, where: str) -> None:
        if status != _OK:
            raise NetworkError(f"{where}: {self._text(status)}")


def build() -> Path:
    """The driver as a shared library, from the cache; compiled by `cc` unless it is there.

    Raises NetworkError where the sources or a compiler are missing, or it fails.
    """
    sources = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("linux/*.c")])
    if not sources:
        raise NetworkError(f"{SOURCES}: the driver's sources are not there; name a library that is built")
    digest = hashlib.sha256()
    for path in (*sources, *sorted(SOURCES.rglob("*.h"))):
        digest.update(path.read_bytes())
    place = kept.folder() / "driver" / f"libintaglio-{digest.hexdigest()[:16]}.so"
    if place.is_file():
        return place
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NetworkError("no C compiler is installed to build the driver with; install gcc")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = place.with_name(f"{place.name}.{os.getpid()}")
        command = [compiler, "-std=c99", "-O2", "-fPIC", "-shared", *map(str, sources), "-o", str(work)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        work.replace(place)
    except subprocess.CalledProcessError as error:
        raise NetworkError(
            f"{compiler} cannot build the driver: {error.stderr.strip().splitlines()[0]}"
        ) from error
    except OSError as error:
        raise NetworkError(f"{place}: cannot be written ({reason(error)}); {kept.ELSEWHERE}") from error
    return place


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path), use_errno=True)
    except OSError as error:
        raise NetworkError(f"{path}: is no library for this processor ({error})") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"intaglio_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def _buffer(device: Path) -> tuple[int, int]:
    """Address and size of a u-dma-buf. Raises NetworkError where it says none."""
    facts = BUFFER_FACTS / device.name
    try:
        return int((facts / "phys_addr").read_text(), 0), int((facts / "size").read_text(), 0)
    except (OSError, ValueError) as error:
        raise NetworkError(
            f"{shown(device)}: {facts} does not say where it lies ({reason(error)}); give its address and size"
        ) from error
