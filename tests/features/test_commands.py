"""The room's commands: the page of definitions, and one sentence for whatever is wrong."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.__main__ import app
from features.catalogue import rows, window
from features.definitions import FEATURES

SAMPLES = ["samples", "--from", "2026-11-01", "--to", "2026-11-02"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"


def test_the_features_page_is_what_the_definitions_say() -> None:
    got = CliRunner().invoke(app, ["list", "--markdown"])
    assert got.exit_code == 0 and got.stdout == PAGE.read_text(encoding="utf-8")


def test_every_definition_is_listed_once() -> None:
    names = [row.name for row in rows()]
    assert len(names) == len(set(names)) == len(FEATURES)


def test_windows_are_written_in_their_largest_unit() -> None:
    assert [window(x) for x in (None, 604_800.0, 3_600.0, 900.0, 90.0)] == ["ever", "7 d", "1 h", "15 min", "90 s"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["samples", "--from", "2026-11-02", "--to", "2026-11-01"], "the range ends on 2026-11-01, before it starts"),
        (["samples", "--from", "2026-11-01", "--to", "2026-11-02"], "there is no table 'impressions'"),
        (
            [*SAMPLES, "--attribution", "both"],
            "--attribution 'both' is not known; allowed are negative-cache, correction",
        ),
        ([*SAMPLES, "--until", "noon"], "--until 'noon' is not a time; write it as YYYY-MM-DDTHH:MM:SSZ"),
        ([*SAMPLES, "--real-negatives", "gift,hug"], "--real-negatives 'hug' is not known; allowed are click, watch, "),
        ([*SAMPLES, "--real-negatives", "gift"], "--real-negatives 'gift' is for --attribution correction only"),
        (["tables", "--from", "2026-11-01", "--to", "2026-11-02"], "there is no table of events"),
        (["tables", "--from", "1 May", "--to", "2026-11-02"], "--from '1 May' is not a date; write it as YYYY-MM-DD"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    got = CliRunner().invoke(app, arguments)
    assert got.exit_code == 1 and sentence in got.stderr and got.stderr.count("\n") == 1


def test_missing_java_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from features.errors import SparkUnavailable
    from features.spark import jars_in

    with pytest.raises(SparkUnavailable, match="`livefeed stack jars` downloads them"):
        jars_in(tmp_path)
