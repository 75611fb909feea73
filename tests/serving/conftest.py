"""What the serving tests share."""

from pathlib import Path

import pytest

from tests.serving.small_world import SmallWorld


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    """The small platform, filled, without a release."""
    return SmallWorld(tmp_path).fill()
