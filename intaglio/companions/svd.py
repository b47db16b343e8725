"""CMSIS-SVD: the registers for debuggers and for generators of headers.

Ref: CMSIS-SVD 1.3.9, whose schema fixes the order of elements.
"""

from __future__ import annotations

from intaglio.companions.registers import Field, MachineRegister, registers
from intaglio.companions.xml import Element, element, text_of
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import REGISTER_BITS
from intaglio.spec.registers import REGISTER_ADDRESS_BITS, REGISTER_BYTES, VERSION_VALUE

__all__ = ["device"]

_SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"


def device(name: str, config: AcceleratorConfig) -> str:
    """A device with one peripheral, `name`, at address 0: where it lies is the integrator's.

    A register that another machine has and this one does not reads 0, and is read-only here.
    """
    peripheral = element(
        "peripheral",
        element("name", name),
        element("description", f"Intaglio machine of fingerprint {config.fingerprint:#010x}"),
        element("baseAddress", 0),
        element(
            "addressBlock",
            element("offset", 0),
            element("size", f"{1 << REGISTER_ADDRESS_BITS:#x}"),
            element("usage", "registers"),
        ),
        element("registers", *map(_register, registers(config))),
    )
    return text_of(
        element(
            "device",
            element("vendor", "Intaglio"),
            element("name", name),
            element("version", f"{VERSION_VALUE}.0"),
            element("description", "The registers of an Intaglio machine"),
            element("addressUnitBits", 8),
            element("width", REGISTER_BITS),
            element("peripherals", peripheral),
            attributes={
                "schemaVersion": "1.3",
                "xmlns:xs": _SCHEMA,
                "xs:noNamespaceSchemaLocation": "CMSIS-SVD.xsd",
            },
        )
    )


def _register(register: MachineRegister) -> Element:
    spec = register.spec
    several = spec.count > 1
    # A value that is not defined is one that a mask of 0 hides.
    mask = 0 if register.reset is None else (1 << REGISTER_BITS) - 1
    return element(
        "register",
        *([element("dim", spec.count), element("dimIncrement", REGISTER_BYTES)] if several else []),
        element("name", f"{register.name}[%s]" if several else register.name),
        element("description", spec.meaning),
        element("addressOffset", f"{int(spec.register):#x}"),
        element("size", REGISTER_BITS),
        element("access", register.access),
        element("resetValue", f"{register.reset or 0:#x}"),
        element("resetMask", f"{mask:#x}"),
        *([element("modifiedWriteValues", "oneToClear")] if register.write_one_to_clear else []),
        *([element("fields", *map(_field, register.fields))] if register.fields else []),
    )


def _field(field: Field) -> Element:
    values = [
        element(
            "enumeratedValue",
            element("name", name),
            element("description", meaning),
            element("value", value),
        )
        for name, value, meaning in field.values
    ]
    return element(
        "field",
        element("name", field.name),
        element("description", field.meaning),
        element("bitOffset", field.offset),
        element("bitWidth", field.bits),
        *([element("enumeratedValues", *values)] if values else []),
    )
