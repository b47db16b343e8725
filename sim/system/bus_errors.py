"""Responses that are not OKAY."""

from typing import Any

import cocotb

from intaglio.sim.system.host import Fault, Host
from intaglio.sim.system.programs import Job
from intaglio.sim.system.setting import LARGE, SMALL, begin
from intaglio.spec.commands import Opcode
from intaglio.spec.registers import STATUS_FAULT, Cause, Register


def bursts_of_weights(work: Job) -> list[tuple[int, int]]:
    """Of each transfer of a WEIGHTS command, which is one burst here, its address and the command's index."""
    bursts: list[tuple[int, int]] = []
    for index in work.of(Opcode.WEIGHTS):
        values = work.command(index)[1]
        assert values["beats"] <= 32
        for stretch in range(values["stretches"]):
            address = work.place(index) + 8 * values["beats"] * stretch
            bursts += values["times"] * [(address, index)]
    return bursts


@cocotb.test()
async def read_errors(dut: Any) -> None:
    """Any response but OKAY, at any beat: the fault names the burst and the command that it was for."""
    host = await begin(dut, "RRESP")
    weights = bursts_of_weights(SMALL)
    weights_at = {address for address, _ in weights}
    load = SMALL.of(Opcode.LOAD)[0]
    sizes = {"list": 8 * SMALL.count, "weights": 8, "load": 1}
    for turn in range(45):
        host.pause(host.random.choice((0.0, 0.5)))
        kind = ("list", "weights", "load")[turn % 3]
        chosen, code = host.random.randrange(sizes[kind]), 1 + turn // 3 % 3
        seen: list[int] = []
        """Beats of this kind so far, and the burst of the one that failed."""
        failed: list[tuple[int, int]] = []

        def response(channel, place, kind=kind, chosen=chosen, code=code, seen=seen, failed=failed):
            if channel != "r":
                return 0
            address = host.burst["r"]
            listed = "list" if address >= SMALL.command_address else "load"
            if kind != ("weights" if address in weights_at else listed):
                return 0
            seen.append(address)
            if len(seen) != chosen + 1:
                return 0
            failed.append((address, place))
            return code

        served = _Served(host, weights_at)
        host.response = response
        await host.launch(SMALL)
        await host.interrupt()
        served.close()
        host.response = None
        ((address, place),) = failed
        index = {
            "list": (address - SMALL.command_address) // 64,
            "weights": weights[served.order(place)][1] if kind == "weights" else 0,
            "load": load,
        }[kind]
        assert await host.read(Register.STATUS) == STATUS_FAULT
        fault = await host.fault()
        assert fault == Fault(Cause.READ_ERROR, index, address), f"{fault}, not of {index} at {address:#x}"
        host.check_memory(SMALL, whole=False)
        await host.run(SMALL)


class _Served:
    """Which burst of weights each served beat belonged to."""

    def __init__(self, host: Host, addresses: set[int]) -> None:
        self._host, self._addresses = host, addresses
        self._places: list[int] = []
        host.on_burst = self._see

    def _see(self, address: int) -> None:
        if address in self._addresses:
            self._places.append(self._host.given["r"])

    def order(self, beat: int) -> int:
        return sum(place <= beat for place in self._places) - 1

    def close(self) -> None:
        self._host.on_burst = None


@cocotb.test()
async def write_errors(dut: Any) -> None:
    host = await begin(dut, "BRESP")
    await host.run(LARGE)
    stores = {LARGE.place(index) & ~7: index for index in LARGE.of(Opcode.STORE)}
    first = host.given["b"]
    await host.run(LARGE)
    responses = host.given["b"] - first
    assert responses >= 2
    for turn in range(3 * responses):
        host.pause(host.random.choice((0.0, 0.5)))
        at, code = host.given["b"] + turn // 3, 1 + turn % 3
        found: list[int] = []

        def response(channel, place, at=at, code=code, found=found):
            if channel == "b" and place == at:
                found.append(host.burst["b"])
                return code
            return 0

        host.response = response
        await host.launch(LARGE)
        await host.interrupt()
        host.response = None
        index = max(index for address, index in stores.items() if address <= found[0])
        index = stores.get(found[0], index)
        assert await host.read(Register.STATUS) == STATUS_FAULT
        assert await host.fault() == Fault(Cause.WRITE_ERROR, index, found[0])
        host.check_memory(LARGE, whole=False)
        await host.run(SMALL)
