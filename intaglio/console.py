"""What the commands print to: tables to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ClosableStream:
    """A text stream whose reader may leave early (``| head``): what follows is thrown away, without an error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


WIDTH_WITHOUT_TERMINAL = 120


def out() -> Console:
    """Standard output, as wide as the terminal or as a log may be."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


class Bar:
    """Counts finished work on standard error, on a terminal alone."""

    def __init__(self, what: str, total: int) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=total)

    def __call__(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def of(self, done: int, total: int) -> None:
        """As a call, where the total is known later."""
        self._progress.update(self._task, completed=done, total=total)

    @contextmanager
    def shown(self) -> Iterator[Bar]:
        with self._progress:
            yield self
