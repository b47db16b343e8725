"""Artifacts: a network compiled into files for a driver, and such a file run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intaglio import golden, session
from intaglio.compiler import compile_network
from intaglio.compiler.artifact import (
    Artifact,
    SelfTest,
    artifact_of,
    c_sources,
    compared_with_tests,
    decode,
    described,
    encode,
    identifier,
    recognised,
    self_tests,
    storing_layers,
)
from intaglio.errors import ArgumentError
from intaglio.network import Network, NetworkError
from intaglio.network.files import read_bytes, shown
from intaglio.network.inputs import check_batch, load_inputs
from intaglio.outputs import folder_for, write_bytes, write_json
from intaglio.sim.simulator.run import run_alone
from intaglio.spec.artifact import MAGIC, Role
from intaglio.spec.config import AcceleratorConfig

Batch = Mapping[str, npt.NDArray]
SEED = 20261
"""Of self-tests' inputs, so that a network's artifact is the same bytes every time."""


@dataclass(frozen=True)
class Written:
    """Files that `write` made, NAME.bin first, and what they hold."""

    artifact: Artifact
    files: tuple[Path, ...]

    def lines(self) -> list[str]:
        """What is said of it to people."""
        artifact, program = self.artifact, self.artifact.program
        sizes = ", ".join(f"{region.name} {size:,}" for region, size in program.region_bytes.items() if size)
        tests = f", {len(artifact.tests)} self-tests" if artifact.tests else ""
        return [
            *(f"warning: {warning}" for warning in program.warnings),
            f"{artifact.name} for {program.config}: {program.command_count:,} commands{tests}; bytes of {sizes}",
            *(str(path) for path in self.files),
        ]


@dataclass(frozen=True)
class ArtifactRun:
    """What `run` found.

    Attributes
    ----------
    outputs : the network's, by tensor name, batch first
    compared : how many tensors' CRCs were compared with those of the self-tests; 0 where inputs were given
    difference : which tensor was the first that differed, in which self-test
    cycles : of one inference, the mean; None where the backend counts none
    """

    artifact: Artifact
    config: AcceleratorConfig
    inferences: int
    outputs: Batch
    compared: int
    difference: str | None
    cycles: float | None

    def lines(self) -> list[str]:
        """What is said of it to people; the last is the verdict."""
        cycles = "" if self.cycles is None else f", {self.cycles:,.0f} cycles each"
        ran = f"{self.artifact.name} on {self.config.name}: {self.inferences:,} inferences{cycles}"
        if self.difference is not None:
            return [ran, f"DIFFERENT: {self.difference}, {self.compared:,} tensors before it are equal"]
        if self.compared:
            return [ran, f"EQUAL: {self.compared:,} tensors have the CRC that the self-tests want"]
        return [ran, "outputs alone: nothing was compared"]


def is_artifact(path: session.Source) -> bool:
    """Whether a file says in its first bytes that it is an artifact."""
    try:
        with Path(path).open("rb") as file:
            return recognised(file.read(len(MAGIC)))
    except (OSError, ValueError):  # whoever reads it as a network says what is wrong
        return False


def write(
    model: session.Model,
    directory: session.Source,
    config: session.Config | None = None,
    *,
    bits: int = 4,
    runtime: str = "litert",
    tests: int = 0,
    inputs: session.Inputs | None = None,
    layers: bool = False,
) -> Written:
    """Compile a network, and write NAME.bin, NAME.json, NAME.h and NAME.c; NAME is made of the network's.

    Parameters
    ----------
    model, config, bits, runtime : as `intaglio.session.compile`
    directory : made if needed
    tests : how many self-tests the artifact carries
    inputs : their inputs, as `intaglio.session.run` takes them; numbers of the inputs' types, at random, where None
    layers : the program also stores each layer's output

    Raises
    ------
    NetworkError
        One line: the network, the configuration, the inputs or the folder is not usable.
    """
    network = session.load(model, bits=bits, runtime=runtime)
    if inputs is not None and not tests:
        raise ArgumentError("inputs", "they are those of self-tests: say how many with --self-test")
    folder = folder_for("output", directory)
    accelerator, program = session.on_machine(
        storing_layers(network) if layers else network, config, compile_network
    )
    made = _tests(network, accelerator, tests, inputs) if tests else ()
    artifact = artifact_of(program, network, accelerator, made, producer=f"intaglio {_version()}")
    name, content = identifier(network.name), encode(artifact)
    header, source = c_sources(artifact, content, name)
    files = tuple(folder / f"{name}.{ending}" for ending in ("bin", "json", "h", "c"))
    write_bytes(files[0], content)
    write_json(files[1], described(artifact))
    write_bytes(files[2], header.encode())
    write_bytes(files[3], source.encode())
    return Written(artifact, files)


def run(
    path: session.Source,
    inputs: session.Source | None = None,
    *,
    config: session.Config | None = None,
    backend: str = "rtl",
    limit: int | None = None,
    building: Callable[[tuple[str, ...]], None] = lambda names: None,
) -> ArtifactRun:
    """Run an artifact on the machine that it was compiled for: on inputs, or, without, its self-tests.

    Parameters
    ----------
    path : NAME.bin
    inputs : a file that `intaglio.network.inputs.load_inputs` reads
    config : the machine; where None, the configuration of the name in the artifact, if that ships
    backend, limit, building : as `intaglio.session.run`

    Raises
    ------
    NetworkError
        One line: the file is no artifact, damaged, of another version, or for another machine; or as `session.run`.
    MachineStopped
        The machine stopped itself, or did not come to an end.
    """
    session.check_way(1, backend, None)
    where = shown(path)
    artifact = decode(read_bytes(path), where)
    machine = _machine(artifact, config, where)
    batch: Batch
    if inputs is not None:
        batch = load_inputs(inputs, artifact, limit)
    elif artifact.tests:
        batch = {
            tensor.name: tensor.binding.unpack(
                np.stack([np.frombuffer(test.inputs[i], np.uint8) for test in artifact.tests[:limit]])
            )
            for i, tensor in enumerate(artifact.of_role(Role.INPUT))
        }
    else:
        raise ArgumentError("inputs", f"{where} carries no self-tests; give a file of inputs")
    count = check_batch(artifact, batch)
    if backend == "rtl":
        session.prepare([machine], building)
    stored, cycles = run_alone(artifact.program, machine, batch, backend)
    compared, difference = compared_with_tests(artifact, stored) if inputs is None else (0, None)
    return ArtifactRun(
        artifact=artifact,
        config=machine,
        inferences=count,
        outputs={tensor.name: stored[tensor.name] for tensor in artifact.of_role(Role.OUTPUT)},
        compared=compared,
        difference=difference,
        cycles=float(np.mean(cycles)) if cycles else None,
    )


def _version() -> str:
    from importlib.metadata import version

    return version("intaglio")


def _tests(
    network: Network, config: AcceleratorConfig, count: int, inputs: session.Inputs | None
) -> tuple[SelfTest, ...]:
    if inputs is None:
        rng = np.random.default_rng(SEED)
        types = {name: network.tensors[name] for name in network.inputs}
        batch: Batch = {
            name: rng.integers(
                tensor.type.min, tensor.type.max, (count, *tensor.shape), endpoint=True
            ).astype(tensor.type.dtype)
            for name, tensor in types.items()
        }
    else:
        batch, found = session.inputs_of(inputs, network, count)
        if found < count:
            raise ArgumentError("inputs", f"holds {found} inferences for {count} self-tests; give more")
    return self_tests(network, config, batch, golden.run(network, batch).tensors)


def _machine(artifact: Artifact, config: session.Config | None, where: str) -> AcceleratorConfig:
    """The machine that was named, or that the artifact names. Raises NetworkError where it is another."""
    program = artifact.program
    if config is None and program.config not in AcceleratorConfig.names():
        raise ArgumentError(
            "config", f"{where} is for {shown(program.config)}, which does not ship; name its file"
        )
    machine = session.load_config(program.config if config is None else config)
    if machine.fingerprint != program.fingerprint:
        raise NetworkError(
            f"{where}: is for a machine {shown(program.config)} of fingerprint {program.fingerprint:#010x}, "
            f"{machine.name} here has {machine.fingerprint:#010x}; compile the network again"
        )
    return machine
