"""The drift report over snapshots: what moved is named, what did not is not, and no rows is an error."""

from pathlib import Path

import numpy as np
import pytest

from features.encoder import DEFAULT_CONFIG
from monitoring.drift import MAX_ROWS, NOTHING, compared_features, drift_report, to_frame
from monitoring.errors import NothingToCompare


def rows(n: int, *, plays: float, language: str, seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "user.plays": float(rng.poisson(plays)),
            "item.satisfaction": float(rng.normal(0.5, 0.1)),
            "item.language": language if rng.random() < 0.8 else "en",
            "item.category": "music",
            "user.user_id": f"u{rng.integers(1e9)}",
        }
        for _ in range(n)
    ]


def test_what_moved_is_named_and_what_did_not_is_not(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "drift.html"
    report = drift_report(rows(800, plays=5, language="ko", seed=1), rows(600, plays=30, language="ja", seed=2), page)
    scores = {feature.name: feature for feature in report.features}
    assert set(report.drifted) == {"user.plays", "item.language"}
    assert scores["item.satisfaction"].drifted is False
    assert scores["item.category"].score == pytest.approx(0.0, abs=1e-9)
    # a number that neither side holds is not "no drift"; words that are missing are a word of their own
    assert (scores["item.views_1h"].score, scores["item.views_1h"].drifted) == (None, None)
    assert (report.reference_rows, report.current_rows) == (800, 600)
    known = [feature for feature in report.features if feature.drifted is not None]
    assert report.share == pytest.approx(2 / len(known))
    assert page.stat().st_size > 100_000
    assert report.features[0].name in report.drifted


def test_every_number_and_word_of_the_ranker_is_compared_but_no_id() -> None:
    names = compared_features()
    assert {"user.plays", "cross.tag_affinity", "item.language", "context.surface"} <= set(names)
    assert not {"user.user_id", "item.item_key", "item.creator_id"} & set(names)
    assert len(names) == sum(map(len, DEFAULT_CONFIG.numbers.values())) + len(DEFAULT_CONFIG.words) - 3


def test_no_rows_on_a_side_is_one_sentence(tmp_path: Path) -> None:
    some = rows(3, plays=1, language="ko", seed=1)
    with pytest.raises(NothingToCompare, match="the current side of the drift report has no rows"):
        drift_report(some, [], tmp_path / "drift.html")
    with pytest.raises(NothingToCompare, match="the reference side"):
        drift_report([], some, tmp_path / "drift.html")


def test_many_rows_are_thinned_evenly_and_missing_values_stay_missing() -> None:
    many = [{"user.plays": float(i) if i % 2 else None, "item.language": None} for i in range(MAX_ROWS * 3)]
    frame = to_frame(many, {"user.plays": "number", "item.language": "word"})
    assert len(frame) == MAX_ROWS
    assert frame["user.plays"].max() > MAX_ROWS * 3 - 5
    assert frame["user.plays"].isna().mean() == pytest.approx(0.5, abs=0.05)
    assert set(frame["item.language"]) == {NOTHING}
