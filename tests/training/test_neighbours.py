"""Neighbours by hand-made histories: who watched this also watched that, and what no list may say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from registry.neighbours import HOSTS, ITEM_CF, MEDIA, MF, NeighbourLists
from tests.training.conftest import SmallSamples, make_samples
from training.data import Prepared, prepare
from training.errors import BadDials
from training.factors import FactorsConfig, item_factors, near_by_factors, solved
from training.interactions import DAY_S, Chosen, Histories, HistoryConfig, bounded, histories_of
from training.neighbours import NeighboursConfig, Pairs, best_of, co_watched, merged, to_lists, write_neighbours

HISTORY, COSINE = HistoryConfig(), NeighboursConfig(shrink=1e-9)


def watched(*histories: str, at: float = 0.0, config: HistoryConfig = HISTORY) -> Histories:
    """One viewer a word, each letter an item of `abcdefgh`, chosen a second apart."""
    rows = [(f"u{who}", item, at + second) for who, word in enumerate(histories) for second, item in enumerate(word)]
    viewer, item, when = (np.array(column) for column in zip(*rows, strict=True))
    return histories_of(Chosen(viewer, item, when.astype(float), np.ones(len(rows))), list("abcdefgh"), config)


def found(pairs: Pairs, item: str) -> dict[str, float]:
    own = pairs.item == "abcdefgh".index(item)
    return {"abcdefgh"[near]: float(score) for near, score in zip(pairs.near[own], pairs.score[own], strict=True)}


def test_a_pair_scores_the_cosine_of_its_viewers() -> None:
    # a: 4 viewers, b: 3 of these and 6 more (9), c: 3 of a's: cos(a, b) = 3 / sqrt(4 x 9), cos(a, c) = 3 / sqrt(4 x 3)
    pairs = co_watched(watched("abc", "abc", "abc", "a", *["b"] * 6), COSINE)
    assert found(pairs, "a") == pytest.approx({"c": 3 / np.sqrt(12), "b": 0.5}, rel=1e-3)


def test_few_common_viewers_count_less_than_many() -> None:
    few = co_watched(watched("ab", "ab", "ab"), NeighboursConfig(shrink=3.0))
    many = co_watched(watched(*["ab"] * 9), NeighboursConfig(shrink=3.0))
    assert (found(few, "a")["b"], found(many, "a")["b"]) == pytest.approx((3 / 6, 9 / 12), rel=1e-3)


def test_a_pair_that_two_people_chose_is_in_no_list() -> None:
    pairs = co_watched(watched("ab", "ab", "ac", "ac", "ac"), COSINE)
    assert found(pairs, "a").keys() == {"c"}
    assert found(pairs, "b") == {}


def test_one_person_choosing_often_is_one_person() -> None:
    assert len(co_watched(watched("abababab", "ab"), COSINE).item) == 0


def test_more_damping_takes_what_everybody_watches_down() -> None:
    histories = watched(*["abz"] * 3, "ab", *["ac"] * 3, *["b"] * 12)
    assert list(found(co_watched(histories, replace(COSINE, damping=0.0)), "a")) == ["b", "c"]
    assert list(found(co_watched(histories, replace(COSINE, damping=0.5)), "a")) == ["c", "b"]


def test_a_choice_weighs_half_after_the_half_life() -> None:
    day = np.array([0.0, 10.0]) * DAY_S
    rows = np.array([0, 0]), np.array([0, 1])
    histories = bounded(
        *rows, at=day, strength=np.array([1.0, 2.0]), shape=(1, 2), config=HistoryConfig(half_life_d=10)
    )
    assert histories.weights.toarray().tolist() == [[0.5, 2.0]]


def test_what_is_chosen_again_counts_once_at_its_strongest_and_newest() -> None:
    when, strength = np.array([0.0, 5.0, 10.0]) * DAY_S, np.array([2.0, 1.0, 1.0])
    histories = bounded(
        np.zeros(3, np.int64), np.array([0, 0, 1]), at=when, strength=strength, shape=(1, 2),
        config=HistoryConfig(half_life_d=5),
    )  # fmt: skip
    assert histories.weights.toarray().tolist() == [[1.0, 1.0]]  # strength 2, five days ago


def test_only_the_newest_items_of_a_long_history_count() -> None:
    histories = watched("abcda", config=HistoryConfig(longest=2))
    assert np.flatnonzero(histories.weights.toarray()[0]).tolist() == [0, 3]  # d, and a, which came back


def test_a_cut_into_slices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    words = ["".join(draw.choice(list("abcdefgh"), 4, replace=False)) for _ in range(60)]
    whole = co_watched(watched(*words), COSINE)
    monkeypatch.setattr("training.neighbours.PRODUCTS", 50)
    cut = co_watched(watched(*words), COSINE)
    assert len(whole.item) > 20
    for left, right in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_best_come_first_and_ties_in_row_order() -> None:
    item, near = np.array([1, 0, 0, 0]), np.array([0, 3, 2, 1])
    best = best_of(item, near, np.array([0.1, 0.5, 0.9, 0.5], np.float32), method=MF, k=2)
    assert list(zip(best.item.tolist(), best.near.tolist(), strict=True)) == [(0, 2), (0, 1), (1, 0)]


def test_a_merged_pair_keeps_both_methods_and_the_sum_of_their_scaled_scores() -> None:
    def pairs(near: list[int], score: list[float], method: int) -> Pairs:
        return best_of(np.zeros(2, np.int64), np.array(near), np.array(score, np.float32), method=method, k=9)

    both = merged(pairs([1, 2], [0.3, 0.1], ITEM_CF), pairs([1, 3], [0.9, 0.9], MF), NeighboursConfig(mf_share=0.5))
    # scaled to a mean of 1: item-CF 1.5 and 0.5, MF 1 and 1; half of each
    assert both.near.tolist() == [1, 3, 2]
    assert both.score.tolist() == pytest.approx([1.25, 0.5, 0.25])
    assert both.method.tolist() == [ITEM_CF | MF, MF, ITEM_CF]


def test_enough_gradient_steps_solve_the_least_squares_of_the_paper() -> None:
    draw = np.random.default_rng(1)
    weights = sparse.csr_array(np.where(draw.random((5, 7)) < 0.5, draw.random((5, 7)), 0.0).astype(np.float32))
    ours, theirs = (draw.normal(size=(n, 3)).astype(np.float32) for n in (5, 7))
    got = solved(weights, ours, theirs, FactorsConfig(factors=3, steps=12, alpha=4.0, ridge=0.5))
    for row, held in enumerate(weights.toarray()):
        trust, chose = np.diag(1 + 4.0 * held), (held > 0).astype(float)
        exact = np.linalg.solve(theirs.T @ trust @ theirs + 0.5 * np.eye(3), theirs.T @ trust @ chose)
        np.testing.assert_allclose(got[row], exact, atol=1e-3)


def test_factors_put_the_items_of_one_crowd_together() -> None:
    crowds = [*["abc", "bcd", "cda", "dab"] * 5, *["efg", "fgh", "ghe", "hef"] * 5]
    histories, config = watched(*crowds), FactorsConfig(factors=2, min_viewers=10)
    item, near, _ = near_by_factors(
        item_factors(histories.weights, config, seed=1), histories.viewers_of, k=3, config=config
    )
    assert len(item) > 0
    assert ((item < 4) == (near < 4)).all()


def test_an_item_with_few_viewers_is_not_compared_by_factors() -> None:
    factors, viewers = np.ones((3, 2), np.float32), np.array([10, 10, 9])
    item, near, _ = near_by_factors(factors, viewers, k=5, config=FactorsConfig(min_viewers=10))
    assert (item.tolist(), near.tolist()) == ([0, 1], [1, 0])


def test_lists_are_padded_and_items_without_one_say_so() -> None:
    pairs = best_of(
        np.array([2, 2, 0]), np.array([0, 1, 2]), np.array([4.0, 2.0, 1.0], np.float32), method=ITEM_CF, k=5
    )
    lists = to_lists(pairs, 4)
    assert lists.of.tolist() == [0, -1, 1, -1]
    assert lists.rows.tolist() == [[2, -1], [0, 1]]
    assert lists.scores.tolist() == [[0.25, 0.0], [1.0, 0.5]]
    assert (lists.rows.dtype, lists.scores.dtype) == (np.int32, np.float16)


def prepared(samples: SmallSamples) -> Prepared:
    return prepare(samples, train_share=0.8)


def written(samples: SmallSamples, data: Prepared, folder: Path) -> dict[str, NeighbourLists]:
    ids = np.array([f"m{n}" for n in range(240)])
    write_neighbours(
        folder, samples, data, ids, config=NeighboursConfig(), history=HISTORY, factors=FactorsConfig(), seed=1
    )
    return {kind: NeighbourLists.open(folder / "neighbours" / kind) for kind in (MEDIA, HOSTS)}


def test_neighbours_share_a_tag_in_a_log_whose_viewers_love_tags(tmp_path: Path) -> None:
    samples = make_samples(items=80)
    lists = written(samples, prepared(samples), tmp_path)[MEDIA]
    listed = np.flatnonzero(lists.of >= 0)
    first = lists.rows[lists.of[listed], 0]
    assert len(listed) > 60
    assert np.mean(first % 8 == listed % 8) > 0.4  # one in eight by chance


def test_rooms_are_neighbours_by_their_hosts(tmp_path: Path) -> None:
    samples = make_samples(rows=2000, items=24)
    live = replace(samples, content_type=np.array(["LIVE", "VIDEO"] * 1000, object))
    hosts = written(live, prepared(live), tmp_path)[HOSTS]
    shown_live = {str(key) for key in live.item_key[:1600:2]}
    assert set(hosts.ids) <= shown_live
    assert (hosts.rows >= 0).any()


def test_what_happens_in_the_test_period_changes_nothing(samples: SmallSamples, tmp_path: Path) -> None:
    data = prepared(samples)
    turned = samples.label("click").copy()
    turned[data.test] = 1 - turned[data.test]
    later = samples.relabelled(click=turned)
    before, after = written(samples, data, tmp_path / "a"), written(later, prepared(later), tmp_path / "b")
    for name in ("of", "rows", "scores"):
        np.testing.assert_array_equal(getattr(before[MEDIA], name), getattr(after[MEDIA], name))


def test_a_log_too_small_for_neighbours_writes_empty_lists(samples: SmallSamples, tmp_path: Path) -> None:
    small = make_samples(rows=300, items=2000)
    lists = written(small, prepared(small), tmp_path)
    assert all(len(one.rows) == 0 for one in lists.values())
    assert len(lists[MEDIA].of) == 240


def test_dials_out_of_range_are_a_sentence() -> None:
    with pytest.raises(BadDials, match="dial min_common is 0; it must be above 0"):
        NeighboursConfig(min_common=0)
