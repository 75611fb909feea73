"""The canary's gate, one story a rule; arms are made by hand in canary_stories."""

import math

import msgspec
import numpy as np
import pytest

from monitoring.canary_gate import Action, State, crashed, judge, judge_all
from monitoring.canary_plan import ArmLook, Audit, CanaryConfig, ExperimentPlan, standard_metrics
from monitoring.errors import BadPlan
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome, Reason
from tests.monitoring.canary_stories import AUDIT, STARTED, VIEWERS, arm, look, looks, plan

DAY = 86_400.0


def test_a_clearly_better_canary_is_promoted_when_the_decision_is_due() -> None:
    decision = judge(plan(), look(48, arm(ctr=0.24)), audit=AUDIT)
    assert (decision.action, decision.verdict.outcome) == (Action.PROMOTE, Outcome.PASS)
    assert decision.verdict.reasons == (Reason.BEATS_BASELINE,)


def test_an_hour_before_nothing_is_promoted() -> None:
    decision = judge(plan(), look(47, arm(ctr=0.24)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.CONTINUE, (Reason.COLLECTING,))


def test_the_numbers_of_a_decision_are_those_of_the_arms() -> None:
    decision = judge(plan(), look(48, arm(ctr=0.24)), audit=AUDIT)
    gain = next(one for one in decision.verdict.evidence if one.check == "gain_unadjusted")
    # Variances of the rates: (0.5 * 0.24)^2 / 999 and (0.5 * 0.2)^2 / 999 (sample variances of 1,000 viewers).
    assert (gain.candidate, gain.baseline, gain.n) == pytest.approx((0.24, 0.2, VIEWERS))
    assert gain.estimate == pytest.approx(0.2)
    assert gain.se == pytest.approx(math.sqrt(2 * 0.12**2 / 999) / 0.2)
    z = 0.04 / math.sqrt((0.12**2 + 0.1**2) / 999)
    assert gain.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-6)


@pytest.mark.parametrize("hour", [2, 30, 48])
def test_a_canary_that_harms_is_rolled_back_at_any_hour(hour: int) -> None:
    decision = judge(plan(), look(hour, arm(ctr=0.16)), audit=AUDIT)
    assert (decision.action, decision.verdict.outcome) == (Action.ROLLBACK, Outcome.FAIL)
    assert decision.verdict.reasons == (Reason.HARMED,)


@pytest.mark.parametrize("worse", [{"completion": 0.3}, {"depth": 8.0}])
def test_harm_of_a_guard_rolls_a_better_canary_back(worse: dict[str, float]) -> None:
    assert judge(plan(), look(10, arm(ctr=0.24, **worse)), audit=AUDIT).action is Action.ROLLBACK


def test_a_difference_that_one_look_alone_would_call_harm_is_not_yet_harm() -> None:
    # -6 % is 2.7 standard errors: below 0.4 % at one look, and not enough for a bound that holds at all of them.
    assert judge(plan(), look(10, arm(ctr=0.188)), audit=AUDIT).action is Action.CONTINUE


def test_the_error_of_harm_is_split_among_the_three_metrics() -> None:
    # -6.4 % is 2.95 standard errors; the bound asks for 3.2 at a third of 5 %, and for 2.8 at 5 %.
    worse = look(10, arm(ctr=0.1872))
    assert judge(plan(), worse).action is Action.CONTINUE
    assert judge(plan(harm_alpha=0.15), worse).action is Action.ROLLBACK


def test_an_identical_canary_is_neither_promoted_nor_rolled_back() -> None:
    decision = judge(plan(), look(48), audit=AUDIT)
    assert (decision.action, decision.verdict.outcome) == (Action.END, Outcome.UNDECIDED)
    assert decision.verdict.reasons == (Reason.NOT_BETTER,)


def test_a_canary_that_is_significantly_worse_at_its_decision_is_not_better() -> None:
    # -5 % is 2.3 standard errors: not enough for harm at all looks, and no small gain either.
    decision = judge(plan(), look(48, arm(ctr=0.19)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.END, (Reason.NOT_BETTER,))


def test_a_gain_below_half_of_what_was_planned_for_is_too_small() -> None:
    # 2.8 * 0.0224 = 0.063 is within 0.13, and 6 % is significant (p = 0.008) but less than 6.5 %.
    decision = judge(plan(mde=0.13), look(48, arm(ctr=0.212)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.END, (Reason.TOO_SMALL_A_GAIN,))


def test_too_little_power_is_not_called_safe_and_the_canary_goes_on() -> None:
    decision = judge(plan(mde=0.05), look(48, arm(ctr=0.24)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.EXTEND, (Reason.UNDERPOWERED,))
    assert decision.verdict.outcome is Outcome.UNDECIDED


def test_a_canary_without_power_ends_undecided_when_its_time_is_over() -> None:
    decision = judge(plan(mde=0.05), look(168, arm(ctr=0.24)), audit=AUDIT)
    assert (decision.action, decision.verdict.outcome) == (Action.END, Outcome.UNDECIDED)


def test_beyond_its_longest_time_nothing_is_promoted() -> None:
    decision = judge(plan(), look(192, arm(ctr=0.24)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.END, (Reason.OUT_OF_TIME,))


def test_few_viewers_are_not_judged_even_by_a_large_difference() -> None:
    few = {"viewers": 400}
    decision = judge(plan(), look(48, arm(ctr=0.4, **few), arm(**few)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.EXTEND, (Reason.TOO_FEW_VIEWERS,))
    assert judge(plan(), look(5, arm(ctr=0.05, **few), arm(**few))).action is Action.CONTINUE


def test_a_drill_may_ask_for_fewer_viewers_and_hours() -> None:
    few = {"viewers": 400}
    drill = plan(min_viewers=300, hours=6, day_hours=3, max_hours=12, mde=0.15, margin=0.1)
    assert judge(drill, look(6, arm(ctr=0.28, **few), arm(**few)), audit=AUDIT).action is Action.PROMOTE


def test_a_guard_that_is_not_shown_to_be_within_its_margin_waits_for_more_data() -> None:
    # The estimate -2 % has a lower bound of -2 % - 1.645 * 2.2 % = -5.7 %, below the margin of 5 %.
    decision = judge(plan(), look(48, arm(ctr=0.24, completion=0.392)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.EXTEND, (Reason.NOT_SHOWN_NON_INFERIOR,))


def test_a_wider_margin_lets_the_same_guard_pass() -> None:
    assert judge(plan(margin=0.08), look(48, arm(ctr=0.24, completion=0.392)), audit=AUDIT).action is Action.PROMOTE


def segmented() -> ExperimentPlan:
    return msgspec.structs.replace(plan(), segments=("language",))


def test_a_group_proved_to_lose_more_than_a_tenth_blocks_and_fails() -> None:
    canary = arm(ctr=0.24, segments={"language=en": 0.26, "language=hi": 0.16})
    control = arm(segments={"language=en": 0.2, "language=hi": 0.2})
    decision = judge(segmented(), look(48, canary, control), audit=AUDIT)
    assert (decision.action, decision.verdict.outcome) == (Action.END, Outcome.FAIL)
    assert decision.verdict.reasons == (Reason.SEGMENT_HARMED,)


def test_a_group_that_may_only_have_lost_a_tenth_does_not_block() -> None:
    canary = arm(ctr=0.24, segments={"language=en": 0.26, "language=hi": 0.178})
    control = arm(segments={"language=en": 0.2, "language=hi": 0.2})
    assert judge(segmented(), look(48, canary, control), audit=AUDIT).action is Action.PROMOTE


def test_one_group_of_many_that_falls_behind_by_chance_does_not_block() -> None:
    # 2.16 standard errors below -10 % (p = 0.015), one of two groups and three metrics: 0.09 by Holm.
    canary = arm(ctr=0.24, segments={"language=en": 0.26, "language=hi": 0.1715})
    control = arm(segments={"language=en": 0.2, "language=hi": 0.2})
    assert judge(segmented(), look(48, canary, control), audit=AUDIT).action is Action.PROMOTE


def groups_of(viewers: int, canary: float) -> tuple[dict[str, object], dict[str, object]]:
    small = {f"language={name}": arm(ctr=canary, viewers=viewers).metrics for name in ("hi", "ja")}
    return small, {name: arm(viewers=viewers).metrics for name in small}


def test_small_groups_are_judged_together_and_not_dropped() -> None:
    one, other = groups_of(200, 0.12)
    canary = msgspec.structs.replace(arm(ctr=0.24), segments=one)
    control = msgspec.structs.replace(arm(), segments=other)
    decision = judge(segmented(), look(48, canary, control), audit=AUDIT)
    assert decision.verdict.reasons == (Reason.SEGMENT_HARMED,)
    assert {e.n for e in decision.verdict.evidence if e.check == "group language=small groups"} == {400}


def test_groups_too_small_together_are_reported_without_a_judgement() -> None:
    one, other = groups_of(100, 0.12)
    canary = msgspec.structs.replace(arm(ctr=0.24), segments=one)
    control = msgspec.structs.replace(arm(), segments=other)
    decision = judge(segmented(), look(48, canary, control), audit=AUDIT)
    reported = [e for e in decision.verdict.evidence if e.check == "group language=small groups: too small"]
    assert decision.action is Action.PROMOTE
    assert ("ctr", 200, None) in [(e.metric, e.n, e.p) for e in reported]


def test_a_lift_that_was_only_new_waits() -> None:
    canary, control = arm(ctr=0.24, first_day=0.28, last_day=0.2), arm()
    decision = judge(plan(), look(48, canary, control), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.EXTEND, (Reason.FADING,))


@pytest.mark.parametrize(
    ("audit", "action", "reason"),
    [
        (None, Action.EXTEND, Reason.AUDIT_MISSING),
        (Audit("another line", Outcome.PASS, STARTED), Action.EXTEND, Reason.AUDIT_MISSING),
        (Audit("line 7", Outcome.PASS, STARTED - 32 * DAY), Action.EXTEND, Reason.AUDIT_OVERDUE),
        (Audit("line 7", Outcome.UNDECIDED, STARTED), Action.EXTEND, Reason.AUDIT_UNDECIDED),
        (Audit("line 7", Outcome.FAIL, STARTED), Action.END, Reason.AUDIT_FAILED),
    ],
    ids=["none", "another line", "34 days old", "undecided", "failed"],
)
def test_without_a_young_passing_audit_nothing_is_promoted(audit: Audit | None, action: Action, reason: Reason) -> None:
    decision = judge(plan(), look(48, arm(ctr=0.24)), audit=audit)
    assert (decision.action, decision.verdict.reasons) == (action, (reason,))


def test_on_the_day_on_which_a_long_months_audit_is_made_the_one_before_still_stands() -> None:
    """Decided on 1 January at noon: November's evidence ended 31.5 days ago, and December's is being judged."""
    november = Audit("line 7", Outcome.PASS, STARTED + 2 * DAY - 31.5 * DAY)
    assert judge(plan(), look(48, arm(ctr=0.24)), audit=november).verdict.passed


def test_the_audits_age_is_shown_in_days_beside_its_limit() -> None:
    decision = judge(plan(), look(48, arm(ctr=0.24)), audit=Audit("line 7", Outcome.PASS, STARTED - 10 * DAY))
    (shown,) = [one for one in decision.verdict.evidence if one.check == "audit"]
    assert (shown.metric, shown.estimate, shown.threshold) == ("days", 12.0, 33.0)


def test_a_failed_audit_fails_the_verdict_and_a_missing_one_leaves_it_undecided() -> None:
    better = look(48, arm(ctr=0.24))
    assert judge(plan(), better, audit=Audit("line 7", Outcome.FAIL, STARTED)).verdict.outcome is Outcome.FAIL
    assert judge(plan(), better).verdict.outcome is Outcome.UNDECIDED


def test_a_canary_that_waited_for_its_audit_is_promoted_a_day_later_if_the_gain_is_still_there() -> None:
    waiting = judge(plan(), look(48, arm(ctr=0.24)))
    assert judge(plan(), look(72, arm(ctr=0.24)), state=waiting.after, audit=AUDIT).action is Action.PROMOTE
    assert judge(plan(), look(72), state=waiting.after, audit=AUDIT).action is Action.END


def test_a_canary_without_a_gain_at_its_one_test_gets_no_second() -> None:
    hours = [look(48), look(72, arm(ctr=0.24))]
    assert [one.action for one in judge_all(looks(*hours), audit=AUDIT)] == [Action.END]


def test_sums_of_other_viewers_than_the_arm_has_are_a_hold() -> None:
    canary = msgspec.structs.replace(arm(ctr=0.24), viewers=VIEWERS + 2)
    decision = judge(plan(), look(10, canary), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.IMPOSSIBLE_SUMS,))


def test_no_gain_ends_a_canary_even_where_the_audit_would_be_waited_for() -> None:
    decision = judge(plan(), look(48))
    assert decision.action is Action.END
    assert set(decision.verdict.reasons) == {Reason.NOT_BETTER, Reason.AUDIT_MISSING}


def lucky(side: int) -> ArmLook:
    """An arm whose viewers click 0.1 more (or less) than usual, and who clicked twice that more (or less) before."""
    usual, shown = np.tile([1.0, 2.0, 3.0], 334)[:VIEWERS], np.full(VIEWERS, 10.0)
    clicks = usual + 0.1 * side + np.tile([0.5, -0.5], VIEWERS // 2)
    before = Moments.of(clicks, shown, 6 * (usual + 0.2 * side), 6 * shown, np.zeros(VIEWERS))
    one = arm()
    return msgspec.structs.replace(
        one, before={"ctr": before}, metrics={**one.metrics, "ctr": RatioSums.of(clicks, shown)}
    )  # fmt: skip


def test_an_adjustment_that_turns_the_sign_between_arms_that_differed_before_is_a_hold() -> None:
    """As seen the canary is 10 % better; its viewers were 20 % better before, so adjusted it is 10 % worse."""
    decision = judge(plan(), look(48, lucky(1), lucky(-1)), audit=AUDIT)
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.ESTIMATES_DISAGREE,))


def test_arms_that_did_not_differ_before_are_not_held_for_it() -> None:
    assert judge(plan(), look(48, lucky(0), lucky(0)), audit=AUDIT).action is Action.END


def test_a_hold_of_six_hours_with_canary_traffic_is_rolled_back() -> None:
    held = [look(hour, missing_hours=(3,)) for hour in range(3, 12)]
    decisions = list(judge_all(looks(*held)))
    assert [one.action for one in decisions] == [Action.HOLD] * 6 + [Action.ROLLBACK]
    assert decisions[-1].verdict.reasons == (Reason.HELD_TOO_LONG, Reason.MISSING_HOURS)


def test_a_hold_without_canary_traffic_lasts() -> None:
    held = [look(hour, missing_hours=(3,), canary_share=0.0) for hour in range(3, 12)]
    assert {one.action for one in judge_all(looks(*held))} == {Action.HOLD}


def test_a_hold_that_ends_starts_from_nothing_the_next_time() -> None:
    hours = [look(h, missing_hours=(3,)) for h in (3, 4, 5, 6)] + [look(7)]
    hours += [look(h, missing_hours=(8,)) for h in (8, 9, 10, 11)]
    assert {one.action for one in judge_all(looks(*hours))} == {Action.HOLD, Action.CONTINUE}


def test_a_crash_is_a_hold_with_its_error_and_lasts_like_any_other() -> None:
    first = crashed(plan(), "OSError: no table", hour=5, at=STARTED)
    later = crashed(plan(), "OSError: no table", hour=11, at=STARTED + 6 * 3_600, state=first.after)
    assert (first.action, first.verdict.reasons) == (Action.HOLD, (Reason.CRASHED,))
    assert "OSError: no table" in first.text
    assert later.action is Action.ROLLBACK


def test_harm_that_broken_data_shows_is_not_acted_on() -> None:
    assert judge(plan(), look(10, arm(ctr=0.1), missing_hours=(4,))).action is Action.HOLD


def test_nothing_is_judged_after_a_final_decision() -> None:
    harmed = [look(hour, arm(ctr=0.16)) for hour in (2, 3, 4)]
    assert [one.hour for one in judge_all(looks(*harmed))] == [2]


def with_baseline(rate: float) -> tuple[ExperimentPlan, dict[str, object]]:
    three = msgspec.structs.replace(
        plan(), weights={"canary": 1 / 3, "stable": 1 / 3, "fresh": 1 / 3}, baseline="fresh"
    )  # fmt: skip
    return three, {"fresh": arm(ctr=rate, at=STARTED + 10 * 3_600)}


def test_a_fresh_baseline_that_differs_from_control_says_that_the_comparison_is_broken() -> None:
    three, fresh = with_baseline(0.23)
    seen = look(10)
    decision = judge(three, msgspec.structs.replace(seen, arms={**seen.arms, **fresh}))
    assert (decision.action, decision.verdict.reasons) == (Action.HOLD, (Reason.BASELINE_DIFFERS,))


def test_a_fresh_baseline_like_control_is_silent() -> None:
    three, fresh = with_baseline(0.202)
    seen = look(10)
    assert judge(three, msgspec.structs.replace(seen, arms={**seen.arms, **fresh})).action is Action.CONTINUE


EARLY = {"early_hours": (12, 24, 36)}


def test_early_promotion_is_off_unless_asked_for() -> None:
    assert judge(plan(), look(24, arm(ctr=0.26)), audit=AUDIT).action is Action.CONTINUE


def test_an_overwhelming_gain_is_promoted_early_where_that_is_allowed() -> None:
    # Half the planned information: O'Brien and Fleming ask for 2.96 there, 30 % is about 10 standard errors.
    early = msgspec.structs.replace(plan(**EARLY), metrics=standard_metrics(dict.fromkeys(
        ("ctr", "completion_rate", "session_depth"), 2.5e-4)))  # fmt: skip
    decision = judge(early, look(24, arm(ctr=0.26)), audit=AUDIT)
    assert (decision.action, decision.verdict.passed) == (Action.PROMOTE, True)


def test_a_gain_that_only_one_look_would_believe_is_not_promoted_early_and_is_remembered_as_a_look() -> None:
    early = msgspec.structs.replace(plan(**EARLY), metrics=standard_metrics(dict.fromkeys(
        ("ctr", "completion_rate", "session_depth"), 2.5e-4)))  # fmt: skip
    decision = judge(early, look(24, arm(ctr=0.211)), audit=AUDIT)
    assert decision.action is Action.CONTINUE
    # 2.5e-4 over the variance of the lift, 1.055^2 * 2 * 0.5^2 / 999
    assert decision.after.fractions == pytest.approx((2.5e-4 * 999 / (1.055**2 * 0.5),))


def test_early_looks_make_the_last_one_stricter() -> None:
    """At 4.7 %, 2.06 standard errors, a plan without early looks promotes and one that has looked four times does not."""
    better, dials = look(48, arm(ctr=0.2094)), {"practical_share": 0.2}
    spent = State(fractions=(0.3, 0.6, 0.9))
    assert judge(plan(**dials), better, audit=AUDIT).action is Action.PROMOTE
    assert judge(plan(**dials, **EARLY), better, state=spent, audit=AUDIT).verdict.reasons == (Reason.NOT_BETTER,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"canary": 0.5, "stable": 0.4}}, "together 1"),
        ({"weights": {"stable": 1.0}}, "must differ and have a weight"),
        ({"control": "canary"}, "must differ and have a weight"),
        ({"metrics": ()}, "exactly one that decides"),
        ({"config": CanaryConfig(hours=12)}, "hours 12 must lie between"),
    ],
)
def test_a_plan_that_cannot_be_judged_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadPlan, match=message):
        msgspec.structs.replace(plan(), **changes)


def test_a_planned_variance_must_be_a_positive_number() -> None:
    with pytest.raises(BadPlan, match="planned variance nan of ctr must be above 0"):
        msgspec.structs.replace(
            plan(), metrics=standard_metrics({"ctr": math.nan, "completion_rate": 1.0, "session_depth": 1.0})
        )
