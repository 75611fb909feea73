"""Aggregates: values worked out by hand, and the law that lets partitions keep states of their own."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.aggregates import Affinity, Aggregate, Contribution, Last, Present, Ratio, Recent, Sum, Top
from features.definitions import DAY, HOUR, MINUTE

Told = list[tuple[float, Contribution]]
NOW = 30 * DAY


def state_of(aggregate: Aggregate, told: Told) -> Any:
    state = aggregate.zero()
    for at, what in told:
        state = aggregate.add(state, at, what)
    return state


def value_of(aggregate: Aggregate, told: Told, now: float = NOW) -> Any:
    return aggregate.finish(state_of(aggregate, told), now)


def keys(*pairs: tuple[float, str]) -> Told:
    return [(at, Contribution(1.0, key=key)) for at, key in pairs]


def test_a_windowed_sum_counts_its_own_bucket_and_those_before_it() -> None:
    hour = Sum(HOUR, MINUTE)
    told = [(0.0, Contribution(1.0)), (61.0, Contribution(2.0)), (3_599.0, Contribution(4.0))]
    assert value_of(hour, told, now=3_599.0) == 7.0
    assert value_of(hour, told, now=3_600.0) == 6.0  # minute 0 has left
    assert value_of(hour, told, now=3_660.0) == 4.0  # minute 1 has left
    assert value_of(hour, told, now=9_999.0) == 0.0
    assert value_of(hour, told, now=30.0) == 1.0  # as of then, nothing later is known


def test_a_sum_forgets_buckets_that_left_the_window() -> None:
    state = state_of(Sum(10 * MINUTE, MINUTE), [(n * MINUTE, Contribution(1.0)) for n in range(500)])
    assert len(state) <= 10


def test_a_sum_for_ever_counts_everything() -> None:
    assert value_of(Sum(), [(0.0, Contribution(1.5)), (20 * DAY, Contribution(2.0))]) == 3.5


def test_a_ratio_is_shrunk_to_its_prior_and_unknown_without_any_denominator() -> None:
    told = [(1.0, Contribution(1.0, den=1.0)), (2.0, Contribution(0.0, den=1.0))]
    assert value_of(Ratio(prior=(1.0, 4.0)), told) == pytest.approx(2.0 / 6.0)
    assert value_of(Ratio(), [(1.0, Contribution(1.0))]) is None


def test_the_last_value_holds_by_event_time_whenever_it_comes() -> None:
    told = [(5.0, Contribution(value="new")), (1.0, Contribution(value="old"))]
    assert value_of(Last(), told) == "new"
    assert value_of(Last(), [(5.0, Contribution(value="a")), (5.0, Contribution(value="b"))]) == "b"
    assert value_of(Last(), [(5.0, Contribution(value=["b"])), (5.0, Contribution(value=["a", "z"]))]) == ["b"]


def test_recent_holds_distinct_ids_newest_first_inside_its_window() -> None:
    told = keys((1.0, "a"), (2.0, "b"), (3.0, "a"), (2.5, "c"))
    assert value_of(Recent(10), told, now=3.0) == ["a", "c", "b"]
    assert value_of(Recent(2), told, now=3.0) == ["a", "c"]
    assert value_of(Recent(10, window_s=1.0), told, now=3.5) == ["a", "c"]


def test_top_ranks_words_by_weight_and_breaks_ties_by_name() -> None:
    told = keys((0.0, "z"), (1.0, "b"), (2.0, "a"), (3.0, "z"))
    assert value_of(Top(2, 7 * DAY), told, now=DAY) == ["z", "a"]
    assert value_of(Top(2, 7 * DAY), told, now=7 * DAY) == []


def test_affinity_keeps_the_words_met_most_often() -> None:
    told = [
        (n, Contribution(1.0, den=den, key=key)) for n, (key, den) in enumerate((("a", 3.0), ("b", 1.0), ("c", 2.0)))
    ]
    assert value_of(Affinity(2, prior=(0.6, 1.0)), told) == {"a": pytest.approx(1.6 / 4), "c": pytest.approx(1.6 / 3)}


def test_a_viewer_is_present_until_leaving_or_for_one_lease() -> None:
    told = [(0.0, Contribution(1.0, key="u")), (10.0, Contribution(1.0, key="v")), (20.0, Contribution(0.0, key="v"))]
    assert value_of(Present(90.0), told, now=21.0) == 1.0
    assert value_of(Present(90.0), told, now=90.0) == 0.0


def test_leaving_counts_when_a_heartbeat_has_the_same_instant() -> None:
    beat, left = (60.0, Contribution(1.0, key="u")), (60.0, Contribution(0.0, key="u"))
    assert value_of(Present(90.0), [beat, left], now=61.0) == value_of(Present(90.0), [left, beat], now=61.0) == 0.0


WORDS = st.sampled_from("abcdef")
WEIGHTS = st.sampled_from([-0.5, 0.0, 0.25, 1.0, 2.0])  # sums of these are exact in binary
TIMES = st.integers(min_value=0, max_value=int(20 * DAY)).map(float) | st.sampled_from([100.0, 200.0, 10 * DAY])
CONTRIBUTIONS = st.builds(Contribution, weight=WEIGHTS, den=WEIGHTS.map(abs), key=WORDS, value=WORDS)
STORIES = st.lists(st.tuples(TIMES, CONTRIBUTIONS), max_size=40)
AGGREGATES: list[Aggregate] = [
    Sum(), Sum(7 * DAY, HOUR), Sum(HOUR, MINUTE), Ratio(prior=(1.0, 4.0)), Last(), Recent(3), Recent(3, 7 * DAY),
    Top(2, 7 * DAY), Affinity(6, prior=(0.6, 1.0)), Present(90.0),
]  # fmt: skip


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=str)
@settings(max_examples=80, deadline=None)
@given(told=STORIES, data=st.data())
def test_merged_partitions_say_what_one_state_says_in_any_order_and_split(
    aggregate: Aggregate, told: Told, data: st.DataObject
) -> None:
    one = value_of(aggregate, sorted(told, key=lambda pair: pair[0]))
    shuffled = data.draw(st.permutations(told))
    lanes = data.draw(st.lists(st.integers(0, 2), min_size=len(told), max_size=len(told)))
    states = [state_of(aggregate, [x for x, lane in zip(shuffled, lanes, strict=True) if lane == n]) for n in range(3)]
    before = copy.deepcopy(states)
    for first, second, third in ((0, 1, 2), (2, 0, 1)):
        merged = aggregate.merge(aggregate.merge(states[first], states[second]), states[third])
        assert alike(aggregate.finish(merged, NOW), one)
    assert states == before  # neither argument is changed


@settings(max_examples=80, deadline=None)
@given(told=STORIES)
def test_recents_quick_way_is_the_merge(told: Told) -> None:
    quick, slow = Recent(3).zero(), Recent(3).zero()
    for at, what in told:
        quick = Recent(3).add(quick, at, what)
        slow = Recent(3).merge(slow, [[at, what.key]])
        assert quick == slow


def alike(left: Any, right: Any) -> bool:
    return math.isclose(left, right, abs_tol=1e-9) if isinstance(left, float) else bool(left == right)
