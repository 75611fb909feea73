"""The sample ratio against tea-tasting, an urn drawn viewer by viewer, and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import stats as scipy_stats

from monitoring.sample_ratio import final_p, sequential_p

WEIGHTS = (0.95, 0.05)


def test_the_final_p_is_that_of_tea_tasting() -> None:
    frame = pd.DataFrame({"variant": [0] * 9_600 + [1] * 450})
    theirs = tt.Experiment(srm=tt.SampleRatio({0: 19, 1: 1}, method="norm", correction=False)).analyze(frame)["srm"]
    assert final_p([9_600, 450], WEIGHTS) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_the_final_p_of_three_arms_is_pearson_s() -> None:
    counts = [900, 60, 40]
    assert final_p(counts, (0.9, 0.05, 0.05)) == pytest.approx(scipy_stats.chisquare(counts, [900, 50, 50]).pvalue)


def test_the_sequential_p_is_one_over_the_odds_of_an_urn_that_learns() -> None:
    # Each viewer's arm is predicted from a prior of 95 and 5 and those before; the bet against the weights multiplies.
    arms = np.random.default_rng(1).random(400) < 0.12
    prior, wealth = np.array([95.0, 5.0]), 0.0
    for canary in arms.astype(int):
        wealth += math.log(prior[canary] / prior.sum() / WEIGHTS[canary])
        prior[canary] += 1
    counts = [int((~arms).sum()), int(arms.sum())]
    assert sequential_p(counts, WEIGHTS) == pytest.approx(min(1.0, math.exp(-wealth)), rel=1e-9)


def test_weights_that_are_kept_seldom_alarm_at_any_of_48_looks() -> None:
    canary = np.cumsum(np.random.default_rng(2).binomial(500, 0.05, (20_000, 48)), axis=1)
    total = 500 * np.arange(1, 49)
    counts = np.stack([total - canary, canary], axis=-1)
    assert (sequential_p(counts, WEIGHTS) < 0.01).any(1).mean() <= 0.01
    assert (final_p(counts, WEIGHTS) < 0.01).any(1).mean() > 0.03  # what looking at chi-squared each hour would do


def test_half_and_half_is_no_match_for_95_to_5() -> None:
    assert sequential_p([1_000, 1_000], WEIGHTS) < 1e-6
    assert sequential_p([1_900, 100], WEIGHTS) == 1.0


def test_without_viewers_there_is_nothing_to_say() -> None:
    assert sequential_p([0, 0], WEIGHTS) == 1.0
    assert np.isnan(final_p([0, 0], WEIGHTS))
