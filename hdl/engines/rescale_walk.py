"""The order in which the RESCALE engine reads a bank and writes the scratchpad."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.command import body_layout, command_signature
from intaglio.hdl.engines.last_turn import last_turn
from intaglio.hdl.storage.scratchpad import address_bits
from intaglio.spec.commands import Opcode, Scheme
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS

__all__ = ["RescaleWalk", "group_shape"]

_CARRIED = ("scheme", "relu", "double", "signed", "wide", "zero_point", "low", "high")


def group_shape(config: AcceleratorConfig) -> range:
    """Numbers of the groups of `rescale_lanes` channels."""
    return range(max(config.columns // config.rescale_lanes, 2))


def _asked_layout(config: AcceleratorConfig) -> data.StructLayout:
    body = body_layout(Opcode.RESCALE)
    return data.StructLayout(
        {
            "valid": 1,
            "last": 1,
            "mark": 1,
            "group": group_shape(config),
            "mask": config.vector_lanes,
            "address": address_bits(config),
            **{name: body[name].shape for name in _CARRIED},
        }
    )


class RescaleWalk(wiring.Component):
    """Walks the positions of RESCALE commands, `rescale_lanes` channels a cycle; groups of lanes past the last channel
    are left out. Nothing stalls it.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(command_signature)
        Its fields stand from the cycle before it is offered.
    read_enable, read_bank, read_address, read_group : Out
        What is read in this cycle.
    asked : Out
        What has to be known of it when it comes: ``valid``; the command's ``last`` and ``mark``; its ``group``; the
        vector's ``mask`` and ``address``; fields of the command.
    fault, fault_command : Out
        A command has more positions or channels than there are, or a scheme this machine does not implement.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(command_signature(Opcode.RESCALE)),
                "read_enable": Out(1),
                "read_bank": Out(1),
                "read_address": Out(range(config.accumulator_depth)),
                "read_group": Out(group_shape(config)),
                "asked": Out(_asked_layout(config)),
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
        position = Signal(len(body.positions))
        column = Signal(len(body.columns))
        channel = Signal(range(config.columns + config.rescale_lanes))
        group = Signal(group_shape(config))
        line = Signal(address_bits(config))
        pixel = Signal(address_bits(config))
        wide = body.wide & (config.result_elements > 1)
        legal = Signal()
        m.d.sync += legal.eq(self._legal(body, wide))
        go = Signal()
        channels_last = last_turn(
            m, channel, body.channels, go, name="channels_last", stride=config.rescale_lanes
        )
        on = go & channels_last
        last = channels_last & last_turn(m, position, body.positions, on, name="positions_last")
        columns_back = Signal()
        columns_last = last_turn(m, column, body.columns, on, name="columns_last", back=columns_back)
        m.d.comb += [
            go.eq(self.command.valid & legal),
            columns_back.eq(last | columns_last),
            self.fault.eq(self.command.valid & ~legal),
            self.fault_command.eq(command.index),
            self.busy.eq(self.command.valid),
            self.command.ready.eq(go & last),
            self.read_enable.eq(go),
            self.read_bank.eq(body.bank),
            self.read_address.eq(position),
            self.read_group.eq(group),
            self.asked.valid.eq(go),
            self.asked.last.eq(last),
            self.asked.mark.eq(command.mark),
        ]
        with m.If(go):
            m.d.sync += [
                channel.eq(Mux(channels_last, 0, channel + config.rescale_lanes)),
                group.eq(Mux(channels_last, 0, group + 1)),
            ]
            with m.If(channels_last):
                next_line = line + body.destination_pitch
                m.d.sync += [
                    position.eq(Mux(last, 0, position + 1)),
                    column.eq(Mux(columns_back, 0, column + 1)),
                    line.eq(Mux(last, 0, Mux(columns_last, next_line, line))),
                    pixel.eq(Mux(last, 0, Mux(columns_last, next_line, pixel + body.pixel_pitch))),
                ]
        self._place(m, group, pixel, channel, wide)
        return m

    def _legal(self, body: data.View, wide: Value) -> Value:
        """Whether the machine implements the scheme, and there are so many positions and channels."""
        config = self._config
        known = Cat(body.scheme == Scheme[name.upper()].value for name in config.rescales).any()
        legal = known & ~(body.wide & (body.scheme != Scheme.LLSQ)) & ~(body.wide & ~wide)
        return legal & (body.positions <= config.accumulator_depth) & (body.channels <= config.columns)

    def _place(self, m: Module, group: Signal, pixel: Signal, channel: Signal, wide: Value) -> None:
        """Where the results of the lanes at hand go, and which of them are channels."""
        config = self._config
        body = self.command.payload.body
        wide_shift = config.result_elements.bit_length() - 1
        lanes = [
            (channel + lane >= body.first_channel) & (channel + lane < body.channels)
            for lane in range(config.rescale_lanes)
        ]
        m.d.comb += [
            self.asked.group.eq(group),
            self.asked.address.eq(body.destination + pixel + (channel << Mux(wide, wide_shift, 0))),
            self.asked.mask.eq(
                Mux(wide, Cat(lane.replicate(config.result_elements) for lane in lanes), Cat(lanes))
            ),
            *(self.asked[name].eq(body[name]) for name in _CARRIED),
        ]
