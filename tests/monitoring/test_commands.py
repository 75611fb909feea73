"""`livefeed monitoring judge | drift`: verdict file, exit codes, one-sentence errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from monitoring.__main__ import app
from registry.evaluation import Evaluation, RankingRows, RetrievalRows
from registry.verdict import Outcome, read_verdict

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path / "var"))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def evaluate(folder: Path, *, hits: int) -> None:
    users, five = np.array([f"u{i}" for i in range(60)]), np.full(60, 5)
    y = np.tile([0, 1], 60)
    ranking = RankingRows(y=y, score=y + np.arange(120) / 500, baseline=np.arange(120) % 7, user=np.repeat(users, 2))
    retrieval = RetrievalRows(users, np.ones(60, bool), five, np.full(60, hits), np.full(60, 2))
    Evaluation(retrieval, {"click": ranking}).save(folder)


def test_a_good_candidate_gets_a_passing_verdict_file(run: Run, tmp_path: Path) -> None:
    evaluate(tmp_path, hits=4)
    result = run("judge", tmp_path)
    assert result.exit_code == 0, result.output
    verdict = read_verdict(tmp_path)
    assert verdict.passed
    assert verdict.decided_at.endswith("+00:00")
    assert verdict.evidence[0].candidate == pytest.approx(0.8)
    assert "+0.4000 .. +0.4000" in result.stdout


def test_a_bad_candidate_gets_a_failing_verdict_file_one_sentence_and_status_1(run: Run, tmp_path: Path) -> None:
    evaluate(tmp_path, hits=1)
    result = run("judge", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.strip() == f"{tmp_path} is not good enough: fail (worse_than_baseline)"
    assert read_verdict(tmp_path).outcome is Outcome.FAIL


def test_a_folder_without_an_evaluation_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("judge", tmp_path / "nothing")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"the evaluation in {tmp_path / 'nothing'} cannot be read")
    assert len(result.stderr.strip().splitlines()) == 1


def test_drift_without_samples_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("drift", "--out", tmp_path / "drift.html")
    assert result.exit_code == 1
    assert result.stderr.startswith("no samples are in")
    assert not (tmp_path / "drift.html").exists()
