"""What the machine is tested for."""

# Parameters of a test's function are the test's: cocotb passes the design first.
from typing import Any

import cocotb

from hdl import isa
from hdl.isa import Register
from sim.system.host import Fault, Host
from sim.system.programs import job, network


@cocotb.test()
@cocotb.parametrize(seed=range(4))
async def right_under_back_pressure(dut: Any, seed: int) -> None:
    """Each start gives the right outputs, without a reset between, and counts the beats that memory saw."""
    host = Host(dut, f"back-pressure {seed}")
    await host.start()
    for turn, small in enumerate((False, True, False)):
        work = job(network(seed + turn, small), seed)
        host.pause_at_random()
        await host.run(work)
        cycles = await host.read(Register.CYCLES)
        assert cycles == int(dut.irq_cycle.value) - host.start_cycle
        assert await host.read(Register.READ_BEATS) == int(dut.r_beats.value) - host.before["r_beats"]
        assert await host.read(Register.WRITE_BEATS) == int(dut.w_beats.value) - host.before["w_beats"]
        assert await host.read(Register.OVERFLOWS) == work.overflows == 0
        assert await host.read(Register.INTERRUPT) == 1
        dut._log.warning("%d cycles", cycles)
        if turn == 1:
            await host.acknowledge()
            assert await host.read(Register.STATUS) == isa.STATUS_DONE
