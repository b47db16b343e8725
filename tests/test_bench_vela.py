"""Cycles beside Arm's Ethos-U55: what Vela writes is read, what it does not know is refused, the table says both."""

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import vela
from bench.networks import mobilenet_v1, write
from intaglio import session
from intaglio.network.load import load
from intaglio.sim.simulator.run import RunResult

SUMMARY = (
    "network,accelerator_configuration,system_config,memory_mode,sram_memory_used,nn_macs,cycles_npu,cycles_total\n"
    "n,Ethos_U55_64,Ethos_U55_High_End_Embedded,Shared_Sram,50.625,12505748,43207,43300.5\n"
)
LAYERS = (
    "Original Operator,NNG Operator,Target,NPU,MAC Count,Util% (MAC),Name\n"
    "Conv2D,Conv2D,NPU,42965,320000,11.637379262190155,first;of;several\n"
    "Conv2D,Relu,NPU,0,0,100,first;of;several\n"
    "FullyConnected,FullyConnected,NPU,242,768,1.15,last\n"
)

installed = pytest.mark.skipif(
    not (shutil.which("vela", path=str(Path(sys.executable).parent)) or shutil.which("vela")),
    reason="the extra `vela` is not installed",
)


def shown(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_summary_and_layers():
    result = vela.parse(SUMMARY, LAYERS)
    assert (result.accelerator, result.system_config, result.memory_mode) == (
        "Ethos_U55_64",
        "Ethos_U55_High_End_Embedded",
        "Shared_Sram",
    )
    assert (result.cycles_npu, result.cycles_total, result.macs) == (43207, 43300, 12505748)
    assert result.sram_bytes == 51840
    # A fused activation takes no cycles and is not listed.
    assert [layer.operator for layer in result.layers] == ["Conv2D", "FullyConnected"]
    assert result.layers[0].utilisation == pytest.approx(0.116, abs=1e-3)
    assert "42,965" in shown(vela.layers_table(Path("n.tflite"), "ethos-u55-64", result))


@pytest.mark.parametrize(
    ("summary", "layers", "message"),
    [
        (SUMMARY.replace("cycles_npu", "cycles"), LAYERS, "'cycles_npu'.*use the pinned version"),
        (SUMMARY.replace("43207", "many"), LAYERS, "'many'"),
        ("", LAYERS, "not as known"),
        (SUMMARY, LAYERS.replace("last", "last").replace("NPU,242", "CPU,242"), "to a CPU.*FullyConnected"),
        (SUMMARY, LAYERS.replace("242", "243"), "layers take 43208 cycles, its summary says 43207"),
    ],
)
def test_what_is_not_known_is_refused(summary, layers, message):
    with pytest.raises(vela.VelaError, match=message) as error:
        vela.parse(summary, layers)
    assert "\n" not in str(error.value)


def stub_of(cycles, mismatches):
    def run(model, inputs, *, config):
        network = load(model)
        (name,) = network.inputs
        assert inputs[name].shape == (1, *network.tensors[name].shape)
        return RunResult(1, {}, (), cycles, (), {}, mismatches, None, 0, 0, 0.0, ())

    return run


@pytest.fixture
def estimated(monkeypatch):
    """Vela's part, without Vela."""
    result = dataclasses.replace(vela.parse(SUMMARY, LAYERS), cycles_npu=100_000)
    monkeypatch.setattr(vela, "estimate", lambda model, accelerator, folder: result)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.tflite"
    path.write_bytes(mobilenet_v1(size=32))
    return path


@pytest.mark.usefixtures("estimated")
def test_table(model):
    network = load(model)
    cycles = network.macs / 64 * 2
    table, problems = vela.compare([model], [("ethos-u55-64", "affine8x8")], run=stub_of(cycles, 0))
    text = shown(table)
    assert not problems
    predicted = session.estimate(network, "affine8x8").cycles
    for figure in (
        f"{network.macs:,}",
        "100,000",
        f"{cycles:,.0f}",
        f"{predicted:,}",
        f"{cycles / 100_000:.2f}",
        "50.0%",
    ):
        assert figure in text
    assert "memory mode Shared_Sram" in text


@pytest.mark.usefixtures("estimated")
def test_a_difference_and_a_missing_configuration_are_problems(model):
    pairs = [("ethos-u55-64", "affine8x8"), ("ethos-u55-256", "nowhere")]
    table, problems = vela.compare([model], pairs, run=stub_of(1.0, 3))
    assert table.row_count == 2
    assert len(problems) == 2
    assert problems[0] == "small on affine8x8: 3 elements differ from golden"
    assert problems[1].startswith("small on nowhere: `config`: no configuration nowhere")


def test_inputs_are_in_range(model):
    network = load(model)
    (values,) = vela.drawn_inputs(network).values()
    assert values.shape == (1, 32, 32, 3)
    assert (values.min(), values.max()) == (-128, 127)
    assert np.array_equal(values, vela.drawn_inputs(network)["input"])


@installed
def test_vela_itself(tmp_path):
    model = write("mobilenet_v1_025_96", tmp_path)
    small, large = (
        vela.estimate(model, name, tmp_path / "out") for name in dict.fromkeys(name for name, _ in vela.PAIRS)
    )
    assert (small.accelerator, large.accelerator) == ("Ethos_U55_64", "Ethos_U55_256")
    assert small.cycles_npu > large.cycles_npu > 0
    assert small.macs >= load(model).macs


@installed
def test_vela_refuses_in_one_line(tmp_path):
    (tmp_path / "damaged.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(vela.VelaError, match=r"vela refuses damaged\.tflite for ethos-u55-64: ") as error:
        vela.estimate(tmp_path / "damaged.tflite", "ethos-u55-64", tmp_path / "out")
    assert "\n" not in str(error.value)


def test_vela_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(vela.VelaError, match="make bench installs it"):
        vela.estimate(tmp_path / "any.tflite", "ethos-u55-64", tmp_path)
