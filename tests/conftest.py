"""Fixtures that several tests share."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest

# As `make` does: what tests build stays in the checkout.
os.environ.setdefault("INTAGLIO_CACHE", str(Path(__file__).resolve().parent.parent / "build"))

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("intaglio", deadline=None)
hypothesis.settings.load_profile("intaglio")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the repository; a test that needs it skips where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip("the reference material, ../shared beside the repository, is absent")
    return folder


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs a command line; its exit code, standard output, standard error."""
    from intaglio import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # main puts another in its place
        for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):  # whoever runs the tests may have them
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return call
