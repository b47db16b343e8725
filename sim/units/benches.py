"""The benches by name."""

from importlib import import_module

from intaglio.sim.units.bench import Bench

__all__ = ["NAMES", "load"]

NAMES = (
    "rounding_shift",
    "saturate",
    "sqrdmulh",
    "sbnq",
    "llsq",
    "power_of_two",
    "affine_rescale",
    "mac",
    "array",
)


def load(name: str) -> Bench:
    """The bench `name`.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no bench `{name}`: there are {', '.join(NAMES)}")
    return Bench(name, tuple(import_module(f"intaglio.sim.units.{name}").configurations()))
