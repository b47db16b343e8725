"""Seconds that the Verilog of machines takes, by the command line of one tree or two; nothing of a tree is imported."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cycles import AgainstError, last_line, python


def seconds(tree: Path, config: str) -> float:
    """Processor seconds, a core, from a fresh start of Python to the file of `config`'s machine.

    Raises AgainstError, in one line, where the tree does not write it.
    """
    with tempfile.TemporaryDirectory(prefix="intaglio-emission-") as folder:
        before = os.times()
        run = python(tree, "-m", "intaglio", "generate", "--config", config, "--output", folder)
        after = os.times()
        if run.returncode:
            raise AgainstError(f"{tree} does not write {config}: {last_line(run)}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def row(config: str, trees: Sequence[Path]) -> list[str]:
    """A line of a table: the configuration, and the seconds in each tree, one tree directly after the other."""
    return [config, *(f"{seconds(tree, config):.1f}" for tree in trees)]
