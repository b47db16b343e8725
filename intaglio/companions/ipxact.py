"""IP-XACT: a component with its buses and their ports, the registers, the files.

The interfaces' types are Vivado's (``xilinx.com``); Arm's definitions of AXI name the same logical ports.

Ref: IEEE 1685-2009, whose schema fixes the order of elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from intaglio.companions.ports import BUSES, CLOCK, INTERRUPT, RESET, Port
from intaglio.companions.registers import Field, MachineRegister, registers
from intaglio.companions.xml import Element, element, text_of
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import REGISTER_BITS
from intaglio.spec.registers import REGISTER_ADDRESS_BITS, VERSION_VALUE

__all__ = ["component"]

_PREFIX = "spirit"
_NAMESPACE = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_REGISTERS, _MEMORY, _FILES = "registers", "memory", "verilog"
"""Names within the component."""


def component(name: str, config: AcceleratorConfig, ports: Sequence[Port]) -> str:
    """The component ``intaglio:machines:NAME``; its version is the registers'."""
    slave, master = BUSES
    whole = {bus: {port.signal: port.name for port in ports if port.bus == bus} for bus in BUSES}
    interfaces = (
        _interface(slave, "interface", "aximm", _reference("slave", "memoryMap", _REGISTERS), whole[slave]),
        _interface(
            master, "interface", "aximm", _reference("master", "addressSpace", _MEMORY), whole[master]
        ),
        _interface(
            CLOCK,
            "signal",
            "clock",
            _spirit("slave"),
            {"CLK": CLOCK},
            {"ASSOCIATED_BUSIF": ":".join(BUSES), "ASSOCIATED_RESET": RESET},
        ),
        _interface(RESET, "signal", "reset", _spirit("slave"), {"RST": RESET}, {"POLARITY": "ACTIVE_HIGH"}),
        _interface(
            INTERRUPT,
            "signal",
            "interrupt",
            _spirit("master"),
            {"INTERRUPT": INTERRUPT},
            {"SENSITIVITY": "LEVEL_HIGH"},
        ),
    )
    memory = _spirit(
        "addressSpace",
        _spirit("name", _MEMORY),
        _spirit("range", 1 << config.address_bits),
        _spirit("width", config.bus_bits),
    )
    root = _spirit(
        "component",
        *_named("intaglio", "machines", name, f"{VERSION_VALUE}.0"),
        _spirit("busInterfaces", *interfaces),
        _spirit("addressSpaces", memory),
        _spirit("memoryMaps", _memory_map(config)),
        _spirit("model", _views(name), _spirit("ports", *map(_port, ports))),
        _spirit("fileSets", _files(name)),
        _spirit("description", f"Intaglio machine of fingerprint {config.fingerprint:#010x}"),
    )
    root.set(f"xmlns:{_PREFIX}", _NAMESPACE)
    return text_of(root)


def _spirit(tag: str, *content: Element | str | int, **attributes: str | int) -> Element:
    """An element of the standard's namespace, attributes too."""
    named = {f"{_PREFIX}:{name}": value for name, value in attributes.items()}
    return element(f"{_PREFIX}:{tag}", *content, attributes=named)


def _named(*parts: str) -> list[Element]:
    tags = ("vendor", "library", "name", "version")
    return [_spirit(tag, part) for tag, part in zip(tags, parts, strict=True)]


def _reference(mode: str, what: str, name: str) -> Element:
    return _spirit(mode, _spirit(f"{what}Ref", **{f"{what}Ref": name}))


def _interface(
    name: str,
    library: str,
    kind: str,
    mode: Element,
    maps: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
) -> Element:
    """A bus interface; `maps` are its ports by their logical names."""
    kinds = {"busType": kind, "abstractionType": f"{kind}_rtl"}
    types = (
        _spirit(tag, vendor="xilinx.com", library=library, name=each, version="1.0")
        for tag, each in kinds.items()
    )
    pairs = (
        _spirit(
            "portMap",
            _spirit("logicalPort", _spirit("name", logical)),
            _spirit("physicalPort", _spirit("name", physical)),
        )
        for logical, physical in maps.items()
    )
    # Vivado finds a parameter by its id.
    values = [
        _spirit(
            "parameter",
            _spirit("name", parameter),
            _spirit("value", value, id=f"BUSIFPARAM_VALUE.{name.upper()}.{parameter}"),
        )
        for parameter, value in (parameters or {}).items()
    ]
    return _spirit(
        "busInterface",
        _spirit("name", name),
        *types,
        mode,
        _spirit("portMaps", *pairs),
        *([_spirit("parameters", *values)] if values else []),
    )


def _memory_map(config: AcceleratorConfig) -> Element:
    block = _spirit(
        "addressBlock",
        _spirit("name", _REGISTERS),
        _spirit("baseAddress", 0),
        _spirit("range", 1 << REGISTER_ADDRESS_BITS),
        _spirit("width", REGISTER_BITS),
        _spirit("usage", "register"),
        _spirit("access", "read-write"),
        *map(_register, registers(config)),
    )
    return _spirit("memoryMap", _spirit("name", _REGISTERS), block, _spirit("addressUnitBits", 8))


def _register(register: MachineRegister) -> Element:
    spec = register.spec
    reset = [] if register.reset is None else [_spirit("reset", _spirit("value", register.reset))]
    fields = register.fields
    if register.write_one_to_clear and not fields:
        raise ValueError(f"the register {register.name} is cleared by its bits, and has none")
    return _spirit(
        "register",
        _spirit("name", register.name),
        _spirit("description", spec.meaning),
        *([_spirit("dim", spec.count)] if spec.count > 1 else []),
        _spirit("addressOffset", f"{int(spec.register):#x}"),
        _spirit("size", REGISTER_BITS),
        _spirit("access", register.access),
        *reset,
        *(_field(field, register.write_one_to_clear) for field in fields),
    )


def _field(field: Field, write_one_to_clear: bool) -> Element:
    values = [
        _spirit(
            "enumeratedValue",
            _spirit("name", name),
            _spirit("description", meaning),
            _spirit("value", value),
        )
        for name, value, meaning in field.values
    ]
    return _spirit(
        "field",
        _spirit("name", field.name),
        _spirit("description", field.meaning),
        _spirit("bitOffset", field.offset),
        _spirit("bitWidth", field.bits),
        *([_spirit("enumeratedValues", *values)] if values else []),
        *([_spirit("modifiedWriteValue", "oneToClear")] if write_one_to_clear else []),
    )


def _views(name: str) -> Element:
    """The one file serves synthesis and simulation."""
    return _spirit(
        "views",
        *(
            _spirit(
                "view",
                _spirit("name", use),
                _spirit("envIdentifier", f"verilogSource:vivado.xilinx.com:{use}"),
                _spirit("language", "verilog"),
                _spirit("modelName", name),
                _spirit("fileSetRef", _spirit("localName", _FILES)),
            )
            for use in ("synthesis", "simulation")
        ),
    )


def _port(port: Port) -> Element:
    vector = [_spirit("vector", _spirit("left", port.bits - 1), _spirit("right", 0))] if port.bits > 1 else []
    direction = _spirit("direction", "in" if port.is_input else "out")
    return _spirit("port", _spirit("name", port.name), _spirit("wire", direction, *vector))


def _files(name: str) -> Element:
    file = _spirit("file", _spirit("name", f"{name}.v"), _spirit("fileType", "verilogSource"))
    return _spirit("fileSet", _spirit("name", _FILES), file)
