# amaranth: UnusedElaboratable=no
import dataclasses
import itertools
import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from intaglio.golden import elementwise as golden_elementwise
from intaglio.golden.transcendental import softmax, softmax_table
from intaglio.hdl.engines.affine_lanes import AffineLanes
from intaglio.hdl.engines.command import body_layout
from intaglio.hdl.engines.elementwise import Elementwise
from intaglio.hdl.engines.softmax import PASSES, Softmax
from intaglio.hdl.storage.scratchpad import READ_LATENCY
from intaglio.hdl.storage.tables import Tables
from intaglio.network import Add, FixedPointScale, Rounding, Sub, Tensor, TensorType
from intaglio.spec.commands import FORMATS, Opcode, Operation, encode
from intaglio.spec.config import AcceleratorConfig
from tests.golden_definitions import Fixed, divide, one_over_one_plus

BINARY = (Operation.ADD, Operation.SUBTRACT, Operation.MULTIPLY)
SIZE = 2048
"""Elements of the scratchpad: so few that addresses wrap often."""


def machine(rescale_lanes, vector_lanes, **fields):
    config = AcceleratorConfig(
        name="bench",
        rows=vector_lanes,
        columns=rescale_lanes,
        activation_types=("int8",),
        weight_type="int8",
        accumulator_bits=32,
        accumulator_depth=16,
        rescales=("affine",),
        rescale_lanes=rescale_lanes,
        scratchpad_bytes=SIZE,
        weight_buffer_bytes=512,
    )
    config = dataclasses.replace(config, **fields)
    assert config.vector_lanes == vector_lanes
    return config


# What the commands mean: docs/architecture.md and the named roundings, in integers of any size.


def wrap(x, bits):
    return (x + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def half_away(x, n):
    mask = (1 << n) - 1
    return (x >> n) + ((x & mask) > (mask >> 1) + (x < 0))


def sqrdmulh(a, b):
    return min((a * b + (1 << 30)) >> 31, (1 << 31) - 1)


def rescale(x, multiplier, exponent, double):
    if not double:
        return half_away(x * multiplier, 31 - exponent)
    return half_away(sqrdmulh(wrap(x << max(exponent, 0), 32), multiplier), max(-exponent, 0))


def binary(fields, a, b):
    a -= fields["a_zero_point"]
    b -= fields["b_zero_point"]
    if fields["operation"] == Operation.MULTIPLY:
        value = a * b
    else:
        a, b = (
            half_away(sqrdmulh(x << 20, fields[f"{name}_multiplier"]), fields[f"{name}_shift"])
            for name, x in (("a", a), ("b", b))
        )
        value = wrap(a + b if fields["operation"] == Operation.ADD else a - b, 32)
    scaled = rescale(value, fields["multiplier"], fields["exponent"], fields["double"])
    return min(max(fields["zero_point"] + scaled, fields["low"]), fields["high"])


def softmax_of(run, tables):
    """From the definition of fixed point, not from the page's line: exp is what the tables say."""
    table = [Fixed(sum(tables[plane][d] << 8 * plane for plane in range(4)), 0) for d in range(256)]
    greatest = max(run)
    total = sum(table[greatest - x].rescaled(12).raw for x in run)
    headroom = 32 - total.bit_length()
    reciprocal = one_over_one_plus(Fixed((total << headroom) - 2**31, 0))
    results = (
        divide((reciprocal * table[greatest - x]).raw, 35 - headroom, Rounding.HALF_AWAY) - 128 for x in run
    )
    return [min(max(result, -128), 127) for result in results]


class Reference:
    """Runs commands on bytes."""

    def __init__(self, memory):
        self.memory = bytearray(memory)
        self.tables = [bytes(256)] * 4

    def places(self, fields, name, pixel):
        source, pitch = (
            ("destination", "pitch") if name == "destination" else (f"{name}_source", f"{name}_pitch")
        )
        splat = name != "destination" and fields[f"{name}_splat"]
        start = fields[source] + pixel * fields[pitch]
        return [(start + (0 if splat else i)) % SIZE for i in range(fields["channels"])]

    def elements(self, fields, name, pixel):
        return [wrap(self.memory[place], 8) for place in self.places(fields, name, pixel)]

    def run(self, fields):
        operation = fields["operation"]
        if operation == Operation.LOAD_TABLE:
            planes = [
                bytes(
                    self.memory[(fields["a_source"] + k * fields["a_pitch"] + i) % SIZE] for i in range(256)
                )
                for k in range(fields["pixels"])
            ]
            self.tables = planes if len(planes) == 4 else planes * 4
            return
        for pixel in range(fields["pixels"]):
            a = self.elements(fields, "a", pixel)
            if operation in BINARY:
                b = self.elements(fields, "b", pixel)
                results = [binary(fields, *pair) for pair in zip(a, b, strict=True)]
            elif operation == Operation.LOOKUP:
                results = [self.tables[0][x % 256] for x in a]
            else:
                results = softmax_of(a, self.tables)
            for place, result in zip(self.places(fields, "destination", pixel), results, strict=True):
                self.memory[place] = result % 256


# The engine between a scratchpad and lanes that are not always free.


@dataclasses.dataclass
class Run:
    memory: bytearray
    done: list = dataclasses.field(default_factory=list)
    """Cycle, mark and the scratchpad's contents after each command."""
    read: list = dataclasses.field(default_factory=list)
    worked: list = dataclasses.field(default_factory=list)
    written: list = dataclasses.field(default_factory=list)
    """Cycles in which something was."""
    fault: int | None = None


def simulate(config, memory, commands, *, stalls=0.0, busy_lanes=0.0, blocked=None, seed=1):
    """Runs `commands` (fields by name) until all are done, or the first fault.

    `stalls` and `busy_lanes` are shares of the cycles; `blocked` names a stream that stands still half of the time, 64
    cycles on end.
    """
    m = Module()
    m.submodules.engine = engine = Elementwise(config)
    m.submodules.lanes = lanes = AffineLanes(config.rescale_lanes)
    wiring.connect(m, engine.work, lanes.second)
    m.d.comb += [
        lanes.first_idle.eq(~lanes.first.valid),
        engine.results.eq(lanes.results),
        engine.result_valid.eq(lanes.second_valid),
    ]
    rng = random.Random(seed)
    width, body_bits = config.vector_lanes, body_layout(Opcode.ELEMENTWISE).size
    run = Run(bytearray(memory))
    payloads = [
        int.from_bytes(encode(Opcode.ELEMENTWISE, fields), "little") >> 128
        | (1000 + index) << body_bits
        | (index % 3 == 0) << body_bits + 32
        for index, fields in enumerate(commands)
    ]

    async def testbench(ctx):
        index, stands, offered = 0, False, False
        arriving: list[int | None] = [None] * READ_LATENCY
        held = dict.fromkeys(("read", "write", "work"))
        for cycle in itertools.count():
            assert cycle < 200_000, "the engine hangs"
            # A command stands for a cycle before it is offered.
            offered = stands
            stands = stands or rng.random() >= stalls
            ctx.set(engine.command.valid, offered)
            ctx.set(engine.command.payload.as_value(), payloads[index] if stands else rng.getrandbits(64))
            shares = {"read": stalls, "write": stalls, "work": busy_lanes}
            ready = {name: rng.random() >= share for name, share in shares.items()}
            if cycle % 128 < 64:
                ready[blocked] = False
            ctx.set(engine.read.ready, ready["read"])
            ctx.set(engine.write.ready, ready["write"])
            ctx.set(lanes.first.valid, not ready["work"])
            ctx.set(lanes.first.payload.as_value(), rng.getrandbits(64))
            vector = arriving.pop(0)
            ctx.set(engine.data, rng.getrandbits(8 * width) if vector is None else vector)
            _, _, *sampled = await ctx.tick().sample(
                engine.read.valid,
                engine.read.payload,
                engine.write.valid,
                engine.write.payload.as_value(),
                engine.work.valid,
                engine.work.payload.as_value(),
                engine.done,
                engine.done_mark,
                engine.fault,
                engine.fault_command,
                engine.busy,
                engine.command.ready,
            )
            valid = dict(zip(("read", "write", "work"), sampled[0:6:2], strict=True))
            payload = dict(zip(("read", "write", "work"), sampled[1:6:2], strict=True))
            done, mark, fault, fault_command, busy, taken = sampled[6:]
            for name, before in held.items():
                if before is not None:
                    assert valid[name], f"{name} was withdrawn"
                    assert payload[name] == before, f"{name} changed before it was taken"
                held[name] = payload[name] if valid[name] and not ready[name] else None
            moved = {name: valid[name] and ready[name] for name in valid}

            arriving.append(None)
            if moved["read"]:
                run.read.append(cycle)
                read = bytes(run.memory[(payload["read"] + i) % SIZE] for i in range(width))
                arriving[-1] = int.from_bytes(read, "little")
            if moved["work"]:
                run.worked.append(cycle)
            if moved["write"]:
                run.written.append(cycle)
                write = payload["write"]
                address, mask = write % SIZE, write // SIZE % (1 << width)
                for i in range(width):
                    if mask >> i & 1:
                        run.memory[(address + i) % SIZE] = write // SIZE >> width + 8 * i & 255
            assert fault or busy == offered
            assert taken == done
            if fault:
                assert offered
                run.fault = fault_command
                return
            if done:
                assert offered
                run.done.append((cycle, mark, bytes(run.memory)))
                index, stands = index + 1, False
                if index == len(commands):
                    return

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return run


def check(config, memory, commands, **how):
    """Every command leaves what the definitions say, at the moment that it is done. Returns the run."""
    commands = [command(**fields) for fields in commands]
    run = simulate(config, memory, commands, **how)
    reference = Reference(memory)
    assert run.fault is None
    for index, (fields, (_, mark, contents)) in enumerate(zip(commands, run.done, strict=True)):
        reference.run(fields)
        differing = [i for i in range(SIZE) if contents[i] != reference.memory[i]]
        assert not differing, (index, fields, differing[:10])
        assert mark == (index % 3 == 0)
    return run


def command(**fields):
    names = [field.name for field in FORMATS[Opcode.ELEMENTWISE].fields]
    defaults = dict.fromkeys(names, 0) | {"pixels": 1, "channels": 1, "low": -128, "high": 127}
    assert set(fields) <= set(names)
    return defaults | fields


def random_bytes(seed, count=SIZE):
    return random.Random(seed).randbytes(count)


def exponentials(memory, place=0, seed=1):
    """Puts softmax's table into `memory`, plane behind plane."""
    rng = random.Random(seed)
    scale = FixedPointScale(rng.randrange(1 << 30, 1 << 31), rng.randrange(20, 24), True)
    table = softmax_table(scale, rng.choice([-255, -100]))
    planes = np.asarray(table, "<u4").view(np.uint8).reshape(256, 4).T
    memory[place : place + 1024] = planes.tobytes()
    return dict(operation=Operation.LOAD_TABLE, pixels=4, channels=256, a_source=place, a_pitch=256)


EDGES = {
    "multiplier": (0, 1, 1 << 10, 3 << 9, (1 << 30) - 1, 1 << 30, (1 << 31) - 1),
    "shift": (0, 1, 2, 20, 30, 31),
    "exponent": (-32, -31, -20, -8, -1, 0, 1, 12, 31),
    "zero_point": (-256, -128, -1, 0, 1, 127, 255),
}


def arithmetic(rng):
    """Fields of any ADD, SUBTRACT or MULTIPLY: edges and the usual."""

    def pick(kind, usual):
        return rng.choice(EDGES[kind]) if rng.random() < 0.5 else usual

    low, high = (-128, 127) if rng.random() < 0.5 else (rng.randrange(-256, 256), rng.randrange(-256, 256))
    operation = rng.choice(BINARY)
    usual = rng.randrange(-12, -2) if operation == Operation.MULTIPLY else rng.randrange(-23, -17)
    return dict(
        operation=operation,
        **{f"{name}_zero_point": pick("zero_point", rng.randrange(-128, 128)) for name in "ab"},
        **{f"{name}_multiplier": pick("multiplier", rng.randrange(1 << 30, 1 << 31)) for name in "ab"},
        **{f"{name}_shift": pick("shift", rng.randrange(6)) for name in "ab"},
        multiplier=pick("multiplier", rng.randrange(1 << 30, 1 << 31)),
        exponent=pick("exponent", usual),
        double=rng.randrange(2),
        zero_point=pick("zero_point", rng.randrange(-128, 128)),
        low=low,
        high=high,
    )


def anywhere(rng, fields, width):
    """Random runs of a random shape: the destination is apart from the operands, or takes the place of one."""
    reference = Reference(bytes(SIZE))
    while True:
        few = rng.random() < 0.5
        channels = rng.randrange(1, width + 2) if few else rng.randrange(1, 6 * width)
        shape = dict(
            pixels=rng.randrange(1, 12) if few else rng.randrange(1, 3),
            channels=channels,
            a_source=rng.randrange(SIZE),
            a_pitch=rng.choice([0, channels, 3 * channels, SIZE - channels]),
            a_splat=rng.random() < 0.2,
            b_source=rng.randrange(SIZE),
            b_pitch=rng.choice([0, 1, channels, 2 * channels]),
            b_splat=rng.random() < 0.3,
            destination=rng.randrange(SIZE),
            pitch=rng.choice([channels, channels + 5, (1 << 24) - channels]),
        )
        chosen = command(**{key: int(value) for key, value in shape.items()}, **fields)
        operands = "ab" if fields["operation"] in BINARY else "a"
        in_place = rng.choice([None, *operands])
        if in_place:
            chosen |= {f"{in_place}_splat": 0, f"{in_place}_pitch": channels, "pitch": channels}
            chosen["destination"] = chosen[f"{in_place}_source"]
        taken = {
            name: {
                place for pixel in range(chosen["pixels"]) for place in reference.places(chosen, name, pixel)
            }
            for name in ("destination", *operands)
        }
        destination = taken.pop("destination")
        if in_place:
            taken.pop(in_place)
        if not any(destination & others for others in taken.values()):
            return chosen


MACHINES = {
    "1 of 8": machine(1, 8),
    "2 of 8": machine(2, 8),
    "4 of 8": machine(4, 8),
    "8 of 8": machine(8, 8),
    "2 of 16": machine(2, 16),
    "4 of 16": machine(4, 16),
    "8 of 16": machine(8, 16),
    "6 of 16": machine(6, 16, columns=12, rows=16),
}


@pytest.mark.parametrize("name", MACHINES)
def test_any_commands_with_stalls(name):
    config = MACHINES[name]
    rng = random.Random(name)
    memory = bytearray(random_bytes(name))
    load_exponentials = exponentials(memory, seed=len(name))
    commands = [load_exponentials]
    for kind in [*BINARY, Operation.SOFTMAX, "lookups", Operation.ADD, Operation.MULTIPLY]:
        if kind == "lookups":
            start = rng.randrange(SIZE)
            commands.append(
                dict(operation=Operation.LOAD_TABLE, pixels=1, channels=256, a_source=start, a_splat=1)
            )
            commands += [anywhere(rng, dict(operation=Operation.LOOKUP), config.vector_lanes) for _ in "12"]
        elif kind == Operation.SOFTMAX:
            commands.append(anywhere(rng, dict(operation=kind), config.vector_lanes))
        else:
            commands.append(anywhere(rng, arithmetic(rng) | {"operation": kind}, config.vector_lanes))
    check(config, memory, commands, stalls=0.3, busy_lanes=0.5, seed=len(name))


@pytest.mark.parametrize("blocked", ["read", "write", "work"])
def test_nothing_is_lost_in_long_stalls(blocked):
    memory = bytearray(random_bytes(17))
    runs = dict(channels=180, a_source=1100, b_source=1300, destination=1500)
    commands = [
        exponentials(memory),
        runs | dict(operation=Operation.SOFTMAX, channels=70),
        dict(operation=Operation.LOAD_TABLE, channels=256),
        runs | dict(operation=Operation.LOOKUP),
        runs | dict(operation=Operation.MULTIPLY, multiplier=1 << 30),
    ]
    check(MACHINES["4 of 8"], memory, commands, blocked=blocked)


def test_arithmetic_of_every_element():
    """All of a's elements with edges of every number; both roundings meet ties of either sign."""
    rng = random.Random(5)
    memory = bytearray(range(256)) + bytearray(random_bytes(6, SIZE - 256))
    commands = [
        arithmetic(rng) | dict(channels=256, b_source=256 + 64 * k, b_splat=k % 2, destination=1024)
        for k in range(16)
    ]
    # A scaled operand is a/2: a tie of SQRDMULH where it is odd; then of the shift, then of the result's.
    tie = dict(operation=Operation.ADD, channels=256, destination=1024, b_source=300, b_splat=1, double=1)
    whole = dict(a_multiplier=1 << 30, multiplier=1 << 30)
    commands += [
        tie | whole | dict(a_multiplier=1 << 10, exponent=1),
        tie | whole | dict(a_shift=20, exponent=1),
        tie | whole | dict(a_shift=19, exponent=0),
        tie | whole | dict(a_shift=19, exponent=-1),
        tie | whole | dict(a_shift=19, exponent=-1, double=0),
        tie | whole | dict(a_shift=19, exponent=-2, double=0, operation=Operation.SUBTRACT),
    ]
    check(MACHINES["8 of 16"], memory, commands)
    assert (sqrdmulh(3 << 20, 1 << 10), sqrdmulh(-3 << 20, 1 << 10)) == (2, -1)
    assert (half_away(3, 1), half_away(-3, 1)) == (2, -2)


def test_single_elements():
    rng = random.Random(7)
    memory = random_bytes(8)
    commands = [
        arithmetic(rng)
        | dict(a_source=rng.randrange(SIZE), b_source=rng.randrange(SIZE), destination=SIZE - 1)
        for _ in range(12)
    ]
    check(MACHINES["4 of 16"], memory, commands, busy_lanes=0.9)


def test_tables_change_between_lookups():
    """A table loaded at once behind a lookup is that of the next one, and no sooner."""
    memory = random_bytes(9)
    commands = []
    for place in (0, 300, 901):
        commands.append(dict(operation=Operation.LOAD_TABLE, channels=256, a_source=place))
        commands.append(
            dict(operation=Operation.LOOKUP, channels=100, a_source=1200, destination=1300 + place // 2)
        )
    for how in (dict(), dict(stalls=0.4, busy_lanes=0.3)):
        check(MACHINES["4 of 16"], memory, commands, **how)


def test_softmax_is_goldens():
    config = MACHINES["4 of 16"]
    rng = random.Random(11)
    memory = bytearray(SIZE)
    scale, least = FixedPointScale(1717986918, 22, True), -124
    table = np.asarray(softmax_table(scale, least), "<u4").view(np.uint8).reshape(256, 4).T
    memory[:1024] = table.tobytes()
    commands = [dict(operation=Operation.LOAD_TABLE, pixels=4, channels=256, a_pitch=256)]
    start, runs = 1024, []
    for pixels, channels, spread in (
        (1, 1, 255),
        (2, 2, 0),
        (9, 12, 255),
        (3, 12, 40),
        (1, 100, 20),
        (1, 200, 0),
    ):
        low = rng.randrange(-128, 128 - spread)
        values = [rng.randint(low, low + spread) for _ in range(pixels * channels)]
        memory[start : start + len(values)] = bytes(x % 256 for x in values)
        commands.append(
            dict(
                operation=Operation.SOFTMAX,
                pixels=pixels,
                channels=channels,
                a_source=start,
                a_pitch=channels,
                destination=start + 500,
                pitch=channels,
            )
        )
        runs.append((start + 500, np.array(values).reshape(pixels, channels)))
        start += len(values)
    assert start <= 1524
    run = check(config, memory, commands)
    for place, given in runs:
        wanted = softmax(given, scale, least)
        got = np.frombuffer(run.memory, np.int8)[place : place + given.size].reshape(given.shape)
        assert (got == wanted).all()


@pytest.mark.parametrize("busy_lanes", [0.0, 0.6])
def test_softmax_of_any_sum(busy_lanes):
    """The unit alone: sums from the least, whose shift is longest, to that of 4,095 elements; results shifted by 32."""
    tables = [bytes(random_bytes(plane, 256)) for plane in range(3)]
    tables.append(bytes(x & 127 for x in random_bytes(3, 256)))
    greatest = [bytes([255] * 256)] * 3 + [bytes([127] * 256)]
    least = [bytes([0] * 256), bytes([8] * 256), *[bytes(256)] * 2]
    runs = [(least, [5]), (least, [5, -3]), (greatest, [-128]), (greatest, [1] * 64)]
    runs += [(tables, [-128, 127]), (tables, list(range(-128, 128)))]
    if not busy_lanes:
        runs.append((greatest, [1] * 4095))

    m = Module()
    m.submodules.unit = unit = Softmax()
    m.submodules.lanes = lanes = AffineLanes(1)
    wiring.connect(m, unit.work, lanes.second)
    m.d.comb += [
        lanes.first_idle.eq(~lanes.first.valid),
        unit.result.eq(lanes.results[0]),
        unit.result_valid.eq(lanes.second_valid),
    ]
    rng = random.Random(16)

    async def testbench(ctx):
        for planes, run in runs:
            table = [sum(planes[k][d] << 8 * k for k in range(4)) for d in range(256)]
            sent = 0
            results: list[int] = []
            while len(results) < len(run):
                ctx.set(unit.elements.valid, sent < PASSES * len(run) and rng.random() >= busy_lanes)
                ctx.set(unit.elements.payload.value, run[sent % len(run)])
                ctx.set(unit.elements.payload.last, (sent + 1) % len(run) == 0)
                ctx.set(lanes.first.valid, rng.random() < busy_lanes)
                _, _, valid, ready, enable, index, stored, result = await ctx.tick().sample(
                    unit.elements.valid,
                    unit.elements.ready,
                    unit.table_enable,
                    unit.table_index,
                    lanes.second_valid & unit.storing,
                    lanes.results[0],
                )
                sent += valid and ready
                if enable:
                    ctx.set(unit.table_entry, table[index])
                if stored:
                    results.append(result)
            assert results == softmax_of(run, planes)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_add_is_goldens():
    rng = np.random.default_rng(12)
    memory = rng.integers(0, 256, SIZE, np.uint8).tobytes()
    shape = (1, 5, 20)
    int8 = TensorType(8, True)
    first, second, output = (
        Tensor(name, shape, int8, None, zero) for name, zero in (("a", 5), ("b", -128), ("c", 9))
    )
    layers, commands = [], []
    for kind, operation, destination in ((Add, Operation.ADD, 500), (Sub, Operation.SUBTRACT, 700)):
        layer = kind(
            name="layer", inputs=("a", "b"), output="c", left_shift=20, low=-100, high=127,
            first=FixedPointScale(1073741824, 0, True), second=FixedPointScale(1957361562, -3, True),
            total=FixedPointScale(1234567890, -18, True),
        )  # fmt: skip
        layers.append((layer, destination))
        commands.append(dict(
            operation=operation, channels=100, a_source=100, b_source=300, destination=destination,
            a_zero_point=5, b_zero_point=-128, a_multiplier=1073741824, b_multiplier=1957361562, b_shift=3,
            multiplier=1234567890, exponent=-18, double=1, zero_point=9, low=-100, high=127,
        ))  # fmt: skip
    run = check(MACHINES["4 of 16"], memory, commands)
    values = np.frombuffer(memory, np.int8)
    a, b = (values[place : place + 100].reshape(shape) for place in (100, 300))
    for layer, destination in layers:
        wanted = golden_elementwise.add(layer, a, b, (first, second), output).reshape(-1)
        assert (np.frombuffer(run.memory, np.int8)[destination : destination + 100] == wanted).all()


@pytest.mark.parametrize(
    "fields",
    [
        dict(operation=6),
        dict(operation=7),
        dict(operation=Operation.LOAD_TABLE, pixels=2, channels=256),
        dict(operation=Operation.LOAD_TABLE, pixels=4, channels=255),
        dict(operation=Operation.SOFTMAX, channels=4096),
        dict(operation=Operation.SOFTMAX, channels=(1 << 23) + 5),
    ],
)
def test_refuses(fields):
    memory = random_bytes(13)
    commands = [command(operation=Operation.LOAD_TABLE, channels=256), command(**fields)]
    run = simulate(MACHINES["2 of 8"], memory, commands)
    assert run.fault == 1001
    assert len(run.done) == 1
    assert len(run.read) == 256 // 8
    assert not run.written


@pytest.mark.parametrize("name", MACHINES)
def test_throughput(name):
    """A step a cycle once the pipeline is filled, also where the lanes are taken now and then; short gaps between."""
    config = MACHINES[name]
    lanes = 1 << (config.rescale_lanes.bit_length() - 1)
    memory = random_bytes(14)
    elements = 24 * config.vector_lanes
    places = dict(channels=elements, b_source=700)
    add = dict(operation=Operation.ADD, a_multiplier=1 << 30, multiplier=1 << 30)
    lookup = dict(operation=Operation.LOOKUP)
    run = check(config, memory, [fields | places for fields in (lookup, lookup, add, add)])
    _, looked_up, added, added_again = (cycle for cycle, _, _ in run.done)
    steps = elements // lanes
    assert looked_up - run.done[0][0] <= steps + 12
    # From the first read to the last write lie 23 cycles more.
    assert added_again - added <= max(steps, 2 * elements // config.vector_lanes) + 27
    begun = next(cycle for cycle in run.worked if cycle > added)
    assert begun - added <= 15


def test_cycles_of_softmax():
    memory = bytearray(random_bytes(15))
    load = exponentials(memory)
    shapes = ((1, 12), (2, 12), (1, 52))
    commands = [
        dict(operation=Operation.SOFTMAX, pixels=pixels, channels=channels, a_source=1024, destination=1500)
        for pixels, channels in shapes
    ]
    run = check(MACHINES["4 of 16"], memory, [load, *commands])
    ends = [cycle for cycle, _, _ in run.done]
    one, two, longer = (end - start for start, end in itertools.pairwise(ends))
    assert one <= 8 * 12 + 120
    assert two - one <= 8 * 12 + 120
    assert longer - one <= 8 * 40


def test_needs_affine():
    with pytest.raises(ValueError, match=r"^`config.rescales` must have affine, not sbnq alone$"):
        Elementwise(AcceleratorConfig.load("sbnq8x8"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 16), "`count` must be an integer from 1 to 256, not 0"),
        ((4, 0, 16), "`readers` must be an integer from 1 to 256, not 0"),
        ((4, 4, 12), "`lanes` must be a power of two, not 12"),
        ((4, 4, 256), "`lanes` must be an integer from 2 to 128, not 256"),
    ],
)
def test_bad_tables(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Tables(*arguments)
