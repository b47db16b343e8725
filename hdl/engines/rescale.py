"""The RESCALE engine: drains an accumulator bank through the rescale lanes into the scratchpad."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY, VALUE_BITS, results_layout, work_layout
from intaglio.hdl.engines.command import command_signature
from intaglio.hdl.engines.rescale_walk import RescaleWalk, group_shape
from intaglio.hdl.storage.delay import delayed
from intaglio.hdl.storage.scratchpad import write_signature
from intaglio.hdl.units.llsq import LLSQ
from intaglio.hdl.units.saturate import clamp
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.spec.commands import Opcode, Scheme
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import COMMAND_INDEX_BITS, RESULT_BITS
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
        Its fields stand from the cycle before it is offered.
    read_enable, read_bank, read_address, read_group : Out
        A read of the accumulators' bank and of the parameters' slot of the same number.
    totals, parameters : In
        What they hold, one cycle later.
    work, results : Out(stream of work_layout), In
        The affine lanes, of machines that have them: always ready; results come AFFINE_LATENCY cycles after the work.
    work_idle : Out(1)
        There is no work.
    write : Out(write_signature)
    overflows : Out(range(rescale_lanes + 1))
        LLSQ's additions of the bias that left the accumulator's range, some cycles later.
    done, done_mark : Out(1)
        The last vector of a command is being written.
    fault, fault_command : Out
        A command has more positions or channels than there are, or a scheme this machine does not implement.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        lanes = (
            {
                "work": Out(stream.Signature(work_layout(config.rescale_lanes))),
                "work_idle": Out(1, init=1),
                "results": In(results_layout(config.rescale_lanes)),
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
                "read_group": Out(group_shape(config)),
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
        m.submodules.walk = walk = RescaleWalk(config)
        wiring.connect(m, wiring.flipped(self.command), walk.command)
        m.d.comb += [
            getattr(self, name).eq(getattr(walk, name))
            for name in (
                "read_enable",
                "read_bank",
                "read_address",
                "read_group",
                "fault",
                "fault_command",
                "busy",
            )
        ]
        read = delayed(m, walk.asked, 1, "read")

        # The schemes side by side, the shorter ones as late as the longest.
        paths = {Scheme[name.upper()]: getattr(self, f"_{name}")(m, read) for name in config.rescales}
        latency = max(taken for _, taken in paths.values())
        rescaled = delayed(m, read, latency, "rescaled")
        results = Signal(config.rescale_lanes * config.result_elements * config.element_bits)
        for scheme, (values, taken) in paths.items():
            joined = Signal(results.shape(), name=f"joined_{scheme.name.lower()}")
            m.d.comb += joined.eq(Cat(values))
            with m.If((rescaled.scheme == scheme.value) | (len(paths) == 1)):
                m.d.comb += results.eq(delayed(m, joined, latency - taken, f"late_{scheme.name.lower()}"))
        m.d.comb += [
            self.write.valid.eq(rescaled.valid),
            self.write.payload.address.eq(rescaled.address),
            self.write.payload.mask.eq(rescaled.mask),
            self.write.payload.data.eq(results),
            self.done.eq(rescaled.valid & rescaled.last),
            self.done_mark.eq(rescaled.mark),
        ]
        return m

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
        rescaled = delayed(m, read, unit.latency, "shifted")

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
            unit = LLSQ(bits, RESULT_BITS)
            m.submodules[f"llsq_{lane}"] = unit
            bias = _field(record, fields["bias"])[:bits].as_signed()
            m.d.comb += [
                unit.i.valid.eq(read.valid),
                unit.i.payload.accumulator.eq(total),
                unit.i.payload.bias.eq(bias),
                unit.i.payload.mantissa.eq(_field(record, fields["mantissa"])),
                unit.i.payload.shift.eq(_field(record, fields["shift"])),
                unit.i.payload.low.eq(read.low[: RESULT_BITS + 1].as_signed()),
                unit.i.payload.high.eq(read.high[: RESULT_BITS + 1].as_signed()),
                unit.o.ready.eq(1),
            ]
            exact = total + bias
            used = read.mask[lane * config.result_elements] if config.result_elements > 1 else read.mask[lane]
            used = Mux(read.wide, used, read.mask[lane])
            m.d.sync += lost[lane].eq(active & used & (exact[bits] != exact[bits - 1]))
            results.append(unit.o.payload)
        m.d.sync += self.overflows.eq(sum(lost[lane] for lane in range(config.rescale_lanes)))
        rescaled = delayed(m, read, unit.latency, "scaled")
        narrow = Cat(result[: config.element_bits] for result in results)
        joined = Mux(rescaled.wide, Cat(results), narrow) if config.result_elements > 1 else Cat(results)
        return [joined], unit.latency

    def _affine(self, m: Module, read: data.View) -> tuple[list[Value], int]:
        """Elements by the affine rescale, and the cycles that they take."""
        config = self._config
        work = self.work.payload
        fields = record_layout("affine", config.accumulator_bits)
        # Chosen, then added: memories' outputs come late in their cycle.
        operands = [
            (delayed(m, total, 1, f"total_{lane}"), delayed(m, record, 1, f"record_{lane}"))
            for lane, (total, record) in enumerate(self._operands(read))
        ]
        read = delayed(m, read, 1, "chosen")
        works = read.valid & ((read.scheme == Scheme.AFFINE) | (len(config.rescales) == 1))
        m.d.sync += [
            self.work.valid.eq(works),
            self.work_idle.eq(~works),
            work.zero_point.eq(read.zero_point),
            work.low.eq(read.low),
            work.high.eq(read.high),
            work.single.eq(~read.double),
        ]
        for lane, (total, record) in enumerate(operands):
            m.d.sync += [
                work.values[lane].eq((total + _field(record, fields["bias"]).as_signed())[:VALUE_BITS]),
                work.multipliers[lane].eq(_field(record, fields["multiplier"])),
                work.exponents[lane].eq(_field(record, fields["exponent"])),
            ]
        return [result[: config.element_bits] for result in self.results], 2 + AFFINE_LATENCY


def _field(record: Value, field: RecordField) -> Value:
    """The bits of a field of a rescale record."""
    return record[field.start : field.stop]
