"""Estimated transistors: what Yosys says is read or refused, netlists come apart, the parts add up to the machine."""

import dataclasses
import importlib.util
import json

import pytest

from bench import area, synthesis
from bench.synthesis import Netlist, Size, SynthesisError, Task, parse, synthesize
from intaglio.spec.config import AcceleratorConfig

installed = pytest.mark.skipif(
    importlib.util.find_spec("pyosys") is None, reason="the extra `compare` is not installed"
)

# A flip-flop with enable after a 4×4 multiplier and a memory, two levels down.
NETLIST = """\
module \\top
  wire width 1 input 0 \\clk
  wire width 4 input 1 \\a
  wire width 4 input 2 \\b
  wire width 8 output 3 \\y
  wire width 8 \\product
  cell \\top.times \\times
    connect \\clk \\clk
    connect \\a \\a
    connect \\b \\b
    connect \\y \\product
  end
  cell \\top.store \\store
    connect \\clk \\clk
    connect \\d \\product
    connect \\q \\y
  end
end
attribute \\generator "by hand"
module \\top.times
  wire width 1 input 0 \\clk
  wire width 4 input 1 \\a
  wire width 4 input 2 \\b
  wire width 8 output 3 \\y
  wire width 8 \\z
  cell $mul $1
    parameter \\A_SIGNED 0
    parameter \\B_SIGNED 0
    parameter \\A_WIDTH 4
    parameter \\B_WIDTH 4
    parameter \\Y_WIDTH 8
    connect \\A \\a
    connect \\B \\b
    connect \\Y \\z
  end
  cell $dff $2
    parameter \\WIDTH 8
    parameter \\CLK_POLARITY 1
    connect \\CLK \\clk
    connect \\D \\z
    connect \\Q \\y
  end
end
module \\top.store
  memory width 8 size 2 \\storage
  wire width 1 input 0 \\clk
  wire width 8 input 1 \\d
  wire width 8 output 2 \\q
  cell $memwr_v2 $1
    parameter \\MEMID "\\\\storage"
    parameter \\ABITS 1
    parameter \\WIDTH 8
    parameter \\CLK_ENABLE 1
    parameter \\CLK_POLARITY 1
    parameter \\PORTID 0
    parameter \\PRIORITY_MASK 0'0
    connect \\CLK \\clk
    connect \\ADDR \\d [0]
    connect \\DATA \\d
    connect \\EN 8'11111111
  end
  cell $memrd_v2 $2
    parameter \\MEMID "\\\\storage"
    parameter \\ABITS 1
    parameter \\WIDTH 8
    parameter \\CLK_ENABLE 1
    parameter \\CLK_POLARITY 1
    parameter \\TRANSPARENCY_MASK 1'0
    parameter \\COLLISION_X_MASK 1'0
    parameter \\ARST_VALUE 8'xxxxxxxx
    parameter \\SRST_VALUE 8'xxxxxxxx
    parameter \\INIT_VALUE 8'xxxxxxxx
    parameter \\CE_OVER_SRST 0
    connect \\CLK \\clk
    connect \\EN 1'1
    connect \\ARST 1'0
    connect \\SRST 1'0
    connect \\ADDR \\d [1]
    connect \\DATA \\q
  end
end
"""


def statistics(transistors="118", cells=None, **others):
    module = {
        "num_cells_by_type": cells or {"$_DFF_P_": 2, "$_NAND_": 20, "$_NOT_": 3},
        "estimated_num_transistors": transistors,
    }
    return json.dumps({"modules": {"\\top": module, **others}})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "CACHE", tmp_path / "area")
    return tmp_path / "area"


def test_statistics():
    assert parse(statistics(), "top") == Size(118, 2)
    multipliers = {"num_cells_by_type": {"$_NOR_": 5}, "estimated_num_transistors": "20"}
    assert parse(statistics(**{"\\OPAQUE_multipliers": multipliers}), "top") == Size(138, 2, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            statistics("118+", {"$_NAND_": 20, "$_DFFE_PP_": 1}),
            r"118\+ transistors, without those of \$_DFFE_PP_",
        ),
        (statistics("118+", {"$_NAND_": 20}), r"118\+ transistors, without those of some cell"),
        (statistics(""), "without those of some cell"),
        (statistics().replace("estimated", "guessed"), "estimated_num_transistors"),
        (statistics().replace("top", "pot"), "top"),
        ("{}", "modules"),
        ("", "use the pinned pyosys"),
        ("[]", "use the pinned pyosys"),
    ],
)
def test_unknown_statistics_are_refused(text, message):
    with pytest.raises(SynthesisError, match=message) as error:
        parse(text, "top")
    assert "\n" not in str(error.value)


def test_netlist():
    netlist = Netlist(NETLIST, "top")
    assert netlist.instances("top") == {"times": "top.times", "store": "top.store"}
    assert netlist.find(["store"]) == "top.store"
    assert netlist.find(["store", "times"]) is None
    assert netlist.find(["elsewhere"]) is None
    assert netlist.memory_bits("top") == 16
    assert netlist.memory_bits("top", ["top.store"]) == 0
    assert set(netlist.below("top")) == {"top", "top.times", "top.store"}
    with pytest.raises(SynthesisError, match="no module other"):
        Netlist(NETLIST, "other")


def test_a_part_is_a_black_box_of_the_rest():
    text = Netlist(NETLIST, "top").text("top", ["top.times"])
    assert "cell \\OPAQUE_part_0 \\times\n" in text
    assert "module \\OPAQUE_part_0\n  wire width 1 input 0 \\clk\n" in text
    assert "$mul" not in text
    assert "\\top.times" not in text
    assert "cell \\top.store \\store\n" in text


def test_what_a_digest_follows_from(monkeypatch):
    monkeypatch.setattr(synthesis, "_yosys_version", lambda: "1")
    task = Task("it", NETLIST, "top", booth=False)
    others = [
        dataclasses.replace(task, booth=True),
        dataclasses.replace(task, split=True),
        dataclasses.replace(task, text=NETLIST.replace("width 4", "width 5")),
    ]
    assert len({task.digest, *(other.digest for other in others)}) == 4
    assert dataclasses.replace(task, name="other").digest == task.digest
    # Without a multiplier, neither changes anything.
    plain = dataclasses.replace(task, text=NETLIST.replace("$mul", "$add"))
    assert dataclasses.replace(plain, booth=True, split=True).digest == plain.digest
    before = task.digest
    monkeypatch.setattr(synthesis, "_yosys_version", lambda: "2")
    assert task.digest != before


def test_missing_yosys(cache, monkeypatch):
    def missing(name):
        raise synthesis.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(synthesis.importlib.metadata, "version", missing)
    with pytest.raises(SynthesisError, match="make compare installs it"):
        synthesize([Task("it", NETLIST, "top", booth=False)])


@installed
def test_transistors(cache):
    netlist = Netlist(NETLIST, "top")
    names = ("top", "top.times", "top.store")
    tasks = [Task(name, netlist.text(name), name, booth=False) for name in names]
    tasks.append(Task("apart", netlist.text("top.times"), "top.times", booth=False, split=True))
    tasks.append(Task("Booth", netlist.text("top.times"), "top.times", booth=True))
    done: list[int] = []
    whole, times, store, apart, booth = sizes = synthesize(tasks, jobs=2, progress=done.append)
    assert done[-1] == len(tasks)
    # A memory is no transistors, and what writes it is not optimized away.
    assert store == Size(0, 0)
    assert times.flip_flops == 8
    assert times.transistors > 8 * 16
    assert whole == times
    assert apart.multipliers == apart.transistors - 8 * 16
    assert apart.transistors == times.transistors
    assert booth.transistors != times.transistors
    assert len(list(cache.iterdir())) == len(tasks)
    # Kept: Yosys is not asked again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis.subprocess, "Popen", None)
        assert synthesize(tasks) == sizes


@installed
def test_a_failing_synthesis(cache):
    with pytest.raises(SynthesisError, match=r"could not synthesize it: .*ERROR") as error:
        synthesize([Task("it", NETLIST, "elsewhere", booth=False)])
    assert "\n" not in str(error.value)
    assert not cache.exists()


def small(**fields):
    base = AcceleratorConfig.load("sbnq8x8")
    sizes = {"rows": 2, "columns": 4, "rescale_lanes": 4, "scratchpad_bytes": 1024, "accumulator_depth": 16}
    return dataclasses.replace(base, name="small", weight_buffer_bytes=512, **(sizes | fields))


def test_parts():
    config = small()
    netlist = area.netlist_of(config)
    parts = area.parts_of(netlist, config)
    assert set(parts) == {"array", "accumulators", "scratchpad", "weight stream", "rescale engine"}
    assert parts["array"].endswith("core.matmul.array")
    assert list(area.lanes_of(netlist, config)) == ["sbnq"]
    # Each part is one module, and none lies in another.
    assert len(set(parts.values())) == len(parts)
    for part, module in parts.items():
        assert set(netlist.below(module)).isdisjoint(set(parts.values()) - {module}), part
    memories = config.on_chip_bytes
    assert netlist.memory_bits(parts["scratchpad"]) == 8 * memories["scratchpad"]
    assert netlist.memory_bits(parts["accumulators"]) == 8 * memories["accumulators"]
    assert netlist.memory_bits(parts["weight stream"]) == 8 * (
        memories["weight buffer"] + memories["rescale parameters"]
    )
    with pytest.raises(SynthesisError, match=r"no inner\.core\.lanes, inner\.core\.elementwise"):
        area.parts_of(netlist, AcceleratorConfig.load("affine8x8"))


@installed
def test_the_parts_add_up_to_the_machine(cache, monkeypatch):
    config = small()
    # Minutes: without Booth's multipliers, which change nothing of what this is about.
    monkeypatch.setattr(area, "MULTIPLIERS", {False: "plain"})
    (found,) = area.measure([config])
    netlist = area.netlist_of(config)
    (whole,) = synthesize([Task("all", netlist.text("machine"), "machine", booth=False)])
    assert found.total(False) == sum(found.group(group, False) for group in area.GROUPS)
    assert found.total(False) == pytest.approx(whole.transistors, rel=0.03)
    flip_flops = sum(size.flip_flops for size in found.sizes[False].values())
    assert flip_flops == pytest.approx(whole.flip_flops, rel=0.03)
    assert found.lanes[False]["sbnq"].multipliers is None
    assert sum(found.memory_bits.values()) == netlist.memory_bits("machine")


def test_same_array():
    machines = area.same_array()
    assert (
        len({(m.rows, m.columns, m.rescale_lanes, m.weight_type, m.accumulator_bits) for m in machines}) == 1
    )
    assert [machine.rescales for machine in machines] == [(scheme,) for scheme in area.RESCALES]


def test_the_papers_processors_lie_on_a_line():
    fit = area.fit_processors()
    for array in area.PAPER:
        assert fit.constant + fit.slope * array.bits == pytest.approx(array.processor_mm2, abs=fit.residual)
    assert (fit.constant, fit.slope) == pytest.approx((0.884, 0.478), abs=0.002)


def test_the_arrays_share():
    # Processors made of 1 mm² of array at 8 bits, 1.5 mm² and 0.4 mm² a bit.
    arrays = [Size(6400, 0), Size(1600, 0), Size(400, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            area,
            "PAPER",
            [
                dataclasses.replace(array, processor_mm2=1.5 + 0.4 * array.bits + size.transistors / 6400)
                for array, size in zip(area.PAPER, arrays, strict=True)
            ],
        )
        share, either_way = area.array_share(arrays)
    assert share == pytest.approx(1 / 5.7)
    assert 0 < either_way < 0.1
