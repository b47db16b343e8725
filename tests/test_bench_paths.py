"""Delays of cells from a library's tables, the graph of them, and the page. Mapping a machine takes minutes."""

import re

import pytest

from bench import liberty, paths
from bench.cell_timing import FANOUT, Cells, Table, graph_of
from bench.liberty import LibertyError
from bench.page import DOCS
from bench.timing import TimingError, report

# Delays are 1, 2 and 3 ns and as much again for each pF and each ns of transition, or do not depend on them at all.
LIBRARY = """
library (small) {
  time_unit : "1ns";
  lu_table_template (two) {
    variable_1 : "input_net_transition"; variable_2 : "total_output_net_capacitance";
    index_1 : "0, 1"; index_2 : "0, 1";
  }
  lu_table_template (setup) {
    variable_1 : "related_pin_transition"; variable_2 : "constrained_pin_transition";
    index_1 : "0, 1"; index_2 : "0, 1";
  }
  cell (inv) {
    area : 1;
    pin (A) { direction : input; capacitance : 0.1; }
    pin (Y) { direction : output; function : "!A"; timing () {
      related_pin : "A";
      cell_rise (two) { values ("1, 2", "2, 3"); } cell_fall (two) { values ("0, 0", "0, 0"); }
      rise_transition (two) { values ("0.5, 0.5", "0.5, 0.5"); }
    } }
  }
  cell (buf) {
    area : 2;
    pin (A) { direction : input; capacitance : 0.1; }
    pin (X) { direction : output; function : "(A)"; timing () {
      related_pin : "A";
      cell_rise (two) { values ("3, 3", "3, 3"); } rise_transition (two) { values ("0, 0", "0, 0"); }
    } }
  }
  cell (dff) {
    area : 5;
    ff (IQ, IQN) { next_state : "D"; clocked_on : "CK"; }
    pin (CK) { direction : input; clock : true; capacitance : 9; }
    pin (D) { direction : input; capacitance : 0.2; timing () {
      related_pin : "CK"; timing_type : setup_rising; rise_constraint (setup) { values ("0.25, 0.25", "0.25, 0.25"); }
    } }
    pin (Q) { direction : output; timing () {
      related_pin : "CK"; timing_type : rising_edge;
      cell_rise (two) { values ("2, 3", "2, 3"); } rise_transition (two) { values ("0.5, 0.5", "0.5, 0.5"); }
    } }
  }
}
"""
CELLS = Cells(liberty.parse(LIBRARY))


def ring(*between, loads=0):
    """The longest path of a flip-flop that goes round to itself through `between`, `loads` more inverters at its
    output."""
    cells = {"r": {"type": "dff", "connections": {"CK": [2], "D": [10 + len(between)], "Q": [10]}}}
    for place, kind in enumerate(between):
        output = "X" if kind == "buf" else "Y"
        cells[f"c{place}"] = {"type": kind, "connections": {"A": [10 + place], output: [11 + place]}}
    for load in range(loads):
        cells[f"l{load}"] = {"type": "inv", "connections": {"A": [10], "Y": [1000 + load]}}
    module = {"cells": cells, "netnames": {"a.state": {"bits": [10]}}}
    (group,) = report(graph_of({"modules": {"m": module}}, "m", CELLS, "SRAM"), 0.0).groups
    return group.worst


def test_tables_are_linear():
    table = Table(("a", "b"), ((0.0, 1.0), (0.0, 2.0)), ((1.0, 5.0), (2.0, 6.0)))
    assert table.at(a=0.5, b=1.0) == 3.5
    assert table.at(a=0.0, b=3.0) == 7.0  # beyond, as between the last two
    assert Table((), (), ((4.0,),)).at() == 4.0


def test_a_path_is_delays_at_loads_and_transitions():
    path = ring("inv")
    assert (path.start, path.end, path.levels) == ("a.state", "a.state", 1)
    # The flip-flop drives 0.1 pF; the inverter 0.2 pF, its input's transition being 0.5 ns; 0.25 ns before the edge.
    assert path.ns == pytest.approx((2 + 0.1) + (1 + 0.5 + 0.2) + 0.25)
    assert ring("inv", loads=5).ns == pytest.approx((2 + 0.6) + (1 + 0.5 + 0.2) + 0.25)


@pytest.mark.parametrize(
    ("inputs", "levels"), [(FANOUT, 0), (FANOUT + 1, 1), (FANOUT**2, 1), (FANOUT**2 + 1, 2)]
)
def test_large_nets_are_trees_of_buffers(inputs, levels):
    load = 0.1 * min(inputs, FANOUT)
    transition = 0.5 if not levels else 0.0  # a buffer's is 0
    assert ring("inv", loads=inputs - 1).ns == pytest.approx(
        (2 + load) + 3 * levels + (1 + transition + 0.2) + 0.25
    )


def test_memories_are_timed_as_flip_flops():
    ports = {"RD_CLK": [2], "WR_CLK": [2], "RD_ADDR": [10], "RD_DATA": [11], "WR_DATA": ["0"]}
    cells = {
        "m": {"type": "SRAM", "connections": ports},
        "r": {"type": "dff", "connections": {"CK": [2], "D": [11], "Q": [10]}},
    }
    module = {"cells": cells, "netnames": {}}
    found = report(graph_of({"modules": {"m": module}}, "m", CELLS, "SRAM"), 0.0)
    assert found.ends == 2
    assert sorted(group.worst.ns for group in found.groups) == pytest.approx([2.2 + 0.25])


def test_what_is_not_in_the_library_is_said():
    with pytest.raises(TimingError, match=r"^the netlist has a nand, which the library has not"):
        ring("nand")
    with pytest.raises(LibertyError, match="time_unit is 1ps"):
        Cells(liberty.parse(LIBRARY.replace("1ns", "1ps")))
    with pytest.raises(LibertyError, match="no flip-flop"):
        Cells(liberty.parse('library (a) { time_unit : "1ns"; }'))


def test_memories_of_the_verilog_become_macros():
    said = paths.script("  reg [31:0] a.storage [127:0];\n  reg [511:0] b.storage [3:0];\n")
    assert re.findall(r"r:SIZE=(\d+) ", said) == ["128"]


def test_the_page_has_the_block():
    timed = paths.Timed("affine8x8", report(_graph(), 0.0), 8.1)
    (name, table), *_ = paths.blocks([timed]).items()
    assert f"<!-- silicon: {name} -->" in (DOCS / "silicon.md").read_text()
    assert "| `affine8x8` | `a.state` | `a.state` | 1 | 4.05 | 8.10 | 0.50 |" in table


def _graph():
    cells = {
        "r": {"type": "dff", "connections": {"CK": [2], "D": [11], "Q": [10]}},
        "c": {"type": "inv", "connections": {"A": [10], "Y": [11]}},
    }
    module = {"cells": cells, "netnames": {"a.state": {"bits": [10]}}}
    return graph_of({"modules": {"m": module}}, "m", CELLS, "SRAM")
