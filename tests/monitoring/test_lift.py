"""The lift and its tests against tea-tasting, statsmodels and hand-made numbers."""

import math

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ztest

from monitoring.lift import Lift, holm, lift, p_non_inferior, p_worse_than
from monitoring.stats import RatioSums


def two_arms(seed: int, *, effect: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shown = 1 + rng.poisson(20 * rng.gamma(1, 1, 3000))
    variant = (rng.random(3000) < 0.2).astype(int)
    clicks = rng.binomial(shown, np.minimum(rng.beta(2, 14, 3000) * (1 + effect * variant), 1))
    return pd.DataFrame({"variant": variant, "clicks": clicks, "shown": shown})


def lift_of(frame: pd.DataFrame) -> Lift:
    one, other = (frame[frame.variant == v] for v in (1, 0))
    return lift(RatioSums.of(one.clicks, one.shown), RatioSums.of(other.clicks, other.shown))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_p_of_a_click_rate_is_that_of_tea_tasting(seed: int) -> None:
    frame = two_arms(seed, effect=0.1)
    theirs = tt.Experiment(ctr=tt.RatioOfMeans("clicks", "shown", use_t=False)).analyze(frame)["ctr"]
    ours = lift_of(frame)
    assert ours.p_two_sided() == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.estimate == pytest.approx(theirs.rel_effect_size, rel=1e-9)


def test_the_interval_of_a_lift_lies_where_tea_tasting_puts_its_own_on_the_log_scale() -> None:
    frame = two_arms(4, effect=0.1)
    theirs = tt.Experiment(ctr=tt.RatioOfMeans("clicks", "shown", use_t=False)).analyze(frame)["ctr"]
    ours, width = lift_of(frame), theirs.rel_effect_size_ci_upper - theirs.rel_effect_size_ci_lower
    assert ours.bound(-1.959964) == pytest.approx(theirs.rel_effect_size_ci_lower, abs=0.05 * width)
    assert ours.bound(1.959964) == pytest.approx(theirs.rel_effect_size_ci_upper, abs=0.05 * width)


def test_a_lift_by_hand() -> None:
    one = Lift(treatment=0.3, treatment_variance=0.0004, control=0.2, control_variance=0.0001)
    assert one.estimate == pytest.approx(0.5)
    # sqrt(0.0004 + 1.5^2 * 0.0001) / 0.2
    assert one.se == pytest.approx(math.sqrt(0.000625) / 0.2)
    assert one.z() == pytest.approx(0.1 / math.sqrt(0.0005))


@pytest.mark.parametrize("z", [-3.0, -1.96, 0.5, 2.5])
def test_a_bound_is_the_null_whose_score_it_came_from(z: float) -> None:
    one = Lift(treatment=0.3, treatment_variance=0.0004, control=0.2, control_variance=0.0001)
    assert one.z(null=one.bound(z)) == pytest.approx(-z)


def test_a_control_that_may_be_zero_leaves_the_lift_unbounded() -> None:
    assert math.isnan(Lift(0.3, 0.0004, 0.019, 0.0001).bound(1.96))


def test_no_control_at_all_gives_no_lift() -> None:
    one = Lift(0.3, 0.0004, 0.0, 0.0)
    assert math.isnan(one.estimate) and math.isnan(one.se)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.05])
def test_non_inferiority_of_means_is_a_shifted_z_test_of_statsmodels(margin: float) -> None:
    rng = np.random.default_rng(5)
    one, other = rng.gamma(4, 2, 800), rng.gamma(4, 2, 2000)
    ours = lift(RatioSums.of(one, np.ones(800)), RatioSums.of(other, np.ones(2000)))
    _, theirs = ztest(one, (1 - margin) * other, alternative="larger", usevar="unequal")
    assert p_non_inferior(ours, margin=margin) == pytest.approx(theirs, rel=1e-9)


def test_worse_than_a_floor_is_the_other_side_of_the_same_test() -> None:
    one = Lift(0.18, 0.0001, 0.2, 0.0001)
    assert p_worse_than(one, floor=-0.05) == pytest.approx(1 - p_non_inferior(one, margin=0.05))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_holm_is_that_of_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.5, 3, 12).tolist()
    p[3] = p[7]  # a tie
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_by_hand() -> None:
    # 3 * 0.01, then 2 * 0.02 = 0.04, then 0.03 may not be below 0.04
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([]) == []
