"""The C driver: strict compilers' silence, the same numbers as Python's, and the simulated machine run by it; all under
AddressSanitizer and UBSan, which end it at the first access or operation that is not defined."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import intaglio
from bench.driver import CORE_BYTES, PARTS, Compiler, size_of
from bench.driver import compilers as riscv_compilers
from bench.driver_harness import (
    DRIVER,
    NAMES,
    SOURCES,
    STATUSES,
    STRICT,
    TIMEOUT,
    Driver,
    build,
    compilers,
    one_behind_the_other,
)
from intaglio import golden, session
from intaglio.compiler import compile_network
from intaglio.compiler.artifact import (
    Artifact,
    artifact_of,
    c_sources,
    crc_of,
    decode,
    encode,
    self_tests,
    storing_layers,
)
from intaglio.network import Network, NetworkError, Tensor, TensorType
from intaglio.network.inputs import conform
from intaglio.sim.simulator.build import build as build_machine
from intaglio.spec.artifact import PART_ALIGNMENT, Part, Role
from intaglio.spec.commands import COMMAND_BYTES, Opcode
from intaglio.spec.commands import encode as command
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.regions import Region
from intaglio.spec.registers import COUNTERS, STATUS_BUSY, STATUS_DONE, Cause, Register
from tests.artifacts import (
    CONTENT,
    FINGERPRINT,
    PLACES,
    REFUSED,
    damaged,
    entry,
    every_type,
    with_words,
    word,
)
from tests.networks import Builder, draw, wild_network

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")

MODELS = Path(intaglio.__file__).parent / "models"
TINY = Path(__file__).with_name("tiny.toml")
TESTS = 2


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(program: Path, tmp_path: Path) -> Iterator[Driver]:
    with Driver(program, tmp_path) as driver:
        yield driver


@pytest.fixture(scope="module")
def digits() -> Artifact:
    """The digits network on the tiny machine, with every layer's output stored."""
    network, config = session.load(MODELS / "digits_sbnq4.txt"), AcceleratorConfig.load(TINY)
    inputs, _ = session.inputs_of(MODELS / "digits_test.npz", network, TESTS)
    tests = self_tests(network, config, inputs, golden.run(network, inputs).tensors)
    return artifact_of(compile_network(storing_layers(network), config), network, config, tests)


@pytest.fixture
def machine(driver: Driver) -> Driver:
    config = AcceleratorConfig.load(TINY)
    assert driver.machine(build_machine(config), config) == "OK"
    return driver


def ready(driver: Driver, artifact: Artifact, places: Mapping[Region, int] | None = None) -> None:
    """Loaded and bound."""
    assert driver.load(encode(artifact)) == "OK"
    driver.bind_all(artifact, places or one_behind_the_other(artifact))


# The sources.


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_strict_compilers_say_nothing(compiler: str, source: Path, tmp_path: Path) -> None:
    for level in ("-O0", "-Os", "-O2"):
        command = [compiler, *STRICT, level, "-c", str(source), "-o", str(tmp_path / "object.o")]
        assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_nothing_of_a_library_is_needed(tmp_path: Path) -> None:
    for source in SOURCES:
        subprocess.run(["gcc", *STRICT, "-Os", "-c", str(source)], cwd=tmp_path, check=True)
    objects = [f"{source.stem}.o" for source in SOURCES]
    listed = subprocess.run(["nm", *objects], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in listed.splitlines() if line.strip()]
    defined = {line[2] for line in lines if len(line) == 3}
    wanted = {line[1] for line in lines if len(line) == 2 and line[0] == "U"}
    assert {name for name in defined if not name.startswith("intaglio_")} <= {
        line[2] for line in lines if len(line) == 3 and line[1].islower()
    }
    assert wanted - defined <= {"_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.parametrize("compiler", riscv_compilers(), ids=lambda compiler: compiler.name)
def test_the_core_is_small(compiler: Compiler, tmp_path: Path) -> None:
    """Where a compiler for RISC-V is installed."""
    assert 2000 < size_of(compiler, PARTS["core"], tmp_path) <= CORE_BYTES


def test_the_headers_include_two_headers_of_c() -> None:
    included = {
        line.split("<")[1].rstrip(">")
        for path in (*SOURCES, *DRIVER.glob("*.h"))
        for line in path.read_text().splitlines()
        if line.startswith("#include <")
    }
    assert included == {"stddef.h", "stdint.h"}


# Artifacts.


def test_ten_thousand_damaged_artifacts(driver: Driver) -> None:
    """Each is refused, or is another artifact that can be read to its end; and not otherwise than Python refuses it."""
    assert driver.registers(FINGERPRINT) == "OK"
    contents = list(damaged(CONTENT, 10_000))
    found = driver.load_each(contents)
    assert len(found) == len(contents)
    assert {"OK", "CUT", "DAMAGED", "MALFORMED", "OTHER_MACHINE", "NO_ARTIFACT", "OTHER_FORMAT"} == set(found)
    for content, status in list(zip(contents, found, strict=True))[::5]:
        if status == "OK":
            # What neither counts nor is an offset, the driver leaves to its user.
            assert any(
                text in refusal(content) for text in ("right", "is no UTF-8", "flags that are not known")
            )
        elif status != "OTHER_MACHINE":
            assert refusal(content) != "right"


def refusal(content: bytes) -> str:
    """What Python says of an artifact."""
    try:
        decode(content, "")
    except NetworkError as error:
        return str(error)
    return "right"


def test_every_changed_byte_is_found(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    contents = []
    for place in range(len(CONTENT)):
        contents.append(bytearray(CONTENT))
        contents[-1][place] ^= 1 << place % 8
    assert "OK" not in driver.load_each(map(bytes, contents))
    assert driver.load_each([CONTENT]) == ["OK"]


@pytest.mark.parametrize("said", REFUSED)
def test_one_that_contradicts_itself(driver: Driver, said: str) -> None:
    """As Python refuses it; but for what is no offset and no count, which is the user's."""
    driver.registers(FINGERPRINT)
    status = driver.load(with_words(CONTENT, REFUSED[said]))
    own = {"of version 9 of the format, 1 is read": "OTHER_FORMAT", "the string at .* is no UTF-8": "OK"}
    assert status == own.get(said, "MALFORMED")


@pytest.mark.parametrize(
    ("place", "value", "status"),
    [
        (PLACES["magic"], 1, "NO_ARTIFACT"),
        (PLACES["version"], 2, "OTHER_FORMAT"),
        (PLACES["fingerprint"], 1, "OTHER_MACHINE"),
        (PLACES["bytes"], len(CONTENT) + PART_ALIGNMENT, "CUT"),
        (PLACES["command_count"], 0xFFFF_FFFF, "MALFORMED"),
        (entry(Part.TEST_INPUTS, "count"), 0xFFFF_FFFF, "MALFORMED"),
    ],
)
def test_what_is_wrong_has_a_status(driver: Driver, place: int, value: int, status: str) -> None:
    driver.registers(FINGERPRINT)
    assert driver.load(with_words(CONTENT, {place: value})) == status


@pytest.mark.parametrize("offset", range(5))
def test_words_lie_where_words_do(driver: Driver, offset: int) -> None:
    driver.registers(FINGERPRINT)
    assert driver.load(CONTENT, offset) == ("MISALIGNED" if offset % 4 else "OK")


def test_a_file_may_lie_in_more_memory_than_it_takes(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    assert driver.load(CONTENT + bytes(1000)) == "OK"


# Values.


def extremes(kind: TensorType, count: int) -> np.ndarray:
    rng = np.random.default_rng(kind.bits)
    values = rng.integers(kind.min, kind.max, count, np.int64, endpoint=True)
    values[: min(2, count)] = [kind.min, kind.max][:count]
    return values


def test_integers_are_packed_as_python_packs_them(driver: Driver, tmp_path: Path) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    for number, tensor in enumerate(every_type().stored):
        binding = tensor.binding
        for _ in range(3):
            values = extremes(binding.type, binding.size)
            packed = driver.convert("pack", number, values, np.uint8)
            unpacked = values.reshape(binding.shape).astype(binding.type.dtype)
            np.testing.assert_array_equal(packed, binding.pack(unpacked[None])[0], tensor.name)
            # Bits that no element takes are whatever they are.
            packed = packed.copy()
            if spare := -binding.size * binding.digits * binding.element_bits % 8:
                packed[-1] |= (0xFF << (8 - spare)) & 0xFF
            (tmp_path / "packed").write_bytes(packed.tobytes())
            assert int(driver.ask("crc", number, tmp_path / "packed")) == crc_of(binding, unpacked)
            found = driver.convert("integers", number, packed, np.int64)
            np.testing.assert_array_equal(found, values, tensor.name)


def test_pixels_are_what_python_makes_of_them(driver: Driver) -> None:
    """Of tensors of one scale, and of one of int8 whose zero point is -128."""
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    rng = np.random.default_rng(6)
    shifted = 0
    for number, tensor in enumerate(every_type().stored):
        binding = tensor.binding
        if len(tensor.scales) > 1:
            continue
        scale, zero_point = tensor.scales[0] if tensor.scales else (None, 0)
        shifted += binding.type == TensorType(8, True) and zero_point == -128
        like = Tensor("x", (), binding.type, scale, zero_point)
        for top in (1, 256):
            values = rng.integers(0, top, binding.size, np.uint8, endpoint=top == 1)
            status, packed = driver.try_convert("pixels", number, values, np.uint8)
            try:
                wanted = conform(values.reshape(binding.shape), like, "values")
            except NetworkError:
                assert status == "OUT_OF_RANGE", tensor.name
            else:
                assert status == "OK", tensor.name
                np.testing.assert_array_equal(packed, binding.pack(wanted[None])[0], tensor.name)
    assert shifted


def test_an_integer_out_of_range_is_refused(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    for number, tensor in enumerate(every_type().stored):
        binding = tensor.binding
        for value in (binding.type.min - 1, binding.type.max + 1, 1 << 62, -(1 << 63)):
            values = np.full(binding.size, value, np.int64)
            assert driver.try_convert("pack", number, values, np.uint8)[0] == "OUT_OF_RANGE", tensor.name


def test_floats_are_quantized_as_python_quantizes_them(driver: Driver) -> None:
    """With one scale by what reads a user's inputs; with one a channel by the same, channel by channel."""
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    rng = np.random.default_rng(5)
    checked = 0
    for number, tensor in enumerate(every_type().stored):
        binding = tensor.binding
        if not tensor.scales:
            values = np.zeros(binding.size, np.float32)
            assert driver.try_convert("quantize", number, values, np.uint8)[0] == "NO_SCALE"
            continue
        for spread in (0.1, 3, 300, 1e6, 1e12, 1e38):
            values = (rng.uniform(-1, 1, binding.shape) * spread).astype(np.float32)
            scale = tensor.values(np.ones(binding.shape)) - tensor.values(np.zeros(binding.shape))
            ties = rng.random(binding.shape) < 0.5
            half = rng.integers(-100, 100, binding.shape) + 0.5
            values = np.where(ties & (spread < 1e6), (half * scale).astype(np.float32), values)
            packed = driver.convert("quantize", number, values, np.uint8)
            np.testing.assert_array_equal(
                packed, binding.pack(quantized(tensor, values)[None])[0], tensor.name
            )
            checked += values.size
    assert checked > 1000


def quantized(tensor, values: np.ndarray) -> np.ndarray:
    found = np.zeros(values.shape, np.int64)
    for channel, (scale, zero_point) in enumerate(tensor.scales):
        where: tuple = (...,)
        if len(tensor.scales) > 1:
            where = (*(slice(None),) * tensor.axis, channel)
        like = Tensor("x", (), tensor.binding.type, scale, zero_point)
        found[where] = conform(values[where], like, "values")
    return found


def test_stored_integers_are_read_as_python_reads_them(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    for number, tensor in enumerate(every_type().stored):
        binding = tensor.binding
        stored = extremes(binding.type, binding.size).reshape(binding.shape).astype(binding.type.dtype)
        packed = binding.pack(stored[None])[0]
        if tensor.scales:
            found = driver.convert("floats", number, packed, np.float32)
            np.testing.assert_array_equal(found, tensor.values(stored).ravel(), tensor.name)
        else:
            assert driver.try_convert("floats", number, packed, np.float32)[0] == "NO_SCALE"


def test_shapes(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    for number, tensor in enumerate(every_type().stored):
        assert driver.numbers("shape", number) == [*tensor.binding.shape, 0]


def test_elements_that_a_tensor_has_not(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    number = next(i for i, tensor in enumerate(every_type().stored) if tensor.scales)
    size = every_type().stored[number].binding.size
    for first, count in ((size, 1), (size - 1, 2), (0, size + 1), (1 << 31, 1 << 31), (1, (1 << 32) - 1)):
        assert driver.numbers("range", number, first, count) == [STATUSES["NONE_SUCH"]] * 4
    assert driver.numbers("range", number, size - 1, 1) == [0] * 4
    assert driver.numbers("range", number, size, 0) == [0] * 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(driver: Driver, value: float) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    number = next(i for i, tensor in enumerate(every_type().stored) if tensor.scales)
    values = np.full(every_type().stored[number].binding.size, value, np.float32)
    assert driver.try_convert("quantize", number, values, np.uint8)[0] == "NOT_FINITE"


# Memory.


def test_what_bind_refuses(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    artifact = every_type()
    driver.load(CONTENT)
    size = artifact.program.region_bytes
    top = 1 << artifact.address_bits

    def bind(region: int, address: int, bytes: int) -> str:
        return driver.status("bind", region, address, bytes)

    assert bind(5, 0, 64) == "NONE_SUCH"
    for bit in range(6):
        assert bind(Region.INPUT, 1 << bit, size[Region.INPUT]) == "MISALIGNED"
    assert bind(Region.INPUT, 64, size[Region.INPUT] - 1) == "SHORT"
    assert bind(Region.SCRATCH, 64, 0) == "SHORT"
    assert bind(Region.INPUT, top - size[Region.INPUT] + 64, size[Region.INPUT]) == "WRAPS"
    assert bind(Region.INPUT, top, size[Region.INPUT]) == "WRAPS"
    assert bind(Region.INPUT, (1 << 64) - 64, size[Region.INPUT]) == "WRAPS"
    assert bind(Region.INPUT, top - size[Region.INPUT], size[Region.INPUT]) == "OK"
    # Two that are only read may overlap; one that is written may touch, but not overlap.
    base = 1 << 20
    assert bind(Region.PROGRAM, base, size[Region.PROGRAM]) == "OK"
    assert bind(Region.INPUT, base, size[Region.INPUT]) == "OK"
    assert bind(Region.INPUT, base + 4096, size[Region.INPUT]) == "OK"
    for place in (base, base + size[Region.PROGRAM] - 64, base - size[Region.OUTPUT] + 64):
        assert bind(Region.OUTPUT, place, size[Region.OUTPUT]) == "OVERLAPS"
    assert bind(Region.OUTPUT, base - 64, 1 << 16) == "OVERLAPS"
    assert bind(Region.OUTPUT, base + size[Region.PROGRAM], size[Region.OUTPUT]) == "OK"
    assert bind(Region.OUTPUT, base - size[Region.OUTPUT], size[Region.OUTPUT]) == "OK"
    # Bound again, a region is where it is now, and no longer where it was.
    assert bind(Region.STATE, base + size[Region.PROGRAM], size[Region.STATE]) == "OK"
    assert bind(Region.OUTPUT, base + size[Region.PROGRAM], size[Region.OUTPUT]) == "OVERLAPS"
    assert driver.status("start") == "OK"


def test_a_region_without_memory_is_told_at_the_start(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    assert driver.status("start") == "UNBOUND"
    assert driver.status("state") == "UNBOUND"


def test_memory_that_begins_within_a_line_of_the_cache(driver: Driver) -> None:
    """At an address that is right, but at another place than the processor's lines."""
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    driver.ask("memory", 4096 - 32, 256)
    assert driver.status("bind", Region.STATE, 4096, 128) == "MISALIGNED"


def test_state_is_filled_when_it_is_bound_and_when_it_is_reset(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    driver.ask("memory", 4096, 128)
    assert driver.status("bind", Region.STATE, 4096, 128) == "OK"
    held = every_type().contents[Region.STATE]
    assert driver.dump(4096)[: len(held)] == held
    driver.ask("fill", 4096, 0x77)
    assert driver.status("state") == "OK"
    assert driver.dump(4096) == held + bytes([0x77]) * (128 - len(held))


def test_a_host_of_registers_alone(driver: Driver) -> None:
    """Without a clock, a timeout counts polls; without hooks for caches there are none to call."""
    driver.registers(FINGERPRINT)
    assert driver.status("bare") == "OK"
    driver.load(CONTENT)
    for region, size in every_type().program.region_bytes.items():
        if size:
            driver.ask("memory", region << 20, size)
            assert driver.status("bind", region, region << 20, size) == "OK"
    assert driver.status("start") == "OK"
    driver.ask("poke", Register.STATUS, STATUS_BUSY)
    assert driver.status("wait", 5) == "TIMEOUT"
    driver.ask("poke", Register.STATUS, STATUS_DONE)
    assert driver.status("wait", 5) == "OK"
    # As if it had been reset.
    driver.ask("poke", Register.STATUS, 0)
    assert driver.status("start") == "OK"
    assert driver.status("wait", 5) == "IDLE"


def test_another_machine_is_no_machine(driver: Driver) -> None:
    assert driver.status("open") == "NO_MACHINE"
    assert driver.registers(FINGERPRINT + 1) == "OK"
    assert driver.load(CONTENT) == "OTHER_MACHINE"
    driver.ask("poke", Register.VERSION, 77)
    assert driver.status("open") == "OTHER_REGISTERS"


# The simulated machine.


def test_every_layer_of_every_self_test(machine: Driver, digits: Artifact) -> None:
    ready(machine, digits)
    status, tests, equal, *_ = machine.numbers("test", TIMEOUT)
    assert (status, tests) == (0, TESTS)
    assert equal == TESTS * (len(digits.program.layers) + 1)
    assert machine.ask("interrupt") == "1"
    assert machine.ask("interrupt") == "0"


def two_inputs(config: AcceleratorConfig) -> Network:
    builder = Builder(5, config, (6, 6, 4))
    builder.tensors["second"] = Tensor("second", (75,), TensorType(4, False))
    builder.conv(5, (3, 3)).conv(3, (3, 3)).pool(source="layer0_out").fc(7, source="second").fc(
        3, source="layer2_out"
    )
    return builder.build(("layer4_out", "layer0_out", "layer3_out"), ("input", "second"))


@pytest.mark.parametrize("seed", [None, 0, 38, 54])
def test_networks_of_several_inputs_and_outputs(machine: Driver, seed: int | None) -> None:
    """Outputs that other layers read, tensors that end within a byte or are wider than an element."""
    config = AcceleratorConfig.load(TINY)
    network = two_inputs(config) if seed is None else wild_network(seed, config)
    rng = np.random.default_rng(1)
    tensors = [network.tensors[name] for name in network.inputs]
    inputs = {tensor.name: draw(rng, tensor.type, (TESTS, *tensor.shape)) for tensor in tensors}
    tests = self_tests(network, config, inputs, golden.run(network, inputs).tensors)
    artifact = artifact_of(compile_network(storing_layers(network), config), network, config, tests)
    ready(machine, artifact)
    compared = TESTS * (len(network.layers) + len(artifact.of_role(Role.OUTPUT)))
    assert machine.numbers("test", TIMEOUT)[:3] == [0, TESTS, compared]


def test_the_first_layer_that_differs_is_named(machine: Driver, digits: Artifact) -> None:
    second = list(digits.tests[1].crcs)
    second[3] ^= 1  # of the third layer, behind the one output
    second[4] ^= 1
    tests = (digits.tests[0], dataclasses.replace(digits.tests[1], crcs=tuple(second)))
    ready(machine, dataclasses.replace(digits, tests=tests))
    layers = len(digits.program.layers)
    assert machine.numbers("test", TIMEOUT) == [STATUSES["DIFFERS"], 2, layers + 1 + 2, 1, -1, 2]


def test_counters_and_the_cycles_of_layers(machine: Driver, digits: Artifact) -> None:
    ready(machine, digits)
    machine.numbers("test", TIMEOUT)
    counters = dict(zip(COUNTERS, machine.numbers("result"), strict=True))
    layers = machine.numbers("layers")
    assert len(layers) == len(digits.program.layers)
    assert sum(layers) == counters[Register.CYCLES]
    assert min(layers) >= 0
    assert counters[Register.READ_BEATS] * 8 > len(digits.program.image)


def placements(artifact: Artifact) -> list[dict[Region, int]]:
    """One behind the other; apart, each at a page's end; and down from the top of the address space, touching."""
    apart = {region: (region + 1 << 24) + 4096 - 64 for region in Region}
    down, top = {}, 1 << artifact.address_bits
    for region in Region:
        top -= artifact.program.region_bytes[region]
        down[region] = top
    return [one_behind_the_other(artifact, 1 << 16), apart, down]


def test_the_same_artifact_at_three_placements_on_two_machines(
    program: Path, tmp_path: Path, digits: Artifact
) -> None:
    """The machines' memories are not equally quick."""
    config, content = AcceleratorConfig.load(TINY), encode(digits)
    found = []
    for latency in (32, 5):
        with Driver(program, tmp_path) as driver:
            assert driver.machine(build_machine(config), config, latency) == "OK"
            for places in placements(digits):
                assert driver.load(content) == "OK"
                driver.bind_all(digits, places)
                assert driver.numbers("test", TIMEOUT)[:2] == [0, TESTS]
                assert (
                    driver.dump(places[Region.PROGRAM]) == digits.program.image.tobytes()
                )  # nobody wrote it
                found.append(driver.dump(places[Region.OUTPUT]))
    assert len(set(found)) == 1
    assert len(found) == 6


def test_the_image_is_run_where_the_file_lies(machine: Driver, digits: Artifact, tmp_path: Path) -> None:
    content = encode(digits)
    assert machine.load(content) == "OK"
    flash, begin = 1 << 28, word(content, entry(Part.CONTENTS, "offset"))
    (tmp_path / "flash").write_bytes(content)
    machine.ask("memory", flash, len(content))
    machine.ask("write", flash, tmp_path / "flash")
    sizes = digits.program.region_bytes
    assert machine.status("place", Region.PROGRAM, flash + begin, sizes[Region.PROGRAM]) == "OK"
    for region in (Region.INPUT, Region.OUTPUT, Region.SCRATCH):
        if sizes[region]:
            machine.ask("memory", region << 20, sizes[region])
            assert machine.status("bind", region, region << 20, sizes[region]) == "OK"
    assert machine.numbers("test", TIMEOUT)[:2] == [0, TESTS]
    assert machine.dump(flash) == content
    # Outputs that the processor does not see cannot be compared.
    assert machine.status("place", Region.OUTPUT, Region.OUTPUT << 20, sizes[Region.OUTPUT]) == "OK"
    assert machine.numbers("test", TIMEOUT)[0] == STATUSES["UNBOUND"]


def test_garbage_of_right_checksums_ends_and_stays_in_its_regions(machine: Driver, digits: Artifact) -> None:
    rng = np.random.default_rng(11)
    ends = []
    for turn in range(40):
        program = digits.program
        image = program.image.copy()
        commands = image[program.command_offset :][: len(program.commands)]
        for place in rng.integers(0, len(commands), 1 + turn % 4):
            commands[place] ^= np.uint8(1 << rng.integers(8))
        wrong = dataclasses.replace(digits, program=dataclasses.replace(program, image=image))
        base = (turn + 1) << 24
        places = {region: base + (region << 18) for region in Region}
        ready(machine, wrong, places)
        machine.ask("poke", Register.WATCHDOG, 5000)
        ends.append(NAMES[machine.numbers("test", TIMEOUT)[0]])
        assert machine.dump(places[Region.PROGRAM]) == image.tobytes()
    assert set(ends) <= {"OK", "DIFFERS", "FAULT"}
    assert ends.count("FAULT") > 5


def test_inputs_and_outputs_of_a_users(machine: Driver, digits: Artifact, tmp_path: Path) -> None:
    ready(machine, digits)
    network = session.load(MODELS / "digits_sbnq4.txt")
    inputs, _ = session.inputs_of(MODELS / "digits_test.npz", network, 7)
    (given,), (output,) = digits.of_role(Role.INPUT), digits.of_role(Role.OUTPUT)
    expected = golden.run(network, inputs).tensors[output.name]
    number = digits.stored.index(output)
    for image, wanted in zip(inputs[given.name], expected, strict=True):
        packed = machine.convert("pack", 0, image.astype(np.int64), np.uint8)
        (tmp_path / "packed").write_bytes(packed.tobytes())
        assert machine.status("put", 0, tmp_path / "packed", tmp_path / "none") == "OK"
        assert machine.status("start") == "OK"
        assert machine.status("wait", TIMEOUT) == "OK"
        assert machine.status("get", number, tmp_path / "packed", tmp_path / "stored") == "OK"
        stored = np.fromfile(tmp_path / "stored", np.uint8)
        values = machine.convert("integers", number, stored, np.int64)
        np.testing.assert_array_equal(values, wanted.ravel())


def test_a_run_from_its_start_to_its_end(machine: Driver, digits: Artifact) -> None:
    ready(machine, digits)
    assert machine.status("poll") == "IDLE"
    assert machine.status("start") == "OK"
    assert machine.status("poll") == "RUNNING"
    assert machine.status("start") == "RUNNING"
    assert machine.status("bind", Region.INPUT, 0, 64) == "RUNNING"
    assert machine.load(encode(digits)) == "RUNNING"
    assert machine.status("state") == "RUNNING"
    assert machine.status("wait", 10) == "TIMEOUT"
    assert machine.status("wait", TIMEOUT) == "OK"
    assert machine.status("poll") == "OK"


# Faults.


def changed(artifact: Artifact, index: int, **fields: int) -> Artifact:
    """With other fields in a command."""
    opcode, values = artifact.program.command(index)
    return replaced(artifact, index, command(opcode, values | fields))


def replaced(artifact: Artifact, index: int, data: bytes) -> Artifact:
    program = artifact.program
    image = program.image.copy()
    place = program.command_offset + index * COMMAND_BYTES
    image[place : place + COMMAND_BYTES] = np.frombuffer(data, np.uint8)
    commands = image[program.command_offset :][: len(program.commands)].tobytes()
    return dataclasses.replace(artifact, program=dataclasses.replace(program, image=image, commands=commands))


def first_of(artifact: Artifact, opcode: Opcode) -> int:
    program = artifact.program
    return next(i for i in range(program.command_count) if program.command(i)[0] is opcode)


def stopped(driver: Driver) -> str:
    assert driver.status("start") == "OK"
    assert driver.status("wait", TIMEOUT) == "FAULT"
    return driver.fault()


def told(cause: Cause, artifact: Artifact, index: int, address: int = 0) -> str:
    where = f", address {address:#x}" if address else ""
    return f"{cause.name} at command {index} ({artifact.program.owners[index]}){where}: {cause.meaning}"


def test_an_opcode_that_is_none(machine: Driver, digits: Artifact) -> None:
    ready(machine, replaced(digits, 5, b"\xff" * COMMAND_BYTES))
    assert stopped(machine) == told(Cause.ILLEGAL_OPCODE, digits, 5)


def test_a_field_that_is_illegal(machine: Driver, digits: Artifact) -> None:
    index = first_of(digits, Opcode.MATMUL)
    ready(machine, changed(digits, index, output_rows=0))
    assert stopped(machine) == told(Cause.ILLEGAL_FIELD, digits, index)


@pytest.mark.parametrize(
    ("opcode", "region", "cause"),
    [(Opcode.LOAD, Region.INPUT, Cause.READ_REGION), (Opcode.STORE, Region.OUTPUT, Cause.WRITE_REGION)],
)
def test_an_offset_beyond_a_region(
    machine: Driver, digits: Artifact, opcode: Opcode, region: Region, cause: Cause
) -> None:
    index = next(
        i
        for i in range(digits.program.command_count)
        if digits.program.command(i)[0] is opcode and digits.program.command(i)[1]["region"] == region
    )
    wrong = changed(digits, index, memory_offset=digits.program.region_bytes[region])
    # The region is granted as the artifact says, whatever memory it is bound to.
    places = {other: (other + 1) << 20 for other in Region}
    assert machine.load(encode(wrong)) == "OK"
    for other, size in digits.program.region_bytes.items():
        if size:
            machine.ask("memory", places[other], 4096 * 4)
            assert machine.status("bind", other, places[other], 4096 * 4) == "OK"
    said = stopped(machine)
    assert said.startswith(f"{cause.name} at command {index} ({digits.program.owners[index]}), address 0x")
    assert said.endswith(cause.meaning)


@pytest.mark.parametrize(
    ("region", "cause"), [(Region.INPUT, Cause.READ_ERROR), (Region.OUTPUT, Cause.WRITE_ERROR)]
)
def test_memory_that_does_not_answer(machine: Driver, digits: Artifact, region: Region, cause: Cause) -> None:
    assert machine.load(encode(digits)) == "OK"
    places = {other: (other + 1) << 20 for other in Region}
    for other, size in digits.program.region_bytes.items():
        if size:
            if other is not region:
                machine.ask("memory", places[other], size)
            assert machine.status("bind", other, places[other], size) == "OK"
    said = stopped(machine)
    assert said.startswith(f"{cause.name} at command ")
    address = int(said.split("address ")[1].split(":")[0], 16)
    assert places[region] <= address < places[region] + digits.program.region_bytes[region]


def test_a_wait_for_ever(machine: Driver, digits: Artifact) -> None:
    index = first_of(digits, Opcode.MATMUL)
    ready(machine, changed(digits, index, wait_store=1000))
    machine.ask("poke", Register.WATCHDOG, 3000)
    said = stopped(machine)
    assert said.startswith("WATCHDOG at command ")
    assert said.endswith(Cause.WATCHDOG.meaning)


def test_an_abort(machine: Driver, digits: Artifact) -> None:
    ready(machine, digits)
    assert machine.status("start") == "OK"
    assert machine.status("wait", 50) == "TIMEOUT"
    machine.ask("abort")
    assert machine.status("wait", TIMEOUT) == "FAULT"
    assert machine.fault().startswith("ABORTED at command ")
    # A clean machine runs the next program as ever.
    assert machine.numbers("test", TIMEOUT)[:2] == [0, TESTS]


@pytest.mark.parametrize("cause", Cause)
def test_a_fault_in_words(driver: Driver, cause: Cause) -> None:
    """Of every cause, those too that the simulator's memory does not provoke; with an address of 40 bits."""
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    for register, value in {
        Register.FAULT_CAUSE: cause,
        Register.FAULT_COMMAND: 1,
        Register.FAULT_ADDRESS: 0x12345678,
        Register.FAULT_ADDRESS_HIGH: 0x9A,
    }.items():
        driver.ask("poke", register, value)
    assert driver.fault() == told(cause, every_type(), 1, 0x9A12345678)


def test_a_fault_in_a_short_text(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    driver.ask("poke", Register.FAULT_CAUSE, Cause.WATCHDOG)
    whole = "WATCHDOG at command 0 (layer first)"
    for size in (0, 1, 2, len(whole), len(whole) + 1, 100):
        text = whole[: max(size - 1, 0)]
        assert driver.ask("fault", size) == f"{len(whole)} {text}: {Cause.WATCHDOG.meaning}"


def test_a_fault_of_another_version(driver: Driver) -> None:
    driver.registers(FINGERPRINT)
    driver.load(CONTENT)
    driver.ask("poke", Register.FAULT_CAUSE, 200)
    driver.ask("poke", Register.FAULT_COMMAND, 2)  # one more than there are
    assert driver.fault() == (
        "unknown cause at command 2: The cause is unknown: the machine is of another version."
    )


def test_the_pages_firmware_compiles(tmp_path: Path) -> None:
    page = (DRIVER.parent / "docs" / "driver.md").read_text()
    (block,) = page.split("```c\n")[1:]
    artifact = every_type()
    header, source = c_sources(artifact, CONTENT, "model")
    for name, text in (("firmware.c", block.split("```")[0]), ("model.h", header), ("model.c", source)):
        (tmp_path / name).write_text(text)
    for name in ("firmware.c", "model.c"):
        command = ["gcc", *STRICT, "-Os", f"-I{DRIVER}", "-c", name]
        subprocess.run(command, cwd=tmp_path, check=True)
