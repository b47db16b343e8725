"""The weight stream on chip: tiles go from the buffer to the array's shadow, parameters to the rescale."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from intaglio.compiler.cost.bus import Client
from intaglio.compiler.cost.events import Action, Clock
from intaglio.compiler.cost.timing import Timing
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Item:
    """A tile of the stream, or the parameters of a MATMUL, in beats."""

    beats: int
    is_tile: bool


class WeightFeed:
    """Takes the items of the stream in their order, each when it is there and has a place to go to: a tile when the one
    before is in use, parameters when the first tile of their MATMUL is.

    Parameters
    ----------
    items : of all MATMULs
    freed : called when the buffer has more room
    asked : called when a burst has been asked for

    Attributes
    ----------
    client : of the bus
    tile_ready : whether a tile is whole in the shadow
    on_tile, on_parameters : called when one has come
    """

    def __init__(
        self,
        clock: Clock,
        timing: Timing,
        config: AcceleratorConfig,
        items: Iterable[Item],
        freed: Action,
        asked: Callable[[int], None],
    ) -> None:
        room = config.weight_buffer_bytes // config.bus_bytes
        self.client = Client(self._ended, self._begun, asked, room)
        self.tile_ready = False
        self.on_tile: Action = _nothing
        self.on_parameters: Action = _nothing
        self._clock, self._shadow, self._freed = clock, timing.shadow, freed
        self._beats_a_cycle = config.weight_bits // config.bus_bits
        self._items = deque(items)
        self._arrived = 0
        """Beats that have come and are not taken; more come, one a cycle, of the burst that has begun."""
        self._coming = 0
        self._since = 0.0
        self._parameters_due = self._taking = False

    def use_tile(self, first: bool) -> None:
        """The tile in the shadow comes into use; it is the first of a MATMUL or not."""
        self.tile_ready = False
        self._parameters_due |= first
        self._take()

    def _take(self) -> None:
        """Begins to take the next item if that can be."""
        if self._taking or not self._items:
            return
        item = self._items[0]
        if self.tile_ready if item.is_tile else not self._parameters_due:
            return
        missing = item.beats - self._arrived
        if missing > self._coming:
            return
        cycles = item.beats / self._beats_a_cycle
        if missing > 0:
            cycles = max(cycles, self._since + missing + self._shadow - self._clock.now)
        self._taking = True
        self._clock.after(cycles, self._taken)

    def _taken(self) -> None:
        item = self._items.popleft()
        self._taking = False
        self._arrived -= item.beats
        self.client.room += item.beats
        if item.is_tile:
            self.tile_ready = True
        else:
            self._parameters_due = False
        self._take()
        (self.on_tile if item.is_tile else self.on_parameters)()
        self._freed()

    def _begun(self, beats: int) -> None:
        self._coming, self._since = beats, self._clock.now
        self._take()

    def _ended(self, beats: int) -> None:
        self._arrived += beats
        self._coming = 0
        self._take()


def _nothing() -> None:
    pass
