"""The MATMUL engine: passes over a block, each with its tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from intaglio.compiler.cost.dispatcher import Command
from intaglio.compiler.cost.events import Action, Clock, Flow
from intaglio.compiler.cost.timing import CREDITS, WINDOW, Timing
from intaglio.compiler.cost.weights import Item, WeightFeed
from intaglio.compiler.steps import Matmul, Step
from intaglio.spec.config import AcceleratorConfig


def passes_of(step: Matmul) -> int:
    walk = step.walk
    return step.digits * walk.kernel_rows * walk.kernel_columns * walk.chunks


def items_of(steps: Iterable[Step], config: AcceleratorConfig) -> Iterator[Item]:
    """The weight stream that the MATMULs of a schedule take, in order."""
    parameters = Item(config.parameter_beats, False)
    for step in steps:
        if isinstance(step, Matmul):
            tile = Item(step.tile_words * config.weight_bits // config.bus_bits, True)
            yield from (tile, parameters)
            yield from (tile for _ in range(1, 1 if step.one_tile else passes_of(step)))


@dataclass(eq=False)
class _Run:
    """A MATMUL at work, or about to: `passes` are to come, of `vectors` each. The window reader is so many vectors
    `ahead` of the array, and has `left` when it has named the last."""

    command: Command
    one_tile: bool
    vectors: int
    passes: int
    due: float
    ahead: int
    first: bool = True
    left: bool = False


class MatmulEngine:
    """Runs MATMULs one after the other without a gap where the next one's waits are over in time.

    The window reader is ahead of the array: a command leaves its queue so long before its end.

    Parameters
    ----------
    leave, complete : called when a command leaves its queue, and when it is complete
    """

    def __init__(
        self,
        clock: Clock,
        timing: Timing,
        feed: WeightFeed,
        leave: Action,
        complete: Callable[[Command], None],
    ) -> None:
        self._clock, self._timing, self._feed = clock, timing, feed
        self._leave, self._complete = leave, complete
        self._at_work = False
        self._next: _Run | None = None
        self._lacking: _Run | None = None
        """Waits for its tile."""
        self._summed: deque[Command] = deque()
        self._parameters = 0
        """Commands whose sums are complete, and how many have their parameters: each needs both."""
        feed.on_tile = self._on_tile
        feed.on_parameters = self._on_parameters

    def begin(self, command: Command, step: Matmul) -> None:
        walk = step.walk
        fill = self._timing.fill
        self._next = _Run(command, step.one_tile, walk.vectors, passes_of(step), self._clock.now + fill, fill)
        if not self._at_work:
            self._begin_next()

    def _begin_next(self) -> None:
        run, self._next = self._next, None
        self._at_work = run is not None
        if run is not None:
            self._clock.after(max(run.due - self._clock.now, 0.0), lambda: self._pass(run))

    def _pass(self, run: _Run) -> None:
        """The first vector of a pass is in front of the array."""
        if run.first or not run.one_tile:
            if not self._feed.tile_ready:
                self._lacking = run
                run.ahead = WINDOW + CREDITS
                if run.passes * run.vectors <= run.ahead and not run.left:
                    self._walked(run)
                return
            self._feed.use_tile(run.first)
            run.first = False
        first = run.passes * run.vectors - run.ahead
        run.passes -= 1
        if run.left or first >= run.vectors:
            self._stream(run, run.vectors)
        elif first > 0:
            self._clock.flow(Flow(first, lambda: self._end(run, run.vectors - first), reads=1.0))
        else:
            self._end(run, run.vectors)

    def _end(self, run: _Run, vectors: int) -> None:
        """The last vectors are on their way; so many of them are this pass's."""
        self._stream(run, vectors)
        self._walked(run)

    def _stream(self, run: _Run, vectors: int) -> None:
        """What is left of a pass goes into the array."""
        behind = self._pass if run.passes else self._passed
        self._clock.flow(Flow(vectors, lambda: behind(run), reads=1.0))

    def _walked(self, run: _Run) -> None:
        run.left = True
        self._leave()

    def _passed(self, run: _Run) -> None:
        self._clock.after(self._timing.sums, lambda: self._sum(run.command))
        self._begin_next()

    def _sum(self, command: Command) -> None:
        self._summed.append(command)
        self._join()

    def _on_parameters(self) -> None:
        self._parameters += 1
        self._join()

    def _join(self) -> None:
        if self._summed and self._parameters:
            self._parameters -= 1
            self._complete(self._summed.popleft())

    def _on_tile(self) -> None:
        run, self._lacking = self._lacking, None
        if run is not None:
            self._pass(run)
