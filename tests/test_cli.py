"""The command line: what it prints and writes, its exit codes, its one line for each thing that is wrong."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio import api, cli, demo, golden, outputs
from intaglio.compiler import compile_network
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


def test_what_is_not_known_is_null(call, tmp_path) -> None:
    report, outputs = tmp_path / "report.json", tmp_path / "out.npz"
    code, out, _ = call(*RUN, "--limit", 1, "--no-check", "--report", report, "--outputs", outputs)
    assert code == 0
    assert "not compared" in out
    content = json.loads(report.read_text())
    assert content["mismatches"] is None
    assert content["accuracy"] is None
    assert list(np.load(outputs)) == list(load(MODEL).outputs)


@pytest.fixture
def altered(monkeypatch):
    """Lets the compiler alter a field of the last command of an opcode."""

    def altered(opcode: Opcode, **fields: int) -> None:
        compile_for = api.compile_for

        def wrong(network, config):
            accelerator, program = compile_for(network, config)
            index = max(i for i in range(program.command_count) if program.command(i)[0] == opcode)
            command = encode(opcode, {**program.command(index)[1], **fields})
            image = program.image.copy()
            place = program.command_address - program.image_address + index * COMMAND_BYTES
            image[place : place + COMMAND_BYTES] = np.frombuffer(command, np.uint8)
            return accelerator, dataclasses.replace(program, image=image)

        monkeypatch.setattr(api, "compile_for", wrong)

    return altered


def test_a_run_that_differs(call, altered, tmp_path) -> None:
    altered(Opcode.RESCALE, high=-6)
    code, out, _ = call(*RUN, "--limit", 4, "--report", tmp_path / "r.json")
    assert code == 1
    assert "the first: inference 0, layer fc1, index [" in out
    assert "hardware -6, golden " in out
    assert json.loads((tmp_path / "r.json").read_text())["mismatches"] > 0


def test_a_machine_that_stops_itself(call, altered) -> None:
    altered(Opcode.STORE, memory_address=0xFFFF_0000)
    code, out, err = call(*RUN, "--limit", 2)
    assert code == 3
    assert out == ""
    assert "inference 0: the machine stopped itself at command" in err
    assert "WRITE_REGION, address 0xffff0000" in err


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
        (("demo", "--jobs", 0), ["--jobs"]),
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
    monkeypatch.setattr(cli, "simulate", lambda *_, **__: pytest.fail("it ran"))
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


def test_generate(call, monkeypatch, tmp_path) -> None:
    from intaglio.hdl import catalogue as units

    few = dict(list(units.units().items())[:2])
    monkeypatch.setattr(units, "units", lambda: few)
    code, out, _ = call("generate", "--config", TINY, "--output", tmp_path / "new" / "verilog")
    assert code == 0
    assert "2 units" in out
    names = sorted(path.name for path in (tmp_path / "new" / "verilog").iterdir())
    assert names == sorted([*(f"{name}.v" for name in few), "machine.v"])
    assert "module machine(" in (tmp_path / "new" / "verilog" / "machine.v").read_text()


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
    network = load(MODEL)
    assert api.compile_for(network, None)[0].name == "sbnq8x8"


def test_python() -> None:
    images = np.load(IMAGES)["input"][:3]
    result = intaglio.run(MODEL, images, config=TINY)
    assert (result.inferences, result.mismatches) == (3, 0)
    expected = intaglio.run_golden(MODEL, IMAGES, limit=3, outputs_only=True).tensors
    for name, values in expected.items():
        assert (result.outputs[name] == values).all()
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        intaglio.frobnicate  # noqa: B018


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
    monkeypatch.setattr(
        demo,
        "compile_for",
        lambda network, config: (SMALL[network.name], compile_network(network, SMALL[network.name])),
    )
    monkeypatch.setattr(demo, "load_labels", lambda path, count: np.load(path)["labels"][:5])
    monkeypatch.setattr(demo, "load_inputs", lambda path, network: load_inputs(path, network, 5))
    code, out, _ = call("demo", "--jobs", 1)
    assert code == 0
    for name in SMALL:
        assert f"{name}: bit-exact: every element of 5 tensors of 5 inferences" in out
