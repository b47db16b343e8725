"""Fixtures that several tests share."""

from pathlib import Path

import hypothesis
import pytest

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
