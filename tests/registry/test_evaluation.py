"""The arrays of an evaluation and the figures read from them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from registry.evaluation import BadEvaluation, Evaluation, RankingRows, RetrievalRows, auc


def small() -> Evaluation:
    retrieval = RetrievalRows(
        user=np.array(["ann", "bob", "eve"]), warm=np.array([True, False, False]), positives=np.array([4, 1, 3]),
        hits=np.array([3, 0, 3]), popularity_hits=np.array([1, 1, 0]),
    )  # fmt: skip
    ranking = RankingRows(
        y=np.array([1, 0, 1, 0]), score=np.array([0.9, 0.2, 0.4, 0.5]), baseline=np.array([0.5, 0.5, 0.5, 0.5]),
        user=np.array(["ann", "ann", "bob", "bob"]),
    )  # fmt: skip
    return Evaluation(retrieval, {"click": ranking}, {"ranker.loss": np.array([0.7, 0.6])})


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_the_reference_with_and_without_ties(seed: int) -> None:
    draw = np.random.default_rng(seed)
    y = draw.integers(2, size=300)
    for score in (draw.random(300), draw.integers(5, size=300)):
        assert auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)


def test_auc_by_hand_counts_pairs_and_half_a_tie() -> None:
    # positives 2 and 1 against negatives 1 and 0: wins 2 > 1, 2 > 0, 1 > 0 and one tie
    assert auc(np.array([1, 1, 0, 0]), np.array([2, 1, 1, 0])) == 3.5 / 4


@pytest.mark.parametrize("y", [[0, 0], [1, 1], []])
def test_auc_of_one_class_is_not_a_number_but_nothing(y: list[int]) -> None:
    assert auc(np.array(y), np.zeros(len(y))) is None


def test_recall_is_found_over_positives_for_all_warm_and_cold_viewers() -> None:
    rows = small().retrieval
    assert (rows.recall(), rows.recall(warm=True), rows.recall(warm=False)) == (6 / 8, 3 / 4, 3 / 4)
    assert (rows.popularity_recall(), rows.popularity_recall(warm=False)) == (2 / 8, 1 / 4)
    assert (rows.viewers(), rows.viewers(warm=True), rows.viewers(warm=False)) == (3, 1, 2)


def test_figures_that_cannot_be_computed_are_none_and_are_not_measured() -> None:
    whole = small()
    only_warm = RetrievalRows(
        *(getattr(whole.retrieval, n)[:1] for n in ("user", "warm", "positives", "hits", "popularity_hits"))
    )
    rows = whole.ranking["click"]
    one_class = RankingRows(y=np.ones(4), score=rows.score, baseline=rows.baseline, user=rows.user)
    found = Evaluation(only_warm, {"click": one_class})
    assert found.figures()["recall_at_100_cold"] is None
    assert found.figures()["auc_click"] is None
    assert not {"recall_at_100_cold", "auc_click"} & set(found.measured())


def test_logloss_and_calibration_equal_the_reference() -> None:
    rows = small().ranking["click"]
    assert rows.logloss() == pytest.approx(log_loss(rows.y, rows.score))
    assert rows.calibration() == pytest.approx(2.0 / 2)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    whole = small()
    whole.save(tmp_path)
    again = Evaluation.load(tmp_path)
    assert again.figures() == whole.figures()
    np.testing.assert_array_equal(again.retrieval.user, whole.retrieval.user)
    np.testing.assert_array_equal(again.curves["ranker.loss"], [0.7, 0.6])


def test_a_missing_or_broken_evaluation_is_one_sentence_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadEvaluation, match=str(tmp_path)):
        Evaluation.load(tmp_path)
    small().save(tmp_path)
    (tmp_path / "evaluation.npz").write_bytes(b"not an archive")
    with pytest.raises(BadEvaluation, match="cannot be read"):
        Evaluation.load(tmp_path)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(BadEvaluation, match="equally long"):
        RankingRows(y=np.ones(2), score=np.ones(3), baseline=np.ones(2), user=np.array(["a", "b"]))
