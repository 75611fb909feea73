"""A place to deploy at, whose model server reads its configuration at once."""

from pathlib import Path

import pytest

from tests.release.place import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("release.traffic.CONFIG_POLL_S", 0.0)
    return Place(tmp_path)
