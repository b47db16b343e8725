"""Each trained network beside the others: accuracy, what it moves, how long it takes, what its machine is made of.

A folder holds networks, each in a file that `intaglio.load` reads, DATASET_SCHEME.*, and beside it DATASET_SCHEME.json
of what training measured. machines.json names the machine of a network, by its file's name without suffix; of the
others it is the smallest that ships and fits. DATASET_float.json has no network: its accuracy is what the others are
compared with. Test images are DATASET_test.npz in the folder, else the IDX files of ``--data``. No network and no
scheme is named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bench.area import Area
from bench.synthesis import Size
from intaglio import golden, session
from intaglio.compiler import Program
from intaglio.compiler.digits import weight_digits
from intaglio.network import Network, NetworkError
from intaglio.network.files import shown
from intaglio.network.graph import WeightLayer
from intaglio.network.inputs import load_inputs, load_labels
from intaglio.network.load import load
from intaglio.outcome import accuracy_of, check_labels
from intaglio.report import scheme_of
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

MODELS = Path("bench") / "models"
_FLOAT = "float"
_MACHINES = "machines.json"
_NETWORKS = (".npz", ".tflite", ".txt")
_TEST_IMAGES, _TEST_LABELS = "t10k-images*idx3-ubyte*", "t10k-labels*idx1-ubyte*"

Simulate = Callable[..., RunResult]


@dataclass(frozen=True)
class Candidate:
    """A network to measure.

    Attributes
    ----------
    path : of the network
    measured : what training measured, as its json has it
    config : its machine; None: the smallest that ships and fits
    images, labels : files of the test set
    """

    path: Path
    measured: Mapping[str, Any]
    config: str | None
    images: Path
    labels: Path

    @property
    def dataset(self) -> str:
        return _dataset(self.path)


@dataclass(frozen=True)
class InDigits:
    """A layer whose activations or weights are wider than its machine's: `passes` over the array for one, `cycles`."""

    layer: str
    operand: str
    machine: str
    passes: int
    cycles: float


@dataclass(frozen=True)
class Row:
    """What was measured of a network.

    Attributes
    ----------
    name, scheme, dataset : the network's
    config : its machine
    images : inferences run
    golden, hardware : how many of them the numpy model, and the simulated machine, tell right
    mismatches : elements in which the two differ
    overflows : sums that did not fit their accumulator, by golden, over all inferences
    elements : of all layers' outputs, over all inferences: what was compared
    macs : multiply-accumulates an inference
    weight_bits : of the weights as numbers of their type
    weight_bytes : of the weight stream in memory: tiles with their padding, and rescale parameters; what is streamed
        again counts once
    bus_bytes : read and written an inference, whole beats
    cycles : an inference
    in_digits : layers whose operands are wider than the array's
    cycles_per_second : that one core simulated: of the computer, not of the network
    """

    name: str
    scheme: str
    dataset: str
    config: AcceleratorConfig
    images: int
    golden: int
    hardware: int
    mismatches: int
    elements: int
    overflows: int
    macs: int
    weight_bits: int
    weight_bytes: int
    bus_bytes: float
    cycles: float
    in_digits: Sequence[InDigits]
    cycles_per_second: float


@dataclass(frozen=True)
class Comparison:
    """All that the tables say.

    Attributes
    ----------
    rows : the networks
    floating : accuracy of the float network, by data set
    areas : by configuration's name
    same_array : the machine of `bench.area.SAME_ARRAY` with each rescale scheme
    arrays : of `bench.area.measure_paper_arrays`
    planes : of `bench.area.measure_planes`
    """

    rows: Sequence[Row]
    floating: Mapping[str, float]
    areas: Mapping[str, Area]
    same_array: Sequence[Area]
    arrays: Mapping[bool, Sequence[Size]]
    planes: Sequence[Size]


def candidates(folder: Path, data: Path | None) -> list[Candidate]:
    """The networks in `folder`, by name, with their test sets.

    Raises
    ------
    NetworkError
        Where there is none, or one lacks its json or its test set.
    """
    found = []
    machines = _json(folder / _MACHINES) if (folder / _MACHINES).is_file() else {}
    for path in sorted(path for path in folder.glob("*_*") if path.suffix in _NETWORKS):
        if path.stem.endswith("_test"):
            continue
        images, labels = _test_set(path, data)
        measured = _json(path.with_suffix(".json"))
        found.append(Candidate(path, measured, machines.get(path.stem), images, labels))
    if not found:
        raise NetworkError(
            f"{shown(folder)}: holds no network, DATASET_SCHEME.npz; train some, or give --models"
        )
    return found


def floating(folder: Path) -> dict[str, float]:
    """The float networks' accuracies on the test images, 0…1, by data set."""
    found = {}
    for path in sorted(folder.glob(f"*_{_FLOAT}.json")):
        measured = _json(path)
        try:
            found[_dataset(path)] = float(measured["test_accuracy_simulated"])
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"{shown(path)}: has no test_accuracy_simulated; train again") from error
    return found


def _dataset(path: Path) -> str:
    return path.stem.split("_")[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NetworkError(
            f"{shown(path)}: cannot be read as json ({error}); train again, or correct it"
        ) from error
    if not isinstance(content, dict):
        raise NetworkError(f"{shown(path)}: is no json object; train again, or correct it")
    return content


def _test_set(path: Path, data: Path | None) -> tuple[Path, Path]:
    beside = path.with_name(f"{_dataset(path)}_test.npz")
    if beside.is_file():
        return beside, beside
    if data is None:
        raise NetworkError(
            f"{shown(path)}: its test images, {beside.name}, are not beside it; name MNIST's folder with --data"
        )
    found = []
    for pattern in (_TEST_IMAGES, _TEST_LABELS):
        files = sorted(data.glob(pattern))
        if not files:
            raise NetworkError(f"{shown(data)}: has no {pattern}; name the folder of MNIST's IDX files")
        found.append(files[0])
    return found[0], found[1]


def run_network(candidate: Candidate, simulate: Simulate, limit: int | None = None) -> Row:
    """Run a network in golden and on its simulated machine, every element of every layer compared.

    Parameters
    ----------
    candidate : Candidate
    simulate : as `intaglio.session.run`, of a compiled network and its inputs
    limit : test images to take from the front

    Raises
    ------
    NetworkError
        Where a file is unusable or the network fits no machine.
    sim.machine.MachineStopped
    """
    bits = candidate.measured.get("bits", 4)
    network = load(candidate.path, bits=bits if isinstance(bits, int) else 4)
    inputs = load_inputs(candidate.images, network, limit)
    count = len(next(iter(inputs.values())))
    labels = load_labels(candidate.labels, count)
    check_labels(network, labels)
    compiled = session.compile(network, candidate.config)
    config, program = compiled.config, compiled.program
    expected = golden.run(network, inputs, outputs_only=True)
    result = simulate(compiled, inputs)
    if result.mismatches is None:
        raise ValueError("`simulate` must compare with golden")
    weights = [layer for layer in network.layers if isinstance(layer, WeightLayer)]
    beats = result.counters["read_beats"] + result.counters["write_beats"]
    return Row(
        name=network.name,
        scheme=scheme_of(network),
        dataset=candidate.dataset,
        config=config,
        images=count,
        golden=_right(expected.tensors, labels),
        hardware=_right(result.outputs, labels),
        mismatches=result.mismatches,
        elements=count * sum(network.tensors[layer.output].size for layer in network.layers),
        overflows=sum(expected.overflows.values()),
        macs=network.macs,
        weight_bits=sum(layer.weights.size * layer.weight_type.bits for layer in weights),
        weight_bytes=weight_stream_bytes(program, config.bus_bytes),
        bus_bytes=beats * config.bus_bytes,
        cycles=result.counted_cycles,
        in_digits=_in_digits(network, config, result),
        cycles_per_second=result.cycles_per_second,
    )


def _in_digits(network: Network, config: AcceleratorConfig, result: RunResult) -> list[InDigits]:
    found = []
    for layer, cycles in zip(network.layers, result.layer_cycles, strict=True):
        if isinstance(layer, WeightLayer):
            kind = network.tensors[layer.inputs[0]].type
            digits, of_weights = -(-kind.bits // config.element_bits), weight_digits(layer.weights, config)
            activations = ", ".join(config.activation_types)
            if digits > 1:
                passes = 1 if config.digits_together(digits, kind.signed) else digits
                found.append(InDigits(layer.name, f"{kind} activations", activations, passes, cycles))
            if of_weights > 1:
                wide = f"{layer.weight_type} weights"
                found.append(InDigits(layer.name, wide, str(config.weight), of_weights, cycles))
    return found


def _right(outputs: Mapping[str, npt.NDArray], labels: npt.NDArray) -> int:
    accuracy = accuracy_of(outputs, labels)
    return 0 if accuracy is None else round(accuracy * len(labels))


def weight_stream_bytes(program: Program, beat_bytes: int) -> int:
    """Bytes of memory that the program's WEIGHTS commands read, each byte once."""
    commands = [program.command(index) for index in range(program.command_count)]
    stretches = sorted(
        (
            fields["memory_offset"],
            fields["memory_offset"] + fields["beats"] * fields["stretches"] * beat_bytes,
        )
        for opcode, fields in commands
        if opcode is Opcode.WEIGHTS
    )
    total, reached = 0, 0
    for begin, end in stretches:
        total += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return total
