"""What bounds every machine, whatever its configuration."""

from __future__ import annotations

__all__ = ["BEAT_BYTES", "MARKS", "QUEUE_DEPTH", "WEIGHTS_QUEUE_DEPTH"]

BEAT_BYTES = 8
"""Of the AXI4 bus."""
QUEUE_DEPTH = 4
"""Commands that wait in front of each engine, besides those at work in it."""
WEIGHTS_QUEUE_DEPTH = 8
"""Of WEIGHTS, which wait for nobody and are sent ahead."""
MARKS = 256
"""Time stamps that the machine keeps of commands with `mark` set."""
