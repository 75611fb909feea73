"""The statistics against closed forms, scikit-learn and simulation."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from monitoring.stats import Moments, RatioSums, WeightedAuc, auc_difference, bootstrap, difference, recall_difference


def test_a_ratio_of_three_viewers_by_hand() -> None:
    sums = RatioSums.of([1, 2, 0], [2, 4, 2])
    assert sums.ratio == pytest.approx(3 / 8)
    # mean y 1, mean x 8/3; var y 1, var x 4/3, cov 1
    # -> (1/(8/3)^2 - 2*1*1/(8/3)^3 + 1*(4/3)/(8/3)^4) / 3
    by_hand = (9 / 64 - 2 * 27 / 512 + (4 / 3) * 81 / 4096) / 3
    assert sums.variance == pytest.approx(by_hand)


def test_with_a_denominator_of_one_the_delta_method_is_the_variance_of_a_mean() -> None:
    y = np.random.default_rng(1).normal(size=200)
    sums = RatioSums.of(y, np.ones(200))
    assert sums.variance == pytest.approx(scipy_stats.sem(y) ** 2)
    interval, reference = sums.interval(), scipy_stats.norm.interval(0.95, y.mean(), scipy_stats.sem(y))
    assert (interval.low, interval.high) == pytest.approx(reference)


def test_sums_of_two_halves_add_to_the_whole() -> None:
    rng = np.random.default_rng(2)
    y, x = rng.poisson(2, 50), rng.poisson(5, 50)
    both = RatioSums.of(y[:20], x[:20]) + RatioSums.of(y[20:], x[20:])
    whole = RatioSums.of(y, x)
    assert (both.n, both.y, both.x, both.yy, both.xx, both.xy) == (
        whole.n,
        whole.y,
        whole.x,
        whole.yy,
        whole.xx,
        whole.xy,
    )


def test_the_delta_variance_is_that_of_repeated_experiments() -> None:
    rng = np.random.default_rng(3)
    taste = rng.beta(2, 8, (2000, 300))
    shown = 1 + rng.poisson(10, (2000, 300))
    clicks = rng.binomial(shown, taste)
    seen = np.var(clicks.sum(1) / shown.sum(1))
    said = np.mean([RatioSums.of(c, s).variance for c, s in zip(clicks, shown, strict=True)])
    naive = np.mean([(r := c.sum() / s.sum()) * (1 - r) / s.sum() for c, s in zip(clicks, shown, strict=True)])
    assert said == pytest.approx(seen, rel=0.1)
    assert naive < 0.6 * seen  # rows taken as independent would claim too narrow an interval


def test_no_denominator_and_a_single_viewer_have_no_variance() -> None:
    assert math.isnan(RatioSums.of([0, 0], [0, 0]).ratio)
    assert math.isnan(RatioSums.of([0, 0], [0, 0]).variance)
    assert math.isnan(RatioSums.of([1], [2]).variance)


def test_the_difference_of_two_groups_is_welchs() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.3, 1, 500), rng.normal(0, 2, 400)
    got = difference(RatioSums.of(a, np.ones(500)), RatioSums.of(b, np.ones(400)))
    assert got.estimate == pytest.approx(a.mean() - b.mean())
    half = 1.959964 * math.sqrt(a.var(ddof=1) / 500 + b.var(ddof=1) / 400)
    assert got.high - got.estimate == pytest.approx(half, rel=1e-6)


def test_auc_by_hand_with_a_tie() -> None:
    # pairs: (.9,.5) win, (.9,.1) win, (.5,.5) tie, (.5,.1) win -> 3.5 of 4
    assert WeightedAuc([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1])(np.ones(4)) == pytest.approx(3.5 / 4)


def test_weighted_auc_is_sklearns_on_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    y, score, weight = rng.integers(0, 2, 400), rng.integers(0, 30, 400) / 30, rng.integers(0, 4, 400)
    ours = WeightedAuc(y, score)(weight)
    assert ours == pytest.approx(roc_auc_score(np.repeat(y, weight), np.repeat(score, weight)))


def test_auc_of_one_class_is_not_a_number() -> None:
    assert math.isnan(WeightedAuc([1, 1], [0.1, 0.2])(np.ones(2)))
    assert math.isnan(WeightedAuc([], [])(np.ones(0)))


def test_the_bootstrap_of_a_recall_difference_agrees_with_the_delta_method() -> None:
    rng = np.random.default_rng(6)
    positives = 1 + rng.poisson(4, 800)
    hits, popular = rng.binomial(positives, 0.4), rng.binomial(positives, 0.3)
    drawn = bootstrap(recall_difference(positives, hits, popular), 800, resamples=2000, seed=1)
    closed = RatioSums.of(hits - popular, positives).interval()
    assert drawn.estimate == pytest.approx(closed.estimate)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.003)


def test_pairing_makes_the_interval_of_two_alike_models_narrow() -> None:
    rng = np.random.default_rng(7)
    users, y = rng.integers(0, 200, 4000), rng.integers(0, 2, 4000)
    score = y + rng.normal(0, 2, 4000)
    statistic, n = auc_difference(users, y, score, score + rng.normal(0, 0.01, 4000))
    interval = bootstrap(statistic, n, resamples=300, seed=1)
    assert n == 200
    assert interval.low < 0 < interval.high
    assert interval.high - interval.low < 0.002  # unpaired it would be about 0.05


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for seed in range(200):
        y = rng.exponential(1.0, 60)
        interval = bootstrap(recall_difference(np.ones(60), y, np.zeros(60)), 60, resamples=300, seed=seed)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.87 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    statistic = recall_difference([2, 3, 1, 4] * 10, [1, 2, 0, 2] * 10, [0, 2, 1, 1] * 10)
    one, again, other = (bootstrap(statistic, 40, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_statistic_that_is_often_undefined_has_no_interval() -> None:
    statistic, n = auc_difference(np.array([1, 2]), [1, 0], [0.9, 0.1], [0.5, 0.5])
    interval = bootstrap(statistic, n, resamples=100, seed=1)  # half of the draws hold one viewer twice
    assert interval.estimate == pytest.approx(0.5)
    assert math.isnan(interval.low)


@pytest.mark.parametrize(
    "sums",
    [
        RatioSums(n=2, y=4, x=2, yy=1, xx=2, xy=0),  # two viewers with 4 clicks have 8 squared clicks or more
        RatioSums(n=2, y=2, x=4, yy=2, xx=1, xy=0),
        RatioSums(n=2, y=2, x=2, yy=2, xx=2, xy=3),  # Cauchy and Schwarz allow 2
        RatioSums(n=2, y=-1, x=2, yy=2, xx=2, xy=1),
        RatioSums(n=2, y=math.nan, x=2, yy=2, xx=2, xy=1),
    ],
)
def test_sums_that_no_viewers_can_have_are_noticed(sums: RatioSums) -> None:
    assert not sums.possible


def test_sums_of_viewers_alike_are_possible() -> None:
    assert RatioSums.of([0.1] * 7, [0.3] * 7).possible
    assert RatioSums().possible


def test_moments_of_two_halves_add_to_the_whole_and_know_their_covariance() -> None:
    columns = np.random.default_rng(1).integers(0, 9, (3, 40)).astype(float)
    both = Moments.of(*columns[:, :15]) + Moments.of(*columns[:, 15:])
    assert both == Moments.of(*columns)
    assert both.covariance() == pytest.approx(np.cov(columns))
    assert both.mean() == pytest.approx(columns.mean(1))
