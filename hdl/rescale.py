"""The RESCALE engine: drains an accumulator bank through the rescale lanes into the scratchpad."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl import isa
from hdl.command import COMMAND_INDEX_BITS, command_signature
from hdl.config import AcceleratorConfig
from hdl.saturate import clamp
from hdl.sbnq import SBNQ
from hdl.scratchpad import address_bits, write_signature

__all__ = ["Rescale"]


class Rescale(wiring.Component):
    """Runs RESCALE commands: ``rescale_lanes`` channels of a position a cycle.

    Throughput: columns / rescale_lanes cycles a position; groups of lanes past the last channel are left out.
    Nothing stalls it: it is the scratchpad's first writer.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
    read_enable, read_bank, read_address, read_group : Out
        A read of the accumulators' bank and of the parameters' slot of the same number.
    totals, parameters : In
        What they hold, one cycle later.
    write : Out(write_signature)
    done, done_mark : Out(1)
        The last vector of a command is being written.
    fault, fault_command : Out
        The command names more positions or channels than there are.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._groups = config.columns // config.rescale_lanes
        super().__init__(
            {
                "command": In(command_signature(isa.Opcode.RESCALE_SBNQ)),
                "read_enable": Out(1),
                "read_bank": Out(1),
                "read_address": Out(range(config.accumulator_depth)),
                "read_group": Out(range(max(self._groups, 2))),
                "totals": In(config.columns * config.accumulator_bits),
                "parameters": In(config.rescale_lanes * config.record_bits),
                "write": Out(write_signature(config)),
                "done": Out(1),
                "done_mark": Out(1),
                "fault": Out(1),
                "fault_command": Out(COMMAND_INDEX_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        command = self.command.payload
        body = command.body
        position = Signal(16)
        channel = Signal(range(config.columns + config.rescale_lanes))
        pixel = Signal(address_bits(config))
        legal = (body.positions <= config.accumulator_depth) & (body.channels <= config.columns)
        go = Signal()
        channels_last = channel + config.rescale_lanes >= body.channels
        last = channels_last & (position + 1 == body.positions)
        m.d.comb += [
            go.eq(self.command.valid & legal),
            self.fault.eq(self.command.valid & ~legal),
            self.fault_command.eq(command.index),
            self.busy.eq(self.command.valid),
            self.command.ready.eq(go & last),
            self.read_enable.eq(go),
            self.read_bank.eq(body.bank),
            self.read_address.eq(position),
        ]
        group = Signal(range(max(self._groups, 2)))
        m.d.comb += self.read_group.eq(group)
        with m.If(go):
            m.d.sync += [
                channel.eq(Mux(channels_last, 0, channel + config.rescale_lanes)),
                group.eq(Mux(channels_last, 0, group + 1)),
            ]
            with m.If(channels_last):
                m.d.sync += [
                    position.eq(Mux(last, 0, position + 1)),
                    pixel.eq(Mux(last, 0, pixel + body.pixel_pitch)),
                ]

        asked = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "last": 1,
                    "mark": 1,
                    "group": group.shape(),
                    "relu": 1,
                    "signed": 1,
                    "low": signed(10),
                    "high": signed(10),
                    "mask": config.vector_lanes,
                    "address": address_bits(config),
                }
            )
        )
        m.d.comb += [
            asked.valid.eq(go),
            asked.last.eq(go & last),
            asked.mark.eq(command.mark),
            asked.group.eq(group),
            asked.relu.eq(body.relu),
            asked.signed.eq(body.signed),
            asked.low.eq(body.low),
            asked.high.eq(body.high),
            asked.address.eq(body.destination + pixel + channel),
            asked.mask.eq(Cat(channel + lane < body.channels for lane in range(config.rescale_lanes))),
        ]
        read = _delayed(m, asked, 1, "read")
        results, latency = self._lanes(m, read)
        rescaled = _delayed(m, read, latency, "rescaled")

        # The range of a type that is narrower than an element, or of an activation function.
        bits = self._config.element_bits
        limited = []
        for lane, result in enumerate(results):
            value = Cat(result, (result[-1] & rescaled.signed).replicate(2)).as_signed()
            held = Signal(bits, name=f"limited_{lane}")
            m.d.sync += held.eq(
                clamp(value, rescaled.low[: bits + 2].as_signed(), rescaled.high[: bits + 2].as_signed())
            )
            limited.append(held)
        done = _delayed(m, rescaled, 1, "limited")
        m.d.comb += [
            self.write.valid.eq(done.valid),
            self.write.payload.address.eq(done.address),
            self.write.payload.mask.eq(done.mask),
            self.write.payload.data.eq(Cat(limited)),
            self.done.eq(done.last),
            self.done_mark.eq(done.mark),
        ]
        return m

    def _lanes(self, m: Module, read: data.View) -> tuple[list[Value], int]:
        """The rescale units side by side: their results, and the cycles they take."""
        config = self._config
        results = []
        for lane in range(config.rescale_lanes):
            unit = SBNQ(config.accumulator_bits, config.element_bits, config.bias_bits)
            m.submodules[f"lane_{lane}"] = unit
            record = self.parameters.word_select(lane, config.record_bits)
            total = Value.cast(self.totals).word_select(
                read.group * config.rescale_lanes + lane, config.accumulator_bits
            )
            m.d.comb += [
                unit.i.valid.eq(read.valid),
                unit.i.payload.accumulator.eq(total),
                unit.i.payload.bias.eq(record[: config.bias_bits]),
                unit.i.payload.shift.eq(record[config.bias_bits : config.bias_bits + 6]),
                unit.i.payload.relu.eq(read.relu),
                unit.i.payload.signed.eq(read.signed),
                unit.o.ready.eq(1),
            ]
            results.append(unit.o.payload)
        return results, unit.latency


def _delayed(m: Module, value: data.View, cycles: int, name: str) -> data.View:
    """`value` some cycles later."""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle}")
        m.d.sync += later.eq(value)
        value = later
    return value
