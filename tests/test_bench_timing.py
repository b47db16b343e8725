"""Timing before placement, on netlists small enough to add up by hand."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from bench import timing
from bench.timing import CLOCK_TO_OUTPUT_NS, LUT_NS, SETUP_NS, WIRE_NS

LEVEL_NS = WIRE_NS + LUT_NS
ROOT = Path(__file__).parents[1]


def cell(kind, outputs=("Z", "Q", "S0", "S1", "COUT", "DO"), **pins):
    directions = {
        port: "output" if port in outputs or re.fullmatch(r"P\d+|DO[AB]\d+", port) else "input"
        for port in pins
    }
    return {
        "type": kind,
        "connections": {port: [bit] for port, bit in pins.items()},
        "port_directions": directions,
    }


def register(name, given, held):
    return {f"{name}_TRELLIS_FF_Q": cell("TRELLIS_FF", CLK="0", DI=given, Q=held)}


def chain(luts, first=1):
    """A register `a.from`, so many LUTs one behind the other, a register `b.to`."""
    cells = register("a.from", "0", first)
    for index in range(luts):
        cells[f"lut_{index}"] = cell("LUT4", A=first + index, B="0", Z=first + index + 1)
    return cells | register("b.to", first + luts, 900)


def analyse(cells, names=None, bar=None):
    nets = {name: {"bits": [bit]} for name, bit in ({"a.from": 1, "b.to": 900} | (names or {})).items()}
    return timing.analyse({"modules": {"top": {"cells": cells, "netnames": nets}}}, "top", bar)


@pytest.mark.parametrize("luts", [0, 1, 5, timing.LEVELS])
def test_a_chain_of_luts(luts):
    path = analyse(chain(luts)).groups[0].worst
    assert (path.start, path.end, path.levels) == ("a.from", "b.to", luts)
    assert path.ns == pytest.approx(CLOCK_TO_OUTPUT_NS + luts * LEVEL_NS + WIRE_NS + SETUP_NS)
    assert path.ns == pytest.approx(timing.bar_ns(luts))


def test_the_bar_is_the_rule_of_the_page():
    rule = f"Between two registers lie at most {timing.LEVELS} levels"
    assert rule in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for luts, above in ((timing.LEVELS, 0), (timing.LEVELS + 1, 1)):
        report = analyse(chain(luts), bar=timing.bar_ns())
        assert (report.above, report.groups[0].above) == (above, above)
        assert report.ends == 1


def test_a_carry_needs_no_net():
    cells = register("a.from", "0", 1)
    cells["low"] = cell("CCU2C", A0=1, COUT=2)
    cells["middle"] = cell("CCU2C", CIN=2, COUT=3)
    cells["high"] = cell("CCU2C", CIN=3, S0=4)
    path = analyse(cells | register("b.to", 4, 900)).groups[0].worst
    assert path.levels == 1
    assert path.ns == pytest.approx(CLOCK_TO_OUTPUT_NS + WIRE_NS + 0.45 + 0.07 + 0.44 + WIRE_NS + SETUP_NS)


def test_a_block_ram_is_late_and_a_multiplier_slow():
    cells = {"m.storage.0.0": cell("DP16KD", ADA0="0", CLKA="0", DOA0=1)}
    cells["b.product_MULT18X18D"] = cell("MULT18X18D", A0=1, B0="0", P0=2)
    path = analyse(cells | register("b.to", 2, 900), {"a.from": 77}).groups[0].worst
    assert path.ns == pytest.approx(5.7 + WIRE_NS + 3.9 + WIRE_NS + SETUP_NS)
    assert path.start.startswith("m.")


def test_a_net_to_many_inputs_is_slower():
    cells = chain(1)
    cells |= {f"reader_{index}": cell("LUT4", A=1, B="0", Z=1000 + index) for index in range(40)}
    path = analyse(cells).groups[0].worst
    assert path.ns == pytest.approx(CLOCK_TO_OUTPUT_NS + timing.wire_ns(41) + LUT_NS + WIRE_NS + SETUP_NS)
    assert timing.wire_ns(8) < timing.wire_ns(9) < timing.wire_ns(33) < timing.wire_ns(129)


def test_groups_are_pairs_of_modules_the_worst_first():
    cells = chain(2) | {"d_TRELLIS_FF": cell("TRELLIS_FF", CLK="0", DI=2, Q=901)}
    cells |= {"e_TRELLIS_FF": cell("TRELLIS_FF", CLK="0", CE=1, Q=902)}
    report = analyse(cells, {"c.late": 901, "b.other": 902, "m.between": 2})
    found = [(group.worst.end, group.worst.modules, group.ends) for group in report.groups]
    assert found[0] == ("b.to", ("a", "m", "b"), 2)
    assert ("c.late", ("a", "m", "c"), 1) in found
    console = Console(width=200, record=True)
    console.print(timing.table(report, "hand-made", 1))
    text = console.export_text()
    assert "b.to" in text
    assert "c.late" not in text


def test_a_loop_is_refused_by_name():
    cells = chain(1)
    cells["one"] = cell("LUT4", A=51, B=1, Z=50)
    cells["other"] = cell("LUT4", A=50, B="0", Z=51)
    cells |= register("b.looped", 51, 905)
    with pytest.raises(
        timing.TimingError, match="loop without a register: x.one > x.other > x.one; break it"
    ):
        analyse(cells, {"x.one": 50, "x.other": 51})


def test_an_unknown_cell_is_refused():
    with pytest.raises(timing.TimingError, match="cell odd is a ALU54B, of unknown delay"):
        analyse({"odd": cell("ALU54B", A0=1)})
