"""Writes the tables of docs/integration.md, or checks that they are current (`python -m intaglio.companions`)."""

from __future__ import annotations

import sys

from intaglio.companions.tables import TABLES
from intaglio.spec.__main__ import main

if __name__ == "__main__":
    sys.exit(main(command="python -m intaglio.companions", tables=TABLES))
