"""The ports of an emitted component."""

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["ports_of"]


def ports_of(component: wiring.Component) -> dict[str, tuple[bool, int]]:
    """By name, as `intaglio.hdl.verilog.emit` names them: whether it is an input, and bits.

    ``clk`` and ``rst`` are not among them, nor are ports of no bits.
    """
    return {
        "__".join(map(str, path)): (member.flow == In, width)
        for path, member, _ in component.signature.flatten(component)
        if (width := Shape.cast(member.shape).width)
    }
