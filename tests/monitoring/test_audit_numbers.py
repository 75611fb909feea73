"""What is counted: engagement and sessions, exposure and merit, inequality, calibration, by hand-made numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from monitoring.audit_calibration import (
    Tastes,
    calibration_notes,
    divergence,
    expected_error,
    taste_notes,
)  # fmt: skip
from monitoring.audit_creators import Merit, creator_groups, explored, gini, inequality, judge_creators
from monitoring.audit_record import AuditConfig, AuditReason, Check
from monitoring.audit_tables import group_tables
from monitoring.audit_viewers import (
    Counts,
    Grouping,
    Listed,
    Predicted,
    Shown,
    change_sums,
    engagement,
    grouping,
    level_sums,
    position_weight,
)  # fmt: skip
from registry.verdict import Outcome
from tests.monitoring.audit_month import UNTIL, month

CONFIG = AuditConfig(min_viewers=20, min_events=1)
HOUR = 3_600.0


def shown(*rows: tuple[int, float, int, int, int]) -> Shown:
    """Impressions of the candidate as (viewer, hours, clicked, started, completed)."""
    viewer, at, clicked, started, completed = (np.array(one, float) for one in zip(*rows, strict=True))
    n, none = len(rows), np.zeros(len(rows), np.int64)
    return Shown(
        request=none, viewer=viewer.astype(np.int64), item=none, creator=none, at=at * HOUR, weight=np.ones(n),
        predicted=np.full(n, 0.5), propensity=np.ones(n), clicked=clicked, started=started, completed=completed,
        candidate=np.ones(n, bool), incumbent=np.zeros(n, bool),
    )  # fmt: skip


def listed(*rows: tuple[int, int, int, float]) -> Listed:
    """Places as (viewer, item, creator, weight), each in a request of its own."""
    viewer, item, creator, weight = (np.array(one) for one in zip(*rows, strict=True))
    return Listed(np.arange(len(rows)), viewer, item, creator, weight.astype(float))


def test_engagement_is_counted_by_viewer_and_a_lost_start_is_a_start() -> None:
    rows = shown((0, 1.0, 1, 1, 1), (0, 1.1, 1, 1, 0), (0, 1.2, 0, 0, 0), (1, 5.0, 0, 0, 1))
    found = engagement(rows, 3, until=UNTIL, config=CONFIG)
    assert (found["ctr"].y.tolist(), found["ctr"].x.tolist()) == ([2, 0, 0], [3, 1, 0])
    assert (found["completion_rate"].y.tolist(), found["completion_rate"].x.tolist()) == ([1, 1, 0], [2, 1, 0])
    assert (found["session_depth"].y.tolist(), found["session_depth"].x.tolist()) == ([2, 1, 0], [1, 1, 0])
    assert found["ctr"].incumbent_x.tolist() == [0, 0, 0]


def test_a_session_ends_after_half_an_hour_and_returns_within_a_day() -> None:
    """Viewer 0: two sessions 0.6 h apart, then one 30 h later; viewer 1 comes when her day is cut off by the month's end."""
    last = UNTIL / HOUR - 10
    rows = shown((0, 1.0, 0, 0, 0), (0, 1.4, 0, 0, 0), (0, 2.0, 0, 0, 0), (0, 32.0, 0, 0, 0), (1, last, 0, 0, 0))
    found = engagement(rows, 2, until=UNTIL, config=CONFIG)
    assert found["session_depth"].x.tolist() == [3, 1]
    assert (found["session_return"].y.tolist(), found["session_return"].x.tolist()) == ([1, 0], [3, 0])


def test_sums_leave_out_who_met_neither_side() -> None:
    counts = Counts(*(np.array(one, float) for one in ([1, 0, 0], [2, 0, 0], [0, 3, 0], [0, 4, 0])))
    by = Grouping(("a", "b"), np.array([0, 0, 1]))
    assert {name: (one.n, one.y, one.x) for name, one in level_sums(counts, by).items()} == {"a": (1, 1, 2)}
    assert {name: (one.n, one.sums) for name, one in change_sums(counts, by).items()} == {"a": (2, (1, 2, 3, 4))}


def test_the_first_place_weighs_one_and_the_third_a_half() -> None:
    assert position_weight(np.array([0.0, 2.0, 6.0])).tolist() == pytest.approx([1.0, 0.5, 1 / 3])


def test_groups_too_small_to_show_have_no_numbers_in_the_tables() -> None:
    y, x = np.array([1.0] * 30 + [0.0] * 19), np.full(49, 2.0)
    rows = group_tables("language", grouping(["en"] * 30 + ["tr"] * 19), {"ctr": Counts(y, x, y, x)}, config=CONFIG)
    assert [(one.group, one.viewers, one.values["ctr"]) for one in rows] == [
        ("en", 30, 0.5), ("tr", None, None), ("everybody", 49, pytest.approx(30 / 98)),
        ("smallest / largest", None, None), ("largest - smallest", None, None),
    ]  # fmt: skip


# --- creators ---------------------------------------------------------------------------------------------------------


def test_creators_are_grouped_by_size_in_fifths_and_by_how_new_they_are() -> None:
    rows = month(20)
    groups = creator_groups(rows, AuditConfig())
    assert groups["size"].names == tuple(f"size {n} of 5" for n in range(1, 6))
    assert np.bincount(groups["size"].place).tolist() == [10, 10, 10, 10, 10]
    new = groups["newcomer"].names.index("new")
    assert np.flatnonzero(groups["newcomer"].place == new).tolist() == [0, 1, 2, 3, 4, 25, 26, 27, 28, 29]
    alike = rows.creators.set_column(2, "size", [[7.0] * 50])
    assert creator_groups(replace(rows, creators=alike), AuditConfig())["size"].names == ("size 1 of 5",)


def creators_judged(propensity: float = 0.5, hidden: int = 20) -> dict[str, float | None]:
    """200 viewers see creator 0 and, but for `hidden` of them, creator 1; both please alike where places are drawn for."""
    who = np.arange(200)
    ours = listed(*((v, 0, 0, 1.0) for v in who), *((v, 1, 1, 1.0) for v in who[hidden:]))
    clicked = np.r_[np.ones(100), np.zeros(100), np.ones(100), np.zeros(100)]
    odds = np.r_[np.full(200, propensity), np.full(200, 0.5)]
    merit = Merit(np.r_[who, who], np.r_[np.zeros(200, int), np.ones(200, int)], clicked / odds, clicked)
    found = judge_creators(
        "language", Grouping(("en", "tr"), np.array([0, 1])), candidate=ours, incumbent=ours, merit=merit,
        catalogue=np.array([1.0, 3.0]), viewers=200, config=CONFIG, before=None,
    )  # fmt: skip
    return {f"{one.family.metric} {one.check} {one.group}": one.estimate for one in found.cells}


def test_exposure_is_held_against_merit_and_catalogue() -> None:
    found = creators_judged(hidden=100)
    assert found["exposure_to_merit level tr"] == pytest.approx((100 / 300) / 0.5)
    assert found["exposure_to_catalogue level tr"] == pytest.approx((100 / 300) / 0.75)
    assert found["exposure_to_merit change tr"] == pytest.approx(0.0)


def test_clicks_on_a_place_that_is_seldom_drawn_for_weigh_more() -> None:
    """Creator 0 had half the odds of creator 1: her merit is twice as large."""
    assert creators_judged(propensity=0.25, hidden=0)["exposure_to_merit level en"] == pytest.approx(0.5 / (2 / 3))


def test_merit_is_of_places_that_were_drawn_for_and_weighs_by_the_odds() -> None:
    rows = shown(*((viewer, 1.0, clicked, 0, 0) for viewer, clicked in enumerate((1, 1, 1, 1, 0))))
    rows = replace(rows, propensity=np.array([0.25, 0.5, 1.0, math.nan, 0.5]))
    found = explored(rows)
    assert found.viewer.tolist() == [0, 1, 4] and found.worth.tolist() == [4.0, 2.0, 0.0]
    assert found.clicked.tolist() == [1, 1, 0]


def test_no_answer_on_explored_places_is_no_exploration() -> None:
    none, page = np.zeros(0, int), listed((0, 0, 0, 1.0))
    found = judge_creators(
        "language", Grouping(("en", "tr"), np.array([0, 1])), candidate=page, incumbent=page,
        merit=Merit(none, none, np.zeros(0), np.zeros(0)), catalogue=np.ones(2), viewers=1, config=CONFIG, before=None,
    )  # fmt: skip
    assert (found.cells, [one.reason for one in found.troubles]) == ((), [AuditReason.NO_EXPLORATION])


def test_by_size_only_the_change_gates() -> None:
    found = judge_creators(
        "size", Grouping(("size 1 of 5", "size 5 of 5"), np.array([0, 1])),
        candidate=listed(*((v, 0, 0, 0.05) for v in range(200)), *((v, 1, 1, 1.0) for v in range(200))),
        incumbent=listed(*((v, 0, 0, 1.0) for v in range(200)), *((v, 1, 1, 1.0) for v in range(200))),
        merit=Merit(np.arange(400) % 200, np.arange(400) // 200, np.ones(400), np.ones(400)), catalogue=np.ones(2),
        viewers=200, config=CONFIG, before=None,
    )  # fmt: skip
    small = {
        one.check: one for one in found.cells if one.group == "size 1 of 5" and one.family.metric == "exposure_to_merit"
    }
    assert small[Check.LEVEL].outcome is small[Check.CHANGE].outcome is Outcome.FAIL
    assert (small[Check.LEVEL].family.gates, small[Check.CHANGE].family.gates) == (False, True)


def test_gini_by_hand() -> None:
    assert gini(np.ones(4)) == pytest.approx(0.0)
    assert gini(np.array([0.0, 0.0, 0.0, 8.0])) == pytest.approx(0.75)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)


def test_the_spread_over_creators_counts_those_who_were_never_shown() -> None:
    found = inequality("candidate", listed((0, 0, 0, 3.0), (1, 0, 1, 1.0), (1, 9, -1, 50.0)), 4)
    assert (found.coverage, found.top_share, found.coverage_10k) == (0.5, 0.75, None)
    assert found.gini == pytest.approx(gini(np.array([0.0, 0.0, 1.0, 3.0])))
    assert found.lorenz[0] == 0.0 and found.lorenz[-1] == 1.0 and found.lorenz[10] == 0.0


def test_coverage_in_ten_thousand_requests_is_what_draws_of_them_cover() -> None:
    """20,000 requests; creator 0 is in one, creator 1 in two, creator 2 in all: 1/2, about 3/4 and 1 of the draws."""
    n = 20_000
    rows = Listed(np.r_[np.arange(n), 5, 5, 9], np.zeros(n + 3, int), np.zeros(n + 3, int),
                  np.r_[np.full(n, 2), 0, 1, 1], np.ones(n + 3))  # fmt: skip
    assert inequality("candidate", rows, 3).coverage_10k == pytest.approx((0.5 + 0.75 + 1.0) / 3, abs=1e-4)


# --- calibration ------------------------------------------------------------------------------------------------------


def test_predicted_over_observed_is_flagged_only_where_proved_outside() -> None:
    who = np.repeat(np.arange(400), 10)
    clicked = np.tile([1.0] * 2 + [0.0] * 8, 400)
    predicted = np.where(who < 200, 0.3, 0.21)
    by = grouping(["en"] * 200 + ["tr"] * 200)
    notes = calibration_notes("language", by, Predicted(who, predicted, clicked), viewers=400, config=CONFIG)
    said = {(one.name, one.group): one for one in notes}
    assert said["calibration", "en"].value == pytest.approx(1.5) and said["calibration", "en"].flag == "over-predicted"
    assert said["calibration", "tr"].value == pytest.approx(1.05) and said["calibration", "tr"].flag == ""
    assert said["calibration_error", "en"].value == pytest.approx(0.1)


def test_a_group_of_nineteen_shows_no_note() -> None:
    who = np.arange(40)
    by = grouping(["en"] * 21 + ["tr"] * 19)
    notes = calibration_notes("language", by, Predicted(who, who / 80, who % 2 * 1.0), viewers=40, config=CONFIG)
    assert {(one.group, one.viewers) for one in notes} == {("en", 21), ("tr", None)}
    assert all(one.value is None and one.low is None for one in notes if one.group == "tr")


def test_the_calibration_error_is_the_mean_gap_of_bins() -> None:
    predicted, clicked = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 0.0, 1.0, 0.0])
    assert expected_error(predicted, clicked, 2) == pytest.approx((0.1 + 0.4) / 2)
    assert math.isnan(expected_error(np.zeros(0), np.zeros(0), 10))


def test_divergence_by_hand() -> None:
    """Half jazz and half rock liked. All jazz shown: ln(.5/.995) and ln(.5/.005), by halves. Shown alike: 0."""
    classes = Grouping(("jazz", "rock"), np.array([0, 1]))
    config = replace(CONFIG, min_history=2)
    history = (np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 0, 1, 0]))
    pages = listed((0, 0, 0, 1.0), (1, 0, 0, 0.5), (1, 1, 0, 0.5), (3, 0, 0, 1.0))
    found = divergence(history, pages, classes, viewers=4, config=config)
    assert found[0] == pytest.approx(0.5 * math.log(0.5 / 0.995) + 0.5 * math.log(0.5 / 0.005))
    assert found[1] == pytest.approx(0.0)
    assert np.isnan(found[2]) and np.isnan(found[3])  # shown nothing; too short a history


def test_popularity_of_pages_over_histories() -> None:
    """Item 0 is liked by all thirty, item 1 by the first alone; everybody is shown item 1."""
    who, item = np.r_[np.arange(30), 0], np.r_[np.zeros(30, int), 1]
    classes = {axis: Grouping(("x",), np.zeros(2, int)) for axis in ("category", "language")}
    tastes = Tastes(who, item, classes, np.array([1.0, 1 / 30]))
    pages, other = (listed(*((v, shown_item, 0, 1.0) for v in range(30))) for shown_item in (1, 0))
    notes = taste_notes(
        "language", grouping(["en"] * 30), tastes=tastes, ours=pages, theirs=other, viewers=30, config=CONFIG
    )
    found = next(one for one in notes if one.name == "popularity_ratio")
    mean_history = (29 * 1.0 + (1 + 1 / 30) / 2) / 30
    assert found.value == pytest.approx((1 / 30) / mean_history)
    assert found.incumbent == pytest.approx(1 / mean_history)


def test_nobody_with_a_history_leaves_tastes_unsaid() -> None:
    rows = month(40)
    bare = replace(rows, history=rows.history.slice(0, 0))
    tastes = Tastes.of(bare, bare.viewers["user_id"].combine_chunks())
    pages = listed((0, 0, 0, 1.0))
    notes = taste_notes("l", grouping(["en"] * 40), tastes=tastes, ours=pages, theirs=pages, viewers=40, config=CONFIG)
    assert {one.value for one in notes} == {None}
