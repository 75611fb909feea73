"""Fixtures every test may use: the real parts (started once a run), the shared data, an empty lake."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import Settings
from stack.parts import Parts

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Every real part on free ports, with state in a temporary folder; the proxy takes its now from the request."""
    settings = Settings(
        var=tmp_path_factory.mktemp("var"), clock="request", commit_every_s=1.0, request_budget_ms=2000.0
    )
    with Parts.with_free_ports(settings) as running:
        running.up(report=print)
        yield running


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """An empty folder for offline tables."""
    return tmp_path / "lake"


@pytest.fixture(scope="session", autouse=True)
def no_spark_left() -> Iterator[None]:
    """Stop the one Spark session of the run while logging still has somewhere to write."""
    yield
    from features import spark  # imports no JVM by itself

    spark.stop()
    logging.getLogger("py4j.clientserver").setLevel(
        logging.WARNING
    )  # it takes leave after pytest has closed its streams
