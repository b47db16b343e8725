"""A machine behind UIO. The kernel's side cannot be run here: files stand for the UIO device and for memory, and a
thread for the machine, which runs the artifact's program on the functional backend when a start is written."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import intaglio
from bench.driver_harness import DRIVER, SOURCES
from intaglio import artifacts, device, golden, session
from intaglio.compiler.artifact import Artifact
from intaglio.device import Device
from intaglio.network import NetworkError
from intaglio.sim.simulator.functional.backend import FunctionalMachine
from intaglio.sim.simulator.machine import MachineStopped
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import (
    CONTROL_START,
    ID_VALUE,
    REGION_REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_FAULT,
    VERSION_VALUE,
    Cause,
    Register,
)

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")

MODELS = Path(intaglio.__file__).parent / "models"
TINY = Path(__file__).with_name("tiny.toml")
ADDRESS, SIZE = 0x3F00_0000, 1 << 16


def mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


class StandIn(threading.Thread):
    """Registers and memory in two files, and a machine behind them. `cause`: it stops itself instead; `hangs`: it never
    ends; `breaks`: a tensor that it stores wrong."""

    def __init__(self, folder: Path, artifact: Artifact, config: AcceleratorConfig) -> None:
        super().__init__(daemon=True)
        self.uio, self.memory_file = folder / "uio0", folder / "udmabuf0"
        self.uio.write_bytes(bytes(4096))
        self.memory_file.write_bytes(bytes([0xA5]) * SIZE)
        self._registers, self.memory = mapped(self.uio), mapped(self.memory_file)
        self._artifact, self._machine = artifact, FunctionalMachine(artifact.program, config)
        self.cause, self.hangs, self.breaks = Cause.NONE, False, ""
        self.started, self._end = threading.Event(), threading.Event()
        for register, value in (
            (Register.ID, ID_VALUE),
            (Register.VERSION, VERSION_VALUE),
            (Register.FINGERPRINT, config.fingerprint),
        ):
            self.write(register, value)

    def read(self, register: Register) -> int:
        return int(struct.unpack_from("<I", self._registers, register)[0])

    def write(self, register: Register, value: int) -> None:
        struct.pack_into("<I", self._registers, register, value)

    def run(self) -> None:
        while not self._end.wait(0.001):
            control = self.read(Register.CONTROL)
            if control:
                self.write(Register.CONTROL, 0)
                self._infer() if control & CONTROL_START else self._fault(Cause.ABORTED)

    def end(self) -> None:
        self._end.set()
        self.join()
        self._registers.close()
        self.memory.close()

    def base(self, region: Region) -> int:
        registers = REGION_REGISTERS[region]
        return self.read(registers.base) + (self.read(registers.base_high) << 32) - ADDRESS

    def _infer(self) -> None:
        self.write(Register.STATUS, STATUS_BUSY)
        self.started.set()
        if self.hangs:
            return
        if self.cause is not Cause.NONE:
            self._fault(self.cause)
            return
        program = self._artifact.program
        image = self.memory[self.base(Region.PROGRAM) :][: len(program.image)]
        assert image == program.image.tobytes()
        inputs = {}
        for binding in program.inputs:
            place = self.base(binding.region) + binding.offset
            inputs[binding.tensor] = binding.unpack(
                np.frombuffer(self.memory[place : place + binding.bytes], np.uint8)
            )
        found = self._machine.infer(inputs).outputs
        for binding in program.outputs:
            place = self.base(binding.region) + binding.offset
            content = bytearray(binding.pack(found[binding.tensor])[0].tobytes())
            content[0] ^= binding.tensor == self.breaks
            self.memory[place : place + binding.bytes] = content
        self.write(Register.CYCLES, 1234)
        self.write(Register.STATUS, STATUS_DONE)

    def _fault(self, cause: Cause) -> None:
        self.write(Register.FAULT_CAUSE, cause)
        self.write(Register.FAULT_COMMAND, 3)
        self.write(Register.STATUS, STATUS_FAULT)


@pytest.fixture
def artifact(tmp_path: Path) -> artifacts.Written:
    return artifacts.write(MODELS / "digits_sbnq4.txt", tmp_path, TINY, tests=2, layers=True)


@pytest.fixture
def machine(tmp_path: Path, artifact: artifacts.Written):
    stand_in = StandIn(tmp_path, artifact.artifact, AcceleratorConfig.load(TINY))
    stand_in.start()
    yield stand_in
    stand_in.end()


@pytest.fixture
def opened(machine: StandIn, artifact: artifacts.Written, monkeypatch):
    """A device whose wait begins when the stand-in has seen the start: it is not as quick as a machine's registers."""
    wait = Device._wait

    def patient(self: Device, number: int) -> None:
        assert machine.started.wait(30)
        machine.started.clear()
        wait(self, number)

    monkeypatch.setattr(Device, "_wait", patient)
    with Device(
        artifact.files[0],
        uio=machine.uio,
        memory=machine.memory_file,
        address=ADDRESS,
        size=SIZE,
        offset=0,
        timeout=30,
    ) as device:
        yield device


def test_what_golden_says(opened: Device) -> None:
    network = session.load(MODELS / "digits_sbnq4.txt")
    inputs, _ = session.inputs_of(MODELS / "digits_test.npz", network, 5)
    found = opened.run(MODELS / "digits_test.npz", limit=5)
    (name,) = network.outputs
    np.testing.assert_array_equal(found.outputs[name], golden.run(network, inputs).tensors[name])
    assert found.cycles == (1234,) * 5
    assert [len(layers) for layers in found.layer_cycles] == [len(network.layers)] * 5
    assert found.counters[0]["cycles"] == 1234
    (given,) = inputs.values()
    np.testing.assert_array_equal(opened.run(given).outputs[name], found.outputs[name])


def test_its_own_tests(opened: Device, machine: StandIn) -> None:
    layers = len(opened.artifact.program.layers)
    assert opened.self_test() == 2 * (layers + 1)
    machine.breaks = opened.artifact.program.outputs[-1].tensor
    name = opened.artifact.program.layers[-2].name
    with pytest.raises(
        MachineStopped, match=rf"^self-test 0: layer {name} differs; {layers - 2} tensors before it"
    ):
        opened.self_test()


def test_a_fault_is_told(opened: Device, machine: StandIn) -> None:
    machine.cause = Cause.WATCHDOG
    owner = opened.artifact.program.owners[3]
    with pytest.raises(MachineStopped, match=rf"^inference 0: .* WATCHDOG at command 3 \({owner}\)$"):
        opened.run(MODELS / "digits_test.npz", limit=1)


def test_a_machine_that_does_not_end_is_aborted(
    machine: StandIn, opened: Device, artifact: artifacts.Written
) -> None:
    machine.hangs = True
    opened._timeout = 50
    with pytest.raises(MachineStopped, match="^inference 0: the machine did not come to its end in time$"):
        opened.run(MODELS / "digits_test.npz", limit=1)
    machine.hangs, opened._timeout = False, 30_000
    assert len(opened.run(MODELS / "digits_test.npz", limit=1).cycles) == 1


def test_what_is_refused(machine: StandIn, artifact: artifacts.Written, tmp_path: Path) -> None:
    file = artifact.files[0]
    memory = {"memory": machine.memory_file, "address": ADDRESS, "offset": 0}
    with pytest.raises(NetworkError, match=r"uio9, .*: cannot be opened \(No such file"):
        Device(file, uio=tmp_path / "uio9", size=SIZE, **memory)
    with pytest.raises(NetworkError, match="`size`: say how many"):
        Device(file, uio=machine.uio, **memory)
    with pytest.raises(NetworkError, match="the memory is smaller than the region"):
        Device(file, uio=machine.uio, size=4096, **memory)
    with pytest.raises(NetworkError, match="begins at no multiple"):
        Device(file, uio=machine.uio, size=SIZE, **memory | {"address": ADDRESS + 8})
    with pytest.raises(NetworkError, match="none does not say where it lies"):
        Device(file, uio=machine.uio, memory="/dev/none")
    machine.write(Register.FINGERPRINT, 1)
    with pytest.raises(NetworkError, match="the artifact is for another machine"):
        Device(file, uio=machine.uio, size=SIZE, **memory)
    machine.write(Register.ID, 1)
    with pytest.raises(NetworkError, match="no Intaglio machine answers"):
        Device(file, uio=machine.uio, size=SIZE, **memory)


def test_a_buffer_says_where_it_lies(
    machine: StandIn, artifact: artifacts.Written, tmp_path: Path, monkeypatch
) -> None:
    facts = tmp_path / "class" / "udmabuf0"
    facts.mkdir(parents=True)
    (facts / "phys_addr").write_text(f"{ADDRESS:#018x}\n")
    (facts / "size").write_text(f"{SIZE}\n")
    monkeypatch.setattr(device, "BUFFER_FACTS", tmp_path / "class")
    with Device(artifact.files[0], uio=machine.uio, memory=machine.memory_file) as opened:
        image = opened.artifact.program.image.tobytes()
        assert machine.memory[: len(image)] == image


def test_strict_compilers_say_nothing(tmp_path: Path) -> None:
    for source in (*SOURCES, *(DRIVER / "linux").glob("*.c")):
        strict = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror", "-O2")
        subprocess.run(["gcc", *strict, "-c", str(source), "-o", str(tmp_path / "object.o")], check=True)
