"""Runs inside a simulator: what cocotb's process imports."""

import cocotb

from tests.rooms import import_all, imported_twice


@cocotb.test()
async def no_room_by_two_names(dut) -> None:
    assert "intaglio.sim.units.bench" in import_all()
    assert imported_twice() == []
