"""The scratchpad's ports, and the rescale's lanes: who goes on how fast when several use them."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter

from intaglio.compiler.cost.events import LITTLE, Flow


def share(flows: Collection[Flow]) -> None:
    """Sets the rates of flows.

    Readers share one read a cycle in turn, so that none gets less than another that wants more. What is not used at
    once waits, up to `ahead`. Whoever reads nothing, LOAD, writes what the others leave of a write a cycle.
    """
    wishes = []
    for flow in flows:
        stopped = flow.behind is not None and flow.behind.users > 0
        flow.rate = 0.0 if stopped else flow.fastest
        flow.read_rate = 0.0
        if flow.unread:
            room = flow.held < flow.ahead - LITTLE
            wishes.append((min(1.0, flow.reads * (1.0 / flow.reads if room else flow.rate)), flow))
    wishes.sort(key=itemgetter(0))
    port = 1.0
    for served, (wish, flow) in enumerate(wishes):
        reads = min(wish, port / (len(wishes) - served))
        port -= reads
        flow.read_rate = reads / flow.reads
        if flow.held < LITTLE:
            flow.rate = min(flow.rate, flow.read_rate)
    written = sum(flow.rate * flow.writes for flow in flows if flow.reads)
    for flow in flows:
        if not flow.reads:
            flow.rate = min(flow.rate, max(1.0 - written, 0.0))
