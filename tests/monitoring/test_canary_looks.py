"""From rows by viewer and hour to cumulated sums: by hand, and against sums made afresh for each hour."""

from typing import Any

import msgspec
import numpy as np
import pytest

from monitoring.canary_looks import ViewerHours, make_looks
from monitoring.canary_plan import HOUR_S, ExperimentPlan
from monitoring.errors import BadPlan
from monitoring.stats import Moments, RatioSums
from tests.monitoring.canary_stories import STARTED, plan

COUNTS = ("clicks", "impressions", "starts", "completions", "items", "sessions")


def rows(*of: tuple[int, int, int, float, float], **more: Any) -> ViewerHours:
    """Rows of (viewer, arm, hour, clicks, impressions); the newest event is half an hour into its hour."""
    viewer, arm, hour, clicks, shown = (np.array(column) for column in zip(*of, strict=True))
    ones = np.ones(len(of))
    counts = {"clicks": clicks.astype(float), "impressions": shown.astype(float)}
    counts |= {"starts": ones, "completions": 0 * ones, "items": shown.astype(float), "sessions": ones}
    return ViewerHours(viewer, arm, hour, counts, STARTED + (hour - 0.5) * HOUR_S, **more)


def test_a_viewer_who_returns_updates_his_own_row() -> None:
    made = make_looks(plan(), rows((0, 0, 1, 1, 4), (1, 0, 1, 0, 2), (0, 0, 2, 2, 3)), hours=2)
    first, second = (look.arms["canary"] for look in made.hours)
    assert first.metrics["ctr"] == RatioSums(n=2, y=1, x=6, yy=1, xx=20, xy=4)
    # Viewer 0 now has 3 clicks of 7, viewer 1 still none of 2.
    assert second.metrics["ctr"] == RatioSums(n=2, y=3, x=9, yy=9, xx=53, xy=21)
    assert (first.viewers, second.viewers) == (2, 2)


def test_the_order_of_rows_and_rows_said_in_pieces_do_not_matter() -> None:
    whole = make_looks(plan(), rows((0, 0, 1, 3, 7), (1, 1, 2, 1, 2)), hours=2)
    pieces = make_looks(plan(), rows((1, 1, 2, 1, 2), (0, 0, 1, 1, 4), (0, 0, 1, 2, 3)), hours=2)
    assert [look.arms["canary"].metrics["ctr"] for look in pieces.hours] == [
        look.arms["canary"].metrics["ctr"] for look in whole.hours
    ]


def test_a_viewer_seen_in_both_arms_is_counted_from_the_hour_of_his_second_arm() -> None:
    seen = rows((0, 0, 1, 0, 1), (0, 1, 3, 0, 1), (1, 1, 1, 0, 1), (0, 0, 4, 0, 1))
    assert [look.in_both for look in make_looks(plan(), seen, hours=4).hours] == [0, 0, 1, 1]


def test_a_viewer_seen_in_three_arms_is_one_viewer() -> None:
    three = msgspec.structs.replace(plan(), weights={"canary": 0.25, "stable": 0.5, "fresh": 0.25})
    seen = rows((0, 0, 1, 0, 1), (0, 1, 2, 0, 1), (0, 2, 3, 0, 1))
    assert [look.in_both for look in make_looks(three, seen, hours=3).hours] == [0, 1, 1]


def test_the_newest_event_of_an_arm_stays_where_its_traffic_stopped() -> None:
    made = make_looks(plan(), rows((0, 0, 1, 0, 1), (1, 1, 1, 0, 1), (1, 1, 3, 0, 1)), hours=3)
    assert [look.arms["canary"].newest_at for look in made.hours] == [STARTED + 0.5 * HOUR_S] * 3
    assert made.hours[2].arms["stable"].newest_at == STARTED + 2.5 * HOUR_S


def test_an_arm_without_rows_has_no_viewers_and_no_newest_event() -> None:
    look = make_looks(plan(), rows((0, 1, 1, 0, 1)), hours=1).hours[0]
    assert (look.arms["canary"].viewers, look.arms["canary"].newest_at) == (0, None)


def test_a_planned_count_that_the_rows_lack_leaves_its_metric_out() -> None:
    seen = rows((0, 0, 1, 0, 1), (1, 1, 1, 0, 1))
    del seen.counts["completions"]  # type: ignore[attr-defined]
    assert set(make_looks(plan(), seen, hours=1).hours[0].arms["canary"].metrics) == {"ctr", "session_depth"}


def test_an_hour_with_missing_data_is_named_from_then_on() -> None:
    made = make_looks(plan(), rows((0, 0, 1, 0, 1)), hours=3, missing=(2,), share={3: 0.0})
    assert [look.missing_hours for look in made.hours] == [(), (2,), (2,)]
    assert [look.canary_share for look in made.hours] == [1.0, 1.0, 0.0]


def test_hours_count_from_one() -> None:
    with pytest.raises(BadPlan, match="hours count from 1"):
        make_looks(plan(), rows((0, 0, 0, 0, 1)), hours=1)


@pytest.fixture(scope="module")
def crowd() -> ViewerHours:
    rng = np.random.default_rng(1)
    n, viewers = 3_000, 400
    viewer = rng.integers(0, viewers, n)
    arm, language, x0 = rng.integers(0, 2, viewers), rng.integers(0, 3, viewers), rng.poisson(2, viewers)
    counts = {name: rng.poisson(3, n).astype(float) for name in COUNTS}
    hour = rng.integers(1, 9, n)
    before = {"impressions": x0.astype(float), "clicks": np.where(x0 > 0, rng.poisson(1, viewers), np.nan)}
    return ViewerHours(
        viewer, arm[viewer], hour, counts, STARTED + hour * HOUR_S - 1, {k: v[viewer] for k, v in before.items()},
        {"language": (language[viewer], ("en", "es", "hi"))},
    )  # fmt: skip


SMALL = {"hours": 4, "day_hours": 2, "max_hours": 8}


def afresh(seen: ViewerHours, names: tuple[str, str], among: np.ndarray) -> list[np.ndarray]:
    """Totals by viewer over the rows `among`, for every viewer with a row in it."""
    who = np.unique(seen.viewer[among])
    return [np.bincount(seen.viewer[among], weights=seen.counts[n][among], minlength=who.max() + 1)[who] for n in names]


def expected(seen: ViewerHours, arm: int, hour: int, one: ExperimentPlan) -> dict[str, RatioSums]:
    among = (seen.arm == arm) & (seen.hour <= hour)
    return {m.name: RatioSums.of(*afresh(seen, (m.numerator, m.denominator), among)) for m in one.metrics}


@pytest.mark.parametrize("hour", [1, 4, 8])
def test_cumulated_sums_are_those_of_viewers_totalled_afresh(crowd: ViewerHours, hour: int) -> None:
    small = plan(**SMALL)
    look = make_looks(small, crowd, hours=8).hours[hour - 1]
    assert look.arms["canary"].metrics == expected(crowd, 0, hour, small)
    assert look.arms["stable"].metrics == expected(crowd, 1, hour, small)


def test_groups_are_those_of_their_viewers_totalled_afresh(crowd: ViewerHours) -> None:
    look = make_looks(plan(**SMALL), crowd, hours=8).hours[5]
    among = (crowd.arm == 1) & (crowd.hour <= 6) & (crowd.groups["language"][0] == 2)
    by_hand = RatioSums.of(*afresh(crowd, ("clicks", "impressions"), among))
    assert look.arms["stable"].segments["language=hi"]["ctr"] == by_hand


def test_the_pre_period_marks_who_had_none_as_new(crowd: ViewerHours) -> None:
    look = make_looks(plan(**SMALL), crowd, hours=8).hours[5]
    among = (crowd.arm == 0) & (crowd.hour <= 6)
    who, row = np.unique(crowd.viewer[among], return_index=True)
    y, x = afresh(crowd, ("clicks", "impressions"), among)
    x0, y0 = (crowd.before[name][among][row] for name in ("impressions", "clicks"))
    assert look.arms["canary"].before["ctr"] == Moments.of(y, x, np.nan_to_num(y0), x0, x0 == 0)
    assert 0 < (x0 == 0).sum() < len(who)


def test_days_are_the_first_and_the_last_of_every_viewer_so_far(crowd: ViewerHours) -> None:
    look = make_looks(plan(**SMALL), crowd, hours=8).hours[5]
    among = (crowd.arm == 0) & (crowd.hour <= 6)
    who = np.unique(crowd.viewer[among])
    columns = []
    for day in ((1, 2), (5, 6)):
        here = among & np.isin(crowd.hour, day)
        for name in ("clicks", "impressions"):
            columns.append(np.bincount(crowd.viewer[here], weights=crowd.counts[name][here], minlength=400)[who])
    assert look.arms["canary"].days["ctr"] == Moments.of(*columns)


def test_what_only_a_decision_needs_is_there_only_then(crowd: ViewerHours) -> None:
    made = make_looks(plan(**SMALL), crowd, hours=8)
    assert [look.hour for look in made.hours if look.arms["canary"].segments] == [4, 6, 8]
