"""What `generate` writes beside a machine, read back by the tools that it is for."""

import dataclasses
import functools
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

import cmsis_svd
import pytest
import yaml
from amaranth.hdl import Shape
from amaranth.lib.wiring import In
from cmsis_svd.model import SVDRegisterArray
from cmsis_svd.parser import SVDParser
from ipyxact.ipyxact import Component
from lxml import etree

import intaglio
from intaglio.companions import HEADER, companions, file_names
from intaglio.companions.ports import ports_of
from intaglio.hdl.bus.axi import AXI4LiteSignature, AXI4Signature
from intaglio.hdl.verilog import emit_machine
from intaglio.network import NetworkError
from intaglio.sim.simulator.verilator import find
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS
from intaglio.spec.registers import REGISTERS, SETTINGS, Access, Cause, Register, setting_mask

TINY = AcceleratorConfig.load(Path(__file__).with_name("tiny.toml"))
CONFIGS = {"tiny": TINY, "narrow": dataclasses.replace(TINY, name="narrow", address_bits=32, bus_bits=128)}
"""Machines of 40 and 32 address bits, of beats of 64 and 128."""
EVERY = (1 << 32) - 1
ACCESS = {
    Access.READ: "read-only",
    Access.WRITE: "write-only",
    Access.READ_WRITE: "read-write",
    Access.WRITE_ONE_TO_CLEAR: "read-write",
}
NAMESPACE = {"spirit": "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"}


@functools.cache
def verilog(name):
    return emit_machine(CONFIGS[name], name)


@functools.cache
def texts(name):
    return companions(verilog(name), name, CONFIGS[name], 80)


@pytest.fixture(params=CONFIGS)
def machine(request, tmp_path):
    """A machine's name; its files lie in `tmp_path`."""
    for file, text in {**texts(request.param), f"{request.param}.v": verilog(request.param)}.items():
        (tmp_path / file).write_text(text)
    return request.param


def stated_ports(config):
    """The ports that the machine's interfaces make: whether it is an input, and its bits."""
    ports = {"clk": (True, 1), "rst": (True, 1), "irq": (False, 1)}
    memory = AXI4Signature(config.address_bits, config.bus_bits)
    for bus, signature in {"s_axil": AXI4LiteSignature(), "m_axi": memory}.items():
        for signal, member in signature.members.items():
            ports[f"{bus}_{signal}"] = (member.flow == In, Shape.cast(member.shape).width)
    return ports


def stated_fields(entry, config):
    """A register's fields, by offset and bits; and whether the machine has the register at all."""
    masks = [mask for _, mask, _ in entry.bits]
    there = True
    if entry.register is Register.FAULT_CAUSE:
        masks = [0xFF]
    elif entry.register in SETTINGS and not masks:
        mask = setting_mask(entry.register, config.address_bits, config.bus_bytes)
        masks, there = [mask] if 0 < mask < EVERY else [], mask > 0
    return {((mask & -mask).bit_length() - 1, mask.bit_count()) for mask in masks}, there


def stated_reset(entry, config):
    return config.fingerprint if entry.register is Register.FINGERPRINT else entry.reset


# IP-XACT


def test_ipxact_has_every_port(machine, tmp_path):
    component = Component()
    component.load(str(tmp_path / f"{machine}.xml"))
    assert (component.vendor, component.library, component.name) == ("intaglio", "machines", machine)
    stated = stated_ports(CONFIGS[machine])
    found = {port.name: port.wire.direction == "in" for port in component.model.ports.port}
    assert found == {name: is_input for name, (is_input, _) in stated.items()}
    # ipyxact does not read the widths of this version of the standard.
    root = ElementTree.parse(tmp_path / f"{machine}.xml")
    for port in root.iterfind("./spirit:model/spirit:ports/spirit:port", NAMESPACE):
        left = port.findtext("./spirit:wire/spirit:vector/spirit:left", "0", NAMESPACE)
        right = port.findtext("./spirit:wire/spirit:vector/spirit:right", "0", NAMESPACE)
        assert (int(left) + 1, int(right)) == (
            stated[port.findtext("spirit:name", "", NAMESPACE)][1],
            0,
        )


def test_ipxact_puts_each_port_into_one_interface(machine, tmp_path):
    component = Component()
    component.load(str(tmp_path / f"{machine}.xml"))
    mapped = {}
    for interface in component.busInterfaces.busInterface:
        for pair in interface.portMaps.portMap:
            assert pair.physicalPort.name not in mapped
            mapped[pair.physicalPort.name] = (
                interface.name,
                interface.busType.name,
                pair.logicalPort.name,
            )
    assert set(mapped) == set(stated_ports(CONFIGS[machine]))
    assert mapped.pop("clk") == ("clk", "clock", "CLK")
    assert mapped.pop("rst") == ("rst", "reset", "RST")
    assert mapped.pop("irq") == ("irq", "interrupt", "INTERRUPT")
    for port, place in mapped.items():
        bus, signal = port.rsplit("_", 1)
        assert place == (bus, "aximm", signal.upper())


def test_ipxact_has_every_register(machine, tmp_path):
    config = CONFIGS[machine]
    component = Component()
    component.load(str(tmp_path / f"{machine}.xml"))
    (block,) = component.memoryMaps.memoryMap[0].addressBlock
    assert (block.baseAddress, block.range, block.width) == (0, 4096, 32)
    found = {register.name: register for register in block.register}
    assert set(found) == {entry.register.name for entry in REGISTERS}
    assert len(block.register) == len(REGISTERS)
    for entry in REGISTERS:
        register = found[entry.register.name]
        fields, there = stated_fields(entry, config)
        assert (register.addressOffset, register.size) == (entry.register, 32)
        assert register.access == (ACCESS[entry.access] if there else "read-only")
        assert (register.dim or 1) == entry.count
        assert register.description == entry.meaning
        reset = stated_reset(entry, config)
        assert (register.reset is None) if reset is None else (register.reset.value == reset)
        assert {(field.bitOffset, field.bitWidth) for field in register.field} == fields
        clears = [field.modifiedWriteValue == "oneToClear" for field in register.field]
        assert clears == [entry.access is Access.WRITE_ONE_TO_CLEAR] * len(clears)


def test_ipxact_says_how_much_memory_the_machine_reaches(machine, tmp_path):
    config = CONFIGS[machine]
    root = ElementTree.parse(tmp_path / f"{machine}.xml")
    space = root.find("./spirit:addressSpaces/spirit:addressSpace", NAMESPACE)
    assert space is not None
    assert int(space.findtext("spirit:range", "", NAMESPACE)) == 1 << config.address_bits
    assert space is not None
    assert int(space.findtext("spirit:width", "", NAMESPACE)) == config.bus_bits
    (file,) = root.iterfind("./spirit:fileSets/spirit:fileSet/spirit:file", NAMESPACE)
    assert (tmp_path / file.findtext("spirit:name", "", NAMESPACE)).is_file()
    assert all(
        view.findtext("spirit:modelName", "", NAMESPACE) == machine
        for view in root.iterfind("./spirit:model/spirit:views/spirit:view", NAMESPACE)
    )


# SVD


def test_svd_is_what_its_schema_says(machine, tmp_path):
    path = Path(cmsis_svd.__file__).parent / "schemas" / "CMSIS-SVD_1_3_9.xsd"
    schema = etree.XMLSchema(etree.parse(str(path)))
    schema.assertValid(etree.parse(str(tmp_path / f"{machine}.svd")))


def test_svd_has_every_register(machine, tmp_path):
    config = CONFIGS[machine]
    device = SVDParser.for_xml_file(str(tmp_path / f"{machine}.svd")).get_device()
    (peripheral,) = device.peripherals
    assert (device.name, peripheral.name, peripheral.base_address) == (machine, machine, 0)
    (marks,) = [register for register in peripheral.registers if isinstance(register, SVDRegisterArray)]
    found = {register.name: register for register in peripheral.registers if register is not marks}
    assert marks.meta_register.name == "MARKS[%s]"
    found["MARKS"] = marks.meta_register
    assert set(found) == {entry.register.name for entry in REGISTERS}
    assert len(peripheral.registers) == len(REGISTERS)
    for entry in REGISTERS:
        register = found[entry.register.name]
        fields, there = stated_fields(entry, config)
        assert (register.address_offset, register.size) == (entry.register, 32)
        assert register.access.value == (ACCESS[entry.access] if there else "read-only")
        reset = stated_reset(entry, config)
        assert (register.reset_value, register.reset_mask) == (
            (reset, EVERY) if reset is not None else (0, 0)
        )
        assert {(field.bit_offset, field.bit_width) for field in register.fields} == fields
        assert (register.modified_write_values is not None) == (entry.access is Access.WRITE_ONE_TO_CLEAR)
    assert [mark.address_offset for mark in marks.registers] == [Register.MARKS + 4 * i for i in range(MARKS)]
    (causes,) = found["FAULT_CAUSE"].fields[0].enumerated_values
    assert {value.name: value.value for value in causes.enumerated_values} == {
        cause.name: cause.value for cause in Cause
    }


# FuseSoC


def lint(folder, name):
    """FuseSoC's target of that name, with the Verilator of the tests."""
    tool = find()
    environment = tool.environment()
    environment["PATH"] = os.pathsep.join([str(tool.executable.parent), environment["PATH"]])
    command = [Path(sysconfig.get_path("scripts")) / "fusesoc", "--cores-root", folder]
    command += ["run", "--target", "lint", f"intaglio:machines:{name}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_fusesocs_lint_target(tmp_path):
    for file, text in {**texts("tiny"), "tiny.v": verilog("tiny")}.items():
        (tmp_path / file).write_text(text)
    run = lint(tmp_path, "tiny")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "%Warning" not in run.stdout + run.stderr
    (tmp_path / "tiny.v").write_text(
        verilog("tiny").replace("  input clk,\n", "  input clk,\n  output silent,\n")
    )
    run = lint(tmp_path, "tiny")
    assert run.returncode != 0
    assert "silent" in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["on", "null", "_0", "NPU"])
def test_names_that_yaml_takes_for_something_else(name):
    text = companions(verilog("tiny").replace("module tiny(", f"module {name}("), name, TINY, 50)
    core = yaml.safe_load(text[f"{name}.core"].partition("\n")[2])
    assert core["name"] == f"intaglio:machines:{name}:2.0"
    assert {target["toplevel"] for target in core["targets"].values()} == {name}
    assert core["filesets"]["rtl"]["files"] == [f"{name}.v"]


# Constraints and the header


def test_constraints(machine):
    ports = stated_ports(CONFIGS[machine])
    xdc, lpf = texts(machine)[f"{machine}.xdc"], texts(machine)[f"{machine}.lpf"]
    assert set(re.findall(r"\[get_ports (\w+)\]", xdc)) == {"clk", "rst"} <= set(ports)
    assert re.search(r"^create_clock -name clk -period 12\.500 \[get_ports clk\]$", xdc, re.M)
    assert re.search(r"^set_false_path -from \[get_ports rst\]$", xdc, re.M)
    assert re.search(r'^FREQUENCY PORT "clk" 80 MHZ;$', lpf, re.M)


def test_the_header_is_the_drivers():
    driver = Path(__file__).parents[1] / "driver" / HEADER
    assert texts("tiny")[HEADER] == driver.read_text()


# As a whole


def test_no_text_of_the_users_is_in_them(tmp_path):
    config = dataclasses.replace(TINY, name='"><![CDATA[ #\n: \x7f')
    text = companions(verilog("tiny"), "tiny", config, 80)
    assert text == texts("tiny")


def test_verilog_without_the_module_is_refused():
    with pytest.raises(ValueError, match="must have a module other with ports"):
        ports_of(verilog("tiny"), "other")


def test_a_file_that_cannot_be_written_is_refused_before_any_is(tmp_path):
    for file in file_names("m"):
        folder = tmp_path / file.replace(".", "_")
        (folder / file).mkdir(parents=True)
        with pytest.raises(NetworkError, match=re.escape(file)):
            intaglio.generate(TINY, folder, name="m")
        assert [path.name for path in folder.iterdir()] == [file]
