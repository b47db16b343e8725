"""The core: dispatcher, engines and memories, without the buses. It is held in reset between runs."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl import isa
from hdl.command import COMMAND_INDEX_BITS
from hdl.config import AcceleratorConfig
from hdl.dispatcher import Dispatcher
from hdl.matmul import Matmul
from hdl.pool import Pool
from hdl.rescale import Rescale
from hdl.scratchpad import Scratchpad, write_signature
from hdl.transfer import (
    Load,
    Store,
    Weights,
    read_beat_layout,
    read_transfer_layout,
    write_transfer_layout,
)
from hdl.weights import WeightStream

__all__ = ["READERS", "Core", "fault_layout", "read_client_signature"]

READERS = ("commands", "weights", "load")
"""Who reads memory."""


def fault_layout() -> data.StructLayout:
    """Why a run stops, at which command, and the address in memory if there is one."""
    return data.StructLayout({"cause": isa.Cause, "command": COMMAND_INDEX_BITS, "address": 32})


def read_client_signature() -> wiring.Signature:
    """What a reader of memory has: transfers out, beats in, and how many it has room for."""
    return wiring.Signature(
        {
            "transfer": Out(stream.Signature(read_transfer_layout())),
            "space": Out(16),
            "data": In(stream.Signature(read_beat_layout())),
        }
    )


class Core(wiring.Component):
    """Runs the `command_count` commands at `command_address`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command_address, command_count : In(32)
    readers : Out(read_client_signature) array, by READERS
    write_transfer, write_beats, written : the write master's
    fault_valid, fault : Out
        A command cannot be run.
    finished : Out(1)
        All commands are complete.
    mark : Out(1)
        A marked command completes.
    progress : Out(1)
        Something moved on chip.
    busy : Out(number of engines)
    overflows : Out
        Accumulator overflows of this cycle.
    tap_done, tap_write : Out
        What completes and what is written, for whoever watches a simulation.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command_address": In(32),
                "command_count": In(32),
                "readers": Out(read_client_signature()).array(len(READERS)),
                "write_transfer": Out(stream.Signature(write_transfer_layout())),
                "write_beats": Out(stream.Signature(64)),
                "written": In(1),
                "fault_valid": Out(1),
                "fault": Out(fault_layout()),
                "finished": Out(1),
                "mark": Out(1),
                "progress": Out(1),
                "busy": Out(len(isa.Engine)),
                "overflows": Out(range(config.columns + 1)),
                "tap_done": Out(len(isa.Engine)),
                "tap_write_valid": Out(1),
                "tap_write_engine": Out(3),
                "tap_write": Out(write_signature(config).members["payload"].shape),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.dispatcher = dispatcher = Dispatcher()
        m.submodules.load = load = Load(config)
        m.submodules.weights = weights = Weights()
        m.submodules.weight_stream = weight_stream = WeightStream(config)
        m.submodules.matmul = matmul = Matmul(config)
        m.submodules.rescale = rescale = Rescale(config)
        m.submodules.pool = pool = Pool(config)
        m.submodules.store = store = Store(config)
        readers = (matmul, pool, store)
        writers = {isa.Engine.RESCALE: rescale, isa.Engine.POOL: pool, isa.Engine.LOAD: load}
        m.submodules.scratchpad = scratchpad = Scratchpad(config, len(readers), len(writers))

        for engine, opcode in (
            (load, isa.Opcode.LOAD),
            (weights, isa.Opcode.WEIGHTS),
            (matmul, isa.Opcode.MATMUL),
            (rescale, isa.Opcode.RESCALE_SBNQ),
            (pool, isa.Opcode.MAX_POOL),
            (store, isa.Opcode.STORE),
        ):
            wiring.connect(m, getattr(dispatcher, opcode.name.lower()), engine.command)
        for index, reader in enumerate(readers):
            wiring.connect(m, reader.read, scratchpad.read[index])
            m.d.comb += reader.data.eq(scratchpad.data)
        for index, writer in enumerate(writers.values()):
            wiring.connect(m, writer.write, scratchpad.write[index])

        m.d.comb += [
            dispatcher.address.eq(self.command_address),
            dispatcher.count.eq(self.command_count),
            self.finished.eq(dispatcher.finished),
            self.mark.eq(dispatcher.mark),
        ]
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
            self.overflows.eq(matmul.overflows),
        ]
        self._buses(m, dispatcher, weights, weight_stream, load, store)

        engines = {
            isa.Engine.LOAD: load,
            isa.Engine.WEIGHTS: weights,
            isa.Engine.MATMUL: matmul,
            isa.Engine.RESCALE: rescale,
            isa.Engine.POOL: pool,
            isa.Engine.STORE: store,
        }
        m.d.comb += [
            dispatcher.done.eq(Cat(engines[engine].done for engine in isa.Engine)),
            dispatcher.done_mark.eq(Cat(engines[engine].done_mark for engine in isa.Engine)),
            self.busy.eq(Cat(engines[engine].busy for engine in isa.Engine)),
        ]
        self._faults(m, dispatcher, (weights, matmul, rescale))
        self._watch(m, dispatcher, scratchpad, tuple(writers))
        return m

    def _buses(self, m, dispatcher, weights, weight_stream, load, store) -> None:
        """The engines' transfers and beats."""
        for port, (source, beats, space) in zip(
            self.readers,
            (
                (dispatcher, dispatcher.beats, dispatcher.space),
                (weights, weights.beats, weight_stream.space),
                (load, load.beats, 0xFFFF),
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
        """The first of those that refuse something in this cycle; an engine's command is the older one."""
        m.d.comb += [
            self.fault_valid.eq(dispatcher.fault | Cat(engine.fault for engine in engines).any()),
            self.fault.cause.eq(dispatcher.fault_cause),
            self.fault.command.eq(dispatcher.fault_command),
        ]
        for engine in engines:
            with m.If(engine.fault):
                m.d.comb += [
                    self.fault.cause.eq(isa.Cause.ILLEGAL_FIELD),
                    self.fault.command.eq(engine.fault_command),
                ]

    def _watch(self, m, dispatcher, scratchpad, writers) -> None:
        """Taps and the sign of life."""
        written = Cat(port.valid & port.ready for port in scratchpad.write)
        m.d.comb += [
            self.tap_done.eq(dispatcher.done),
            self.tap_write_valid.eq(written.any()),
            self.progress.eq(
                written.any() | Cat(port.valid & port.ready for port in scratchpad.read).any() | dispatcher.done.any()
            ),
        ]
        for index, engine in reversed(list(enumerate(writers))):
            with m.If(scratchpad.write[index].valid):
                m.d.comb += [
                    self.tap_write_engine.eq(engine.value),
                    self.tap_write.eq(scratchpad.write[index].payload),
                ]
