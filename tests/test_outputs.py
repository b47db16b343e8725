"""Files that a command writes: what is said where they cannot be."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from intaglio import outputs
from intaglio.network import NetworkError

FULL = Path("/dev/full")
WRITERS = {
    "json": lambda path: outputs.write_json(path, {"cycles": 1}),
    "npy": lambda path: outputs.write_arrays(path, {"y": np.zeros(100_000, np.uint8)}),
    "npz": lambda path: outputs.write_arrays(path, {"y": np.zeros(100_000, np.uint8), "z": np.zeros(3)}),
}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("ending", WRITERS)
def test_a_device_that_is_full(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"file.{ending}"
    path.symlink_to(FULL)
    with pytest.raises(
        NetworkError, match=rf"^{path}: cannot be written \(the disk is full\); name a file elsewhere$"
    ):
        WRITERS[ending](path)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_disk_that_is_full_keeps_what_was_there(tmp_path: Path, monkeypatch, ending: str) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(NetworkError, match=rf"^{path}: cannot be written \(the disk is full\)"):
        WRITERS[ending](path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_outputs_on_a_full_disk_are_named_by_the_command(call, tmp_path: Path) -> None:
    path = tmp_path / "outputs.npy"
    path.symlink_to(FULL)
    models = Path(outputs.__file__).with_name("models")
    golden = ("golden", models / "digits_sbnq4.txt", "--inputs", models / "digits_test.npz", "--limit", 2)
    code, _, said = call(*golden, "--outputs", path)
    assert code == 2
    assert f"{path}: cannot be written (the disk is full)" in said
