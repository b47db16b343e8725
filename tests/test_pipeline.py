# amaranth: UnusedElaboratable=no
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.units.pipeline import Pipeline
from tests.hdl_bench import run_stream


class Delay(wiring.Component):
    """Numbers through ``depth`` stages; those below ``least`` stop in the last."""

    def __init__(self, depth, least=0, payload_bits=8):
        self.depth, self.least, self.payload_bits = depth, least, payload_bits
        self.moved = Signal(16)
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        pipeline = Pipeline(m, self.i)
        value = self.i.payload
        for _ in range(self.depth - 1):
            value = pipeline.stage(value=value).value
        with m.If(pipeline.transfer):
            m.d.sync += self.moved.eq(self.moved + value)
        value = pipeline.stage(when=value >= self.least, value=value).value
        pipeline.finish(self.o, value[: self.payload_bits])
        return m


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("stalls", [0.0, 0.2, 0.7])
def test_every_value_once_and_in_order(depth, stalls):
    numbers = list(range(256)) * 2
    outputs, latency, cycles = run_stream(Delay(depth), numbers, expected=len(numbers), stalls=stalls)
    assert outputs == numbers
    if not stalls:
        assert latency == depth
        assert cycles == len(numbers) + depth


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_values_that_go_no_further(stalls):
    numbers = [(7 * k) % 256 for k in range(300)]
    wanted = [n for n in numbers if n >= 100]
    outputs, _, _ = run_stream(Delay(3, 100), numbers, expected=len(wanted), stalls=stalls)
    assert outputs == wanted


def test_payload_of_another_width():
    with pytest.raises(ValueError, match="^`payload` must be 8 bits, not 7$"):
        Delay(1, payload_bits=7).elaborate(None)
