"""What LiteRT's reference kernels and TensorFlow Lite Micro compute, in a process of its own: some files end it.

`python -m tests.tflite_oracles RUNTIME JOBS` is that process: jobs from a file, answers to standard output.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import tflite

MODULES = {"litert": "ai_edge_litert", "tflm": "tflite_micro"}
ARENA_BYTES = 4 << 20
TIMEOUT_SECONDS = 300
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Job:
    content: bytes
    """A .tflite file."""
    inputs: tuple[npt.NDArray[Any], ...]
    """Of each input of the file: inferences first, then its shape in the file, batch included."""


@dataclass(frozen=True)
class Answer:
    tensors: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    """What operators write, by the tensor's index in the file: inferences first, then its shape in the file."""
    refused: str = ""
    """Why there are none: what the runtime says, or how it died."""


def missing() -> list[str]:
    """The runtimes that are not installed."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]


def answers(runtime: str, jobs: Sequence[Job]) -> list[Answer]:
    """What `runtime`, litert or tflm, says to each job. One that ends the process is refused, the others go on."""
    given: list[Answer] = []
    while len(given) < len(jobs):
        with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
            pickle.dump(list(jobs[len(given) :]), file)
            file.flush()
            command = [sys.executable, "-m", "tests.tflite_oracles", runtime, file.name]
            with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
                ended = subprocess.run(
                    command, cwd=ROOT, stdout=said, stderr=complaints, timeout=TIMEOUT_SECONDS
                )
                said.seek(0)
                given += _unpickled(said)
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        if len(given) < len(jobs):
            if ended.returncode >= 0:
                raise RuntimeError(f"{runtime} ended with {ended.returncode}: {''.join(last)}")
            given.append(Answer(refused=f"signal {-ended.returncode}: {''.join(last)}"))
    return given


def _unpickled(stream: IO[bytes]) -> list[Answer]:
    found = []
    while True:
        try:
            found.append(pickle.load(stream))
        except (EOFError, pickle.UnpicklingError):  # where the process died while it wrote
            return found


def _written(content: bytes) -> list[int]:
    """The tensors that operators write."""
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    operators = (graph.Operators(i) for i in range(graph.OperatorsLength()))
    return sorted({o.Outputs(i) for o in operators for i in range(o.OutputsLength())})


def _litert(job: Job) -> dict[int, list[npt.NDArray[Any]]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=job.content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    slots = [detail["index"] for detail in interpreter.get_input_details()]
    written = _written(job.content)
    results: dict[int, list[npt.NDArray[Any]]] = {index: [] for index in written}
    for values in zip(*job.inputs, strict=True):
        for slot, value in zip(slots, values, strict=True):
            interpreter.set_tensor(slot, value)
        interpreter.invoke()
        for index in written:
            results[index].append(interpreter.get_tensor(index))
    return results


def _tflm(job: Job) -> dict[int, list[npt.NDArray[Any]]]:
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(
        job.content,
        arena_size=ARENA_BYTES,
        intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
    )
    written = _written(job.content)
    results: dict[int, list[npt.NDArray[Any]]] = {index: [] for index in written}
    for values in zip(*job.inputs, strict=True):
        for slot, value in enumerate(values):
            interpreter.set_input(value, slot)
        interpreter.invoke()
        for index in written:
            results[index].append(np.array(interpreter.GetTensor(index, 0)["tensor_data"]))
    return results


def _main(runtime: str, path: str) -> None:
    compute = {"litert": _litert, "tflm": _tflm}[runtime]
    # What the runtimes print goes elsewhere.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        with open(path, "rb") as file:
            jobs: list[Job] = pickle.load(file)
        for job in jobs:
            try:
                tensors = {index: np.stack(values) for index, values in compute(job).items()}
                answer = Answer(tensors)
            except Exception as error:  # whatever the runtime says no with
                answer = Answer(refused=f"{type(error).__name__}: {' '.join(str(error).split())}")
            pickle.dump(answer, out)
            out.flush()


if __name__ == "__main__":
    # Pickled objects are of the module that others import, not of __main__.
    from tests import tflite_oracles

    tflite_oracles._main(*sys.argv[1:])
