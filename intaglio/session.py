"""One session: load, compile, run, report. The command line, the Python API and the demo are made of these steps.

Each step takes a file or what an earlier step made of it, so that a network is read once and run many times:

compiled = intaglio.compile("model.tflite", config="affine8x8")
for batch in batches:
    print(intaglio.run(compiled, batch).mismatches)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from intaglio import golden
from intaglio.compiler import Estimate, Program, compile_network, estimate_network
from intaglio.compiler.digits import weight_digits
from intaglio.errors import ArgumentError
from intaglio.network import Network, NetworkError
from intaglio.network import load as formats
from intaglio.network.graph import WeightLayer
from intaglio.network.inputs import HasInputs, check_batch, conform, load_inputs, load_labels
from intaglio.outcome import Outcome, Prediction, check_labels
from intaglio.outputs import check_writable
from intaglio.sim.simulator.build import build_all, cached
from intaglio.sim.simulator.run import BACKENDS, RunResult
from intaglio.sim.simulator.run import run as run_program
from intaglio.spec.config import AcceleratorConfig

Source = str | os.PathLike[str]
Config = Source | AcceleratorConfig
Batch = Mapping[str, npt.NDArray]
Inputs = Source | Mapping[str, npt.ArrayLike] | npt.ArrayLike
Labels = Source | npt.ArrayLike
Made = TypeVar("Made")


@dataclass(frozen=True)
class Compiled:
    """A network, a machine, and the program that runs the one on the other."""

    network: Network
    config: AcceleratorConfig
    program: Program


Model = Source | Network | Compiled


def load(model: Model, *, bits: int = 4, runtime: str = "litert") -> Network:
    """The network in a file; a network that is loaded or compiled is taken as it is.

    Parameters
    ----------
    model : a .tflite file, an IntegerNet text export or an exchange .npz; or what `load` or `compile` made of one
    bits : N of an IntegerNet network, 2 to 8, which its file does not state; other formats ignore it
    runtime : whose rounding a TFLite file means, ``litert`` or ``tflm``; other formats state their arithmetic

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do: no such file, an unknown format, a malformed file.
    """
    if isinstance(model, Compiled):
        return model.network
    if isinstance(model, Network):
        return model
    if bits not in range(2, 9):
        raise ArgumentError("bits", f"an IntegerNet network has 2 to 8, not {bits}")
    return formats.load(model, bits=bits, runtime=runtime)


def compile(
    model: Model, config: Config | None = None, *, bits: int = 4, runtime: str = "litert"
) -> Compiled:
    """The network, a machine for it, and the program: on the machine that is named, else the smallest that ships and
    fits.

    Smallest is, of those whose array takes the weights of most MACs whole and not in digits, the narrowest weights,
    then fewest multipliers, then narrowest activations, then least scratchpad.

    Parameters
    ----------
    model, bits, runtime : as in `load`
    config : a configuration that ships, a TOML file, or a loaded configuration

    Raises
    ------
    NetworkError
        One line: the network or the configuration is not usable, or the one does not fit the other.
    """
    if isinstance(model, Compiled):
        if config is not None and load_config(config) != model.config:
            raise ArgumentError(
                "config", f"the network is compiled for {model.config.name}; leave it out, or compile again"
            )
        return model
    network = load(model, bits=bits, runtime=runtime)
    accelerator, program = on_machine(network, config, compile_network)
    return Compiled(network, accelerator, program)


def estimate(
    model: Model, config: Config | None = None, *, bits: int = 4, runtime: str = "litert"
) -> Prediction:
    """The cycles of one inference, its layers, the memory and what the bus moves, without a simulation.

    Parameters and errors as those of `compile`.
    """
    network = load(model, bits=bits, runtime=runtime)
    if isinstance(model, Compiled):
        config = compile(model, config).config
    accelerator, found = on_machine(network, config, estimate_network)
    return Prediction(network=network, config=accelerator, **_fields(found))


def run(
    model: Model,
    inputs: Inputs,
    *,
    config: Config | None = None,
    labels: Labels | None = None,
    bits: int = 4,
    runtime: str = "litert",
    limit: int | None = None,
    jobs: int | None = 1,
    check: bool = True,
    backend: str = "rtl",
    trace: Source | None = None,
    building: Callable[[tuple[str, ...]], None] = lambda names: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Run a network on the machine and compare every tensor with the golden model.

    Parameters
    ----------
    model, config, bits, runtime : as in `compile`
    inputs : a file that `intaglio.network.inputs.load_inputs` reads, or arrays, batch first, by name where the
        network has several inputs; numbers become the network's as those of a file do
    labels : the class of each inference, for the accuracy: a file, or (inferences,) integers
    limit : inferences to take from the front
    jobs : worker processes; 1 runs in this one, None takes one a core; a script needs its ``__main__`` guard for more
    check : compare with the golden model
    backend : ``rtl`` simulates the machine's Verilog; ``functional`` interprets its commands: no build, no cycles
    trace : write an FST trace of the first inference to this file
    building : called with the machines' names before they are built, which takes a minute and is done once
    progress : called with the number of inferences that are done

    Raises
    ------
    NetworkError
        One line: a file, a network, an argument or a configuration is not usable, or they do not fit together. What
        is wrong with the inputs is found before a machine is built.
    intaglio.sim.simulator.machine.MachineStopped
        The machine stopped itself, or did not come to an end.
    """
    check_way(jobs, backend, trace)
    network = load(model, bits=bits, runtime=runtime)
    batch, count = inputs_of(inputs, network, limit)
    classes = labels_of(labels, network, count)
    compiled = compile(model if isinstance(model, Compiled) else network, config)
    if backend == "rtl":
        prepare([compiled.config], building, trace=trace is not None)
    result = run_program(
        network,
        compiled.program,
        compiled.config,
        batch,
        jobs=jobs or len(os.sched_getaffinity(0)),
        check=check,
        backend=backend,
        trace=None if trace is None else Path(trace),
        progress=progress,
    )
    return Outcome(**_fields(result), network=network, config=compiled.config, labels=classes)


def run_golden(
    model: Model,
    inputs: Inputs,
    *,
    bits: int = 4,
    runtime: str = "litert",
    limit: int | None = None,
    outputs_only: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> golden.Result:
    """The golden model alone: every tensor of the network, or its outputs. Parameters as those of `run`."""
    network = load(model, bits=bits, runtime=runtime)
    batch, _ = inputs_of(inputs, network, limit)
    return golden.run(network, batch, outputs_only=outputs_only, progress=progress)


def load_config(config: Config) -> AcceleratorConfig:
    """The configuration that ships under a name or that a TOML file holds; a loaded one is taken as it is.

    Raises NetworkError, in one line, where it is not usable.
    """
    if isinstance(config, AcceleratorConfig):
        return config
    try:
        return AcceleratorConfig.load(os.fspath(config))
    except (TypeError, ValueError, OSError) as error:
        raise ArgumentError("config", str(error)) from error


def inputs_of(inputs: Inputs, network: HasInputs, limit: int | None = None) -> tuple[Batch, int]:
    """Inputs by tensor name, as the network's integers, and how many inferences they are; see `run`."""
    if limit is not None and limit < 1:
        raise ArgumentError("limit", f"must be 1 or more, not {limit}")
    if isinstance(inputs, str | os.PathLike):
        loaded = load_inputs(inputs, network, limit)
        return loaded, check_batch(network, loaded)
    if not isinstance(inputs, Mapping):
        if len(network.inputs) != 1:
            raise ArgumentError("inputs", f"name each: the network has {', '.join(network.inputs)}")
        inputs = {network.inputs[0]: inputs}
    arrays = {name: np.asarray(values) for name, values in inputs.items()}
    try:
        count = check_batch(network, arrays, "inputs")
        batch = {
            name: conform(values[:limit], network.tensors[name], "inputs") for name, values in arrays.items()
        }
    except NetworkError as error:
        raise ArgumentError("inputs", str(error).removeprefix("inputs: ")) from error
    return batch, count if limit is None else min(count, limit)


def labels_of(labels: Labels | None, network: Network, count: int) -> npt.NDArray[np.integer] | None:
    """The classes of `count` inferences, from a file or from integers; None where there are none."""
    if labels is None:
        return None
    if isinstance(labels, str | os.PathLike):
        classes: npt.NDArray[np.integer] = load_labels(labels, count)
    else:
        classes = np.asarray(labels)
        if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < count:
            raise ArgumentError(
                "labels",
                f"must be {count} integers, one an inference, not {classes.dtype} of shape {classes.shape}",
            )
        classes = classes[:count]
    check_labels(network, classes)
    return classes


def prepare(
    configs: Iterable[AcceleratorConfig],
    building: Callable[[tuple[str, ...]], None] = lambda names: None,
    *,
    trace: bool = False,
) -> None:
    """Say which simulated machines are not built yet; of several, build all, side by side."""
    missing = {config.name: config for config in configs if not cached(config, trace)}
    if missing:
        building(tuple(missing))
    if len(missing) > 1:
        build_all(missing.values())


def on_machine(
    network: Network, config: Config | None, make: Callable[[Network, AcceleratorConfig], Made]
) -> tuple[AcceleratorConfig, Made]:
    """What is made of a network for the machine that is named, else for the smallest that ships and fits; and which."""
    if config is not None:
        accelerator = load_config(config)
        return accelerator, make(network, accelerator)
    problems = []
    for accelerator in sorted(
        map(AcceleratorConfig.load, AcceleratorConfig.names()), key=partial(_size, network)
    ):
        try:
            return accelerator, make(network, accelerator)
        except NetworkError as error:
            problems.append(f"{accelerator.name}: {error}")
    raise ArgumentError(
        "config", f"network {network.name} fits none that ships, name one of your own; {' | '.join(problems)}"
    )


def _fields(found: RunResult | Estimate) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}


def check_way(jobs: int | None, backend: str, trace: Source | None) -> None:
    """Raise NetworkError where a run cannot go the way that is asked for."""
    if jobs is not None and jobs < 1:
        raise ArgumentError("jobs", f"must be 1 or more, not {jobs}")
    if backend not in BACKENDS:
        raise ArgumentError("backend", f"there is no {backend}; give one of {', '.join(BACKENDS)}")
    if trace is not None:
        if backend != "rtl":
            raise ArgumentError("trace", f"the {backend} backend has no waves; leave it out")
        check_writable("trace", Path(trace))


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
