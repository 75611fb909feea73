"""The upkeep commands: what they say, and one sentence when it goes wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import app
from events import schema as s
from features.table_lock import upkeep
from tests.features.conftest import Store

NOON = datetime(2020, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    return tmp_path / "lake"


@pytest.fixture
def three_days(lake: Path, store_events: Store) -> Path:
    for day in range(3):
        at = NOON - timedelta(days=day)
        store_events([s.MediaLiked(event_id=f"e{day}", event_at=at, user_id="otto", item_id="film")])
    return lake


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["features", *words])


def test_expire_says_what_it_dropped_and_then_that_there_is_nothing(three_days: Path) -> None:
    assert run("expire", "--days", "2").output == "engagement: 1 rows dropped\n"
    assert run("expire", "--days", "2").output == "no day is older than the retention\n"
    assert run("expire", "--days", "0").output == "no day is older than the retention\n"


def test_the_settings_say_how_much_is_kept(three_days: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEFEED_RETENTION_DAYS", "1")
    assert run("expire").output == "engagement: 2 rows dropped\n"


def test_compact_shows_files_before_and_after(lake: Path, store_events: Store) -> None:
    for number in range(3):
        store_events([s.MediaLiked(event_id=f"e{number}", event_at=NOON, user_id="otto", item_id="film")])
    assert run("compact").output == "engagement: 3 files, now 1\n"


def test_vacuum_counts_files_and_an_empty_lake_is_said(three_days: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("vacuum").output == "engagement: 0 files deleted\n"
    monkeypatch.setenv("LIVEFEED_VAR", str(three_days / "nowhere"))
    assert run("vacuum").output == "there is no table yet\n"


def test_versions_lists_every_table(three_days: Path) -> None:
    head, row = run("versions").output.splitlines()
    assert head.split() == ["table", "version", "oldest", "files", "MB"]
    assert row.split() == ["engagement", "3", "0", "3", "0.0"]


@pytest.mark.parametrize("command", ["compact", "expire", "vacuum"])
def test_upkeep_under_way_is_one_sentence(three_days: Path, command: str) -> None:
    with upkeep(three_days, "forgetting"):
        refused = run(command, "--wait-s", "0")
    assert refused.exit_code == 1
    assert refused.output.startswith("error: ") and refused.output.count("\n") == 1
