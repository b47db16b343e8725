"""A judge of the bus's rules at a master's port."""

from collections import deque
from typing import Any

from amaranth.utils import exact_log2

from intaglio.sim.bus.top import BEAT_BYTES
from intaglio.sim.lockstep import Agent

__all__ = ["CACHE", "PROTECTION", "Watch"]

PROTECTION, CACHE = 5, 9
"""What the masters are told to say of their accesses."""
CHANNELS = {
    "ar": ("arid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot"),
    "r": ("rdata", "rresp", "rlast"),
    "aw": ("awid", "awaddr", "awlen", "awsize", "awburst", "awcache", "awprot"),
    "w": ("wdata", "wstrb", "wlast"),
    "b": ("bresp",),
}


class Watch(Agent):
    """Checks a master's signals: what is valid stays until taken, bursts keep within their limits, WLAST is right."""

    def __init__(self, dut: Any, part: str, longest: int, outstanding: int) -> None:
        self._signals = {
            channel: [
                getattr(dut, f"{part}_bus_{name}")
                for name in (f"{channel}valid", f"{channel}ready", *CHANNELS[channel])
            ]
            for channel in (("ar", "r") if "reader" in part else ("aw", "w", "b"))
        }
        self._beat_bytes = BEAT_BYTES[part]
        self._progress = getattr(dut, f"{part}_progress")
        self._beat = getattr(dut, f"{part}_beat")
        self._longest = longest
        self._outstanding = outstanding
        self.bursts: list[tuple[int, int]] = []
        """Address and beats of each that was accepted."""
        self.beats = 0
        self.most_in_flight = 0
        self.restart()

    def restart(self) -> None:
        self._held: dict[str, list[int]] = {}
        self.in_flight = 0
        self._announced: deque[int] = deque()
        self._ended: deque[int] = deque()
        self._sent = 0

    def sample(self) -> None:
        moved = set()
        for channel, (valid, ready, *payload) in self._signals.items():
            if not int(valid.value):
                assert channel not in self._held, f"{channel}valid fell before it was taken"
                continue
            values = [int(signal.value) for signal in payload]
            assert self._held.pop(channel, values) == values, f"{channel} changed before it was taken"
            if int(ready.value):
                moved.add(channel)
                getattr(self, f"_{channel}")(*values)
            else:
                self._held[channel] = values
        assert int(self._progress.value) == bool(moved)
        assert int(self._beat.value) == bool(moved & {"r", "w"})
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        assert self.in_flight <= self._outstanding, "more bursts in flight than stated"

    @property
    def waits(self) -> int:
        """Whether the address of a burst is on the bus, but not yet taken."""
        return len({"ar", "aw"} & set(self._held))

    def _ar(self, ident: int, address: int, length: int, size: int, kind: int, cache: int, prot: int) -> None:
        assert (ident, size, kind, cache, prot) == (0, exact_log2(self._beat_bytes), 1, CACHE, PROTECTION)
        assert address % self._beat_bytes == 0
        assert length < self._longest, "a burst longer than stated"
        assert address % 4096 + self._beat_bytes * (length + 1) <= 4096, "a burst across 4 KiB"
        self.bursts.append((address, length + 1))
        self.in_flight += 1

    def _r(self, data: int, response: int, last: int) -> None:
        self.beats += 1
        self.in_flight -= last

    def _aw(self, *values: int) -> None:
        self._ar(*values)
        self._announced.append(values[2] + 1)
        self._match()

    def _w(self, data: int, strobes: int, last: int) -> None:
        self.beats += 1
        self._sent += 1
        if last:
            self._ended.append(self._sent)
            self._sent = 0
        self._match()

    def _b(self, response: int) -> None:
        self.in_flight -= 1

    def _match(self) -> None:
        # W may run ahead of AW: lengths are compared once both are known.
        while self._ended and self._announced:
            assert self._ended.popleft() == self._announced.popleft(), "WLAST is not on the burst's last beat"
