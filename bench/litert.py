"""Golden's speed beside that of LiteRT's reference kernels, on int8 networks: `python -m bench.litert [MODEL ...]`.

LiteRT's reference kernels run in one thread whatever it is given. Golden is measured twice, in processes of their own:
with one thread of numpy's matrix products, and with as many as numpy takes by itself. Rounds of both alternate, and the
fastest of each counts, so that other work on the machine slows neither alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from intaglio import golden
from intaglio.network.formats import tflite

BATCH = 100
ROUNDS = 7
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
ROOT = Path(__file__).parent.parent
NETWORKS = ROOT.parent / "shared" / "models" / "mlperf_tiny"


def show(console: Console, models: list[Path] | None = None) -> None:
    """Print a row for each of `models`, by default those of the reference material; a line where there is nothing."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        console.print(
            "golden beside LiteRT: skipped, LiteRT is not installed (pip install 'intaglio\\[oracles]')"
        )
        return
    models = models or sorted(NETWORKS.glob("*.tflite"))
    if not models:
        console.print(f"golden beside LiteRT: skipped, there is no .tflite file in {NETWORKS}; name some")
        return
    table = Table(
        title=f"inferences a second, batches of {BATCH}, the fastest of {ROUNDS}", title_justify="left"
    )
    table.add_column("network")
    for heading in (
        "LiteRT's reference kernels, 1 thread",
        "golden, 1 thread",
        "ratio",
        "golden, numpy's own threads",
    ):
        table.add_column(heading, justify="right")
    for model in models:
        one, own = _apart(model, 1), _apart(model, None)
        table.add_row(
            model.stem,
            f"{one['litert']:,.0f}",
            f"{one['golden']:,.0f}",
            f"{one['golden'] / one['litert']:.2f}",
            f"{own['golden']:,.0f}",
        )
    console.print(table)


def measure(model: Path) -> dict[str, float]:
    """Inferences a second of both, in this process; their outputs are the same, or this raises RuntimeError."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    network = tflite.load(model)
    shapes = [network.tensors[name].shape for name in network.inputs]
    random = np.random.default_rng(0)
    inputs = [random.integers(-128, 128, (BATCH, *shape)).astype(np.int8) for shape in shapes]
    interpreter = Interpreter(
        model_path=str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    details = interpreter.get_input_details()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], values.shape)
    interpreter.allocate_tensors()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    feeds = dict(zip(network.inputs, inputs, strict=True))

    def run_golden() -> object:
        return golden.run(network, feeds, outputs_only=True)

    theirs = interpreter.get_output_details()
    for which, name in zip(theirs, network.outputs, strict=True):
        interpreter.invoke()
        expected = interpreter.get_tensor(which["index"])
        ours = golden.run(network, feeds, outputs_only=True).tensors[name]
        if not np.array_equal(ours.reshape(expected.shape), expected):
            raise RuntimeError(f"{model.name}: golden's {name} is not LiteRT's")
    seconds = {"litert": float("inf"), "golden": float("inf")}
    for _ in range(ROUNDS):
        for what, call in (("litert", interpreter.invoke), ("golden", run_golden)):
            seconds[what] = min(seconds[what], _seconds(call))
    return {what: BATCH / duration for what, duration in seconds.items()}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _apart(model: Path, threads: int | None) -> dict[str, float]:
    """`measure` in a process whose numpy has so many threads: they are fixed when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    if threads is not None:
        environment |= dict.fromkeys(THREADS, str(threads))
    command = [sys.executable, "-m", "bench.litert", "--measure", str(model.resolve())]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=900
    )
    result: dict[str, float] = json.loads(ended.stdout)
    return result


def main(
    models: Annotated[list[Path] | None, typer.Argument(help="int8 .tflite files.")] = None,
    alone: Annotated[bool, typer.Option("--measure", hidden=True)] = False,
) -> None:
    """Golden's speed beside LiteRT's."""
    if alone and models:
        print(json.dumps(measure(models[0])))
    else:
        show(Console(width=None if os.isatty(1) else 160), models)


if __name__ == "__main__":
    typer.run(main)
