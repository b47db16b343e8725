"""The machine at work on a schedule: the engines, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from intaglio.compiler.cost.bus import Client, ReadBus, bursts_of
from intaglio.compiler.cost.dispatcher import NEVER, Command, Dispatcher
from intaglio.compiler.cost.events import Clock, Flow, Resource
from intaglio.compiler.cost.matmul import MatmulEngine, items_of
from intaglio.compiler.cost.ports import share
from intaglio.compiler.cost.timing import CREDITS, RECIPROCAL, Timing
from intaglio.compiler.cost.weights import WeightFeed
from intaglio.compiler.steps import (
    AnyStep,
    Arithmetic,
    Load,
    LoadTable,
    Lookup,
    Matmul,
    Pool,
    Rescale,
    SoftmaxRuns,
    Step,
    Store,
    Transfer,
    Weights,
)
from intaglio.compiler.waits import Waits
from intaglio.spec.commands import TABLE_ENTRIES, Engine
from intaglio.spec.config import AcceleratorConfig


@dataclass(frozen=True)
class Cost:
    """What a schedule costs.

    Attributes
    ----------
    cycles : from the start to the interrupt
    stamps : the time stamps that are taken, in their order
    read_beats, write_beats : of the bus
    """

    cycles: int
    stamps: tuple[int, ...]
    read_beats: int
    write_beats: int


def cost_of(
    steps: Sequence[AnyStep], waits: Waits, addresses: Mapping[Step, int], config: AcceleratorConfig
) -> Cost:
    """Predicts the run of a schedule whose steps find in memory what they read at `addresses`."""
    return _Machine(steps, waits, addresses, config).run()


class _Machine:
    def __init__(
        self,
        steps: Sequence[AnyStep],
        waits: Waits,
        addresses: Mapping[Step, int],
        config: AcceleratorConfig,
    ) -> None:
        self._config, self._addresses = config, addresses
        self._timing = timing = Timing.of(config)
        self._clock = clock = Clock(share)
        self._lanes, self._writes = Resource(), Resource()
        self._dispatcher = Dispatcher(
            clock, timing, steps, waits, config.command_beats, self._begin, self._ask
        )
        self._feed = WeightFeed(
            clock, timing, config, items_of(steps, config), self._ask, self._weights_asked
        )
        self._matmul = MatmulEngine(
            clock,
            timing,
            self._feed,
            lambda: self._dispatcher.leave(Engine.MATMUL),
            self._dispatcher.complete,
        )
        self._load = Client(self._loaded, behind=self._writes)
        self._loads_left = 0
        self._loading: Command | None = None
        self._fetching: Command | None = None
        self._bus = ReadBus(clock, timing, (self._dispatcher.client, self._load, self._feed.client))
        self._write_beats = 0
        self._pool_ended = NEVER

    def run(self) -> Cost:
        self._ask()
        self._clock.run()
        commands = self._dispatcher.commands
        if any(command.completed == NEVER for command in commands):
            raise RuntimeError("the cost of a schedule that does not end")
        ends = [command.completed for command in commands]
        stamps = sorted(command.completed for command in commands if command.step.mark)
        return Cost(
            round(max(ends, default=0.0) + self._timing.end),
            tuple(round(stamp + self._timing.mark) for stamp in stamps),
            self._bus.beats,
            self._write_beats,
        )

    def _ask(self) -> None:
        self._bus.ask()

    def _begin(self, command: Command) -> None:
        """A command may start."""
        match command.step:
            case Load() as step:
                self._begin_load(command, step)
            case Weights() as step:
                self._begin_weights(command, step)
            case Matmul() as step:
                self._matmul.begin(command, step)
            case Rescale() as step:
                self._begin_rescale(command, step)
            case Pool() as step:
                self._begin_pool(command, step)
            case Store() as step:
                self._begin_store(command, step)
            case LoadTable() as step:
                vectors = step.planes * TABLE_ENTRIES // self._config.vector_lanes
                self._flow(command, self._timing.lookup_fill, Flow(vectors, _nothing, reads=1.0), 0)
            case Arithmetic() | Lookup() | SoftmaxRuns() as step:
                self._begin_elementwise(command, step)
            case _ as step:
                assert_never(step)

    def _finish(self, command: Command) -> None:
        """Complete, and gone from its queue."""
        self._dispatcher.complete(command)
        self._dispatcher.leave(command.engine)

    def _flow(self, command: Command, fill: float, flow: Flow, drain: float) -> None:
        """A command that is one flow, which begins `fill` cycles from now, and complete `drain` after its end."""
        flow.finished = lambda: self._clock.after(drain, lambda: self._finish(command))
        self._clock.after(fill, lambda: self._clock.flow(flow))

    def _begin_load(self, command: Command, step: Load) -> None:
        self._load.bursts.extend(self._bursts(step))
        self._loading, self._loads_left = command, len(self._load.bursts)
        self._clock.after(self._timing.split, self._ask)

    def _bursts(self, step: Transfer) -> Iterator[int]:
        """Beats of the bursts of a LOAD or a STORE."""
        for row in range(step.rows):
            address = self._addresses[step] + row * step.memory_pitch
            yield from bursts_of(address, step.row_bytes, self._config.bus_bytes)

    def _loaded(self, beats: int) -> None:
        self._loads_left -= 1
        if not self._loads_left and (command := self._loading) is not None:
            self._clock.after(self._timing.write, lambda: self._finish(command))

    def _begin_weights(self, command: Command, step: Weights) -> None:
        """It leaves its queue when the last burst of the one before has been asked for; nobody waits for its end."""
        address, size = self._addresses[step], len(step.stretches[0])
        for stretch in range(len(step.stretches)):
            bursts = list(bursts_of(address + stretch * size, size, self._config.bus_bytes))
            self._feed.client.bursts.extend(step.times * bursts)
        self._fetching = command
        self._clock.after(self._timing.split, self._ask)
        self._weights_asked(0)

    def _weights_asked(self, beats: int) -> None:
        if self._fetching is not None and len(self._feed.client.bursts) <= 1:
            command, self._fetching = self._fetching, None
            self._finish(command)

    def _begin_rescale(self, command: Command, step: Rescale) -> None:
        """Nothing stalls it."""
        cycles, timing = step.positions * -(-step.channels // self._config.rescale_lanes), self._timing
        for resource, late in ((self._lanes, timing.lanes), (self._writes, timing.rescale)):
            self._clock.after(late, partial(self._use, resource, 1))
            self._clock.after(late + cycles, partial(self._use, resource, -1))
        self._clock.after(cycles, lambda: self._dispatcher.leave(Engine.RESCALE))
        self._clock.after(cycles + timing.rescale, lambda: self._dispatcher.complete(command))

    def _use(self, resource: Resource, users: int) -> None:
        resource.users += users
        self._clock.reshare()

    def _begin_pool(self, command: Command, step: Pool) -> None:
        """Right behind another one, its first vectors are named while that ends."""
        walk = step.walk
        window = walk.kernel_rows * walk.kernel_columns
        flow = Flow(
            window * walk.chunks * walk.output_rows * walk.output_columns,
            lambda: self._pooled(command),
            reads=1.0,
            writes=1.0 / window,
            ahead=CREDITS * window,
            fastest=window,
            behind=self._writes,
        )
        behind = self._pool_ended + self._timing.leave + self._timing.start == self._clock.now
        fill = 0 if behind else self._timing.pool_fill
        self._clock.after(fill, lambda: self._clock.flow(flow))

    def _pooled(self, command: Command) -> None:
        self._pool_ended = self._clock.now
        self._clock.after(self._timing.pool_drain, lambda: self._dispatcher.complete(command))
        self._dispatcher.leave(Engine.POOL)

    def _begin_store(self, command: Command, step: Store) -> None:
        self._write_beats += (beats := sum(self._bursts(step)))
        self._flow(command, 0, Flow(beats, _nothing, reads=1.0), self._timing.store_drain)

    def _begin_elementwise(self, command: Command, step: Arithmetic | Lookup | SoftmaxRuns) -> None:
        config, timing, runs = self._config, self._timing, step.runs
        if isinstance(step, SoftmaxRuns):
            cycles = runs.pixels * (3 * runs.channels + RECIPROCAL)
            self._clock.after(cycles, lambda: self._finish(command))
            return
        units = runs.pixels * -(-runs.channels // config.step_lanes)
        vectors = runs.pixels * -(-runs.channels // config.vector_lanes)
        flow = Flow(
            units,
            _nothing,
            reads=vectors * len(runs.operands) / units,
            writes=vectors / units,
            ahead=CREDITS * units / vectors,
            behind=self._writes if isinstance(step, Lookup) else self._lanes,
        )
        if isinstance(step, Lookup):
            self._flow(command, timing.lookup_fill, flow, timing.lookup_drain)
        else:
            self._flow(command, timing.operands_fill, flow, timing.results_drain)


def _nothing() -> None:
    pass
