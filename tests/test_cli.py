"""The command line: what it prints and writes, its exit codes, its one line for each thing that is wrong."""

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio import demo, golden, outputs, session
from intaglio.companions import file_names
from intaglio.hdl import catalogue
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.spec.commands import COMMAND_BYTES, Opcode, encode
from intaglio.spec.config import AcceleratorConfig
from tests.networks import machine_of

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "intaglio" / "models" / "digits_sbnq4.txt"
IMAGES = ROOT / "intaglio" / "models" / "digits_test.npz"
TINY = Path(__file__).with_name("tiny.toml")
RUN = ("run", MODEL, "--inputs", IMAGES, "--config", TINY, "--jobs", 1)


@pytest.fixture
def refused(call):
    """The one line that a command line is refused with."""

    def refused(*arguments: object) -> str:
        code, out, err = call(*arguments)
        assert code == 2, err
        assert out == ""
        assert err.startswith("intaglio: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return refused


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "intaglio", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in its background with interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_run_that_is_right(call, tmp_path) -> None:
    outputs, report = tmp_path / "out.npy", tmp_path / "report.json"
    code, out, _ = call(*RUN, "--labels", IMAGES, "--limit", 12, "--outputs", outputs, "--report", report)
    assert code == 0
    assert "bit-exact: every element of 5 tensors of 12 inferences" in out
    for word in ("conv1", "pool2", "fc1", "84,224", "use of the array", "accuracy", "cycles/s"):
        assert word in out
    network = load(MODEL)
    expected = golden.run(network, load_inputs(IMAGES, network, 12), outputs_only=True).tensors[
        network.outputs[0]
    ]
    written = np.load(outputs)
    assert written.dtype == expected.dtype
    assert (written == expected).all()
    content = json.loads(report.read_text())
    assert list(content)[:9] == [
        "model",
        "config",
        "inferences",
        "cycles",
        "macs",
        "utilisation",
        "mismatches",
        "accuracy",
        "simulated_cycles_per_second",
    ]
    assert (content["config"], content["inferences"], content["macs"]) == ("tiny", 12, network.macs)
    assert content["model"] == str(MODEL)
    assert content["mismatches"] == 0
    assert isinstance(content["cycles"], int)
    assert content["utilisation"] == pytest.approx(network.macs / (content["cycles"] * 16))
    assert content["accuracy"] == pytest.approx(
        np.mean(expected.reshape(12, -1).argmax(axis=1) == np.load(IMAGES)["labels"][:12])
    )
    assert content["simulated_cycles_per_second"] > 1000
    assert sum(layer["cycles"] for layer in content["layers"]) == content["cycles"]
    assert [list(layer) for layer in content["layers"]] == [
        ["name", "op", "macs", "cycles", "utilisation"]
    ] * 5


def test_an_estimate_is_a_run_without_a_machine(call, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(session, "prepare", lambda *_, **__: pytest.fail("it built a machine"))
    report = tmp_path / "report.json"
    code, out, err = call("estimate", MODEL, "--config", TINY, "--report", report)
    assert (code, err) == (0, "")
    content = json.loads(report.read_text())
    prediction = session.estimate(MODEL, TINY)
    config = prediction.config
    assert (content["model"], content["config"], content["cycles"]) == (str(MODEL), "tiny", prediction.cycles)
    assert sum(layer["cycles"] for layer in content["layers"]) == content["cycles"]
    assert content["utilisation"] == pytest.approx(content["macs"] / (content["cycles"] * 16))
    assert content["on_chip_bytes"] == config.on_chip_bytes
    for word in ("conv1", "pool2", "fc1", "84,224", "use of the array", "scratchpad 1,024", "predicted"):
        assert word in out
    moved = (prediction.cycles, prediction.read_bytes, prediction.write_bytes, prediction.memory_bytes)
    for figure in (*moved, sum(config.on_chip_bytes.values())):
        assert f"{figure:,}" in out
    assert call("estimate", tmp_path / "none.tflite")[0] == 2


def test_what_is_not_known_is_null(call, tmp_path) -> None:
    report, outputs = tmp_path / "report.json", tmp_path / "out.npz"
    code, out, _ = call(*RUN, "--limit", 1, "--no-check", "--report", report, "--outputs", outputs)
    assert code == 0
    assert "not compared" in out
    content = json.loads(report.read_text())
    assert content["mismatches"] is None
    assert content["accuracy"] is None
    assert list(np.load(outputs)) == list(load(MODEL).outputs)


def test_a_functional_run_leaves_cycles_out(call, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(session, "prepare", lambda *_, **__: pytest.fail("it built a machine"))
    report = tmp_path / "report.json"
    code, out, err = call(
        *RUN, "--backend", "functional", "--limit", 12, "--labels", IMAGES, "--report", report
    )
    assert (code, err) == (0, "")
    assert "bit-exact: every element of 5 tensors of 12 inferences" in out
    assert "by the functional backend: cycles are not counted" in out
    for word in ("conv1", "84,224", "accuracy"):
        assert word in out
    for word in ("use of the array", "cycles/s", "nan", "None"):
        assert word not in out
    content = json.loads(report.read_text())
    assert [key for key, value in content.items() if value is None] == [
        "cycles",
        "utilisation",
        "simulated_cycles_per_second",
    ]
    assert (content["mismatches"], content["macs"]) == (0, 84_224)
    for layer in content["layers"]:
        assert list(layer) == ["name", "op", "macs", "cycles", "utilisation"]
        assert layer["cycles"] is layer["utilisation"] is None


@pytest.fixture
def altered(monkeypatch):
    """Lets the compiler alter a field of the last command of an opcode."""

    def altered(opcode: Opcode, **fields: int) -> None:
        right = session.compile

        def wrong(model, config=None):
            compiled = right(model, config)
            if compiled is model:
                return model
            program = compiled.program
            index = max(i for i in range(program.command_count) if program.command(i)[0] == opcode)
            command = encode(opcode, {**program.command(index)[1], **fields})
            image = program.image.copy()
            place = program.command_offset + index * COMMAND_BYTES
            image[place : place + COMMAND_BYTES] = np.frombuffer(command, np.uint8)
            return dataclasses.replace(compiled, program=dataclasses.replace(program, image=image))

        monkeypatch.setattr(session, "compile", wrong)

    return altered


def test_a_run_that_differs(call, altered, tmp_path) -> None:
    altered(Opcode.RESCALE, high=-6)
    code, out, _ = call(*RUN, "--limit", 4, "--report", tmp_path / "r.json")
    assert code == 1
    assert "the first: inference 0, layer fc1, index [" in out
    assert "hardware -6, golden " in out
    assert json.loads((tmp_path / "r.json").read_text())["mismatches"] > 0


def test_a_machine_that_stops_itself(call, altered) -> None:
    altered(Opcode.STORE, memory_offset=0xFFFF_0000)
    code, out, err = call(*RUN, "--limit", 2)
    assert code == 3
    assert out == ""
    assert "inference 0: the machine stopped itself at command" in err
    assert "WRITE_REGION, address 0x" in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("run",), ["MODEL"]),
        (("run", MODEL), ["--inputs"]),
        (("frobnicate",), ["frobnicate"]),
        ((*RUN, "--frobnicate"), ["--frobnicate"]),
        ((*RUN, "--limit", 0), ["--limit", "1"]),
        ((*RUN, "--limit", "some"), ["--limit"]),
        ((*RUN, "--jobs", 0), ["--jobs", "1"]),
        ((*RUN, "--jobs", -1), ["--jobs", "1"]),
        ((*RUN, "--bits", 1), ["bits"]),
        ((*RUN, "--runtime", "abacus"), ["abacus", "litert, tflm"]),
        ((*RUN, "--config", "nowhere"), ["nowhere", "sbnq8x8"]),
        ((*RUN, "--config", ROOT), [str(ROOT), "TOML"]),
        ((*RUN, "--config", MODEL), [MODEL.name, "TOML"]),
        ((*RUN, "--labels", MODEL), [MODEL.name]),
        (("run", "absent.txt", "--inputs", IMAGES), ["absent.txt"]),
        (("run", ROOT, "--inputs", IMAGES), ["directory"]),
        (("run", IMAGES, "--inputs", IMAGES), ["known format"]),
        (("run", MODEL, "--inputs", "absent.npy"), ["absent.npy"]),
        (("run", MODEL, "--inputs", ROOT), ["directory"]),
        (("golden", MODEL, "--inputs", "absent.npy"), ["absent.npy"]),
        (("golden", MODEL, "--inputs", IMAGES, "--outputs", "no/where.npy"), ["--outputs", "no"]),
        (("inspect", "absent.txt"), ["absent.txt"]),
        (("generate", "--config", "nowhere"), ["nowhere"]),
        (("generate", "--output", MODEL), ["--output", MODEL.name]),
        (("generate", "--clock-mhz", "0"), ["--clock-mhz", "above 0"]),
        (("generate", "--clock-mhz", "-1"), ["--clock-mhz", "above 0"]),
        (("generate", "--clock-mhz", "inf"), ["--clock-mhz", "above 0"]),
        (("demo", "--jobs", 0), ["--jobs"]),
        (("demo", "--backend", "magic"), ["--backend", "rtl, functional"]),
        ((*RUN, "--backend", "magic"), ["--backend", "rtl, functional"]),
        ((*RUN, "--backend", "functional", "--trace", os.devnull), ["--trace", "functional"]),
    ],
)
def test_what_is_refused(refused, arguments, parts) -> None:
    message = refused(*arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("option", ["--outputs", "--report", "--trace"])
def test_files_that_cannot_be_written_are_refused_before_anything_runs(
    refused, monkeypatch, tmp_path, option
) -> None:
    monkeypatch.setattr(session, "run", lambda *_, **__: pytest.fail("it ran"))
    copy = tmp_path / "images.npz"
    copy.write_bytes(IMAGES.read_bytes())
    run = ("run", MODEL, "--inputs", copy)
    assert "is a directory" in refused(*run, option, tmp_path)
    assert "no directory" in refused(*run, option, tmp_path / "absent" / "file.npy")
    assert "cannot be written" in refused(*run, option, tmp_path / f"{'x' * 300}.npy")
    assert "would overwrite" in refused(*run, option, copy)
    assert copy.read_bytes() == IMAGES.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz"]


def test_two_outputs_in_one_file_are_refused(refused, tmp_path) -> None:
    path = tmp_path / "both.npy"
    assert "would overwrite" in refused("run", MODEL, "--inputs", IMAGES, "--outputs", path, "--report", path)


def test_the_name_of_the_outputs_says_their_format(refused, tmp_path) -> None:
    assert ".npy or .npz" in refused("run", MODEL, "--inputs", IMAGES, "--outputs", tmp_path / "out.txt")


def test_an_output_is_whole_or_as_it_was(tmp_path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")
    path.chmod(0o640)
    with pytest.raises(TypeError):
        outputs.write_json(path, {"unwritable": object()})
    assert path.read_text() == "before"
    outputs.write_json(path, {})
    assert path.read_text() == "{}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.npy"
    link.symlink_to(tmp_path / "target.npy")
    outputs.write_arrays(link, {"y": np.arange(3)})
    assert np.load(tmp_path / "target.npy").tolist() == [0, 1, 2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.npy", "report.json", "target.npy"]


def test_labels_beyond_the_classes_are_refused(refused, tmp_path) -> None:
    np.save(tmp_path / "labels.npy", np.full(400, 10))
    assert "10 classes" in refused("golden", MODEL, "--inputs", IMAGES, "--labels", tmp_path / "labels.npy")


def test_a_network_that_fits_no_machine_names_layer_and_excess(refused, tmp_path) -> None:
    small = TINY.read_text().replace("accumulator_bits = 20", "accumulator_bits = 8")
    (tmp_path / "small.toml").write_text(small)
    message = refused("run", MODEL, "--inputs", IMAGES, "--config", tmp_path / "small.toml")
    assert "layer conv1" in message


def test_golden(call, tmp_path) -> None:
    path = tmp_path / "out.npy"
    code, out, _ = call("golden", MODEL, "--inputs", IMAGES, "--labels", IMAGES, "--outputs", path)
    assert code == 0
    assert "accuracy 99.25%: 397 of 400 right" in out
    assert "a second" in out
    assert len(np.load(path)) == 400


def test_inspect(call) -> None:
    code, out, _ = call("inspect", MODEL)
    assert code == 0
    for part in ("conv1", "8x8x1 uint8", "8x8x16 uint4", "16x3x3x1 int4", "SBNQ shift", "73,728", "84,224"):
        assert part in out


PROBE = re.compile(r"^  output (reg )?(\[\d+:0\] )?probe_", re.M)
"""A port that a simulation watches."""


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_generate_writes_the_machine_and_what_is_beside_it(call, tmp_path) -> None:
    folder = tmp_path / "new" / "verilog"
    code, out, _ = call("generate", "--config", TINY, "--output", folder)
    assert code == 0
    machine, *beside = out.splitlines()
    assert machine == f"{folder / 'intaglio_tiny.v'}: the machine tiny, 4 x 4 MACs"
    assert [line.split(": ")[0] for line in beside] == [str(folder / f) for f in file_names("intaglio_tiny")]
    assert written(folder) == sorted(["intaglio_tiny.v", *file_names("intaglio_tiny")])
    text = (folder / "intaglio_tiny.v").read_text()
    assert re.findall(r"^module (\w+)", text, re.M)[0] == "intaglio_tiny"
    assert not PROBE.search(text)


def test_generate_by_name_with_units_and_probes(call, monkeypatch, tmp_path) -> None:
    few = dict(list(catalogue.units().items())[:2])
    monkeypatch.setattr(catalogue, "units", lambda: few)
    given = ("generate", "--config", TINY, "--output", tmp_path, "--name", "my_npu", "--units", "--probes")
    code, out, _ = call(*given)
    assert code == 0
    assert f"{tmp_path}: 2 units" in out
    assert written(tmp_path) == sorted([*(f"{name}.v" for name in few), "my_npu.v", *file_names("my_npu")])
    for name in ("my_npu", *few):
        assert re.findall(r"^module (\w+)", (tmp_path / f"{name}.v").read_text(), re.M)[0] == name
    assert PROBE.search((tmp_path / "my_npu.v").read_text())


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a b", "../up", "größe", "two\nlines", "logic"])
def test_names_that_verilog_does_not_have_are_refused(refused, tmp_path, name) -> None:
    message = refused("generate", "--config", TINY, "--name", name, "--output", tmp_path)
    assert message.startswith("intaglio: --name: ")
    assert "must be a Verilog identifier" in message
    assert written(tmp_path) == []


def test_a_machine_by_a_units_name_is_refused_beside_the_units(refused, tmp_path) -> None:
    message = refused("generate", "--config", TINY, "--name", "sbnq", "--units", "--output", tmp_path)
    assert "--name: sbnq is the name of a unit" in message
    assert written(tmp_path) == []


def test_the_default_name_is_one_that_verilog_has(call, monkeypatch, tmp_path) -> None:
    text = "module {}(\n  input clk\n);\nendmodule\n"
    monkeypatch.setattr(
        "intaglio.hdl.verilog.emit_machine", lambda config, name, *, probes: text.format(name)
    )
    (tmp_path / "a machine-2.toml").write_text(TINY.read_text())
    code, out, _ = call("generate", "--config", tmp_path / "a machine-2.toml", "--output", tmp_path)
    assert code == 0
    assert "intaglio_a_machine_2.v: the machine a machine-2" in out
    assert (tmp_path / "intaglio_a_machine_2.v").read_text() == text.format("intaglio_a_machine_2")


def test_help(call) -> None:
    assert call()[:2] == call("--help")[:2]
    code, out, _ = call("run", "--help")
    assert code == 0
    for option in (
        "--inputs",
        "--labels",
        "--limit",
        "--jobs",
        "--config",
        "--runtime",
        "--bits",
        "--outputs",
    ):
        assert option in out
    for option in ("--report", "--trace", "--no-check"):
        assert option in out


def test_version(call) -> None:
    assert call("--version") == (0, f"intaglio {intaglio.__version__}\n", "")
    assert intaglio.__version__ == metadata.version("intaglio")


def test_completion_for_bash(tmp_path) -> None:
    """What `--show-completion` prints makes bash complete: commands, and a command's options."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is absent")
    program = Path(sys.executable).with_name("intaglio")

    def run(script: str) -> str:
        return subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True).stdout

    shown = run(f"{program} --show-completion; true")
    assert "complete -o default -F _intaglio_completion intaglio" in shown
    (tmp_path / "completion").write_text(shown)
    completed = run(
        f"PATH={program.parent}:$PATH; source {tmp_path / 'completion'}; "
        "COMP_WORDS=(intaglio run --back); COMP_CWORD=2; _intaglio_completion intaglio; echo ${COMPREPLY[@]}; "
        "COMP_WORDS=(intaglio ge); COMP_CWORD=1; _intaglio_completion intaglio; echo ${COMPREPLY[@]}"
    )
    assert completed.split() == ["--backend", "generate"]


def inspected(**environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", *environment)}
    command = [sys.executable, "-m", "intaglio", "inspect", str(MODEL)]
    return subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True
    ).stdout


def test_columns_and_colours_are_the_users() -> None:
    def width(text: str) -> int:
        """That of the table: its second line is a rule."""
        return max(len(line) for line in text.splitlines() if "──" in line)

    assert width(inspected()) > 80
    assert width(inspected(COLUMNS="0")) == width(inspected(COLUMNS="wide")) == width(inspected())
    assert width(inspected(COLUMNS="70")) <= 70
    coloured = inspected(FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert width(plain) == width(inspected())
    styles = re.findall(r"\x1b\[([\d;]*)m", inspected(FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color"))
    assert not [style for style in styles if re.search(r"(^|;)(3[0-8]|4[0-8]|9\d|10\d)(;|$)", style)]


@pytest.mark.parametrize("arguments", [("inspect", MODEL), ("--help",), ("--version",)])
def test_standard_output_that_takes_nothing_is_said_in_one_line(arguments) -> None:
    command = [sys.executable, "-m", "intaglio", *map(str, arguments)]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2
    assert ended.stderr == f"intaglio: standard output: {os.strerror(errno.ENOSPC)}\n"


@pytest.mark.parametrize("arguments", ["inspect intaglio/models/digits_sbnq4.txt", "--help", "--version"])
def test_standard_output_that_is_closed_is_no_error(arguments) -> None:
    command = f"exec {sys.executable} -m intaglio {arguments} >&-"
    ended = subprocess.run(["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_full_disk_is_not_said_to_be_standard_output(call, monkeypatch, tmp_path) -> None:
    def full(path, arrays):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs, "write_arrays", full)
    code, _, err = call("golden", MODEL, "--inputs", IMAGES, "--outputs", tmp_path / "out.npy")
    assert code == 2
    assert "standard output" not in err


def test_a_defect_is_told_apart(call, monkeypatch) -> None:
    monkeypatch.setattr("intaglio.report.network_table", lambda network: 1 // 0)
    code, _, err = call("inspect", MODEL)
    assert code == 70
    assert "ZeroDivisionError" in err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = start("inspect", MODEL)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_leaves_no_process_behind(call, tmp_path, jobs) -> None:
    assert call(*RUN, "--limit", 1)[0] == 0  # the machine is built
    np.save(tmp_path / "many.npy", np.zeros((50_000, 8, 8, 1), np.uint8))
    process = start("run", MODEL, "--inputs", tmp_path / "many.npy", "--config", TINY, "--jobs", jobs)
    time.sleep(4)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "intaglio: interrupted\n")
    for _ in range(50):
        if not running(process.pid):
            break
        time.sleep(0.1)
    assert not running(process.pid)


def running(group: int) -> list[str]:
    """Processes of a group that are not mere entries for a parent to collect."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


def test_the_smallest_configuration_that_fits_is_taken() -> None:
    assert session.compile(MODEL).config.name == "sbnq8x8"


SMALL = {
    "digits_sbnq4": AcceleratorConfig.load(TINY),
    "digits_llsq2": machine_of(
        "small llsq", rows=8, columns=4, activation_types=("uint2",), weight_type="int2", accumulator_bits=16,
        accumulator_depth=16, rescales=("llsq",), scratchpad_bytes=1024,
    ),
    "digits_binary": machine_of(
        "small binary", rows=8, columns=4, activation_types=("int8",), weight_type="binary", accumulator_bits=32,
        accumulator_depth=16, rescales=("affine",), rescale_lanes=2, scratchpad_bytes=4096,
    ),
}  # fmt: skip


def test_demo_shows_embedded_networks(call, monkeypatch) -> None:
    """Three, each on a machine that is built sooner than what they take by themselves."""
    known = [(model, images) for model, images in demo.embedded() if model.stem in SMALL]
    monkeypatch.setattr(demo, "embedded", lambda: known)
    right, inputs_of = session.compile, session.inputs_of

    def small(model, config=None):
        return right(model, SMALL[model.stem] if isinstance(model, Path) else config)

    def few(inputs, network, limit=None):
        return inputs_of(inputs, network, 5)

    monkeypatch.setattr(session, "compile", small)
    monkeypatch.setattr(session, "inputs_of", few)
    code, out, _ = call("demo", "--jobs", 1)
    assert code == 0
    for name in SMALL:
        assert f"{name}: bit-exact: every element of 5 tensors of 5 inferences" in out
