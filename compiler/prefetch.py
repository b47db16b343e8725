"""Weights ahead of their use: where in the list each block's stretch of the weight stream is sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from intaglio.compiler.steps import AnyStep, Load, Weights
from intaglio.spec.limits import WEIGHTS_QUEUE_DEPTH

WEIGHTS_AHEAD = 6
"""The most blocks whose WEIGHTS command is sent before the MATMULs of the block at hand.

No deadlock: consider the earliest command in the list, but for WEIGHTS, that never completes. All before it are
complete, so its waits are over and it is the first of its engine. If it has been dispatched it runs: what it takes of
the weight stream was sent by WEIGHTS before it in the list, and their beats find room, because all that the buffer
holds is for it (earlier MATMULs are complete and have taken theirs) and it takes them a tile at a time, of which the
buffer holds two. If it has not been dispatched, the dispatcher is held up by a full queue; all commands before it
but WEIGHTS are complete, so it is the queue of WEIGHTS; but no more than WEIGHTS_AHEAD of those can be incomplete
before another is sent, one being the stretch of the very MATMULs at hand, and their queue takes WEIGHTS_QUEUE_DEPTH.
"""
BUFFER_AHEAD = 1 / 8
"""Of the weight buffer, what is sent ahead of the block at hand: it takes the bus from commands and inputs, which are
needed sooner."""
USED_AHEAD = 1 / 2
"""Of the bytes that have been in use so far, what is sent ahead at most: at the start all wait for the first input."""
if WEIGHTS_AHEAD >= WEIGHTS_QUEUE_DEPTH:
    raise ValueError("`WEIGHTS_AHEAD` must be less than WEIGHTS_QUEUE_DEPTH, or the dispatcher can deadlock")


def send_ahead(steps: Sequence[AnyStep], buffer_bytes: int) -> Iterator[AnyStep]:
    """The steps in their order, but that each block's Weights come ahead of it, as early as the limits allow: with
    those of the block at hand, or behind the first piece of a tensor that is loaded, since what computes with it is
    next."""
    pending = deque(step for step in steps if isinstance(step, Weights))
    begun = sent = 0
    used = before = ahead = 0
    """Bytes of the blocks begun; of those before the block at hand; of those sent."""
    for step in steps:
        block_at_hand = begun
        if isinstance(step, Weights):
            begun, before, used = begun + 1, used, used + len(step.stream)
        else:
            yield step
            if not (isinstance(step, Load) and step.opens):
                continue
        room = before + min(buffer_bytes * BUFFER_AHEAD, used * USED_AHEAD)
        while (
            pending and sent < block_at_hand + 1 + WEIGHTS_AHEAD and (sent <= block_at_hand or ahead < room)
        ):
            weights = pending.popleft()
            ahead += len(weights.stream)
            weights.owner = f"the weights of block {sent}"
            sent += 1
            yield weights
