"""FuseSoC's description of a machine, CAPI2."""

from __future__ import annotations

from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.registers import VERSION_VALUE

__all__ = ["core"]


def core(name: str, config: AcceleratorConfig) -> str:
    """The core ``intaglio:machines:NAME``, its version the registers': what others build on, and a target `lint`.

    Verilator's widths are waived: the Verilog relies on what the language says of them.
    """
    # The name is quoted: YAML takes `on` and `null` for something else.
    return f"""CAPI=2:
name: "intaglio:machines:{name}:{VERSION_VALUE}.0"
description: "Intaglio machine of fingerprint {config.fingerprint:#010x}"

filesets:
  rtl:
    files:
      - "{name}.v"
    file_type: verilogSource

targets:
  default:
    filesets: [rtl]
    toplevel: "{name}"

  lint:
    description: "Verilator's warnings"
    filesets: [rtl]
    toplevel: "{name}"
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall, -Wno-WIDTHEXPAND, -Wno-WIDTHTRUNC]
"""
