"""What is imported by which name: the rooms stand at the top of the repository; in Python they are `intaglio.…`."""

import importlib
import pkgutil
import sys
from pathlib import Path

import intaglio

ROOT = Path(__file__).parent.parent
ROOMS = sorted(link.name for link in (ROOT / "intaglio").iterdir() if link.is_symlink())


def import_all() -> list[str]:
    """Imports every module of the package, but those that are programs, and those whose extra is not installed."""
    names = []
    for found in pkgutil.walk_packages(intaglio.__path__, "intaglio."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("intaglio", *ROOMS):
                raise
        except KeyError:  # a bench that only a simulator's process can import
            continue
        else:
            names.append(found.name)
    return names


def imported_twice() -> list[str]:
    """Modules that are a room's file by another name than `intaglio.…`: two of every enumeration."""
    return [
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ROOMS
        and Path(getattr(module, "__file__", None) or "/").is_relative_to(ROOT)
    ]
