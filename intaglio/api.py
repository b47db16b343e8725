"""A network on simulated hardware, or in the golden model, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

import intaglio.golden as golden_model
from intaglio.compiler import Program, compile_network
from intaglio.compiler.digits import weight_digits
from intaglio.network import Network, NetworkError
from intaglio.network.files import shown
from intaglio.network.graph import WeightLayer
from intaglio.network.inputs import check_batch, conform, load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator.run import RunResult
from intaglio.sim.simulator.run import run as run_program
from intaglio.spec.config import AcceleratorConfig

Source = str | os.PathLike[str]
Inputs = Source | Mapping[str, npt.NDArray] | npt.NDArray


def run(
    model: Source,
    inputs: Inputs,
    *,
    config: Source | None = None,
    bits: int = 4,
    runtime: str = "litert",
    limit: int | None = None,
    jobs: int = 1,
    check: bool = True,
    trace: Source | None = None,
) -> RunResult:
    """Run a network on simulated hardware and compare every tensor with the golden model.

    Parameters
    ----------
    model : a file that `intaglio.network.load.load` reads
    inputs : a file that `intaglio.network.inputs.load_inputs` reads, or arrays, batch first, by name where the
        network has several inputs; numbers become the network's as those of a file do
    config : a configuration that ships, or a TOML file; the smallest that ships and fits, where None
    bits, runtime : as in `intaglio.network.load.load`
    limit : inferences to take from the front
    jobs : worker processes; 1 runs in this one. With more, the calling script needs an ``if __name__ == "__main__"``
    check : compare with the golden model
    trace : write an FST trace of the first inference to this file

    Raises
    ------
    NetworkError, ValueError, TypeError
        One line: a file, a network, an input or a configuration is not usable, or they do not fit together.
    sim.machine.MachineStopped
        The machine stopped itself, or did not come to an end.
    """
    network = load(model, bits=bits, runtime=runtime)
    batch = inputs_of(inputs, network, limit)
    accelerator, program = compile_for(network, config)
    return run_program(
        network,
        program,
        accelerator,
        batch,
        jobs=jobs,
        check=check,
        trace=None if trace is None else Path(trace),
    )


def run_golden(
    model: Source,
    inputs: Inputs,
    *,
    bits: int = 4,
    runtime: str = "litert",
    limit: int | None = None,
    outputs_only: bool = False,
) -> golden_model.Result:
    """The golden model alone: every tensor of the network, or its outputs. Parameters as those of `run`."""
    network = load(model, bits=bits, runtime=runtime)
    return golden_model.run(network, inputs_of(inputs, network, limit), outputs_only=outputs_only)


def generate(
    config: Source = "sbnq8x8",
    output: Source = "build/verilog",
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[AcceleratorConfig, list[Path]]:
    """Write the Verilog of every unit and of a machine; the machine's configuration, and the files, its own the last.

    Parameters
    ----------
    config : a configuration that ships, or a TOML file
    output : a folder, made if needed
    progress : called with the number of files that are written

    Raises
    ------
    NetworkError
        The configuration or the folder is not usable.
    """
    accelerator, folder = load_config(config), Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise NetworkError(
            f"--output {shown(folder)}: no directory can be made there; name another"
        ) from error

    from intaglio.hdl.catalogue import units
    from intaglio.hdl.verilog import emit, emit_machine, write

    files = []
    for name, make in units().items():
        files.append(write(emit(make(), name), name, folder))
        progress(len(files))
    files.append(write(emit_machine(accelerator, "machine"), "machine", folder))
    progress(len(files))
    return accelerator, files


def inputs_of(inputs: Inputs, network: Network, limit: int | None) -> dict[str, npt.NDArray]:
    """Inputs by tensor name, from a file or from arrays."""
    if isinstance(inputs, str | os.PathLike):
        return dict(load_inputs(inputs, network, limit))
    if not isinstance(inputs, Mapping):
        if len(network.inputs) != 1:
            raise NetworkError(
                f"network {network.name}: name each of its inputs, {', '.join(network.inputs)}"
            )
        inputs = {network.inputs[0]: inputs}
    if limit is not None and limit < 1:
        raise NetworkError(f"the limit of inferences must be 1 or more, not {limit}")
    given = {name: np.asarray(values) for name, values in inputs.items()}
    check_batch(network, given)
    return {name: conform(values[:limit], network.tensors[name], "inputs") for name, values in given.items()}


def compile_for(network: Network, config: Source | None) -> tuple[AcceleratorConfig, Program]:
    """The machine and the program for it: the configuration that is named, else the smallest that ships and fits.

    Smallest is, of those whose array takes the weights of most MACs whole and not in digits, the narrowest weights,
    then fewest multipliers, then narrowest activations, then least scratchpad.
    """
    if config is not None:
        accelerator = load_config(config)
        return accelerator, compile_network(network, accelerator)
    shipped = sorted(map(AcceleratorConfig.load, AcceleratorConfig.names()), key=partial(_size, network))
    problems = []
    for accelerator in shipped:
        try:
            return accelerator, compile_network(network, accelerator)
        except NetworkError as error:
            problems.append(f"{accelerator.name}: {error}")
    raise NetworkError(
        f"network {network.name} fits no configuration that ships, give one with --config; {' | '.join(problems)}"
    )


def load_config(name_or_path: Source) -> AcceleratorConfig:
    """`AcceleratorConfig.load`, with NetworkError for all that is wrong with the user's."""
    try:
        return AcceleratorConfig.load(os.fspath(name_or_path))
    except (TypeError, ValueError, OSError) as error:
        raise NetworkError(f"--config: {error}") from error


def _size(network: Network, config: AcceleratorConfig) -> tuple[bool, int, int, int, int, str]:
    layers = [layer for layer in network.layers if isinstance(layer, WeightLayer)]
    in_digits = sum(
        layer.macs(network.tensors[layer.output].shape)
        for layer in layers
        if weight_digits(layer.weights, config) > 1
    )
    return (
        2 * in_digits > network.macs,
        config.weight.bits,
        config.rows * config.columns,
        config.element_bits,
        config.scratchpad_bytes,
        config.name,
    )
