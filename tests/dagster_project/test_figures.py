"""Figures and pictures: nothing invented, curves that agree with a reference, counts that add up."""

import base64
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from dagster_project.metadata import plain, table
from dagster_project.plots import loss_curves, reliability, roc_points
from dagster_project.stored import stored_figures
from events.dead_letters import DeadLetter
from events.log import Record
from events.schema import ViewerProfile
from events.tables import to_row
from features.tables import DeltaTables
from registry.evaluation import RankingRows

AT = datetime(2026, 11, 2, 12, tzinfo=UTC)


def test_what_could_not_be_computed_is_said_and_not_shown_as_a_number() -> None:
    flat = plain({"a": None, "b": float("nan"), "c": {"d": 1, "e": 0.5}, "f": True})
    assert flat == {"a": "not computable", "b": "not computable", "c.d": 1, "c.e": 0.5, "f": True}


def test_a_table_without_rows_says_so() -> None:
    assert [dict(record.data) for record in table([]).records] == [{"rows": "none"}]
    assert [dict(record.data) for record in table([{"x": None, "y": ("a", "b")}]).records] == [{"x": "", "y": "a, b"}]


def test_the_roc_curve_has_the_area_that_scikit_learn_finds() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 5000)
    rows = RankingRows(y=y, score=y + rng.normal(size=5000), baseline=np.zeros(5000), user=np.zeros(5000))
    false, true = roc_points(rows, rows.score)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert auc(false, true) == pytest.approx(roc_auc_score(y, rows.score), abs=0.005)


def test_calibrated_probabilities_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(size=20_000)
    rows = RankingRows(y=rng.binomial(1, p), score=p, baseline=p, user=np.zeros(20_000))
    predicted, seen = reliability(rows)
    assert len(predicted) == 10
    assert seen == pytest.approx(predicted, abs=0.04)


def test_a_plot_is_a_picture_inside_markdown() -> None:
    text = loss_curves({"two_tower.loss": np.array([2.0, 1.0]), "ranker.loss": np.array([1.0, 0.5, 0.4])})
    picture = base64.b64decode(text.split("base64,")[1].rstrip(")"))
    assert picture.startswith(b"\x89PNG")


def test_every_message_is_a_row_a_duplicate_or_a_dead_letter(tmp_path: Path) -> None:
    """Five messages of two partitions: three rows, one second copy, one unreadable; a dead letter not yet passed waits."""
    tables = DeltaTables(tmp_path)
    assert stored_figures(tables, []).messages == 0
    rows = [
        to_row(
            ViewerProfile(event_id=f"e{n}", event_at=AT, user_id=f"u{n}"),
            Record("profiles", n % 2, n // 2, None, b""), ingested_at=AT, late=False,
        )
        for n in range(3)
    ]  # fmt: skip
    tables.progress("profiles")
    tables.append("profiles", rows, offsets={0: 3, 1: 2})
    letters = [DeadLetter("profiles", 0, 2, "bad", None, b"{"), DeadLetter("profiles", 1, 7, "bad", None, b"{")]
    figures = stored_figures(DeltaTables(tmp_path), letters)
    assert (figures.messages, figures.rows, figures.duplicates, figures.dead_letters) == (5, 3, 1, 1)
    assert figures.rows_by_table["profiles"] == 3
