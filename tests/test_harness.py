"""The memory that figures are measured with, measured by a module that makes traffic; probes; what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.sim.simulator.build import BuildError, build_verilog
from intaglio.sim.simulator.harness import MEMORY_LATENCY_CYCLES, Harness

TRAFFIC = Path(__file__).with_name("traffic.v")
READ, WRITE = 1, 2
MEMORY_BYTES = (1 << 16) - 64
LOW, HIGH = 0, 1
"""Two stretches of memory."""
HIGH_BASE, HIGH_BYTES = 0xFFFF_F800, 0x800
MEMORY = {LOW: (0, MEMORY_BYTES), HIGH: (HIGH_BASE, HIGH_BYTES)}
OKAY, DECERR = 0, 3
NOTED = (
    "first_address",
    "last_address",
    "first_data",
    "last_data",
    "first_answer",
    "last_answer",
    "in_flight",
    "responses",
    "lasts",
    "sum",
)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_verilog(TRAFFIC.read_text(), "traffic")


@pytest.fixture
def harness(library: Path) -> Iterator[Harness]:
    harness = Harness(library, MEMORY, elements=256, lanes=4, element_bits=4)
    yield harness
    harness.close()


def traffic(harness: Harness, kind: int, beats: int, bursts: int, address: int = 0) -> dict[str, int]:
    """Makes the traffic; what the module noted."""
    harness.reset(2)
    harness.arm()
    for register, value in ((0x20, address), (0x24, beats), (0x28, bursts), (0x10, kind)):
        assert harness.write(register, value)
    assert harness.run(100_000)
    values = {name: harness.read(0x80 + 4 * index) or 0 for index, name in enumerate(NOTED)}
    assert harness.bus_error == ""
    return values


def test_the_memory_is_the_one_that_figures_are_measured_with() -> None:
    assert MEMORY_LATENCY_CYCLES == 32


@pytest.mark.parametrize("beats", [1, 2, 17, 256])
def test_first_data_comes_a_latency_after_the_address_then_a_beat_a_cycle(
    harness: Harness, beats: int
) -> None:
    noted = traffic(harness, READ, beats, 1)
    assert noted["first_data"] - noted["first_address"] == 32
    assert noted["last_data"] - noted["first_data"] == beats - 1
    assert noted["lasts"] == 1


@pytest.mark.parametrize("latency", [1, 7, 100])
def test_the_latency_is_a_parameter(library: Path, latency: int) -> None:
    harness = Harness(library, MEMORY, elements=256, lanes=4, element_bits=4, latency=latency)
    noted = traffic(harness, READ, 4, 1)
    assert noted["first_data"] - noted["first_address"] == latency
    noted = traffic(harness, WRITE, 4, 1)
    assert noted["first_answer"] - noted["last_data"] == latency
    harness.close()


@pytest.mark.parametrize(("beats", "bursts"), [(8, 20), (32, 12), (256, 5)])
def test_reads_move_a_beat_a_cycle_without_a_gap(harness: Harness, beats: int, bursts: int) -> None:
    noted = traffic(harness, READ, beats, bursts)
    assert noted["last_data"] - noted["first_data"] == beats * bursts - 1
    assert noted["in_flight"] == min(bursts, 8)
    assert noted["lasts"] == bursts


def test_at_most_eight_reads_are_in_flight(harness: Harness) -> None:
    """Of bursts of one beat, a ninth address is taken in the cycle after the first's data, and so on."""
    noted = traffic(harness, READ, 1, 24)
    assert noted["in_flight"] == 8
    rounds = 3
    assert noted["last_data"] - noted["first_address"] == rounds * 32 + (rounds - 1) + 7


@pytest.mark.parametrize(("beats", "bursts"), [(1, 1), (16, 1), (256, 1), (16, 12), (256, 4)])
def test_writes_move_a_beat_a_cycle_and_are_answered_after_a_latency(
    harness: Harness, beats: int, bursts: int
) -> None:
    noted = traffic(harness, WRITE, beats, bursts)
    assert noted["last_data"] - noted["first_data"] == beats * bursts - 1
    assert noted["last_answer"] - noted["last_data"] == 32
    assert noted["first_answer"] - noted["first_data"] == beats - 1 + 32
    assert noted["in_flight"] <= 8


def test_at_most_eight_writes_are_in_flight(harness: Harness) -> None:
    noted = traffic(harness, WRITE, 1, 24)
    assert noted["in_flight"] == 8
    assert noted["last_answer"] - noted["first_address"] > 3 * 32


def test_what_is_read_is_what_lies_there(harness: Harness) -> None:
    content = np.random.default_rng(1).integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    harness.memory[LOW][:] = content
    noted = traffic(harness, READ, 32, 3, address=0x1100)
    words = content[0x1100 : 0x1100 + 3 * 32 * 8].view("<u4").astype(object)
    assert noted["sum"] == (sum(words[0::2]) + 3 * sum(words[1::2])) % 2**32
    assert noted["responses"] == OKAY
    assert (harness.memory[LOW] == content).all()


def test_what_is_written_lies_there_and_strobes_are_obeyed(harness: Harness) -> None:
    harness.memory[LOW][:] = 0xEE
    traffic(harness, WRITE, 4, 2, address=0x200)
    expected = np.full(MEMORY_BYTES, 0xEE, np.uint8)
    for beat in range(8):
        beat_bytes = (beat | (~beat & 0xFFFFFFFF) << 32).to_bytes(8, "little")
        place = 0x200 + 8 * beat
        expected[place : place + 8] = np.frombuffer(beat_bytes, np.uint8)
        if beat % 2:
            expected[place : place + 4] = 0xEE
    assert (harness.memory[LOW] == expected).all()


@pytest.mark.parametrize("kind", [READ, WRITE])
@pytest.mark.parametrize("address", [MEMORY_BYTES, 0xFFFF_EF00, MEMORY_BYTES - 8, HIGH_BASE - 8])
def test_addresses_past_the_end_answer_an_error(harness: Harness, kind: int, address: int) -> None:
    harness.memory[LOW][:] = 0x11
    harness.write(0x20, address)
    noted = traffic(harness, kind, 2, 1, address)
    assert noted["responses"] == DECERR
    assert (harness.memory[LOW] == 0x11).all()


def test_the_last_beat_of_memory_is_inside(harness: Harness) -> None:
    assert traffic(harness, READ, 2, 1, MEMORY_BYTES - 16)["responses"] == OKAY


def test_memory_that_ends_at_the_top_of_the_address_space(harness: Harness) -> None:
    harness.memory[LOW][:] = 0x22
    harness.memory[HIGH][:] = 0x33
    assert traffic(harness, WRITE, 2, 1, HIGH_BASE + HIGH_BYTES - 16)["responses"] == OKAY
    assert (harness.memory[LOW] == 0x22).all()
    assert (harness.memory[HIGH][:-16] == 0x33).all()
    assert not (harness.memory[HIGH][-16:-8] == 0x33).any()


def test_a_burst_across_4_kib_is_an_error_of_the_top(harness: Harness) -> None:
    for register, value in ((0x20, 0xFF8), (0x24, 2), (0x28, 1), (0x10, READ)):
        harness.write(register, value)
    harness.run(1000)
    assert "4 KiB" in harness.bus_error
    harness.arm()
    assert harness.bus_error == ""


def test_a_run_ends_at_its_limit(harness: Harness) -> None:
    before = harness.cycles
    assert not harness.run(1000)
    assert harness.cycles - before == 1000


def test_a_register_that_does_not_answer(harness: Harness) -> None:
    assert harness.read(0xFFC) is None


def on_chip(
    harness: Harness, address: int, data: int, mask: int, command: int = 0x40, value: int = 0
) -> None:
    for register, content in ((0x44, address), (0x48, data), (0x4C, mask), (command, value)):
        harness.write(register, content)


def test_a_tap_takes_what_was_written_by_then(harness: Harness) -> None:
    first = harness.add_probe(engine=3, sequence=1, address=10, elements=3)
    second = harness.add_probe(engine=3, sequence=2, address=10, elements=3)
    harness.arm()
    on_chip(harness, 10, 0x4321, 0b0111)
    harness.write(0x54, 1 << 2)  # another engine's
    assert harness.probes_taken == 0
    harness.write(0x54, 1 << 3)
    on_chip(harness, 9, 0xFFFF, 0b0100)
    harness.write(0x54, 1 << 3)
    harness.run(1)
    assert harness.probes_taken == 2
    assert list(harness.probed[first]) == [1, 2, 3]
    assert list(harness.probed[second]) == [1, 0xF, 3]


def test_a_write_in_the_cycle_of_the_completion_counts(harness: Harness) -> None:
    place = harness.add_probe(engine=4, sequence=1, address=0, elements=4)
    harness.arm()
    on_chip(harness, 0, 0x9876, 0b1111, command=0x50, value=1 << 4)
    harness.run(1)
    assert list(harness.probed[place]) == [6, 7, 8, 9]


def test_taps_of_several_engines_come_in_any_order(harness: Harness) -> None:
    late = harness.add_probe(engine=0, sequence=2, address=0, elements=1)
    early = harness.add_probe(engine=5, sequence=1, address=0, elements=1)
    both = harness.add_probe(engine=0, sequence=1, address=0, elements=1)
    harness.arm()
    on_chip(harness, 0, 1, 1, command=0x50, value=1 << 5 | 1)
    on_chip(harness, 0, 2, 1, command=0x50, value=1)
    harness.run(1)
    assert [int(harness.probed[place][0]) for place in (early, both, late)] == [1, 1, 2]


def test_nothing_is_taken_before_the_arm(harness: Harness) -> None:
    """Whoever completes commands before a start has no place to put what is taken."""
    first = harness.add_probe(engine=0, sequence=1, address=0, elements=1)
    harness.write(0x54, 1)
    harness.run(1)
    assert (harness.probes_taken, harness.completed(0)) == (0, 0)
    harness.arm()
    harness.add_probe(engine=0, sequence=1, address=0, elements=1 << 20)
    harness.write(0x54, 1)
    harness.run(1)
    assert harness.probes_taken == 0
    harness.arm()
    on_chip(harness, 0, 7, 1, command=0x50, value=1)
    harness.run(1)
    assert (harness.probes_taken, harness.completed(0), harness.completed(1)) == (2, 1, 0)
    assert list(harness.probed[first]) == [7]


def test_addresses_on_chip_wrap(harness: Harness) -> None:
    place = harness.add_probe(engine=0, sequence=1, address=254, elements=4)
    harness.arm()
    on_chip(harness, 254, 0x4321, 0b1111, command=0x50, value=1)
    harness.run(1)
    assert list(harness.probed[place]) == [1, 2, 3, 4]


def test_what_nobody_wrote_is_no_value(harness: Harness) -> None:
    place = harness.add_probe(engine=0, sequence=1, address=0, elements=1)
    harness.arm()
    on_chip(harness, 0, 5, 1, command=0x50, value=1)
    harness.run(1)
    assert harness.probed[place] == 5
    harness.arm()
    harness.write(0x54, 1)
    harness.run(1)
    assert harness.probed[place] > 0xF


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"memory": {0: (0, 12)}}, "multiples of 8"),
        ({"memory": {0: (0, 64), 1: (64, 0)}}, "multiples of 8"),
        ({"elements": 100}, "power of two"),
        ({"lanes": 0}, "lanes"),
        ({"lanes": 9}, "9 of 4 bits are more than the machine's probes carry"),
        ({"lanes": 5, "element_bits": 8}, "5 of 8 bits are more"),
        ({"element_bits": 9}, "lanes"),
        ({"latency": 0}, "latency"),
    ],
)
def test_what_a_harness_refuses(library: Path, parameters: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "memory": {0: (0, 64)},
        "elements": 256,
        "lanes": 4,
        "element_bits": 4,
        "latency": 32,
    }
    with pytest.raises(ValueError, match=message):
        Harness(library, **{**good, **parameters})


def test_verilog_that_is_wrong_is_one_line() -> None:
    with pytest.raises(BuildError, match=r"could not build broken: .*; see ") as error:
        build_verilog("module machine(input clk); wrong endmodule", "broken")
    assert "\n" not in str(error.value)
