"""Baselines and retrieval counts against hand-made numbers and naive references."""

import numpy as np
import pytest

from tests.training.conftest import SmallSamples, make_store
from training.catalogue import catalogue_of
from training.data import prepare
from training.evaluate import Scorers, measure_retrieval, running_means, within


def test_running_means_by_hand_without_shrinkage_to_speak_of() -> None:
    at = np.array([1.0, 2.0, 3.0, 4.0])
    user, item = np.array(["a", "a", "b", "a"]), np.array(["x", "y", "x", "x"])
    found = running_means(at, user, item, np.array([1, 0, 0, 1]), shrink=1e-9)
    # row 3: viewer a has 1 of 2, item x has 1 of 2, everything before 1 of 3
    assert found[3] == pytest.approx(1 / 2 + 1 / 2 - 1 / 3)
    assert found[0] == 0.5  # nothing is known


def test_running_means_equal_a_reference_that_looks_at_all_earlier_rows_each_time() -> None:
    draw = np.random.default_rng(3)
    n = 200
    at = np.sort(draw.integers(60, size=n)).astype(float)  # many equal times
    user, item, y = draw.integers(6, size=n), draw.integers(9, size=n), draw.integers(2, size=n)
    want = []
    for row in range(n):
        earlier = at < at[row]
        mean = y[earlier].mean() if earlier.any() else 0.5
        parts = [
            (y[earlier & (c == c[row])].sum() + 4 * mean) / ((earlier & (c == c[row])).sum() + 4) for c in (user, item)
        ]
        want.append(sum(parts) - mean)
    np.testing.assert_allclose(running_means(at, user, item, y, shrink=4.0), want)


def test_a_later_label_changes_no_earlier_baseline() -> None:
    at, who, what = np.arange(50.0), np.arange(50) % 3, np.arange(50) % 4
    y = (np.arange(50) % 5 == 0).astype(int)
    changed = y.copy()
    changed[30:] = 1 - changed[30:]
    before, after = running_means(at, who, what, y), running_means(at, who, what, changed)
    np.testing.assert_array_equal(before[:31], after[:31])
    assert (before[31:] != after[31:]).any()


def test_within_equals_sorting() -> None:
    draw = np.random.default_rng(0)
    scores, target = draw.integers(8, size=(40, 30)).astype(float), draw.integers(30, size=40)
    order = np.argsort(-scores, axis=1, kind="stable")
    want = [target[row] in order[row, :5] for row in range(40)]
    np.testing.assert_array_equal(within(scores, target, 5), want)


def test_recall_of_an_oracle_is_whole_and_popularity_is_that_of_training(samples: SmallSamples) -> None:
    data = prepare(samples, train_share=0.8)
    catalogue = catalogue_of(make_store(), samples)
    keys = data.tensors["item_key"]
    oracle = Scorers(  # viewers are one-hot by the item they will speak for, items by themselves; 0 is `new`
        embed_user=lambda x: np.eye(300)[keys[data.test[data.positive[data.test]]]],
        embed_item=lambda x: np.eye(300)[x["item_key"]],
        rank=lambda x: np.zeros((len(x["item_key"]), 2)),
    )
    rows = measure_retrieval(data, catalogue, oracle, k=10)
    assert rows.recall() == 1.0
    counts = dict.fromkeys(sorted([f"m{n}" for n in range(240)] + ["new"]), 0)
    for row in data.train:
        counts[data.item_key[row]] += int(samples.labels["click"][row] or samples.labels["like"][row])
    top = set(sorted(counts, key=lambda key: -counts[key])[:10])
    found = sum(data.item_key[row] in top for row in data.test if data.positive[row])
    assert rows.popularity_hits.sum() == found
    assert rows.positives.sum() == data.positive[data.test].sum()


def test_viewers_are_warm_when_they_had_a_positive_in_training(samples: SmallSamples) -> None:
    strangers = samples.user_id.copy()
    strangers[-200:] = "stranger"
    data = prepare(SmallSamples(**{**vars(samples), "user_id": strangers}), train_share=0.8)
    scorers = Scorers(*(lambda x: np.ones((len(next(iter(x.values()))), 2)) for _ in range(3)))
    rows = measure_retrieval(data, catalogue_of(make_store(), samples), scorers)
    assert dict(zip(rows.user, rows.warm, strict=True))["stranger"] == np.False_
    assert rows.warm.sum() == len(rows.user) - 1


def test_the_catalogue_holds_all_media_and_shows_only_what_is_shown(samples: SmallSamples) -> None:
    catalogue = catalogue_of(make_store(hidden=[7]), samples)
    shown = set(catalogue.keys[catalogue.shown])
    assert len(catalogue.keys) == 241
    assert "m7" not in shown
    assert {"m8", "new"} <= shown


class FromDraws:
    """The same samples, shown by draws where `drawn` says so."""

    def __init__(self, samples: SmallSamples, drawn: np.ndarray) -> None:
        self._samples, self.source = samples, np.where(drawn, "explore", "trending")

    def __getattr__(self, name: str) -> object:
        return getattr(self._samples, name)


def test_retrieval_is_measured_on_drawn_places_alone_where_there_are_enough(samples: SmallSamples) -> None:
    most = np.arange(len(samples.event_at)) % 4 != 0
    catalogue = catalogue_of(make_store(), samples)
    scorers = Scorers(_flat, _flat, _flat)
    data = prepare(FromDraws(samples, most), train_share=0.8)
    test = data.test[data.positive[data.test]]
    rows = measure_retrieval(data, catalogue, scorers)
    assert (rows.explored, int(rows.positives.sum())) == (True, int(most[test].sum()))

    few = most & (np.cumsum(most & data.positive) <= 30)
    data = prepare(FromDraws(samples, few), train_share=0.8)
    rows = measure_retrieval(data, catalogue, scorers)
    assert (rows.explored, int(rows.positives.sum())) == (False, len(test))


def _flat(tensors: object) -> np.ndarray:
    return np.ones((len(next(iter(dict(tensors).values()))), 1), np.float32)  # type: ignore[call-overload]
