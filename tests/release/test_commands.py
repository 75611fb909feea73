"""The release commands say what is wrong in one sentence."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from release.__main__ import app
from tests.serving.small_world import SmallWorld


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    monkeypatch.setenv("LIVEFEED_MLFLOW_ADDRESS", "http://127.0.0.1:1")
    return tmp_path


def test_status_shows_what_is_in_traffic(var: Path) -> None:
    SmallWorld(var).fill().release(3)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0
    assert "demo-3" in result.stdout
    assert "stable" in result.stdout


def test_deploying_what_is_no_candidate_is_one_sentence(var: Path) -> None:
    result = CliRunner().invoke(app, ["deploy", str(var / "nothing")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"verdict {var}/nothing/verdict.json cannot be read")
    assert result.stderr.count("\n") == 1


def test_rolling_back_to_what_was_never_published_is_one_sentence(var: Path) -> None:
    result = CliRunner().invoke(app, ["rollback", "demo-7"])
    assert (result.exit_code, result.stderr) == (1, "release 'demo-7' is not published; allowed are none yet\n")
