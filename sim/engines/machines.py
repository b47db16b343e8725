"""Configurations that the benches take: what an engine does not look at is as small as it may be."""

from typing import Any

from intaglio.spec.config import AcceleratorConfig

__all__ = ["machine"]


def machine(**fields: Any) -> AcceleratorConfig:
    """A small machine with some fields changed."""
    small: dict[str, Any] = {
        "name": "bench",
        "rows": 4,
        "columns": 3,
        "activation_types": ("uint4",),
        "weight_type": "int4",
        "accumulator_bits": 12,
        "accumulator_depth": 16,
        "rescales": ("sbnq",),
        "scratchpad_bytes": 1024,
        "weight_buffer_bytes": 512,
    } | fields
    return AcceleratorConfig(**{"rescale_lanes": small["columns"]} | small)
