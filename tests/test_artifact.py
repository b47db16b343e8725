"""Artifacts: what is written is what is read, what is damaged is refused in one line, and the files serve C."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio import golden, session
from intaglio.compiler import compile_network
from intaglio.compiler.artifact import (
    artifact_of,
    c_sources,
    crc_of,
    decode,
    described,
    encode,
    identifier,
    self_tests,
    storing_layers,
)
from intaglio.network import NetworkError
from intaglio.spec.__main__ import main as spec_main
from intaglio.spec.artifact import HEADER_BYTES, Part, Role
from intaglio.spec.c_header import DRIVER_HEADERS
from intaglio.spec.config import AcceleratorConfig
from tests.artifacts import (
    CONTENT,
    PLACES,
    REFUSED,
    damaged,
    entry,
    every_type,
    resealed,
    tensor,
    with_words,
    word,
)

MODELS = Path(intaglio.__file__).parent / "models"
DIGITS = MODELS / "digits_sbnq4.txt"
IMAGES = MODELS / "digits_test.npz"


def test_what_is_written_is_what_is_read() -> None:
    written, read = every_type(), decode(CONTENT, "file")
    np.testing.assert_array_equal(read.program.image, written.program.image)
    same = dataclasses.replace(read.program, image=written.program.image)
    assert dataclasses.replace(read, program=same) == written
    assert encode(read) == CONTENT


@pytest.mark.parametrize("header", DRIVER_HEADERS)
def test_the_drivers_headers_are_current(header: str) -> None:
    assert spec_main(["--check", str(Path(__file__).parents[1] / "driver" / header)]) == 0


def test_the_page_of_the_layout_is_current() -> None:
    assert spec_main(["--check", str(Path(__file__).parents[1] / "docs" / "artifact.md")]) == 0


def test_a_stale_header_is_told(tmp_path: Path) -> None:
    path = tmp_path / "intaglio_artifact.h"
    assert spec_main(["--write", str(path)]) == 0
    path.write_text(path.read_text().replace("PARTS 10u", "PARTS 11u"))
    assert spec_main(["--check", str(path)]) == 1


def test_every_changed_byte_is_found() -> None:
    for place in range(len(CONTENT)):
        changed = bytearray(CONTENT)
        changed[place] ^= 1 << place % 8
        with pytest.raises(NetworkError, match=r"^file: .*; write it again$"):
            decode(bytes(changed), "file")


@pytest.mark.parametrize("size", [0, 7, 8, 255, 256, 300, len(CONTENT) // 2, len(CONTENT) - 1])
def test_one_that_is_cut_off(size: int) -> None:
    with pytest.raises(NetworkError, match=r"^file: (it is cut off after|this is no artifact)"):
        decode(CONTENT[:size], "file")


def test_one_that_is_too_long() -> None:
    with pytest.raises(NetworkError, match=r"^file: 3 bytes follow its"):
        decode(CONTENT + b"123", "file")


@pytest.mark.parametrize("said", REFUSED)
def test_one_that_contradicts_itself(said: str) -> None:
    with pytest.raises(NetworkError, match=rf"^file: .*{said}.*; write it again$"):
        decode(with_words(CONTENT, REFUSED[said]), "file")


def test_parts_with_right_checksums_in_a_changed_file() -> None:
    changed = bytearray(CONTENT)
    changed[-1] ^= 1
    begin, size = (word(CONTENT, entry(Part.CONTENTS, field)) for field in ("offset", "bytes"))
    at = entry(Part.CONTENTS, "crc")
    changed[at : at + 4] = zlib.crc32(changed[begin : begin + size]).to_bytes(4, "little")
    changed[PLACES["crc"] : HEADER_BYTES] = zlib.crc32(changed[: PLACES["crc"]]).to_bytes(4, "little")
    with pytest.raises(NetworkError, match="its SHA-256 is another"):
        decode(bytes(changed), "file")
    assert decode(resealed(changed), "file").name == every_type().name


def test_damage_is_one_line_or_another_artifact() -> None:
    said = []
    for content in damaged(CONTENT, 2000, seed=3):
        try:
            assert encode(decode(content, "file"))
        except NetworkError as error:
            said.append(str(error))
    assert 1000 < len(said) < 2000
    assert not any("\n" in line for line in said)


def test_values_of_stored_integers() -> None:
    one = tensor("x", Role.OUTPUT, every_type().stored[0].binding.type, (2,), 8, ((0.5, -3),))
    np.testing.assert_array_equal(one.values([[1, -3]]), np.array([[2, 0]], np.float32))
    each = tensor("x", Role.OUTPUT, one.binding.type, (2, 2), 8, ((0.5, 0), (2.0, 1)), axis=1)
    np.testing.assert_array_equal(each.values([[1, 1], [4, 4]]), np.array([[0.5, 0], [2, 6]], np.float32))
    with pytest.raises(ValueError, match="states no scale"):
        dataclasses.replace(one, scales=()).values([1, 2])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("digits", "digits"), ("Model (v2).tflite", "model_v2_tflite"), ("", "n"), ("3x3", "n_3x3"), ("é/*\n*/", "n"),
        ("intaglio", "n_intaglio"), ('";\0', "n"),
    ],
)  # fmt: skip
def test_a_name_becomes_an_identifier(text: str, name: str) -> None:
    assert identifier(text) == name
    assert identifier(text, [name]) == f"{name}_2"
    assert identifier(text, [name, f"{name}_2"]) == f"{name}_3"


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
def test_c_sources_of_names_of_any_sort(tmp_path: Path) -> None:
    """Two compilers' strictest; names that would end a comment or clash are none."""
    artifact = every_type()
    names = ['*/ #error "', "input bytes", "bytes", "a b", "a/b", "a_b_elements", "\\", "x\ny"]
    stored = tuple(
        dataclasses.replace(each, binding=dataclasses.replace(each.binding, tensor=name))
        for each, name in zip(artifact.stored[: len(names)], names, strict=True)
    )
    renamed = dataclasses.replace(artifact, stored=(*stored, *artifact.stored[len(names) :]))
    header, source = c_sources(renamed, CONTENT, identifier(artifact.name))
    (tmp_path / f"{identifier(artifact.name)}.h").write_text(header)
    (tmp_path / "source.c").write_text(
        source + f"int test[{identifier(artifact.name).upper()}_TENSORS == 64 ? 1 : -1];\n"
    )
    strict = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
    subprocess.run(["gcc", *strict, "-c", "source.c"], cwd=tmp_path, check=True)
    data = subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".rodata", "source.o", "/dev/stdout"],
        cwd=tmp_path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert CONTENT in data


def test_self_tests_hold_what_golden_computes() -> None:
    network, config = session.load(DIGITS), AcceleratorConfig.load("sbnq8x8")
    inputs, _ = session.inputs_of(IMAGES, network, 2)
    tensors = golden.run(network, inputs).tensors
    tests = self_tests(network, config, inputs, tensors)
    artifact = artifact_of(compile_network(network, config), network, config, tests)
    assert artifact.layer_tensors[:-1] == (None,) * (len(network.layers) - 1)
    assert not artifact.store_layers
    whole = artifact_of(compile_network(storing_layers(network), config), network, config, tests)
    assert whole.store_layers
    assert whole.of_role(Role.OUTPUT) == artifact.of_role(Role.OUTPUT)
    for number, test in enumerate(tests):
        (given,) = whole.of_role(Role.INPUT)
        packed = np.frombuffer(test.inputs[0], np.uint8)
        np.testing.assert_array_equal(given.binding.unpack(packed)[0], inputs[given.name][number])
        for layer, place, crc in zip(network.layers, whole.layer_tensors, test.crcs[1:], strict=True):
            assert place is not None
            assert crc_of(whole.stored[place].binding, tensors[layer.output][number]) == crc
    owners = [whole.program.owners[i] for i in range(whole.program.command_count)]
    assert {f"layer {layer.name}" for layer in network.layers} <= set(owners)


def test_the_commands(call, tmp_path: Path) -> None:
    """compile, then run: with its own tests, with inputs, and each thing that is refused."""
    folder = tmp_path / "made" / "here"
    code, said, _ = call("compile", DIGITS, "--output", folder, "--self-test", 2, "--layers")
    assert code == 0, said
    assert sorted(path.name for path in folder.iterdir()) == [
        f"digits_sbnq4.{e}" for e in ("bin", "c", "h", "json")
    ]
    file = folder / "digits_sbnq4.bin"
    content = file.read_bytes()
    assert json.loads(file.with_suffix(".json").read_text()) == described(decode(content, "file"))
    run = ("run", file, "--backend", "functional")
    code, said, _ = call(*run)
    assert (code, said.splitlines()[-1]) == (0, "EQUAL: 12 tensors have the CRC that the self-tests want")
    code, said, _ = call(*run, "--inputs", IMAGES, "--limit", 3, "--outputs", tmp_path / "found.npy")
    assert (code, said.splitlines()[-1]) == (0, "outputs alone: nothing was compared")
    code, _, _ = call(
        "run",
        DIGITS,
        "--inputs",
        IMAGES,
        "--limit",
        3,
        "--backend",
        "functional",
        "--outputs",
        tmp_path / "wanted.npy",
    )
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), np.load(tmp_path / "wanted.npy"))
    # The self-tests are the same bytes every time.
    assert call("compile", DIGITS, "--output", folder, "--self-test", 2, "--layers")[0] == 0
    assert file.read_bytes() == content


def test_what_the_commands_refuse(call, tmp_path: Path) -> None:
    assert call("compile", DIGITS, "--output", tmp_path, "--self-test", 1, "--inputs", IMAGES)[0] == 0
    file = tmp_path / "digits_sbnq4.bin"
    run = ("run", file, "--backend", "functional")

    def refused(*arguments: object) -> str:
        code, _, said = call(*arguments)
        assert code == 2
        (line,) = said.splitlines()
        return line

    assert "fingerprint" in refused(*run, "--config", "affine8x8")
    assert "--labels: an artifact is run without" in refused(*run, "--labels", IMAGES)
    assert "--backend" in refused("run", file, "--backend", "none")
    assert "--inputs: a network is run on" in refused("run", DIGITS)
    assert "say how many" in refused("compile", DIGITS, "--output", tmp_path, "--inputs", IMAGES)
    assert "--output" in refused("compile", DIGITS, "--output", DIGITS)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "part CONTENTS was changed" in refused(*run)
    file.write_bytes(
        encode(dataclasses.replace(decode(bytes(content[:-1] + bytes([content[-1] ^ 1])), ""), tests=()))
    )
    assert "carries no self-tests" in refused(*run)


def test_a_self_test_that_fails_names_the_first_layer(call, tmp_path: Path) -> None:
    assert call("compile", DIGITS, "--output", tmp_path, "--self-test", 2, "--layers")[0] == 0
    file = tmp_path / "digits_sbnq4.bin"
    artifact = decode(file.read_bytes(), "file")
    second = list(artifact.tests[1].crcs)
    second[3] ^= 1  # of the third layer, behind the one output
    second[4] ^= 1
    tests = (artifact.tests[0], dataclasses.replace(artifact.tests[1], crcs=tuple(second)))
    file.write_bytes(encode(dataclasses.replace(artifact, tests=tests)))
    code, said, _ = call("run", file, "--backend", "functional")
    name = artifact.program.layers[2].name
    assert code == 1
    assert (
        said.splitlines()[-1]
        == f"DIFFERENT: self-test 1: layer {name} differs, 8 tensors before it are equal"
    )


def test_an_artifact_for_a_machine_that_does_not_ship(call, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(CONTENT)
    code, _, said = call("run", file, "--backend", "functional")
    assert code == 2
    assert f"{file} is for by hand, which does not ship; name its file" in said
