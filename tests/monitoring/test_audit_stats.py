"""Ratios judged together: Fieller's bounds, Holm's steps, changes; against other libraries and by simulation."""

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from monitoring.audit_stats import (
    Change,
    Ratio,
    group_change,
    group_to_rest,
    judge_together,
    share_change,
    share_to_share,
)
from monitoring.lift import Lift
from monitoring.stats import Moments, RatioSums
from registry.verdict import Outcome

RNG = np.random.default_rng(5)


def at(estimate: float, se: float) -> Ratio:
    """A ratio whose other side is known without error, so that scores can be made by hand."""
    return Ratio(estimate, 1.0, se**2, 0.0)


def test_a_ratio_is_scored_as_a_difference_of_means() -> None:
    one = Ratio(top=0.6, bottom=1.0, top_variance=0.03**2, bottom_variance=0.05**2)
    assert one.estimate == 0.6
    assert one.z(0.8) == pytest.approx((0.6 - 0.8) / 0.05)  # 0.03^2 + 0.8^2 * 0.05^2 = 0.05^2
    assert one.z(one.bound(1.7)) == pytest.approx(-1.7) and one.z(one.bound(-1.7)) == pytest.approx(1.7)


def test_a_shared_part_of_both_sides_narrows_the_bounds() -> None:
    apart, together = (Ratio(0.8, 1.0, 0.01, 0.01, covariance) for covariance in (0.0, 0.008))
    assert apart.bound(-2) < together.bound(-2) < 0.8 < together.bound(2) < apart.bound(2)


def test_two_independent_sides_give_the_lift_that_the_canary_computes() -> None:
    values = (0.11, 1e-5, 0.13, 2e-6)
    ours, theirs = Ratio(values[0], values[2], values[1], values[3]), Lift(*values)
    assert ours.estimate - 1 == pytest.approx(theirs.estimate)
    assert ours.z(0.8) == pytest.approx(theirs.z(null=-0.2))
    assert ours.bound(2.5) - 1 == pytest.approx(theirs.bound(2.5))


def test_a_group_that_never_clicks_is_proved_below_the_line() -> None:
    never, rest = (
        RatioSums.of(np.zeros(5_000), np.ones(5_000)),
        RatioSums.of(RNG.binomial(10, 0.1, 50_000), np.full(50_000, 10)),
    )
    (judged,) = judge_together([group_to_rest(never, rest)], line=0.8, alpha=0.05)
    assert judged.outcome is Outcome.FAIL and judged.high < 0.1


def test_what_everybody_does_alike_is_proved_without_noise() -> None:
    always, half = RatioSums.of(np.ones(500), np.ones(500)), RatioSums.of(np.ones(500), np.full(500, 2.0))
    judged = judge_together([group_to_rest(always, always), group_to_rest(half, always)], line=0.8, alpha=0.05)
    assert [(one.outcome, one.low, one.high) for one in judged] == [(Outcome.PASS, 1, 1), (Outcome.FAIL, 0.5, 0.5)]
    assert math.isnan(Ratio(0.0, 0.0, 0.0, 0.0).z(0.8))


def test_p_values_are_corrected_as_statsmodels_does() -> None:
    z = [-4.0, -2.4, -1.9, 0.3, 3.0]
    judged = judge_together([at(0.8 + 0.01 * one, 0.01) for one in z], line=0.8, alpha=0.05)
    below = [0.5 * math.erfc(-one / math.sqrt(2)) for one in z]
    reject, adjusted, *_ = multipletests(below, alpha=0.05, method="holm")
    np.testing.assert_allclose([one.p_below for one in judged], adjusted, atol=1e-12)
    assert [one.outcome is Outcome.FAIL for one in judged] == reject.tolist()
    above = multipletests([1 - p for p in below], alpha=0.05, method="holm")[1]
    np.testing.assert_allclose([one.p_above for one in judged], above, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_an_outcome_is_a_bound_on_the_other_side_of_the_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    several = [at(rng.normal(0.8, 0.05), rng.uniform(0.005, 0.03)) for _ in range(rng.integers(1, 12))]
    for one in judge_together(several, line=0.8, alpha=0.05):
        assert (one.outcome is Outcome.FAIL) == (one.high < 0.8)
        assert (one.outcome is Outcome.PASS) == (one.low > 0.8)


def test_a_borderline_ratio_alone_is_proved_and_among_many_is_not() -> None:
    borderline = at(0.82, 0.01)  # two standard errors above
    (alone,) = judge_together([borderline], line=0.8, alpha=0.05)
    among = judge_together([borderline] * 12, line=0.8, alpha=0.05)
    assert alone.outcome is Outcome.PASS
    assert {one.outcome for one in among} == {Outcome.UNDECIDED}


def test_what_has_no_score_is_undecided_and_counts_among_the_others() -> None:
    nothing = Ratio(math.nan, 1.0, math.nan, 0.0)
    judged = judge_together([nothing, at(0.8 + 0.0185, 0.01)], line=0.8, alpha=0.05)
    assert judged[0].outcome is Outcome.UNDECIDED and math.isnan(judged[0].low)
    assert judged[1].outcome is Outcome.UNDECIDED  # alone, 1.85 standard errors would have been enough


def test_a_change_is_judged_by_its_points() -> None:
    lost, kept, unclear = Change(0.80, 1.00, 0.02), Change(0.99, 1.00, 0.01), Change(0.95, 1.00, 0.02)
    judged = judge_together([lost, kept, unclear], line=-0.05, alpha=0.05)
    assert [one.outcome for one in judged] == [Outcome.FAIL, Outcome.PASS, Outcome.UNDECIDED]
    assert lost.estimate == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("incumbent", "candidate", "outcome"),
    [
        (1.00, 0.80, Outcome.FAIL),  # 20 points lost, all of them below what is due
        (1.10, 0.80, Outcome.FAIL),  # 10 points too many given up, and 20 too few left
        (0.90, 0.80, Outcome.FAIL),
        (1.50, 1.00, Outcome.PASS),  # 50 points too many given up
        (1.50, 0.80, Outcome.PASS),  # 20 points off on the other side, but it was 50
        (1.20, 0.96, Outcome.PASS),  # 4 points below what is due are allowed, nearer than before
        (0.80, 0.82, Outcome.PASS),
        (1.00, 0.95, Outcome.UNDECIDED),
    ],
)
def test_where_one_is_due_only_what_is_lost_below_it_counts(
    incumbent: float, candidate: float, outcome: Outcome
) -> None:
    (judged,) = judge_together([Change(candidate, incumbent, 0.01, due_se=0.01)], line=-0.05, alpha=0.05)
    assert judged.outcome is outcome


def test_a_loss_that_may_have_ended_at_what_is_due_is_not_proved() -> None:
    """15 points were lost for sure, at 10 standard errors, but 0.9 is known to 0.04 only: 1.25 of them below 0.95."""
    (judged,) = judge_together([Change(0.90, 1.05, 0.01, due_se=0.04)], line=-0.05, alpha=0.05)
    assert judged.outcome is Outcome.UNDECIDED
    assert judged.high == pytest.approx(-0.10 + 1.645 * 0.04, abs=1e-3)  # the bound that does not reach the line


def viewers(n: int, rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = 1 + rng.poisson(8, n)
    return rng.binomial(x, rng.beta(20 * rate, 20 * (1 - rate), n)).astype(float), x.astype(float)


def test_the_change_of_separate_viewers_varies_as_computed() -> None:
    """Repeated 400 times, the spread of the estimate is the mean of its standard errors."""
    rng, found = np.random.default_rng(11), []
    for _ in range(400):
        sides = [viewers(n, rate, rng) for n, rate in ((300, 0.08), (300, 0.1), (900, 0.1), (900, 0.1))]
        group, rest = (
            Moments.of(np.r_[a[0], 0 * b[0]], np.r_[a[1], 0 * b[1]], np.r_[0 * a[0], b[0]], np.r_[0 * a[1], b[1]])
            for a, b in (sides[:2], sides[2:])
        )
        found.append(group_change(group, rest))
    assert np.mean([one.estimate for one in found]) == pytest.approx(-0.2, abs=0.02)
    assert np.std([one.estimate for one in found]) == pytest.approx(np.mean([one.se for one in found]), rel=0.1)


def test_a_candidate_that_is_the_incumbent_has_no_noise_left() -> None:
    y, x = viewers(500, 0.1, RNG)
    same = Moments.of(y, x, y, x)
    change = group_change(same, Moments.of(*(2 * [y[::-1] * 1.0, x[::-1]])))
    assert change.estimate == pytest.approx(0.0, abs=1e-12) and change.se == pytest.approx(0.0, abs=1e-7)


def test_a_share_against_a_share_of_the_same_viewers_varies_as_computed() -> None:
    rng, ratios, changes = np.random.default_rng(12), [], []
    for _ in range(400):
        active = rng.gamma(2.0, 2.0, 800)
        columns = [rng.poisson(active * rate) * 1.0 for rate in (0.6, 2.0, 0.8, 2.0, 0.5, 1.0)]
        ours, all_ours, theirs, all_theirs, merit, all_merit = columns
        ratios.append(share_to_share(Moments.of(ours, ours + all_ours, merit, merit + all_merit)))
        changes.append(
            share_change(Moments.of(ours, ours + all_ours, theirs, theirs + all_theirs, merit, merit + all_merit))
        )
    true = (0.6 / 2.6) / (0.5 / 1.5)
    assert np.mean([one.estimate for one in ratios]) == pytest.approx(true, rel=0.02)
    scores = [one.z(true) for one in ratios]
    assert np.std(scores) == pytest.approx(1.0, abs=0.1) and abs(np.mean(scores)) < 0.15
    differences = [one.candidate - one.incumbent for one in changes]
    assert np.std(differences) == pytest.approx(np.mean([one.se for one in changes]), rel=0.1)
    was = (0.8 / 2.8) / (0.5 / 1.5)
    assert np.mean(differences) == pytest.approx(true - was, abs=0.01)
    due = [one.due_se for one in changes if one.due_se is not None]
    assert np.std([one.candidate for one in changes]) == pytest.approx(np.mean(due), rel=0.1) and len(due) == 400
