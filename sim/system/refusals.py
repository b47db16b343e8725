"""What the machine refuses: the cause, the command, the address; and that it runs right afterwards."""

from typing import Any

import cocotb

from intaglio.sim.system.host import Fault, Host
from intaglio.sim.system.programs import CONFIG, Job, at
from intaglio.sim.system.setting import OPCODES, SMALL, begin
from intaglio.spec.commands import FORMATS, Opcode, command_layout, encode
from intaglio.spec.regions import REGION_BITS, Region
from intaglio.spec.registers import REGION_REGISTERS, Cause, Register


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
        place = SMALL.command(index)[1]["memory_offset"] + offset
        await refused(host, SMALL.changed(index, memory_offset=place), Fault(Cause.ILLEGAL_FIELD, index))


ONE_BEAT = {"beats": 1, "times": 1, "stretches": 1}
ALL = 0xFFFF_FFF8
"""The largest limit."""
ELSEWHERE = 0xFF_F000_0040
"""A base from which a region of the largest limit reaches beyond the top of the address space."""

# An offset, the transfer's size, and the limit of a region of its own, if it is not the program's.
Transfer = tuple[int, dict[str, int], int | None]


def outside(opcode: Opcode) -> list[Transfer]:
    """Transfers that touch what lies beyond the end of their region."""
    _, limit = SMALL.grants[REGIONS[opcode]]
    beats_field = opcode is Opcode.WEIGHTS
    longest = ONE_BEAT | {"beats": 0xFFFFFF} if beats_field else {"row_bytes": 0xFFFFFF}

    def size(beats: int) -> dict[str, int]:
        return ONE_BEAT | {"beats": beats} if beats_field else {"row_bytes": 8 * beats}

    cases: list[Transfer] = [
        (limit, size(1), None),
        (limit - 8, size(2), None),
        (0, longest, None),
        (limit - 8, longest, None),
        (0xFFFF_FFF8, size(1), None),
        (ALL, size(1), ALL),
        (ALL, size(2), ALL),
        (ALL - 8, size(2), ALL),
        (ALL - 8, size(4), ALL),
        (ALL, longest, ALL),
        (0, size(1), 0),
        (0, size(2), 8),
        (0x1000, size(1), 0x1000),
    ]
    if not beats_field:
        cases += [
            (limit, {"row_bytes": 1}, None),
            (limit - 1, {"row_bytes": 2}, None),
            (0xFFFF_FFFF, {"row_bytes": 1}, ALL),
            (0xFFFF_FFFF, {"row_bytes": 2}, ALL),
        ]
    return cases


REGIONS = {Opcode.LOAD: Region.INPUT, Opcode.WEIGHTS: Region.PROGRAM, Opcode.STORE: Region.OUTPUT}
"""That the compiler's commands name."""


@cocotb.test()
async def regions(dut: Any) -> None:
    """One beat at a region's limit, or behind it, is refused, whatever region lies there."""
    host = await begin(dut, "regions")
    for opcode in REGIONS:
        cause = Cause.WRITE_REGION if opcode is Opcode.STORE else Cause.READ_REGION
        for offset, fields, limit in outside(opcode):
            index = host.random.choice(SMALL.of(opcode))
            bad = SMALL.changed(index, memory_offset=offset, **fields)
            if limit is not None:
                bad = bad.changed(index, region=Region.SCRATCH).granting(Region.SCRATCH, ELSEWHERE, limit)
            address = (bad.place(index) & ~7) % (1 << CONFIG.address_bits)
            await refused(host, bad, Fault(cause, index, address), again=host.random.random() < 0.3)
    await host.run(SMALL)


@cocotb.test()
async def rights(dut: Any) -> None:
    """A region may be read, written, or both, by what it is, and a number that is no region's is no field's value."""
    host = await begin(dut, "rights")
    for opcode in REGIONS:
        writes = opcode is Opcode.STORE
        for region in range(1 << REGION_BITS):
            index = host.random.choice(SMALL.of(opcode))
            bad = SMALL.changed(index, region=region)
            if region not in list(Region):
                await refused(host, bad, Fault(Cause.ILLEGAL_FIELD, index), again=False)
            elif not (Region(region).writable if writes else Region(region).readable):
                cause = Cause.WRITE_REGION if writes else Cause.READ_REGION
                await refused(host, bad, Fault(cause, index))


@cocotb.test()
async def narrow_regions(dut: Any) -> None:
    """A region needs no more than its last byte's beat, and the low bits of a limit are not there."""
    host = await begin(dut, "narrow")
    load, store = SMALL.of(Opcode.LOAD)[-1], SMALL.of(Opcode.STORE)[0]
    last = SMALL.count - 1
    _, limit = SMALL.grants[Region.PROGRAM]
    used = {}
    for index in (load, store):
        values = SMALL.command(index)[1]
        assert values["rows"] == 1
        used[index] = -(-(values["memory_offset"] + values["row_bytes"]) // 8) * 8
    at_list = Fault(Cause.READ_REGION, last, SMALL.address(Region.PROGRAM, limit - 64))
    at_input = Fault(Cause.READ_REGION, load, SMALL.place(load) & ~7)
    at_output = Fault(Cause.WRITE_REGION, store, SMALL.place(store) & ~7)
    for region, granted, fault in (
        (Region.PROGRAM, limit - 8, at_list),
        (Region.PROGRAM, limit - 1, at_list),
        (Region.INPUT, used[load] - 8, at_input),
        (Region.INPUT, used[load] - 1, at_input),
        (Region.OUTPUT, used[store] - 8, at_output),
        (Region.OUTPUT, used[store] - 1, at_output),
    ):
        await refused(host, SMALL.granting(region, limit=granted), fault)
    narrow = SMALL.granting(Region.INPUT, limit=used[load]).granting(Region.OUTPUT, limit=used[store] + 7)
    await host.run(narrow)


@cocotb.test()
async def command_lists(dut: Any) -> None:
    """Lists that lie where they may not, and those at offsets between beats: their low three bits are ignored."""
    host = await begin(dut, "lists")
    base, limit = SMALL.grants[Region.PROGRAM]
    offset = SMALL.command_offset
    for within in range(1, 8):
        host.place(SMALL)
        await host.configure(SMALL.having(command_offset=offset + within))
        assert await host.read(Register.COMMAND_OFFSET) == offset + within
        await host.go()
        await host.finish(SMALL)
    for index in (0, 1, 5, SMALL.count - 1):
        for cut in (8, 64):
            place = offset + 64 * index
            work = SMALL.granting(Region.PROGRAM, limit=place + 64 - cut)
            await refused(host, work, Fault(Cause.READ_REGION, index, base + place))
    for place, granted in ((0xFFFF_FFC0, ALL), (ALL, ALL), (limit, limit), (0xFFFF_FFC0, limit), (offset, 0)):
        work = SMALL.granting(Region.PROGRAM, limit=granted)
        host.place(SMALL)
        await host.configure(work.having(command_offset=place))
        await host.go()
        await host.stopped(Fault(Cause.READ_REGION, 0, base + place), SMALL)
    for count in (SMALL.count + 1, 0xFFFF_FFFF):
        await refused(host, SMALL.having(count=count), Fault(Cause.READ_REGION, SMALL.count, base + limit))
    # The second command of this list lies past the largest offset that can be granted.
    host.place(SMALL)
    host.ram.write(base + 0xFFFF_FF80, SMALL.commands[:64])
    await host.configure(SMALL.granting(Region.PROGRAM, limit=ALL).having(command_offset=0xFFFF_FF80))
    await host.go()
    await host.stopped(Fault(Cause.READ_REGION, 1, base + 0xFFFF_FFC0), SMALL)
    await host.run(SMALL)


@cocotb.test()
async def regions_after_reset(dut: Any) -> None:
    host = await begin(dut, "no regions")
    host.place(SMALL)
    host.grant(SMALL)
    load, store = SMALL.of(Opcode.LOAD)[0], SMALL.of(Opcode.STORE)[0]
    # Until a region is granted its base is 0 as well.
    offsets = {index: SMALL.command(index)[1]["memory_offset"] & ~7 for index in (load, store)}
    await host.write(Register.COMMAND_OFFSET, SMALL.command_offset)
    await host.write(Register.COMMAND_COUNT, SMALL.count)
    for region, fault in (
        (None, Fault(Cause.READ_REGION, 0, SMALL.command_offset)),
        (Region.PROGRAM, Fault(Cause.READ_REGION, load, offsets[load])),
        (Region.INPUT, Fault(Cause.WRITE_REGION, store, offsets[store])),
    ):
        for register in REGION_REGISTERS[region] if region is not None else ():
            await host.write(register, SMALL.settings()[register])
        await host.go()
        await host.stopped(fault, SMALL)
    await host.run(SMALL)


@cocotb.test()
async def faults_that_meet(dut: Any) -> None:
    """Of several faults one is kept, whole: the one of the command that came to it first."""
    host = await begin(dut, "several")
    for _ in range(12):
        host.pause_at_random()
        beyond = at(Region.INPUT, SMALL.grants[Region.INPUT][1])
        outside_read = Fault(Cause.READ_REGION, 1, SMALL.address(*beyond.values()))
        unknown = Fault(Cause.ILLEGAL_OPCODE, 2)
        store = Fault(Cause.WRITE_REGION, 0)
        row = {**at(Region.INPUT), "row_bytes": 8, "rows": 1}
        work = SMALL.replaced(0, encode(Opcode.STORE, row))
        work = work.replaced(1, encode(Opcode.WEIGHTS, beyond | ONE_BEAT))
        work = work.replaced(2, bytes(64))
        await host.launch(work)
        await host.interrupt()
        assert await host.fault() in (outside_read, unknown, store)
        host.check_memory(work, whole=False)
        await host.run(SMALL)
