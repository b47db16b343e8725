"""What the machine refuses: the cause, the command, the address; and that it runs right afterwards."""

from typing import Any

import cocotb

from intaglio.sim.system.host import Fault, Host
from intaglio.sim.system.programs import CONFIG, Job
from intaglio.sim.system.setting import OPCODES, SMALL, begin
from intaglio.spec.commands import FORMATS, Opcode, command_layout, encode
from intaglio.spec.registers import Cause, Register


async def refused(host: Host, work: Job, fault: Fault, again: bool = True) -> None:
    """The machine stops with the fault, and then runs right."""
    host.pause(host.random.choice((0.0, 0.0, 0.4)))
    await host.launch(work)
    await host.stopped(fault, work)
    if again:
        await host.run(SMALL)


@cocotb.test()
async def unknown_opcodes(dut: Any) -> None:
    host = await begin(dut, "opcodes")
    unknown = set(range(256)) - {opcode.value for opcode in OPCODES}
    for code in sorted(unknown):
        word = bytes([code]) + host.random.randbytes(63)
        lone = SMALL.replaced(0, word).having(count=1)
        await refused(host, lone, Fault(Cause.ILLEGAL_OPCODE, 0), again=False)
    for code in host.random.sample(sorted(unknown), 6):
        index = host.random.randrange(SMALL.count)
        bad = SMALL.replaced(index, bytes([code]) + bytes(63))
        await refused(host, bad, Fault(Cause.ILLEGAL_OPCODE, index))


@cocotb.test()
async def reserved_bits(dut: Any) -> None:
    host = await begin(dut, "reserved")
    for opcode in OPCODES:
        places = command_layout(opcode)
        end = max(start + field.bits for start, field in places.values())
        draw = host.random.randrange
        bits = []
        for name in ("header_reserved", "header_reserved_high"):
            start, field = places[name]
            bits += [start, start + field.bits - 1, draw(start, start + field.bits)]
        bits += [end, 511, draw(end, 512), draw(end, 512)]
        for turn, bit in enumerate(bits):
            index = host.random.choice(SMALL.of(opcode))
            word = int.from_bytes(SMALL.commands[64 * index :][:64], "little") | 1 << bit
            bad = SMALL.replaced(index, word.to_bytes(64, "little"))
            await refused(host, bad, Fault(Cause.ILLEGAL_FIELD, index), again=turn % 5 == 0)


@cocotb.test()
async def counts_of_zero(dut: Any) -> None:
    host = await begin(dut, "zero")
    for opcode in OPCODES:
        for name in FORMATS[opcode].nonzero:
            index = host.random.choice(SMALL.of(opcode))
            await refused(host, SMALL.changed(index, **{name: 0}), Fault(Cause.ILLEGAL_FIELD, index))


@cocotb.test()
async def more_than_there_is(dut: Any) -> None:
    """Positions and channels beyond the accumulators, and weights between beats."""
    host = await begin(dut, "too many")
    depth = CONFIG.accumulator_depth
    for rows, columns in ((depth + 1, 1), (1, depth + 1), (depth, 2), (0xFFFF, 0xFFFF), (0x8000, 2)):
        index = host.random.choice(SMALL.of(Opcode.MATMUL))
        bad = SMALL.changed(index, output_rows=rows, output_columns=columns)
        await refused(host, bad, Fault(Cause.ILLEGAL_FIELD, index))
    for fields in (
        {"positions": depth + 1},
        {"positions": 0xFFFF},
        {"channels": CONFIG.columns + 1},
        {"channels": 0xFF},
    ):
        index = host.random.choice(SMALL.of(Opcode.RESCALE))
        await refused(host, SMALL.changed(index, **fields), Fault(Cause.ILLEGAL_FIELD, index))
    for offset in range(1, 8):
        index = host.random.choice(SMALL.of(Opcode.WEIGHTS))
        address = SMALL.command(index)[1]["memory_address"] + offset
        await refused(host, SMALL.changed(index, memory_address=address), Fault(Cause.ILLEGAL_FIELD, index))


ONE_BEAT = {"beats": 1, "times": 1, "stretches": 1}
TOP = 0xFFFF_FFF8
ALL_MEMORY = (0, 0xFFFF_FFFF)

# An address, the transfer's size, and the region if it is not the program's.
Transfer = tuple[int, dict[str, int], tuple[int, int] | None]


def outside(opcode: Opcode) -> list[Transfer]:
    """Transfers that touch what lies beyond an end of their region, or past the top of the address space."""
    low, high = SMALL.write_region if opcode is Opcode.STORE else SMALL.read_region
    beats_field = opcode is Opcode.WEIGHTS
    longest = ONE_BEAT | {"beats": 0xFFFFFF} if beats_field else {"row_bytes": 0xFFFFFF}

    def size(beats: int) -> dict[str, int]:
        return ONE_BEAT | {"beats": beats} if beats_field else {"row_bytes": 8 * beats}

    cases: list[Transfer] = [
        (low - 8, size(1), None),
        (low - 8, size(2), None),
        (high, size(1), None),
        (high - 8, size(2), None),
        (low, longest, None),
        (high - 8, longest, None),
        (0, size(1), None),
        (TOP, size(1), ALL_MEMORY),
        (TOP, size(2), ALL_MEMORY),
        (TOP - 8, size(2), ALL_MEMORY),
        (TOP - 8, size(4), ALL_MEMORY),
        (TOP, longest, ALL_MEMORY),
        (low, size(1), (low, low)),
        (low, size(1), (high, low)),
        (low, size(1), (low + 4, high)),
        (low, size(1), (low, low + 4)),
    ]
    if not beats_field:
        cases += [
            (low - 1, {"row_bytes": 1}, None),
            (high, {"row_bytes": 1}, None),
            (high - 1, {"row_bytes": 2}, None),
            (0xFFFF_FFFF, {"row_bytes": 1}, ALL_MEMORY),
            (0xFFFF_FFFF, {"row_bytes": 2}, ALL_MEMORY),
        ]
    return cases


@cocotb.test()
async def regions(dut: Any) -> None:
    """One beat beyond either end of a region, or past the top of the address space, is refused."""
    host = await begin(dut, "regions")
    for opcode in (Opcode.LOAD, Opcode.WEIGHTS, Opcode.STORE):
        reads = opcode is not Opcode.STORE
        cause = Cause.READ_REGION if reads else Cause.WRITE_REGION
        for address, fields, region in outside(opcode):
            index = host.random.choice(SMALL.of(opcode))
            bad = SMALL.changed(index, memory_address=address, **fields)
            if region and reads:
                # Such a region may refuse the list itself.
                await refused_alone(host, SMALL, index, address, fields, region, cause)
                continue
            if region:
                bad = bad.having(write_region=region)
            await refused(host, bad, Fault(cause, index, address & ~7), again=host.random.random() < 0.3)
    await host.run(SMALL)


@cocotb.test()
async def narrow_regions(dut: Any) -> None:
    """The regions that the compiler asks for are as narrow as can be at their beginning and READ's end."""
    host = await begin(dut, "narrow")
    base, limit = SMALL.read_region
    first_load, store = SMALL.of(Opcode.LOAD)[0], SMALL.of(Opcode.STORE)[0]
    last = SMALL.count - 1
    out = SMALL.command(store)[1]["memory_address"]
    for work, fault in (
        (SMALL.having(read_region=(base + 8, limit)), Fault(Cause.READ_REGION, first_load, base)),
        (SMALL.having(read_region=(base + 1, limit)), Fault(Cause.READ_REGION, first_load, base)),
        (SMALL.having(read_region=(base, limit - 8)), Fault(Cause.READ_REGION, last, limit - 64)),
        (SMALL.having(read_region=(base, limit - 1)), Fault(Cause.READ_REGION, last, limit - 64)),
        (SMALL.having(write_region=(out + 1, out + 64)), Fault(Cause.WRITE_REGION, store, out)),
        (SMALL.having(write_region=(out, out + 7)), Fault(Cause.WRITE_REGION, store, out)),
    ):
        await refused(host, work, fault)
    await host.run(SMALL.having(write_region=(out, out + 8)))


async def refused_alone(
    host: Host,
    work: Job,
    index: int,
    address: int,
    fields: dict[str, int],
    region: tuple[int, int],
    cause: Cause,
) -> None:
    """A READ region other than the program's: where it does not hold the commands, they are what is refused."""
    lone = work.changed(index, memory_address=address, **fields)
    lone = lone.replaced(0, lone.commands[64 * index :][:64]).having(count=1, read_region=region)
    if region[0] <= work.command_address and region[1] >= work.command_address + 64:
        word = int.from_bytes(lone.commands[:64], "little") & ~(((1 << 80) - 1) << 16)
        lone = lone.replaced(0, word.to_bytes(64, "little"))
        fault = Fault(cause, 0, address & ~7)
    else:
        fault = Fault(Cause.READ_REGION, 0, work.command_address)
    await refused(host, lone, fault, again=False)


@cocotb.test()
async def command_lists(dut: Any) -> None:
    """Lists that lie where they may not, and those at addresses between beats: their low three bits are ignored."""
    host = await begin(dut, "lists")
    base, limit = SMALL.read_region
    list_at = SMALL.command_address
    for offset in range(1, 8):
        host.place(SMALL)
        await host.configure(SMALL)
        await host.write(Register.COMMAND_ADDRESS, list_at + offset)
        assert await host.read(Register.COMMAND_ADDRESS) == list_at + offset
        await host.go()
        await host.finish(SMALL)
    for index in (0, 1, 5, SMALL.count - 1):
        for cut in (8, 64):
            at = list_at + 64 * index
            work = SMALL.having(read_region=(base, at + 64 - cut))
            await refused(host, work, Fault(Cause.READ_REGION, index, at))
    for address, region in (
        (0xFFFF_FFC0, (0, 0xFFFF_FFFF)),
        (0xFFFF_FFF8, (0, 0xFFFF_FFFF)),
        (base - 64, SMALL.read_region),
        (limit, SMALL.read_region),
        (0, SMALL.read_region),
        (list_at, (0, 0)),
    ):
        host.place(SMALL)
        await host.configure(SMALL.having(read_region=region))
        await host.write(Register.COMMAND_ADDRESS, address)
        await host.go()
        await host.stopped(Fault(Cause.READ_REGION, 0, address), SMALL)
    for count in (SMALL.count + 1, 0xFFFF_FFFF):
        await refused(host, SMALL.having(count=count), Fault(Cause.READ_REGION, SMALL.count, limit))
    # The second command of this list lies past the top of the address space.
    host.place(SMALL)
    host.ram.write(0xFFFF_FF80, SMALL.commands[:64])
    await host.configure(SMALL.having(read_region=(0, 0xFFFF_FFFF)))
    await host.write(Register.COMMAND_ADDRESS, 0xFFFF_FF80)
    await host.go()
    await host.stopped(Fault(Cause.READ_REGION, 1, 0xFFFF_FFC0), SMALL)
    await host.run(SMALL)


@cocotb.test()
async def regions_after_reset(dut: Any) -> None:
    host = await begin(dut, "no regions")
    host.place(SMALL)
    store = SMALL.of(Opcode.STORE)[0]
    steps = (
        ((), Fault(Cause.READ_REGION, 0, SMALL.command_address)),
        ((Register.READ_BASE, Register.READ_LIMIT), Fault(Cause.WRITE_REGION, store, SMALL.write_region[0])),
    )
    host.grant(SMALL)
    await host.write(Register.COMMAND_ADDRESS, SMALL.command_address)
    await host.write(Register.COMMAND_COUNT, SMALL.count)
    for registers, fault in steps:
        for register, value in zip(registers, SMALL.read_region, strict=False):
            await host.write(register, value)
        await host.go()
        await host.stopped(fault, SMALL)
    await host.run(SMALL)


@cocotb.test()
async def faults_that_meet(dut: Any) -> None:
    """Of several faults one is kept, whole: the one of the command that came to it first."""
    host = await begin(dut, "several")
    for _ in range(12):
        host.pause_at_random()
        outside_read = Fault(Cause.READ_REGION, 1, SMALL.read_region[1])
        unknown = Fault(Cause.ILLEGAL_OPCODE, 2)
        store = Fault(Cause.WRITE_REGION, 0, SMALL.read_region[0])
        work = SMALL.replaced(
            0, encode(Opcode.STORE, {"memory_address": SMALL.read_region[0], "row_bytes": 8, "rows": 1})
        )
        work = work.replaced(1, encode(Opcode.WEIGHTS, {"memory_address": outside_read.address} | ONE_BEAT))
        work = work.replaced(2, bytes(64))
        await host.launch(work)
        await host.interrupt()
        assert await host.fault() in (outside_read, unknown, store)
        host.check_memory(work, whole=False)
        await host.run(SMALL)
