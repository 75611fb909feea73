"""What keeps a canary from being judged, beside broken sums: nobody's events, another's answers; and that holds end."""

from typing import Any

import msgspec
import pytest

from monitoring.canary_gate import Action, crashed, judge, judge_all
from monitoring.canary_plan import ArmLook, ExperimentPlan
from monitoring.stats import RatioSums
from registry.verdict import Outcome, Reason
from tests.monitoring.canary_stories import AUDIT, STARTED, VIEWERS, arm, look, looks, plan

NONE_OF_10_000 = RatioSums(VIEWERS, 0.0, 10.0 * VIEWERS, 0.0, 100.0 * VIEWERS, 0.0)


def silent(metric: str = "ctr", sums: RatioSums = NONE_OF_10_000) -> ArmLook:
    """An arm in which one metric has no events."""
    one = arm(ctr=0.24)
    return msgspec.structs.replace(one, metrics={**one.metrics, metric: sums})


@pytest.mark.parametrize("metric", ["ctr", "completion_rate", "session_depth"])
@pytest.mark.parametrize("hour", [10, 48])
def test_a_metric_that_stops_in_both_arms_is_a_hold(metric: str, hour: int) -> None:
    """Planned is a variance of 5e-4 at hour 48; at hour 10 half of 2.4e-3 and one in 10,000 make 770 events, or more."""
    decision = judge(plan(), look(hour, silent(metric), silent(metric)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.NO_DATA,))
    if hour == 10:
        assert "in 10000 " in decision.text and "; 769 or more were to be expected by now" in decision.text


def test_a_metric_that_stops_in_a_small_arm_alone_is_a_hold_too() -> None:
    uneven = msgspec.structs.replace(plan(), weights={"canary": 0.01, "stable": 0.99})
    canary, control = silent(sums=RatioSums(600, 0.0, 6_000.0, 0.0, 60_000.0, 0.0)), arm(viewers=59_400)
    canary = msgspec.structs.replace(canary, viewers=600, metrics={"ctr": canary.metrics["ctr"], **{
        name: arm(viewers=600).metrics[name] for name in ("completion_rate", "session_depth")}})  # fmt: skip
    decision = judge(uneven, look(40, canary, control))
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.NO_DATA,))


def test_no_event_yet_where_few_were_to_be_expected_is_no_hold() -> None:
    early = look(1, silent(), silent())
    rare = plan(min_events=1_000)
    assert judge(rare, early).action is Action.CONTINUE
    few = RatioSums(VIEWERS, 0.0, 90.0, 0.0, 90.0, 0.0)  # ninety impressions cannot have a hundred clicks
    assert judge(plan(), look(10, silent(sums=few), silent(sums=few))).action is Action.CONTINUE


def test_an_arm_that_another_release_answers_is_a_hold() -> None:
    decision = judge(plan(), look(30, arm(ctr=0.24), answered=0.4), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.NOT_ANSWERED,))
    assert "line line 7 answered 40% of arm canary's impressions; 50% are needed" in decision.text
    (shown,) = decision.verdict.evidence
    assert (shown.check, shown.estimate, shown.threshold) == ("answered", 0.4, 0.5)


def test_how_much_the_canary_must_answer_is_a_dial() -> None:
    seen = look(48, arm(ctr=0.24), answered=0.9)
    assert judge(plan(), seen, audit=AUDIT).action is Action.PROMOTE
    assert judge(plan(answered_share=0.95), seen, audit=AUDIT).verdict.reasons == (Reason.NOT_ANSWERED,)


@pytest.mark.parametrize(
    ("release", "control_line", "ours"),
    [
        ("rival-3", "demo", True), ("rival-4", "demo", True), ("third-9", "demo", False), ("demo-1", "demo", False),
        ("none", "demo", False), ("rival-3", "rival", True), ("rival-2", "rival", False),
    ],
)  # fmt: skip
def test_the_canarys_increments_are_the_canary_where_it_has_a_line_of_its_own(
    release: str, control_line: str, ours: bool
) -> None:
    one = msgspec.structs.replace(plan(), line="rival", release="rival-3", control_line=control_line)
    assert one.is_canary(release) is ours


def test_a_plan_that_does_not_say_its_release_knows_the_canary_by_its_line() -> None:
    one: ExperimentPlan = msgspec.structs.replace(plan(), line="rival")
    assert one.is_canary("rival-8") and not one.is_canary("demo-8")


BROKEN: dict[str, Any] = {"missing_hours": (3,), "canary_share": 0.0}


def test_a_hold_without_canary_traffic_ends_undecided_when_the_time_is_over() -> None:
    decisions = list(judge_all(looks(look(168, **BROKEN), look(169, **BROKEN)), audit=AUDIT))
    assert [one.action for one in decisions] == [Action.HOLD, Action.END]
    assert decisions[-1].verdict.outcome is Outcome.UNDECIDED
    assert decisions[-1].verdict.reasons == (Reason.OUT_OF_TIME, Reason.MISSING_HOURS)


def test_a_look_that_cannot_be_made_when_the_time_is_over_ends_it_too() -> None:
    last = crashed(plan(), "OSError: no table", hour=169, at=STARTED, canary_share=0.0)
    assert (last.action, last.verdict.reasons) == (Action.END, (Reason.OUT_OF_TIME, Reason.CRASHED))
