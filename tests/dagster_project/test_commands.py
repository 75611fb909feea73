"""`livefeed pipeline run`: progress, the summary file, exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dagster_project.__main__ import app
from features.errors import FeaturesError

DAYS = ["--from", "2026-11-02", "--to", "2026-11-04"]


@pytest.fixture
def run(rooms: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DAGSTER_HOME", "")  # the command sets it; this puts it back
    return lambda *words: CliRunner().invoke(app, ["run", *words])


def test_a_run_shows_progress_and_writes_its_figures(run: Any, tmp_path: Path) -> None:
    summary = tmp_path / "deep" / "summary.json"
    result = run(*DAYS, "--summary", str(summary))
    assert result.exit_code == 0, result.output
    assert "samples: done in" in result.output
    assert "  check better_than_popularity: passed: recall@100" in result.output
    assert "  events_stored: 12 of 12 messages stored" in result.output
    body = json.loads(summary.read_text())
    assert (body["succeeded"], body["failure"], body["verdict"], body["release"]) == (True, None, "pass", "demo-1")
    assert (body["from"], body["to"]) == ("2026-11-02", "2026-11-04")
    assert body["assets"]["events_stored"]["duplicates"] == 1
    assert body["assets"]["samples"]["join_rate"] == 0.9
    assert body["seconds"]["candidate"] > 0
    assert {check["name"] for check in body["checks"]} >= {"there_are_samples", "gate_passes"}


def test_a_run_that_a_check_stops_ends_with_one_sentence_and_still_writes_its_figures(
    run: Any, rooms: Any, tmp_path: Path
) -> None:
    rooms.hits = 0.1
    result = run(*DAYS, "--summary", str(tmp_path / "summary.json"))
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("asset check better_than_popularity of candidate failed")
    assert "Traceback" not in result.output
    body = json.loads((tmp_path / "summary.json").read_text())
    assert (body["succeeded"], body["release"]) == (False, None)


def test_a_room_that_raises_ends_with_its_sentence_and_no_traceback(run: Any, rooms: Any) -> None:
    rooms.train_error = FeaturesError("the samples have no column 'click'")
    result = run(*DAYS)
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("asset candidate failed: the samples have no column 'click'")
    assert "Traceback" not in result.output


def test_days_that_are_no_partitions_and_bad_settings_are_one_sentence(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("--from", "1901-01-01", "--to", "1901-01-02")
    assert result.exit_code == 1
    assert result.stderr.startswith("1901-01-01 is not a daily partition; allowed are 2026-11-01 to")
    monkeypatch.setenv("LIVEFEED_LINE", "No!")
    result = run(*DAYS)
    assert result.exit_code == 1
    assert result.stderr.startswith("LIVEFEED_LINE='No!' is not allowed")
