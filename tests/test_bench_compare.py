"""Networks side by side: which are found, what is measured of one, what the page says, the same each time."""

import dataclasses
import gzip
import importlib.util
import json
import shutil
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import area, compare, schemes_page
from bench.__main__ import app
from bench.area import Area
from bench.page import fill
from bench.synthesis import Size
from intaglio import golden, session
from intaglio.demo import MODELS
from intaglio.network import NetworkError
from intaglio.network.load import load
from intaglio.sim.simulator.run import RunResult
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig

MODEL, IMAGES = "digits_sbnq4.txt", "digits_test.npz"
plots = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra `compare` is not installed"
)


@pytest.fixture
def folder(tmp_path):
    """A network, what training measured of it and of its float peer, and its test images."""
    for name in (MODEL, IMAGES):
        shutil.copy(MODELS / name, tmp_path)
    (tmp_path / "digits_sbnq4.json").write_text(json.dumps({"bits": 4, "test_accuracy_integers": 0.99}))
    (tmp_path / "digits_float.json").write_text(json.dumps({"test_accuracy_simulated": 0.9975}))
    return tmp_path


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)


def right_machine(compiled, inputs):
    """Golden's outputs as those of hardware, without a simulation."""
    network, count = compiled.network, len(next(iter(inputs.values())))
    outputs = golden.run(network, inputs, outputs_only=True).tensors
    counters = {"read_beats": 100.0, "write_beats": 3.0}
    cycles = tuple(400.0 for _ in network.layers)
    return RunResult(count, outputs, (), 2000.0, cycles, counters, 0, None, 5, 9000, 3.0, ())


def wrong_machine(compiled, inputs):
    result = right_machine(compiled, inputs)
    return dataclasses.replace(result, mismatches=7, outputs={"o": np.zeros((result.inferences, 10))})


def fake_area(config, scale=1):
    """Every part of a size of its own."""
    parts = [part for group in area.GROUPS.values() for part in group]
    if not config.affine:
        parts = [part for part in parts if part not in ("rescale lanes", "elementwise")]
    sizes = {
        booth: {part: Size(scale * 1000 * (index + 1) - 100 * booth, 10) for index, part in enumerate(parts)}
        for booth in area.MULTIPLIERS
    }
    lanes = {booth: {name: Size(500, 5, 300) for name in config.rescales} for booth in area.MULTIPLIERS}
    return Area(config, sizes, {part: 9 for part in parts}, lanes)


@pytest.fixture
def comparison(folder):
    (candidate,) = compare.candidates(folder, None)
    row = compare.run_network(candidate, right_machine, 50)
    other = dataclasses.replace(
        row,
        name="another",
        config=AcceleratorConfig.load("affine8x8"),
        hardware=row.hardware - 2,
        mismatches=2,
    )
    same = [fake_area(config) for config in area.same_array()]
    arrays = [Size(6400, 20, 3000), Size(1600, 10, 500), Size(400, 5, None)]
    return compare.Comparison(
        [row, other],
        compare.floating(folder),
        {entry.config.name: fake_area(entry.config, 2) for entry in (row, other)},
        same,
        {False: arrays, True: arrays},
        [Size(4000, 9), Size(5000, 9)],
    )


def test_layers_in_digits(comparison):
    (digits,) = comparison.rows[0].in_digits
    assert (digits.layer, digits.operand, digits.passes, digits.cycles) == (
        "conv1",
        "uint8 activations",
        2,
        400,
    )
    page = schemes_page.blocks(comparison)["digits"]
    assert "| conv1 | uint8 activations | sbnq8x8 | uint4, int4 | 2 | 400 | 20.0% |" in page
    assert "5,000 transistors for binary16x16's array, 4,000 without (+25.0%)" in page


def test_candidates(folder, tmp_path):
    (candidate,) = compare.candidates(folder, None)
    assert (candidate.path.name, candidate.dataset) == (MODEL, "digits")
    assert candidate.images == candidate.labels == folder / IMAGES
    assert candidate.measured["bits"] == 4
    assert compare.floating(folder) == {"digits": 0.9975}


def test_test_images_of_idx_files(folder, tmp_path):
    data = tmp_path / "idx"
    data.mkdir()
    with np.load(folder / IMAGES) as arrays:
        images, labels = arrays["input"], arrays["labels"]
    (folder / IMAGES).unlink()
    with pytest.raises(
        NetworkError, match=r"test images, digits_test\.npz, are not beside it; name .* --data"
    ):
        compare.candidates(folder, None)
    with pytest.raises(NetworkError, match=r"has no t10k-images"):
        compare.candidates(folder, data)
    (data / "t10k-images-idx3-ubyte.gz").write_bytes(idx(images[..., 0]))
    with pytest.raises(NetworkError, match=r"has no t10k-labels"):
        compare.candidates(folder, data)
    (data / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    (candidate,) = compare.candidates(folder, data)
    row = compare.run_network(candidate, right_machine)
    assert (row.images, row.golden) == (400, 397)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("digits_sbnq4.json", None, "cannot be read as json"),
        ("digits_sbnq4.json", "{", "cannot be read as json"),
        ("digits_sbnq4.json", "[]", "is no json object"),
        ("digits_float.json", "{}", "has no test_accuracy_simulated"),
        ("digits_float.json", '{"test_accuracy_simulated": null}', "has no test_accuracy_simulated"),
        (MODEL, None, "holds no network"),
    ],
)
def test_unusable_folders(folder, name, content, message):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(NetworkError, match=message) as error:
        (compare.candidates(folder, None), compare.floating(folder))
    assert "\n" not in str(error.value)


def test_what_is_measured_of_a_network(folder):
    (candidate,) = compare.candidates(folder, None)
    row = compare.run_network(candidate, right_machine)
    network = load(folder / MODEL)
    assert (row.images, row.golden, row.hardware, row.mismatches) == (400, 397, 397, 0)
    assert row.elements == 400 * sum(network.tensors[layer.output].size for layer in network.layers)
    assert row.config.name == "sbnq8x8"
    assert row.weight_bits == 4 * (9 * 16 + 9 * 16 * 32 + 128 * 10)
    assert row.bus_bytes == 103 * 8
    assert row.cycles_per_second == 3000
    wrong = compare.run_network(candidate, wrong_machine, 100)
    assert (wrong.images, wrong.mismatches) == (100, 7)
    assert wrong.hardware < wrong.golden


def test_the_machine_that_is_named(folder):
    (folder / "machines.json").write_text(json.dumps({"digits_sbnq4": "sbnq16x16", "digits_absent": "none"}))
    (candidate,) = compare.candidates(folder, None)
    assert compare.run_network(candidate, right_machine, 1).config.name == "sbnq16x16"
    (folder / "machines.json").write_text(json.dumps({"digits_sbnq4": "nowhere"}))
    (candidate,) = compare.candidates(folder, None)
    with pytest.raises(NetworkError, match="no configuration nowhere"):
        compare.run_network(candidate, right_machine, 1)


def test_weight_stream(folder):
    network = load(folder / MODEL)
    compiled = session.compile(network, "sbnq8x8")
    config, program = compiled.config, compiled.program
    streamed = compare.weight_stream_bytes(program, config.bus_bytes)
    # No less than the weights as numbers, no more than what is streamed, each time that it is.
    commands = [program.command(index) for index in range(program.command_count)]
    sent = (fields for opcode, fields in commands if opcode is Opcode.WEIGHTS)
    beats = sum(fields["beats"] * fields["times"] * fields["stretches"] for fields in sent)
    assert sum(layer.weights.size for layer in network.layers if hasattr(layer, "weights")) // 2 < streamed
    assert streamed <= min(beats * config.bus_bytes, len(program.image))


def test_tables(comparison):
    text = schemes_page.accuracies(comparison).markdown()
    assert "| digits_sbnq4 | SBNQ int4 | sbnq8x8 | 50 | 99.75% |" in text
    assert "0 of " in text
    assert schemes_page.costs(comparison).rows[0][-2:] == ("42,000", "41,400")
    plain, booth = (row for row in schemes_page.areas([fake_area(AcceleratorConfig.load("affine8x8"))]).rows)
    assert plain[2:8] == ("1,000", "9,000", "11,000", "7,000", "8,000", "36,000")
    assert plain[8:] == ("30.6%", "9")
    assert booth[7] == "35,200"
    for grid in schemes_page.show(comparison).values():
        assert grid.row_count


def test_the_rescales_share(comparison):
    answer = schemes_page.rescale_answer([fake_area(AcceleratorConfig.load("affine8x8"))])
    # 11,000 of 36,000; four lanes of 300.
    assert "the rescale is 30.6% of the logic" in answer
    assert "multipliers alone 3.3%" in answer
    assert "elementwise engine, which comes with it, is another 19.4%" in answer
    assert "elementwise" not in schemes_page.rescale_answer([fake_area(AcceleratorConfig.load("sbnq8x8"))])


def test_the_page_has_every_block(comparison):
    page = Path("docs/schemes.md").read_text()
    content = schemes_page.blocks(comparison)
    filled = fill(page, content)
    for block in content.values():
        assert block in filled
    assert fill(filled, content) == filled
    for figure in schemes_page.FIGURES:
        assert f"schemes_{figure}.svg" in page
    with pytest.raises(ValueError, match="must have the blocks .*, not none"):
        fill("", content)


def test_results_are_json(comparison):
    found = json.loads(json.dumps(schemes_page.results(comparison, "a computer")))
    assert found["computer"] == "a computer"
    assert [row["config"] for row in found["networks"]] == ["sbnq8x8", "affine8x8"]
    assert set(found["machines"]) == {"sbnq8x8", "affine8x8"}


@plots
def test_plots_are_the_same_bytes_each_time(comparison, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        files = schemes_page.plot(comparison, folder)
        assert sorted(path.suffix for path in files) == [".png", ".png", ".svg", ".svg"]
    for path in files:
        assert path.read_bytes() == (first / path.name).read_bytes()
        if path.suffix == ".svg":
            xml.etree.ElementTree.fromstring(path.read_text())
            assert "<dc:date>" not in path.read_text()


@plots
def test_command(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("intaglio.session.run", lambda *given, **options: right_machine(*given))
    monkeypatch.setattr(area, "measure", lambda configs, *rest: [fake_area(config) for config in configs])
    arrays = [Size(6400, 20, 3000), Size(1600, 10, 500), Size(400, 5, None)]
    monkeypatch.setattr(area, "measure_paper_arrays", lambda *rest: {False: arrays, True: arrays})
    monkeypatch.setattr("bench.__main__.COMPARED", tmp_path / "compared")
    before = Path("docs/schemes.md").read_bytes()
    done = CliRunner().invoke(app, ["compare", "--models", str(folder), "--limit", "20"])
    assert done.exit_code == 0, done.output
    assert "digits_sbnq4" in done.output
    written = {path.name for path in (tmp_path / "compared").iterdir()}
    plotted = {f"schemes_{figure}.{suffix}" for figure in schemes_page.FIGURES for suffix in ("png", "svg")}
    assert written == {"schemes.md", "results.json", *plotted}
    assert Path("docs/schemes.md").read_bytes() == before

    monkeypatch.setattr("intaglio.session.run", lambda *given, **options: wrong_machine(*given))
    done = CliRunner().invoke(app, ["compare", "--models", str(folder), "--limit", "20"])
    assert done.exit_code == 1
    assert "hardware and golden differ: digits_sbnq4" in done.output


def test_command_says_in_one_line_what_is_missing(tmp_path):
    done = CliRunner().invoke(app, ["compare", "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert "holds no network" in done.output
