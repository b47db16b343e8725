"""The benches by name."""

from importlib import import_module

from intaglio.sim.engines.bench import Bench

__all__ = ["GROUPS", "NAMES", "load"]

GROUPS = (
    ("fifo", "memory", "scratchpad", "accumulators", "weight_stream"),
    ("window", "pool", "line_buffer"),
    ("load", "weights", "store", "dispatcher"),
)
"""Benches that share a simulator, since building one takes longer than most of its runs."""
NAMES = tuple(name for group in GROUPS for name in group)


def load(name: str) -> Bench:
    """The bench `name`.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no bench `{name}`: there are {', '.join(NAMES)}")
    return Bench(name, tuple(import_module(f"intaglio.sim.engines.{name}").configurations()))
