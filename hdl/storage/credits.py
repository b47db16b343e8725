"""Credits: what is sent on a path that cannot stall has a place to arrive at."""

from functools import reduce

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.checks import check_integer

__all__ = ["Credits", "depth_to_cover"]


def depth_to_cover(latency: int) -> int:
    """Places that a buffer needs so that one credit can be taken in every cycle.

    A credit that is taken in cycle t is given back in cycle ``t + latency`` and can be taken again in the one after:
    that is ``latency + 1`` places, and as many more as make a power of two, which a `Fifo` wants.

    Parameters
    ----------
    latency : int
        Cycles from a credit taken to the same credit given back, where nothing stalls: those of the path, and of the
        buffer at its end.
    """
    return 1 << check_integer("latency", latency, 1, 1 << 15).bit_length()


class Credits(wiring.Component):
    """Counts the free places of a buffer, less those that are promised to what is on its way there.

    A read of the scratchpad, or work for the rescale's lanes, comes out some cycles later whether anybody can take it
    or not. So a credit is taken before it is sent, and given back when it has left the buffer that it arrives in.

    Parameters
    ----------
    depth : int
        Places of the buffer, 1 or more (`depth_to_cover`).
    ends : int
        In how many ways a credit may come back, 1…8: so many can come back in one cycle.

    Members
    -------
    available : Out(1)
        A credit can be taken.
    take : In(1)
        One is taken; only while `available` is high.
    give_back : In(1) array of `ends`
        One comes back.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type or out of range.
    """

    def __init__(self, depth: int, ends: int = 1) -> None:
        self.depth = check_integer("depth", depth, 1, 1 << 16)
        super().__init__(
            {
                "available": Out(1),
                "take": In(1),
                "give_back": In(1).array(check_integer("ends", ends, 1, 8)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # Credits less one: its sign, a register's bit, says whether there are any.
        left = Signal(range(-1, self.depth), init=self.depth - 1)
        after: Value = reduce(lambda total, end: total + end, self.give_back, left - self.take)
        m.d.comb += self.available.eq(~left[-1])
        m.d.sync += left.eq(after)
        return m
