"""CUPED against tea-tasting and against repeated experiments; the first day against the last."""

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt

from monitoring.cuped import cuped, fading
from monitoring.lift import lift
from monitoring.stats import Moments, RatioSums


def viewers(seed: int, n: int = 2_000, *, new: float = 0.0, effect: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    taste = rng.beta(2, 14, n)
    old = rng.random(n) >= new
    before = old * (1 + rng.poisson(60, n))
    shown = 1 + rng.poisson(10, n)
    variant = (rng.random(n) < 0.3).astype(int)
    clicks = rng.binomial(shown, np.minimum(taste * (1 + effect * variant) * np.where(old, 1, 0.5), 1))
    return pd.DataFrame({
        "variant": variant, "y": clicks, "x": shown, "y0": rng.binomial(before, taste), "x0": before, "new": ~old,
    })  # fmt: skip


def moments(frame: pd.DataFrame, variant: int) -> Moments:
    part = frame[frame.variant == variant]
    return Moments.of(part.y, part.x, part.y0, part.x0, part.new)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_all_viewers_are_known_it_is_tea_tasting_s(seed: int) -> None:
    frame = viewers(seed, effect=0.1)
    metric = tt.RatioOfMeans("y", "x", numer_covariate="y0", denom_covariate="x0", use_t=False)
    theirs = tt.Experiment(ctr=metric).analyze(frame)["ctr"]
    ours = cuped(moments(frame, 1), moments(frame, 0)).lift
    assert (ours.treatment, ours.control) == pytest.approx((theirs.treatment, theirs.control), rel=1e-9)
    assert ours.p_two_sided() == pytest.approx(theirs.pvalue, rel=1e-8)


def test_where_nobody_is_known_nothing_is_adjusted() -> None:
    frame = viewers(4, new=1.0)
    one, other = (frame[frame.variant == v] for v in (1, 0))
    plain = lift(RatioSums.of(one.y, one.x), RatioSums.of(other.y, other.x))
    found = cuped(moments(frame, 1), moments(frame, 0))
    assert (found.lift.estimate, found.lift.se) == pytest.approx((plain.estimate, plain.se))
    assert (found.shift, found.p_shift) == (0.0, 1.0)


def test_new_viewers_that_behave_differently_are_adjusted_too() -> None:
    """New viewers click half as often here: chance that gives one arm more of them is taken out by the indicator."""
    plain, adjusted, said = [], [], []
    for seed in range(300):
        frame = viewers(100 + seed, 1_000, new=0.4)
        found = cuped(moments(frame, 1), moments(frame, 0)).lift
        adjusted.append(found.treatment - found.control)
        said.append(found.treatment_variance + found.control_variance)
        one, other = (frame[frame.variant == v] for v in (1, 0))
        plain.append(one.y.sum() / one.x.sum() - other.y.sum() / other.x.sum())
    assert np.var(adjusted) < 0.85 * np.var(plain)
    assert np.mean(said) == pytest.approx(np.var(adjusted), rel=0.25)  # three standard errors of a variance of 300
    assert abs(np.mean(adjusted)) < 3.5 * np.std(adjusted) / np.sqrt(300)


def test_what_only_comes_of_more_new_viewers_is_no_lift() -> None:
    def arm(new: int) -> Moments:
        """Ten viewers of ten impressions: who was there before clicks twice, as he did then, and who is new never."""
        is_new = np.arange(10) < new
        return Moments.of(2.0 * ~is_new, np.full(10, 10.0), 12.0 * ~is_new, 60.0 * ~is_new, is_new)

    found = cuped(arm(6), arm(4)).lift
    assert found.estimate == pytest.approx(0.0, abs=1e-9)
    assert found.treatment == pytest.approx(0.1)  # half of all twenty are new


def test_arms_that_differed_before_are_noticed() -> None:
    frame = viewers(5)
    lucky = frame[(frame.variant == 0) | (frame.y0 / frame.x0 > 0.1)]
    assert cuped(moments(lucky, 1), moments(lucky, 0)).p_shift < 1e-6
    assert cuped(moments(frame, 1), moments(frame, 0)).p_shift > 0.01


def test_a_lift_that_halves_by_hand() -> None:
    ones = np.ones(4)
    # Treatment clicks 6 of 10 on the first day and 5 of 10 on the last, control 4 of 10 on both.
    treatment = Moments.of(ones * 6 + [1, -1, 1, -1], 10 * ones, ones * 5 + [1, 1, -1, -1], 10 * ones)
    control = Moments.of(ones * 4 + [1, -1, 1, -1], 10 * ones, ones * 4 + [1, 1, -1, -1], 10 * ones)
    days = fading(treatment, control)
    assert (days.first, days.last) == pytest.approx((0.5, 0.25))
    # Each daily mean has variance (4/3) / 100 / 4; the days of a viewer do not depend on each other here. By the delta
    # method each ratio T / C adds var(T) / C^2 + T^2 var(C) / C^4, with C 0.4 on both days.
    v = 4 / 3 / 100 / 4
    by_hand = sum(v / 0.4**2 + t**2 * v / 0.4**4 for t in (0.6, 0.5))
    assert days.se == pytest.approx(np.sqrt(by_hand))


def test_a_day_without_impressions_has_no_lift() -> None:
    ones = np.ones(4)
    assert np.isnan(fading(Moments.of(ones, ones, 0 * ones, 0 * ones), Moments.of(ones, ones, ones, ones)).p)
