# amaranth: UnusedElaboratable=no
import re

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from intaglio.hdl.bus.axi import AXI4LiteSignature, AXI4Signature, BusPorts, pass_through
from intaglio.hdl.bus.axi_read import ReadMaster
from intaglio.hdl.bus.axi_write import WriteMaster
from intaglio.hdl.bus.bursts import BurstSplitter
from intaglio.hdl.bus.registers import Registers
from intaglio.hdl.verilog import emit
from intaglio.sim.bus.run import TESTS, run
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import Cause


@pytest.mark.parametrize("seed", [1])
def test_bench(seed):
    assert run(seed=seed) == sum(TESTS.values()) >= 23


def test_bench_refuses_to_run_nothing():
    with pytest.raises(ValueError, match="no test has 'nonsense'"):
        run("nonsense")


class Buses(wiring.Component):
    def __init__(self):
        super().__init__({"m_axi": Out(AXI4Signature()), "s_axil": Out(AXI4LiteSignature()), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = ReadMaster(1)
        m.submodules.writer = writer = WriteMaster()
        m.submodules.registers = registers = Registers(AcceleratorConfig.load("sbnq8x8"))
        pass_through(m, reader.bus, self.m_axi)
        pass_through(m, writer.bus, self.m_axi)
        pass_through(m, registers.bus, self.s_axil)
        m.d.comb += self.irq.eq(registers.irq)
        return m


def test_ports_bear_the_standard_names():
    text = emit(BusPorts(Buses()), "top")
    ports = dict(
        (name, direction + width)
        for direction, width, name in re.findall(
            r"^  (input|output)(?: reg)?( \[\d+:0\])? (\w+),?$", text, re.MULTILINE
        )
    )
    wide = {
        "awaddr": " [31:0]",
        "wdata": " [63:0]",
        "wstrb": " [7:0]",
        "awlen": " [7:0]",
        "araddr": " [31:0]",
    }
    for channel, names in {
        "output": "awid awaddr awlen awsize awburst awcache awprot awvalid wdata wstrb wlast wvalid bready "
        "arid araddr arlen arsize arburst arcache arprot arvalid rready",
        "input": "awready wready bid bresp bvalid arready rid rdata rresp rlast rvalid",
    }.items():
        for name in names.split():
            assert ports[f"m_axi_{name}"].startswith(channel + wide.get(name, "")), name
    for channel, names in {
        "input": "awaddr awvalid wdata wstrb wvalid bready araddr arvalid rready",
        "output": "awready wready bresp bvalid arready rdata rresp rvalid",
    }.items():
        for name in names.split():
            assert ports[f"s_axil_{name}"].startswith(channel), name
    assert len(ports) == 22 + 11 + 9 + 8 + 3
    assert {"clk", "rst", "irq"} <= set(ports)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReadMaster(0), "`clients` must be an integer from 1 to 16, not 0"),
        (lambda: ReadMaster(2, (16,)), "`max_burst_beats` must have 2 values, one a client, not 1"),
        (lambda: ReadMaster(1, 257), "`max_burst_beats` must be an integer from 1 to 256, not 257"),
        (lambda: ReadMaster(1, 16, 6), "`outstanding` must be a power of two, not 6"),
        (lambda: WriteMaster(0), "`max_burst_beats` must be an integer from 1 to 256, not 0"),
        (lambda: WriteMaster(16, 1), "`outstanding` must be an integer from 2 to 64, not 1"),
        (
            lambda: BurstSplitter("16", Cause.READ_REGION, (Region.PROGRAM,), 1),
            "`max_burst_beats` must be an integer",
        ),
        (lambda: AXI4Signature(data_bits=48), "`data_bits` must be a power of two, not 48"),
        (lambda: Registers("sbnq8x8"), "`config` must be an AcceleratorConfig, not 'sbnq8x8'"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        make()


class Ambiguous(wiring.Component):
    def __init__(self):
        inner = wiring.Signature({"x": Out(1)})
        super().__init__({"a": Out(inner), "a_x": Out(1)})

    def elaborate(self, platform):
        return Module()


def test_ports_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two ports that flatten to `a_x`"):
        BusPorts(Ambiguous())
