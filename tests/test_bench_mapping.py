"""What a mapped machine takes: cells counted by kind, boards that it fits, the page. Mapping itself takes minutes."""

import importlib.util
import json
import re

import pytest

from bench.mapping import BOARDS, FAMILIES, RESOURCES, Mapped, blocks, boards, parse
from bench.page import DOCS, fill
from bench.synthesis import LEAD_FPGA, SynthesisError, lend_fpga, yosys
from intaglio.hdl.units.mac import MAC
from intaglio.hdl.verilog import emit

installed = pytest.mark.skipif(
    importlib.util.find_spec("pyosys") is None, reason="the extra `compare` is not installed"
)


def statistics(**cells):
    return json.dumps({"modules": {"\\machine": {"num_cells_by_type": cells}}})


def test_cells_count_by_kind():
    ecp5 = parse(
        "m", "ecp5", statistics(LUT4=10, CCU2C=3, TRELLIS_DPR16X4=2, PFUMX=7, TRELLIS_FF=5, DP16KD=4)
    )
    assert ecp5 == Mapped("m", "ecp5", (28, 5, 0, 4))
    xc7 = parse("m", "xc7", statistics(LUT6=2, LUT2=1, CARRY4=9, RAMB18E1=3, RAMB36E1=1, DSP48E1=6, FDRE=8))
    assert xc7.takes == (3, 8, 6, 2.5)


def test_cells_of_unknown_size_are_named():
    with pytest.raises(
        SynthesisError, match=r"^m for ecp5 has cells of unknown size, ALU54B, MYSTERY; add them"
    ):
        parse("m", "ecp5", statistics(LUT4=1, MYSTERY=1, ALU54B=2))
    with pytest.raises(SynthesisError, match="not as known"):
        parse("m", "ecp5", "{}")


def test_the_scarcest_resource_decides():
    board = next(board for board in BOARDS if board.device == "LFE5U-85F")
    share = dict(zip(RESOURCES, board.has, strict=True))
    small = Mapped("small", "ecp5", (board.has[0] / 4, 0, board.has[2] / 2, 0))
    assert small.scarcest(board) == ("DSPs", 0.5)
    large = Mapped("large", "ecp5", (0, 0, 2 * share["DSPs"], 1))
    assert large.scarcest(board) == ("DSPs", 2)
    others = [
        Mapped(name, family, (1, 1, 1, 1)) for name in ("small", "large") for family in ("xc7", "gowin")
    ]
    rows = {row[1]: row[2:] for row in boards([small, large, *others]).rows}
    assert rows["LFE5U-85F"] == ("50% of DSPs", "no: 200% of DSPs")


def test_the_page_has_the_blocks():
    page = (DOCS / "fpga.md").read_text()
    mapped = [Mapped("affine8x8", family, (1, 2, 3, 4.5)) for family in FAMILIES]
    filled = fill(page, blocks(mapped))
    assert len(re.findall(r"^\| `affine8x8` \| 1 \| 2 \| 3 \| 4\.5 \|$", filled, re.M)) == len(FAMILIES)


@installed
@pytest.mark.parametrize(
    ("activation", "weight", "multiplications"),
    [("int5", "int4", 0), ("uint2", "int2", 0), ("int8", "int4", 1)],
)
def test_narrow_multiplications_become_gates(activation, weight, multiplications, tmp_path):
    (tmp_path / "mac.v").write_text(emit(MAC(activation, weight, 24), "mac"))
    lend_fpga(tmp_path)
    yosys("a MAC", f"read_verilog mac.v\n{LEAD_FPGA}tee -q -o found.json stat -json\n", tmp_path)
    cells = json.loads((tmp_path / "found.json").read_text())["modules"]["\\mac"]["num_cells_by_type"]
    assert cells.get("$mul", 0) == multiplications


@installed
def test_signed_sums_become_chains_of_carries(tmp_path):
    """One a pair of terms, and the same sums, which Yosys proves; a result is cut or extended, too."""
    ports, sums = [], []
    for index, (a, b) in enumerate((a, b) for a in range(1, 8) for b in range(1, 8)):
        bits = max(a, b) + index % 4 - 1
        widths = (("input", "a", a), ("input", "b", b), ("output", "y", max(bits, 1)))
        ports += [f"{way} signed [{width - 1}:0] {name}{index}" for way, name, width in widths]
        sums.append(f"assign y{index} = a{index} + b{index};")
    (tmp_path / "m.v").write_text(f"module m({', '.join(ports)}); {' '.join(sums)} endmodule")
    proved = LEAD_FPGA.replace("techmap", "equiv_opt -assert techmap")
    lend_fpga(tmp_path)
    script = f"read_verilog m.v\nhierarchy -top m\n{proved}{LEAD_FPGA}tee -q -o found.json stat -json\n"
    yosys("sums", script, tmp_path)
    cells = json.loads((tmp_path / "found.json").read_text())["modules"]["\\m"]["num_cells_by_type"]
    assert "$add" not in cells
    assert cells["$alu"] == len(sums)


@installed
@pytest.mark.parametrize("sign", ["signed", ""])
def test_those_gates_multiply(sign, tmp_path):
    """Yosys proves it, of all pairs of widths; a result is cut or extended, too."""
    ports, products = [], []
    for index, (a, b) in enumerate((a, b) for a in range(1, 6) for b in range(1, 6)):
        widths = (("input", "a", a), ("input", "b", b), ("output", "y", a + b + index % 3 - 1))
        ports += [f"{way} {sign} [{width - 1}:0] {name}{index}" for way, name, width in widths]
        products.append(f"assign y{index} = a{index} * b{index};")
    (tmp_path / "m.v").write_text(f"module m({', '.join(ports)}); {' '.join(products)} endmodule")
    proved = LEAD_FPGA.replace("techmap", "equiv_opt -assert techmap")
    lend_fpga(tmp_path)
    yosys("products", f"read_verilog m.v\nhierarchy -top m\n{proved}", tmp_path)
