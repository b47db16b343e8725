# amaranth: UnusedElaboratable=no
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.repeated import Emission, place


class Held(wiring.Component):
    """A register of some bits, with a reset or without."""

    def __init__(self, bits: int, reset: bool = False) -> None:
        self._reset = reset
        super().__init__({"i": In(bits), "o": Out(bits)})

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(self.i.shape(), reset_less=not self._reset)
        m.d.sync += held.eq(self.i)
        m.d.comb += self.o.eq(held)
        return m


class Chain(wiring.Component):
    """Registers of 4 bits one behind the other, the last of 2 bits."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        super().__init__({"i": In(4), "o": Out(2)})

    def elaborate(self, platform) -> Module:
        m = Module()
        value = self.i
        for index in range(self._depth):
            held = place(m, platform, f"held_{index}", Held, 4)
            m.d.comb += held.i.eq(value)
            value = held.o
        last = place(m, platform, "last", Held, 2)
        m.d.comb += [last.i.eq(value), self.o.eq(last.o)]
        return m


def test_parts_of_one_kind_and_the_same_parameters_are_one_module():
    platform = Emission("top")
    text = rtlil.convert(Chain(3), name="top", platform=platform, emit_src=False)
    assert list(platform.texts) == ["top_held", "top_held_1"]
    assert re.findall(r"^  cell \\(top_held\S*) \\(\S+)$", text, re.M) == [
        ("top_held", "held_0"),
        ("top_held", "held_1"),
        ("top_held", "held_2"),
        ("top_held_1", "last"),
    ]
    for name, part in platform.texts.items():
        assert f"module \\{name}\n" in part
        assert part.count("attribute \\keep_hierarchy 1\n") == 1
        assert "\\top " not in part
        assert "\\rst" not in part


def test_without_an_emission_every_part_is_a_component_of_its_own():
    text = rtlil.convert(Chain(3), name="top", emit_src=False)
    assert len(re.findall(r"^module ", text, re.M)) == 5


def test_a_part_that_is_reset_is_refused():
    """A reset that is inserted around its instances would not reach it."""
    with pytest.raises(RuntimeError, match="^`Held` has registers that are reset, and cannot be repeated$"):
        Emission("top").part(Held, (4, True))
