"""The gate's benchmark measures what it says: its shortcuts give the long way's sums, and its rivals are the known tests."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from benchmarks.gate import LIFTS, Tally, compared, measure, per_impression, share
from benchmarks.gate_broken import broken_decisions
from benchmarks.gate_world import Crowd, outcomes, planned, sessions, shared_canaries, small_canary
from monitoring.canary_gate import Action, judge_all
from monitoring.canary_looks import make_looks
from monitoring.canary_plan import Audit, CanaryConfig
from monitoring.stats import RatioSums
from registry.verdict import Outcome
from settings import Settings

AUDIT = Audit("bench", Outcome.PASS, 0.0)
CROWD = Crowd()


def flat(value: object) -> list[float]:
    """Every number inside a value made of dicts, dataclasses and tuples."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    if isinstance(value, tuple):
        return [number for one in value for number in flat(one)]
    return [float(value)] if isinstance(value, int | float) else flat(vars(value)) if value is not None else []


def test_canaries_that_share_a_crowd_have_the_looks_they_would_have_alone() -> None:
    plan = planned(200, 600, CanaryConfig(), CROWD, seed=1, viewers=2_000)
    canaries = shared_canaries(np.random.default_rng(2), plan, 800, CROWD, lifts=(0.0,))[0.0]
    # The same draws again, and then arms said plainly: part 2 against the rest.
    rng = np.random.default_rng(2)
    who, part = sessions(rng, 800, CROWD), rng.integers(0, 4, 800)
    plain = outcomes(rng, who, part, np.zeros(800))
    treated = outcomes(rng, who, part, np.zeros(800))
    canary_alone = make_looks(plan, _arms(treated, part == 2), hours=48).hours
    rest_alone = make_looks(plan, _arms(plain, part == 2), hours=48).hours
    for hour in (1, 20, 48):
        made = canaries[2].hours[hour - 1].arms
        for name, alone in (("canary", canary_alone), ("stable", rest_alone)):
            expected = alone[hour - 1].arms[name]
            assert (made[name].viewers, made[name].newest_at) == (expected.viewers, expected.newest_at)
            for part_of in ("metrics", "before", "days", "segments"):
                assert flat(getattr(made[name], part_of)) == pytest.approx(flat(getattr(expected, part_of)))


def _arms(rows, canary):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(rows, arm=np.where(canary[rows.viewer], 0, 1))


def test_only_the_canary_s_click_rate_is_lifted() -> None:
    plan = planned(2_000, 6_000, CanaryConfig(), CROWD, seed=1)
    look = small_canary(np.random.default_rng(3), plan, 40_000, CROWD, lift=0.3).hours[-1]
    lifts = {
        name: look.arms["canary"].metrics[name].ratio / look.arms["stable"].metrics[name].ratio - 1
        for name in ("ctr", "completion_rate", "session_depth")
    }
    assert lifts["ctr"] == pytest.approx(0.3, abs=0.06)
    assert lifts["completion_rate"] == pytest.approx(0.0, abs=0.05)
    assert lifts["session_depth"] == pytest.approx(0.0, abs=0.04)


def test_the_planned_variance_is_that_of_canaries_at_their_decision() -> None:
    plan = planned(1_000, 3_000, CanaryConfig(), CROWD, seed=1)
    rng, lifts = np.random.default_rng(4), []
    for _ in range(150):
        arms = small_canary(rng, plan, 4_000, CROWD).hours[-1].arms
        lifts.append(arms["canary"].metrics["ctr"].ratio / arms["stable"].metrics["ctr"].ratio - 1)
    assert np.var(lifts) == pytest.approx(plan.deciding.planned_variance, rel=0.35)  # three errors of 150


def test_a_third_arm_serves_what_control_serves_and_leaves_the_other_two_as_they_were() -> None:
    two = planned(200, 600, CanaryConfig(), CROWD, seed=1, viewers=2_000)
    three = planned(200, 600, CanaryConfig(), CROWD, seed=1, viewers=2_000, baseline=200)
    assert three.weights == {"canary": 0.2, "stable": 0.6, "baseline": 0.2} and three.baseline == "baseline"
    assert [one.planned_variance for one in three.metrics] == [one.planned_variance for one in two.metrics]
    arms = small_canary(np.random.default_rng(7), three, 20_000, CROWD, lift=0.5).hours[-1].arms
    assert [round(arms[name].viewers / 1_000) for name in three.weights] == [4, 12, 4]
    rates = {name: arm.metrics["ctr"].ratio for name, arm in arms.items()}
    assert rates["baseline"] == pytest.approx(rates["stable"], rel=0.05)
    assert rates["canary"] == pytest.approx(1.5 * rates["stable"], rel=0.07)


def test_every_kind_of_identical_canary_has_its_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alike are 2,000 of each kind; two of each are enough to see that all are judged and held against the same bounds."""
    monkeypatch.setattr("benchmarks.gate.AA_RUNS", 2)
    monkeypatch.setattr("benchmarks.gate.by_lift", lambda seed, say: {lift: one_tally() for lift in LIFTS})
    monkeypatch.setattr("benchmarks.gate.RATIO_RUNS", 50)
    monkeypatch.setattr("benchmarks.gate.BROKEN_CANARIES", 1)
    result = measure(Settings(), 3, lambda _: None)
    bounds = {one.name: one.bound for one in result.bars}
    for name in ("aa", "strong", "fresh", "fresh_strong"):
        assert bounds[f"{name}_promoted_or_rolled_back_share"] == bounds[f"{name}_gained_or_rolled_back_share"] == 0.06
        assert bounds[f"{name}_rolled_back_share"] == 0.05
        assert result.figures[f"{name}_runs"] == 2
    assert {"fresh_held_for_baseline_share", "fresh_strong_held_for_baseline_high"} <= result.figures.keys()


def one_tally() -> Tally:
    plan = planned(200, 600, CanaryConfig(), CROWD, seed=1, viewers=2_000)
    tally = Tally()
    tally.add(small_canary(np.random.default_rng(2), plan, 800, CROWD))
    return tally


def test_the_naive_rival_is_the_z_test_of_two_proportions() -> None:
    one, other = RatioSums.of([30, 5], [200, 90]), RatioSums.of([40, 60], [500, 450])
    theirs, _ = proportions_ztest([35, 100], [290, 950])
    assert per_impression(one, other) == pytest.approx(theirs)


def test_the_rivals_see_a_large_difference_and_none_where_there_is_none() -> None:
    plan = planned(500, 1_500, CanaryConfig(), CROWD, seed=1, viewers=2_000)
    rng = np.random.default_rng(5)
    assert all(compared(small_canary(rng, plan, 2_000, CROWD, lift=1.0)).values())
    fixed = [compared(small_canary(rng, plan, 2_000, CROWD))["fixed_different"] for _ in range(40)]
    assert sum(fixed) <= 8  # two expected


def test_intervals_are_clopper_and_pearson_s() -> None:
    low, high = proportion_confint(17, 400, method="beta")
    assert share("x", 17, 400) == pytest.approx({"x_share": 17 / 400, "x_low": low, "x_high": high})


def test_every_broken_input_is_held_where_the_unbroken_one_is_promoted() -> None:
    plan = planned(2_000, 6_000, CanaryConfig(mde=0.10, margin=0.15), CROWD, seed=1)
    looks = small_canary(np.random.default_rng(6), plan, 8_000, CROWD, lift=0.3)
    assert list(judge_all(looks, audit=AUDIT))[-1].action is Action.PROMOTE
    broken = broken_decisions(looks, AUDIT)
    assert len(broken) > 50
    assert [name for name, decision in broken if decision.action is not Action.HOLD] == []
