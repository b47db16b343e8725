"""Files that a command writes: found usable before the work begins, written when it is done."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from intaglio.errors import ArgumentError
from intaglio.network import NetworkError
from intaglio.network.files import reason, shown


def check_writable(argument: str, path: Path) -> None:
    """Raise NetworkError, in one line, unless a file can be written at `path`. An existing file keeps its content."""
    where = shown(path)
    try:
        if path.is_dir():
            raise ArgumentError(argument, f"{where}: is a directory; name a file in it")
        if not path.parent.is_dir():
            raise ArgumentError(
                argument, f"{where}: there is no directory {shown(path.parent)}; make it first"
            )
        if path.exists():
            with path.open("ab"):
                pass
        else:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".intaglio-"):
                pass
    except NetworkError:
        raise
    except (OSError, ValueError) as error:
        raise ArgumentError(
            argument, f"{where}: cannot be written ({reason(error)}); name another file"
        ) from error


def check_distinct(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise NetworkError where an output would overwrite an input or another output."""
    taken = {path.resolve() for path in inputs if path is not None}
    for argument, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise ArgumentError(
                argument, f"{shown(path)}: would overwrite another file of this command; name another"
            )
        taken.add(path.resolve())


def check_array_path(path: Path, tensors: Iterable[str]) -> None:
    """Raise NetworkError unless the name's ending fits: .npy for one tensor, .npz for any number."""
    names = list(tensors)
    endings = (".npy", ".npz") if len(names) == 1 else (".npz",)
    if path.suffix not in endings:
        many = f" with {len(names)} outputs" if len(names) > 1 else ""
        raise ArgumentError("outputs", f"{shown(path)}: the name{many} must end in {' or '.join(endings)}")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray]) -> None:
    """The stored integers: a .npy of the one, a .npz of all by tensor name."""
    with _whole(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **{str(name): array for name, array in arrays.items()})  # type: ignore[arg-type]
        else:
            np.save(file, next(iter(arrays.values())))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with _whole(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    with _whole(path) as file:
        file.write(content)


def folder_for(argument: str, folder: str | os.PathLike[str]) -> Path:
    """The folder, made if needed. Raises NetworkError, in one line, where it cannot be made or takes no files."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise ArgumentError(
            argument, f"{shown(path)}: cannot be made a directory ({reason(error)}); name another"
        ) from error
    check_writable(argument, path / ".intaglio")
    return path


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Where to write what `path` shall hold: it takes its place when it is whole. Devices and links, and files in
    folders that take no other, are written to. Raises NetworkError that names `path` where it cannot be written."""
    try:
        with _in_place(path) if _is_written_to(path) else _beside(path) as file:
            yield file
    except OSError as error:
        raise NetworkError(
            f"{shown(path)}: cannot be written ({reason(error)}); name a file elsewhere"
        ) from error


def _is_written_to(path: Path) -> bool:
    special = path.is_symlink() or (path.exists() and not path.is_file())
    return special or not os.access(path.parent, os.W_OK)


@contextmanager
def _in_place(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        yield file


@contextmanager
def _beside(path: Path) -> Iterator[IO[bytes]]:
    mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".intaglio-", delete=False) as file:
        try:
            yield file
            file.flush()
            os.chmod(file.name, mode & 0o777)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
