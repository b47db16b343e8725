"""docs/integration.md: its tables are current, and say what the machine has."""

import dataclasses
import re
from pathlib import Path

from amaranth.hdl import Shape
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from intaglio.companions.tables import BURST_BEATS, COSTS, OUTSTANDING, TABLES, configuration_fields
from intaglio.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from intaglio.hdl.machine import Machine
from intaglio.spec.__main__ import main
from intaglio.spec.config import POWERS_OF_TWO, RANGES, AcceleratorConfig
from intaglio.spec.tables import filled

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "integration.md"


def test_the_page_is_current(tmp_path, capsys):
    def check(page):
        return main(["--check", str(page)], "python -m intaglio.companions", TABLES)

    assert check(PAGE) == 0
    stale = tmp_path / "page.md"
    stale.write_text(
        PAGE.read_text().replace("| `m_axi_wstrb` | out | `bus_bits` / 8 |", "| `m_axi_wstrb` | out | 8 |")
    )
    assert check(stale) == 1
    assert "run `python -m intaglio.companions --write" in capsys.readouterr().err
    assert filled(stale.read_text(), TABLES) == PAGE.read_text()


def test_every_port_is_in_it_with_its_width():
    rows = re.findall(r"^\| `(\w+)` \| (in|out) \| ([^|]+) \|", PAGE.read_text(), re.M)
    assert len(rows) == len({name for name, _, _ in rows})
    for address_bits, bus_bits in ((32, 64), (48, 128)):
        stated = {("clk", "in", 1), ("rst", "in", 1), ("irq", "out", 1)}
        memory = AXI4Signature(address_bits, bus_bits)
        for bus, signature in {"s_axil": AXI4LiteSignature(), "m_axi": memory}.items():
            for signal, member in signature.members.items():
                way = "in" if member.flow == In else "out"
                stated.add((f"{bus}_{signal}", way, Shape.cast(member.shape).width))
        names = {"address_bits": address_bits, "bus_bits": bus_bits}
        assert {(name, way, eval(width.replace("`", ""), {}, names)) for name, way, width in rows} == stated


def test_nothing_moves_from_reset_to_the_first_access(tmp_path):
    """But for the clock, and what a flip-flop takes in its first cycle. The page and the constraints rely on it."""
    period_s, cycles = 1e-8, 50
    simulator = Simulator(Machine(AcceleratorConfig.load(Path(__file__).with_name("tiny.toml"))))
    simulator.add_clock(period_s)
    with simulator.write_vcd(str(tmp_path / "still.vcd")):
        simulator.run_until(cycles * period_s)
    head, _, body = (tmp_path / "still.vcd").read_text().partition("$enddefinitions $end\n")
    names = {code: name for code, name in re.findall(r"^\$var \w+ \d+ (\S+) (\S+)", head, re.M)}
    assert len(names) > 1000
    moments = re.split(r"^#\d+\n", body, flags=re.M)[1:]
    assert len(moments) >= 2 * cycles - 1
    # The first moment is reset, the second the first edge of the clock.
    changes = re.findall(r"^(?:[01xz]|b[01xz]+ )(\S+)$", "".join(moments[2:]), re.M)
    moved = {names[code] for code in changes}
    assert moved == {"clk"}


def test_its_bounds_of_bursts_are_those_that_the_machines_bench_holds_it_to():
    stand = (ROOT / "sim" / "system" / "stand.v").read_text()
    assert f"localparam OUTSTANDING = {OUTSTANDING}, BEATS = {BURST_BEATS};" in stand


def test_every_field_of_a_configuration_is_in_it():
    fields = [field.name for field in dataclasses.fields(AcceleratorConfig)]
    assert list(configuration_fields()) == fields
    assert list(COSTS) == fields
    for name, (low, high) in RANGES.items():
        text = configuration_fields()[name].replace(" KiB", "<<10").replace(" MiB", "<<20").replace(" B", "")
        numbers = {eval(number) for number in re.findall(r"\d+(?:<<\d+)?", text)}
        assert {low, high} <= numbers or name == "lane_digits"  # whose greatest is a formula
        assert ("power of two" in text) == (name in POWERS_OF_TWO) or name == "bus_bits"


def test_the_files_that_it_names_are_there():
    text = PAGE.read_text()
    for target in re.findall(r"\]\((\w+\.md)", text):
        assert (PAGE.parent / target).is_file()
    for path in re.findall(r"`(examples/\w+\.\w+|spec/\w+/)`", text):
        assert (ROOT / path).exists()
