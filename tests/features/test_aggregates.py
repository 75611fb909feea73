"""Aggregates: values worked out by hand, and the law that lets partitions keep states of their own."""

import copy
import math
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.aggregates import Aggregate, Contribution, Last, Present, Ratio, Recent, Sessions, Sum
from features.definitions import DAY, HOUR, MINUTE
from features.words import Affinity, Counts, Top

Told = list[tuple[float, Contribution]]
NOW = 30 * DAY


def state_of(aggregate: Aggregate, told: Told) -> Any:
    state = aggregate.zero()
    for at, what in told:
        state = aggregate.add(state, at, what)
    return state


def value_of(aggregate: Aggregate, told: Told, now: float = NOW) -> Any:
    return aggregate.finish(state_of(aggregate, told), now, lambda key: {"word": (key, "all")})


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


def words(**of: Any) -> Any:
    """A look at hand-made items: name -> its words."""
    return lambda key: {"word": of[key]} if key in of else {}


def test_top_ranks_the_words_of_items_by_weight_and_breaks_ties_by_name() -> None:
    told = keys((0.0, "z"), (1.0, "b"), (2.0, "a"), (3.0, "z"), (4.0, "unknown"))
    top, look = Top(2, 7 * DAY, "word"), words(z="jazz", a="folk", b="rock")
    assert top.finish(state_of(top, told), DAY, look) == ["jazz", "folk"]
    assert top.finish(state_of(top, told), 7 * DAY, look) == []
    assert top.finish(state_of(top, told), DAY, words(z=("jazz", "duet"))) == ["duet", "jazz"]


def test_affinity_is_a_shrunk_ratio_by_the_words_of_the_items_met() -> None:
    told = [
        (n, Contribution(1.0, den=den, key=key)) for n, (key, den) in enumerate((("a", 3.0), ("b", 1.0), ("c", 2.0)))
    ]
    affinity = Affinity(3, "word", prior=(0.6, 1.0))
    found = affinity.finish(state_of(affinity, told), NOW, words(a=("x", "y"), b=("y",), c=()))
    assert found == pytest.approx({"x": 1.6 / 4, "y": 2.6 / 5})


def test_of_too_many_items_affinity_keeps_those_of_smallest_crc_whatever_their_order() -> None:
    names = [f"i{n}" for n in range(50)]
    kept = set(sorted(names, key=lambda name: zlib.crc32(name.encode()))[:7])
    for order in (names, names[::-1], [*names[25:], *names]):
        state = state_of(Affinity(7, "word"), [(n, Contribution(1, 1, key)) for n, key in enumerate(order)])
        assert set(state) == kept


def test_sessions_end_after_a_gap_and_leave_the_window_by_their_last_event() -> None:
    sessions = Sessions(30 * MINUTE, DAY)
    told = [(n * MINUTE, Contribution()) for n in (0, 30, 40, 71, 75)]  # 0 to 40 and 71 to 75
    assert value_of(sessions, told, now=80 * MINUTE) == (40 + 4) * 60 / 2
    assert value_of(sessions, told, now=40 * MINUTE + DAY) == (40 + 4) * 60 / 2
    assert value_of(sessions, told, now=41 * MINUTE + DAY) == 4 * 60
    assert value_of(sessions, told, now=9 * DAY) is None
    bridge = [*told, (55 * MINUTE, Contribution())]
    assert value_of(sessions, bridge, now=80 * MINUTE) == 75 * 60


def test_counts_are_by_the_events_own_word() -> None:
    assert value_of(Counts(24), keys((0.0, "09"), (1.0, "10"), (2.0, "09"))) == {"09": 2.0, "10": 1.0}


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
    Top(2, 7 * DAY, "word"), Affinity(6, "word", prior=(0.6, 1.0)), Affinity(3, "word"), Present(90.0), Counts(3),
    Sessions(30 * MINUTE, 7 * DAY),
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
        assert alike(aggregate.finish(merged, NOW, lambda key: {"word": (key, "all")}), one)
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
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(alike(left[name], right[name]) for name in left)
    return math.isclose(left, right, abs_tol=1e-9) if isinstance(left, float) else bool(left == right)
