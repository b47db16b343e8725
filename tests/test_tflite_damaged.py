"""Damaged .tflite files: each is refused in one line that says what is wrong, or is a network that golden runs."""

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.tflite_builder import TYPES, VALID, Builder
from intaglio.network import NetworkError
from intaglio.network.formats import tflite
from intaglio.network.load import load
from tests import fuzz_tflite, tflite_cases

ROOT = Path(__file__).parent.parent
MUTANTS, PROCESSES = 3200, 8


def refusal(content: bytes, runtime: str = "litert") -> str:
    with pytest.raises(NetworkError) as refused:
        tflite.loads(content, runtime, where="m.tflite")
    message = str(refused.value)
    assert message.startswith("m.tflite: ")
    assert message.isprintable()
    return message.removeprefix("m.tflite: ")


@pytest.mark.parametrize("seed", range(PROCESSES))
def test_mutants(seed: int) -> None:
    """`make fuzz` tries more of them."""
    result = fuzz_tflite.attempt_apart(seed, MUTANTS // PROCESSES)
    assert result["defects"] == []
    tried = result["tried"]
    assert sum(tried.values()) == MUTANTS // PROCESSES
    for kind in ("cut", "flipped", "overwritten", "scaled", "moved", "rebuilt"):
        assert tried[f"{kind}: refused"] > 10
    # Were all of them refused, it would be for something that all have in common.
    assert tried["rebuilt: runs"] > 10


def test_a_mutant_that_ends_otherwise_is_seen(monkeypatch) -> None:
    """The harness itself: what it would say of an exception, of a message of two lines, of a file without end."""
    content = next(tflite_cases.cases("pool")).content
    assert fuzz_tflite.outcome(content, "litert") == "runs"
    for error, expected in [
        (KeyError("x"), "KeyError: 'x'"),
        (NetworkError("model.tflite: a\nb"), "a message that is no line: 'model.tflite: a\\nb'"),
        (NetworkError("elsewhere: a"), "a message that is no line: 'elsewhere: a'"),
        (MemoryError(), "out of memory"),
        (fuzz_tflite.Slow(), "more than 20 s"),
    ]:

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(fuzz_tflite.tflite, "loads", fail)
        assert fuzz_tflite.outcome(content, "litert") == expected


def test_every_cut() -> None:
    content = tflite_cases.residual_network().bytes()
    for length in range(len(content)):
        message = refusal(content[:length])
        assert "damaged" in message


# By name: what is wrong with the first convolution of a small network, and what is said of it.

IMAGE, WEIGHTS, BIAS, SUMS, MEANS = 0, 1, 2, 3, 4
Change = Callable[[Builder], None]


def setting(tensor: int, **fields: object) -> Change:
    def change(b: Builder) -> None:
        b.tensors[tensor] = dataclasses.replace(b.tensors[tensor], **fields)

    return change


def operator(index: int, inputs: list[int], outputs: list[int]) -> Change:
    def change(b: Builder) -> None:
        op, _, _, options = b.operators[index]
        b.operators[index] = (op, inputs, outputs, options)

    return change


def options(index: int, **places: int) -> Change:
    names = ("padding", "width", "height", "activation", "dilation_width", "dilation_height")

    def change(b: Builder) -> None:
        op, inputs, outputs, given = b.operators[index]
        changed = list(given or ())
        for name, value in places.items():
            changed[names.index(name)] = value
        b.operators[index] = (op, inputs, outputs, changed)

    return change


def repeated(b: Builder) -> None:
    b.operators.append(b.operators[0])


def backwards(b: Builder) -> None:
    b.operators.reverse()


def without_outputs(b: Builder) -> None:
    b.outputs = []


def without_inputs(b: Builder) -> None:
    b.inputs = []


def float_weights(b: Builder) -> None:
    b.tensors[WEIGHTS].kind = TYPES["float32"]
    b.tensors[WEIGHTS].data = np.zeros((4, 3, 3, 3), np.float32)


SAID: list[tuple[str, Change, str]] = [
    ("activation without quantization", setting(SUMS, scales=None, zero_points=()), "t3 has no scale"),
    ("weights without quantization", setting(WEIGHTS, scales=None, zero_points=()), "t1 have 0 scales"),
    ("input without quantization", setting(IMAGE, scales=None, zero_points=()), "t0 has no scale"),
    ("float weights", float_weights, "its weights t1 are float32"),
    ("float activation", setting(SUMS, kind=TYPES["float32"]), "t3 is float32"),
    ("int16 activation", setting(SUMS, kind=TYPES["int16"]), "t3 is int16"),
    ("unknown type", setting(SUMS, kind=99), "t3 is type 99"),
    *(
        (f"scale of {scale}", setting(SUMS, scales=[scale]), f"t3 has a scale of {float(np.float32(scale))}, not")
        for scale in (0.0, -0.5, math.nan, math.inf, -math.inf, 1e-45)
    ),
    *(
        (f"weight scale of {scale}", setting(WEIGHTS, scales=[0.1, scale, 0.1, 0.1]), "a scale of its weights t1")
        for scale in (0.0, -0.5, math.nan, math.inf)
    ),
    ("three scales of four", setting(WEIGHTS, scales=[0.1] * 3, zero_points=[0] * 3), "t1 have 3 scales for 4"),
    ("five scales of four", setting(WEIGHTS, scales=[0.1] * 5, zero_points=[0] * 5), "t1 have 5 scales for 4"),
    ("three zero points of four", setting(WEIGHTS, zero_points=[0] * 3), "4 scales and 3 zero points"),
    ("no zero point", setting(SUMS, zero_points=[]), "1 scales and 0 zero points"),
    ("scales along another axis", setting(WEIGHTS, dimension=1), "scales along axis 1, not 0"),
    ("weight zero point", setting(WEIGHTS, zero_points=[0, 1, 0, 0]), "a zero point other than 0"),
    ("zero point beyond int8", setting(SUMS, zero_points=[128]), "a zero point of 128"),
    ("zero point far beyond", setting(SUMS, zero_points=[-(2**63)]), f"a zero point of {-(2**63)}"),
    ("shape that does not match", setting(SUMS, shape=(1, 3, 4, 4)), "(1, 3, 4, 4), computed as (1, 3, 3, 4)"),
    ("negative extent", setting(SUMS, shape=(1, -3, 3, 4)), "its shape is (1, -3, 3, 4)"),
    ("extent of 0", setting(SUMS, shape=(1, 0, 3, 4)), "its shape is (1, 0, 3, 4)"),
    ("2**31 channels", setting(IMAGE, shape=(1, 6, 5, -(2**31))), f"its shape is (1, 6, 5, {-(2**31)})"),
    ("2**31 - 1 channels", setting(IMAGE, shape=(1, 6, 5, 2**31 - 1)), "beyond 16777216 elements"),
    ("huge in product", setting(IMAGE, shape=(1, 4097, 4097, 3)), "beyond 16777216 elements"),
    ("nine axes", setting(SUMS, shape=(1,) * 9), "its shape is of 9 axes"),
    ("weights too short", setting(WEIGHTS, data=np.zeros(107, np.int8)), "its data 107 bytes"),
    ("weights too long", setting(WEIGHTS, data=np.zeros(109, np.int8)), "its data 109 bytes"),
    ("bias of three", setting(BIAS, shape=(3,), data=np.zeros(3, np.int32)), "t2 has 3 elements for 4 channels"),
    ("computed weights", setting(WEIGHTS, data=None), "its weights t1 are not a constant"),
    ("an input that is never written", operator(1, [SUMS, MEANS], [MEANS]), "t4 must be a constant"),
    ("a tensor before it is written", backwards, "t3 is not computed before it"),
    ("an operator that reads what it writes", operator(0, [SUMS, 1, 2], [SUMS]), "t3 is not computed before it"),
    ("the same operator twice", repeated, "operator 3 CONV_2D (t3): its output t3 is already written"),
    ("no tensor of that index", operator(0, [IMAGE, 1, 99], [SUMS]), "there is no tensor 99"),
    ("no output", operator(0, [IMAGE, 1, 2], []), "it has 0 outputs"),
    ("an absent input", operator(0, [-1, 1, 2], [SUMS]), "an input is missing"),
    ("stride of 0", options(0, width=0), "its stride (2, 0)"),
    ("stride beyond int16", options(0, height=1 << 16), "its stride (65536, 2)"),
    ("dilation that is huge", options(0, dilation_height=32767, dilation_width=32767), "elements with its padding"),
    ("unknown padding", options(0, padding=7), "its padding is number 7"),
    ("unknown activation", options(0, activation=9), "its fused activation, number 9"),
    ("window that does not fit", options(0, padding=VALID, dilation_width=9), "its window of 19 does not fit"),
    ("network without outputs", without_outputs, "no outputs"),
    ("network without inputs", without_inputs, "no inputs"),
    ("name of control characters", setting(SUMS, name="a\n\x1b[2Jb", scales=None, zero_points=()), "a\\n\\x1b[2Jb has"),
    ("name without end", setting(SUMS, name="n" * 9000, scales=None, zero_points=()), f"{'n' * 200}... has no scale"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [pytest.param(c, s, id=name) for name, c, s in SAID])
@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_what_is_wrong_is_said(runtime: str, change: Change, said: str) -> None:
    b = tflite_cases.small_network(1, False)
    change(b)
    assert said in refusal(b.bytes(), runtime)


def test_a_word_of_the_file_is_any_other_word() -> None:
    """Every aligned word in turn becomes the three that offsets, lengths and numbers fear most."""
    content = tflite_cases.float_edges().bytes()
    came = {
        fuzz_tflite.outcome(content[:at] + word.to_bytes(4, "little") + content[at + 4 :], "litert")
        for at in range(0, len(content) - 3, 4)
        for word in (0, 0x7FFFFFFF, 0xFFFFFFFF)
    }
    assert came == {"refused", "runs"}


@pytest.mark.parametrize("command", ["inspect", "golden"])
def test_the_command_line(tmp_path: Path, command: str) -> None:
    whole = tflite_cases.residual_network()
    flat, whole_bytes = tmp_path / "x.npy", whole.bytes()
    np.save(flat, np.zeros((1, 5, 4, 4), np.int8))
    whole.tensors[3].name, whole.tensors[3].scales = "a\nb", [math.nan]
    for name, content in {
        "cut.tflite": whole_bytes[: len(whole_bytes) // 2],
        "empty.tflite": b"",
        "offset.tflite": b"\xff\xff\xff\x7f" + whole_bytes[4:],
        "nan.tflite": whole.bytes(),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(NetworkError, match=name):
            load(path)
        arguments = [command, str(path)] + (["--inputs", str(flat)] if command == "golden" else [])
        ended = subprocess.run(
            [sys.executable, "-m", "intaglio", *arguments],
            cwd=ROOT,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout == ""
        assert ended.stderr.startswith("intaglio: ")
        assert ended.stderr.count("\n") == 1
        assert name in ended.stderr
