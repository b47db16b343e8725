"""What tools want beside a machine's Verilog: FuseSoC, IP-XACT, CMSIS-SVD, the C header of the registers, constraints.

Each is made from the contract (`intaglio.spec`) and from the ports that the Verilog has. None carries text of the
user's but the module's name, which is an identifier in all of these formats.
"""

from __future__ import annotations

from intaglio.companions.constraints import lpf, xdc
from intaglio.companions.fusesoc import core
from intaglio.companions.ipxact import component
from intaglio.companions.ports import ports_of
from intaglio.companions.svd import device
from intaglio.spec.c_header import registers_header
from intaglio.spec.config import AcceleratorConfig

__all__ = ["HEADER", "companions", "file_names"]

HEADER = "intaglio_registers.h"
"""The driver's, which is the same for every machine."""
_ENDINGS = {
    "core": "FuseSoC",
    "xml": "IP-XACT",
    "svd": "CMSIS-SVD",
    "xdc": "constraints for Vivado",
    "lpf": "constraints for nextpnr-ecp5",
}


def file_names(name: str) -> dict[str, str]:
    """What is written beside the machine `name`, and for whom."""
    return {**{f"{name}.{ending}": what for ending, what in _ENDINGS.items()}, HEADER: "for C"}


def companions(verilog: str, name: str, config: AcceleratorConfig, clock_mhz: float) -> dict[str, str]:
    """The text of each file of `file_names`, in that order.

    Parameters
    ----------
    verilog : of the machine
    name : of its module, a Verilog identifier
    config : it was made of
    clock_mhz : the clock that the constraints ask for, above 0
    """
    texts = (
        core(name, config),
        component(name, config, ports_of(verilog, name)),
        device(name, config),
        xdc(name, clock_mhz),
        lpf(name, clock_mhz),
        registers_header(),
    )
    return dict(zip(file_names(name), texts, strict=True))
