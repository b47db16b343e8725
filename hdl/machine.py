"""The machine: the core behind its buses, registers, counters and the handling of faults."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import Out

from intaglio.hdl.bus.axi import AXI4LiteSignature, AXI4Signature, pass_through
from intaglio.hdl.bus.axi_read import READABLE, ReadMaster
from intaglio.hdl.bus.axi_write import WRITABLE, WriteMaster
from intaglio.hdl.bus.registers import Registers
from intaglio.hdl.core import READERS, Core
from intaglio.hdl.storage.memory import SyncMemory
from intaglio.hdl.storage.scratchpad import address_bits
from intaglio.spec.commands import Engine
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS, REGISTER_BITS, WEIGHTS_QUEUE_DEPTH
from intaglio.spec.registers import BUS_CACHE_SHIFT, REGION_REGISTERS, Cause

__all__ = ["Machine"]

_BURST_BEATS = 32


class _State(enum.Enum, shape=2):
    IDLE = 0
    SETTLE = 1
    RUN = 2
    FLUSH = 3


class Machine(wiring.Component):
    """An accelerator for the networks that its configuration fits (`docs/architecture.md`).

    Parameters
    ----------
    config : AcceleratorConfig
    probes : bool
        Whether it has ports ``probe_*``, from which a simulation reads what is written on chip and what completes.

    Members
    -------
    irq : Out(1)
    s_axil : Out(AXI4LiteSignature)
        The registers; the machine is the slave.
    m_axi : Out(AXI4Signature)
        Memory.
    probe_* : Out
        Only with `probes`.

    Raises
    ------
    TypeError
        If `config` is of another type.
    """

    def __init__(self, config: AcceleratorConfig, probes: bool = False) -> None:
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"`config` must be an AcceleratorConfig, not {config!r}")
        self._config = config
        self._core = Core(config, probes)
        self._registers = Registers(config)
        bits = config.bus_bits
        self._reader = ReadMaster(
            len(READERS), (config.command_beats, _BURST_BEATS, _BURST_BEATS), 8, config.address_bits, bits
        )
        self._writer = WriteMaster(_BURST_BEATS, 8, config.address_bits, bits)
        self._has_probes = probes
        super().__init__(
            {
                "irq": Out(1),
                "s_axil": Out(AXI4LiteSignature()),
                "m_axi": Out(AXI4Signature(config.address_bits, bits)),
                **(self._probes() if probes else {}),
            }
        )

    def _probes(self) -> dict[str, wiring.Member]:
        core = self._core.signature.members
        config = self._config
        return {
            **{name: core[name] for name in ("probe_done", "probe_write_valid", "probe_write_engine")},
            "probe_write_address": Out(address_bits(config)),
            "probe_write_mask": Out(config.vector_lanes),
            "probe_write_data": Out(config.vector_lanes * config.element_bits),
        }

    def elaborate(self, platform) -> Module:
        m = Module()
        # Left as it is: synthesis would make one register of a state and of what is said of it below.
        state = Signal(_State, attrs={"fsm_encoding": "none"})
        # Registers of their own, since much hangs on each: whether the state is not IDLE; is RUN; is not RUN.
        busy = Signal()
        running, flush = Signal(), Signal(init=1)
        m.submodules.registers = registers = self._registers
        m.submodules.reader = reader = self._reader
        m.submodules.writer = writer = self._writer
        core = self._core
        m.submodules.core = ResetInserter(~running)(core)

        pass_through(m, registers.bus, self.s_axil)
        for index in range(len(READERS)):
            wiring.connect(m, core.readers[index], reader.clients[index])
        wiring.connect(m, core.write_transfer, writer.transfer)
        m.d.comb += [
            writer.data.valid.eq(core.write_beats.valid),
            writer.data.payload.data.eq(core.write_beats.payload),
            core.write_beats.ready.eq(writer.data.ready),
            core.command_offset.eq(registers.command_offset),
            core.command_count.eq(registers.command_count),
            core.written.eq(writer.done),
            reader.flush.eq(flush),
            writer.flush.eq(flush),
            self.irq.eq(registers.irq),
            registers.busy.eq(busy),
        ]
        pass_through(m, reader.bus, self.m_axi)
        pass_through(m, writer.bus, self.m_axi)
        begin = Signal()
        self._grant(m, begin)
        with m.If(registers.finish):
            m.d.sync += busy.eq(0)
        with m.Elif(registers.start):
            m.d.sync += busy.eq(1)
        self._run(m, state, running, flush, begin)
        self._count(m, busy)
        self._mark(m)
        if self._has_probes:
            m.d.comb += [
                self.probe_done.eq(core.probe_done),
                self.probe_write_valid.eq(core.probe_write_valid & running),
                self.probe_write_engine.eq(core.probe_write_engine),
                self.probe_write_address.eq(core.probe_write.address),
                self.probe_write_mask.eq(core.probe_write.mask),
                self.probe_write_data.eq(core.probe_write.data),
            ]
        return m

    def _grant(self, m: Module, begin: Signal) -> None:
        """What the host says of memory to the masters. What the bus is told beside an address is taken as a run begins:
        an address that an earlier run left there keeps what it was offered with [AXI: A3.2.1]."""
        registers = self._registers
        attributes = Signal(REGISTER_BITS)
        with m.If(begin):
            m.d.sync += attributes.eq(registers.bus_attributes)
        for master, regions in ((self._reader, READABLE), (self._writer, WRITABLE)):
            m.d.comb += [
                master.protection.eq(attributes),
                master.cache.eq(attributes >> BUS_CACHE_SHIFT),
            ]
            for region in regions:
                base, high, limit = (
                    getattr(registers, word.name.lower()) for word in REGION_REGISTERS[region]
                )
                m.d.comb += [
                    getattr(master, f"{region.name.lower()}_base").eq(Cat(base, high)),
                    getattr(master, f"{region.name.lower()}_limit").eq(limit),
                ]

    def _run(self, m: Module, state: Signal, running: Signal, flush: Signal, begin: Signal) -> None:
        """A run from its start to its end."""
        core, registers = self._core, self._registers
        quiet = self._reader.idle & self._writer.idle
        stop, stuck = self._stop(m, state)
        end = Signal()
        with m.Switch(state):
            with m.Case(_State.IDLE):
                with m.If(registers.start):
                    m.d.comb += begin.eq(quiet)
                    m.d.sync += state.eq(_State.SETTLE)
            with m.Case(_State.SETTLE):
                # An earlier run ended while the bus still owed it responses, which must not reach this one.
                with m.If(stop):
                    m.d.comb += registers.finish.eq(1)
                    m.d.sync += state.eq(_State.IDLE)
                with m.Elif(quiet):
                    m.d.comb += begin.eq(1)
            with m.Case(_State.RUN):
                m.d.comb += end.eq(stop | core.finished)
            with m.Case(_State.FLUSH):
                # Bursts that were promised on the bus are completed before the interrupt, if the bus answers at all.
                with m.If(quiet | stuck):
                    m.d.comb += registers.finish.eq(1)
                    m.d.sync += state.eq(_State.IDLE)
        with m.If(begin):
            m.d.sync += [state.eq(_State.RUN), running.eq(1), flush.eq(0)]
        with m.If(end):
            m.d.sync += [state.eq(_State.FLUSH), running.eq(0), flush.eq(1)]

    def _stop(self, m: Module, state: Signal) -> tuple[Value, Value]:
        """Whatever stops a run, as one fault: the bus's, the core's, the watchdog's, the host's; and the watchdog."""
        core, reader, writer, registers = self._core, self._reader, self._writer, self._registers
        waited = Signal(REGISTER_BITS)
        stuck = Signal()
        progress = core.progress | reader.progress | writer.progress
        m.d.sync += waited.eq(Mux((state == _State.IDLE) | progress, 0, waited + 1))
        m.d.comb += stuck.eq((registers.watchdog != 0) & (waited >= registers.watchdog))
        fault = registers.fault
        with m.If(stuck):
            m.d.comb += fault.payload.cause.eq(Cause.WATCHDOG)
        with m.If(registers.abort):
            m.d.comb += fault.payload.cause.eq(Cause.ABORTED)
        found = stuck | registers.abort
        for source in (core.fault, writer.fault, reader.fault):
            with m.If(source.valid):
                m.d.comb += fault.payload.eq(source.payload)
            found = found | source.valid
        m.d.comb += fault.valid.eq(
            ((state == _State.RUN) & found) | ((state == _State.SETTLE) & (stuck | registers.abort))
        )
        return fault.valid, stuck

    def _count(self, m: Module, working: Value) -> None:
        """Counters begin at 0 with a start and keep their value after the run."""
        core, registers = self._core, self._registers
        events = {
            "cycles": working,
            "overflows": core.overflows,
            "read_beats": self._reader.beat,
            "write_beats": self._writer.beat,
            **{f"busy_{engine.name.lower()}": core.busy[engine] for engine in Engine},
        }
        for name, amount in events.items():
            counter = Signal(REGISTER_BITS, name=f"count_{name}")
            m.d.comb += getattr(registers, name).eq(counter)
            with m.If(registers.start):
                m.d.sync += counter.eq(0)
            with m.Elif(working):
                m.d.sync += counter.eq(counter + amount)

    def _mark(self, m: Module) -> None:
        """Time stamps of the marked commands, in the order in which they complete; the last place is overwritten.

        Taken a cycle after the completion, and of several in one cycle, each a cycle after the other.
        """
        registers = self._registers
        m.submodules.marks = marks = SyncMemory(REGISTER_BITS, MARKS)
        place = Signal(range(MARKS))
        late = Signal(range(len(Engine) * (WEIGHTS_QUEUE_DEPTH + 4)))
        """Marked commands without their time stamp: no more than the engines and their queues hold."""
        due = Signal(range(len(Engine) * (WEIGHTS_QUEUE_DEPTH + 5)))
        m.d.comb += [
            due.eq(late + self._core.marks),
            marks.write_enable.eq(due != 0),
            marks.write_address.eq(place),
            marks.write_data.eq(registers.cycles),
            marks.read_enable.eq(registers.mark_enable),
            marks.read_address.eq(registers.mark_address),
            registers.mark_data.eq(marks.read_data),
        ]
        with m.If(registers.start):
            m.d.sync += [place.eq(0), late.eq(0)]
        with m.Elif(due != 0):
            m.d.sync += late.eq(due - 1)
            with m.If(place != MARKS - 1):
                m.d.sync += place.eq(place + 1)
