"""The RESCALE engine: drains an accumulator bank through the rescale lanes into the scratchpad."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY, work_layout
from intaglio.hdl.engines.command import COMMAND_INDEX_BITS, command_signature
from intaglio.hdl.storage.scratchpad import address_bits, write_signature
from intaglio.hdl.units.llsq import LLSQ
from intaglio.hdl.units.saturate import clamp
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.spec.commands import Opcode, Scheme
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.records import RecordField, record_layout

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
    work, results : Out(stream of work_layout), In
        The affine lanes, of machines that have them: always ready; results come AFFINE_LATENCY cycles after the work.
    write : Out(write_signature)
    overflows : Out(range(rescale_lanes + 1))
        LLSQ's additions of the bias that left the accumulator's range, some cycles later.
    done, done_mark : Out(1)
        The last vector of a command is being written.
    fault, fault_command : Out
        The command names more positions or channels than there are.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._groups = config.columns // config.rescale_lanes
        lanes = (
            {
                "work": Out(stream.Signature(work_layout(config.rescale_lanes))),
                "results": In(data.ArrayLayout(signed(32), config.rescale_lanes)),
            }
            if config.affine
            else {}
        )
        super().__init__(
            {
                "command": In(command_signature(Opcode.RESCALE)),
                "read_enable": Out(1),
                "read_bank": Out(1),
                "read_address": Out(range(config.accumulator_depth)),
                "read_group": Out(range(max(self._groups, 2))),
                "totals": In(config.columns * config.accumulator_bits),
                "parameters": In(config.rescale_lanes * config.record_bits),
                **lanes,
                "write": Out(write_signature(config)),
                "overflows": Out(range(config.rescale_lanes + 1)),
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
        read = _delayed(m, self._walk(m), 1, "read")

        # The schemes side by side, the shorter ones as late as the longest.
        paths = {Scheme[name.upper()]: getattr(self, f"_{name}")(m, read) for name in config.rescales}
        latency = max(taken for _, taken in paths.values())
        rescaled = _delayed(m, read, latency, "rescaled")
        results = Signal(config.rescale_lanes * config.result_elements * config.element_bits)
        for scheme, (values, taken) in paths.items():
            joined = Signal(results.shape(), name=f"joined_{scheme.name.lower()}")
            m.d.comb += joined.eq(Cat(values))
            with m.If((rescaled.scheme == scheme.value) | (len(paths) == 1)):
                m.d.comb += results.eq(_delayed(m, joined, latency - taken, f"late_{scheme.name.lower()}"))
        m.d.comb += [
            self.write.valid.eq(rescaled.valid),
            self.write.payload.address.eq(rescaled.address),
            self.write.payload.mask.eq(rescaled.mask),
            self.write.payload.data.eq(results),
            self.done.eq(rescaled.valid & rescaled.last),
            self.done_mark.eq(rescaled.mark),
        ]
        return m

    def _walk(self, m: Module) -> data.View:
        """Asks for the lanes of every position in turn; what has to be known of them when they come."""
        config = self._config
        command = self.command.payload
        body = command.body
        position = Signal(16)
        column = Signal(16)
        channel = Signal(range(config.columns + config.rescale_lanes))
        group = Signal(range(max(self._groups, 2)))
        line = Signal(address_bits(config))
        pixel = Signal(address_bits(config))
        wide = body.wide & (config.result_elements > 1)
        known = Cat(body.scheme == Scheme[name.upper()].value for name in config.rescales).any()
        legal = known & ~(body.wide & (body.scheme != Scheme.LLSQ)) & ~(body.wide & ~wide)
        legal = legal & (body.positions <= config.accumulator_depth) & (body.channels <= config.columns)
        go = Signal()
        channels_last = channel + config.rescale_lanes >= body.channels
        columns_last = column + 1 == body.columns
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
            self.read_group.eq(group),
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
                    column.eq(Mux(last | columns_last, 0, column + 1)),
                    line.eq(Mux(last, 0, Mux(columns_last, next_line, line))),
                    pixel.eq(Mux(last, 0, Mux(columns_last, next_line, pixel + body.pixel_pitch))),
                ]

        wide_shift = config.result_elements.bit_length() - 1
        lanes = [channel + lane < body.channels for lane in range(config.rescale_lanes)]
        carried = ("scheme", "relu", "double", "signed", "wide", "zero_point", "low", "high")
        asked = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "last": 1,
                    "mark": 1,
                    "group": group.shape(),
                    "mask": config.vector_lanes,
                    "address": address_bits(config),
                    **{name: body.shape()[name].shape for name in carried},
                }
            )
        )
        m.d.comb += [
            asked.valid.eq(go),
            asked.last.eq(last),
            asked.mark.eq(command.mark),
            asked.group.eq(group),
            asked.address.eq(body.destination + pixel + (channel << Mux(wide, wide_shift, 0))),
            asked.mask.eq(
                Mux(wide, Cat(lane.replicate(config.result_elements) for lane in lanes), Cat(lanes))
            ),
            *(asked[name].eq(body[name]) for name in carried),
        ]
        return asked

    def _operands(self, read: data.View) -> list[tuple[Value, Value]]:
        """Total and parameter record of each lane."""
        config = self._config
        return [
            (
                Value.cast(self.totals)
                .word_select(read.group * config.rescale_lanes + lane, config.accumulator_bits)
                .as_signed(),
                self.parameters.word_select(lane, config.record_bits),
            )
            for lane in range(config.rescale_lanes)
        ]

    def _sbnq(self, m: Module, read: data.View) -> tuple[list[Value], int]:
        """Elements by SBNQ, and the cycles that they take."""
        config = self._config
        fields = record_layout("sbnq", config.accumulator_bits)
        results = []
        for lane, (total, record) in enumerate(self._operands(read)):
            unit = SBNQ(config.accumulator_bits, config.element_bits, fields["bias"].bits)
            m.submodules[f"sbnq_{lane}"] = unit
            m.d.comb += [
                unit.i.valid.eq(read.valid),
                unit.i.payload.accumulator.eq(total),
                unit.i.payload.bias.eq(_field(record, fields["bias"])),
                unit.i.payload.shift.eq(_field(record, fields["shift"])),
                unit.i.payload.relu.eq(read.relu),
                unit.i.payload.signed.eq(read.signed),
                unit.o.ready.eq(1),
            ]
            results.append(unit.o.payload)
        rescaled = _delayed(m, read, unit.latency, "shifted")

        # The range of a type that is narrower than an element.
        bits = config.element_bits
        limited = []
        for lane, result in enumerate(results):
            value = Cat(result, (result[-1] & rescaled.signed).replicate(2)).as_signed()
            held = Signal(bits, name=f"limited_{lane}")
            m.d.sync += held.eq(
                clamp(value, rescaled.low[: bits + 2].as_signed(), rescaled.high[: bits + 2].as_signed())
            )
            limited.append(held)
        return limited, unit.latency + 1

    def _llsq(self, m: Module, read: data.View) -> tuple[list[Value], int]:
        """Results by LLSQ, in elements, and the cycles that they take."""
        config = self._config
        bits = config.accumulator_bits
        fields = record_layout("llsq", bits)
        active = read.valid & ((read.scheme == Scheme.LLSQ) | (len(config.rescales) == 1))
        results = []
        lost = Signal(config.rescale_lanes)
        for lane, (total, record) in enumerate(self._operands(read)):
            unit = LLSQ(bits, 8)
            m.submodules[f"llsq_{lane}"] = unit
            bias = _field(record, fields["bias"])[:bits].as_signed()
            m.d.comb += [
                unit.i.valid.eq(read.valid),
                unit.i.payload.accumulator.eq(total),
                unit.i.payload.bias.eq(bias),
                unit.i.payload.mantissa.eq(_field(record, fields["mantissa"])),
                unit.i.payload.shift.eq(_field(record, fields["shift"])),
                unit.i.payload.low.eq(read.low[:9].as_signed()),
                unit.i.payload.high.eq(read.high[:9].as_signed()),
                unit.o.ready.eq(1),
            ]
            exact = total + bias
            used = read.mask[lane * config.result_elements] if config.result_elements > 1 else read.mask[lane]
            used = Mux(read.wide, used, read.mask[lane])
            m.d.sync += lost[lane].eq(active & used & (exact[bits] != exact[bits - 1]))
            results.append(unit.o.payload)
        m.d.sync += self.overflows.eq(sum(lost[lane] for lane in range(config.rescale_lanes)))
        rescaled = _delayed(m, read, unit.latency, "scaled")
        narrow = Cat(result[: config.element_bits] for result in results)
        joined = Mux(rescaled.wide, Cat(results), narrow) if config.result_elements > 1 else Cat(results)
        return [joined], unit.latency

    def _affine(self, m: Module, read: data.View) -> tuple[list[Value], int]:
        """Elements by the affine rescale, and the cycles that they take."""
        config = self._config
        work = self.work.payload
        fields = record_layout("affine", config.accumulator_bits)
        m.d.sync += [
            self.work.valid.eq(read.valid & ((read.scheme == Scheme.AFFINE) | (len(config.rescales) == 1))),
            work.zero_point.eq(read.zero_point),
            work.low.eq(read.low),
            work.high.eq(read.high),
            work.single.eq(~read.double),
        ]
        for lane, (total, record) in enumerate(self._operands(read)):
            m.d.sync += [
                work.values[lane].eq((total + _field(record, fields["bias"]).as_signed())[:32]),
                work.multipliers[lane].eq(_field(record, fields["multiplier"])),
                work.exponents[lane].eq(_field(record, fields["exponent"])),
            ]
        return [result[: config.element_bits] for result in self.results], 1 + AFFINE_LATENCY


def _field(record: Value, field: RecordField) -> Value:
    """The bits of a field of a rescale record."""
    return record[field.start : field.stop]


def _delayed(m: Module, value: Any, cycles: int, name: str) -> Any:
    """`value` some cycles later."""
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle}")
        m.d.sync += later.eq(value)
        value = later
    return value
