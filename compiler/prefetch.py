"""Weights ahead of their use: which stretches of the weight stream a command sends, and where in the list it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

from intaglio.compiler.steps import AnyStep, Weights
from intaglio.spec.commands import command_layout
from intaglio.spec.limits import WEIGHTS_QUEUE_DEPTH

WEIGHTS_AHEAD = 6
"""WEIGHTS commands that are sent before the MATMULs of the one at hand.

How far the weights themselves are ahead is the machine's: as far as its buffer has room.

No deadlock: consider the earliest command in the list, but for WEIGHTS, that never completes. All before it are
complete, so its waits are over and it is the first of its engine. If it has been dispatched it runs: what it takes of
the weight stream was sent by WEIGHTS before it in the list, and their beats find room, because all that the buffer
holds is for it (earlier MATMULs are complete and have taken theirs) and it takes them a tile at a time, of which the
buffer holds two. If it has not been dispatched, the dispatcher is held up by a full queue; all commands before it
but WEIGHTS are complete, so it is the queue of WEIGHTS; but no more than WEIGHTS_AHEAD of those can be incomplete
before another is sent, one being that of the very MATMULs at hand, and their queue takes WEIGHTS_QUEUE_DEPTH.
"""
if WEIGHTS_AHEAD >= WEIGHTS_QUEUE_DEPTH:
    raise ValueError("`WEIGHTS_AHEAD` must be less than WEIGHTS_QUEUE_DEPTH, or the dispatcher can deadlock")


def send_ahead(steps: Sequence[AnyStep]) -> Iterator[AnyStep]:
    """The steps in their order, but the blocks' Weights joined, and sent ahead. Behind the first of them comes what the
    first block waits for, and then the others."""
    commands = _joined([step for step in steps if isinstance(step, Weights)])
    ends = list(accumulate(command.times * len(command.stretches) for command in commands))
    begun = sent = at_hand = 0
    """Blocks begun, commands sent, and the command that sends what the block at hand takes."""
    for step in steps:
        if not isinstance(step, Weights):
            yield step
            continue
        while begun >= ends[at_hand]:
            at_hand += 1
        last = at_hand + (WEIGHTS_AHEAD if begun else 0)
        yield from commands[sent : last + 1]
        sent = max(sent, min(last + 1, len(commands)))
        begun += 1


def _joined(weights: Sequence[Weights]) -> list[Weights]:
    """What the blocks take, in order, in few commands: a stretch that several take one after the other is named once,
    and stretches of as many bytes for as many blocks go together."""
    most = {name: field.max for name, (_, field) in command_layout(Weights.opcode).items()}
    repeated: list[tuple[bytes, int]] = []
    for stream, blocks in groupby(stretch for step in weights for stretch in step.stretches):
        count = sum(1 for _ in blocks)
        for start in range(0, count, most["times"]):
            repeated.append((stream, min(count - start, most["times"])))
    commands: list[Weights] = []
    for (_, times), alike in groupby(repeated, key=lambda stretch: (len(stretch[0]), stretch[1])):
        streams = [stream for stream, _ in alike]
        for start in range(0, len(streams), most["stretches"]):
            stretches = tuple(streams[start : start + most["stretches"]])
            owner = f"weights, command {len(commands)}"
            commands.append(Weights(owner=owner, stretches=stretches, times=times))
    return commands
