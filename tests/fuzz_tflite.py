"""Damaged .tflite files: each ends in one line, or in a network that golden runs. Nothing else, nothing without end.

`python -m tests.fuzz_tflite [--seed S] [--count N] [--jobs J]` tries N of them and prints what came of them.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import copy
import functools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.tflite_builder import TYPES, Builder
from intaglio import golden
from intaglio.network import NetworkError
from intaglio.network.formats import tflite
from tests import tflite_cases

ROOT = Path(__file__).parent.parent
MEMORY_BYTES = 4 << 30
SECONDS = 20
"""Of the processor, for one file to be read and run: its tensors may have 2**24 elements."""
PER_PROCESS = 2000
MAX_MESSAGE = 20_000

WORDS = (
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    0xFFFF,
    0x10000,
    1 << 20,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
FLOATS = (0.0, -0.0, -0.5, 1e-45, 1e-38, 1e-30, 1e-9, 1e30, 3e38, math.inf, -math.inf, math.nan)
EXTENTS = (-(2**31), -7, -1, 0, 1, 2, 3, 5, 64, 4096, 65536, 2**24, 2**31 - 1)
NAMES: tuple[str | bytes, ...] = (
    "",
    "a\nb",
    "\x1b[31m",
    "x" * 5000,
    "t0",
    b"\x80\xff",
    "../../etc",
    "a\u2028b",
    "\r",
    "\x00",
)


class Slow(Exception):
    """A file that took longer than SECONDS."""


@functools.cache
def originals() -> tuple[Builder, ...]:
    """Small valid networks: whole ones, and two of each operator."""
    found = [tflite_cases.small_network(1, False), tflite_cases.small_network(3, True)]
    found += [tflite_cases.float_edges(), tflite_cases.residual_network()]
    for kind in tflite_cases.CASES:
        smallest: dict[str, tuple[int, Builder]] = {}
        for case in tflite_cases.cases(kind):
            op, size = case.builder.operators[0][0], len(case.content)
            if op not in smallest or size < smallest[op][0]:
                smallest[op] = size, case.builder
        found += [builder for _, builder in smallest.values()]
    return tuple(found)


@functools.cache
def _contents() -> tuple[bytes, ...]:
    return tuple(builder.bytes() for builder in originals())


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Damaged files, and how each was damaged; the same for the same seed."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        which = int(random.integers(len(originals())))
        if number % 2:
            how = _BYTES[number // 2 % len(_BYTES)]
            name, content = how.__name__.strip("_"), how(_contents()[which], random)
        else:
            name, content = "rebuilt", _rebuilt(originals()[which], random)
        yield f"seed {seed}, number {number}: {name} of original {which}", content


# Of the bytes.


def _cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content)))]


def _flipped(content: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for _ in range(int(random.choice([1, 1, 1, 2, 8]))):
        damaged[int(random.integers(len(damaged)))] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def _overwritten(content: bytes, random: np.random.Generator) -> bytes:
    """A word becomes another: an offset, a length, a number."""
    damaged = bytearray(content)
    at = 4 * int(random.integers(len(damaged) // 4))
    word = int(random.choice(WORDS)) if random.random() < 0.7 else int(random.integers(len(damaged) + 8))
    damaged[at : at + 4] = word.to_bytes(4, "little")
    return bytes(damaged)


def _scaled(content: bytes, random: np.random.Generator) -> bytes:
    """A word becomes an odd float."""
    damaged = bytearray(content)
    at = 4 * int(random.integers(len(damaged) // 4))
    with np.errstate(over="ignore"):
        damaged[at : at + 4] = np.float32(random.choice(FLOATS)).tobytes()
    return bytes(damaged)


def _moved(content: bytes, random: np.random.Generator) -> bytes:
    """A part is taken out, doubled, or put in another's place."""
    start, end = sorted(int(i) for i in random.integers(0, len(content), 2))
    end = min(end, start + 64)
    part, to = content[start:end], int(random.integers(len(content)))
    kind = int(random.integers(3))
    if kind == 0:
        return content[:start] + content[end:]
    if kind == 1:
        return content[:to] + part + content[to:]
    return content[:to] + part + content[to + len(part) :]


_BYTES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _cut,
    _flipped,
    _overwritten,
    _scaled,
    _moved,
)


# Of what they say: whole flatbuffers, that make no sense.


def _rebuilt(builder: Builder, random: np.random.Generator) -> bytes:
    damaged = copy.deepcopy(builder)
    for _ in range(int(random.integers(1, 3))):
        _DAMAGES[int(random.integers(len(_DAMAGES)))](damaged, random)
    return damaged.bytes()


def _any_tensor(b: Builder, random: np.random.Generator) -> Any:
    return b.tensors[int(random.integers(len(b.tensors)))]


def _scale(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    if tensor.scales:
        scales = list(tensor.scales)
        scales[int(random.integers(len(scales)))] = float(np.float32(random.choice(FLOATS)))
        tensor.scales = scales


def _scales(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    kind = int(random.integers(4))
    if kind == 0:
        tensor.scales = None
    elif tensor.scales is not None:
        length = int(random.integers(0, 12))
        if kind == 1:
            tensor.scales = [0.1] * length
        elif kind == 2:
            tensor.zero_points = [int(random.choice([0, 1, -129, 2**31, -(2**63)]))] * length
        else:
            tensor.dimension = int(random.choice(EXTENTS))


def _zero_point(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    tensor.zero_points = [int(random.choice([-(2**63), -129, -128, 0, 1, 127, 128, 2**63 - 1]))]


def _shape(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    shape, kind = list(tensor.shape), int(random.integers(4))
    if kind == 0 or not shape:
        shape.insert(int(random.integers(len(shape) + 1)), int(random.choice(EXTENTS)))
    elif kind == 1:
        del shape[int(random.integers(len(shape)))]
    elif kind == 2:
        shape = [int(i) for i in random.permutation(shape)]
    else:
        shape[int(random.integers(len(shape)))] = int(random.choice(EXTENTS))
    tensor.shape = shape


def _all_shapes(b: Builder, random: np.random.Generator) -> None:
    """Every tensor's axis of one extent gets another: the file agrees with itself, and may be enormous."""
    chosen, new = _any_tensor(b, random).shape, int(random.choice(EXTENTS))
    extent = chosen[-1] if chosen else 1
    for tensor in b.tensors:
        if tensor.data is None:
            tensor.shape = [new if n == extent else n for n in tensor.shape]


def _signature(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    tensor.signature = [int(random.choice([-1, 1, n])) for n in tensor.shape] + [1] * int(random.integers(2))


def _type(b: Builder, random: np.random.Generator) -> None:
    _any_tensor(b, random).kind = int(random.choice([*TYPES.values(), 6, 17, 99, -1]))


def _data(b: Builder, random: np.random.Generator) -> None:
    tensor = _any_tensor(b, random)
    kind = int(random.integers(3))
    if tensor.data is None or kind == 0:
        tensor.data = np.zeros(int(random.integers(0, 70)), np.int8)
    elif kind == 1:
        tensor.data = tensor.data.reshape(-1)[: int(random.integers(tensor.data.size + 1))]
    else:
        tensor.data = np.full(tensor.data.size, random.choice(EXTENTS), np.int64).astype(tensor.data.dtype)


def _name(b: Builder, random: np.random.Generator) -> None:
    _any_tensor(b, random).name = NAMES[int(random.integers(len(NAMES)))]


def _index(b: Builder, random: np.random.Generator) -> None:
    """An operator, or the network, reads or writes another tensor."""
    other = int(random.choice([-(2**31), -2, -1, *range(len(b.tensors)), len(b.tensors), 2**31 - 1]))
    where = int(random.integers(len(b.operators) + 1))
    if where == len(b.operators):
        ends = b.inputs if random.random() < 0.5 else b.outputs
        ends[int(random.integers(len(ends)))] = other
        return
    op, inputs, outputs, options = b.operators[where]
    changed = [list(inputs), list(outputs)]
    part = changed[int(random.integers(2))]
    kind = int(random.integers(3))
    if kind == 0 or not part:
        part.append(other)
    elif kind == 1:
        del part[int(random.integers(len(part)))]
    else:
        part[int(random.integers(len(part)))] = other
    b.operators[where] = (op, changed[0], changed[1], options)


def _operators(b: Builder, random: np.random.Generator) -> None:
    """Twice the same, in another order, one less, or one that reads what comes after it."""
    if not b.operators:
        return
    kind, where = int(random.integers(4)), int(random.integers(len(b.operators)))
    if kind == 0:
        b.operators.insert(int(random.integers(len(b.operators) + 1)), b.operators[where])
    elif kind == 1:
        b.operators = [b.operators[int(i)] for i in random.permutation(len(b.operators))]
    elif kind == 2:
        del b.operators[where]
    else:
        op, inputs, outputs, options = b.operators[where]
        b.operators[where] = (op, [*outputs[:1], *inputs[1:]], outputs, options)


def _options(b: Builder, random: np.random.Generator) -> None:
    if not b.operators:
        return
    where = int(random.integers(len(b.operators)))
    op, inputs, outputs, options = b.operators[where]
    if not options or random.random() < 0.1:
        b.operators[where] = (op, inputs, outputs, None)
        return
    changed = list(options)
    at = int(random.integers(len(changed)))
    if isinstance(changed[at], list):
        changed[at] = [int(random.choice(EXTENTS)) for _ in range(int(random.integers(4)))]
    elif isinstance(changed[at], bool):
        changed[at] = not changed[at]
    elif isinstance(changed[at], float):
        changed[at] = float(np.float32(random.choice(FLOATS)))
    else:
        changed[at] = int(random.choice([-128, -1, 0, 1, 2, 3, 5, 127]))
    b.operators[where] = (op, inputs, outputs, changed)


_DAMAGES: tuple[Callable[[Builder, np.random.Generator], None], ...] = (
    _scale, _scales, _zero_point, _shape, _all_shapes, _signature, _type, _data, _name, _index, _operators, _options,
)  # fmt: skip


# What comes of them.


def outcome(content: bytes, runtime: str) -> str:
    """`refused`, or `runs`; anything else is a defect, and says what."""
    try:
        network = tflite.loads(content, runtime, where="model.tflite")
        inputs = {
            name: np.full((1, *network.tensors[name].shape), network.tensors[name].type.max, np.int64)
            for name in network.inputs
        }
        golden.run(network, inputs)
    except NetworkError as error:
        message = str(error)
        if (
            not message.isprintable()
            or not message.startswith("model.tflite: ")
            or len(message) > MAX_MESSAGE
        ):
            return f"a message that is no line: {message[:200]!r}"
        return "refused"
    except Slow:
        return f"more than {SECONDS} s"
    except MemoryError:
        return "out of memory"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "runs"


def attempt(seed: int, count: int) -> dict[str, Any]:
    """Try a seed's mutants, in this process; how many came to what, and the defects."""

    def slow(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGPROF, slow)
    tried: collections.Counter[str] = collections.Counter()
    defects = []
    for number, (what, content) in enumerate(mutants(seed, count)):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            came = outcome(content, ("litert", "tflm")[number % 3 == 0])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if came not in ("refused", "runs"):
            defects.append(f"{what}: {came}")
            came = "defect"
        tried[f"{what.split(': ')[1].split(' of ')[0]}: {came}"] += 1
    return {"tried": dict(tried), "defects": defects}


def attempt_apart(seed: int, count: int) -> dict[str, Any]:
    """`attempt` in a process that has so much memory and time, no more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    command = [sys.executable, "-W", "error", "-m", "tests.fuzz_tflite", "--attempt", str(seed), str(count)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, env=environment,
        timeout=120 + SECONDS * 10 + count,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"the process ended with {ended.returncode}: {ended.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--attempt", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attempt:
        print(json.dumps(attempt(*arguments.attempt)))
        return 0
    began = time.monotonic()
    parts = [
        (arguments.seed + i, min(PER_PROCESS, arguments.count - i * PER_PROCESS))
        for i in range(-(-arguments.count // PER_PROCESS))
    ]
    tried: collections.Counter[str] = collections.Counter()
    defects: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(lambda part: attempt_apart(*part), parts):
            tried.update(result["tried"])
            defects += result["defects"]
    for what, number in sorted(tried.items()):
        print(f"{what:24}{number:>9,}")
    print(f"{tried.total():,} damaged files in {time.monotonic() - began:.0f} s, {len(defects)} defects")
    for defect in defects:
        print(defect)
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
