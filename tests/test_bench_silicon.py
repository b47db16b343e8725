"""A machine mapped with a cell library: the library read, area by part, memories by the model, the page."""

import gzip

import pytest

from bench import liberty, silicon
from bench.liberty import LibertyError
from bench.page import DOCS, fill
from bench.silicon import SRAM, Macro, Silicon, parse, script
from bench.synthesis import SynthesisError
from intaglio.spec.config import AcceleratorConfig

LIBRARY = """\
/* two cells { */
library ("small") {
  time_unit : "1ns" ;
  capacitive_load_unit (1.0, "pf");
  nom_voltage : 1.8
  cell ("nand") {
    area : 3.75;
    pin ("Y") { direction : output; function : "!(A&B)"; timing () { related_pin : "A"; cell_rise (t) {
      index_1 ("0.1, \\
                0.2");
      values ("1, 2", "3, 4"); } } }
  }
  cell (dff) { area : 20; ff (IQ, IQ_N) { next_state : "D"; clocked_on : "CLK"; } }
  cell (edff) { area : 30; ff (IQ, IQ_N) { next_state : "D"; clocked_on : "CLK"; } }
}
"""
CONFIG = AcceleratorConfig.load("affine8x8")
FLIP_FLOPS = {"dff": 20.0, "edff": 30.0}
ARRAY, MATMUL, CORE = (f"machine.inner.core{rest}" for rest in (".matmul.array", ".matmul", ""))


def module(area, **cells):
    return {"area": area, "num_cells_by_type": cells}


STATISTICS = {
    "modules": {
        f"\\{ARRAY}": module(100.0, dff=2, nand=1),
        f"\\{MATMUL}": module(130.0, **{ARRAY: 1, "edff": 1}),
        "\\machine": module(150.0, **{MATMUL: 1, "dff": 1, SRAM: 1}),
    }
}
MAPPED = {
    "modules": {
        "machine": {
            "cells": {
                "a.b": {"type": "nand", "parameters": {}},
                "a.c": {"type": SRAM, "parameters": {"SIZE": f"{256:032b}", "WIDTH": f"{32:032b}"}},
            }
        }
    }
}


def test_a_library_is_read():
    library = liberty.parse(LIBRARY)
    assert library.values == ("small",)
    assert library.one("time_unit") == "1ns"
    assert library.attributes["capacitive_load_unit"] == ("1.0", "pf")
    assert library.number("nom_voltage") == 1.8
    nand, *_ = library.of("cell")
    assert nand.number("area") == 3.75
    (pin,) = nand.of("pin")
    assert pin.one("function") == "!(A&B)"
    (timing,) = pin.of("timing")
    (rise,) = timing.of("cell_rise")
    assert rise.attributes == {"index_1": ("0.1,                  0.2",), "values": ("1, 2", "3, 4")}
    assert liberty.registers(library) == FLIP_FLOPS


@pytest.mark.parametrize("text", ["", "library (a) {", "}", "module m; endmodule", "cell (a) { }"])
def test_what_is_no_library_is_said(text):
    with pytest.raises(LibertyError, match="name a file in the Liberty format$"):
        liberty.parse(text)
    with pytest.raises(LibertyError, match="no number"):
        liberty.parse("library (a) { area : b; }").number("area")


def test_libraries_may_be_compressed(tmp_path):
    (tmp_path / "a.lib").write_text(LIBRARY)
    (tmp_path / "a.lib.gz").write_bytes(gzip.compress(LIBRARY.encode()))
    assert liberty.text_of(tmp_path / "a.lib") == liberty.text_of(tmp_path / "a.lib.gz") == LIBRARY
    with pytest.raises(LibertyError, match="cannot be read"):
        liberty.text_of(tmp_path / "b.lib")


def test_parts_add_up_to_the_machine():
    found = parse(CONFIG, STATISTICS, MAPPED, FLIP_FLOPS, 10_000)
    assert {part: area for part, area in found.areas.items() if area} == {
        "array": 100.0,
        "windows and pool": 30.0,
        "registers": 20.0,
    }
    assert found.logic == 150.0
    assert sum(found.flip_flops.values()) == 4
    assert found.macros == (Macro("a.c", 256, 32),)
    assert found.small_bits == 10_000 - 256 * 32
    with pytest.raises(SynthesisError, match="not as known"):
        parse(CONFIG, {}, MAPPED, FLIP_FLOPS, 0)


def test_the_model_of_memories_meets_what_it_was_made_from():
    def area(words):
        return Silicon(CONFIG, {}, {}, (Macro("m", words, 32),), 20.02, 0).memories

    assert area(256) == pytest.approx(479.78 * 397.5)
    assert area(512) == pytest.approx(683.1 * 416.54)


def test_large_memories_alone_are_macros():
    text = "module \\machine\nmemory\n  memory width 64 size 64 \\a\n  memory width 482 size 4 \\b\nend\n"
    said = script(text, booth=False)
    assert f"chtype -set \\{SRAM} t:$mem_v2 r:SIZE=64 %i r:WIDTH>=64 %i" in said
    assert "r:SIZE=4 " not in said
    assert "-booth" not in said
    assert "-booth" in script(text, booth=True)


def test_the_page_has_the_blocks():
    found = parse(CONFIG, STATISTICS, MAPPED, FLIP_FLOPS, 10_000)
    page = fill((DOCS / silicon.PAGE).read_text(), silicon.blocks([found]) | {"paths": ""})
    assert "| logic ÷ array | 1.50 |" in page
