"""The weight stream on chip: tiles go from the buffer to the array's shadow, parameters to the rescale."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from intaglio.compiler.cost.bus import Client
from intaglio.compiler.cost.events import Action, Clock
from intaglio.compiler.cost.timing import WEIGHT_BEATS_IN_FLIGHT, Timing
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
        self.client = Client(self._ended, self._begun, asked, room, WEIGHT_BEATS_IN_FLIGHT)
        self.tile_ready = False
        self.on_tile: Action = _nothing
        self.on_parameters: Action = _nothing
        self._clock, self._shadow, self._freed = clock, timing.shadow, freed
        self._beats_a_cycle = config.weight_bits // config.bus_bits
        self._items = deque(items)
        self._open = False
        """Whether the first item may be taken: its beats leave the buffer as they come."""
        self._opened = 0.0
        self._moved = 0
        """Beats of that item that have left."""
        self._ending = False
        """Whether it is known when its last beat is there."""
        self._arrived = 0
        """Beats in the buffer; of the burst that comes, of `_coming` beats, one more a cycle `_since` then."""
        self._coming = 0
        self._since = 0.0
        self._parameters_due = False

    def use_tile(self, first: bool) -> None:
        """The tile in the shadow comes into use; it is the first of a MATMUL or not."""
        self.tile_ready = False
        self._parameters_due |= first
        self._take()

    def _take(self) -> None:
        """Opens the first item if that may be, moves what is there of it, and ends it when its last beat has come."""
        if not self._items or self._ending:
            return
        item = self._items[0]
        if not self._open:
            if self.tile_ready if item.is_tile else not self._parameters_due:
                return
            self._open, self._opened, self._moved = True, self._clock.now, 0
        self._move(max(min(item.beats - self._moved, self._arrived), 0))
        lacking = item.beats - self._moved - self._arrived
        if lacking > self._coming:
            return
        end = self._opened + item.beats / self._beats_a_cycle
        if lacking > 0:
            end = max(end, self._since + lacking + self._shadow)
        self._ending = True
        self._clock.after(max(end - self._clock.now, 0.0), self._taken)

    def _move(self, beats: int) -> None:
        """Beats leave the buffer."""
        if beats:
            self._moved += beats
            self._arrived -= beats
            self.client.room += beats
            self._freed()

    def _taken(self) -> None:
        item = self._items.popleft()
        self._open = self._ending = False
        # Some may be of the burst that comes, which leaves so many less.
        self._move(item.beats - self._moved)
        if item.is_tile:
            self.tile_ready = True
        else:
            self._parameters_due = False
        self._take()
        (self.on_tile if item.is_tile else self.on_parameters)()

    def _begun(self, beats: int) -> None:
        self._coming, self._since = beats, self._clock.now
        self._take()

    def _ended(self, beats: int) -> None:
        self._arrived += beats
        self._coming = 0
        self._take()


def _nothing() -> None:
    pass
