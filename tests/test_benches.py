"""The benches pass on the units, and fail on units that are wrong."""

import functools

import numpy as np
import pytest

pytest.importorskip("cocotb", reason="the extra `sim` is not installed")

from amaranth.back import rtlil
from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from intaglio.hdl.catalogue import units
from intaglio.hdl.verilog import emit
from intaglio.sim.cocotb_runs import BUILD, build, simulate
from intaglio.sim.units import benches
from intaglio.sim.units.bench import Configuration, stalls
from intaglio.sim.units.cases import grid, pack, pack_bits, unpack_word
from intaglio.sim.units.runner import TIME_LIMIT_S, run, sources, stood

SEED = 20_240_229


@pytest.mark.parametrize("name", benches.NAMES)
def test_bench(name):
    """All configurations right, every bin hit; fewer random cases than `make sim` has."""
    outcomes = run(benches.load(name), SEED, quick=True)
    assert len(outcomes) == len(benches.load(name).configurations)
    for outcome in outcomes:
        assert not outcome.failure
        assert outcome.transfers > 0
        assert outcome.cases >= 1000 or outcome.bench == "array"
        assert outcome.hit == len(outcome.bins) > 0


# Saturate(12, 8) described anew, with faults that an input chooses, each by its number.
_FAULTS = {
    1: ("one value wrong", "wrong result"),
    2: ("never valid", "wrong `valid`"),
    3: ("never ready", "wrong `ready`"),
    4: ("ready when empty only, and then stuck", "wrong `ready`"),
    5: ("always ready, so that a stall loses values", "wrong `ready`"),
    6: ("the payload changes while it waits", "wrong result"),
    7: ("valid follows ready", "wrong `valid`"),
    8: ("no reset", "wrong `valid`"),
    9: ("no reset while the output is stalled", "wrong `valid`"),
    10: ("takes what is on the wires without valid", "wrong result"),
    11: ("half the throughput", "wrong `ready`"),
}
_FAULTY = """
module saturate_12_8 (input clk, input rst, input i__valid, output i__ready, input [11:0] i__payload,
    output o__valid, input o__ready, output [7:0] o__payload, input [15:0] mutsel);
    reg valid = 0, turn = 0;
    reg [7:0] held = 0;
    wire signed [11:0] x = i__payload;
    wire [7:0] kept = mutsel == 1 && x == 127 ? 8'h7e : x < -128 ? 8'h80 : x > 127 ? 8'h7f : x[7:0];
    wire free = mutsel == 4 ? !valid : !valid || o__ready;
    assign i__ready = mutsel == 3 ? 0 : mutsel == 5 ? 1 : mutsel == 11 ? free && turn : free;
    assign o__valid = mutsel == 2 ? 0 : mutsel == 7 ? valid && o__ready : valid;
    assign o__payload = mutsel == 6 && !o__ready ? ~held : held;
    always @(posedge clk) begin
        turn <= !turn;
        if (i__ready) valid <= i__valid;
        if (mutsel == 11 && o__ready && !i__ready) valid <= 0;
        if (i__ready && i__valid) held <= kept;
        if (mutsel == 10 && !i__valid) held <= kept;
        if (rst && mutsel != 8 && !(mutsel == 9 && !o__ready)) valid <= 0;
    end
endmodule
"""


def built(configurations, texts, selectors=None):
    return build(BUILD / "units" / "tests", stood(configurations, texts, selectors))


def _saturate() -> Configuration:
    return next(c for c in benches.load("saturate").configurations if c.name == "saturate_12_8")


def test_faults_are_seen():
    unit = _saturate()
    place = built([unit], {unit.name: _FAULTY}, {unit.name: 16})
    spec = {"bench": "saturate", "seed": SEED, "quick": True, "configurations": [unit.name], "mutants": 11}
    modules = ["intaglio.sim.units.mutants"]
    found, failure = simulate(place, modules, {"mutants": 1}, SEED, TIME_LIMIT_S, spec)
    assert failure == ""
    assert found["0"] == ""
    missed = [what for number, (what, seen) in _FAULTS.items() if seen not in found[str(number)]]
    assert not missed, found


def test_a_stuck_unit_ends(tmp_path):
    """Both tests say what is wrong with a unit that repeats its first output for ever."""
    stuck = _FAULTY.replace(", input [15:0] mutsel", "").replace("mutsel", "4")
    (tmp_path / "saturate_12_8.v").write_text(stuck)
    (outcome,) = run(benches.load("saturate"), SEED, names=["saturate_12_8"], quick=True, replaced=tmp_path)
    assert "not ready in cycle" in outcome.failure
    assert "hangs" in outcome.failure
    assert "wrong `ready`" in outcome.failure


_WITHOUT_A_BIN = """
import dataclasses

import intaglio.sim.units.simulated as simulated

for configuration in simulated.CONFIGURATIONS:
    true = configuration.make_cases

    def cases(random, quick):
        found = true(random, quick)
        return dataclasses.replace(found, bins=found.bins | {"above": 0})

    object.__setattr__(configuration, "make_cases", cases)

streams, volume = simulated.streams, simulated.volume
"""


def test_a_missed_bin_fails(monkeypatch, tmp_path):
    # A bench in which the upper end never comes; the simulator's process imports it in the place of the true one.
    (tmp_path / "saturate_without_a_bin.py").write_text(_WITHOUT_A_BIN)
    monkeypatch.syspath_prepend(tmp_path)
    whole = _saturate()
    spec = {"bench": "saturate", "seed": SEED, "quick": True, "configurations": [whole.name]}
    place = built([whole], sources([whole]))
    wanted = {"streams": 1, "volume": 1}
    report, failure = simulate(place, ["saturate_without_a_bin"], wanted, SEED, TIME_LIMIT_S, spec)
    assert "1 of 2 tests failed" in failure
    assert report[whole.name]["outcome"] == "saturate_12_8: no case for above"


def test_fewer_tests_than_expected_fail():
    whole = _saturate()
    spec = {"bench": "saturate", "seed": SEED, "quick": True, "configurations": [whole.name]}
    place = built([whole], sources([whole]))
    wanted = {"streams": 1, "volume": 1, "another": 1}
    _, failure = simulate(place, ["intaglio.sim.units.simulated"], wanted, SEED, TIME_LIMIT_S, spec)
    assert "2 tests ran, not 3" in failure


def test_payloads_are_packed_from_bit_0_up():
    shape = data.StructLayout({"a": signed(3), "b": unsigned(1), "c": data.ArrayLayout(signed(33), 2)})
    values = {"a": np.array([-1, 3]), "b": np.array([0, 1]), "c": np.array([[-(1 << 32), 5], [1, -1]])}
    rows = pack(shape, values)
    words = [int.from_bytes(row.tobytes(), "big") for row in rows]
    assert words[0] == 0b111 | 1 << (4 + 32) | 5 << (4 + 33)
    assert unpack_word(shape, words[1]) == {"a": 3, "b": 1, "c": [1, -1]}
    assert pack(signed(64), {"": np.array([-(1 << 63)])}).tolist() == [[0x80] + [0] * 7]
    assert pack_bits(np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 1]])).tolist() == [[2, 1]]


@pytest.mark.parametrize("value", [4, -5])
def test_a_payload_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="`a` must be from -4 to 3"):
        pack(data.StructLayout({"a": signed(3)}), {"a": np.array([value])})


def test_a_payload_of_other_fields_is_refused():
    with pytest.raises(ValueError, match="must have the fields"):
        pack(data.StructLayout({"a": signed(3)}), {"b": np.array([0])})


def test_grid_has_every_combination():
    a, b = grid([1, 2, 3], [4, 5])
    assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == [(x, y) for x in (1, 2, 3) for y in (4, 5)]


def test_stalls_are_the_seed_s():
    def pattern(seed):
        return stalls(np.random.default_rng(seed), 3)

    assert (pattern(1) == pattern(1)).all()
    assert (pattern(1) != pattern(2)).any()
    for bit in range(3):
        assert 0.3 < (pattern(1) >> bit & 1).mean() < 0.95


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no bench `nothing`: there are rounding_shift"):
        benches.load("nothing")
    with pytest.raises(ValueError, match="bench saturate has no nothing"):
        run(benches.load("saturate"), SEED, names=["nothing"])


def test_emitted_verilog_is_taken_by_its_name(tmp_path):
    """A fault in the file that `make verilog` writes reaches the configuration of the same parameters."""
    configurations = [
        c for c in benches.load("saturate").configurations if c.name in ("clamp_32_8", "clamp_6_6")
    ]
    text = emit(units()["clamp"](), "clamp")
    (tmp_path / "clamp.v").write_text(text + "// faulty\n")
    taken = sources(configurations, tmp_path)
    assert taken["clamp_32_8"] == text.replace("module clamp(", "module clamp_32_8(") + "// faulty\n"
    assert "faulty" not in taken["clamp_6_6"]


def test_every_emitted_unit_has_a_bench():
    # The netlists from which Verilog is written: the same text, the same Verilog.
    netlist = functools.partial(rtlil.convert, name="unit", emit_src=False)
    benched = {
        netlist(configuration.component)
        for name in benches.NAMES
        for configuration in benches.load(name).configurations
    }
    assert [name for name, make in units().items() if netlist(make()) not in benched] == []


def test_verilog_that_verilator_refuses_is_told(tmp_path):
    (tmp_path / "saturate_12_8.v").write_text("module saturate_12_8 (input clk); endmodule\n")
    with pytest.raises(RuntimeError, match="Verilator refuses the bench"):
        run(benches.load("saturate"), SEED, names=["saturate_12_8"], replaced=tmp_path)
