"""The front door: `run`, `run_golden`, `load` and `generate`, and the command line (`python -m intaglio`).

import intaglio

result = intaglio.run("model.txt", "images.npy", config="sbnq8x8")
print(result.cycles, result.mismatches, result.outputs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.api import generate, load, run, run_golden

__all__ = ["generate", "load", "run", "run_golden"]


def __getattr__(name: str) -> Any:
    # numpy and all the rooms are imported when they are wanted, not for `intaglio --help`.
    if name in __all__:
        from intaglio import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
