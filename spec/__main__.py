"""Writes the tables of the contract into a page, or one of the driver's headers, or checks that they are current
(`python -m intaglio.spec`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from intaglio.spec.c_header import DRIVER_HEADERS
from intaglio.spec.tables import filled

__all__ = ["main"]


def main(
    arguments: list[str] | None = None,
    command: str = "python -m intaglio.spec",
    tables: Mapping[str, Callable[[], str]] | None = None,
) -> int:
    """0, or 1 where a page is stale, cannot be read or written, or lacks a place for a table. `tables` are those of
    `command`, by default the contract's."""
    parser = argparse.ArgumentParser(prog=command, description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", metavar="PAGE", type=Path, help="write this page's tables, or this header")
    what.add_argument("--check", metavar="PAGE", type=Path, help="exit with 1 unless they are current")
    options = parser.parse_args(arguments)
    page = options.write or options.check
    try:
        made = DRIVER_HEADERS.get(page.name)
        before = "" if made and options.write else page.read_text(encoding="utf-8")
        after = made() if made else filled(before, tables)
        if options.write:
            page.write_text(after, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 1
    if options.check and before != after:
        print(f"{page}: it is stale; run `{command} --write {page}`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
