"""What the commands print to: tables to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ClosableStream:
    """A text stream whose reader may leave early (``| head``): what follows is thrown away, without an error. Any
    other error names the stream."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def give_up(self) -> None:
        """What is not written by now would fail again when Python ends: without a word, if it can't be written."""
        try:
            self.flush()
        except OSError:
            self._discard()

    def _try(self, action: Callable[..., Any], *arguments: str) -> None:
        try:
            action(*arguments)
        except BrokenPipeError:
            self._discard()
        except OSError as error:
            error.filename = self._name
            raise

    def _discard(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


WIDTH_WITHOUT_TERMINAL = 120


def out() -> Console:
    """Standard output: as wide as COLUMNS says, or the terminal is, or a log may be. rich obeys NO_COLOR and
    FORCE_COLOR."""
    stated = os.environ.get("COLUMNS", "").isdigit() and int(os.environ["COLUMNS"]) > 0
    wide = stated or (sys.stdout is not None and sys.stdout.isatty())
    return Console(highlight=False, width=None if wide else WIDTH_WITHOUT_TERMINAL)


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def say_building(names: Sequence[str]) -> None:
    """What the first run on a machine waits for."""
    say(f"building the simulated machine{'s' * (len(names) > 1)} {', '.join(names)}, once ...")


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
