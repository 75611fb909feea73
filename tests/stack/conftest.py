"""What the stack's tests share: settings in a folder of their own, on free ports."""

from pathlib import Path

import pytest

from settings import Settings, load
from stack.catalogue import with_free_ports


@pytest.fixture
def own_settings(tmp_path: Path) -> Settings:
    """Settings whose state lies under the test's folder and whose ports are free."""
    return with_free_ports(load().model_copy(update={"var": tmp_path / "var"}))
