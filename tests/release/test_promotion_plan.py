"""Arms, phases and which hours may be looked at: pure functions of the record, the dials and the time."""

from typing import Any

import msgspec
import pytest

from monitoring.canary_plan import CanaryConfig
from registry.experiment import Experiment, State
from release.errors import CannotStart
from release.promotion_plan import (
    PromotionConfig,
    as_record,
    complete_hours,
    config_of,
    due_phase,
    plan_of,
    started_at,
)
from tests.registry.test_experiment import experiment

HOUR = 3_600.0
CONFIG = PromotionConfig(shadow_hours=2.0, planned={"ctr": 0.1, "completion_rate": 0.2, "session_depth": 0.3})


def one(**changes: Any) -> Experiment:
    return experiment(**{"arms": CONFIG.arms(), "config": as_record(CONFIG), "started_at": 0.0} | changes)


def test_the_usual_arms_are_five_five_and_ninety_and_the_ramp_a_fifth_of_that() -> None:
    assert [(arm.name, arm.label, arm.share) for arm in PromotionConfig().arms()] == [
        ("canary", "canary", 0.05), ("baseline", "stable", 0.05), ("stable", "stable", 0.9),
    ]  # fmt: skip
    assert PromotionConfig().exposure(State.RAMP) * 0.05 == pytest.approx(0.01)


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 0.6, "baseline": 0.4}, {"ramp_share": 0.06}, {"ramp_hours": float("nan")}]
)
def test_shares_and_durations_that_make_no_canary_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(CannotStart, match="are not allowed"):
        PromotionConfig(**wrong)


def test_phases_follow_each_other_in_time_and_those_without_a_duration_are_left_out() -> None:
    assert (CONFIG.first_state(), PromotionConfig().first_state()) == (State.SHADOW, State.RAMP)
    assert PromotionConfig(ramp_hours=0.0).first_state() is State.CANARY
    shadow, ramp = one(state=State.SHADOW, phase_at=0.0), one(state=State.RAMP, phase_at=0.0)
    known = 2 * HOUR + 900 + 60  # labels come for a quarter of an hour, and a partition may be a minute behind
    assert [due_phase(shadow, CONFIG, now=now) for now in (known - 1, known)] == [None, State.RAMP]
    assert [due_phase(ramp, CONFIG, now=now) for now in (HOUR + 59, HOUR + 60)] == [None, State.CANARY]
    assert due_phase(one(state=State.CANARY), CONFIG, now=1e12) is None


def test_the_first_hour_begins_when_the_whole_share_has_settled() -> None:
    assert [started_at(state, CONFIG, now=100.0) for state in (State.RAMP, State.CANARY)] == [None, 160.0]


@pytest.mark.parametrize(
    ("now", "newest", "hours"),
    [
        (2 * HOUR, 2 * HOUR, 1),  # of the second hour's last minute there may be more to come
        (2 * HOUR + 90, 2 * HOUR + 60, 2),
        (2 * HOUR + 90, 1.5 * HOUR, 1),  # the tables are behind
        (4 * HOUR, 1.5 * HOUR, 2),  # two hours of patience are over: look, and let the gate say what is missing
        (4 * HOUR, None, 2),
        (1.9 * HOUR, 9 * HOUR, 1),  # an event ahead of the clock makes no hour complete
        (10 * HOUR, 10 * HOUR, 5),  # one more than the longest canary
    ],
)
def test_an_hour_is_looked_at_when_it_is_over_and_stored(now: float, newest: float | None, hours: int) -> None:
    config = PromotionConfig(gate=CanaryConfig(hours=2, day_hours=1, max_hours=4))
    assert complete_hours(one(), config, now=now, newest=newest) == hours
    assert complete_hours(one(started_at=None), config, now=now, newest=newest) == 0


def test_the_plan_is_what_was_fixed_at_the_start_whatever_the_defaults_are_later() -> None:
    back = msgspec.json.decode(msgspec.json.encode(one()), type=Experiment)
    assert config_of(back) == CONFIG
    plan = plan_of(back)
    assert [(metric.name, metric.planned_variance) for metric in plan.metrics] == [
        ("ctr", 0.1), ("completion_rate", 0.2), ("session_depth", 0.3),
    ]  # fmt: skip
    assert (plan.weights, plan.baseline, plan.started_at) == (
        {"canary": 0.05, "baseline": 0.05, "stable": 0.9}, "baseline", 0.0,
    )  # fmt: skip
