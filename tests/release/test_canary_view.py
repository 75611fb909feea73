"""Whom a canary is meant to answer and who answers them, hour by hour, from the tables; and what the gate makes of it."""

from pathlib import Path
from typing import Any

import pytest

from monitoring.canary_gate import Action, judge_all
from monitoring.canary_plan import CanaryConfig, ExperimentPlan, HourLook, Looks, standard_metrics
from registry.verdict import Reason
from release.canary_view import look_at
from tests.release.evenings import START, Evening, shown, started

HOUR = 3_600.0
PLAN = ExperimentPlan(
    id="new-2", line="new", started_at=START, weights={"canary": 0.25, "stable": 0.75}, release="new-2",
    control_line="old", metrics=standard_metrics({"ctr": 0.01, "completion_rate": 0.01, "session_depth": 0.01}),
    config=CanaryConfig(hours=20, day_hours=10, max_hours=30, min_viewers=50, min_events=1_000),
)  # fmt: skip


@pytest.fixture
def evening(lake: Path) -> Evening:
    return Evening(lake)


def hour(number: int, **shares: tuple[str, int]) -> list[Any]:
    """So many impressions an arm in that hour, each of a viewer of her own, by the release that answered; one is started."""
    at = (number - 1) * HOUR
    out = [
        shown(f"{arm}-{n}", f"{number}-{arm}-{n}", "i", at + n, arm=arm, release=release)
        for arm, (release, many) in shares.items()
        for n in range(many)
    ]
    return [*out, started(f"{next(iter(shares))}-0", f"i{number}", at + 900)]


def looked(evening: Evening, hours: int) -> Looks:
    return look_at(evening.lake, PLAN, hours=hours, exposed_at=START - HOUR, before_days=2)


def looks(evening: Evening, hours: int) -> tuple[HourLook, ...]:
    return looked(evening, hours).hours


def test_an_arm_that_shows_nothing_is_still_assigned_its_viewers(evening: Evening) -> None:
    evening.store(hour(1, stable=("old-1", 30), canary=("new-2", 10)) + hour(2, stable=("old-1", 40)))
    assert [one.canary_share for one in looks(evening, 3)] == [0.25, 0.25, 0.25]


def test_with_a_pin_everybody_has_the_canary_or_nobody_has(evening: Evening) -> None:
    evening.store(hour(1, pinned=("new-2", 40)) + hour(2, pinned=("old-1", 40)))
    evening.store(hour(4, pinned=("old-1", 20), stable=("old-1", 15), canary=("new-2", 5)))
    assert [one.canary_share for one in looks(evening, 4)] == [1.0, 0.0, 0.0, 0.125]


def test_increments_of_the_canarys_line_are_its_answers_and_no_others_are(evening: Evening) -> None:
    stable = ("old-1", 30)
    evening.store(hour(1, stable=stable, canary=("new-2", 20)) + hour(2, stable=stable, canary=("new-3", 20)))
    evening.store(hour(3, stable=stable, canary=("third-9", 20)) + hour(4, stable=stable, canary=("new-3", 40)))
    evening.store(hour(5, stable=stable, canary=("old-1", 20)))
    assert [one.answered for one in looks(evening, 5)] == pytest.approx([1.0, 1.0, 0.0, 0.8, 0.0])


def test_an_hour_with_few_impressions_says_nothing_of_its_own(evening: Evening) -> None:
    evening.store(hour(1, stable=("old-1", 30), canary=("new-2", 27)) + hour(2, canary=("old-1", 9)))
    assert [one.answered for one in looks(evening, 2)] == [1.0, 0.75]


def test_without_any_impression_of_the_canary_nothing_was_answered_by_another(evening: Evening) -> None:
    evening.store(hour(1, stable=("old-1", 30)))
    assert [one.answered for one in looks(evening, 1)] == [1.0]


def test_an_arm_that_shows_nothing_is_rolled_back_after_six_hours(evening: Evening) -> None:
    for number in range(1, 12):
        evening.store(hour(number, stable=("old-1", 30)))
    decisions = list(judge_all(looked(evening, 11)))
    assert [one.action for one in decisions] == [Action.HOLD] * 6 + [Action.ROLLBACK]
    assert decisions[-1].verdict.reasons == (Reason.HELD_TOO_LONG, Reason.NO_DATA)


def test_a_canary_that_everybody_is_pinned_to_is_not_watched_and_so_rolled_back(evening: Evening) -> None:
    evening.store(hour(1, stable=("old-1", 30), canary=("new-2", 10)))
    for number in range(2, 15):
        evening.store(hour(number, pinned=("new-2", 40)))
    last = list(judge_all(looked(evening, 14)))[-1]
    assert (last.action, last.verdict.reasons) == (Action.ROLLBACK, (Reason.HELD_TOO_LONG, Reason.LATE_DATA))


def test_a_release_that_takes_the_canarys_label_is_rolled_back_and_not_promoted(evening: Evening) -> None:
    for number in range(1, 14):
        release = "new-2" if number < 4 else "third-9"
        evening.store(hour(number, stable=("old-1", 30), canary=(release, 10)))
    decisions = list(judge_all(looked(evening, 13)))
    assert [one.action for one in decisions] == [Action.CONTINUE] * 3 + [Action.HOLD] * 6 + [Action.ROLLBACK]
    assert decisions[-1].verdict.reasons == (Reason.HELD_TOO_LONG, Reason.NOT_ANSWERED)
