"""The core: dispatcher, engines and memories, without the buses. It is held in reset between runs."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.bus.axi import FaultSignature
from intaglio.hdl.bus.axi_read import UNBOUNDED_SPACE, ReadClientSignature
from intaglio.hdl.bus.axi_write import WRITE_TRANSFER
from intaglio.hdl.engines.affine_lanes import AffineLanes
from intaglio.hdl.engines.dispatcher import Dispatcher
from intaglio.hdl.engines.elementwise import Elementwise
from intaglio.hdl.engines.matmul import Matmul
from intaglio.hdl.engines.pool import Pool
from intaglio.hdl.engines.rescale import Rescale
from intaglio.hdl.engines.transfer import Load, Store, Weights
from intaglio.hdl.storage.scratchpad import Scratchpad, write_signature
from intaglio.hdl.storage.weight_stream import WeightStream
from intaglio.spec.commands import FORMATS, Engine
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS, MEMORY_ADDRESS_BITS
from intaglio.spec.registers import Cause

__all__ = ["READERS", "Core"]

_READERS = (Engine.MATMUL, Engine.POOL, Engine.STORE, Engine.ELEMENTWISE)
"""Engines that read the scratchpad."""
_WRITERS = (Engine.RESCALE, Engine.ELEMENTWISE, Engine.POOL, Engine.LOAD)
"""Engines that write it; the first never waits."""
_REFUSING = (Engine.WEIGHTS, Engine.MATMUL, Engine.RESCALE, Engine.ELEMENTWISE)
"""Engines that can still reject a dispatched command."""
READERS = ("commands", "load", "weights")
"""What reads memory, the most urgent first: weights are read far ahead of their use."""
WEIGHT_BEATS_IN_FLIGHT = 64
"""Of weights, what is asked for and has not come: enough that the bus is never idle, and no more for the others to wait
behind."""


class Core(wiring.Component):
    """Runs the `command_count` commands at `command_address`.

    Parameters
    ----------
    config : AcceleratorConfig
    probes : bool
        Whether it has the ports ``probe_*``.

    Members
    -------
    command_address, command_count : In
    readers : Out(ReadClientSignature) array, by READERS
    write_transfer, write_beats, written : the write master's
    fault : Out(FaultSignature)
        A command cannot be run.
    finished : Out(1)
        All commands are complete.
    marks : Out(range(number of engines + 1))
        Marked commands that completed in the cycle before.
    progress : Out(1)
        Something moved on chip.
    busy : Out(number of engines)
    overflows : Out
        Accumulator overflows of this cycle.
    probe_done, probe_write_valid, probe_write_engine, probe_write : Out
        Only with `probes`: what completes and what is written, for a simulation to watch.
    """

    def __init__(self, config: AcceleratorConfig, probes: bool = False) -> None:
        self._config = config
        self._has_probes = probes
        watched = {
            "probe_done": Out(len(Engine)),
            "probe_write_valid": Out(1),
            "probe_write_engine": Out(range(len(Engine))),
            "probe_write": Out(write_signature(config).members["payload"].shape),
        }
        super().__init__(
            {
                "command_address": In(MEMORY_ADDRESS_BITS),
                "command_count": In(COMMAND_INDEX_BITS),
                "readers": Out(ReadClientSignature(config.bus_bits)).array(len(READERS)),
                "write_transfer": Out(stream.Signature(WRITE_TRANSFER)),
                "write_beats": Out(stream.Signature(config.bus_bits)),
                "written": In(1),
                "fault": Out(FaultSignature()),
                "finished": Out(1),
                "marks": Out(range(len(Engine) + 1)),
                "progress": Out(1),
                "busy": Out(len(Engine)),
                "overflows": Out(range(config.columns + config.rescale_lanes + 1)),
                **(watched if probes else {}),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.load = load = Load(config)
        m.submodules.weights = weights = Weights(config.bus_bits)
        m.submodules.weight_stream = weight_stream = WeightStream(config)
        m.submodules.matmul = matmul = Matmul(config)
        m.submodules.rescale = rescale = Rescale(config)
        m.submodules.pool = pool = Pool(config)
        m.submodules.store = store = Store(config)
        engines: dict[Engine, Any] = {
            Engine.LOAD: load,
            Engine.WEIGHTS: weights,
            Engine.MATMUL: matmul,
            Engine.RESCALE: rescale,
            Engine.POOL: pool,
            Engine.STORE: store,
        }
        if config.affine:
            engines[Engine.ELEMENTWISE] = self._elementwise(m, rescale)
        writers = tuple(engine for engine in _WRITERS if engine in engines)
        scratchpad = self._scratchpad(m, engines, writers)
        dispatcher = self._dispatch(m, engines)
        self._weights(m, weights, weight_stream, matmul, rescale)
        self._buses(m, dispatcher, weights, weight_stream, load, store)
        self._faults(m, dispatcher, [unit for engine, unit in engines.items() if engine in _REFUSING])
        self._watch(m, dispatcher, scratchpad, writers)
        m.d.comb += self.overflows.eq(matmul.overflows + rescale.overflows)
        return m

    def _scratchpad(self, m: Module, engines: dict[Engine, Any], writers: tuple[Engine, ...]) -> Scratchpad:
        """The scratchpad, connected to the engines that read and write it."""
        readers = [engines[engine] for engine in _READERS if engine in engines]
        m.submodules.scratchpad = scratchpad = Scratchpad(self._config, len(readers), len(writers))
        for index, reader in enumerate(readers):
            wiring.connect(m, reader.read, scratchpad.read[index])
            m.d.comb += reader.data.eq(scratchpad.data)
        for index, engine in enumerate(writers):
            wiring.connect(m, engines[engine].write, scratchpad.write[index])
        return scratchpad

    def _dispatch(self, m: Module, engines: dict[Engine, Any]) -> Dispatcher:
        """The dispatcher, the engines' commands, and what it is told of their completion."""
        opcodes = {code: entry.engine for code, entry in FORMATS.items() if entry.engine in engines}
        m.submodules.dispatcher = dispatcher = Dispatcher(tuple(opcodes), self._config.bus_bits)
        for opcode, engine in opcodes.items():
            wiring.connect(m, getattr(dispatcher, opcode.name.lower()), engines[engine].command)
        m.d.comb += [
            dispatcher.address.eq(self.command_address),
            dispatcher.count.eq(self.command_count),
            self.finished.eq(dispatcher.finished),
            self.marks.eq(dispatcher.marks),
        ]
        for name, bits in (
            ("done", dispatcher.done),
            ("done_mark", dispatcher.done_mark),
            ("busy", self.busy),
        ):
            m.d.comb += bits.eq(
                Cat(getattr(engines[engine], name) if engine in engines else Const(0, 1) for engine in Engine)
            )
        return dispatcher

    def _weights(self, m, weights, weight_stream, matmul, rescale) -> None:
        """Weights to the array, and the rescale's parameters, which arrive between them."""
        wiring.connect(m, weights.o, weight_stream.i)
        wiring.connect(m, weight_stream.tiles, matmul.weights)
        m.d.comb += [
            weight_stream.started.eq(matmul.started),
            weight_stream.started_bank.eq(matmul.started_bank),
            matmul.parameters_loaded.eq(weight_stream.loaded),
            matmul.read_enable.eq(rescale.read_enable),
            matmul.read_bank.eq(rescale.read_bank),
            matmul.read_address.eq(rescale.read_address),
            weight_stream.read_enable.eq(rescale.read_enable),
            weight_stream.read_slot.eq(rescale.read_bank),
            weight_stream.read_group.eq(rescale.read_group),
            rescale.totals.eq(matmul.read_data),
            rescale.parameters.eq(weight_stream.parameters),
        ]

    def _elementwise(self, m: Module, rescale: Rescale) -> Elementwise:
        """The elementwise engine, and the lanes that it shares with the rescale."""
        m.submodules.elementwise = elementwise = Elementwise(self._config)
        m.submodules.lanes = lanes = AffineLanes(self._config.rescale_lanes)
        wiring.connect(m, rescale.work, lanes.first)
        wiring.connect(m, elementwise.work, lanes.second)
        m.d.comb += [
            lanes.first_idle.eq(rescale.work_idle),
            rescale.results.eq(lanes.results),
            elementwise.results.eq(lanes.results),
            elementwise.result_valid.eq(lanes.second_valid),
        ]
        return elementwise

    def _buses(self, m, dispatcher, weights, weight_stream, load, store) -> None:
        """The engines' transfers and beats."""
        for_weights = Signal(range(WEIGHT_BEATS_IN_FLIGHT + 1))
        m.d.comb += for_weights.eq(
            Mux(weight_stream.space < WEIGHT_BEATS_IN_FLIGHT, weight_stream.space, WEIGHT_BEATS_IN_FLIGHT)
        )
        for port, (source, beats, space) in zip(
            self.readers,
            (
                (dispatcher, dispatcher.beats, dispatcher.space),
                (load, load.beats, UNBOUNDED_SPACE),
                (weights, weights.beats, for_weights),
            ),
            strict=True,
        ):
            wiring.connect(m, source.transfer, wiring.flipped(port.transfer))
            wiring.connect(m, wiring.flipped(port.data), beats)
            m.d.comb += port.space.eq(space)
        wiring.connect(m, store.transfer, wiring.flipped(self.write_transfer))
        wiring.connect(m, store.beats, wiring.flipped(self.write_beats))
        m.d.comb += store.written.eq(self.written)

    def _faults(self, m, dispatcher, engines) -> None:
        """One fault a cycle. Where an engine and the dispatcher both have one, the engine's command is the older. What
        is refused stays so; nobody hurries to hear of it."""
        m.d.sync += [
            self.fault.valid.eq(dispatcher.fault | Cat(engine.fault for engine in engines).any()),
            self.fault.payload.cause.eq(dispatcher.fault_cause),
            self.fault.payload.command.eq(dispatcher.fault_command),
        ]
        for engine in engines:
            with m.If(engine.fault):
                m.d.sync += [
                    self.fault.payload.cause.eq(Cause.ILLEGAL_FIELD),
                    self.fault.payload.command.eq(engine.fault_command),
                ]

    def _watch(self, m, dispatcher, scratchpad, writers) -> None:
        """Probes, and whether anything moved."""
        written = Cat(port.valid & port.ready for port in scratchpad.write)
        m.d.comb += self.progress.eq(
            written.any()
            | Cat(port.valid & port.ready for port in scratchpad.read).any()
            | dispatcher.done.any()
        )
        if not self._has_probes:
            return
        m.d.comb += [self.probe_done.eq(dispatcher.done), self.probe_write_valid.eq(written.any())]
        for index, engine in reversed(list(enumerate(writers))):
            with m.If(scratchpad.write[index].valid):
                m.d.comb += [
                    self.probe_write_engine.eq(engine.value),
                    self.probe_write.eq(scratchpad.write[index].payload),
                ]
