"""The command line of training: help, and one sentence when there is nothing to train on."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app

RUN = CliRunner()


def test_train_without_samples_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    result = RUN.invoke(app, ["train", "--line", "demo", "--version", "1"])
    assert result.exit_code == 1
    assert result.stderr.startswith("no samples are in")
    assert len(result.stderr.strip().splitlines()) == 1


def test_evaluate_of_a_missing_candidate_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    result = RUN.invoke(app, ["evaluate", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_negative_seed_is_refused() -> None:
    assert RUN.invoke(app, ["train", "--seed", "-1"]).exit_code == 2
