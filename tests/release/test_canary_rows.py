"""From stored events to counts by viewer, arm and hour: every number here can be counted by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.clock import utc
from events.schema import EmptyFeed
from features.errors import NoTable
from monitoring.canary_plan import CanaryConfig, ExperimentPlan, standard_metrics
from monitoring.errors import BadPlan
from release.canary_rows import Seen, Span, newest_impression, seen_in, traffic_since
from release.canary_view import look_at, planned_variances
from tests.release.evenings import START, Evening, clicked, completed, entered, left, profile, shown, started

HOUR = 3_600.0
ARMS = ("canary", "stable")


@pytest.fixture
def evening(lake: Path) -> Evening:
    return Evening(lake)


def seen(evening: Evening, hours: int = 3) -> Seen:
    return seen_in(evening.lake, Span(START, hours), arms=ARMS)


def counts(found: Seen, name: str) -> dict[tuple[str, str, int], float]:
    """By viewer, arm and hour, without zeros."""
    rows, viewers = found.rows, found.viewers.to_pylist()
    every = zip(rows.viewer.tolist(), rows.arm.tolist(), rows.hour.tolist(), rows.counts[name].tolist(), strict=True)
    return {(viewers[viewer], ARMS[arm], hour): count for viewer, arm, hour, count in every if count}


def test_a_feed_that_showed_nothing_is_no_impression(evening: Evening) -> None:
    evening.store([shown("ann", "q1", "i1", 10, arm="canary"), started("ann", "i1", 5)])
    evening.store(
        [EmptyFeed(event_id="q2:empty", event_at=utc(START + 20), request_id="q2", user_id="ann", arm="canary")]
    )
    assert seen(evening).traffic.tolist() == [1.0, 0.0, 0.0]
    assert sum(traffic_since(evening.lake, START).values()) == 1


def test_impressions_count_once_a_request_and_item_in_the_hour_they_were_shown(evening: Evening) -> None:
    twice = shown("ann", "q1", "i1", 10, arm="canary")
    evening.store([twice, shown("ann", "q1", "i2", 10, arm="canary", position=1), shown("bob", "q2", "i1", HOUR)])
    evening.store([twice, shown("ann", "q3", "i1", 2 * HOUR, arm="canary"), shown("ann", "q0", "i1", -1, arm="canary")])
    evening.store([started("zoe", "i1", 5)])
    assert counts(seen(evening), "impressions") == {
        ("ann", "canary", 1): 2, ("ann", "canary", 3): 1, ("bob", "stable", 2): 1,
    }  # fmt: skip


def test_a_click_counts_once_for_the_arm_of_what_was_clicked_in_the_hour_it_was_made(evening: Evening) -> None:
    evening.store([
        shown("ann", "q1", "i1", 10, arm="canary"), shown("ann", "q1", "i2", 10, arm="canary", position=1),
        clicked("ann", "q1", "i1", 20), clicked("ann", "q1", "i1", 25), clicked("ann", "q1", "i2", HOUR + 1),
    ])  # fmt: skip
    assert counts(seen(evening), "clicks") == {("ann", "canary", 1): 1, ("ann", "canary", 2): 1}


def test_clicks_on_what_was_not_shown_in_the_span_or_not_in_an_arm_do_not_count(evening: Evening) -> None:
    evening.store([
        shown("ann", "q1", "i1", 10, arm="canary"), shown("pia", "q2", "i1", 10, arm="pinned"),
        shown("ann", "q0", "i1", -50, arm="canary"),
        clicked("ann", "q1", "i9", 20), clicked("ann", "q9", "i1", 20), clicked("pia", "q2", "i1", 20),
        clicked("ann", "q0", "i1", 20), clicked("ann", "q1", "i1", 5),
    ])  # fmt: skip
    assert counts(seen(evening), "clicks") == {}


def test_a_click_a_day_after_the_impression_does_not_count(evening: Evening) -> None:
    evening.store([shown("ann", "q1", "i1", 0), shown("ann", "q2", "i1", 100)])
    evening.store([clicked("ann", "q1", "i1", 24 * HOUR + 1), clicked("ann", "q2", "i1", 24 * HOUR + 1)])
    assert counts(seen(evening, 30), "clicks") == {("ann", "stable", 25): 1}


def test_starts_and_completions_count_with_and_without_the_feed_from_the_first_impression_on(evening: Evening) -> None:
    evening.store([
        started("ann", "i0", 5), completed("ann", "i0", 6),
        shown("ann", "q1", "i1", 10, arm="canary"),
        started("ann", "i1", 11), started("ann", "i1", 12), completed("ann", "i1", HOUR + 5), completed("ann", "i0", 20),
        started("zoe", "i1", 20),
    ])  # fmt: skip
    found = seen(evening)
    assert counts(found, "starts") == counts(found, "items") == {("ann", "canary", 1): 1}
    assert counts(found, "completions") == {("ann", "canary", 2): 1}


def test_a_room_counts_as_completed_from_thirty_watched_seconds_on(evening: Evening) -> None:
    evening.store([
        shown("ann", "q1", "i1", 10), shown("bob", "q2", "i1", 10),
        entered("ann", "r1", 20), left("ann", "r1", 50, watched=30.0),
        entered("bob", "r1", 20), left("bob", "r1", 49, watched=29.0),
    ])  # fmt: skip
    assert counts(seen(evening), "completions") == {("ann", "stable", 1): 1}
    assert counts(seen(evening), "starts") == {("ann", "stable", 1): 1, ("bob", "stable", 1): 1}


def test_a_visit_begins_after_half_an_hour_without_a_sign_of_life(evening: Evening) -> None:
    evening.store([
        shown("ann", "q1", "i1", 0), started("ann", "i1", 1_700), shown("ann", "q2", "i1", 3_500),
        shown("ann", "q3", "i1", 3_500 + 1_801),
    ])  # fmt: skip
    assert counts(seen(evening), "sessions") == {("ann", "stable", 1): 1, ("ann", "stable", 2): 1}


def test_a_viewer_in_two_arms_is_two_rows_and_acts_for_the_first(evening: Evening) -> None:
    evening.store([
        shown("ann", "q1", "i1", 10, arm="canary"), shown("ann", "q2", "i1", 20), started("ann", "i1", 30),
    ])  # fmt: skip
    assert counts(seen(evening), "impressions") == {("ann", "canary", 1): 1, ("ann", "stable", 1): 1}
    assert counts(seen(evening), "starts") == {("ann", "canary", 1): 1}


def test_the_newest_event_of_a_row_is_told(evening: Evening) -> None:
    evening.store([shown("ann", "q1", "i1", 10), started("ann", "i1", 400)])
    assert seen(evening).rows.newest_at.tolist() == [START + 400]


def test_traffic_is_told_by_arm_and_release_and_the_newest_impression_by_its_time(evening: Evening) -> None:
    assert newest_impression(evening.lake) is None
    assert traffic_since(evening.lake, START) == {}
    evening.store([
        shown("ann", "q1", "i1", 10, arm="canary", release="new-2"), shown("bob", "q2", "i1", 20),
        shown("eve", "q3", "i1", 40), shown("old", "q0", "i1", -10, arm="canary"),
    ])  # fmt: skip
    assert traffic_since(evening.lake, START) == {("canary", "new-2"): 1, ("stable", "old-1"): 2}
    assert newest_impression(evening.lake) == START + 40


def plan(**changes: Any) -> ExperimentPlan:
    fields: dict[str, Any] = {
        "id": "new-2", "line": "new", "started_at": START, "weights": {"canary": 0.5, "stable": 0.5},
        "metrics": standard_metrics({"ctr": 0.01, "completion_rate": 0.01, "session_depth": 0.01}),
        "segments": ("language",), "config": CanaryConfig(hours=2, day_hours=1, max_hours=3),
    }  # fmt: skip
    return ExperimentPlan(**fields | changes)


def looks(evening: Evening, hours: int = 2, **changes: Any) -> Any:
    return look_at(evening.lake, plan(**changes), hours=hours, exposed_at=START - HOUR, before_days=2)


def two_hours(evening: Evening) -> None:
    """Ann in the canary and Bob in stable, both there in both hours; Ann was there the day before."""
    evening.store(
        [profile("ann", -HOUR, language="en"), profile("ann", -100, language="de"), profile("ann", 5, language="it")]
    )
    evening.store([shown("ann", "p1", "i1", -20 * HOUR), clicked("ann", "p1", "i1", -20 * HOUR + 5)])
    evening.store([shown("ann", "p2", "i1", -600, arm="canary"), clicked("ann", "p2", "i1", -500)])
    for hour in (0, HOUR):
        evening.store(
            [shown("ann", f"a{hour}", "i1", hour + 10, arm="canary"), shown("bob", f"b{hour}", "i1", hour + 10)]
        )
    evening.store([clicked("ann", "a0", "i1", 20), started("ann", "i1", 30), started("bob", "i1", 40)])


def test_looks_have_the_sums_by_arm_cumulated_over_hours(evening: Evening) -> None:
    two_hours(evening)
    first, second = looks(evening).hours
    assert [one.arms["canary"].metrics["ctr"].x for one in (first, second)] == [1, 2]
    assert second.arms["canary"].metrics["ctr"].y == 1
    assert second.arms["stable"].viewers == 1
    assert (first.missing_hours, first.canary_share) == ((), 0.5)


def test_what_was_done_before_the_canary_is_from_before_the_first_viewer_met_it(evening: Evening) -> None:
    two_hours(evening)
    before = looks(evening).hours[1].arms["canary"].before["ctr"]
    assert before.sums == (1, 2, 1, 1, 0)  # clicks, impressions, both before, one viewer who is not new


def test_groups_are_by_the_last_profile_before_the_start_and_nobody_is_left_out(evening: Evening) -> None:
    two_hours(evening)
    arms = looks(evening).hours[1].arms
    assert {group: of["ctr"].n for group, of in arms["canary"].segments.items() if of["ctr"].n} == {"language=de": 1}
    assert {group: of["ctr"].n for group, of in arms["stable"].segments.items() if of["ctr"].n} == {
        "language=unknown": 1
    }


def test_without_any_profile_everybody_is_in_the_unknown_group(evening: Evening) -> None:
    evening.store([shown("ann", "q1", "i1", 10, arm="canary"), shown("bob", "q2", "i1", 10), started("ann", "i1", 20)])
    assert list(looks(evening, 2).hours[1].arms["canary"].segments) == ["language=unknown"]


def test_an_hour_without_traffic_is_missing_where_there_was_some_at_that_time_of_day(evening: Evening) -> None:
    day = 24 * HOUR
    busy = [shown(f"u{n}", f"y{n}", "i1", HOUR + n - day) for n in range(10)]  # hour 2 of the day before
    quiet = [shown(f"u{n}", f"z{n}", "i1", n - day) for n in range(9)]  # hour 1: too few to expect any
    evening.store(
        [*busy, *quiet, shown("ann", "q1", "i1", 2 * HOUR + 1, arm="canary"), started("ann", "i1", 2 * HOUR + 2)]
    )
    assert looks(evening, 3, config=CanaryConfig(hours=3, day_hours=1, max_hours=3)).hours[2].missing_hours == (2,)


def test_a_span_in_which_nobody_came_has_looks_without_viewers(evening: Evening) -> None:
    evening.store([shown("ann", "q1", "i1", -5 * HOUR), started("ann", "i1", -5 * HOUR + 1)])
    last = looks(evening).hours[1]
    assert (last.arms["canary"].viewers, last.arms["canary"].newest_at, last.canary_share) == (0, None, 0.5)


def test_many_impressions_and_no_reaction_at_all_are_an_hour_that_was_not_stored(evening: Evening) -> None:
    evening.store([shown(f"u{n}", f"q{n}", "i1", n, arm=ARMS[n % 2]) for n in range(500)])
    evening.store([shown("ann", "q", "i1", HOUR), started("ann", "i1", HOUR + 1)])
    assert looks(evening).hours[1].missing_hours == (1,)


def test_variances_are_planned_from_viewers_as_they_were(evening: Evening) -> None:
    """Four viewers with 10 impressions each, of whom two click once and two click thrice: mean 2, variance 4/3 a viewer."""
    events: list[Any] = []
    for n, clicks in enumerate((1, 1, 3, 3)):
        events += [shown(f"u{n}", f"q{n}", f"i{i}", -HOUR + i, position=i) for i in range(10)]
        events += [clicked(f"u{n}", f"q{n}", f"i{i}", -HOUR + 20 + i) for i in range(clicks)]
        events += [started(f"u{n}", f"i{i}", -HOUR + 40 + i) for i in range(1 + n)]
        events += [completed(f"u{n}", f"i{i}", -HOUR + 60 + i) for i in range(1 + n % 2)]
    evening.store(events)
    found = planned_variances(evening.lake, until=START, hours=2, canary_share=0.25, control_share=0.5)
    # squared variation of a viewer (4/3) / 2**2 = 1/3; times 1/1 + 1/2 for arms of one and two viewers
    assert found["ctr"] == pytest.approx(0.5)
    assert all(np.isfinite(one) and one > 0 for one in found.values())


def test_a_platform_without_a_past_cannot_be_planned_with(evening: Evening) -> None:
    with pytest.raises(NoTable):
        planned_variances(evening.lake, until=START, hours=2, canary_share=0.05, control_share=0.9)
    evening.store([shown("ann", "q1", "i1", -HOUR), started("ann", "i1", -HOUR + 1)])
    with pytest.raises(BadPlan):
        planned_variances(evening.lake, until=START, hours=2, canary_share=0.05, control_share=0.9)
