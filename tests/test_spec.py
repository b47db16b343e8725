import dataclasses
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from intaglio.spec import commands, limits, records, registers
from intaglio.spec.__main__ import main
from intaglio.spec.c_header import harness_header
from intaglio.spec.commands import (
    COMMAND_BITS,
    FORMATS,
    HEADER,
    Field,
    Opcode,
    command_layout,
    decode,
    encode,
)
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.records import RECORDS, record_bits, record_layout
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import COUNTERS, REGISTERS, Cause, Register, setting_mask
from intaglio.spec.tables import TABLES, filled

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
CONFIG = AcceleratorConfig.load("affine16x16")


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


# The tables of the page


def test_the_page_is_current():
    assert main(["--check", str(PAGE)]) == 0


def test_a_stale_page_is_found_and_mended(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text().replace("| `row_bytes` | u24 |", "| `row_bytes` | u23 |"))
    assert main(["--check", str(page)]) == 1
    assert capsys.readouterr().err == f"{page}: it is stale; run `python -m intaglio.spec --write {page}`\n"
    assert main(["--write", str(page)]) == 0
    assert page.read_text() == PAGE.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- generated: commands -->\n<!-- end: commands -->\n",
        "".join(f"<!-- generated: {name} -->\n<!-- end: {name} -->\n" for name in [*TABLES, "commands"]),
        "".join(f"<!-- generated: {name} -->\n<!-- end: {name} -->\n" for name in [*TABLES, "other"]),
    ],
)
def test_a_page_without_a_place_for_each_table(text, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert main(["--write", str(page)]) == 1
    assert "it must have one place for each of commands, records," in capsys.readouterr().err
    assert page.read_text() == text
    with pytest.raises(ValueError, match="one place for each"):
        filled(text)


def test_a_page_that_is_not_there(tmp_path, capsys):
    assert main(["--check", str(tmp_path / "none.md")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_every_field_is_in_the_tables():
    """Read back from the text: where each field lies, and what type it has."""
    blocks = re.split(r"\n\n(?=\*\*)", TABLES["commands"]())
    found = {}
    for block in blocks[1:]:
        rows = re.findall(r"^\| (\d+)(?::(\d+))? \| `(\w+)` \| ([su])(\d+) \|", block, re.M)
        for name in re.findall(r"\*\*(\w+)\*\*", block):
            found[name] = {
                field: (int(low or high), int(bits), sign == "s") for high, low, field, sign, bits in rows
            }
    for opcode in Opcode:
        layout = command_layout(opcode)
        assert found[opcode.name] == {
            field.name: (layout[field.name][0], field.bits, field.signed) for field in FORMATS[opcode].fields
        }


def test_every_register_is_in_a_table_and_every_meaning_is_given():
    text = TABLES["registers"]() + TABLES["counters"]()
    for entry in REGISTERS:
        assert f"| {int(entry.register):#05x}" in text
        assert f"| {entry.register.name} |" in text
        assert entry.meaning in text
    assert all(field.meaning for entry in FORMATS.values() for field in HEADER + entry.fields)
    assert all(field.meaning for record in RECORDS for field in record.fields)
    assert all(re.fullmatch(r"[A-Z].*\.", cause.meaning) for cause in Cause)
    assert len({cause.meaning for cause in Cause}) == len(Cause)
    assert all(f"| {cause.value} | {cause.name} | {cause.meaning} |" in TABLES["causes"]() for cause in Cause)
    assert {name for name, _, _ in limits.LIMITS} == set(limits.__all__) - {"LIMITS"}


# Layouts


@pytest.mark.parametrize("opcode", list(Opcode))
def test_fields_lie_side_by_side_and_come_back(opcode):
    end = 0
    for start, field in command_layout(opcode).values():
        assert start == end
        end += field.bits
    assert end <= COMMAND_BITS
    for pick in (lambda field: field.min, lambda field: field.max, lambda field: min(field.max, 1)):
        values = {
            name: pick(field)
            for name, (_, field) in command_layout(opcode).items()
            if name != "opcode" and "reserved" not in name
        }
        back, decoded = decode(encode(opcode, values))
        assert back is opcode
        assert {name: decoded[name] for name in values} == values


def test_registers_do_not_overlap():
    taken = [
        int(entry.register) + registers.REGISTER_BYTES * index
        for entry in REGISTERS
        for index in range(entry.count)
    ]
    assert len(set(taken)) == len(taken)
    assert max(taken) < 1 << registers.REGISTER_ADDRESS_BITS
    assert not [offset for offset in taken if offset % registers.REGISTER_BYTES]
    assert {entry.register for entry in REGISTERS} == set(Register)
    assert len(COUNTERS) == 4 + len(commands.Engine)


@pytest.mark.parametrize(
    ("scheme", "bits", "fields", "width"),
    [
        ("sbnq", 8, [("bias", 0, 24), ("shift", 24, 6)], 32),
        ("sbnq", 24, [("bias", 0, 24), ("shift", 24, 6)], 32),
        ("sbnq", 25, [("bias", 0, 56), ("shift", 56, 6)], 64),
        ("affine", 32, [("bias", 0, 32), ("multiplier", 32, 32), ("exponent", 64, 6)], 96),
        ("llsq", 16, [("bias", 0, 16), ("mantissa", 16, 8), ("shift", 24, 5)], 32),
        ("llsq", 17, [("bias", 0, 48), ("mantissa", 48, 8), ("shift", 56, 5)], 64),
    ],
)
def test_records(scheme, bits, fields, width):
    layout = record_layout(scheme, bits)
    assert [(field.name, field.start, field.bits) for field in layout.values()] == fields
    assert record_bits([scheme], bits) == width
    assert record_bits([scheme, "sbnq"], bits) == max(width, record_bits(["sbnq"], bits))


def test_records_that_there_are_not():
    with pytest.raises(ValueError, match="^`scheme` must be one of sbnq, affine, llsq, not tqt$"):
        record_layout("tqt", 16)
    with pytest.raises(ValueError, match="^`accumulator_bits` must be at most 32 for llsq, not 33$"):
        record_layout("llsq", 33)


# Regions


def test_what_the_machine_may_do_with_a_region():
    assert {region.name: region.rights for region in Region} == {
        "PROGRAM": "read", "INPUT": "read", "OUTPUT": "write", "SCRATCH": "read and write", "STATE": "read and write",
    }  # fmt: skip
    assert max(Region) < 1 << REGION_BITS


def test_the_bits_of_settings():
    masks = {register.name: setting_mask(register, 40, 16) for register in registers.SETTINGS}
    assert masks["COMMAND_COUNT"] == masks["WATCHDOG"] == 0xFFFF_FFFF
    assert masks["BUS_ATTRIBUTES"] == 0xF7
    for region in Region:
        assert masks[f"{region.name}_BASE"] == masks[f"{region.name}_LIMIT"] == 0xFFFF_FFF0
        assert masks[f"{region.name}_BASE_HIGH"] == 0xFF
        assert setting_mask(Register[f"{region.name}_BASE_HIGH"], 32, 8) == 0
        assert setting_mask(Register[f"{region.name}_LIMIT"], 32, 8) == 0xFFFF_FFF8


@pytest.mark.parametrize("bits", [31, 65])
def test_address_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"^`address_bits` must be between 32 and 64, not {bits}$"):
        dataclasses.replace(CONFIG, address_bits=bits)


# The fingerprint


def other_field(opcode, which, /, **changes):
    fields = tuple(
        dataclasses.replace(field, **changes) if field.name == which else field
        for field in FORMATS[opcode].fields
    )
    return dataclasses.replace(FORMATS[opcode], fields=fields)


def other(entries, index, **changes):
    return (*entries[:index], dataclasses.replace(entries[index], **changes), *entries[index + 1 :])


CHANGES = {
    "a field's width": ("FORMATS", Opcode.LOAD, other_field(Opcode.LOAD, "rows", bits=17)),
    "a field's sign": ("FORMATS", Opcode.MATMUL, other_field(Opcode.MATMUL, "height", signed=True)),
    "a field's name": ("FORMATS", Opcode.STORE, other_field(Opcode.STORE, "rows", name="lines")),
    "another field": (
        "FORMATS",
        Opcode.WEIGHTS,
        dataclasses.replace(
            FORMATS[Opcode.WEIGHTS], fields=(*FORMATS[Opcode.WEIGHTS].fields, Field("new", 1, "new"))
        ),
    ),
    "an opcode": ("FORMATS", Opcode.LOAD, dataclasses.replace(FORMATS[Opcode.LOAD], opcode=Opcode.STORE)),
    "what a number may name": ("FORMATS", Opcode.LOAD, other_field(Opcode.LOAD, "region", choices=4)),
    "an engine": (
        "FORMATS",
        Opcode.LOAD,
        dataclasses.replace(FORMATS[Opcode.LOAD], engine=commands.Engine.STORE),
    ),
    "a count": ("FORMATS", Opcode.LOAD, dataclasses.replace(FORMATS[Opcode.LOAD], nonzero=("rows",))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_command_changes_the_fingerprint(what, monkeypatch):
    before = CONFIG.fingerprint
    name, key, value = CHANGES[what]
    monkeypatch.setitem(getattr(commands, name), key, value)
    assert CONFIG.fingerprint != before


@pytest.mark.parametrize(
    ("room", "name", "value"),
    [
        (commands, "HEADER", other(HEADER, 1, bits=2)),
        (commands, "COMMAND_BYTES", 32),
        (commands, "OPERAND_SHIFT", 19),
        (records, "RECORDS", other(RECORDS, 0, unit_bits=64)),
        (records, "RECORDS", other(RECORDS, 0, accumulator_bits=23)),
        (records, "RECORDS", other(RECORDS, 1, fields=other(RECORDS[1].fields, 0, bits=55))),
        (records, "RECORDS", other(RECORDS, 2, fields=other(RECORDS[2].fields, 1, signed=False))),
        (records, "RECORDS", RECORDS[:-1]),
        (registers, "REGISTERS", other(REGISTERS, 4, register=Register.MARKS)),
        (registers, "REGISTERS", other(REGISTERS, 4, access=registers.Access.READ_WRITE)),
        (registers, "REGISTERS", other(REGISTERS, 3, bits=(("CONTROL_START", 2, ""),))),
        (registers, "REGISTERS", REGISTERS[1:]),
        (registers, "VERSION_VALUE", registers.VERSION_VALUE + 1),
        (limits, "LIMITS", (("QUEUE_DEPTH", 5, ""), *limits.LIMITS[1:])),
    ],
)
def test_a_changed_format_changes_the_fingerprint(room, name, value, monkeypatch):
    before = CONFIG.fingerprint
    monkeypatch.setattr(room, name, value)
    assert CONFIG.fingerprint != before


def test_what_is_written_for_a_reader_leaves_the_fingerprint(monkeypatch):
    before = CONFIG.fingerprint
    monkeypatch.setattr(commands, "HEADER", other(HEADER, 0, meaning="another"))
    monkeypatch.setitem(commands.FORMATS, Opcode.LOAD, other_field(Opcode.LOAD, "rows", meaning="another"))
    monkeypatch.setattr(registers, "REGISTERS", other(REGISTERS, 0, meaning="another"))
    monkeypatch.setattr(limits, "LIMITS", tuple((name, value, "another") for name, value, _ in limits.LIMITS))
    assert CONFIG.fingerprint == before
    assert changed(name="another").fingerprint == before


def test_every_field_of_a_configuration_changes_the_fingerprint():
    others = {
        "rows": 32, "columns": 8, "activation_types": ("int4",), "weight_type": "int4", "accumulator_bits": 24,
        "accumulator_depth": 512, "rescales": ("sbnq",), "rescale_lanes": 4, "scratchpad_bytes": 65536,
        "weight_buffer_bytes": 32768, "depthwise_taps": 4,
        "line_buffer_rows": 1, "line_buffer_columns": 64, "bus_bits": 128,
        "scratchpad_lanes": 64, "address_bits": 40, "lane_digits": 2,
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(CONFIG)} - {"name"}
    affine = dataclasses.replace(CONFIG, rescale_lanes=8)
    plain = dataclasses.replace(affine, rescales=("sbnq",))
    narrow = dataclasses.replace(plain, activation_types=("uint4",))
    prints = {plain.fingerprint, narrow.fingerprint}
    for name, value in others.items():
        prints.add((affine if name == "rescales" else plain).fingerprint)
        prints.add(
            dataclasses.replace(narrow if name == "lane_digits" else plain, **{name: value}).fingerprint
        )
    assert len(prints) == len(others) + 2


# The C header


def test_the_header_compiles_and_says_what_spec_says(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    (tmp_path / "spec.h").write_text(harness_header())
    wanted = {"ENGINES": len(commands.Engine)}
    wanted |= {f"REGISTER_{register.name}": int(register) for register in Register}
    wanted |= {f"ENGINE_{engine.name}": int(engine) for engine in commands.Engine}
    checks = "".join(f'static_assert(spec::{name} == {value}, "{name}");\n' for name, value in wanted.items())
    (tmp_path / "check.cpp").write_text(f'#include "spec.h"\n#include "spec.h"\n{checks}')
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "check.cpp"], cwd=tmp_path, check=True
    )
    assert len(re.findall(r"^constexpr uint32_t \w+ = \d+;$", harness_header(), re.M)) == len(wanted) + 10


# Configurations

NARROW = {"rescales": ("sbnq",), "activation_types": ("uint4",)}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"rows": "8"}, TypeError, "`rows` must be an integer, not '8'"),
        ({"rows": True}, TypeError, "`rows` must be an integer, not True"),
        ({"name": ""}, TypeError, "`name` must be a non-empty string, not ''"),
        ({"rescales": []}, TypeError, r"`rescales` must be a non-empty list of strings, not \[\]"),
        ({"rows": 65}, ValueError, "`rows` must be between 1 and 64, not 65"),
        ({"columns": 0}, ValueError, "`columns` must be between 1 and 64, not 0"),
        ({"accumulator_bits": 7}, ValueError, "`accumulator_bits` must be between 8 and 48, not 7"),
        (
            {"accumulator_depth": 100},
            ValueError,
            "`accumulator_depth` must be a power of two between 16 and 4096, not 100",
        ),
        (
            {"scratchpad_bytes": 512},
            ValueError,
            "`scratchpad_bytes` must be between 1024 and 1048576, not 512",
        ),
        ({"depthwise_taps": 6}, ValueError, "`depthwise_taps` must be between 0 and 5, not 6"),
        ({"line_buffer_rows": 4}, ValueError, "`line_buffer_rows` must be between 0 and 3, not 4"),
        (
            {"line_buffer_columns": 100},
            ValueError,
            "`line_buffer_columns` must be a power of two between 16 and 1024, not 100",
        ),
        (
            {"activation_types": ("int8", "uint4")},
            ValueError,
            "`activation_types` must be int2, int4 or int8, or uint2, uint4 or uint8, or both of one width, "
            "not int8, uint4",
        ),
        (
            {"weight_type": "int3"},
            ValueError,
            "`weight_type` must be int8, int4, int2, ternary or binary, not int3",
        ),
        ({"rescales": ("tqt",)}, ValueError, "`rescales` must be some of sbnq, affine, llsq, not tqt"),
        (
            {"rescales": ("affine", "affine")},
            ValueError,
            "`rescales` must name each scheme once, not affine twice",
        ),
        (
            {"accumulator_bits": 33},
            ValueError,
            "`accumulator_bits` must be at most 32 where `rescales` has affine, not 33",
        ),
        (
            {"rescales": ("llsq",), "accumulator_bits": 40},
            ValueError,
            "`accumulator_bits` must be at most 32 where `rescales` has llsq, not 40",
        ),
        (
            {"activation_types": ("uint8", "int8")},
            ValueError,
            "`activation_types` must be int8 alone where `rescales` has affine, not uint8, int8",
        ),
        (
            {"rescale_lanes": 1},
            ValueError,
            r"`rescale_lanes` must be 2, 4, 8 or 16 \(`columns`, or a divisor of it whose records of 96 bits fill "
            r"whole beats of 64\), not 1",
        ),
        ({"rescale_lanes": 6}, ValueError, r"`rescale_lanes` must be 2, 4, 8 or 16 \(.*\), not 6"),
        (
            {"rescale_lanes": 2, "columns": 3, "rows": 1, "depthwise_taps": 0},
            ValueError,
            r"`rescale_lanes` must be 3 \(.*\), not 2",
        ),
        ({"bus_bits": 256}, ValueError, "`bus_bits` must be between 64 and 128, not 256"),
        ({"bus_bits": 96}, ValueError, "`bus_bits` must be a power of two between 64 and 128, not 96"),
        (
            {"scratchpad_lanes": 8},
            ValueError,
            "`scratchpad_lanes` must be 0 or at least 16, which the array, a beat or the rescale takes, not 8",
        ),
        (
            {"scratchpad_lanes": 24},
            ValueError,
            "`scratchpad_lanes` must be a power of two between 0 and 128, not 24",
        ),
        ({"lane_digits": 3}, ValueError, "`lane_digits` must be a power of two between 1 and 4, not 3"),
        ({"lane_digits": 2}, ValueError, "`lane_digits` must be at most 1, not 2"),
        (NARROW | {"lane_digits": 4}, ValueError, "`lane_digits` must be at most 2, not 4"),
        (
            NARROW | {"rows": 7, "depthwise_taps": 0, "line_buffer_rows": 0, "lane_digits": 2},
            ValueError,
            "`lane_digits` must be a divisor of `rows`, 7, not 2",
        ),
        (
            NARROW | {"activation_types": ("int4",), "lane_digits": 2},
            ValueError,
            "`lane_digits` must be 1 where `activation_types` has no unsigned one, not 2",
        ),
        (
            NARROW | {"weight_type": "binary", "lane_digits": 2},
            ValueError,
            "`lane_digits` must be 1 where `weight_type` is binary, not 2",
        ),
        (
            {"rows": 64, "columns": 64, "weight_buffer_bytes": 4096},
            ValueError,
            "`weight_buffer_bytes` must hold two tiles of 4096 bytes, not 4096",
        ),
    ],
)
def test_what_a_configuration_may_not_be(fields, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        changed(**fields)


def test_the_smallest_scratchpad_holds_the_longest_vectors():
    """Two rows of either bank at least, whatever the configuration."""
    wide = {"rescales": ("llsq",), "activation_types": ("uint2",), "weight_type": "int2", "columns": 64}
    for config in (
        changed(**wide, rescale_lanes=64, scratchpad_bytes=1024),
        changed(rows=64, scratchpad_bytes=1024),
    ):
        assert config.vector_lanes * config.element_bits == 512
        assert config.scratchpad_elements >= 4 * config.vector_lanes


@pytest.mark.parametrize("name", AcceleratorConfig.names())
def test_what_ships_is_read(name):
    config = AcceleratorConfig.load(name)
    text = (Path(commands.__file__).parent / "configs" / f"{name}.toml").read_text()
    for key, value in tomllib.loads(text).items():
        held = getattr(config, key)
        assert (list(held) if isinstance(held, tuple) else held) == value
